// Windows, compressed entries and sinks against the formulas in double precision, at the edges of windows; and who can
// see whom, found by changing one token and looking for changed bits.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

/// Float32 sums of some hundred terms.
private let bound = 1e-5

@Suite struct CompressorTests {
  private let hidden = 8
  private let width = 16
  private let rope = RotaryFrequencies(dimensions: 8, theta: 160_000, yarn: nil)

  private func compressor(_ ratio: Int, _ overlaps: Bool) -> Compressor {
    Compressor(
      keys: WeightName("k"), gate: WeightName("g"), ape: WeightName("a"), norm: WeightName("n"), ratio: ratio,
      width: width, overlaps: overlaps, epsilon: 1e-2)
  }

  /// Shorter than a window, a window's last token, one more, and several windows; overlapping or not.
  @Test(arguments: [
    (4, true, [3, 4, 5, 7, 8, 9, 1]), (4, false, [3, 4, 5, 8]), (128, false, [127, 128, 129, 256]),
    (1, true, [1, 2]),
  ])
  func entriesFollowTheFormula(ratio: Int, overlaps: Bool, lengths: [Int]) throws {
    var generator = Generator(seed: 41)
    let channels = overlaps ? 2 * width : width
    let (k, g) = (generator.normals(channels * hidden), generator.normals(channels * hidden))
    let (ape, norm) = (generator.normals(ratio * channels), generator.normals(width))
    var weights = MemoryWeights()
    try weights.add(WeightName("k"), [channels, hidden], k)
    try weights.add(WeightName("g"), [channels, hidden], g)
    try weights.add(WeightName("a"), [ratio, channels], ape)
    try weights.add(WeightName("n"), [width], norm)
    let batch = TokenBatch(lengths.map { [Int](repeating: 0, count: $0) })
    let x = Matrix(rows: batch.count, columns: hidden, values: generator.normals(batch.count * hidden))
    let found = try compressor(ratio, overlaps).entries(
      x, batch, rope: rope, weights, Pass(), nil, "")

    for sequence in 0..<batch.sequenceCount {
      let range = batch.range(sequence)
      let entries = found[sequence]
      #expect(entries.rows == range.count / ratio, "\(range.count) tokens")
      for window in 0..<entries.rows {
        var slots: [(token: Int, first: Int)] = (0..<ratio).map { (window * ratio + $0, channels - width) }
        if overlaps, window > 0 { slots += (0..<ratio).map { ((window - 1) * ratio + $0, 0) } }
        var pooled = (0..<width).map { channel -> Double in
          var (sum, total) = (0.0, 0.0)
          for slot in slots {
            let token = Slow.doubles(x[range.lowerBound + slot.token])
            let row = slot.first + channel
            let logit =
              Slow.product(token, Array(g[row * hidden..<(row + 1) * hidden]))[0]
              + Double(ape[slot.token % ratio * channels + row])
            let weight = Slow.exponential(logit)
            sum += weight
            total += weight * Slow.product(token, Array(k[row * hidden..<(row + 1) * hidden]))[0]
          }
          return total / sum
        }
        pooled = Slow.rms(pooled, norm, 1e-2)
        turn(&pooled, Double(window * ratio))
        #expect(distance(entries[window], pooled) < bound, "window \(window) of \(range.count) tokens")
      }
    }
  }

  private func turn(_ x: inout [Double], _ position: Double) {
    for pair in 0..<4 {
      let angle = position * Double(rope.frequencies[pair])
      let (c, s) = (Slow.cosine(angle), Slow.sine(angle))
      let (a, b) = (x[8 + 2 * pair], x[9 + 2 * pair])
      (x[8 + 2 * pair], x[9 + 2 * pair]) = (a * c - b * s, b * c + a * s)
    }
  }
}

@Suite struct SparseAttentionTests {
  private let core = SparseAttention(heads: 2, headWidth: 16, window: 8)

  /// What a query at `position` may look at, in double precision.
  private func expected(_ query: [Float], _ keys: [[Float]], _ sinks: [Float]) -> [Double] {
    (0..<2).flatMap { head -> [Double] in
      let q = Slow.doubles(query[head * 16..<(head + 1) * 16])
      let weights = keys.map { Slow.exponential(Slow.dot(q, Slow.doubles($0)) / 4) }
      let sum = weights.reduce(Slow.exponential(Double(sinks[head])), +)
      return (0..<16).map { channel in
        zip(weights, keys).reduce(0.0) { $0 + $1.0 / sum * Double($1.1[channel]) }
      }
    }
  }

  private func attend(_ query: [Float], _ position: Int, _ keys: SparseKeys, _ sinks: [Float]) -> [Float] {
    var out = [Float](repeating: .nan, count: 32)
    var scratch = AttentionScratch()
    core.attend(query, position: position, keys, sinks: sinks, scratch: &scratch, into: &out)
    return out
  }

