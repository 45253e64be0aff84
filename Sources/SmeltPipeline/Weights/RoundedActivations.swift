// Activations rounded before each product with a quantized weight, as engines do that multiply in eight bits.

internal import CKernels
import SmeltContainers
import SmeltModels
package import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// How activations are rounded before they meet a weight of eight bits.
package struct ActivationRounding: Sendable {
  /// The grids, and where their scale comes from.
  package enum Kind: String, Sendable, CaseIterable {
    /// Whole numbers to ±127, a scale for each token: its largest magnitude ÷ 127.
    case int8
    /// E4M3, a scale for each token: its largest magnitude ÷ 448.
    case fp8
    /// Whole numbers to ±127, a scale for each weight: the statistics' largest magnitude ÷ 127.
    case staticInt8 = "static-int8"
    /// E4M3, a scale for each weight: the statistics' largest magnitude ÷ 448.
    case staticFP8 = "static-fp8"
    /// Blocks of 32 or 256 channels, as llama.cpp rounds before each GGUF type: Q8_0 or Q8_K.
    case gguf
    /// What the result's own configuration says of each weight, with the scales that lie beside it; keys and values that are cached
    /// included.
    case declared

    /// Whether scales come from statistics.
    package var isStatic: Bool { self == .staticInt8 || self == .staticFP8 }
    /// The largest magnitude of the grid.
    var largest: Float { self == .fp8 || self == .staticFP8 ? FP8.Format.e4m3.largest : INT8.largest }
  }

  /// The grid.
  package let kind: Kind
  /// The largest magnitude that calibration saw of a weight's inputs, where scales are static.
  let ranges: [WeightName: Float]
  /// What the result declares, where that is asked for.
  let declared: DeclaredScales

  /// A rounding; `statistics` are needed for static scales and ignored otherwise.
  /// - Throws: `RequestError` usage without the statistics; `STAT_FORMAT`.
  package init(_ kind: Kind, statistics: Statistics? = nil, for model: Model) throws {
    self.kind = kind
    declared = kind == .declared ? try model.declaredScales().sound(model.family.weights) : DeclaredScales()
    var ranges: [WeightName: Float] = [:]
    if kind.isStatic {
      guard let statistics else {
        throw RequestError(
          .usage, "--activations \(kind.rawValue) needs --statistics",
          help: "write them with `smelt calibrate`, or choose \(kind == .staticInt8 ? "int8" : "fp8")")
      }
      for spec in model.family.weights where spec.isMultiplied {
        ranges[spec.name] = try statistics.entry(spec.name)?.absmax?.max()
      }
    }
    self.ranges = ranges
  }

  /// The rounding that a result declares.
  init(_ declared: DeclaredScales) { (kind, ranges, self.declared) = (.declared, [:], declared) }

  /// Whether a weight of this encoding is multiplied with rounded activations: INT8 and FP8 of any granularity, what the result
  /// declares, or GGUF's blocks.
  func reaches(_ name: WeightName, _ encoding: any Encoding) -> Bool {
    if kind == .declared { return declared.inputs[name] != nil }
    if kind == .gguf { return encoding is GGUFBlock && activationBlock(encoding) != nil }
    return encoding.name.hasPrefix("int8.") || encoding is FP8
  }

  /// Rows rounded to the grid and back; a row of zeros stays one. Weights without a range of their own get a scale for
  /// each token.
  /// - Parameters:
  ///   - block: channels that share a scale where scales are a token's own; nil for all of them.
  ///   - hasPowers: whether such scales are powers of two, as MXFP8's are.
  func round(
    _ x: Matrix, _ name: WeightName, block: Int? = nil, hasPowers: Bool = false, _ parallel: Parallel
  ) -> Matrix {
    if kind == .declared { return declared.inputs[name].map { round(x, $0, parallel) } ?? x }
    var rounded = x
    let columns = x.columns
    let range = ranges[name].flatMap { $0 > 0 ? $0 : nil }
    let width = max(1, range == nil ? block ?? columns : columns)
    rounded.forEachRow(parallel) { _, row in
      for start in stride(from: 0, to: columns, by: width) {
        round(row + start, min(width, columns - start), range: range, hasPowers: hasPowers && range == nil)
      }
    }
    return rounded
  }

  /// Rows rounded as one weight of the result says.
  private func round(_ x: Matrix, _ input: DeclaredScales.Input, _ parallel: Parallel) -> Matrix {
    var rounded = x
    let columns = x.columns
    let largest = input.isFloat ? FP8.Format.e4m3.largest : INT8.largest
    let fixed = input.scale == nil ? nil : input.fused ?? input.scale?.multiplier
    let width: Int =
      switch input.form {
      case .token, .tensor: columns
      case .group(let size), .powers(let size): size
      case .local: NVFP4.group
      }
    rounded.forEachRow(parallel) { _, row in
      for start in stride(from: 0, to: columns, by: max(1, width)) {
        let (place, count) = (row + start, min(width, columns - start))
        if input.form == .local {
          LocalFP4.round(place, count, under: fixed ?? 1)
        } else {
          var scale = fixed ?? absmax(place, count) / largest
          if case .powers = input.form { scale = ActivationRounding.power(scale) }
          round(place, count, isFloat: input.isFloat, scale: scale)
        }
      }
    }
    return rounded
  }

  /// Keys or values as a cache of E4M3 gives them back; as they are where the result declares none.
  func round(_ x: Matrix, _ part: CachePart, layer: Int, _ parallel: Parallel) -> Matrix {
    guard let scales = declared.caches[layer] else { return x }
    var rounded = x
    let columns = x.columns
    rounded.forEachRow(parallel) { _, row in
      round(row, columns, isFloat: true, scale: part == .values ? scales.values : scales.keys)
    }
    return rounded
  }

  private func absmax(_ row: UnsafeMutablePointer<Float>, _ count: Int) -> Float {
    var largest: Float = 0
    for index in 0..<count { largest = max(largest, abs(row[index])) }
    return largest
  }

  /// Rounds numbers that share a scale.
  private func round(
    _ row: UnsafeMutablePointer<Float>, _ count: Int, range: Float?, hasPowers: Bool = false
  ) {
    let scale = (range ?? absmax(row, count)) / kind.largest
    round(
      row, count, isFloat: kind.largest != INT8.largest,
      scale: hasPowers && kind == .fp8 ? ActivationRounding.power(scale) : scale)
  }

  private func round(_ row: UnsafeMutablePointer<Float>, _ count: Int, isFloat: Bool, scale: Float) {
    guard scale >= .leastNormalMagnitude, scale.isFinite else { return }
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: count) { codes in
      // SAFETY: `row` has `count` numbers (callers cut rows at their ends), `codes` room for as many
      guard let codes = codes.baseAddress else { return }
      if !isFloat {
        INT8.channel.encode(row, count: count, scale: scale, into: codes)
        for index in 0..<count { row[index] = Float(Int8(bitPattern: codes[index])) * scale }
      } else {
        FP8(.e4m3, .tensor).encode(row, count: count, scale: scale, into: codes)
        for index in 0..<count { row[index] = ActivationRounding.e4m3[Int(codes[index])] * scale }
      }
    }
  }

  /// The scale of MXFP8 for what a scale of any size would be: the smallest power of two that is not below it, at least 2⁻¹²⁶ where
  /// there is one at all. Source: vLLM 0.33.0, `quantization/utils/mxfp8_utils.py`, `_mxfp8_e4m3_quantize_torch`.
  static func power(_ scale: Float) -> Float {
    guard scale > 0, scale.isFinite else { return scale }
    let least = max(scale, .leastNormalMagnitude)
    let power = Float(sign: .plus, exponent: least.exponent, significand: 1)
    return power < least ? power * 2 : power
  }

  /// Whether the scales of activations are powers of two before a product with a weight of this encoding: MXFP8.
  static func hasPowers(_ encoding: any Encoding) -> Bool {
    (encoding as? FP8)?.granularity == .block(rows: 1, columns: FP4.group)
  }

  /// The channels that share a scale before a product with a weight of this encoding: of FP8 in blocks as many as a
  /// block has columns, as engines for it have it; nil for all. Source: DeepSeek-V3's reference inference, `act_quant`.
  static func block(_ encoding: any Encoding) -> Int? {
    guard let encoding = encoding as? FP8, case .block(_, let columns) = encoding.granularity else {
      return nil
    }
    return columns
  }

  /// The value of each E4M3 code. Formats/encodings.md, section 4.
  static let e4m3: [Float] = (0..<256).map { code in
    let (exponent, mantissa) = (code >> 3 & 15, Float(code & 7))
    let magnitude =
      exponent == 0
      ? mantissa * 0x1p-9 : (1 + mantissa / 8) * Float(sign: .plus, exponent: exponent - 7, significand: 1)
    return code < 128 ? magnitude : -magnitude
  }
}

