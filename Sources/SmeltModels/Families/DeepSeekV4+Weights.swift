// DeepSeek-V4's weights table: canonical names, shapes, roles, and three dialects' spellings.

import SmeltTensors

extension DeepSeekV4 {
  /// Canonical names of one layer.
  struct Name {
    let layer: Int

    static let embedding = WeightName("token_embd.weight")
    static let outputHead = WeightName("output.weight")
    static let outputNorm = WeightName("output_norm.weight")
    static let headSite = HyperConnections.Site(
      mapping: WeightName("output_hc_fn.weight"), base: WeightName("output_hc_base.weight"),
      scale: WeightName("output_hc_scale.weight"))

    func callAsFunction(_ part: String, suffix: String = "weight", expert: Int? = nil) -> WeightName {
      WeightName("blk.\(layer).\(part).\(suffix)", expert: expert)
    }

    var attentionSite: HyperConnections.Site { site("attn") }
    var expertSite: HyperConnections.Site { site("ffn") }

    private func site(_ kind: String) -> HyperConnections.Site {
      HyperConnections.Site(
        mapping: self("hc_\(kind)_fn"), base: self("hc_\(kind)_base"), scale: self("hc_\(kind)_scale"))
    }

    var indexerQueries: WeightName { self("indexer.attn_q_b") }
    var indexerHeads: WeightName { self("indexer.proj") }
    var indexerParts: [WeightName] { [indexerQueries, indexerHeads] }

    func expert(_ expert: Int) -> ExpertNames {
      ExpertNames(
        gate: self("ffn_gate_exps", expert: expert), up: self("ffn_up_exps", expert: expert),
        down: self("ffn_down_exps", expert: expert))
    }

    var sharedExpert: ExpertNames {
      ExpertNames(gate: self("ffn_gate_shexp"), up: self("ffn_up_shexp"), down: self("ffn_down_shexp"))
    }

    /// The compressor of the layer's keys, if it has one.
    func compressor(_ kind: LayerKind, _ c: Configuration) -> Compressor? {
      switch kind {
      case .window: nil
      case .indexed(let ratio): pooled("attn_compressor", ratio, c.headWidth, overlaps: true, c)
      case .compressed(let ratio): pooled("attn_compressor", ratio, c.headWidth, overlaps: false, c)
      }
    }

    /// The compressor of the indexer's keys, if the layer has an indexer.
    func indexCompressor(_ kind: LayerKind, _ c: Configuration) -> Compressor? {
      guard case .indexed(let ratio) = kind else { return nil }
      return pooled("indexer_compressor", ratio, c.indexWidth, overlaps: true, c)
    }

    private func pooled(_ part: String, _ ratio: Int, _ width: Int, overlaps: Bool, _ c: Configuration)
      -> Compressor
    {
      Compressor(
        keys: self("\(part)_kv"), gate: self("\(part)_gate"), ape: self("\(part)_ape"),
        norm: self("\(part)_norm"),
        ratio: ratio, width: width, overlaps: overlaps, epsilon: c.normEpsilon)
    }
  }
}

extension DeepSeekV4.Configuration {
  /// All weights: first the ones outside layers, then layer by layer.
  func weightTable() -> [WeightSpec] {
    let m = streams
    var table = [
      whole("token_embd.weight", [vocabulary, hidden], .embedding, "embed.weight", "embed_tokens.weight"),
      whole("output_norm.weight", [hidden], .norm, "norm.weight", "norm.weight"),
      whole("output_hc_fn.weight", [m, m * hidden], .hyperConnection, "hc_head_fn", "hc_head.hc_fn"),
      whole("output_hc_base.weight", [m], .hyperConnection, "hc_head_base", "hc_head.hc_base"),
      whole("output_hc_scale.weight", [1], .hyperConnection, "hc_head_scale", "hc_head.hc_scale"),
    ]
    if !tiedEmbeddings {
      table.append(
        WeightSpec(
          WeightName("output.weight"), [vocabulary, hidden], .outputHead, layer: nil,
          spellings: [Spelling("head.weight"), Spelling("head.weight"), Spelling("lm_head.weight")]))
    }
    for layer in layers.indices {
      table += layerTable(layer, "layers.\(layer)", layers[layer], isHashed: hashLayers[layer])
    }
    return table
  }

