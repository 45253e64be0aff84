// tokenizer.json files that are wrong or beyond Smelt: each with its code, its byte and its words.

import SmeltStorage
import SmeltTestSupport
import Testing

@testable import SmeltTokenizers

private func read(_ json: String) throws -> Tokenizer {
  try Tokenizer(json: Bytes(Array(json.utf8)), file: "tokenizer.json")
}

/// A small tokenizer with one part replaced.
private func file(
  model: String = #""type": "BPE""#, vocab: String = #"{"a": 0, "b": 1, "ab": 2}"#,
  merges: String = #"["a b"]"#,
  rest: String = ""
) -> String {
  #"{"model": {\#(model), "vocab": \#(vocab), "merges": \#(merges)}\#(rest)}"#
}

@Suite struct TokenizerRefusals {
  struct Wrong: Sendable, CustomTestStringConvertible {
    var name: String
    var json: String
    var code: ErrorCode
    /// Where the message's byte offset must point: at the first of these texts.
    var at: String
    var words: String
    var testDescription: String { name }
  }

  static let wrong = [
    Wrong(name: "no JSON", json: "<html>", code: .tokenizerJSON, at: "<html>", words: "expected a value"),
    Wrong(
      name: "a list", json: "[]", code: .tokenizerJSON, at: "[]", words: "found a list, expected an object"),
    Wrong(name: "cut short", json: #"{"model": {"#, code: .tokenizerJSON, at: "", words: "the end"),
    Wrong(name: "no model", json: #"{"version": "1.0"}"#, code: .tokenizerJSON, at: "{", words: "found none"),
    Wrong(
      name: "no vocabulary", json: #"{"model": {"type": "BPE", "merges": []}}"#, code: .tokenizerJSON,
      at: #"{"type""#, words: "found none"),
    Wrong(
      name: "no merges", json: #"{"model": {"type": "BPE", "vocab": {}}}"#, code: .tokenizerJSON,
      at: #"{"type""#,
      words: "found none"),
    Wrong(
      name: "duplicate key", json: file(vocab: #"{"a": 0, "a": 1}"#), code: .tokenizerJSON, at: #""a": 1"#,
      words: "appears twice"),
    Wrong(
      name: "negative id", json: file(vocab: #"{"a": -1}"#), code: .tokenizerValue, at: "-1",
      words: "found id -1"),
    Wrong(
      name: "fractional id", json: file(vocab: #"{"a": 1.5}"#), code: .tokenizerValue, at: "1.5",
      words: "found a fractional number"),
    Wrong(
      name: "id too large", json: file(vocab: #"{"a": 16777216}"#), code: .tokenizerValue, at: "16777216",
      words: "found id 16777216, expected one from 0 to 16777215"),
    Wrong(
      name: "id beyond 64 bits", json: file(vocab: #"{"a": 99999999999999999999}"#), code: .tokenizerValue,
      at: "99999999999999999999", words: "expected an id"),
    Wrong(
      name: "duplicate id", json: file(vocab: #"{"a": 7, "b": 8, "ab": 7}"#), code: .tokenizerValue, at: "7}",
      words: "found id 7, which is 'a' already"),
    Wrong(
      name: "id as text", json: file(vocab: #"{"a": "0"}"#), code: .tokenizerValue, at: #""0""#,
      words: "found a string"),
    Wrong(
      name: "merge of three", json: file(merges: #"["a b c"]"#), code: .tokenizerValue, at: #""a b c""#,
      words: "expected a pair"),
    Wrong(
      name: "merge of one", json: file(merges: #"[["a"]]"#), code: .tokenizerValue, at: #"["a"]"#,
      words: "expected a pair"),
    Wrong(
      name: "merge of numbers", json: file(merges: "[[0, 1]]"), code: .tokenizerValue, at: "[0",
      words: "expected a pair"),
    Wrong(
      name: "merge of a stranger", json: file(merges: #"["a x"]"#), code: .tokenizerValue, at: #""a x""#,
      words: "found 'x', which is not a token"),
    Wrong(
      name: "merge into a stranger", json: file(merges: #"["b a"]"#), code: .tokenizerValue, at: #""b a""#,
      words: "found 'ba', which is not a token"),
    Wrong(
      name: "merges no list", json: file(merges: #"{"a": "b"}"#), code: .tokenizerJSON, at: #"{"a": "b"}"#,
      words: "expected a list"),
    Wrong(
      name: "unknown token no token", json: file(model: #""type": "BPE", "unk_token": "<unk>""#),
      code: .tokenizerValue, at: #""<unk>""#, words: "which is not a token"),
    Wrong(
      name: "added id is another", json: file(rest: #", "added_tokens": [{"id": 1, "content": "<s>"}]"#),
      code: .tokenizerValue, at: #"1, "content"#, words: "found id 1, which is 'b' already"),
    Wrong(
      name: "added id disagrees", json: file(rest: #", "added_tokens": [{"id": 5, "content": "ab"}]"#),
      code: .tokenizerValue, at: #"5, "content"#, words: "found id 5, expected 2"),
    Wrong(
      name: "added twice",
      json: file(rest: #", "added_tokens": [{"id": 5, "content": "x"}, {"id": 6, "content": "x"}]"#),
      code: .tokenizerValue, at: #"6, "content"#, words: "another id"),
    Wrong(
      name: "added id twice",
      json: file(rest: #", "added_tokens": [{"id": 5, "content": "x"}, {"id": 5, "content": "y"}]"#),
      code: .tokenizerValue, at: #"5, "content": "y"#, words: "which is 'x' already"),
    Wrong(
      name: "added negative", json: file(rest: #", "added_tokens": [{"id": -5, "content": "x"}]"#),
      code: .tokenizerValue, at: "-5", words: "found id -5"),
    Wrong(
      name: "added without content", json: file(rest: #", "added_tokens": [{"id": 5}]"#),
      code: .tokenizerJSON,
      at: #"{"id": 5}"#, words: "found no content"),
    Wrong(
      name: "pattern cut",
      json: file(
        rest: #", "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"}"#),
      code: .tokenizerValue, at: #"{"Regex""#, words: "found '(' without its ')'"),
    Wrong(
      name: "split without pattern",
      json: file(rest: #", "pre_tokenizer": {"type": "Split", "behavior": "Isolated"}"#),
      code: .tokenizerJSON,
      at: #"{"type": "Split""#, words: "found no pattern"),
    Wrong(
      name: "sequence without members", json: file(rest: #", "normalizer": {"type": "Sequence"}"#),
      code: .tokenizerJSON, at: #"{"type": "Sequence""#, words: "found no normalizers"),
    Wrong(
      name: "mark of two", json: file(rest: #", "decoder": {"type": "Metaspace", "replacement": "__"}"#),
      code: .tokenizerValue, at: #""__""#, words: "expected one character"),
  ]

  @Test(arguments: wrong) func wrongFilesAreRefused(_ wrong: Wrong) throws {
    let error = try #require(throws: FormatError.self) { try read(wrong.json) }
    #expect(error.code == wrong.code)
    #expect(error.file == "tokenizer.json")
    #expect(error.problem.contains(wrong.words), "\(error.problem)")
    let place =
      wrong.at.isEmpty ? wrong.json.utf8.count : wrong.json.range(of: wrong.at, from: wrong.json.startIndex)
    #expect(error.offset == place)
  }

  static let unsupported: [(String, String)] = [
    (file(model: #""type": "WordPiece""#), "'WordPiece'"),
    (file(model: #""type": "BPE", "dropout": 0.1"#), "dropout"),
    (file(rest: #", "normalizer": {"type": "StripAccents"}"#), "'StripAccents'"),
    (file(rest: #", "normalizer": {"type": "Sequence", "normalizers": [{"type": "Nmt"}]}"#), "'Nmt'"),
    (file(rest: #", "pre_tokenizer": {"type": "UnicodeScripts"}"#), "'UnicodeScripts'"),
    (file(rest: #", "decoder": {"type": "CTC"}"#), "'CTC'"),
    (split("(?<=a)b"), "lookbehind"), (split(#"(a)\\1"#), "back references"),
    (split(#"\\p{Emoji}"#), "Emoji"),
    (split("(?x:a b)"), "(?x"), (split("(?:(?:a{1000}){1000}){1000}"), "steps"), (split(#"\\R"#), #"\R"#),
    (split(String(repeating: "(", count: 200)), "nesting"),
    (split("a" + String(repeating: "?", count: 200)), "repetition"),
  ]

  private static func split(_ regex: String) -> String {
    file(
      rest:
        #", "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\#(regex)"}, "behavior": "Isolated"}"#)
  }

  @Test(arguments: unsupported.indices) func unsupportedPartsAreNamed(index: Int) throws {
    let (json, words) = Self.unsupported[index]
    let error = try #require(throws: RequestError.self) { try read(json) }
    #expect(error.kind == .unsupported)
    #expect(error.problem.contains(words), "\(error.problem)")
  }

  /// Every prefix of a good file is refused, none traps.
  @Test func prefixesAreRefused() throws {
    let json = file(
      rest: #", "added_tokens": [{"id": 3, "content": "<s>"}], "decoder": {"type": "ByteLevel"}"#)
    _ = try read(json)
    for count in 0..<json.utf8.count {
      #expect(throws: FormatError.self) { try read(String(decoding: json.utf8.prefix(count), as: UTF8.self)) }
    }
  }
}

extension String {
  /// The byte where a text stands, or nil.
  fileprivate func range(of wanted: String, from: Index) -> Int? {
    let bytes = Array(utf8)
    let wanted = Array(wanted.utf8)
    return bytes.indices.first { bytes[$0...].starts(with: wanted) }
  }
}
