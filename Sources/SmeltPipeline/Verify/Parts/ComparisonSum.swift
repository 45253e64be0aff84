// Comparisons of runs of windows, added up to the comparison of all of them: lists are laid end to end, whole numbers added, and
// distances of layers added window by window as one run would have. Formats/cluster.md, section 6.

import SmeltStorage
import SmeltTensors

extension Comparison {
  /// Adds what a part found, which comes behind all that was added.
  /// - Parameter lengths: tokens of each of the part's windows.
  /// - Throws: `UNIT_MISMATCH` for numbers that a comparison of these windows does not have.
  mutating func add(_ part: ComparisonReader, lengths: [Int]) throws(FormatError) {
    let tokens = lengths.reduce(0, +)
    let losses = lengths.reduce(0) { $0 + max(0, $1 - 1) }
    let before = divergences.count
    sourceLosses += try part.list("source_losses", count: losses)
    resultLosses += try part.list("result_losses", count: losses)
    divergences += try part.list("divergences", count: tokens)
    sameTop += try part.counts("same_top", count: tokens).map { $0 != 0 }
    top5 += try part.list("top5", count: tokens)
    let sample = try part.list("sample_divergences")
    sampleDivergences += sample
    floorDivergences += try part.list("floor_divergences", count: sample.count)
    forcedDivergences += try part.list("forced_divergences", countOrNone: sample.count)
    let isRounded = rounding != nil || engine != nil
    rounded.losses += try part.list("rounded_losses", count: isRounded ? losses : 0)
    rounded.divergences += try part.list("rounded_divergences", count: isRounded ? tokens : 0)
    rounded.top5 += try part.list("rounded_top5", count: isRounded ? tokens : 0)
    let totals = try part.list("totals", count: 3)
    rounded.sameTop += try part.whole(totals[0], "totals")
    parity.add(
      try part.list("parity_divergences", count: engine == nil ? 0 : tokens),
      sameTop: try part.whole(totals[1], "totals"), largest: totals[2])
    try largest.add(part, tokens: tokens, first: before)
    for layer in layers.indices {
      let numbers = try part.list("layers.\(layer)", count: 5 * lengths.count)
      for window in lengths.indices {
        var distance = Metrics.Distance()
        let own = numbers[5 * window..<5 * window + 5]
        let at = own.startIndex
        (distance.squares, distance.source, distance.result) = (own[at], own[at + 1], own[at + 2])
        (distance.product, distance.largest) = (own[at + 3], own[at + 4])
        layers[layer].add(distance)
      }
      guard part.has("routing.\(layer)") else { continue }
      let sums = try part.counts("routing.\(layer)", count: 2)
      var all = routing[layer] ?? RouterSums()
      all.tokens += sums[0]
      all.sameSet += sums[1]
      all.chosen = RouterSums.added(all.chosen, try part.counts("chosen.\(layer)"))
      all.missed = RouterSums.added(all.missed, try part.counts("missed.\(layer)"))
      guard all.chosen.count == all.missed.count else {
        throw part.refusal("missed.\(layer)", "is not of the experts of 'chosen.\(layer)'")
      }
      routing[layer] = all
    }
    try drafts?.add(part)
  }
}

extension Comparison.RouterSums {
  /// Counts by expert, added; experts beyond the end of a list have none.
  fileprivate static func added(_ a: [Int], _ b: [Int]) -> [Int] {
    (0..<max(a.count, b.count)).map { ($0 < a.count ? a[$0] : 0) + ($0 < b.count ? b[$0] : 0) }
  }
}

extension DraftComparison {
  /// Adds what the blocks of a part drafted.
  fileprivate mutating func add(_ part: ComparisonReader) throws(FormatError) {
    var block = 0
    while part.has("drafts.\(block)") {
      let numbers = try part.counts("drafts.\(block)", count: 3)
      if blocks.count == block { blocks.append(Sums()) }
      blocks[block].accepted.source += numbers[0]
      blocks[block].accepted.result += numbers[1]
      blocks[block].sameTop += numbers[2]
      blocks[block].divergences += try part.list("draft_divergences.\(block)")
      block += 1
    }
  }
}

extension LargestTokens {
  /// Numbers of one entry: place, divergence, whether a token follows and what both sides gave to it, then the guesses of both sides.
  private static let width = 5 + 2 * (1 + 2 * guessCount)

  /// The entries as numbers.
  var numbers: [Double] {
    func guesses(_ guesses: [(id: Int, probability: Double)]) -> [Double] {
      let own = guesses.flatMap { [Double($0.id), $0.probability] }
      return [Double(guesses.count)] + own
        + [Double](
          repeating: 0, count: 2 * LargestTokens.guessCount - own.count)
    }
    return entries.flatMap { entry in
      [
        Double(entry.token), entry.divergence, entry.next == nil ? 0 : 1, entry.next?.source ?? 0,
        entry.next?.result ?? 0,
      ] + guesses(entry.source) + guesses(entry.result)
    }
  }

  /// Adds the entries of a part.
  /// - Parameter first: the place of the part's first token among all.
  fileprivate mutating func add(_ part: ComparisonReader, tokens: Int, first: Int) throws(FormatError) {
    let name = "largest"
    let numbers = try part.list(name)
    guard numbers.count % LargestTokens.width == 0, numbers.count / LargestTokens.width <= LargestTokens.most
    else {
      throw part.refusal(name, "has \(numbers.count) numbers, expected \(LargestTokens.width) for each token")
    }
    for start in stride(from: 0, to: numbers.count, by: LargestTokens.width) {
      let own = Array(numbers[start..<start + LargestTokens.width])
      func guesses(_ at: Int) throws(FormatError) -> [(id: Int, probability: Double)] {
        let count = try part.whole(own[at], name)
        guard count <= LargestTokens.guessCount else { throw part.refusal(name, "has \(count) guesses") }
        var found: [(id: Int, probability: Double)] = []
        for guess in 0..<count {
          found.append((try part.whole(own[at + 1 + 2 * guess], name), own[at + 2 + 2 * guess]))
        }
        return found
      }
      let token = try part.whole(own[0], name)
      guard token < tokens, own[1].isFinite else {
        throw part.refusal(name, "names token \(token) of \(tokens)")
      }
      insert(
        Entry(
          token: first + token, divergence: own[1], source: try guesses(5),
          result: try guesses(6 + 2 * LargestTokens.guessCount),
          next: own[2] == 0 ? nil : (own[3], own[4])))
    }
  }
}
