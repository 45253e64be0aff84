// config.json of the families on a `LatentDecoder`: the hub's spelling (rope_theta, rope_scaling, first_k_dense_replace)
// and transformers' own (rope_parameters, mlp_layer_types). Same numbers either way. `head_dim` and
// `num_key_value_heads` are not read: writers put different numbers there, and a latent attention has no use for them.

import SmeltStorage

extension LatentDecoder {
  /// Reads what all these families have.
  /// - Parameters:
  ///   - firstDense: dense layers before those with experts where the key is missing.
  ///   - router: the family's router, from the number of routed experts.
  ///   - indexer: the family's indexer, if it has one.
  init(
    _ config: ConfigReader, firstDense: Int, hasSelectionBias: Bool, indexer: TokenIndexer? = nil,
    router: (_ experts: Int) throws -> Router
  ) throws {
    try config.requireSupported("hidden_act", ["silu"])
    if try config.bool("mlp_bias", default: false) {
      throw RequestError(
        .unsupported, "'mlp_bias' is true in '\(config.file)'",
        help: "supported: false; these families have no biases in experts and dense layers")
    }
    let size = 1...1 << 24
    let frequency = try config.integer("moe_layer_freq", in: size, default: 1)
    guard frequency == 1 else {
      throw RequestError(
        .unsupported, "'moe_layer_freq' is \(frequency) in '\(config.file)'", help: "supported: 1")
    }
    vocabulary = try config.integer("vocab_size", in: size)
    hidden = try config.integer("hidden_size", in: size)
    let count = try config.integer("num_hidden_layers", in: 1...Bounds.layers)
    dense = try Self.denseLayers(config, count, firstDense: firstDense)
    denseWidth = dense.contains(true) ? try config.integer("intermediate_size", in: size) : 0
    expertWidth = try config.integer("moe_intermediate_size", in: size)
    sharedExperts = try config.integer("n_shared_experts", in: 0...64, default: 0)
    normEpsilon = Float(try config.number("rms_norm_eps", in: 0...1))
    tiedEmbeddings = try config.bool("tie_word_embeddings", default: false)
    draftLayers = try config.declaredDrafts()
    let experts = try config.integer("n_routed_experts", in: 1...65536)
    guard count * experts <= Bounds.allExperts else {
      throw config.error(
        "n_routed_experts",
        "found \(experts) in each of \(count) layers, expected at most \(Bounds.allExperts) in all")
    }
    feedForward = FeedForward(
      experts: experts, router: try router(experts), shared: sharedExperts > 0 ? .plain : .none,
      hasSelectionBias: hasSelectionBias)
    attention = try LatentAttention(config, indexer: indexer)
  }

  /// From `mlp_layer_types` where given, else the first layers.
  private static func denseLayers(_ config: ConfigReader, _ count: Int, firstDense: Int) throws -> [Bool] {
    let first = try config.integer(
      "first_k_dense_replace", from: 0, to: count, default: min(firstDense, count))
    guard let types = try config.strings("mlp_layer_types") else { return (0..<count).map { $0 < first } }
    guard types.count == count else {
      throw config.error("mlp_layer_types", "found \(types.count) entries, expected \(count)")
    }
    return try types.map { type in
      guard ["dense", "sparse"].contains(type) else {
        throw config.error("mlp_layer_types", "holds '\(type)', expected dense or sparse")
      }
      return type == "dense"
    }
  }
}

extension LatentAttention {
  init(_ config: ConfigReader, indexer: TokenIndexer?) throws {
    let width = 1...65536
    heads = try config.integer("num_attention_heads", in: width)
    plainWidth = try config.integer("qk_nope_head_dim", in: width)
    rotaryWidth = try config.integer("qk_rope_head_dim", in: 2...65536)
    guard rotaryWidth % 2 == 0 else {
      throw config.error("qk_rope_head_dim", "found \(rotaryWidth), expected an even number")
    }
    valueWidth = try config.integer("v_head_dim", in: width)
    latentWidth = try config.integer("kv_lora_rank", in: 1...1 << 24)
    queryRank =
      config.value("q_lora_rank") == nil ? nil : try config.integer("q_lora_rank", in: 1...1 << 24)
    pairing = try config.bool("rope_interleave", default: true) ? .interleaved : .halves
    let settings = try RopeSettings(config)
    if let stretch = settings.stretch {
      throw RopeSettings.unsupported(stretch.name, config, ["default", "yarn"])
    }
    rope = settings.frequencies(rotaryWidth)
    scale = Float(settings.logitFactor / Double(plainWidth + rotaryWidth).squareRoot())
    hasBiases = try config.bool("attention_bias", default: false)
    self.indexer = indexer
  }
}

extension Router {
  /// The groups of experts that may be chosen from: `n_group` of them, `topk_group` kept.
  mutating func readGroups(_ config: ConfigReader, experts: Int) throws {
    groups = try config.integer("n_group", from: 1, to: experts)
    guard experts % groups == 0 else {
      throw config.error("n_group", "found \(groups), expected a divisor of the \(experts) experts")
    }
    keptGroups = try config.integer("topk_group", from: 1, to: groups)
    guard perToken <= experts / groups * keptGroups else {
      throw config.error(
        "topk_group",
        "found \(keptGroups) of \(experts / groups) experts each, expected room for \(perToken)")
    }
  }
}
