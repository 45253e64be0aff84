// What two models' tokenizers differ in: the ids of the texts, the text of the ids, and what their files only say.

import SmeltModels
import SmeltStorage
import SmeltTokenizers

/// Two models' tokenizers.
struct TokenizerComparison {
  private let a: Model
  private let b: Model

  init(_ a: Model, _ b: Model) { (self.a, self.b) = (a, b) }

  /// Files that hold a vocabulary, or a part of one, in another form than tokenizer.json.
  private static func holdsVocabulary(_ name: String) -> Bool {
    let names = [
      "tokenizer.model", "tiktoken.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json",
      "vocab.txt", "merges.txt", "tekken.json", "added_tokens.json",
    ]
    return names.contains(name) || (name.hasSuffix(".tiktoken") && !name.contains("/"))
  }

  func differences(_ texts: [(source: TextSource, limit: Int?)]) throws -> [ModelDifference] {
    let (mine, its) = (try a.tokenizerFiles(), try b.tokenizerFiles())
    var differences: [ModelDifference] = []
    func add(_ key: String, _ source: String, _ result: String, _ changes: Bool) {
      differences.append(
        ModelDifference(kind: .tokenizer, key: key, source: source, result: result, changesNumbers: changes))
    }
    // Files whose tokenizers were read on both sides, or of which one is not there.
    var compared: Set<String> = []
    switch (mine, its) {
    case (nil, nil): break
    case (let mine?, nil):
      compared = [mine.file]
      add(mine.file, "present", "missing", true)
    case (nil, let its?): add(its.file, "missing", "present", false)
    case (let mine?, let its?):
      guard mine.file != its.file || mine.kind != .json || mine.bytes.array != its.bytes.array else {
        compared = [mine.file]
        break
      }
      let (x, y) = (try Reading(mine), try Reading(its, mayBeBroken: true))
      switch (x, y) {
      case (.tokenizer(let x), .tokenizer(let y)):
        compared = [mine.file, its.file]
        if let found = try first(x, y, texts) ?? x.difference(from: y) {
          add("ids at \(found.subject)", found.first, found.second, true)
        } else if let found = x.textDifference(from: y) {
          add(found.subject, found.first, found.second, true)
        }
      case (.tokenizer, .problem(let problem)):
        compared = [mine.file, its.file]
        add(
          its.file, "\(mine.bytes.count) bytes", "\(its.bytes.count) bytes, not readable: \(problem)", true)
      case (.problem(let problem), _):
        add(
          mine.file, "\(mine.bytes.count) bytes, not compared: \(problem)", "\(its.bytes.count) bytes", false)
      }
      // A GGUF file's tokenizer.json is rebuilt from its keys.
      if mine.kind == .json, its.kind == .json, !a.source.makesItsFiles, !b.source.makesItsFiles {
        for (key, source, result) in members(mine.bytes, its.bytes) { add(key, source, result, false) }
      }
    }
    for (key, source, result) in try vocabularies() where !compared.contains(key) {
      add(key, source, result, compared.isEmpty)
    }
    for (key, source, result) in try said() { add(key, source, result, false) }
    return differences
  }

  /// A tokenizer, read as far as it can be.
  private enum Reading {
    case tokenizer(Tokenizer)
    case problem(String)

    /// - Parameter mayBeBroken: whether an unreadable file is a finding rather than an error.
    init(_ files: TokenizerFiles, mayBeBroken: Bool = false) throws {
      do {
        self = .tokenizer(try files.tokenizer())
      } catch let error as RequestError where error.kind == .unsupported {
        self = .problem(error.problem)
      } catch let error as FormatError where mayBeBroken {
        self = .problem(error.problem)
      }
    }
  }

  /// Where the ids of several texts part, first of all.
  private func first(_ x: Tokenizer, _ y: Tokenizer, _ texts: [(source: TextSource, limit: Int?)]) throws
    -> TokenizerDifference?
  {
    for (source, limit) in texts {
      if let found = try first(x, y, source, limit) { return found }
    }
    return nil
  }

  /// Where the ids of a text part, first of all.
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

  // MARK: files

  /// Vocabularies in other files: byte by byte. A GGUF file has none of them, and what only the result has is not the source's.
  private func vocabularies() throws -> [(String, String, String)] {
    guard !a.source.makesItsFiles, !b.source.makesItsFiles else { return [] }
    return try a.source.smallFiles().filter { Self.holdsVocabulary($0.name) }.compactMap {
      name, mine -> (String, String, String)? in
      let its = try b.smallFile(name)
      guard its?.array != mine.array else { return nil }
      return (name, "\(mine.count) bytes", its.map { "\($0.count) bytes, others" } ?? "missing")
    }
  }

  /// Members of tokenizer.json that differ, beside the vocabulary and its merges, whose effect is compared. A member that is
  /// absent, null or false is one.
  private func members(_ mine: Bytes, _ its: Bytes) -> [(String, String, String)] {
    guard let x = try? JSON.scan(mine), let y = try? JSON.scan(its) else { return [] }
    var found: [(String, String, String)] = []
    func compare(_ key: String, _ a: JSON?, _ b: JSON?) {
      let (a, b) = (a.flatMap(Self.said), b.flatMap(Self.said))
      guard a != b else { return }
      found.append((key, a ?? "none", b ?? "none"))
    }
    func keys(_ a: JSON?, _ b: JSON?, without: Set<String>) -> [String] {
      let first = a?.object?.keys ?? []
      return (first + (b?.object?.keys ?? []).filter { !first.contains($0) }).filter { !without.contains($0) }
    }
    for key in keys(x, y, without: ["model", "added_tokens"]) {
      compare("tokenizer.json \(key)", x[key], y[key])
    }
    let (model, other) = (x["model"], y["model"])
    for key in keys(model, other, without: ["vocab", "merges"]) {
      compare("tokenizer.json model.\(key)", model?[key], other?[key])
    }
    func added(_ json: JSON) -> [Int: JSON] {
      let list = json["added_tokens"]?.array ?? []
      return Dictionary(list.compactMap { token in token["id"]?.integer.map { ($0, token) } }) { $1 }
    }
    let (tokens, others) = (added(x), added(y))
    for id in Set(tokens.keys).union(others.keys).sorted() {
      compare("tokenizer.json added token \(id)", tokens[id], others[id])
    }
    return Array(found.prefix(32))
  }

  /// A value with its keys in order and without those that say nothing; nil where it says nothing itself.
  private static func said(_ json: JSON) -> String? {
    if json.isNull || json.bool == false { return nil }
    if let list = json.array { return "[" + list.map { said($0) ?? "none" }.joined(separator: ", ") + "]" }
    guard let object = json.object else { return json.text() }
    let members = zip(object.keys, object.values).compactMap { key, value in said(value).map { (key, $0) } }
    return "{" + members.sorted { $0.0 < $1.0 }.map { "\($0.0): \($0.1)" }.joined(separator: ", ") + "}"
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
