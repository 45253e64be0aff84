// Qwen3-Next (80B-A3B). Qwen3.5's layers with other matrices: queries, keys, values and gates of the linear attention are one
// projection whose rows stand head of keys by head of keys. Whether the chosen factors are brought to a sum of 1 and which layers
// are dense is in the configuration. Follows transformers' qwen3_next.

package import SmeltStorage
import SmeltTensors

/// The Qwen3-Next architecture.
package struct Qwen3Next: DecoderFamily {
  /// `qwen3_next`.
  package static let modelTypes = ["qwen3_next"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// The block under `mtp.`.
  package let drafts: DraftBlocks

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    try config.refuseUnplacedWindows()
    let normalizes = try config.bool("norm_topk_prob", default: true)
    var decoder = try Decoder(
      config, expertWidth: "moe_intermediate_size", rotaryFraction: 0.25,
      router: Router(score: .softmax, perToken: 1, weighting: normalizes ? .normalized : .plain),
      defaults: Decoder.hybridDefaults)
    try decoder.readHybrid(config, .byKeyHead)
    decoder.feedForward.shared = .gated
    decoder.sharedWidth = try config.integer("shared_expert_intermediate_size", in: 1...1 << 24)
    for (index, isDense) in try config.denseLayers(decoder.layers.count).enumerated() {
      decoder.layers[index].isDense = isDense
    }
    if decoder.layers.contains(where: \.isDense) {
      decoder.denseWidth = try config.integer("intermediate_size", in: 1...1 << 24)
    }
    self.decoder = decoder
    weights = decoder.weightTable { rows in
      guard decoder.layers[rows.layer].isDense else { return decoder.gatedMixture(&rows) }
      rows.dense("mlp", width: decoder.denseWidth, hidden: decoder.hidden)
    }
    drafts = try decoder.qwenDrafts(config) { [decoder] in decoder.gatedMixture(&$0) }
  }
}

extension Decoder {
  /// The rows of a layer's experts and of the shared expert behind its gate, in Qwen's words.
  func gatedMixture(_ rows: inout LayerRows, stacks: LayerRows.Stacks = .inMemory) {
    let experts = feedForward.experts
    rows.add("ffn_gate_inp.weight", [experts, hidden], .router, "mlp.gate.weight")
    rows.experts(experts, width: expertWidth, hidden: hidden, "mlp.experts", stacks: stacks)
    rows.add("ffn_gate_inp_shexp.weight", [1, hidden], .router, "mlp.shared_expert_gate.weight")
    rows.shared("mlp.shared_expert", width: sharedWidth, hidden: hidden)
  }

  /// The block that drafts tokens, under `mtp.`: what joins it to the model stands beside its layer, and its attention is softmax.
  /// One is looked for where the configuration counts none: Qwen3-Next's does not.
  func qwenDrafts(
    _ config: ConfigReader, _ feedForward: @escaping @Sendable (inout LayerRows) -> Void
  ) throws -> DraftBlocks {
    let declared = try config.declaredDrafts()
    let first = layers.count
    let plain = drafts(declared: declared, feedForward)
    return DraftBlocks(
      declared: declared, prefixes: ["mtp."], first: first, experts: self.feedForward.experts
    ) { layer in
      guard layer == first else { return [] }
      return plain.table(layer - first).map { $0.renamed { Decoder.qwenDraftName($0, layer: layer) } }
    }
  }

  /// `model.layers.40.eh_proj.weight` as `mtp.fc.weight`, `model.layers.40.self_attn…` as `mtp.layers.0.self_attn…`.
  private static func qwenDraftName(_ name: String, layer: Int) -> String {
    let prefix = "model.layers.\(layer)."
    guard name.hasPrefix(prefix) else { return name }
    let rest = String(name.dropFirst(prefix.count))
    let beside = [
      "eh_proj.weight": "fc.weight", "enorm.weight": "pre_fc_norm_embedding.weight",
      "hnorm.weight": "pre_fc_norm_hidden.weight", "shared_head.norm.weight": "norm.weight",
      "embed_tokens.weight": "embed_tokens.weight", "shared_head.head.weight": "lm_head.weight",
    ]
    if let found = beside[rest] { return "mtp.\(found)" }
    return "mtp.layers.0.\(rest)"
  }
}
