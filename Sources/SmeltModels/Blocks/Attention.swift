// Softmax attention with one key and value a token and key head: grouped queries, an optional window, optional sinks,
// an optional choice of keys. Keys of earlier tokens come from the decoding state.
// Sources: Ainslie et al., "GQA" (2023); sinks as learned logits, as in gpt-oss.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// The numbers of an attention.
struct GroupedAttention: Sendable {
  /// Query heads.
  var heads: Int
  /// Key and value heads; a divisor of `heads`.
  var keyHeads: Int
  /// Channels of a query and a key.
  var keyWidth: Int
  /// Channels of a value.
  var valueWidth: Int
  /// Factor of the logits.
  var scale: Float
  /// Tokens a query sees, itself included; nil for all before it.
  var window: Int?

  /// Outputs of all heads, [tokens, heads × value width].
  /// - Parameters:
  ///   - queries: [tokens, heads × key width], rotated.
  ///   - keys: [tokens, key heads × key width], rotated; the batch's own.
  ///   - values: [tokens, key heads × value width]; the batch's own.
  ///   - sinks: one logit a head that takes part in the softmax and brings no value; nil for none.
  ///   - selected: for each token, or for each token and key head, the positions it may see, ascending, or nil for all that the window
  ///     allows; nil where every token sees all.
  func attend(
    _ queries: Matrix, _ keys: Matrix, _ values: Matrix, _ batch: TokenBatch, sinks: [Float]? = nil,
    selected: [[Int32]?]? = nil, _ state: LayerState?, _ pass: Pass
  ) -> Matrix {
    let (all, allValues) = remember(keys, values, state)
    return attend(
      queries, all: all, allValues, batch, sinks: sinks, selected: selected,
      origin: state.map { _ in all.rows - batch.endPosition }, pass)
  }

  /// Adds keys and values to those of a state.
  /// - Returns: all of them so far that these tokens see, the last rows those given; without a state the same.
  @discardableResult
  func remember(_ keys: Matrix, _ values: Matrix, _ state: LayerState?) -> (keys: Matrix, values: Matrix) {
    let before = window.map { $0 - 1 }
    return (
      state?.append("keys", keys, keepingLast: before) ?? keys,
      state?.append("values", values, keepingLast: before) ?? values
    )
  }

  /// The same where all keys and values are there.
  /// - Parameters:
  ///   - keys: of every position that is seen where the batch continues a sequence, else the batch's own.
  ///   - values: a row for each of the keys.
  ///   - origin: the row of keys that belongs to position 0 of the one sequence, below 0 where the first positions have none; nil where
  ///     each sequence's rows begin at position 0.
  func attend(
    _ queries: Matrix, all keys: Matrix, _ values: Matrix, _ batch: TokenBatch, sinks: [Float]? = nil,
    selected: [[Int32]?]? = nil, origin: Int?, _ pass: Pass
  ) -> Matrix {
    let lists = selected.map { $0.count / max(1, queries.rows) } ?? 1
    precondition(lists == 1 || lists == keyHeads, "\(lists) choices a token for \(keyHeads) key heads")
    let spans = (0..<(queries.rows > 0 ? batch.sequenceCount : 0)).compactMap { sequence -> AttentionSpan? in
      let tokens = batch.range(sequence)
      guard !tokens.isEmpty else { return nil }
      let position = batch.positions[tokens.lowerBound]
      return AttentionSpan(
        tokens: tokens, origin: origin ?? tokens.lowerBound, firstPosition: position,
        lowest: first(position))
    }
    return Matrix(rows: queries.rows, columns: heads * valueWidth) { out in
      // SAFETY: spans hold every token once, and a block writes its own tokens' heads. Keys and values have a row for each
      // position from the lowest one seen up to the token's own, and all rows are of heads × width floats, as the projections that made them were checked to give.
      AttentionTiles(
        core: self, queries: queries, keys: keys, values: values, sinks: sinks, selected: selected,
        out: SharedPointer(out)
      ).run(spans, pass.parallel)
    }
  }

  /// Floats that keys and values of a token take, with those of one key head that are packed.
  static func kept(_ keyHeads: Int, _ keyWidth: Int, _ valueWidth: Int) -> Int {
    (keyHeads + 1) * (keyWidth + valueWidth)
  }

  /// The lowest position that a token at `position` sees.
  func first(_ position: Int) -> Int { window.map { max(0, position - $0 + 1) } ?? 0 }

  /// Adds one row's values, key by key; keys of weight 0 take no part.
  /// - Parameters:
  ///   - row: weights of keys.
  ///   - values: a row of `width` floats for each key, `stride` apart.
  static func weigh(
    _ row: UnsafePointer<Float>, _ values: UnsafePointer<Float>, _ stride: Int, _ seen: Range<Int>,
    _ width: Int, into out: UnsafeMutablePointer<Float>
  ) {
    for key in seen where row[key] != 0 { sk_axpy_f32(row[key], values + key * stride, out, width) }
  }

  /// Takes positions that were not selected out of the softmax.
  /// - Parameters:
  ///   - row: scores, from position `base` on.
  ///   - seen: the row's own keys, counted from `base`.
  ///   - selected: positions, ascending.
  static func mask(
    _ row: UnsafeMutablePointer<Float>, base: Int, _ seen: Range<Int>, _ selected: ArraySlice<Int32>
  ) {
    var next = seen.lowerBound
    for position in selected {
      let key = Int(position) - base
      guard key >= next else { continue }
      guard key < seen.upperBound else { break }
      (row + next).update(repeating: -.infinity, count: key - next)
      next = key + 1
    }
    (row + next).update(repeating: -.infinity, count: seen.upperBound - next)
  }
}
