// What the command prints, word for word. A snapshot is a file of `snapshots`: lines of shell after `$ `, then exit status,
// stdout and stderr. A first line `% 80 TERM=xterm` has one command run on a terminal of so many columns and settings, and ESC is
// written \\e. `SMELT_UPDATE=1 swift test --filter Snapshot` writes what was found; read the difference before
// you commit it.

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

private let folder = repositoryRoot + "/Tests/CommandTests/snapshots"

@Suite struct SnapshotTests {
  @Test(arguments: try namesInFolder(folder)) func looksAsItDid(_ name: String) throws {
    let path = joinPath(folder, name)
    let expected = String(decoding: try MappedFile(path: path).bytes.array, as: UTF8.self)
    let script = expected.split(separator: "\n", omittingEmptySubsequences: false)
      .drop { $0.hasPrefix("% ") }.prefix { $0.hasPrefix("$ ") }.map { String($0.dropFirst(2)) }
    try #require(!script.isEmpty, "\(name) has no line that starts with '$ '")
    let terminal = expected.hasPrefix("% ") ? expected.dropFirst(2).prefix { $0 != "\n" } : nil
    let words = terminal?.split(separator: " ", maxSplits: 1)
    let outcome =
      if let words, let columns = Int(words[0]) {
        try Shell().onTerminal(
          script[0].replacing("smelt ", with: ""), words.dropFirst().joined(), columns: columns)
      } else { try Shell().run(script.joined(separator: "\n")) }
    let found =
      (terminal.map { "% \($0)\n" } ?? "") + script.map { "$ \($0)\n" }.joined()
      + "[exit \(outcome.exit)]\n[stdout]\n\(outcome.stdout.replacing("\u{1B}", with: "\\e"))"
      + "[stderr]\n\(outcome.stderr.replacing("\u{1B}", with: "\\e"))"
    if getenv("SMELT_UPDATE") != nil {
      try writeFile(path, Array(found.utf8), overwrite: true)
    } else {
      #expect(found == expected, "SMELT_UPDATE=1 swift test --filter Snapshot writes \(name)")
    }
  }
}
