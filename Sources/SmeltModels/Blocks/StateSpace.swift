// Mamba-2's state space: a state that decays by one factor a head and takes the outer product of the input and B.
// Source: Dao and Gu, "Transformers are SSMs" (2024); transformers' mamba2.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// The numbers of a state-space layer.
struct StateSpace: Sendable {
  /// Heads.
  var heads: Int
  /// Channels of a head.
  var headWidth: Int
  /// Groups of B and C; a divisor of `heads`. The heads of a group are consecutive.
  var groups: Int
  /// Entries of a channel's state.
  var stateWidth: Int

  /// Outputs of all heads, [tokens, heads × head width].
  ///
  /// Token by token, with a state H [head width, state width] a head: H ← exp(Δ A) H + Δ x Bᵀ; y = H C + D x.
  /// - Parameters:
  ///   - x: [tokens, heads × head width].
  ///   - b: B, [tokens, groups × state width].
  ///   - c: C, [tokens, groups × state width].
  ///   - steps: Δ, after softplus and clamp, [tokens, heads].
  ///   - decay: A, below 0, one number a head.
  ///   - skip: D, one number a head.
  ///   - state: continues the one sequence of the batch; nil for whole sequences.
  func apply(
    _ x: Matrix, b: Matrix, c: Matrix, steps: Matrix, decay: [Float], skip: [Float], _ batch: TokenBatch,
    _ state: LayerState?, _ pass: Pass
  ) -> Matrix {
    precondition(
      x.columns == heads * headWidth && b.columns == groups * stateWidth && c.columns == b.columns
        && steps.columns == heads && decay.count == heads && skip.count == heads && heads % groups == 0,
      "the state space has operands of other shapes")
    var memory = state?.take("space", rows: heads * headWidth, columns: stateWidth)
    var out = Matrix(rows: x.rows, columns: x.columns)
    for sequence in 0..<batch.sequenceCount {
      var h = memory?.values ?? [Float](repeating: 0, count: heads * headWidth * stateWidth)
      for token in batch.range(sequence) {
        for head in 0..<heads {
          let step = steps.values[token * heads + head]
          var factor: Float = 0
          sk_exp([step * decay[head]], &factor, 1)
          let shared = token * b.columns + head / (heads / groups) * stateWidth
          for channel in 0..<headWidth {
            let place = token * x.columns + head * headWidth + channel
            let input = step * x.values[place]
            var sum: Float = 0
            for i in 0..<stateWidth {
              let entry = (head * headWidth + channel) * stateWidth + i
              h[entry] = h[entry] * factor + input * b.values[shared + i]
              sum += h[entry] * c.values[shared + i]
            }
            out.values[place] = sum + skip[head] * x.values[place]
          }
        }
      }
      memory?.values = h
    }
    if let memory { state?.replace("space", memory) }
    return out
  }
}
