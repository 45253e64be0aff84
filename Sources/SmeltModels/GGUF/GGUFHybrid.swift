// The architectures of Qwen's hybrid models: `qwen35`, `qwen35moe`, `qwen3next`. Norms' scales are stored with their 1 added, rates of
// decay as they are used instead of their logarithms; in `qwen35` and `qwen35moe` the heads of values stand tiled over the heads of
// keys, and in `qwen3next` queries, keys and values lie apart from the gates. Formats/gguf.md, section 6.

import SmeltStorage
import SmeltTensors

extension GGUFModel {
  /// What the three have alike.
  fileprivate func hybridConfig(_ modelType: String, hasExperts: Bool) throws -> [(String, JSON)] {
    var members = try decoderConfig(modelType, hasExperts: hasExperts)
    func add(_ key: String, _ value: JSON) { members.append((key, value)) }
    let width = try integer("attention.key_length")
    let rotated = try integer("rope.dimension_count", default: width / 4)
    add("partial_rotary_factor", JSON(Double(rotated) / Double(max(1, width))))
    if hasKey("rope.dimension_sections"), let sections = try metadata.integers(key("rope.dimension_sections"))
    {
      // The rotation's own members: sections of the channels for the three positions of a token, which are one in a text.
      members.removeAll { $0.0 == "rope_scaling" || $0.0 == "rope_theta" || $0.0 == "partial_rotary_factor" }
      add(
        "rope_parameters",
        [
          "rope_type": "default", "rope_theta": JSON(try number("rope.freq_base", default: 10000)),
          "partial_rotary_factor": JSON(Double(rotated) / Double(max(1, width))), "mrope_interleaved": true,
          "mrope_section": JSON(sections.prefix(3).map { JSON($0) }),
        ])
    }
    let (heads, inner) = (try integer("ssm.time_step_rank"), try integer("ssm.inner_size"))
    guard heads > 0, inner % heads == 0 else {
      throw metadata.error(key("ssm.inner_size"), "found \(inner), expected a multiple of \(heads) heads")
    }
    add("linear_conv_kernel_dim", JSON(try integer("ssm.conv_kernel")))
    add("linear_num_key_heads", JSON(try integer("ssm.group_count")))
    add("linear_num_value_heads", JSON(heads))
    add("linear_key_head_dim", JSON(try integer("ssm.state_size")))
    add("linear_value_head_dim", JSON(inner / heads))
    let (layers, interval) = (try layers(), max(1, try integer("full_attention_interval", default: 4)))
    let listed = try metadata.bools(key("attention.recurrent_layers"))
    if let listed, listed.count < layers {
      throw metadata.error(
        key("attention.recurrent_layers"), "holds \(listed.count) entries, expected \(layers)")
    }
    let types = (0..<layers).map { layer in
      JSON((listed?[layer] ?? ((layer + 1) % interval != 0)) ? DeltaAttention.layerType : "full_attention")
    }
    add("layer_types", JSON(types))
    add("attention_bias", JSON((0..<layers).contains { has("blk.\($0).attn_q.bias") }))
    if hasKey("nextn_predict_layers") {
      add("mtp_num_hidden_layers", JSON(try integer("nextn_predict_layers")))
      members.removeAll { $0.0 == "num_nextn_predict_layers" }
    }
    guard hasExperts else {
      return members + [("intermediate_size", JSON(try integer("feed_forward_length")))]
    }
    return members + [
      ("moe_intermediate_size", try expertWidth()), ("num_experts", JSON(try integer("expert_count"))),
      (
        "shared_expert_intermediate_size",
        JSON(
          try integer(
            "expert_shared_feed_forward_length", default: integer("feed_forward_length", default: 0)))
      ),
    ]
  }
}

