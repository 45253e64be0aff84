// Tiktoken files and SentencePiece models to GGUF's keys and back.

import SmeltStorage
import SmeltTestSupport
import SmeltTokenizers
import Testing

@testable import SmeltModels

private func read(_ path: String) throws -> Bytes {
  try readSmallFile(fixture("tokenizers/\(path)"), limit: 1 << 24, code: .tokenizerJSON)
}

private func files(_ folder: String) throws -> TokenizerFiles {
  let names = try namesInFolder(fixture("tokenizers/files/\(folder)"))
  return try #require(
    try TokenizerFiles(among: names) { names.contains($0) ? try read("files/\(folder)/\($0)") : nil })
}

private func entries(_ folder: String, config: JSON = [:]) throws -> GGUFTokenizer.Entries {
  let settings = try? read("files/\(folder)/tokenizer_config.json")
  return try GGUFTokenizer.entries(
    for: try GGUFTokenizer.Files(try files(folder), tokenizerConfig: settings), config: config)
}

private func texts() throws -> [String] {
  try #require(try JSON.scan(try read("file-cases.json"))["texts"]?.array).compactMap(\.string)
}

@Suite struct GGUFTokenizerFiles {
  @Test(arguments: [("kimi", "kimi-k2"), ("qwen1", "qwen2"), ("cl100k-ranks", "dbrx")])
  func aTiktokenFileComesBack(folder: String, pre: String) throws {
    let made = try entries(folder)
    let metadata = Metadata(made)
    #expect(metadata["tokenizer.ggml.model"] == .string("gpt2"))
    #expect(metadata["tokenizer.ggml.pre"] == .string(pre))
    #expect(made.notes == [])
    guard case .strings(let merges) = metadata["tokenizer.ggml.merges"] else {
      Issue.record("no merges")
      return
    }
    // One for each rank behind the bytes.
    #expect(merges.count == 900 - 256)
    let (original, copy) = (try files(folder).tokenizer(), try tokenizer(from: metadata))
    for text in try texts() {
      #expect(copy.encode(text) == original.encode(text), "\(text.debugDescription)")
    }
  }

  @Test func aSentencePieceModelComesBack() throws {
    let made = try entries("spm-bpe", config: ["vocab_size": 704])
    let metadata = Metadata(made)
    #expect(metadata["tokenizer.ggml.model"] == .string("llama"))
    #expect(metadata["tokenizer.ggml.pre"] == .string("default"))
    #expect(metadata["tokenizer.ggml.bos_token_id"] == .integer(1))
    #expect(metadata["tokenizer.ggml.add_bos_token"] == .bool(true))
    #expect(made.notes.count == 1 && made.notes[0].contains("legacy"))
    guard case .strings(let tokens) = metadata["tokenizer.ggml.tokens"],
      case .numbers(let scores) = metadata["tokenizer.ggml.scores"],
      case .integers(let types) = metadata["tokenizer.ggml.token_type"]
    else {
      Issue.record("no tokens")
      return
    }
    #expect(tokens.count == 704 && scores.count == 704 && types.count == 704)
    #expect(Array(types[..<4]) == [2, 3, 3, 6] && types[703] == 5 && tokens[703] == "[PAD703]")
    #expect(Set(scores[3..<259]) == [0] && scores[260] == -1 && scores[703] == -10_000)
    let (original, copy) = (try files("spm-bpe").tokenizer(), try tokenizer(from: metadata))
    for text in try texts() where !text.contains("<s>") {
      #expect(copy.encode(text) == original.encode(text), "\(text.debugDescription)")
    }
  }

  @Test(arguments: [
    ("spm-unigram", "a SentencePiece unigram model"),
    ("spm-bpe-ud", "a SentencePiece normalizer with replacements"),
    ("unigram", "a tokenizer model 'Unigram'"),
  ]) func whatGGUFCannotSayIsRefusedByName(folder: String, words: String) throws {
    let error = #expect(throws: RequestError.self) { try entries(folder) }
    #expect(error?.kind == .unsupported && error?.problem.hasPrefix(words) == true, "\(error?.problem ?? "")")
  }

  @Test func moreIdsThanTheModelHasAreRefused() throws {
    let error = #expect(throws: FormatError.self) { try entries("spm-bpe", config: ["vocab_size": 600]) }
    #expect(error?.code == .tokenizerValue && error?.problem.contains("vocab_size") == true)
  }
}
