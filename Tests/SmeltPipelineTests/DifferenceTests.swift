// A result runs on its own configuration and its own tokenizer: what they differ in from the source's is named, and what changes
// numbers or ids fails. Conversions change neither.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import SmeltTokenizers
import Testing

@testable import SmeltPipeline

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A model's directory copied, its config.json changed.
private func changed(_ name: String, in folder: TemporaryFolder, _ body: (inout String) -> Void) throws
  -> Model
{
  let path = folder.file(name)
  #expect(mkdir(path, 0o700) == 0)
  for file in try namesInFolder(fixture("models/\(name)")) where !file.hasPrefix("reference") {
    var bytes = try contents(fixture("models/\(name)/\(file)"))
    if file == "config.json" {
      var text = String(decoding: bytes, as: UTF8.self)
      let before = text
      body(&text)
      #expect(text != before, "\(name): the configuration has no such key")
      bytes = Array(text.utf8)
    }
    try writeFile("\(path)/\(file)", bytes, overwrite: false)
  }
  return try Model.open(path)
}

/// Sets a key of an object's text, wherever it first stands.
private func set(_ key: String, _ value: String, in text: inout String) {
  guard let start = text.firstRange(of: "\"\(key)\":") else { return }
  let end = text[start.upperBound...].firstIndex { ",}\n".contains($0) } ?? text.endIndex
  text.replaceSubrange(start.upperBound..<end, with: " \(value)")
}

@Suite struct ConfigurationDifferenceTests {
  /// A key, its new value, and what the report calls it.
  static let changes: [(model: String, key: String, value: String, named: String)] = [
    ("qwen3_moe", "rope_theta", "54321.0", "rope_theta"),
    ("qwen3_moe", "num_experts_per_tok", "1", "num_experts_per_tok"),
    ("qwen3_moe", "rms_norm_eps", "0.01", "rms_norm_eps"),
    ("qwen3_moe", "norm_topk_prob", "false", "norm_topk_prob"),
    ("glm4_moe", "routed_scaling_factor", "3.5", "routed_scaling_factor"),
    ("glm4_moe", "partial_rotary_factor", "0.25", "rotary_dim"),
    ("mixtral", "sliding_window", "3", "sliding_window"),
    ("gpt_oss", "factor", "3.0", "rope_scaling.factor"),
    ("gpt_oss", "sliding_window", "3", "sliding_window"),
    ("gpt_oss", "swiglu_limit", "0.5", "swiglu_limit"),
    ("deepseek_v3", "topk_group", "1", "topk_group"),
    ("deepseek_v3", "routed_scaling_factor", "7.5", "routed_scaling_factor"),
    ("deepseek_v3", "mscale_all_dim", "2.0", "attention scale (mscale_all_dim)"),
    ("deepseek_v32", "index_topk", "2", "index_topk"),
    ("deepseek_v4", "compress_rope_theta", "1234.0", "compress_rope_theta"),
    ("deepseek_v4", "routed_scaling_factor", "9.0", "routed_scaling_factor"),
    ("deepseek_v4", "hc_sinkhorn_iters", "1", "hc_sinkhorn_iters"),
    ("deepseek_v4", "sliding_window", "2", "sliding_window"),
    ("olmoe", "clip_qkv", "0.05", "clip_qkv"),
    ("glm4_moe_lite", "routed_scaling_factor", "2.5", "routed_scaling_factor"),
    ("glm_moe_dsa", "index_topk", "3", "index_topk"),
    ("hy_v3", "router_scaling_factor", "1.5", "routed_scaling_factor"),
    ("mistral4", "llama_4_scaling_beta", "0.5", "llama_4_scaling_beta"),
    ("minimax_m3_vl", "sparse_topk_blocks", "1", "sparse_topk_blocks"),
    ("minimax_m3_vl", "swiglu_limit", "0.5", "swiglu_limit"),
    ("qwen3_next", "norm_topk_prob", "false", "norm_topk_prob"),
    ("qwen3_next", "partial_rotary_factor", "0.5", "rotary_dim"),
    ("nemotron_h", "routed_scaling_factor", "9.0", "routed_scaling_factor"),
    ("nemotron_h", "time_step_min", "0.5", "time_step_min"),
    ("nemotron_h", "norm_topk_prob", "false", "norm_topk_prob"),
  ]

