// GPTQ and AWQ: 4-bit integers in words, groups of input channels, zero points. Both keep input channels first; reading
// transposes codes, scales and zero points.

internal import CKernels
internal import SmeltStorage
internal import SmeltTensors

/// `X.qweight` I32 [in / 8, out]: the lowest nibble of a word is the first of its eight input channels. `X.qzeros` I32
/// [groups, out / 8], `X.scales` [groups, out], `X.g_idx` I32 [in]. Formats/layouts.md, section 8.
struct GPTQ: Layout {
  let name = "gptq"

  func codes(
    of place: Spelling, plain: TensorInfo?, in source: any TensorSource, _ config: QuantizationConfig
  ) -> TensorInfo? {
    config.method == name ? source.tensor("\(place.module).qweight") : nil
  }

  func shape(of codes: TensorInfo, module: String, in source: any TensorSource) -> Shape? {
    codes.shape.rank == 2 ? [codes.shape.columns, codes.shape.rows * 8] : nil
  }

  func join(_ context: JoinContext) throws -> JoinedWeight {
    let packed = try PackedIntegers(context)
    let (codes, rows, columns) = (context.codes, context.shape.rows, context.shape.columns)
    guard columns % 8 == 0 else { throw packed.odd("input", columns) }
    try context.require(codes, [.i32], [columns / 8, rows], code: .packed)
    let (zeros, scales, config, groups) = (packed.zeros, packed.scales, packed.config, packed.groups)
    try context.require(zeros, [.i32], [groups, ceilDivide(rows, 8)])
    var shares = [Share(codes), Share(scales), Share(zeros)]
    let index = try context.groupIndex("g_idx", &shares)
    if index == nil, config.isReordered {
      throw context.refuse(.scaleMissing, "is in activation order but has no 'g_idx'")
    }
    let isIndexed = config.isReordered && groups > 1
    let length = config.group ?? columns
    return try packed.built(context, isIndexed: isIndexed, from: shares) {
      if let index, !isIndexed { try GPTQ.requireInOrder(index, length) }
      let eighths = columns / 8
      return [
        Part(
          .values, dtype: .u8, shape: [rows, columns / 2],
          bytes: transposed(codes.bytes, size: 4, rows: eighths, columns: rows)),
        packed.transposedScales(rows),
        Part(
          .zeroPoints, dtype: .u8, shape: packed.scaleShape(rows),
          bytes: GPTQ.zeroPoints(zeros, rows, groups, isOffset: config.zeroPointsAreOffset)),
      ] + (index.map { isIndexed ? [context.part(.groupIndex, $0, [columns])] : [] } ?? [])
    }
  }

  /// One zero point a byte, [out, groups]. The first version of the format stores one less, in four bits.
  private static func zeroPoints(_ words: TensorInfo, _ rows: Int, _ groups: Int, isOffset: Bool) -> Bytes {
    let rowBytes = words.shape.columns * 4
    return reordered(words.bytes, count: rows * groups) { source, out in
      for group in 0..<groups {
        for row in 0..<rows {
          let nibble = source[group * rowBytes + row / 2] >> (row % 2 == 0 ? 0 : 4) & 15
          out[row * groups + group] = isOffset ? (nibble + 1) & 15 : nibble
        }
      }
    }
  }

  /// Refuses a table that puts a channel into another group than the one its place gives.
  private static func requireInOrder(_ index: TensorInfo, _ length: Int) throws(FormatError) {
    // SAFETY: the tensor is I32 and has four bytes an element, as its header was checked.
    let bad = index.bytes.withUnsafeBytes { bytes in
      (0..<index.shape.count).first {
        Int(Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Int32.self))) != $0 / length
      }
    }
    guard let bad else { return }
    throw FormatError(
      .quantConfig, file: index.fileName, subject: index.name, offset: index.offset + bad * 4,
      "puts channel \(bad) into another group than \(bad / length), but desc_act is false")
  }
}

/// `X.qweight` I32 [in, out / 8]: a word's nibbles, lowest first, are output channels 0 2 4 6 1 3 5 7 of its eight.
/// `X.qzeros` I32 [groups, out / 8] in the same order, `X.scales` [groups, out]. Formats/layouts.md, section 9.
struct AWQ: Layout {
  let name = "awq"

  func codes(
    of place: Spelling, plain: TensorInfo?, in source: any TensorSource, _ config: QuantizationConfig
  ) -> TensorInfo? {
    config.method == name ? source.tensor("\(place.module).qweight") : nil
  }

