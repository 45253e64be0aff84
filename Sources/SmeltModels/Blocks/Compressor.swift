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

  /// The entries of each sequence so far, [windows, width], rotated to the position of their first token.
  ///
  /// With a state, the unfinished window and the finished one before it (for the overlap) are kept as they are, and
  /// finished entries are kept under `name`.
  func entries(
    _ x: Matrix, _ batch: TokenBatch, rope: RotaryFrequencies, _ weights: some Weights, _ pass: Pass,
    _ state: LayerState?, _ name: String
  ) throws -> [Matrix] {
    var values = try weights.multiply(x, keys, rows: nil, parallel: pass.parallel)
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
    guard let state else {
      return (0..<batch.sequenceCount).map { sequence in
        let range = batch.range(sequence)
        return pooled(
          0..<range.count / ratio, values, logits, firstRow: range.lowerBound, firstPosition: 0, rope, norm,
          pass)
      }
    }
    // Rows since the start of the window before the unfinished one.
    var done = state.all("\(name).entries", columns: width)
    let firstPosition = max(0, done.rows - 1) * ratio
    values = state.append("\(name).values", values, grows: false)
    logits = state.append("\(name).logits", logits, grows: false)
    let windows = (firstPosition + values.rows) / ratio
    if windows > done.rows {
      done.append(
        pooled(
          done.rows..<windows, values, logits, firstRow: 0, firstPosition: firstPosition, rope, norm, pass))
      let keep = max(0, windows - 1) * ratio - firstPosition
      state.replace("\(name).values", values[keep..<values.rows])
      state.replace("\(name).logits", logits[keep..<logits.rows])
    }
    state.replace("\(name).entries", done)
    return [done]
  }

  /// The entries of some windows. Row `firstRow` of values and logits belongs to the token at `firstPosition`.
  private func pooled(
    _ windows: Range<Int>, _ values: Matrix, _ logits: Matrix, firstRow: Int, firstPosition: Int,
    _ rope: RotaryFrequencies, _ norm: [Float], _ pass: Pass
  ) -> Matrix {
    let table = rope.table(windows, step: ratio)
    return Matrix(rows: windows.count, columns: width) { out in
      let target = SharedPointer(out)
      eachToken(windows.count, pass.parallel) { index in
        let window = windows.lowerBound + index
        let row = target.pointer + index * width
        pool(window, origin: firstRow - firstPosition, values, logits, into: row)
        norm.withUnsafeBufferPointer { sk_rms_norm(row, $0.baseAddress!, epsilon, row, width) }
        table.rotateTail(row, width: width, position: window)
      }
    }
  }

  /// One entry before norm and rotation; the token at position p has row `origin + p`.
  private func pool(
    _ window: Int, origin: Int, _ values: Matrix, _ logits: Matrix, into out: UnsafeMutablePointer<Float>
  ) {
    // SAFETY: a window's tokens have rows, since only finished windows are pooled; `out` has `width` floats of this task's own; slots
    // begin `width` before a row's end or at its start.
    let channels = values.columns
    // (token, first channel) of each slot: the window before by its first half, this window by its second half.
    var slots: [(token: Int, channel: Int)] = []
    if overlaps && window > 0 {
      slots += (0..<ratio).map { (origin + (window - 1) * ratio + $0, 0) }
    }
    slots += (0..<ratio).map { (origin + window * ratio + $0, channels - width) }
    values.values.withUnsafeBufferPointer { values in
      logits.values.withUnsafeBufferPointer { logits in
        let k = slots.map { Optional(values.baseAddress! + $0.token * channels + $0.channel) }
        let g = slots.map { Optional(logits.baseAddress! + $0.token * channels + $0.channel) }
        sk_pool_slots(k, g, slots.count, out, width)
      }
    }
  }
}
