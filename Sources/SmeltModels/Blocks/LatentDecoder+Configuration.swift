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
  ///   - usualShared: shared experts where the key is missing.
  ///   - sharing: for each layer whether it takes the choice of an earlier layer's indexer; nil for none.
  init(
    _ config: ConfigReader, firstDense: Int, hasSelectionBias: Bool, indexer: TokenIndexer? = nil,
    sharing: [Bool]? = nil, usualShared: Int = 0, router: (_ experts: Int) throws -> Router
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
    dense = try config.firstDenseLayers(count, default: firstDense)
    sharesSelection = sharing ?? [Bool](repeating: false, count: count)
    denseWidth = dense.contains(true) ? try config.integer("intermediate_size", in: size) : 0
    expertWidth = try config.integer("moe_intermediate_size", in: size)
    sharedExperts = try config.integer("n_shared_experts", in: 0...64, default: usualShared)
    normEpsilon = Float(try config.number("rms_norm_eps", in: 0...1))
    tiedEmbeddings = try config.bool("tie_word_embeddings", default: false)
    draftLayers = try config.declaredDrafts()
    let experts = try config.integer("n_routed_experts", in: 1...65536)
    // Other names of the same number: implementations differ in which of them counts.
    for key in ["num_experts", "num_local_experts"] where config.value(key) != nil {
      _ = try config.integer(key, from: experts, to: experts)
    }
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
}

extension ConfigReader {
  /// Which layers have one dense layer instead of experts: from `mlp_layer_types` where given, else the first
  /// `first_k_dense_replace`.
  /// - Parameter fallback: how many the first are where neither is said.
  func firstDenseLayers(_ count: Int, default fallback: Int) throws(FormatError) -> [Bool] {
    let first = try integer("first_k_dense_replace", from: 0, to: count, default: min(fallback, count))
    guard let types = try strings("mlp_layer_types") else { return (0..<count).map { $0 < first } }
    guard types.count == count else {
      throw error("mlp_layer_types", "found \(types.count) entries, expected \(count)")
    }
    if let other = types.first(where: { !["dense", "sparse"].contains($0) }) {
      throw error("mlp_layer_types", "holds '\(other)', expected dense or sparse")
    }
    return types.map { $0 == "dense" }
  }

  /// Refuses a key whose value would change what is computed: the models that are known have one value.
  /// - Throws: `RequestError` unsupported; `CFG_VALUE` for a value of another kind.
  func require(_ key: String, _ expected: Bool, _ reason: String) throws {
    guard try bool(key, default: expected) != expected else { return }
    throw RequestError(
      .unsupported, "'\(key)' is \(!expected) in '\(file)'", help: "supported: \(expected); \(reason)")
  }

  /// Refuses a share of rotated channels other than that of the channels which a latent attention rotates.
  /// - Parameter expected: the share that all its rotated channels are, 1 where the configuration counts those alone.
  func requireRotatedShare(_ expected: Double) throws {
    let key = "partial_rotary_factor"
    for reader in [self, try ropeParameters()].compactMap({ $0 }) where reader.value(key) != nil {
      let found = try reader.number(key, in: 0...1)
      guard abs(found - expected) > 1e-6 else { continue }
      throw RequestError(
        .unsupported, "'\(key)' is \(found) in '\(file)'",
        help: "supported: \(expected), all of the channels that 'qk_rope_head_dim' counts")
    }
  }
}

extension TokenIndexer {
  /// An indexer in every layer, or in those that `ConfigReader.sharedSelections` leaves.
  init(_ config: ConfigReader, pairing: RotaryPairing) throws {
    // Its queries need the latent.
    _ = try config.integer("q_lora_rank", in: 1...1 << 24)
    let layers = try config.integer("num_hidden_layers", in: 1...Bounds.layers)
    if let types = try config.strings("layer_types") {
      guard types.count == layers else {
        throw config.error("layer_types", "found \(types.count) entries, expected \(layers)")
      }
      if let other = types.first(where: { $0 != "indexed_attention" }) {
        throw RequestError(
          .unsupported, "'layer_types' holds '\(other)' in '\(config.file)'",
          help: "supported: indexed_attention")
      }
    }
    let rotary = try config.integer("qk_rope_head_dim", in: 2...65536)
    self.init(
      heads: try config.integer("index_n_heads", in: 1...65536),
      width: try config.integer("index_head_dim", from: rotary, to: 65536),
      keep: try config.integer("index_topk", in: 1...1 << 24), pairing: pairing)
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
  /// - Parameter fallback: both where the configuration does not say them; nil where it must.
  mutating func readGroups(_ config: ConfigReader, experts: Int, default fallback: Int? = nil) throws {
    groups = try config.integer("n_group", from: 1, to: experts, default: fallback)
    guard experts % groups == 0 else {
      throw config.error("n_group", "found \(groups), expected a divisor of the \(experts) experts")
    }
    keptGroups = try config.integer("topk_group", from: 1, to: groups, default: fallback)
    guard perToken <= experts / groups * keptGroups else {
      throw config.error(
        "topk_group",
        "found \(keptGroups) of \(experts / groups) experts each, expected room for \(perToken)")
    }
  }
}
