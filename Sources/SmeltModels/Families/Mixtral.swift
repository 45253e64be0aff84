// Mixtral. Nothing unusual: grouped-query attention, and a softmax router whose chosen factors are always brought to a
// sum of 1. Its checkpoints call gate, up and down w1, w3 and w2. Follows transformers' mixtral; Jiang et al.,
// "Mixtral of Experts" (2024).

package import SmeltStorage
import SmeltTensors

/// The Mixtral architecture.
package struct Mixtral: DecoderFamily {
  /// `mixtral`.
  package static let modelTypes = ["mixtral"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    var decoder = try Decoder(
      config, expertWidth: "intermediate_size",
      router: Router(score: .softmax, perToken: 1, weighting: .normalized))
    if config.value("sliding_window") != nil, config.value("layer_types") == nil {
      let window = try config.integer("sliding_window", in: 1...1 << 40)
      for index in decoder.layers.indices { decoder.layers[index].window = window }
    }
    self.decoder = decoder
    weights = decoder.weightTable { rows in
      let (hidden, experts) = (decoder.hidden, decoder.feedForward.experts)
      rows.add(
        "ffn_gate_inp.weight", [experts, hidden], .router, "block_sparse_moe.gate.weight",
        memory: "mlp.gate.weight")
      rows.experts(
        experts, width: decoder.expertWidth, hidden: hidden, "block_sparse_moe.experts",
        names: (gate: "w1", up: "w3", down: "w2"))
    }
  }
}
