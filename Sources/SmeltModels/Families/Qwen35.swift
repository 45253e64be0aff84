// Qwen3.5 and 3.6 (27B; 35B-A3B, 122B-A10B, 397B-A17B), dense and with experts. Unusual: three of four layers keep a matrix for
// each head instead of keys (a gated delta rule behind a short convolution), the fourth has softmax attention whose heads are
// gated; norms' scales are stored as distances from 1; a quarter of each head is rotated; one shared expert behind a gate. A
// block that drafts tokens stands under `mtp.`. Follows transformers' qwen3_5 and qwen3_5_moe.

package import SmeltStorage
import SmeltTensors

/// The Qwen3.5 architecture with experts.
package struct Qwen35MoE: DecoderFamily {
  /// `qwen3_5_moe_text`: the text model of `qwen3_5_moe`.
  package static let modelTypes = ["qwen3_5_moe_text"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// The block under `mtp.`.
  package let drafts: DraftBlocks
  /// The hub's stacks, and a tensor for each expert's matrix, as in the hub's FP8 checkpoints.
  package var dialects: [String] { ["hub", "experts"] }

  /// Reads the text model's configuration.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    var decoder = try Decoder(
      config, expertWidth: "moe_intermediate_size", rotaryFraction: 0.25,
      router: Router(score: .softmax, perToken: 1, weighting: .normalized), defaults: Decoder.hybridDefaults)
    try decoder.readHybrid(config, .apart)
    decoder.feedForward.shared = .gated
    decoder.sharedWidth = try config.integer("shared_expert_intermediate_size", in: 1...1 << 24)
    self.decoder = decoder
    weights = decoder.weightTable { decoder.gatedMixture(&$0, stacks: .published) }
    drafts = try decoder.qwenDrafts(config) { [decoder] in decoder.gatedMixture(&$0, stacks: .published) }
  }
}

/// The Qwen3.5 architecture without experts.
package struct Qwen35: DecoderFamily {
  /// `qwen3_5_text`: the text model of `qwen3_5`.
  package static let modelTypes = ["qwen3_5_text"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// The block under `mtp.`.
  package let drafts: DraftBlocks

  /// Reads the text model's configuration.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    var decoder = try Decoder(dense: config, rotaryFraction: 0.25, defaults: Decoder.hybridDefaults)
    try decoder.readHybrid(config, .apart)
    self.decoder = decoder
    weights = decoder.denseTable
    drafts = try decoder.qwenDrafts(config) { [decoder] rows in
      rows.dense("mlp", width: decoder.denseWidth, hidden: decoder.hidden)
    }
  }
}
