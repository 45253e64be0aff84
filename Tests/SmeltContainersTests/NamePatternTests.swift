// The patterns of `ignore` and `targets` lists do what Python's `re.match` does. Expected answers were taken from Python.

import SmeltTestSupport
import Testing

@testable import SmeltContainers

@Suite struct NamePatternTests {
  @Test(arguments: [
    (".*mlp\\.gate$", "model.layers.3.mlp.gate", true),
    (".*mlp\\.gate$", "model.layers.3.mlp.gate_proj", false),
    ("lm_head", "lm_head.weight", true), ("head", "lm_head", false), ("", "x", true), ("x", "", false),
    ("model\\.layers\\.\\d+\\.self_attn", "model.layers.12.self_attn.q_proj", true),
    ("model\\.layers\\.\\d+\\.self_attn", "model.layers.x.self_attn.q_proj", false),
    ("^(?!.*experts).*$", "model.layers.0.mlp.experts.1", false), ("^(?!.*experts).*$", "model.norm", true),
    (".*(q|k|v)_proj", "a.k_proj", true), (".*(q|k|v)_proj", "a.o_proj", false),
    ("(?:a|b){2,3}$", "aba", true), ("(?:a|b){2,3}$", "abab", false), ("(?:a|b){2,}$", "ababab", true),
    ("a{3}$", "aaa", true), ("a{3}$", "aa", false), ("a+?b*?c??$", "aab", true), ("[^.]+\\.x", "ab.x", true),
    ("[^.]+\\.x", "a.b.x", false), ("[a-c0-3_-]+$", "a2_-c", true), ("[a-c0-3_-]+$", "a4", false),
    ("[]a]+$", "]a", true), ("\\w+\\W\\w+$", "ab.cd", true), ("a.c", "abc", true), ("a\\.c", "abc", false),
    (".*\\bgate\\b", "mlp.gate.x", true), (".*\\bgate\\b", "mlp.gates.x", false), ("a|bc|d$", "bcx", true),
    ("(a*)*b", "aaab", true), ("(a*)*$", "aaab", false), ("()*x", "x", true), ("(?=ab)a", "ab", true),
    ("(?=ab)a", "ac", false), ("[\\d.]+$", "1.2", true), ("\\S+\\D$", "ab1", false),
  ])
  func matchesAsPythonDoes(_ pattern: String, _ name: String, _ expected: Bool) throws {
    #expect(try #require(NamePattern(pattern)).matches(name) == expected, "'\(pattern)' on '\(name)'")
  }

  @Test(arguments: [
    "(", ")", "a)", "(a", "[a", "*a", "a**", "a{2", "a{2}{3}", "{2}", "a{3,2}", "a{5000}", "(?P<n>a)",
    "(?i)a", "\\1",
    "a\\", "(?<=a)b", "[b-a]", "\\p{L}", "a++", "\\A", "a{,}", "a{x}",
  ])
  func otherPatternsAreNotRead(_ pattern: String) { #expect(NamePattern(pattern) == nil, "'\(pattern)'") }

  /// Deep nesting is refused, and what would take for ever is given up.
  @Test func hostilePatternsEnd() throws {
    #expect(NamePattern(String(repeating: "(", count: 40) + String(repeating: ")", count: 40)) == nil)
    #expect(NamePattern(String(repeating: "a", count: 5000)) == nil)
    let name = String(repeating: "a", count: 500)
    #expect(try #require(NamePattern("(a+)+$")).matches(name + "b") == false)
    var pattern = "x"
    for _ in 0..<6 { pattern = "(?!.*.*b\(pattern)).*" }
    #expect(try #require(NamePattern(pattern)).matches(String(repeating: "b", count: 60)) == nil)
  }
}
