// Nemotron-H's config.json. Layers are told by a string with a letter each (`MEM*E`) or by a list of words. What transformers does
// not read is without effect here too: `expand`, `chunk_size`, `rope_theta`, `partial_rotary_factor`, `residual_in_fp32` (sums are
// float32 anyway), `rescale_prenorm_residual`, `time_step_max` and `time_step_floor` (first values of a training).

import SmeltStorage

extension NemotronH {
  /// What a layer is, by the letters of `hybrid_override_pattern` and the words of `layers_block_type`.
  enum Mixer: Character, CaseIterable {
    case stateSpace = "M"
    case attention = "*"
    case experts = "E"
    case dense = "-"

    /// The words of transformers 5, and those before.
    var words: [String] {
      switch self {
      case .stateSpace: ["linear_attention", "mamba"]
      case .attention: ["full_attention", "attention"]
      case .experts: ["moe"]
      case .dense: ["mlp"]
      }
    }

    /// The layer in a decoder's terms.
    var layer: Decoder.Layer {
      switch self {
      case .stateSpace: Decoder.Layer(isLinear: true, halves: .mixer)
      case .attention: Decoder.Layer(halves: .mixer)
      case .experts: Decoder.Layer(halves: .feedForward)
      case .dense: Decoder.Layer(isDense: true, halves: .feedForward)
      }
    }
  }

  /// The configuration with the names of early files in the usual spelling.
  static func withUsualNames(_ config: JSON) -> JSON {
    guard let object = config.object else { return config }
    let usual = [
      "mamba_n_groups": "n_groups", "mamba_d_conv": "conv_kernel", "mamba_dt_min": "time_step_min",
      "mamba_dt_limit": "time_step_limit", "mamba_conv_bias": "use_conv_bias",
    ]
    let early = Set(object.keys.compactMap { usual[$0] })
    guard !early.isEmpty else { return config }
    // The early name goes before the usual one, as in transformers.
    let members = zip(object.keys, object.values).filter { !early.contains($0.0) }
    return JSON(.object(JSONObject(members.map { (usual[$0.0] ?? $0.0, $0.1) })), offset: config.offset)
  }

  /// The decoder that a configuration describes.
  /// - Throws: `CFG_VALUE` with key, found and expected; `RequestError` unsupported for what is not computed.
  static func decoder(_ config: ConfigReader) throws -> Decoder {
    try refuse(config)
    let size = 1...1 << 24
    let mixers = try mixers(config)
    let hasExperts = mixers.contains(.experts)
    var decoder = Decoder(
      vocabulary: try config.integer("vocab_size", in: size),
      hidden: try config.integer("hidden_size", in: size),
      normEpsilon: Float(try config.number("layer_norm_epsilon", in: 0...1, default: 1e-5)),
      tiedEmbeddings: try config.bool("tie_word_embeddings", default: false),
      attention: try attention(config), layers: mixers.map(\.layer),
      feedForward: try feedForward(config, layers: mixers.count, hasExperts: hasExperts),
      expertWidth: hasExperts ? try config.integer("moe_intermediate_size", in: size) : 0)
    if hasExperts {
      decoder.sharedWidth = try config.integer("moe_shared_expert_intermediate_size", in: size)
    }
    if mixers.contains(.dense) {
      decoder.denseWidth = try config.integer("intermediate_size", in: size)
      decoder.feedForward.hasDenseBiases = try config.bool("mlp_bias", default: false)
    }
    if mixers.contains(.stateSpace) { decoder.stateSpace = try stateSpace(config) }
    return decoder
  }

  /// Settings that are refused because nothing here computes them.
  private static func refuse(_ config: ConfigReader) throws {
    func refuse(_ key: String, _ found: String, supported: String) -> RequestError {
      RequestError(
        .unsupported, "'\(key)' is \(found) in '\(config.file)'", help: "supported: \(supported)")
    }
    try config.requireSupported("mlp_hidden_act", ["relu2"])
    try config.requireSupported("mamba_hidden_act", ["silu"])
    let epsilon = try config.number("layer_norm_epsilon", in: 0...1, default: 1e-5)
    let other = try config.number("norm_eps", in: 0...1, default: epsilon)
    guard other == epsilon else {
      throw refuse("norm_eps", "\(other)", supported: "\(epsilon), as 'layer_norm_epsilon'")
    }
    if config.value("sliding_window") != nil { throw refuse("sliding_window", "set", supported: "null") }
    if config.value("block_configs") != nil {
      throw refuse("block_configs", "set", supported: "layers of one kind that are all alike")
    }
    let biases = try config.bool("use_bias", default: false)
    guard try !config.bool("mamba_proj_bias", default: biases) || biases else {
      throw refuse("mamba_proj_bias", "true", supported: "false, or 'use_bias' true")
    }
  }

  /// The kind of each layer.
  static func mixers(_ config: ConfigReader) throws(FormatError) -> [Mixer] {
    var found: [Mixer]?
    for key in ["layers_block_type", "layer_types", "hybrid_override_pattern"] {
      guard let own = try mixers(config, key) else { continue }
      guard found == nil || found == own else {
        throw config.error(key, "says other layers than the keys beside it")
      }
      found = own
    }
    guard let found else {
      throw config.error("hybrid_override_pattern", "is missing, expected a letter for each layer")
    }
    guard (1...Bounds.layers).contains(found.count) else {
      throw config.error(
        "hybrid_override_pattern", "found \(found.count) layers, expected 1 to \(Bounds.layers)")
    }
    _ = try config.integer("num_hidden_layers", from: found.count, to: found.count, default: found.count)
    return found
  }

