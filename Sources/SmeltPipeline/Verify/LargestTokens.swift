// The tokens where source and result are furthest apart, and what each side thought would come next.

import SmeltModels
import SmeltTensors

/// The tokens of the largest divergence, found while the logits pass by: as many as a page shows, whatever the text's length.
struct LargestTokens {
  /// How many are kept.
  static let most = 12
  /// How many next tokens of each side are kept for each.
  static let guessCount = 3

  /// One token.
  struct Entry {
    /// Its place among all tokens of the comparison.
    var token: Int
    var divergence: Double
    /// Ids of the likeliest next tokens with their probabilities, the likeliest first.
    var source: [(id: Int, probability: Double)]
    var result: [(id: Int, probability: Double)]
    /// What each side gave to the token that does follow; nil at the end of a window.
    var next: (source: Double, result: Double)?
  }

  /// The largest first, the earlier first of equals.
  private(set) var entries: [Entry] = []

  /// Looks at some tokens in order.
  /// - Parameters:
  ///   - first: the place of the first of them among all tokens.
  ///   - range: their places in the batch.
  mutating func add(
    _ found: [Metrics.Agreement], _ a: Matrix, _ b: Matrix, first: Int, _ range: Range<Int>,
    _ batch: TokenBatch
  ) {
    for (row, agreement) in found.enumerated() {
      // Zero is no divergence, and what is not a number is a fault of its own.
      guard agreement.divergence.isFinite, agreement.divergence > 0,
        entries.count < LargestTokens.most || agreement.divergence > entries[entries.count - 1].divergence
      else { continue }
      let follower = batch.follower(of: range.lowerBound + row)
      let (source, next) = LargestTokens.guesses(a, row, agreement.totals.source, follower)
      let (result, other) = LargestTokens.guesses(b, row, agreement.totals.result, follower)
      let entry = Entry(
        token: first + row, divergence: agreement.divergence, source: source, result: result,
        next: follower == nil ? nil : (next, other))
      insert(entry)
    }
  }

  /// Takes a token that comes behind all that were taken, if it is among the furthest apart.
  mutating func insert(_ entry: Entry) {
    let rank = entries.firstIndex { $0.divergence < entry.divergence } ?? entries.count
    entries.insert(entry, at: rank)
    if entries.count > LargestTokens.most { entries.removeLast() }
  }

  private static func guesses(_ logits: Matrix, _ row: Int, _ total: Double, _ follower: Int?)
    -> ([(id: Int, probability: Double)], Double)
  {
    Metrics.withRow(logits, row) { values in
      func probability(_ id: Int) -> Double { exponential(Double(values[id]) - total) }
      return (
        Metrics.top(values, guessCount).map { (id: $0, probability: probability($0)) },
        follower.map(probability) ?? 0
      )
    }
  }
}
