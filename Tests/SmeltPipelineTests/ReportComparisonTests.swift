// `compare`: what may be held against each other, and which results are at the front.

@testable import SmeltPipeline
import SmeltStorage
import SmeltTestSupport
import Testing

/// A report as a file, as short as `compare` reads it.
private func stored(
  _ result: String, bytes: Int = 1000, kl: String = "0.01", change: (String) -> String = { $0 }
) -> String {
  change(
    """
    {"schema": "smelt.verify/3", "text": {"sha256": "aa"}, "source": {"path": "m", "container": "safetensors", "family": "llama",
    "bytes": 4000, "left_out": []}, "result": {"path": "out/\(result)", "container": "gguf", "bytes": \(bytes)},
    "tokens": 512, "context": 256, "tokenization": "tokens", "perplexity": {"source": 12.5, "result": 12.75},
    "kl": {"mean": \(kl), "p99": 0.1, "floor": 1e-13, "interval": {"low": 0.009, "high": 0.02}},
    "top1_agreement": 0.97, "not_run": null, "verdict": "pass"}
    """)
}

@Suite struct ReportComparisonTests {
  private let folder = TemporaryFolder()

  private func compared(_ texts: [String]) throws -> ReportComparison {
    let paths = texts.indices.map { folder.file("r\($0).json") }
    for (path, text) in zip(paths, texts) { try writeFile(path, Array(text.utf8), overwrite: true) }
    return try ReportComparison(paths)
  }

  @Test func theFrontIsWhatNothingBeats() throws {
    let found = try compared([
      stored("q8.gguf", bytes: 2000, kl: "0.001"), stored("q4.gguf", bytes: 1100, kl: "0.02"),
      stored("worse.gguf", bytes: 1500, kl: "0.03"), stored("twin.gguf", bytes: 1100, kl: "0.02"),
      stored("q2.gguf", bytes: 700, kl: "0.4"),
    ])
    #expect(found.names == ["q2.gguf", "q4.gguf", "twin.gguf", "worse.gguf", "q8.gguf"])
    #expect(found.entries.map(\.isOnFront) == [true, true, true, false, true])
    #expect(found.text.contains("worse.gguf") && found.text.contains("9.00e-03 to 2.00e-02"))
    let page = try Markup(found.html)
    let picture = try #require(page.all("svg").first)
    #expect(Set(picture.all("text").map(\.text)).isSuperset(of: found.names))
    #expect(page.all("tbody")[0].all("tr").count == 5 && found.html.contains("prefers-color-scheme: dark"))
    #expect(try JSON.scan(found.json.text())["results"]?.array?.count == 5)
  }

  @Test func namesOfResultsPassEscaped() throws {
    let found = try compared([stored("<script>"), stored("b", bytes: 5)])
    #expect(!found.html.contains("<script") && found.html.contains("&lt;script&gt;"))
    #expect(try Markup(found.html).allText.contains("<script>"))
  }

  @Test func sameNamesAreToldApartByTheirReports() throws {
    #expect(try compared([stored("model"), stored("model", bytes: 5)]).names == ["r1.json", "r0.json"])
  }

  /// Other sources, texts and windows say nothing of each other.
  @Test(arguments: [
    ("\"family\": \"llama\"", "\"family\": \"qwen3\"", "their sources are"),
    ("\"bytes\": 4000", "\"bytes\": 4001", "their sources have bytes"),
    ("\"aa\"", "\"bb\"", "SHA-256"), ("\"context\": 256", "\"context\": 128", "windows"),
    ("\"tokens\": 512", "\"tokens\": 1024", "tokens"), ("12.5,", "12.6,", "perplexity"),
    ("\"mean\": 0.01", "\"mean\": null", "no divergence"),
    ("\"not_run\": null", "\"not_run\": \"no family\"", "no forward pass"),
    ("\"tokenization\": \"tokens\"", "\"tokenization\": \"bytes\"", "their ids"),
  ]) func whatDiffersIsRefused(old: String, new: String, words: String) throws {
    let error = try #require(throws: RequestError.self) {
      try compared([stored("a"), stored("b") { $0.replacing(old, with: new) }])
    }
    #expect(error.description.contains(words), "\(error)")
    #expect(error.exitStatus == 64)
  }

  /// The first names no text; the others name two.
  @Test func everyReportIsHeldAgainstEveryOther() throws {
    let error = try #require(throws: RequestError.self) {
      try compared([
        stored("a") { $0.replacing("\"text\": {\"sha256\": \"aa\"}, ", with: "") }, stored("b"),
        stored("c") { $0.replacing("\"aa\"", with: "\"bb\"") },
      ])
    }
    #expect(error.description.contains("SHA-256") && error.description.contains("r1.json"), "\(error)")
  }

  @Test(arguments: [
    ("smelt.verify/3", "smelt.verify/2"), ("smelt.verify/3", "smelt.plan/1"),
    ("\"mean\": 0.01", "\"mean\": -1"), ("\"bytes\": 1000", "\"bytes\": \"x\""),
    ("\"tokens\": 512", "\"tokens\": -5"),
    ("{\"schema\"", "[{\"schema\""), ("\"verdict\": \"pass\"", "\"x\": 1"),
  ]) func whatIsNoReportIsRefused(old: String, new: String) throws {
    let error = try #require(throws: FormatError.self) {
      try compared([stored("a"), stored("b") { $0.replacing(old, with: new) }])
    }
    #expect(error.description.contains("REPORT_FORMAT") && error.description.contains("r1.json"), "\(error)")
  }

  /// A report of an earlier version has no intervals, no bits and no hash of its text.
  @Test func olderReportsAreCompared() throws {
    let older = stored("old", bytes: 5) {
      $0.replacing(", \"interval\": {\"low\": 0.009, \"high\": 0.02}", with: "")
        .replacing("\"text\": {\"sha256\": \"aa\"}, ", with: "")
    }
    let found = try compared([stored("new"), older])
    #expect(found.entries.map { $0.interval == nil } == [true, false])
    #expect(found.text.contains("–") && found.names == ["old", "new"])
    _ = try Markup(found.html)
  }

  @Test func aReportIsGivenOnce() throws {
    let path = folder.file("r.json")
    try writeFile(path, Array(stored("a").utf8), overwrite: true)
    for other in [path, folder.file("./r.json")] {
      let error = try #require(throws: RequestError.self) { try ReportComparison([path, other]) }
      #expect(error.description.contains("given twice"))
    }
  }

  /// An upright line for each result, from the lower to the higher end of its interval.
  @Test func intervalsAreDrawn() throws {
    let page = try Markup(try compared([stored("a"), stored("b", bytes: 5, kl: "0.015")]).html)
    let upright = page.all("path").filter { path in
      guard path.attributes["class"] == "axis" else { return false }
      let numbers = (path.attributes["d"] ?? "").split { !$0.isNumber && $0 != "." }.compactMap { Double($0) }
      return numbers.count == 4 && numbers[0] == numbers[2] && abs(numbers[3] - numbers[1]) > 10
    }
    #expect(upright.count == 2)
  }

  @Test func oneReportIsNoComparison() {
    #expect(throws: RequestError.self) { try compared([stored("a")]) }
  }
}
