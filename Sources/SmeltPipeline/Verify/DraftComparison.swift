// `verify --mtp`: the blocks that draft tokens, run on both sides. Each takes what its own model made of a token and the token that
// follows, and its most likely token is held against the one that its own model finds most likely a step later.

import SmeltModels
import SmeltStorage
import SmeltTensors

extension Report {
  /// What one block that drafts tokens did, on both sides.
  package struct Drafts: Sendable {
    /// The block's number, from 0.
    package var block: Int
    /// Drafts compared.
    package var tokens: Int
    /// Share of drafts whose most likely token is the one that their own model finds most likely.
    package var acceptance: (source: Double, result: Double)
    /// The divergence of the result's drafts from the source's: mean, median, 99th percentile and maximum.
    package var kl: Divergence
    /// Share of drafts with the same most likely token on both sides.
    package var top1: Double

    /// For machines.
    var json: JSON {
      [
        "block": JSON(block), "tokens": JSON(tokens), "source_acceptance": JSON(acceptance.source),
        "result_acceptance": JSON(acceptance.result),
        "kl": [
          "mean": JSON(kl.mean), "median": JSON(kl.median), "p99": JSON(kl.p99), "max": JSON(kl.max),
        ], "top1_agreement": JSON(top1),
      ]
    }
  }
}

/// Sums over the drafts of all blocks.
struct DraftComparison {
  /// One block's sums.
  struct Sums {
    var accepted = (source: 0, result: 0)
    var sameTop = 0
    var divergences: [Double] = []
  }

  var blocks: [Sums] = []
  /// The most likely token after each token of the group at hand, on both sides; of a window in pieces, of its tokens so far.
  private var tops: (source: [Int], result: [Int]) = ([], [])
  /// What the blocks keep of earlier pieces of a window, on both sides.
  private var states = (source: PieceStates(), result: PieceStates())
  /// Drafts of tokens that come in a later piece.
  private var waiting: [Draft] = []

  /// A row's drafts on both sides, and the place whose most likely next token they are held against.
  private struct Draft {
    let block: Int
    let answer: Int
    let tops: (source: Int, result: Int)
  }

  /// Remembers what both models find most likely after some tokens, in the order of the tokens.
  mutating func add(_ a: Matrix, _ b: Matrix, _ options: RunOptions) {
    tops.source += DraftComparison.tops(a, options)
    tops.result += DraftComparison.tops(b, options)
  }

  /// Runs the blocks over a group whose logits were added.
  /// - Parameters:
  ///   - x: the source's stream after the last layer.
  ///   - y: the result's.
  mutating func run(
    _ batch: TokenBatch, _ mine: some ModelFamily, _ source: some Weights, _ x: Matrix,
    _ its: some ModelFamily, _ result: some Weights, _ y: Matrix, _ options: RunOptions
  ) throws {
    let known = waiting
    waiting = []
    for draft in known { hold(draft) }
    // With the last piece of a window goes what was kept of it.
    defer { if batch.following.isEmpty { (tops, states) = (([], []), (PieceStates(), PieceStates())) } }
    let pass = Pass(parallel: options.parallel)
    let (mineRun, itsRun) = (states.source.pass(pass, for: batch), states.result.pass(pass, for: batch))
    let pairs = Array(zip(mine.runningDrafts, its.runningDrafts))
    while blocks.count < pairs.count { blocks.append(Sums()) }
    var a = try mine.draftInput(x, source, pass)
    var b = try its.draftInput(y, result, pass)
    // The rows of a and b: places of tokens in the batch.
    var rows = Array(0..<batch.count)
    for (number, pair) in pairs.enumerated() {
      try Interrupt.check()
      // Block k follows k + 1 tokens after its row; windows without so many have no draft.
      let missing = max(0, number + 1 - batch.following.count)
      let sequences = (0..<batch.sequenceCount).map { batch.range($0).dropLast(missing) }
      let kept = Set(sequences.joined())
      let places = rows.indices.filter { kept.contains(rows[$0]) }
      guard !places.isEmpty else { return }
      rows = places.map { rows[$0] }
      let next = TokenBatch(
        sequences.filter { !$0.isEmpty }.map { $0.map { batch.id(number + 1, after: $0) } },
        firstPosition: batch.firstPosition, following: batch.following.dropFirst(number + 1))
      a = try mine.draft(pair.0, a.gather(places), next, source, mineRun)
      b = try its.draft(pair.1, b.gather(places), next, result, itsRun)
      for start in stride(from: 0, to: rows.count, by: logitsChunk) {
        let range = start..<min(rows.count, start + logitsChunk)
        let p = try mine.draftLogits(pair.0, a[range], source, pass)
        let q = try its.draftLogits(pair.1, b[range], result, pass)
        add(p, q, number, rows[range].map { batch.firstPosition + $0 + number + 1 }, options)
      }
    }
  }