/// Activations of NVFP4: an E4M3 scale for each 16 channels, which the engine chooses as each token comes, under one that the checkpoint
/// gives. Source: vLLM 0.33 `nvfp4_emulation_utils.py`, `ref_nvfp4_quant`.
enum LocalFP4 {
  /// Rounds at most 16 numbers under a global scale that multiplies.
  static func round(_ row: UnsafeMutablePointer<Float>, _ count: Int, under global: Float) {
    precondition((1...NVFP4.group).contains(count), "\(count) numbers of a group")
    var largest: Float = 0
    for index in 0..<count { largest = max(largest, abs(row[index])) }
    var wanted = largest / FP4.largest / global
    withUnsafeTemporaryAllocation(of: Float.self, capacity: NVFP4.group) { numbers in
      withUnsafeTemporaryAllocation(of: UInt8.self, capacity: NVFP4.group / 2) { codes in
        // SAFETY: sixteen numbers, the row's and zeros behind them, and their eight bytes of codes
        guard let numbers = numbers.baseAddress, let codes = codes.baseAddress else { return }
        FP8(.e4m3, .tensor).encode(&wanted, count: 1, scale: 1, into: codes)
        let scale = ActivationRounding.e4m3[Int(codes[0])] * global
        guard scale > 0, scale.isFinite else {
          // The scale is below E4M3's smallest: the engine gives zeros.
          return row.update(repeating: 0, count: count)
        }
        for index in 0..<NVFP4.group { numbers[index] = index < count ? row[index] : 0 }
        sk_encode_e2m1(numbers, scale, codes, NVFP4.group)
        sk_decode_e2m1(codes, scale, numbers, NVFP4.group)
        row.update(from: numbers, count: count)
      }
    }
  }
}

