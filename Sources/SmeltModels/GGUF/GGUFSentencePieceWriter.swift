// From a SentencePiece model to the keys of a GGUF file: pieces, scores and kinds as they stand, which is what llama.cpp's kind
// `llama` was made for. What that kind cannot say is refused or said.

import SmeltStorage
import SmeltTokenizers

/// Writes the keys of one SentencePiece model.
struct GGUFSentencePieceWriter {
  let model: GGUFTokenizer.Files.SentencePiece
  let files: GGUFTokenizer.Files
  let config: JSON

  private var source: SentencePieceFile { model.source }

  /// The score that llama.cpp's converter gives to an id without a piece, and to an added token.
  private static let score = (none: -10_000.0, added: -1000.0)

  /// The keys in the order of llama.cpp's converter.
  /// - Throws: `RequestError` `unsupported` for what the kind `llama` does not do; `TOK_VALUE` for ids beyond `vocab_size`.
  func entries() throws -> GGUFTokenizer.Entries {
    try requireFit()
    var notes: [String] = []
    let prefix = source.prefix(model.settings)
    if prefix == .first {
      notes.append(
        "llama.cpp puts a space behind special tokens too; the tokenizer ('legacy' is false) puts it before the text only"
      )
    }
    let tokens = try tokens(&notes)
    let writer = try GGUFTokenizerWriter(root: root, files: files, config: config)
    let special = GGUFSpecialTokens(root: root, tokenizerConfig: writer.tokenizerConfig, config: config)
    var out: [(key: String, value: MetadataValue)] = []
    func add(_ name: String, _ value: MetadataValue) { out.append((GGUFTokenizer.key(name), value)) }
    add("model", .string("llama"))
    add("pre", .string("default"))
    add("tokens", .strings(tokens.texts))
    add("scores", .numbers(tokens.scores))
    add("token_type", .integers(tokens.types.map(\.rawValue)))
    for (task, id) in special.ids {
      guard id < tokens.texts.count else {
        notes.append("the id \(id) of '\(task.name)_token' is beyond the vocabulary and left out")
        continue
      }
      out.append((task.key, .integer(id)))
    }
    for name in ["bos", "eos", "sep"] {
      if let flag = special.adds[name] { add("add_\(name)_token", .bool(flag)) }
    }
    if prefix == .never { add("add_space_prefix", .bool(false)) }
    out += try writer.templates(&notes)
    return GGUFTokenizer.Entries(entries: out, notes: notes)
  }

  /// Refuses what llama.cpp's kind `llama` does not do to a text.
  private func requireFit() throws {
    let wrong: [(Bool, String)] = [
      (source.algorithm != .pairs, "a SentencePiece unigram model"),
      (!source.characterMap.isEmpty, "a SentencePiece normalizer with replacements"),
      (source.removesExtraSpaces, "a SentencePiece normalizer that removes white space"),
      (source.isSuffix || !source.escapesSpaces, "a SentencePiece model that writes spaces otherwise"),
      (!source.hasByteFallback, "a SentencePiece model without byte fallback"),
      (source.pieces.contains { $0.kind == .unused }, "a SentencePiece model with unused pieces"),
    ]
    if let (_, what) = wrong.first(where: \.0) {
      throw RequestError(
        .unsupported, "\(what) (\(source.file)) cannot be written to GGUF",
        help: "its tokenizer 'llama' would give other ids; write a directory of safetensors or an ingot")
    }
  }

  private struct Tokens {
    var texts: [String]
    var scores: [Double]
    var types: [GGUFTokenizer.TokenType]
  }

  private func tokens(_ notes: inout [String]) throws -> Tokens {
    let added = model.settings.added
    let highest = max(source.pieces.count - 1, added.map(\.id).max() ?? 0)
    let size = config["vocab_size"]?.integer ?? config["text_config"]?["vocab_size"]?.integer ?? highest + 1
    guard highest < size else {
      throw FormatError(
        .tokenizerValue, file: source.file, subject: "pieces",
        "found id \(highest), expected less than \(size), the 'vocab_size' of config.json")
    }
    // Padding is a few thousand ids in real models; more than a vocabulary of it is a mistake.
    guard size <= 2 * source.pieces.count + 1 << 16, size < GGUFTokenizer.idLimit else {
      throw FormatError(
        .tokenizerValue, file: source.file, subject: "pieces",
        "found \(source.pieces.count) pieces for \(size) ids, expected fewer ids without a piece")
    }
    var tokens = Tokens(
      texts: (0..<size).map(GGUFTokenizer.padding), scores: .init(repeating: Self.score.none, count: size),
      types: .init(repeating: .unused, count: size))
    for (id, piece) in source.pieces.enumerated() {
      tokens.texts[id] = piece.text
      tokens.scores[id] = Double(piece.score)
      tokens.types[id] = GGUFTokenizer.TokenType(rawValue: Int(piece.kind.rawValue)) ?? .normal
    }
    var flags = 0
    for token in added {
      if token.stripsLeft || token.stripsRight || token.isSingleWord { flags += 1 }
      // The file's own unknown piece and bytes stay what they are.
      guard ![.unknown, .byte].contains(tokens.types[token.id]) else { continue }
      let isControl = token.isSpecial || GGUFTokenizerWriter.looksSpecial(token.content)
      tokens.texts[token.id] =
        isControl
        ? token.content
        : String(token.content.unicodeScalars.map { $0 == "\u{2581}" ? " " : Character($0) })
      tokens.scores[token.id] = Self.score.added
      tokens.types[token.id] = isControl ? .control : .userDefined
    }
    if flags > 0 {
      notes.append(
        "\(flags) added tokens take white space or no neighbour beside them; GGUF has no key for it")
    }
    return tokens
  }

  /// The tokens as a tokenizer.json would list them, for the search for special ones.
  private var root: JSON {
    let control = source.pieces.enumerated().filter { $1.kind == .control || $1.kind == .unknown }
    let pieces: [(content: String, id: Int)] =
      control.map { ($1.text, $0) } + model.settings.added.map { ($0.content, $0.id) }
    var vocabulary = JSONObject()
    for (id, piece) in source.pieces.enumerated() { _ = vocabulary.append(piece.text, JSON(id)) }
    return [
      "added_tokens": JSON(pieces.map { ["content": JSON($0.content), "id": JSON($0.id)] }),
      "model": ["vocab": JSON(.object(vocabulary))],
    ]
  }
}
