// Attention of one token whose query heads share a key head and see chosen keys alone: scores, softmax and sums over the runs of keys
// that hold a chosen one, so that the cost follows the choice and not the context. The bits are those of the whole row: what is left
// out are keys of weight 0, and the lanes of the softmax's sum keep their places.

internal import CKernels
import SmeltTensors

extension AttentionTiles {
  /// Keys from a panel's first on, and those of them that were chosen.
  struct Run {
    var keys: Range<Int>
    var seen: ArraySlice<Int32>
  }

  /// Whole panels that hold a chosen position, neighbours joined; the last ends with the row.
  /// - Parameters:
  ///   - seen: positions, ascending.
  ///   - count: positions of the row.
  static func runs(_ seen: [Int32], count: Int) -> [Run] {
    let panel = Int(SK_PANEL)
    var runs: [Run] = []
    var place = 0
    while place < seen.count, seen[place] < count {
      let start = Int(seen[place]) / panel * panel
      let end = min(count, start + panel)
      var next = place + 1
      while next < seen.count, seen[next] < end { next += 1 }
      if let last = runs.last, last.keys.upperBound == start {
        runs[runs.count - 1] = Run(
          keys: last.keys.lowerBound..<end, seen: seen[last.seen.startIndex..<next])
      } else {
        runs.append(Run(keys: start..<end, seen: seen[place..<next]))
      }
      place = next
    }
    return runs
  }

  /// One token and key head.
  /// - Parameters:
  ///   - token: of the span, counted from its first.
  ///   - panels: as for a block; keys are counted from position 0, since there is no window.
  func attend(
    _ span: AttentionSpan, _ token: Int, keyHead: Int, runs: [Run], panels: UnsafePointer<Float>?,
    packedValues: UnsafePointer<Float>?, _ pool: AttentionPool
  ) {
    let (rows, tokens) = (core.heads / core.keyHeads, token..<token + 1)
    let count = span.firstPosition + token + 1
    let stride = ceilDivide(count, Int(SK_PANEL)) * Int(SK_PANEL) + 16
    let width = panels == nil ? core.keyWidth : sk_packed_width(core.keyWidth)
    let sizes = [rows * stride, rows * width, rows * core.valueWidth].map { ceilDivide($0, 16) * 16 }
    let edges = runs.flatMap { [$0.keys.lowerBound, $0.keys.upperBound] }
    pool.withFloats(sizes.reduce(0, +)) { scores in
      // SAFETY: three arrays of the sizes above, one after another. Runs lie within `count`, and keys and values have a row for each
      // position. What of a row lies in no run is neither written nor read. `out` as in a block.
      let packed = scores + sizes[0]
      let sums = packed + sizes[1]
      packQueries(span, tokens, keyHead, isPacked: panels != nil, width: width, into: packed)
      keys.values.withUnsafeBufferPointer { keys in
        values.values.withUnsafeBufferPointer { values in
          let key = keys.baseAddress! + span.origin * self.keys.columns + keyHead * core.keyWidth
          let value =
            packedValues ?? values.baseAddress! + span.origin * self.values.columns + keyHead
            * core.valueWidth
          let valueStride = packedValues == nil ? self.values.columns : core.valueWidth
          for run in runs {
            score(run.keys, rows, packed, width, panels, key, into: scores, stride)
            guard run.seen.count < run.keys.count else { continue }
            for row in 0..<rows { GroupedAttention.mask(scores + row * stride, base: 0, run.keys, run.seen) }
          }
          for row in 0..<rows {
            sk_softmax_runs(
              scores + row * stride, edges, runs.count, core.scale,
              sinks?[keyHead * rows + row] ?? -.infinity)
          }
          sums.update(repeating: 0, count: rows * core.valueWidth)
          for run in runs {
            let (first, end) = ends(run.keys, rows, from: run.keys.lowerBound)
            sk_weigh_values(
              scores + run.keys.lowerBound, stride, value + run.keys.lowerBound * valueStride, valueStride,
              rows,
              run.keys.count, core.valueWidth, first, end, 1, sums, core.valueWidth)
          }
          store(sums, span, tokens, keyHead) { row in
            let sum = sums + row * core.valueWidth
            sum.update(repeating: 0, count: core.valueWidth)
            for run in runs {
              GroupedAttention.weigh(
                scores + row * stride, value, valueStride, run.keys, core.valueWidth, into: sum)
            }
          }
        }
      }
    }
  }

  /// The range of a run for each row, counted from `from` on.
  private func ends(_ keys: Range<Int>, _ rows: Int, from: Int) -> (first: [Int], end: [Int]) {
    (
      [Int](repeating: keys.lowerBound - from, count: rows),
      [Int](repeating: keys.upperBound - from, count: rows)
    )
  }

  /// Scores of a run's keys.
  private func score(
    _ run: Range<Int>, _ rows: Int, _ packed: UnsafePointer<Float>, _ width: Int,
    _ panels: UnsafePointer<Float>?, _ keys: UnsafePointer<Float>, into scores: UnsafeMutablePointer<Float>,
    _ stride: Int
  ) {
    if let panels {
      let (first, end) = ends(run, rows, from: 0)
      sk_scores(packed, panels, core.keyWidth, rows, stride - 16, first, end, scores, stride)
      return
    }
    for start in Swift.stride(from: 0, to: core.keyWidth, by: Int(SK_BLOCK)) {
      sk_gemm_f32(
        packed + start, width, keys + run.lowerBound * self.keys.columns + start, self.keys.columns,
        scores + run.lowerBound, stride, rows, run.count, min(Int(SK_BLOCK), core.keyWidth - start),
        start > 0 ? 1 : 0)
    }
  }
}
