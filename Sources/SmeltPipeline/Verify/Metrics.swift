// Every metric with its formula. Formats/report.md says the same for people who read only the report.

internal import CKernels
import SmeltModels
import SmeltStorage
import SmeltTensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// e^x in double precision.
func exponential(_ x: Double) -> Double { exp(x) }

/// ln x in double precision.
func logarithm(_ x: Double) -> Double { log(x) }

/// x^y in double precision.
func powered(_ x: Double, _ y: Double) -> Double { pow(x, y) }

/// Formulas over logits, activations and weights. Sums are taken in double precision, in the order of the tokens.
enum Metrics {
  /// log of the sum of e^logit over the vocabulary, in double precision.
  static func logSumExp(_ logits: UnsafeBufferPointer<Float>) -> Double {
    guard let base = logits.baseAddress, !logits.isEmpty else { return -.infinity }
    // SAFETY: the kernel reads `count` floats and writes two doubles.
    return withUnsafeTemporaryAllocation(of: Double.self, capacity: 2) { sums in
      guard let out = sums.baseAddress else { return .nan }
      sk_exp_sum(base, logits.count, out)
      return out[0] + log(out[1])
    }
  }

  /// −log softmax(logits)[next id] for every token of `range` that is not the last of its sequence, in order.
  static func negativeLogLikelihoods(
    _ logits: Matrix, _ range: Range<Int>, _ batch: TokenBatch, _ parallel: Parallel
  ) -> [Double] {
    var totals = [Double](repeating: .nan, count: range.count)
    fill(&totals, parallel) { row in withRow(logits, row, logSumExp) }
    return losses(logits, totals, range, batch)
  }

  /// The same from the logarithms of the sums, one a row.
  static func losses(_ logits: Matrix, _ totals: [Double], _ range: Range<Int>, _ batch: TokenBatch)
    -> [Double]
  {
    totals.indices.compactMap { row in
      batch.follower(of: range.lowerBound + row).map {
        totals[row] - Double(logits.values[row * logits.columns + $0])
      }
    }
  }

  /// What two rows of logits say about each other.
  struct Agreement {
    /// D(source ‖ result) = Σ p (ln p − ln q), in nats, p and q the softmaxes of source and result.
    var divergence: Double
    /// Whether the most likely token is the same (lowest id of equals).
    var sameTop: Bool
    /// |top 5 of source ∩ top 5 of result| / 5 (fewer in vocabularies below 5).
    var top5: Double
    /// `logSumExp` of both rows.
    var totals = (source: 0.0, result: 0.0)
  }

  /// Compares the logits of one token; all sums in one pass over the two rows (`sk_divergence` has the form of the sum).
  static func agreement(_ source: UnsafeBufferPointer<Float>, _ result: UnsafeBufferPointer<Float>)
    -> Agreement
  {
    guard let x = source.baseAddress, let y = result.baseAddress, source.count == result.count else {
      return Agreement(divergence: .nan, sameTop: false, top5: 0)
    }
    let count = min(5, source.count)
    let (a, b) = (top(source, count), top(result, count))
    // SAFETY: the kernel reads as many floats of each as the rows have, and writes five doubles.
    return withUnsafeTemporaryAllocation(of: Double.self, capacity: 5) { sums in
      guard let out = sums.baseAddress else { preconditionFailure("an allocation has a place") }
      sk_divergence(x, y, source.count, out)
      let (p, q) = (log(out[1]), log(out[3]))
      return Agreement(
        divergence: max(out[4] / out[1] - p + q, 0), sameTop: a.first == b.first,
        top5: Double(a.count { b.contains($0) }) / Double(count), totals: (out[0] + p, out[2] + q))
    }
  }

  /// Compares the logits of as many tokens as the result has rows.
  /// - Parameter rows: the source's rows; nil for the same ones.
  static func agreements(
    _ source: Matrix, rows: [Int]? = nil, _ result: Matrix, _ parallel: Parallel
  ) -> [Agreement] {
    var all = [Agreement](
      repeating: Agreement(divergence: 0, sameTop: false, top5: 0), count: result.rows)
    fill(&all, parallel) { row in
      withRow(source, rows?[row] ?? row) { x in withRow(result, row) { y in agreement(x, y) } }
    }
    return all
  }

  /// The ids of the largest logits, best first, lowest id of equals first.
  static func top(_ logits: UnsafeBufferPointer<Float>, _ count: Int) -> [Int] {
    guard count > 0, let base = logits.baseAddress else { return [] }
    var best: [Int] = []
    var index = 0
    while index < logits.count {
      if best.count == count {
        // SAFETY: from `index` on there are so many numbers; the place that is found is before the end, or the end.
        index += sk_find_above(base + index, logits.count - index, logits[best[count - 1]])
        if index == logits.count { break }
      }
      defer { index += 1 }
      var place = best.count
      while place > 0, logits[index] > logits[best[place - 1]] { place -= 1 }
      best.insert(index, at: place)
      if best.count > count { best.removeLast() }
    }
    return best
  }

  /// Sums from which the distance of two equally long rows of numbers follows.
  struct Distance: Sendable {
    /// Σ (a − b)².
    var squares = 0.0
    /// Σ a².
    var source = 0.0
    /// Σ b².
    var result = 0.0
    /// Σ a b.
    var product = 0.0
    /// max |a − b|; not a number once any of them was none.
    var largest = 0.0

