// Gemma 4's config.json: the hub's spelling (`global_head_dim`, `num_global_key_value_heads`) and transformers 5's (`per_layer_config`).
// What is not mentioned is as transformers' Gemma4TextConfig has it. Every other setting that would change numbers is refused.

import SmeltStorage

extension Gemma4Decoder {
  private static let kinds = ["sliding_attention", "full_attention"]

  /// Reads the text model's configuration.
  /// - Parameter isUnified: whether it is one of `gemma4_unified`, which has neither experts nor embeddings of the layers.
  init(_ config: ConfigReader, isUnified: Bool) throws {
    try Gemma4Decoder.refuse(config)
    let size = 1...1 << 24
    vocabulary = try config.integer("vocab_size", in: size, default: 262_144)
    hidden = try config.integer("hidden_size", in: size)
    normEpsilon = Float(try config.number("rms_norm_eps", in: 0...1, default: 1e-6))
    tiedEmbeddings = try config.bool("tie_word_embeddings", default: true)
    softcap = try config.value("final_logit_softcapping").map { _ in
      Float(try config.number("final_logit_softcapping", in: 1e-6...1e9))
    }
    heads = try config.integer("num_attention_heads", in: 1...65536)
    let count = try config.integer("num_hidden_layers", in: 1...Bounds.layers)
    let isSliding = try Gemma4Decoder.slidingLayers(config, count)
    (sliding, full) = try Gemma4Decoder.attentions(config, isSliding, heads: heads)

    let shared = try config.integer("num_kv_shared_layers", from: 0, to: count - 1, default: 0)
    let doubles = try config.bool("use_double_wide_mlp", default: false)
    let width = try config.integer("intermediate_size", in: size)
    let first = count - shared
    layers = try isSliding.enumerated().map { index, sliding in
      guard index >= first else { return Layer(isSliding: sliding, keySource: nil, denseWidth: width) }
      guard let source = isSliding[..<first].lastIndex(of: sliding) else {
        throw config.error(
          "num_kv_shared_layers",
          "found \(shared), which leaves layer \(index) without an earlier layer of its kind that has keys")
      }
      return Layer(isSliding: sliding, keySource: source, denseWidth: doubles ? 2 * width : width)
    }
    layerEmbedding = try config.integer(
      "hidden_size_per_layer_input", in: 0...1 << 20, default: isUnified ? 0 : 256)
    layerVocabulary =
      layerEmbedding == 0 ? 0 : try config.integer("vocab_size_per_layer_input", in: size, default: 262_144)

    var router = Router(score: .softmax, perToken: 0, weighting: .normalized)
    var experts = 0
    expertWidth = 0
    if try config.bool("enable_moe_block", default: false) {
      experts = try config.expertCount()
      router.perToken = try config.integer("top_k_experts", from: 1, to: experts)
      guard count * experts <= Bounds.allExperts else {
        throw config.error(
          "num_experts",
          "found \(experts) in each of \(count) layers, expected at most \(Bounds.allExperts) in all")
      }
      expertWidth = try config.integer("moe_intermediate_size", in: size)
    }
    feedForward = FeedForward(experts: experts, router: router, activation: .gelu)
  }

  /// Refuses what would change numbers and is not computed.
  private static func refuse(_ config: ConfigReader) throws {
    for key in ["hidden_activation", "hidden_act"] {
      try config.requireSupported(key, ["gelu_pytorch_tanh"])
    }
    // Pictures would be seen both ways; texts are not.
    try config.requireSupported("use_bidirectional_attention", ["vision"])
    if try config.bool("attention_bias", default: false) {
      throw unsupported("'attention_bias' is true", config, "false")
    }
    for key in ["rope_scaling", "rope_theta", "attn_logit_softcapping", "query_pre_attn_scalar"] {
      guard let value = config.value(key) else { continue }
      throw unsupported("'\(key)' is \(excerpt(value.text()))", config, "null: Gemma 4 has no such key")
    }
  }

  private static func unsupported(_ problem: String, _ config: ConfigReader, _ supported: String)
    -> RequestError
  {
    RequestError(.unsupported, "\(problem) in '\(config.file)'", help: "supported: \(supported)")
  }

  /// Which layers have a window; where the configuration does not say it, all but every sixth.
  private static func slidingLayers(_ config: ConfigReader, _ count: Int) throws -> [Bool] {
    let types =
      try config.strings("layer_types")
      ?? (0..<count).map { kinds[($0 + 1) % 6 == 0 || $0 == count - 1 ? 1 : 0] }
    guard types.count == count else {
      throw config.error("layer_types", "found \(types.count) entries, expected \(count)")
    }
    guard types.last == kinds[1] else {
      throw unsupported("the last of 'layer_types' is '\(types.last ?? "")'", config, kinds[1])
    }
    return try types.map { type in
      guard let kind = kinds.firstIndex(of: type) else {
        throw config.error(
          "layer_types", "holds '\(excerpt(type))', expected \(kinds.joined(separator: " or "))")
      }
      return kind == 0
    }
  }

  // MARK: attention

  private struct Sizes: Equatable {
    var headWidth: Int
    var keyHeads: Int
  }

