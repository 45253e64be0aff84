// config.json of Gemma 4: two spellings, one model; and every value that is refused.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

/// A golden model's text configuration with some keys set (nil: taken out).
private func config(
  _ name: String, _ changes: [(String, JSON?)] = [], folder: String = "models", file: String = "/config.json"
) throws -> JSON {
  let bytes = try readSmallFile(fixture("\(folder)/\(name)\(file)"), limit: 1 << 20, code: .configJSON)
  let whole = try JSON.scan(bytes)
  let object = try #require(TextConfig(whole, hasHead: false)?.json.object)
  let changed = Set(changes.map(\.0))
  let members =
    zip(object.keys, object.values).filter { !changed.contains($0.0) }
    + changes.compactMap { key, value in value.map { (key, $0) } }
  return try JSON.scan(JSON(members: members).text())
}

private func gemma(_ name: String, _ changes: [(String, JSON?)] = []) throws -> Gemma4 {
  try Gemma4(config: config(name, changes), file: "config.json")
}

private let names = ["gemma4", "gemma4_dense", "gemma4_e2b"]

@Suite struct Gemma4ConfigTests {
  @Test(arguments: names) func bothSpellingsGiveOneModel(name: String) throws {
    let hub = try gemma(name)
    let saved = try Gemma4(
      config: config(name, folder: "configs", file: ".json"), file: "config.json")
    #expect(String(describing: hub.decoder) == String(describing: saved.decoder))
    #expect(hub.weights.map(\.name) == saved.weights.map(\.name))
    #expect(hub.weights.map(\.shape) == saved.weights.map(\.shape))
    #expect(hub.weights.map(\.spellings) == saved.weights.map(\.spellings))
  }

  @Test(arguments: names) func weightNamesAreDifferentAndEveryDialectSpellsThem(name: String) throws {
    let family = try gemma(name)
    #expect(Set(family.weights.map(\.name)).count == family.weights.count)
    #expect(family.weights.allSatisfy { $0.spellings.count == family.dialects.count })
    for column in family.dialects.indices {
      #expect(Set(family.weights.map { $0.spellings[column] }).count == family.weights.count)
    }
  }

