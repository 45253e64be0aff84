// What config.json says of layers with linear attention: `linear_num_key_heads` and its kin, and which layers they are.

import SmeltStorage

extension DeltaAttention {
  /// The word for such a layer in `layer_types`.
  static let layerType = "linear_attention"

  /// Reads the sizes.
  /// - Throws: `CFG_VALUE` with key, found and expected.
  init(_ config: ConfigReader, _ projections: Projections) throws(FormatError) {
    keyHeads = try config.integer("linear_num_key_heads", in: 1...65536)
    valueHeads = try config.integer("linear_num_value_heads", in: 1...65536)
    guard valueHeads % keyHeads == 0 else {
      throw config.error(
        "linear_num_value_heads", "found \(valueHeads), expected a multiple of the \(keyHeads) heads of keys")
    }
    keyWidth = try config.integer("linear_key_head_dim", in: 1...65536)
    valueWidth = try config.integer("linear_value_head_dim", in: 1...65536)
    kernel = try config.integer("linear_conv_kernel_dim", in: 1...1024)
    self.projections = projections
  }
}

extension Decoder {
  /// Takes over what hybrid Qwen models have: linear attention in most layers, gated softmax attention in the others, norms whose
  /// scales are stored as distances from 1, and norms of queries and keys.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for attention without its gate.
  mutating func readHybrid(_ config: ConfigReader, _ projections: DeltaAttention.Projections) throws {
    guard try config.bool("attn_output_gate", default: true) else {
      throw RequestError(
        .unsupported, "'attn_output_gate' is false in '\(config.file)'", help: "supported: true")
    }
    try config.requireSupported("output_gate_type", ["silu", "swish"])
    linear = try DeltaAttention(config, projections)
    normOffset = 1
    attention.norm = .perHead
    attention.hasOutputGate = true
    attention.hasInputBias = try config.bool("attention_bias", default: false)
    attention.hasOutputBias = attention.hasInputBias
    if let types = try config.strings("layer_types") {
      for (index, type) in types.enumerated() { layers[index].isLinear = type == DeltaAttention.layerType }
    } else {
      let interval = try config.integer("full_attention_interval", in: 1...4096, default: 4)
      for index in layers.indices { layers[index].isLinear = (index + 1) % interval != 0 }
    }
  }

  /// What such models take for granted.
  static let hybridDefaults = Defaults(otherLayers: [DeltaAttention.layerType])
}
