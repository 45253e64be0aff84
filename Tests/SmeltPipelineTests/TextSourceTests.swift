// Texts in many files, patterns of files and JSON lines; windows drawn by a seed.

import SmeltModels
@testable import SmeltPipeline
import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct TextSourceTests {
  private func put(_ folder: TemporaryFolder, _ files: [(String, String)]) throws {
    for (name, text) in files { try writeFile(folder.file(name), Array(text.utf8), overwrite: false) }
  }

  private func texts(_ patterns: [String], field: String = "text") throws -> [String] {
    var texts: [String] = []
    try TextSource(patterns, field: field).forEach { text, _ in
      texts.append(String(decoding: text, as: UTF8.self))
    }
    return texts
  }

  @Test func patternsFilesAndRecordsInOrder() throws {
    let folder = TemporaryFolder()
    try put(
      folder,
      [
        ("b.txt", "b"), ("a.txt", "a"), ("[x]*.txt", "odd"), (".hidden.txt", "no"),
        ("c.jsonl", "{\"text\": \"c\\u00e9\", \"n\": 1}\n\n  \r\n{\"text\": \"d\", \"other\": \"e\"}"),
      ])
    #expect(try texts([folder.file("?.txt")]) == ["a", "b"])
    #expect(try texts([folder.file("b.txt"), folder.file("*.jsonl")]) == ["b", "cé", "d"])
    #expect(try texts([folder.file("[x]*.txt")]) == ["odd"])  // a name that is there is no pattern
    #expect(try texts([folder.path + "/../*/a.txt"]).contains("a"))
    #expect(throws: FormatError.self) { try texts([folder.file("*.none")]) }
    for (field, problem) in [("other", "found nothing in 'other'"), ("n", "expected a string")] {
      let error = try #require(throws: FormatError.self) {
        try texts([folder.file("c.jsonl")], field: field)
      }
      #expect(error.code == .text && error.problem.contains(problem), "\(error)")
    }
  }

  @Test(arguments: ["[1]", "{\"text\": 3}", "{\"text\"", "7"]) func recordsThatAreNoneAreRefused(line: String)
    throws
  {
    let folder = TemporaryFolder()
    try put(folder, [("a.jsonl", "{\"text\": \"fine\"}\n\(line)\n")])
    let error = try #require(throws: FormatError.self) { try texts([folder.file("a.jsonl")]) }
    #expect(error.code == .text && error.subject == "line 2" && (error.offset ?? 0) >= 17, "\(error)")
  }

  /// The ids of several texts lie end to end, each tokenized by itself.
  @Test func windowsRunAcrossTexts() throws {
    let folder = TemporaryFolder()
    try put(folder, [("a.txt", "abc"), ("b.txt", "defgh")])
    let model = try openFixture("deepseek_v4")  // no tokenizer: bytes
    let source = try TextSource([folder.file("*.txt")])
    let windows = try Windows(source, context: 4, WindowDraw(), model: model, bytesWithoutTokenizer: true)
    #expect(windows.sequences == [[97, 98, 99, 100], [101, 102, 103, 104]])
    #expect(windows.files.map(fileName) == ["a.txt", "b.txt"] && windows.pool.isEmpty)
    let hash = try TextSource.hash(windows.files)
    #expect(hash == SHA256.hex(Bytes(Array("abcdefgh".utf8))))
  }

  @Test func drawsAreTheSameEverywhere() {
    let sequences = (0..<10).map { [$0, $0] }
    func draw(_ samples: Int?, _ seed: UInt64, _ limit: Int?) -> (run: [Int], pool: [Int]) {
      let split = WindowDraw(samples: samples, seed: seed, limit: limit).split(sequences)
      return (split.run.map { $0[0] }, split.pool.map { $0[0] })
    }
    #expect(draw(nil, 3, 4).run == Array(0..<10) && draw(nil, 3, 4).pool == [])
    let first = draw(3, 1, nil)
    #expect(first.run == first.run.sorted() && first.run.count == 3 && first.pool.count == 7)
    #expect(draw(2, 1, nil).pool.count == 6)  // four times the drawn tokens
    #expect(draw(2, 1, nil).run.allSatisfy { first.run.contains($0) })
    #expect(draw(3, 1, 10).run == first.run && draw(3, 1, 10).pool.count == 2)
    #expect(draw(3, 1, 4).run.count == 2 && draw(3, 1, 4).pool == [])
    #expect(draw(99, 1, nil).run == Array(0..<10))
    #expect(draw(3, 2, nil).run != first.run)
  }
}
