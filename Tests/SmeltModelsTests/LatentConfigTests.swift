// config.json of the families with latent attention: published numbers of their rotations and routers, both spellings,
// every value that is refused, and the names of their weights.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

private let families = ["deepseek_v2", "deepseek_v3", "deepseek_v32"]

private func settings(_ text: String) throws -> RopeSettings {
  try RopeSettings(ConfigReader(try JSON.scan(text), file: "config.json"))
}

@Suite struct RopeSettingsTests {
  private static let v3 = #"""
    {"rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
     "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}}
    """#
  private static let kimi = #"""
    {"rope_parameters": {"rope_type": "yarn", "rope_theta": 50000, "factor": 64, "beta_fast": 1, "beta_slow": 1,
     "original_max_position_embeddings": 4096, "mscale": 1.0, "mscale_all_dim": 1.0}}
    """#

  /// Nine digits were computed elsewhere; Kimi's ramp is a step between pairs 19 and 20.
  @Test(
    arguments: [
      (v3, 8, 0.100000001), (v3, 12, 0.0268793628), (v3, 15, 0.0083345091), (v3, 16, 0.00550000044),
      (v3, 18, 0.00224936521), (v3, 20, 0.000790569407), (v3, 22, 0.00017782794), (v3, 24, 2.5e-05),
      (v3, 31, 3.3338e-06), (kimi, 18, 0.00227420381), (kimi, 20, 1.80702336e-05),
    ] as [(String, Int, Float)])
  func publishedFrequencies(config: String, pair: Int, expected: Float) throws {
    let found = try settings(config).frequencies(64).frequencies[pair]
    #expect(abs(found - expected) <= expected * 1e-5)
  }

  /// m = 0.1 × mscale_all_dim × ln(40) + 1, squared over √192: V2 has 0.707, V3 has 1.
  @Test(arguments: [("0.707", 0.1147214), ("1.0", 0.1352338)] as [(String, Float)])
  func softmaxScale(mscale: String, expected: Float) throws {
    let scaling = Self.v3.replacing("1.0", with: mscale)
    let config = LatentConfig(
      "deepseek_v3",
      [
        ("qk_nope_head_dim", 128), ("qk_rope_head_dim", 64),
        ("rope_scaling", try JSON.scan(scaling)["rope_scaling"]),
      ])
    let attention = try config.read().decoder.attention
    #expect(abs(attention.scale - expected) <= 1e-6)
    #expect(attention.rope.magnitude == 1)
  }

  /// Cosines and sines: a given attention_factor, else the quotient of both magnitudes, else that of mscale 1.
  @Test(
    arguments: [
      (#""mscale": 0.5, "mscale_all_dim": 1.0"#, 1.184443973 / 1.368887945, 1.873854207),
      (#""mscale": 0.5"#, 1.368887945, 1), (#""mscale_all_dim": 1.0"#, 1.368887945, 1.873854207),
      (#""mscale": 0.5, "attention_factor": 1.25"#, 1.25, 1),
      (#""mscale": 1, "mscale_all_dim": 0"#, 1.368887945, 1),
    ] as [(String, Double, Double)])
  func magnitudes(members: String, magnitude: Double, logits: Double) throws {
    let found = try settings(
      #"{"rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, \#(members)}}"#
    )
    #expect(abs(Double(found.magnitude) - magnitude) < 1e-6)
    #expect(abs(found.logitFactor - logits) < 1e-6)
  }

  @Test func withoutYarnNothingIsScaled() throws {
    for text in ["{}", #"{"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}"#] {
      let found = try settings(text)
      #expect(found.yarn == nil && found.magnitude == 1 && found.logitFactor == 1)
      #expect(found.theta == (text == "{}" ? 10000 : 5e5))
    }
  }

  /// Halves turn together: channels i and i + n/2.
  @Test func rotationOfHalves() {
    var x: [Float] = [1, 2, 3, 4]
    let table = RotaryFrequencies(dimensions: 4, theta: 10000, yarn: nil).table(0..<4)
    x.withUnsafeMutableBufferPointer { table.rotate($0.baseAddress!, 3, .halves) }
    let expected: [Float] = [-1.413352489, 1.879118085, -2.828857422, 4.058191299]
    for (found, expected) in zip(x, expected) { #expect(abs(found - expected) < 1e-6) }
  }
}

@Suite struct LatentRouterTests {
  private static let logits = Matrix(
    rows: 1, columns: 16,
    values: [0.3, -1.2, 2, 0.5, 1.1, 0, -0.4, 0.9, 3, -3, 0.2, 0.1, 0.7, 0.8, -0.9, 1.6])
  private static let bias: [Float] = [0, 0.5, 0, 0, 0, 0, 0.2, 0, -0.4, 0, 0, 0, 0, 0.1, 0, 0]

  private func router(_ type: String, _ scaling: Double, _ changes: [(String, JSON?)] = []) throws -> Router {
    let config = LatentConfig(
      type,
      [
        ("n_routed_experts", 16), ("n_group", 4), ("topk_group", 2), ("num_experts_per_tok", 3),
        ("routed_scaling_factor", JSON(floatLiteral: scaling)),
      ] + changes)
    return try config.read().decoder.feedForward.router
  }

  private func expect(_ found: Routing, _ experts: [Int32], _ weights: [Float]) {
    #expect(found.experts == experts)
    for (found, expected) in zip(found.weights, weights) { #expect(abs(found - expected) <= 1e-6 * expected) }
  }

  /// Groups 3 and 0 are kept by the sum of their two best biased scores; the bias does not weigh.
  @Test(arguments: ["deepseek_v3", "deepseek_v32", "kimi_k2"])
  func sigmoidWithGroupsAndBias(type: String) throws {
    let routing = try router(type, 2.5).route(Self.logits, bias: Self.bias)
    expect(routing, [2, 13, 15], [0.916431606, 0.717888951, 0.865679502])
  }

  /// Groups 2 and 0 are kept by their best score; factors are softmax scores of all experts, scaled.
  @Test func softmaxWithGroups() throws {
    let routing = try router("deepseek_v2", 16).route(Self.logits, bias: nil)
    expect(routing, [2, 3, 8], [2.370009899, 0.528820693, 6.442354679])
  }

  /// `greedy` chooses among all experts, whatever n_group says.
  @Test(arguments: ["greedy", nil] as [String?])
  func greedyIgnoresGroups(method: String?) throws {
    let greedy = try router("deepseek_v2", 16, [("topk_method", method.map { JSON(stringLiteral: $0) })])
    let routing = greedy.route(Self.logits, bias: nil)
    #expect(routing.experts == [2, 8, 15])
  }

  @Test func withoutNormalizationTheScoresAreScaled() throws {
    let plain = try router("deepseek_v3", 2.5, [("norm_topk_prob", false)])
    let routing = plain.route(Self.logits, bias: Self.bias)
    expect(routing, [2, 13, 15], [2.201992695, 1.724936366, 2.080045998])
  }
}

@Suite struct LatentConfigTests {
  private func family(_ name: String) throws -> any LatentFamily {
    let bytes = try readSmallFile(fixture(name), limit: 1 << 20, code: .configJSON)
    let family = try ModelFamilies.family(of: JSON.scan(bytes), file: "config.json")
    return try #require(family as? any LatentFamily)
  }

  @Test(arguments: families)
  func bothSpellingsGiveTheSameNumbers(name: String) throws {
    let hub = try family("models/\(name)/config.json")
    let other = try family("configs/\(name).json")
    #expect(hub.weights.map(\.spellings) == other.weights.map(\.spellings))
    #expect(hub.weights.map(\.shape) == other.weights.map(\.shape))
    let (a, b) = (hub.decoder, other.decoder)
    #expect(a.attention.rope == b.attention.rope && a.attention.scale == b.attention.scale)
    #expect(
      a.attention.rope.frequencies != RotaryFrequencies(dimensions: 16, theta: 10000, yarn: nil).frequencies)
    #expect(a.dense == b.dense && a.dense == [true, false, false, false])
    #expect(a.normEpsilon == b.normEpsilon && a.attention.pairing == b.attention.pairing)
    #expect(String(describing: a.feedForward) == String(describing: b.feedForward))
    #expect(String(describing: a.attention.indexer) == String(describing: b.attention.indexer))
  }

  /// One wrong value each, and the key that the refusal must name.
  @Test(
    arguments: [
      ("vocab_size", 0), ("vocab_size", nil), ("hidden_size", -1), ("hidden_size", "24"),
      ("intermediate_size", nil), ("moe_intermediate_size", 0), ("num_hidden_layers", 0),
      ("num_hidden_layers", 4097), ("num_attention_heads", 0), ("num_attention_heads", nil),
      ("q_lora_rank", 0), ("kv_lora_rank", nil), ("kv_lora_rank", 0), ("qk_nope_head_dim", 0),
      ("qk_rope_head_dim", 3), ("qk_rope_head_dim", 0), ("v_head_dim", nil), ("n_routed_experts", 0),
      ("n_routed_experts", 65537), ("n_routed_experts", nil), ("num_experts_per_tok", 7),
      ("num_experts_per_tok", 0), ("num_experts_per_tok", 5), ("n_shared_experts", -1),
      ("first_k_dense_replace", 3), ("first_k_dense_replace", -1), ("n_group", 0), ("n_group", 4),
      ("n_group", 7), ("n_group", nil), ("topk_group", 4), ("topk_group", 0), ("topk_group", nil),
      ("routed_scaling_factor", 0), ("rms_norm_eps", nil), ("rms_norm_eps", 2), ("norm_topk_prob", 1),
      ("rope_interleave", "yes"), ("attention_bias", 0), ("tie_word_embeddings", 0), ("rope_theta", 1),
      ("rope_scaling", "yarn"), ("mlp_layer_types", ["dense"]), ("mlp_layer_types", ["dense", "moe"]),
      ("mlp_layer_types", "dense"), ("num_nextn_predict_layers", -1), ("num_mtp_layers", 1.5),
      ("moe_layer_freq", 0), ("topk_method", 3), ("scoring_func", true),
    ] as [(String, JSON?)], families)
  func valueIsRefused(change: (key: String, value: JSON?), type: String) throws {
    let error = try #require(throws: FormatError.self) {
      try LatentConfig(type, [change]).read()
    }
    // Five experts a token are no more than the six there are, and more than two groups of two hold.
    let isRoom = change.key == "num_experts_per_tok" && change.value?.integer == 5
    #expect(error.code == .configValue && error.file == "config.json", "\(error)")
    #expect(error.subject == (isRoom ? "topk_group" : change.key), "\(error)")
  }

  @Test(
    arguments: [
      ("q_lora_rank", nil), ("index_n_heads", 0), ("index_n_heads", nil), ("index_head_dim", 3),
      ("index_head_dim", nil), ("index_topk", 0), ("index_topk", nil), ("layer_types", ["indexed_attention"]),
      ("layer_types", [1, 2]),
    ] as [(String, JSON?)])
  func valueOfTheIndexerIsRefused(key: String, value: JSON?) throws {
    let error = try #require(throws: FormatError.self) {
      try LatentConfig("deepseek_v32", [(key, value)]).read()
    }
    #expect(error.code == .configValue && error.subject == key, "\(error)")
  }

  /// Well-formed, and not what these families compute.
  @Test(
    arguments: [
      ("hidden_act", "gelu"), ("mlp_bias", true), ("moe_layer_freq", 2), ("topk_method", "sampled"),
      ("scoring_func", "sqrtsoftplus"), ("rope_scaling", ["type": "linear", "factor": 4]),
    ] as [(String, JSON)], families)
  func variantIsUnsupported(change: (key: String, value: JSON), type: String) throws {
    let error = try #require(throws: RequestError.self) {
      try LatentConfig(type, [(change.key, change.value)]).read()
    }
    #expect(error.kind == .unsupported && error.problem.contains("config.json"), "\(error)")
  }

  @Test func variantsOfOneFamilyAreUnsupported() throws {
    let cases: [(String, String, JSON)] = [
      ("deepseek_v2", "norm_topk_prob", true), ("deepseek_v2", "scoring_func", "sigmoid"),
      ("deepseek_v2", "topk_method", "noaux_tc"), ("deepseek_v3", "scoring_func", "softmax"),
      ("deepseek_v3", "topk_method", "greedy"),
      ("deepseek_v32", "layer_types", ["indexed_attention", "full_attention"]),
    ]
    for (type, key, value) in cases {
      let error = try #require(throws: RequestError.self) { try LatentConfig(type, [(key, value)]).read() }
      #expect(error.kind == .unsupported && error.problem.contains(key), "\(error)")
    }
  }

  /// A few bytes of config.json may not ask for gigabytes of names.
  @Test func expertsOfAllLayersAreBounded() throws {
    let config = LatentConfig(
      "deepseek_v3", [("num_hidden_layers", 4096), ("n_routed_experts", 4098), ("first_k_dense_replace", 0)])
    let error = try #require(throws: FormatError.self) { try config.read() }
    #expect(error.code == .configValue && error.subject == "n_routed_experts", "\(error)")
  }

  @Test func denseLayers() throws {
    func dense(_ type: String, _ changes: [(String, JSON?)]) throws -> [Bool] {
      try LatentConfig(type, [("num_hidden_layers", 4)] + changes).read().decoder.dense
    }
    #expect(try dense("deepseek_v2", []) == [true, false, false, false])
    #expect(try dense("deepseek_v2", [("first_k_dense_replace", nil)]) == [false, false, false, false])
    #expect(try dense("deepseek_v3", [("first_k_dense_replace", nil)]) == [true, true, true, false])
    let listed = try dense("deepseek_v32", [("mlp_layer_types", ["sparse", "dense", "sparse", "dense"])])
    #expect(listed == [false, true, false, true])
  }
}

@Suite struct LatentTableTests {
  /// Hub name and dimensions of every weight but the routed experts'. H 24, NH 3, 6 + 4 and 5 channels, ranks 14 and 10,
  /// 6 experts of 12, 2 shared, dense 20, V 40, index 4 × 8.
  private static let common: [(String, Shape)] = [
    ("model.embed_tokens.weight", [40, 24]), ("lm_head.weight", [40, 24]), ("model.norm.weight", [24]),
    ("model.layers.0.mlp.gate_proj.weight", [20, 24]), ("model.layers.0.mlp.up_proj.weight", [20, 24]),
    ("model.layers.0.mlp.down_proj.weight", [24, 20]), ("model.layers.1.mlp.gate.weight", [6, 24]),
    ("model.layers.1.mlp.shared_experts.gate_proj.weight", [24, 24]),
    ("model.layers.1.mlp.shared_experts.up_proj.weight", [24, 24]),
    ("model.layers.1.mlp.shared_experts.down_proj.weight", [24, 24]),
  ]
  private static let everyLayer: [(String, Shape)] = [
    ("input_layernorm.weight", [24]), ("post_attention_layernorm.weight", [24]),
    ("self_attn.kv_a_proj_with_mqa.weight", [14, 24]), ("self_attn.kv_a_layernorm.weight", [10]),
    ("self_attn.kv_b_proj.weight", [33, 10]), ("self_attn.o_proj.weight", [24, 15]),
  ]
  private static let lowRank: [(String, Shape)] = [
    ("self_attn.q_a_proj.weight", [14, 24]), ("self_attn.q_a_layernorm.weight", [14]),
    ("self_attn.q_b_proj.weight", [30, 14]),
  ]
  private static let indexer: [(String, Shape)] = [
    ("self_attn.indexer.wq_b.weight", [32, 14]), ("self_attn.indexer.wk.weight", [8, 24]),
    ("self_attn.indexer.k_norm.weight", [8]), ("self_attn.indexer.k_norm.bias", [8]),
    ("self_attn.indexer.weights_proj.weight", [4, 24]),
  ]

  private func compare(_ family: any LatentFamily, _ rows: [(String, Shape)], _ inLayers: [(String, Shape)]) {
    var expected: [String: Shape] = [:]
    for (name, shape) in rows { expected[name] = shape }
    for layer in 0..<2 { for (name, shape) in inLayers { expected["model.layers.\(layer).\(name)"] = shape } }
    for expert in 0..<6 {
      let stem = "model.layers.1.mlp.experts.\(expert)."
      expected[stem + "gate_proj.weight"] = [12, 24]
      expected[stem + "up_proj.weight"] = [12, 24]
      expected[stem + "down_proj.weight"] = [24, 12]
    }
    for spec in family.weights {
      let name = spec.spellings[0].tensor
      #expect(expected.removeValue(forKey: name) == spec.shape, "\(name)")
    }
    #expect(expected.isEmpty, "\(expected.keys.sorted())")
    #expect(Set(family.weights.map(\.name)).count == family.weights.count)
  }

  @Test func namesAndShapesAreThePublishedOnes() throws {
    let bias: (String, Shape) = ("model.layers.1.mlp.gate.e_score_correction_bias", [6])
    compare(try LatentConfig("deepseek_v2").read(), Self.common, Self.everyLayer + Self.lowRank)
    compare(
      try LatentConfig("deepseek_v2", [("q_lora_rank", nil)]).read(), Self.common,
      Self.everyLayer + [("self_attn.q_proj.weight", [30, 24])])
    compare(try LatentConfig("deepseek_v3").read(), Self.common + [bias], Self.everyLayer + Self.lowRank)
    compare(
      try LatentConfig("deepseek_v32").read(), Self.common + [bias],
      Self.everyLayer + Self.lowRank + Self.indexer)
    let biases: [(String, Shape)] = [
      ("self_attn.q_a_proj.bias", [14]), ("self_attn.kv_a_proj_with_mqa.bias", [14]),
      ("self_attn.o_proj.bias", [24]),
    ]
    compare(
      try LatentConfig("kimi_k2", [("attention_bias", true)]).read(), Self.common + [bias],
      Self.everyLayer + Self.lowRank + biases)
  }

  @Test func canonicalNamesAreThoseOfGGUF() throws {
    let family = try LatentConfig("deepseek_v32").read()
    let names = Dictionary(
      uniqueKeysWithValues: family.weights.map { ($0.spellings[0].tensor, $0.name.description) })
    let expected = [
      "self_attn.q_a_proj.weight": "attn_q_a.weight",
      "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
      "self_attn.q_b_proj.weight": "attn_q_b.weight", "self_attn.o_proj.weight": "attn_output.weight",
      "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
      "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
      "self_attn.kv_b_proj.weight": "attn_kv_b.weight", "input_layernorm.weight": "attn_norm.weight",
      "post_attention_layernorm.weight": "ffn_norm.weight", "mlp.gate.weight": "ffn_gate_inp.weight",
      "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
      "mlp.experts.4.gate_proj.weight": "ffn_gate_exps.weight#4",
      "mlp.experts.5.up_proj.weight": "ffn_up_exps.weight#5",
      "mlp.experts.0.down_proj.weight": "ffn_down_exps.weight#0",
      "mlp.shared_experts.gate_proj.weight": "ffn_gate_shexp.weight",
      "self_attn.indexer.wq_b.weight": "indexer.attn_q_b.weight",
      "self_attn.indexer.wk.weight": "indexer.attn_k.weight",
      "self_attn.indexer.k_norm.weight": "indexer.k_norm.weight",
      "self_attn.indexer.k_norm.bias": "indexer.k_norm.bias",
      "self_attn.indexer.weights_proj.weight": "indexer.proj.weight",
    ]
    for (hub, canonical) in expected { #expect(names["model.layers.1." + hub] == "blk.1." + canonical) }
    #expect(names["model.layers.0.mlp.up_proj.weight"] == "blk.0.ffn_up.weight")
    #expect(names["model.embed_tokens.weight"] == "token_embd.weight")
    #expect(names["lm_head.weight"] == "output.weight" && names["model.norm.weight"] == "output_norm.weight")
  }

  @Test func memoryStacksExpertsAndFusesGateAndUp() throws {
    let family = try LatentConfig("deepseek_v3").read()
    let stacked = family.weights.filter { $0.name.expert == 3 }.map { $0.spellings[1] }
    let stem = "model.layers.1.mlp.experts."
    #expect(
      stacked == [
        Spelling(stem + "gate_up_proj", stackIndex: 3, rows: 0..<12),
        Spelling(stem + "gate_up_proj", stackIndex: 3, rows: 12..<24),
        Spelling(stem + "down_proj", stackIndex: 3),
      ])
  }

  @Test func tiedEmbeddingsHaveNoHead() throws {
    let family = try LatentConfig("deepseek_v3", [("tie_word_embeddings", true)]).read()
    #expect(!family.weights.contains { $0.role == .outputHead })
  }

  @Test func layersBehindTheLastDraftTokens() throws {
    func isDraft(_ name: String, _ changes: [(String, JSON?)] = []) throws -> Bool {
      try LatentConfig("deepseek_v3", changes).read().drafts.covers(name)
    }
    #expect(try isDraft("model.layers.2.eh_proj.weight"))
    #expect(try !isDraft("model.layers.1.eh_proj.weight"))
    #expect(try !isDraft("model.layers.20.eh_proj.weight"))
    #expect(try !isDraft("model.layers.3.enorm.weight"))
    #expect(try isDraft("model.layers.3.enorm.weight", [("num_nextn_predict_layers", 2)]))
    #expect(try isDraft("model.layers.4.enorm.weight", [("num_mtp_layers", 3)]))
    let rules = try LatentConfig("deepseek_v3", []).read().dropRules
    #expect(
      rules.first { $0.covers("model.layers.1.self_attn.rotary_emb.inv_freq") }?.name == "rotary-frequencies")
    #expect(!rules.contains { $0.covers("model.layers.2.eh_proj.weight") })
  }

  /// A block is a layer with experts and what joins it to the model; the forward pass has none of it.
  @Test func aDraftBlockResemblesALayer() throws {
    let family = try LatentConfig("deepseek_v3", [("num_nextn_predict_layers", 1)]).read()
    let layers = family.dimensions.layers
    let block = family.drafts.table(0)
    #expect(family.drafts.declared == 1 && family.drafts.first == layers)
    #expect(block.allSatisfy { $0.isDraft && $0.isCarried && !$0.isMultiplied && $0.layer == layers })
    #expect(!family.weights.contains { $0.isDraft })
    let hidden = family.dimensions.hidden
    let joins = try #require(block.first { $0.name.base == "blk.\(layers).nextn.eh_proj.weight" })
    #expect(joins.shape == [hidden, 2 * hidden] && joins.role == .other && !joins.isOptional)
    #expect(joins.spellings[0].tensor == "model.layers.\(layers).eh_proj.weight")
    #expect(
      block.filter(\.isOptional).map(\.name.base) == [
        "blk.\(layers).nextn.embed_tokens.weight", "blk.\(layers).nextn.shared_head_norm.weight",
        "blk.\(layers).nextn.shared_head_head.weight",
      ])
    // The rest are the roles of the last layer, row for row.
    let last = family.weights.filter { $0.layer == layers - 1 }
    #expect(block.filter { !$0.name.base.contains(".nextn.") }.map(\.role) == last.map(\.role))
  }
}
