// Formats/errors.md and the code list the same refusals, word for word. `SMELT_UPDATE=1 swift test --filter ErrorCodes`
// writes the table from the code.

import SmeltStorage
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite struct ErrorCodesTests {
  private static let path = formats("errors.md")

  private func row(_ code: ErrorCode) -> String { "| `\(code.name)` | \(code.meaning) | \(code.remedy) |" }

  @Test func documentAndCodeAgree() throws {
    let text = String(decoding: try MappedFile(path: Self.path).bytes.array, as: UTF8.self)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    let start = try #require(lines.firstIndex { $0.hasPrefix("| `") })
    let end = try #require(lines.lastIndex { $0.hasPrefix("| `") })
    let expected = ErrorCode.all.map(row)
    if getenv("SMELT_UPDATE") != nil {
      let updated = lines[..<start] + expected + lines[(end + 1)...]
      try writeFile(Self.path, Array(updated.joined(separator: "\n").utf8), overwrite: true)
      return
    }
    let found = Array(lines[start...end])
    let help: Comment = "SMELT_UPDATE=1 swift test --filter ErrorCodes writes the table"
    for line in expected where !found.contains(line) { Issue.record("errors.md lacks: \(line)\n\(help)") }
    for line in found where !expected.contains(line) { Issue.record("only errors.md has: \(line)\n\(help)") }
    #expect(found == expected, help)
  }

  @Test func namesAreStableWords() {
    let names = ErrorCode.all.map(\.name)
    #expect(Set(names).count == names.count)
    for code in ErrorCode.all {
      #expect(code.name.allSatisfy { $0.isASCII && ($0.isUppercase || $0.isNumber || $0 == "_") }, "\(code)")
      for sentence in [code.meaning, code.remedy] {
        #expect(!sentence.isEmpty && !sentence.hasSuffix(".") && !sentence.contains("|"), "\(code)")
        #expect(!sentence.contains("\n"), "\(code)")
      }
    }
  }

  /// A code that is declared and not listed would be in no table and no help.
  @Test func everyDeclaredCodeIsListed() throws {
    let source = String(
      decoding: try MappedFile(path: repositoryRoot + "/Sources/SmeltStorage/Errors/ErrorCodes.swift").bytes
        .array,
      as: UTF8.self)
    let declared = source.split(separator: "\n").count {
      $0.contains("package static let") && $0.contains("ErrorCode(")
    }
    #expect(declared == ErrorCode.all.count)
  }
}
