// Every metric against numbers worked out by hand.

import SmeltModels
@testable import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Float32 inputs carry an error of 6e-8 of their size.
private let bound = 1e-6

private func agreement(_ a: [Float], _ b: [Float]) -> Metrics.Agreement {
  a.withUnsafeBufferPointer { a in b.withUnsafeBufferPointer { b in Metrics.agreement(a, b) } }
}

private func distance(_ a: [Float], _ b: [Float]) -> Metrics.Distance {
  var distance = Metrics.Distance()
  distance.add(a, b, count: a.count)
  return distance
}

@Suite struct MetricsTests {
  @Test func logSumExpNeitherOverflowsNorVanishes() {
    func of(_ logits: [Float]) -> Double { logits.withUnsafeBufferPointer { Metrics.logSumExp($0) } }
    #expect(abs(of([0, 0]) - log(2)) < 1e-15)
    #expect(abs(of([1000, 1000]) - (1000 + log(2))) < 1e-12)
    #expect(abs(of([-1000, -1000, -1000]) - (-1000 + log(3))) < 1e-12)
  }

  @Test func divergenceIsFromSourceToResultInNats() {
    // p = (3/4, 1/4), q = (1/2, 1/2).
    let there = agreement([Float(log(3.0)), 0], [0, 0]).divergence
    #expect(abs(there - (0.75 * log(1.5) + 0.25 * log(0.5))) < bound)
    let back = agreement([0, 0], [Float(log(3.0)), 0]).divergence
    #expect(abs(back - (0.5 * log(2.0 / 3) + 0.5 * log(2))) < bound)
    #expect(agreement([1, -2, 3], [1, -2, 3]).divergence == 0)
    #expect(abs(agreement([1, -2, 3], [6, 3, 8]).divergence) < 1e-12)  // a shift changes no probability
    #expect(agreement([1, .nan, 3], [1, 2, 3]).divergence.isNaN)
    #expect(agreement([1, 2, 3], [1, .nan, 3]).divergence.isNaN)
  }

  @Test func topAgreementCountsSharedIds() {
    let a: [Float] = [9, 8, 7, 6, 5, 4, 3]
    #expect(agreement(a, a).top5 == 1)
    #expect(agreement(a, [9, 8, 7, 0, 0, 6, 5]).top5 == 0.6)  // 0, 1, 2, 5, 6 against 0 to 4
    #expect(agreement(a, [8, 9, 7, 6, 5, 4, 3]).top5 == 1)
    #expect(!agreement(a, [8, 9, 7, 6, 5, 4, 3]).sameTop)
    #expect(agreement([1, 1, 0], [2, 1, 0]).sameTop)  // the lowest id of equals
    #expect(!agreement([1, 1, 0], [1, 2, 0]).sameTop)
    #expect(agreement([1, 2], [2, 1]).top5 == 1)  // a vocabulary of two: both of two
    #expect([3, 1, 3, 2].withUnsafeBufferPointer { Metrics.top($0, 3) } == [0, 2, 3])
  }

  @Test func percentileIsTheNearestRank() {
    let hundred = (1...100).map(Double.init)
    #expect(Metrics.percentile(hundred, 0.5) == 50)
    #expect(Metrics.percentile(hundred, 0.99) == 99)
    #expect(Metrics.percentile([1, 2, 3], 0.5) == 2)
    #expect(Metrics.percentile([1, 2, 3, 4], 0.5) == 2)
    #expect(Metrics.percentile([7], 0.99) == 7)
    #expect(Metrics.percentile([7], 0) == 7)
    #expect(Metrics.percentile([], 0.5) == 0)
  }

  @Test func distances() {
    let sums = distance([3, 4], [3, 3])
    #expect(sums.relativeError == 0.2)  // √(1 / 25)
    #expect(abs(sums.cosine - 21 / (5 * 18.squareRoot())) < 1e-15)
    #expect(sums.largest == 1)
    #expect(distance([0, 0], [0, 0]).relativeError == 0)
    #expect(distance([0, 0], [0, 0]).cosine == 1)
    #expect(distance([1, 2], [-1, -2]).cosine == -1)
    #expect(distance([1, 0], [0, 1]).cosine == 0)
    #expect(distance([0, 0], [1, 0]).relativeError > 1e100)  // nothing to be relative to is not "equal"
    let tables = Metrics.Distance(integers: [1, 2, 3], [1, 2, 5])
    #expect(tables.largest == 2)
    #expect(tables.relativeError == (4.0 / 14).squareRoot())
    // A NaN is never lost, wherever it stands and whatever follows.
    for place in 0..<3 {
      var b: [Float] = [1, 2, 4]
      b[place] = .nan
      var sums = distance([1, 2, 3], b)
      sums.add(distance([5], [1]))
      #expect(sums.largest.isNaN && sums.relativeError.isNaN && sums.cosine.isNaN)
    }
  }

  /// Blocks of rows on any number of threads give the sums of one loop.
  @Test func distancesOfMatricesAreTheSumsOfTheirRows() {
    var generator = Generator(seed: 3)
    let a = Matrix(rows: 150, columns: 5, values: generator.normals(750))
    let b = Matrix(rows: 150, columns: 5, values: generator.normals(750))
    let whole = distance(a.values, b.values)
    let parts = [1, 3].map { Metrics.distance(a, b, rows: 0..<150, Parallel(threads: $0)) }
    #expect(abs(parts[0].relativeError - whole.relativeError) < 1e-13)
    #expect(parts[0].largest == whole.largest)
    #expect(parts[0].squares == parts[1].squares && parts[0].product == parts[1].product)
  }

  @Test func lossesPredictTheNextTokenOfTheSameWindow() {
    // Two windows of ids (1, 0, 1) and (0, 1); the row of a window's last token predicts nothing.
    let batch = TokenBatch([[1, 0, 1], [0, 1]])
    let three = Float(log(3.0))
    let logits = Matrix(rows: 5, columns: 2, values: [three, 0, 0, three, 9, 9, 0, 0, 9, 9])
    let all = Metrics.negativeLogLikelihoods(logits, 0..<5, batch, .serial)
    let expected = [-log(0.75), -log(0.75), log(2)]
    #expect(all.count == 3)
    for (found, wanted) in zip(all, expected) { #expect(abs(found - wanted) < bound) }
    // The same in chunks of rows.
    let tail = Matrix(rows: 3, columns: 2, values: Array(logits.values[4...]))
    #expect(Metrics.negativeLogLikelihoods(tail, 2..<5, batch, .serial) == [all[2]])
    // A NaN is a loss like any other: it must not drop out of the mean.
    let broken = Matrix(rows: 5, columns: 2, values: [.nan, 0, 0, three, 9, 9, 0, 0, 9, 9])
    let losses = Metrics.negativeLogLikelihoods(broken, 0..<5, batch, .serial)
    #expect(losses.count == 3 && losses[0].isNaN && losses[1] == all[1])
  }
}
