// A short convolution along the tokens, each channel on its own: what linear-attention and state-space layers mix their
// inputs with. It is zero before a sequence begins. Sources: Gu and Dao, "Mamba" (2023); transformers' mamba2 and qwen3_next.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// A causal convolution with one filter a channel.
struct CausalConvolution: Sendable {
  /// Channels, each with a filter of its own.
  var channels: Int
  /// Taps of a filter: the token itself and those before it.
  var kernel: Int

  /// Replaces every row by the filtered one.
  /// - Parameters:
  ///   - x: [tokens, channels], changed in place.
  ///   - weight: [channels, kernel], the tap of the oldest token first.
  ///   - bias: one number a channel; nil for none.
  ///   - silu: whether x · logistic(x) follows.
  ///   - state: keeps the last `kernel - 1` unfiltered rows under `key`; nil for whole sequences.
  func apply(
    _ x: inout Matrix, _ weight: [Float], bias: [Float]?, silu: Bool, _ batch: TokenBatch,
    _ state: LayerState?, key: String, _ pass: Pass
  ) {
    precondition(
      x.columns == channels && weight.count == channels * kernel && bias?.count ?? channels == channels,
      "a convolution of \(channels) channels, found \(x.columns) and \(weight.count) taps")
    let before = state?.take(key, rows: kernel - 1, columns: channels)
    var out = Matrix(rows: x.rows, columns: channels)
    for sequence in 0..<batch.sequenceCount {
      let range = batch.range(sequence)
      for token in range {
        for channel in 0..<channels {
          var sum = bias?[channel] ?? 0
          for tap in 0..<kernel {
            let place = token - range.lowerBound - (kernel - 1 - tap)
            let value =
              place >= 0
              ? x.values[(range.lowerBound + place) * channels + channel]
              : before?.values[(kernel - 1 + place) * channels + channel] ?? 0
            sum += weight[channel * kernel + tap] * value
          }
          out.values[token * channels + channel] = silu ? sum * logistic(sum) : sum
        }
      }
    }
    if let state, var kept = before {
      kept.append(x)
      state.replace(key, kept[kept.rows - (kernel - 1)..<kept.rows])
    }
    x = out
  }
}
