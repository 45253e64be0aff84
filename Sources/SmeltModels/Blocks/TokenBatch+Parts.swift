// A batch in parts, so that the temporaries of a layer are bounded by a number of tokens; and a sequence in pieces, each a batch of its
// own, so that its activations are.

extension TokenBatch {
  /// A piece has a multiple of so many tokens, but for the last: whatever a layer takes several tokens at a time of (chunks of a
  /// recurrence, blocks of a sum) begins where it does in the whole sequence.
  package static let pieceStep = 256

  /// A sequence in pieces, for layers that run over one after another with a `DecodingState` of pieces. Results are those of the whole
  /// sequence, bit for bit where `limit` is a multiple of `pieceStep`.
  /// - Parameter limit: tokens a piece at most; above 0.
  package static func pieces(of ids: [Int], limit: Int) -> [TokenBatch] {
    stride(from: 0, to: ids.count, by: limit).map { first in
      let end = min(ids.count, first + limit)
      return TokenBatch([Array(ids[first..<end])], firstPosition: first, following: ids[end...])
    }
  }

  /// Whether it is a part of a sequence whose other tokens are in other batches.
  package var isPiece: Bool { firstPosition > 0 || !following.isEmpty }

  /// A part of a batch that is run by itself.
  struct Part {
    /// Its rows in the batch.
    let rows: Range<Int>
    /// Its tokens.
    let batch: TokenBatch
    /// Whether it begins where its sequences do in the batch.
    let isFirst: Bool
    /// Whether it holds all tokens of its sequences.
    let isWhole: Bool
    /// Tokens of the longest of its sequences in the batch.
    let length: Int

    /// The state it runs with where the batch has none: parts of one sequence see each other through a state of their own.
    /// - Parameter before: the state of the part before it.
    func state(after before: LayerState?) -> LayerState? {
      isWhole ? nil : isFirst ? LayerState(tokens: length) : before
    }
  }

  /// Parts of at most `limit` tokens: whole sequences together, a longer sequence in parts.
  func parts(of limit: Int) -> [Part] {
    var parts: [Part] = []
    var sequence = 0
    while sequence < sequenceCount {
      let start = starts[sequence]
      let length = range(sequence).count
      if length > limit {
        for first in stride(from: 0, to: length, by: limit) {
          let rows = start + first..<start + min(length, first + limit)
          let part = TokenBatch([Array(ids[rows])], firstPosition: firstPosition + first)
          parts.append(Part(rows: rows, batch: part, isFirst: first == 0, isWhole: false, length: length))
        }
        sequence += 1
        continue
      }
      var end = sequence + 1
      while end < sequenceCount, starts[end + 1] - start <= limit { end += 1 }
      let whole = TokenBatch(
        (sequence..<end).map { Array(ids[range($0)]) }, firstPosition: firstPosition)
      parts.append(
        Part(rows: start..<starts[end], batch: whole, isFirst: true, isWhole: true, length: whole.longest))
      sequence = end
    }
    return parts
  }
}
