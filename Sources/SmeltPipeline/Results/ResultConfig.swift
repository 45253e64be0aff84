// config.json as a result may state it: nothing in it counts what the result does not hold.

import SmeltContainers
import SmeltModels
import SmeltStorage

/// Makes a source's configuration true of a result.
enum ResultConfig {
  /// The text, true of what a result holds: as it is where blocks that draft tokens are among it, else without them.
  /// - Throws: `CFG_JSON`.
  static func text(_ bytes: Bytes, holdsDrafts: Bool) throws -> Bytes {
    holdsDrafts ? bytes : try withoutDrafts(bytes)
  }

  /// The text with so many layers that draft tokens, where a result holds them and the source's configuration counts none.
  /// - Throws: `CFG_JSON`, `CFG_VALUE`.
  static func counting(_ drafts: Int, _ bytes: Bytes) throws -> Bytes {
    let config = try parseConfig(bytes, file: "config.json")
    guard drafts > 0, let object = config.object,
      try ConfigReader(config, file: "config.json").declaredDrafts() == 0
    else { return bytes }
    let others = zip(object.keys, object.values).filter { $0.0 != DraftBlocks.countKey }
    let members = others.map { ($0.0, $0.1) } + [(DraftBlocks.countKey, JSON(drafts))]
    return Bytes(Array((JSON(members: members).text(indented: true) + "\n").utf8))
  }

  /// The text of a model whose output head is a matrix of its own.
  /// - Throws: `CFG_JSON`.
  static func untied(_ bytes: Bytes) throws -> Bytes {
    let key = "tie_word_embeddings"
    guard let object = try parseConfig(bytes, file: "config.json").object else { return bytes }
    let members = zip(object.keys, object.values).map { ($0, $0 == key ? JSON(false) : $1) }
    let added: [(String, JSON)] = object.keys.contains(key) ? [] : [(key, JSON(false))]
    return Bytes(Array((JSON(members: members + added).text(indented: true) + "\n").utf8))
  }

  /// The text without layers that draft tokens: every spelling of their number is 0, flags for them are
  /// false, and lists with an entry a layer end with the last layer. The source's bytes where that is so already.
  /// - Throws: `CFG_JSON`.
  static func withoutDrafts(_ bytes: Bytes) throws -> Bytes {
    let config = try parseConfig(bytes, file: "config.json")
    guard let changed = withoutDrafts(config) else { return bytes }
    return Bytes(Array((changed.text(indented: true) + "\n").utf8))
  }

  /// The object with drafts taken out, or nil where nothing changes. Configurations of text models inside others too.
  private static func withoutDrafts(_ config: JSON) -> JSON? {
    guard let object = config.object else { return nil }
    var drafts = 0
    var changes = false
    var members: [(String, JSON)] = []
    for (key, value) in zip(object.keys, object.values) {
      if let count = value.integer, count > 0, DraftNames.isCount(key) {
        drafts = max(drafts, count)
        changes = true
        members.append((key, 0))
      } else if value.bool == true, flags.contains(key) {
        changes = true
        members.append((key, false))
      } else if let inner = withoutDrafts(value) {
        changes = true
        members.append((key, inner))
      } else {
        members.append((key, value))
      }
    }
    guard changes else { return nil }
    if drafts > 0, let layers = object["num_hidden_layers"]?.integer {
      for place in members.indices where layerLists.contains(members[place].0) {
        guard let list = members[place].1.array, layers > 0, list.count > layers,
          list.count - layers <= drafts
        else { continue }
        members[place].1 = JSON(Array(list.prefix(layers)))
      }
    }
    return JSON(members: members)
  }

  private static let flags: Set<String> = ["use_mtp", "enable_mtp", "mtp_enabled", "has_mtp", "with_mtp"]

  /// Lists with an entry for each layer, draft layers behind the others.
  private static let layerLists: Set<String> = [
    "compress_ratios", "layer_types", "mlp_layer_types", "attn_type_list", "moe_layer_freq",
    "attention_types",
    "layers_block_type", "no_rope_layers", "hybrid_layer_pattern",
  ]
}

extension Model {
  /// The files that go into a result by their names: the source's, config.json true of what the result holds.
  /// - Parameter holdsDrafts: whether blocks that draft tokens are among it.
  /// - Throws: as `smallFiles`; `CFG_JSON`.
  func resultFiles(holdsDrafts: Bool) throws -> [(name: String, bytes: Bytes)] {
    try source.smallFiles().map {
      $0.name == "config.json"
        ? ($0.name, try ResultConfig.text($0.bytes, holdsDrafts: holdsDrafts)) : $0
    }
  }
}
