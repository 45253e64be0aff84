// The compressor of DeepSeek-V4's attention: windows of tokens pooled to one key each, by a softmax over the window
// for each channel on its own. Source: the DeepSeek-V4 reference code.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// One compressor: its names and its shape.
struct Compressor: Sendable {
  /// Projection of the values.
  var keys: WeightName
  /// Projection of the pooling logits.
  var gate: WeightName
  /// Added to the logits by position in the window.
  var ape: WeightName
  /// Scale of the norm over the pooled key.
  var norm: WeightName
  /// Tokens a window.
  var ratio: Int
  /// Channels of an entry.
  var width: Int
  /// Whether an entry also pools the preceding window, by the first half of the channels (ratio 4).
  var overlaps: Bool
  /// Added under the root of the norm.
  var epsilon: Float

  /// The entries of each sequence, [windows, width], rotated to the position of their first token.
  func entries(
    _ x: Matrix, _ batch: TokenBatch, rope: RotaryFrequencies, _ weights: some Weights, _ pass: Pass
  ) throws -> [Matrix] {
    let values = try weights.multiply(x, keys, rows: nil, parallel: pass.parallel)
    var logits = try weights.multiply(x, gate, rows: nil, parallel: pass.parallel)
    weights.finished(keys)
    weights.finished(gate)
    let ape = try weights.vector(ape)
    let norm = try weights.vector(norm)
    let channels = values.columns
    let positions = batch.positions
    for token in 0..<x.rows {
      let slot = positions[token] % ratio
      logits.values.withUnsafeMutableBufferPointer { logits in
        ape.withUnsafeBufferPointer { ape in
          sk_axpy_f32(1, ape.baseAddress! + slot * channels, logits.baseAddress! + token * channels, channels)
        }
      }
    }
    let table = rope.table(count: ceilDivide(batch.longest + 1, ratio), step: ratio)
    let biased = logits
    return (0..<batch.sequenceCount).map { sequence in
      let range = batch.range(sequence)
      let windows = range.count / ratio
      return Matrix(rows: windows, columns: width) { out in
        let target = SharedPointer(out)
        eachToken(windows, pass.parallel) { window in
          let row = target.pointer + window * width
          pool(window, first: range.lowerBound, values, biased, into: row)
          norm.withUnsafeBufferPointer { sk_rms_norm(row, $0.baseAddress!, epsilon, row, width) }
          table.rotateTail(row, width: width, position: window)
        }
      }
    }
  }

  /// One entry before norm and rotation.
  private func pool(
    _ window: Int, first: Int, _ values: Matrix, _ logits: Matrix, into out: UnsafeMutablePointer<Float>
  ) {
    let channels = values.columns
    // (token, first channel) of each slot: the window before by its first half, this window by its second half.
    var slots: [(token: Int, channel: Int)] = []
    if overlaps && window > 0 {
      slots += (0..<ratio).map { (first + (window - 1) * ratio + $0, 0) }
    }
    slots += (0..<ratio).map { (first + window * ratio + $0, channels - width) }
    values.values.withUnsafeBufferPointer { values in
      logits.values.withUnsafeBufferPointer { logits in
        let k = slots.map { Optional(values.baseAddress! + $0.token * channels + $0.channel) }
        let g = slots.map { Optional(logits.baseAddress! + $0.token * channels + $0.channel) }
        sk_pool_slots(k, g, slots.count, out, width)
      }
    }
  }
}
