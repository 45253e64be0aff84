// What llama.cpp wants of a GGUF file: the types that its own quantizer gives, keys and tensors that its loaders ask for, and what is said
// where it loads none. Recorded types: Fixtures/make/check_llama_types.py with --record.

import SmeltContainers
import SmeltModels
@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// The options of a command that writes a `.gguf`.
private func asked(_ scheme: String, of model: Model, _ result: String = "r.gguf") throws -> ConvertOptions {
  try ConversionRequest(
    scheme: scheme, recipePath: nil, statisticsPath: nil, observer: nil, exactOnly: false,
    compression: nil,
    kind: nil, overwrite: false
  ).options(for: model, result: result, RunOptions())
}

/// The types of a result's tensors by name, as GGUF's encodings are called.
private func types(_ scheme: String, of model: Model) throws -> [String: String] {
  let plan = try Plan(model, try asked(scheme, of: model))
  return Dictionary(
    uniqueKeysWithValues: try GGUFResult.declarations(plan, model.family).map {
      ($0.name, $0.type.name.lowercased())
    })
}

/// Types that llama_model_quantize gave, one letter a tensor: `letters` says which type each is.
private struct RecordedTypes {
  let letters: [String: String]
  let models: [(name: String, tensors: [String], types: [(scheme: String, letters: String)])]

  init() throws {
    let json = try JSON.scan(Bytes(contents(fixture("gguf/llama-types.json"))))
    let table = try #require(json["letters"]?.object)
    letters = Dictionary(
      uniqueKeysWithValues: zip(table.keys, table.values).map { ($0, $1.string ?? "") })
    let all = try #require(json["models"]?.object)
    models = try zip(all.keys, all.values).map { name, entry in
      let kinds = try #require(entry["types"]?.object)
      return (
        name, try #require(entry["tensors"]?.array).compactMap(\.string),
        zip(kinds.keys, kinds.values).map { ($0, $1.string ?? "") }
      )
    }
  }
}

@Suite struct LlamaCppTypeTests {
  /// Every tensor of every model under every name has the type that llama.cpp's quantizer gave it.
  @Test func aNameMeansLlamaQuantizesTypes() throws {
    let recorded = try RecordedTypes()
    #expect(recorded.models.count >= 8)
    for (name, tensors, kinds) in recorded.models {
      let model = try openFixture(name)
      #expect(kinds.count >= 20, "\(name)")
      for (scheme, letters) in kinds {
        #expect(letters.count == tensors.count)
        let expected = Dictionary(
          uniqueKeysWithValues: zip(tensors, letters).map { ($0, recorded.letters[String($1)] ?? "") })
        let found = try types(scheme, of: model)
        let unlike = expected.filter { found[$0.key] != $0.value }.keys.sorted()
        #expect(unlike.isEmpty && found.count == expected.count, "\(name) \(scheme): \(unlike)")
      }
    }
  }

  /// `NAME:keep-head` is the default recipe of the scheme, or the mixture without what that keeps.
  @Test func aNameThatKeepsTheHead() throws {
    let model = try openFixture("qwen3_moe")
    let whole = try types("q6_k", of: model)
    let kept = try types("Q6_K:keep-head", of: model)
    for tensor in ["token_embd.weight", "output.weight"] {
      #expect(whole[tensor] == "q8_0" || whole[tensor] == "q6_k")
      #expect(kept[tensor] == "f32" || kept[tensor] == "bf16")
    }
    #expect(kept["blk.0.attn_q.weight"] == whole["blk.0.attn_q.weight"])
    let mixture = try types("q4_k_m:keep-head", of: model)
    #expect(mixture["output.weight"] == kept["output.weight"])
    #expect(mixture["blk.0.attn_v.weight"] == (try types("q4_k_m", of: model))["blk.0.attn_v.weight"])
    // A short name is llama-quantize's mixture, with `:keep-head` the scheme.
    #expect(try types("q4_k", of: model) == types("q4_k_m", of: model))
    #expect(try types("q4_k:keep-head", of: model)["blk.0.attn_v.weight"] == "q5_0")
    #expect(throws: RequestError.self) { try asked("q9_k:keep-head", of: model) }
  }

  /// In other containers a scheme's name is its default recipe, as before.
  @Test func otherContainersKeepTheHead() throws {
    let model = try openFixture("qwen3_moe")
    let plan = try Plan(model, try asked("q6_k", of: model, "r.ingot"))
    for planned in plan.weights where [.embedding, .outputHead].contains(planned.stored.spec.role) {
      #expect(planned.isKept)
    }
  }
}

@Suite struct LlamaCppLoaderTests {
  /// A golden model whose embeddings are the output head.
  private func tied(_ name: String, in folder: TemporaryFolder) throws -> Model {
    var variant = try Variant("models/" + name)
    variant.set("tie_word_embeddings", true)
    variant.tensors.removeAll { $0.name == "lm_head.weight" || $0.name == "head.weight" }
    return try variant.open(in: folder, name)
  }

