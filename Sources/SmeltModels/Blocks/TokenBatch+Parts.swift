// A batch in parts, so that the temporaries of a layer are bounded by a number of tokens.

extension TokenBatch {
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
          parts.append(Part(rows: rows, batch: part, isFirst: first == 0, isWhole: false))
        }
        sequence += 1
        continue
      }
      var end = sequence + 1
      while end < sequenceCount, starts[end + 1] - start <= limit { end += 1 }
      let whole = TokenBatch(
        (sequence..<end).map { Array(ids[range($0)]) }, firstPosition: firstPosition)
      parts.append(Part(rows: start..<starts[end], batch: whole, isFirst: true, isWhole: true))
      sequence = end
    }
    return parts
  }
}
