// GGUF tokenizers that are wrong or hostile: each with its code, its key and its words.

import SmeltStorage
import SmeltTestSupport
import SmeltTokenizers
import Testing

@testable import SmeltModels

/// A small byte-level tokenizer, or a small SentencePiece one, with keys replaced; nil takes one out.
private func keys(_ changes: [String: MetadataValue?], model: String = "gpt2") -> Metadata {
  var metadata = Metadata(file: "m.gguf", offsets: ["tokenizer.ggml.tokens": 99])
  metadata["tokenizer.ggml.model"] = .string(model)
  metadata["tokenizer.ggml.pre"] = .string(model == "gpt2" ? "gpt-2" : "default")
  metadata["tokenizer.ggml.tokens"] = .strings(["<s>", "a", "b", "ab", "[PAD4]"])
  metadata["tokenizer.ggml.token_type"] = .integers([3, 1, 1, 1, 5])
  metadata["tokenizer.ggml.scores"] = .numbers([0, -2, -3, -1, 0])
  metadata["tokenizer.ggml.merges"] = .strings(["a b"])
  metadata["tokenizer.ggml.bos_token_id"] = .integer(0)
  for (key, value) in changes { metadata[key.contains(".") ? key : "tokenizer.ggml." + key] = value }
  return metadata
}

@Suite struct GGUFTokenizerRefusals {
  struct Wrong: Sendable, CustomTestStringConvertible {
    var key: String
    var value: MetadataValue?
    var words: String
    var model = "gpt2"
    var testDescription: String { "\(key): \(words)" }
  }

  static let wrong = [
    Wrong(key: "model", value: .integer(1), words: "found a whole number, expected a string"),
    Wrong(key: "tokens", value: nil, words: "found none"),
    Wrong(key: "tokens", value: .strings([]), words: "found 0 tokens"),
    Wrong(key: "tokens", value: .integers([1]), words: "expected a list of strings"),
    Wrong(
      key: "tokens", value: .strings(["<s>", "a", "b", "a", "c"]), words: "'a' as token 1 and as token 3"),
    Wrong(key: "tokens", value: .strings(["", "", "", "", "[PAD4]"]), words: "padding only"),
    Wrong(key: "token_type", value: .integers([1, 1, 1, 1]), words: "found 4 types, expected 5"),
    Wrong(key: "token_type", value: .integers([3, 1, 1, 1, 5, 5]), words: "found 6 types, expected 5"),
    Wrong(key: "token_type", value: .integers([3, 1, 1, -1, 5]), words: "found type -1 of token 3"),
    Wrong(key: "token_type", value: .integers([3, 1, 1, 1 << 32 | 1, 5]), words: "expected 0 to 6"),
    Wrong(key: "token_type", value: .string("x"), words: "expected a list of whole numbers"),
    Wrong(key: "scores", value: .numbers([0]), words: "found 1 scores, expected 5"),
    Wrong(key: "scores", value: .numbers([0, -2, .nan, -1, 0]), words: "score of token 2", model: "llama"),
    Wrong(
      key: "scores", value: .numbers([0, -2, .infinity, -1, 0]), words: "score of token 2", model: "llama"),
    Wrong(key: "scores", value: nil, words: "found none", model: "llama"),
    Wrong(key: "token_type", value: .integers([3, 6, 1, 1, 5]), words: "", model: "llama"),
    Wrong(key: "merges", value: nil, words: "found none"),
    Wrong(key: "merges", value: .strings(["ab"]), words: "expected two tokens"),
    Wrong(key: "merges", value: .strings(["a b c"]), words: "expected two tokens"),
    Wrong(key: "merges", value: .strings(["a "]), words: "expected two tokens"),
    Wrong(key: "merges", value: .strings([" "]), words: "expected two tokens"),
    Wrong(key: "merges", value: .strings([""]), words: "expected two tokens"),
    Wrong(key: "merges", value: .strings(["a x"]), words: "'x' is not a token"),
    Wrong(key: "merges", value: .strings(["b a"]), words: "'ba' is not a token"),
    Wrong(key: "merges", value: .strings(["a [PAD4]"]), words: "'[PAD4]' is not a token"),
    Wrong(key: "merges", value: .bools([true]), words: "expected a list of strings"),
    Wrong(key: "add_bos_token", value: .integer(1), words: "expected a truth value"),
    Wrong(key: "tokenizer.chat_template", value: .bool(true), words: "expected a string"),
    Wrong(key: "tokenizer.chat_templates", value: .strings(["tools"]), words: "no template of that name"),
  ]

