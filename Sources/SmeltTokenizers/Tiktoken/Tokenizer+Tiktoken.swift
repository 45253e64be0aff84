// A tokenizer from a tiktoken file, its known pattern and the tokens that the configuration adds.

package import SmeltStorage

extension Tokenizer {
  /// A tokenizer of tiktoken's.
  /// - Throws: `RequestError` `unsupported` for an unknown pattern; `TOK_VALUE` for added tokens that take a rank's id.
  init(_ source: TiktokenFile, _ settings: TokenizerSettings) throws {
    let pattern = try TiktokenPattern.of(settings, file: source.file)
    let spelled = source.tokens.map { ByteAlphabet.spelled($0) }
    var names = ByteTable(capacity: spelled.count)
    for (id, text) in spelled.enumerated() {
      // SAFETY: `insert` copies the text that it is lent.
      _ = text.withUnsafeBufferPointer { names.insert($0, Int32(id)) }
    }
    var model = BytePairModel(tokens: names, merges: source.merges())
    model.isByteLevel = true
    model.byteIds = (UInt8.min...UInt8.max).map { source.ranks.find(CollectionOfOne($0)) ?? -1 }
    model.ignoresMerges = true
    model.wholeWords = source.ranks
    self.init(
      model: .bytePairs(model), texts: spelled.map { String(decoding: $0, as: UTF8.self) },
      byId: spelled.indices.map { (Int32($0), Int32($0)) })
    file = source.file
    if pattern.isComposed { normalizer = [.form(.nfc)] }
    do throws(PatternError) {
      preTokenizer = [.split(try SplitPattern(regex: pattern.regex), .isolated, inverted: false)]
    } catch {
      preconditionFailure("the pattern of \(pattern.name): \(error.problem)")
    }
    decoder = [.byteLevel]
    try insert(try source.added(pattern, settings))
  }
}

extension TiktokenFile {
  /// The tokens behind the ranks: those of the pattern, renamed and added to by the settings.
  /// - Throws: `TOK_VALUE` for one that takes a rank's id.
  package func added(_ pattern: TiktokenPattern, _ settings: TokenizerSettings) throws(FormatError)
    -> [TokenizerSettings.Added]
  {
    var tokens: [Int: TokenizerSettings.Added] = [:]
    for (id, text) in pattern.added(self.tokens.count) {
      tokens[id] = TokenizerSettings.Added(id: id, content: text, isSpecial: true)
    }
    for token in settings.added {
      guard token.id >= self.tokens.count else {
        throw FormatError(
          .tokenizerValue, file: "tokenizer_config.json", subject: token.content,
          "found as added token \(token.id), which is a token of \(file) already")
      }
      tokens[token.id] = token
    }
    return tokens.values.sorted { $0.id < $1.id }
  }

  /// The same tokenizer as the text of a tokenizer.json, with one merge a token, and how many tokens have none.
  /// - Throws: what reading the tokenizer throws.
  package func tokenizerJSON(_ settings: TokenizerSettings) throws -> (json: [UInt8], missing: Int) {
    let pattern = try TiktokenPattern.of(settings, file: file)
    let texts = tokens.map { String(decoding: ByteAlphabet.spelled($0), as: UTF8.self) }
    let (pairs, missing) = singleMerges()
    let added = JSON(
      try added(pattern, settings).map { token in
        [
          "id": JSON(token.id), "content": JSON(token.content), "single_word": JSON(token.isSingleWord),
          "lstrip": JSON(token.stripsLeft), "rstrip": JSON(token.stripsRight), "normalized": false,
          "special": JSON(token.isSpecial),
        ]
      })
    let split: JSON = [
      "type": "Split", "pattern": ["Regex": JSON(pattern.regex)], "behavior": "Isolated", "invert": false,
    ]
    let bytes: JSON = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
    ]
    var out = #"{"version":"1.0","added_tokens":"# + added.text()
    out += #","normalizer":"# + (pattern.isComposed ? #"{"type":"NFC"}"# : "null")
    out += #","pre_tokenizer":{"type":"Sequence","pretokenizers":"# + JSON([split, bytes]).text()
    out += #"},"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","ignore_merges":"#
    out += (missing > 0 ? "true" : "false") + #","vocab":{"#
    for (id, text) in texts.enumerated() { out += (id > 0 ? "," : "") + JSON(text).text() + ":\(id)" }
    out += #"},"merges":["#
    for (index, pair) in pairs.enumerated() {
      out += (index > 0 ? "," : "") + JSON([JSON(texts[pair.left]), JSON(texts[pair.right])]).text()
    }
    return (Array((out + "]}}").utf8), missing)
  }
}
