// The numbers that an encoding can hold, seen one at a time: what a method needs that chooses codes itself.
// Formats/methods.md, section 1.

internal import CKernels
internal import SmeltStorage
package import SmeltTensors

/// An encoding as a grid: codes from a small set of numbers, times a scale for each run of columns.
package struct Grid: Sendable {
  /// How scales are stored.
  enum ScaleFormat: Int32, Sendable {
    case f32, bf16, f16, e8m0
    /// E4M3, divided by the weight's global scale.
    case e4m3

    /// How `sk_refine_row` is to treat scales: where they are few, it leaves them.
    var kernelFormat: Int32 { self == .e4m3 ? ScaleFormat.e8m0.rawValue : rawValue }
  }

  /// Where codes and scales go.
  enum Packing: Sendable {
    /// A byte a code; scales apart.
    case bytes
    /// Two codes a byte, low nibble first, `offset` added to each; scales apart.
    case nibbles(offset: UInt8)
    /// GGUF's blocks of 32: the scale, then a byte a code.
    case blockBytes
    /// GGUF's blocks of 32: the scale, then columns j and j + 16 in byte j, `offset` added to each.
    case blockNibbles(offset: UInt8)
  }

  /// The encoding.
  package let encoding: any Encoding
  /// The type of the scales; nil where they lie among the codes.
  package private(set) var scaleDType: DType?
  /// Columns that share a scale; nil: all of a row.
  package let group: Int?
  let kind: Int32
  let low: Float
  let high: Float
  let scaleFormat: ScaleFormat
  let packing: Packing
  /// Whether a scale may be negative, which flips a lopsided grid.
  let hasSignedScales: Bool
  /// The scales where a scheme chose the step.
  var coded: CodedScales?
  /// What the scales of groups are divided by, where they are E4M3 (`nvfp4.divided`).
  private var global: Float = 1
  /// That number; 1 for other scales.
  var globalScale: Float { global }

  /// The grid of an encoding, or nil for one that has no grid: several scales a code, zero points, or plain floats.
  /// - Parameter scales: the type that scales are to have, where the encoding leaves a choice.
  package init?(_ encoding: any Encoding, shape: Shape, scales: DType? = nil) {
    func plain(_ dtype: DType?) -> ScaleFormat? {
      switch dtype {
      case .f32: .f32
      case .bf16: .bf16
      case .f16: .f16
      default: nil
      }
    }
    let layout = (try? encoding.layout(of: shape, name: ""))?.dropFirst().first
    let dtype = scales.flatMap { layout?.dtypes.contains($0) == true ? $0 : nil } ?? layout?.dtypes[0]
    switch encoding {
    case let source as INT8 where source == .channel:
      guard let format = plain(dtype) else { return nil }
      self.init(encoding, nil, SK_GRID_WHOLE, -127...127, format, .bytes)
    case let source as FP8 where source.format == .e4m3 && source.granularity == .channel:
      guard let format = plain(dtype) else { return nil }
      self.init(encoding, nil, SK_GRID_E4M3, -448...448, format, .bytes)
    case let source as GroupedIntegers where !source.hasZeroPoints && !source.isIndexed:
      guard let format = plain(dtype) else { return nil }
      let group: Int?
      switch source.granularity {
      case .tensor: return nil
      case .channel: group = nil
      case .group(let size): group = size
      }
      if let group, InverseFactor.block % group != 0 { return nil }
      self.init(
        encoding, group, SK_GRID_WHOLE, source.width == .four ? -8...7 : -127...127, format,
        source.width == .four ? .nibbles(offset: 8) : .bytes)
    case is FP4:
      self.init(encoding, FP4.group, SK_GRID_E2M1, -6...6, .e8m0, .nibbles(offset: 0))
    case let source as NVFP4 where source.isDivided:
      self.init(encoding, NVFP4.group, SK_GRID_E2M1, -6...6, .e4m3, .nibbles(offset: 0))
    case let block as GGUFBlock:
      switch block.kind {
      case .q8_0: self.init(encoding, 32, SK_GRID_WHOLE, -127...127, .f16, .blockBytes)
      case .q4_0:
        self.init(encoding, 32, SK_GRID_WHOLE, -8...7, .f16, .blockNibbles(offset: 8), hasSignedScales: true)
      case .mxfp4: self.init(encoding, 32, SK_GRID_E2M1, -6...6, .e8m0, .blockNibbles(offset: 0))
      default: return nil
      }
    default: return nil
    }
    scaleDType = dtype
  }

  private init(
    _ encoding: any Encoding, _ group: Int?, _ kind: Int32, _ range: ClosedRange<Float>,
    _ scaleFormat: ScaleFormat,
    _ packing: Packing, hasSignedScales: Bool = false
  ) {
    self.encoding = encoding
    self.group = group
    self.kind = kind
    (low, high) = (range.lowerBound, range.upperBound)
    self.scaleFormat = scaleFormat
    self.packing = packing
    self.hasSignedScales = hasSignedScales
  }

  // MARK: scales

  /// The grid under scales that a scheme chose.
  package func with(_ coded: CodedScales?) -> Grid {
    var grid = self
    grid.coded = coded
    return grid
  }

  /// The grid under the global scale that the scheme's survey gave.
  package func with(global: Float) -> Grid {
    precondition(global > 0 && global.isFinite, "a global scale of \(global)")
    var grid = self
    if scaleFormat == .e4m3 { grid.global = global }
    return grid
  }

  /// The scale as it is stored; nil when it would be zero, subnormal or infinite.
  func stored(_ scale: Float) -> Float? {
    // SAFETY: two bytes are encoded and decoded again in a local of two bytes.
    var value = scale
    switch scaleFormat {
    case .f32: break
    case .bf16:
      var bytes: (UInt8, UInt8) = (0, 0)
      withUnsafeMutableBytes(of: &bytes) { bytes in
        let place = bytes.baseAddress!.assumingMemoryBound(to: UInt8.self)
        sk_encode_bf16(&value, place, 1)
        sk_decode_bf16(place, &value, 1)
      }
    case .f16:
      var bytes: (UInt8, UInt8) = (0, 0)
      withUnsafeMutableBytes(of: &bytes) { bytes in
        let place = bytes.baseAddress!.assumingMemoryBound(to: UInt8.self)
        sk_encode_f16(&value, place, 1)
        sk_decode_f16(place, &value, 1)
      }
    case .e8m0:
      guard scale > 0 else { return nil }
      value = Float(sign: .plus, exponent: scale.exponent, significand: 1)
    case .e4m3: value = NVFP4Scheme.scale(NVFP4Scheme.code(of: scale * global), global)
    }
    guard value.isNormal, (value * high).isFinite, (value * low).isFinite, hasSignedScales || value > 0 else {
      return nil
    }
    return value
  }

  /// Scales to try for values whose largest magnitude is `absmax`, the one that clips nothing first.
  func candidates(_ values: UnsafePointer<Float>, _ count: Int) -> [Float] {
    let absmax = sk_absmax_f32(values, count)
    guard absmax > 0 else { return [] }
    let full = absmax / high
    switch kind {
    case SK_GRID_E2M1 where scaleFormat == .e4m3:  // as the scheme's `mse`
      let code = max(1, NVFP4Scheme.code(of: full * global))
      let others = NVFP4Scheme.around(Int(code)).map(UInt8.init).filter { $0 != code }
      return ([code] + others).map { NVFP4Scheme.scale($0, global) }
        .filter { $0.isNormal && ($0 * high).isFinite }
    case SK_GRID_E2M1:  // powers of two: `stored` takes the exponent, so a little above it
      return [4, 2, 1, 0.5].compactMap { stored(full * $0) }
    case SK_GRID_E4M3: return (0..<32).compactMap { stored(full * (1 + Float($0) / 32)) }
    default:
      let steps: [Float] = high > 100 ? Grid.fineSteps : Grid.coarseSteps
      var all = steps.compactMap { stored(full * $0) }
      if hasSignedScales { all += steps.compactMap { stored(-full * $0) } }
      return all
    }
  }

  /// Clipping for 8 bits: little; for 4 bits: half a step above the range, down to 3/5 of it.
  private static let fineSteps: [Float] =
    [1, 127 / 127.5] + stride(from: 99, through: 55, by: -1).map { Float($0) / 100 }
  private static let coarseSteps: [Float] =
    [1] + stride(from: 98, through: 56, by: -2).map { Float($0) / 100 }

  /// The scale of some values with the least Σ weight × square error.
  func scale(_ values: UnsafePointer<Float>, _ weights: UnsafePointer<Float>?, _ count: Int) -> Float {
    if let coded { return coded.scale(values, count).scale }
    var best: (scale: Float, error: Double)?
    for candidate in candidates(values, count) {
      let error = sk_grid_error(values, weights, candidate, kind, low, high, count)
      if best == nil || error < best!.error { best = (candidate, error) }
    }
    return best?.scale ?? 1
  }

  /// The number that a code stands for, before its scale.
  func value(_ code: UInt8) -> Float {
    switch kind {
    case SK_GRID_E2M1:
      let steps: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
      return code & 8 == 0 ? steps[Int(code & 7)] : -steps[Int(code & 7)]
    case SK_GRID_E4M3:
      var (code, value) = (code, Float(0))
      sk_decode_e4m3(&code, 1, &value, 1)
      return value
    default: return Float(Int8(bitPattern: code))
    }
  }

  // MARK: bytes

  /// Bytes of a row of codes (scales included where they lie among them), and of a row of scales apart.
  func rowBytes(columns: Int) -> (values: Int, scales: Int) {
    let groups = ceilDivide(columns, group ?? max(1, columns))
    switch packing {
    case .bytes: return (columns, groups * scaleBytes)
    case .nibbles: return (columns / 2, groups * scaleBytes)
    case .blockBytes: return (groups * (32 + scaleBytes), 0)
    case .blockNibbles: return (groups * (16 + scaleBytes), 0)
    }
  }

  private var scaleBytes: Int {
    switch scaleFormat {
    case .f32: 4
    case .bf16, .f16: 2
    case .e8m0, .e4m3: 1
    }
  }

  /// The part behind codes and scales, where the encoding has one: the global scale.
  var globalBytes: Bytes? {
    guard scaleFormat == .e4m3 else { return nil }
    return Bytes(withUnsafeBytes(of: global.bitPattern.littleEndian) { Array($0) })
  }

  private func store(_ scale: Float, _ out: UnsafeMutablePointer<UInt8>) {
    var scale = scale
    switch scaleFormat {
    case .f32:
      UnsafeMutableRawPointer(out).storeBytes(of: scale.bitPattern.littleEndian, as: UInt32.self)
    case .bf16: sk_encode_bf16(&scale, out, 1)
    case .f16: sk_encode_f16(&scale, out, 1)
    case .e8m0: out[0] = UInt8(clamping: Int(scale.exponent) + 127)
    case .e4m3: out[0] = NVFP4Scheme.code(of: scale * global)
    }
  }

  /// Stores a row: a code for each column, a scale for each group.
  func pack(
    _ codes: UnsafePointer<UInt8>, _ scales: UnsafePointer<Float>, columns: Int,
    values: UnsafeMutablePointer<UInt8>, scaleBytes target: UnsafeMutablePointer<UInt8>?
  ) {
    // SAFETY: `codes` must hold `columns` codes and `scales` one for each group; `values` and `target` must have room for what
    // `rowBytes` says of a row, which is where callers take their strides from.
    let groups = ceilDivide(columns, group ?? max(1, columns))
    switch packing {
    case .bytes, .nibbles:
      for group in 0..<groups { store(scales[group], target! + group * scaleBytes) }
    case .blockBytes, .blockNibbles: break
    }
    switch packing {
    case .bytes: values.update(from: codes, count: columns)
    case .nibbles(let offset):
      for pair in 0..<columns / 2 {
        values[pair] = (codes[2 * pair] &+ offset) & 15 | (codes[2 * pair + 1] &+ offset) << 4
      }
    case .blockBytes:
      for block in 0..<groups {
        let out = values + block * (32 + scaleBytes)
        store(scales[block], out)
        (out + scaleBytes).update(from: codes + block * 32, count: 32)
      }
    case .blockNibbles(let offset):
      for block in 0..<groups {
        let out = values + block * (16 + scaleBytes)
        store(scales[block], out)
        for j in 0..<16 {
          out[scaleBytes + j] =
            (codes[block * 32 + j] &+ offset) & 15 | (codes[block * 32 + 16 + j] &+ offset) << 4
        }
      }
    }
  }

  /// The codes and scales of a packed row, as `pack` takes them.
  func unpack(
    _ values: UnsafePointer<UInt8>, scaleBytes source: UnsafePointer<UInt8>?, columns: Int
  ) -> (codes: [UInt8], scales: [Float]) {
    // SAFETY: `values` and `source` must hold a row as `pack` writes it.
    let groups = ceilDivide(columns, group ?? max(1, columns))
    var codes = [UInt8](repeating: 0, count: columns)
    var scales = [Float](repeating: 1, count: groups)
    /// Four bits as whole numbers in two's complement, or as they are.
    func nibble(_ bits: UInt8, _ offset: UInt8) -> UInt8 { (bits & 15) &- offset }
    for group in 0..<groups {
      switch packing {
      case .bytes, .nibbles: scales[group] = load(source! + group * scaleBytes)
      case .blockBytes:
        let block = values + group * (32 + scaleBytes)
        scales[group] = load(block)
        for j in 0..<32 { codes[group * 32 + j] = block[scaleBytes + j] }
      case .blockNibbles(let offset):
        let block = values + group * (16 + scaleBytes)
        scales[group] = load(block)
        for j in 0..<16 {
          codes[group * 32 + j] = nibble(block[scaleBytes + j], offset)
          codes[group * 32 + 16 + j] = nibble(block[scaleBytes + j] >> 4, offset)
        }
      }
    }
    switch packing {
    case .bytes: for column in 0..<columns { codes[column] = values[column] }
    case .nibbles(let offset):
      for column in 0..<columns {
        codes[column] = nibble(values[column / 2] >> (column % 2 == 0 ? 0 : 4), offset)
      }
    case .blockBytes, .blockNibbles: break
    }
    return (codes, scales)
  }

  private func load(_ place: UnsafePointer<UInt8>) -> Float {
    var value: Float = 0
    switch scaleFormat {
    case .f32:
      value = Float(bitPattern: UInt32(littleEndian: UnsafeRawPointer(place).loadUnaligned(as: UInt32.self)))
    case .bf16: sk_decode_bf16(place, &value, 1)
    case .f16: sk_decode_f16(place, &value, 1)
    case .e8m0: value = sk_e8m0(place[0])
    case .e4m3: value = NVFP4Scheme.scale(place[0], global)
    }
    return value
  }
}