  @Test(arguments: changes.indices)
  func theResultRunsOnItsOwn(_ index: Int) throws {
    let (name, key, value, named) = Self.changes[index]
    let source = try openFixture(name)
    let folder = TemporaryFolder()
    let result = try changed(name, in: folder) { set(key, value, in: &$0) }
    let windows = someWindows(source, count: 2, context: 24)
    let report = try verify(
      source: source, result: result, windows, thresholds: Thresholds(maxKL: 1e9, minTop1: 0), RunOptions())
    #expect(report.verdict == .fail)
    #expect(report.faults.contains { $0.kind == .configuration && $0.subject == named }, "\(report.notes)")
    #expect(report.differences.allSatisfy { $0.kind == .configuration })
    // As the pass of the result alone has it.
    let (x, y) = (try allLogits(source, windows), try allLogits(result, windows))
    #expect((x != y) == (report.kl.mean > 0), "\(report.kl.mean)")
    #expect(report.weights.allSatisfy { $0.isExact } && report.exactWeights == source.family.weights.count)
    let itself = try verify(source: result, result: result, windows, thresholds: Thresholds(), RunOptions())
    #expect(abs(itself.perplexity.source / report.perplexity.result - 1) < 1e-9)
    let summary = try diff(source, result, RunOptions())
    #expect(!summary.isEqual && summary.differences.isEmpty)
    #expect(summary.text.contains(named))
  }

  @Test func keysWithoutANumberAreNamedAndPass() throws {
    let source = try openFixture("qwen3_moe")
    let folder = TemporaryFolder()
    let result = try changed("qwen3_moe", in: folder) {
      set("max_position_embeddings", "77", in: &$0)
      set("eos_token_id", "7", in: &$0)
      set("torch_dtype", "\"float16\"", in: &$0)
    }
    let differences = try ModelDifference.all(source, result)
    #expect(differences.map(\.key) == ["max_position_embeddings", "eos_token_id"])
    #expect(differences.allSatisfy { !$0.changesNumbers })
    #expect(try diff(source, result, RunOptions()).isEqual)
  }

  /// What the source has no counterpart of: the section of the result's weights.
  @Test(arguments: ["\"num_bits\"", "\"ignore\"", "\"strategy\""])
  func sectionsOfTheWeightsAreHeldAgainstTheList(_ key: String) throws {
    let source = try openFixture("qwen3_moe")
    let folder = TemporaryFolder()
    var options = try options("int8-channel")
    options.target = SafetensorsResult(schemeWord: "int8-channel")
    _ = try convert(source, to: folder.file("r"), options)
    #expect(try ModelDifference.all(source, try Model.open(folder.file("r"))).isEmpty)
    let path = folder.file("r/config.json")
    let text = String(decoding: try contents(path), as: UTF8.self)
    let place = try #require(text.firstRange(of: key))
    var edited = text
    // Beside the section's own keys, so that it is read as before.
    edited.replaceSubrange(place, with: "\"note\": 1, " + key)
    try writeFile(path, Array(edited.utf8), overwrite: true)
    let found = try ModelDifference.all(source, try Model.open(folder.file("r")))
    #expect(found.map(\.key) == ["config.json"] && !found[0].changesNumbers, "\(found)")
  }

  @Test func aTieThatOnlyTheResultHasIsNamed() throws {
    let source = try openFixture("qwen3_moe")
    let folder = TemporaryFolder()
    let has = try source.smallFile("config.json").map { String(decoding: $0.array, as: UTF8.self) } ?? ""
    guard !has.contains("tie_word_embeddings") else { return }
    let result = try changed("qwen3_moe", in: folder) {
      $0 = $0.replacing("\"model_type\"", with: "\"tie_word_embeddings\": false, \"model_type\"")
    }
    #expect(try ModelDifference.all(source, result).map(\.key) == ["tie_word_embeddings"])
  }

  /// Two spellings of one configuration are one.
  @Test func dialectsAreTheSameConfiguration() throws {
    let (hub, saved) = (try openFixture("deepseek_v4"), try openFixture("deepseek_v4-hfsaved"))
    #expect(try ModelDifference.all(hub, saved).filter(\.changesNumbers) == [])
  }

