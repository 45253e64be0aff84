// Mistral (7B and its kin). Llama without biases, and a window that all layers share: a query sees the last tokens only. A head's
// width need not be the stream's divided by the heads. Follows transformers' mistral; Jiang et al., "Mistral 7B" (2023).

package import SmeltStorage
import SmeltTensors

/// The Mistral architecture.
package struct Mistral: DecoderFamily {
  /// `mistral`.
  package static let modelTypes = ["mistral"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers 5 saves it. A window that is not mentioned has 4096 tokens, one
  /// that is null sees everything.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for an activation other than SiLU and rope types that are not read.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    var decoder = try Decoder(dense: config)
    if config.value("layer_types") == nil, let window = try config.window(default: 4096) {
      for index in decoder.layers.indices { decoder.layers[index].window = window }
    }
    self.decoder = decoder
    weights = decoder.denseTable
  }
}
