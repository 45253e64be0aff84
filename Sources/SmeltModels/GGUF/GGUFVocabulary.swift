// The tokens of a GGUF file, checked, and the text of the tokenizer.json that holds them.

import SmeltStorage
import SmeltTokenizers

/// The tokens with their types.
struct GGUFVocabulary {
  /// The texts by id; empty where an id has no token.
  let texts: [String]
  let types: [GGUFTokenizer.TokenType]
  /// The id of each text.
  let table: ByteTable
  /// Whether merges may make a token or join it: neither added nor a byte nor missing.
  let takesPart: [Bool]

  /// Checks tokens. `[PAD7]` with id 7 is padding, as is an empty token: such an id stands for nothing. Old converters marked
  /// the former as a token of the user's, so that its type does not tell.
  /// - Throws: `TOK_VALUE` through `reader`: a token that appears twice; a byte token that names no byte.
  init(tokens: [String], types: [GGUFTokenizer.TokenType], isByteLevel: Bool, reader: GGUFTokenizerReader)
    throws(FormatError)
  {
    let key = GGUFTokenizer.key("tokens")
    var table = ByteTable(capacity: tokens.count)
    var texts = tokens
    var takesPart = [Bool](repeating: false, count: tokens.count)
    for id in tokens.indices {
      let type = types[id]
      let isPadding =
        (type == .unused || type == .userDefined)
        && tokens[id].utf8.elementsEqual(GGUFTokenizer.padding(id).utf8)
      if isPadding { texts[id] = "" }
      guard !texts[id].isEmpty else { continue }
      let inserted = texts[id].withUTF8 { table.insert($0, Int32(id)) }
      guard inserted else {
        let other = table.find(Array(tokens[id].utf8)) ?? 0
        throw reader.error(
          key,
          "found '\(printable(excerpt(tokens[id])))' as token \(other) and as token \(id), expected it once")
      }
      if type == .byte, !isByteLevel, TokenDecoderStep.fallbackByte(Array(tokens[id].utf8)) == nil {
        throw reader.error(
          key,
          "found '\(printable(excerpt(tokens[id])))' as byte token \(id), expected one from <0x00> to <0xFF>")
      }
      takesPart[id] = type == .normal || type == .undefined || type == .unused
    }
    guard table.count > 0 else { throw reader.error(key, "found padding only, expected tokens") }
    self.texts = texts
    self.types = types
    self.table = table
    self.takesPart = takesPart
  }

  /// The tokens that are looked for in the text as they stand.
  private var added: [Int] {
    texts.indices.filter { id in
      !texts[id].isEmpty && [.unknown, .control, .userDefined].contains(types[id])
    }
  }

  /// The `added_tokens` of tokenizer.json. What the file does not say is as published tokenizers have it: white space
  /// round a token stays, and it counts inside words. Where texts are composed, tokens of the user's are too.
  func addedTokens(areComposed: Bool) -> JSON {
    JSON(
      added.map { id in
        [
          "id": JSON(id), "content": JSON(texts[id]), "single_word": false, "lstrip": false, "rstrip": false,
          "normalized": JSON(areComposed && types[id] == .userDefined),
          "special": JSON(types[id] != .userDefined || GGUFTokenizer.shown.contains(texts[id])),
        ]
      })
  }

  /// Appends the `vocab` of tokenizer.json. Added tokens are in it too: the `tokenizers` library counts those that are not
  /// from the end of the vocabulary on, whatever id they are given.
  func appendVocabulary(to out: inout String) {
    out += "{"
    var isFirst = true
    for (id, text) in texts.enumerated() where !text.isEmpty {
      if !isFirst { out += "," }
      isFirst = false
      out += JSON(text).text()
      out += ":"
      out += String(id)
    }
    out += "}"
  }
}

