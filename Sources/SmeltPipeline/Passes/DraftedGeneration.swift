// `generate --mtp`: the block that drafts tokens proposes the token after the next, and the model's own pass over both decides. What is
// generated is what the model alone generates: each token is taken from the model's logits, in the same order.

import SmeltModels
package import SmeltStorage
import SmeltTensors

/// What drafts did for a generation.
package struct DraftCount: Sendable {
  /// Tokens that were proposed.
  package fileprivate(set) var drafted = 0
  /// Those that the model took.
  package fileprivate(set) var accepted = 0

  /// None yet.
  package init() {}

  /// For machines.
  package var json: JSON { ["drafted": JSON(drafted), "accepted": JSON(accepted)] }
}

/// A model and its first block that drafts tokens, over one sequence.
struct DraftedGeneration<Family: ModelFamily, Base: Weights> {
  let family: Family
  let weights: Base
  let cache: WeightCache
  let block: DraftBlock
  let pass: Pass
  let state: DecodingState
  /// The block remembers pairs of a token's stream and the token that follows; all of them are of the model's own making.
  private let drafts = DecodingState()
  private(set) var count = DraftCount()

  init(
    _ family: Family, _ weights: Base, _ cache: WeightCache, _ block: DraftBlock,
    _ options: RunOptions
  ) {
    (self.family, self.weights, self.cache, self.block) = (family, weights, cache, block)
    state = DecodingState()
    pass = Pass(parallel: options.parallel, state: state)
  }

  /// Continues a prompt until `take` says that it is enough.
  /// - Parameter take: the logits after a token, [vocabulary]; returns the next token, or nil where nothing is to follow.
  mutating func run(_ prompt: [Int], take: (UnsafeBufferPointer<Float>) throws -> (id: Int, goesOn: Bool))
    throws
  {
    var streams = try stream(prompt)
    var (newest, goesOn) = try next(after: streams.rows - 1, streams, take)
    var draft = try propose(streams, following: Array(prompt.dropFirst()) + [newest])
    while goesOn {
      try Interrupt.check()
      state.mark()
      streams = try stream([newest, draft])
      count.drafted += 1
      let first: Int
      (first, goesOn) = try next(after: 0, streams, take)
      guard first == draft else {
        if goesOn, state.rollBack(keeping: 1) == 0 { streams = try stream([newest]) }
        guard goesOn else { return }
        newest = first
        draft = try propose(streams[0..<1], following: [newest])
        continue
      }
      count.accepted += 1
      guard goesOn else { return }
      (newest, goesOn) = try next(after: 1, streams, take)
      if goesOn { draft = try propose(streams, following: [first, newest]) }
    }
  }

  private func next(
    after row: Int, _ streams: Matrix, _ take: (UnsafeBufferPointer<Float>) throws -> (id: Int, goesOn: Bool)
  ) throws -> (Int, Bool) {
    let logits = try family.logits(streams[row..<row + 1], weights, pass)
    return try logits.values.withUnsafeBufferPointer { try take($0) }
  }

  /// The model's stream after the last layer for the next tokens.
  private func stream(_ ids: [Int]) throws -> Matrix {
    try lastStream(family, weights, cache, ids, pass, state)
  }

  /// The block's most likely token after the last of some tokens.
  private func propose(_ streams: Matrix, following next: [Int]) throws -> Int {
    var pass = pass
    pass.state = drafts
    let batch = TokenBatch([next], firstPosition: drafts.position)
    let x = try family.draftInput(streams, weights, pass)
    let y = try family.draft(block, x, batch, weights, pass)
    drafts.advance(next.count)
    let logits = try family.draftLogits(block, y[y.rows - 1..<y.rows], weights, pass)
    return logits.values.withUnsafeBufferPointer { Metrics.top($0, 1).first ?? 0 }
  }
}
