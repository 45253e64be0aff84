// config.json of the plain decoders: two spellings, one model; and every value that is refused.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

/// A fixture's configuration with some keys set (nil: taken out); of a wrapper the text model's.
private func config(_ name: String, _ changes: [(String, JSON?)] = []) throws -> JSON {
  let bytes = try readSmallFile(
    fixture(name.replacing("_text/", with: "/").replacing("_text.", with: ".")), limit: 1 << 20,
    code: .configJSON)
  let whole = try JSON.scan(bytes, limits: JSONLimits(allowsNonFinite: true))
  let object = try #require(whole["text_config"]?.object ?? whole.object)
  let changed = Set(changes.map(\.0))
  let members =
    zip(object.keys, object.values).filter { !changed.contains($0.0) }
    + changes.compactMap { key, value in value.map { (key, $0) } }
  return try JSON.scan(JSON(members: members).text())
}

private func family(_ config: JSON) throws -> any DecoderFamily {
  try #require(try ModelFamilies.family(of: config, file: "config.json") as? any DecoderFamily)
}

private func published(_ name: String, _ changes: [(String, JSON?)] = []) throws -> any DecoderFamily {
  try family(config("models/\(name)/config.json", changes))
}

/// Every plain decoder among the families has a golden checkpoint of its name.
private let families = ModelFamilies.all.filter { $0 is any DecoderFamily.Type }.map { $0.modelTypes[0] }

@Suite struct DecoderConfigTests {
  @Test(arguments: families)
  func bothSpellingsGiveOneModel(name: String) throws {
    let hub = try published(name)
    let saved = try family(config("configs/\(name).json"))
    #expect(String(describing: hub.decoder) == String(describing: saved.decoder))
    #expect(hub.weights.map(\.name) == saved.weights.map(\.name))
    #expect(hub.weights.map(\.shape) == saved.weights.map(\.shape))
    #expect(hub.weights.map(\.spellings) == saved.weights.map(\.spellings))
  }

  @Test(arguments: families)
  func weightNamesAreDifferentAndEveryDialectSpellsThem(name: String) throws {
    let family = try published(name)
    #expect(Set(family.weights.map(\.name)).count == family.weights.count)
    #expect(family.weights.allSatisfy { $0.spellings.count == family.dialects.count })
    for column in family.dialects.indices {
      #expect(Set(family.weights.map { $0.spellings[column] }).count == family.weights.count)
    }
  }

