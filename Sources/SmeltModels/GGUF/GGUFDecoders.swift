// The architectures of families on a `Decoder`: grouped-query attention. What llama.cpp has no key for it takes for granted;
// those numbers stand here, and a model with others is named by `differences`.

import SmeltStorage
import SmeltTensors

extension GGUFModel {
  /// Heads and rotation of a grouped-query attention.
  func decoderConfig(_ modelType: String, scaling more: [(String, JSON)] = [], hasExperts: Bool = true) throws
    -> [(String, JSON)]
  {
    var members = try commonConfig(modelType)
    let heads = try integer("attention.head_count")
    members.append(("num_key_value_heads", JSON(try integer("attention.head_count_kv", default: heads))))
    let hidden = try integer("embedding_length")
    let width = try integer("attention.key_length", default: hidden / max(1, heads))
    let valueWidth = try integer("attention.value_length", default: width)
    guard valueWidth == width else {
      throw metadata.error(
        key("attention.value_length"), "found \(valueWidth), expected \(width) as for keys")
    }
    members.append(("head_dim", JSON(width)))
    if hasExperts { members.append(("num_experts_per_tok", JSON(try integer("expert_used_count")))) }
    let rotated = try integer("rope.dimension_count", default: width)
    let scaling = try ropeScaling(more + longFactors(rotated)) ?? llama3Factors(rotated)
    members.append(("rope_scaling", scaling ?? JSON(.null)))
    return members
  }

  /// The inner width of an expert; older files have it for dense layers only.
  func expertWidth() throws -> JSON {
    JSON(try integer("expert_feed_forward_length", default: integer("feed_forward_length", default: 0)))
  }

  /// Refuses a rotation of fewer channels than a head has.
  func requireWholeRotation() throws {
    guard hasKey("rope.dimension_count") else { return }
    let hidden = try integer("embedding_length")
    let width = try integer("attention.key_length", default: hidden / max(1, integer("attention.head_count")))
    let rotated = try integer("rope.dimension_count")
    guard rotated == width else {
      throw RequestError(
        .unsupported, "'\(key("rope.dimension_count"))' is \(rotated) in '\(metadata.file)'",
        help: "supported: \(width), all channels of a head")
    }
  }
}

extension GGUFKeys {
  mutating func decoder(
    _ family: any DecoderFamily, _ config: ConfigReader, feedForward: Int? = nil, headWidth: Bool = true
  ) throws {
    let decoder = family.decoder
    let rope = try RopeSettings(config)
    try common(
      family, config, heads: decoder.attention.heads, keyHeads: decoder.attention.keyHeads,
      feedForward: feedForward, rope: (rope.theta, rope.yarn),
      headWidth: headWidth ? decoder.attention.headWidth : nil)
    if case .linear(let factor)? = rope.stretch {
      add("rope.scaling.type", "linear")
      add("rope.scaling.factor", factor)
    }
  }
}

/// What llama.cpp computes otherwise in any family with grouped-query attention.
/// - Parameter hasFactors: whether the architecture takes factors of the frequencies.
func decoderDifferences(
  _ decoder: Decoder, _ config: ConfigReader, hasFactors: Bool = false
) throws -> [String] {
  let rope = try RopeSettings(config)
  let plain = RopeSettings.magnitude(1, rope.yarn?.factor ?? 1)
  return messages([
    (
      rope.yarn?.truncates == false,
      "the bounds of YaRN's ramp are not rounded here, and llama.cpp rounds them"
    ),
    (
      rope.stretch == nil && rope.magnitude != Float(plain), "llama.cpp has its own magnitude for this YaRN"
    ),
    (rope.stretch?.isComplete(withFactors: hasFactors) == false, rope.stretch?.difference(hasFactors) ?? ""),
    (
      decoder.feedForward.experts == 0 && decoder.layers.contains { $0.window != nil },
      "attention has a window here, and llama.cpp sees everything in this architecture"
    ),
  ])
}

/// `qwen2moe`.
enum GGUFQwen2MoE: GGUFArchitecture {
  static let name = "qwen2moe"
  static let modelTypes = ["qwen2_moe"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    let shared = try model.integer(
      "expert_shared_feed_forward_length", default: model.integer("feed_forward_length"))
    return try model.decoderConfig("qwen2_moe") + [
      ("intermediate_size", JSON(try model.integer("feed_forward_length"))),
      ("moe_intermediate_size", try model.expertWidth()),
      ("shared_expert_intermediate_size", JSON(shared)),
      ("num_experts", JSON(try model.integer("expert_count"))),
      ("norm_topk_prob", false), ("qkv_bias", JSON(model.has("blk.0.attn_q.bias"))),
    ]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily else { return [] }
    try keys.decoder(
      family, config, feedForward: family.decoder.denseWidth, headWidth: config.value("head_dim") != nil)
    keys.add("expert_feed_forward_length", family.decoder.expertWidth)
    keys.add("expert_shared_feed_forward_length", family.decoder.sharedWidth)
    return keys.entries
  }

