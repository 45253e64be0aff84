// What the files beside a tokenizer say that does not stand in it: tokens with ids and flags, the class that cuts the text.
// Sources: transformers' tokenizer_config.json and added_tokens.json.

package import SmeltStorage

/// The settings of a tokenizer that is not a tokenizer.json.
package struct TokenizerSettings: Sendable {
  /// A token that is added to the vocabulary.
  package struct Added: Sendable {
    package var id: Int
    package var content: String
    package var isSpecial: Bool
    package var stripsLeft = false
    package var stripsRight = false
    package var isSingleWord = false
  }

  /// The tokens of `added_tokens_decoder`, then those of added_tokens.json that are not among them.
  package private(set) var added: [Added] = []
  /// `tokenizer_class`.
  package private(set) var className: String?
  /// The module and class of `auto_map` for tokenizers: `tokenization_kimi.TikTokenTokenizer`.
  package private(set) var codeName: String?
  /// `legacy`.
  package private(set) var isLegacy: Bool?
  /// `add_prefix_space`.
  package private(set) var addsPrefixSpace: Bool?

  /// No settings.
  package init() {}

  /// Reads tokenizer_config.json and added_tokens.json, where they are there.
  /// - Throws: `TOK_JSON` and `TOK_VALUE` with file and byte.
  package init(config: Bytes?, addedTokens: Bytes?) throws {
    if let config {
      let file = "tokenizer_config.json"
      let root = try Self.scan(config, file)
      className = root["tokenizer_class"]?.string
      let map = root["auto_map"]?["AutoTokenizer"]
      codeName = map?.string ?? map?.array?.lazy.compactMap(\.string).first
      isLegacy = root["legacy"]?.bool
      addsPrefixSpace = root["add_prefix_space"]?.bool
      if let decoder = root["added_tokens_decoder"]?.object {
        for (key, value) in zip(decoder.keys, decoder.values) {
          guard let id = Int(key), let content = value["content"]?.string else {
            throw FormatError(
              .tokenizerValue, file: file, subject: "added_tokens_decoder", offset: value.offset,
              "found '\(printable(excerpt(key)))', expected an id with its content")
          }
          added.append(
            Added(
              id: try Self.checked(id, value, file), content: content,
              isSpecial: value["special"]?.bool ?? false,
              stripsLeft: value["lstrip"]?.bool ?? false, stripsRight: value["rstrip"]?.bool ?? false,
              isSingleWord: value["single_word"]?.bool ?? false))
        }
      }
    }
    if let addedTokens {
      let file = "added_tokens.json"
      let root = try Self.scan(addedTokens, file)
      guard let members = root.object else {
        throw FormatError(
          .tokenizerJSON, file: file, offset: root.offset, "found \(root.kind), expected an object")
      }
      let known = Set(added.map(\.id))
      for (content, value) in zip(members.keys, members.values) {
        guard let id = value.integer else {
          throw FormatError(
            .tokenizerValue, file: file, subject: content, offset: value.offset,
            "found \(value.kind), expected an id")
        }
        guard !known.contains(try Self.checked(id, value, file)) else { continue }
        added.append(Added(id: id, content: content, isSpecial: false))
      }
    }
  }

  private static func scan(_ bytes: Bytes, _ file: String) throws(FormatError) -> JSON {
    do throws(JSONError) {
      return try JSON.scan(bytes)
    } catch {
      throw FormatError(.tokenizerJSON, file: file, offset: error.offset, error.problem)
    }
  }

  private static func checked(_ id: Int, _ json: JSON, _ file: String) throws(FormatError) -> Int {
    guard id >= 0, id < 1 << 24 else {
      throw FormatError(
        .tokenizerValue, file: file, subject: "added_tokens_decoder", offset: json.offset,
        "found id \(id), expected one from 0 to \((1 << 24) - 1)")
    }
    return id
  }
}

extension Tokenizer {
  /// Adds tokens that are looked for in the text as they stand.
  /// - Throws: `TOK_VALUE` for a text with two ids, and for one without letters.
  mutating func insert(_ tokens: [TokenizerSettings.Added]) throws(FormatError) {
    var ids: [String: Int] = [:]
    for token in tokens {
      guard !token.content.isEmpty else {
        throw FormatError(
          .tokenizerValue, file: file, subject: "added_tokens_decoder", "found token \(token.id) without text"
        )
      }
      if let other = ids.updateValue(token.id, forKey: token.content) {
        throw FormatError(
          .tokenizerValue, file: file, subject: token.content,
          "found as added token \(other) and \(token.id), expected one id")
      }
      added[Int32(token.id)] = token.content
      plainTokens.insert(
        AddedToken(
          content: Array(token.content.utf8), id: Int32(token.id), isSingleWord: token.isSingleWord,
          stripsLeft: token.stripsLeft, stripsRight: token.stripsRight))
    }
  }
}
