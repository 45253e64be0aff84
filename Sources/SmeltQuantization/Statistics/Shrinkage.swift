// How far an importance is believed: Formats/statistics.md, section 4.

/// Draws the importances of each row group towards their mean, the more the less is known of them.
///
/// A channel's `mean_square` v is an estimate from n tokens; the variance of such an estimate is (E x⁴ − v²) ÷ n, which for normal
/// values is 2 v² ÷ n. E x⁴ is at most a² v, a the largest magnitude, which overstates it: of n normal values a² is about 2 ln(2 n) v,
/// or 1.4 v for each binary digit of n, where E x⁴ is 3 v². So 3 a² v ÷ (1.4 × digits) stands for E x⁴, and no less than normal values
/// have; where a is not known, what normal values have is
/// taken. With τ² the variance of the group's v less the mean of these, and not below 0, a channel becomes
/// mean + (v − mean) × τ² ÷ (τ² + its own variance): the estimator with the least expected square error for values that scatter by τ²
/// around a common mean. An importance that one token brought is hardly believed, one of many thousand is left as it is; and
/// importances that scatter no more than so few tokens would make them become all the same.
/// Source: James, Stein, "Estimation with Quadratic Loss", 1961, in the form of Efron, Morris, 1973, for unequal variances.
/// - Parameters:
///   - squares: mean squares, [groups, columns]; finite, not negative.
///   - absmax: the largest magnitudes, in the same order, where they are known.
///   - counts: tokens of each group, each above 0.
/// - Returns: importances, [groups, columns].
func shrunkImportances(_ squares: [Float], absmax: [Float]?, counts: [Int]) -> [Float] {
  let columns = squares.count / max(1, counts.count)
  guard columns > 1 else { return squares }
  var result = squares
  for (group, tokens) in counts.enumerated() {
    let range = group * columns..<(group + 1) * columns
    let mean = range.reduce(0.0) { $0 + Double(squares[$1]) } / Double(columns)
    // Binary digits in place of a logarithm, whose last bits are each machine's own.
    let tail = 3 / (1.4 * Double(Int.bitWidth - tokens.leadingZeroBitCount))
    func noise(_ index: Int) -> Double {
      let v = Double(squares[index])
      let largest = absmax.map { Double($0[index]) } ?? 0
      return v * max(2 * v, largest * largest * tail - v) / Double(tokens)
    }
    var (scatter, noises) = (0.0, 0.0)
    for index in range {
      let distance = Double(squares[index]) - mean
      scatter += distance * distance
      noises += noise(index)
    }
    let between = max(0, scatter - noises) / Double(columns)
    for index in range {
      let own = noise(index)
      guard own > 0 else { continue }
      result[index] = Float(mean + (Double(squares[index]) - mean) * (between / (between + own)))
    }
  }
  return result
}
