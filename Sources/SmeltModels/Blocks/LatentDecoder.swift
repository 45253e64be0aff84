// The skeleton that DeepSeek-V2, V3 and V3.2 share: latent attention, dense layers first and experts after them, plain
// residuals. A family on it says which router and which indexer it has.

internal import CKernels
public import SmeltTensors

/// A family that differs from its kin by the numbers of a `LatentDecoder` only.
public protocol LatentFamily: ModelFamily {
  /// Its numbers and its forward pass.
  var decoder: LatentDecoder { get }
}

extension LatentFamily {
  /// Sizes for reports and estimates.
  public var dimensions: ModelDimensions { decoder.dimensions }

  /// The hub's names, which transformers also saves, and transformers' own in memory.
  public var dialects: [String] { ["hub", "transformers"] }

  /// Draft layers, and frequencies stored beside the weights.
  public var dropRules: [DropRule] { decoder.dropRules }

  /// The tokens' embeddings.
  public func embed(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix {
    try decoder.embed(batch, weights)
  }

  /// Attention, then experts or one dense layer, each added to the residual stream.
  public func layer(
    _ index: Int, _ x: inout Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Routing? {
    try decoder.layer(index, &x, batch, weights, pass)
  }

  /// The normalized stream times the output head.
  public func logits(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    try decoder.logits(x, weights, pass)
  }
}

/// A decoder with latent attention: its numbers, whatever dialect they came in, and its forward pass.
public struct LatentDecoder: Sendable {
  var vocabulary: Int
  var hidden: Int
  /// For each layer whether it has one dense feed-forward half instead of experts.
  var dense: [Bool]
  var denseWidth: Int
  var expertWidth: Int
  var sharedExperts: Int
  var normEpsilon: Float
  var tiedEmbeddings: Bool
  /// Layers behind the last one that draft tokens.
  var draftLayers: Int
  var attention: LatentAttention
  var feedForward: FeedForward

  var dimensions: ModelDimensions {
    ModelDimensions(
      layers: dense.count, experts: feedForward.experts, expertsPerToken: feedForward.router.perToken,
      hidden: hidden, streams: 1, vocabulary: vocabulary)
  }

  func embed(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix {
    let table = try weights.weight(ModelName.embedding)
    defer { weights.finished(ModelName.embedding) }
    return Matrix(rows: batch.count, columns: hidden) { out in
      for (token, id) in batch.ids.enumerated() {
        table.encoding.decode(
          table, rows: id..<id + 1, columns: 0..<hidden, into: out + token * hidden, stride: hidden)
      }
    }
  }

  func layer(
    _ index: Int, _ x: inout Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Routing? {
    let name = LayerName(layer: index)
    var h = x  // [tokens, hidden]
    Linear.norm(&h, try weights.vector(name("attn_norm")), epsilon: normEpsilon, pass)
    add(try attention.apply(h, batch, name, weights, pass), to: &x, pass)

    h = x
    Linear.norm(&h, try weights.vector(name("ffn_norm")), epsilon: normEpsilon, pass)
    if dense[index] {
      add(try feedForward.dense(h, name, weights, pass), to: &x, pass)
      return nil
    }
    let mixture = try feedForward.mixture(h, name, weights, pass)
    add(mixture.out, to: &x, pass)
    return mixture.routing
  }

  func logits(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    var h = x
    Linear.norm(&h, try weights.vector(ModelName.outputNorm), epsilon: normEpsilon, pass)
    let head = tiedEmbeddings ? ModelName.embedding : ModelName.outputHead
    defer { weights.finished(head) }
    return try weights.multiply(h, head, rows: nil, parallel: pass.parallel)
  }

  private func add(_ y: Matrix, to x: inout Matrix, _ pass: Pass) {
    x.forEachRow(pass.parallel) { token, row in
      y.values.withUnsafeBufferPointer { sk_axpy_f32(1, $0.baseAddress! + token * hidden, row, hidden) }
    }
  }
}
