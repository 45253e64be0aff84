// 4-bit integers with a scale for each group of columns. Formats/recipe.md, section 9.

internal import CKernels
internal import SmeltStorage
package import SmeltTensors

/// Codes -8…7 under a BF16 scale for each group of 128, 64 or 32 columns. Named `int4-group`, which takes the longest group that
/// the columns are a multiple of, or `int4-group:32` and so on; encoding `int4.group128` and so on.
///
/// A group's scale, rounded to BF16, which is the type that engines multiply by:
/// 1. a group of zeros gets scale 1;
/// 2. the first of the smallest power of two ≥ absmax ÷ 8, absmax ÷ 7 and absmax ÷ 8 under which every value is exact;
/// 3. the observer's choice: `absmax` absmax ÷ 7.5 (the middle of the range, as compressed-tensors has it), `percentile` the
///    same of the percentile, `mse` the best of absmax ÷ 7.5 × {1, 15/14, 15/16, 0.95, 0.925 … 0.5}, then twice the
///    least-squares scale of the codes it gives, as long as that helps.
///
/// Bound of the error, nothing clipped: half a scale and 2⁻⁹ of the value. A source in the result's encoding is kept.
package struct Int4Group: Scheme {
  /// The lengths of groups there are, the usual one first.
  package static let sizes = [128, 64, 32]

  /// Columns of a group.
  package let size: Int

  /// Groups of 128, or as the columns demand.
  package static let usual = Int4Group(size: 128)

  /// Groups of a length of `sizes`.
  package init(size: Int) {
    precondition(Int4Group.sizes.contains(size), "groups of \(size)")
    self.size = size
  }

  /// The canonical name.
  package var name: String { size == 128 ? "int4-group" : "int4-group:\(size)" }
  /// Other tools' spellings.
  package var synonyms: [String] { ["W4A16", "int4", "int4-group:128"] }
  /// One line for help.
  package var summary: String {
    "INT4, a BF16 scale for each \(size) columns; int4-group:64 and int4-group:32 for shorter groups"
  }
  /// Values are rounded.
  package var isLossy: Bool { true }
  /// Values are encoded again.
  package var keepsBytes: Bool { false }
  /// The big matrices inside layers.
  package var reach: SchemeReach { .layerMatrices }
  /// The least error.
  package var usualObserver: Observer { .mse }

  /// The group encoding; tables of integers keep theirs.
  package func encoding(for source: any Encoding, shape: Shape) -> any Encoding {
    if source is IntegerTable { return source }
    guard let encoding = GroupedIntegers(.four, .group(size)) else {
      preconditionFailure("groups of \(size)")
    }
    return encoding
  }

  /// Scales are BF16.
  package func dtype(of part: PartLayout) -> DType { part.name == .scales ? .bf16 : part.dtypes[0] }

  /// Shorter groups where the columns are no multiple; none at all where they are not a multiple of 32.
  package func fallback(for source: any Encoding, shape: Shape) -> (scheme: any Scheme, why: String)? {
    shorterGroups(source, shape, size: size) { Int4Group(size: $0) }
  }

  /// Chooses each group's scale and encodes the group under it.
  /// - Throws: `Q_CODE_NAN`, `STAT_MISMATCH`.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    throws -> RowReport
  {
    if weight.encoding is IntegerTable { return copyRows(weight, rows: rows, into: target) }
    guard let scales = target.scales else { preconditionFailure("\(name) needs a place for scales") }
    let across = ceilDivide(weight.columns, size)
    return try forEachGroup(
      weight, rows: rows, size: size, .int4, options, codes: target.values
    ) { trial, row, group in
      let (scale, inexact) = encode(trial, options.observer)
      // SAFETY: two bytes for each group of each row (`RowTarget`); not aligned.
      UnsafeMutableRawPointer(scales + ((row - rows.lowerBound) * across + group) * 2).storeBytes(
        of: UInt16(scale.bitPattern >> 16).littleEndian, as: UInt16.self)
      return inexact
    }
  }

  private func encode(_ trial: GroupTrial, _ observer: Observer) -> (scale: Float, inexact: Int) {
    let absmax = trial.absmax
    guard absmax > 0 else { return (1, trial.inexact(under: 1)) }
    for scale in [powerNotBelow(absmax / 8), usable(absmax / 7), usable(absmax / 8)] {
      if trial.isExact(under: scale) { return (scale, 0) }
    }
    var best = usable(trial.magnitude(observer, absmax) / 7.5)
    if observer == .mse {
      var least = trial.error(under: best)
      let first = absmax / 7.5
      func consider(_ candidate: Float) -> Bool {
        let error = trial.error(under: candidate)
        guard error < least else { return false }
        (best, least) = (candidate, error)
        return true
      }
      for factor in Int4Group.factors { _ = consider(usable(first * factor)) }
      for _ in 0..<2 {
        guard let fitted = trial.fitted(under: best), consider(usable(fitted)) else { break }
      }
    }
    return (best, trial.inexact(under: best))
  }

  private static let factors: [Float] =
    [15 / 14, 15 / 16] + stride(from: 950, through: 500, by: -25).map { Float($0) / 1000 }

  /// The nearest BF16 that is a normal number and makes no code infinite.
  private func usable(_ scale: Float) -> Float {
    let scale = max(scale, .leastNormalMagnitude)
    let bits = scale.bitPattern
    let rounded = (bits &+ 0x7FFF &+ (bits >> 16 & 1)) & 0xFFFF_0000
    var result = Float(bitPattern: rounded)
    while !(result * 8).isFinite { result = Float(bitPattern: result.bitPattern - 0x1_0000) }
    return result
  }
}
