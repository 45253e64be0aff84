// Texts that are not UTF-8, or hold what a reader does not see.

@testable import SmeltPipeline
import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct TextCheckTests {
  private let folder = TemporaryFolder()

  private func put(_ name: String, _ bytes: [UInt8]) throws -> String {
    try writeFile(folder.file(name), bytes, overwrite: true)
    return folder.file(name)
  }

  private func read(_ name: String, _ bytes: [UInt8]) throws -> (texts: [String], notes: [String]) {
    var texts: [String] = []
    let notes = try TextSource([try put(name, bytes)]).forEach { text, _ in
      texts.append(String(decoding: text, as: UTF8.self))
    }
    return (texts, notes)
  }

  private static let latin = Array("caf".utf8) + [0xE9] + Array(" au lait".utf8)
  private static func utf16(_ text: String, big: Bool) -> [UInt8] {
    text.utf16.flatMap { big ? [UInt8($0 >> 8), UInt8($0 & 255)] : [UInt8($0 & 255), UInt8($0 >> 8)] }
  }

  @Test(
    arguments: [
      ([0xFF, 0xFE] + utf16("Hello", big: false), 0, "UTF-16"),
      ([0xFE, 0xFF] + utf16("Hello", big: true), 0, "UTF-16"),
      (utf16("Hello there", big: false), 1, "UTF-16LE"), (utf16("Hello there", big: true), 0, "UTF-16BE"),
      ([0xFF, 0xFE, 0, 0, 0x41, 0, 0, 0], 0, "UTF-32"), (latin, 3, "ISO-8859-1"),
      ([0x1F, 0x8B, 8, 0], 1, "gzip"), ([0x50, 0x4B, 3, 4, 0x80], 4, "zip"),
      ([0x28, 0xB5, 0x2F, 0xFD], 1, "zstd"),
      (Array("text, then ".utf8) + [0], 11, "binary"),
      ([0x7F, 0x45, 0x4C, 0x46, 2, 1, 0, 0, 0x80], 8, "binary"),
      (Array("cut short ".utf8) + [0xE2, 0x82], 10, "ISO-8859-1"),
    ] as [([UInt8], Int, String)])
  func otherBytesAreRefused(bytes: [UInt8], place: Int, word: String) throws {
    for name in ["a.txt", "a.jsonl"] {
      let error = try #require(throws: FormatError.self) { try read(name, bytes) }
      #expect(error.code == .text && error.file == folder.file(name) && error.offset == place, "\(error)")
      #expect(error.exitStatus == 2 && error.help?.contains(word) == true, "\(error)")
      #expect(error.problem.contains("0x") || error.problem.contains("byte-order mark"), "\(error)")
      #expect((error.subject == "line 1") == (name == "a.jsonl"))
    }
  }

  @Test func theLineOfABadRecordIsNamed() throws {
    let bytes = Array("{\"text\": \"fine\"}\n{\"text\": \"caf".utf8) + [0xE9] + Array("\"}\n".utf8)
    let error = try #require(throws: FormatError.self) { try read("b.jsonl", bytes) }
    #expect(error.subject == "line 2" && error.offset == 30 && error.problem.contains("0xE9"))
    // Behind a byte-order mark offsets are still those of the file.
    let marked = try #require(throws: FormatError.self) {
      try read("c.jsonl", [0xEF, 0xBB, 0xBF] + Array("{\"text\": \"fine\"}\n{\"text\" 3}\n".utf8))
    }
    #expect(marked.subject == "line 2" && (marked.offset ?? 0) >= 20)
  }

  @Test func aMarkIsTakenOffAndSaid() throws {
    for name in ["a.txt", "a.jsonl"] {
      let text = name == "a.txt" ? "Hello" : "{\"text\": \"Hello\"}"
      let found = try read(name, [0xEF, 0xBB, 0xBF] + Array(text.utf8))
      #expect(found.texts == ["Hello"])
      #expect(found.notes == ["'\(folder.file(name))' begins with a byte-order mark, which was taken off"])
    }
    // One inside the text is the text's own.
    let inner = try read("a.txt", Array("a\u{FEFF}b".utf8))
    #expect(inner.texts == ["a\u{FEFF}b"] && inner.notes == [])
  }

  @Test func carriageReturnsAreSaidAndKept() throws {
    let found = try read("a.txt", Array("one\r\ntwo\r\n".utf8))
    #expect(found.texts == ["one\r\ntwo\r\n"])
    #expect(found.notes.count == 1 && found.notes[0].contains("CR LF"))
    #expect(try read("a.txt", Array("one\rtwo\n\r".utf8)).notes == [])
    // Records end in a line break of any kind; their text is what counts.
    #expect(try read("a.jsonl", Array("{\"text\": \"a\"}\r\n{\"text\": \"b\"}\r\n".utf8)).notes == [])
    #expect(try read("a.jsonl", Array("{\"text\": \"a\\r\\nb\"}\n".utf8)).notes.count == 1)
  }

  @Test func severalFilesAreOneSentence() throws {
    let files = try (0..<3).map { try put("f\($0).txt", [0xEF, 0xBB, 0xBF, 0x41, 0x0D, 0x0A]) }
    let notes = try TextSource(files).forEach { _, _ in }
    #expect(
      notes.count == 2 && notes.allSatisfy { $0.hasPrefix("'\(files[0])' and 2 more texts") }, "\(notes)")
  }

  @Test func windowsCarryTheNotesAndNoMark() throws {
    let model = try openFixture("tiny-v4")
    let text = "It is a truth universally acknowledged, that a single man in possession of a good fortune"
    let plain = try put("p.txt", Array(text.utf8))
    let marked = try put("m.txt", [0xEF, 0xBB, 0xBF] + Array(text.utf8))
    let windows = try Windows(textPath: marked, context: 8, model: model)
    #expect(windows.notes.count == 1)
    #expect(try windows.sequences == Windows(textPath: plain, context: 8, model: model).sequences)
  }

  @Test func bytesAreForModelsWithoutATokenizer() throws {
    let path = try put("p.txt", Array("0123456789".utf8))
    let error = try #require(throws: FormatError.self) {
      try Windows(textPath: path, context: 4, model: try openFixture("deepseek_v4"))
    }
    #expect(error.code == .missingFile && error.help?.contains("--bytes") == true)
    let refused = try #require(throws: RequestError.self) {
      try Windows(textPath: path, context: 4, model: try openFixture("tiny-v4"), bytesWithoutTokenizer: true)
    }
    #expect(refused.kind == .usage && refused.problem.contains("--bytes"))
    let small = TemporaryFolder()
    try makeCheckpoint(in: small.path, experts: 2, expertWidth: 32)  // a vocabulary of 64
    let few = try #require(throws: RequestError.self) {
      try Windows(textPath: path, context: 4, model: try Model.open(small.path), bytesWithoutTokenizer: true)
    }
    #expect(few.kind == .usage && few.problem.contains("256"))
  }

  @Test func promptsLoseTheirMark() {
    #expect(checkedPrompt("\u{FEFF}Hi").text == "Hi" && checkedPrompt("\u{FEFF}Hi").notes.count == 1)
    #expect(checkedPrompt("a\r\nb").text == "a\r\nb" && checkedPrompt("a\r\nb").notes.count == 1)
    #expect(checkedPrompt("a b").notes == [])
  }
}
