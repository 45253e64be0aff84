// The pieces of DeepSeek-V4's forward pass against numbers computed elsewhere: frequencies, rotation, scores, routing,
// and what happens to ties.

import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

@Suite struct RotaryTests {
  /// Nine digits were published.
  @Test(
    arguments: [
      (0, 1), (1, 0.687656045), (15, 0.00363553851), (16, 0.00226562493), (18, 0.000849689706),
      (20, 0.000296977785), (22, 9.08678412e-05), (24, 1.95312532e-05), (25, 5.37231244e-06),
      (31, 5.6805294e-07),
    ] as [(Int, Float)])
  func yarnStretchesTheLowFrequencies(pair: Int, expected: Float) {
    let yarn = YarnScaling(factor: 16, betaFast: 32, betaSlow: 1, originalPositions: 65536)
    let rope = RotaryFrequencies(dimensions: 64, theta: 160_000, yarn: yarn)
    #expect(rope.frequencies.count == 32)
    #expect(abs(rope.frequencies[pair] - expected) <= expected * 1e-6)
  }

  @Test func frequenciesWithoutYarnArePowersOfTheta() {
    let rope = RotaryFrequencies(dimensions: 4, theta: 10000, yarn: nil)
    #expect(rope.frequencies == [1, 0.01])
  }

  private func rotate(_ x: [Float], _ position: Int, sign: Float = 1, dimensions: Int = 4) -> [Float] {
    var x = x
    let table = RotaryFrequencies(dimensions: dimensions, theta: 10000, yarn: nil).table(0..<position + 1)
    x.withUnsafeMutableBufferPointer {
      table.rotateTail($0.baseAddress!, width: $0.count, position: position, sign: sign)
    }
    return x
  }

  @Test func pairsAreInterleaved() {
    let expected: [Float] = [-1.272232533, -1.838865042, 2.878668070, 4.088186741]
    for (found, expected) in zip(rotate([1, 2, 3, 4], 3), expected) { #expect(abs(found - expected) < 1e-6) }
  }

  @Test func onlyTheLastChannelsTurn() {
    let found = rotate([5, 6, 7, 1, 2, 3, 4], 3)
    #expect(Array(found.prefix(3)) == [5, 6, 7])
    #expect(Array(found.suffix(4)) == rotate([1, 2, 3, 4], 3))
    #expect(rotate([5, 6, 7], 9, dimensions: 0) == [5, 6, 7])
  }

  @Test func signMinusOneTurnsBack() {
    for (found, expected) in zip(rotate(rotate([1, 2, 3, 4], 7), 7, sign: -1), [1, 2, 3, 4] as [Float]) {
      #expect(abs(found - expected) < 1e-6)
    }
  }

  /// Entry w of a compressor stands at position w × ratio.
  @Test func stepMultipliesPositions() {
    let rope = RotaryFrequencies(dimensions: 8, theta: 10000, yarn: nil)
    let (fine, coarse) = (rope.table(0..<13), rope.table(0..<4, step: 4))
    #expect(Array(coarse.cosines[12..<16]) == Array(fine.cosines[48..<52]))
    #expect(Array(coarse.sines[12..<16]) == Array(fine.sines[48..<52]))
  }
}

@Suite struct RouterTests {
  @Test(
    arguments: [
      (-25, 3.726653e-06), (-5, 0.0819472298), (-1, 0.5596978664), (0, 0.8325545788), (0.5, 0.9869533777),
      (3, 1.746020436), (20.1, 4.483302593), (40, 6.324555397),
    ] as [(Float, Float)])
  func sqrtSoftplus(x: Float, expected: Float) {
    #expect(abs(Router.sqrtSoftplus(x) - expected) <= expected * 1e-6)
  }

  @Test func sqrtSoftplusOfExtremesIsFinite() {
    #expect(Router.sqrtSoftplus(-200).isFinite && Router.sqrtSoftplus(-1e30) == 0)
    #expect(Router.sqrtSoftplus(1e30).isFinite)
  }

  private static let logits: [Float] = [
    0.3, -1.2, 2, 0.5, 1.1, 0, -0.4, 0.9, 3, -3, 0.2, 0.1, 0.7, 0.8, -0.9, 1.6,
  ]
  private static let bias: [Float] = [0, 0.5, 0, 0, 0, 0, 0.2, 0, -0.4, 0, 0, 0, 0, 0.1, 0, 0]

  private func largest(_ values: [Float], _ count: Int) -> [Int32] {
    values.withUnsafeBufferPointer { Router.largest($0, count: count) }
  }

