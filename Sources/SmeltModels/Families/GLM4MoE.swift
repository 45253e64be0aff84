// GLM-4.5 and 4.6. Unusual: DeepSeek-V3's router (sigmoid scores, a bias that only chooses, groups of experts, a factor)
// and shared expert under grouped-query attention; half of each head is rotated; queries and keys may be normed head by
// head; the first layers are dense, and a multi-token-prediction layer follows the last one. Follows transformers' glm4_moe.

package import SmeltStorage
import SmeltTensors

/// The GLM-4.5 architecture.
package struct GLM4MoE: DecoderFamily {
  /// `glm4_moe`.
  package static let modelTypes = ["glm4_moe"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// The multi-token-prediction layers, which follow the last one.
  package let drafts: DraftBlocks

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    let normalizes = try config.bool("norm_topk_prob", default: true)
    var decoder = try Decoder(
      config, expertWidth: "moe_intermediate_size", rotaryFraction: 0.5,
      router: Router(score: .sigmoid, perToken: 1, weighting: normalizes ? .normalized : .plain))
    decoder.attention.hasInputBias = try config.bool("attention_bias", default: false)
    if try config.bool("use_qk_norm", default: false) { decoder.attention.norm = .perHead }

    let experts = decoder.feedForward.experts
    try decoder.feedForward.router.readGroups(config, experts: experts)
    decoder.feedForward.router.scaling = Float(
      try config.number("routed_scaling_factor", in: 1e-6...1e6, default: 1))
    decoder.feedForward.hasSelectionBias = true
    let shared = try config.integer("n_shared_experts", in: 0...64, default: 1)
    decoder.feedForward.shared = shared > 0 ? .plain : .none
    decoder.sharedWidth = shared * decoder.expertWidth

    let count = decoder.layers.count
    let dense = try config.integer("first_k_dense_replace", from: 0, to: count - 1, default: 1)
    for index in 0..<dense { decoder.layers[index].isDense = true }
    decoder.denseWidth = try config.integer("intermediate_size", in: 1...1 << 24)
    self.decoder = decoder
    let predicted = try config.integer("num_nextn_predict_layers", in: 0...64, default: 0)
    drafts = decoder.drafts(declared: predicted) { [decoder] in GLM4MoE.mixture(decoder, &$0) }
    weights = decoder.weightTable { rows in
      guard decoder.layers[rows.layer].isDense else { return GLM4MoE.mixture(decoder, &rows) }
      rows.dense("mlp", width: decoder.denseWidth, hidden: decoder.hidden)
    }
  }

  /// The rows of a layer's experts.
  private static func mixture(_ decoder: Decoder, _ rows: inout LayerRows) {
    let (hidden, experts) = (decoder.hidden, decoder.feedForward.experts)
    rows.add("ffn_gate_inp.weight", [experts, hidden], .router, "mlp.gate.weight")
    rows.add("exp_probs_b.bias", [experts], .selectionBias, "mlp.gate.e_score_correction_bias")
    rows.experts(experts, width: decoder.expertWidth, hidden: hidden, "mlp.experts")
    if decoder.sharedWidth > 0 {
      rows.shared("mlp.shared_experts", width: decoder.sharedWidth, hidden: hidden)
    }
  }
}
