// The architectures of Nemotron-H: `nemotron_h` without experts, `nemotron_h_moe` with them. What a layer is follows from two lists: a
// layer with heads of keys is attention, one with a feed-forward length has experts (or is dense), one with neither is a state
// space. Vectors of a state space stand as matrices, rates of decay as they are used. Formats/gguf.md, section 6.

import SmeltStorage
import SmeltTensors

extension GGUFModel {
  /// A config.json of the family.
  fileprivate func nemotronConfig(hasExperts: Bool) throws -> [(String, JSON)] {
    let layers = try layers()
    let all = try integer("block_count")
    let keyHeads = try integers("attention.head_count_kv", count: all)
    let widths = try integers("feed_forward_length", count: all)
    let heads = try integer("attention.head_count")
    let epsilon = try number("attention.layer_norm_rms_epsilon") ?? number("attention.layer_norm_epsilon")
    let pattern = (0..<layers).map { layer in
      widths[layer] > 0 ? hasExperts ? "E" : "-" : keyHeads[layer] > 0 ? "*" : "M"
    }
    func hasAny(_ part: String) -> Bool { (0..<all).contains { has("blk.\($0).\(part)") } }
    var members: [(String, JSON)] = [
      ("architectures", ["NemotronHForCausalLM"]), ("model_type", "nemotron_h"),
      ("vocab_size", JSON(vocabulary)), ("hidden_size", JSON(try integer("embedding_length"))),
      ("num_hidden_layers", JSON(layers)), ("hybrid_override_pattern", JSON(pattern.joined())),
      ("num_attention_heads", JSON(heads)),
      ("num_key_value_heads", JSON(keyHeads.max().flatMap { $0 > 0 ? $0 : nil } ?? heads)),
      (
        "head_dim",
        JSON(try integer("attention.key_length", default: integer("embedding_length") / max(1, heads)))
      ),
      ("layer_norm_epsilon", JSON(epsilon ?? 1e-5)), ("tie_word_embeddings", JSON(!has("output.weight"))),
      ("mlp_hidden_act", "relu2"), ("mamba_hidden_act", "silu"), ("torch_dtype", "bfloat16"),
      ("attention_bias", JSON(hasAny("attn_q.bias"))), ("mlp_bias", JSON(hasAny("ffn_up.bias"))),
    ]
    func add(_ key: String, _ value: JSON) { members.append((key, value)) }
    if hasKey("context_length") { add("max_position_embeddings", JSON(try integer("context_length"))) }
    if pattern.contains("M") {
      let (rank, inner) = (try integer("ssm.time_step_rank"), try integer("ssm.inner_size"))
      guard rank > 0, inner % rank == 0 else {
        throw metadata.error(key("ssm.inner_size"), "found \(inner), expected a multiple of \(rank) heads")
      }
      add("mamba_num_heads", JSON(rank))
      add("mamba_head_dim", JSON(inner / rank))
      add("ssm_state_size", JSON(try integer("ssm.state_size")))
      add("n_groups", JSON(try integer("ssm.group_count")))
      add("conv_kernel", JSON(try integer("ssm.conv_kernel")))
      add("use_conv_bias", JSON(hasAny("ssm_conv1d.bias")))
    }
    if let width = widths.max(), width > 0 { add("intermediate_size", JSON(width)) }
    for (name, token) in [("bos_token_id", "bos"), ("eos_token_id", "eos")] {
      if let id = try metadata.integer("tokenizer.ggml.\(token)_token_id") { add(name, JSON(id)) }
    }
    guard hasExperts else { return members }
    add("n_routed_experts", JSON(try integer("expert_count")))
    add("n_shared_experts", JSON(try integer("expert_shared_count", default: 1)))
    add("num_experts_per_tok", JSON(try integer("expert_used_count")))
    add(
      "moe_intermediate_size",
      JSON(try integer("expert_feed_forward_length", default: widths.max() ?? 0)))
    add("moe_shared_expert_intermediate_size", JSON(try integer("expert_shared_feed_forward_length")))
    if hasKey("moe_latent_size") { add("moe_latent_size", JSON(try integer("moe_latent_size"))) }
    add("n_group", JSON(try integer("expert_group_count", default: 1)))
    add("topk_group", JSON(try integer("expert_group_used_count", default: 1)))
    add("norm_topk_prob", JSON(try bool("expert_weights_norm", default: false)))
    add("routed_scaling_factor", JSON(try number("expert_weights_scale", default: 1)))
    if hasKey("nextn_predict_layers") {
      add("num_nextn_predict_layers", JSON(try integer("nextn_predict_layers")))
      add("mtp_hybrid_override_pattern", "*E")
    }
    return members
  }
}

/// What the architectures with experts and without have alike.
protocol NemotronArchitecture: GGUFArchitecture {
  /// Whether some layers have experts.
  static var hasExperts: Bool { get }
}

