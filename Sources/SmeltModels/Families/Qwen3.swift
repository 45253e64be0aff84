// Qwen3, dense. Queries and keys are normed head by head before rotation, and a head's width is not the stream's divided by the
// heads; biases of attention are a setting; the layers from `max_window_layers` on may see a window only. Follows transformers'
// qwen3.

package import SmeltStorage
import SmeltTensors

/// The Qwen3 architecture.
package struct Qwen3: DecoderFamily {
  /// `qwen3`, and the text model of Qwen3-VL, whose three positions of a token are one in a text.
  package static let modelTypes = ["qwen3", "qwen3_vl_text"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for an activation other than SiLU and rope types that are not read.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    var decoder = try Decoder(dense: config)
    decoder.attention.norm = .perHead
    decoder.attention.hasInputBias = try config.bool("attention_bias", default: false)
    decoder.attention.hasOutputBias = decoder.attention.hasInputBias
    try config.placeUpperWindows(&decoder.layers)
    self.decoder = decoder
    weights = decoder.denseTable
  }
}
