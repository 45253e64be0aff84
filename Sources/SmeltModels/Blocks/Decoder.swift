// The plain decoder that most families are: grouped-query attention, then experts or a dense layer, each added to the
// residual stream after a norm. What families do differently are fields here, filled in from config.json.

internal import CKernels
import SmeltStorage
package import SmeltTensors

/// A decoder's numbers, and its forward pass.
package struct Decoder: ResidualDecoder {
  /// Norms of queries and keys between projection and rotation.
  enum QueryKeyNorm: Sendable {
    case none
    /// Over each head, one scale for all heads.
    case perHead
    /// Over all heads together.
    case wholeProjection
  }

  /// What attention is like in all layers.
  struct Attention: Sendable {
    var heads: Int
    var keyHeads: Int
    var headWidth: Int
    /// Rotates the first `2 × pairs` channels of each head, halves together; `.none` rotates nothing.
    var rope: RotaryFrequencies
    var norm = QueryKeyNorm.none
    /// Queries, keys and values are clamped to ± this after their norms; nil for no clamp.
    var clip: Float?
    /// Whether the projections of queries, keys and values have biases.
    var hasInputBias = false
    /// Whether the output projection has a bias.
    var hasOutputBias = false
    /// Whether each head has a sink.
    var hasSinks = false
    /// Whether the projection of queries makes as many gates, head by head behind the head's query: what a head gives is multiplied
    /// by logistic(gate).
    var hasOutputGate = false
    /// Chooses the blocks of keys that queries see in block-sparse layers.
    var blocks: BlockIndexer?
  }

  /// What one layer is like.
  struct Layer: Sendable, Equatable {
    /// Tokens a query sees, itself included; nil for all before it.
    var window: Int?
    /// Whether it has a dense layer instead of experts.
    var isDense = false
    /// Whether it has a state of fixed size instead of softmax attention: linear attention, a gated delta rule, or a state space.
    var isLinear = false
    /// Whether queries see the blocks of keys that an indexer chooses.
    var isBlockSparse = false
    /// Which halves it has.
    var halves = LayerHalves.both
  }

  var vocabulary: Int
  var hidden: Int
  var normEpsilon: Float
  var tiedEmbeddings: Bool
  var attention: Attention
  var layers: [Layer]
  var feedForward: FeedForward
  /// Inner width of a routed expert.
  var expertWidth: Int
  /// Inner width of the shared expert; of several, their sum.
  var sharedWidth = 0
  /// Inner width of a dense layer.
  var denseWidth = 0
  /// The linear attention of the layers that have it.
  var linear: DeltaAttention?
  /// The state space of the layers that have it.
  var stateSpace: StateSpaceMixer?
  /// Added to the scales of all norms of the stream, of queries and of keys; 1 where they are stored as distances from 1.
  var normOffset: Float = 0

  var layerCount: Int { layers.count }

  /// Keys and values of layers that see all before.
  var kept: Int {
    layers.map { layer in
      guard layer.halves != .feedForward, !layer.isLinear, layer.window == nil else { return 0 }
      return GroupedAttention.kept(attention.keyHeads, attention.headWidth, attention.headWidth)
        + (layer.isBlockSparse ? attention.blocks?.width ?? 0 : 0)
    }.max() ?? 0
  }

  func isDense(_ layer: Int) -> Bool { self.layer(at: layer).isDense }

  func halves(_ layer: Int) -> LayerHalves { self.layer(at: layer).halves }

  /// What a layer is like; one behind the last, which drafts tokens, has no window, an indexer and experts where the model has them.
  func layer(at index: Int) -> Layer {
    index < layers.count
      ? layers[index] : Layer(isDense: feedForward.experts == 0, isBlockSparse: attention.blocks != nil)
  }

  // MARK: attention

  /// A part of the batch at a time bounds what exists at once: queries are wider than the stream.
  func attend(
    _ index: Int, _ h: Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    let name = LayerName(layer: index)
    let layer = layer(at: index)
    if layer.isLinear, let linear {
      return try linear.apply(h, batch, name, normEpsilon: normEpsilon, weights, pass)
    }
    if layer.isLinear, let stateSpace {
      return try stateSpace.apply(h, batch, name, normEpsilon: normEpsilon, weights, pass)
    }
    let tables = RotaryTables(attention.rope, batch)
    let norms: (queries: [Float], keys: [Float])? =
      switch attention.norm {
      case .none: nil
      case .perHead, .wholeProjection:
        (try scale(of: name("attn_q_norm"), weights), try scale(of: name("attn_k_norm"), weights))
      }
    let indexer = layer.isBlockSparse ? attention.blocks : nil
    let around = try indexer.map { _ in
      BlockIndexer.Surroundings(
        rotation: tables, queryNorm: try scale(of: name("indexer.q_norm"), weights),
        keyNorm: try scale(of: name("indexer.k_norm"), weights), epsilon: normEpsilon)
    }
    let sinks = attention.hasSinks ? try weights.vector(name("attn_sinks")) : nil
    let core = GroupedAttention(
      heads: attention.heads, keyHeads: attention.keyHeads, keyWidth: attention.headWidth,
      valueWidth: attention.headWidth, scale: 1 / Float(attention.headWidth).squareRoot(),
      window: layer.window)
    let carried = pass.state?.layer(index)
    var state = carried
    var out = Matrix(rows: 0, columns: hidden)
    for part in batch.parts(of: tokenChunk) {
      try Interrupt.check()
      // The parts of one long sequence see each other through a state of their own.
      if carried == nil { state = part.state(after: state) }
      let rows = h[part.rows]
      let projected = try Linear.apply(
        ["attn_q", "attn_k", "attn_v"].map {
          (rows, name($0), name.bias($0, if: attention.hasInputBias))
        }, weights, pass)
      func prepared(_ place: Int, norm: [Float]?, rotated: Bool) -> Matrix {
        var y = projected[place]
        prepare(&y, norm: norm, rotation: rotated ? tables : nil, part, pass)
        return y
      }
      var queries = projected[0]
      let gates = attention.hasOutputGate ? queries.splitParts(width: attention.headWidth) : nil
      prepare(&queries, norm: norms?.queries, rotation: tables, part, pass)
      var selected: [[Int32]?]?
      if let indexer, let around {
        selected = try indexer.select(rows, part, name, around, weights, state, pass)
      }
      let keys = try weights.cached(
        prepared(1, norm: norms?.keys, rotated: true), .keys, layer: index, parallel: pass.parallel)
      let values = try weights.cached(
        prepared(2, norm: nil, rotated: false), .values, layer: index, parallel: pass.parallel)
      var heads = core.attend(
        queries, keys, values, part.batch, sinks: sinks, selected: selected, state, pass)
      if let gates { heads.multiply(byLogisticOf: gates, pass) }
      out.append(
        try Linear.apply(
          heads, name("attn_output"), bias: name.bias("attn_output", if: attention.hasOutputBias), weights,
          pass))
    }
    for projection in ["attn_q", "attn_k", "attn_v", "attn_output"] { weights.finished(name(projection)) }
    if indexer != nil { for projection in BlockIndexer.names(name) { weights.finished(projection) } }
    return out
  }

  /// What happens to queries, keys and values between projection and softmax: norm, clamp, rotation.
  private func prepare(
    _ y: inout Matrix, norm: [Float]?, rotation: RotaryTables?, _ part: TokenBatch.Part, _ pass: Pass
  ) {
    let width = attention.headWidth
    if let norm {
      Linear.norm(
        &y, norm, width: attention.norm == .perHead ? width : nil, epsilon: normEpsilon, pass)
    }
    let clip = attention.clip
    guard clip != nil || rotation != nil else { return }
    let columns = y.columns
    let positions = part.batch.positions
    y.forEachRow(pass.parallel) { token, row in
      if let clip { for channel in 0..<columns { row[channel] = min(max(row[channel], -clip), clip) } }
      guard let table = rotation?[part.rows.lowerBound + token] else { return }
      for head in stride(from: 0, to: columns, by: width) {
        table.rotate(row + head, positions[token], .halves)
      }
    }
  }
}

/// A family that is a plain decoder: its configuration and its weights table are all there is to it.
package protocol DecoderFamily: ModelFamily {
  /// The decoder.
  var decoder: Decoder { get }
}

extension DecoderFamily {
  /// Sizes for reports and estimates.
  package var dimensions: ModelDimensions { decoder.dimensions }

  /// What the pass takes from the configuration.
  package var settings: [FamilySetting] { FamilySetting.all(of: decoder) }

  /// The names of published files, and those that transformers has in memory.
  package var dialects: [String] { ["hub", "transformers"] }

  /// Nothing is left out.
  package var dropRules: [DropRule] { [] }

  /// Embeds the tokens: [tokens, hidden].
  package func embed(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix {
    try decoder.embed(batch, weights)
  }

  /// Runs one layer over all tokens of all sequences, in place.
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

  /// Logits of the given rows of the last layer's output: [rows, vocabulary].
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
