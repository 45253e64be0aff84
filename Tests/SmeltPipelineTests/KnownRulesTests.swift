// Rules that leave tensors out, asked for many names at once, say what each rule says by itself.

import SmeltModels
import SmeltStorage
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

@Suite struct KnownRulesTests {
  @Test(arguments: ["deepseek_v3", "gemma4", "llama", "qwen3_moe", "deepseek_v4"])
  func manyNamesAtOnce(fixture: String) throws {
    let family = try openFixture(fixture).family
    let known = KnownRules(family)
    let prefixes = family.dropRules.flatMap(\.prefixes)
    var names = ["", "a", "model", "model.layers.0.self_attn.q_proj.weight", "zzz", "ä", "model.ä"]
    for prefix in prefixes {
      names += [prefix, prefix + ".x", prefix + "q", prefix + "ä", String(prefix.dropLast()), "x" + prefix]
      names += [prefix + "\u{301}", String(prefix.dropLast()) + "~"]
    }
    names += [
      "model.rotary_emb.inv_freq", "a.rotary_pos_emb.cos_cached", "inv_freq", "a.b.inv_freq",
      "a.rotary_emb.x",
    ]
    for name in names {
      let words = name.split(separator: ".")
      let isRotary =
        words.count > 1 && ["rotary_emb", "rotary_pos_emb"].contains(words[words.count - 2])
        && ["inv_freq", "original_inv_freq", "cos_cached", "sin_cached"].contains(words[words.count - 1])
      let expected =
        family.dropRules.first { $0.covers(name) }?.name ?? (isRotary ? "rotary-frequencies" : nil)
      #expect(known.rule(for: name)?.name == expected, "\(name)")
    }
  }

  /// The last component of a path, however many slashes stand where.
  @Test(arguments: [
    ("a/b/c.safetensors", "c.safetensors"), ("c", "c"), ("", ""), ("/", "/"), ("//", "/"), ("/a", "a"),
    ("a/", "a"),
    ("/x//y///", "y"), ("ä/ö", "ö"), (".", "."), ("a/.", "."),
  ]) func fileNames(path: String, name: String) {
    #expect(fileName(path) == name)
  }
}
