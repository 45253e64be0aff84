// Qwen2 and Qwen2.5, dense. Llama with biases on queries, keys and values and none on the output; the layers from
// `max_window_layers` on may see a window only. Follows transformers' qwen2. The text models of Qwen2-VL, Qwen2.5-VL and Qwen2.5-Omni are
// the same: their rotation goes by three positions of a token, which are one in a text.

package import SmeltStorage
import SmeltTensors

/// The Qwen2 architecture.
package struct Qwen2: DecoderFamily {
  /// `qwen2`, and text models of others.
  package static let modelTypes = ["qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for an activation other than SiLU and rope types that are not read.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    var decoder = try Decoder(dense: config)
    decoder.attention.hasInputBias = true
    try config.placeUpperWindows(&decoder.layers)
    self.decoder = decoder
    weights = decoder.denseTable
  }
}