    /// Nothing added yet.
    init() {}

    /// The distance of two tables of integers: 0 where they are equal.
    init(integers a: [Int], _ b: [Int]) {
      for (x, y) in zip(a, b) {
        squares += Double(x - y) * Double(x - y)
        source += Double(x) * Double(x)
        result += Double(y) * Double(y)
        product += Double(x) * Double(y)
        largest = max(largest, Double(abs(x - y)))
      }
    }

    /// √(Σ (a − b)² / Σ a²); 0 when both are zero.
    var relativeError: Double { squares == 0 ? 0 : (squares / max(source, 1e-300)).squareRoot() }
    /// Σ a b / √(Σ a² Σ b²); 1 when both are zero.
    var cosine: Double {
      source == 0 && result == 0 ? 1 : product / max((source * result).squareRoot(), 1e-300)
    }

    /// Adds two rows: sums of their own, in the order of `sk_distance`.
    mutating func add(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, count: Int) {
      // SAFETY: the kernel reads `count` floats of each, which the caller vouches for, and writes five doubles.
      withUnsafeTemporaryAllocation(of: Double.self, capacity: 5) { sums in
        guard let out = sums.baseAddress else { return }
        sk_distance(a, b, count, out)
        squares += out[0]
        source += out[1]
        result += out[2]
        product += out[3]
        raise(out[4])
      }
    }

    /// Raises the largest difference. `max` would forget a NaN.
    private mutating func raise(_ difference: Double) {
      if difference > largest || difference.isNaN { largest = difference }
    }

    /// Adds another distance's sums.
    mutating func add(_ other: Distance) {
      squares += other.squares
      source += other.source
      result += other.result
      product += other.product
      raise(other.largest)
    }
  }

  /// The distance of some rows of two matrices of one size; rows in fixed blocks, so that the sums do not depend on the
  /// threads, nor on the pieces that a window runs in.
  /// - Parameter before: the distance of the rows before them, whose number is a multiple of a block's; the sums go on from there.
  static func distance(
    _ a: Matrix, _ b: Matrix, rows: Range<Int>, after before: Distance = Distance(), _ parallel: Parallel
  ) -> Distance {
    blocks(rows, of: 16, after: before, parallel) { range in
      var distance = Distance()
      // SAFETY: both matrices have the same columns, and `rows` lie in both; read for the call
      a.values.withUnsafeBufferPointer { a0 in
        b.values.withUnsafeBufferPointer { b0 in
          guard let a0 = a0.baseAddress, let b0 = b0.baseAddress else { return }
          distance.add(
            a0 + range.lowerBound * a.columns, b0 + range.lowerBound * a.columns,
            count: range.count * a.columns)
        }
      }
      return distance
    }
  }

  /// The distance of the decoded numbers of two weights of one shape.
  static func distance(_ a: Weight, _ b: Weight, _ parallel: Parallel) -> Distance {
    blocks(0..<a.rows, of: 64, parallel) { range in
      let (x, y) = (a.decode(rows: range), b.decode(rows: range))
      var distance = Distance()
      // SAFETY: both arrays have `columns` numbers for each row of the piece; read for the call
      x.withUnsafeBufferPointer { x in
        y.withUnsafeBufferPointer { y in
          guard let x = x.baseAddress, let y = y.baseAddress else { return }
          distance.add(x, y, count: range.count * a.columns)
        }
      }
      return distance
    }
  }

  private static func blocks(
    _ rows: Range<Int>, of size: Int, after before: Distance = Distance(), _ parallel: Parallel,
    _ body: @Sendable (Range<Int>) -> Distance
  ) -> Distance {
    var parts = [Distance](repeating: Distance(), count: ceilDivide(rows.count, size))
    fill(&parts, parallel) { index in
      let start = rows.lowerBound + index * size
      return body(start..<min(rows.upperBound, start + size))
    }
    return parts.reduce(into: before) { $0.add($1) }
  }

  /// Fills an array in parallel, each place by itself.
  static func fill<T>(_ array: inout [T], _ parallel: Parallel, _ value: @Sendable (Int) -> T) {
    let count = array.count
    // SAFETY: each row writes its own element, while the buffer is borrowed
    array.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      let target = SharedPointer(base)
      let block = 8
      parallel.forEach(ceilDivide(count, block)) { index in
        for place in index * block..<min(count, (index + 1) * block) { target.pointer[place] = value(place) }
      }
    }
  }

  /// Lends one row of a matrix.
  static func withRow<R>(_ matrix: Matrix, _ row: Int, _ body: (UnsafeBufferPointer<Float>) -> R) -> R {
    matrix.values.withUnsafeBufferPointer {
      // SAFETY: the slice is bounds-checked, and used for the call alone
      body(UnsafeBufferPointer(rebasing: $0[row * matrix.columns..<(row + 1) * matrix.columns]))
    }
  }

  /// The value below which a share of the sorted values lies (nearest rank): element ⌈share × n⌉.
  static func percentile(_ sorted: [Double], _ share: Double) -> Double {
    guard !sorted.isEmpty else { return 0 }
    let rank = Int((share * Double(sorted.count)).rounded(.up))
    return sorted[min(max(rank, 1), sorted.count) - 1]
  }
}
