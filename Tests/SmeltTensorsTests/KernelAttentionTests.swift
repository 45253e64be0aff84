// The steps of attention against products, softmax and sums one row and one key at a time: bit for bit, on every instruction set, for
// ragged rows, widths and ranges, and nothing written where nobody looks.

import CKernels
import SmeltTensors
import SmeltTestSupport
import Testing

extension KernelTests {
  /// Ranges of keys that rise from row to row, as a window's do; some are empty.
  private func ranges(_ rows: Int, _ keys: Int, window: Int) -> (first: [Int], end: [Int]) {
    let end = (0..<rows).map { min(keys, max(0, keys - rows / 2 + $0 / 2)) }
    return (end.map { max(0, $0 - window) }, end)
  }

  @Test(arguments: [
    [1, 1, 1], [2, 3, 7], [3, 31, 16], [4, 32, 17], [5, 33, 20], [8, 64, 64], [9, 65, 48], [17, 100, 128],
    [7, 40, 130], [13, 70, 192], [6, 35, 576], [3, 33, 1024], [23, 129, 80],
  ])
  func scoresOfPanelsAreDotProducts(sizes: [Int]) {
    let (rows, count, width) = (sizes[0], sizes[1], sizes[2])
    let panels = (count + 31) / 32 * 32
    let packed = (width + 15) / 16 * 16
    let stride = panels + 3
    let q = summable(rows * width, seed: 31), k = summable(count * (width + 5), seed: 32)
    for window in [1000, 40, 1] {
      let (first, end) = ranges(rows, count, window: window)
      let expected = (0..<rows).map { row in
        (first[row]..<end[row]).map { key in
          Reference.dot(
            Array(q[row * width..<(row + 1) * width]), Array(k[key * (width + 5)..<key * (width + 5) + width])
          )
        }
      }
      onEveryISA { isa in
        var keys = [Float](repeating: .nan, count: panels * packed + 1)
        var queries = [Float](repeating: .nan, count: rows * packed + 1)
        var c = [Float](repeating: 7, count: rows * stride + 1)
        sk_pack_keys(k, width + 5, count, width, &keys)
        q.withUnsafeBufferPointer { q in
          queries.withUnsafeMutableBufferPointer { queries in
            for row in 0..<rows {
              sk_pack_query(q.baseAddress! + row * width, width, queries.baseAddress! + row * packed)
            }
          }
        }
        sk_scores(queries, keys, width, rows, panels, first, end, &c, stride)
        for row in 0..<rows {
          expectSame(
            Array(c[row * stride + first[row]..<row * stride + end[row]]), expected[row],
            "\(isa), \(sizes), window \(window), row \(row)")
          expectSame(
            Array(c[row * stride + panels..<(row + 1) * stride]), [7, 7, 7], "\(isa), behind row \(row)")
        }
        #expect(keys.last!.isNaN && queries.last!.isNaN && c.last! == 7, "\(isa), behind the end")
      }
    }
  }

  @Test(arguments: [1, 15, 16, 17, 63, 64, 65, 300, 1023, 1024, 1025, 2100])
  func softmaxOfRowsIsThatOfEach(count: Int) {
    let rows = 5, stride = count + 2
    var x = summable(rows * stride, seed: 33).map { min(max($0, -200), 50) }
    for index in stride..<x.count where index % 7 == 2 { x[index] = -.infinity }
    for index in 2 * stride..<3 * stride { x[index] = -.infinity }
    let sinks: [Float] = [0.5, -.infinity, -.infinity, 60, -3]
    for window in [5000, 70, 3] {
      let (first, end) = ranges(rows, count, window: window)
      for shared in [nil, sinks] {
        for scale: Float in [1, 0.088] {
          var expected = x
          for row in 0..<rows {
            let logits = x[row * stride + first[row]..<row * stride + end[row]].map { $0 * scale }
            let own = Reference.softmax(logits, sink: shared?[row] ?? -.infinity)
            for key in 0..<count {
              let isSeen = key >= first[row] && key < end[row]
              expected[row * stride + key] = isSeen ? own[key - first[row]] : 0
            }
          }
          onEveryISA { isa in
            var found = x
            sk_softmax_rows(&found, stride, rows, count, scale, shared, first, end)
            expectSame(found, expected, "\(isa), \(count) keys, window \(window), scale \(scale)")
          }
        }
      }
    }
  }

