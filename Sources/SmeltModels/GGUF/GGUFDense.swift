// The architectures without experts: `llama`, `qwen2`, `qwen3`. Mixtral is a `llama` with experts.

import SmeltStorage
import SmeltTensors

/// `llama`: Llama and Mistral, and with experts Mixtral. Rows of queries and keys are put in order for a rotation of neighbouring
/// channels.
enum GGUFLlama: GGUFArchitecture {
  static let name = "llama"
  static let modelTypes = ["mixtral", "llama", "mistral"]

  /// The file does not tell Mistral from Llama: both are read as Llama.
  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.requireWholeRotation()
    guard try model.integer("expert_count", default: 0) > 0 else {
      return try model.denseConfig("llama") + [
        ("attention_bias", JSON(model.has("blk.0.attn_q.bias"))),
        ("mlp_bias", JSON(model.has("blk.0.ffn_up.bias"))),
      ]
    }
    return try model.decoderConfig("mixtral") + [
      ("intermediate_size", try model.expertWidth()),
      ("num_local_experts", JSON(try model.integer("expert_count"))),
    ]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily else { return [] }
    let decoder = family.decoder
    let width = decoder.feedForward.experts > 0 ? decoder.expertWidth : decoder.denseWidth
    try keys.decoder(family, config, feedForward: width)
    if case .longrope(_, _, let positions)? = decoder.attention.rope.stretch {
      keys.add("rope.scaling.type", "longrope")
      keys.add("rope.scaling.original_context_length", positions)
      keys.add("rope.scaling.attn_factor", shortest(decoder.attention.rope.magnitude))
    }
    keys.add("vocab_size", decoder.vocabulary)
    keys.add("rope.dimension_count", 2 * decoder.attention.rope.frequencies.count)
    return keys.entries
  }

  static func place(of spec: WeightSpec, in family: any ModelFamily) -> GGUFPlace {
    let place = usualPlace(of: spec, in: family)
    guard let decoder = (family.core as? any DecoderFamily)?.decoder, case .whole(let name) = place else {
      return place
    }
    for (part, heads) in [("attn_q", decoder.attention.heads), ("attn_k", decoder.attention.keyHeads)]
    where name.hasSuffix(".\(part).weight") || name.hasSuffix(".\(part).bias") {
      return .ordered(name, .pairedHeads(heads))
    }
    return place
  }

  static let factorTensors = [GGUFFactors.llama3, GGUFFactors.short, GGUFFactors.long]

  static func factors(of family: any ModelFamily) -> [GGUFFactors] {
    (family.core as? any DecoderFamily)?.decoder.attention.rope.factors ?? []
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder else { return [] }
    return try decoderDifferences(decoder, config, hasFactors: true)
      + messages([
        (
          decoder.feedForward.experts > 0 && decoder.layers.contains { $0.window != nil },
          "attention has a window here, and llama.cpp's llama sees everything"
        ),
        (
          2 * decoder.attention.rope.frequencies.count != decoder.attention.headWidth,
          "some channels of a head are not rotated here, and llama.cpp's llama rotates other ones"
        ),
      ])
  }
}

/// `qwen2`.
enum GGUFQwen2: GGUFArchitecture {
  static let name = "qwen2"
  static let modelTypes = ["qwen2"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] { try model.denseConfig("qwen2") }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    try denseKeys(of: family, config, headWidth: config.value("head_dim") != nil)
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder else { return [] }
    return try decoderDifferences(decoder, config)
  }
}

/// `qwen3`.
enum GGUFQwen3: GGUFArchitecture {
  static let name = "qwen3"
  static let modelTypes = ["qwen3"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.denseConfig("qwen3") + [("attention_bias", JSON(model.has("blk.0.attn_q.bias")))]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    try denseKeys(of: family, config, headWidth: true)
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder else { return [] }
    return try decoderDifferences(decoder, config)
      + messages([
        (decoder.attention.hasInputBias, "attention has biases here, and llama.cpp's qwen3 takes none")
      ])
  }
}

extension GGUFArchitecture {
  /// The keys of a decoder without experts whose rotation has no keys of its own.
  fileprivate static func denseKeys(
    of family: any ModelFamily, _ config: ConfigReader, headWidth: Bool
  ) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily else { return [] }
    try keys.decoder(family, config, feedForward: family.decoder.denseWidth, headWidth: headWidth)
    return keys.entries
  }
}

extension GGUFModel {
  /// The members of a decoder without experts.
  fileprivate func denseConfig(_ modelType: String) throws -> [(String, JSON)] {
    try requireWholeRotation()
    return try decoderConfig(modelType, hasExperts: false) + [
      ("intermediate_size", JSON(try integer("feed_forward_length")))
    ]
  }
}
