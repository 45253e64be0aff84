// Which file of a model is its tokenizer, and what lies beside it. tokenizer.json says all; a tiktoken file needs to know how a text
// is cut; a SentencePiece file needs the tokens that were added later.

package import SmeltStorage

/// The tokenizer's files of one model.
package struct TokenizerFiles: Sendable {
  /// What the tokenizer's file is.
  package enum Kind: String, Sendable {
    /// A tokenizer.json.
    case json = "tokenizer.json"
    /// Lines of base64 and rank.
    case tiktoken
    /// A SentencePiece model.
    case sentencePiece = "SentencePiece"
  }

  /// What it is.
  package let kind: Kind
  /// Its name.
  package let file: String
  /// Its bytes.
  package let bytes: Bytes
  private let config: Bytes?
  private let addedTokens: Bytes?

  /// Finds the tokenizer among a model's files: tokenizer.json first, then a tiktoken file, then a SentencePiece model. A
  /// tokenizer.model is what its first bytes say.
  /// - Parameters:
  ///   - names: the files.
  ///   - read: gives the bytes of one.
  /// - Returns: nil without a tokenizer.
  /// - Throws: what `read` throws.
  package init?(among names: [String], read: (String) throws -> Bytes?) throws {
    let ranked =
      ["tokenizer.json", "tiktoken.model"] + names.filter { Self.isTiktoken($0) }.sorted()
      + ["tokenizer.model", "spiece.model"]
    guard let name = ranked.first(where: names.contains), let bytes = try read(name) else { return nil }
    file = name
    self.bytes = bytes
    switch name {
    case "tokenizer.json": kind = .json
    case "tokenizer.model", "spiece.model": kind = Self.isLines(bytes) ? .tiktoken : .sentencePiece
    default: kind = .tiktoken
    }
    config = kind == .json ? nil : try read("tokenizer_config.json")
    addedTokens = kind == .json ? nil : try read("added_tokens.json")
  }

  /// Whether a file may be a model's tokenizer.
  package static func isTokenizer(_ name: String) -> Bool {
    ["tokenizer.json", "tiktoken.model", "tokenizer.model", "spiece.model"].contains(name) || isTiktoken(name)
  }

  private static func isTiktoken(_ name: String) -> Bool {
    name.hasSuffix(".tiktoken") && !name.contains("/") && name.utf8.count > ".tiktoken".utf8.count
  }

  /// Whether bytes begin as tiktoken's lines do; the first byte of a SentencePiece model is a line feed.
  private static func isLines(_ bytes: Bytes) -> Bool {
    let head = bytes[0..<min(bytes.count, 4096)].array.prefix { $0 != 0x0A && $0 != 0x20 }
    return !head.isEmpty && head.count < min(bytes.count, 4096) && Base64.decode(head) != nil
  }

  /// The tokenizer.
  /// - Throws: `FormatError` `TOK_JSON` or `TOK_VALUE` with the file and the byte; `RequestError` `unsupported` naming what
  ///   Smelt does not have.
  package func tokenizer() throws -> Tokenizer {
    switch kind {
    case .json: try Tokenizer(json: bytes, file: file)
    case .tiktoken: try Tokenizer(try TiktokenFile(bytes, file: file), try settings())
    case .sentencePiece: try Tokenizer(try SentencePieceFile(bytes, file: file), try settings())
    }
  }

  /// What the files beside it say.
  package func settings() throws -> TokenizerSettings {
    try TokenizerSettings(config: config, addedTokens: addedTokens)
  }
}