  /// Every field of every family has a name that a reader of config.json knows.
  @Test func everySettingHasAKey() throws {
    for name in try namesInFolder(fixture("models")) {
      let settings = try openFixture(name).family.settings
      #expect(settings.count > 15)
      for setting in settings {
        #expect(!setting.key.contains { $0.isUppercase }, "\(name): \(setting.key)")
      }
    }
  }

  /// What this program writes has the source's configuration and tokenizer, in every container.
  @Test(arguments: try namesInFolder(fixture("models")))
  func conversionsChangeNeither(_ name: String) throws {
    let source = try openFixture(name)
    let targets: [(String, any ResultTarget)] = [
      ("r.ingot", IngotResult(.fast)), ("r.gguf", GGUFResult()), ("r", SafetensorsResult()),
    ]
    for (file, target) in targets {
      let folder = TemporaryFolder()
      var options = try options("keep")
      options.target = target
      _ = try convert(source, to: folder.file(file), options)
      let result = try Model.open(folder.file(file))
      let found = try ModelDifference.all(source, result, texts: nil).filter(\.changesNumbers)
      #expect(found.map(\.text) == [], "\(name) to \(file)")
      let back = try ModelDifference.all(result, source).filter(\.changesNumbers)
      #expect(back.map(\.text) == [], "\(file) to \(name)")
    }
  }
}

@Suite struct TokenizerDifferenceTests {
  private static let model = "tiny-v4"

  /// A model of some weights with the tokenizer of the bundled one, changed.
  private func differences(_ body: (inout String) -> Void, text: String? = "the man and the woman") throws
    -> [ModelDifference]
  {
    let folder = TemporaryFolder()
    let result = try changed(Self.model, in: folder) { $0 += "\n" }
    let path = folder.file("\(Self.model)/tokenizer.json")
    var json = String(decoding: try contents(path), as: UTF8.self)
    let before = json
    body(&json)
    #expect(json != before)
    removeFile(path)
    if !json.isEmpty { try writeFile(path, Array(json.utf8), overwrite: true) }
    let source = try openFixture(Self.model)
    var texts: TextSource?
    if let text {
      try writeFile(folder.file("t"), Array(text.utf8), overwrite: false)
      texts = try TextSource([folder.file("t")])
    }
    return try ModelDifference.all(source, try Model.open(result.path), texts: texts)
  }

  @Test func aTokenizerRemoved() throws {
    let found = try differences { $0 = "" }
    #expect(found.map(\.key) == ["tokenizer.json"])
    #expect(found.allSatisfy { $0.changesNumbers && $0.result == "missing" })
  }

  /// Two ids swapped: the text names the first position, a probe the id.
  @Test(arguments: [true, false]) func idsSwapped(_ hasText: Bool) throws {
    let source = try openFixture(Self.model)
    let tokenizer = try source.tokenizer()
    let ids = tokenizer.encode("the man and the woman")
    let token = try #require(tokenizer.token(ids[0]))
    let other = try #require(tokenizer.token(ids[0] == 300 ? 301 : 300))
    let found = try differences(
      { json in
        let (a, b) = ("\"\(token)\": \(ids[0])", "\"\(other)\": \(ids[0] == 300 ? 301 : 300)")
        let (c, d) = ("\"\(token)\": \(ids[0] == 300 ? 301 : 300)", "\"\(other)\": \(ids[0])")
        for (from, to) in [(a, c), (b, d)] {
          for spelling in [from, from.replacing(": ", with: ":")] {
            if let place = json.firstRange(of: spelling) {
              json.replaceSubrange(place, with: to)
              break
            }
          }
        }
      }, text: hasText ? "the man and the woman" : nil)
    #expect(found.count == 1 && found[0].changesNumbers, "\(found)")
    if hasText {
      #expect(found[0].key.hasPrefix("ids at position 0, ") && found[0].source.hasPrefix("\(ids[0]) "))
    }
  }

  @Test func aMergeDropped() throws {
    let found = try differences { json in
      // The last one, which no text here may need.
      guard let start = json.ranges(of: ",\n      [").last,
        let end = json[start.upperBound...].firstRange(of: "]")
      else { return }
      json.removeSubrange(start.lowerBound..<end.upperBound)
    }
    #expect(found.contains { $0.changesNumbers && $0.kind == .tokenizer }, "\(found)")
  }

