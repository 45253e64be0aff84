// The way back from joining: which tensors of a file a weight becomes. Each layout declares what it joins.

package import SmeltStorage
package import SmeltTensors

/// A weight that is to be written: the tensor of its codes in the dialect's words, and its parts.
package struct DeclaredWeight {
  /// The tensor of its codes, `X.weight`.
  package var tensor: String
  /// The dimensions of the numbers of one matrix.
  package var shape: Shape
  /// How they are stored.
  package var encoding: any Encoding
  /// The parts of all its matrices together, codes first: of a stack [matrices, …].
  package var parts: [(name: PartName, dtype: DType, shape: Shape)]
  /// Whether several matrices are stacked in the tensor.
  package var isStack: Bool
  /// What makers of DeepSeek-V4's kin call scales: `X.scale` rather than `X.weight_scale_inv`.
  package var hasPlainScaleNames: Bool
  /// The scale of the activations that meet it, where the result gives one.
  package var inputScale: InputScale?

  /// A weight.
  package init(
    _ tensor: String, _ shape: Shape, _ encoding: any Encoding,
    parts: [(name: PartName, dtype: DType, shape: Shape)], isStack: Bool, hasPlainScaleNames: Bool
  ) {
    (self.tensor, self.shape, self.encoding, self.parts) = (tensor, shape, encoding, parts)
    (self.isStack, self.hasPlainScaleNames) = (isStack, hasPlainScaleNames)
  }

  /// The module's name: the tensor's without `.weight`.
  var module: String { tensor.hasSuffix(".weight") ? String(tensor.dropLast(".weight".count)) : tensor }
}

/// One tensor of a file to be written, and what happens to a part of a weight on its way into it.
package struct DeclaredTensor: Sendable {
  /// Its name.
  package var name: String
  /// The type of its elements.
  package var dtype: DType
  /// Its dimensions.
  package var shape: Shape
  /// The bytes, where no part of the weight is meant.
  package var constant: Bytes?
  /// Whether the top bit of each byte is flipped: signed bytes as bytes offset by 128.
  package var flipsTopBits = false
  /// Whether codes of 4 bits, two a byte and 8 for zero, become signed bytes.
  package var hasByteCodes = false
  /// How numbers of a byte each are put into words, where they are.
  package var packed: Packing?
  /// Whether the one number of the part is stored as its reciprocal: a global scale that divides where the weight's multiplies, or
  /// the other way round.
  package var isReciprocal = false

  /// Zero points [rows, groups], one a byte, as little-endian words along the rows: [⌈rows × bits / 32⌉, groups]. Those of 8
  /// bits are offset by 128, as codes are.
  package struct Packing: Sendable {
    let bits: Int
    let groups: Int

    /// The words.
    package func words(_ bytes: Bytes) -> Bytes {
      let rows = bytes.count / max(1, groups)
      let perWord = 32 / bits
      var out = [UInt8](repeating: 0, count: (rows + perWord - 1) / perWord * groups * 4)
      let offset: UInt8 = bits == 8 ? 0x80 : 0
      for (index, value) in bytes.array.enumerated() {
        let (row, group) = (index / groups, index % groups)
        let bit = row % perWord * bits
        out[(row / perWord * groups + group) * 4 + bit / 8] |= (value ^ offset) << UInt8(bit % 8)
      }
      return Bytes(out)
    }
  }
}

extension DeclaredTensor {
  /// Some bytes of a weight's codes as the tensor holds them.
  package func stored(_ codes: Bytes) -> Bytes {
    if flipsTopBits { return Bytes(codes.array.map { $0 ^ 0x80 }) }
    guard hasByteCodes else { return codes }
    let count = codes.count
    return Bytes(
      [UInt8](unsafeUninitializedCapacity: 2 * count) { out, written in
        // SAFETY: two bytes are written for each of the codes' bytes, as many as there is room for.
        codes.withUnsafeBytes { source in
          for index in 0..<count {
            out[2 * index] = (source[index] & 15) &- 8
            out[2 * index + 1] = (source[index] >> 4) &- 8
          }
        }
        written = 2 * count
      })
  }
}
