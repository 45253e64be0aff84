// The weights table of DeepSeek-V4 against the published names, written down here once more by hand: the hub's, those
// that transformers saves, and those it has in memory.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

/// Hub name, name in transformers' memory, dimensions; `saved` where transformers saves another name than the hub's.
private struct Row {
  let hub: String
  let memory: String
  let shape: Shape
  let saved: String?

  init(_ hub: String, _ memory: String, _ shape: Shape, saved: String? = nil) {
    self.hub = hub
    self.memory = memory
    self.shape = shape
    self.saved = saved
  }
}

/// H 32, NH 2, D 16, q_lora 32, o_lora 16, groups 2, M 2, E 4, K 2, I 32, V 48, index 4 × 16.
private let everyLayer = [
  Row("attn_norm.weight", "input_layernorm.weight", [32]),
  Row("ffn_norm.weight", "post_attention_layernorm.weight", [32]),
  Row("hc_attn_fn", "attn_hc.fn", [8, 64]), Row("hc_attn_base", "attn_hc.base", [8]),
  Row("hc_attn_scale", "attn_hc.scale", [3]), Row("hc_ffn_fn", "ffn_hc.fn", [8, 64]),
  Row("hc_ffn_base", "ffn_hc.base", [8]), Row("hc_ffn_scale", "ffn_hc.scale", [3]),
  Row("attn.attn_sink", "self_attn.sinks", [2]),
  Row("attn.wq_a.weight", "self_attn.q_a_proj.weight", [32, 32]),
  Row("attn.q_norm.weight", "self_attn.q_a_norm.weight", [32]),
  Row("attn.wq_b.weight", "self_attn.q_b_proj.weight", [32, 32]),
  Row("attn.wkv.weight", "self_attn.kv_proj.weight", [16, 32]),
  Row("attn.kv_norm.weight", "self_attn.kv_norm.weight", [16], saved: "attn.norm.weight"),
  Row("attn.wo_a.weight", "self_attn.o_a_proj.weight", [32, 16]),
  Row("attn.wo_b.weight", "self_attn.o_b_proj.weight", [32, 32]),
  Row("ffn.gate.weight", "mlp.gate.weight", [4, 32]),
  Row("ffn.shared_experts.w1.weight", "mlp.shared_experts.gate_proj.weight", [32, 32]),
  Row("ffn.shared_experts.w3.weight", "mlp.shared_experts.up_proj.weight", [32, 32]),
  Row("ffn.shared_experts.w2.weight", "mlp.shared_experts.down_proj.weight", [32, 32]),
]
private let hashLayer = [Row("ffn.gate.tid2eid", "mlp.gate.tid2eid", [48, 2])]
private let scoredLayer = [Row("ffn.gate.bias", "mlp.gate.e_score_correction_bias", [4])]
private func compressed(_ ratio: Int, _ copies: Int) -> [Row] {
  [
    Row("attn.compressor.wkv.weight", "self_attn.compressor.kv_proj.weight", [copies * 16, 32]),
    Row("attn.compressor.wgate.weight", "self_attn.compressor.gate_proj.weight", [copies * 16, 32]),
    Row("attn.compressor.ape", "self_attn.compressor.position_bias", [ratio, copies * 16]),
    Row("attn.compressor.norm.weight", "self_attn.compressor.kv_norm.weight", [16]),
  ]
}
private let indexed = [
  Row("attn.indexer.wq_b.weight", "self_attn.compressor.indexer.q_b_proj.weight", [64, 32]),
  Row(
    "attn.indexer.weights_proj.weight", "self_attn.compressor.indexer.scorer.weights_proj.weight", [4, 32]),
  Row("attn.indexer.compressor.wkv.weight", "self_attn.compressor.indexer.kv_proj.weight", [32, 32]),
  Row("attn.indexer.compressor.wgate.weight", "self_attn.compressor.indexer.gate_proj.weight", [32, 32]),
  Row("attn.indexer.compressor.ape", "self_attn.compressor.indexer.position_bias", [4, 32]),
  Row("attn.indexer.compressor.norm.weight", "self_attn.compressor.indexer.kv_norm.weight", [16]),
]
private let global = [
  Row("embed.weight", "model.embed_tokens.weight", [48, 32], saved: "model.embed_tokens.weight"),
  Row("head.weight", "lm_head.weight", [48, 32], saved: "head.weight"),
  Row("norm.weight", "model.norm.weight", [32], saved: "model.norm.weight"),
  Row("hc_head_fn", "model.hc_head.hc_fn", [2, 64], saved: "model.hc_head.hc_fn"),
  Row("hc_head_base", "model.hc_head.hc_base", [2], saved: "model.hc_head.hc_base"),
  Row("hc_head_scale", "model.hc_head.hc_scale", [1], saved: "model.hc_head.hc_scale"),
]

