// From the keys of a GGUF file to tokenizer.json. Nothing the file says is trusted: lists are as long as the vocabulary, ids
// lie in it, merges join tokens to tokens.

import SmeltStorage
import SmeltTokenizers

/// Reads the keys of one file.
struct GGUFTokenizerReader {
  let metadata: Metadata

  /// What the model's kind and `pre` decide.
  struct Form {
    var isByteLevel: Bool
    var normalizer: JSON = .init(.null)
    var preTokenizer: JSON = .init(.null)
    var decoder: JSON
    var ignoresMerges = false
    /// Whether the first token stands before a text when the file does not say.
    var addsFirst: Bool
  }

  func files() throws -> [(name: String, bytes: Bytes)] {
    guard let model = try string(GGUFTokenizer.key("model")), model != "no_vocab", model != "none" else {
      return try templateFiles()
    }
    let tokens = try tokens()
    let types = try types(tokens.count)
    let scores = try scores(tokens.count)
    let form = try form(model)
    let vocabulary = try GGUFVocabulary(
      tokens: tokens, types: types, isByteLevel: form.isByteLevel, reader: self)
    let merges = try merges(model, vocabulary, scores)
    let ids = try taskIds(tokens.count)
    func token(_ name: String) -> (text: String, id: Int)? {
      guard let id = ids.first(where: { $0.name == name })?.id, !vocabulary.texts[id].isEmpty else {
        return nil
      }
      return (vocabulary.texts[id], id)
    }
    let post = postProcessor(
      first: try flag("add_bos_token") ?? form.addsFirst ? token("bos") : nil,
      last: try flag("add_eos_token") ?? false ? token("eos") : nil)
    let unknown =
      form.isByteLevel
      ? nil
      : token("unk")?.text
        ?? vocabulary.texts.indices.first { types[$0] == .unknown && !vocabulary.texts[$0].isEmpty }.map {
          vocabulary.texts[$0]
        }
    let json = json(form, vocabulary, merges, post, unknown: unknown)
    return [
      (GGUFTokenizer.tokenizerFile, Bytes(json)),
      (GGUFTokenizer.configFile, Bytes(Array(try config(vocabulary, ids).text(indented: true).utf8))),
    ] + (try templateFiles())
  }

  // MARK: the model's kind

  private func form(_ model: String) throws -> Form {
    switch model {
    case "gpt2": return try byteLevel()
    case "llama":
      for key in ["remove_extra_whitespaces", "normalizer.lowercase", "normalizer.strip_accents"]
      where try flag(key) == true {
        throw unsupported("'\(GGUFTokenizer.key(key))' with a tokenizer of kind 'llama'")
      }
      return try sentencePiece(prepends: try flag("add_space_prefix") ?? true, addsFirst: true)
    case "gemma4": return try sentencePiece(prepends: try flag("add_space_prefix") ?? false, addsFirst: true)
    default:
      throw RequestError(
        .unsupported,
        "the tokenizer kind '\(printable(excerpt(model)))' in \(metadata.file) is not supported",
        help: "Smelt reads 'gpt2', 'llama' and 'gemma4'")
    }
  }

