// config.json of DeepSeek-V4: two dialects, one configuration; and every value that is refused.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

private func read(_ text: String) throws -> DeepSeekV4.Configuration {
  try DeepSeekV4(config: JSON.scan(text), file: "config.json").configuration
}

private func fixtureConfig(_ name: String) throws -> DeepSeekV4.Configuration {
  let path = fixture(name)
  let bytes = try readSmallFile(path, limit: 1 << 20, code: .configJSON)
  return try DeepSeekV4(config: JSON.scan(bytes), file: path).configuration
}

@Suite struct DeepSeekV4ConfigTests {
  @Test func bothDialectsGiveOneConfiguration() throws {
    let hub = try fixtureConfig("models/deepseek_v4/config.json")
    #expect(try fixtureConfig("models/deepseek_v4-hfsaved/config.json") == hub)
    #expect(try fixtureConfig("configs/deepseek_v4.json") == hub)
    #expect(hub.layers == [.window, .indexed(ratio: 4), .compressed(ratio: 8), .indexed(ratio: 4)])
    #expect(hub.hashLayers == [true, true, false, false])
    #expect(hub.compressedRope.frequencies != hub.mainRope.frequencies)
  }

  /// The ratios behind the last layer belong to the draft block.
  @Test func ratiosBeyondTheLayersAreIgnored() throws {
    let config = try fixtureConfig("models/deepseek_v4-fp4/config.json")
    #expect(config.layers == [.window, .indexed(ratio: 4), .compressed(ratio: 128), .indexed(ratio: 4)])
  }

  /// What transformers takes where nothing is said.
  @Test func defaultsOfLayers() throws {
    var tiny = TinyV4()
    tiny.set("compress_ratios", nil)
    tiny.set("num_hash_layers", nil)
    tiny.set("num_hidden_layers", 6)
    let config = try read(tiny.configText)
    let (hca, csa) = (DeepSeekV4.LayerKind.compressed(ratio: 128), DeepSeekV4.LayerKind.indexed(ratio: 4))
    #expect(config.layers == [hca, hca, hca, csa, hca, csa])
    #expect(config.hashLayers == [true, true, true, false, false, false])
  }

  @Test func withoutScalingTheCompressedRotationIsPlain() throws {
    var tiny = TinyV4()
    let stretched = try read(tiny.configText)
    tiny.set("rope_scaling", nil)
    let plain = try read(tiny.configText)
    #expect(plain.compressedRope == RotaryFrequencies(dimensions: 8, theta: 160_000, yarn: nil))
    #expect(plain.mainRope == stretched.mainRope && plain.compressedRope != stretched.compressedRope)
  }

