// A tokenizer from a SentencePiece file and the tokens that tokenizer_config.json adds. The ids of a text without added tokens are
// SentencePiece's own; round added tokens the text is cut as transformers' classes for LLaMA cut it.

import SmeltStorage

extension Tokenizer {
  /// Classes that give pieces other ids than the file, after fairseq's or their own tables.
  private static let renumbering = [
    "XLMRoberta", "Camembert", "MBart", "Nllb", "Barthez", "Bartpho", "Pegasus", "XGLM", "M2M100", "Marian",
    "Speech2Text", "PLBart",
  ]

  /// A tokenizer of SentencePiece's.
  /// - Throws: `TOK_VALUE` for added tokens that contradict the pieces; `RequestError` `unsupported` for a class that counts
  ///   its ids otherwise.
  init(_ source: SentencePieceFile, _ settings: TokenizerSettings) throws {
    if let name = settings.className, Self.renumbering.contains(where: name.hasPrefix) {
      throw RequestError(
        .unsupported,
        "'\(printable(excerpt(name)))' gives the pieces of \(source.file) other ids, which Smelt does not know",
        help: "save the tokenizer with transformers, which writes a tokenizer.json")
    }
    var fallback: [Int32] = []
    if source.hasByteFallback {
      fallback = [Int32](repeating: -1, count: 256)
      for (id, piece) in source.pieces.enumerated() where piece.kind == .byte {
        if let byte = TokenDecoderStep.fallbackByte(Array(piece.text.utf8)) {
          fallback[Int(byte)] = Int32(id)
        }
      }
    }
    let kept = source.pieces.enumerated().filter { $1.kind == .userDefined }
      .map { (key: Array($1.text.utf8), value: Int32($0)) }
    let trie = kept.isEmpty ? nil : ByteTrie(kept)
    let model: TokenizerModel =
      switch source.algorithm {
      case .unigram: .unigram(Self.unigram(source, fallback))
      case .pairs: .scoredPairs(Self.scoredPairs(source, fallback, trie))
      }
    self.init(
      model: model, texts: source.pieces.map(\.text),
      byId: source.pieces.indices.map { (Int32($0), Int32($0)) })
    file = source.file
    var step = SentencePieceNormalizer()
    if !source.characterMap.isEmpty {
      switch CharacterMap.read(source.characterMap) {
      case .success(let map): step.map = map
      case .failure(let error):
        throw FormatError(.tokenizerValue, file: file, subject: "precompiled_charsmap", error.problem)
      }
    }
    step.kept = trie
    step.prefix = source.prefix(settings)
    step.isSuffix = source.isSuffix
    step.removesExtraSpaces = source.removesExtraSpaces
    step.escapesSpaces = source.escapesSpaces
    normalizer = [.sentencePiece(step)]
    decoder = try Self.decoder(source, prefix: step.prefix)
    try addTokens(source, settings)
  }

  private static func unigram(_ source: SentencePieceFile, _ fallback: [Int32]) -> UnigramModel {
    let normal = source.pieces.filter { $0.kind == .normal }.map(\.score)
    let (lowest, highest) = (normal.min() ?? 0, normal.max() ?? 0)
    var entries: [(key: [UInt8], value: Int32)] = []
    var scores = [Double](repeating: 0, count: source.pieces.count)
    for (id, piece) in source.pieces.enumerated() {
      let text = Array(piece.text.utf8)
      switch piece.kind {
      case .normal: scores[id] = Double(piece.score)
      // Above every other way to cover these bytes.
      case .userDefined: scores[id] = Double(Float(text.count) * highest - 0.1)
      default: continue
      }
      entries.append((text, Int32(id)))
    }
    return UnigramModel(
      trie: ByteTrie(entries), scores: scores,
      unknown: source.pieces.firstIndex { $0.kind == .unknown }.map(Int32.init),
      unknownScore: Double(lowest - Float(UnigramModel.unknownPenalty)), fallbackIds: fallback,
      isSinglePrecision: true)
  }

  private static func scoredPairs(_ source: SentencePieceFile, _ fallback: [Int32], _ frozen: ByteTrie?)
    -> ScoredPairModel
  {
    var (pieces, reserved) = (ByteTable(capacity: source.pieces.count), ByteTable())
    for (id, piece) in source.pieces.enumerated() {
      // SAFETY: `insert` copies the text that it is lent.
      Array(piece.text.utf8).withUnsafeBufferPointer { text in
        switch piece.kind {
        case .normal, .userDefined, .unused: _ = pieces.insert(text, Int32(id))
        default: _ = reserved.insert(text, Int32(id))
        }
      }
    }
    let order = source.pieces.indices.sorted { source.pieces[$0].score > source.pieces[$1].score }
    var ranks = [UInt32](repeating: 0, count: source.pieces.count)
    var rank: UInt32 = 0
    for (place, id) in order.enumerated() {
      if place > 0, source.pieces[order[place - 1]].score != source.pieces[id].score { rank += 1 }
      ranks[id] = rank
    }
    return ScoredPairModel(
      pieces: pieces, reserved: reserved, ranks: ranks, isUnused: source.pieces.map { $0.kind == .unused },
      frozen: frozen, unknown: Int32(source.pieces.firstIndex { $0.kind == .unknown } ?? 0),
      fallbackIds: fallback)
  }

  private static func decoder(_ source: SentencePieceFile, prefix: MetaspacePrepend) throws
    -> [TokenDecoderStep]
  {
    var steps: [TokenDecoderStep] = [.byteFallback, .fuse]
    do throws(PatternError) {
      if source.escapesSpaces { steps.insert(.replace(try SplitPattern(text: "\u{2581}"), [0x20]), at: 0) }
    } catch {
      throw FormatError(.tokenizerValue, file: source.file, error.problem)
    }
    if source.removesExtraSpaces {
      steps.append(.strip(content: [0x20], left: .max, right: 0))
    } else if prefix != .never {
      steps.append(.strip(content: [0x20], left: 1, right: 0))
    }
    return steps
  }

  /// Control pieces, the unknown piece and what the settings add are found in the text as they stand.
  private mutating func addTokens(_ source: SentencePieceFile, _ settings: TokenizerSettings) throws {
    var tokens: [Int: TokenizerSettings.Added] = [:]
    for (id, piece) in source.pieces.enumerated() where piece.kind == .control || piece.kind == .unknown {
      tokens[id] = .init(id: id, content: piece.text, isSpecial: true)
    }
    for token in settings.added {
      // Where the file has another piece of that id, the settings count, as they do for transformers.
      tokens[token.id] = token
    }
    try insert(tokens.values.sorted { $0.id < $1.id })
  }
}

extension SentencePieceFile {
  /// Where the space before a text goes: before each piece between added tokens; with `"legacy": false` before the first only,
  /// and there `"add_prefix_space": false` leaves it away. Source: transformers' LlamaTokenizer.
  package func prefix(_ settings: TokenizerSettings) -> MetaspacePrepend {
    guard addsPrefix else { return .never }
    guard settings.isLegacy == false else { return .always }
    return settings.addsPrefixSpace == false ? .never : .first
  }
}
