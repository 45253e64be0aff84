// An output head beside embeddings that config.json ties, in every container and family.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct TiedHeadTests {
  private let embedding = "model.embed_tokens.weight"

  /// A tied model whose head holds the embeddings again.
  private func copied() throws -> Variant {
    var variant = try Variant("reports/tie_diff")
    let bytes = variant.tensors[try variant.place(embedding)].bytes
    variant.tensors[try variant.place("lm_head.weight")].bytes = bytes
    return variant
  }

  private func expectLeftOut(_ model: Model, _ head: String = "lm_head.weight") throws {
    #expect(model.warnings.isEmpty)
    #expect(!model.family.weights.contains { $0.role == .outputHead })
    let dropped = try Plan(model, try options("keep")).ledger.filter { $0.fate == .dropped }
    #expect(dropped.map(\.source) == [head] && dropped.first?.rule == "tied-head")
  }

  private func expectUsed(_ model: Model) throws {
    #expect(model.warnings.count == 1 && model.warnings.first?.contains("tie_word_embeddings") == true)
    #expect(model.family.weights.contains { $0.role == .outputHead })
    let config = try JSON.scan(try #require(try model.smallFile("config.json")))
    #expect(config["tie_word_embeddings"]?.bool == false)
  }

  @Test func aCopyIsLeftOutByRule() throws {
    let folder = TemporaryFolder()
    var variant = try copied()
    let model = try variant.open(in: folder, "one")
    try expectLeftOut(model)
    try expectLeftOut(try variant.open(in: folder, "sharded", shards: 3))
    // The same numbers in another type.
    let place = try variant.place("lm_head.weight")
    let halves = variant.tensors[place].bytes
    variant.tensors[place].bytes = stride(from: 0, to: halves.count, by: 2).flatMap {
      [0, 0, halves[$0], halves[$0 + 1]]
    }
    variant.tensors[place].dtype = .f32
    let wide = try variant.open(in: folder, "wide")
    try expectLeftOut(wide)
    try expectEqual(model, wide)
    // One number that differs, at the end.
    variant.tensors[place].bytes[variant.tensors[place].bytes.count - 1] ^= 0x80
    try expectUsed(try variant.open(in: folder, "other"))
    // Nothing of it is in a result.
    for result in ["a.ingot", "a.gguf", "directory"] {
      let result = try converted(model, folder.file(result))
      #expect(result.warnings.isEmpty && !result.family.weights.contains { $0.role == .outputHead })
      try expectEqual(model, result)
    }
  }

  @Test func aHeadOfItsOwnIsUsedInEveryResult() throws {
    let folder = TemporaryFolder()
    let model = try Model.open(fixture("reports/tie_diff"))
    try expectUsed(model)
    for name in ["a.ingot", "a.gguf", "directory"] {
      let result = try converted(model, folder.file(name))
      let config = try JSON.scan(try #require(try result.smallFile("config.json")))
      #expect(config["tie_word_embeddings"]?.bool == false && result.warnings.isEmpty, "\(name)")
      #expect(try distance(result, "tie_diff.ref") <= 2e-5, "\(name)")
    }
    // Apart from that word config.json is the source's, byte for byte.
    let (source, result) = (
      try contents(fixture("reports/tie_diff/config.json")),
      try contents(folder.file("directory/config.json"))
    )
    let text = String(decoding: source, as: UTF8.self)
      .replacing("\"tie_word_embeddings\": true", with: "\"tie_word_embeddings\": false")
    #expect(text == String(decoding: result, as: UTF8.self))
  }

  @Test func aQuantizedHeadIsComparedByItsNumbers() throws {
    var variant = try copied()
    let place = try variant.place("lm_head.weight")
    let rows = variant.tensors[place].shape.rows
    variant.set("quantization_config", ["quant_method": "fp8"])
    variant.tensors[place].dtype = .f8E4M3
    variant.tensors[place].bytes = [UInt8](repeating: 0x38, count: variant.tensors[place].shape.count)
    variant.tensors.append(
      Variant.Tensor(
        name: "lm_head.weight_scale", dtype: .f32, shape: [rows],
        bytes: (0..<rows).flatMap { _ in [0, 0, 0x80, 0x3F] }))
    let folder = TemporaryFolder()
    try expectUsed(try variant.open(in: folder))
    // Ones, stored as codes and scales, and as BF16.
    let table = try variant.place(embedding)
    variant.tensors[table].bytes = (0..<variant.tensors[table].shape.count).flatMap { _ in
      [0x80, 0x3F] as [UInt8]
    }
    let model = try variant.open(in: folder, "equal")
    #expect(model.warnings.isEmpty)
    let dropped = try Plan(model, try options("keep")).ledger.filter { $0.fate == .dropped }
    #expect(Set(dropped.map(\.source)) == ["lm_head.weight", "lm_head.weight_scale"])
    #expect(dropped.allSatisfy { $0.rule == "tied-head" })
  }

  @Test(arguments: [
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "deepseek_v4-hfsaved", "glm4_moe", "gpt_oss",
    "minimax_m2", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe_sharded",
    "mistral", "qwen3", "qwen3_next",
    "glm4_moe_lite", "glm_moe_dsa", "hy_v3", "nemotron_h",
  ])
  func everyFamilyUsesItsHead(name: String) throws {
    var variant = try Variant("models/\(name)")
    variant.set("tie_word_embeddings", true)
    let folder = TemporaryFolder()
    let model = try variant.open(in: folder)
    try expectUsed(model)
    try expectEqual(model, try openFixture(name))
  }

  @Test func anAbsentHeadIsNamed() throws {
    var variant = try Variant("reports/base")
    variant.tensors.removeAll { $0.name == "lm_head.weight" }
    let folder = TemporaryFolder()
    let error = #expect(throws: FormatError.self) { try variant.open(in: folder) }
    #expect(error?.code == .incomplete && error?.subject == "lm_head.weight" && error?.exitStatus == 2)
    #expect(error?.problem.contains("tie_word_embeddings") == true)
    variant.set("tie_word_embeddings", true)
    #expect(try variant.open(in: folder).warnings.isEmpty)
  }

  // MARK: GGUF

  /// A file of this program whose copy of config.json says something else about the head.
  private func file(
    _ folder: TemporaryFolder, _ ties: Bool, _ change: (inout [GGUFVariant.Tensor]) throws -> Void = { _ in }
  ) throws -> Model {
    try converted(try Model.open(fixture("reports/base")), folder.file("source.gguf"))
    var variant = try GGUFVariant(path: folder.file("source.gguf"))
    removeFile(folder.file("source.gguf"))
    let place = try #require(variant.keys.firstIndex { $0.key == "smelt.config" })
    let text = try #require(variant.keys[place].value.string)
    variant.keys[place].value = .string(
      text.replacing("\"tie_word_embeddings\": false", with: "\"tie_word_embeddings\": \(ties)"))
    try change(&variant.tensors)
    return try variant.open(in: folder)
  }

  @Test func aFileOfGGUFIsReadAlike() throws {
    let folder = TemporaryFolder()
    let used = try file(folder, true)
    try expectUsed(used)
    #expect(try distance(used, "base.lg.safetensors") <= 2e-5)
    let copy = try file(folder, true) { tensors in
      let table = try #require(tensors.first { $0.name == "token_embd.weight" })
      for index in tensors.indices where tensors[index].name == "output.weight" {
        tensors[index].bytes = table.bytes
      }
    }
    try expectLeftOut(copy, "output.weight")
    let error = #expect(throws: FormatError.self) {
      try file(folder, false) { $0.removeAll { $0.name == "output.weight" } }
    }
    #expect(error?.code == .incomplete && error?.subject == "output.weight")
    #expect(error?.problem.contains("tie_word_embeddings") == true)
    #expect(try file(folder, true) { $0.removeAll { $0.name == "output.weight" } }.warnings.isEmpty)
  }
}