  /// The bias chooses and does not weigh.
  @Test func publishedExample() {
    let router = Router(score: .sqrtSoftplus, perToken: 3, weighting: .normalized, scaling: 1.5)
    let routing = router.route(Matrix(rows: 1, columns: 16, values: Self.logits), bias: Self.bias)
    #expect(routing.experts == [2, 8, 15])
    for (found, expected) in zip(routing.weights, [0.481844962, 0.576873004, 0.441282034] as [Float]) {
      #expect(abs(found - expected) < 1e-6)
    }
  }

  @Test func factorsAddUpToTheScaling() {
    let scores = Matrix(rows: 2, columns: 3, values: [1, 2, 3, 2, 5, 6])
    var router = Router(score: .identity, perToken: 2, weighting: .normalized, scaling: 1.5)
    let normal = router.route(scores, bias: nil) { _ in [0, 2] }
    #expect(normal.experts == [0, 2, 0, 2])
    #expect(normal.weights == [0.375, 1.125, 0.375, 1.125])
    (router.weighting, router.scaling) = (.plain, 2)
    let raw = router.route(scores, bias: nil) { _ in [0, 2] }
    #expect(raw.weights == [2, 6, 4, 12])
  }

  @Test(
    arguments: [
      ([1, 2, 2, 2], 2, [1, 2]), ([2, 2, 2, 2], 3, [0, 1, 2]), ([0, -1, 0, -1], 3, [0, 1, 2]),
      ([5, 1, 5], 1, [0]), ([1, 2, 3], 3, [0, 1, 2]), ([-0.0, 0.0, 0.0], 1, [0]),
    ] as [([Float], Int, [Int32])])
  func ofEqualScoresTheLowerIdIsTaken(values: [Float], count: Int, expected: [Int32]) {
    #expect(largest(values, count) == expected)
  }

  @Test func largestEqualsSorting() {
    var generator = Generator(seed: 21)
    for count in 1...6 {
      // Eighths, so that ties are common.
      let values = (0..<64).map { _ in (generator.float() * 8).rounded() / 8 }
      let sorted = values.indices.sorted { (values[$1], $0) < (values[$0], $1) }
      #expect(largest(values, count) == sorted.prefix(count).sorted().map(Int32.init))
    }
  }
}

@Suite struct IndexerTests {
  private func select(_ queries: [Float], _ weights: [Float], _ keys: Matrix, _ complete: Int, _ keep: Int)
    -> [Int32]
  {
    Indexer.select(
      queries: queries, headWeights: weights, heads: weights.count, keys: keys, complete: complete, keep: keep
    )
  }

  /// relu makes exact zeros: where all are zero the earliest entries stay.
  @Test func ofEqualScoresTheEarlierEntryIsKept() {
    let keys = Matrix(rows: 5, columns: 2, values: [-1, 0, -2, 0, 1, 0, -3, 0, 1, 0])
    #expect(select([1, 0], [1], keys, 5, 3) == [0, 2, 4])
    // With a negative head weight 0 is the best score, and -1 the next.
    #expect(select([-1, 0], [-1], keys, 5, 3) == [0, 2, 4])
    #expect(select([0, 0], [1], keys, 5, 3) == [0, 1, 2])
  }

  @Test func onlyCompleteEntriesCompete() {
    let keys = Matrix(rows: 4, columns: 1, values: [1, 2, 3, 4])
    #expect(select([1], [1], keys, 0, 2) == [])
    #expect(select([1], [1], keys, 2, 2) == [0, 1])
    #expect(select([1], [1], keys, 3, 2) == [1, 2])
    #expect(select([1], [1], keys, 4, 2) == [2, 3])
  }

  @Test func scoresAreWeightedReluSums() {
    var generator = Generator(seed: 22)
    let (heads, width, count, keep) = (4, 8, 20, 6)
    for _ in 0..<10 {
      let queries = generator.normals(heads * width)
      let weights = generator.normals(heads)
      let keys = Matrix(rows: count, columns: width, values: generator.normals(count * width))
      let scores = (0..<count).map { entry in
        (0..<heads).reduce(0.0) { sum, head in
          let dot = Slow.dot(
            Slow.doubles(queries[head * width..<(head + 1) * width]), Slow.doubles(keys[entry]))
          return sum + max(dot, 0) * Double(weights[head])
        }
      }
      let best = scores.indices.sorted { scores[$0] > scores[$1] }.prefix(keep).sorted()
      #expect(select(queries, weights, keys, count, keep) == best.map(Int32.init))
    }
  }
}