  /// What llama.cpp finds in a written file.
  private func findings(_ path: String) throws -> [LlamaCppFinding] {
    let file = try GGUFFile(path: path)
    return LlamaCpp.findings(
      LlamaCppFile(
        Metadata(file), tensors: Dictionary(uniqueKeysWithValues: file.tensors.map { ($0.name, $0.shape) })))
  }

  /// Without a tokenizer no file loads; that apart.
  private func others(_ findings: [LlamaCppFinding]) -> [String] {
    findings.filter { !$0.text.contains("no tokenizer") }.map(\.sentence)
  }

  /// Where llama.cpp knows no tied embeddings the file has them again as the head, and reads back as the tied model.
  @Test(arguments: ["qwen2_moe", "olmoe", "gpt_oss", "minimax_m2"])
  func tiedEmbeddingsAreTheHeadAgain(_ name: String) throws {
    let folder = TemporaryFolder()
    let model = try tied(name, in: folder)
    #expect(!model.family.weights.contains { $0.role == .outputHead })
    let path = folder.file("kept.gguf")
    _ = try convert(model, to: path, try asked("keep", of: model, path))
    // The golden qwen2_moe has a dense layer, which is no matter of the head.
    #expect(others(try findings(path)).allSatisfy { $0.contains("dense") || $0.contains("blk.1.ffn_down") })
    let file = try GGUFFile(path: path)
    let (head, table) = (
      try #require(file.tensor("output.weight")), try #require(file.tensor("token_embd.weight"))
    )
    #expect(head.bytes.array == table.bytes.array)
    let again = try Model.open(path)
    #expect(again.warnings.isEmpty && !again.family.weights.contains { $0.role == .outputHead })
    try expectEqual(model, again)
  }

  /// A head in another type than the embeddings is one of its own: the file's copy of config.json says so, and it runs.
  @Test func aHeadOfAnotherType() throws {
    let folder = TemporaryFolder()
    let model = try tied("qwen2_moe", in: folder)
    let path = folder.file("mixed.gguf")
    let options = try asked("q4_0", of: model, path)
    let plan = try Plan(model, options)
    let entry = try #require(plan.ledger.first { $0.weight == "token_embd.weight" })
    #expect(entry.note?.contains("output.weight: q6_k") == true, "\(entry.note ?? "")")
    _ = try convert(model, to: path, options)
    let file = try GGUFFile(path: path)
    #expect(file.tensor("token_embd.weight")?.type.name == "Q4_0")
    #expect(["Q6_K", "Q8_0"].contains(try #require(file.tensor("output.weight")).type.name))
    let again = try Model.open(path)
    #expect(again.warnings.isEmpty && again.family.weights.contains { $0.role == .outputHead })
    // Rounded from the same numbers.
    let source = try model.weights.weight(WeightName("token_embd.weight")).decode()
    let head = try again.weights.weight(WeightName("output.weight")).decode()
    let error = zip(source, head).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    #expect(error < 1e-3 * source.reduce(0) { $0 + $1 * $1 })
  }

  /// Where llama.cpp knows tied embeddings nothing is written twice.
  @Test(arguments: ["qwen3", "llama"])
  func tiedEmbeddingsStandOnce(_ name: String) throws {
    let folder = TemporaryFolder()
    let model = try tied(name, in: folder)
    let path = folder.file("kept.gguf")
    _ = try convert(model, to: path, try asked("keep", of: model, path))
    #expect(try GGUFFile(path: path).tensor("output.weight") == nil && others(try findings(path)) == [])
  }

  /// Golden models whose file llama.cpp does not load or run, and the words that say why.
  private static let refused = [
    "deepseek_v32": ["32 channels"], "glm_moe_dsa": ["32 channels"],
    "deepseek_v4": ["compressed by", "32 channels"], "deepseek_v4-hfsaved": ["compressed by", "32 channels"],
    "qwen2_moe": ["nothing asks for the tensor 'blk.1.ffn_down.weight'", "layer 1 is dense"],
    "minimax_m3_vl": ["layer 1 has no indexer"],
  ]

