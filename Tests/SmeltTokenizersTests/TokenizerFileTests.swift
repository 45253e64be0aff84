// Tokenizers that are no BPE tokenizer.json against SentencePiece, tiktoken and `tokenizers`: Fixtures/make/tokenizers_2026.py made
// files and ids.

import SmeltStorage
import SmeltTestSupport
import Testing

@testable import SmeltTokenizers

private let folders = [
  "cl100k-ranks", "kimi", "qwen1", "spm-bpe", "spm-bpe-ud", "spm-nmt", "spm-unigram", "unigram",
  "unigram-bytes",
]

private func read(_ path: String) throws -> Bytes {
  try readSmallFile(fixture("tokenizers/\(path)"), limit: 1 << 24, code: .tokenizerJSON)
}

private func files(_ folder: String) throws -> TokenizerFiles {
  let names = try namesInFolder(fixture("tokenizers/files/\(folder)"))
  return try #require(
    try TokenizerFiles(among: names) { names.contains($0) ? try read("files/\(folder)/\($0)") : nil })
}

@Suite struct TokenizerFileIds {
  @Test func everyFolderIsCompared() throws {
    #expect(try namesInFolder(fixture("tokenizers/files")).sorted() == folders)
  }

  @Test(arguments: folders) func idsAreTheReferences(folder: String) throws {
    let cases = try JSON.scan(try read("file-cases.json"))
    let texts = try #require(cases["texts"]?.array).compactMap(\.string)
    let reference = try #require(cases["tokenizers"]?[folder])
    let rows = try #require(reference["ids"]?.array)
    let decoded = reference["decoded"]?.object
    #expect(texts.count > 40 && rows.count == texts.count)
    let tokenizer = try files(folder).tokenizer()
    var compared = 0
    for (place, (text, row)) in zip(texts, rows).enumerated() {
      // SentencePiece is not asked for texts that transformers would cut at special tokens.
      guard let ids = row.array?.compactMap(\.integer) else { continue }
      compared += 1
      #expect(tokenizer.encode(text) == ids, "\(folder), text \(place): \(text.debugDescription)")
      let other = decoded?["\(place)"]
      if other?.isNull == true { continue }
      let expected = other?.string ?? text
      #expect(
        tokenizer.decode(ids) == Array(expected.utf8),
        "\(folder), text \(place): \(expected.debugDescription)")
    }
    #expect(compared > texts.count - 3)
  }

  /// Added tokens cut the text; before which of its parts a space goes is what `legacy` says.
  @Test func aSpaceGoesBeforePartsAsLegacySays() throws {
    let model = try read("files/spm-bpe/tokenizer.model")
    func tokens(_ config: String) throws -> [String?] {
      let files = try #require(
        try TokenizerFiles(among: ["tokenizer.model", "tokenizer_config.json"]) {
          $0 == "tokenizer.model" ? model : $0 == "tokenizer_config.json" ? Bytes(Array(config.utf8)) : nil
        })
      let tokenizer = try files.tokenizer()
      return tokenizer.encode("a<s>a").map(tokenizer.token)
    }
    #expect(try tokens("{}") == ["▁a", "<s>", "▁a"])
    #expect(try tokens(#"{"legacy": true}"#) == ["▁a", "<s>", "▁a"])
    #expect(try tokens(#"{"legacy": false}"#) == ["▁a", "<s>", "a"])
    #expect(try tokens(#"{"legacy": false, "add_prefix_space": false}"#) == ["a", "<s>", "a"])
  }

  @Test func tokenizerJSONCountsBeforeTiktokenBeforeSentencePiece() throws {
    let model = try read("files/spm-bpe/tokenizer.model")
    func kind(_ names: [String]) throws -> String? { try TokenizerFiles(among: names) { _ in model }?.file }
    #expect(try kind(["tokenizer.model", "tiktoken.model", "tokenizer.json"]) == "tokenizer.json")
    #expect(try kind(["tokenizer.model", "x.tiktoken", "tiktoken.model"]) == "tiktoken.model")
    #expect(try kind(["tokenizer.model", "spiece.model", "x.tiktoken"]) == "x.tiktoken")
    #expect(try kind(["spiece.model", "tokenizer.model"]) == "tokenizer.model")
    #expect(try kind(["model/tokenizer.json", "vocab.json"]) == nil)
    #expect(try files("kimi").tokenizer().file == "tiktoken.model")
  }

  /// One merge a token gives the ids that all of tiktoken's ways to make a token give.
  @Test(arguments: ["cl100k-ranks", "kimi", "qwen1"]) func oneMergeATokenIsEnough(folder: String) throws {
    let files = try files(folder)
    let source = try TiktokenFile(files.bytes, file: files.file)
    let (json, missing) = try source.tokenizerJSON(try files.settings())
    #expect(missing == 0)
    let (mine, its) = (try files.tokenizer(), try Tokenizer(json: Bytes(json), file: "tokenizer.json"))
    #expect(mine.difference(from: its) == nil)
  }
}

