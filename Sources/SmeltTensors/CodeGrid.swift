// What rounding to nearest may cost under the scales that are stored. Proving a result asks this of every number: it does
// not believe the codes, only the scales, and those are held against the numbers they are for.

internal import CKernels

/// The numbers that the codes of a run of columns can stand for.
package struct CodeGrid: Sendable {
  enum Spacing: Sendable {
    /// Evenly spaced from `low` to `high`.
    case even(half: Float, low: Float, high: Float)
    /// Binary floats times `scale`, which is above zero: `mantissa` bits, normal from `least` on, at most `most`.
    case binary(scale: Float, mantissa: Int, least: Float, most: Float)
    /// Numbers of a table times `scale`.
    case table([Float], scale: Float)
  }

  let spacing: Spacing
  /// What is allowed beside half a step: where codes are chosen before their scale is rounded to F16.
  let slack: Float
  /// How far outside the codes' range a number may lie, as far as a writer that chooses scales with care lets it: beyond
  /// that it was not this number that the scale was chosen for.
  let reach: Float

  /// Numbers 2 × `half` apart; `low` and `high` may come in either order.
  static func even(step: Float, _ low: Float, _ high: Float, slack: Float = 0, reach: Float? = nil)
    -> CodeGrid
  {
    let (low, high) = (min(low, high), max(low, high))
    return CodeGrid(
      spacing: .even(half: abs(step) / 2, low: low, high: high), slack: slack, reach: reach ?? (high - low))
  }

  /// Binary floats; a scale of zero leaves zero alone.
  static func binary(scale: Float, mantissa: Int, least: Float, most: Float, reach: Float? = nil) -> CodeGrid
  {
    guard scale > 0 else { return even(step: 0, 0, 0, reach: reach) }
    return CodeGrid(
      spacing: .binary(scale: scale, mantissa: mantissa, least: least, most: most), slack: 0,
      reach: reach ?? 2 * most * scale)
  }

  /// E4M3 codes times a scale.
  static func e4m3(_ scale: Float) -> CodeGrid { binary(scale: scale, mantissa: 3, least: 0x1p-6, most: 448) }
  /// E5M2 codes times a scale.
  static func e5m2(_ scale: Float) -> CodeGrid {
    binary(scale: scale, mantissa: 2, least: 0x1p-14, most: 57_344)
  }

  /// Numbers beside what is stored for them.
  /// - Parameters:
  ///   - a: the numbers.
  ///   - b: what the codes decode to.
  package func check(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, count: Int) -> RoundingCheck {
    // SAFETY: `a` and `b` must hold `count` floats each, which are read only; a table is an array lent for the call.
    let found =
      switch spacing {
      case .even(let half, let low, let high): sk_check_even(a, b, half, low, high, slack, count)
      case .binary(let scale, let mantissa, let least, let most):
        sk_check_binary(a, b, scale, Int32(mantissa), least, most, slack, count)
      case .table(let table, let scale): sk_check_table(a, b, table, table.count, scale, slack, count)
      }
    return RoundingCheck(
      beyond: found.beyond, clipped: found.clipped, farClipped: found.furthest > reach ? found.clipped : 0)
  }

  /// How far from a number its stored one may lie: half a step of the codes where the number is, or the way to the end of
  /// their range.
  package func allowed(_ a: Float) -> Float {
    switch spacing {
    case .even(let half, let low, let high): max(half, a - high, low - a) + slack
    case .binary(let scale, let mantissa, let least, let most):
      max(
        CodeGrid.half(a.magnitude / scale, mantissa: mantissa, least: least, most: most) * scale,
        a.magnitude - most * scale)
    case .table(let table, let scale): table.reduce(.infinity) { min($0, abs(a - $1 * scale)) } + slack
    }
  }

  /// The same, as far as a number may lie outside the range at all.
  package func bound(_ a: Float) -> Float {
    let allowed = allowed(a)
    return allowed > reach && !(outside(a) <= reach) ? reach : allowed
  }

  /// How far a number lies outside the range of the codes; negative inside it.
  private func outside(_ a: Float) -> Float {
    switch spacing {
    case .even(_, let low, let high): max(a - high, low - a)
    case .binary(let scale, _, _, let most): a.magnitude - most * scale
    case .table(let table, let scale):
      max(a - (table.max() ?? 0) * scale.magnitude, (table.min() ?? 0) * scale.magnitude - a)
    }
  }

  /// Half the distance of neighbours in the binade of a magnitude.
  private static func half(_ magnitude: Float, mantissa: Int, least: Float, most: Float) -> Float {
    let binade = Float(
      sign: .plus, exponent: min(max(magnitude, least), most).exponent - mantissa - 1, significand: 1)
    return binade
  }
}

/// What was found of numbers beside those stored for them.
package struct RoundingCheck: Sendable, Hashable {
  /// Numbers further from their source than rounding to nearest puts them.
  package var beyond = 0
  /// Numbers outside the range of the codes.
  package var clipped = 0
  /// Those of them in runs where one lies so far outside that the scale is not theirs.
  package var farClipped = 0

  /// Nothing found.
  package init() {}

  init(beyond: Int, clipped: Int, farClipped: Int) {
    self.beyond = beyond
    self.clipped = clipped
    self.farClipped = farClipped
  }

  /// Adds what was found of other numbers.
  package static func += (a: inout RoundingCheck, b: RoundingCheck) {
    a.beyond += b.beyond
    a.clipped += b.clipped
    a.farClipped += b.farClipped
  }
}
