// A weight found among the tensors of a GGUF model: lent where it lies as we want it, put in order where it does not.
// Formats/gguf.md, section 6.

internal import SmeltStorage
package import SmeltTensors

extension GGUFTensorType {
  /// The encoding of a weight of this type, or nil for types that hold no weights.
  package var encoding: (any Encoding)? {
    switch name {
    case "F32": Plain.f32
    case "F16": Plain.f16
    case "BF16": Plain.bf16
    case "F64": Plain.f64
    case "I8": IntegerTable.i8
    case "I16": IntegerTable.i16
    case "I32": IntegerTable.i32
    case "I64": IntegerTable.i64
    case "MXFP4": GGUFBlock(.mxfp4)
    case "NVFP4": GGUFBlock(.nvfp4)
    default: GGUFBlock.Kind(rawValue: name.lowercased()).map { GGUFBlock($0) }
    }
  }

  /// The type that stores an encoding, or nil when GGUF has none.
  package static func storing(_ encoding: any Encoding) -> GGUFTensorType? {
    all.first { $0.encoding?.name == encoding.name }
  }
}

extension GGUFFile {
  /// The weight that lies at a place, from headers alone; nil when a tensor of it is missing.
  /// - Parameter isTable: whether integers are expected rather than numbers to multiply by.
  /// - Parameter takesScale: whether a scale beside the tensor is a part of the weight.
  /// - Throws: `CFG_SHAPE` for other dimensions than expected or a type that holds no such weight.
  package func join(_ place: GGUFPlace, shape: Shape, isTable: Bool = false, takesScale: Bool = true) throws
    -> JoinedWeight?
  {
    let joined = try joinUnscaled(place, shape: shape, isTable: isTable)
    // Several tensors have a scale each, which is met where they are put together.
    switch place {
    case .keysAndValues: return joined
    case .arranged(let pieces) where !pieces.areRowsOfOne: return joined
    case .arranged, .whole, .stacked: break
    }
    guard takesScale, let joined, let scale = try scale(beside: place.tensors[0]) else { return joined }
    var expert: Int?
    if case .stacked(_, let index, _) = place { expert = index }
    return try scaled(joined, by: scale, expert: expert)
  }

  /// A tensor as it is stored, whatever it is for; nil when it is not there.
  /// - Throws: `CFG_SHAPE` for a type that no encoding stands for.
  package func stored(_ name: String) throws -> JoinedWeight? {
    guard let tensor = tensor(name) else { return nil }
    return try joinUnscaled(
      .whole(name), shape: tensor.shape, isTable: tensor.type.encoding is IntegerTable)
  }

  private func joinUnscaled(_ place: GGUFPlace, shape: Shape, isTable: Bool) throws -> JoinedWeight? {
    let found = place.tensors.map { tensor($0) }
    guard let first = found[0], !found.contains(where: { $0 == nil }) else { return nil }
    let join = GGUFJoin(shape: shape)
    let encoding = try join.encoding(of: first, isTable: isTable)
    switch place {
    case .whole:
      try join.require(first, [shape.dimensions, shape.dimensions.filter { $0 != 1 }])
      return try join.lent(first, encoding, first.bytes)
    case .stacked(_, let index, let count):
      try join.require(first, [[count] + shape.dimensions])
      let size = first.bytes.count / count
      return try join.lent(first, encoding, first.bytes[index * size..<(index + 1) * size])
    case .arranged(let pieces):
      return try join.arranged(
        pieces,
        try found.compactMap { $0 }.map { ($0, pieces.areRowsOfOne ? nil : try scale(beside: $0.name)) },
        isTable: isTable)
    case .keysAndValues(_, _, let heads, let keyWidth):
      guard let second = found[1] else { return nil }
      return try join.keysAndValues(
        (first, try scale(beside: first.name)), (second, try scale(beside: second.name)), heads: heads,
        keyWidth: keyWidth)
    }
  }

