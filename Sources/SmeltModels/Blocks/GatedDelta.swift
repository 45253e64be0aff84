// The gated delta rule: linear attention whose state forgets by a factor and overwrites what a key recalls. The factor is one
// number a head (Gated DeltaNet) or one a key channel (Kimi Delta Attention).
// Sources: Yang, Kautz and Hatamizadeh, "Gated Delta Networks" (2024); Kimi Team, "Kimi Linear" (2025); transformers' qwen3_next.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// The numbers of a layer with the gated delta rule.
struct GatedDelta: Sendable {
  /// Heads of queries and keys; a divisor of `valueHeads`. Key head j serves the value heads j · r ..< (j + 1) · r, where
  /// r = valueHeads / keyHeads.
  var keyHeads: Int
  /// Heads of values: of states and outputs.
  var valueHeads: Int
  /// Channels of a query and a key.
  var keyWidth: Int
  /// Channels of a value.
  var valueWidth: Int

  /// Added to the sum of squares under the root that normalizes queries and keys.
  static let epsilon: Float = 1e-6

  /// Outputs of all heads, [tokens, value heads × value width].
  ///
  /// Queries and keys are divided by their length first, and queries by √(key width). Then, token by token, with a state S
  /// [key width, value width] a value head: S ← exp(g) S; S ← S + k (β (v − kᵀS))ᵀ; o = qᵀS.
  /// - Parameters:
  ///   - queries: [tokens, key heads × key width].
  ///   - keys: [tokens, key heads × key width].
  ///   - values: [tokens, value heads × value width].
  ///   - decay: g, the natural logarithm of the factor, at most 0: [tokens, value heads], or
  ///     [tokens, value heads × key width] for a factor a key channel.
  ///   - beta: β, [tokens, value heads].
  ///   - state: continues the one sequence of the batch; nil for whole sequences.
  func apply(
    queries: Matrix, keys: Matrix, values: Matrix, decay: Matrix, beta: Matrix, _ batch: TokenBatch,
    _ state: LayerState?, _ pass: Pass
  ) -> Matrix {
    let perChannel = decay.columns != valueHeads
    precondition(
      queries.columns == keyHeads * keyWidth && keys.columns == queries.columns
        && values.columns == valueHeads * valueWidth && beta.columns == valueHeads
        && decay.columns == (perChannel ? valueHeads * keyWidth : valueHeads) && valueHeads % keyHeads == 0,
      "the delta rule has operands of other shapes")
    let mixing = StateMixing(
      keyHeads: keyHeads, valueHeads: valueHeads, keyWidth: keyWidth, valueWidth: valueWidth,
      decaysByRow: perChannel)
    let arrays = [queries.values, keys.values, values.values, decay.values, beta.values]
    return mixing.run(arrays, batch, state, key: "delta", pass) { inputs, tokens, head, call in
      let keyHead = head / (valueHeads / keyHeads)
      let place = tokens.lowerBound * queries.columns + keyHead * keyWidth
      let perHead = perChannel ? keyWidth : 1
      call.queries = inputs[0].pointer + place
      call.keys = inputs[1].pointer + place
      call.values = inputs[2].pointer + tokens.lowerBound * values.columns + head * valueWidth
      call.decay = inputs[3].pointer + tokens.lowerBound * decay.columns + head * perHead
      call.decay_stride = decay.columns
      call.beta = inputs[4].pointer + tokens.lowerBound * valueHeads + head
      call.beta_stride = valueHeads
      sk_delta_rule(&call, GatedDelta.epsilon)
    }
  }
}
