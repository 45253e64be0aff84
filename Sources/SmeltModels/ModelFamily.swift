// The seam between architectures and everything else. A family knows names, shapes and arithmetic; it never opens a
// file. Running, calibrating and verifying are one forward pass with different `Weights`.

public import SmeltStorage
public import SmeltTensors

/// What a forward pass multiplies by: a checkpoint, an ingot, or either of them watched.
public protocol Weights: Sendable {
  /// The weight of a name, checked against its spec.
  func weight(_ name: WeightName) throws -> Weight

  /// x · Wᵀ for the given output channels (all by default): [tokens, in] to [tokens, rows.count].
  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix

  /// The pass needs the weight no more for now; its memory may go.
  func finished(_ name: WeightName)

  /// The pass needs these weights next, in this order: a hint for whoever can read ahead.
  func upcoming(_ names: [WeightName])
}

extension Weights {
  /// The hint is not taken.
  public func upcoming(_ names: [WeightName]) {}

  /// The product with the weight as it is.
  public func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws
    -> Matrix
  {
    SmeltTensors.multiply(x, try weight(name), rows: rows, parallel: parallel)
  }

  /// A small weight (a norm, a bias, a table of scales) as floats.
  public func vector(_ name: WeightName) throws -> [Float] {
    let weight = try weight(name)
    defer { finished(name) }
    return weight.decode()
  }
}

/// Several sequences laid end to end, each starting at position 0; or the next tokens of one sequence.
public struct TokenBatch: Sendable {
  /// All token ids, sequence after sequence.
  public let ids: [Int]
  /// Where each sequence starts in `ids`; one more entry at the end, `ids.count`.
  public let starts: [Int]
  /// The position of each sequence's first token: 0 unless the batch continues a sequence.
  public let firstPosition: Int
  /// For each token, the number of its sequence.
  public let owners: [Int]
  /// For each token, its position in its sequence.
  public let positions: [Int]

  /// A batch of sequences. Ids must lie within the vocabulary: callers check.
  public init(_ sequences: [[Int]], firstPosition: Int = 0) {
    self.firstPosition = firstPosition
    ids = sequences.flatMap { $0 }
    starts = sequences.reduce(into: [0]) { $0.append($0.last! + $1.count) }
    owners = sequences.enumerated().flatMap { [Int](repeating: $0, count: $1.count) }
    positions = sequences.flatMap { firstPosition..<firstPosition + $0.count }
  }

  /// The number of tokens.
  public var count: Int { ids.count }
  /// The number of sequences.
  public var sequenceCount: Int { starts.count - 1 }
  /// The places of one sequence's tokens.
  public func range(_ sequence: Int) -> Range<Int> { starts[sequence]..<starts[sequence + 1] }
  /// The longest sequence.
  public var longest: Int { (0..<sequenceCount).map { range($0).count }.max() ?? 0 }
  /// One more than the last position of any sequence.
  public var endPosition: Int { firstPosition + longest }
}

/// Which experts each token of a layer went to, and with which weights.
public struct Routing: Sendable {
  /// Experts a token.
  public let perToken: Int
  /// Expert ids, [tokens, perToken], ascending for each token.
  public let experts: [Int32]
  /// The factors of their outputs, in the same order, scaling included.
  public let weights: [Float]

  /// A routing of known values.
  public init(perToken: Int, experts: [Int32], weights: [Float]) {
    self.perToken = perToken
    self.experts = experts
    self.weights = weights
  }

  /// The experts of one token, ascending.
  func choice(_ token: Int) -> [Int32] { Array(experts[token * perToken..<(token + 1) * perToken]) }
}

/// How a forward pass is run.
public struct Pass: Sendable {
  /// The threads to use. Results do not depend on it.
  public var parallel: Parallel
  /// Expert choices to follow instead of the router's own; the factors are still computed from the pass's own scores.
  public var forcedRouting: Routing?
  /// What earlier passes over the same sequence left behind; nil for whole sequences from position 0.
  public var state: DecodingState?

  /// A pass.
  public init(parallel: Parallel = .serial, forcedRouting: Routing? = nil, state: DecodingState? = nil) {
    self.parallel = parallel
    self.forcedRouting = forcedRouting
    self.state = state
  }
}

/// Numbers of a model that reports and memory estimates need.
public struct ModelDimensions: Sendable {
  /// Transformer blocks.
  public var layers: Int
  /// Routed experts a layer.
  public var experts: Int
  /// Routed experts a token.
  public var expertsPerToken: Int
  /// Width of the residual stream.
  public var hidden: Int
  /// Residual streams; 1 without hyper-connections.
  public var streams: Int
  /// Vocabulary entries.
  public var vocabulary: Int

  /// Dimensions of a model.
  public init(layers: Int, experts: Int, expertsPerToken: Int, hidden: Int, streams: Int, vocabulary: Int) {
    self.layers = layers
    self.experts = experts
    self.expertsPerToken = expertsPerToken
    self.hidden = hidden
    self.streams = streams
    self.vocabulary = vocabulary
  }
}

/// One architecture: configuration, weights by name, forward pass.
public protocol ModelFamily: Sendable {
  /// The `model_type` values of config.json that mean this family.
  static var modelTypes: [String] { get }

  /// Reads the configuration, in any of the family's dialects.
  /// - Throws: `CFG_VALUE` for missing or impossible values; `RequestError` unsupported for well-formed variants that
  ///   the family does not compute.
  init(config: JSON, file: String) throws

  /// The `model_type` as published.
  var modelType: String { get }

  /// Whether there is a forward pass; without one the weights are converted, checked and compared, and nothing runs.
  var hasForwardPass: Bool { get }

  /// The family without what it only carries along: itself for most.
  var core: any ModelFamily { get }

  /// Sizes for reports and estimates.
  var dimensions: ModelDimensions { get }

  /// What the pass takes from the configuration, whatever words the configuration has for it.
  var settings: [FamilySetting] { get }

  /// The dialects' names, in the order of each spec's spellings.
  var dialects: [String] { get }

  /// Those of the dialects that are written; sources of the others become the first.
  var writtenDialects: [String] { get }

  /// Every weight the pass needs, layer by layer, the matrices of one expert side by side.
  var weights: [WeightSpec] { get }

  /// Tensors that are known and left out, by named rules.
  var dropRules: [DropRule] { get }

  /// Embeds the tokens: [tokens, streams × hidden].
  func embed(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix

  /// Runs one layer over all tokens of all sequences, in place. With a state in the pass, the batch holds the next tokens
  /// of one sequence, and the layer's keys are taken from and added to the state.
  /// - Returns: the routing, or nil for a layer without experts.
  func layer(_ index: Int, _ x: inout Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass)
    throws
    -> Routing?

  /// One routed expert's output for rows of its layer's router input, not weighed by the router: [rows, hidden]. For
  /// tokens that the router did not send there.
  func expert(_ expert: Int, layer: Int, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix

  /// Logits of the given rows of the last layer's output: [rows, vocabulary].
  func logits(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix
}

extension ModelFamily {
  /// All dialects are written.
  public var writtenDialects: [String] { dialects }

  /// The `model_type` as published.
  public var modelType: String { Self.modelTypes[0] }

  /// Families run.
  public var hasForwardPass: Bool { true }

  /// Itself.
  public var core: any ModelFamily { self }

  /// Whether there is an output head beside the embeddings.
  public var hasHead: Bool { weights.contains { $0.role == .outputHead } }
}