  /// One half of a matrix of a stack whose rows are those of two weights, gate first: `count` matrices of twice the rows.
  /// Nil when there is no such tensor.
  /// - Throws: `CFG_SHAPE`.
  package func join(half: Int, ofStack name: String, index: Int, count: Int, shape: Shape) throws
    -> JoinedWeight?
  {
    guard let tensor = tensor(name) else { return nil }
    let join = GGUFJoin(shape: shape)
    let encoding = try join.encoding(of: tensor, isTable: false)
    let fused = [2 * shape.dimensions[0]] + shape.dimensions.dropFirst()
    try join.require(tensor, [[count] + fused])
    let size = tensor.bytes.count / count / 2
    let start = (2 * index + half) * size
    let joined = try join.lent(tensor, encoding, tensor.bytes[start..<start + size])
    guard let scale = try scale(beside: name) else { return joined }
    return try scaled(joined, by: scale, expert: index)
  }
}

/// Makes weights of one shape.
struct GGUFJoin {
  let shape: Shape

  func refuse(_ tensor: GGUFTensor, _ problem: String) -> FormatError {
    FormatError(
      .configShape, file: fileName(tensor.file), subject: tensor.name, offset: tensor.offset, problem)
  }

  func encoding(of tensor: GGUFTensor, isTable: Bool) throws(FormatError) -> any Encoding {
    guard let encoding = tensor.type.encoding, encoding is IntegerTable == isTable else {
      throw refuse(tensor, "is \(tensor.type), expected \(isTable ? "whole numbers" : "numbers")")
    }
    return encoding
  }

  func require(_ tensor: GGUFTensor, _ shapes: [[Int]]) throws(FormatError) {
    guard shapes.contains(tensor.shape.dimensions) else {
      throw refuse(tensor, "is \(tensor.shape), expected \(Shape(shapes[0]))")
    }
  }

  func part(_ encoding: any Encoding, _ tensor: GGUFTensor, _ bytes: Bytes) throws(FormatError) -> Part {
    let layout: PartLayout
    do { layout = try encoding.layout(of: shape, name: tensor.name)[0] } catch {
      throw error.inFile(fileName(tensor.file))
    }
    return Part(.values, dtype: layout.dtypes[0], shape: layout.shape, bytes: bytes)
  }

  func lent(_ tensor: GGUFTensor, _ encoding: any Encoding, _ bytes: Bytes) throws -> JoinedWeight {
    let part = try part(encoding, tensor, bytes)
    let weight = try Weight(
      name: tensor.name, shape: shape, encoding: encoding, parts: [part], file: fileName(tensor.file))
    return joined(tensor, encoding, part, [(tensor, bytes)], isBuilt: false) { weight }
  }

