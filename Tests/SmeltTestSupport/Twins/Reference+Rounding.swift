// Slow twins of the kernels that hold stored numbers against their source. `CodeGrid` says what they are for.

extension Reference {
  /// What a check found: numbers beyond their bound, numbers outside the codes' range, and the furthest of those.
  package struct Rounding: Equatable, Sendable {
    /// Further off than allowed.
    package var beyond = 0
    /// Outside the range by more than rounding.
    package var clipped = 0
    /// The furthest outside.
    package var furthest: Float = 0

    /// Counts of known values.
    package init(beyond: Int = 0, clipped: Int = 0, furthest: Float = 0) {
      self.beyond = beyond
      self.clipped = clipped
      self.furthest = furthest
    }

    mutating func add(_ distance: Float, half: Float, out: Float, slack: Float) {
      if !(distance <= max(out, half) * 1.000244140625 + slack) { beyond += 1 }
      if out > half * 1.000244140625 + slack { clipped += 1 }
      furthest = max(furthest, out)
    }
  }

  /// `sk_check_even`: codes for numbers 2 × half apart from low to high.
  package static func checkEven(
    _ a: [Float], _ b: [Float], half: Float, low: Float, high: Float, slack: Float
  ) -> Rounding {
    zip(a, b).reduce(into: Rounding()) {
      $0.add(abs($1.0 - $1.1), half: half, out: max($1.0 - high, low - $1.0), slack: slack)
    }
  }

  /// `sk_check_binary`: codes for binary floats times scale.
  package static func checkBinary(
    _ a: [Float], _ b: [Float], scale: Float, mantissa: Int, least: Float, most: Float, slack: Float
  ) -> Rounding {
    zip(a, b).reduce(into: Rounding()) {
      let t = min(max($1.0.magnitude * (1 / scale), least), most)
      let half = Float(sign: .plus, exponent: t.exponent - mantissa - 1, significand: 1) * scale
      $0.add(abs($1.0 - $1.1), half: half, out: $1.0.magnitude - most * scale, slack: slack)
    }
  }

  /// `sk_check_table`: codes for a table's numbers times scale.
  package static func checkTable(_ a: [Float], _ b: [Float], _ table: [Float], scale: Float, slack: Float)
    -> Rounding
  {
    let values = table.map { $0 * scale }
    return zip(a, b).reduce(into: Rounding()) { sum, pair in
      let nearest = values.reduce(Float.infinity) { min($0, abs(pair.0 - $1)) }
      if !(abs(pair.0 - pair.1) <= nearest * 1.000244140625 + slack) { sum.beyond += 1 }
      let out = max(pair.0 - (values.max() ?? 0), (values.min() ?? 0) - pair.0)
      if out > slack { sum.clipped += 1 }
      sum.furthest = max(sum.furthest, out)
    }
  }
}