  @Test func anotherNormalizer() throws {
    let found = try differences { json in
      for spelling in ["\"normalizer\": null", "\"normalizer\":null"] {
        json = json.replacing(spelling, with: "\"normalizer\": {\"type\": \"Lowercase\"}")
      }
    }
    #expect(found.contains { $0.changesNumbers && $0.kind == .tokenizer }, "\(found)")
  }

  /// Changes an object of the file: an added token, or the whole.
  private func member(_ key: String, _ value: String) throws -> [ModelDifference] {
    try differences { json in
      for spelling in ["\"\(key)\": false", "\"\(key)\":false", "\"\(key)\": null", "\"\(key)\":null"] {
        guard let place = json.firstRange(of: spelling) else { continue }
        return json.replaceSubrange(place, with: "\"\(key)\": \(value)")
      }
    }
  }

  /// White space before an added token, which then takes it with it.
  @Test(arguments: ["lstrip", "rstrip"]) func anAddedTokenThatStrips(_ key: String) throws {
    let found = try member(key, "true")
    #expect(found.contains { $0.changesNumbers && $0.key.hasPrefix("ids at") }, "\(found)")
    #expect(
      found.contains { !$0.changesNumbers && $0.key.hasPrefix("tokenizer.json added token ") }, "\(found)")
  }

  @Test func aDecoderTakenAway() throws {
    let found = try differences { json in
      let spelling = json.contains("\"decoder\": {") ? "\"decoder\": {" : "\"decoder\":{"
      json = json.replacing(spelling, with: "\"decoder\": null, \"old_decoder\": {")
    }
    #expect(found.contains { $0.changesNumbers && $0.key.hasPrefix("text of ") }, "\(found)")
  }

  @Test func aTruncationIsNamed() throws {
    let found = try member("truncation", "{\"max_length\": 5}")
    #expect(found.map(\.key) == ["tokenizer.json truncation"] && !found[0].changesNumbers, "\(found)")
  }

  /// Neither one that needs what is not there, nor one that is no tokenizer at all.
  @Test(arguments: ["{\"model\": {\"type\": \"Magic\"}}", "{", "[]"]) func oneThatCannotBeRead(_ text: String)
    throws
  {
    let found = try differences { $0 = text }
    #expect(found.first?.key == "tokenizer.json" && found.first?.changesNumbers == true, "\(found)")
  }

  /// Vocabularies in other files: missing or others, they fail where there is no tokenizer.json to compare.
  @Test(
    arguments: [
      "tiktoken.model", "tokenizer.model", "vocab.json", "merges.txt", "tekken.json", "q.tiktoken",
    ], [true, false])
  func vocabulariesInOtherFiles(_ name: String, _ isMissing: Bool) throws {
    let (left, right) = (TemporaryFolder(), TemporaryFolder())
    let a = try changed("qwen3_moe", in: left) { $0 += "\n" }
    let b = try changed("qwen3_moe", in: right) { $0 += "\n" }
    let hasTokenizer = try a.smallFile("tokenizer.json") != nil
    // A file that is a tokenizer itself is read; one that is damaged on the source's side is refused.
    let isRead = !hasTokenizer && (name.hasSuffix(".model") || name.hasSuffix(".tiktoken"))
    try writeFile("\(a.path)/\(name)", Array("{}".utf8), overwrite: false)
    if !isMissing { try writeFile("\(b.path)/\(name)", Array("{ }".utf8), overwrite: false) }
    if isRead && !isMissing {
      #expect(throws: FormatError.self) {
        try ModelDifference.all(try Model.open(a.path), try Model.open(b.path))
      }
      return
    }
    let found = try ModelDifference.all(try Model.open(a.path), try Model.open(b.path))
    #expect(found.map(\.key) == [name] && found[0].changesNumbers == !hasTokenizer, "\(found)")
  }

  /// Another order of keys and other white space are the same tokenizer.
  @Test func anotherSpellingIsTheSame() throws {
    #expect(try differences { $0 = $0.replacing("\n", with: " ") + "\n" } == [])
  }
}