  /// The shared expert's gate is a vector in the file.
  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder else { return [] }
    return try decoderDifferences(decoder, config)
      + messages([
        (
          decoder.feedForward.router.weighting == .normalized,
          "the chosen experts' factors have the sum 1 here, and llama.cpp's qwen2moe leaves them as they are"
        )
      ])
  }
}

/// `qwen3moe`.
enum GGUFQwen3MoE: GGUFArchitecture {
  static let name = "qwen3moe"
  static let modelTypes = ["qwen3_moe"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.decoderConfig("qwen3_moe") + [
      ("intermediate_size", JSON(try model.integer("feed_forward_length", default: 0))),
      ("moe_intermediate_size", try model.expertWidth()),
      ("num_experts", JSON(try model.integer("expert_count"))),
      ("norm_topk_prob", true), ("attention_bias", JSON(model.has("blk.0.attn_q.bias"))),
    ]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily else { return [] }
    let dense = try config.integer("intermediate_size", in: 1...1 << 24, default: family.decoder.expertWidth)
    try keys.decoder(family, config, feedForward: dense)
    keys.add("expert_feed_forward_length", family.decoder.expertWidth)
    return keys.entries
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder else { return [] }
    return try decoderDifferences(decoder, config)
      + messages([
        (
          decoder.feedForward.router.weighting != .normalized,
          "the chosen experts' factors stay as they are here, and llama.cpp's qwen3moe brings their sum to 1"
        )
      ])
  }
}

/// `qwen3vlmoe`: the text model of Qwen3-VL with experts.
enum GGUFQwen3VLMoE: GGUFArchitecture {
  static let name = "qwen3vlmoe"
  static let modelTypes = ["qwen3_vl_moe_text"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    var members = try GGUFQwen3MoE.config(model).map {
      $0.0 == "model_type" ? ($0.0, JSON(modelTypes[0])) : $0
    }
    if let sections = try model.metadata.integers(model.key("rope.dimension_sections")) {
      members.removeAll { $0.0 == "rope_scaling" }
      let sections = JSON(sections.prefix(3).map { JSON($0) })
      members.append(
        ("rope_scaling", ["rope_type": "default", "mrope_interleaved": true, "mrope_section": sections]))
    }
    return members
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily else { return [] }
    let dense = try config.integer("intermediate_size", in: 1...1 << 24, default: family.decoder.expertWidth)
    try keys.decoder(family, config, feedForward: dense)
    keys.add("expert_feed_forward_length", family.decoder.expertWidth)
    let pairs = family.decoder.attention.rope.frequencies.count
    try keys.sections(config, default: [pairs - 2 * (pairs / 3), pairs / 3, pairs / 3])
    return keys.entries
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    try GGUFQwen3MoE.differences(of: family, config)
  }
}

/// `olmoe`.
enum GGUFOLMoE: GGUFArchitecture {
  static let name = "olmoe"
  static let modelTypes = ["olmoe"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    var members = try model.decoderConfig("olmoe")
    members += [
      ("intermediate_size", try model.expertWidth()),
      ("num_experts", JSON(try model.integer("expert_count"))), ("norm_topk_prob", false),
    ]
    if let clip = try model.number("attention.clamp_kqv") { members.append(("clip_qkv", JSON(clip))) }
    return members
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily else { return [] }
    try keys.decoder(
      family, config, feedForward: family.decoder.expertWidth, headWidth: config.value("head_dim") != nil)
    if let clip = family.decoder.attention.clip { keys.add("attention.clamp_kqv", Double(clip)) }
    return keys.entries
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder else { return [] }
    return try decoderDifferences(decoder, config)
      + messages([
        (
          decoder.feedForward.router.weighting == .normalized,
          "the chosen experts' factors have the sum 1 here, and llama.cpp's olmoe leaves them as they are"
        ),
        (
          decoder.attention.clip != nil,
          "queries, keys and values are clamped here, and llama.cpp's olmoe does not clamp them"
        ),
      ])
  }
}

/// `gpt-oss`.
enum GGUFGPTOSS: GGUFArchitecture {
  static let name = "gpt-oss"
  static let modelTypes = ["gpt_oss"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    let layers = try model.layers()
    let types = (0..<layers).map { JSON($0 % 2 == 0 ? "sliding_attention" : "full_attention") }
    // The published models say `truncate: false`; the file has no key for it.
    return try model.decoderConfig("gpt_oss", scaling: [("truncate", false)]) + [
      ("intermediate_size", try model.expertWidth()),
      ("num_local_experts", JSON(try model.integer("expert_count"))),
      ("sliding_window", JSON(try model.integer("attention.sliding_window"))),
      ("layer_types", JSON(types)), ("attention_bias", JSON(model.has("blk.0.attn_q.bias"))),
      ("swiglu_limit", JSON(try model.number("swiglu_limit", default: 7))),
    ]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily else { return [] }
    let decoder = family.decoder
    try keys.decoder(family, config, feedForward: decoder.expertWidth)
    if let window = decoder.layers.compactMap(\.window).first { keys.add("attention.sliding_window", window) }
    keys.add("expert_feed_forward_length", decoder.expertWidth)
    return keys.entries
  }