  private static func attentions(_ config: ConfigReader, _ isSliding: [Bool], heads: Int) throws -> (
    sliding: Attention, full: Attention
  ) {
    let sharesProjection = try config.bool("attention_k_eq_v", default: false)
    let own = Sizes(
      headWidth: try config.integer("head_dim", in: 2...65536, default: 256),
      keyHeads: try config.integer("num_key_value_heads", from: 1, to: heads, default: min(4, heads)))
    let whole = try fullSizes(config, own, sharesProjection: sharesProjection, heads: heads)
    let (sliding, full) = try perLayer(config, isSliding, own, whole, heads: heads)
    let window =
      isSliding.contains(true) ? try config.integer("sliding_window", in: 1...1 << 40, default: 512) : nil
    func attention(_ kind: Int, _ sizes: Sizes, _ window: Int?) throws -> Attention {
      guard heads % sizes.keyHeads == 0 else {
        throw config.error(
          "num_key_value_heads", "found \(sizes.keyHeads), expected a divisor of the \(heads) heads")
      }
      guard sizes.headWidth % 2 == 0 else {
        throw config.error("head_dim", "found \(sizes.headWidth), expected an even number")
      }
      return Attention(
        keyHeads: sizes.keyHeads, headWidth: sizes.headWidth,
        rope: try rope(config, kind, sizes.headWidth), window: window,
        sharesProjection: kind == 1 && sharesProjection)
    }
    return (try attention(0, sliding, window), try attention(1, full, nil))
  }

  /// Sizes of layers without a window by the hub's keys; those of `per_layer_config` where that stands in their place.
  private static func fullSizes(
    _ config: ConfigReader, _ own: Sizes, sharesProjection: Bool, heads: Int
  ) throws -> Sizes {
    guard config.value("per_layer_config") == nil else { return own }
    var sizes = own
    sizes.headWidth = try config.integer("global_head_dim", in: 2...65536, default: 512)
    if sharesProjection {
      sizes.keyHeads = try config.integer(
        "num_global_key_value_heads", from: 1, to: heads, default: own.keyHeads)
    }
    return sizes
  }

  /// The sizes of both kinds of layers, after what `per_layer_config` says of single layers.
  private static func perLayer(
    _ config: ConfigReader, _ isSliding: [Bool], _ own: Sizes, _ whole: Sizes, heads: Int
  ) throws -> (sliding: Sizes, full: Sizes) {
    var sizes = isSliding.map { $0 ? own : whole }
    let members = try config.object("per_layer_config")?.json.object
    for (key, value) in zip(members?.keys ?? [], members?.values ?? []) {
      guard let layer = Int(key), sizes.indices.contains(layer), value.object != nil else {
        throw config.error(
          "per_layer_config", "holds '\(excerpt(key))', expected objects by the number of a layer")
      }
      let reader = ConfigReader(value, file: config.file)
      for inner in value.object?.keys ?? [] where !["head_dim", "num_key_value_heads"].contains(inner) {
        throw unsupported(
          "'\(excerpt(inner))' of layer \(layer) is in 'per_layer_config'", config,
          "head_dim, num_key_value_heads")
      }
      sizes[layer].headWidth = try reader.integer(
        "head_dim", in: 2...65536, default: sizes[layer].headWidth)
      sizes[layer].keyHeads = try reader.integer(
        "num_key_value_heads", from: 1, to: heads, default: sizes[layer].keyHeads)
    }
    func common(_ kind: Bool) throws -> Sizes? {
      let found = zip(sizes, isSliding).filter { $0.1 == kind }.map(\.0)
      guard found.allSatisfy({ $0 == found[0] }) else {
        throw unsupported(
          "'per_layer_config' gives layers of '\(kinds[kind ? 0 : 1])' different sizes", config,
          "the same sizes for all layers of a kind")
      }
      return found.first
    }
    return (try common(true) ?? own, try common(false) ?? whole)
  }

  /// The rotation of a kind of layers, by `rope_parameters`.
  private static func rope(_ config: ConfigReader, _ kind: Int, _ width: Int) throws -> RotaryFrequencies {
    let parameters = try config.object("rope_parameters")
    var (type, theta, share, factor) =
      kind == 0 ? ("default", 1e4, 1.0, 1.0) : ("proportional", 1e6, 0.25, 1.0)
    if let parameters {
      guard let own = try parameters.object(kinds[kind]) else {
        throw parameters.error(kinds[kind], "is missing from rope_parameters, expected an object")
      }
      type = try own.string("rope_type") ?? "default"
      theta = try own.number("rope_theta", in: 1.5...1e12)
      share = try own.number("partial_rotary_factor", in: 0...1, default: 1)
      factor = try own.number("factor", in: 1e-6...1e6, default: 1)
    }
    guard ["default", "proportional"].contains(type) else {
      throw RopeSettings.unsupported(type, config, ["default", "proportional"])
    }
    guard type == "proportional" else {
      guard share == 1, factor == 1 else {
        throw unsupported(
          "a rotation of rope type 'default' has 'partial_rotary_factor' \(share) and 'factor' \(factor)",
          config, "1 and 1, or rope type proportional")
      }
      return RotaryFrequencies(dimensions: width, theta: theta, yarn: nil)
    }
    return RotaryFrequencies(
      dimensions: width, theta: theta,
      stretch: .proportional(rotated: Int(share * Double(width) / 2), factor: factor))
  }
}
