// Gemma 4 (26B-A4B with experts; 31B, 12B, E2B and E4B without). Unusual: two kinds of layers, with a window and without, that differ in
// heads, widths and rotation; values get a norm without factors, and may be the keys before their norm; logits of attention are not
// scaled; norms stand before and after each half of a layer; experts add to a dense layer, and read another norm of the stream than
// their router does; small models add embeddings of their own in each layer, and their last layers have no keys of their own.
// Follows transformers' gemma4.

package import SmeltStorage
package import SmeltTensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The Gemma 4 architecture.
package struct Gemma4: ModelFamily {
  /// The text models of the wrappers `gemma4` and `gemma4_unified`.
  package static let modelTypes = ["gemma4_text", "gemma4_unified_text"]

  /// The `model_type` as published.
  package let modelType: String
  /// The numbers.
  let decoder: Gemma4Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for variants that are not computed.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    modelType = try config.string("model_type") ?? Gemma4.modelTypes[0]
    decoder = try Gemma4Decoder(config, isUnified: modelType == "gemma4_unified_text")
    weights = decoder.weightTable()
  }

  /// Sizes for reports and estimates.
  package var dimensions: ModelDimensions { decoder.dimensions }

  /// What the pass takes from the configuration.
  package var settings: [FamilySetting] { FamilySetting.all(of: decoder) }

  /// The names of published files, whose experts are stacked, and those with a tensor for each expert's matrix.
  package var dialects: [String] { ["hub", "expert-modules"] }

  /// Keys and values of layers that use another layer's.
  package var dropRules: [DropRule] { decoder.dropRules }

  /// The tokens' embeddings, times the root of the width.
  package func embed(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix {
    try decoder.scaledEmbeddings(batch, weights)
  }

  /// Attention, then a dense layer and experts, then the layer's own embeddings, each added to the residual stream.
  package func layer(
    _ index: Int, _ x: inout Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Routing? {
    try decoder.run(index, &x, batch, weights, pass)
  }

  /// One routed expert's output for rows of what experts read: [rows, hidden].
  package func expert(_ expert: Int, layer: Int, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  {
    try decoder.feedForward.expert(expert, x, LayerName(layer: layer), weights, pass)
  }

  /// The normalized stream times the output head, capped.
  package func logits(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    var logits = try decoder.logits(x, weights, pass)
    if let cap = decoder.softcap {
      let columns = logits.columns
      logits.forEachRow(pass.parallel) { _, row in
        for index in 0..<columns { row[index] = Float(tanh(Double(row[index] / cap))) * cap }
      }
    }
    return logits
  }
}

/// The decoder's numbers, and its forward pass.
struct Gemma4Decoder: ResidualDecoder {
  /// What attention is like in layers of one kind.
  struct Attention: Sendable, Equatable {
    var keyHeads: Int
    var headWidth: Int
    /// Halves together; frequencies of 0 leave their channels as they are.
    var rope: RotaryFrequencies
    /// Tokens a query sees, itself included; nil for all before it.
    var window: Int?
    /// Whether values are the keys before their norm and rotation.
    var sharesProjection: Bool
  }

  /// What one layer is like.
  struct Layer: Sendable {
    /// Whether it has a window.
    var isSliding: Bool
    /// The earlier layer whose keys and values it uses; nil where it has its own.
    var keySource: Int?
    /// Inner width of the dense layer.
    var denseWidth: Int
  }

  var vocabulary: Int
  var hidden: Int
  var normEpsilon: Float
  var tiedEmbeddings: Bool
  var heads: Int
  /// Layers with a window.
  var sliding: Attention
  /// Layers that see everything.
  var full: Attention
  var layers: [Layer]
  var feedForward: FeedForward
  /// Inner width of a routed expert; 0 without experts.
  var expertWidth: Int
  /// Logits are brought between plus and minus this; nil for no cap.
  var softcap: Float?
  /// Channels of each layer's own embedding; 0 without.
  var layerEmbedding: Int
  /// Entries of the table of the layers' embeddings.
  var layerVocabulary: Int

  var layerCount: Int { layers.count }

  /// Keys and values of layers that see all before.
  var kept: Int {
    layers.indices.map { layer in
      let a = attention(layer)
      return a.window == nil ? GroupedAttention.kept(a.keyHeads, a.headWidth, a.headWidth) : 0
    }.max() ?? 0
  }

  /// Every layer has a dense layer; experts add to it.
  func isDense(_ layer: Int) -> Bool { feedForward.experts == 0 }

  /// What a layer's attention is like.
  func attention(_ layer: Int) -> Attention { layers[layer].isSliding ? sliding : full }

  /// Whether a later layer uses this layer's keys and values.
  func isShared(_ layer: Int) -> Bool { layers.contains { $0.keySource == layer } }
}