@Suite struct DeepSeekV4TableTests {
  private func family(_ change: (inout TinyV4) -> Void = { _ in }) throws -> DeepSeekV4 {
    var tiny = TinyV4()
    change(&tiny)
    return try DeepSeekV4(config: JSON.scan(tiny.configText), file: "config.json")
  }

  /// Every published name with its dimensions, dialect after dialect; and no other name.
  @Test func namesAndShapesAreThePublishedOnes() throws {
    let family = try family()
    #expect(family.dialects == ["hub", "transformers-saved", "transformers"])
    var expected: [[String: Shape]] = [[:], [:], [:]]
    for row in global {
      expected[0][row.hub] = row.shape
      expected[1][row.saved ?? ""] = row.shape
      expected[2][row.memory] = row.shape
    }
    let layers = [hashLayer, compressed(4, 2) + indexed + scoredLayer, compressed(8, 1) + scoredLayer]
    for (layer, own) in layers.enumerated() {
      for row in everyLayer + own {
        expected[0]["layers.\(layer).\(row.hub)"] = row.shape
        expected[1]["model.layers.\(layer).\(row.saved ?? row.hub)"] = row.shape
        expected[2]["model.layers.\(layer).\(row.memory)"] = row.shape
      }
      for expert in 0..<4 {
        for part in ["w1", "w2", "w3"] {
          expected[0]["layers.\(layer).ffn.experts.\(expert).\(part).weight"] = [32, 32]
          expected[1]["model.layers.\(layer).ffn.experts.\(expert).\(part).weight"] = [32, 32]
        }
      }
    }
    for dialect in 0..<2 {
      let found = Dictionary(
        uniqueKeysWithValues: family.weights.map { ($0.spellings[dialect].tensor, $0.shape) })
      #expect(Set(found.keys).symmetricDifference(expected[dialect].keys).sorted() == [])
      #expect(found == expected[dialect])
    }
    let whole = family.weights.filter { $0.spellings[2].isWhole }
    #expect(Dictionary(uniqueKeysWithValues: whole.map { ($0.spellings[2].tensor, $0.shape) }) == expected[2])
  }

  /// In memory all experts of a layer are two tensors: gate rows before up rows, and down.
  @Test func transformersStacksAndFusesExperts() throws {
    for spec in try family().weights where spec.role.isRouted {
      let spelling = spec.spellings[2]
      let stem = "model.layers.\(spec.layer ?? -1).mlp.experts."
      #expect(spelling.stackIndex == spec.name.expert && spec.name.expert != nil)
      switch spec.role {
      case .routedGate: #expect(spelling.tensor == stem + "gate_up_proj" && spelling.rows == 0..<32)
      case .routedUp: #expect(spelling.tensor == stem + "gate_up_proj" && spelling.rows == 32..<64)
      default: #expect(spelling.tensor == stem + "down_proj" && spelling.rows == nil)
      }
    }
  }

