// DeepSeek-V3.2. Unusual beside V3: in every layer an indexer of many small heads scores all tokens before, and the latent
// attention sees only the best `index_topk` of them. The indexer's queries come from the latent of the attention's; its
// rotation turns halves of the leading channels, where the attention turns interleaved pairs. Follows DeepSeek-AI,
// "DeepSeek-V3.2" (2025), deepseek-ai/DeepSeek-V3.2-Exp inference/model.py, and transformers' deepseek_v32.

package import SmeltStorage

/// The DeepSeek-V3.2 architecture.
package struct DeepSeekV32: LatentFamily {
  /// `deepseek_v32`.
  package static let modelTypes = ["deepseek_v32"]

  /// Its numbers and its forward pass.
  package let decoder: LatentDecoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    let indexer = try DeepSeekV32.indexer(config)
    decoder = try LatentDecoder(config, firstDense: 3, hasSelectionBias: true, indexer: indexer) { experts in
      try DeepSeekV3.router(config, experts: experts)
    }
    weights = decoder.weightTable()
  }

  private static func indexer(_ config: ConfigReader) throws -> TokenIndexer {
    // Its queries need the latent.
    _ = try config.integer("q_lora_rank", in: 1...1 << 24)
    let layers = try config.integer("num_hidden_layers", in: 1...Bounds.layers)
    if let types = try config.strings("layer_types") {
      guard types.count == layers else {
        throw config.error("layer_types", "found \(types.count) entries, expected \(layers)")
      }
      if let other = types.first(where: { $0 != "indexed_attention" }) {
        throw RequestError(
          .unsupported, "'layer_types' holds '\(other)' in '\(config.file)'",
          help: "supported: indexed_attention")
      }
    }
    let rotary = try config.integer("qk_rope_head_dim", in: 2...65536)
    return TokenIndexer(
      heads: try config.integer("index_n_heads", in: 1...65536),
      width: try config.integer("index_head_dim", from: rotary, to: 65536),
      keep: try config.integer("index_topk", in: 1...1 << 24))
  }
}
