// gpt-oss (20b, 120b). Unusual: every other layer sees a window only, and each head has a sink; YaRN's ramp is not rounded
// and gives a magnitude; the router's softmax is over the chosen experts alone; all projections have biases, experts
// included, and experts multiply (up + 1) by a clamped gate. Experts of a layer are stacked, gate and up rows interleaved:
// in BF16 with input channels first, in the released MXFP4 files (`_blocks`, `_scales`) with output channels first.
// Follows transformers' gpt_oss and openai/gpt-oss gpt_oss/torch/model.py.

package import SmeltStorage
import SmeltTensors

/// The gpt-oss architecture.
package struct GPTOSS: DecoderFamily {
  /// `gpt_oss`.
  package static let modelTypes = ["gpt_oss"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    guard try config.number("swiglu_alpha", in: 0...1e6, default: 1.702) == 1.702 else {
      throw RequestError(
        .unsupported, "'swiglu_alpha' is another number than 1.702 in '\(file)'", help: "supported: 1.702")
    }
    var decoder = try Decoder(
      config, expertWidth: "intermediate_size",
      router: Router(score: .identity, perToken: 1, weighting: .softmax))
    decoder.attention.hasInputBias = try config.bool("attention_bias", default: true)
    decoder.attention.hasOutputBias = decoder.attention.hasInputBias
    decoder.attention.hasSinks = true
    if config.value("layer_types") == nil {
      let window = try config.integer("sliding_window", in: 1...1 << 40)
      for index in decoder.layers.indices where index % 2 == 0 { decoder.layers[index].window = window }
    }
    decoder.feedForward.hasRouterBias = true
    decoder.feedForward.hasExpertBiases = true
    decoder.feedForward.activation = .shiftedSwiglu(
      limit: Float(try config.number("swiglu_limit", in: 1e-6...1e9, default: 7)))
    self.decoder = decoder
    let table = decoder.weightTable { rows in
      let (hidden, width, experts) = (decoder.hidden, decoder.expertWidth, decoder.feedForward.experts)
      rows.add("ffn_gate_inp.weight", [experts, hidden], .router, "mlp.router.weight")
      rows.add("ffn_gate_inp.bias", [experts], .bias, "mlp.router.bias")
      for expert in 0..<experts {
        /// A matrix and its bias, every `stride`-th row of the stack's entry from `phase` on.
        func add(
          _ name: String, _ shape: Shape, _ role: Role, _ stack: String, stride: Int = 1, phase: Int = 0
        ) {
          let tensor = rows.path("mlp.experts.\(stack)")
          let matrix = Spelling(
            tensor, stackIndex: expert, rowStride: stride, rowPhase: phase, transposed: true)
          let bias = Spelling("\(tensor)_bias", stackIndex: expert, rowStride: stride, rowPhase: phase)
          rows.add("\(name).weight", expert: expert, shape, role, [matrix, matrix])
          rows.add("\(name).bias", expert: expert, [shape.rows], .bias, [bias, bias])
        }
        add("ffn_gate_exps", [width, hidden], .routedGate, "gate_up_proj", stride: 2, phase: 0)
        add("ffn_up_exps", [width, hidden], .routedUp, "gate_up_proj", stride: 2, phase: 1)
        add("ffn_down_exps", [hidden, width], .routedDown, "down_proj")
      }
    }
    weights = table.map(GPTOSS.withExpertTensors).map(\.clampedAfterUp)
  }
}