/// Weights whose quantized ones are multiplied with rounded activations.
struct RoundedActivations<Base: Weights>: ForwardingWeights {
  let base: Base
  let rounding: ActivationRounding
  /// Where it is asked for: products of signed bytes are computed as whole numbers, and counted here.
  var integers: IntegerTally?

  func cached(_ x: Matrix, _ part: CachePart, layer: Int, parallel: Parallel) throws -> Matrix {
    try base.cached(rounding.round(x, part, layer: layer, parallel), part, layer: layer, parallel: parallel)
  }
  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    let weight = try base.weight(name)
    let encoding = weight.encoding
    guard rounding.reaches(name, encoding) else {
      return try base.multiply(x, name, rows: rows, parallel: parallel)
    }
    if let integers,
      let product = try rounding.integerProduct(x, name, weight, rows: rows, integers, parallel)
    {
      return product
    }
    if rounding.kind == .gguf {
      let rounded = roundedBlocks(x, before: encoding, parallel: parallel)
      return try base.multiply(rounded ?? x, name, rows: rows, parallel: parallel)
    }
    return try base.multiply(
      rounding.round(
        x, name, block: ActivationRounding.block(encoding),
        hasPowers: ActivationRounding.hasPowers(encoding), parallel), name, rows: rows, parallel: parallel)
  }
}
