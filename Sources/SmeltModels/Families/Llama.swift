// Llama (2, 3, 3.1 to 3.3, SmolLM2 and their kin). Nothing unusual: grouped-query attention and one dense layer, either with
// biases where the configuration says so. Early checkpoints leave out the base of the rotation and the number of key heads, and
// some hold the frequencies as tensors. Follows transformers' llama; Touvron et al., "Llama 2" (2023).

package import SmeltStorage
import SmeltTensors

/// The Llama architecture.
package struct Llama: DecoderFamily {
  /// `llama`.
  package static let modelTypes = ["llama"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// Frequencies that early checkpoints hold as tensors.
  package let dropRules: [DropRule]

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for an activation other than SiLU and rope types that are not read.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    var decoder = try Decoder(
      dense: config, defaults: Decoder.Defaults(hasOwnKeys: true, theta: 10000))
    decoder.attention.hasInputBias = try config.bool("attention_bias", default: false)
    decoder.attention.hasOutputBias = decoder.attention.hasInputBias
    decoder.feedForward.hasDenseBiases = try config.bool("mlp_bias", default: false)
    self.decoder = decoder
    weights = decoder.denseTable
    dropRules = [
      DropRule(
        "rotary-frequencies", "the configuration says how they are made",
        prefixes: decoder.layers.indices.map { "model.layers.\($0).self_attn.rotary_emb." })
    ]
  }
}
