// GLM-4.7-Flash. DeepSeek-V3 throughout: latent attention with queries from a latent, sigmoid scores with a bias that only chooses, a
// shared expert, one dense layer first. Unusual: the block that drafts tokens keeps embeddings and a head of its own. Follows
// transformers' glm4_moe_lite.

package import SmeltStorage

/// The GLM-4.7-Flash architecture.
package struct GLM4MoELite: LatentFamily {
  /// `glm4_moe_lite`.
  package static let modelTypes = ["glm4_moe_lite"]

  /// Its numbers and its forward pass.
  package let decoder: LatentDecoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers saves it.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for an activation other than SiLU, other routers, and rope types other than
  ///   default and yarn.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    try config.requireRotatedShare(1)
    decoder = try LatentDecoder(config, firstDense: 1, hasSelectionBias: true, usualShared: 1) { experts in
      try DeepSeekV3.router(config, experts: experts, groups: 1, scaling: 1.8)
    }
    weights = decoder.weightTable()
  }
}
