// Qwen2-MoE (Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B). Unusual: one wide shared expert whose output a sigmoid gate weighs
// for each token; the factors of the chosen experts are left as they are; queries, keys and values have biases; some layers
// may be dense. Follows transformers' qwen2_moe.

package import SmeltStorage
import SmeltTensors

/// The Qwen2-MoE architecture.
package struct Qwen2MoE: DecoderFamily {
  /// `qwen2_moe`.
  package static let modelTypes = ["qwen2_moe"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    try config.refuseUnplacedWindows()
    let normalizes = try config.bool("norm_topk_prob", default: false)
    var decoder = try Decoder(
      config, expertWidth: "moe_intermediate_size",
      router: Router(score: .softmax, perToken: 1, weighting: normalizes ? .normalized : .plain))
    decoder.attention.hasInputBias = try config.bool("qkv_bias", default: true)
    decoder.feedForward.shared = .gated
    decoder.sharedWidth = try config.integer("shared_expert_intermediate_size", in: 1...1 << 24)
    for (index, isDense) in try config.denseLayers(decoder.layers.count).enumerated() {
      decoder.layers[index].isDense = isDense
    }
    decoder.denseWidth = try config.integer("intermediate_size", in: 1...1 << 24)
    self.decoder = decoder
    weights = decoder.weightTable { rows in
      let (hidden, experts) = (decoder.hidden, decoder.feedForward.experts)
      guard !decoder.layers[rows.layer].isDense else {
        return rows.dense("mlp", width: decoder.denseWidth, hidden: hidden)
      }
      rows.add("ffn_gate_inp.weight", [experts, hidden], .router, "mlp.gate.weight")
      rows.experts(experts, width: decoder.expertWidth, hidden: hidden, "mlp.experts")
      rows.add("ffn_gate_inp_shexp.weight", [1, hidden], .router, "mlp.shared_expert_gate.weight")
      rows.shared("mlp.shared_expert", width: decoder.sharedWidth, hidden: hidden)
    }
  }
}
