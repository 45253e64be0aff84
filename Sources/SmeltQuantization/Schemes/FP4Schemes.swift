// 4-bit floats: MXFP4 and NVFP4. Formats/recipe.md, section 9.

internal import CKernels
internal import SmeltStorage
package import SmeltTensors

/// E2M1 codes under a power of two for each 32 columns. Named `mxfp4`, encoding `mxfp4`; GGUF results store the same numbers
/// as `mxfp4.gguf`.
///
/// A group's scale, from 2⁻¹²⁶:
/// 1. a group of zeros gets scale 1;
/// 2. a group of GGUF's `mxfp4.gguf` keeps its scale; else the smallest power of two ≥ absmax ÷ 6, when every value is exact
///    under it; its double where it is absmax ÷ 6 itself and every value is exact under the double too;
/// 3. `absmax`: a quarter of the largest power of two ≤ absmax × 8/7, so that up to 7 becomes 6, as compressed-tensors
///    has it; `percentile`: the same of the percentile; `mse`: the best of it, its double and its half.
///
/// A source in MXFP4 is kept.
package struct MXFP4Scheme: Scheme {
  /// The only one there is.
  package init() {}

  /// The canonical name.
  package var name: String { "mxfp4" }
  /// Other tools' spellings.
  package var synonyms: [String] { ["MXFP4A16"] }
  /// One line for help.
  package var summary: String { "FP4 E2M1, a power of two for each 32 columns; exact for FP4 sources" }
  /// Values are rounded.
  package var isLossy: Bool { true }
  /// Values are encoded again.
  package var keepsBytes: Bool { false }
  /// The big matrices inside layers.
  package var reach: SchemeReach { .layerMatrices }

  /// `mxfp4`; tables of integers keep theirs.
  package func encoding(for source: any Encoding, shape: Shape) -> any Encoding {
    source is IntegerTable ? source : FP4.mxfp4
  }

  /// The source as it is where it is FP4 already or its columns are not a multiple of 32.
  package func fallback(for source: any Encoding, shape: Shape) -> (scheme: any Scheme, why: String)? {
    if source is IntegerTable { return nil }
    if source is FP4 { return (Keep(), "is mxfp4 already") }
    guard shape.columns % FP4.group != 0 else { return nil }
    return (Keep(), "kept: \(shape.columns) columns are not a multiple of \(FP4.group)")
  }

  /// Chooses each group's scale and encodes the group under it.
  /// - Throws: `Q_CODE_NAN`, `STAT_MISMATCH`.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    throws -> RowReport
  {
    if weight.encoding is IntegerTable || weight.encoding is FP4 {
      return copyRows(weight, rows: rows, into: target)
    }
    guard let scales = target.scales else { preconditionFailure("\(name) needs a place for scales") }
    let across = weight.columns / FP4.group
    let blocks = weight.encoding as? GGUFBlock == GGUFBlock(.mxfp4) ? weight.values.bytes : nil
    return try forEachGroup(
      weight, rows: rows, size: FP4.group, .e2m1, options, codes: target.values
    ) { trial, row, group in
      let place = (row * across + group) * GGUFBlock(.mxfp4).bytes
      let own = blocks.map { $0.withUnsafeBytes { E8M0.value($0[place]) } }
      let (scale, inexact) = encode(trial, options.observer, own)
      scales[(row - rows.lowerBound) * across + group] = E8M0.code(of: scale) ?? 0
      return inexact
    }
  }

  private func encode(_ trial: GroupTrial, _ observer: Observer, _ own: Float?) -> (
    scale: Float, inexact: Int
  ) {
    let absmax = trial.absmax
    let power = absmax > 0 ? powerNotBelow(absmax / FP4.largest) : 1
    // A writer that rounds scales up leaves 6 to codes that were rounded down from above, see the page.
    let double = power * FP4.largest == absmax ? power * 2 : nil
    for scale in [own, double, power] {
      if let scale, trial.isExact(under: scale) { return (scale, 0) }
    }
    var best = scale(of: trial.magnitude(observer, absmax))
    if observer == .mse {
      var least = trial.error(under: best)
      for candidate in [best * 2, best / 2] where (candidate * FP4.largest).isFinite {
        let error = trial.error(under: candidate)
        if candidate >= .leastNormalMagnitude, error < least { (best, least) = (candidate, error) }
      }
    }
    return (best, trial.inexact(under: best))
  }

  private func scale(of magnitude: Float) -> Float {
    // Adding a quarter of the leading bit carries into the exponent from 1.75 on.
    let power = Float(bitPattern: (magnitude.bitPattern + 1 << 21) & 0x7F80_0000)
    return max((power.isFinite ? power : 0x1p127) / 4, .leastNormalMagnitude)
  }
}

