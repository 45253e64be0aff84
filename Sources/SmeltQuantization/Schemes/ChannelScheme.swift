// Schemes with one scale for each output channel: FP8 and INT8. Formats/recipe.md, section 4.

internal import CKernels
internal import SmeltStorage
package import SmeltTensors

/// 8-bit codes under one float32 scale for each output channel. Named `fp8-channel` and `int8-channel`.
///
/// A row's scale, first rule that holds:
/// 1. a row of zeros gets scale 1;
/// 2. the scale that the row has in the source, when every value is exact under it;
/// 3. the smallest power of two ≥ absmax ÷ largest code, when every value is exact under it. Rows of FP4 codes are,
///    if their group scales span at most 14 octaves (FP8);
/// 4. the observer's choice.
///
/// Bound of the error, nothing clipped: half a scale (INT8); for FP8 2⁻⁴ of the value, or 2⁻¹⁰ of the scale for small
/// ones; each and float32's own rounding. No scale is below 2⁻¹²⁶.
package struct ChannelScheme: Scheme {
  let code: ChannelCode
  /// The canonical name.
  package let name: String
  /// Other tools' spellings.
  package let synonyms: [String]
  /// One line for help.
  package let summary: String

  /// FP8 E4M3, encoding `f8_e4m3.channel`.
  package static let fp8 = ChannelScheme(
    code: .e4m3, name: "fp8-channel", synonyms: ["FP8_DYNAMIC", "fp8"],
    summary: "FP8 E4M3, a scale for each output channel; exact for FP4 sources")
  /// Signed bytes, encoding `int8.channel`.
  package static let int8 = ChannelScheme(
    code: .int8, name: "int8-channel", synonyms: ["W8A8", "W8A16", "int8"],
    summary: "INT8, a scale for each output channel")

  /// Values are rounded.
  package var isLossy: Bool { true }
  /// Values are encoded again.
  package var keepsBytes: Bool { false }
  /// The big matrices inside layers.
  package var reach: SchemeReach { .layerMatrices }

  /// The channel encoding; tables of integers keep theirs.
  package func encoding(for source: any Encoding, shape: Shape) -> any Encoding {
    source is IntegerTable ? source : code.encoding
  }

  /// Chooses each row's scale and encodes the row under it.
  /// - Throws: `Q_CODE_NAN`, `STAT_MISMATCH`.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    throws -> RowReport
  {
    if weight.encoding is IntegerTable { return copyRows(weight, rows: rows, into: target) }
    guard let scales = target.scales else { preconditionFailure("\(name) needs a place for scales") }
    try options.importance?.check(weight)
    let columns = weight.columns
    let own = SourceScales(weight)
    let groupRows = max(1, weight.rows / (options.importance?.groups ?? 1))
    var report = RowReport()
    try (options.importance?.values ?? []).withUnsafeBufferPointer { importance in
      try forEachDecodedRow(weight, rows: rows, spareRows: 1) { row, values, spare in
        let place = row - rows.lowerBound
        let chooser = RowChooser(
          code: code, values: values, count: columns, spare: spare,
          importance: importance.baseAddress.flatMap {
            options.importance == nil ? nil : $0 + row / groupRows * columns
          })
        let chosen = chooser.encode(
          into: target.values + place * columns, observer: options.observer, sourceScale: own?[row])
        withUnsafeBytes(of: chosen.scale.bitPattern.littleEndian) {
          UnsafeMutableRawPointer(scales + place * 4).copyMemory(from: $0.baseAddress!, byteCount: 4)
        }
        report.add(row: columns, inexact: chosen.inexact)
      }
    }
    if columns == 0 {  // rows of nothing: a scale is still a positive number
      for place in 0..<rows.count {
        UnsafeMutableRawPointer(scales + place * 4).storeBytes(
          of: Float(1).bitPattern.littleEndian, as: UInt32.self)
      }
    }
    return report
  }
}

/// The codes that share a scale by output channel.
enum ChannelCode: Sendable {
  case int8, e4m3

  var encoding: any Encoding { self == .int8 ? INT8.channel : FP8(.e4m3, .channel) }
  /// The largest magnitude of a code.
  var largest: Float { self == .int8 ? INT8.largest : FP8.Format.e4m3.largest }

  func encode(_ x: UnsafePointer<Float>, _ scale: Float, _ out: UnsafeMutablePointer<UInt8>, _ count: Int) {
    switch self {
    case .int8: out.withMemoryRebound(to: Int8.self, capacity: count) { sk_encode_int8(x, scale, $0, count) }
    case .e4m3: sk_encode_e4m3(x, scale, out, count)
    }
  }

  /// Encodes as `encode` does, and counts the values that are decoded to another number than they were.
  func encodeCounted(
    _ x: UnsafePointer<Float>, _ scale: Float, _ out: UnsafeMutablePointer<UInt8>, _ count: Int
  ) -> Int {
    switch self {
    case .int8: sk_encode_counted_int8(x, scale, out, count)
    case .e4m3: sk_encode_counted_e4m3(x, scale, out, count)
    }
  }

