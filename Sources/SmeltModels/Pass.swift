// What a forward pass works with: weights to multiply by, tokens, expert choices, and how it is run.

package import SmeltStorage
package import SmeltTensors

/// What a forward pass multiplies by: a checkpoint, an ingot, or either of them watched.
package protocol Weights: Sendable {
  /// The weight of a name, checked against its spec.
  func weight(_ name: WeightName) throws -> Weight

  /// x · Wᵀ for the given output channels (all by default): [tokens, in] to [tokens, rows.count].
  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix

  /// Products that do not depend on each other: what `multiply` gives for each, all output channels, in their order.
  func multiply(_ products: [(x: Matrix, name: WeightName)], parallel: Parallel) throws -> [Matrix]

  /// What a layer keeps of its tokens for later ones, as it reads it back: the same, unless these are weights of an engine whose cache
  /// has fewer bits.
  func cached(_ x: Matrix, _ part: CachePart, layer: Int, parallel: Parallel) throws -> Matrix

  /// The pass needs the weight no more for now; its memory may go.
  func finished(_ name: WeightName)

  /// The pass needs these weights next, in this order: a hint for whoever can read ahead.
  func upcoming(_ names: [WeightName])
}

/// Weights on top of others: weights, caches and hints that a wrapper does not change are the base's. A product is that with the wrapper's own
/// weight, unless it says otherwise, so that one which changes weights alone changes products too.
package protocol ForwardingWeights: Weights {
  associatedtype Base: Weights
  /// The weights below.
  var base: Base { get }
}

extension ForwardingWeights {
  /// The base's weight.
  package func weight(_ name: WeightName) throws -> Weight { try base.weight(name) }

  /// The base's cache.
  package func cached(_ x: Matrix, _ part: CachePart, layer: Int, parallel: Parallel) throws -> Matrix {
    try base.cached(x, part, layer: layer, parallel: parallel)
  }

  /// The base frees what it holds of the weight.
  package func finished(_ name: WeightName) { base.finished(name) }

  /// The base is told.
  package func upcoming(_ names: [WeightName]) { base.upcoming(names) }
}

/// What a layer's attention keeps of each token, [tokens, channels].
package enum CachePart: Sendable, Hashable {
  /// Keys of all key heads, normed and rotated.
  case keys
  /// Values of all key heads.
  case values
  /// What latent attention keeps in place of both: the normed latent, and the rotated key that all heads share.
  case latents
}

extension Weights {
  /// The cache keeps float32.
  package func cached(_ x: Matrix, _ part: CachePart, layer: Int, parallel: Parallel) throws -> Matrix { x }

  /// The hint is not taken.
  package func upcoming(_ names: [WeightName]) {}

  /// The product with the weight as it is.
  package func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws
    -> Matrix
  {
    SmeltTensors.multiply(x, try weight(name), rows: rows, parallel: parallel)
  }

  /// One product after another.
  package func multiply(_ products: [(x: Matrix, name: WeightName)], parallel: Parallel) throws -> [Matrix] {
    try products.map { try multiply($0.x, $0.name, rows: nil, parallel: parallel) }
  }

  /// A small weight (a norm, a bias, a table of scales) as floats.
  package func vector(_ name: WeightName) throws -> [Float] {
    let weight = try weight(name)
    defer { finished(name) }
    return weight.decode()
  }
}

