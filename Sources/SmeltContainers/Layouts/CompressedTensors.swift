// compressed-tensors: the layouts that the package of that name writes, as its configuration describes them.

internal import CKernels
internal import SmeltStorage
internal import SmeltTensors

/// `X.weight` (I8, F8_E4M3) or `X.weight_packed` (I32, U8) with `X.weight_scale` and what belongs to the format. Formats/layouts.md,
/// section 6.
struct CompressedTensors: Layout {
  let name = "compressed-tensors"

  func codes(
    of place: Spelling, plain: TensorInfo?, in source: any TensorSource, _ config: QuantizationConfig
  ) -> TensorInfo? {
    guard config.compressed != nil else { return nil }
    if source.mayHold(ending: "weight_packed"),
      let packed = source.tensor("\(place.module).weight_packed")
    {
      return packed
    }
    guard let plain, [.i8, .f8E4M3].contains(plain.dtype) else { return nil }
    return plain
  }

  func shape(of codes: TensorInfo, module: String, in source: any TensorSource) -> Shape? {
    guard codes.name.hasSuffix("_packed") else { return codes.shape }
    if codes.dtype == .u8 { return codes.shape.widened(2) }
    guard let stored = source.tensor("\(module).weight_shape"), stored.shape.count == 2,
      [.i64, .i32].contains(stored.dtype)
    else { return nil }
    // SAFETY: a tensor has the bytes of its shape and dtype, as its header was checked: two integers here.
    let dimensions = stored.bytes.withUnsafeBytes { bytes in
      (0..<2).map { place -> Int in
        stored.dtype == .i64
          ? Int(Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8 * place, as: Int64.self)))
          : Int(Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * place, as: Int32.self)))
      }
    }
    return Shape.checkedCount(dimensions) == nil ? nil : Shape(dimensions)
  }

  func join(_ context: JoinContext) throws -> JoinedWeight {
    guard let config = context.config.compressed else {
      preconditionFailure("codes(of:) saw a configuration")
    }
    try context.requireWhole()
    guard context.shape.rank == 2 else {
      throw context.refuse(
        .configShape, "is \(name), expected plain numbers for a weight of \(context.shape)")
    }
    let (group, format) = try config.group(of: context)
    let isPacked = context.codes.name.hasSuffix("_packed")
    guard let expected = format.dtype(isFloat: group.isFloat) else {
      throw context.contradicts("format '\(format.rawValue)' keeps weights as they are")
    }
    guard context.codes.dtype == expected, isPacked == format.isPacked else {
      throw context.contradicts(
        "is \(context.codes.dtype), expected \(expected) \(format.isPacked ? "weight_packed" : "weight") for '\(group.name)'"
      )
    }
    return try join(context, group, format).meeting(
      group.inputs.activations(
        context.module, columns: context.shape.columns, in: context.source))
  }

  private func join(
    _ context: JoinContext, _ group: CompressedTensorsConfig.Group, _ format: CompressedTensorsConfig.Format
  ) throws -> JoinedWeight {
    switch format {
    case .packed: return try joinIntegers(context, group)
    case .nvfp4:
      return try context.nvfp4(.divided, globalScale: "\(context.module).weight_global_scale")
    case .mxfp4: return try joinMXFP4(context, group)
    case .plain where !group.isFloat: return try joinBytes(context, group)
    default: return try joinFloats(context, group, isMX: format == .mxfp8)
    }
  }

  private func scale(_ context: JoinContext) throws -> TensorInfo {
    try context.sibling("\(context.module).weight_scale")
  }

  // MARK: one code a byte

  /// int-quantized and naive-quantized: I8 [out, in].
  private func joinBytes(_ context: JoinContext, _ group: CompressedTensorsConfig.Group) throws
    -> JoinedWeight
  {
    let (codes, scale) = (context.codes, try scale(context))
    if group.bits == 4 { return try joinByteCodes(context, group, scale) }
    guard group.bits == 8 else {
      throw context.contradicts("is I8, but '\(group.name)' has \(group.bits) bits")
    }
    let zeros = try group.zeroPoints(context)
    let (scaleShape, granularity) = try group.scaleShape(context, scale)
    if let zeros { try context.require(zeros, [.i8], scale.shape) }
    let encoding: any Encoding =
      GroupedIntegers(.eight, granularity, hasZeroPoints: zeros != nil) ?? INT8.channel
    return try context.lent(
      encoding,
      [context.part(.values, codes, codes.shape), context.part(.scales, scale, scaleShape)]
        + (zeros.map { [context.part(.zeroPoints, $0, scaleShape)] } ?? []),
      from: [Share(codes), Share(scale)] + (zeros.map { [Share($0)] } ?? []))
  }

  /// int-quantized with 4 bits: I8 [out, in] of -8…7, which are packed again.
  private func joinByteCodes(
    _ context: JoinContext, _ group: CompressedTensorsConfig.Group, _ scale: TensorInfo
  ) throws -> JoinedWeight {
    let (codes, shape) = (context.codes, context.shape)
    let (scaleShape, granularity) = try group.scaleShape(context, scale)
    guard group.isSymmetric, shape.columns % 2 == 0,
      let encoding = GroupedIntegers(.four, granularity)
    else {
      throw RequestError(
        .unsupported,
        "'\(codes.name)' (\(shape)) has 4-bit codes in bytes with zero points, or an odd number of columns",
        help: "use a checkpoint whose codes are packed")
    }
    return try context.built(encoding, dtypes: [.scales: scale.dtype], from: [Share(codes), Share(scale)]) {
      if let bad = codes.bytes.withUnsafeBytes({ $0.firstIndex { !(0...15).contains($0 &+ 8) } }) {
        throw context.refuse(
          .packed,
          "row \(bad / max(1, shape.columns)), column \(bad % max(1, shape.columns)) is beyond 4 bits, expected -8 to 7"
        )
      }
      let packed = reordered(codes.bytes, count: shape.count / 2) { source, out in
        for pair in 0..<shape.count / 2 {
          out[pair] = (source[2 * pair] &+ 8) | (source[2 * pair + 1] &+ 8) << 4
        }
      }
      return [
        Part(.values, dtype: .u8, shape: [shape.rows, shape.columns / 2], bytes: packed),
        context.part(.scales, scale, scaleShape),
      ]
    }
  }

  /// float-quantized, naive-quantized and mxfp8-quantized: F8_E4M3 [out, in].
  private func joinFloats(
    _ context: JoinContext, _ group: CompressedTensorsConfig.Group, isMX: Bool
  ) throws -> JoinedWeight {
    let (codes, shape, scale) = (context.codes, context.shape, try scale(context))
    guard group.bits == 8 else {
      throw context.contradicts("is F8_E4M3, but '\(group.name)' has \(group.bits) bits")
    }
    let granularity: FP8.Granularity
    let scaleShape: Shape
    switch group.strategy {
    case .tensor: (granularity, scaleShape) = (.tensor, [1])
    case .channel: (granularity, scaleShape) = (.channel, [shape.rows])
    case .block(let rows, let columns):
      (granularity, scaleShape) = (.block(rows: rows, columns: columns), scale.shape)
    case .group(let size): (granularity, scaleShape) = (.block(rows: 1, columns: size), scale.shape)
    }
    guard scale.shape.count == scaleShape.count else {
      throw context.refuse(
        .scaleShape, "is \(scale.shape), expected \(scaleShape) for '\(group.name)'", of: scale)
    }
    if isMX { try context.require(scale, [.u8, .f8E8M0], scale.shape) }
    return try context.lent(
      FP8(.e4m3, granularity), context.whole(.values, codes, codes.shape),
      context.whole(.scales, scale, scaleShape, dtype: isMX ? .f8E8M0 : nil))
  }

  // MARK: packed

  /// mxfp4-pack-quantized: U8 [out, in / 2], scales U8 [out, in / 32].
  private func joinMXFP4(_ context: JoinContext, _ group: CompressedTensorsConfig.Group) throws
    -> JoinedWeight
  {
    let (codes, scale) = (context.codes, try scale(context))
    guard case .group(FP4.group) = group.strategy else {
      throw context.contradicts(
        "is FP4 with one scale a \(FP4.group) columns, but '\(group.name)' says otherwise")
    }
    try context.require(scale, [.u8, .f8E8M0], [context.shape.rows, context.shape.columns / FP4.group])
    return try context.lent(
      FP4.mxfp4, context.whole(.values, codes, codes.shape), context.whole(.scales, scale, scale.shape))
  }

  /// pack-quantized: little-endian words [out, ⌈in × bits / 32⌉], the first column in the lowest bits, codes offset by half
  /// their range; zero points packed the same way along the output channels.
  private func joinIntegers(_ context: JoinContext, _ group: CompressedTensorsConfig.Group) throws
    -> JoinedWeight
  {
    let (codes, shape, scale) = (context.codes, context.shape, try scale(context))
    let (rows, columns) = (shape.rows, shape.columns)
    guard let width = GroupedIntegers.Width(rawValue: group.bits) else {
      throw RequestError(
        .unsupported, "'\(codes.name)' is packed in \(group.bits) bits", help: "supported: 4 and 8 bits")
    }
    let perWord = 32 / group.bits
    try context.require(codes, [.i32], [rows, ceilDivide(columns, perWord)], code: .packed)
    var shares = [Share(codes), Share(scale)]
    if let stated = context.source.tensor("\(context.module).weight_shape") {
      try context.require(stated, [.i64, .i32], [2], code: .packed)
      let found = integers(stated)
      guard found == [rows, columns] else {
        throw context.refuse(.packed, "says \(found), expected \(shape)", of: stated)
      }
      shares.append(Share(stated))
    }
    let zeros = try group.zeroPoints(context)
    let (scaleShape, granularity) = try group.scaleShape(context, scale)
    let groups = scaleShape.rank == 2 ? scaleShape.columns : 1
    if let zeros {
      let zeroRows = scaleShape == [1] ? 1 : rows
      try context.require(zeros, [.i32], [ceilDivide(zeroRows, perWord), groups])
      shares.append(Share(zeros))
    }
    let index = try context.groupIndex("weight_g_idx", &shares)
    guard index == nil || scaleShape.rank == 2 else {
      throw context.contradicts("has a 'weight_g_idx', but '\(group.name)' has no groups")
    }
    let encoding: any Encoding =
      GroupedIntegers(width, granularity, hasZeroPoints: zeros != nil, isIndexed: index != nil)
      ?? INT8.channel
    let scales = context.part(.scales, scale, scaleShape)
    let table = index.map { [context.part(.groupIndex, $0, [columns])] } ?? []
    if width == .four, columns % 8 == 0 {
      let values = context.part(.values, codes, [rows, columns / 2], dtype: .u8)
      guard let zeros else { return try context.lent(encoding, [values, scales] + table, from: shares) }
      return try context.built(encoding, dtypes: [.scales: scale.dtype], from: shares) {
        [values, scales, unpackedZeros(zeros, width, scaleShape)] + table
      }
    }
    return try context.built(encoding, dtypes: [.scales: scale.dtype], from: shares) {
      let values =
        width == .four
        ? Part(.values, dtype: .u8, shape: [rows, columns / 2], bytes: trimmed(codes, rows, columns / 2))
        : Part(.values, dtype: .i8, shape: shape, bytes: flipped(codes, rows, columns))
      return [values, scales] + (zeros.map { [unpackedZeros($0, width, scaleShape)] } ?? []) + table
    }
  }
}