@Suite struct TokenizerFileRefusals {
  /// Lines for the 256 bytes, and more lines.
  private static func ranks(_ more: [String] = [], without: UInt8? = nil) -> String {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    let lines = (UInt8.min...UInt8.max).filter { $0 != without }.enumerated().map { rank, byte in
      "\(digits[Int(byte >> 2)])\(digits[Int(byte & 3) << 4])== \(rank)"
    }
    return (lines + more).joined(separator: "\n")
  }

  @Test(arguments: [
    ("", "found no tokens"), ("!!!! 0", "found '!!!! 0', expected a token in base64 and its rank"),
    ("YQ 0", "expected a token in base64"), ("YQ== x", "found the rank 'x'"),
    ("YQ== -1", "found the rank '-1'"),
    ("YQ== 99999999999999999999", "found the rank"), ("YQ==", "expected a token"),
    ("= 0", "expected a token"),
    ("YQ== 0", "found no token for the byte 0"),
    (ranks(["YWI= 257"]), "found rank 257 among 257 tokens"), (ranks(["YWI= 255"]), "found rank 255 twice"),
    (ranks(["YQ== 256"]), "found the token of rank 256 twice"),
    (ranks(without: 7), "found no token for the byte 7"),
  ]) func aTiktokenFileIsRefused(text: String, words: String) throws {
    let error = #expect(throws: FormatError.self) {
      try TiktokenFile(Bytes(Array(text.utf8)), file: "tiktoken.model")
    }
    #expect(error?.code == .tokenizerValue && error?.file == "tiktoken.model")
    #expect(error?.problem.contains(words) == true, "\(error?.problem ?? "")")
  }

  @Test func anUnknownPatternIsRefusedByName() throws {
    let model = try read("files/kimi/tiktoken.model")
    func problem(_ name: String, _ config: String) throws -> String? {
      let files = try #require(
        try TokenizerFiles(among: [name]) {
          $0 == name ? model : $0 == "tokenizer_config.json" ? Bytes(Array(config.utf8)) : nil
        })
      return #expect(throws: RequestError.self) { try files.tokenizer() }?.problem
    }
    #expect(
      try problem("hy.tiktoken", #"{"auto_map": {"AutoTokenizer": ["tokenization_hy.HYTokenizer", null]}}"#)
        == "how 'tokenization_hy' cuts a text is not known, and hy.tiktoken does not say it")
    #expect(
      try problem("a.tiktoken", "{}")
        == "how 'a.tiktoken' cuts a text is not known, and a.tiktoken does not say it")
    #expect(
      try problem("tokenizer.model", #"{"tokenizer_class": "Other"}"#)?.hasPrefix("how 'Other' cuts") == true)
  }

  @Test func aClassThatRenumbersIsRefused() throws {
    let model = try read("files/spm-unigram/tokenizer.model")
    let config = Bytes(Array(#"{"tokenizer_class": "XLMRobertaTokenizer"}"#.utf8))
    let files = try #require(
      try TokenizerFiles(among: ["tokenizer.model"]) {
        $0 == "tokenizer.model" ? model : $0 == "tokenizer_config.json" ? config : nil
      })
    #expect(throws: RequestError.self) { try files.tokenizer() }
  }

  @Test(
    arguments: [
      ([0x0A], "found the end inside of a number"),
      ([0x0A, 0x05, 0x0A], "found a field of 5 bytes, expected at most 1"),
      (
        [0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        "found a field of 18446744073709551615 bytes"
      ),
      (
        [0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02],
        "found a number of more than 64 bits"
      ),
      ([0x0B], "found a field of wire type 3"), ([0x08, 0x01], "found a number, expected a message"),
      ([], "found no pieces"), ([0x0A, 0x00], "found piece 0 without text"),
      ([0x0A, 0x03, 0x0A, 0x01, 0xFF], "found piece 0, which is not UTF-8"),
      ([0x0A, 0x05, 0x0A, 0x01, 0x61, 0x18, 0x09], "found kind 9 of piece 0"),
      ([0x0A, 0x08, 0x0A, 0x01, 0x61, 0x15, 0, 0, 0xC0, 0x7F], "found nan as score of piece 0"),
      ([0x0A, 0x03, 0x0A, 0x01, 0x61], "found no unknown piece"),
      ([0x0A, 0x05, 0x0A, 0x01, 0x61, 0x18, 2, 0x0A, 0x03, 0x0A, 0x01, 0x61], "found piece 1, 'a', twice"),
      (
        [0x0A, 0x05, 0x0A, 0x01, 0x61, 0x18, 6, 0x0A, 0x05, 0x0A, 0x01, 0x62, 0x18, 2],
        "found 'a' as byte piece 0"
      ),
    ] as [([UInt8], String)]) func aSentencePieceFileIsRefused(bytes: [UInt8], words: String) throws
  {
    let error = #expect(throws: FormatError.self) {
      try SentencePieceFile(Bytes(bytes), file: "tokenizer.model")
    }
    #expect(error?.code == .tokenizerValue && error?.file == "tokenizer.model")
    #expect(error?.problem.contains(words) == true, "\(error?.problem ?? "")")
  }

  @Test(arguments: [3, 4]) func aModelOfWordsIsRefusedByName(type: UInt8) throws {
    let bytes: [UInt8] = [0x12, 0x02, 0x18, type, 0x0A, 0x05, 0x0A, 0x01, 0x61, 0x18, 2]
    let error = #expect(throws: RequestError.self) {
      try SentencePieceFile(Bytes(bytes), file: "tokenizer.model")
    }
    #expect(error?.problem.contains(type == 3 ? "WORD" : "CHAR") == true)
  }

  /// A map of replacements that leads nowhere, in circles, or out of its bytes.
  @Test func aCharacterMapIsCheckedOrHarmless() throws {
    func map(_ units: [UInt32], _ replacements: [UInt8]) -> Result<CharacterMap, CharacterMap.Wrong> {
      let words = [UInt32(units.count * 4)] + units
      return CharacterMap.read(
        words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(8 * $0)) } }
          + replacements)
    }
    for bad in [
      map([], [0]), map([1], []), map([1], [0x61]), map([1], [0xFF, 0]), map([0x8000_0007], [0]),
      map([0x8000_0001], Array("é".utf8) + [0]), CharacterMap.read([1, 2, 3]),
      CharacterMap.read([0xFF, 0xFF, 0xFF, 0xFF, 0]), CharacterMap.read([3, 0, 0, 0, 1, 2, 3, 0]),
    ] {
      #expect(throws: CharacterMap.Wrong.self) { try bad.get() }
    }
    // Every unit is the byte `a` with the base that leads back to itself.
    let circle = (0..<256).map { _ in UInt32(0x61) | 1 << 10 }
    let found = try map(circle, [0x78, 0]).get()
    let text = [UInt8](repeating: 0x61, count: 100_000)
    #expect(found.applyByGraphemes(text).count == text.count)
    #expect(text.withUnsafeBufferPointer { found.longest($0.baseAddress!, 0, $0.count) } == nil)
  }

  /// Files cut short or with a byte changed are refused with a code, or are another tokenizer.
  @Test(arguments: ["spm-bpe", "spm-bpe-ud", "spm-nmt", "spm-unigram"])
  func damagedFilesEndInACode(folder: String) throws {
    let good = try files(folder)
    let bytes = good.bytes.array
    var generator = Generator(seed: 2026)
    for round in 0..<120 {
      var damaged = bytes
      if round < 40 {
        damaged.removeLast(Int(generator.next() % UInt64(bytes.count)))
      } else {
        for _ in 0..<(1 + round % 3) {
          damaged[Int(generator.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: generator.next())
        }
      }
      do {
        let tokenizer = try Tokenizer(
          try SentencePieceFile(Bytes(damaged), file: "tokenizer.model"), TokenizerSettings())
        _ = tokenizer.decode(tokenizer.encode("The river  had ½ ﬁ <ud>abc e\u{301}\t漢字"))
      } catch let error as FormatError {
        #expect(error.code == .tokenizerValue && error.file == "tokenizer.model")
      } catch let error as RequestError {
        #expect(error.kind == .unsupported)
      }
    }
  }

  @Test(arguments: [
    (#"{"type": "Unigram", "vocab": {}}"#, "found an object"), (#"{"type": "Unigram"}"#, "found none"),
    (#"{"type": "Unigram", "vocab": [["a"]]}"#, "found no token with its score at id 0"),
    (#"{"type": "Unigram", "vocab": [["a", 0], ["a", 1]]}"#, "the token appears twice"),
    (#"{"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1}"#, "found no id of the 1 tokens"),
  ]) func aUnigramModelIsRefused(model: String, words: String) throws {
    let error = #expect(throws: FormatError.self) {
      try Tokenizer(json: Bytes(Array(#"{"model": \#(model)}"#.utf8)), file: "tokenizer.json")
    }
    #expect(error?.problem.contains(words) == true, "\(error?.problem ?? "")")
  }
}
