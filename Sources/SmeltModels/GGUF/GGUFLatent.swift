// The architectures of families on a `LatentDecoder`: `deepseek2` for V2, V3, Kimi-K2 and GLM-4.7-Flash, `deepseek32` for V3.2; the
// others are in GGUFLatentKin.swift. The matrix that makes keys and values lies in two pieces, for the absorbed form of attention;
// older files have it whole.

import SmeltStorage
import SmeltTensors

extension GGUFModel {
  /// What `deepseek2` and `deepseek32` have alike.
  func latentConfig(_ modelType: String) throws -> [(String, JSON)] {
    let rotated = try integer("rope.dimension_count")
    let isSplit = hasKey("attention.key_length_mla")
    let keyWidth = try integer(isSplit ? "attention.key_length_mla" : "attention.key_length")
    guard keyWidth > rotated else {
      throw metadata.error(
        key(isSplit ? "attention.key_length_mla" : "attention.key_length"),
        "found \(keyWidth), expected more than the \(rotated) rotated channels")
    }
    let dense = try integer("leading_dense_block_count", default: 0)
    var members = try commonConfig(modelType)
    let heads = try integer("attention.head_count")
    func add(_ key: String, _ value: JSON) { members.append((key, value)) }
    add("num_key_value_heads", JSON(heads))
    let rank = try integer("attention.q_lora_rank", default: 0)
    if rank > 0 { add("q_lora_rank", JSON(rank)) }
    add("kv_lora_rank", JSON(try integer("attention.kv_lora_rank")))
    add("qk_rope_head_dim", JSON(rotated))
    add("qk_nope_head_dim", JSON(keyWidth - rotated))
    add(
      "v_head_dim", JSON(try integer(isSplit ? "attention.value_length_mla" : "attention.value_length")))
    add("intermediate_size", JSON(try integer("feed_forward_length")))
    add("moe_intermediate_size", JSON(try integer("expert_feed_forward_length")))
    add("n_routed_experts", JSON(try integer("expert_count")))
    add("n_shared_experts", JSON(try integer("expert_shared_count", default: 0)))
    add("num_experts_per_tok", JSON(try integer("expert_used_count")))
    add("first_k_dense_replace", JSON(dense))
    add("routed_scaling_factor", JSON(try number("expert_weights_scale", default: 1)))
    add("norm_topk_prob", JSON(try bool("expert_weights_norm", default: false)))
    add("attention_bias", JSON(has("blk.0.attn_kv_a_mqa.bias")))
    let groups = try integer("expert_group_count", default: 1)
    add("n_group", JSON(groups))
    add("topk_group", JSON(try integer("expert_group_used_count", default: groups)))
    // The conversion stores a tenth of mscale_all_dim, and its mscale is taken to be the same.
    var more: [(String, JSON)] = []
    if let tenth = try number("rope.scaling.yarn_log_multiplier") {
      let all = JSON(shortest(Float(tenth * 10)))
      more = [("mscale", all), ("mscale_all_dim", all)]
    }
    if let scaling = try ropeScaling(more) { add("rope_scaling", scaling) }
    return members
  }
}

extension GGUFKeys {
  mutating func latent(_ family: any LatentFamily, _ config: ConfigReader) throws {
    let decoder = family.decoder
    let attention = decoder.attention
    let router = decoder.feedForward.router
    let settings = try RopeSettings(config)
    let width = decoder.dense.contains(true) ? decoder.denseWidth : decoder.expertWidth
    try common(
      family, config, heads: attention.heads, keyHeads: 1, feedForward: width,
      rope: (settings.theta, settings.yarn), headWidth: nil)
    groups(router)
    add("expert_gating_func", router.score == .softmax ? GGUFGating.softmax : GGUFGating.sigmoid)
    add("attention.key_length", attention.latentWidth + attention.rotaryWidth)
    add("attention.value_length", attention.latentWidth)
    add("leading_dense_block_count", decoder.dense.prefix { $0 }.count)
    add("vocab_size", decoder.vocabulary)
    // llama.cpp wants the key in all but a few models, and reads 0 as queries without a latent.
    add("attention.q_lora_rank", attention.queryRank ?? 0)
    add("attention.kv_lora_rank", attention.latentWidth)
    add("attention.key_length_mla", attention.plainWidth + attention.rotaryWidth)
    add("attention.value_length_mla", attention.valueWidth)
    add("expert_feed_forward_length", decoder.expertWidth)
    add("expert_shared_count", decoder.sharedExperts)
    add("expert_weights_scale", shortest(router.scaling))
    if router.weighting == .normalized { add("expert_weights_norm", true) }
    add("rope.dimension_count", attention.rotaryWidth)
    if let all = try mscale(config, "mscale_all_dim") { add("rope.scaling.yarn_log_multiplier", 0.1 * all) }
  }
}

/// A magnitude of `rope_scaling`, or nil without one.
private func mscale(_ config: ConfigReader, _ key: String) throws -> Double? {
  guard let scaling = try config.ropeParameters(), scaling.value(key) != nil else { return nil }
  return try scaling.number(key, in: 0...1e6)
}

