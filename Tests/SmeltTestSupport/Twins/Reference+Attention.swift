// The slow twin of attention (sk_attention.h): one token and one head at a time, sums in the order of the kernels, so that it gives
// the same bits.

/// Which keys the rows of an attention have and what they do with them.
package struct AttentionShape: Sendable {
  /// Query heads.
  package var heads: Int
  /// Key heads.
  package var keyHeads: Int
  /// Channels of a query and a key.
  package var keyWidth: Int
  /// Channels of a value.
  package var valueWidth: Int
  /// Factor of the logits.
  package var scale: Float
  /// Tokens a query sees, itself included; nil for all before it.
  package var window: Int?

  /// A shape.
  package init(
    heads: Int, keyHeads: Int, keyWidth: Int, valueWidth: Int, scale: Float, window: Int? = nil
  ) {
    (self.heads, self.keyHeads, self.keyWidth, self.valueWidth) = (heads, keyHeads, keyWidth, valueWidth)
    (self.scale, self.window) = (scale, window)
  }
}

extension Reference {
  /// One token's outputs, [heads, value width]: its scores with every key up to its position (`dot`), the softmax of the row, and the
  /// values added key by key (`axpy`), those of weight 0 left out.
  /// - Parameters:
  ///   - query: [heads, key width].
  ///   - keys: [positions, key heads × key width], from the sequence's first position on.
  ///   - values: [positions, key heads × value width].
  ///   - sinks: a logit a head.
  ///   - selected: for each key head the positions it sees; nil for all that the window allows.
  package static func attention(
    _ shape: AttentionShape, query: [Float], keys: [Float], values: [Float], position: Int, sinks: [Float]?,
    selected: [[Int32]?]
  ) -> [Float] {
    let first = shape.window.map { max(0, position - $0 + 1) } ?? 0
    return (0..<shape.heads).flatMap { head -> [Float] in
      let keyHead = head / (shape.heads / shape.keyHeads)
      let own = Array(query[head * shape.keyWidth..<(head + 1) * shape.keyWidth])
      var row = (first...position).map { place -> Float in
        let start = (place * shape.keyHeads + keyHead) * shape.keyWidth
        return dot(own, Array(keys[start..<start + shape.keyWidth])) * shape.scale
      }
      if let seen = selected[keyHead] {
        for index in row.indices where !seen.contains(Int32(first + index)) { row[index] = -.infinity }
      }
      row = softmax(row, sink: sinks?[head] ?? -.infinity)
      return (0..<shape.valueWidth).map { channel in
        row.indices.reduce(Float(0)) { sum, index in
          let place = ((first + index) * shape.keyHeads + keyHead) * shape.valueWidth + channel
          return row[index] == 0 ? sum : axpy(row[index], values[place], sum)
        }
      }
    }
  }
}
