// The rows that all plain decoders' weights tables share. A family adds its feed-forward rows, in the words of its
// checkpoints. Two columns: the hub's names, and those that transformers has in memory.

import SmeltTensors

extension Decoder {
  /// The weights table: first the rows outside the layers, then layer by layer what all families have, then what
  /// `feedForward` adds.
  func weightTable(_ feedForward: (inout LayerRows) -> Void) -> [WeightSpec] {
    var table = outerRows
    for index in layers.indices { table += layerTable(index, feedForward) }
    return table.map(withOffset)
  }

  private func layerTable(_ index: Int, _ feedForward: (inout LayerRows) -> Void) -> [WeightSpec] {
    var rows = LayerRows(layer: index)
    rows.add("attn_norm.weight", [hidden], .norm, "input_layernorm.weight")
    if layer(at: index).isLinear, let linear {
      linear.rows(&rows, hidden: hidden)
    } else {
      attentionRows(&rows)
      if layer(at: index).isBlockSparse, let blocks = attention.blocks { blocks.rows(&rows, hidden: hidden) }
    }
    rows.add("ffn_norm.weight", [hidden], .norm, "post_attention_layernorm.weight")
    feedForward(&rows)
    return rows.specs
  }

  /// The same row, with what the pass adds to a norm's scales. The norm inside a linear attention has none.
  private func withOffset(_ spec: WeightSpec) -> WeightSpec {
    guard normOffset != 0, spec.role == .norm, !spec.name.base.hasSuffix(DeltaAttention.normSuffix) else {
      return spec
    }
    var spec = spec
    spec.offset = normOffset
    return spec
  }

  /// Blocks that draft tokens: a whole layer each, whose feed-forward half `feedForward` adds, and what joins it to the model.
  /// - Parameter norm: the name of the norm before the head.
  func drafts(
    declared: Int, more: [String] = [], norm: String = "shared_head.norm",
    _ feedForward: @escaping @Sendable (inout LayerRows) -> Void
  ) -> DraftBlocks {
    DraftBlocks(
      behind: layers.count, declared: declared, experts: self.feedForward.experts, more: more
    ) { layer in
      (WeightSpec.nextRows(layer: layer, hidden: hidden, vocabulary: vocabulary, norm: norm)
        + layerTable(layer, feedForward)).map(withOffset)
    }
  }

  /// The weights table of a decoder without experts.
  var denseTable: [WeightSpec] {
    weightTable { rows in
      rows.dense("mlp", width: denseWidth, hidden: hidden, biases: feedForward.hasDenseBiases)
    }
  }

  /// The rows of softmax attention.
  /// - Parameter prefix: what the hub calls it within a layer.
  func attentionRows(_ rows: inout LayerRows, _ prefix: String = "self_attn") {
    let a = attention
    let (queryWidth, keyWidth) = (a.heads * a.headWidth, a.keyHeads * a.headWidth)
    let projected = a.hasOutputGate ? 2 * queryWidth : queryWidth
    for (part, width) in [("q", projected), ("k", keyWidth), ("v", keyWidth)] {
      rows.add("attn_\(part).weight", [width, hidden], .attention, "\(prefix).\(part)_proj.weight")
      if a.hasInputBias { rows.add("attn_\(part).bias", [width], .bias, "\(prefix).\(part)_proj.bias") }
    }
    rows.add("attn_output.weight", [hidden, queryWidth], .attention, "\(prefix).o_proj.weight")
    if a.hasOutputBias { rows.add("attn_output.bias", [hidden], .bias, "\(prefix).o_proj.bias") }
    if a.norm != .none {
      let perHead = a.norm == .perHead
      rows.add("attn_q_norm.weight", [perHead ? a.headWidth : queryWidth], .norm, "\(prefix).q_norm.weight")
      rows.add("attn_k_norm.weight", [perHead ? a.headWidth : keyWidth], .norm, "\(prefix).k_norm.weight")
    }
    if a.hasSinks { rows.add("attn_sinks.weight", [a.heads], .sink, "\(prefix).sinks") }
  }
}

/// The rows of one layer, collected.
struct LayerRows {
  /// The layer's number.
  let layer: Int
  private(set) var specs: [WeightSpec] = []

  /// No rows yet.
  init(layer: Int) { self.layer = layer }