  func decode(
    _ codes: UnsafePointer<UInt8>, _ scale: Float, _ out: UnsafeMutablePointer<Float>, _ count: Int
  ) {
    switch self {
    case .int8:
      codes.withMemoryRebound(to: Int8.self, capacity: count) { sk_decode_int8($0, scale, out, count) }
    case .e4m3: sk_decode_e4m3(codes, scale, out, count)
    }
  }

  /// The smallest power of two under which nothing is clipped.
  func powerOfTwo(_ absmax: Float) -> Float {
    let quotient = max(absmax / largest, .leastNormalMagnitude)
    let power = Float(sign: .plus, exponent: quotient.exponent, significand: 1)
    return power * largest < absmax ? power * 2 : power
  }

  /// The scale under which `magnitude` is the largest code.
  func scale(of magnitude: Float) -> Float {
    var scale = max(magnitude / largest, .leastNormalMagnitude)
    while !(scale * largest).isFinite { scale = scale.nextDown }  // rounding up at float32's very end
    return scale
  }

  func error(_ x: UnsafePointer<Float>, _ importance: UnsafePointer<Float>?, _ scale: Float, _ count: Int)
    -> Double
  {
    switch self {
    case .int8: sk_error_int8(x, importance, scale, count)
    case .e4m3: sk_error_e4m3(x, importance, scale, count)
    }
  }
}

/// Chooses the scale of one row.
struct RowChooser {
  // SAFETY: `values`, `spare` and, where there is one, `importance` hold `count` floats, valid while the row is being chosen
  // (`forEachDecodedRow`); codes go to `count` bytes of a row that no other task has.
  let code: ChannelCode
  let values: UnsafePointer<Float>
  let count: Int
  /// Scratch of `count` floats.
  let spare: UnsafeMutablePointer<Float>
  let importance: UnsafePointer<Float>?

  /// Columns tried first, so that a scale that is not exact is found out at once.
  private static let probe = 64

  /// Writes the row's codes; the values that changed are counted.
  func encode(into out: UnsafeMutablePointer<UInt8>, observer: Observer, sourceScale: Float?)
    -> (scale: Float, inexact: Int)
  {
    let absmax = Float(bitPattern: sk_peak_f32(values, count))
    guard absmax > 0 else { return (1, inexact(under: 1, into: out, count)) }
    if let sourceScale, isExact(under: sourceScale, into: out) { return (sourceScale, 0) }
    let power = code.powerOfTwo(absmax)
    if isExact(under: power, into: out) { return (power, 0) }
    let scale = scale(observer, absmax)
    return (scale, inexact(under: scale, into: out, count))
  }

  private func isExact(under scale: Float, into out: UnsafeMutablePointer<UInt8>) -> Bool {
    inexact(under: scale, into: out, min(count, RowChooser.probe)) == 0
      && (count <= RowChooser.probe || inexact(under: scale, into: out, count) == 0)
  }

  private func inexact(under scale: Float, into out: UnsafeMutablePointer<UInt8>, _ count: Int) -> Int {
    code.encodeCounted(values, scale, out, count)
  }

  private func scale(_ observer: Observer, _ absmax: Float) -> Float {
    switch observer {
    case .absmax: return code.scale(of: absmax)
    case .percentile(let p):
      let rank = nearestRank(p, count: count)
      guard rank < count else { return code.scale(of: absmax) }
      let magnitude = spare.withMemoryRebound(to: UInt32.self, capacity: count) { bits in
        for index in 0..<count { bits[index] = values[index].bitPattern & 0x7FFF_FFFF }
        return Float(bitPattern: selected(rank, of: bits, count: count))
      }
      return code.scale(of: magnitude > 0 ? magnitude : absmax)  // most of the row is zero: clip nothing
    case .mse: return leastError(absmax)
    }
  }

  /// The best of a fixed list of candidates; the first of equals, absmax before all others.
  private func leastError(_ absmax: Float) -> Float {
    var best = code.scale(of: absmax)
    var least = code.error(values, importance, best, count)
    func consider(_ candidate: Float) -> Bool {
      guard candidate >= .leastNormalMagnitude, (candidate * code.largest).isFinite else { return false }
      let error = code.error(values, importance, candidate, count)
      guard error < least else { return false }
      (best, least) = (candidate, error)
      return true
    }
    switch code {
    case .int8:
      // Half a step costs the largest value no more than rounding does. Then clip: to 97 %, 94 % … 37 % of the
      // largest magnitude; then the percents beside the best.
      var percent = 100
      _ = consider(code.scale(of: absmax * (127 / 127.5)))
      for candidate in stride(from: 97, through: 37, by: -3) {
        if consider(code.scale(of: absmax * Float(candidate) / 100)) { percent = candidate }
      }
      for candidate in [percent - 2, percent - 1, percent + 1, percent + 2] where candidate < 100 {
        _ = consider(code.scale(of: absmax * Float(candidate) / 100))
      }
    case .e4m3:
      // A factor of two moves every code by one exponent, so that the octave above absmax ÷ 448 shows every way the
      // values can fall between codes; clipping costs more than it gains.
      let first = best
      _ = consider(code.powerOfTwo(absmax))
      for step in 1..<32 { _ = consider(first * (1 + Float(step) / 32)) }
    }
    return best
  }
}
