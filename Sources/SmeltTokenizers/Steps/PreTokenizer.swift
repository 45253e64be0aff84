// Cuts a text into the words that the model makes tokens of. The steps are those of a tokenizer.json's
// pre-tokenizer, one after the other; each piece of one step is a text of its own for the next.

/// One step of cutting.
package enum PreTokenizerStep: Sendable, Equatable {
  /// Cut at the matches of a pattern.
  case split(SplitPattern, SplitBehavior, inverted: Bool)
  /// Put a space before a piece that does not begin with one.
  case prefixSpace
  /// Write `replacement` for each space, and put one before a piece that does not begin with one, where `prepend` says.
  case metaspace(replacement: [UInt8], prepend: MetaspacePrepend)
  /// Spell bytes in the byte alphabet. Never the last step: then the model reads bytes.
  case spellBytes
}

/// What happens to the matches of a splitting pattern.
package enum SplitBehavior: String, Sendable {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"
}

/// Where `Metaspace` puts its mark.
package enum MetaspacePrepend: String, Sendable {
  case always, first, never
}

/// The state of encoding one text: matchers, the cache of words, the ids so far.
struct PreTokenizerRun {
  private let steps: [PreTokenizerStep]
  private let model: TokenizerModel
  private var matchers: [PatternMatcher?]
  private var workspace = TokenizerModel.Workspace()
  /// Words seen in this text: the place of their ids in `known`, as start and count.
  private var words = ByteTable(capacity: 1024)
  private var places: [(start: Int32, count: Int32)] = []
  private var known: [Int32] = []
  /// The ids so far.
  private(set) var ids: [Int32] = []

  /// Words longer than this are not remembered, and no more words than this.
  private static let longestKnown = 256
  private static let mostKnown = 1 << 17

  /// A run that has no ids yet.
  init(_ steps: [PreTokenizerStep], _ model: TokenizerModel) {
    self.steps = steps
    self.model = model
    matchers = steps.map { if case .split(let pattern, _, _) = $0 { PatternMatcher(pattern) } else { nil } }
  }

  /// Appends an added token.
  mutating func append(_ id: Int32) { ids.append(id) }

  /// Cuts and encodes a piece of `text` from step `step` on. `isFirst`: whether the piece stands at the text's beginning.
  mutating func encode(
    _ text: UnsafePointer<UInt8>, _ piece: Range<Int>, step: Int = 0, isFirst: Bool
  ) {
    // SAFETY: `text` must hold the bytes of `piece`, lent for the call; texts that a step makes are arrays lent to the next step.
    guard !piece.isEmpty else { return }
    guard step < steps.count else { return encodeWord(text, piece) }
    switch steps[step] {
    case .split(_, let behavior, let inverted):
      split(text, piece, step, behavior, inverted) { run, part in
        run.encode(text, part, step: step + 1, isFirst: isFirst && part.lowerBound == piece.lowerBound)
      }
    case .prefixSpace:
      if text[piece.lowerBound] == 0x20 {
        encode(text, piece, step: step + 1, isFirst: isFirst)
      } else {
        encode(
          [0x20] + UnsafeBufferPointer(start: text + piece.lowerBound, count: piece.count), step, isFirst)
      }
    case .metaspace(let replacement, let prepend):
      var changed: [UInt8] = []
      for index in piece {
        if text[index] == 0x20 { changed += replacement } else { changed.append(text[index]) }
      }
      if prepend == .always || prepend == .first && isFirst, !changed.starts(with: replacement) {
        changed = replacement + changed
      }
      encode(changed, step, isFirst)
    case .spellBytes:
      encode(
        ByteAlphabet.spelled(UnsafeBufferPointer(start: text + piece.lowerBound, count: piece.count)),
        step, isFirst)
    }
  }

  /// Continues after `step` with the text that it made.
  private mutating func encode(_ made: [UInt8], _ step: Int, _ isFirst: Bool) {
    made.withUnsafeBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      encode(base, 0..<buffer.count, step: step + 1, isFirst: isFirst)
    }
  }

  private mutating func encodeWord(_ text: UnsafePointer<UInt8>, _ piece: Range<Int>) {
    let word = UnsafeBufferPointer(start: text + piece.lowerBound, count: piece.count)
    guard word.count <= Self.longestKnown else { return model.encode(word, &workspace, into: &ids) }
    let hash = ByteTable.hash(word)
    if let place = words.find(word, hash: hash) {
      let known = places[Int(place)]
      for index in known.start..<(known.start + known.count) { ids.append(self.known[Int(index)]) }
      return
    }
    let start = ids.count
    model.encode(word, &workspace, into: &ids)
    if places.count < Self.mostKnown, words.insert(word, Int32(places.count), hash: hash) {
      places.append((Int32(known.count), Int32(ids.count - start)))
      known.append(contentsOf: ids[start...])
    }
  }

  // MARK: splitting

  /// Calls `body` with every piece that a split leaves, in order.
  private mutating func split(
    _ text: UnsafePointer<UInt8>, _ piece: Range<Int>, _ step: Int, _ behavior: SplitBehavior,
    _ inverted: Bool, _ body: (inout PreTokenizerRun, Range<Int>) -> Void
  ) {
    // The matcher is lent to this call: a step does not meet itself further down.
    guard var matcher = matchers[step] else { return }
    matchers[step] = nil
    defer { matchers[step] = matcher }
    var last = piece.lowerBound
    switch behavior {
    case .isolated:
      matcher.matches(in: text, piece) { match in
        if match.lowerBound > last { body(&self, last..<match.lowerBound) }
        body(&self, match)
        last = match.upperBound
      }
      body(&self, last..<piece.upperBound)
    case .removed:
      matcher.matches(in: text, piece) { match in
        let part = inverted ? match : last..<match.lowerBound
        if !part.isEmpty { body(&self, part) }
        last = match.upperBound
      }
      if !inverted { body(&self, last..<piece.upperBound) }
    default:
      var parts: [(range: Range<Int>, isMatch: Bool)] = []
      matcher.matches(in: text, piece) { match in
        if match.lowerBound > last { parts.append((last..<match.lowerBound, inverted)) }
        parts.append((match, !inverted))
        last = match.upperBound
      }
      if last < piece.upperBound { parts.append((last..<piece.upperBound, inverted)) }
      for part in Self.joined(parts, behavior) { body(&self, part) }
    }
  }

  /// The pieces of the behaviors that join a match with a neighbour. A match right behind another stands alone with
  /// either `merged` behavior.
  private static func joined(
    _ parts: [(range: Range<Int>, isMatch: Bool)], _ behavior: SplitBehavior
  ) -> [Range<Int>] {
    var out: [Range<Int>] = []
    var previous = false
    for part in behavior == .mergedWithNext ? parts.reversed() : parts {
      let joins = behavior == .contiguous ? part.isMatch == previous : part.isMatch && !previous
      if joins, let neighbour = out.last {
        out[out.count - 1] =
          min(neighbour.lowerBound, part.range.lowerBound)..<max(neighbour.upperBound, part.range.upperBound)
      } else {
        out.append(part.range)
      }
      previous = part.isMatch
    }
    return behavior == .mergedWithNext ? out.reversed() : out
  }
}
