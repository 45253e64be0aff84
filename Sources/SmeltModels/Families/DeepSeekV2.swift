// DeepSeek-V2 (V2, V2.5, V2-Lite). Unusual: latent attention, whose keys and values come from one small vector a token and
// whose rotation has channels of its own; queries from a latent too, but not in V2-Lite; experts scored by a softmax over
// all of them and weighed without normalization; groups of experts scored by their best. Follows DeepSeek-AI, "DeepSeek-V2"
// (2024), the modeling_deepseek.py published with the weights, and transformers' deepseek_v2.

package import SmeltStorage

/// The DeepSeek-V2 architecture.
package struct DeepSeekV2: LatentFamily {
  /// `deepseek_v2`.
  package static let modelTypes = ["deepseek_v2"]

  /// Its numbers and its forward pass.
  package let decoder: LatentDecoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    decoder = try LatentDecoder(config, firstDense: 0, hasSelectionBias: false) { experts in
      try DeepSeekV2.router(config, experts: experts)
    }
    weights = decoder.weightTable()
  }

  private static func router(_ config: ConfigReader, experts: Int) throws -> Router {
    try config.requireSupported("scoring_func", ["softmax"])
    try config.requireSupported("topk_method", ["greedy", "group_limited_greedy"])
    // The published code divides by the sum and leaves the scaling out where this is true, transformers ignores it.
    // No published model has it; guessing would be silent.
    if try config.bool("norm_topk_prob", default: false) {
      throw RequestError(
        .unsupported, "'norm_topk_prob' is true in '\(config.file)'",
        help: "supported: false; implementations of deepseek_v2 disagree on true")
    }
    var router = Router(
      score: .softmax, groupScore: .largest,
      perToken: try config.integer("num_experts_per_tok", from: 1, to: experts), weighting: .plain,
      scaling: Float(try config.number("routed_scaling_factor", in: 1e-6...1e6, default: 1)))
    if try config.string("topk_method") == "group_limited_greedy" {
      try router.readGroups(config, experts: experts)
    }
    return router
  }
}
