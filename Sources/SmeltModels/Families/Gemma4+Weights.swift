// Gemma 4's weights table: canonical names, which are llama.cpp's, shapes, roles, and two dialects' spellings. Published files stack the
// experts of a layer, gate rows before up rows; tools that quantize keep a tensor for each expert's matrix.

import SmeltTensors

extension Gemma4Decoder {
  /// The layers' own embeddings, [vocabulary, layers × width].
  static let table = WeightName("per_layer_token_embd.weight")
  /// Makes the other half of them of the tokens' embeddings.
  static let projection = WeightName("per_layer_model_proj.weight")
  /// The norm of that half.
  static let projectionNorm = WeightName("per_layer_proj_norm.weight")

  /// All weights: first the ones outside layers, then layer by layer.
  func weightTable() -> [WeightSpec] {
    var table = outerRows
    if layerEmbedding > 0 { table += layerEmbeddingRows }
    for layer in layers.indices { table += layerTable(layer) }
    return table
  }

  private var layerEmbeddingRows: [WeightSpec] {
    let width = layers.count * layerEmbedding
    func row(_ name: WeightName, _ shape: Shape, _ role: Role, layer: Int?, _ hub: String) -> WeightSpec {
      let place = Spelling("model.\(hub).weight")
      return WeightSpec(name, shape, role, layer: layer, spellings: [place, place])
    }
    return [
      row(Self.table, [layerVocabulary, width], .embedding, layer: nil, "embed_tokens_per_layer"),
      // Each layer multiplies with its rows of it; the first layer is where its inputs are seen.
      row(Self.projection, [width, hidden], .other, layer: 0, "per_layer_model_projection"),
      row(Self.projectionNorm, [layerEmbedding], .norm, layer: nil, "per_layer_projection_norm"),
    ]
  }

  private func layerTable(_ index: Int) -> [WeightSpec] {
    var rows = Rows(name: LayerName(layer: index))
    let (a, layer) = (attention(index), layers[index])
    let (queryWidth, keyWidth) = (heads * a.headWidth, a.keyHeads * a.headWidth)
    rows.add("attn_norm", [hidden], .norm, "input_layernorm")
    rows.add("attn_q", [queryWidth, hidden], .attention, "self_attn.q_proj", reads: "attn_norm")
    if layer.keySource == nil {
      rows.add("attn_k", [keyWidth, hidden], .attention, "self_attn.k_proj", reads: "attn_norm")
      if !a.sharesProjection {
        rows.add("attn_v", [keyWidth, hidden], .attention, "self_attn.v_proj", reads: "attn_norm")
      }
    }
    rows.add("attn_output", [hidden, queryWidth], .attention, "self_attn.o_proj")
    rows.add("attn_q_norm", [a.headWidth], .norm, "self_attn.q_norm")
    if layer.keySource == nil { rows.add("attn_k_norm", [a.headWidth], .norm, "self_attn.k_norm") }
    rows.add("post_attention_norm", [hidden], .norm, "post_attention_layernorm")

    rows.add("ffn_norm", [hidden], .norm, "pre_feedforward_layernorm")
    let width = layer.denseWidth
    rows.add("ffn_gate", [width, hidden], .denseGate, "mlp.gate_proj", reads: "ffn_norm")
    rows.add("ffn_up", [width, hidden], .denseUp, "mlp.up_proj", reads: "ffn_norm")
    rows.add("ffn_down", [hidden, width], .denseDown, "mlp.down_proj", reads: "ffn_up")
    rows.add("post_ffw_norm", [hidden], .norm, "post_feedforward_layernorm")
    if feedForward.experts > 0 { addExperts(&rows) }
    if layerEmbedding > 0 {
      rows.add("inp_gate", [layerEmbedding, hidden], .other, "per_layer_input_gate")
      rows.add("proj", [hidden, layerEmbedding], .other, "per_layer_projection")
      rows.add("post_norm", [hidden], .norm, "post_per_layer_input_norm")
    }
    rows.add("layer_output_scale", [1], .other, "layer_scalar", bare: true)
    return rows.specs
  }

