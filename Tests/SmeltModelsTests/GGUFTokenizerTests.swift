// Tokenizers to GGUF's keys and back: the ids are the library's before and after, the keys llama.cpp's converter's.

import SmeltStorage
import SmeltTestSupport
import SmeltTokenizers
import Testing

@testable import SmeltModels

private func file(_ name: String) throws -> Bytes {
  try readSmallFile(fixture("tokenizers/\(name).json"), limit: 1 << 24, code: .tokenizerJSON)
}

private func bytes(_ json: JSON?) -> Bytes? { json.map { Bytes(Array($0.text().utf8)) } }

@Suite struct GGUFTokenizers {
  /// A fixture, the `tokenizer.ggml.model` and `pre` that it becomes, and the texts that come back otherwise for a reason
  /// that the notes give.
  struct Fit: Sendable, CustomTestStringConvertible {
    var name: String
    var model: String
    var pre: String?
    var notes = 0
    var unlike: Set<String> = []
    var testDescription: String { name }
  }

  static let fits = [
    // White space beside an added token, and tokens that are whole words only, are beyond GGUF's keys.
    Fit(
      name: "gpt2", model: "gpt2", pre: "gpt-2", notes: 1,
      unlike: ["prose", "stripping", "single word", "other scripts"]),
    Fit(name: "deepseek", model: "gpt2", pre: "deepseek-v3"),
    Fit(name: "qwen", model: "gpt2", pre: "qwen2"),
    Fit(name: "llama3", model: "gpt2", pre: "llama-bpe"),
    Fit(name: "gpt-oss", model: "gpt2", pre: "gpt-4o"),
    Fit(name: "tekken", model: "gpt2", pre: "tekken"),
    Fit(name: "kimi", model: "gpt2", pre: "kimi-k2"),
    Fit(name: "starcoder", model: "gpt2", pre: "starcoder"),
    Fit(name: "spm", model: "llama", pre: "default"),
    Fit(name: "gemma", model: "gemma4", pre: nil),
  ]

  @Test(arguments: fits) func idsSurviveTheRoundTrip(_ fit: Fit) throws {
    let json = try file(fit.name)
    let original = try Tokenizer(json: json, file: fit.name)
    let entries = try GGUFTokenizer.entries(for: .init(tokenizer: json), config: [:])
    #expect(entries.notes.count == fit.notes, "\(entries.notes)")
    let metadata = Metadata(entries)
    #expect(metadata["tokenizer.ggml.model"] == .string(fit.model))
    #expect(metadata["tokenizer.ggml.pre"] == fit.pre.map { .string($0) })
    let copy = try tokenizer(from: metadata)
    #expect(copy.vocabularySize == original.vocabularySize)
    for text in TokenizerCases.shared.texts
    where text.bytes.count < 5_000 && !fit.unlike.contains(text.name) {
      let ids = original.encode(text.bytes)
      #expect(copy.encode(text.bytes) == ids, "\(fit.name): \(text.name)")
      #expect(copy.decode(ids) == original.decode(ids), "\(fit.name): \(text.name)")
    }
    // And once more: keys read are the keys written.
    let again = Metadata(try rewritten(metadata))
    for key in ["model", "pre", "tokens", "token_type", "merges", "scores"].map(GGUFTokenizer.key) {
      #expect(again[key] == metadata[key], "\(key)")
    }
  }

  /// Metadata read and written again.
  private func rewritten(_ metadata: Metadata) throws -> GGUFTokenizer.Entries {
    let files = try GGUFTokenizer.files(from: metadata)
    func file(_ name: String) -> Bytes? { files.first { $0.name == name }?.bytes }
    var all = GGUFTokenizer.Files(
      tokenizer: files[0].bytes, tokenizerConfig: file("tokenizer_config.json"),
      chatTemplate: file("chat_template.jinja"))
    all.namedTemplates = files.compactMap { file in
      GGUFTokenizer.templateName(ofFile: file.name).map { ($0, file.bytes) }
    }
    return try GGUFTokenizer.entries(for: all, config: [:])
  }

  static let misfits = [
    ("gpt2-prefix", "no 'tokenizer.ggml.pre'"), ("cl100k", "no 'tokenizer.ggml.pre'"),
    ("llama2", "scores lack"), ("mixtral", "scores lack"), ("metaspace", "neither bytes nor"),
    ("clip", "end_of_word_suffix"), ("word-prefix", "continuing_subword_prefix"),
    ("merged-next", "normalizer"), ("whitespace", "normalizer"),
  ]