  @Test func synonymsOfYarn() throws {
    var tiny = TinyV4()
    let one = try read(tiny.configText)
    tiny.set("rope_scaling", ["rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64])
    #expect(try read(tiny.configText) == one)
    tiny.set("rope_scaling", ["type": "default"])
    #expect(
      try read(tiny.configText).compressedRope
        == RotaryFrequencies(dimensions: 8, theta: 160_000, yarn: nil))
  }

  @Test func noSwigluLimitClampsNothing() throws {
    var tiny = TinyV4()
    #expect(try read(tiny.configText).swigluLimit == 2.5)
    tiny.set("swiglu_limit", 0)
    #expect(try read(tiny.configText).swigluLimit == .infinity)
    tiny.set("swiglu_limit", nil)
    #expect(try read(tiny.configText).swigluLimit == .infinity)
  }

  @Test func rotaryWidthFromItsShareOfTheHead() throws {
    var tiny = TinyV4()
    tiny.set("qk_rope_head_dim", nil)
    tiny.set("partial_rotary_factor", 0.5)
    #expect(try read(tiny.configText).rotaryWidth == 8)
  }

  /// One wrong value each, and the key that the refusal must name.
  @Test(
    arguments: [
      ("vocab_size", nil), ("vocab_size", 0), ("vocab_size", -1), ("vocab_size", "48"), ("vocab_size", 48.5),
      ("vocab_size", true), ("vocab_size", [48]), ("hidden_size", 0), ("hidden_size", 1e300),
      ("hidden_size", 9_223_372_036_854_775_807), ("num_attention_heads", 0), ("num_attention_heads", nil),
      ("num_key_value_heads", 2), ("head_dim", 0), ("head_dim", 65537), ("qk_rope_head_dim", 18),
      ("qk_rope_head_dim", 7), ("qk_rope_head_dim", -2), ("partial_rotary_factor", 1.5), ("q_lora_rank", 0),
      ("o_groups", 0), ("o_groups", 3), ("o_lora_rank", 0), ("sliding_window", 0), ("sliding_window", nil),
      ("n_routed_experts", 0), ("n_routed_experts", 65537), ("n_routed_experts", "four"),
      ("n_routed_experts", 65536), ("num_experts_per_tok", 5), ("num_experts_per_tok", 0),
      ("moe_intermediate_size", 0), ("n_shared_experts", -1), ("routed_scaling_factor", 0),
      ("routed_scaling_factor", "1.5"), ("swiglu_limit", -1), ("hc_mult", 0), ("hc_mult", 17),
      ("hc_sinkhorn_iters", 0), ("hc_sinkhorn_iters", 1001), ("hc_eps", -1), ("rms_norm_eps", nil),
      ("rms_norm_eps", 2), ("tie_word_embeddings", 1), ("num_hidden_layers", 0), ("num_hidden_layers", 4097),
      ("num_hidden_layers", 4), ("compress_ratios", [0, 4]), ("compress_ratios", [0, 4, -8]),
      ("compress_ratios", [0, 4, "8"]), ("compress_ratios", 4), ("num_hash_layers", -1),
      ("index_n_heads", 0), ("index_n_heads", nil), ("index_head_dim", 4), ("index_topk", 0),
      ("rope_theta", 0), ("rope_theta", 1), ("compress_rope_theta", "big"), ("rope_scaling", "yarn"),
      ("attention_bias", "no"), ("scoring_func", 3),
    ] as [(String, JSON?)])
  func valueIsRefused(key: String, value: JSON?) throws {
    var tiny = TinyV4()
    if key == "partial_rotary_factor" || value != nil || tiny.config.contains(where: { $0.key == key }) {
      tiny.set(key, value)
    }
    let text = tiny.configText
    let error = try #require(throws: FormatError.self) { try read(text) }
    // Layers without ratios are missed in the list of ratios.
    let subject = key == "num_hidden_layers" && value?.integer == 4 ? "compress_ratios" : key
    #expect(error.code == .configValue && error.file == "config.json" && error.subject == subject, "\(error)")
    let place = try #require(error.offset)
    if let value, subject == key {
      let rest = String(decoding: Array(text.utf8)[place...], as: UTF8.self)
      #expect(rest.hasPrefix(value.array != nil ? "[" : value.text()), "byte \(place) is not the value")
    }
  }

  @Test(
    arguments: [
      ("factor", 0), ("factor", nil), ("factor", "4"), ("beta_fast", 0), ("beta_slow", -1),
      ("original_max_position_embeddings", 0),
    ] as [(String, JSON?)])
  func valueOfTheScalingIsRefused(key: String, value: JSON?) throws {
    var members: [(String, JSON)] = [("type", "yarn"), ("factor", 4)]
    members.removeAll { $0.0 == key }
    if let value { members.append((key, value)) }
    var tiny = TinyV4()
    tiny.set("rope_scaling", JSON(members: members))
    let error = try #require(throws: FormatError.self) { try read(tiny.configText) }
    #expect(error.code == .configValue && error.subject == key, "\(error)")
  }

  /// The saved dialect's lists.
  @Test(
    arguments: [
      ("layer_types", ["sliding_attention"]), ("layer_types", ["sliding_attention", "full_attention", "x"]),
      ("layer_types", ["sliding_attention", 4, 8]), ("layer_types", "sliding_attention"),
      ("mlp_layer_types", ["moe"]), ("mlp_layer_types", ["moe", "dense", "moe"]),
    ] as [(String, JSON)])
  func listIsRefused(key: String, value: JSON) throws {
    var tiny = TinyV4()
    tiny.set(key, value)
    let error = try #require(throws: FormatError.self) { try read(tiny.configText) }
    #expect(error.code == .configValue && error.subject == key, "\(error)")
  }

  @Test func ratesAreBounded() throws {
    var tiny = TinyV4()
    tiny.set("layer_types", ["sliding_attention", "compressed_sparse_attention", "sliding_attention"])
    tiny.set("compress_rates", ["compressed_sparse_attention": 0])
    let error = try #require(throws: FormatError.self) { try read(tiny.configText) }
    #expect(error.code == .configValue && error.subject == "compressed_sparse_attention", "\(error)")
  }

  /// Well-formed, and not what this family computes.
  @Test(
    arguments: [
      ("scoring_func", "sigmoid"), ("topk_method", "greedy"), ("hidden_act", "gelu"),
      ("attention_bias", true),
      ("mlp_bias", true), ("rope_scaling", ["type": "linear", "factor": 4]),
      ("rope_scaling", ["type": "yarn", "factor": 4, "attention_factor": 1.2]),
      (
        "rope_parameters",
        ["main": ["rope_type": "yarn", "factor": 2], "compress": ["rope_type": "default"]]
      ),
    ] as [(String, JSON)])
  func variantIsUnsupported(key: String, value: JSON) throws {
    var tiny = TinyV4()
    tiny.set(key, value)
    let error = try #require(throws: RequestError.self) { try read(tiny.configText) }
    #expect(error.kind == .unsupported && error.problem.contains("config.json"), "\(error)")
  }

  /// A few bytes of config.json may not ask for gigabytes of names.
  @Test func expertsOfAllLayersAreBounded() throws {
    var tiny = TinyV4()
    tiny.set("compress_ratios", nil)
    tiny.set("num_hidden_layers", 4096)
    tiny.set("n_routed_experts", 4096)
    let error = try #require(throws: FormatError.self) { try read(tiny.configText) }
    #expect(error.code == .configValue && error.subject == "n_routed_experts", "\(error)")
  }
}

@Suite struct ModelFamiliesTests {
  @Test func unknownTypeIsUnsupportedAndListsWhatIsKnown() throws {
    let error = try #require(throws: RequestError.self) {
      try ModelFamilies.family(of: ["model_type": "rwkv"], file: "config.json")
    }
    #expect(error.kind == .unsupported && error.problem.contains("rwkv"))
    for family in ModelFamilies.all {
      for type in family.modelTypes { #expect(error.help?.contains(type) == true) }
    }
  }

