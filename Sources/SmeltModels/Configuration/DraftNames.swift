// Which tensors and keys of an unknown model speak of blocks that draft tokens.

package import SmeltStorage

/// Names of draft blocks where no family says them.
package struct DraftNames: Sendable {
  /// The model's own layers; nil where the configuration does not count them, or counts no draft blocks.
  private let layers: Int?

  /// - Parameter config: config.json, of which the text model's section counts where there is one.
  package init(_ config: JSON) {
    let text = TextConfig.keys.lazy.compactMap { config[$0] }.first { $0.object != nil } ?? config
    let counts = (text.object?.keys ?? []).filter(DraftNames.isCount)
    let drafts = counts.compactMap { text[$0]?.integer }.max() ?? 0
    layers = drafts > 0 ? text["num_hidden_layers"]?.integer : nil
  }

  /// Whether a tensor of this name belongs to a block that drafts tokens: `mtp.layers.0…`, or a layer of the text model behind the
  /// last that the configuration counts.
  package func covers(_ tensor: String) -> Bool {
    let words = tensor.lowercased().split(separator: ".").map(String.init)
    if words.contains(where: { $0 == "mtp" || $0.hasPrefix("mtp_") || $0.hasPrefix("nextn") }) { return true }
    guard let layers, let place = words.firstIndex(of: "layers"), place + 1 < words.count,
      words[..<place].allSatisfy(DraftNames.aroundLayers.contains), let number = Int(words[place + 1])
    else { return false }
    return number >= layers
  }

  private static let aroundLayers: Set<String> = [
    "model", "language_model", "text_model", "transformer", "backbone", "thinker", "decoder",
  ]

  /// Whether a key of a configuration counts layers or modules that draft tokens: `num_nextn_predict_layers` (DeepSeek, GLM),
  /// `num_mtp_modules` (MiniMax), `mtp_num_hidden_layers` (Qwen), `num_mtp_layers` (LongCat), `n_mtp_layers` and their like. Not the
  /// layers of each module, nor weights of a loss.
  package static func isCount(_ key: String) -> Bool {
    let words = Set(key.lowercased().split(separator: "_").map(String.init))
    guard !words.isDisjoint(with: ["mtp", "nextn"]) else { return false }
    return !words.isDisjoint(with: ["num", "n", "layers", "modules", "depth", "heads"])
      && words.isDisjoint(with: ["transformer", "loss", "weight", "factor"])
  }
}
