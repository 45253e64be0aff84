// The skeleton of decoders with one plain residual stream, whatever their attention: embedding, layers of attention and a
// feed-forward half that are each added after a norm, output norm and head.

import SmeltTensors

/// Which of its two halves a layer has.
enum LayerHalves: Sendable {
  /// Attention, or what stands in its place, then a feed-forward half, each after a norm.
  case both
  /// Attention, or what stands in its place.
  case mixer
  /// A feed-forward half, whose norm has the name of the other half's.
  case feedForward
}

/// A decoder's numbers and its attention; the pass follows.
protocol ResidualDecoder: Sendable {
  var vocabulary: Int { get }
  var hidden: Int { get }
  var normEpsilon: Float { get }
  /// Added to the scales of norms before they are used.
  var normOffset: Float { get }
  var tiedEmbeddings: Bool { get }
  var feedForward: FeedForward { get }
  var layerCount: Int { get }
  /// Floats a token that a layer keeps of earlier pieces of a window, and packs of them at once: the most of any layer.
  var kept: Int { get }

  /// Whether a layer has a dense layer instead of experts.
  func isDense(_ layer: Int) -> Bool

  /// Which halves a layer has.
  func halves(_ layer: Int) -> LayerHalves

  /// The attention's output for the normed stream `h`, [tokens, hidden].
  func attend(_ index: Int, _ h: Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
}

extension ResidualDecoder {
  /// None.
  var normOffset: Float { 0 }

  /// Both.
  func halves(_ layer: Int) -> LayerHalves { .both }

  /// The scales of a norm.
  func scale(of norm: WeightName, _ weights: some Weights) throws -> [Float] {
    let stored = try weights.vector(norm)
    return normOffset == 0 ? stored : stored.map { $0 + normOffset }
  }

  /// Sizes for reports and estimates.
  var dimensions: ModelDimensions {
    ModelDimensions(
      layers: layerCount, experts: feedForward.experts, expertsPerToken: feedForward.router.perToken,
      hidden: hidden, streams: 1, vocabulary: vocabulary, kept: kept)
  }

  /// The rows of the weights table outside the layers, in both dialects.
  var outerRows: [WeightSpec] {
    func row(_ name: WeightName, _ shape: Shape, _ role: Role, _ hub: String) -> WeightSpec {
      WeightSpec(name, shape, role, layer: nil, spellings: [Spelling(hub), Spelling(hub)])
    }
    var rows = [
      row(ModelName.embedding, [vocabulary, hidden], .embedding, "model.embed_tokens.weight"),
      row(ModelName.outputNorm, [hidden], .norm, "model.norm.weight"),
    ]
    if !tiedEmbeddings {
      rows.append(row(ModelName.outputHead, [vocabulary, hidden], .outputHead, "lm_head.weight"))
    }
    return rows
  }

  // MARK: the forward pass

  /// Embeddings, [tokens, hidden].
  func embed(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix {
    let table = try TokenTable(ModelName.embedding, weights)
    defer { weights.finished(ModelName.embedding) }
    return try table.rows(of: batch)
  }

  /// One layer over the residual stream `x` [tokens, hidden], in place.
  func layer(_ index: Int, _ x: inout Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass)
    throws -> Routing?
  {
    let name = LayerName(layer: index)
    let halves = halves(index)
    var h = x
    Linear.norm(&h, try scale(of: name("attn_norm"), weights), epsilon: normEpsilon, pass)
    if halves != .feedForward {
      Linear.add(&x, try attend(index, h, batch, weights, pass), pass)
      guard halves == .both else { return nil }
      h = x
      Linear.norm(&h, try scale(of: name("ffn_norm"), weights), epsilon: normEpsilon, pass)
    }
    guard !isDense(index) else {
      Linear.add(&x, try feedForward.dense(h, name, weights, pass), pass)
      return nil
    }
    let (mixed, routing) = try feedForward.mixture(h, name, weights, pass)
    Linear.add(&x, mixed, pass)
    return routing
  }

  /// The normed stream times the output head, [rows, vocabulary].
  func logits(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    var h = x
    Linear.norm(&h, try scale(of: ModelName.outputNorm, weights), epsilon: normEpsilon, pass)
    let head = tiedEmbeddings ? ModelName.embedding : ModelName.outputHead
    defer { weights.finished(head) }
    return try Linear.apply(h, head, weights, pass)
  }
}