  @Test func canonicalNamesAreDistinctAndOrderedByLayer() throws {
    let weights = try family().weights
    #expect(Set(weights.map(\.name)).count == weights.count)
    let layers = weights.compactMap(\.layer)
    #expect(layers == layers.sorted())
    // The matrices of one expert lie side by side.
    let routed = weights.filter { $0.layer == 1 && $0.role.isRouted }
    #expect(routed.map { $0.name.expert } == (0..<4).flatMap { [$0, $0, $0] })
    #expect(
      Array(routed.prefix(3)).map(\.name.description) == [
        "blk.1.ffn_gate_exps.weight#0", "blk.1.ffn_up_exps.weight#0", "blk.1.ffn_down_exps.weight#0",
      ])
  }

  /// A row of each role: what is never quantized by default, and what sees inputs by group.
  @Test func rolesSayWhatMayBeQuantized() throws {
    let specs = Dictionary(uniqueKeysWithValues: try family().weights.map { ($0.spellings[0].tensor, $0) })
    let quantized = [
      "layers.1.attn.wq_a.weight", "layers.1.attn.wo_b.weight", "layers.1.attn.indexer.wq_b.weight",
      "layers.1.ffn.experts.3.w2.weight", "layers.1.ffn.shared_experts.w1.weight",
    ]
    let kept = [
      "embed.weight", "head.weight", "norm.weight", "hc_head_fn", "layers.1.hc_attn_fn",
      "layers.1.attn.attn_sink", "layers.1.attn.compressor.wkv.weight", "layers.1.attn.compressor.ape",
      "layers.1.attn.indexer.weights_proj.weight", "layers.1.ffn.gate.weight", "layers.1.ffn.gate.bias",
      "layers.0.ffn.gate.tid2eid", "layers.1.attn.kv_norm.weight",
    ]
    for name in quantized { #expect(specs[name]?.role.isQuantizedByDefault == true, "\(name)") }
    for name in kept { #expect(specs[name]?.role.isQuantizedByDefault == false, "\(name)") }
    #expect(specs["layers.2.attn.wo_a.weight"]?.inputGroups == 2)
    #expect(specs["layers.2.attn.wo_b.weight"]?.inputGroups == 1)
  }

  @Test func tiedEmbeddingsHaveNoHead() throws {
    let names = try family { $0.set("tie_word_embeddings", true) }.weights.map { $0.spellings[0].tensor }
    #expect(!names.contains("head.weight") && names.contains("embed.weight"))
  }

  @Test func sharedExpertsMayBeAbsentOrWide() throws {
    #expect(try !family { $0.set("n_shared_experts", 0) }.weights.contains { $0.role == .sharedGate })
    let wide = try family { $0.set("n_shared_experts", 3) }.weights.filter { $0.role == .sharedDown }
    #expect(wide.count == 3 && wide.allSatisfy { $0.shape == [32, 96] })
  }

  @Test func draftBlocksAreKnown() throws {
    let drafts = try family().drafts
    func covered(_ name: String) -> Bool { drafts.covers(name) }
    let block = drafts.table(1)
    #expect(block.contains { $0.spellings[0].tensor == "mtp.1.attn.wq_a.weight" && $0.role == .attention })
    #expect(block.contains { $0.spellings[1].tensor == "model.mtp.1.e_proj.weight" && $0.isOptional })
    #expect(!block.contains { $0.role == .compressor || $0.role == .hashTable })
    #expect(try family().dropRules.isEmpty)
    #expect(covered("mtp.0.attn.wq_a.weight") && covered("model.mtp.2.norm.weight"))
    #expect(!covered("layers.3.attn.wq_a.weight") && !covered("mtpx") && !covered("head.scale"))
  }
}

@Suite struct WeightNameTests {
  @Test(
    arguments: [
      ("blk.7.ffn_gate_exps.weight#42", "blk.7.ffn_gate_exps.weight", 42), ("a#0", "a", 0),
      ("token_embd.weight", "token_embd.weight", nil), ("a#", "a#", nil), ("a#x", "a#x", nil),
      ("a#-1", "a#-1", nil), ("a#+1", "a#+1", nil), ("a#007", "a#007", nil), ("a#1#2", "a#1", 2),
      ("#5", "", 5), ("", "", nil), ("a#99999999999999999999", "a#99999999999999999999", nil),
    ] as [(String, String, Int?)])
  func parsingAndTextAreInverse(text: String, base: String, expert: Int?) {
    let name = WeightName(parsing: text)
    #expect(name == WeightName(base, expert: expert))
    #expect(name.description == text)
  }
}
