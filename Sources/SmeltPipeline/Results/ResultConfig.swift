// config.json as a result may state it: nothing in it counts what the result does not hold.

import SmeltContainers
import SmeltModels
import SmeltStorage

/// Makes a source's configuration true of a result.
enum ResultConfig {
  /// The text without layers that draft tokens, which no result holds: every spelling of their number is 0, flags for them are
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
      if let count = value.integer, count > 0, isCount(key) {
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

  /// Whether a key counts layers or modules that draft tokens: `num_nextn_predict_layers` (DeepSeek, GLM), `num_mtp_modules`
  /// (MiniMax), `mtp_num_hidden_layers` (Qwen), `num_mtp_layers` (LongCat), `n_mtp_layers` and their like. Not the layers of
  /// each module, nor weights of a loss.
  static func isCount(_ key: String) -> Bool {
    let words = Set(key.lowercased().split(separator: "_").map(String.init))
    guard !words.isDisjoint(with: ["mtp", "nextn"]) else { return false }
    return !words.isDisjoint(with: ["num", "n", "layers", "modules", "depth", "heads"])
      && words.isDisjoint(with: ["transformer", "loss", "weight", "factor"])
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
  /// - Throws: as `smallFiles`; `CFG_JSON`.
  func resultFiles() throws -> [(name: String, bytes: Bytes)] {
    try smallFiles().map { $0.name == "config.json" ? ($0.name, try resultConfig($0.bytes)) : $0 }
  }

  /// The configuration of a result that holds what the model holds: drafts are carried where weights have no family of their own,
  /// and counted then.
  /// - Throws: `CFG_JSON`.
  func resultConfig(_ bytes: Bytes) throws -> Bytes {
    family is UnknownArchitecture || family is CarryingFamily
      ? bytes : try ResultConfig.withoutDrafts(bytes)
  }

  /// Names and sizes of the files beside the weights; empty of a GGUF file, whose files are made when they are asked for.
  func carriedNames() throws -> [(name: String, bytes: Int)] {
    switch container {
    case .checkpoint(let checkpoint):
      checkpoint.containerName == "gguf" ? [] : try checkpoint.smallFiles().map { ($0.name, $0.bytes.count) }
    case .ingot(let ingot):
      ingot.file.fileSizes.map { ($0.name, $0.byteCount) }
    }
  }
}
