// Reads tokenizer.json: every component by name, every value checked. What is well-formed but not supported is refused with
// its name, since a tokenizer that ignored a step would give wrong ids in silence.

import SmeltStorage

/// Reads one file.
struct TokenizerReader {
  let file: String

  /// Ids lie below this; the largest published vocabulary has 2^18 tokens.
  static let idLimit = 1 << 24
  /// The largest vocabularies have half a million merges of three JSON values each.
  private static let limits = JSONLimits(depth: 64, values: 16_000_000)

  func read(_ json: Bytes) throws -> Tokenizer {
    let root: JSON
    do throws(JSONError) {
      root = try JSON.scan(json, limits: Self.limits)
    } catch {
      throw FormatError(.tokenizerJSON, file: file, offset: error.offset, error.problem)
    }
    guard root.object != nil else { throw form("", root, "an object") }
    guard let model = root["model"] else {
      throw FormatError(.tokenizerJSON, file: file, subject: "model", offset: root.offset, "found none")
    }
    let components = TokenizerComponents(file: file)
    let preTokenizer = try components.preTokenizer(root["pre_tokenizer"])
    var tokenizer = try self.model(model, isByteLevel: preTokenizer.isByteLevel)
    tokenizer.preTokenizer = preTokenizer.steps
    tokenizer.normalizer = try components.normalizer(root["normalizer"])
    tokenizer.decoder = try components.decoder(root["decoder"])
    try addTokens(root["added_tokens"], &tokenizer)
    return tokenizer
  }

  // MARK: the model

  private func model(_ json: JSON, isByteLevel: Bool) throws -> Tokenizer {
    guard json.object != nil else { throw form("model", json, "an object") }
    if let type = json["type"] {
      guard let name = type.string else { throw form("model.type", type, "a string") }
      if name == "Unigram" { return try unigram(json) }
      guard name == "BPE" else {
        throw unsupported("tokenizer model '\(name)'", "Smelt reads BPE and Unigram")
      }
    } else if json["merges"] == nil {
      throw FormatError(.tokenizerJSON, file: file, subject: "model.type", offset: json.offset, "found none")
    }
    if let dropout = json["dropout"], !dropout.isNull, dropout.double != 0 {
      throw unsupported("tokenizer dropout", "set \"dropout\" to null; ids would differ from run to run")
    }
    guard let vocabulary = json["vocab"] else {
      throw FormatError(.tokenizerJSON, file: file, subject: "model.vocab", offset: json.offset, "found none")
    }
    guard let members = vocabulary.object else { throw form("model.vocab", vocabulary, "an object") }
    var texts: [String] = []
    var byId: [(id: Int32, text: Int32)] = []
    var tokens = ByteTable(capacity: members.count)
    texts.reserveCapacity(members.count)
    byId.reserveCapacity(members.count)
    for (text, value) in zip(members.keys, members.values) {
      let id = try id(value, subject: text)
      guard insert(text, id, &tokens) else { throw self.value(text, value, "the token appears twice") }
      byId.append((id, Int32(texts.count)))
      texts.append(text)
    }
    byId.sort { ($0.id, $0.text) < ($1.id, $1.text) }
    for (entry, next) in zip(byId, byId.dropFirst()) where entry.id == next.id {
      throw self.value(
        texts[Int(next.text)], members.values[Int(next.text)],
        "found id \(entry.id), which is '\(texts[Int(entry.text)])' already")
    }
    let prefix = try text(json, "continuing_subword_prefix") ?? ""
    var model = BytePairModel(tokens: tokens, merges: try merges(json["merges"], tokens, prefix, json))
    model.prefix = Array(prefix.utf8)
    model.suffix = Array((try text(json, "end_of_word_suffix") ?? "").utf8)
    model.fusesUnknown = try flag(json, "fuse_unk")
    model.ignoresMerges = try flag(json, "ignore_merges")
    model.isByteLevel = isByteLevel
    if isByteLevel {
      model.byteIds = (0..<256).map { tokens.find(ByteAlphabet.spelled([UInt8($0)])) ?? -1 }
    }
    if model.ignoresMerges {
      model.wholeWords = ByteTable(capacity: members.count)
      for entry in byId {
        let text = texts[Int(entry.text)]
        guard let bytes = isByteLevel ? ByteAlphabet.bytes(of: text) : Array(text.utf8) else { continue }
        // SAFETY: `insert` copies the text that it is lent.
        _ = bytes.withUnsafeBufferPointer { model.wholeWords.insert($0, entry.id) }
      }
    }
    if try flag(json, "byte_fallback") {
      model.fallbackIds = fallbackIds(tokens)
    }
    if let unknown = try text(json, "unk_token") {
      model.unknown = tokens.find(Array(unknown.utf8))
      guard model.unknown != nil || isByteLevel && !model.byteIds.contains(-1) else {
        throw value("unk_token", json["unk_token"] ?? json, "found '\(unknown)', which is not a token")
      }
    }
    return Tokenizer(model: .bytePairs(model), texts: texts, byId: byId)
  }

