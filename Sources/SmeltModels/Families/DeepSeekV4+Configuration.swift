// DeepSeek-V4's config.json in its two dialects: the hub's (compress_ratios, num_hash_layers, rope_scaling) and the one
// transformers saves (layer_types, mlp_layer_types, rope_parameters). Same numbers, one `Configuration`.

import SmeltStorage

extension DeepSeekV4.Configuration {
  init(_ config: ConfigReader) throws {
    try config.requireSupported("scoring_func", ["sqrtsoftplus"])
    try config.requireSupported("topk_method", ["noaux_tc"])
    try config.requireSupported("hidden_act", ["silu"])
    if try config.bool("attention_bias", default: false) || config.bool("mlp_bias", default: false) {
      throw RequestError(
        .unsupported, "'\(config.file)' asks for biases in linear layers, which deepseek_v4 does not have")
    }
    guard try config.integer("num_key_value_heads", in: 1...65536, default: 1) == 1 else {
      throw config.error("num_key_value_heads", "expected 1: keys and values are one latent vector")
    }
    let size = 1...1 << 24
    vocabulary = try config.integer("vocab_size", in: size)
    hidden = try config.integer("hidden_size", in: size)
    heads = try config.integer("num_attention_heads", in: 1...65536)
    headWidth = try config.integer("head_dim", in: 1...65536)
    let fraction = try config.number("partial_rotary_factor", in: 0...1, default: 0.125)
    rotaryWidth = try config.integer(
      "qk_rope_head_dim", from: 0, to: headWidth, default: Int(Double(headWidth) * fraction))
    guard rotaryWidth % 2 == 0 else {
      throw config.error("qk_rope_head_dim", "found \(rotaryWidth), expected an even number")
    }
    queryRank = try config.integer("q_lora_rank", in: size)
    outputGroups = try config.integer("o_groups", in: 1...65536)
    outputRank = try config.integer("o_lora_rank", in: size)
    guard heads % outputGroups == 0 else {
      throw config.error("o_groups", "found \(outputGroups), expected a divisor of the \(heads) heads")
    }
    window = try config.integer("sliding_window", in: size)
    experts = try config.integer("n_routed_experts", in: 1...65536)
    expertsPerToken = try config.integer("num_experts_per_tok", from: 1, to: experts)
    expertWidth = try config.integer("moe_intermediate_size", in: size)
    sharedExperts = try config.integer("n_shared_experts", in: 0...64, default: 1)
    routedScaling = Float(try config.number("routed_scaling_factor", in: 1e-6...1e6, default: 1))
    normalizesRouting = try config.bool("norm_topk_prob", default: true)
    let limit = try config.number("swiglu_limit", in: 0...1e9, default: 0)
    swigluLimit = limit == 0 ? .infinity : Float(limit)
    streams = try config.integer("hc_mult", in: 1...16, default: 4)
    sinkhornIterations = try config.integer("hc_sinkhorn_iters", in: 1...1000, default: 20)
    hyperEpsilon = Float(try config.number("hc_eps", in: 0...1, default: 1e-6))
    normEpsilon = Float(try config.number("rms_norm_eps", in: 0...1))
    tiedEmbeddings = try config.bool("tie_word_embeddings", default: false)
    let count = try config.integer("num_hidden_layers", in: 1...Bounds.layers)
    // The table of weights is made from this file alone: a few bytes here must not ask for gigabytes there.
    guard count * experts <= Bounds.allExperts else {
      throw config.error(
        "n_routed_experts",
        "found \(experts) in each of \(count) layers, expected at most \(Bounds.allExperts) in all")
    }
    layers = try Self.layerKinds(config, count)
    hashLayers = try Self.hashLayers(config, count)
    let hasIndexer = layers.contains { if case .indexed = $0 { true } else { false } }
    indexHeads = try config.integer("index_n_heads", in: 1...65536, default: hasIndexer ? nil : 1)
    indexWidth = try config.integer(
      "index_head_dim", from: max(1, hasIndexer ? rotaryWidth : 1), to: 65536, default: hasIndexer ? nil : 1)
    indexKeep = try config.integer("index_topk", in: 1...1 << 24, default: hasIndexer ? nil : 1)
    (mainRope, compressedRope) = try Self.ropes(config, rotaryWidth)
  }

