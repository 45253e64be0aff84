// Which blocks of keys a query keeps, ties and edges included; attention whose key heads see different keys, against slow arithmetic;
// and who can see whom in a block-sparse layer, found by changing one token.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

private func indexer(_ keep: Int, _ local: Int, size: Int = 2) -> BlockIndexer {
  BlockIndexer(heads: 1, width: 4, blockSize: size, keep: keep, local: local)
}

@Suite struct BlockChoiceTests {
  /// Blocks of two positions; the last may hold one.
  @Test(
    arguments: [
      // The best score of a block counts, and the query's own block is always there.
      ([9, 0, 1, 2, 0, 3, -5], 2, 1, [0, 1, 6]), ([0, 0, 1, 2, 0, 3, -5], 3, 1, [2, 3, 4, 5, 6]),
      ([-9, -1, -2, -3, -4, -5], 2, 1, [0, 1, 4, 5]),
      // Two local blocks leave one place.
      ([1, 1, 5, 0, 0, 0, 0, 0], 3, 2, [2, 3, 4, 5, 6, 7]), ([1, 1, 5, 0, 9, 9], 2, 2, [2, 3, 4, 5]),
      // Of equal blocks the first.
      ([4, 4, 4, 0, 0, 4, 4], 2, 1, [0, 1, 6]), ([1, 1, 1, 1, 1, 1], 2, 0, [0, 1, 2, 3]),
      ([0, 0, 7, 7, 0, 7, 1], 3, 1, [2, 3, 4, 5, 6]),
      // Without local blocks a query's own may be left out, also half a one.
      ([0, 5, 3, 3, -1], 2, 0, [0, 1, 2, 3]), ([0, 0, 3, 3, 5], 1, 0, [4]),
      ([0, -1], 1, 1, [0, 1]), ([3], 1, 1, [0]),
    ] as [([Float], Int, Int, [Int32])])
  func theBestBlocksAreKept(scores: [Float], keep: Int, local: Int, expected: [Int32]) {
    #expect(scores.withUnsafeBufferPointer { indexer(keep, local).positions(of: $0) } == expected)
  }

  /// Scores that are no numbers come last, and everything has an answer.
  @Test func notANumberIsNoBlock() {
    let scores: [Float] = [.nan, .nan, 1, 1, -.infinity, -.infinity, 0]
    #expect(scores.withUnsafeBufferPointer { indexer(2, 1).positions(of: $0) } == [2, 3, 6])
  }
}

@Suite struct KeyHeadChoiceTests {
  /// Two key heads of two query heads each, some tokens with a choice for one of them alone.
  @Test func eachKeyHeadSeesItsOwn() {
    var generator = Generator(seed: 3)
    let core = GroupedAttention(heads: 4, keyHeads: 2, keyWidth: 3, valueWidth: 2, scale: 0.7)
    let count = 7
    let queries = Matrix(rows: count, columns: 12, values: generator.normals(count * 12))
    let keys = Matrix(rows: count, columns: 6, values: generator.normals(count * 6))
    let values = Matrix(rows: count, columns: 4, values: generator.normals(count * 4))
    let batch = TokenBatch([[Int](repeating: 0, count: count)])
    var selected = [[Int32]?](repeating: nil, count: 2 * count)
    (selected[2 * 4], selected[2 * 5], selected[2 * 5 + 1]) = ([0, 3], [1, 2, 5], [0])
    selected[2 * 6 + 1] = [4, 6]
    let found = core.attend(queries, keys, values, batch, selected: selected, nil, Pass())
    for token in 0..<count {
      for head in 0..<4 {
        let seen = selected[2 * token + head / 2]?.map { Int($0) } ?? Array(0...token)
        let expected = slow(core, queries[token], keys, values, head, seen)
        let own = Array(found[token])[2 * head..<2 * head + 2]
        for (x, y) in zip(own, expected) { #expect(abs(Double(x) - y) < 1e-6, "\(token), \(head)") }
      }
    }
    // One list for both heads is two equal ones.
    let one = (0..<count).map { token -> [Int32]? in token == 5 ? [1, 4] : nil }
    let both = one.flatMap { [$0, $0] }
    #expect(
      core.attend(queries, keys, values, batch, selected: one, nil, Pass()).values
        == core.attend(queries, keys, values, batch, selected: both, nil, Pass()).values)
  }

  private func slow(
    _ core: GroupedAttention, _ query: ArraySlice<Float>, _ keys: Matrix, _ values: Matrix, _ head: Int,
    _ seen: [Int]
  ) -> [Double] {
    let group = head / 2
    let own = Array(query)[3 * head..<3 * head + 3]
    let logits = seen.map { position in
      zip(own, Array(keys[position])[3 * group..<3 * group + 3]).reduce(0.0) {
        $0 + Double($1.0) * Double($1.1)
      } * Double(core.scale)
    }
    let powers = logits.map { Slow.exponential($0 - (logits.max() ?? 0)) }
    let sum = powers.reduce(0, +)
    return (0..<2).map { channel in
      zip(seen, powers).reduce(0.0) {
        $0 + $1.1 / sum * Double(Array(values[$1.0])[2 * group + channel])
      }
    }
  }
}
