// `diff`: equal numbers are equal under any encoding, and the first number that is not is found.

@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct DiffTests {
  @Test func exactStepsAreNoDifference() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("deepseek_v4-fp4")
    _ = try convert(source, to: folder.file("a.ingot"), try options("fp8-channel"))
    let summary = try diff(source, try Model.open(folder.file("a.ingot")), RunOptions())
    #expect(summary.isEqual && summary.weights == source.family.weights.count)
    #expect(summary.reencoded == 164)
    #expect(summary.text.contains("164 of them under another encoding"))
  }

  @Test(arguments: [1, 3]) func theFirstDifferenceIsFound(_ threads: Int) throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    _ = try convert(source, to: folder.file("a.ingot"), try options("int8-channel"))
    let result = try Model.open(folder.file("a.ingot"))
    let summary = try diff(source, result, RunOptions(parallel: Parallel(threads: threads)))
    #expect(!summary.isEqual)
    // The same by hand: every number of every weight.
    var expected: [String] = []
    for spec in source.family.weights {
      let (a, b) = (try source.weights.weight(spec.name), try result.weights.weight(spec.name))
      let (x, y) = (a.decode(), b.decode())
      guard let place = x.indices.first(where: { x[$0] != y[$0] }) else { continue }
      expected.append("\(spec.name) \(place / a.columns) \(place % a.columns) \(x[place]) \(y[place])")
    }
    let found = summary.differences.map {
      "\($0.name) \($0.first.row) \($0.first.column) \(Float($0.first.a)) \(Float($0.first.b))"
    }
    #expect(found == expected)
    #expect(
      summary.differences.allSatisfy { $0.relativeError > 0 && $0.relativeError < 0.02 && $0.maxAbsError > 0 }
    )
    #expect(summary.text.contains("the first that differs is \(summary.differences[0].name)"))
  }

  @Test func thePageHasTheLargestDifferences() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    _ = try convert(source, to: folder.file("<b>.ingot"), try options("int8-channel"))
    let summary = try diff(source, try Model.open(folder.file("<b>.ingot")), RunOptions())
    let page = try Markup(summary.html)
    #expect(page.all("p").contains { $0.attributes["class"] == "verdict fail" && $0.text == "Different" })
    #expect(page.all("b").isEmpty && page.allText.contains("<b>.ingot"))
    let rows = page.all("tbody").flatMap { $0.all("tr") }.map { $0.all("td").map(\.text) }
    let worst = try #require(summary.differences.max { $0.relativeError < $1.relativeError })
    #expect(rows.first?[0] == worst.name && rows.first?[1] == scientific(worst.relativeError))
    #expect(rows.count == min(summary.differences.count, 420))
    let titles = page.all("svg").compactMap { $0.children.first { $0.name == "title" }?.text }
    #expect(titles == ["Largest weight difference by layer", "Largest weight difference by role"])
    let same = try Markup(try diff(source, source, RunOptions()).html)
    #expect(same.all("p").contains { $0.text == "Equal" } && same.all("svg").isEmpty)
  }

  @Test func otherModelsAreRefused() throws {
    let error = #expect(throws: RequestError.self) {
      try diff(try openFixture("qwen3_moe"), try openFixture("olmoe"), RunOptions())
    }
    #expect(error?.kind == .usage)
  }
}