  @Test(arguments: wrong) func wrongKeysAreRefused(_ wrong: Wrong) throws {
    let metadata = keys([wrong.key: wrong.value], model: wrong.model)
    let error = try #require(throws: FormatError.self) { try GGUFTokenizer.files(from: metadata) }
    #expect(error.code == .tokenizerValue)
    #expect(error.file == "m.gguf")
    if !wrong.words.isEmpty {
      #expect(error.subject?.hasSuffix(wrong.key) == true)
      #expect(error.problem.contains(wrong.words), "\(error.problem)")
    }
    if error.subject == "tokenizer.ggml.tokens" { #expect(error.offset == 99) }
  }

  /// Ids of special tokens are unsigned in the file and signed in llama.cpp, where one above the vocabulary read past its
  /// end (the class of CVE-2025-49847, CVE-2025-52566 and GHSA-8947-pfff-2f3c): every one is compared with the vocabulary.
  @Test(arguments: [-1, 5, 1 << 31, 1 << 32 - 1, 1 << 32, Int.max, Int.min])
  func specialTokenIdsBeyondTheVocabularyAreRefused(id: Int) throws {
    for task in GGUFTokenizer.tasks {
      let metadata = keys([task.key: .integer(id)])
      let error = try #require(throws: FormatError.self) { try GGUFTokenizer.files(from: metadata) }
      #expect(error.code == .tokenizerValue)
      #expect(error.subject == task.key)
      #expect(error.problem == "found \(id), expected 0 to 4")
    }
  }

  static let unsupported: [(String, MetadataValue?, String, String)] = [
    ("model", .string("bert"), "gpt2", "'bert'"), ("model", .string("t5"), "gpt2", "'t5'"),
    ("pre", .string("next-year"), "gpt2", "'next-year'"), ("pre", nil, "gpt2", "tokenizer.ggml.pre"),
    ("add_space_prefix", .bool(true), "gpt2", "add_space_prefix"),
    ("remove_extra_whitespaces", .bool(true), "llama", "remove_extra_whitespaces"),
  ]

  @Test(arguments: unsupported.indices) func whatIsNotKnownIsNamed(index: Int) throws {
    let (key, value, model, words) = Self.unsupported[index]
    let error = try #require(throws: RequestError.self) {
      try GGUFTokenizer.files(from: keys([key: value], model: model))
    }
    #expect(error.kind == .unsupported)
    #expect(error.problem.contains(words), "\(error.problem)")
    if key == "pre", value != nil { #expect(error.help?.contains("deepseek-v3") == true) }
  }

  @Test func theSmallOnesAreRead() throws {
    #expect(try tokenizer(from: keys([:])).encode("ab<s>a") == [3, 0, 1])
    #expect(try tokenizer(from: keys([:], model: "llama")).encode("ab<s>") == [3, 0])
  }

  /// Tokens as long as books must not cost the square of their length, nor many of them their number's.
  @Test func longTokensAreRefusedBeforeTheyCostTime() throws {
    let long = String(repeating: "a", count: 1 << 20)
    let metadata = keys(["tokens": .strings(["<s>", "a", long, "b", "[PAD4]"])], model: "llama")
    #expect(throws: FormatError.self) { try GGUFTokenizer.files(from: metadata) }
    // A byte-level file has no need to look inside.
    _ = try GGUFTokenizer.files(
      from: keys(["tokens": .strings(["<s>", "a", long, "ab", "b"]), "merges": .strings(["a b"])]))
  }

  /// Merges from scores are linear in the vocabulary: sixty thousand tokens at once.
  @Test(.timeLimit(.minutes(1))) func aLargeVocabularyHasItsMergesSoon() throws {
    var tokens = ["<s>"]
    let letters = (0..<16).map { String(UnicodeScalar(UInt8(0x61 + $0))) }
    var words = letters
    for _ in 0..<3 {
      tokens += words
      words = words.flatMap { word in letters.map { word + $0 } }
    }
    let scores = tokens.indices.map { -Double($0) }
    let metadata = keys(
      [
        "tokens": .strings(tokens), "scores": .numbers(scores),
        "token_type": .integers([3] + [Int](repeating: 1, count: tokens.count - 1)),
      ], model: "llama")
    let files = try GGUFTokenizer.files(from: metadata)
    let merges = try JSON.scan(files[0].bytes)["model"]?["merges"]?.array ?? []
    #expect(merges.count == 16 * 16 + 2 * 16 * 16 * 16)
  }

  /// Random keys: what is not refused makes a tokenizer.json that is not refused either, and can be asked to be written.
  @Test func whatIsReadIsATokenizer() throws {
    var generator = Generator(seed: 12)
    let words = [
      "a", "b", "ab", "ba", "\u{2581}", "\u{2581}a", "<unk>", "<s>", "<0x41>", "\"", "\\", "\u{0}",
      "e\u{301}", "\u{e9}", " ",
      "a b", "", "[PAD3]", "[PAD0]", "\u{120}", "\u{120}a", "<|x|>", "𠮷",
    ]
    func some<T>(_ list: [T]) -> T { list[Int.random(in: list.indices, using: &generator)] }
    var readable = 0
    for _ in 0..<400 {
      let tokens = Array(words.shuffled(using: &generator).prefix(Int.random(in: 1...12, using: &generator)))
      let model = some(["gpt2", "llama", "gemma4"])
      let metadata = keys(
        [
          "tokens": .strings(tokens),
          "token_type": .integers(tokens.map { _ in some([1, 1, 1, 1, 0, 2, 3, 4, 5, 6]) }),
          "scores": .numbers(tokens.map { _ in some([0, -1, -2, 1e30, -0.0]) }),
          "merges": .strings(some([[], [], ["a b"], ["b a", "a b"], ["\u{2581} a"], ["\u{120} a"]])),
          "bos_token_id": .integer(some([0, 0, 0, 1, 7])),
          "unknown_token_id": some([nil, .integer(0), .integer(3)]),
          "add_bos_token": some([nil, .bool(true), .bool(false)]),
          "add_eos_token": some([nil, .bool(true)]), "eos_token_id": some([nil, .integer(0), .integer(1)]),
        ], model: model)
      let files: [(name: String, bytes: Bytes)]
      do {
        files = try GGUFTokenizer.files(from: metadata)
      } catch {
        #expect(error is FormatError)
        continue
      }
      readable += 1
      let tokenizer = try Tokenizer(json: files[0].bytes, file: "t")
      _ = tokenizer.decode(tokenizer.encode("ab <s>ba e\u{301}𠮷\u{2581}a<0x41>"))
      do {
        _ = try GGUFTokenizer.entries(
          for: .init(tokenizer: files[0].bytes, tokenizerConfig: files[1].bytes), config: [:])
      } catch { #expect(error is FormatError || error is RequestError) }
    }
    #expect(readable > 50, "\(readable)")
  }
}
