// From tokenizer.json to the keys of a GGUF file. The keys, their order and values are those of llama.cpp's converter; where it
// would write what other tokenizers read otherwise, this refuses or says so.

import SmeltStorage
import SmeltTokenizers

/// Writes the keys of one tokenizer.
struct GGUFTokenizerWriter {
  let root: JSON
  let tokenizerConfig: JSON
  let files: GGUFTokenizer.Files
  let config: JSON

  private static let file = GGUFTokenizer.tokenizerFile

  init(files: GGUFTokenizer.Files, config: JSON) throws {
    // Everything the tokenizer itself refuses is refused here.
    _ = try Tokenizer(json: files.tokenizer, file: Self.file)
    root = try Self.scan(files.tokenizer, Self.file)
    tokenizerConfig = try files.tokenizerConfig.map { try Self.scan($0, GGUFTokenizer.configFile) } ?? [:]
    self.files = files
    self.config = config
  }

  /// A writer of what stands beside a tokenizer that is no tokenizer.json: special tokens and templates.
  /// - Parameter root: `added_tokens` and the vocabulary by text, as tokenizer.json has them.
  init(root: JSON, files: GGUFTokenizer.Files, config: JSON) throws {
    self.root = root
    tokenizerConfig = try files.tokenizerConfig.map { try Self.scan($0, GGUFTokenizer.configFile) } ?? [:]
    self.files = files
    self.config = config
  }

  static func scan(_ bytes: Bytes, _ file: String) throws -> JSON {
    do throws(JSONError) {
      return try JSON.scan(bytes, limits: JSONLimits(depth: 64, values: 16_000_000))
    } catch {
      throw FormatError(.tokenizerJSON, file: file, offset: error.offset, error.problem)
    }
  }

  /// How the tokenizer fits a kind of GGUF's.
  private enum Kind {
    case byteLevel(GGUFPreTokenizer)
    /// SentencePiece's merges by score.
    case scored
    /// The same with the merges listed; no mark before the text.
    case listed
  }

  func entries() throws -> GGUFTokenizer.Entries {
    var notes: [String] = []
    let kind = try kind(&notes)
    let tokens = try tokens(kind, &notes)
    var out: [(key: String, value: MetadataValue)] = []
    func add(_ name: String, _ value: MetadataValue) { out.append((GGUFTokenizer.key(name), value)) }
    var special = GGUFSpecialTokens(root: root, tokenizerConfig: tokenizerConfig, config: config)
    let types = MetadataValue.integers(tokens.types.map(\.rawValue))
    switch kind {
    case .byteLevel(let entry):
      add("model", .string("gpt2"))
      add("pre", .string(entry.names[0]))
      add("tokens", .strings(tokens.texts))
      add("token_type", types)
      add("merges", .strings(try mergeLines()))
      // llama.cpp puts the first token before a text where the name says so, unless a key speaks.
      if special.adds["bos"] == nil, entry.addsFirst { special.adds["bos"] = false }
    case .scored:
      add("model", .string("llama"))
      add("pre", .string("default"))
      add("tokens", .strings(tokens.texts))
      add("scores", .numbers(try scores(tokens, &notes)))
      add("token_type", types)
      if special.adds["bos"] == nil { special.adds["bos"] = false }
    case .listed:
      add("model", .string("gemma4"))
      add("tokens", .strings(tokens.texts))
      add("scores", .numbers([Double](repeating: -1000, count: tokens.texts.count)))
      add("token_type", types)
      add("merges", .strings(try mergeLines()))
    }
    for (task, id) in special.ids {
      guard id < tokens.texts.count else {
        notes.append("the id \(id) of '\(task.name)_token' is beyond the vocabulary and left out")
        continue
      }
      out.append((task.key, .integer(id)))
    }
    for name in ["bos", "eos", "sep"] {
      guard let flag = special.adds[name] else { continue }
      add("add_\(name)_token", .bool(flag))
    }
    out += try templates(&notes)
    if case .listed = kind {
      add("add_space_prefix", .bool(false))
      if special.adds["bos"] == nil {
        add("add_bos_token", .bool(special.ids.contains { $0.task.name == "bos" }))
      }
      if special.adds["bos"] == false {
        notes.append(
          "llama.cpp puts the first token before every text with a tokenizer of kind 'gemma4'; \(Self.file) does not"
        )
      }
    }
    return GGUFTokenizer.Entries(entries: out, notes: notes)
  }

  // MARK: the kind

