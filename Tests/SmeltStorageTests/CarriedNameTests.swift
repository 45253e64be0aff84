// Names of files that results take over: nothing that leads out of the result, nothing that is not shown.

import SmeltStorage
import Testing

@Suite struct CarriedNameTests {
  @Test(arguments: [
    "a", "config.json", "encoding/a.jinja", "a/b/c/d.txt", ".gitattributes", "使用说明.md", "é.txt", "a b.txt",
    "...", "a..b", "..a/b",
    String(repeating: "a", count: 255), "~", "-rf", "$(x)",
  ])
  func areGood(name: String) { #expect(CarriedName.problem(name) == nil) }

  @Test(arguments: [
    ("", "empty"), ("/etc/passwd", "absolute"), ("/", "absolute"), ("..", "'..'"), (".", "'.'"),
    ("../a", "'..'"),
    ("a/../b", "'..'"), ("a/..", "'..'"), ("a/./b", "'.'"), ("a//b", "empty component"),
    ("a/", "empty component"),
    ("a\\b", "backslash"), ("..\\a", "backslash"), ("C:a", "colon"), ("a\u{0}b", "control"),
    ("a\nb", "control"),
    ("a\u{1B}[2Jb", "control"), ("a\u{7F}", "control"), ("a\u{85}", "control"), ("a\u{202E}b", "not shown"),
    ("a\u{200B}", "not shown"), ("a\u{FFFD}", "UTF-8"), (String(repeating: "a", count: 256), "256 bytes"),
    (String(repeating: "a/", count: 600) + "a", "1201 bytes"),
  ])
  func areNot(name: String, word: String) {
    #expect(CarriedName.problem(name)?.contains(word) == true, "\(CarriedName.problem(name) ?? "good")")
  }

  @Test func foldersAreNamedOutermostFirst() {
    #expect(CarriedName.folders("a/b/c") == ["a", "a/b"] && CarriedName.folders("a") == [])
  }
}
