// What the windows of a comparison sum up to, one by one: intervals are drawn from these, and the figures of several texts are told by them.

/// What is drawn: sums of one window.
struct WindowSums {
  var tokens = 0.0
  var divergence = 0.0
  /// Tokens that another one precedes, and the losses of both sides there.
  var predicted = 0.0
  var source = 0.0
  var result = 0.0

  var isFinite: Bool { (divergence + source + result).isFinite }

  mutating func add(_ other: WindowSums) {
    tokens += other.tokens
    divergence += other.divergence
    predicted += other.predicted
    source += other.source
    result += other.result
  }

  /// The sums of all windows in their order; none where the figures are of other windows.
  /// - Parameters:
  ///   - lengths: tokens of each window.
  ///   - divergences: of each token, window by window; `losses` of each that another one precedes.
  static func all(
    _ lengths: [Int], divergences: [Double], losses: (source: [Double], result: [Double])
  ) -> [WindowSums] {
    let predicted = lengths.map { max(0, $0 - 1) }
    guard lengths.reduce(0, +) == divergences.count,
      predicted.reduce(0, +) == losses.source.count, losses.result.count == losses.source.count
    else { return [] }
    var (token, loss) = (0, 0)
    return zip(lengths, predicted).map { length, predicted -> WindowSums in
      defer {
        token += length
        loss += predicted
      }
      return WindowSums(
        tokens: Double(length), divergence: divergences[token..<token + length].reduce(0, +),
        predicted: Double(predicted), source: losses.source[loss..<loss + predicted].reduce(0, +),
        result: losses.result[loss..<loss + predicted].reduce(0, +))
    }
  }
}
