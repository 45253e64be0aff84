// Activations rounded before each product with a quantized weight, as engines do that multiply in eight bits.

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

    /// Whether scales come from statistics.
    package var isStatic: Bool { self == .staticInt8 || self == .staticFP8 }
    /// The largest magnitude of the grid.
    var largest: Float { self == .int8 || self == .staticInt8 ? INT8.largest : FP8.Format.e4m3.largest }
  }

  /// The grid.
  package let kind: Kind
  /// The largest magnitude that calibration saw of a weight's inputs, where scales are static.
  let ranges: [WeightName: Float]

  /// A rounding; `statistics` are needed for static scales and ignored otherwise.
  /// - Throws: `RequestError` usage without the statistics; `STAT_FORMAT`.
  package init(_ kind: Kind, statistics: Statistics? = nil, for model: Model) throws {
    self.kind = kind
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

  /// Whether a weight of this encoding is multiplied with rounded activations: INT8 and FP8 of any granularity.
  static func reaches(_ encoding: any Encoding) -> Bool {
    encoding.name.hasPrefix("int8.") || encoding is FP8
  }

  /// Rows rounded to the grid and back; a row of zeros stays one. Weights without a range of their own get a scale for
  /// each token.
  /// - Parameters:
  ///   - block: channels that share a scale where scales are a token's own; nil for all of them.
  ///   - hasPowers: whether such scales are powers of two, as MXFP8's are.
  func round(
    _ x: Matrix, _ name: WeightName, block: Int? = nil, hasPowers: Bool = false, _ parallel: Parallel
  ) -> Matrix {
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

  /// Rounds numbers that share a scale.
  private func round(
    _ row: UnsafeMutablePointer<Float>, _ count: Int, range: Float?, hasPowers: Bool = false
  ) {
    var largest = range ?? 0
    if range == nil { for index in 0..<count { largest = max(largest, abs(row[index])) } }
    var scale = largest / kind.largest
    if hasPowers, kind == .fp8 { scale = ActivationRounding.power(scale) }
    guard scale >= .leastNormalMagnitude, scale.isFinite else { return }
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: count) { codes in
      // SAFETY: `row` has `count` numbers (callers cut rows at their ends), `codes` room for as many
      guard let codes = codes.baseAddress else { return }
      if kind.largest == INT8.largest {
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
  private static let e4m3: [Float] = (0..<256).map { code in
    let (exponent, mantissa) = (code >> 3 & 15, Float(code & 7))
    let magnitude =
      exponent == 0
      ? mantissa * 0x1p-9 : (1 + mantissa / 8) * Float(sign: .plus, exponent: exponent - 7, significand: 1)
    return code < 128 ? magnitude : -magnitude
  }
}

/// Weights whose quantized ones are multiplied with rounded activations.
struct RoundedActivations<Base: Weights>: Weights {
  let base: Base
  let rounding: ActivationRounding

  func weight(_ name: WeightName) throws -> Weight { try base.weight(name) }
  func finished(_ name: WeightName) { base.finished(name) }
  func upcoming(_ names: [WeightName]) { base.upcoming(names) }
  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    let encoding = try base.weight(name).encoding
    guard ActivationRounding.reaches(encoding) else {
      return try base.multiply(x, name, rows: rows, parallel: parallel)
    }
    return try base.multiply(
      rounding.round(
        x, name, block: ActivationRounding.block(encoding),
        hasPowers: ActivationRounding.hasPowers(encoding), parallel), name, rows: rows, parallel: parallel)
  }
}
