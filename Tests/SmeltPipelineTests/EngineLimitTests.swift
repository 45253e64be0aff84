// `check --for`: files of llama.cpp, families and formats that one engine alone does not read, what a model
// lacks.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

@Suite struct EngineLimitTests {
  private let folder = TemporaryFolder()

  private func spoken(_ variant: Variant, _ engine: Engine) throws -> [String: EngineOutcome] {
    try engineCheck(variant, engine, in: folder).spoken
  }

  private func file(_ name: String) throws -> Model {
    var made = try options("keep")
    made.target = GGUFResult()
    _ = try convert(try openFixture(name), to: folder.file("\(name).gguf"), made)
    return try Model.open(folder.file("\(name).gguf"))
  }

  // MARK: llama.cpp

  /// What `convert` warns of is what `check` finds in the file that it wrote.
  @Test(arguments: ["mistral", "qwen2", "gpt_oss", "deepseek_v2", "llama", "qwen3_moe"])
  func filesThatLlamaCppComputesOtherwise(_ name: String) throws {
    var made = try options("keep")
    made.target = GGUFResult()
    let words = "results in llama.cpp will differ: "
    let warned = try convert(try openFixture(name), to: folder.file("m.gguf"), made).warnings
      .filter { $0.hasPrefix(words) }.map { "computes otherwise: " + $0.dropFirst(words.count) }
    #expect(warned.isEmpty == ["llama", "qwen3_moe"].contains(name), "\(warned)")
    let model = try file(name)
    for engine in [Engine.llamaCpp, .ollama] {
      let check = try checkEngine(model, for: engine)
      let found = check.findings.first { $0.rule.name == "computes" }
      #expect((found?.cases ?? []).map(\.found) == warned)
      #expect(
        found?.rule.outcome != .refuses
          && Set((found?.cases ?? []).map(\.subject)).isSubset(of: ["\(name).gguf"]))
      #expect(check.exitStatus(isStrict: false) >= (warned.isEmpty ? 0 : 1))
      if let first = warned.first {
        let start = first.split(separator: " ").prefix(3).joined(separator: " ")
        #expect(check.text.contains("differs: \(engine.title) \(start)"), "\(check.text)")
      }
    }
  }

  @Test func whatHelpsIsSaidByCause() throws {
    // No tokenizer, and the indexer's heads are too narrow: one a writer mends, the other none.
    let check = try checkEngine(try file("deepseek_v32"), for: .llamaCpp)
    #expect(check.spoken["tokenizer"] == .refuses && check.spoken["code"] == .refuses, "\(check.text)")
    let tokenizer = try #require(check.findings.first { $0.rule.name == "tokenizer" })
    let code = try #require(check.findings.first { $0.rule.name == "code" })
    #expect(
      tokenizer.rule.help?.contains("tokenizer.json") == true
        && code.rule.help?.contains("tokenizer") == false)
    #expect(check.text.contains("refuses: llama.cpp does not load: there is no tokenizer"), "\(check.text)")
    #expect(!check.text.contains("section 10"))
    #expect(code.cases.allSatisfy { $0.subject == "deepseek_v32.gguf" })
    #expect(check.text.contains("what would become of its tensors"))
  }

  @Test func sglangReadsFewGGUFFiles() throws {
    var made = try options("q8_0")
    made.target = GGUFResult()
    _ = try convert(try openFixture("llama"), to: folder.file("q.gguf"), made)
    let quantized = try Model.open(folder.file("q.gguf"))
    #expect(try checkEngine(quantized, for: .sglang).spoken.isEmpty)
    #expect(try checkEngine(try file("deepseek_v3"), for: .sglang).spoken == ["architecture": .refuses])
    made = try options("mxfp4.gguf")
    made.target = GGUFResult()
    _ = try convert(try openFixture("llama"), to: folder.file("x.gguf"), made)
    #expect(
      try checkEngine(try Model.open(folder.file("x.gguf")), for: .sglang).spoken == ["gguf-types": .refuses])
  }

  // MARK: gpt-oss

  @Test func gptOSSInOtherFormats() throws {
    let variant = try engineVariant("gpt_oss", "FP8_DYNAMIC", in: folder)
    for (engine, outcome) in [
      (Engine.vllm, EngineOutcome.refuses), (.sglang, .refuses), (.transformers, .differs),
    ] {
      #expect(try spoken(variant, engine)["gpt-oss"] == outcome)
    }
    let blocks = try Variant("models/gpt_oss-mxfp4")
    for engine in [Engine.sglang, .ollama] { #expect(try spoken(blocks, engine).isEmpty) }
  }

  // MARK: formats of compressed-tensors

  @Test func expertsThatTransformersDoesNotUnpack() throws {
    let mxfp8 = try engineVariant("qwen3_moe", "mxfp8", in: folder)
    #expect(try spoken(mxfp8, .transformers)["fp8-block-experts"] == .refuses)
    let bytes = try engineVariant("qwen3_moe", "W4A8", in: folder)
    #expect(try spoken(bytes, .transformers)["int8-experts"] == .refuses)
    let zeros = try engineVariant("qwen3_moe", "int4-zero:32", in: folder)
    #expect(try spoken(zeros, .transformers)["asymmetric-experts"] == .refuses)
    let dense = try engineVariant("llama", "W4A8", in: folder)
    #expect(try spoken(dense, .transformers) == ["dense-scheme": .notes])
  }

  @Test func integersOfFourBitsInBytes() throws {
    let dense = try engineVariant("llama", "W4A8", in: folder)
    #expect(try spoken(dense, .sglang) == ["int4-bytes": .refuses])
    #expect(try spoken(dense, .vllm).isEmpty)
    let view = try EngineView(try dense.open(in: folder, "view"), .sglang)
    #expect(view.weights.contains { $0.kind == .int4 } && !view.weights.contains { $0.kind == .packed })
  }

  @Test func fourBitsAndFP8HaveGroupsOf128() throws {
    // Its rows have 64 channels: groups of 64.
    let narrow = try engineVariant("qwen3_moe", "W4AFP8", in: folder)
    #expect(try spoken(narrow, .vllm)["w4afp8-group"] == .refuses)
    let sglang = try spoken(narrow, .sglang)
    #expect(sglang["w4afp8-group"] == .refuses && sglang["packed-activations"] == .refuses, "\(sglang)")
    #expect(sglang["expert-format"] == nil && sglang["int4-bytes"] == nil, "\(sglang)")
    // Groups of 128, 128 hidden channels of an expert, no multiple of 256.
    let wide = try engineVariant("tiny-v4", "W4AFP8", in: folder)
    let check = try engineCheck(wide, .vllm, in: folder)
    #expect(check.spoken["w4afp8-group"] == nil && check.spoken["w4afp8-width"] == .refuses, "\(check.text)")
    #expect(try spoken(wide, .sglang)["w4afp8-group"] == nil)
    let a16 = try engineVariant("qwen3_moe", "W4A16", in: folder)
    #expect(try spoken(a16, .vllm)["w4afp8-group"] == nil)
    #expect(try spoken(a16, .sglang)["packed-activations"] == nil)
  }

  @Test func otherGroupsAreSaidWhenTheyAreWritten() throws {
    func warnings(_ name: String, _ word: String) throws -> [String] {
      var made = try options(word)
      made.target = SafetensorsResult(shardBytes: SafetensorsResult.usualShardBytes, schemeWord: word)
      return try Plan(try openFixture(name), made).warnings.filter {
        $0.contains("groups of 128 alone")
      }
    }
    #expect(try warnings("qwen3_moe", "W4AFP8").count == 1)
    #expect(try warnings("qwen3_moe", "W4A16").isEmpty)
    #expect(try warnings("tiny-v4", "W4AFP8").isEmpty)
  }

  @Test func ollamaImportsFP8InBlocksAlone() throws {
    for word in ["nvfp4", "mxfp4", "mxfp8", "W4A16", "FP8_DYNAMIC"] {
      let found = try spoken(try engineVariant("llama", word, in: folder), .ollama)
      #expect(found["types"] == .refuses || found["fp8-scales"] == .refuses, "\(word): \(found)")
    }
    #expect(try spoken(try engineVariant("llama", "FP8_BLOCK", in: folder), .ollama).isEmpty)
  }

  // MARK: what is not there

  @Test(arguments: [Engine.vllm, .sglang, .transformers, .ollama, .mlx])
  func directoriesWithoutAConfiguration(_ engine: Engine) throws {
    let source = try Variant("models/llama")
    let path = folder.file("bare-\(engine.rawValue)")
    try source.write(to: path)
    removeFile(path + "/config.json")
    let check = try checkEngine(try Model.open(path), for: engine)
    #expect(check.spoken["configuration"] == .refuses && check.spoken["architecture"] == nil, "\(check.text)")
    #expect(check.text.contains("there is no config.json: put the publisher's beside"))
  }

  @Test func versionsAreVersions() throws {
    for (engine, text) in [
      (Engine.vllm, "0.9.2"), (.vllm, "v0.10"), (.vllm, "0.11.0rc2"), (.sglang, "0.5.3.post1"),
      (.llamaCpp, "b10488"),
      (.llamaCpp, "0c1e57098"), (.ollama, "v0.12.3"), (.ollama, "fb30760"), (.mlx, "0.32"),
    ] {
      #expect(try engine.version(text) == text)
    }
    for (engine, text) in [
      (Engine.vllm, "banana"), (.vllm, ""), (.vllm, "0..1"), (.vllm, "0.1 "), (.vllm, "fb30760"),
      (.ollama, "main"),
    ] {
      #expect(throws: RequestError.self, "\(text)") { try engine.version(text) }
    }
  }

  @Test func otherVersionsWereNotRead() throws {
    let variant = try Variant("models/llama")
    let old = try engineCheck(variant, .vllm, in: folder, version: "0.1").text
    #expect(old.hasPrefix("vLLM 0.1 was not read; by the rules of 0.33.0 it loads it"), "\(old)")
    let read = try engineCheck(variant, .vllm, in: folder).text
    #expect(read.hasPrefix("vLLM 0.33.0 loads it and computes what its files say\n"), "\(read)")
    #expect(read.contains("\ntensors ") && !read.contains("what would become"))
  }
}
