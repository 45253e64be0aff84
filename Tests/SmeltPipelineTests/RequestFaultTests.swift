// What a user hands in beside the model: token files, texts, tokenizers, statistics, recipes, and names of results. Each
// wrong one is refused with its code and place, before anything is written.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

private let oneThread = RunOptions(parallel: .serial)
private let someTokens = Windows([Array(0..<24)], context: 24)

private func options(_ overwrite: Bool = false) -> ConvertOptions {
  ConvertOptions(recipe: Recipe(Keep()), overwrite: overwrite, run: oneThread)
}

/// A tiny model in a folder of its own, with a vocabulary of 24.
private func tiny(_ folder: TemporaryFolder, size: TinyV4.Size = .smallest) throws -> Model {
  TinyV4(.published, size: size).write(to: folder.path)
  return try Model.open(folder.path)
}

@Suite struct RequestFaultTests {
  // MARK: token files

  /// The text, and the part of it that the refusal points at.
  @Test(arguments: [
    ("", ""), ("[[1, 2]]", "[["), (#"{"sequences": [[1, 2]"#, ""), (#"{"sequence": [[1]]}"#, "{"),
    (#"{"sequences": []}"#, "{"), (#"{"sequences": {}}"#, "{"), (#"{"sequences": [1, 2]}"#, "1,"),
    (#"{"sequences": [[1], []]}"#, "[]]"), (#"{"sequences": [[1, 24]]}"#, "24"),
    (#"{"sequences": [[1, -1]]}"#, "-1"), (#"{"sequences": [[1, 2.5]]}"#, "2.5"),
    (#"{"sequences": [[1, "2"]]}"#, "\"2\""), (#"{"sequences": [[1, null]]}"#, "null"),
    (#"{"sequences": [[9223372036854775808]]}"#, "9223"), (#"{"sequences": [[[1]]]}"#, "[1]"),
    (#"{"sequences": [[1]], "sequences": [[2]]}"#, #""sequences": [[2"#),
  ])
  func tokenFileIsRefused(text: String, at part: String) throws {
    let folder = TemporaryFolder()
    let model = try tiny(folder)
    let path = folder.file("tokens.txt")
    putFile(path, Array(text.utf8))
    let error = try #require(throws: FormatError.self) { try readTokenFile(path, for: model) }
    #expect(error.code == .tokens && error.file == path && error.subject == "sequences", "\(error)")
    let offset = try #require(error.offset)
    #expect(String(decoding: Array(text.utf8).dropFirst(offset), as: UTF8.self).hasPrefix(part), "\(error)")
  }

  @Test func tokenFileIsRead() throws {
    let folder = TemporaryFolder()
    let model = try tiny(folder)
    putFile(folder.file("tokens.txt"), Array(#"{"sequences": [[0, 23], [1.0]]}"#.utf8))
    #expect(try readTokenFile(folder.file("tokens.txt"), for: model) == [[0, 23], [1]])
    let missing = try #require(throws: FormatError.self) { try readTokenFile(folder.file("no"), for: model) }
    #expect(missing.code == .missingFile)
  }

  // MARK: texts

  @Test func textShorterThanAWindowIsRefused() throws {
    let model = try Model.open(fixture("models/tiny-v4"))
    let folder = TemporaryFolder()
    let path = folder.file("short.txt")
    for text in ["", "It is a truth universally acknowledged"] {
      putFile(path, Array(text.utf8))
      let error = try #require(throws: FormatError.self) {
        try Windows(textPath: path, context: 256, model: model)
      }
      #expect(error.code == .text && error.file == path && error.problem.contains("256"), "\(error)")
    }
    let one = try Windows(textPath: path, context: 2, limit: 5, model: model)
    #expect(one.sequences.count == 2 && one.context == 2)
  }

  @Test func modelWithoutTokenizerTakesNoText() throws {
    let folder = TemporaryFolder()
    let model = try tiny(folder)
    let text = fixture("models/tiny-v4/evaluation.txt")
    let error = try #require(throws: FormatError.self) {
      try Windows(textPath: text, context: 8, model: model)
    }
    #expect(error.code == .missingFile && error.file == folder.file("tokenizer.json"))
  }

  /// A tokenizer of 2,048 entries beside a model of 24.
  @Test func tokenizerBeyondTheVocabularyIsRefused() throws {
    let folder = TemporaryFolder()
    TinyV4(.published, size: .smallest).write(to: folder.path)
    let tokenizer = try readSmallFile(
      fixture("models/tiny-v4/tokenizer.json"), limit: 1 << 20, code: .tokenizerJSON)
    putFile(folder.file("tokenizer.json"), tokenizer.array)
    let model = try Model.open(folder.path)
    let error = try #require(throws: FormatError.self) {
      try Windows(textPath: fixture("models/tiny-v4/evaluation.txt"), context: 8, model: model)
    }
    #expect(error.code == .tokenizerValue && error.file == "tokenizer.json" && error.subject == "vocab")
    #expect(error.problem.contains("23"), "\(error)")
  }

  @Test(arguments: ["", "{", "[]", "{\"model\": 4}"])
  func tokenizerThatIsNoneIsRefused(text: String) throws {
    let folder = TemporaryFolder()
    TinyV4(.published, size: .smallest).write(to: folder.path)
    putFile(folder.file("tokenizer.json"), Array(text.utf8))
    let error = try #require(throws: FormatError.self) { try checkModel(Model.open(folder.path), oneThread) }
    #expect(error.code == .tokenizerJSON || error.code == .tokenizerValue, "\(error)")
    #expect(error.file == "tokenizer.json")
  }

  // MARK: statistics

  private func statistics(of model: Model, in folder: TemporaryFolder) throws -> String {
    let (path, text) = (folder.file("s.statistics"), folder.file("text"))
    putFile(text, Array("text".utf8))
    _ = try calibrate(model, someTokens, textPath: text, to: path, overwrite: true, oneThread)
    return path
  }

  @Test func statisticsOfTheModelAreTaken() throws {
    let (folder, other) = (TemporaryFolder(), TemporaryFolder())
    let model = try tiny(folder)
    let statistics = try readStatistics(statistics(of: model, in: other), for: model)
    #expect(statistics.tokens == 24)
  }

  /// Another width, other layers, another number of experts.
  @Test func statisticsOfAnotherModelAreRefused() throws {
    let (folder, other, third) = (TemporaryFolder(), TemporaryFolder(), TemporaryFolder())
    let path = try statistics(of: tiny(folder, size: TinyV4.Size()), in: third)
    var wide = TinyV4.Size.smallest
    wide.hidden = 64
    for size in [TinyV4.Size.smallest, wide] {
      let model = try tiny(other, size: size)
      let error = try #require(throws: FormatError.self) { try readStatistics(path, for: model) }
      #expect(error.code == .statisticsMismatch && error.file == path && error.subject != nil, "\(error)")
    }
  }

  @Test func fileThatIsNoStatisticsIsRefused() throws {
    let folder = TemporaryFolder()
    let model = try tiny(folder)
    let error = try #require(throws: FormatError.self) {
      try readStatistics(folder.file("model.safetensors"), for: model)
    }
    #expect(error.code == .statistics && error.file == folder.file("model.safetensors"), "\(error)")
    #expect(error.subject == "format")
  }

  // MARK: recipes

  @Test(
    arguments: [
      ("", nil), ("[]", "the recipe"), ("{}", "schema"), (#"{"schema": "smelt.recipe/2"}"#, "schema"),
      (#"{"schema": "smelt.recipe/1", "defualt": "keep"}"#, "defualt"),
      (#"{"schema": "smelt.recipe/1", "default": "fp9"}"#, "default"),
      (#"{"schema": "smelt.recipe/1", "default": "keep", "rules": {}}"#, "rules"),
      (#"{"schema": "smelt.recipe/1", "rules": [{"scheme": "keep"}]}"#, "rules[0]"),
      (#"{"schema": "smelt.recipe/1", "rules": [{"role": "router"}]}"#, "rules[0]"),
      (#"{"schema": "smelt.recipe/1", "rules": [{"role": "r", "scheme": "keep"}]}"#, "rules[0].role"),
      (#"{"schema": "smelt.recipe/1", "rules": [{"name": "blk.9.*", "scheme": "keep"}]}"#, "rules[0].name"),
      (
        #"{"schema": "smelt.recipe/1", "rules": [{"name": "*gate_exps.weight#1", "scheme": "int8-channel"}]}"#,
        "blk.0.ffn_gate_exps.weight#1"
      ),
    ] as [(String, String?)])
  func recipeIsRefused(text: String, subject: String?) throws {
    let folder = TemporaryFolder()
    let model = try tiny(folder)
    let path = folder.file("recipe.txt")
    putFile(path, Array(text.utf8))
    let request = ConversionRequest(
      scheme: nil, recipePath: path, statisticsPath: nil, observer: nil, exactOnly: false,
      compression: nil, kind: nil, overwrite: false)
    let error = try #require(throws: FormatError.self) {
      _ = try Plan(model, request.options(for: model, result: folder.file("r.ingot"), oneThread))
    }
    #expect(error.code == .recipe && error.file == path, "\(error)")
    if let subject { #expect(error.subject == subject, "\(error)") }
  }

  // MARK: results that are sources

  /// By its own name, by a symbolic link, and by a second name of the same file; with or without --overwrite.
  @Test(arguments: ["model.safetensors", "config.json", "soft", "hard"], [true, false])
  func resultIsNoSource(name: String, overwrite: Bool) throws {
    let folder = TemporaryFolder()
    let model = try tiny(folder)
    #expect(symlink("model.safetensors", folder.file("soft")) == 0)
    #expect(link(folder.file("model.safetensors"), folder.file("hard")) == 0)
    let path = folder.file(name)
    let before = try readSmallFile(path, limit: 1 << 20, code: .configJSON).array
    let names = try namesInFolder(folder.path)
    func refuse(_ body: () throws -> Void) throws {
      let error = try #require(throws: FormatError.self) { try body() }
      #expect(error.code == .outputAliasesInput && error.file == path, "\(error)")
    }
    try refuse { _ = try convert(model, to: path, options(overwrite)) }
    try refuse {
      _ = try calibrate(
        model, someTokens, textPath: folder.file("config.json"), to: path, overwrite: overwrite, oneThread)
    }
    try refuse {
      try writeLogits(
        model, sequences: [[1]], to: path, hiddenStates: false, routing: false, overwrite: overwrite,
        oneThread)
    }
    try refuse {
      _ = try quantize(
        model, to: path, calibration: someTokens, textPath: folder.file("config.json"),
        choosesObserver: true, options(overwrite))
    }
    #expect(try readSmallFile(path, limit: 1 << 20, code: .configJSON).array == before)
    #expect(try namesInFolder(folder.path) == names)
  }

  @Test func ingotIsNotItsOwnResult() throws {
    let (folder, results) = (TemporaryFolder(), TemporaryFolder())
    let path = results.file("r.ingot")
    _ = try convert(tiny(folder), to: path, options())
    let ingot = try Model.open(path)
    let error = try #require(throws: FormatError.self) { _ = try convert(ingot, to: path, options(true)) }
    #expect(error.code == .outputAliasesInput)
    _ = try checkModel(Model.open(path), oneThread)
  }

  /// The text that calibration reads is no place for its statistics.
  @Test func statisticsDoNotReplaceTheText() throws {
    let folder = TemporaryFolder()
    let model = try tiny(folder)
    let text = folder.file("text")
    putFile(text, Array("text".utf8))
    let error = try #require(throws: FormatError.self) {
      _ = try calibrate(model, someTokens, textPath: text, to: text, overwrite: true, oneThread)
    }
    #expect(error.code == .outputAliasesInput)
  }
}