  /// The layers that a key lists, as a string of letters or a list of words; nil where it is absent.
  static func mixers(_ config: ConfigReader, _ key: String) throws(FormatError) -> [Mixer]? {
    if let pattern = config.value(key)?.string {
      var found: [Mixer] = []
      for letter in pattern {
        guard let mixer = Mixer(rawValue: letter) else {
          throw config.error(key, "holds '\(letter)', expected letters of M*E-")
        }
        found.append(mixer)
      }
      return found
    }
    guard let words = try config.strings(key) else { return nil }
    var found: [Mixer] = []
    for word in words {
      guard let mixer = Mixer.allCases.first(where: { $0.words.contains(word) }) else {
        let known = Mixer.allCases.map { $0.words[0] }.joined(separator: ", ")
        throw config.error(key, "holds '\(excerpt(word))', expected \(known)")
      }
      found.append(mixer)
    }
    return found
  }

  /// Attention without a rotation.
  private static func attention(_ config: ConfigReader) throws -> Decoder.Attention {
    let heads = try config.integer("num_attention_heads", in: 1...65536)
    let keyHeads = try config.integer("num_key_value_heads", from: 1, to: heads, default: heads)
    guard heads % keyHeads == 0 else {
      throw config.error(
        "num_key_value_heads", "found \(keyHeads), expected a divisor of the \(heads) heads")
    }
    let biases = try config.bool("attention_bias", default: false)
    return Decoder.Attention(
      heads: heads, keyHeads: keyHeads,
      headWidth: try config.integer("head_dim", in: 1...65536, default: 128),
      rope: .none, hasInputBias: biases, hasOutputBias: biases)
  }

  /// Experts without a gate, and how they are chosen.
  private static func feedForward(_ config: ConfigReader, layers: Int, hasExperts: Bool) throws -> FeedForward
  {
    var router = Router(score: .sigmoid, perToken: 0, weighting: .normalized)
    guard hasExperts else { return FeedForward(experts: 0, router: router, activation: .squaredRelu) }
    let experts = try config.expertCount()
    guard layers * experts <= Bounds.allExperts else {
      throw config.error(
        "n_routed_experts",
        "found \(layers) layers of \(experts) experts, expected at most \(Bounds.allExperts) in all")
    }
    guard try !config.bool("mlp_bias", default: false) else {
      throw RequestError(
        .unsupported, "'mlp_bias' is true in '\(config.file)', which has experts",
        help: "supported: false")
    }
    let shared = try config.integer("n_shared_experts", in: 0...65536, default: 1)
    guard shared == 1 else {
      throw RequestError(
        .unsupported, "'n_shared_experts' is \(shared) in '\(config.file)'", help: "supported: 1")
    }
    router.perToken = try config.integer("num_experts_per_tok", from: 1, to: experts)
    router.weighting = try config.bool("norm_topk_prob", default: true) ? .normalized : .plain
    router.scaling = Float(try config.number("routed_scaling_factor", in: 1e-6...1e6, default: 1))
    if try config.integer("n_group", in: 1...65536, default: 1) > 1 {
      try router.readGroups(config, experts: experts)
    }
    var feedForward = FeedForward(
      experts: experts, router: router, activation: .squaredRelu, shared: .plain, hasSelectionBias: true)
    if config.value("moe_latent_size") != nil {
      feedForward.latentWidth = try config.integer("moe_latent_size", in: 1...1 << 24)
    }
    return feedForward
  }

  /// The Mamba-2 mixer. The steps' lower bound is `time_step_min`; transformers leaves `time_step_limit` aside, others take it.
  private static func stateSpace(_ config: ConfigReader) throws -> StateSpaceMixer {
    let heads = try config.integer("mamba_num_heads", in: 1...65536)
    let groups = try config.integer("n_groups", from: 1, to: heads, default: 8)
    let headWidth = try config.integer("mamba_head_dim", in: 1...65536)
    guard heads % groups == 0 else {
      throw config.error("n_groups", "found \(groups), expected a divisor of the \(heads) heads")
    }
    let space = StateSpace(
      heads: heads, headWidth: headWidth, groups: groups,
      stateWidth: try config.integer("ssm_state_size", in: 1...65536))
    let least = try config.number("time_step_min", in: 0...1e6, default: 0.001)
    let limits = try stepLimits(config)
    guard limits.least <= least, limits.largest == .infinity else {
      throw RequestError(
        .unsupported,
        "'time_step_limit' is \(limits.least) to \(limits.largest) in '\(config.file)', and 'time_step_min' \(least)",
        help: "supported: from at most time_step_min to Infinity; implementations disagree on others")
    }
    return StateSpaceMixer(
      space: space, kernel: try config.integer("conv_kernel", in: 1...1024, default: 4),
      leastStep: Float(least),
      hasBiases: try config.bool("use_bias", default: false),
      hasConvolutionBias: try config.bool("use_conv_bias", default: true))
  }

  /// `time_step_limit`: two numbers, the second of them mostly infinite, which transformers 5 writes as `{"__float__": "Infinity"}`.
  private static func stepLimits(_ config: ConfigReader) throws(FormatError) -> (
    least: Double, largest: Double
  ) {
    guard let value = config.value("time_step_limit") else { return (0, .infinity) }
    let numbers = (value.array ?? []).map { element in
      element["__float__"]?.string == "Infinity" ? Double.infinity : element.double ?? .nan
    }
    guard numbers.count == 2, numbers.allSatisfy({ $0 >= 0 }), numbers[0].isFinite else {
      throw config.error(
        "time_step_limit", "found \(excerpt(value.text())), expected two numbers of at least 0")
    }
    return (numbers[0], numbers[1])
  }
}
