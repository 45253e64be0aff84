// The kinds of model that turn a word into ids.

/// What a tokenizer does with a word once the text is cut.
enum TokenizerModel: Sendable {
  /// Byte-pair encoding by a list of merges, or by ranks.
  case bytePairs(BytePairModel)
  /// Byte-pair encoding by scores.
  case scoredPairs(ScoredPairModel)
  /// The most probable cut.
  case unigram(UnigramModel)

  /// Working memory, kept from word to word.
  struct Workspace {
    fileprivate var pairs = BytePairModel.Workspace()
    fileprivate var scored = ScoredPairModel.Workspace()
    fileprivate var unigram = UnigramModel.Workspace()
  }

  /// The id of a token of a tokenizer.json's vocabulary.
  func find(_ text: [UInt8]) -> Int32? {
    switch self {
    case .bytePairs(let model): model.tokens.find(text)
    case .unigram(let model): model.tokens.find(text)
    case .scoredPairs: nil
    }
  }

  /// Appends the ids of one word, which is not empty.
  func encode(_ word: UnsafeBufferPointer<UInt8>, _ space: inout Workspace, into out: inout [Int32]) {
    // SAFETY: the word is lent for the call. The models read it at positions below its count and keep ids and offsets only; a
    // character that the word's end cuts short is one byte long (`UTF8Text.scalar`), so that no slice reaches beyond.
    switch self {
    case .bytePairs(let model): model.encode(word, &space.pairs, into: &out)
    case .scoredPairs(let model): model.encode(word, &space.scored, into: &out)
    case .unigram(let model): model.encode(word, &space.unigram, into: &out)
    }
  }
}
