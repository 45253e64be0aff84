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
  ///   - selected: for each token the positions it may see, ascending, or nil for all that the window allows; nil where every token
  ///     sees all.
  func attend(
    _ queries: Matrix, _ keys: Matrix, _ values: Matrix, _ batch: TokenBatch, sinks: [Float]? = nil,
    selected: [[Int32]?]? = nil, _ state: LayerState?, _ pass: Pass
  ) -> Matrix {
    let keys = state?.append("keys", keys) ?? keys
    let values = state?.append("values", values) ?? values
    let positions = batch.positions
    let owners = batch.owners
    let continues = state != nil
    let width = heads * valueWidth
    return Matrix(rows: queries.rows, columns: width) { out in
      // SAFETY: a task writes the rows of its tokens. Queries, keys and values have a row for each position up to the token's own, of
      // heads × width floats, as the projections that made them were checked to give.
      let target = SharedPointer(out)
      let block = 16
      pass.parallel.forEach(ceilDivide(queries.rows, block)) { task in
        var scores: [Float] = []
        for token in task * block..<min(queries.rows, (task + 1) * block) {
          // Rows of keys and values start at position 0 of the token's own sequence.
          let origin = continues ? 0 : batch.range(owners[token]).lowerBound
          attend(
            token, queries, keys, values, origin: origin, position: positions[token], sinks,
            selected?[token] ?? nil,
            scratch: &scores, into: target.pointer + token * width)
        }
      }
    }
  }

  private func attend(
    _ token: Int, _ queries: Matrix, _ keys: Matrix, _ values: Matrix, origin: Int, position: Int,
    _ sinks: [Float]?,
    _ selected: [Int32]?, scratch: inout [Float], into out: UnsafeMutablePointer<Float>
  ) {
    let first = window.map { max(0, position - $0 + 1) } ?? 0
    let count = position + 1 - first
    let perKey = heads / keyHeads
    if scratch.count < perKey * count { scratch = [Float](repeating: 0, count: 2 * perKey * count) }
    let keyStride = keys.columns
    let valueStride = values.columns
    scratch.withUnsafeMutableBufferPointer { scratch in
      queries.values.withUnsafeBufferPointer { queries in
        keys.values.withUnsafeBufferPointer { keys in
          values.values.withUnsafeBufferPointer { values in
            let scores = scratch.baseAddress!
            let query = queries.baseAddress! + token * heads * keyWidth
            for keyHead in 0..<keyHeads {
              let key = keys.baseAddress! + (origin + first) * keyStride + keyHead * keyWidth
              let value = values.baseAddress! + (origin + first) * valueStride + keyHead * valueWidth
              dots(query + keyHead * perKey * keyWidth, key, keyStride, count, perKey, into: scores)
              for head in 0..<perKey {
                let row = scores + head * count
                for index in 0..<count { row[index] *= scale }
                if let selected { GroupedAttention.mask(row, first: first, count: count, selected) }
                sk_softmax_sink(row, count, sinks?[keyHead * perKey + head] ?? -.infinity)
                let result = out + (keyHead * perKey + head) * valueWidth
                result.update(repeating: 0, count: valueWidth)
                for index in 0..<count where row[index] != 0 {
                  sk_axpy_f32(row[index], value + index * valueStride, result, valueWidth)
                }
              }
            }
          }
        }
      }
    }
  }

  /// scores[head, index] = query[head] · key[index].
  private func dots(
    _ query: UnsafePointer<Float>, _ key: UnsafePointer<Float>, _ stride: Int, _ count: Int, _ heads: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    for start in Swift.stride(from: 0, to: keyWidth, by: Int(SK_BLOCK)) {
      sk_gemm_f32(
        query + start, keyWidth, key + start, stride, out, count, heads, count,
        min(Int(SK_BLOCK), keyWidth - start),
        start > 0 ? 1 : 0)
    }
  }

  /// Takes positions that were not selected out of the softmax.
  private static func mask(_ row: UnsafeMutablePointer<Float>, first: Int, count: Int, _ selected: [Int32]) {
    var next = 0
    for index in 0..<count {
      while next < selected.count, Int(selected[next]) < first + index { next += 1 }
      if next == selected.count || Int(selected[next]) != first + index { row[index] = -.infinity }
    }
  }
}