/// Several sequences laid end to end, each starting at position 0; or a run of tokens of one sequence.
package struct TokenBatch: Sendable {
  /// All token ids, sequence after sequence.
  package let ids: [Int]
  /// Where each sequence starts in `ids`; one more entry at the end, `ids.count`.
  package let starts: [Int]
  /// The position of each sequence's first token: 0 unless the batch continues a sequence.
  package let firstPosition: Int
  /// The ids behind the batch in its sequence, where the batch is a piece of one that is known; else none.
  package let following: ArraySlice<Int>
  /// For each token, the number of its sequence.
  package let owners: [Int]
  /// For each token, its position in its sequence.
  package let positions: [Int]
  /// What layers leave to later ones about the tokens.
  package let memo: LayerMemo

  /// A batch of sequences. Ids must lie within the vocabulary: callers check.
  package init(_ sequences: [[Int]], firstPosition: Int = 0, following: ArraySlice<Int> = []) {
    precondition(following.isEmpty || sequences.count == 1, "a piece is of one sequence")
    self.firstPosition = firstPosition
    self.following = following
    ids = sequences.flatMap { $0 }
    starts = sequences.reduce(into: [0]) { $0.append($0.last! + $1.count) }
    owners = sequences.enumerated().flatMap { [Int](repeating: $0, count: $1.count) }
    positions = sequences.flatMap { firstPosition..<firstPosition + $0.count }
    memo = LayerMemo()
  }

  private init(_ other: TokenBatch, sequences: Int) {
    firstPosition = other.firstPosition
    following = sequences == other.sequenceCount ? other.following : []
    starts = Array(other.starts[...sequences])
    let tokens = 0..<other.starts[sequences]
    ids = Array(other.ids[tokens])
    owners = Array(other.owners[tokens])
    positions = Array(other.positions[tokens])
    memo = LayerMemo(other.memo, tokens: tokens)
  }

  /// The same tokens for a walk over the layers of their own: what layers have left so far is copied, what they leave from now on
  /// is not shared.
  package func separated() -> TokenBatch { first(sequences: sequenceCount) }

  /// The first sequences, for a walk of their own.
  package func first(sequences: Int) -> TokenBatch { TokenBatch(self, sequences: sequences) }

  /// The whole sequence, of its first piece; of whole sequences the same.
  package func wholeWindow() -> TokenBatch {
    following.isEmpty ? self : TokenBatch([ids + following], firstPosition: firstPosition)
  }

  /// The id behind a token in its sequence; nil at the sequence's end.
  package func follower(of token: Int) -> Int? {
    if token + 1 == count { return following.first }
    return owners[token + 1] == owners[token] ? ids[token + 1] : nil
  }

  /// The number of tokens.
  package var count: Int { ids.count }
  /// The number of sequences.
  package var sequenceCount: Int { starts.count - 1 }
  /// The places of one sequence's tokens.
  package func range(_ sequence: Int) -> Range<Int> { starts[sequence]..<starts[sequence + 1] }
  /// The longest sequence.
  package var longest: Int { (0..<sequenceCount).map { range($0).count }.max() ?? 0 }
  /// One more than the last position of any sequence.
  package var endPosition: Int { firstPosition + longest }
}

/// Which experts each token of a layer went to, and with which weights.
package struct Routing: Sendable {
  /// Experts a token.
  package let perToken: Int
  /// Expert ids, [tokens, perToken], ascending for each token.
  package let experts: [Int32]
  /// The factors of their outputs, in the same order, scaling included.
  package let weights: [Float]
  /// What the experts of all tokens read, [tokens, channels], where that is not what the router reads and the pass asks for it.
  package var inputs: Matrix?

  /// A routing of known values.
  package init(perToken: Int, experts: [Int32], weights: [Float]) {
    self.perToken = perToken
    self.experts = experts
    self.weights = weights
  }

  /// The experts of one token, ascending.
  func choice(_ token: Int) -> [Int32] { Array(experts[token * perToken..<(token + 1) * perToken]) }
}

/// How a forward pass is run.
package struct Pass: Sendable {
  /// The threads to use. Results do not depend on it.
  package var parallel: Parallel
  /// Expert choices to follow instead of the router's own; the factors are still computed from the pass's own scores.
  package var forcedRouting: Routing?
  /// What earlier passes over the same sequence, or over earlier pieces of it, left behind; nil for whole sequences from position 0.
  package var state: DecodingState?
  /// Whether experts run one after another, however few tokens there are: whoever watches their inputs has room for one's.
  package var takesOneExpert = false
  /// Whether layers tell what their experts read (`Routing.inputs`).
  package var keepsExpertInputs = false

  /// A pass.
  package init(parallel: Parallel = .serial, forcedRouting: Routing? = nil, state: DecodingState? = nil) {
    self.parallel = parallel
    self.forcedRouting = forcedRouting
    self.state = state
  }
}

/// Numbers of a model that reports and memory estimates need.
package struct ModelDimensions: Sendable {
  /// Transformer blocks.
  package var layers: Int
  /// Routed experts a layer.
  package var experts: Int
  /// Routed experts a token.
  package var expertsPerToken: Int
  /// Width of the residual stream.
  package var hidden: Int
  /// Residual streams; 1 without hyper-connections.
  package var streams: Int
  /// Vocabulary entries.
  package var vocabulary: Int
  /// Floats a token that a layer keeps of earlier pieces of a window, and packs of them at once: the most of any layer.
  package var kept: Int

  /// Dimensions of a model.
  package init(
    layers: Int, experts: Int, expertsPerToken: Int, hidden: Int, streams: Int, vocabulary: Int, kept: Int = 0
  ) {
    self.kept = kept
    self.layers = layers
    self.experts = experts
    self.expertsPerToken = expertsPerToken
    self.hidden = hidden
    self.streams = streams
    self.vocabulary = vocabulary
  }
}
