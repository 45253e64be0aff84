// `deepseek4`: DeepSeek-V4. Every number of the family has a key.

import SmeltStorage
import SmeltTensors

/// `deepseek4`.
enum GGUFDeepSeek4: GGUFArchitecture {
  static let name = "deepseek4"
  static let modelTypes = ["deepseek_v4"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    let gating = try model.integer("expert_gating_func", default: GGUFGating.sqrtSoftplus)
    guard gating == GGUFGating.sqrtSoftplus else {
      throw RequestError(
        .unsupported, "'\(model.key("expert_gating_func"))' is \(gating) in '\(model.metadata.file)'",
        help: "supported: \(GGUFGating.sqrtSoftplus), the root of softplus")
    }
    let ratios = try model.metadata.integers(model.key("attention.compress_ratios"))
    guard let ratios else { throw model.metadata.error(model.key("attention.compress_ratios"), "is missing") }
    var members = try model.commonConfig("deepseek_v4")
    func add(_ key: String, _ value: JSON) { members.append((key, value)) }
    add("num_key_value_heads", 1)
    for (key, name) in sizes { add(key, JSON(try model.integer(name))) }
    let hasIndexer = ratios.contains(4)
    for (key, name) in indexerSizes where hasIndexer || model.hasKey(name) {
      add(key, JSON(try model.integer(name)))
    }
    add("n_shared_experts", JSON(try model.integer("expert_shared_count", default: 0)))
    add("routed_scaling_factor", JSON(try model.number("expert_weights_scale", default: 1)))
    add("norm_topk_prob", JSON(try model.bool("expert_weights_norm", default: false)))
    add("hc_eps", JSON(try model.number("hyper_connection.epsilon", default: 1e-6)))
    add("compress_rope_theta", JSON(try model.number("attention.compress_rope_freq_base", default: 160_000)))
    add("compress_ratios", JSON(ratios.map { JSON($0) }))
    add("swiglu_limit", JSON(try clamp(model)))
    add("scoring_func", "sqrtsoftplus")
    add("topk_method", "noaux_tc")
    if let scaling = try model.ropeScaling() { add("rope_scaling", scaling) }
    return members
  }

  /// Whole numbers that must be there.
  private static let sizes = [
    ("head_dim", "attention.key_length"), ("qk_rope_head_dim", "rope.dimension_count"),
    ("q_lora_rank", "attention.q_lora_rank"), ("o_groups", "attention.output_group_count"),
    ("o_lora_rank", "attention.output_lora_rank"), ("sliding_window", "attention.sliding_window"),
    ("moe_intermediate_size", "expert_feed_forward_length"), ("n_routed_experts", "expert_count"),
    ("num_experts_per_tok", "expert_used_count"), ("hc_mult", "hyper_connection.count"),
    ("hc_sinkhorn_iters", "hyper_connection.sinkhorn_iterations"), ("num_hash_layers", "hash_layer_count"),
  ]

  private static let indexerSizes = [
    ("index_n_heads", "attention.indexer.head_count"), ("index_head_dim", "attention.indexer.key_length"),
    ("index_topk", "attention.indexer.top_k"),
  ]

  /// The clamp of all experts, routed and shared: one number in all layers, as the published models have it.
  private static func clamp(_ model: GGUFModel) throws -> Double {
    var found: Double?
    for name in ["swiglu_clamp_exp", "swiglu_clamp_shexp"] {
      let key = model.key(name)
      let list: [Double]
      if case .numbers(let values)? = model.metadata[key] {
        list = values
      } else {
        list = try model.number(name).map { [$0] } ?? []
      }
      for value in list {
        guard value.isFinite, value == found ?? value else {
          throw model.metadata.error(key, "holds \(value) beside \(found ?? 0), expected one number for all")
        }
        found = value
      }
    }
    return found ?? 0
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    guard let c = (family.core as? DeepSeekV4)?.configuration else { return [] }
    var keys = GGUFKeys(Self.self)
    let ropes = try DeepSeekV4.Configuration.ropeSettings(config)
    try keys.common(
      family, config, heads: c.heads, keyHeads: 1, feedForward: nil, rope: (ropes.main, ropes.yarn),
      headWidth: c.headWidth)
    keys.add("expert_gating_func", GGUFGating.sqrtSoftplus)
    keys.add("rope.dimension_count", c.rotaryWidth)
    keys.add("attention.q_lora_rank", c.queryRank)
    keys.add("attention.sliding_window", c.window)
    keys.add("expert_feed_forward_length", c.expertWidth)
    keys.add("expert_shared_count", c.sharedExperts)
    keys.add("expert_weights_scale", shortest(c.routedScaling))
    keys.add("expert_weights_norm", c.normalizesRouting)
    let limit = c.swigluLimit.isFinite ? shortest(c.swigluLimit) : 0
    let limits = [Double](repeating: limit, count: c.layers.count)
    keys.add("swiglu_clamp_exp", limits)
    keys.add("swiglu_clamp_shexp", limits)
    keys.add("attention.indexer.head_count", c.indexHeads)
    keys.add("attention.indexer.key_length", c.indexWidth)
    keys.add("attention.indexer.top_k", c.indexKeep)
    keys.add("attention.output_group_count", c.outputGroups)
    keys.add("attention.output_lora_rank", c.outputRank)
    keys.add("attention.compress_ratios", c.layers.map(\.ratio))
    keys.add("attention.compress_rope_freq_base", ropes.compressed)
    keys.add("hyper_connection.count", c.streams)
    keys.add("hyper_connection.sinkhorn_iterations", c.sinkhornIterations)
    keys.add("hyper_connection.epsilon", shortest(c.hyperEpsilon))
    keys.add("hash_layer_count", c.hashLayers.prefix { $0 }.count)
    keys.add("embedding_length_out", c.streams * c.hidden)
    return keys.entries
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let c = (family.core as? DeepSeekV4)?.configuration else { return [] }
    let isIndexedBy4 = c.layers.allSatisfy { kind in
      if case .indexed = kind { kind.ratio == 4 } else { kind.ratio != 4 }
    }
    return messages([
      (!isIndexedBy4, "an indexer reads the ratio 4 and no other in a GGUF file"),
      (
        c.hashLayers.dropFirst(c.hashLayers.prefix { $0 }.count).contains(true),
        "layers that route by token id do not all come first here, and llama.cpp has them so"
      ),
    ])
  }
}