/// E2M1 codes under an E4M3 scale for each 16 columns, which one float for the whole weight divides. Named `nvfp4`,
/// encoding `nvfp4.divided`.
///
/// The parts of a matrix that engines fuse (query, key and value; gate and up) have one global scale, chosen for all of them.
/// The global scale is a power of two when every value of the weight is exact under it and power-of-two group scales (sources of
/// MXFP4 whose scales span at most 17 octaves are); else 448 × 6 ÷ absmax. A group's scale is E4M3(absmax ÷ 6 × global), not below 2⁻⁹;
/// `percentile` takes the percentile for absmax; `mse` takes the best of the codes from six below it to eight above: eight codes are
/// an octave, so that the largest value may have any of E2M1's codes from 3 on, or be clipped. Four-over-six (Cook et al., "Four Over Six:
/// More Accurate NVFP4 Quantization with Adaptive Block Scaling", 2025) is the choice between the first and the one for 4. A
/// group of zeros gets code 0x38. A source in NVFP4 is kept.
package struct NVFP4Scheme: Scheme {
  /// The only one there is.
  package init() {}

  /// The canonical name.
  package var name: String { "nvfp4" }
  /// Other tools' spellings.
  package var synonyms: [String] { ["NVFP4A16"] }
  /// One line for help.
  package var summary: String { "FP4 E2M1, an E4M3 scale for each 16 columns and one for all" }
  /// Values are rounded.
  package var isLossy: Bool { true }
  /// Values are encoded again.
  package var keepsBytes: Bool { false }
  /// The big matrices inside layers.
  package var reach: SchemeReach { .layerMatrices }
  /// The least error.
  package var usualObserver: Observer { .mse }

  /// `nvfp4.divided`; tables of integers keep theirs.
  package func encoding(for source: any Encoding, shape: Shape) -> any Encoding {
    source is IntegerTable ? source : NVFP4.divided
  }

  /// The source as it is where it is NVFP4 already or its columns are not a multiple of 16.
  package func fallback(for source: any Encoding, shape: Shape) -> (scheme: any Scheme, why: String)? {
    if source is IntegerTable { return nil }
    if source is NVFP4 { return (Keep(), "is \(source.name) already") }
    guard shape.columns % NVFP4.group != 0 else { return nil }
    return (Keep(), "kept: \(shape.columns) columns are not a multiple of \(NVFP4.group)")
  }

  /// Engines keep one global scale of a fused matrix: vLLM the largest of q, k and v, and gate's for gate and up.
  package var sharesSurvey: Bool { true }

  /// The global scale.
  /// - Throws: `Q_CODE_NAN`.
  package func survey(_ parts: [SurveyPart]) throws -> Float? {
    var absmax: Float = 0
    for weight in parts.map(\.weight) {
      let columns = weight.columns
      try forEachDecodedRow(weight, rows: 0..<weight.rows, spareRows: 0) { _, values, _ in
        absmax = max(absmax, sk_absmax_f32(values, columns))
      }
    }
    guard absmax > 0 else { return 1 }
    let power = 256 / powerNotBelow(absmax / FP4.largest)
    if power.isNormal, try parts.allSatisfy({ try isExact($0.weight, under: power) }) { return power }
    let global = 448 * FP4.largest / absmax
    return global.isFinite ? global : 1
  }

  private func isExact(_ weight: Weight, under global: Float) throws -> Bool {
    let columns = weight.columns
    // SAFETY: room for the codes of sixteen rows, twice over; freed on every way out.
    let codes = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, 16 * columns))
    defer { codes.deallocate() }
    for first in stride(from: 0, to: weight.rows, by: 16) {
      let report = try forEachGroup(
        weight, rows: first..<min(weight.rows, first + 16), size: NVFP4.group, .e2m1, QuantizeOptions(),
        codes: codes
      ) { trial, _, _ in
        powerCode(trial.absmax, global).map { trial.inexact(under: NVFP4Scheme.scale($0, global)) } ?? 1
      }
      if report.inexactValues > 0 { return false }
    }
    return true
  }

  /// The code of the smallest power of two ≥ absmax ÷ 6 under a power-of-two global scale, where E4M3 has it.
  private func powerCode(_ absmax: Float, _ global: Float) -> UInt8? {
    guard absmax > 0 else { return 0x38 }
    let scaled = powerNotBelow(absmax / FP4.largest) * global
    let code = NVFP4Scheme.code(of: scaled)
    return code > 0 && NVFP4Scheme.scale(code, 1) == scaled ? code : nil
  }

  static func code(of value: Float) -> UInt8 {
    var (value, code): (Float, UInt8) = (value, 0)
    sk_encode_e4m3(&value, 1, &code, 1)
    return code
  }

  /// The scale codes worth trying where `code` is that of the largest magnitude ÷ 6, in ascending order.
  static func around(_ code: Int) -> ClosedRange<Int> { max(1, code - 6)...min(0x7E, code + 8) }

  /// What a group's codes are multiplied by.
  static func scale(_ code: UInt8, _ global: Float) -> Float {
    var (code, value): (UInt8, Float) = (code, 0)
    sk_decode_e4m3(&code, 1, &value, 1)
    return value / global
  }

  /// Chooses each group's scale and encodes the group under it.
  /// - Throws: `Q_CODE_NAN`, `STAT_MISMATCH`.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    throws -> RowReport
  {
    if weight.encoding is IntegerTable { return copyRows(weight, rows: rows, into: target) }
    guard let scales = target.scales, let global = try options.surveyed ?? survey(weight, options: options)
    else { preconditionFailure("\(name) needs a place for scales") }
    let across = weight.columns / NVFP4.group
    let report = try forEachGroup(
      weight, rows: rows, size: NVFP4.group, .e2m1, options, codes: target.values
    ) { trial, row, group in
      let (code, inexact) = encode(trial, options.observer, global)
      scales[(row - rows.lowerBound) * across + group] = code
      return inexact
    }
    if rows.lowerBound == 0, let place = target.global {
      UnsafeMutableRawPointer(place).storeBytes(of: global.bitPattern.littleEndian, as: UInt32.self)
    }
    return report
  }

  private func encode(_ trial: GroupTrial, _ observer: Observer, _ global: Float) -> (
    code: UInt8, inexact: Int
  ) {
    let absmax = trial.absmax
    func inexact(_ code: UInt8) -> Int { trial.inexact(under: NVFP4Scheme.scale(code, global)) }
    guard absmax > 0 else { return (0x38, inexact(0x38)) }
    if global.significand == 1, let code = powerCode(absmax, global), inexact(code) == 0 { return (code, 0) }
    let wanted = trial.magnitude(observer, absmax) / FP4.largest * global
    var best = max(1, NVFP4Scheme.code(of: wanted))
    if observer == .mse {
      var least = trial.error(under: NVFP4Scheme.scale(best, global))
      let first = Int(best)
      for candidate in NVFP4Scheme.around(first) where candidate != first {
        let error = trial.error(under: NVFP4Scheme.scale(UInt8(candidate), global))
        if error < least { (best, least) = (UInt8(candidate), error) }
      }
    }
    return (best, inexact(best))
  }
}