  /// Blocks `mtp.0`, `mtp.1` …: a layer without compression each, a projection of the next token's embedding and one of every
  /// stream, and a norm and a mixing of the streams before the model's own head.
  func drafts(declared: Int) -> DraftBlocks {
    DraftBlocks(
      declared: declared, prefixes: ["mtp.", "model.mtp."], first: layers.count, experts: experts
    ) { layer in
      let block = "mtp.\(layer - layers.count)"
      func row(_ part: String, _ shape: Shape, _ role: Role, _ hub: String) -> WeightSpec {
        let (own, saved) = (Spelling("\(block).\(hub)"), Spelling("model.\(block).\(hub)"))
        return WeightSpec(
          WeightName("blk.\(layer).nextn.\(part).weight"), shape, role, layer: layer,
          spellings: [own, saved, saved]
        ).optional
      }
      return [
        row("enorm", [hidden], .norm, "enorm.weight"), row("hnorm", [hidden], .norm, "hnorm.weight"),
        // The makers quantize them as they do the projections of attention.
        row("e_proj", [hidden, hidden], .attention, "e_proj.weight"),
        row("h_proj", [hidden, hidden], .attention, "h_proj.weight"),
        row("shared_head_norm", [hidden], .norm, "norm.weight"),
        row("hc_head_fn", [streams, streams * hidden], .hyperConnection, "hc_head_fn"),
        row("hc_head_base", [streams], .hyperConnection, "hc_head_base"),
        row("hc_head_scale", [1], .hyperConnection, "hc_head_scale"),
      ] + layerTable(layer, block, .window, isHashed: false)
    }
  }

  /// A weight outside the layers; transformers puts `model.` before its names.
  private func whole(_ name: String, _ shape: Shape, _ role: Role, _ hub: String, _ transformers: String)
    -> WeightSpec
  {
    WeightSpec(
      WeightName(name), shape, role, layer: nil,
      spellings: [Spelling(hub), Spelling("model.\(transformers)"), Spelling("model.\(transformers)")])
  }

