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
  /// Token by token, with a state H [head width, state width] a head: H ← exp(Δ A) H + Δ x Bᵀ; y = H C + D x. The decoding state
  /// keeps it transposed, [heads × state width, head width].
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
    let mixing = StateMixing(
      keyHeads: groups, valueHeads: heads, keyWidth: stateWidth, valueWidth: headWidth)
    let arrays = [c.values, b.values, x.values, steps.values, decay, skip]
    return mixing.run(arrays, batch, state, key: "space", pass) { inputs, tokens, head, call in
      let place = tokens.lowerBound * b.columns + head / (heads / groups) * stateWidth
      call.queries = inputs[0].pointer + place
      call.keys = inputs[1].pointer + place
      call.values = inputs[2].pointer + tokens.lowerBound * x.columns + head * headWidth
      call.beta = inputs[3].pointer + tokens.lowerBound * heads + head
      call.beta_stride = heads
      call.rates = inputs[4].pointer + head
      call.skip = inputs[5].pointer + head
      sk_state_space(&call)
    }
  }
}
