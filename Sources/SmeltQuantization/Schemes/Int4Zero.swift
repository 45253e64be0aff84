// 4-bit integers with a scale and a zero point for each group of columns. Formats/recipe.md, section 9.

internal import CKernels
internal import SmeltStorage
package import SmeltTensors

/// Codes 0…15 with a zero point of the same range, under a BF16 scale for each group of 128, 64 or 32 columns. Named `int4-zero`,
/// which takes the longest group that the columns are a multiple of, or `int4-zero:32` and so on; encoding `int4.group128.zero`
/// and so on.
///
/// A group's numbers from lo = min(0, least) to hi = max(0, greatest); value = (code − zero) × scale:
/// 1. a group of zeros gets scale 1 and zero point 8;
/// 2. the first of the smallest power of two ≥ (hi − lo) ÷ 15 and (hi − lo) ÷ 15 as BF16 under which every value is exact;
/// 3. the observer's choice: `absmax` (hi − lo) ÷ 15, as compressed-tensors has it; `percentile` the same of lo and hi cut to the
///    percentile of the magnitudes; `mse` the best of both ends × {1, 0.98, 0.96 … 0.5}, each cut alone and together.
///
/// The zero point is −lo ÷ scale, to nearest, ties to even, 0…15. Bound of the error, nothing clipped: a scale, and 2⁻⁹ of
/// the value. A source in the result's encoding is kept.
package struct Int4Zero: Scheme {
  /// Columns of a group.
  package let size: Int

  /// Groups of 128, or as the columns demand.
  package static let usual = Int4Zero(size: 128)

  /// Groups of a length of `Int4Group.sizes`.
  package init(size: Int) {
    precondition(Int4Group.sizes.contains(size), "groups of \(size)")
    self.size = size
  }

  /// The canonical name.
  package var name: String { size == 128 ? "int4-zero" : "int4-zero:\(size)" }
  /// Other tools' spellings.
  package var synonyms: [String] { ["W4A16_ASYM", "int4-zero:128"] }
  /// One line for help.
  package var summary: String {
    "INT4, a BF16 scale and a zero point for each \(size) columns; int4-zero:64 and int4-zero:32 too"
  }
  /// Values are rounded.
  package var isLossy: Bool { true }
  /// Values are encoded again.
  package var keepsBytes: Bool { false }
  /// The big matrices inside layers.
  package var reach: SchemeReach { .layerMatrices }

  /// The group encoding; tables of integers keep theirs.
  package func encoding(for source: any Encoding, shape: Shape) -> any Encoding {
    if source is IntegerTable { return source }
    guard let encoding = GroupedIntegers(.four, .group(size), hasZeroPoints: true) else {
      preconditionFailure("groups of \(size)")
    }
    return encoding
  }

  /// Scales are BF16.
  package func dtype(of part: PartLayout) -> DType { part.name == .scales ? .bf16 : part.dtypes[0] }

  /// Shorter groups where the columns are no multiple; none at all where they are not a multiple of 32.
  package func fallback(for source: any Encoding, shape: Shape) -> (scheme: any Scheme, why: String)? {
    shorterGroups(source, shape, size: size) { Int4Zero(size: $0) }
  }

  /// Chooses each group's scale and zero point and encodes the group under them.
  /// - Throws: `Q_CODE_NAN`, `STAT_MISMATCH`.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    throws -> RowReport
  {
    if weight.encoding is IntegerTable { return copyRows(weight, rows: rows, into: target) }
    guard let scales = target.scales, let zeros = target.others[.zeroPoints] else {
      preconditionFailure("\(name) needs places for scales and zero points")
    }
    let across = ceilDivide(weight.columns, size)
    return try forEachGroup(
      weight, rows: rows, size: size, .int4, options, codes: target.values
    ) { trial, row, group in
      let chosen = ZeroChooser(trial).encode(options.observer)
      let place = (row - rows.lowerBound) * across + group
      // SAFETY: two bytes of scale and one of zero point for each group of each row (`RowTarget`); not aligned.
      UnsafeMutableRawPointer(scales + place * 2).storeBytes(
        of: UInt16(chosen.scale.bitPattern >> 16).littleEndian, as: UInt16.self)
      zeros[place] = UInt8(chosen.zero)
      return chosen.inexact
    }
  }
}

/// Chooses scale and zero point of one group.
private struct ZeroChooser {
  let trial: GroupTrial
  /// The least and the greatest number, zero among them.
  let low: Float
  let high: Float

  init(_ trial: GroupTrial) {
    self.trial = trial
    var (low, high): (Float, Float) = (0, 0)
    for index in 0..<trial.count {
      low = min(low, trial.values[index])
      high = max(high, trial.values[index])
    }
    (self.low, self.high) = (low, high)
  }

  func encode(_ observer: Observer) -> (scale: Float, zero: Float, inexact: Int) {
    guard high > low else { return (1, 8, inexact(1, 8)) }
    let range = high / 15 - low / 15
    for scale in [powerNotBelow(range), usable(range)] {
      let zero = zeroPoint(low, scale)
      if inexact(scale, zero) == 0 { return (scale, zero, 0) }
    }
    var best = pair(low, high)
    if case .percentile = observer {
      let magnitude = trial.magnitude(observer, max(-low, high))
      best = pair(max(low, -magnitude), min(high, magnitude))
    }
    if observer == .mse {
      var least = error(best.scale, best.zero)
      for step in 1...25 {
        let factor = 1 - Float(step) / 50
        for (low, high) in [(low * factor, high * factor), (low * factor, high), (low, high * factor)] {
          let candidate = pair(low, high)
          let error = error(candidate.scale, candidate.zero)
          if error < least { (best, least) = (candidate, error) }
        }
      }
    }
    return (best.scale, best.zero, inexact(best.scale, best.zero))
  }

  private func pair(_ low: Float, _ high: Float) -> (scale: Float, zero: Float) {
    let scale = usable(high / 15 - low / 15)
    return (scale, zeroPoint(low, scale))
  }

  private func zeroPoint(_ low: Float, _ scale: Float) -> Float {
    min(15, max(0, (-low / scale).rounded(.toNearestOrEven)))
  }

  /// The nearest BF16 that is a normal number and makes no code infinite.
  private func usable(_ scale: Float) -> Float {
    let bits = max(scale, .leastNormalMagnitude).bitPattern
    var result = Float(bitPattern: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) & 0xFFFF_0000)
    while !(result * 15).isFinite { result = Float(bitPattern: result.bitPattern - 0x1_0000) }
    return result
  }

  private func code(_ index: Int, _ scale: Float, _ zero: Float) -> Float {
    min(15, max(0, (trial.values[index] / scale).rounded(.toNearestOrEven) + zero))
  }

  /// Writes the codes.
  /// - Returns: how many values changed.
  private func inexact(_ scale: Float, _ zero: Float) -> Int {
    // SAFETY: a group has an even number of columns, and half as many bytes of codes (`GroupTrial`).
    for pair in 0..<trial.count / 2 {
      trial.codes[pair] =
        UInt8(code(2 * pair, scale, zero)) | UInt8(code(2 * pair + 1, scale, zero)) << 4
    }
    sk_decode_int4(trial.codes, zero, scale, trial.spare, trial.count)
    return sk_count_different(trial.values, trial.spare, trial.count)
  }

  private func error(_ scale: Float, _ zero: Float) -> Double {
    var sum = 0.0
    for index in 0..<trial.count {
      let distance = Double(trial.values[index] - (code(index, scale, zero) - zero) * scale)
      sum += Double(trial.importance?[index] ?? 1) * distance * distance
    }
    return sum
  }
}