/// Where a weight of a latent attention lies, from its usual place.
func latentPlace(of spec: WeightSpec, in family: any ModelFamily, _ usual: GGUFPlace) -> GGUFPlace {
  guard case .whole(let name) = usual, name.hasSuffix(".attn_kv_b.weight"),
    let attention = (family.core as? any LatentFamily)?.decoder.attention
  else { return usual }
  let prefix = name.dropLast("kv_b.weight".count)
  return .keysAndValues(
    keys: prefix + "k_b.weight", values: prefix + "v_b.weight", heads: attention.heads,
    keyWidth: attention.plainWidth)
}

/// What llama.cpp computes otherwise in any family with latent attention.
func latentDifferences(_ family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
  guard let decoder = (family.core as? any LatentFamily)?.decoder else { return [] }
  let (part, all) = (try mscale(config, "mscale"), try mscale(config, "mscale_all_dim"))
  let isStretched = try RopeSettings(config).yarn != nil
  return messages([
    // Seen as up to 2.1e-4 in the logits of models with 1e-5.
    (
      decoder.normEpsilon != LatentAttention.innerEpsilon,
      "the norms inside of latent attention add 0.000001 here, and llama.cpp adds rms_norm_eps as in the others"
    ),
    (
      isStretched && (part ?? 0) != (all ?? 0),
      "'mscale' and 'mscale_all_dim' differ here, and a GGUF file has room for one of them"
    ),
    (
      decoder.feedForward.router.groupScore == .largest && decoder.feedForward.router.limitsGroups,
      "groups of experts are scored by their best here, and llama.cpp takes the sum of their two best"
    ),
    (
      decoder.attention.pairing == .halves,
      "the rotation turns halves here, and llama.cpp turns neighbouring channels"
    ),
  ])
}

/// What the architectures with latent attention have alike.
protocol LatentArchitecture: GGUFArchitecture {}

extension LatentArchitecture {
  static func place(of spec: WeightSpec, in family: any ModelFamily) -> GGUFPlace {
    latentPlace(of: spec, in: family, usualPlace(of: spec, in: family))
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    try latentDifferences(family, config)
  }
}

/// `deepseek2`: V2, V3, Kimi-K2, GLM-4.7-Flash.
enum GGUFDeepSeek2: LatentArchitecture {
  static let name = "deepseek2"
  static let modelTypes = ["deepseek_v3", "deepseek_v2", "glm4_moe_lite"]

  /// Conversions of other models have left the blocks that draft tokens out at all times.
  static func readsDrafts(of family: any ModelFamily) -> Bool { family.modelType == "glm4_moe_lite" }

  /// GLM-4.7-Flash as llama.cpp tells it, by the numbers of the published model. Its conversion does not say that experts are scored by
  /// a sigmoid; of the others without that key, none has a bias that chooses.
  private static func isFlash(_ model: GGUFModel, isSilent: Bool) throws -> Bool {
    let layers = try model.layers()
    if isSilent, (0..<layers).contains(where: { model.has("blk.\($0).exp_probs_b.bias") }) { return true }
    return [47, 48].contains(layers) && model.vocabulary == 154_880
  }

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    let gating = try model.integer("expert_gating_func", default: 0)
    let isFlash = try isFlash(model, isSilent: gating == 0)
    switch gating == 0 ? isFlash ? GGUFGating.sigmoid : GGUFGating.softmax : gating {
    case GGUFGating.sigmoid:
      return try model.latentConfig(isFlash ? "glm4_moe_lite" : "deepseek_v3") + [
        ("scoring_func", "sigmoid"), ("topk_method", "noaux_tc"),
      ]
    case GGUFGating.softmax:
      let groups = try model.integer("expert_group_count", default: 1)
      return try model.latentConfig("deepseek_v2") + [
        ("scoring_func", "softmax"),
        ("topk_method", JSON(groups > 1 ? "group_limited_greedy" : "greedy")),
      ]
    default:
      throw RequestError(
        .unsupported, "'\(model.key("expert_gating_func"))' is \(gating) in '\(model.metadata.file)'",
        help: "supported: \(GGUFGating.softmax) and \(GGUFGating.sigmoid)")
    }
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    if let family = family.core as? any LatentFamily { try keys.latent(family, config) }
    return keys.entries
  }
}

/// `deepseek32`: V3.2.
enum GGUFDeepSeek32: LatentArchitecture {
  static let name = "deepseek32"
  static let modelTypes = ["deepseek_v32"]

  static func readsDrafts(of family: any ModelFamily) -> Bool { true }

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.latentConfig("deepseek_v32") + [
      ("scoring_func", "sigmoid"), ("topk_method", "noaux_tc"),
      ("index_n_heads", JSON(try model.integer("attention.indexer.head_count"))),
      ("index_head_dim", JSON(try model.integer("attention.indexer.key_length"))),
      ("index_topk", JSON(try model.integer("attention.indexer.top_k"))),
    ]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any LatentFamily else { return [] }
    try keys.latent(family, config)
    keys.indexer(family.decoder)
    return keys.entries
  }
}
