// Further architectures of families on a `LatentDecoder`: `glm-dsa` for GLM-5, which says in a list of truth values which layers have
// an indexer; `mistral4`, which says how queries grow. Sources: llama.cpp's src/models/glm-dsa.cpp, src/models/deepseek2.cpp (which
// runs `mistral4` too), conversion/glm.py, conversion/mistral.py and conversion/mistral3.py.

import SmeltStorage
import SmeltTensors

/// `glm-dsa`: GLM-5 to GLM-5.3.
enum GGUFGLMDSA: LatentArchitecture {
  static let name = "glm-dsa"
  static let modelTypes = ["glm_moe_dsa"]

  static func readsDrafts(of family: any ModelFamily) -> Bool { true }

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.requireGating(GGUFGating.sigmoid)
    return try model.latentConfig("glm_moe_dsa") + [
      ("scoring_func", "sigmoid"), ("topk_method", "noaux_tc"),
      ("index_n_heads", JSON(try model.integer("attention.indexer.head_count"))),
      ("index_head_dim", JSON(try model.integer("attention.indexer.key_length"))),
      ("index_topk", JSON(try model.integer("attention.indexer.top_k"))),
      ("indexer_types", JSON(try fullLayers(model).map { $0 ? "full" : "shared" })),
    ]
  }

  /// Which layers have an indexer. Files without the key are of GLM-5 and 5.1, whose layers all have one, or, by their context of a
  /// million tokens, of GLM-5.2, where it is every fourth from the third on.
  private static func fullLayers(_ model: GGUFModel) throws -> [Bool] {
    let layers = try model.layers()
    let key = model.key("attention.indexer.types")
    switch model.metadata[key] {
    case nil:
      guard try model.integer("context_length", default: 0) >= 1 << 20 else {
        return [Bool](repeating: true, count: layers)
      }
      return (0..<layers).map { max($0 - 2, 0) % 4 == 0 }
    case .bool(let all): return [Bool](repeating: all, count: layers)
    case .bools(let list) where list.count == layers: return list
    case .integers(let list) where list.count == layers && list.allSatisfy { [0, 1].contains($0) }:
      return list.map { $0 == 1 }
    default:
      throw model.metadata.error(key, "expected \(layers) truth values, one for each layer")
    }
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any LatentFamily else { return [] }
    try keys.latent(family, config)
    keys.indexer(family.decoder)
    keys.add("attention.indexer.types", family.decoder.sharesSelection.map { !$0 })
    return keys.entries
  }
}

/// `mistral4`: Mistral Small 4.
enum GGUFMistral4: LatentArchitecture {
  static let name = "mistral4"
  static let modelTypes = ["mistral4"]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.requireGating(GGUFGating.softmax)
    var members = try model.latentConfig("mistral4") + [("scoring_func", "softmax")]
    // One object holds the rotation and how queries grow.
    let key = "rope_scaling"
    let scaling = members.first { $0.0 == key }?.1.object
    var rope = scaling.map { Array(zip($0.keys, $0.values)) } ?? [("type", "default")]
    if let beta = try model.number("attention.temperature_scale"), beta != 0 {
      rope.append(("llama_4_scaling_beta", JSON(beta)))
      let length = try model.integer("attention.temperature_length")
      rope.removeAll { $0.0 == "original_max_position_embeddings" }
      let original = try model.integer("rope.scaling.original_context_length", default: length)
      guard original == length else {
        throw RequestError(
          .unsupported,
          "'\(model.key("attention.temperature_length"))' is \(length) in '\(model.metadata.file)'",
          help: "supported: \(original), as 'rope.scaling.original_context_length' has it")
      }
      rope.append(("original_max_position_embeddings", JSON(length)))
    }
    members.removeAll { $0.0 == key }
    return members + [(key, JSON(members: rope))]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any LatentFamily else { return [] }
    try keys.latent(family, config)
    if let temperature = family.decoder.attention.temperature {
      keys.add("attention.temperature_scale", shortest(temperature.beta))
      keys.add("attention.temperature_length", temperature.length)
    }
    return keys.entries
  }
}

extension GGUFKeys {
  /// The sizes of an indexer.
  mutating func indexer(_ decoder: LatentDecoder) {
    guard let indexer = decoder.attention.indexer else { return }
    add("attention.indexer.head_count", indexer.heads)
    add("attention.indexer.key_length", indexer.width)
    add("attention.indexer.top_k", indexer.keep)
  }
}

extension GGUFModel {
  /// Refuses another function that scores experts; a file that does not say it has the architecture's.
  func requireGating(_ expected: Int) throws {
    let gating = try integer("expert_gating_func", default: expected)
    guard gating == expected || gating == 0 else {
      throw RequestError(
        .unsupported, "'\(key("expert_gating_func"))' is \(gating) in '\(metadata.file)'",
        help: "supported: \(expected)")
    }
  }
}
