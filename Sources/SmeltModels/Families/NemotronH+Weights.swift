// Nemotron-H's weights by name: the hub's, under `backbone.`, and those that transformers has in memory, where the experts of a layer
// are stacked. What a weight reads is said here: a layer has one norm, whatever stands behind it.

import SmeltStorage
import SmeltTensors

extension Decoder {
  /// The weights table of the model's layers.
  var nemotronTable: [WeightSpec] {
    (outerRows + layers.indices.flatMap(nemotronLayer)).map { spec in
      var spec = spec
      spec.spellings = [
        spec.spellings[0].renamed(Decoder.nemotronName(spec.spellings[0].tensor, "backbone.")),
        spec.spellings[1].renamed(Decoder.nemotronName(spec.spellings[1].tensor, "model.")),
      ]
      return spec
    }
  }

  /// The name of a tensor, `model.layers.0.norm.weight`, behind another prefix.
  private static func nemotronName(_ name: String, _ prefix: String) -> String {
    switch name {
    case "model.embed_tokens.weight": "\(prefix)embeddings.weight"
    case "model.norm.weight": "\(prefix)norm_f.weight"
    default: name.hasPrefix("model.") ? prefix + name.dropFirst("model.".count) : name
    }
  }

  private func nemotronLayer(_ index: Int) -> [WeightSpec] {
    let layer = layers[index]
    var rows = LayerRows(layer: index)
    rows.add("attn_norm.weight", [hidden], .norm, "norm.weight")
    switch (layer.halves, stateSpace) {
    case (.feedForward, _) where layer.isDense:
      rows.ungated("", (.denseUp, .denseDown), "mixer", width: denseWidth, hidden: hidden)
      guard feedForward.hasDenseBiases else { break }
      rows.add("ffn_up.bias", [denseWidth], .bias, "mixer.up_proj.bias")
      rows.add("ffn_down.bias", [hidden], .bias, "mixer.down_proj.bias")
    case (.feedForward, _): nemotronMixture(&rows)
    case (_, let stateSpace?) where layer.isLinear: stateSpace.rows(&rows, hidden: hidden, "mixer")
    default: attentionRows(&rows, "mixer")
    }
    return rows.specs.map { wired($0, norm: "attn_norm") }
  }

  /// The router, the shared expert, the experts and the projections around them.
  private func nemotronMixture(_ rows: inout LayerRows) {
    let experts = feedForward.experts
    let width = feedForward.latentWidth ?? hidden
    rows.add("ffn_gate_inp.weight", [experts, hidden], .router, "mixer.gate.weight")
    rows.add("exp_probs_b.bias", [experts], .selectionBias, "mixer.gate.e_score_correction_bias")
    if feedForward.latentWidth != nil {
      rows.add("ffn_latent_down.weight", [width, hidden], .denseUp, "mixer.fc1_latent_proj.weight")
    }
    for expert in 0..<experts {
      func add(_ name: String, _ shape: Shape, _ role: Role, _ part: String) {
        rows.add(
          name, expert: expert, shape, role,
          [
            Spelling(rows.path("mixer.experts.\(expert).\(part).weight")),
            Spelling(rows.path("mixer.experts.\(part)"), stackIndex: expert),
          ])
      }
      add("ffn_up_exps.weight", [expertWidth, width], .routedUp, "up_proj")
      add("ffn_down_exps.weight", [width, expertWidth], .routedDown, "down_proj")
    }
    if feedForward.latentWidth != nil {
      rows.add("ffn_latent_up.weight", [hidden, width], .denseDown, "mixer.fc2_latent_proj.weight")
    }
    rows.ungated(
      "_shexp", (.sharedUp, .sharedDown), "mixer.shared_experts", width: sharedWidth, hidden: hidden)
  }

  /// A row with what it reads. A factor of an up's channel comes out of the activation squared, so that none is folded there.
  private func wired(_ spec: WeightSpec, norm: String) -> WeightSpec {
    guard let layer = spec.layer else { return spec }
    let name = LayerName(layer: layer)
    var spec = spec
    switch spec.name.base {
    case name("ffn_gate_inp").base, name.latentDown.base, name("ffn_up").base, name("ffn_up_shexp").base:
      spec.input = name(norm)
    case name("ffn_up_exps").base: spec.input = feedForward.latentWidth == nil ? name(norm) : name.latentDown
    case name.latentUp.base: spec.input = nil
    case name("ssm_out").base: spec.input = name("ssm_norm")
    default: break
    }
    guard spec.name != name.latentDown else { return spec }
    return spec.clampedAfterUp
  }

  /// The block that drafts tokens: an attention layer and a layer of experts, one layer with two halves here. What joins it to the
  /// model stands in the first of them, its last norm in the second. Blocks of other layers are carried under their own names.
  func nemotronDrafts(_ config: ConfigReader) throws -> DraftBlocks {
    var isUsual = feedForward.experts > 0
    for key in ["mtp_layers_block_type", "mtp_hybrid_override_pattern"] {
      if let found = try NemotronH.mixers(config, key), found != [.attention, .experts] { isUsual = false }
    }
    let runs = isUsual
    let first = layers.count
    return DraftBlocks(
      declared: try config.declaredDrafts(), prefixes: ["mtp."], first: first, experts: feedForward.experts
    ) { layer in
      guard layer == first, runs else { return [] }
      var rows = LayerRows(layer: layer)
      rows.add("attn_norm.weight", [hidden], .norm, "norm.weight")
      attentionRows(&rows, "mixer")
      rows.add("ffn_norm.weight", [hidden], .norm, "norm.weight")
      nemotronMixture(&rows)
      let all = WeightSpec.nextRows(layer: layer, hidden: hidden, vocabulary: vocabulary) + rows.specs
      return all.map { spec in
        wired(spec, norm: "ffn_norm").renamed { Decoder.nemotronDraftName($0, of: spec, layer: layer) }
      }
    }
  }

  /// `model.layers.52.norm.weight` as `mtp.layers.0.norm.weight`, or `mtp.layers.1.…` in the half with the experts.
  private static func nemotronDraftName(_ name: String, of spec: WeightSpec, layer: Int) -> String {
    let prefix = "model.layers.\(layer)."
    guard name.hasPrefix(prefix) else { return name }
    let rest = String(name.dropFirst(prefix.count))
    if rest == "shared_head.norm.weight" { return "mtp.layers.1.final_layernorm.weight" }
    let parts = ["ffn_", "exp_probs_b", "nextn.shared_head"].map { "blk.\(layer).\($0)" }
    return "mtp.layers.\(parts.contains { spec.name.base.hasPrefix($0) } ? 1 : 0).\(rest)"
  }
}

extension LayerRows {
  /// The two matrices of a dense layer or a shared expert without a gate.
  mutating func ungated(
    _ suffix: String, _ roles: (up: Role, down: Role), _ prefix: String, width: Int, hidden: Int
  ) {
    add("ffn_up\(suffix).weight", [width, hidden], roles.up, "\(prefix).up_proj.weight")
    add("ffn_down\(suffix).weight", [hidden, width], roles.down, "\(prefix).down_proj.weight")
  }
}