  /// The rules say of every golden model what llama.cpp does with its file.
  @Test(arguments: [
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "deepseek_v4-fp4", "deepseek_v4-hfsaved",
    "gemma4",
    "gemma4_dense", "gemma4_e2b", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "gpt_oss", "gpt_oss-mxfp4",
    "hy_v3",
    "llama", "minimax_m2", "minimax_m3_vl", "mistral", "mistral4", "mixtral", "nemotron_h", "olmoe", "qwen2",
    "qwen2_moe", "qwen3", "qwen3_5", "qwen3_5_moe", "qwen3_moe", "qwen3_next", "qwen3_vl_moe",
  ])
  func rulesForetellWhatLoads(_ name: String) throws {
    let folder = TemporaryFolder()
    let model = try openFixture(name)
    let path = folder.file("r.gguf")
    let summary = try convert(model, to: path, try asked("keep", of: model, path))
    let found = try findings(path)
    let expected = Self.refused[name] ?? []
    let sentences = others(found)
    #expect(sentences.count == expected.count, "\(name): \(sentences)")
    for words in expected { #expect(sentences.contains { $0.contains(words) }, "\(name): \(sentences)") }
    // What is found in the file was said when it was written.
    for finding in found { #expect(summary.warnings.contains(finding.sentence)) }
    #expect(summary.warnings.allSatisfy { !$0.contains("will differ: embeddings are the output head") })
  }

  /// Each rule fires on a file that breaks it, and says where it comes from.
  @Test func rulesFire() throws {
    let folder = TemporaryFolder()
    func broken(_ name: String, _ change: (inout GGUFVariant) -> Void) throws -> [String] {
      let path = folder.file("\(name).gguf")
      if pathKind(path) == .nothing {
        let model = try openFixture(name)
        _ = try convert(model, to: path, try asked("keep", of: model, path))
      }
      var variant = try GGUFVariant(path: path)
      change(&variant)
      var metadata = Metadata(file: "broken.gguf")
      for (key, value) in variant.keys { metadata[key] = MetadataValue(value) }
      let shapes = variant.tensors.map { ($0.name, Shape($0.shape)) }
      let found = LlamaCpp.findings(
        LlamaCppFile(metadata, tensors: Dictionary(uniqueKeysWithValues: shapes)))
      #expect(found.allSatisfy { $0.source.hasPrefix("src/") })
      return others(found)
    }
    func without(_ key: String) -> (inout GGUFVariant) -> Void {
      { $0.keys.removeAll { $0.key.hasSuffix(key) } }
    }
    #expect(try broken("olmoe", without(".context_length")).count == 1)
    #expect(try broken("olmoe") { $0.tensors.removeAll { $0.name == "output.weight" } }.count == 1)
    #expect(try broken("qwen3_moe") { $0.tensors.removeAll { $0.name == "output.weight" } }.isEmpty)
    #expect(try broken("deepseek_v3", without(".q_lora_rank")).count == 1)
    #expect(try broken("deepseek_v4-fp4", without(".hyper_connection.count")).count == 1)
    #expect(try broken("qwen3_moe") { $0.tensors[0].name = "blk.0.unheard_of.weight" }.count >= 1)
    #expect(
      try broken("qwen3_moe") { $0.tensors.removeAll { $0.name == "blk.1.ffn_gate_inp.weight" } }.contains {
        $0.contains("layer 1 is dense")
      })
    #expect(try broken("gpt_oss") { $0.tensors.removeAll { $0.name == "blk.0.attn_output.bias" } }.count == 1)
    // Another program's architecture has no rows.
    #expect(
      try broken("qwen3_moe") { variant in
        let place = variant.keys.firstIndex { $0.key == "general.architecture" } ?? 0
        variant.keys[place].value = .string("rwkv7")
      }.isEmpty)
  }

  /// Keys that config.json may leave out are in the file all the same: each member is taken away alone, and where the family still opens
  /// nothing is missing.
  @Test(arguments: [
    "deepseek_v2", "deepseek_v3", "deepseek_v4-fp4", "glm4_moe", "gpt_oss", "hy_v3", "llama", "minimax_m2",
    "mixtral",
    "nemotron_h", "olmoe", "qwen2", "qwen2_moe", "qwen3_moe", "qwen3_next",
  ])
  func defaultsAreWritten(_ name: String) throws {
    let folder = TemporaryFolder()
    let whole = try Variant("models/" + name)
    var opened = 0
    for key in whole.config.map(\.0) where key != "model_type" {
      var variant = whole
      variant.set(key, nil)
      guard let model = try? variant.open(in: folder, "m"), let text = try model.textConfig(),
        let architecture = GGUFArchitectures.of(model.family),
        let config = try? ConfigReader(parseConfig(text, file: "config.json"), file: "config.json")
      else { continue }
      opened += 1
      var metadata = Metadata(file: "r.gguf")
      metadata["general.architecture"] = .string(architecture.name)
      for (key, value) in try architecture.keys(of: model.family, config) { metadata[key] = value }
      let missing = LlamaCpp.findings(LlamaCppFile(metadata, tensors: [:])).filter {
        $0.text.contains("the key '")
      }
      #expect(missing.isEmpty, "\(name) without \(key): \(missing.map(\.text))")
    }
    #expect(opened > 3)
  }

  /// Queries without a latent: the key is there, 0, and reads back.
  @Test func queriesWithoutALatent() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v2")
    let path = folder.file("r.gguf")
    _ = try convert(model, to: path, try asked("keep", of: model, path))
    let rank = try Metadata(try GGUFFile(path: path)).integer("deepseek2.attention.q_lora_rank")
    let hasLatent = model.family.weights.contains { $0.name.base.hasSuffix("attn_q_a.weight") }
    #expect(rank != nil && (rank ?? 0 > 0) == hasLatent)
    var variant = try GGUFVariant(path: path)
    variant.keys.removeAll { $0.key == "smelt.config" }
    try expectEqual(model, try variant.open(in: folder))
  }
}
