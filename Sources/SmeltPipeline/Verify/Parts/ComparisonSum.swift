// Comparisons of runs of windows, added up to the comparison of all of them: lists are laid end to end, whole numbers added, and
// distances of layers added window by window as one run would have. Formats/cluster.md, section 6.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// What the two sides of a comparison are, as far as the numbers of its parts depend on it.
struct ComparedSides {
  /// Experts that routers choose from, by layer; 0 of layers without.
  let experts: [Int]
  /// Whether the result can follow the source's choices.
  let canForce: Bool
  /// Blocks that draft tokens on both sides.
  let drafts: Int
  /// Ids of tokens are below it.
  let vocabulary: Int

  init(_ source: any ModelFamily, _ result: any ModelFamily) {
    let (mine, its) = (source.dimensions, result.dimensions)
    var experts = [Int](repeating: 0, count: mine.layers)
    for spec in source.weights where spec.role.isRouted {
      if let layer = spec.layer, experts.indices.contains(layer) { experts[layer] = mine.experts }
    }
    self.experts = experts
    canForce = mine.experts > 0 && mine.expertsPerToken == its.expertsPerToken
    drafts = min(source.runningDrafts.count, result.runningDrafts.count)
    vocabulary = max(mine.vocabulary, its.vocabulary)
  }
}

extension Comparison {
  /// Adds what a part found, which comes behind all that was added.
  /// - Parameters:
  ///   - lengths: tokens of each of the part's windows.
  ///   - sampled: tokens of those of them that belong to the sample.
  /// - Throws: `UNIT_MISMATCH` for numbers that a comparison of these windows does not have.
  mutating func add(_ part: ComparisonReader, lengths: [Int], sampled: Int, _ sides: ComparedSides)
    throws(FormatError)
  {
    let tokens = lengths.reduce(0, +)
    let losses = lengths.reduce(0) { $0 + max(0, $1 - 1) }
    let before = divergences.count
    sourceLosses += try part.list("source_losses", count: losses)
    resultLosses += try part.list("result_losses", count: losses)
    divergences += try part.list("divergences", count: tokens)
    sameTop += try part.counts("same_top", count: tokens).map { $0 != 0 }
    top5 += try part.list("top5", count: tokens)
    sampleDivergences += try part.list("sample_divergences", count: sampled)
    floorDivergences += try part.list("floor_divergences", count: sampled)
    forcedDivergences += try part.list("forced_divergences", count: sides.canForce ? sampled : 0)
    let isRounded = rounding != nil || engine != nil
    rounded.losses += try part.list("rounded_losses", count: isRounded ? losses : 0)
    rounded.divergences += try part.list("rounded_divergences", count: isRounded ? tokens : 0)
    rounded.top5 += try part.list("rounded_top5", count: isRounded ? tokens : 0)
    let totals = try part.list("totals", count: 3)
    rounded.sameTop += try part.whole(totals[0], "totals")
    parity.add(
      try part.list("parity_divergences", count: engine == nil ? 0 : tokens),
      sameTop: try part.whole(totals[1], "totals"), largest: totals[2])
    try largest.add(part, lengths: lengths, first: before, vocabulary: sides.vocabulary)
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
      guard sides.experts[layer] > 0 else { continue }
      var all = routing[layer] ?? RouterSums()
      try all.add(part, layer: layer, tokens: tokens, experts: sides.experts[layer])
      routing[layer] = all
    }
    try drafts?.add(part, lengths: lengths, blocks: sides.drafts)
  }
}

extension Comparison.RouterSums {
  /// Adds what a part counted in a layer with experts.
  fileprivate mutating func add(_ part: ComparisonReader, layer: Int, tokens: Int, experts: Int)
    throws(FormatError)
  {
    let name = (sums: "routing.\(layer)", chosen: "chosen.\(layer)", missed: "missed.\(layer)")
    let sums = try part.counts(name.sums, count: 2)
    guard sums[0] == tokens, sums[1] <= tokens else {
      throw part.refusal(name.sums, "tells of \(sums[1]) of \(sums[0]) tokens, the part has \(tokens)")
    }
    // Of each expert up to the last that was chosen.
    let chosen = try part.counts(name.chosen)
    guard chosen.count <= experts else {
      throw part.refusal(name.chosen, "is of \(chosen.count) experts, the layer has \(experts)")
    }
    guard chosen.allSatisfy({ $0 <= tokens }), chosen.reduce(0, +) >= tokens else {
      throw part.refusal(name.chosen, "does not send each of \(tokens) tokens to experts")
    }
    let missed = try part.counts(name.missed, count: chosen.count)
    guard zip(missed, chosen).allSatisfy({ $0 <= $1 }) else {
      throw part.refusal(name.missed, "has more tokens than '\(name.chosen)'")
    }
    self.tokens += tokens
    sameSet += sums[1]
    self.chosen = Self.added(self.chosen, chosen)
    self.missed = Self.added(self.missed, missed)
  }

  /// Counts by expert, added; experts beyond the end of a list have none.
  private static func added(_ a: [Int], _ b: [Int]) -> [Int] {
    (0..<max(a.count, b.count)).map { ($0 < a.count ? a[$0] : 0) + ($0 < b.count ? b[$0] : 0) }
  }
}

extension DraftComparison {
  /// Adds what the blocks of a part drafted.
  fileprivate mutating func add(_ part: ComparisonReader, lengths: [Int], blocks count: Int)
    throws(FormatError)
  {
    for block in 0..<count {
      let name = "drafts.\(block)"
      let numbers = try part.counts(name, count: 3)
      // Block k follows k + 1 tokens.
      let drafted = lengths.reduce(0) { $0 + max(0, $1 - block - 1) }
      guard numbers.allSatisfy({ $0 <= drafted }) else {
        throw part.refusal(name, "holds more than the \(drafted) tokens that are drafted")
      }
      if blocks.count == block { blocks.append(Sums()) }
      blocks[block].accepted.source += numbers[0]
      blocks[block].accepted.result += numbers[1]
      blocks[block].sameTop += numbers[2]
      blocks[block].divergences += try part.list("draft_divergences.\(block)", count: drafted)
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
  /// - Parameters:
  ///   - lengths: tokens of each of the part's windows.
  ///   - first: the place of the part's first token among all.
  fileprivate mutating func add(_ part: ComparisonReader, lengths: [Int], first: Int, vocabulary: Int)
    throws(FormatError)
  {
    let name = "largest"
    var (tokens, lasts) = (0, Set<Int>())
    for length in lengths {
      tokens += length
      lasts.insert(tokens - 1)
    }
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
          let id = try part.whole(own[at + 1 + 2 * guess], name)
          guard id < vocabulary else { throw part.refusal(name, "names the id \(id) of \(vocabulary)") }
          found.append((id, own[at + 2 + 2 * guess]))
        }
        return found
      }
      let token = try part.whole(own[0], name)
      guard token < tokens, own[1].isFinite else {
        throw part.refusal(name, "names token \(token) of \(tokens)")
      }
      guard own[2] == (lasts.contains(token) ? 0 : 1) else {
        throw part.refusal(name, "says \(own[2]) of whether a token follows token \(token)")
      }
      insert(
        Entry(
          token: first + token, divergence: own[1], source: try guesses(5),
          result: try guesses(6 + 2 * LargestTokens.guessCount),
          next: own[2] == 0 ? nil : (own[3], own[4])))
    }
  }
}