  /// - Parameter answers: for each row the place whose most likely next token the draft is held against.
  private mutating func add(
    _ p: Matrix, _ q: Matrix, _ block: Int, _ answers: [Int], _ options: RunOptions
  ) {
    for agreement in Metrics.agreements(p, q, options.parallel) {
      blocks[block].divergences.append(agreement.divergence)
      blocks[block].sameTop += agreement.sameTop ? 1 : 0
    }
    let drafts = (DraftComparison.tops(p, options), DraftComparison.tops(q, options))
    for (row, answer) in answers.enumerated() {
      hold(Draft(block: block, answer: answer, tops: (drafts.0[row], drafts.1[row])))
    }
  }

  /// Counts a draft that is what its own model finds most likely, once that is known.
  private mutating func hold(_ draft: Draft) {
    guard draft.answer < tops.source.count else { return waiting.append(draft) }
    blocks[draft.block].accepted.source += draft.tops.source == tops.source[draft.answer] ? 1 : 0
    blocks[draft.block].accepted.result += draft.tops.result == tops.result[draft.answer] ? 1 : 0
  }

  private static func tops(_ logits: Matrix, _ options: RunOptions) -> [Int] {
    var all = [Int](repeating: 0, count: logits.rows)
    Metrics.fill(&all, options.parallel) { row in
      Metrics.withRow(logits, row) { Metrics.top($0, 1).first ?? 0 }
    }
    return all
  }

  /// What the report says of each block.
  var drafts: [Report.Drafts] {
    blocks.enumerated().filter { !$0.element.divergences.isEmpty }.map { number, sums in
      let count = Double(sums.divergences.count)
      let sorted = sums.divergences.sorted()
      return Report.Drafts(
        block: number, tokens: sums.divergences.count,
        acceptance: (Double(sums.accepted.source) / count, Double(sums.accepted.result) / count),
        kl: Report.Divergence(
          mean: sums.divergences.reduce(0, +) / count, median: Metrics.percentile(sorted, 0.5),
          p99: Metrics.percentile(sorted, 0.99), max: sorted.last ?? 0), top1: Double(sums.sameTop) / count)
    }
  }
}

extension TokenBatch {
  /// The id some places behind a token, which its sequence has.
  fileprivate func id(_ places: Int, after token: Int) -> Int {
    let place = token + places
    return place < count ? ids[place] : following[following.startIndex + place - count]
  }
}

extension Model {
  /// Refuses to run blocks that draft tokens where there are none, or none that run.
  /// - Throws: `RequestError` unsupported, with what is there instead.
  package func requireDrafts() throws {
    guard family.runningDrafts.isEmpty else { return }
    var why = "it holds none"
    if family.weights.contains(where: \.isDraft) {
      why =
        (family as? CarryingFamily)?.draftBlocks ?? 0 > 0
        ? "those of '\(family.modelType)' have no forward pass here"
        : "what it holds of them is not a whole block under the family's names"
    }
    throw RequestError(
      .unsupported, "--mtp asks for blocks that draft tokens of '\(path)': \(why)",
      help:
        "run without --mtp; results keep such blocks unless they were dropped or their container has no place for them"
    )
  }
}
