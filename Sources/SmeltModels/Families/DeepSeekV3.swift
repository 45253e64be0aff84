// DeepSeek-V3 (V3, V3.1, R1, and Kimi-K2 and Moonlight, which have its architecture). Unusual beside V2's latent attention:
// experts scored by a sigmoid; a bias that chooses and never weighs; groups of experts scored by their two best; a layer
// behind the last that drafts tokens and is no part of the model's own pass. Follows DeepSeek-AI, "DeepSeek-V3 Technical
// Report" (2024), deepseek-ai/DeepSeek-V3 inference/model.py, and transformers' deepseek_v3.

package import SmeltStorage

/// The DeepSeek-V3 architecture.
package struct DeepSeekV3: LatentFamily {
  /// `deepseek_v3`, and `kimi_k2` for the same.
  package static let modelTypes = ["deepseek_v3", "kimi_k2"]

  /// Its numbers and its forward pass.
  package let decoder: LatentDecoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    decoder = try LatentDecoder(config, firstDense: 3, hasSelectionBias: true) { experts in
      try DeepSeekV3.router(config, experts: experts)
    }
    weights = decoder.weightTable()
  }

  /// The router, which V3.2 and GLM's families have too.
  /// - Parameters:
  ///   - groups: the groups of experts where the configuration does not count them; nil where it must.
  ///   - scaling: the factor of the chosen experts where the configuration does not say it.
  static func router(
    _ config: ConfigReader, experts: Int, groups fallback: Int? = nil, scaling: Double = 1
  ) throws -> Router {
    try config.requireSupported("scoring_func", ["sigmoid"])
    try config.requireSupported("topk_method", ["noaux_tc"])
    var router = Router(
      score: .sigmoid, groupScore: .twoLargest,
      perToken: try config.integer("num_experts_per_tok", from: 1, to: experts),
      weighting: try config.bool("norm_topk_prob", default: true) ? .normalized : .plain,
      scaling: Float(try config.number("routed_scaling_factor", in: 1e-6...1e6, default: scaling)))
    try router.readGroups(config, experts: experts, default: fallback)
    return router
  }
}
