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
    guard x.rows > 0 else { return }
    precondition(state == nil || batch.sequenceCount == 1, "a state continues one sequence")
    let history = kernel - 1
    var kept = state?.take(key, rows: history, columns: channels)
    // A row of zeros more, so that there is an address where the kernel has one tap.
    let before = (kept?.values ?? []) + [Float](repeating: 0, count: (history + 1) * channels)
    let bases = [x.values, before, taps(weight), bias ?? [0]]
    let out = Matrix(rows: x.rows, columns: channels) { out in
      withReadPointers(bases[...]) { inputs in
        // SAFETY: a task writes the rows of its tokens. `before` has kernel − 1 rows, the taps kernel rows, a bias a float a channel,
        // as checked above; x has a row for each token of the batch.
        let target = SharedPointer(out)
        for sequence in 0..<batch.sequenceCount {
          let tokens = batch.range(sequence)
          let first = tokens.lowerBound * channels
          let block = 64
          pass.parallel.forEach(ceilDivide(tokens.count, block)) { task in
            sk_convolve(
              inputs[0].pointer + first, inputs[1].pointer, inputs[2].pointer,
              bias == nil ? nil : inputs[3].pointer, kernel, task * block,
              min(tokens.count, (task + 1) * block), channels, silu ? 1 : 0, target.pointer + first)
          }
        }
      }
    }
    if let state, history > 0 {
      // Only the last rows are looked at: a long batch is not copied for them.
      kept?.append(x[max(0, x.rows - history)..<x.rows])
      if let kept { state.replace(key, kept[kept.rows - history..<kept.rows]) }
    }
    x = out
  }

  /// The weight as the kernel reads it, [kernel, channels].
  private func taps(_ weight: [Float]) -> [Float] {
    // SAFETY: [channels, kernel] floats read with steps of 1 and kernel, as many written.
    [Float](unsafeUninitializedCapacity: weight.count) { out, count in
      weight.withUnsafeBytes { weight in
        UnsafeMutableRawBufferPointer(out).withMemoryRebound(to: UInt8.self) { out in
          sk_gather(
            weight.bindMemory(to: UInt8.self).baseAddress, 4, kernel, channels, 1, kernel, out.baseAddress)
        }
      }
      count = weight.count
    }
  }
}
