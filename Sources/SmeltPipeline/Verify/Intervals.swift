// How sure the figures of a text are: intervals by a block bootstrap over the windows. Windows are drawn whole, since the tokens
// of a window depend on each other.

import SmeltStorage

extension Report {
  /// Where a figure lies in 95 of 100 texts of this kind, as far as this text's windows tell.
  package struct Interval: Sendable, Equatable {
    /// A share of 0.025 of the draws lies below.
    package var low: Double
    /// A share of 0.025 of the draws lies above.
    package var high: Double

    /// For machines.
    static func json(_ interval: Interval?) -> JSON {
      [
        "low": interval.map { JSON($0.low) } ?? JSON(.null),
        "high": interval.map { JSON($0.high) } ?? JSON(.null),
      ]
    }
  }

  /// The intervals of a comparison.
  package struct Intervals: Sendable {
    /// Windows that were drawn from.
    package var windows: Int
    /// Of the mean KL divergence.
    package var kl: Interval
    /// Of the source's perplexity.
    package var source: Interval
    /// Of the result's.
    package var result: Interval
    /// Of the result's perplexity divided by the source's, both of the same windows.
    package var ratio: Interval
  }
}

// Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 8 (blocks) and 13 (percentiles).
extension Report.Intervals {
  /// Draws of as many windows as there are.
  static let draws = 2000

  /// The intervals of some windows together; nil for fewer than two, which say nothing of each other, for windows of one token, and where a
  /// figure is not finite.
  init?(_ sums: [WindowSums]) {
    guard sums.count > 1, sums.allSatisfy({ $0.isFinite && $0.predicted > 0 }) else { return nil }
    var random = SplitMix64(seed: 0)
    var found = (kl: [Double](), source: [Double](), result: [Double](), ratio: [Double]())
    for _ in 0..<Self.draws {
      var drawn = WindowSums()
      for _ in sums.indices { drawn.add(sums[random.below(sums.count)]) }
      found.kl.append(drawn.divergence / drawn.tokens)
      found.source.append(exponential(drawn.source / drawn.predicted))
      found.result.append(exponential(drawn.result / drawn.predicted))
      found.ratio.append(exponential((drawn.result - drawn.source) / drawn.predicted))
    }
    windows = sums.count
    kl = Self.interval(found.kl)
    source = Self.interval(found.source)
    result = Self.interval(found.result)
    ratio = Self.interval(found.ratio)
  }

  private static func interval(_ values: [Double]) -> Report.Interval {
    let sorted = values.sorted()
    return Report.Interval(
      low: Metrics.percentile(sorted, 0.025), high: Metrics.percentile(sorted, 0.975))
  }
}
