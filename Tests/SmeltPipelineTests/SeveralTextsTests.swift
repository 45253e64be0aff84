// Several texts: each is cut by itself, and its figures are those that it has alone.

@testable import SmeltPipeline
import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct SeveralTextsTests {
  private let folder = TemporaryFolder()

  private func texts() throws -> [String] {
    try [("a.txt", 37), ("b.txt", 90), ("c.txt", 20)].map { name, count in
      let path = folder.file(name)
      var random = SplitMix64(seed: UInt64(count))
      try writeFile(path, (0..<count).map { _ in UInt8(97 + random.below(26)) }, overwrite: true)
      return path
    }
  }

  private func windows(_ paths: [String], _ draw: WindowDraw = WindowDraw()) throws -> Windows {
    try Windows(
      each: paths, context: 8, draw, model: try openFixture("llama"), bytesWithoutTokenizer: true)
  }

  @Test func noWindowHoldsTwoTexts() throws {
    let paths = try texts()
    let found = try windows(paths)
    #expect(found.parts.map(\.windows) == [0..<4, 4..<15, 15..<17] && found.sequences.count == 17)
    #expect(found.parts.map(\.name) == ["a.txt", "b.txt", "c.txt"] && found.files == paths)
    for part in found.parts {
      let bytes = try MappedFile(path: part.files[0]).bytes.array.map(Int.init)
      #expect(found.sequences[part.windows].flatMap { $0 } == Array(bytes.prefix(8 * part.windows.count)))
    }
    #expect(try windows([paths[0]]).parts.isEmpty, "one text is no part")
  }

  /// The first windows of each in turn, while there is room; drawn windows from all together.
  @Test func aLimitIsDealtOut() throws {
    let paths = try texts()
    #expect(try windows(paths, WindowDraw(limit: 8 * 9)).parts.map(\.windows.count) == [4, 3, 2])
    let drawn = try windows(paths, WindowDraw(samples: 16, seed: 3))
    #expect(drawn.parts.map(\.windows.count).reduce(0, +) == 16 && drawn.sequences.count == 16)
    #expect(try windows(paths, WindowDraw(limit: 72)).comparedTexts.map(\.limit) == [72, 72, 72])
    #expect(try drawn.comparedTexts.map(\.limit) == [nil, nil, nil])
    let error = try #require(throws: RequestError.self) { try windows(paths, WindowDraw(limit: 16)) }
    #expect(error.description.contains("c.txt"), "\(error)")
  }

  @Test func aTextIsGivenOnce() throws {
    let paths = try texts()
    let error = try #require(throws: RequestError.self) { try windows([paths[0], paths[1], paths[0]]) }
    #expect(error.description.contains("twice") && error.exitStatus == 64)
    for other in [folder.file("./a.txt"), folder.file("?.txt")] {
      let error = try #require(throws: RequestError.self) { try windows([paths[0], other]) }
      #expect(error.description.contains("twice") && error.exitStatus == 64)
    }
  }

  @Test func textsOfOneNameHaveTheirPaths() throws {
    let other = TemporaryFolder()
    let paths = [folder.file("t.txt"), other.file("t.txt")]
    for path in paths { try writeFile(path, [UInt8](repeating: 97, count: 16), overwrite: true) }
    #expect(try windows(paths).parts.map(\.name) == paths)
  }

  /// Each text's figures are those of a report about it alone, and together they are those of the whole.
  @Test func eachAndAll() throws {
    let source = try openFixture("llama")
    let path = folder.file("r.ingot")
    _ = try convert(source, to: path, try options("int4-group"))
    let result = try Model.open(path)
    func report(_ windows: Windows, _ thresholds: Thresholds) throws -> Report {
      try verify(source: source, result: result, windows, thresholds: thresholds, RunOptions())
    }
    let paths = try texts()
    let all = try report(try windows(paths), Thresholds(maxKL: 1e-9, minTop1: 0))
    #expect(all.texts.map(\.name) == ["a.txt", "b.txt", "c.txt"])
    for (path, text) in zip(paths, all.texts) {
      let alone = try report(try windows([path]), Thresholds())
      #expect(text.kl.mean == alone.kl.mean && text.kl.p99 == alone.kl.p99 && text.kl.max == alone.kl.max)
      #expect(text.perplexity.source == alone.perplexity.source)
      #expect(text.perplexity.result == alone.perplexity.result)
      #expect(text.top1 == alone.top1 && text.top5 == alone.top5 && text.tokens == alone.tokens)
      #expect(text.intervals?.kl == alone.intervals?.kl && text.hash == alone.making.textHash)
    }
    #expect(try all.making.textHash == TextSource.hash(paths), "all of them end to end")
    let sum = all.texts.reduce(0) { $0 + $1.kl.mean * Double($1.tokens) } / Double(all.tokens)
    #expect(abs(sum - all.kl.mean) < 1e-12)
    // What is demanded holds for the worst text too, by name.
    let worst = try #require(all.texts.max { $0.kl.mean < $1.kl.mean })
    let criterion = try #require(all.criteria.first { $0.key == "texts[].kl.mean" })
    #expect(criterion.found == worst.kl.mean && criterion.name.contains(worst.name) && !criterion.isMet)
    #expect(all.criteria.contains { $0.key == "texts[].top1_agreement" && $0.isMet })
    let page = try Markup(all.html)
    for text in all.texts {
      #expect(page.allText.contains(text.hash) && page.allText.contains(scientific(text.kl.mean)))
      #expect(all.text.contains(text.name) && all.card.contains(text.name))
    }
    #expect(page.all("svg").contains { $0.children.first?.text == "KL divergence by text" })
  }

  /// One text fails what all together meet.
  @Test func oneTextFailsTheResult() throws {
    let source = try openFixture("llama")
    let path = folder.file("r.ingot")
    _ = try convert(source, to: path, try options("int4-group"))
    let windows = try windows(try texts())
    func report(_ maxKL: Double) throws -> Report {
      try verify(
        source: source, result: try Model.open(path), windows, thresholds: Thresholds(maxKL: maxKL),
        RunOptions())
    }
    let found = try report(10)
    let worst = try #require(found.texts.map(\.kl.mean).max())
    #expect(found.verdict == .pass && worst > found.kl.mean)
    #expect(try report((worst + found.kl.mean) / 2).verdict == .fail)
  }
}