  private func merges(_ json: JSON?, _ tokens: ByteTable, _ prefix: String, _ model: JSON) throws
    -> MergeTable
  {
    guard let json else {
      throw FormatError(
        .tokenizerJSON, file: file, subject: "model.merges", offset: model.offset, "found none")
    }
    guard let list = json.array else { throw form("model.merges", json, "a list") }
    var table = MergeTable(count: list.count)
    var rank: UInt32 = 0
    let skipped = prefix.utf8.count
    for entry in list {
      // The first line of a merges.txt, which old files copied.
      if let line = entry.string, line.utf8.starts(with: "#version".utf8) { continue }
      guard let (left, right) = pair(entry) else {
        throw value("model.merges", entry, "found \(shown(entry)), expected a pair of tokens")
      }
      guard skipped <= right.count else {
        throw value(
          "model.merges", entry, "found '\(shown(right))', expected the prefix '\(prefix)' before it")
      }
      guard let leftId = tokens.find(left) else { throw noToken(left, entry) }
      guard let rightId = tokens.find(right) else { throw noToken(right, entry) }
      let joined = left + right.dropFirst(skipped)
      guard let id = tokens.find(joined) else { throw noToken(joined, entry) }
      table.insert(leftId, rightId, MergeTable.Merge(rank: rank, id: id))
      rank += 1
    }
    return table
  }

  /// The two sides of a merge: `"a b"` or `["a", "b"]`.
  private func pair(_ json: JSON) -> ([UInt8], [UInt8])? {
    if let line = json.string {
      let parts = line.utf8.split(separator: 0x20, omittingEmptySubsequences: false)
      return parts.count == 2 ? (Array(parts[0]), Array(parts[1])) : nil
    }
    guard let list = json.array, list.count == 2, let left = list[0].string, let right = list[1].string
    else { return nil }
    return (Array(left.utf8), Array(right.utf8))
  }

  func insert(_ text: String, _ id: Int32, _ table: inout ByteTable) -> Bool {
    var text = text
    return text.withUTF8 { table.insert($0, id) }
  }

  // MARK: added tokens

  private func addTokens(_ json: JSON?, _ tokenizer: inout Tokenizer) throws {
    guard let json, !json.isNull else { return }
    guard let list = json.array else { throw form("added_tokens", json, "a list") }
    var seen = ByteTable(capacity: list.count)
    for entry in list {
      guard entry.object != nil else { throw form("added_tokens", entry, "a list of objects") }
      guard let content = try text(entry, "content") else {
        throw FormatError(
          .tokenizerJSON, file: file, subject: "added_tokens", offset: entry.offset, "found no content")
      }
      guard let number = entry["id"] else {
        throw FormatError(.tokenizerJSON, file: file, subject: content, offset: entry.offset, "found no id")
      }
      let id = try id(number, subject: content)
      let bytes = Array(content.utf8)
      if let known = tokenizer.model.find(bytes), known != id {
        throw value(content, number, "found id \(id), expected \(known) as in the vocabulary")
      }
      if let other = tokenizer.token(Int(id)), !other.utf8.elementsEqual(content.utf8) {
        throw value(content, number, "found id \(id), which is '\(other)' already")
      }
      guard tokenizer.added.updateValue(content, forKey: id) == nil else {
        throw value(content, number, "the added token \(id) appears twice")
      }
      guard insert(content, id, &seen) else {
        throw value(content, number, "found as added token with another id already")
      }
      let isNormalized = try flag(entry, "normalized")
      var token = AddedToken(
        content: bytes, id: id, isSingleWord: try flag(entry, "single_word"),
        stripsLeft: try flag(entry, "lstrip"), stripsRight: try flag(entry, "rstrip"))
      if isNormalized {
        token.content = tokenizer.normalizer.reduce(bytes) { $1.apply($0) }
        tokenizer.normalizedTokens.insert(token)
      } else {
        tokenizer.plainTokens.insert(token)
      }
    }
  }

  // MARK: values and refusals

  private func id(_ json: JSON, subject: String) throws -> Int32 {
    guard let number = json.integer else {
      throw value(subject, json, "found \(json.kind), expected an id from 0 to \(Self.idLimit - 1)")
    }
    guard number >= 0, number < Self.idLimit else {
      throw value(subject, json, "found id \(number), expected one from 0 to \(Self.idLimit - 1)")
    }
    return Int32(number)
  }

  private func text(_ json: JSON, _ key: String) throws -> String? {
    guard let member = json[key], !member.isNull else { return nil }
    guard let text = member.string else { throw form(key, member, "a string or null") }
    return text
  }

  func flag(_ json: JSON, _ key: String) throws -> Bool {
    guard let member = json[key], !member.isNull else { return false }
    guard let flag = member.bool else { throw form(key, member, "a truth value") }
    return flag
  }

  func form(_ subject: String, _ json: JSON, _ expected: String) -> FormatError {
    FormatError(
      .tokenizerJSON, file: file, subject: subject.isEmpty ? nil : subject, offset: json.offset,
      "found \(json.kind), expected \(expected)")
  }

  func value(_ subject: String, _ json: JSON, _ problem: String) -> FormatError {
    FormatError(.tokenizerValue, file: file, subject: subject, offset: json.offset, problem)
  }

  private func noToken(_ token: [UInt8], _ json: JSON) -> FormatError {
    value("model.merges", json, "found '\(shown(token))', which is not a token of the vocabulary")
  }

  private func shown(_ bytes: [UInt8]) -> String { String(String(decoding: bytes, as: UTF8.self).prefix(80)) }

  private func shown(_ json: JSON) -> String { json.string.map { "'\(String($0.prefix(80)))'" } ?? json.kind }

  private func unsupported(_ what: String, _ help: String) -> RequestError {
    RequestError(.unsupported, "\(what) in \(file) is not supported", help: help)
  }
}
