// Mistral Small 4. Latent attention with YaRN, DeepSeek-V2's softmax over all experts with the chosen factors brought to a sum of 1, a
// shared expert, no dense layers. Unusual: queries grow with their position (`llama_4_scaling_beta`); groups of experts, where there
// are any, are scored by their two best; published files stack the experts of a layer. Follows transformers' mistral4. The published
// model stands inside a Mistral3 wrapper.

package import SmeltStorage

/// The Mistral Small 4 architecture.
package struct Mistral4: LatentFamily {
  /// `mistral4`.
  package static let modelTypes = ["mistral4"]

  /// Its numbers and its forward pass.
  package let decoder: LatentDecoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// The hub's stacks, and a tensor for each expert's matrix.
  package var dialects: [String] { ["hub", "experts"] }

  /// Reads config.json as the hub has it or as transformers saves it.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for an activation other than SiLU, another function that scores experts, and
  ///   rope types other than default and yarn.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    // transformers has numbers of its own where nothing is said.
    guard let parameters = try config.ropeParameters() else {
      throw config.error("rope_parameters", "is missing, expected an object")
    }
    var decoder = try LatentDecoder(config, firstDense: 0, hasSelectionBias: false, usualShared: 1) {
      experts in
      try Mistral4.router(config, experts: experts)
    }
    let attention = decoder.attention
    let width = attention.rotaryWidth + attention.plainWidth
    guard try config.integer("head_dim", in: 1...1 << 24, default: width) == width else {
      throw config.error(
        "head_dim", "is not 'qk_nope_head_dim' + 'qk_rope_head_dim', \(width), of which a share is rotated")
    }
    let share = Double(attention.rotaryWidth) / Double(width)
    try config.requireRotatedShare(share)
    decoder.attention.temperature = try Mistral4.temperature(config, parameters)
    self.decoder = decoder
    weights = decoder.weightTable().map(\.withSpellingsReversed)
  }

  private static func router(_ config: ConfigReader, experts: Int) throws -> Router {
    try config.requireSupported("scoring_func", ["softmax"])
    var router = Router(
      score: .softmax, groupScore: .twoLargest,
      perToken: try config.integer("num_experts_per_tok", from: 1, to: experts),
      weighting: try config.bool("norm_topk_prob", default: true) ? .normalized : .plain,
      scaling: Float(try config.number("routed_scaling_factor", in: 1e-6...1e6, default: 1)))
    try router.readGroups(config, experts: experts, default: 1)
    return router
  }

  private static func temperature(_ config: ConfigReader, _ parameters: ConfigReader) throws
    -> QueryTemperature?
  {
    let (key, original) = ("llama_4_scaling_beta", "original_max_position_embeddings")
    guard parameters.value(key) != nil else { return nil }
    let beta = try parameters.number(key, in: 0...1e3)
    let reader = config.value(original) == nil ? parameters : config
    return QueryTemperature(beta: Float(beta), length: try reader.integer(original, in: 1...1 << 40))
  }
}