  /// One row: canonical name and the two dialects' names within the layer; the second is the first unless given.
  mutating func add(
    _ name: String, _ shape: Shape, _ role: Role, _ hub: String, memory: String? = nil
  ) {
    add(
      name, expert: nil, shape, role,
      [Spelling(path(hub)), Spelling(path(memory ?? hub))])
  }

  /// One row with its spellings.
  mutating func add(_ name: String, expert: Int?, _ shape: Shape, _ role: Role, _ spellings: [Spelling]) {
    specs.append(
      WeightSpec(
        WeightName("blk.\(layer).\(name)", expert: expert), shape, role, layer: layer, spellings: spellings))
  }

  /// A tensor's full name.
  func path(_ name: String) -> String { "model.layers.\(layer).\(name)" }

  /// The matrices of a dense layer, and their biases where it has any.
  mutating func dense(_ prefix: String, width: Int, hidden: Int, biases: Bool = false) {
    gated("", (.denseGate, .denseUp, .denseDown), prefix, width, hidden)
    guard biases else { return }
    for (part, count) in [("gate", width), ("up", width), ("down", hidden)] {
      add("ffn_\(part).bias", [count], .bias, "\(prefix).\(part)_proj.bias")
    }
  }

  /// The matrices of a shared expert.
  mutating func shared(_ prefix: String, width: Int, hidden: Int, memory: String? = nil) {
    gated("_shexp", (.sharedGate, .sharedUp, .sharedDown), prefix, width, hidden, memory: memory)
  }

  private mutating func gated(
    _ suffix: String, _ roles: (gate: Role, up: Role, down: Role), _ prefix: String, _ width: Int,
    _ hidden: Int, memory: String? = nil
  ) {
    func row(_ part: String, _ shape: Shape, _ role: Role) {
      add(
        "ffn_\(part)\(suffix).weight", shape, role, "\(prefix).\(part)_proj.weight",
        memory: "\(memory ?? prefix).\(part)_proj.weight")
    }
    row("gate", [width, hidden], roles.gate)
    row("up", [width, hidden], roles.up)
    row("down", [hidden, width], roles.down)
  }

  /// Where the experts of a layer are stacked under `mlp.experts`, gate and up fused, gate before up.
  enum Stacks {
    /// In transformers' memory; the hub has a tensor for each expert's matrix.
    case inMemory
    /// On the hub, and a tensor for each expert's matrix in its quantized checkpoints.
    case published
    /// On the hub, each matrix [input channels, output channels].
    case transposed
  }

  /// Routed experts, the matrices of one expert side by side: `PREFIX.E.NAME.weight`, or in stacks.
  mutating func experts(
    _ count: Int, width: Int, hidden: Int, _ prefix: String,
    names: (gate: String, up: String, down: String) = ("gate_proj", "up_proj", "down_proj"),
    stacks: Stacks = .inMemory
  ) {
    let stack = path("mlp.experts")
    // What the experts of a layer share is made once for all of them.
    func matrix(
      _ name: String, _ shape: Shape, _ role: Role, _ hub: String, _ stacked: String, _ rows: Range<Int>?
    ) -> (base: String, shape: Shape, role: Role, ending: String, stacked: String, rows: Range<Int>?) {
      ("blk.\(layer).\(name).weight", shape, role, ".\(hub).weight", "\(stack).\(stacked)", rows)
    }
    let inner: Shape = [width, hidden]
    let matrices = [
      matrix("ffn_gate_exps", inner, .routedGate, names.gate, "gate_up_proj", 0..<width),
      matrix("ffn_up_exps", inner, .routedUp, names.up, "gate_up_proj", width..<2 * width),
      matrix("ffn_down_exps", [hidden, width], .routedDown, names.down, "down_proj", nil),
    ]
    for expert in 0..<count {
      let own = path("\(prefix).\(expert)")
      for (base, shape, role, ending, stacked, rows) in matrices {
        let single = Spelling(own + ending)
        let part = Spelling(
          stacked, stackIndex: expert, rows: rows, transposed: stacks == .transposed)
        specs.append(
          WeightSpec(
            WeightName(base, expert: expert), shape, role, layer: layer,
            spellings: stacks == .inMemory ? [single, part] : [part, single]))
      }
    }
  }
}