  static func place(of spec: WeightSpec, in family: any ModelFamily) -> GGUFPlace {
    postAttentionPlace(usualPlace(of: spec, in: family))
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder else { return [] }
    let alternates = decoder.layers.enumerated().allSatisfy { ($1.window != nil) == ($0 % 2 == 0) }
    return try decoderDifferences(decoder, config)
      + messages([
        (
          try config.number("swiglu_limit", in: 0...1e9, default: 7) != 7,
          "the experts' clamp is not 7 here, and llama.cpp's gpt-oss always clamps at 7"
        ),
        (
          !alternates,
          "windows do not alternate from the first layer on here, and llama.cpp's gpt-oss has them so"
        ),
      ])
  }
}

/// `glm4moe`.
enum GGUFGLM4MoE: GGUFArchitecture {
  static let name = "glm4moe"
  static let modelTypes = ["glm4_moe"]

  static func readsDrafts(of family: any ModelFamily) -> Bool { true }

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    let hidden = try model.integer("embedding_length")
    let heads = try model.integer("attention.head_count")
    let width = try model.integer("attention.key_length", default: hidden / max(1, heads))
    let rotated = try model.integer("rope.dimension_count", default: width / 2)
    return try model.decoderConfig("glm4_moe") + [
      ("partial_rotary_factor", JSON(Double(rotated) / Double(max(1, width)))),
      ("intermediate_size", JSON(try model.integer("feed_forward_length"))),
      ("moe_intermediate_size", try model.expertWidth()),
      ("n_routed_experts", JSON(try model.integer("expert_count"))),
      ("n_shared_experts", JSON(try model.integer("expert_shared_count", default: 0))),
      ("first_k_dense_replace", JSON(try model.integer("leading_dense_block_count", default: 0))),
      ("n_group", JSON(try model.integer("expert_group_count", default: 1))),
      ("topk_group", JSON(try model.integer("expert_group_used_count", default: 1))),
      ("norm_topk_prob", JSON(try model.bool("expert_weights_norm", default: false))),
      ("routed_scaling_factor", JSON(try model.number("expert_weights_scale", default: 1))),
      ("attention_bias", JSON(model.has("blk.0.attn_q.bias"))),
      ("use_qk_norm", JSON(model.has("blk.0.attn_q_norm.weight"))),
    ]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily else { return [] }
    let decoder = family.decoder
    let router = decoder.feedForward.router
    try keys.decoder(family, config, feedForward: decoder.denseWidth)
    keys.groups(router)
    keys.add("expert_gating_func", GGUFGating.sigmoid)
    keys.add("rope.dimension_count", 2 * decoder.attention.rope.frequencies.count)
    keys.add("expert_feed_forward_length", decoder.expertWidth)
    keys.add("expert_shared_count", decoder.sharedWidth / max(1, decoder.expertWidth))
    keys.add("leading_dense_block_count", decoder.layers.prefix(while: \.isDense).count)
    keys.add("expert_weights_scale", shortest(router.scaling))
    keys.add("expert_weights_norm", router.weighting == .normalized)
    return keys.entries
  }

  static func place(of spec: WeightSpec, in family: any ModelFamily) -> GGUFPlace {
    postAttentionPlace(usualPlace(of: spec, in: family))
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder else { return [] }
    return try decoderDifferences(decoder, config)
  }
}

/// `minimax-m2`.
enum GGUFMiniMaxM2: GGUFArchitecture {
  static let name = "minimax-m2"
  static let modelTypes = ["minimax_m2"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    let gating = try model.integer("expert_gating_func", default: GGUFGating.sigmoid)
    guard gating == GGUFGating.sigmoid else {
      throw RequestError(
        .unsupported, "'\(model.key("expert_gating_func"))' is \(gating) in '\(model.metadata.file)'",
        help: "supported: \(GGUFGating.sigmoid), the sigmoid")
    }
    let hasNorm = model.has("blk.0.attn_q_norm.weight")
    return try model.decoderConfig("minimax_m2") + [
      ("intermediate_size", try model.expertWidth()),
      ("num_local_experts", JSON(try model.integer("expert_count"))),
      ("rotary_dim", JSON(try model.integer("rope.dimension_count"))),
      ("scoring_func", "sigmoid"), ("use_qk_norm", JSON(hasNorm)), ("qk_norm_type", "per_layer"),
      ("use_routing_bias", JSON(model.has("blk.0.exp_probs_b.bias"))),
    ]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily else { return [] }
    try keys.decoder(family, config, feedForward: family.decoder.expertWidth)
    keys.add("expert_gating_func", GGUFGating.sigmoid)
    keys.add("expert_feed_forward_length", family.decoder.expertWidth)
    keys.add("rope.dimension_count", 2 * family.decoder.attention.rope.frequencies.count)
    return keys.entries
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder else { return [] }
    return try decoderDifferences(decoder, config)
  }
}

/// The number with the fewest digits that is this float32: 2.5, not 2.5000000001.
func shortest(_ value: Float) -> Double { Double(value.description) ?? Double(value) }