  private func addExperts(_ rows: inout Rows) {
    let (experts, width) = (feedForward.experts, expertWidth)
    rows.add("post_ffw_norm_1", [hidden], .norm, "post_feedforward_layernorm_1")
    rows.add("pre_ffw_norm_2", [hidden], .norm, "pre_feedforward_layernorm_2")
    rows.add("post_ffw_norm_2", [hidden], .norm, "post_feedforward_layernorm_2")
    // The scale of the router's norm, which is what the router reads.
    let scale = rows.add("ffn_gate_inp", suffix: "scale", [hidden], .norm, "router.scale", bare: true)
    rows.add("ffn_gate_inp", [experts, hidden], .router, "router.proj", reads: scale)
    // A factor of each expert's output, beside the router's.
    rows.add(
      "ffn_down_exps", suffix: "scale", [experts], .other, "router.per_expert_scale", bare: true)
    for expert in 0..<experts {
      rows.addExpert(
        expert, "ffn_gate_exps", [width, hidden], .routedGate, "gate_proj", stack: "gate_up_proj", 0..<width,
        reads: "pre_ffw_norm_2")
      rows.addExpert(
        expert, "ffn_up_exps", [width, hidden], .routedUp, "up_proj", stack: "gate_up_proj",
        width..<2 * width,
        reads: "pre_ffw_norm_2")
      rows.addExpert(
        expert, "ffn_down_exps", [hidden, width], .routedDown, "down_proj", stack: "down_proj", nil,
        reads: nil)
    }
  }

  /// Projections and norms that files keep in layers which use another layer's keys: nothing reads them.
  var dropRules: [DropRule] {
    let shared = layers.indices.filter { layers[$0].keySource != nil }
    guard !shared.isEmpty else { return [] }
    let parts = ["k_proj", "v_proj", "k_norm", "v_norm"]
    let hub = shared.flatMap { layer in
      parts.flatMap { part in
        WrapperForm.allCases.map { $0.tensor("model.layers.\(layer).self_attn.\(part).") }
      }
    }
    let gguf = shared.flatMap { layer in ["attn_k.", "attn_v.", "attn_k_norm."].map { "blk.\(layer).\($0)" } }
    return [
      DropRule(
        "shared-keys", "the layer uses the keys and values of an earlier one", prefixes: hub + gguf)
    ]
  }

  /// The rows of one layer, collected. What each weight reads is said here, since layers are wired otherwise than most.
  private struct Rows {
    let name: LayerName
    private(set) var specs: [WeightSpec] = []

    init(name: LayerName) { self.name = name }

    private func path(_ hub: String) -> String { "model.layers.\(name.layer).\(hub)" }

    mutating func add(_ part: String, _ shape: Shape, _ role: Role, _ hub: String, reads: String) {
      add(part, shape, role, hub, reads: name(reads))
    }

    @discardableResult
    mutating func add(
      _ part: String, suffix: String = "weight", _ shape: Shape, _ role: Role, _ hub: String,
      bare: Bool = false, reads: WeightName? = nil
    ) -> WeightName {
      let place = Spelling(path(bare ? hub : "\(hub).weight"))
      let own = name(part, suffix: suffix)
      var spec = WeightSpec(own, shape, role, layer: name.layer, spellings: [place, place])
      spec.input = reads
      specs.append(spec)
      return own
    }

    mutating func addExpert(
      _ expert: Int, _ part: String, _ shape: Shape, _ role: Role, _ own: String, stack: String,
      _ rows: Range<Int>?, reads: String?
    ) {
      var spec = WeightSpec(
        name(part, expert: expert), shape, role, layer: name.layer,
        spellings: [
          Spelling(path("experts.\(stack)"), stackIndex: expert, rows: rows),
          Spelling(path("experts.\(expert).\(own).weight")),
        ])
      spec.input = reads.map { name($0) } ?? name("ffn_up_exps", expert: expert)
      specs.append(spec)
    }
  }
}