extension HybridArchitecture {
  /// The keys that the three have alike.
  fileprivate static func hybridKeys(
    of family: any ModelFamily, _ config: ConfigReader, feedForward: Int?, sections: Bool
  ) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily, let linear = family.decoder.linear else {
      return []
    }
    let decoder = family.decoder
    try keys.decoder(family, config, feedForward: feedForward)
    if decoder.feedForward.experts > 0 {
      keys.add("expert_feed_forward_length", decoder.expertWidth)
      keys.add("expert_shared_feed_forward_length", decoder.sharedWidth)
    }
    keys.add("rope.dimension_count", 2 * decoder.attention.rope.frequencies.count)
    if sections { try keys.sections(config, default: [11, 11, 10]) }
    keys.add("ssm.conv_kernel", linear.kernel)
    keys.add("ssm.state_size", linear.keyWidth)
    keys.add("ssm.group_count", linear.keyHeads)
    keys.add("ssm.time_step_rank", linear.valueHeads)
    keys.add("ssm.inner_size", linear.valueChannels)
    let drafts = [Bool](repeating: false, count: try config.declaredDrafts())
    keys.add("attention.recurrent_layers", decoder.layers.map(\.isLinear) + drafts)
    keys.add(
      "full_attention_interval", try config.integer("full_attention_interval", in: 1...4096, default: 4))
    return keys.entries
  }

  /// What llama.cpp's three architectures compute otherwise.
  fileprivate static func hybridDifferences(of family: any ModelFamily, _ config: ConfigReader) throws
    -> [String]
  {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder, decoder.linear != nil else { return [] }
    return try decoderDifferences(decoder, config)
      + messages([
        (
          decoder.feedForward.experts > 0 && decoder.feedForward.router.weighting != .normalized,
          "the chosen experts' factors stay as they are here, and llama.cpp's \(Self.name) brings their sum to 1"
        ),
        (
          decoder.attention.hasInputBias, "attention has biases here, and llama.cpp's \(Self.name) takes none"
        ),
      ])
  }

  /// Where the three keep a weight.
  /// - Parameter tiled: whether heads of values stand tiled over the heads of keys.
  fileprivate static func hybridPlace(of spec: WeightSpec, in family: any ModelFamily, tiled: Bool)
    -> GGUFPlace
  {
    let usual = postAttentionPlace(usualPlace(of: spec, in: family))
    guard case .whole(let name) = usual, let linear = (family.core as? any DecoderFamily)?.decoder.linear
    else { return usual }
    if spec.offset != 0 { return .arranged([GGUFPiece(name, [.numbers(.plus(spec.offset))])]) }
    let part = name.split(separator: ".", maxSplits: 2).last.map(String.init) ?? ""
    func heads(_ rows: Int, from first: Int = 0) -> RowOrder {
      .tiledHeads(groups: linear.keyHeads, perGroup: linear.perKeyHead, headRows: rows, first: first)
    }
    let moves = tiled && linear.perKeyHead > 1
    switch part {
    case "ssm_a":
      let rate = GGUFPiece.Step.numbers(.negativeExponential)
      return .arranged([GGUFPiece(name, moves ? [.rows(heads(1)), rate] : [rate])])
    case "ssm_in.weight":
      let values = linear.perKeyHead * linear.valueWidth
      let widths = [linear.keyWidth, linear.keyWidth, values, values]
      let prefix = name.dropLast(part.count)
      return .arranged([
        GGUFPiece(
          prefix + "attn_qkv.weight",
          [.rows(.partsOfGroups(groups: linear.keyHeads, widths: widths, taken: 0..<3))]),
        GGUFPiece(
          prefix + "attn_gate.weight",
          [.rows(.partsOfGroups(groups: linear.keyHeads, widths: widths, taken: 3..<4))]),
      ])
    case "attn_qkv.weight", "ssm_conv1d.weight":
      return moves ? .ordered(name, heads(linear.valueWidth, from: 2 * linear.keyChannels)) : usual
    case "attn_gate.weight": return moves ? .ordered(name, heads(linear.valueWidth)) : usual
    case "ssm_beta.weight", "ssm_alpha.weight", "ssm_dt.bias": return moves ? .ordered(name, heads(1)) : usual
    case "ssm_out.weight":
      return moves ? .arranged([GGUFPiece(name, [.columns(heads(linear.valueWidth))])]) : usual
    default: return usual
    }
  }
}

/// What the architectures with gated delta rules have alike.
protocol HybridArchitecture: GGUFArchitecture {
  /// Whether value heads of one key head lie apart in the file.
  static var isTiled: Bool { get }
}

extension HybridArchitecture {
  static var isTiled: Bool { true }

  static func readsDrafts(of family: any ModelFamily) -> Bool { true }

  static func place(of spec: WeightSpec, in family: any ModelFamily) -> GGUFPlace {
    hybridPlace(of: spec, in: family, tiled: isTiled)
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    try hybridDifferences(of: family, config)
  }
}

/// `qwen35moe`.
enum GGUFQwen35MoE: HybridArchitecture {
  static let name = "qwen35moe"
  static let modelTypes = ["qwen3_5_moe_text"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.hybridConfig("qwen3_5_moe_text", hasExperts: true)
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    try hybridKeys(of: family, config, feedForward: nil, sections: true)
  }
}

/// `qwen35`.
enum GGUFQwen35: HybridArchitecture {
  static let name = "qwen35"
  static let modelTypes = ["qwen3_5_text"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.hybridConfig("qwen3_5_text", hasExperts: false)
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    let width = (family.core as? any DecoderFamily)?.decoder.denseWidth
    return try hybridKeys(of: family, config, feedForward: width, sections: true)
  }
}

/// `qwen3next`.
enum GGUFQwen3Next: HybridArchitecture {
  static let name = "qwen3next"
  static let modelTypes = ["qwen3_next"]
  static let isTiled = false

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.hybridConfig("qwen3_next", hasExperts: true) + [("norm_topk_prob", true)]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    let width = try config.integer("intermediate_size", in: 0...1 << 24, default: 0)
    return try hybridKeys(of: family, config, feedForward: width > 0 ? width : nil, sections: false)
  }
}