  private func byteLevel() throws -> Form {
    let names = "the names that Smelt reads: \(GGUFPreTokenizer.all.flatMap(\.names).joined(separator: ", "))"
    guard let pre = try string(GGUFTokenizer.key("pre")) else {
      throw RequestError(
        .unsupported,
        "\(metadata.file) does not say how its tokenizer cuts a text: it has no 'tokenizer.ggml.pre'",
        help: "it was converted before May 2024; convert the model again")
    }
    guard let cuts = GGUFPreTokenizer.named(pre) else {
      throw RequestError(
        .unsupported,
        "the pre-tokenizer '\(printable(excerpt(pre)))' ('tokenizer.ggml.pre' in \(metadata.file)) is not known",
        help: names)
    }
    if try flag("add_space_prefix") == true {
      throw unsupported("'tokenizer.ggml.add_space_prefix' with a tokenizer of kind 'gpt2'")
    }
    return Form(
      isByteLevel: true, normalizer: cuts.isComposed ? ["type": "NFC"] : JSON(.null), preTokenizer: cuts.json,
      decoder: ["type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true],
      ignoresMerges: cuts.ignoresMerges, addsFirst: cuts.addsFirst)
  }

  private func sentencePiece(prepends: Bool, addsFirst: Bool) throws -> Form {
    let mark = JSON(GGUFTokenizer.mark)
    let replace: JSON = ["type": "Replace", "pattern": ["String": " "], "content": mark]
    var decoders: [JSON] = [
      ["type": "Replace", "pattern": ["String": mark], "content": " "], ["type": "ByteFallback"],
      ["type": "Fuse"],
    ]
    if prepends { decoders.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    return Form(
      isByteLevel: false,
      normalizer: prepends
        ? ["type": "Sequence", "normalizers": [["type": "Prepend", "prepend": mark], replace]] : replace,
      decoder: ["type": "Sequence", "decoders": JSON(decoders)], addsFirst: addsFirst)
  }

  // MARK: lists

  private func tokens() throws(FormatError) -> [String] {
    let key = GGUFTokenizer.key("tokens")
    guard let value = metadata[key] else { throw error(key, "found none, expected a list of tokens") }
    guard case .strings(let tokens) = value else {
      throw error(key, "found \(value.kind), expected a list of strings")
    }
    guard !tokens.isEmpty, tokens.count < GGUFTokenizer.idLimit else {
      throw error(key, "found \(tokens.count) tokens, expected 1 to \(GGUFTokenizer.idLimit - 1)")
    }
    return tokens
  }

  private func types(_ count: Int) throws(FormatError) -> [GGUFTokenizer.TokenType] {
    let key = GGUFTokenizer.key("token_type")
    guard let value = metadata[key] else {
      return [GGUFTokenizer.TokenType](repeating: .normal, count: count)
    }
    guard case .integers(let numbers) = value else {
      throw error(key, "found \(value.kind), expected a list of whole numbers")
    }
    guard numbers.count == count else {
      throw error(key, "found \(numbers.count) types, expected \(count), one for each token")
    }
    var types: [GGUFTokenizer.TokenType] = []
    types.reserveCapacity(count)
    for (id, number) in numbers.enumerated() {
      guard let type = GGUFTokenizer.TokenType(rawValue: number) else {
        throw error(key, "found type \(number) of token \(id), expected 0 to 6")
      }
      types.append(type)
    }
    return types
  }

  private func scores(_ count: Int) throws(FormatError) -> [Double]? {
    let key = GGUFTokenizer.key("scores")
    let scores: [Double]
    switch metadata[key] {
    case nil: return nil
    case .numbers(let list): scores = list
    case .integers(let list): scores = list.map(Double.init)
    case let value?: throw error(key, "found \(value.kind), expected a list of numbers")
    }
    guard scores.count == count else {
      throw error(key, "found \(scores.count) scores, expected \(count), one for each token")
    }
    if let id = scores.firstIndex(where: { !$0.isFinite }) {
      throw error(key, "found \(scores[id]) as score of token \(id), expected a finite number")
    }
    return scores
  }

  private func merges(_ model: String, _ vocabulary: GGUFVocabulary, _ scores: [Double]?) throws
    -> [SentencePieceMerges.Merge]
  {
    if model == "llama" {
      guard let scores else {
        throw error(GGUFTokenizer.key("scores"), "found none, expected one for each token")
      }
      let merges = SentencePieceMerges(texts: vocabulary.texts, takesPart: vocabulary.takesPart)
      guard merges.isTractable else {
        throw error(GGUFTokenizer.key("tokens"), "found tokens longer than a SentencePiece vocabulary holds")
      }
      return merges.merges(scores: scores)
    }
    let key = GGUFTokenizer.key("merges")
    guard let value = metadata[key] else {
      // Such files exist: the ranks of its tokens stand for the merges there.
      if try string(GGUFTokenizer.key("pre")) == "kimi-k2" { throw unsupported("'kimi-k2' without '\(key)'") }
      throw error(key, "found none, expected a list of merges")
    }
    guard case .strings(let lines) = value else {
      throw error(key, "found \(value.kind), expected a list of strings")
    }
    var merges: [SentencePieceMerges.Merge] = []
    merges.reserveCapacity(lines.count)
    for line in lines { merges.append(try merge(line, vocabulary, key)) }
    return merges
  }

  private func merge(_ line: String, _ vocabulary: GGUFVocabulary, _ key: String) throws(FormatError)
    -> SentencePieceMerges.Merge
  {
    let bytes = Array(line.utf8)
    // A side is never empty, but may begin with a space in vocabularies that spell it so.
    guard let space = bytes.indices.dropFirst().first(where: { bytes[$0] == 0x20 }), space + 1 < bytes.count,
      !bytes[(space + 1)...].contains(0x20)
    else {
      throw error(key, "found '\(printable(excerpt(line)))', expected two tokens with a space between them")
    }
    let sides = [bytes[..<space], bytes[(space + 1)...], bytes[..<space] + bytes[(space + 1)...]]
    var ids: [Int32] = []
    for side in sides {
      guard let id = vocabulary.table.find(side) else {
        let text = printable(excerpt(String(decoding: side, as: UTF8.self)))
        throw error(key, "found '\(printable(excerpt(line)))', but '\(text)' is not a token")
      }
      ids.append(id)
    }
    return SentencePieceMerges.Merge(left: ids[0], right: ids[1], made: ids[2])
  }

  // MARK: tokens with a task

  /// The ids by the task's name. An id is whatever 64 bits the file holds until it is shown to lie in the vocabulary.
  private func taskIds(_ count: Int) throws -> [(name: String, id: Int)] {
    var ids: [(name: String, id: Int)] = []
    for task in GGUFTokenizer.tasks {
      guard let value = metadata[task.key] else { continue }
      guard case .integer(let id) = value else {
        throw error(task.key, "found \(value.kind), expected a whole number")
      }
      guard id >= 0, id < count else { throw error(task.key, "found \(id), expected 0 to \(count - 1)") }
      ids.append((task.name, id))
    }
    return ids
  }

  // MARK: values and refusals

  func string(_ key: String) throws(FormatError) -> String? {
    guard let value = metadata[key] else { return nil }
    guard case .string(let text) = value else { throw error(key, "found \(value.kind), expected a string") }
    return text
  }

  func flag(_ name: String) throws(FormatError) -> Bool? {
    let key = GGUFTokenizer.key(name)
    guard let value = metadata[key] else { return nil }
    guard case .bool(let flag) = value else {
      throw error(key, "found \(value.kind), expected a truth value")
    }
    return flag
  }

  func error(_ key: String, _ problem: String) -> FormatError {
    var error = metadata.error(key, problem)
    error.code = .tokenizerValue
    error.help = "the file is damaged or was converted wrongly; fetch or convert it again"
    return error
  }

  func unsupported(_ what: String) -> RequestError {
    RequestError(
      .unsupported, "\(what) in \(metadata.file) is not supported",
      help: "report the tokenizer; a step left out would give wrong ids")
  }
}
