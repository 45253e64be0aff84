// The mixtures of llama-quantize: types by tensor, as its own files have them, and by layer.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct GGUFRecipeTests {
  /// A model of attention and experts, embeddings and output head.
  private func model(layers: Int, experts: Int, tied: Bool = false, queryHeads: Int = 4) -> [WeightSpec] {
    func spec(_ name: String, _ shape: Shape, _ role: Role, _ layer: Int?, _ expert: Int? = nil) -> WeightSpec
    {
      WeightSpec(WeightName(name, expert: expert), shape, role, layer: layer, spellings: [])
    }
    var specs = [spec("token_embd.weight", [384, 256], .embedding, nil)]
    for layer in 0..<layers {
      let blk = "blk.\(layer)."
      specs += [
        spec(blk + "attn_norm.weight", [256], .norm, layer),
        spec(blk + "attn_q.weight", [64 * queryHeads, 256], .attention, layer),
        spec(blk + "attn_k.weight", [64, 256], .attention, layer),
        spec(blk + "attn_v.weight", [64, 256], .attention, layer),
        spec(blk + "attn_output.weight", [256, 64 * queryHeads], .attention, layer),
      ]
      if experts == 0 {
        specs += [
          spec(blk + "ffn_gate.weight", [768, 256], .denseGate, layer),
          spec(blk + "ffn_up.weight", [768, 256], .denseUp, layer),
          spec(blk + "ffn_down.weight", [256, 768], .denseDown, layer),
        ]
      } else {
        specs.append(spec(blk + "ffn_gate_inp.weight", [experts, 256], .router, layer))
      }
      for expert in 0..<experts {
        specs += [
          spec(blk + "ffn_gate_exps.weight", [256, 256], .routedGate, layer, expert),
          spec(blk + "ffn_up_exps.weight", [256, 256], .routedUp, layer, expert),
          spec(blk + "ffn_down_exps.weight", [256, 256], .routedDown, layer, expert),
        ]
      }
    }
    specs.append(spec("output_norm.weight", [256], .norm, nil))
    return specs + (tied ? [] : [spec("output.weight", [384, 256], .outputHead, nil)])
  }

  private func types(_ name: String, _ specs: [WeightSpec], hasImportances: Bool = false) throws -> [String:
    String]
  {
    let recipe = try #require(Recipe.gguf(name, for: specs, hasImportances: hasImportances))
    try recipe.check(specs) { _ in Plain.bf16 }
    return Dictionary(
      specs.map { ($0.name.base, recipe.scheme(for: $0, source: Plain.bf16).name) },
      uniquingKeysWith: { first, second in
        #expect(first == second)
        return first
      })
  }

  /// From files that llama-quantize made of a model of one layer and two experts: embeddings, output head, then q, k, v
  /// and output of the attention, gate, up and down of the experts.
  static let golden: [(String, String)] = [
    ("IQ4_NL", "iq4_nl q6_k iq4_nl iq4_nl q5_k iq4_nl iq4_nl iq4_nl iq4_nl"),
    ("IQ4_XS", "iq4_xs q6_k iq4_xs iq4_xs q5_k iq4_xs iq4_xs iq4_xs iq4_xs"),
    ("MXFP4_MOE", "q8_0 q8_0 q8_0 q8_0 q8_0 q8_0 mxfp4.gguf mxfp4.gguf mxfp4.gguf"),
    ("Q1_0", "q1_0 q6_k q1_0 q1_0 q1_0 q1_0 q1_0 q1_0 q1_0"),
    ("Q2_0", "q4_k q6_k q2_0 q2_0 q2_0 q2_0 q2_0 q2_0 q2_0"),
    ("Q2_K", "q2_k q6_k q2_k q2_k q4_k q3_k q2_k q2_k q3_k"),
    ("Q2_K_S", "q2_k q6_k q2_k q2_k q4_k q2_k q2_k q2_k q2_k"),
    ("Q3_K_L", "q3_k q6_k q3_k q3_k q5_k q5_k q3_k q3_k q5_k"),
    ("Q3_K_M", "q3_k q6_k q3_k q3_k q5_k q4_k q3_k q3_k q4_k"),
    ("Q3_K_S", "q3_k q6_k q3_k q3_k q3_k q3_k q3_k q3_k q3_k"),
    ("Q4_0", "q4_0 q6_k q4_0 q4_0 q4_0 q4_0 q4_0 q4_0 q4_0"),
    ("Q4_1", "q4_1 q6_k q4_1 q4_1 q4_1 q4_1 q4_1 q4_1 q4_1"),
    ("Q4_K_M", "q4_k q6_k q4_k q4_k q6_k q4_k q4_k q4_k q6_k"),
    ("Q4_K_S", "q4_k q6_k q4_k q4_k q5_k q4_k q4_k q4_k q4_k"),
    ("Q5_0", "q5_0 q6_k q5_0 q5_0 q5_0 q5_0 q5_0 q5_0 q5_0"),
    ("Q5_1", "q5_1 q6_k q5_1 q5_1 q5_1 q5_1 q5_1 q5_1 q5_1"),
    ("Q5_K_M", "q5_k q6_k q5_k q5_k q6_k q5_k q5_k q5_k q6_k"),
    ("Q5_K_S", "q5_k q6_k q5_k q5_k q5_k q5_k q5_k q5_k q5_k"),
    ("Q6_K", "q6_k q6_k q6_k q6_k q6_k q6_k q6_k q6_k q6_k"),
    ("Q8_0", "q8_0 q8_0 q8_0 q8_0 q8_0 q8_0 q8_0 q8_0 q8_0"),
    ("TQ1_0", "q4_k q6_k tq1_0 tq1_0 tq1_0 tq1_0 tq1_0 tq1_0 tq1_0"),
    ("TQ2_0", "q4_k q6_k tq2_0 tq2_0 tq2_0 tq2_0 tq2_0 tq2_0 tq2_0"),
  ]

  @Test(arguments: golden)
  func typesAreThoseOfLlamaQuantize(_ name: String, _ expected: String) throws {
    let found = try types(name, model(layers: 1, experts: 2))
    let order = [
      "token_embd", "output", "blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v", "blk.0.attn_output",
      "blk.0.ffn_gate_exps", "blk.0.ffn_up_exps", "blk.0.ffn_down_exps",
    ]
    #expect(order.map { found[$0 + ".weight"] ?? "" }.joined(separator: " ") == expected)
    for kept in ["blk.0.attn_norm", "blk.0.ffn_gate_inp", "output_norm"] {
      #expect(found[kept + ".weight"] == "keep")
    }
  }

  /// The first and last eighth and every third layer between get more bits: of 32 layers 0…3, 6, 9 … 27, 28…31.
  @Test func layersThatGetMoreBits() throws {
    let found = try types("q4_k_m", model(layers: 32, experts: 4))
    for layer in 0..<32 {
      let more = layer < 4 || layer >= 28 || (layer - 4) % 3 == 2
      for part in ["attn_v", "ffn_down_exps"] {
        #expect(found["blk.\(layer).\(part).weight"] == (more ? "q6_k" : "q4_k"), "\(layer) \(part)")
      }
    }
    let small = try types("q4_k_s", model(layers: 32, experts: 0))
    let medium = try types("q3_k_m", model(layers: 32, experts: 0))
    for layer in 0..<32 {
      #expect(small["blk.\(layer).attn_v.weight"] == (layer < 4 ? "q5_k" : "q4_k"))
      #expect(small["blk.\(layer).ffn_down.weight"] == (layer < 4 ? "q5_k" : "q4_k"))
      #expect(medium["blk.\(layer).attn_v.weight"] == (layer < 2 ? "q5_k" : "q4_k"))
      #expect(medium["blk.\(layer).ffn_down.weight"] == (layer < 2 ? "q5_k" : "q4_k"))
    }
  }

  @Test func eightExpertsTiedHeadsAndImportances() throws {
    let mixtral = try types("q4_k_m", model(layers: 8, experts: 8))
    #expect(mixtral["blk.3.attn_k.weight"] == "q8_0")
    #expect(mixtral["blk.3.attn_v.weight"] == "q8_0")
    #expect(mixtral["blk.3.attn_output.weight"] == "q5_k")
    #expect(try types("q5_k_m", model(layers: 1, experts: 2, tied: true))["token_embd.weight"] == "q6_k")
    #expect(try types("q2_k", model(layers: 1, experts: 2, queryHeads: 2))["blk.0.attn_v.weight"] == "q3_k")
    let layers = model(layers: 16, experts: 0)
    #expect(try types("q4_0", layers)["blk.1.ffn_down.weight"] == "q4_0")
    #expect(try types("q4_0", layers, hasImportances: true)["blk.1.ffn_down.weight"] == "q4_1")
    #expect(try types("iq4_xs", layers)["blk.1.ffn_down.weight"] == "q5_k")
    #expect(try types("iq4_xs", layers, hasImportances: true)["blk.1.ffn_down.weight"] == "iq4_xs")
  }

  /// Written to a file and read back, a mixture gives every weight the same scheme; the ledger says why.
  @Test func aMixtureIsAnOrdinaryRecipe() throws {
    let specs = model(layers: 8, experts: 3)
    let recipe = try #require(Recipe.gguf("Q4_K_M", for: specs))
    let again = try Recipe(Bytes(Array(recipe.json.text().utf8)))
    for spec in specs {
      #expect(
        again.scheme(for: spec, source: Plain.bf16).name == recipe.scheme(for: spec, source: Plain.bf16).name)
    }
    #expect(recipe.reason(for: specs[0], source: Plain.bf16) == "q4_k_m: q4_k for embedding")
    // llama-quantize's short name; a scheme's name is none of another kind.
    #expect(Recipe.gguf("q4_k", for: specs)?.json.text() == recipe.json.text())
    #expect(Recipe.gguf("int8-channel", for: specs) == nil)
    #expect(Recipe.mixtureNames.contains("q4_k_m") && !Recipe.mixtureNames.contains("q6_k"))
    let near = #expect(throws: RequestError.self) { try Schemes.named("q4_k_n") }
    #expect(near?.help?.hasPrefix("did you mean q4_k") == true)
  }
}
