// NVFP4 in GGUF beside a scale of its own: llama.cpp multiplies a product with `X.weight` by `X.scale`, one F32 for a matrix, one for
// each matrix of a stack. That is what safetensors calls the global scale. Formats/gguf.md, section 6.

package import SmeltStorage
package import SmeltTensors

/// Names and checks of the tensors beside a weight.
package enum GGUFScale {
  /// The name of the scales beside a weight's tensor.
  package static func name(of tensor: String) -> String { sibling(tensor, "scale") }

  /// Whether a tensor is a scale of activations beside a weight of the model: no part of the weight.
  package static func isActivationScale(_ name: String, in model: GGUFFile) -> Bool {
    guard name.hasSuffix(".input_scale") else { return false }
    return model.tensor(name.dropLast("input_scale".count) + "weight") != nil
  }

  private static func sibling(_ tensor: String, _ kind: String) -> String {
    tensor.hasSuffix(".weight") ? tensor.dropLast("weight".count) + kind : "\(tensor).\(kind)"
  }

  /// Refuses scales of another type or number.
  static func require(_ scale: GGUFTensor, count: Int) throws(FormatError) {
    guard scale.type.name == "F32", scale.shape.dimensions == [count] else {
      throw FormatError(
        .scaleShape, file: fileName(scale.file), subject: scale.name, offset: scale.offset,
        "is \(scale.type) \(scale.shape), expected F32 [\(count)]")
    }
  }
}

extension GGUFFile {
  /// The scales beside a tensor of NVFP4, or nil. Beside other types nothing is known to stand.
  func scale(beside name: String) throws(FormatError) -> GGUFTensor? {
    guard tensor(name)?.type.name == "NVFP4" else { return nil }
    return tensor(GGUFScale.name(of: name))
  }

  /// A weight of NVFP4 blocks with its scale: `nvfp4`, the codes put in order.
  func scaled(_ joined: JoinedWeight, by scale: GGUFTensor, expert: Int?) throws -> JoinedWeight {
    let count = expert == nil ? 1 : (tensor(joined.name)?.shape.dimensions.first ?? 1)
    try GGUFScale.require(scale, count: count)
    let place = (expert ?? 0) * 4
    let bytes = scale.bytes[place..<place + 4]
    let encoding = NVFP4.multiplied
    let parts = try encoding.layout(of: joined.shape, name: joined.name).map { part in
      JoinedWeight.StoredPart(
        name: part.name, dtype: part.dtypes[0], shape: part.shape,
        byteCount: part.dtypes[0].byteCount(part.shape.count) ?? 0)
    }
    return JoinedWeight(
      name: joined.name, file: joined.file, shape: joined.shape, encoding: encoding, parts: parts,
      tensors: joined.tensors + [(scale.name, 4)], layout: joined.layout, isBuilt: true,
      evicting: joined
    ) { try joined.weight().nvfp4FromGGUF(scale: bytes) }
  }
}

extension Weight {
  /// GGUF's NVFP4 (blocks of 64 columns: four scales, then for each group of 16 eight bytes that hold columns j in the low
  /// and j + 8 in the high nibble) as `nvfp4`: the same codes two a byte, the same scales, and a global one.
  /// - Throws: `Q_BLOCK` for scales that are not numbers.
  func nvfp4FromGGUF(scale: Bytes) throws(FormatError) -> Weight {
    // SAFETY: a weight in `nvfp4.gguf` has 36 bytes for each 64 columns; the buffers get 32 and 4 of them.
    precondition(encoding as? GGUFBlock == GGUFBlock(.nvfp4), "\(encoding.name) is not nvfp4.gguf")
    let rows = self.rows
    let blocks = columns / 64
    let codes = ByteBuffer(count: rows * columns / 2)
    let scales = ByteBuffer(count: rows * columns / 16)
    values.bytes.withUnsafeBytes { bytes in
      guard let source = bytes.bindMemory(to: UInt8.self).baseAddress,
        let out = codes.bytes.bindMemory(to: UInt8.self).baseAddress,
        let factors = scales.bytes.bindMemory(to: UInt8.self).baseAddress
      else { return }
      for index in 0..<rows * blocks {
        let block = source + index * 36
        (factors + index * 4).update(from: block, count: 4)
        for group in 0..<4 {
          let from = block + 4 + group * 8
          let to = out + index * 32 + group * 8
          for pair in 0..<4 {
            let (a, b) = (from[2 * pair], from[2 * pair + 1])
            to[pair] = a & 15 | (b & 15) << 4
            to[pair + 4] = a >> 4 | b & 0xF0
          }
        }
      }
    }
    return try Weight(
      name: name, shape: shape, encoding: NVFP4.multiplied,
      parts: [
        Part(
          .values, dtype: .u8, shape: Shape(shape.dimensions.dropLast() + [columns / 2]), bytes: Bytes(codes)),
        Part(.scales, dtype: .f8E4M3, shape: [rows, columns / 16], bytes: Bytes(scales)),
        Part(.globalScale, dtype: .f32, shape: [1], bytes: scale),
      ], file: file)
  }

  /// The way back: `nvfp4` as GGUF's blocks, without its global scale.
  package func nvfp4ForGGUF() throws(FormatError) -> Weight {
    // SAFETY: a weight in `nvfp4` has 32 bytes of codes and 4 scales for each whole 64 columns; rows of another length are refused
    // when the result becomes a weight.
    precondition(encoding is NVFP4, "\(encoding.name) is not nvfp4")
    let blocks = rows * (columns / 64)
    let buffer = ByteBuffer(count: blocks * 36)
    values.bytes.withUnsafeBytes { codes in
      parts[1].bytes.withUnsafeBytes { factors in
        guard let source = codes.bindMemory(to: UInt8.self).baseAddress,
          let scales = factors.bindMemory(to: UInt8.self).baseAddress,
          let out = buffer.bytes.bindMemory(to: UInt8.self).baseAddress
        else { return }
        for index in 0..<blocks {
          let block = out + index * 36
          block.update(from: scales + index * 4, count: 4)
          for group in 0..<4 {
            let from = source + index * 32 + group * 8
            let to = block + 4 + group * 8
            for pair in 0..<4 {
              let (low, high) = (from[pair], from[pair + 4])
              to[2 * pair] = low & 15 | (high & 15) << 4
              to[2 * pair + 1] = low >> 4 | high & 0xF0
            }
          }
        }
      }
    }
    let encoding = GGUFBlock(.nvfp4)
    return try Weight(
      name: name, shape: shape, encoding: encoding,
      parts: [
        Part(
          .values, dtype: .u8, shape: try encoding.layout(of: shape, name: name)[0].shape,
          bytes: Bytes(buffer))
      ], file: file)
  }
}
