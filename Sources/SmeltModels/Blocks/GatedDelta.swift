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
    var memory = state?.take("delta", rows: valueHeads * keyWidth, columns: valueWidth)
    var out = Matrix(rows: values.rows, columns: values.columns)
    for sequence in 0..<batch.sequenceCount {
      var s = memory?.values ?? [Float](repeating: 0, count: valueHeads * keyWidth * valueWidth)
      for token in batch.range(sequence) {
        for head in 0..<valueHeads {
          let keyHead = head / (valueHeads / keyHeads)
          let place = token * queries.columns + keyHead * keyWidth
          let k = unit(keys.values[place..<place + keyWidth], scale: 1)
          let q = unit(queries.values[place..<place + keyWidth], scale: 1 / Float(keyWidth).squareRoot())
          var recalled = [Float](repeating: 0, count: valueWidth)
          for i in 0..<keyWidth {
            var factor: Float = 0
            let g = decay.values[
              perChannel ? (token * valueHeads + head) * keyWidth + i : token * valueHeads + head]
            sk_exp([g], &factor, 1)
            for j in 0..<valueWidth {
              s[(head * keyWidth + i) * valueWidth + j] *= factor
              recalled[j] += k[i] * s[(head * keyWidth + i) * valueWidth + j]
            }
          }
          let target = token * values.columns + head * valueWidth
          for j in 0..<valueWidth {
            recalled[j] = beta.values[token * valueHeads + head] * (values.values[target + j] - recalled[j])
          }
          for i in 0..<keyWidth {
            for j in 0..<valueWidth {
              s[(head * keyWidth + i) * valueWidth + j] += k[i] * recalled[j]
              out.values[target + j] += q[i] * s[(head * keyWidth + i) * valueWidth + j]
            }
          }
        }
      }
      memory?.values = s
    }
    if let memory { state?.replace("delta", memory) }
    return out
  }

  private func unit(_ x: ArraySlice<Float>, scale: Float) -> [Float] {
    let factor = 1 / (x.reduce(0) { $0 + $1 * $1 } + GatedDelta.epsilon).squareRoot() * scale
    return x.map { $0 * factor }
  }
}