  /// Entry w is visible from position (w + 1) × ratio - 1 on; the window holds the token itself and seven before.
  @Test(arguments: [0, 4, 128], [0, 1, 2, 3, 4, 6, 7, 8, 9, 126, 127, 128, 129, 254, 255, 256, 259])
  func queriesSeeTheWindowAndCompleteEntries(ratio: Int, position: Int) {
    var generator = Generator(seed: 42)
    let tokens = (0..<260).map { _ in generator.normals(16) }
    let entries = (0..<(ratio > 0 ? 260 / ratio : 0)).map { _ in generator.normals(16) }
    let (query, sinks) = (generator.normals(32), generator.normals(2))
    let matrix = Matrix(rows: entries.count, columns: 16, values: entries.flatMap { $0 })
    let keys = SparseKeys(tokens: tokens.flatMap { $0 }[...], entries: matrix, selected: nil, ratio: ratio)
    let complete = ratio == 0 ? 0 : (position + 1) / ratio
    let visible = Array(tokens[max(0, position - 7)...position]) + entries.prefix(complete)
    #expect(distance(attend(query, position, keys, sinks), expected(query, visible, sinks)) < bound)
  }

  @Test(arguments: [[], [0], [1, 3], [0, 1, 2, 3, 4]] as [[Int32]])
  func ofTheEntriesOnlyTheSelectedAreSeen(selected: [Int32]) {
    var generator = Generator(seed: 43)
    let tokens = (0..<21).map { _ in generator.normals(16) }
    let entries = (0..<5).map { _ in generator.normals(16) }
    let (query, sinks) = (generator.normals(32), generator.normals(2))
    let matrix = Matrix(rows: 5, columns: 16, values: entries.flatMap { $0 })
    let keys = SparseKeys(tokens: tokens.flatMap { $0 }[...], entries: matrix, selected: selected, ratio: 4)
    let visible = Array(tokens[13...20]) + selected.map { entries[Int($0)] }
    #expect(distance(attend(query, 20, keys, sinks), expected(query, visible, sinks)) < bound)
  }

  /// The sink takes its share and brings no value: with an overwhelming sink nothing is left.
  @Test func sinkTakesItsShare() {
    let keys = SparseKeys(
      tokens: [Float](repeating: 1, count: 16)[...], entries: Matrix(rows: 0, columns: 16), selected: nil,
      ratio: 0)
    let query = [Float](repeating: 0, count: 32)
    let out = attend(query, 0, keys, [0, -.infinity])
    #expect(out.prefix(16).allSatisfy { $0 == 0.5 } && out.suffix(16).allSatisfy { $0 == 1 })
    #expect(attend(query, 0, keys, [200, 200]).allSatisfy { $0 == 0 })
  }
}

@Suite struct VisibilityTests {
  /// The positions whose output of a one-layer model changes when the token at `place` does.
  private func changed(_ size: TinyV4.Size, length: Int, place: Int) throws -> [Int] {
    let tiny = TinyV4(size: size)
    let family = try DeepSeekV4(config: JSON.scan(tiny.configText), file: "config.json")
    let weights = try MemoryWeights(tiny, family)
    var generator = Generator(seed: 44)
    var ids = (0..<length).map { _ in Int(generator.next() % 40) }
    let before = try run(family, weights, ids)
    ids[place] += 5
    let after = try run(family, weights, ids)
    return (0..<length).filter { before[$0] != after[$0] }
  }

  private func run(_ family: DeepSeekV4, _ weights: MemoryWeights, _ ids: [Int]) throws -> [[UInt32]] {
    let batch = TokenBatch([ids])
    var x = try family.embed(batch, weights)
    _ = try family.layer(0, &x, batch, weights, Pass(parallel: .allCores))
    return (0..<x.rows).map { x[$0].map(\.bitPattern) }
  }

  private func size(_ ratio: Int, window: Int) -> TinyV4.Size {
    var size = TinyV4.Size()
    (size.ratios, size.hashLayers, size.window, size.indexKeep) = ([ratio], 0, window, 1000)
    return size
  }

  /// Without compression a token is seen as long as the window reaches.
  @Test func windowOnly() throws {
    #expect(try changed(size(0, window: 4), length: 12, place: 3) == [3, 4, 5, 6])
    #expect(try changed(size(0, window: 1), length: 5, place: 0) == [0])
  }

  /// With ratio 4 the token comes back with the entry of its window: at the window's last token.
  @Test func ratioFour() throws {
    let small = size(4, window: 2)
    #expect(try changed(small, length: 3, place: 0) == [0, 1])
    #expect(try changed(small, length: 4, place: 0) == [0, 1, 3])
    #expect(try changed(small, length: 5, place: 0) == [0, 1, 3, 4])
    #expect(try changed(small, length: 12, place: 4) == [4, 5] + Array(7..<12))
    #expect(try changed(small, length: 8, place: 7) == [7])
  }

  @Test func ratioOneHundredTwentyEight() throws {
    let small = size(128, window: 8)
    #expect(try changed(small, length: 127, place: 0) == Array(0..<8))
    #expect(try changed(small, length: 128, place: 0) == Array(0..<8) + [127])
    #expect(try changed(small, length: 130, place: 127) == [127, 128, 129])
    #expect(try changed(small, length: 260, place: 128) == Array(128..<136) + Array(255..<260))
  }

  /// Of an indexed layer's entries only the best are seen: with one to keep, most positions stay as they are.
  @Test func indexerLeavesEntriesOut() throws {
    var few = size(4, window: 2)
    few.indexKeep = 1
    let seen = try changed(few, length: 40, place: 0)
    #expect(seen.starts(with: [0, 1, 3, 4, 5, 6]) && seen.count < 40 - 1)
  }
}
