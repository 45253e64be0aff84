// The walk over a model's layers that every pass shares: layers outside, groups of tokens inside, so that the weights of a
// layer are used for all tokens before the next layer is read.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// One walk over all layers.
struct LayerPass {
  private let layers: Int
  private let cache: WeightCache?
  private let progress: any ProgressReporter
  private let trims: Bool

  /// A walk.
  /// - Parameters:
  ///   - cache: notified of the layer that comes next, so that it can read ahead and release; nil without a cache.
  ///   - progress: advances by one for each layer.
  ///   - trims: whether free memory goes back to the system after each layer; a single token leaves no holes worth a
  ///     millisecond.
  init(
    _ family: some ModelFamily, _ cache: WeightCache?, _ progress: any ProgressReporter, trims: Bool = true
  ) {
    layers = family.dimensions.layers
    self.cache = cache
    self.progress = progress
    self.trims = trims
  }

  /// Calls `body` with each layer in order. What comes after the layers is announced at the end.
  /// - Parameter first: the layer to begin with, where earlier ones are done.
  /// - Throws: `RequestError` interrupted; whatever `body` throws.
  func run(from first: Int = 0, _ body: (Int) throws -> Void) throws {
    for layer in first..<max(first, layers) {
      try Interrupt.check()
      cache?.begin(layer: layer)
      try body(layer)
      if trims { giveBackFreeMemory() }
      progress.advance(1)
    }
    cache?.begin(layer: layers)
  }
}

/// Calls `body` with the logits of a chunk of tokens at a time, and the places of the tokens.
func forEachLogits(
  _ family: some ModelFamily, _ x: Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass,
  _ body: (Matrix, Range<Int>) throws -> Void
) throws {
  for start in stride(from: 0, to: batch.count, by: logitsChunk) {
    try Interrupt.check()
    let range = start..<min(batch.count, start + logitsChunk)
    try body(try family.logits(x[range], weights, pass), range)
  }
}