/// The first `columns` bytes of each row of words.
private func trimmed(_ words: TensorInfo, _ rows: Int, _ columns: Int) -> Bytes {
  let rowBytes = words.shape.columns * 4
  return reordered(words.bytes, count: rows * columns) { source, out in
    sk_gather(source, 1, rows, columns, rowBytes, 1, out)
  }
}

/// The first `columns` bytes of each row of words, offset by 128, as two's complement.
private func flipped(_ words: TensorInfo, _ rows: Int, _ columns: Int) -> Bytes {
  let rowBytes = words.shape.columns * 4
  return reordered(words.bytes, count: rows * columns) { source, out in
    for row in 0..<rows { sk_flip_top_bit(source + row * rowBytes, out + row * columns, columns) }
  }
}

/// Zero points packed along the output channels, one a byte, as the codes are.
private func unpackedZeros(_ words: TensorInfo, _ width: GroupedIntegers.Width, _ shape: Shape) -> Part {
  let groups = words.shape.columns
  let (bits, perWord) = (width.rawValue, 32 / width.rawValue)
  let bytes = reordered(words.bytes, count: shape.count) { source, out in
    for row in 0..<shape.count / max(1, groups) {
      for group in 0..<groups {
        let bit = row % perWord * bits
        let byte = source[(row / perWord * groups + group) * 4 + bit / 8]
        out[row * groups + group] = width == .four ? byte >> UInt8(bit % 8) & 15 : byte ^ 0x80
      }
    }
  }
  return Part(.zeroPoints, dtype: width == .four ? .u8 : .i8, shape: shape, bytes: bytes)
}

/// The elements of a small tensor of integers.
private func integers(_ tensor: TensorInfo) -> [Int] {
  // SAFETY: the tensor has the bytes of its shape and dtype
  tensor.bytes.withUnsafeBytes { bytes in
    (0..<tensor.shape.count).map {
      tensor.dtype == .i64
        ? Int(Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self)))
        : Int(Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Int32.self)))
    }
  }
}

extension JoinContext {
  /// The refusal of tensors that the configuration denies.
  func contradicts(_ problem: String) -> FormatError { refuse(.quantConfig, problem) }

  /// U8 [out, in / 2] codes with E4M3 `weight_scale` [out, in / 16] and one F32 for all.
  func nvfp4(_ encoding: NVFP4, globalScale: String) throws -> JoinedWeight {
    let scale = try sibling("\(module).weight_scale")
    let global = try sibling(globalScale)
    try require(scale, [.f8E4M3], [shape.rows, shape.columns / NVFP4.group])
    try require(global, [.f32], [1], [])
    return try lent(
      encoding,
      [
        part(.values, codes, codes.shape), part(.scales, scale, scale.shape), part(.globalScale, global, [1]),
      ], from: [Share(codes), Share(scale), Share(global)])
  }
}