  @Test(
    arguments: [
      ("vocab_size", 0), ("hidden_size", nil), ("hidden_size", "64"), ("num_attention_heads", 0),
      ("num_attention_heads", nil), ("num_key_value_heads", 0), ("num_key_value_heads", 3),
      ("head_dim", 1), ("head_dim", 15), ("head_dim", 65537), ("global_head_dim", 7), ("rms_norm_eps", -1),
      ("num_hidden_layers", 0), ("num_hidden_layers", 4097), ("num_hidden_layers", 5),
      ("top_k_experts", 0), ("top_k_experts", 9), ("top_k_experts", nil), ("num_experts", 0),
      ("num_experts", nil), ("moe_intermediate_size", nil), ("intermediate_size", nil),
      ("intermediate_size", 0), ("sliding_window", 0), ("num_kv_shared_layers", -1),
      ("num_kv_shared_layers", 4), ("hidden_size_per_layer_input", -1), ("final_logit_softcapping", 0),
      ("layer_types", ["full_attention"]), ("rope_parameters", 5), ("tie_word_embeddings", 1),
      ("per_layer_config", ["9": ["head_dim": 32]]), ("per_layer_config", ["x": ["head_dim": 32]]),
    ] as [(String, JSON?)])
  func valueIsRefused(change: (String, JSON?)) throws {
    let changed = try config("gemma4", [change])
    let error = try #require(throws: FormatError.self) { try Gemma4(config: changed, file: "config.json") }
    // What a list must hold is said of the list; of two names for a size, the one that is read.
    let subject =
      ["num_hidden_layers": "layer_types", "global_head_dim": "head_dim"][change.0] ?? change.0
    #expect(
      error.code == .configValue && error.file == "config.json"
        && (error.subject == change.0 || error.subject == subject), "\(error)")
    #expect(error.offset != nil)
  }

  /// Well-formed, and not what the family computes.
  @Test(
    arguments: [
      ("hidden_activation", "silu"), ("use_bidirectional_attention", "all"), ("attention_bias", true),
      ("rope_scaling", ["rope_type": "yarn", "factor": 2]), ("rope_theta", 10000),
      ("attn_logit_softcapping", 50), ("query_pre_attn_scalar", 256),
      (
        "layer_types",
        ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"]
      ),
      ("per_layer_config", ["1": ["head_dim": 32, "intermediate_size": 5]]),
      ("per_layer_config", ["1": ["head_dim": 32]]),
      (
        "rope_parameters",
        [
          "full_attention": ["rope_type": "yarn", "rope_theta": 10000],
          "sliding_attention": ["rope_type": "default", "rope_theta": 10000],
        ]
      ),
      (
        "rope_parameters",
        [
          "full_attention": ["rope_type": "default", "rope_theta": 10000],
          "sliding_attention": [
            "rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.5,
          ],
        ]
      ),
    ] as [(String, JSON)])
  func variantIsUnsupported(change: (String, JSON)) throws {
    let changed = try config("gemma4", [(change.0, change.1)])
    let error = try #require(throws: RequestError.self) { try Gemma4(config: changed, file: "config.json") }
    #expect(error.kind == .unsupported && error.problem.contains("config.json"), "\(error)")
    #expect(error.help != nil)
  }

  /// A layer that shares must have an earlier one of its kind.
  @Test func sharedKeysNeedAGiver() throws {
    let types: JSON = ["sliding_attention", "full_attention", "full_attention", "full_attention"]
    let shared = try gemma("gemma4", [("num_kv_shared_layers", 2), ("layer_types", types)]).decoder
    #expect(shared.layers.map(\.keySource) == [nil, nil, 1, 1])
    let error = try #require(throws: FormatError.self) {
      try gemma("gemma4", [("num_kv_shared_layers", 3), ("layer_types", types)])
    }
    #expect(error.subject == "num_kv_shared_layers")
  }

  // MARK: fields

  @Test func layersHaveTheirKinds() throws {
    let moe = try gemma("gemma4").decoder
    #expect(moe.layers.map(\.isSliding) == [true, false, true, false])
    #expect(moe.sliding.window == 12 && moe.full.window == nil)
    #expect((moe.sliding.headWidth, moe.full.headWidth) == (16, 32))
    #expect((moe.sliding.keyHeads, moe.full.keyHeads) == (2, 1))
    #expect(!moe.sliding.sharesProjection && moe.full.sharesProjection)
    let small = try gemma("gemma4_e2b").decoder
    #expect(small.layers.map(\.keySource) == [nil, nil, nil, nil, 2, 2, 3])
    #expect(small.layers.map(\.denseWidth) == [48, 48, 48, 48, 96, 96, 96])
    #expect(small.layerEmbedding == 24)
    // Where the list is missing, all but every sixth and the last have a window.
    let dense = try gemma("gemma4_dense", [("layer_types", nil), ("num_hidden_layers", 8)]).decoder
    #expect(dense.layers.map { $0.isSliding ? 1 : 0 } == [1, 1, 1, 1, 1, 0, 1, 0])
  }

  /// A quarter of the pairs turns as in a head that turns whole; the others stand still.
  @Test func aShareOfThePairsTurns() throws {
    let rope = try gemma("gemma4").decoder.full.rope
    #expect(rope.frequencies.count == 16 && rope.frequencies[4...].allSatisfy { $0 == 0 })
    let whole = RotaryFrequencies(dimensions: 32, theta: 1e6, yarn: nil)
    #expect(rope.frequencies[..<4] == whole.frequencies[..<4])
    let parameters: JSON = [
      "full_attention": [
        "rope_type": "proportional", "rope_theta": 1_000_000, "partial_rotary_factor": 0.5, "factor": 8,
      ],
      "sliding_attention": ["rope_type": "default", "rope_theta": 10000],
    ]
    let slow = try gemma("gemma4", [("rope_parameters", parameters)]).decoder.full.rope
    #expect(slow.frequencies.prefix { $0 > 0 }.count == 8)
    #expect(slow.frequencies[1] == Float(1 / 1e6.squareRoot().squareRoot().squareRoot().squareRoot() / 8))
    let unrotated: JSON = [
      "full_attention": ["rope_type": "proportional", "rope_theta": 1_000_000, "partial_rotary_factor": 0],
      "sliding_attention": ["rope_type": "default", "rope_theta": 10000],
    ]
    let still = try gemma("gemma4", [("rope_parameters", unrotated)]).decoder.full.rope
    #expect(still.frequencies.allSatisfy { $0 == 0 })
  }

  /// Experts and router read norms of their own; nothing behind a norm after a half is read through it.
  @Test func whatEachWeightReads() throws {
    let weights = try gemma("gemma4").weights
    func input(_ name: String, expert: Int? = nil) -> String? {
      weights.first { $0.name == WeightName(name, expert: expert) }?.input?.description
    }
    #expect(input("blk.0.ffn_gate_inp.weight") == "blk.0.ffn_gate_inp.scale")
    #expect(input("blk.0.ffn_up_exps.weight", expert: 3) == "blk.0.pre_ffw_norm_2.weight")
    #expect(input("blk.0.ffn_down_exps.weight", expert: 3) == "blk.0.ffn_up_exps.weight#3")
    #expect(input("blk.0.ffn_gate.weight") == "blk.0.ffn_norm.weight")
    #expect(input("blk.1.attn_k.weight") == "blk.1.attn_norm.weight")
    #expect(input("blk.1.attn_output.weight") == nil)
    let small = try gemma("gemma4_e2b")
    #expect(small.weights.allSatisfy { $0.name.base != "blk.4.attn_k.weight" })
    #expect(small.weights.first { $0.name.base == "blk.4.inp_gate.weight" }?.input == nil)
    #expect(small.dropRules[0].covers("model.language_model.layers.4.self_attn.k_proj.weight"))
    #expect(small.dropRules[0].covers("blk.6.attn_k_norm.weight"))
    #expect(!small.dropRules[0].covers("model.layers.3.self_attn.k_proj.weight"))
  }
}