  /// Kinds from `layer_types`, else from `compress_ratios` (0 window, 4 indexed, anything else compressed).
  private static func layerKinds(_ config: ConfigReader, _ count: Int) throws -> [DeepSeekV4.LayerKind] {
    if let types = try config.strings("layer_types") {
      guard types.count >= count else {
        throw config.error("layer_types", "found \(types.count) entries, expected \(count)")
      }
      let rates = try config.object("compress_rates")
      let ratios = try config.integers("compress_ratios", in: 0...1 << 20)
      func rate(_ index: Int, _ type: String, _ usual: Int) throws -> Int {
        if let rates { return try rates.integer(type, in: 1...1 << 20, default: usual) }
        if let ratios, ratios.count > index, ratios[index] > 0 { return ratios[index] }
        return usual
      }
      return try types.prefix(count).enumerated().map { index, type in
        switch type {
        case "sliding_attention": .window
        case "compressed_sparse_attention": .indexed(ratio: try rate(index, type, 4))
        case "heavily_compressed_attention": .compressed(ratio: try rate(index, type, 128))
        default:
          throw config.error(
            "layer_types",
            "holds '\(type)', expected sliding_attention, compressed_sparse_attention or heavily_compressed_attention"
          )
        }
      }
    }
    if let ratios = try config.integers("compress_ratios", in: 0...1 << 20) {
      guard ratios.count >= count else {
        throw config.error("compress_ratios", "found \(ratios.count) entries, expected at least \(count)")
      }
      return ratios.prefix(count).map {
        $0 == 0 ? .window : $0 == 4 ? .indexed(ratio: 4) : .compressed(ratio: $0)
      }
    }
    // transformers' default where nothing is said: two compressed layers, then indexed and compressed in turn.
    return (0..<count).map { $0 < 2 || $0 % 2 == 0 ? .compressed(ratio: 128) : .indexed(ratio: 4) }
  }

  private static func hashLayers(_ config: ConfigReader, _ count: Int) throws -> [Bool] {
    if let types = try config.strings("mlp_layer_types") {
      guard types.count >= count else {
        throw config.error("mlp_layer_types", "found \(types.count) entries, expected \(count)")
      }
      return try types.prefix(count).map { type in
        switch type {
        case "hash_moe": true
        case "moe": false
        default: throw config.error("mlp_layer_types", "holds '\(type)', expected hash_moe or moe")
        }
      }
    }
    let hashed = try config.integer("num_hash_layers", in: 0...4096, default: 3)
    return (0..<count).map { $0 < hashed }
  }

  /// The bases of both rotations, and how the one of layers with compression is stretched.
  static func ropeSettings(_ config: ConfigReader) throws -> (
    main: Double, compressed: Double, yarn: YarnScaling?
  ) {
    let thetas = 1.5...1e12  // yarn divides by the logarithm
    if let parameters = try config.object("rope_parameters"), let main = try parameters.object("main"),
      let compress = try parameters.object("compress")
    {
      guard try yarn(main, main) == nil else {
        throw RequestError(
          .unsupported, "'\(config.file)' stretches the main rotation, which deepseek_v4 does not")
      }
      return (
        try main.number("rope_theta", in: thetas, default: 10000),
        try compress.number("rope_theta", in: thetas, default: 160_000), try yarn(compress, config)
      )
    }
    let scaling = try config.ropeParameters()
    let outer = try config.number("rope_theta", in: thetas, default: 10000)
    return (
      try scaling?.number("rope_theta", in: thetas, default: outer) ?? outer,
      try config.number("compress_rope_theta", in: thetas, default: 160_000),
      try scaling.map { try yarn($0, config) } ?? nil
    )
  }

  /// The rotation of window-only layers (never stretched) and that of layers with compression.
  private static func ropes(_ config: ConfigReader, _ width: Int) throws -> (
    RotaryFrequencies, RotaryFrequencies
  ) {
    let settings = try ropeSettings(config)
    return (
      RotaryFrequencies(dimensions: width, theta: settings.main, yarn: nil),
      RotaryFrequencies(dimensions: width, theta: settings.compressed, yarn: settings.yarn)
    )
  }

  private static func yarn(_ reader: ConfigReader, _ config: ConfigReader) throws -> YarnScaling? {
    let type = try reader.string("rope_type") ?? reader.string("type") ?? "default"
    switch type {
    case "default": return nil
    case "yarn":
      guard try reader.number("attention_factor", in: 0...1e6, default: 1) == 1 else {
        throw RequestError(
          .unsupported,
          "'\(config.file)' scales rotated channels by an attention_factor, which deepseek_v4 does not")
      }
      let positions = try config.integer("max_position_embeddings", in: 1...1 << 40, default: 65536)
      return YarnScaling(
        factor: try reader.number("factor", in: 1e-3...1e6),
        betaFast: try reader.number("beta_fast", in: 1e-3...1e6, default: 32),
        betaSlow: try reader.number("beta_slow", in: 1e-3...1e6, default: 1),
        originalPositions: try reader.number(
          "original_max_position_embeddings", in: 1...1e12, default: Double(positions)))
    default:
      throw RequestError(
        .unsupported, "rope type '\(type)' in '\(config.file)'", help: "supported: default, yarn")
    }
  }
}