  /// Keys lie with the latent outside, so that their blocks run along other channels than the weight's rows: plain
  /// numbers of one type stay in it, all else is decoded to float32.
  func keysAndValues(
    _ first: (tensor: GGUFTensor, scale: GGUFTensor?), _ second: (tensor: GGUFTensor, scale: GGUFTensor?),
    heads: Int, keyWidth: Int
  ) throws -> JoinedWeight {
    let (keys, values) = (first.tensor, second.tensor)
    let shape = self.shape
    let latent = shape.columns
    let valueWidth = shape.rows / heads - keyWidth
    try require(keys, [[heads, latent, keyWidth]])
    try require(values, [[heads, valueWidth, latent]])
    let pair = try [first, second].map { try GGUFJoin.stored($0, $1) }
    let plain = pair[0].encoding as? Plain
    let isKept = plain != nil && plain?.name == pair[1].encoding.name
    let encoding = isKept ? plain! : Plain.f32
    let size = encoding.dtype.bits / 8
    let like = Part(.values, dtype: encoding.dtype, shape: shape, bytes: Bytes([]))
    let name = "\(keys.name)+\(values.name)"
    return joined(
      keys, encoding, like,
      [first, second].flatMap { tensor, scale in
        [(tensor, tensor.bytes)] + (scale.map { [($0, $0.bytes)] } ?? [])
      },
      isBuilt: true, byteCount: shape.count * size, pieces: isKept ? nil : { @Sendable in pair }
    ) {
      // A weight that is put in order is checked before its numbers are mixed with others'.
      for weight in pair { try weight.validate() }
      let buffer = ByteBuffer(count: shape.count * size)
      let keySize = latent * keyWidth * size
      let valueSize = valueWidth * latent * size
      for head in 0..<heads {
        let keyRows = GGUFJoin.bytes(
          of: pair[0], rows: head * latent..<(head + 1) * latent, isKept: isKept)
        let transposedKeys = transposed(keyRows, size: size, rows: latent, columns: keyWidth)
        let valueRows = GGUFJoin.bytes(
          of: pair[1], rows: head * valueWidth..<(head + 1) * valueWidth, isKept: isKept)
        let start = head * (keySize + valueSize)
        transposedKeys.withUnsafeBytes {
          buffer.bytes[rebasing: start..<start + keySize].copyMemory(from: $0)
        }
        valueRows.withUnsafeBytes {
          buffer.bytes[rebasing: start + keySize..<start + keySize + valueSize].copyMemory(from: $0)
        }
      }
      return try Weight(
        name: name, shape: shape, encoding: encoding,
        parts: [Part(.values, dtype: encoding.dtype, shape: shape, bytes: Bytes(buffer))],
        file: fileName(keys.file))
    }
  }

  /// A tensor as a weight of its own dimensions.
  static func stored(_ tensor: GGUFTensor, _ scale: GGUFTensor?) throws -> Weight {
    let own = GGUFJoin(shape: tensor.shape)
    let stored = try own.encoding(of: tensor, isTable: tensor.type.encoding is IntegerTable)
    let weight = try Weight(
      name: tensor.name, shape: tensor.shape, encoding: stored,
      parts: [try own.part(stored, tensor, tensor.bytes)], file: fileName(tensor.file))
    guard let scale else { return weight }
    try GGUFScale.require(scale, count: 1)
    return try weight.nvfp4FromGGUF(scale: scale.bytes)
  }

  /// Rows of a weight as they are stored, or as float32.
  private static func bytes(of weight: Weight, rows: Range<Int>, isKept: Bool) -> Bytes {
    if isKept {
      let size = weight.values.bytes.count / max(1, weight.rows)
      return weight.values.bytes[rows.lowerBound * size..<rows.upperBound * size]
    }
    // SAFETY: room for the rows' floats; a buffer is aligned to 64 bytes.
    let buffer = ByteBuffer(count: rows.count * weight.columns * 4)
    weight.encoding.decode(
      weight, rows: rows, columns: 0..<weight.columns,
      into: buffer.bytes.bindMemory(to: Float.self).baseAddress!, stride: weight.columns)
    return Bytes(buffer)
  }

  func joined(
    _ tensor: GGUFTensor, _ encoding: any Encoding, _ part: Part, _ shares: [(GGUFTensor, Bytes)],
    isBuilt: Bool, byteCount: Int? = nil, pieces: (@Sendable () throws -> [Weight])? = nil,
    make: @escaping @Sendable () throws -> Weight
  ) -> JoinedWeight {
    JoinedWeight(
      name: tensor.name, file: fileName(tensor.file), shape: shape, encoding: encoding,
      parts: [
        JoinedWeight.StoredPart(
          name: .values, dtype: part.dtype, shape: part.shape, byteCount: byteCount ?? part.bytes.count)
      ],
      tensors: shares.map { ($0.0.name, $0.1.count) }, layout: "gguf", isBuilt: isBuilt,
      mapped: shares.map(\.1), pieces: pieces, make: make)
  }
}

extension UnsafeMutableRawBufferPointer {
  /// A part of the memory.
  fileprivate subscript(rebasing range: Range<Int>) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: self[range])
  }
}