  func shape(of codes: TensorInfo, module: String, in source: any TensorSource) -> Shape? {
    codes.shape.rank == 2 ? [codes.shape.columns * 8, codes.shape.rows] : nil
  }

  func join(_ context: JoinContext) throws -> JoinedWeight {
    let packed = try PackedIntegers(context)
    let (codes, rows, columns) = (context.codes, context.shape.rows, context.shape.columns)
    guard rows % 8 == 0 else { throw packed.odd("output", rows) }
    guard columns % 2 == 0 else { throw packed.odd("input", columns) }
    try context.require(codes, [.i32], [columns, rows / 8], code: .packed)
    let (zeros, scales, groups) = (packed.zeros, packed.scales, packed.groups)
    try context.require(zeros, [.i32], [groups, rows / 8])
    return try packed.built(
      context, isIndexed: false, from: [Share(codes), Share(scales), Share(zeros)]
    ) {
      let nibbles = transposed(AWQ.unpacked(codes), size: 1, rows: columns, columns: rows)
      return [
        Part(
          .values, dtype: .u8, shape: [rows, columns / 2],
          bytes: reordered(nibbles, count: rows * columns / 2) { sk_pack_nibbles($0, $1, rows * columns) }),
        packed.transposedScales(rows),
        Part(
          .zeroPoints, dtype: .u8, shape: packed.scaleShape(rows),
          bytes: transposed(AWQ.unpacked(zeros), size: 1, rows: groups, columns: rows)),
      ]
    }
  }

  /// One nibble a byte, in the order of the output channels.
  private static func unpacked(_ words: TensorInfo) -> Bytes {
    let count = words.shape.count
    return reordered(words.bytes, count: 8 * count) { sk_unpack_awq($0, count, $1) }
  }
}

extension JoinContext {
  /// The table that says which group each input channel belongs to. Some writers store an empty one instead of leaving it out;
  /// it belongs to the weight all the same.
  func groupIndex(_ name: String, _ shares: inout [Share]) throws -> TensorInfo? {
    guard let index = source.tensor("\(place.module).\(name)") else { return nil }
    shares.append(Share(index))
    if index.shape.count == 0 { return nil }
    try require(index, [.i32], [shape.columns])
    return index
  }
}

/// What the two share: configuration, groups, scales and zero points.
private struct PackedIntegers: Sendable {
  let config: PackedIntegerConfig
  let zeros: TensorInfo
  let scales: TensorInfo
  let groups: Int
  private let codes: TensorInfo

  init(_ context: JoinContext) throws {
    guard let config = context.config.packed else { preconditionFailure("codes(of:) saw a configuration") }
    try context.requireWhole()
    guard context.shape.rank == 2 else {
      throw context.refuse(
        .configShape, "is \(context.layout), expected plain numbers for a weight of \(context.shape)")
    }
    self.config = config
    codes = context.codes
    zeros = try context.sibling("\(context.module).qzeros")
    scales = try context.sibling("\(context.module).scales")
    groups = config.group.map { ceilDivide(context.shape.columns, $0) } ?? 1
    try context.require(scales, [.f16, .bf16, .f32], [groups, context.shape.rows])
  }

  func odd(_ side: String, _ found: Int) -> FormatError {
    FormatError(
      .packed, file: codes.fileName, subject: codes.name, offset: codes.offset,
      "has \(found) \(side) channels, expected a multiple of 8")
  }

  func scaleShape(_ rows: Int) -> Shape { config.group == nil ? [rows] : [rows, groups] }

  /// Scales with output channels first.
  func transposedScales(_ rows: Int) -> Part {
    Part(
      .scales, dtype: scales.dtype, shape: scaleShape(rows),
      bytes: transposed(scales.bytes, size: scales.dtype.bits / 8, rows: groups, columns: rows))
  }

  func built(
    _ context: JoinContext, isIndexed: Bool, from shares: [Share],
    build: @escaping @Sendable () throws -> [Part]
  ) throws -> JoinedWeight {
    let granularity: GroupedIntegers.Granularity = config.group.map { .group($0) } ?? .channel
    guard
      let encoding = GroupedIntegers(.four, granularity, hasZeroPoints: true, isIndexed: isIndexed)
    else { preconditionFailure("group lengths were checked with the configuration") }
    return try context.built(encoding, dtypes: [.scales: scales.dtype], from: shares, build: build)
  }
}