  /// - Parameter prefix: what the hub's names of the layer begin with.
  private func layerTable(_ layer: Int, _ prefix: String, _ kind: DeepSeekV4.LayerKind, isHashed: Bool)
    -> [WeightSpec]
  {
    let m = streams
    let coefficients = (2 + m) * m
    var table: [WeightSpec] = []
    /// One row: canonical name, shape, role, the hub's name, the name transformers saves (the hub's unless given),
    /// and the one it has in memory.
    func add(
      _ name: String, _ shape: Shape, _ role: Role, _ hub: String, saved: String? = nil, _ memory: String,
      inputGroups: Int = 1
    ) {
      table.append(
        WeightSpec(
          WeightName("blk.\(layer).\(name)"), shape, role, layer: layer, inputGroups: inputGroups,
          spellings: [
            Spelling("\(prefix).\(hub)"), Spelling("model.\(prefix).\(saved ?? hub)"),
            Spelling("model.\(prefix).\(memory)"),
          ]))
    }
    add("attn_norm.weight", [hidden], .norm, "attn_norm.weight", "input_layernorm.weight")
    for site in ["attn", "ffn"] {
      add(
        "hc_\(site)_fn.weight", [coefficients, m * hidden], .hyperConnection, "hc_\(site)_fn", "\(site)_hc.fn"
      )
      add("hc_\(site)_base.weight", [coefficients], .hyperConnection, "hc_\(site)_base", "\(site)_hc.base")
      add("hc_\(site)_scale.weight", [3], .hyperConnection, "hc_\(site)_scale", "\(site)_hc.scale")
    }
    add("attn_sinks.weight", [heads], .sink, "attn.attn_sink", "self_attn.sinks")
    add("attn_q_a.weight", [queryRank, hidden], .attention, "attn.wq_a.weight", "self_attn.q_a_proj.weight")
    add("attn_q_a_norm.weight", [queryRank], .norm, "attn.q_norm.weight", "self_attn.q_a_norm.weight")
    add(
      "attn_q_b.weight", [heads * headWidth, queryRank], .attention, "attn.wq_b.weight",
      "self_attn.q_b_proj.weight")
    add("attn_kv.weight", [headWidth, hidden], .attention, "attn.wkv.weight", "self_attn.kv_proj.weight")
    add(
      "attn_kv_a_norm.weight", [headWidth], .norm, "attn.kv_norm.weight", saved: "attn.norm.weight",
      "self_attn.kv_norm.weight")
    add(
      "attn_output_a.weight", [outputGroups * outputRank, heads * headWidth / outputGroups], .attention,
      "attn.wo_a.weight", "self_attn.o_a_proj.weight", inputGroups: outputGroups)
    add(
      "attn_output_b.weight", [hidden, outputGroups * outputRank], .attention, "attn.wo_b.weight",
      "self_attn.o_b_proj.weight")
    if kind != .window {
      var overlap = 1
      if case .indexed = kind { overlap = 2 }
      let pools: [(String, String, String, Int, Int)] =
        [("attn_compressor", "attn.compressor", "self_attn.compressor", headWidth, overlap)]
        + (overlap == 2
          ? [("indexer_compressor", "attn.indexer.compressor", "self_attn.compressor.indexer", indexWidth, 2)]
          : [])
      for (name, hub, memory, width, copies) in pools {
        add(
          "\(name)_kv.weight", [copies * width, hidden], .compressor, "\(hub).wkv.weight",
          "\(memory).kv_proj.weight")
        add(
          "\(name)_gate.weight", [copies * width, hidden], .compressor, "\(hub).wgate.weight",
          "\(memory).gate_proj.weight")
        add(
          "\(name)_ape.weight", [kind.ratio, copies * width], .bias, "\(hub).ape",
          "\(memory).position_bias")
        add("\(name)_norm.weight", [width], .norm, "\(hub).norm.weight", "\(memory).kv_norm.weight")
      }
      if overlap == 2 {
        add(
          "indexer.attn_q_b.weight", [indexHeads * indexWidth, queryRank], .indexer,
          "attn.indexer.wq_b.weight",
          "self_attn.compressor.indexer.q_b_proj.weight")
        add(
          "indexer.proj.weight", [indexHeads, hidden], .compressor, "attn.indexer.weights_proj.weight",
          "self_attn.compressor.indexer.scorer.weights_proj.weight")
      }
    }
    add("ffn_norm.weight", [hidden], .norm, "ffn_norm.weight", "post_attention_layernorm.weight")
    add("ffn_gate_inp.weight", [experts, hidden], .router, "ffn.gate.weight", "mlp.gate.weight")
    if isHashed {
      add(
        "ffn_gate_tid2eid.weight", [vocabulary, expertsPerToken], .hashTable, "ffn.gate.tid2eid",
        "mlp.gate.tid2eid")
    } else {
      add("exp_probs_b.bias", [experts], .selectionBias, "ffn.gate.bias", "mlp.gate.e_score_correction_bias")
    }
    table += expertTable(layer, prefix)
    if sharedExperts > 0 {
      let width = expertWidth * sharedExperts
      add(
        "ffn_gate_shexp.weight", [width, hidden], .sharedGate, "ffn.shared_experts.w1.weight",
        "mlp.shared_experts.gate_proj.weight")
      add(
        "ffn_up_shexp.weight", [width, hidden], .sharedUp, "ffn.shared_experts.w3.weight",
        "mlp.shared_experts.up_proj.weight")
      add(
        "ffn_down_shexp.weight", [hidden, width], .sharedDown, "ffn.shared_experts.w2.weight",
        "mlp.shared_experts.down_proj.weight")
    }
    return table
  }

  /// Routed experts, gate, up and down of one expert side by side. In memory transformers stacks all experts of a
  /// layer and fuses gate and up, gate rows first.
  private func expertTable(_ layer: Int, _ prefix: String) -> [WeightSpec] {
    // What the experts of a layer share is made once for all of them.
    func matrix(
      _ name: String, _ shape: Shape, _ role: Role, _ hub: String, _ stacked: String, _ rows: Range<Int>?
    ) -> (base: String, shape: Shape, role: Role, ending: String, stacked: String, rows: Range<Int>?) {
      (
        "blk.\(layer).\(name).weight", shape, role, ".\(hub).weight",
        "model.\(prefix).mlp.experts.\(stacked)", rows
      )
    }
    let inner: Shape = [expertWidth, hidden]
    let matrices = [
      matrix("ffn_gate_exps", inner, .routedGate, "w1", "gate_up_proj", 0..<expertWidth),
      matrix("ffn_up_exps", inner, .routedUp, "w3", "gate_up_proj", expertWidth..<2 * expertWidth),
      matrix("ffn_down_exps", [hidden, expertWidth], .routedDown, "w2", "down_proj", nil),
    ]
    return (0..<experts).flatMap { expert in
      let module = "\(prefix).ffn.experts.\(expert)"
      return matrices.map { base, shape, role, ending, stacked, rows in
        let own = module + ending
        return WeightSpec(
          WeightName(base, expert: expert), shape, role, layer: layer,
          spellings: [
            Spelling(own), Spelling("model." + own), Spelling(stacked, stackIndex: expert, rows: rows),
          ])
      }
    }
  }
}