  private func kind(_ notes: inout [String]) throws -> Kind {
    let components = TokenizerComponents(file: Self.file)
    let cut = try components.preTokenizer(root["pre_tokenizer"])
    let normalizer = try components.normalizer(root["normalizer"])
    let model = root["model"] ?? [:]
    if let type = model["type"]?.string, type != "BPE" {
      throw unsupported("a tokenizer model '\(printable(excerpt(type)))'")
    }
    for name in ["continuing_subword_prefix", "end_of_word_suffix"]
    where model[name]?.string?.isEmpty == false {
      throw unsupported("the tokenizer's '\(name)'")
    }
    guard cut.isByteLevel else { return try sentencePiece(cut.steps, normalizer, model) }
    var isComposed = false
    for step in normalizer {
      guard case .form(.nfc) = step else { throw unsupported("the tokenizer's normalizer") }
      isComposed = true
    }
    let ignores = model["ignore_merges"]?.bool ?? false
    guard
      let entry = GGUFPreTokenizer.matching(cut.steps, ignoresMerges: ignores, isComposed: isComposed)
    else {
      throw RequestError(
        .unsupported,
        "no 'tokenizer.ggml.pre' stands for the way in which \(Self.file) cuts a text",
        help: "a name that nearly fits would give other ids; write a directory or an ingot instead")
    }
    let name = entry.names[0]
    if entry.isComposed != isComposed {
      notes.append(
        "'\(name)' \(entry.isComposed ? "stands" : "does not stand") for composing a text (NFC), \(Self.file) "
          + "\(isComposed ? "asks" : "does not ask") for it")
    }
    if entry.ignoresMerges != ignores {
      notes.append(
        "'\(name)' \(entry.ignoresMerges ? "stands" : "does not stand") for taking a word that is a token whole, "
          + "\(Self.file) \(ignores ? "asks" : "does not ask") for it")
    }
    return .byteLevel(entry)
  }

  /// The two kinds that write a mark for a space: with the mark before the text, and without.
  private func sentencePiece(_ steps: [PreTokenizerStep], _ normalizer: [NormalizerStep], _ model: JSON)
    throws
    -> Kind
  {
    let mark = Array(GGUFTokenizer.mark.utf8)
    let space = try SplitPattern(text: " ")
    guard model["byte_fallback"]?.bool == true else {
      throw unsupported("a tokenizer that reads neither bytes nor '<0x00>' to '<0xFF>'")
    }
    if model["ignore_merges"]?.bool == true { throw unsupported("the tokenizer's 'ignore_merges'") }
    var rest = normalizer[...]
    var prepends = false
    if case .prepend(mark)? = rest.first {
      prepends = true
      rest = rest.dropFirst()
    }
    if case .replace(space, mark)? = rest.first, rest.count == 1 {
      // Cutting at spaces changes nothing where none is left.
      if steps.isEmpty || steps == [.split(space, .mergedWithPrevious, inverted: false)] && !prepends {
        return prepends ? .scored : .listed
      }
    }
    if normalizer.isEmpty, steps.count == 1, case .metaspace(mark, let prepend)? = steps.first {
      return prepend == .never ? .listed : .scored
    }
    throw unsupported("the tokenizer's normalizer and pre-tokenizer")
  }

  // MARK: tokens

  private struct Tokens {
    var texts: [String]
    var types: [GGUFTokenizer.TokenType]
    /// The vocabulary's own texts by id, before added tokens are rewritten; nil where an id has no token.
    var known: [String?]
  }

  private func tokens(_ kind: Kind, _ notes: inout [String]) throws -> Tokens {
    var isByteLevel = false
    if case .byteLevel = kind { isByteLevel = true }
    let vocabulary = root["model"]?["vocab"]?.object ?? JSONObject()
    let added = root["added_tokens"]?.array ?? []
    let ids = vocabulary.values.compactMap(\.integer) + added.compactMap { $0["id"]?.integer }
    let size = config["vocab_size"]?.integer ?? config["text_config"]?["vocab_size"]?.integer
    let count = size ?? (ids.max() ?? -1) + 1
    let highest = ids.max() ?? -1
    guard highest < count else {
      throw FormatError(
        .tokenizerValue, file: Self.file, subject: "vocab",
        "found id \(highest), expected less than \(count), the 'vocab_size' of config.json")
    }
    // Padding is a few thousand ids in real models; more than a vocabulary of it is a mistake.
    guard count <= 2 * ids.count + 1 << 16, count > 0, count < GGUFTokenizer.idLimit else {
      throw FormatError(
        .tokenizerValue, file: Self.file, subject: "vocab",
        "found \(ids.count) tokens for \(count) ids, expected fewer ids without a token")
    }
    var tokens = Tokens(
      texts: (0..<count).map(GGUFTokenizer.padding), types: .init(repeating: .unused, count: count),
      known: .init(repeating: nil, count: count))
    let unknown = root["model"]?["unk_token"]?.string
    for (text, value) in zip(vocabulary.keys, vocabulary.values) {
      guard let id = value.integer else { continue }
      tokens.texts[id] = text
      tokens.known[id] = text
      tokens.types[id] = .normal
      guard !isByteLevel else { continue }
      if TokenDecoderStep.fallbackByte(Array(text.utf8)) != nil { tokens.types[id] = .byte }
      if let unknown, text.utf8.elementsEqual(unknown.utf8) { tokens.types[id] = .unknown }
    }
    var stripped = 0
    for token in added {
      guard let id = token["id"]?.integer, let text = token["content"]?.string else { continue }
      for key in ["lstrip", "rstrip", "single_word"] where token[key]?.bool == true { stripped += 1 }
      tokens.texts[id] = text
      tokens.known[id] = text
      if tokens.types[id] == .unknown || tokens.types[id] == .byte { continue }
      if case .listed = kind, GGUFTokenizer.shown.contains(text) {
        tokens.types[id] = .userDefined
        continue
      }
      if token["special"]?.bool == true || Self.looksSpecial(text) {
        tokens.types[id] = .control
      } else {
        tokens.types[id] = .userDefined
        // llama.cpp looks for such tokens in the text as it was before spaces became marks. Where merges are listed, they
        // may name the token.
        if case .scored = kind, token["normalized"]?.bool == true {
          tokens.texts[id] = String(text.unicodeScalars.map { $0 == "\u{2581}" ? " " : Character($0) })
        }
      }
    }
    if stripped > 0 {
      notes.append(
        "added tokens take white space or no neighbour beside them (\(stripped) flags); GGUF has no key for it"
      )
    }
    return tokens
  }

