// config.json of MiniMax-M3's text model: what is read from either spelling, and every value that is refused.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

/// The golden checkpoint's text model with some keys set (nil: taken out); `section` is `sparse_attention_config`.
private func read(
  _ changes: [(String, JSON?)] = [], section: [(String, JSON?)] = [], saved: Bool = false
) throws -> MiniMaxM3 {
  let path = saved ? "configs/minimax_m3_vl.json" : "models/minimax_m3_vl/config.json"
  let file = try readSmallFile(fixture(path), limit: 1 << 20, code: .configJSON)
  let text = try #require(try JSON.scan(file)["text_config"])
  func changed(_ json: JSON, _ changes: [(String, JSON?)]) throws -> JSON {
    let object = try #require(json.object)
    let keys = Set(changes.map(\.0))
    return JSON(
      members: zip(object.keys, object.values).filter { !keys.contains($0.0) }
        + changes.compactMap { key, value in value.map { (key, $0) } })
  }
  let sparse = "sparse_attention_config"
  let inner = section.isEmpty ? [] : [(sparse, Optional(try changed(try #require(text[sparse]), section)))]
  let config = try JSON.scan(try changed(text, changes + inner).text())
  return try #require(try ModelFamilies.family(of: config, file: "config.json") as? MiniMaxM3)
}

@Suite struct MiniMaxM3ConfigTests {
  @Test func bothSpellingsAreOneModel() throws {
    let (hub, saved) = (try read(), try read(saved: true))
    #expect(String(describing: hub.decoder) == String(describing: saved.decoder))
    #expect(hub.weights.map(\.spellings) == saved.weights.map(\.spellings))
    #expect(hub.settings == saved.settings)
    let decoder = hub.decoder
    #expect(decoder.layers.map(\.isDense) == [true, false, false, false])
    #expect(decoder.layers.map(\.isBlockSparse) == [false, false, true, true])
    #expect(decoder.normOffset == 1 && decoder.attention.norm == .perHead)
    #expect(decoder.feedForward.router.scaling == 2 && decoder.sharedWidth == 32 && decoder.denseWidth == 96)
    let blocks = try #require(decoder.attention.blocks)
    #expect([blocks.heads, blocks.width, blocks.blockSize, blocks.keep, blocks.local] == [2, 32, 8, 3, 1])
    guard case .shiftedSwiglu(1.702, 1.6) = decoder.feedForward.activation else {
      Issue.record("\(decoder.feedForward.activation)")
      return
    }
  }

  /// What no key says is as transformers has it; without a word of sparse layers there are none.
  @Test func whatIsNotSaidIsAsTheReferenceHasIt() throws {
    let plain = try read(
      [
        ("sparse_attention_config", nil), ("moe_layer_freq", nil), ("routed_scaling_factor", nil),
        ("swiglu_alpha", nil), ("swiglu_limit", nil), ("hidden_act", nil), ("n_shared_experts", nil),
      ])
    #expect(plain.decoder.attention.blocks == nil)
    #expect(plain.decoder.layers.allSatisfy { !$0.isDense && !$0.isBlockSparse })
    #expect(plain.decoder.feedForward.router.scaling == 2)
    guard case .shiftedSwiglu(1.702, 7) = plain.decoder.feedForward.activation else {
      Issue.record("\(plain.decoder.feedForward.activation)")
      return
    }
    #expect(!plain.weights.contains { $0.name.base.contains("indexer") })
    // Four heads of keys, as many as the indexer has by default.
    let sizes = try read(
      [
        ("sparse_attention_config", ["sparse_attention_freq": [0, 1, 0, 1]]), ("num_key_value_heads", 4),
        ("head_dim", 128), ("rotary_dim", 64),
      ])
    let blocks = try #require(sizes.decoder.attention.blocks)
    #expect(
      [blocks.heads, blocks.width, blocks.blockSize, blocks.keep, blocks.local] == [4, 128, 128, 16, 1])
    #expect(try read([("partial_rotary_factor", nil)]).decoder.attention.rope.frequencies.count == 8)
    #expect(try read([("rotary_dim", nil)]).decoder.attention.rope.frequencies.count == 8)
  }

  /// Roles, inputs, offsets and what is clamped.
  @Test func rowsSayWhatTheyAre() throws {
    let family = try read()
    func row(_ name: String) throws -> WeightSpec {
      try #require(family.weights.first { $0.name.base == name })
    }
    for part in ["q_proj", "k_proj"] {
      let spec = try row("blk.2.indexer.\(part).weight")
      #expect(spec.role == .indexer && spec.input?.base == "blk.2.attn_norm.weight" && spec.offset == 0)
      #expect(spec.isMultiplied)
    }
    let norms = family.weights.filter { $0.role == .norm }
    #expect(norms.count == 4 * 4 + 1 + 2 * 2 && norms.allSatisfy { $0.offset == 1 })
    let ups = family.weights.filter { [.routedUp, .sharedUp, .denseUp].contains($0.role) }
    #expect(ups.count == 3 * 9 + 1 && ups.allSatisfy(\.isClampedAfter))
    #expect(try row("blk.0.ffn_gate.weight").spellings[1].tensor == "model.layers.0.mlp.gate_up_proj.weight")
    #expect(family.drafts.declared == 0 && !family.drafts.runs)
  }

  @Test(
    arguments: [
      ("rotary_dim", 8), ("rotary_dim", 34), ("partial_rotary_factor", 0.25), ("rope_theta", nil),
      ("moe_layer_freq", [0, 1]), ("moe_layer_freq", [0, 1, 2, 1]), ("moe_layer_freq", 1),
      ("mlp_layer_types", ["dense", "dense", "sparse", "sparse"]), ("mlp_layer_types", ["dense"]),
      ("mlp_layer_types", ["dense", "sparse", "sparse", "moe"]), ("layer_types", ["full_attention"]),
      (
        "layer_types", ["full_attention", "minimax_m3_sparse", "minimax_m3_sparse", "minimax_m3_sparse"]
      ), ("layer_types", ["full_attention", "full_attention", "minimax_m3_sparse", "linear"]),
      ("sparse_attention_config", 5), ("dense_intermediate_size", nil), ("shared_intermediate_size", nil),
      ("shared_intermediate_size", 0), ("intermediate_size", nil), ("num_local_experts", 0),
      ("routed_scaling_factor", 0), ("swiglu_limit", 0), ("swiglu_alpha", -1), ("n_shared_experts", -1),
      ("use_routing_bias", "yes"), ("num_mtp_modules", -1),
    ] as [(String, JSON?)])
  func valueIsRefused(key: String, value: JSON?) throws {
    let error = try #require(throws: FormatError.self) { try read([(key, value)]) }
    let subjects = [key, "rotary_dim", "sparse_attention_freq", "moe_layer_freq"]
    #expect(error.code == .configValue && subjects.contains(error.subject ?? ""), "\(error)")
    #expect(error.file == "config.json")
  }

  @Test(
    arguments: [
      ("sparse_num_index_heads", 0), ("sparse_index_dim", 8), ("sparse_block_size", 0),
      ("sparse_topk_blocks", 0), ("sparse_local_block", 4), ("sparse_local_block", -1),
      ("sparse_attention_freq", [0, 0, 1]), ("sparse_attention_freq", [0, 0, 1, 2]),
      ("sparse_disable_index_value", [1]), ("sparse_init_block", -1), ("use_sparse_attention", 1),
    ] as [(String, JSON)])
  func sparseValueIsRefused(key: String, value: JSON) throws {
    let error = try #require(throws: FormatError.self) { try read(section: [(key, value)]) }
    #expect(error.code == .configValue && error.subject == key, "\(error)")
  }

  @Test(
    arguments: [
      ("scoring_func", "softmax"), ("qk_norm_type", "per_layer"), ("use_qk_norm", false),
      ("use_gemma_norm", false), ("attention_bias", true), ("n_shared_experts", 2), ("hidden_act", "gelu"),
      ("rope_scaling", ["rope_type": "cubic", "factor": 2]),
    ] as [(String, JSON)])
  func variantIsUnsupported(key: String, value: JSON) throws {
    let error = try #require(throws: RequestError.self) { try read([(key, value)]) }
    #expect(error.kind == .unsupported && error.problem.contains("config.json"), "\(error)")
  }

  @Test(
    arguments: [
      ("sparse_init_block", 1), ("sparse_score_type", "mean"), ("use_sparse_attention", false),
      ("sparse_disable_index_value", [0, 0, 1, 0]), ("sparse_num_index_heads", 1),
    ] as [(String, JSON)])
  func sparseVariantIsUnsupported(key: String, value: JSON) throws {
    let error = try #require(throws: RequestError.self) { try read(section: [(key, value)]) }
    #expect(error.kind == .unsupported && error.problem.contains("config.json"), "\(error)")
  }

  @Test func windowsAreUnsupported() throws {
    let types: JSON = ["sliding_attention", "full_attention", "minimax_m3_sparse", "minimax_m3_sparse"]
    let error = try #require(throws: RequestError.self) {
      try read([("layer_types", types), ("sliding_window", 8)])
    }
    #expect(error.kind == .unsupported && error.problem.contains("layer_types"))
  }
}
