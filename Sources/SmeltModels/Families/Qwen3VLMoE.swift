// The text model of Qwen3-VL with experts (30B-A3B, 235B-A22B): Qwen3-MoE, whose experts the hub keeps in stacks that lie transposed,
// [experts, input channels, output channels], gate channels before up channels. A token's three positions are one in a text. Follows
// transformers' qwen3_vl_moe.

package import SmeltStorage
import SmeltTensors

/// The text architecture of Qwen3-VL-MoE.
package struct Qwen3VLMoE: DecoderFamily {
  /// `qwen3_vl_moe_text`: the text model of `qwen3_vl_moe`.
  package static let modelTypes = ["qwen3_vl_moe_text"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// The hub's stacks, a tensor for each expert's matrix, and stacks that are not transposed, as transformers 5 saves them.
  package var dialects: [String] { ["hub", "experts", "transformers"] }
  /// Not the last: the others are published.
  package var writtenDialects: [String] { ["hub", "experts"] }

  /// Reads the text model's configuration.
  package init(config: JSON, file: String) throws {
    guard try ConfigReader(config, file: file).bool("norm_topk_prob", default: true) else {
      throw RequestError(
        .unsupported, "'norm_topk_prob' is false in '\(file)'",
        help: "supported: true; implementations of qwen3_vl_moe disagree on false")
    }
    var decoder = try Qwen3MoE(config: config, file: file).decoder
    decoder.feedForward.router.weighting = .normalized
    guard 2 * decoder.attention.rope.frequencies.count == decoder.attention.headWidth else {
      throw RequestError(
        .unsupported, "only a share of each head's channels is rotated in '\(file)'",
        help: "supported: all of them, without 'partial_rotary_factor' and 'rotary_dim'")
    }
    self.decoder = decoder
    weights = decoder.weightTable { [decoder] in Qwen3MoE.feedForward(decoder, &$0, stacks: .transposed) }
      .map { spec in
        var spec = spec
        let hub = spec.spellings[0]
        spec.spellings.append(Spelling(hub.tensor, stackIndex: hub.stackIndex, rows: hub.rows))
        return spec
      }
  }
}