  /// Runs of a row, in one block of a sum and over several, are the row with nothing between them.
  @Test(arguments: [
    [0, 5], [16, 48], [0, 32, 64, 96, 1008, 1040], [32, 1024, 1024, 1060], [0, 2100], [2048, 2049],
    [16, 17, 1024, 3100, 3120, 3121], [],
  ])
  func softmaxOfRunsIsThatOfTheRow(runs: [Int]) {
    let x = summable(3200, seed: 41).map { min(max($0, -200), 50) }
    let places = stride(from: 0, to: runs.count, by: 2).flatMap { Array(runs[$0]..<runs[$0 + 1]) }
    for sink: Float in [-.infinity, 0.5] {
      var logits = [Float](repeating: -.infinity, count: x.count)
      for place in places { logits[place] = x[place] * 0.3 }
      let whole = Reference.softmax(logits, sink: sink)
      var expected = x
      for place in places { expected[place] = whole[place] }
      onEveryISA { isa in
        var found = x
        sk_softmax_runs(&found, runs, runs.count / 2, 0.3, sink)
        expectSame(found, expected, "\(isa), \(runs), sink \(sink)")
      }
    }
  }

  @Test(arguments: [
    [1, 1, 1], [1, 300, 128], [2, 33, 7], [3, 40, 16], [4, 513, 64], [5, 70, 80], [6, 257, 33], [7, 64, 100],
    [8, 90, 128], [9, 256, 48], [16, 31, 512], [21, 600, 130],
  ])
  func valuesAreAddedKeyByKey(sizes: [Int]) {
    let (rows, count, width) = (sizes[0], sizes[1], sizes[2])
    let (ldp, ldv, ldo) = (count + 1, width + 3, width + 2)
    let v = summable(count * ldv, seed: 34), start = summable(rows * ldo, seed: 35)
    for window in [5000, 50] {
      let (first, end) = ranges(rows, count, window: window)
      var p = summable(rows * ldp, seed: 36)
      for row in 0..<rows {
        for key in 0..<count where key < first[row] || key >= end[row] { p[row * ldp + key] = 0 }
      }
      for accumulate: Int32 in [0, 1] {
        var expected = start
        for row in 0..<rows {
          for channel in 0..<width {
            var sum = accumulate == 1 ? start[row * ldo + channel] : 0
            for key in first[row]..<end[row] {
              sum = Reference.axpy(p[row * ldp + key], v[key * ldv + channel], sum)
            }
            expected[row * ldo + channel] = sum
          }
        }
        onEveryISA { isa in
          var out = start
          sk_weigh_values(p, ldp, v, ldv, rows, count, width, first, end, accumulate, &out, ldo)
          expectSame(
            out.map { $0 + 0 }, expected.map { $0 + 0 }, "\(isa), \(sizes), window \(window), \(accumulate)")
        }
      }
    }
  }

  @Test func theLargestIsFoundWhereverItLies() {
    var x = summable(arrayLength, seed: 40)
    for index in stride(from: 1, to: x.count, by: 9) { x[index] = .nan }
    for n in lengths {
      for least: Float in [-.infinity, 0.5, 1e9] {
        let expected = x[..<n].reduce(least) { $1 > $0 ? $1 : $0 }
        onEveryISA { isa in
          #expect(sk_largest_f32(x, n, least) == expected, "\(isa), length \(n), least \(least)")
        }
      }
    }
  }

  @Test func scoresOfHeadsAreAddedOneAfterAnother() {
    let heads = 5
    let dots = summable(heads * arrayLength, seed: 37), weights = summable(heads, seed: 38)
    for n in lengths {
      let start = summable(n + 1, seed: 39)
      var expected = start
      for head in 0..<heads {
        for key in 0..<n { expected[key] += max(dots[head * arrayLength + key], 0) * weights[head] }
      }
      onEveryISA { isa in
        var found = start
        sk_add_weighted_relu(dots, arrayLength, weights, heads, &found, n)
        expectSame(found, expected, "\(isa), length \(n)")
      }
    }
  }
}
