// Names, shapes and roles of a `LatentDecoder`'s weights, in two dialects: the hub's, and transformers' in memory, where the
// experts of a layer are stacked and gate and up are fused, gate rows first.

import SmeltTensors

extension LatentDecoder {
  /// All weights: first the ones outside layers, then layer by layer.
  func weightTable() -> [WeightSpec] {
    var table = outerRows
    for layer in dense.indices { table += layerTable(layer, isDense: dense[layer]) }
    return table
  }

  private func layerTable(_ layer: Int, isDense: Bool) -> [WeightSpec] {
    let name = LayerName(layer: layer)
    let a = attention
    let keyWidth = a.plainWidth + a.rotaryWidth
    var table: [WeightSpec] = []
    /// One row: canonical name, shape, role, the hub's name.
    func add(_ name: WeightName, _ shape: Shape, _ role: Role, _ hub: String) {
      let spelling = Spelling("model.layers.\(layer).\(hub)")
      table.append(WeightSpec(name, shape, role, layer: layer, spellings: [spelling, spelling]))
    }
    /// A projection from or to the residual stream, with its bias where the attention has biases.
    func project(_ part: String, _ shape: Shape, _ hub: String) {
      add(name(part), shape, .attention, "self_attn.\(hub).weight")
      guard a.hasBiases else { return }
      add(name(part, suffix: "bias"), [shape.rows], .bias, "self_attn.\(hub).bias")
    }
    /// The three matrices of a dense layer or a shared expert.
    func gated(_ names: ExpertNames, _ width: Int, _ roles: [Role], _ hub: String) {
      if let gate = names.gate { add(gate, [width, hidden], roles[0], "\(hub).gate_proj.weight") }
      add(names.up, [width, hidden], roles[1], "\(hub).up_proj.weight")
      add(names.down, [hidden, width], roles[2], "\(hub).down_proj.weight")
    }

    add(name("attn_norm"), [hidden], .norm, "input_layernorm.weight")
    if let rank = a.queryRank {
      project("attn_q_a", [rank, hidden], "q_a_proj")
      add(name("attn_q_a_norm"), [rank], .norm, "self_attn.q_a_layernorm.weight")
      add(name("attn_q_b"), [a.heads * keyWidth, rank], .attention, "self_attn.q_b_proj.weight")
    } else {
      add(name("attn_q"), [a.heads * keyWidth, hidden], .attention, "self_attn.q_proj.weight")
    }
    project("attn_kv_a_mqa", [a.latentWidth + a.rotaryWidth, hidden], "kv_a_proj_with_mqa")
    add(name("attn_kv_a_norm"), [a.latentWidth], .norm, "self_attn.kv_a_layernorm.weight")
    add(
      name("attn_kv_b"), [a.heads * (a.plainWidth + a.valueWidth), a.latentWidth], .attention,
      "self_attn.kv_b_proj.weight")
    project("attn_output", [hidden, a.heads * a.valueWidth], "o_proj")
    if let indexer = a.indexer, chooser(for: layer) == nil {
      let queries = [indexer.heads * indexer.width, a.queryRank ?? hidden] as Shape
      add(name("indexer.attn_q_b"), queries, .indexer, "self_attn.indexer.wq_b.weight")
      add(name("indexer.attn_k"), [indexer.width, hidden], .indexer, "self_attn.indexer.wk.weight")
      add(name("indexer.k_norm"), [indexer.width], .norm, "self_attn.indexer.k_norm.weight")
      add(
        name("indexer.k_norm", suffix: "bias"), [indexer.width], .bias, "self_attn.indexer.k_norm.bias")
      add(
        name("indexer.proj"), [indexer.heads, hidden], .compressor, "self_attn.indexer.weights_proj.weight")
    }

    add(name("ffn_norm"), [hidden], .norm, "post_attention_layernorm.weight")
    if isDense {
      gated(name.dense, denseWidth, [.denseGate, .denseUp, .denseDown], "mlp")
      return table
    }
    add(name("ffn_gate_inp"), [feedForward.experts, hidden], .router, "mlp.gate.weight")
    if feedForward.hasSelectionBias {
      add(
        name("exp_probs_b", suffix: "bias"), [feedForward.experts], .selectionBias,
        "mlp.gate.e_score_correction_bias")
    }
    addExperts(name, to: &table)
    if sharedExperts > 0 {
      gated(
        name.sharedExpert, expertWidth * sharedExperts, [.sharedGate, .sharedUp, .sharedDown],
        "mlp.shared_experts")
    }
    return table
  }

  private func addExperts(_ layer: LayerName, to table: inout [WeightSpec]) {
    let prefix = "model.layers.\(layer.layer).mlp.experts"
    // What the experts of a layer share is made once for all of them.
    func matrix(
      _ part: String, _ shape: Shape, _ role: Role, _ hub: String, _ stacked: String, _ rows: Range<Int>?
    ) -> (base: String, shape: Shape, role: Role, ending: String, stacked: String, rows: Range<Int>?) {
      (layer(part).base, shape, role, ".\(hub).weight", "\(prefix).\(stacked)", rows)
    }
    let (inner, outer) = ([expertWidth, hidden] as Shape, [hidden, expertWidth] as Shape)
    let matrices = [
      matrix("ffn_gate_exps", inner, .routedGate, "gate_proj", "gate_up_proj", 0..<expertWidth),
      matrix("ffn_up_exps", inner, .routedUp, "up_proj", "gate_up_proj", expertWidth..<2 * expertWidth),
      matrix("ffn_down_exps", outer, .routedDown, "down_proj", "down_proj", nil),
    ]
    for expert in 0..<feedForward.experts {
      let own = "\(prefix).\(expert)"
      for (base, shape, role, ending, stacked, rows) in matrices {
        table.append(
          WeightSpec(
            WeightName(base, expert: expert), shape, role, layer: layer.layer,
            spellings: [
              Spelling(own + ending), Spelling(stacked, stackIndex: expert, rows: rows),
            ]))
      }
    }
  }

  /// Tensors that are known and left out.
  var dropRules: [DropRule] {
    [
      DropRule(
        "rotary-frequencies", "frequencies of the rotation follow from config.json",
        prefixes: dense.indices.map { "model.layers.\($0).self_attn.rotary_emb.inv_freq" })
    ]
  }

  /// Blocks that draft tokens: a whole layer with experts each, and an indexer where the model has any, and what joins it to the model.
  var drafts: DraftBlocks {
    DraftBlocks(behind: dense.count, declared: draftLayers, least: 1, experts: feedForward.experts) { layer in
      WeightSpec.nextRows(layer: layer, hidden: hidden, vocabulary: vocabulary)
        + layerTable(layer, isDense: false)
    }
  }
}