  @Test(arguments: [["hidden_size": 4], ["model_type": 4], ["model_type": JSON(nil as String?)]] as [JSON])
  func missingTypeIsRefused(config: JSON) throws {
    let error = try #require(throws: FormatError.self) {
      try ModelFamilies.family(of: config, file: "config.json")
    }
    #expect(error.code == .configValue && error.subject == "model_type")
  }
}

@Suite struct ConfigReaderTests {
  private let reader: ConfigReader

  init() throws {
    let text = #"""
      {"whole": 4, "float": 4.0, "half": 4.5, "text": "t", "yes": true, "none": null, "list": [1, 2],
       "words": ["a", "b"], "object": {"inner": 7}, "huge": 1e999, "big": 9223372036854775808}
      """#
    reader = ConfigReader(try JSON.scan(text), file: "c.json")
  }

  @Test func values() throws {
    #expect(try reader.integer("whole", in: 1...5) == 4)
    #expect(try reader.integer("float", in: 1...5) == 4)
    #expect(try reader.integer("none", in: 1...5, default: 3) == 3)
    #expect(try reader.number("half", in: 0...5) == 4.5)
    #expect(try reader.number("absent", in: 0...5, default: 2) == 2)
    #expect(try reader.bool("yes", default: false))
    #expect(try !reader.bool("none", default: false))
    #expect(try reader.string("text") == "t")
    #expect(try reader.string("none") == nil)
    #expect(try reader.strings("words") == ["a", "b"])
    #expect(try reader.integers("list", in: 0...2) == [1, 2])
    #expect(try reader.object("object")?.integer("inner", in: 0...9) == 7)
  }

  @Test func refusalsNameKeyByteFoundAndExpected() throws {
    func refuse(_ key: String, _ problem: String, _ body: () throws -> Void) throws {
      let error = try #require(throws: FormatError.self) { try body() }
      #expect(error.code == .configValue && error.file == "c.json" && error.subject == key)
      #expect(error.problem == problem && error.offset == (reader.json[key]?.offset ?? 0))
    }
    let whole = "a whole number from 1 to 3"
    try refuse("whole", "found 4, expected \(whole)") { _ = try reader.integer("whole", in: 1...3) }
    try refuse("half", "found a fractional number, expected \(whole)") {
      _ = try reader.integer("half", in: 1...3)
    }
    try refuse("big", "found 9.223372036854776e+18, expected a whole number of at least 1") {
      _ = try reader.integer("big", in: 1...(.max))
    }
    try refuse("absent", "is missing, expected \(whole)") { _ = try reader.integer("absent", in: 1...3) }
    try refuse("none", "found null, expected true or false, or no such key, which means true") {
      _ = try reader.bool("none", default: true)
    }
    try refuse("none", "is missing, expected a number") { _ = try reader.number("none", in: 0...1) }
    try refuse("huge", "found inf, expected 0.0 to 1.0") { _ = try reader.number("huge", in: 0...1) }
    try refuse("text", "found a string, expected true or false") {
      _ = try reader.bool("text", default: true)
    }
    try refuse("yes", "found a truth value, expected a string") { _ = try reader.string("yes") }
    try refuse("list", "holds a whole number, expected strings") { _ = try reader.strings("list") }
    try refuse("list", "holds 2, expected a whole number from 0 to 1") {
      _ = try reader.integers("list", in: 0...1)
    }
    try refuse("object", "found an object, expected a list") { _ = try reader.strings("object") }
    try refuse("text", "found a string, expected an object") { _ = try reader.object("text") }
  }

  @Test func unsupportedNamesWhatIsSupported() throws {
    try reader.requireSupported("text", ["s", "t"])
    try reader.requireSupported("absent", [])
    let error = try #require(throws: RequestError.self) { try reader.requireSupported("text", ["s", "u"]) }
    #expect(error.kind == .unsupported && error.help == "supported: s, u")
  }
}
