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
    let indexer = try TokenIndexer(config, pairing: .halves)
    decoder = try LatentDecoder(config, firstDense: 3, hasSelectionBias: true, indexer: indexer) { experts in
      try DeepSeekV3.router(config, experts: experts)
    }
    weights = decoder.weightTable()
  }
}
