// What two models' configurations and tokenizers differ in, by name: what the pass computes from, what ids a text becomes, and
// what is only said.

import SmeltModels
import SmeltStorage
import SmeltTokenizers

/// One thing that is not the same on both sides, beside the weights.
public struct ModelDifference: Sendable, Hashable {
  /// What it is about.
  public enum Kind: String, Sendable, CaseIterable {
    /// A value of config.json.
    case configuration
    /// What a text becomes.
    case tokenizer
  }

  /// What it is about.
  public var kind: Kind
  /// The key, or what was compared.
  public var key: String
  /// What the source, or the first model, has.
  public var source: String
  /// What the result, or the second model, has.
  public var result: String
  /// Whether the pass computes other numbers, or text becomes other ids.
  public var changesNumbers: Bool

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
    try configuration(a, b) + TokenizerComparison(a, b).differences(texts, limit: limit)
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
    return differences
  }

  private static func config(_ model: Model) throws -> JSONObject? {
    try model.smallFile("config.json").flatMap { try? JSON.scan($0) }?.object
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

/// Two models' tokenizers.
private struct TokenizerComparison {
  private let a: Model
  private let b: Model

  init(_ a: Model, _ b: Model) { (self.a, self.b) = (a, b) }

  private static let file = "tokenizer.json"

  func differences(_ texts: TextSource?, limit: Int?) throws -> [ModelDifference] {
    let (mine, its) = (try a.tokenizerFiles(), try b.tokenizerFiles())
    var differences: [ModelDifference] = []
    func add(_ key: String, _ source: String, _ result: String, _ changes: Bool) {
      differences.append(
        ModelDifference(kind: .tokenizer, key: key, source: source, result: result, changesNumbers: changes))
    }
    switch (mine, its) {
    case (nil, nil): break
    case (_?, nil): add(mine?.file ?? Self.file, "present", "missing", true)
    case (nil, _?): add(its?.file ?? Self.file, "missing", "present", false)
    case (let mine?, let its?):
      guard mine.file != its.file || mine.kind != .json || mine.bytes.array != its.bytes.array else {
        break
      }
      do {
        let (x, y) = (try mine.tokenizer(), try its.tokenizer())
        if let found = try texts.flatMap({ try first(x, y, $0, limit) }) ?? x.difference(from: y) {
          add("ids at \(found.subject)", found.first, found.second, true)
        }
      } catch let error as RequestError where error.kind == .unsupported {
        add(
          mine.file, "\(mine.bytes.count) bytes", "\(its.bytes.count) bytes, not compared: \(error.problem)",
          false)
      }
    }
    for (key, source, result) in try said() { add(key, source, result, false) }
    return differences
  }

  /// Where the ids of the texts part, first of all.
  private func first(_ x: Tokenizer, _ y: Tokenizer, _ texts: TextSource, _ limit: Int?) throws
    -> TokenizerDifference?
  {
    var found: TokenizerDifference?
    var count = 0
    try texts.forEach { text, file in
      guard found == nil, count < limit ?? .max else { return }
      found = x.difference(from: y, text).map {
        TokenizerDifference(
          subject: "\($0.subject) of \(fileName(file))", first: $0.first, second: $0.second)
      }
      if limit != nil { count += x.encode(text).count }
    }
    return found
  }

  /// What tokenizer_config.json and the template say, where both say something, or the result says nothing.
  private func said() throws -> [(String, String, String)] {
    func config(_ model: Model) throws -> JSONObject? {
      try model.smallFile("tokenizer_config.json").flatMap { try? JSON.scan($0) }?.object
    }
    func token(_ value: JSON?) -> String? { value?.string ?? value?["content"]?.string }
    let (x, y) = (try config(a), try config(b))
    var said: [(String, String, String)] = []
    for key in ["bos_token", "eos_token", "unk_token", "pad_token"] {
      guard let mine = token(x?[key]), let its = token(y?[key]), mine != its else { continue }
      said.append((key, mine, its))
    }
    for key in ["add_bos_token", "add_eos_token"] {
      guard let mine = x?[key]?.bool, let its = y?[key]?.bool, mine != its else { continue }
      said.append((key, "\(mine)", "\(its)"))
    }
    func template(_ model: Model, _ config: JSONObject?) throws -> [UInt8]? {
      try model.smallFile("chat_template.jinja")?.array
        ?? config?["chat_template"]?.string.map { Array($0.utf8) }
    }
    let (mine, its) = (try template(a, x), try template(b, y))
    if let mine, mine != its {
      said.append(
        ("chat_template", "\(mine.count) bytes", its.map { "\($0.count) bytes, others" } ?? "missing"))
    }
    return said
  }
}
