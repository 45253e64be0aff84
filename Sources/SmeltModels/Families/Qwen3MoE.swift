// Qwen3-MoE (30B-A3B, 235B-A22B and their kin). Unusual: queries and keys are normed head by head before rotation, and
// a head's width is not the stream's divided by the heads; no shared expert; some layers may be dense. Whether the chosen
// factors are brought to a sum of 1 is in the configuration. Follows transformers' qwen3_moe.

package import SmeltStorage
import SmeltTensors

/// The Qwen3-MoE architecture.
package struct Qwen3MoE: DecoderFamily {
  /// `qwen3_moe`, and the thinker of Qwen3-Omni, whose three positions of a token are one in a text. Not Qwen3-VL's text model,
  /// whose stacks of experts may lie transposed.
  package static let modelTypes = ["qwen3_moe", "qwen3_omni_moe_text"]

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
    decoder.attention.norm = .perHead
    decoder.attention.hasInputBias = try config.bool("attention_bias", default: false)
    decoder.attention.hasOutputBias = decoder.attention.hasInputBias
    for (index, isDense) in try config.denseLayers(decoder.layers.count).enumerated() {
      decoder.layers[index].isDense = isDense
    }
    if decoder.layers.contains(where: \.isDense) {
      decoder.denseWidth = try config.integer("intermediate_size", in: 1...1 << 24)
    }
    self.decoder = decoder
    weights = decoder.weightTable { Qwen3MoE.feedForward(decoder, &$0, stacks: .inMemory) }
  }

  /// The rows of a layer's feed-forward half.
  static func feedForward(_ decoder: Decoder, _ rows: inout LayerRows, stacks: LayerRows.Stacks) {
    let (hidden, experts) = (decoder.hidden, decoder.feedForward.experts)
    guard !decoder.layers[rows.layer].isDense else {
      return rows.dense("mlp", width: decoder.denseWidth, hidden: hidden)
    }
    rows.add("ffn_gate_inp.weight", [experts, hidden], .router, "mlp.gate.weight")
    rows.experts(experts, width: decoder.expertWidth, hidden: hidden, "mlp.experts", stacks: stacks)
  }
}
