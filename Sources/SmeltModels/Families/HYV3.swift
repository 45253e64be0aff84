// Hunyuan 3 (Hy3). Qwen3's attention, grouped queries with a norm over each head, under DeepSeek-V3's router: sigmoid scores, a bias
// that only chooses, the chosen factors brought to a sum of 1 and scaled, a shared expert, one dense layer first. Its checkpoints have
// words of their own for router, bias and shared expert, and a block that drafts tokens ends with `final_layernorm`. Follows
// transformers' hy_v3.

package import SmeltStorage
import SmeltTensors

/// The Hunyuan 3 architecture.
package struct HYV3: DecoderFamily {
  /// `hy_v3`.
  package static let modelTypes = ["hy_v3"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// The blocks that draft tokens, which follow the last layer.
  package let drafts: DraftBlocks

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for an activation other than SiLU, biases of dense layers, another router, heads
  ///   without norms, windows, and rotations of a part of a head.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    try config.require("qk_norm", true, "hy_v3 norms queries and keys")
    try config.require("moe_router_use_sigmoid", true, "hy_v3 scores experts by a sigmoid")
    try config.require("route_norm", true, "hy_v3 brings the chosen factors to a sum of 1")
    try config.require("mlp_bias", false, "hy_v3 has no biases in experts and dense layers")
    var decoder = try Decoder(
      config, expertWidth: "moe_intermediate_size",
      router: Router(score: .sigmoid, perToken: 1, weighting: .normalized))
    try HYV3.refuseOtherAttention(decoder, config)
    if config.value("expert_hidden_dim") != nil {
      _ = try config.integer("expert_hidden_dim", from: decoder.expertWidth, to: decoder.expertWidth)
    }
    decoder.attention.norm = .perHead
    decoder.attention.hasInputBias = try config.bool("attention_bias", default: false)
    decoder.attention.hasOutputBias = decoder.attention.hasInputBias
    decoder.feedForward.router.scaling = Float(
      try config.number("router_scaling_factor", in: 1e-6...1e6, default: 2.826))
    decoder.feedForward.hasSelectionBias = try config.bool("moe_router_enable_expert_bias", default: true)
    let shared = try config.integer("num_shared_experts", in: 0...64, default: 1)
    decoder.feedForward.shared = shared > 0 ? .plain : .none
    decoder.sharedWidth = shared * decoder.expertWidth
    for (index, isDense) in try config.firstDenseLayers(decoder.layers.count, default: 1).enumerated() {
      decoder.layers[index].isDense = isDense
    }
    if decoder.layers.contains(where: \.isDense) {
      decoder.denseWidth = try config.integer("intermediate_size", in: 1...1 << 24)
    }
    self.decoder = decoder
    drafts = decoder.drafts(declared: try config.declaredDrafts(), norm: "final_layernorm") { [decoder] in
      HYV3.mixture(decoder, &$0)
    }
    weights = decoder.weightTable { rows in
      guard decoder.layers[rows.layer].isDense else { return HYV3.mixture(decoder, &rows) }
      rows.dense("mlp", width: decoder.denseWidth, hidden: decoder.hidden)
    }
  }

  private static func refuseOtherAttention(_ decoder: Decoder, _ config: ConfigReader) throws {
    guard decoder.layers.allSatisfy({ $0.window == nil }) else {
      throw RequestError(
        .unsupported, "'layer_types' asks for a window in '\(config.file)'", help: "supported: full_attention"
      )
    }
    let rotated = 2 * decoder.attention.rope.frequencies.count
    guard rotated == decoder.attention.headWidth else {
      throw RequestError(
        .unsupported,
        "'\(config.file)' rotates \(rotated) channels of a head of \(decoder.attention.headWidth)",
        help: "supported: all of them")
    }
  }

  /// The rows of a layer's experts.
  private static func mixture(_ decoder: Decoder, _ rows: inout LayerRows) {
    let (hidden, experts) = (decoder.hidden, decoder.feedForward.experts)
    rows.add(
      "ffn_gate_inp.weight", [experts, hidden], .router, "mlp.router.gate.weight", memory: "mlp.gate.weight")
    if decoder.feedForward.hasSelectionBias {
      rows.add(
        "exp_probs_b.bias", [experts], .selectionBias, "mlp.expert_bias",
        memory: "mlp.e_score_correction_bias")
    }
    rows.experts(experts, width: decoder.expertWidth, hidden: hidden, "mlp.experts")
    if decoder.sharedWidth > 0 {
      rows.shared(
        "mlp.shared_mlp", width: decoder.sharedWidth, hidden: hidden, memory: "mlp.shared_experts")
    }
  }
}
