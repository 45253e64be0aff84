// The regular expressions by themselves: matches as Oniguruma finds them, classes, first-come alternation, giving back.

import SmeltTestSupport
import Testing

@testable import SmeltTokenizers

private func matches(_ regex: String, _ text: String) throws -> [String] {
  let pattern = try SplitPattern(regex: regex)
  let bytes = Array(text.utf8)
  var out: [String] = []
  bytes.withUnsafeBufferPointer { buffer in
    guard let base = buffer.baseAddress else { return }
    var matcher = PatternMatcher(pattern)
    matcher.matches(in: base, 0..<buffer.count) { out.append(String(decoding: buffer[$0], as: UTF8.self)) }
  }
  return out
}

@Suite struct TokenizerPatterns {
  struct Case: Sendable, CustomTestStringConvertible {
    var regex: String
    var text: String
    var found: [String]
    var testDescription: String { regex }
  }

  static let cases = [
    Case(regex: "a|ab|abc", text: "abcab", found: ["a", "a"]),
    Case(regex: "abc|ab|a", text: "abcab", found: ["abc", "ab"]),
    Case(regex: "a*", text: "baac", found: ["", "aa", ""]),
    Case(regex: #"\s+(?!\S)|\s+"#, text: "a   b  ", found: ["  ", " ", "  "]),
    Case(regex: #"\s*[\r\n]+"#, text: "a  \n \n  b", found: ["  \n \n"]),
    Case(regex: "a+?b|a", text: "aaba", found: ["aab", "a"]),
    Case(regex: "a++a|a", text: "aaa", found: ["a", "a", "a"]),
    Case(regex: "(?>a|ab)c", text: "abcac", found: ["ac"]),
    Case(regex: "(?:ab){2}", text: "ababab", found: ["abab"]),
    Case(regex: "(?:ab){1,2}?c", text: "ababc", found: ["ababc"]),
    Case(regex: "(?:a|ab)+c", text: "aabac abc", found: ["aabac", "abc"]),
    Case(regex: "(?:a|b|)*c", text: "abac", found: ["abac"]),
    // Oniguruma repeats the repetition where others read a possessive one.
    Case(regex: "a{1,2}+a", text: "aaaaa", found: ["aaaaa"]),
    Case(regex: "x{,2}", text: "xxx", found: ["xx", "x"]),
    Case(regex: "x{a}", text: "x{a}", found: ["x{a}"]),
    Case(regex: "(?i:'re|ß)", text: "'RE 'Re ß ẞ", found: ["'RE", "'Re", "ß", "ẞ"]),
    Case(regex: "(?i)k", text: "kK\u{212A}x", found: ["k", "K", "\u{212A}"]),
    Case(regex: "(?i:[a-c]+)D", text: "aBCD abcd", found: ["aBCD"]),
    Case(regex: #"[\p{L}&&[^a-y]]+"#, text: "xyzzé1", found: ["zzé"]),
    Case(regex: #"[^\s\p{L}\p{N}]+"#, text: "a, b!? 3$", found: [",", "!?", "$"]),
    Case(regex: #"[]a]+"#, text: "a]b", found: ["a]"]),
    Case(regex: #"[a\-z]+"#, text: "a-zb", found: ["a-z"]),
    Case(regex: #"[\x41-\x{43}\u0044]+"#, text: "ABCDE", found: ["ABCD"]),
    Case(regex: #"\p{^L}+|\P{N}"#, text: "ab12", found: ["a", "b", "12"]),
    Case(regex: #"\p{Han}+|\p{Hiragana}"#, text: "漢字かな", found: ["漢字", "か", "な"]),
    Case(regex: "^b|a$", text: "ba\nba", found: ["b", "a", "b", "a"]),
    Case(regex: #"\Ab|a\z"#, text: "ba\nba", found: ["b", "a"]),
    Case(regex: #"\bx|x\B"#, text: "x ax xx", found: ["x", "x"]),
    Case(regex: #"\h+"#, text: "xyz09afAFg", found: ["09afAF"]),
    Case(regex: "(?<year>[0-9]{4})-", text: "1851-1852", found: ["1851-"]),
    Case(regex: ".+", text: "é\n𠮷x", found: ["é", "𠮷x"]),
  ]

  @Test(arguments: cases) func matchesAreOnigurumas(_ pattern: Case) throws {
    #expect(try matches(pattern.regex, pattern.text) == pattern.found)
  }

  /// Two hundred thousand letters and patterns that try every way: neither the stack nor the time runs out.
  @Test(arguments: ["(?:a|b)+c|a", "(?:a+)+c|(?:a|a)*b|a", "(?:a?){20}b|a{3}"])
  func longTextsNeedNoDepth(regex: String) throws {
    let text = String(repeating: "a", count: regex.contains("b)+") ? 2_000 : 200)
    let found = try matches(regex, text)
    #expect(found.joined().count >= text.count - 2)
    let run = try matches("a+|b", String(repeating: "a", count: 200_000))
    #expect(run.count == 1)
  }

  /// Each level tries every way of the one below: remembered, not tried again.
  @Test(.timeLimit(.minutes(1)), arguments: ["(?=", "(?!", "(?>"])
  func nestedLookaheadsEnd(group: String) throws {
    let round = "(?:a|a)*"
    let regex = (0..<6).reduce("b") { inner, _ in "\(round)\(group)\(inner))c" }
    #expect(try matches(regex + "|a", String(repeating: "a", count: 60)).joined().count == 60)
  }

  @Test func classesHaveTheirSizes() {
    // Counted with the library, version 0.23: Unicode 16.
    let sizes = [
      "L": 141028, "N": 1911, "M": 2501, "P": 855, "S": 8514, "Lu": 1858, "Ll": 2258, "Lo": 136477,
    ]
    for (name, size) in sizes { #expect(UnicodeClasses.named(name)?.count == size, "\(name)") }
    #expect(UnicodeClasses.space.count == 25)
    #expect(UnicodeClasses.word.count == 144671)
    #expect(UnicodeClasses.digit.count == 760)
    #expect(UnicodeClasses.named("Han")?.count == 99030)
    #expect(UnicodeClasses.named("Letter") == UnicodeClasses.named("L"))
    #expect(UnicodeClasses.named("Klingon") == nil)
  }

  @Test func setsObeyTheirLaws() {
    var generator = Generator(seed: 5)
    for _ in 0..<200 {
      func random() -> ScalarSet {
        ScalarSet(
          (0..<Int.random(in: 0...6, using: &generator)).map { _ in
            let low = UInt32.random(in: 0...200, using: &generator)
            return low...(low + UInt32.random(in: 0...40, using: &generator))
          })
      }
      let (a, b) = (random(), random())
      for scalar in UInt32(0)...250 {
        #expect(a.union(b).contains(scalar) == (a.contains(scalar) || b.contains(scalar)))
        #expect(a.intersection(b).contains(scalar) == (a.contains(scalar) && b.contains(scalar)))
        #expect(a.inverted().contains(scalar) != a.contains(scalar))
      }
      #expect(a.inverted().inverted() == a)
    }
  }
}
