// The model `Unigram` of a tokenizer.json: a list of tokens with scores, whose places are the ids.

import SmeltStorage

extension TokenizerReader {
  /// Reads the model.
  /// - Throws: `TOK_JSON` and `TOK_VALUE` for entries that are not a token with its score, or for an invalid unknown token.
  func unigram(_ json: JSON) throws -> Tokenizer {
    guard let vocabulary = json["vocab"] else {
      throw FormatError(.tokenizerJSON, file: file, subject: "model.vocab", offset: json.offset, "found none")
    }
    guard let list = vocabulary.array else { throw form("model.vocab", vocabulary, "a list") }
    guard list.count < Self.idLimit else {
      throw value(
        "model.vocab", vocabulary, "found \(list.count) tokens, expected fewer than \(Self.idLimit)")
    }
    var texts: [String] = []
    var scores: [Double] = []
    var tokens = ByteTable(capacity: list.count)
    for (id, entry) in list.enumerated() {
      guard let pair = entry.array, pair.count == 2, let text = pair[0].string, let score = pair[1].double,
        score.isFinite
      else { throw value("model.vocab", entry, "found no token with its score at id \(id)") }
      guard insert(text, Int32(id), &tokens) else { throw value(text, entry, "the token appears twice") }
      texts.append(text)
      scores.append(score)
    }
    var unknown: Int32?
    if let place = json["unk_id"], !place.isNull {
      guard let id = place.integer, texts.indices.contains(id) else {
        throw value("model.unk_id", place, "found no id of the \(texts.count) tokens")
      }
      unknown = Int32(id)
    }
    let entries = texts.enumerated().map { (key: Array($1.utf8), value: Int32($0)) }
    var model = UnigramModel(
      trie: ByteTrie(entries), scores: scores, tokens: tokens, unknown: unknown,
      unknownScore: (scores.min() ?? 0) - UnigramModel.unknownPenalty, isSinglePrecision: false)
    if try flag(json, "byte_fallback") { model.fallbackIds = fallbackIds(tokens) }
    return Tokenizer(
      model: .unigram(model), texts: texts, byId: texts.indices.map { (Int32($0), Int32($0)) })
  }

  /// The ids of `<0x00>` to `<0xFF>`, -1 where a token is absent.
  func fallbackIds(_ tokens: ByteTable) -> [Int32] {
    (0..<256).map { byte in
      let hex = String(byte, radix: 16, uppercase: true)
      return tokens.find(Array("<0x\(byte < 16 ? "0" : "")\(hex)>".utf8)) ?? -1
    }
  }
}
