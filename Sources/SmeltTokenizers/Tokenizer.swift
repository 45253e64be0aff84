// Text to token ids and back, as a model's tokenizer says. The references are the `tokenizers` library for a tokenizer.json,
// tiktoken and SentencePiece for their own files: the same ids on the same text, which Fixtures/tokenizers proves.

package import SmeltStorage

/// A tokenizer: a model (byte-pair encoding or unigram) with its normalizer, pre-tokenizer, added tokens and decoder.
package struct Tokenizer: Sendable {
  /// The file it was read from, for messages.
  package internal(set) var file = "tokenizer.json"
  var model: TokenizerModel
  /// The texts of the model's tokens.
  var texts: [String]
  /// The ids of the model's tokens with the place of their text, ascending by id.
  var byId: [(id: Int32, text: Int32)]
  /// The texts of added tokens by id.
  var added: [Int32: String] = [:]
  /// Added tokens looked for before and after normalizing.
  var plainTokens = AddedTokens()
  var normalizedTokens = AddedTokens()
  var normalizer: [NormalizerStep] = []
  var preTokenizer: [PreTokenizerStep] = []
  /// The decoder's steps; nil joins the tokens with spaces, as the library does without a decoder.
  var decoder: [TokenDecoderStep]?

  /// Reads a tokenizer.json. Its `truncation`, `padding` and `post_processor` are not used: ids come out whole and
  /// without tokens that the text does not hold.
  /// - Parameters:
  ///   - json: the file's bytes.
  ///   - file: the file's name, for messages.
  /// - Throws: `FormatError` `TOK_JSON` or `TOK_VALUE` with the byte offset; `RequestError` `unsupported` naming the
  ///   component that Smelt does not have.
  package init(json: Bytes, file: String) throws {
    self = try TokenizerReader(file: file).read(json)
    self.file = file
  }

  init(model: TokenizerModel, texts: [String], byId: [(id: Int32, text: Int32)]) {
    self.model = model
    self.texts = texts
    self.byId = byId
  }

  /// The number of tokens, added ones included.
  package var vocabularySize: Int { byId.count + added.keys.count { place($0) == nil } }

  /// The ids of a text. Ill-formed UTF-8 counts as U+FFFD, one for each maximal subpart. Added tokens that stand in the
  /// text become their ids; none is put before or behind it.
  /// - Complexity: about linear; n log n in the length of the longest word.
  package func encode(_ text: [UInt8]) -> [Int] {
    var run = PreTokenizerRun(preTokenizer, model)
    let text = UTF8Text.repaired(text)
    // SAFETY: pieces are ranges of the text, used before it is given back
    text.withUnsafeBufferPointer { buffer in
      plainTokens.split(buffer) { range, id in
        if let id { return run.append(id) }
        let piece = UnsafeBufferPointer(rebasing: buffer[range])
        guard !normalizer.isEmpty else {
          return encodeNormalized(piece, isFirst: range.lowerBound == 0, &run)
        }
        let isFirst = range.lowerBound == 0
        let normalized = normalizer.reduce(Array(piece)) { $1.apply($0, isFirst: isFirst) }
        normalized.withUnsafeBufferPointer {
          encodeNormalized($0, isFirst: range.lowerBound == 0, &run)
        }
      }
    }
    return run.ids.map(Int.init)
  }

  /// The ids of a text; see `encode(_:)` for bytes.
  package func encode(_ text: String) -> [Int] { encode(Array(text.utf8)) }

  private func encodeNormalized(
    _ text: UnsafeBufferPointer<UInt8>, isFirst: Bool, _ run: inout PreTokenizerRun
  ) {
    normalizedTokens.split(text) { range, id in
      if let id { return run.append(id) }
      guard let base = text.baseAddress else { return }
      run.encode(base, range, isFirst: isFirst && range.lowerBound == 0)
    }
  }

  /// The bytes that ids stand for; an added token is its text, an id without a token nothing. Bytes that are not UTF-8
  /// stay as they are.
  package func decode(_ ids: [Int]) -> [UInt8] {
    var tokens: [TokenDecoderStep.Token] = []
    for id in ids {
      guard let id = Int32(exactly: id) else { continue }
      if let text = added[id] {
        tokens.append(.init(bytes: Array(text.utf8), isAdded: true))
      } else if let place = place(id) {
        tokens.append(.init(bytes: Array(texts[place].utf8), isAdded: false))
      }
    }
    guard let decoder else { return Array(tokens.map(\.bytes).joined(separator: [0x20])) }
    return decoder.reduce(tokens) { $1.apply($0) }.flatMap(\.bytes)
  }

  /// The text of a token as tokenizer.json spells it, or nil when no token has that id.
  package func token(_ id: Int) -> String? {
    guard let id = Int32(exactly: id) else { return nil }
    return added[id] ?? place(id).map { texts[$0] }
  }

  /// The tokens whose ids are no smaller than `first`, ascending by id.
  package func tokens(from first: Int) -> [(id: Int, text: String)] {
    var found: [Int: String] = [:]
    for token in byId.reversed() {
      guard Int(token.id) >= first else { break }
      found[Int(token.id)] = texts[Int(token.text)]
    }
    for (id, text) in added where Int(id) >= first { found[Int(id)] = text }
    return found.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// The place in `texts` of a token of the model.
  private func place(_ id: Int32) -> Int? {
    // Most vocabularies count without a gap; then the id is the place.
    if id >= 0, Int(id) < byId.count, byId[Int(id)].id == id { return Int(byId[Int(id)].text) }
    var low = 0
    var high = byId.count
    while low < high {
      let middle = (low + high) / 2
      if byId[middle].id < id { low = middle + 1 } else { high = middle }
    }
    return low < byId.count && byId[low].id == id ? Int(byId[low].text) : nil
  }
}
