// The skeleton that DeepSeek-V2, V3 and V3.2, GLM-4.7-Flash and GLM-5, and Mistral Small 4 share: latent attention, dense layers first
// and experts after them, plain residuals. A family on it says which router and which indexer it has.

package import SmeltTensors

/// A family that differs from its kin by the numbers of a `LatentDecoder` only.
package protocol LatentFamily: ModelFamily {
  /// Its numbers and its forward pass.
  var decoder: LatentDecoder { get }
}

extension LatentFamily {
  /// Sizes for reports and estimates.
  package var dimensions: ModelDimensions { decoder.dimensions }

  /// What the pass takes from the configuration.
  package var settings: [FamilySetting] { FamilySetting.all(of: decoder) }

  /// The hub's names, which transformers also saves, and transformers' own in memory.
  package var dialects: [String] { ["hub", "transformers"] }

  /// Frequencies stored beside the weights.
  package var dropRules: [DropRule] { decoder.dropRules }

  /// Layers behind the last one that draft tokens.
  package var drafts: DraftBlocks { decoder.drafts }

  /// Layers that take an earlier layer's choice of tokens cannot; the others can.
  package func canBegin(at layer: Int) -> Bool { decoder.chooser(for: layer) == nil }

  /// The tokens' embeddings.
  package func embed(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix {
    try decoder.embed(batch, weights)
  }

  /// Attention, then experts or one dense layer, each added to the residual stream.
  package func layer(
    _ index: Int, _ x: inout Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Routing? {
    try decoder.layer(index, &x, batch, weights, pass)
  }

  /// One routed expert's output for rows of its layer's router input: [rows, hidden].
  package func expert(_ expert: Int, layer: Int, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  {
    try decoder.feedForward.expert(expert, x, LayerName(layer: layer), weights, pass)
  }

  /// The normalized stream times the output head.
  package func logits(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    try decoder.logits(x, weights, pass)
  }

  /// The normed stream.
  package func draftInput(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    try decoder.draftInput(x, weights, pass)
  }

  /// A block that drafts tokens: one more layer.
  package func draft(
    _ block: DraftBlock, _ x: Matrix, _ next: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix { try decoder.draft(block, x, next, weights, pass) }

  /// Logits of the token after the next.
  package func draftLogits(_ block: DraftBlock, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  { try decoder.draftLogits(block, x, weights, pass) }
}

/// A decoder with latent attention: its numbers, whatever dialect they came in, and its forward pass.
package struct LatentDecoder: ResidualDecoder {
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
  /// For each layer whether it has no indexer and sees what the last layer with one has chosen. Never the first layer, and none of
  /// a model without an indexer.
  var sharesSelection: [Bool]
  var attention: LatentAttention
  var feedForward: FeedForward

  var layerCount: Int { dense.count }

  /// Expanded keys and values, and the indexer's keys.
  var kept: Int {
    GroupedAttention.kept(attention.heads, attention.keyWidth, attention.valueWidth)
      + (attention.indexer?.width ?? 0)
  }

  /// Blocks behind the last layer, which draft tokens, have experts.
  func isDense(_ layer: Int) -> Bool { layer < dense.count && dense[layer] }

  func attend(_ index: Int, _ h: Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  {
    let selection: LatentAttention.Selection =
      if let chooser = chooser(for: index) {
        .taken(from: chooser)
      } else {
        .own(isLeft: chooser(for: index + 1) != nil)
      }
    return try attention.apply(h, batch, LayerName(layer: index), weights, pass, selection: selection)
  }

  /// The layer whose choice of tokens a layer takes; nil where it takes none.
  func chooser(for layer: Int) -> Int? {
    guard sharesSelection.indices.contains(layer), sharesSelection[layer] else { return nil }
    return sharesSelection[..<layer].lastIndex(of: false)
  }
}
