// The table of engine rules in Formats/engines.md, held against the code.

import SmeltStorage
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite struct EngineTableTests {
  private static let (start, end) = ("<!-- rules -->\n", "<!-- /rules -->")

  /// One section an engine, one line a rule.
  private static var table: String {
    Engine.allCases.map { engine in
      "### \(engine.title) \(engine.readVersion)\n\n| rule | outcome | what it does | about | source |\n|---|---|---|---|---|\n"
        + EngineRules.of(engine).map { rule in
          let about =
            rule.kinds.map(\.rawValue) + rule.methods
            + (rule.families.count > 4 ? ["\(rule.families.count) families"] : rule.families)
          return
            "| `\(rule.name)` | \(rule.outcome.rawValue) | \(rule.says) | \(about.joined(separator: ", ")) | \(rule.source) |"
        }.joined(separator: "\n") + "\n"
    }.joined(separator: "\n")
  }

  /// `SMELT_UPDATE=1 swift test --filter EngineTable` writes it.
  @Test func theDocumentListsEveryRule() throws {
    let path = formats("engines.md")
    let text = String(decoding: try MappedFile(path: path).bytes.array, as: UTF8.self)
    let from = try #require(text.range(of: Self.start)?.upperBound)
    let to = try #require(text.range(of: Self.end)?.lowerBound)
    if getenv("SMELT_UPDATE") != nil {
      let new = text[..<from] + Self.table + text[to...]
      try writeFile(path, Array(new.utf8), overwrite: true)
    } else {
      #expect(
        String(text[from..<to]) == Self.table, "SMELT_UPDATE=1 swift test --filter EngineTable writes it")
    }
  }

  /// The script that holds the rules against the engines' sources knows each of them.
  @Test func theScriptKnowsEveryRule() throws {
    let path = repositoryRoot + "/Fixtures/make/check_engines.py"
    let text = String(decoding: try MappedFile(path: path).bytes.array, as: UTF8.self)
    for rule in EngineRules.all {
      #expect(
        text.contains("\"\(rule.engine.rawValue)/\(rule.name)\""), "\(rule.engine.rawValue)/\(rule.name)")
    }
  }
}

extension String {
  /// The first place of a text.
  fileprivate func range(of text: String) -> Range<String.Index>? { ranges(of: text).first }
}
