// What two models' configurations and tokenizers differ in, by name: what the pass computes from, what ids a text becomes, and
// what is only said.

import SmeltModels
import SmeltStorage
import SmeltTokenizers

/// One thing that is not the same on both sides, beside the weights.
package struct ModelDifference: Sendable, Hashable {
  /// What it is about.
  package enum Kind: String, Sendable, CaseIterable {
    /// A value of config.json.
    case configuration
    /// What a text becomes.
    case tokenizer
  }

  /// What it is about.
  package var kind: Kind
  /// The key, or what was compared.
  package var key: String
  /// What the source, or the first model, has.
  package var source: String
  /// What the result, or the second model, has.
  package var result: String
  /// Whether the pass computes other numbers, or text becomes other ids.
  package var changesNumbers: Bool

  /// For machines.
  var json: JSON {
    [
      "kind": JSON(kind.rawValue), "key": JSON(key), "source": JSON(source), "result": JSON(result),
      "changes_numbers": JSON(changesNumbers),
    ]
  }

  /// One line for people.
  var text: String {
    let shown = printable("\(key): \(excerpt(source, limit: 80)) and \(excerpt(result, limit: 80))")
    return "\(kind.rawValue) \(shown)"
      + (changesNumbers
        ? kind == .tokenizer ? " (changes ids)" : " (changes numbers)" : " (changes no number here)")
  }
}

extension ModelDifference {
  /// What the configurations and the tokenizers of two models differ in.
  /// - Parameters:
  ///   - texts: the texts that are verified with; nil for none.
  ///   - limit: the ids of theirs that were used.
  /// - Throws: refusals of a tokenizer's file.
  static func all(_ a: Model, _ b: Model, texts: TextSource? = nil, limit: Int? = nil) throws
    -> [ModelDifference]
  {
    try all(a, b, each: texts.map { [($0, limit)] } ?? [])
  }

  /// The same over several texts, each with a limit of its own.
  static func all(_ a: Model, _ b: Model, each texts: [(source: TextSource, limit: Int?)]) throws
    -> [ModelDifference]
  {
    try configuration(a, b) + TokenizerComparison(a, b).differences(texts)
  }

  // MARK: configuration

  /// Keys that say how a file is stored or was made, and nothing of what it computes.
  private static let ignored: Set<String> = [
    "torch_dtype", "dtype", "transformers_version", "quantization_config", "quantization",
    "compression_config", "architectures", "auto_map", "_name_or_path", "use_cache", "name_or_path",
  ]

  /// Effective values first, then what config.json says differently without an effect on the pass.
  static func configuration(_ a: Model, _ b: Model) throws -> [ModelDifference] {
    var differences: [ModelDifference] = []
    let others = Dictionary(b.family.settings.map { ($0.key, $0) }) { first, _ in first }
    var named: Set<String> = []
    func add(_ key: String, _ source: String, _ result: String, _ changes: Bool) {
      differences.append(
        ModelDifference(
          kind: .configuration, key: key, source: source, result: result, changesNumbers: changes))
    }
    for setting in a.family.settings {
      guard let other = others[setting.key] else { continue }
      guard setting.value != other.value || !setting.isSame(as: other) else { continue }
      named.insert(String(setting.key.prefix { $0 != "." && $0 != " " }))
      add(setting.key, setting.value, other.value, setting.changesNumbers && !setting.isSame(as: other))
    }
    let mine = a.family.settings
    for setting in b.family.settings where !mine.contains(where: { $0.key == setting.key }) {
      add(setting.key, "none", setting.value, setting.changesNumbers)
    }
    for setting in mine where others[setting.key] == nil {
      add(setting.key, setting.value, "none", setting.changesNumbers)
    }
    // What only one of them says is a default for the other, or nothing to the pass.
    let (x, y) = (try config(a), try config(b))
    for (key, value) in zip(x?.keys ?? [], x?.values ?? []) where !ignored.contains(key) {
      guard let other = y?[key], let mine = scalar(value), let its = scalar(other), mine != its,
        !named.contains(key)
      else { continue }
      add(key, mine, its, false)
    }
    // Whether there is a head of its own shows in the weights; a word that only one side has is said all the same.
    let tied = "tie_word_embeddings"
    if let x, let y, (x[tied] == nil) != (y[tied] == nil), !named.contains(tied),
      !a.source.makesItsFiles, !b.source.makesItsFiles
    {
      add(tied, x[tied].flatMap(scalar) ?? "none", y[tied].flatMap(scalar) ?? "none", false)
    }
    // Sections that have no counterpart in the source are held against the list of what was written.
    for name in try changedSinceWritten(b) { add(name, "as it was written", "changed since", false) }
    return differences
  }

  /// Files of a result's folder that say what its weights are and are not what its list says Smelt wrote.
  private static func changedSinceWritten(_ model: Model) throws -> [String] {
    guard let manifest = try FolderManifest.read(model.path) else { return [] }
    return try ["config.json", WeightErrors.fileName].filter { name in
      guard let entry = manifest.files.first(where: { $0.name == name }) else { return false }
      guard let bytes = try model.smallFile(name) else { return true }
      return bytes.withUnsafeBytes { xxh64($0) } != entry.hash
    }
  }

  private static func config(_ model: Model) throws -> JSONObject? {
    try model.smallFile("config.json").flatMap { try? parseConfig($0, file: "config.json") }?.object
  }

  /// A value that is no object: numbers as numbers, however they are written.
  private static func scalar(_ value: JSON) -> String? {
    if let number = value.double { return "\(number)" }
    if let list = value.array {
      let parts = list.map(scalar)
      return parts.contains(nil) ? nil : "[\(parts.compactMap { $0 }.joined(separator: ", "))]"
    }
    return value.object == nil ? value.text() : nil
  }
}
