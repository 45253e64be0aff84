// What a family took from its configuration, as values that can be compared: two models run alike when these are the same,
// however their config.json spell them. The values are read off the family's own fields, so that none can be forgotten.

import SmeltStorage

/// One value of an effective configuration.
package struct FamilySetting: Sendable, Hashable {
  /// Every value of a configuration whose architecture is not known, by its path: any of them may be what an engine computes with.
  static func leaves(of config: JSON) -> [FamilySetting] {
    let free: Set<String> = [
      "torch_dtype", "dtype", "transformers_version", "architectures", "_name_or_path", "use_cache",
      "auto_map",
      "quantization_config", "compression_config", "expert_dtype",
    ]
    var settings: [FamilySetting] = []
    func walk(_ value: JSON, _ path: String) {
      if let object = value.object {
        for (key, inner) in zip(object.keys, object.values) where !free.contains(key) {
          walk(inner, path.isEmpty ? key : "\(path).\(key)")
        }
      } else if !path.isEmpty {
        settings.append(FamilySetting(key: path, value: value.text(), changesNumbers: true, numbers: nil))
      }
    }
    walk(config, "")
    return settings
  }

  /// The key of config.json that it comes from, as the hub spells it.
  package let key: String
  /// The value as text.
  package let value: String
  /// Whether the forward pass depends on it beyond the shapes of the weights.
  package let changesNumbers: Bool
  /// The numbers that the pass uses, where they are made from several settings: only they decide.
  let numbers: [Float]?

  /// Whether two settings of one key make the pass compute the same.
  package func isSame(as other: FamilySetting) -> Bool {
    if let numbers, let others = other.numbers { return numbers == others }
    return value == other.value
  }

  /// All fields of a family's configuration.
  static func all(of configuration: Any) -> [FamilySetting] {
    var settings: [FamilySetting] = []
    collect(configuration, path: [], into: &settings)
    return settings
  }

  private static func collect(_ value: Any, path: [String], into settings: inout [FamilySetting]) {
    if let rope = value as? RotaryFrequencies {
      let place = ropes[path.joined(separator: ".")] ?? ""
      return collect(rope, place, &settings)
    }
    let mirror = Mirror(reflecting: value)
    if mirror.displayStyle == .optional, let inner = mirror.children.first {
      return collect(inner.value, path: path, into: &settings)
    }
    if mirror.displayStyle == .struct, !mirror.children.isEmpty {
      for child in mirror.children {
        collect(child.value, path: path + [child.label ?? "?"], into: &settings)
      }
      return
    }
    let name = path.joined(separator: ".")
    if mirror.displayStyle == .collection, let first = mirror.children.first,
      Mirror(reflecting: first.value).displayStyle == .struct
    {
      // One setting for each field of the elements: what layer is like what.
      for (place, field) in Mirror(reflecting: first.value).children.enumerated() {
        let values = mirror.children.map { element in
          text(Array(Mirror(reflecting: element.value).children)[place].value)
        }
        append("\(name).\(field.label ?? "?")", runs(values), &settings)
      }
    } else if mirror.displayStyle == .collection {
      append(name, runs(mirror.children.map { text($0.value) }), &settings)
    } else {
      append(name, text(value), &settings)
    }
  }

  private static func append(_ path: String, _ value: String, _ settings: inout [FamilySetting]) {
    settings.append(
      FamilySetting(
        key: keys[path] ?? path, value: words[value] ?? value, changesNumbers: !shapes.contains(path),
        numbers: nil))
  }

  /// What stands before the keys of a rotation that is not the only one.
  private static let ropes = [
    "compressedRope": "compress", "sliding.rope": "sliding_attention", "full.rope": "full_attention",
  ]

  private static func collect(_ rope: RotaryFrequencies, _ place: String, _ settings: inout [FamilySetting]) {
    func append(_ key: String, _ value: String) {
      settings.append(
        FamilySetting(
          key: key, value: value, changesNumbers: true,
          numbers: rope.frequencies + rope.frequencies(length: .max >> 20) + [rope.magnitude]))
    }
    let lead = place.isEmpty ? "" : "\(place) "
    append(place == "compress" ? "compress_rope_theta" : "\(lead)rope_theta", "\(rope.theta)")
    append("\(lead)rotary_dim", "\(2 * rope.frequencies.count)")
    let prefix = "\(lead)rope_scaling"
    append("\(prefix).factor", rope.yarn.map { "\($0.factor)" } ?? "none")
    append("\(prefix).beta_fast", rope.yarn.map { "\($0.betaFast)" } ?? "none")
    append("\(prefix).beta_slow", rope.yarn.map { "\($0.betaSlow)" } ?? "none")
    append(
      "\(prefix).original_max_position_embeddings", rope.yarn.map { "\($0.originalPositions)" } ?? "none")
    append("\(prefix).truncate", rope.yarn.map { "\($0.truncates)" } ?? "none")
    append("\(prefix).attention_factor", "\(rope.magnitude)")
    if let stretch = rope.stretch { append("\(prefix).rope_type", "\(stretch)") }
  }

  private static func text(_ value: Any) -> String {
    let mirror = Mirror(reflecting: value)
    if mirror.displayStyle == .optional { return mirror.children.first.map { text($0.value) } ?? "none" }
    return String(describing: value)
  }

  /// Equal neighbours together: `0-3: 8, 4: none`; the value alone where all are the same.
  private static func runs(_ values: [String]) -> String {
    var parts: [(first: Int, last: Int, value: String)] = []
    for (place, value) in values.enumerated() {
      if let last = parts.last, last.value == value {
        parts[parts.count - 1].last = place
      } else {
        parts.append((place, place, value))
      }
    }
    guard parts.count != 1 else { return parts[0].value }
    return parts.map { "\($0.first == $0.last ? "\($0.first)" : "\($0.first)-\($0.last)"): \($0.value)" }
      .joined(separator: ", ")
  }

  /// Values that config.json has other words for.
  private static let words = [
    "normalized": "true", "plain": "false", "inf": "none", "perHead": "per head",
    "wholeProjection": "whole projection",
  ]

  /// Fields that only say how large weights are, or which tensors are left out.
  private static let shapes: Set<String> = [
    "vocabulary", "hidden", "expertWidth", "sharedWidth", "denseWidth", "draftLayers", "outputRank",
    "attention.latentWidth", "layers.denseWidth", "layerVocabulary",
  ]

  /// The hub's keys of the fields.
  static let keys = [
    "vocabulary": "vocab_size", "hidden": "hidden_size", "normEpsilon": "rms_norm_eps",
    "tiedEmbeddings": "tie_word_embeddings", "attention.heads": "num_attention_heads",
    "attention.keyHeads": "num_key_value_heads", "attention.headWidth": "head_dim",
    "attention.norm": "use_qk_norm", "attention.clip": "clip_qkv", "attention.hasInputBias": "attention_bias",
    "attention.hasOutputBias": "attention_bias of the output", "attention.hasSinks": "attention sinks",
    "attention.hasOutputGate": "attn_output_gate", "attention.blocks": "sparse_attention_config",
    "attention.blocks.heads": "sparse_num_index_heads", "attention.blocks.width": "sparse_index_dim",
    "attention.blocks.blockSize": "sparse_block_size", "attention.blocks.keep": "sparse_topk_blocks",
    "attention.blocks.local": "sparse_local_block", "layers.isBlockSparse": "sparse_attention_freq",
    "layers.isLinear": "layer_types",
    "layers.halves": "layers_block_type", "stateSpace": "state space",
    "stateSpace.space.heads": "mamba_num_heads",
    "stateSpace.space.headWidth": "mamba_head_dim", "stateSpace.space.groups": "n_groups",
    "stateSpace.space.stateWidth": "ssm_state_size", "stateSpace.kernel": "conv_kernel",
    "stateSpace.leastStep": "time_step_min",
    "stateSpace.hasBiases": "use_bias", "stateSpace.hasConvolutionBias": "use_conv_bias",
    "feedForward.latentWidth": "moe_latent_size",
    "normOffset": "offset of norms", "linear.keyHeads": "linear_num_key_heads",
    "linear.valueHeads": "linear_num_value_heads", "linear.keyWidth": "linear_key_head_dim",
    "linear.valueWidth": "linear_value_head_dim", "linear.kernel": "linear_conv_kernel_dim",
    "linear.projections": "projections of linear attention", "layers.window": "sliding_window",
    "layers.isDense": "dense layers",
    "feedForward.experts": "num_experts", "feedForward.router.score": "scoring_func",
    "feedForward.router.groups": "n_group", "feedForward.router.keptGroups": "topk_group",
    "feedForward.router.groupScore": "topk_method", "feedForward.router.perToken": "num_experts_per_tok",
    "feedForward.router.weighting": "norm_topk_prob", "feedForward.router.scaling": "routed_scaling_factor",
    "feedForward.activation": "swiglu_limit", "feedForward.shared": "shared experts",
    "feedForward.hasRouterBias": "router bias", "feedForward.hasSelectionBias": "use_routing_bias",
    "feedForward.hasExpertBiases": "expert biases", "feedForward.hasDenseBiases": "mlp_bias",
    "expertWidth": "moe_intermediate_size",
    "sharedWidth": "shared_expert_intermediate_size", "denseWidth": "intermediate_size",
    "dense": "first_k_dense_replace", "sharedExperts": "n_shared_experts",
    "draftLayers": "num_nextn_predict_layers", "attention.plainWidth": "qk_nope_head_dim",
    "attention.rotaryWidth": "qk_rope_head_dim", "attention.valueWidth": "v_head_dim",
    "attention.latentWidth": "kv_lora_rank", "attention.queryRank": "q_lora_rank",
    "attention.pairing": "rope_interleave", "attention.scale": "attention scale (mscale_all_dim)",
    "attention.hasBiases": "attention_bias", "attention.indexer": "indexer",
    "attention.indexer.heads": "index_n_heads", "attention.indexer.width": "index_head_dim",
    "attention.indexer.keep": "index_topk", "attention.indexer.pairing": "indexer_rope_interleave",
    "attention.temperature": "llama_4_scaling_beta", "attention.temperature.beta": "llama_4_scaling_beta",
    "attention.temperature.length": "original_max_position_embeddings of the queries",
    "sharesSelection": "indexer_types", "heads": "num_attention_heads", "headWidth": "head_dim",
    "rotaryWidth": "qk_rope_head_dim", "queryRank": "q_lora_rank", "outputGroups": "o_groups",
    "outputRank": "o_lora_rank", "window": "sliding_window", "layers": "compress_ratios",
    "hashLayers": "num_hash_layers", "experts": "n_routed_experts", "expertsPerToken": "num_experts_per_tok",
    "routedScaling": "routed_scaling_factor", "normalizesRouting": "norm_topk_prob",
    "swigluLimit": "swiglu_limit", "streams": "hc_mult", "sinkhornIterations": "hc_sinkhorn_iters",
    "hyperEpsilon": "hc_eps", "indexHeads": "index_n_heads", "indexWidth": "index_head_dim",
    "indexKeep": "index_topk", "sliding.keyHeads": "num_key_value_heads", "sliding.headWidth": "head_dim",
    "sliding.window": "sliding_window",
    "sliding.sharesProjection": "attention_k_eq_v of layers with a window",
    "full.window": "window of full layers",
    "full.keyHeads": "num_global_key_value_heads",
    "full.headWidth": "global_head_dim", "full.sharesProjection": "attention_k_eq_v",
    "layers.isSliding": "layer_types", "layers.keySource": "num_kv_shared_layers",
    "layers.denseWidth": "intermediate_size", "softcap": "final_logit_softcapping",
    "layerEmbedding": "hidden_size_per_layer_input", "layerVocabulary": "vocab_size_per_layer_input",
  ]
}