extension NemotronArchitecture {
  static var modelTypes: [String] { NemotronH.modelTypes }

  static func stands(for family: any ModelFamily) -> Bool {
    modelTypes.contains(family.modelType) && (family.dimensions.experts > 0) == hasExperts
  }

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.nemotronConfig(hasExperts: hasExperts)
  }

  /// The keys of both.
  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws
    -> [(String, MetadataValue)]
  {
    var keys = GGUFKeys(Self.self)
    guard let decoder = (family.core as? NemotronH)?.decoder else { return [] }
    let drafts = readsDrafts(of: family) ? try config.declaredDrafts() : 0
    let attention = decoder.attention
    let width = decoder.feedForward.experts > 0 ? decoder.expertWidth : decoder.denseWidth
    keys.add("block_count", decoder.layers.count + drafts)
    if drafts > 0 { keys.add("nextn_predict_layers", drafts) }
    try keys.context(family, config)
    keys.add("embedding_length", decoder.hidden)
    // A block that drafts tokens has both halves.
    keys.add(
      "feed_forward_length",
      decoder.layers.map { $0.halves == .feedForward ? width : 0 } + [Int](repeating: width, count: drafts))
    keys.add("attention.head_count", attention.heads)
    keys.add(
      "attention.head_count_kv",
      decoder.layers.map { $0.halves == .mixer && !$0.isLinear ? attention.keyHeads : 0 }
        + [Int](repeating: attention.keyHeads, count: drafts))
    let epsilon = try config.number("layer_norm_epsilon", in: 0...1, default: 1e-5)
    keys.add("attention.layer_norm_rms_epsilon", epsilon)
    keys.add("attention.layer_norm_epsilon", epsilon)
    keys.add("attention.key_length", attention.headWidth)
    keys.add("attention.value_length", attention.headWidth)
    keys.add("vocab_size", decoder.vocabulary)
    keys.add("rope.dimension_count", attention.headWidth)
    keys.add("rope.scaling.finetuned", false)
    let mixer = decoder.stateSpace
    keys.add("ssm.conv_kernel", mixer?.kernel ?? 4)
    keys.add("ssm.state_size", mixer?.space.stateWidth ?? 0)
    keys.add("ssm.group_count", mixer?.space.groups ?? 1)
    keys.add("ssm.inner_size", mixer?.inner ?? 0)
    keys.add("ssm.time_step_rank", mixer?.space.heads ?? 0)
    guard decoder.feedForward.experts > 0 else { return keys.entries }
    let router = decoder.feedForward.router
    keys.add("expert_count", decoder.feedForward.experts)
    keys.add("expert_used_count", router.perToken)
    keys.add("expert_feed_forward_length", decoder.expertWidth)
    keys.add("expert_shared_feed_forward_length", decoder.sharedWidth)
    keys.add("expert_shared_count", 1)
    keys.add("expert_weights_norm", router.weighting == .normalized)
    keys.add("expert_weights_scale", shortest(router.scaling))
    keys.groups(router)
    if let latent = decoder.feedForward.latentWidth { keys.add("moe_latent_size", latent) }
    return keys.entries
  }

  /// Where both keep a weight.
  static func place(of spec: WeightSpec, in family: any ModelFamily) -> GGUFPlace {
    let usual = postAttentionPlace(usualPlace(of: spec, in: family))
    guard case .whole(let name) = usual, let space = (family.core as? NemotronH)?.decoder.stateSpace?.space
    else { return usual }
    let column = GGUFPiece.Step.shape([space.heads, 1])
    switch name.split(separator: ".", maxSplits: 2).last {
    case "ssm_a": return .arranged([GGUFPiece(name, [.numbers(.negativeExponential), column])])
    case "ssm_d": return .arranged([GGUFPiece(name, [column])])
    case "ssm_norm.weight":
      let width = space.heads / space.groups * space.headWidth
      return .arranged([GGUFPiece(name, [.shape([space.groups, width])])])
    default: return usual
    }
  }

  /// What llama.cpp computes otherwise in both.
  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? NemotronH)?.decoder else { return [] }
    let mixer = decoder.stateSpace
    let least = mixer?.leastStep ?? 0
    return messages([
      (
        least > 0,
        "steps of the state space below \(least) are raised to it here, as in transformers, and llama.cpp takes them as they are"
      ),
      (
        decoder.feedForward.experts > 0 && decoder.layers.contains(where: \.isDense),
        "some layers are dense here, and llama.cpp's \(Self.name) has experts in all"
      ),
    ])
  }
}

/// `nemotron_h`.
enum GGUFNemotronH: NemotronArchitecture {
  static let name = "nemotron_h"
  static let hasExperts = false
}

/// `nemotron_h_moe`.
enum GGUFNemotronHMoE: NemotronArchitecture {
  static let name = "nemotron_h_moe"
  static let hasExperts = true

  static func readsDrafts(of family: any ModelFamily) -> Bool { true }
}