  /// Whether a token that is not marked special is one by its look. Source: llama.cpp's converter, which knows models that
  /// forgot to mark theirs.
  static func looksSpecial(_ text: String) -> Bool {
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(text) || text.hasPrefix("<|") && text.hasSuffix("|>")
      || text.hasPrefix("<｜") && text.hasSuffix("｜>") || text.hasPrefix("<unused") && text.hasSuffix(">")
  }

  // MARK: merges and scores

  /// The merges as pairs of texts.
  private func pairs() -> [(left: String, right: String)] {
    (root["model"]?["merges"]?.array ?? []).compactMap { entry in
      if let list = entry.array, list.count == 2, let left = list[0].string, let right = list[1].string {
        return (left, right)
      }
      guard let line = entry.string, !line.utf8.starts(with: "#version".utf8) else { return nil }
      let parts = line.utf8.split(separator: 0x20, omittingEmptySubsequences: false)
      return parts.count == 2 ? (String(Substring(parts[0])), String(Substring(parts[1]))) : nil
    }
  }

  /// The merges, each two tokens with a space between them.
  private func mergeLines() throws -> [String] {
    try pairs().map { left, right in
      guard !left.utf8.contains(0x20), !right.utf8.contains(0x20) else {
        throw unsupported("a merge of tokens that hold a space")
      }
      return left + " " + right
    }
  }

  /// Scores that stand for the merges; refused where scores would order them otherwise.
  private func scores(_ tokens: Tokens, _ notes: inout [String]) throws -> [Double] {
    let takesPart = tokens.types.map { $0 == .normal }
    let table = SentencePieceMerges(texts: tokens.known.map { $0 ?? "" }, takesPart: takesPart)
    guard table.isTractable else { throw unsupported("a vocabulary with tokens of thousands of letters") }
    var ids = ByteTable(capacity: tokens.known.count)
    for (id, text) in tokens.known.enumerated() {
      guard var text else { continue }
      _ = text.withUTF8 { ids.insert($0, Int32(id)) }
    }
    let merges = pairs().compactMap { left, right -> SentencePieceMerges.Merge? in
      guard let a = ids.find(Array(left.utf8)), let b = ids.find(Array(right.utf8)),
        let made = ids.find(Array((left + right).utf8))
      else { return nil }
      return SentencePieceMerges.Merge(left: a, right: b, made: made)
    }
    let scores = table.scores(of: merges)
    let (missing, added) = table.difference(merges, scores: scores)
    guard missing == 0, added * 100 <= merges.count else {
      throw RequestError(
        .unsupported,
        "the merges of \(Self.file) are not those of a SentencePiece vocabulary: scores lack \(missing) and add \(added)",
        help:
          "GGUF's tokenizer 'llama' knows scores only and would give other ids; write a directory or an ingot"
      )
    }
    if added > 0 { notes.append("scores allow \(added) merges that \(Self.file) does not list") }
    return zip(scores, tokens.types).map { $1 == .userDefined || $1 == .unused ? -1000 : $0 }
  }

  private func unsupported(_ what: String) -> RequestError {
    RequestError(
      .unsupported, "\(what) cannot be written to GGUF", help: "write a directory of safetensors or an ingot")
  }
}