  /// A name that nearly fits would give other ids.
  @Test(arguments: misfits) func whatGGUFCannotSayIsRefused(name: String, words: String) throws {
    let json = try file(name)
    let error = try #require(throws: RequestError.self) {
      try GGUFTokenizer.entries(for: .init(tokenizer: json), config: [:])
    }
    #expect(error.kind == .unsupported)
    #expect(error.problem.contains(words), "\(error.problem)")
  }

  /// Every `pre` compiles, and its cuts are recognized again under the name that is written for them.
  @Test func everyNameIsReadAndRecognized() throws {
    let names = GGUFPreTokenizer.all.flatMap(\.names)
    #expect(Set(names).count == names.count)
    for entry in GGUFPreTokenizer.all {
      let (steps, isByteLevel) = try TokenizerComponents(file: "t").preTokenizer(entry.json)
      #expect(isByteLevel)
      let found = GGUFPreTokenizer.matching(
        steps, ignoresMerges: entry.ignoresMerges, isComposed: entry.isComposed)
      if entry.isWritten {
        #expect(found?.names == entry.names)
      } else if let found {
        #expect(found.isWritten)
      } else {
        #expect(entry.names == ["default"])
      }
    }
  }

  /// Formats/gguf.md lists the names; the list and the code are the same.
  @Test func theDocumentListsEveryName() throws {
    let page = try readSmallFile(repositoryRoot + "/Formats/gguf.md", limit: 1 << 20, code: .text)
    let text = String(decoding: page.array, as: UTF8.self)
    let list = text.split(separator: "that are read: `").last?.split(separator: "`").first ?? ""
    let names = list.split { $0 == " " || $0 == "\n" }.map(String.init)
    #expect(names.sorted() == GGUFPreTokenizer.all.flatMap(\.names).sorted())
  }

  // MARK: the converter's keys

  /// A file that llama.cpp's converter wrote, against what it read.
  @Test func keysAreTheConverters() throws {
    let root = try JSON.scan(try file("gguf-converted"))
    let files = GGUFTokenizer.Files(
      tokenizer: try #require(bytes(root["tokenizer"])), tokenizerConfig: bytes(root["tokenizer_config"]))
    let entries = try GGUFTokenizer.entries(for: files, config: root["config"] ?? [:])
    let expected = (root["keys"]?.array ?? []).compactMap { pair -> (String, MetadataValue)? in
      guard let list = pair.array, let key = list[0].string, let value = metadataValue(list[1]) else {
        return nil
      }
      return (key, value)
    }
    #expect(entries.entries.map(\.key) == expected.map(\.0))
    for (entry, (_, value)) in zip(entries.entries, expected) {
      #expect(entry.value == value, "\(entry.key)")
    }
    // The fixture does not compose its texts, the models called qwen2 do.
    #expect(entries.notes.count == 1)
    let original = try Tokenizer(json: files.tokenizer, file: "t")
    let copy = try tokenizer(from: Metadata(entries))
    for text in TokenizerCases.shared.texts where String(decoding: text.bytes, as: UTF8.self).isComposed {
      #expect(copy.encode(text.bytes) == original.encode(text.bytes), "\(text.name)")
    }
  }

  /// The tasks of tokens, from four files that disagree.
  @Test func tasksAreTheConverters() throws {
    let root = try JSON.scan(try file("gguf-tasks"))
    let cases = root["cases"]?.array ?? []
    #expect(cases.count == 60)
    for (index, row) in cases.enumerated() {
      var members = root["tokenizer"]?.object ?? JSONObject()
      members = JSONObject(
        zip(members.keys, members.values).map {
          ($0, $0 == "post_processor" ? row["post_processor"] ?? JSON(.null) : $1)
        })
      let files = GGUFTokenizer.Files(
        tokenizer: try #require(bytes(JSON(.object(members)))),
        tokenizerConfig: bytes(row["tokenizer_config"]),
        chatTemplate: row["chat_template"]?.string.map { Bytes(Array($0.utf8)) })
      let entries = try GGUFTokenizer.entries(for: files, config: row["config"] ?? [:]).entries
      // gguf-py takes the field where there are both; here the file counts.
      let hasBoth = files.chatTemplate != nil && row["tokenizer_config"]?["chat_template"] != nil
      var left = entries.filter {
        !["model", "pre", "tokens", "token_type"].map(GGUFTokenizer.key).contains($0.key)
      }
      for pair in row["keys"]?.array ?? [] {
        guard let key = pair.array?[0].string, let value = pair.array.map({ metadataValue($0[1]) }) else {
          continue
        }
        if !hasBoth || !key.hasPrefix("tokenizer.chat_template") {
          #expect(left.first { $0.key == key }?.value == value, "case \(index): \(key)")
        }
        left.removeAll { $0.key == key }
      }
      if hasBoth { left.removeAll { $0.key.hasPrefix("tokenizer.chat_template") } }
      #expect(left.isEmpty, "case \(index): \(left)")
    }
  }

  // MARK: what the files say

  @Test func configurationCarriesTasksAndTemplate() throws {
    var metadata = Metadata(try GGUFTokenizer.entries(for: .init(tokenizer: try file("spm")), config: [:]))
    metadata["tokenizer.ggml.bos_token_id"] = .integer(1)
    metadata["tokenizer.ggml.eos_token_id"] = .integer(2)
    metadata["tokenizer.ggml.eot_token_id"] = .integer(300)
    metadata["tokenizer.ggml.add_bos_token"] = .bool(true)
    metadata["tokenizer.ggml.add_eos_token"] = .bool(false)
    metadata["tokenizer.chat_template"] = .string("{{ cycler.__init__.__globals__ }}")
    let files = try GGUFTokenizer.files(from: metadata)
    #expect(files.map(\.name) == ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
    let config = try JSON.scan(files[1].bytes)
    #expect(config["bos_token"]?.string == "<s>")
    #expect(config["eos_token"]?.string == "</s>")
    #expect(config["eot_token"]?.string != nil)
    #expect(config["add_bos_token"]?.bool == true)
    #expect(config["chat_template"] == nil)
    #expect(files[2].bytes.array == Array("{{ cycler.__init__.__globals__ }}".utf8))
    let json = try JSON.scan(files[0].bytes)
    let single = json["post_processor"]?["single"]?.array ?? []
    #expect(single.count == 2)
    #expect(single.first?["SpecialToken"]?["id"]?.string == "<s>")
    #expect(json["model"]?["unk_token"]?.string == "<unk>")
    let again = Metadata(try rewritten(metadata))
    for (key, value) in metadata.entries where key != "tokenizer.ggml.unknown_token_id" {
      #expect(again[key] == value, "\(key)")
    }
  }

  /// Which template counts: transformers' order. What is written: gguf-py's keys. And back into files of their own.
  @Test func templatesCountInTransformersOrder() throws {
    func bytes(_ text: String) -> Bytes { Bytes(Array(text.utf8)) }
    func keys(_ change: (inout GGUFTokenizer.Files) -> Void) throws -> (
      keys: [String: MetadataValue], notes: [String]
    ) {
      var files = GGUFTokenizer.Files(tokenizer: try file("spm"))
      change(&files)
      let made = try GGUFTokenizer.entries(for: files, config: [:])
      let templates = made.entries.filter { $0.key.hasPrefix("tokenizer.chat_template") }
      return (
        Dictionary(uniqueKeysWithValues: templates.map { ($0.key, $0.value) }),
        made.notes.filter { $0.contains("template") }
      )
    }
    let (key, list) = ("tokenizer.chat_template", "tokenizer.chat_templates")
    let field = bytes(#"{"chat_template": "OLD"}"#)
    let named = bytes(
      #"{"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]}"#)
    var found = try keys { $0.tokenizerConfig = field }
    #expect(found.keys == [key: .string("OLD")] && found.notes == [])
    found = try keys { ($0.tokenizerConfig, $0.chatTemplate) = (field, bytes("NEW")) }
    #expect(found.keys == [key: .string("NEW")] && found.notes.count == 1)
    found = try keys { ($0.tokenizerConfig, $0.chatTemplate) = (field, bytes("OLD")) }
    #expect(found.keys == [key: .string("OLD")] && found.notes == [])
    found = try keys { $0.tokenizerConfig = named }
    #expect(found.keys == [key: .string("D"), key + ".tool_use": .string("T"), list: .strings(["tool_use"])])
    found = try keys {
      ($0.tokenizerConfig, $0.chatTemplate) = (named, bytes("NEW"))
      $0.namedTemplates = [("rag", bytes("R")), ("my-own", bytes("M"))]
    }
    #expect(
      found.keys == [
        key: .string("NEW"), key + ".rag": .string("R"), key + ".my_own": .string("M"),
        list: .strings(["rag", "my_own"]),
      ])
    #expect(found.notes.count == 1)
    // Files of named ones alone count before the field too.
    found = try keys { ($0.tokenizerConfig, $0.namedTemplates) = (field, [("rag", bytes("R"))]) }
    #expect(found.keys == [key + ".rag": .string("R"), list: .strings(["rag"])])
    found = try keys { ($0.chatTemplate, $0.namedTemplates) = (bytes("A"), [("default", bytes("B"))]) }
    #expect(found.keys == [key: .string("B")])
    // The file that processors had comes last.
    let processor = bytes(#"{"chat_template": "P"}"#)
    found = try keys { $0.processorTemplate = processor }
    #expect(found.keys == [key: .string("P")])
    found = try keys { ($0.tokenizerConfig, $0.processorTemplate) = (field, processor) }
    #expect(found.keys == [key: .string("OLD")])
    found = try keys { ($0.chatTemplate, $0.processorTemplate) = (bytes("NEW"), processor) }
    #expect(found.keys == [key: .string("NEW")])
    // Two that GGUF would call alike: the second is left out, and said.
    found = try keys { $0.namedTemplates = [("a-b", bytes("1")), ("a.b", bytes("2"))] }
    #expect(found.keys == [key + ".a_b": .string("1"), list: .strings(["a_b"])] && found.notes.count == 1)
    for wrong in [bytes("\u{FEFF}\u{E9}")[0..<4], bytes(String(repeating: "a", count: 1 << 24 + 1))] {
      let error = try #require(throws: FormatError.self) { try keys { $0.chatTemplate = wrong } }
      #expect(error.code == .tokenizerValue && error.file == "chat_template.jinja", "\(error)")
    }
    let odd = try #require(throws: FormatError.self) {
      try keys { $0.tokenizerConfig = bytes(#"{"chat_template": 3}"#) }
    }
    #expect(odd.code == .tokenizerValue && odd.subject == "chat_template")
  }

  @Test func namedTemplatesBecomeFilesAgain() throws {
    var metadata = Metadata(try GGUFTokenizer.entries(for: .init(tokenizer: try file("spm")), config: [:]))
    metadata["tokenizer.chat_template"] = .string("D")
    metadata["tokenizer.chat_template.rag"] = .string("R")
    metadata["tokenizer.chat_templates"] = .strings(["rag"])
    let files = try GGUFTokenizer.files(from: metadata)
    #expect(files.map(\.name).suffix(2) == ["chat_template.jinja", "additional_chat_templates/rag.jinja"])
    #expect(files.suffix(2).map(\.bytes.array) == [Array("D".utf8), Array("R".utf8)])
    let again = Metadata(try rewritten(metadata))
    for key in ["tokenizer.chat_template", "tokenizer.chat_template.rag", "tokenizer.chat_templates"] {
      #expect(again[key] == metadata[key])
    }
    for name in ["../../x", "a/b", "", "..\u{0}", "a\\b", "rag"] {
      metadata["tokenizer.chat_template.\(name)"] = .string("X")
      metadata["tokenizer.chat_templates"] = .strings(["rag", name])
      let error = try #require(throws: FormatError.self) { try GGUFTokenizer.files(from: metadata) }
      #expect(error.code == .tokenizerValue && error.subject == "tokenizer.chat_templates", "\(error)")
    }
  }

  @Test func aFileWithoutATokenizerHasNoFiles() throws {
    #expect(try GGUFTokenizer.files(from: Metadata(file: "m.gguf")).isEmpty)
    var metadata = Metadata(file: "m.gguf")
    metadata["tokenizer.ggml.model"] = .string("no_vocab")
    #expect(try GGUFTokenizer.files(from: metadata).isEmpty)
  }

  /// Tokens are padded to the rows of the embedding; padding stands for nothing when it is read.
  @Test func paddingComesAndGoes() throws {
    let json = try file("deepseek")
    let entries = try GGUFTokenizer.entries(for: .init(tokenizer: json), config: ["vocab_size": 720])
    let metadata = Metadata(entries)
    guard case .strings(let tokens)? = metadata["tokenizer.ggml.tokens"],
      case .integers(let types)? = metadata["tokenizer.ggml.token_type"]
    else {
      Issue.record("no tokens")
      return
    }
    #expect(tokens.count == 720)
    #expect(tokens.last == "[PAD719]")
    #expect(types.suffix(16) == [Int](repeating: 5, count: 16)[...])
    // <｜User｜> looks special, <think> does not.
    #expect(types[700..<704] == [3, 3, 3, 4])
    let copy = try tokenizer(from: metadata)
    #expect(copy.vocabularySize == 704)
    #expect(copy.token(719) == nil)
    #expect(copy.encode("[PAD719]") == (try Tokenizer(json: json, file: "t")).encode("[PAD719]"))
    #expect(throws: FormatError.self) {
      try GGUFTokenizer.entries(for: .init(tokenizer: json), config: ["vocab_size": 703])
    }
    #expect(throws: FormatError.self) {
      try GGUFTokenizer.entries(for: .init(tokenizer: json), config: ["vocab_size": 9_000_000])
    }
  }
}

extension String {
  /// Whether composing changes nothing.
  fileprivate var isComposed: Bool { UnicodeNormalization.nfc.apply(Array(utf8)) == Array(utf8) }
}
