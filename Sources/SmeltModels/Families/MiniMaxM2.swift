// MiniMax-M2. Unusual: sigmoid scores with a bias that only chooses, and no factor; queries and keys normed over the whole
// projection; half of each head rotated. Its checkpoints have Mixtral's names, with the selection bias beside the router
// instead of under it. Follows transformers' minimax_m2.

package import SmeltStorage
import SmeltTensors

/// The MiniMax-M2 architecture.
package struct MiniMaxM2: DecoderFamily {
  /// `minimax_m2`.
  package static let modelTypes = ["minimax_m2"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// The multi-token-prediction modules.
  package let drafts: DraftBlocks

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    try config.requireSupported("scoring_func", ["sigmoid"])
    try config.requireSupported("qk_norm_type", ["per_layer"])
    var decoder = try Decoder(
      config, expertWidth: "intermediate_size",
      router: Router(score: .sigmoid, perToken: 1, weighting: .normalized))
    let count = decoder.layers.count
    if let types = try config.integers("attn_type_list", in: 0...255) {
      guard types.count == count else {
        throw config.error("attn_type_list", "found \(types.count) entries, expected \(count)")
      }
      guard types.allSatisfy({ $0 == 1 }) else {
        throw RequestError(
          .unsupported, "'\(file)' asks for linear attention in 'attn_type_list'",
          help: "supported: 1, softmax attention, in every layer")
      }
    }
    if try config.integer("shared_intermediate_size", in: 0...1 << 24, default: 0) > 0 {
      throw RequestError(.unsupported, "'\(file)' asks for a shared expert, which minimax_m2 does not have")
    }
    decoder.attention.norm = try config.bool("use_qk_norm", default: true) ? .wholeProjection : .none
    decoder.feedForward.hasSelectionBias = try config.bool("use_routing_bias", default: true)
    self.decoder = decoder
    let predicted = try config.integer("num_mtp_modules", in: 0...64, default: 0)
    drafts = decoder.drafts(declared: predicted, more: ["model.mtp.", "mtp."]) { [decoder] in
      MiniMaxM2.mixture(decoder, &$0)
    }
    weights = decoder.weightTable { MiniMaxM2.mixture(decoder, &$0) }
  }

  /// The rows of a layer's routed experts, for MiniMax-M3 too.
  /// - Parameter bias: transformers' name in memory for the selection bias.
  static func mixture(
    _ decoder: Decoder, _ rows: inout LayerRows, bias: String = "mlp.e_score_correction_bias"
  ) {
    let (hidden, experts) = (decoder.hidden, decoder.feedForward.experts)
    rows.add(
      "ffn_gate_inp.weight", [experts, hidden], .router, "block_sparse_moe.gate.weight",
      memory: "mlp.gate.weight")
    if decoder.feedForward.hasSelectionBias {
      rows.add(
        "exp_probs_b.bias", [experts], .selectionBias, "block_sparse_moe.e_score_correction_bias",
        memory: bias)
    }
    rows.experts(
      experts, width: decoder.expertWidth, hidden: hidden, "block_sparse_moe.experts",
      names: (gate: "w1", up: "w3", down: "w2"))
  }
}