extension GGUFTokenizerReader {
  /// The text of tokenizer.json.
  func json(
    _ form: Form, _ vocabulary: GGUFVocabulary, _ merges: [SentencePieceMerges.Merge], _ post: JSON,
    unknown: String?
  ) -> [UInt8] {
    var out = #"{"version":"1.0","truncation":null,"padding":null,"added_tokens":"#
    out += vocabulary.addedTokens(areComposed: form.isByteLevel && !form.normalizer.isNull).text()
    for (name, part) in [
      ("normalizer", form.normalizer), ("pre_tokenizer", form.preTokenizer), ("post_processor", post),
      ("decoder", form.decoder),
    ] {
      out += ",\"\(name)\":\(part.text())"
    }
    out += #","model":{"type":"BPE","dropout":null,"unk_token":"#
    out += JSON(unknown).text()
    out += #","continuing_subword_prefix":null,"end_of_word_suffix":null"#
    out += ",\"fuse_unk\":\(!form.isByteLevel),\"byte_fallback\":\(!form.isByteLevel)"
    out += ",\"ignore_merges\":\(form.ignoresMerges),\"vocab\":"
    vocabulary.appendVocabulary(to: &out)
    out += ",\"merges\":["
    for (index, merge) in merges.enumerated() {
      if index > 0 { out += "," }
      let sides = [merge.left, merge.right].map { JSON(vocabulary.texts[Int($0)]) }
      out += JSON(sides).text()
    }
    out += "]}}\n"
    return Array(out.utf8)
  }

  /// The post-processor that puts a token before and behind a text; null when neither is asked for or known.
  func postProcessor(first: (text: String, id: Int)?, last: (text: String, id: Int)?) -> JSON {
    guard first != nil || last != nil else { return JSON(.null) }
    func special(_ token: (text: String, id: Int)?, _ sequence: Int) -> [JSON] {
      token.map { [["SpecialToken": ["id": JSON($0.text), "type_id": JSON(sequence)]]] } ?? []
    }
    func part(_ name: String, _ sequence: Int) -> [JSON] {
      special(first, sequence) + [["Sequence": ["id": JSON(name), "type_id": JSON(sequence)]]]
        + special(last, sequence)
    }
    var known = JSONObject()
    for token in [first, last] {
      guard let token else { continue }
      _ = known.append(
        token.text, ["id": JSON(token.text), "ids": [JSON(token.id)], "tokens": [JSON(token.text)]])
    }
    return [
      "type": "TemplateProcessing", "single": JSON(part("A", 0)), "pair": JSON(part("A", 0) + part("B", 1)),
      "special_tokens": JSON(.object(known)),
    ]
  }

  /// tokenizer_config.json: which token has which task, whether the first and the last are put round a text.
  func config(_ vocabulary: GGUFVocabulary, _ ids: [(name: String, id: Int)]) throws -> JSON {
    var members: [(String, JSON)] = []
    for name in ["bos", "eos", "sep"] {
      if let flag = try flag("add_\(name)_token") { members.append(("add_\(name)_token", JSON(flag))) }
    }
    for (name, id) in ids where !vocabulary.texts[id].isEmpty {
      members.append((name + "_token", JSON(vocabulary.texts[id])))
    }
    members.append(("clean_up_tokenization_spaces", false))
    members.append(("tokenizer_class", "PreTrainedTokenizerFast"))
    return JSON(members: members)
  }

  /// The chat templates as files of their own.
  func templateFiles() throws -> [(name: String, bytes: Bytes)] {
    let key = "tokenizer.chat_template"
    func bytes(_ text: String) -> Bytes { Bytes(Array(text.utf8)) }
    var files: [(name: String, bytes: Bytes)] = []
    if let plain = try string(key) { files.append((GGUFTokenizer.templateFile, bytes(plain))) }
    guard let value = metadata["tokenizer.chat_templates"] else { return files }
    guard case .strings(let names) = value else {
      throw error("tokenizer.chat_templates", "found \(value.kind), expected a list of strings")
    }
    for name in names {
      let shown = printable(excerpt(name))
      guard let template = try string("\(key).\(name)") else {
        throw error("tokenizer.chat_templates", "found '\(shown)', but no template of that name")
      }
      let file = GGUFTokenizer.file(ofTemplate: name)
      guard GGUFTokenizer.templateName(ofFile: file) == name, CarriedName.problem(file) == nil else {
        throw error("tokenizer.chat_templates", "found '\(shown)', which cannot be the name of a file")
      }
      guard !files.contains(where: { $0.name == file }) else {
        throw error("tokenizer.chat_templates", "found '\(shown)' twice")
      }
      files.append((file, bytes(template)))
    }
    return files
  }
}
