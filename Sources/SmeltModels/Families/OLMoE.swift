// OLMoE. Unusual: queries and keys are normed over the whole projection, all heads together, and may be clamped after;
// the factors of the chosen experts are left as they are. Follows transformers' olmoe; Muennighoff et al., "OLMoE" (2024).

package import SmeltStorage
import SmeltTensors

/// The OLMoE architecture.
package struct OLMoE: DecoderFamily {
  /// `olmoe`.
  package static let modelTypes = ["olmoe"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    let normalizes = try config.bool("norm_topk_prob", default: false)
    var decoder = try Decoder(
      config, expertWidth: "intermediate_size",
      router: Router(score: .softmax, perToken: 1, weighting: normalizes ? .normalized : .plain))
    decoder.attention.norm = .wholeProjection
    decoder.attention.hasInputBias = try config.bool("attention_bias", default: false)
    decoder.attention.hasOutputBias = decoder.attention.hasInputBias
    if config.value("clip_qkv") != nil {
      decoder.attention.clip = Float(try config.number("clip_qkv", in: 1e-6...1e9))
    }
    self.decoder = decoder
    weights = decoder.weightTable { rows in
      let (hidden, experts) = (decoder.hidden, decoder.feedForward.experts)
      rows.add("ffn_gate_inp.weight", [experts, hidden], .router, "mlp.gate.weight")
      rows.experts(experts, width: decoder.expertWidth, hidden: hidden, "mlp.experts")
    }
  }
}
