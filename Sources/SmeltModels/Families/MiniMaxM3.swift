// MiniMax-M3 (427B-A26B). MiniMax-M2 and more: norms whose scales are stored as distances from 1, queries and keys normed head by
// head, the first layers dense, a shared expert, a factor of the routed sum, and gpt-oss's activation in experts and dense layers.
// Most layers are block-sparse: an indexer chooses for each key head the blocks of keys that its queries see. On the hub the text
// model is called `minimax_m3_vl_text` or nothing at all. Follows transformers' minimax_m3_vl; where only `rotary_dim` says how many
// channels are rotated it counts, as for the makers, though transformers looks at `partial_rotary_factor` alone.

package import SmeltStorage
import SmeltTensors

/// The MiniMax-M3 architecture.
package struct MiniMaxM3: DecoderFamily {
  /// `minimax_m3_vl_text`: the text model of `minimax_m3_vl`.
  package static let modelTypes = ["minimax_m3_vl_text"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// The multi-token-prediction modules, which are carried: no published weights say what their pass reads.
  package let drafts: DraftBlocks
  /// The hub's names: transformers saves under them what it has fused in memory.
  package var writtenDialects: [String] { ["hub"] }

  /// Reads the text model's configuration.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for another router, other norms, biases, windows, several shared experts and what
  ///   the indexer does not compute.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    try MiniMaxM3.refuseOthers(config)
    var decoder = try Decoder(
      config, expertWidth: "intermediate_size",
      router: Router(score: .sigmoid, perToken: 1, weighting: .normalized),
      defaults: Decoder.Defaults(
        otherLayers: [MiniMaxM3.sparseLayer], activations: ["silu", "swigluoai"]))
    try MiniMaxM3.requireRotation(config)
    guard decoder.layers.allSatisfy({ $0.window == nil }) else {
      throw RequestError(
        .unsupported, "'layer_types' asks for a window in '\(file)'",
        help: "supported: full_attention, \(MiniMaxM3.sparseLayer)")
    }
    decoder.normOffset = 1
    decoder.attention.norm = .perHead
    try decoder.readBlocks(config)
    let dense = try config.layerFlags(
      "mlp_layer_types", yes: "dense", no: "sparse", config, "moe_layer_freq", yes: 0, decoder.layers.count)
    for (index, isDense) in (dense ?? []).enumerated() { decoder.layers[index].isDense = isDense }
    if decoder.layers.contains(where: \.isDense) {
      decoder.denseWidth = try config.integer("dense_intermediate_size", in: 1...1 << 24)
    }
    decoder.sharedWidth = try config.integer("shared_intermediate_size", in: 1...1 << 24)
    decoder.feedForward.shared = .plain
    decoder.feedForward.hasSelectionBias = try config.bool("use_routing_bias", default: true)
    decoder.feedForward.router.scaling = Float(
      try config.number("routed_scaling_factor", in: 1e-6...1e6, default: 2))
    decoder.feedForward.activation = .shiftedSwiglu(
      alpha: Float(try config.number("swiglu_alpha", in: 0...1e6, default: 1.702)),
      limit: Float(try config.number("swiglu_limit", in: 1e-6...1e9, default: 7)))
    self.decoder = decoder
    let table = decoder.weightTable { rows in
      guard decoder.layers[rows.layer].isDense else { return MiniMaxM3.mixture(decoder, &rows) }
      rows.fused(
        "", (.denseGate, .denseUp, .denseDown), "mlp", "mlp", width: decoder.denseWidth,
        hidden: decoder.hidden)
    }
    weights = table.map(\.clampedAfterUp)
    drafts = try MiniMaxM3.drafts(decoder, config)
  }

  /// The word for a block-sparse layer in `layer_types`.
  static let sparseLayer = "minimax_m3_sparse"

  private static func refuseOthers(_ config: ConfigReader) throws {
    try config.requireSupported("scoring_func", ["sigmoid"])
    try config.requireSupported("qk_norm_type", ["per_head"])
    try config.require("use_qk_norm", true, "minimax_m3 norms queries and keys")
    try config.require("use_gemma_norm", true, "minimax_m3 stores scales of norms as distances from 1")
    try config.require("attention_bias", false, "minimax_m3 has no biases in attention")
    let shared = try config.integer("n_shared_experts", in: 0...64, default: 1)
    guard shared == 1 else {
      throw RequestError(
        .unsupported, "'n_shared_experts' is \(shared) in '\(config.file)'",
        help: "supported: 1, of 'shared_intermediate_size' channels")
    }
  }

  /// A count of rotated channels is there: without either, readers differ.
  private static func requireRotation(_ config: ConfigReader) throws {
    let (share, count) = ("partial_rotary_factor", "rotary_dim")
    let said = try config.ropeParameters()?.value(share) ?? config.value(share) ?? config.value(count)
    guard said != nil else { throw config.error(count, "is missing, expected a number") }
  }

  /// The rows of a layer's experts.
  private static func mixture(_ decoder: Decoder, _ rows: inout LayerRows) {
    MiniMaxM2.mixture(decoder, &rows, bias: "mlp.gate.e_score_correction_bias")
    rows.fused(
      "_shexp", (.sharedGate, .sharedUp, .sharedDown), "block_sparse_moe.shared_experts",
      "mlp.shared_experts", width: decoder.sharedWidth, hidden: decoder.hidden)
  }

  /// Modules under `model.mtp.layers.`, a block-sparse layer each under `transformer_layer`, which `num_mtp_modules` counts.
  private static func drafts(_ decoder: Decoder, _ config: ConfigReader) throws -> DraftBlocks {
    let declared = try config.integer("num_mtp_modules", in: 0...64, default: config.declaredDrafts())
    let first = decoder.layers.count
    let plain = decoder.drafts(declared: declared, norm: "final_layernorm") { mixture(decoder, &$0) }
    return DraftBlocks(
      declared: declared, prefixes: ["model.mtp.", "mtp."], first: first,
      experts: decoder.feedForward.experts, runs: false
    ) { layer in
      plain.table(layer - first).map { spec in
        spec.clampedAfterUp.renamed { draftName($0, layer: layer, block: layer - first) }
      }
    }
  }

  /// `model.layers.60.eh_proj.weight` as `model.mtp.layers.0.eh_proj.weight`, `model.layers.60.self_attn…` as
  /// `model.mtp.layers.0.transformer_layer.self_attn…`.
  private static func draftName(_ name: String, layer: Int, block: Int) -> String {
    let prefix = "model.layers.\(layer)."
    guard name.hasPrefix(prefix) else { return name }
    let rest = name.dropFirst(prefix.count)
    let beside = ["enorm.", "hnorm.", "eh_proj.", "final_layernorm.", "embed_tokens.", "shared_head."]
    return "model.mtp.layers.\(block)."
      + (beside.contains { rest.hasPrefix($0) } ? rest : "transformer_layer.\(rest)")
  }
}

extension LayerRows {
  /// The matrices of a dense layer or a shared expert; in transformers' memory gate and up are one, gate rows first.
  fileprivate mutating func fused(
    _ suffix: String, _ roles: (gate: Role, up: Role, down: Role), _ prefix: String, _ memory: String,
    width: Int, hidden: Int
  ) {
    func row(_ part: String, _ shape: Shape, _ role: Role, _ rows: Range<Int>?) {
      let tensor = rows == nil ? "down_proj" : "gate_up_proj"
      add(
        "ffn_\(part)\(suffix).weight", expert: nil, shape, role,
        [
          Spelling(path("\(prefix).\(part)_proj.weight")),
          Spelling(path("\(memory).\(tensor).weight"), rows: rows),
        ])
    }
    row("gate", [width, hidden], roles.gate, 0..<width)
    row("up", [width, hidden], roles.up, width..<2 * width)
    row("down", [hidden, width], roles.down, nil)
  }
}