  /// What every family reads.
  @Test(
    arguments: families,
    [
      ("vocab_size", nil), ("vocab_size", 0), ("hidden_size", "64"), ("num_attention_heads", 0),
      ("num_attention_heads", nil), ("num_key_value_heads", 0), ("num_key_value_heads", 3),
      ("num_key_value_heads", 8), ("head_dim", 0), ("head_dim", 65537), ("rms_norm_eps", nil),
      ("num_hidden_layers", 0), ("num_hidden_layers", 4097), ("num_experts_per_tok", 0),
      ("num_experts_per_tok", 9), ("num_experts_per_tok", nil), ("intermediate_size", 0),
      ("intermediate_size", nil), ("rope_theta", nil), ("rope_theta", 1),
      ("rope_parameters", 5), ("rotary_dim", 34),
      ("rotary_dim", 7), ("partial_rotary_factor", 0), ("tie_word_embeddings", 1),
    ] as [(String, JSON?)])
  func valueIsRefused(name: String, change: (String, JSON?)) throws {
    var changes = [change]
    // Experts, or one dense layer; early Llamas leave out the base of the rotation.
    let isDense = try published(name).dimensions.experts == 0
    if change.0 == (isDense ? "num_experts_per_tok" : "intermediate_size") { return }
    if name == "llama", change.0 == "rope_theta", change.1 == nil { return }
    // Nothing is rotated, and the norms' number has another name.
    let unread = ["rms_norm_eps", "rope_theta", "rope_parameters", "rotary_dim", "partial_rotary_factor"]
    if name == "nemotron_h", unread.contains(change.0) { return }
    // A family that has it both ways reads the count of channels.
    if change.0 == "partial_rotary_factor" {
      changes.append(("rotary_dim", nil))
      if try config("models/\(name)/config.json")["rope_parameters"] != nil {
        changes.append(("rope_parameters", ["rope_type": "default", "rope_theta": 10000]))
      }
    }
    // Of two places for the base, neither may say it.
    if change.0 == "rope_theta", change.1 == nil { changes.append(("rope_parameters", nil)) }
    let changed = try config("models/\(name)/config.json", changes)
    let error = try #require(throws: FormatError.self) { try family(changed) }
    #expect(
      error.code == .configValue && error.file == "config.json" && error.subject == change.0, "\(error)")
    #expect(error.offset != nil)
  }

  /// What only some families read.
  @Test(
    arguments: [
      ("mixtral", "sliding_window", 0), ("mixtral", "num_local_experts", nil), ("mixtral", "num_experts", 7),
      ("mixtral", "intermediate_size", nil), ("mixtral", "intermediate_size", 0),
      ("qwen2_moe", "shared_expert_intermediate_size", nil), ("qwen2_moe", "mlp_only_layers", [4]),
      ("qwen2_moe", "mlp_only_layers", [0, 1, 2, 3]), ("qwen2_moe", "mlp_only_layers", [-1]),
      ("qwen3_moe", "decoder_sparse_step", 5), ("qwen2_moe", "decoder_sparse_step", 0),
      ("qwen2_moe", "layer_types", ["full_attention"]), ("qwen2_moe", "norm_topk_prob", "no"),
      ("qwen2_moe", "layer_types", ["full_attention", "full_attention", "full_attention", "linear"]),
      ("qwen2_moe", "intermediate_size", nil), ("qwen3_moe", "moe_intermediate_size", 0),
      ("qwen3_moe", "num_experts", 0), ("qwen3_moe", "num_experts", nil), ("olmoe", "clip_qkv", 0),
      ("olmoe", "clip_qkv", "8"), ("glm4_moe", "n_group", 3), ("glm4_moe", "n_group", 0),
      ("hy_v3", "router_scaling_factor", 0), ("hy_v3", "num_experts", nil),
      ("hy_v3", "mlp_layer_types", ["dense"]), ("hy_v3", "expert_hidden_dim", 48),
      ("hy_v3", "first_k_dense_replace", 4), ("hy_v3", "moe_intermediate_size", nil),
      ("hy_v3", "num_nextn_predict_layers", -1), ("hy_v3", "qk_norm", "yes"),
      ("glm4_moe", "topk_group", 2), ("glm4_moe", "first_k_dense_replace", 4),
      ("glm4_moe", "first_k_dense_replace", -1), ("glm4_moe", "n_shared_experts", -1),
      ("glm4_moe", "routed_scaling_factor", 0), ("glm4_moe", "num_nextn_predict_layers", -1),
      ("minimax_m2", "attn_type_list", [1, 1, 1]), ("minimax_m2", "attn_type_list", [1, 1, 1, "full"]),
      ("gpt_oss", "layer_types", ["full_attention"]), ("gpt_oss", "sliding_window", nil),
      ("gpt_oss", "sliding_window", 0), ("gpt_oss", "swiglu_limit", 0),
      ("nemotron_h", "hybrid_override_pattern", "MEM*X"), ("nemotron_h", "hybrid_override_pattern", nil),
      ("nemotron_h", "hybrid_override_pattern", ""), ("nemotron_h", "hybrid_override_pattern", 5),
      ("nemotron_h", "layers_block_type", ["conv"]),
      ("nemotron_h", "num_hidden_layers", 4), ("nemotron_h", "n_groups", 3), ("nemotron_h", "n_groups", 0),
      ("nemotron_h", "time_step_limit", [0]), ("nemotron_h", "time_step_limit", [0, "inf"]),
      ("nemotron_h", "time_step_limit", [-1, 1]),
      ("nemotron_h", "time_step_min", -1), ("nemotron_h", "moe_latent_size", 0),
      ("nemotron_h", "moe_shared_expert_intermediate_size", nil), ("nemotron_h", "mamba_num_heads", nil),
      ("nemotron_h", "ssm_state_size", 0), ("nemotron_h", "conv_kernel", 0), ("nemotron_h", "n_group", 3),
      ("nemotron_h", "layer_norm_epsilon", 2), ("nemotron_h", "n_routed_experts", nil),
    ] as [(String, String, JSON?)])
  func valueOfAFamilyIsRefused(name: String, key: String, value: JSON?) throws {
    let changed = try config("models/\(name)/config.json", [(key, value)])
    let error = try #require(throws: FormatError.self) { try family(changed) }
    // Two names for the number of experts must agree; either may be named.
    let subjects =
      key.hasSuffix("experts") && !key.contains("shared")
      ? ["num_experts", "num_local_experts", "n_routed_experts"] : [key]
    #expect(error.code == .configValue && subjects.contains(error.subject ?? ""), "\(error)")
  }

  /// Well-formed, and not what the family computes.
  @Test(
    arguments: [
      ("mixtral", "hidden_act", "gelu"), ("olmoe", "rope_scaling", ["type": "cubic", "factor": 2]),
      ("qwen2_moe", "use_sliding_window", true), ("qwen3_moe", "use_sliding_window", true),
      ("minimax_m2", "attn_type_list", [1, 0, 1, 1]), ("minimax_m2", "scoring_func", "softmax"),
      ("minimax_m2", "shared_intermediate_size", 8), ("minimax_m2", "qk_norm_type", "per_head"),
      ("gpt_oss", "swiglu_alpha", 2), ("hy_v3", "qk_norm", false), ("hy_v3", "route_norm", false),
      ("hy_v3", "moe_router_use_sigmoid", false), ("hy_v3", "mlp_bias", true),
      ("hy_v3", "partial_rotary_factor", 0.5), ("hy_v3", "sliding_window", 8),
      ("nemotron_h", "mlp_hidden_act", "silu"),
      ("nemotron_h", "mamba_hidden_act", "gelu"), ("nemotron_h", "norm_eps", 0.001),
      ("nemotron_h", "sliding_window", 64), ("nemotron_h", "mamba_proj_bias", true),
      ("nemotron_h", "mlp_bias", true), ("nemotron_h", "n_shared_experts", 2),
      ("nemotron_h", "n_shared_experts", 0), ("nemotron_h", "block_configs", []),
    ] as [(String, String, JSON)])
  func variantIsUnsupported(name: String, key: String, value: JSON) throws {
    var changes: [(String, JSON?)] = [(key, value)]
    if name == "hy_v3", key == "sliding_window" {
      changes.append(("layer_types", ["full_attention", "sliding_attention", "full_attention"]))
    }
    let changed = try config("models/\(name)/config.json", changes)
    let error = try #require(throws: RequestError.self) { try family(changed) }
    #expect(error.kind == .unsupported && error.problem.contains("config.json"), "\(error)")
  }

  /// A few bytes of config.json may not ask for gigabytes of names.
  @Test func expertsOfAllLayersAreBounded() throws {
    let changed = try config(
      "models/mixtral/config.json", [("num_hidden_layers", 4096), ("num_local_experts", 4096)])
    let error = try #require(throws: FormatError.self) { try family(changed) }
    #expect(error.code == .configValue && error.subject == "num_hidden_layers")
  }

  /// Groups whose experts are fewer than a token needs would leave some without a score.
  @Test func keptGroupsHoldEnoughExperts() throws {
    let changed = try config(
      "models/glm4_moe/config.json", [("n_group", 8), ("topk_group", 1), ("num_experts_per_tok", 2)])
    let error = try #require(throws: FormatError.self) { try family(changed) }
    #expect(error.code == .configValue && error.subject == "topk_group")
  }

  // MARK: fields

  @Test func switchesReachTheDecoder() throws {
    #expect(
      try published("mixtral", [("sliding_window", 16)]).decoder.layers.map(\.window) == [16, 16, 16, 16])
    let qwen = try published("qwen2_moe", [("decoder_sparse_step", 2), ("mlp_only_layers", [])]).decoder
    #expect(qwen.layers.map(\.isDense) == [true, false, true, false])
    #expect(try published("olmoe", [("clip_qkv", 8)]).decoder.attention.clip == 8)
    #expect(try published("glm4_moe", [("n_shared_experts", 0)]).decoder.feedForward.shared == .none)
    #expect(try published("glm4_moe", [("n_shared_experts", 2)]).decoder.sharedWidth == 64)
    let qwen3 = try published("qwen3_moe", [("attention_bias", true)]).decoder.attention
    #expect(qwen3.hasInputBias && qwen3.hasOutputBias)
    #expect(
      try published("mixtral", [("tie_word_embeddings", true)]).weights.allSatisfy { $0.role != .outputHead })
    let types: JSON = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    let windows = try published(
      "qwen2_moe", [("layer_types", types), ("sliding_window", 8), ("use_sliding_window", true)])
    #expect(windows.decoder.layers.map(\.window) == [8, nil, nil, 8])
  }

  /// Nemotron-H's layers in a string and in both vocabularies of words; early names of its keys; the other switches.
  @Test func layersOfOneMixerAreTold() throws {
    let usual = try published("nemotron_h").decoder
    #expect(usual.layers.map(\.halves) == [.mixer, .feedForward, .mixer, .mixer, .feedForward])
    #expect(usual.layers.map(\.isLinear) == [true, false, true, false, false])
    let words: JSON = ["mamba", "moe", "mamba", "attention", "moe"]
    let early = try published(
      "nemotron_h",
      [
        ("layers_block_type", words), ("hybrid_override_pattern", nil), ("num_hidden_layers", nil),
        ("n_groups", nil), ("mamba_n_groups", 2), ("conv_kernel", 9), ("mamba_d_conv", 4),
        ("time_step_limit", nil), ("norm_eps", nil),
      ])
    #expect(String(describing: early.decoder) == String(describing: usual))
    for limit in [[0.25, 2], [0, 2]] as [JSON] {
      let error = #expect(throws: RequestError.self) {
        _ = try published("nemotron_h", [("time_step_limit", limit)])
      }
      #expect(error?.kind == .unsupported && error?.problem.contains("time_step_limit") == true)
    }
    #expect(usual.stateSpace?.leastStep == 0.001)
    let bare = try published(
      "nemotron_h", [("moe_latent_size", nil), ("use_conv_bias", false), ("use_bias", true)])
    #expect(bare.decoder.feedForward.latentWidth == nil)
    #expect(
      !bare.weights.contains { $0.name.base.contains("latent") || $0.name.base.hasSuffix("conv1d.bias") })
    #expect(bare.weights.filter { $0.name.base.hasSuffix("ssm_out.bias") }.count == 2)
    #expect(bare.weights.first { $0.name.base == "blk.1.ffn_up_exps.weight" }?.shape == [32, 64])
  }

  /// Where the list of layers is missing, every other one has a window, the first one too.
  @Test func windowsAlternate() throws {
    let layers = try published("gpt_oss", [("layer_types", nil), ("num_hidden_layers", 5)]).decoder.layers
    #expect(layers.map(\.window) == [8, nil, 8, nil, 8])
  }

  @Test func rotatedChannels() throws {
    func pairs(_ name: String, _ changes: [(String, JSON?)] = []) throws -> Int {
      try published(name, changes).decoder.attention.rope.frequencies.count
    }
    #expect(try pairs("mixtral") == 8)
    #expect(try pairs("qwen3_moe") == 16)
    #expect(try pairs("glm4_moe") == 8)
    #expect(try pairs("glm4_moe", [("partial_rotary_factor", nil)]) == 8)
    #expect(try pairs("glm4_moe", [("partial_rotary_factor", 0.25)]) == 4)
    #expect(try pairs("minimax_m2") == 8)
    #expect(try pairs("minimax_m2", [("rotary_dim", nil)]) == 16)
  }

  /// Readers go by a share or by a count of channels, and not by the same one: they must agree. null, which the frameworks take as
  /// false, is refused where no key means true.
  @Test(
    arguments: [
      ("glm4_moe", "rotary_dim", 8), ("qwen3_next", "rotary_dim", 16),
      ("minimax_m2", "partial_rotary_factor", 0.25),
      ("glm4_moe", "norm_topk_prob", JSON(.null)), ("gpt_oss", "attention_bias", JSON(.null)),
    ] as [(String, String, JSON)])
  func contradictionsAreRefused(name: String, key: String, value: JSON) throws {
    _ = try published(name)
    let error = try #require(throws: FormatError.self) {
      try family(config("models/\(name)/config.json", [(key, value)]))
    }
    #expect(error.code == .configValue && ["rotary_dim", key].contains(error.subject ?? ""), "\(error)")
    #expect(try published("glm4_moe", [("rotary_dim", 16)]).decoder.attention.rope.frequencies.count == 8)
  }

  @Test func yarnHasItsMagnitude() throws {
    let scaling: JSON = ["rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 64]
    let rope = try published("qwen3_moe", [("rope_scaling", scaling)]).decoder.attention.rope
    #expect(abs(rope.magnitude - 1.1386294) < 1e-6)  // 0.1 ln 4 + 1
    let given: JSON = [
      "rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 64, "attention_factor": 1,
    ]
    #expect(try published("qwen3_moe", [("rope_scaling", given)]).decoder.attention.rope.magnitude == 1)
  }

  /// The layers behind the last one draft tokens.
  @Test func predictionLayersAreKnown() throws {
    let drafts = try published("glm4_moe", [("num_nextn_predict_layers", 1)]).drafts
    func covers(_ name: String) -> Bool { drafts.covers(name) }
    #expect(covers("model.layers.4.eh_proj.weight") && covers("model.layers.4.mlp.experts.0.up_proj.weight"))
    #expect(!covers("model.layers.3.mlp.gate.weight") && !covers("model.layers.5.enorm.weight"))
    #expect(!covers("model.layers.40.enorm.weight"))
    #expect(try !published("glm4_moe").drafts.covers("model.layers.4.eh_proj.weight"))
    #expect(drafts.table(0).contains { $0.name.base == "blk.4.nextn.shared_head_head.weight" })
    // A block of a number has a table whatever the configuration counts, as far as experts are bounded.
    #expect(drafts.table(1 << 20).isEmpty)
  }
}
