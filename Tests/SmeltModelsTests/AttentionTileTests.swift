// Attention in blocks against the twin that goes token by token: the same bits for every kind of attention, cut of the batch and
// number of threads.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

@Suite struct AttentionTileTests {
  /// Sequences of a batch and how they are seen.
  struct Case: Sendable, CustomTestStringConvertible {
    var shape: AttentionShape
    var lengths: [Int]
    var hasSinks = false
    /// Of how many lists a token has choices; 0 for none.
    var lists = 0
    var isChosenInBlocks = false
    /// Scattered choices: one of so many positions.
    var rarity: UInt64 = 3
    /// Whether tokens beside each other choose the same.
    var isChosenAlike = false
    var testDescription: String { "\(lengths) tokens, \(shape), sinks \(hasSinks), lists \(lists)" }
  }

  private struct Input {
    var queries: Matrix
    var keys: Matrix
    var values: Matrix
    var sinks: [Float]?
    var selected: [[Int32]?]?
  }

  private func core(_ shape: AttentionShape) -> GroupedAttention {
    GroupedAttention(
      heads: shape.heads, keyHeads: shape.keyHeads, keyWidth: shape.keyWidth, valueWidth: shape.valueWidth,
      scale: shape.scale, window: shape.window)
  }

  private func input(_ test: Case, seed: UInt64) -> Input {
    var generator = Generator(seed: seed)
    let shape = test.shape
    let count = test.lengths.reduce(0, +)
    func matrix(_ columns: Int) -> Matrix {
      Matrix(rows: count, columns: columns, values: generator.normals(count * columns))
    }
    let (queries, keys) = (matrix(shape.heads * shape.keyWidth), matrix(shape.keyHeads * shape.keyWidth))
    let values = matrix(shape.keyHeads * shape.valueWidth)
    let sinks = test.hasSinks ? generator.normals(shape.heads) : nil
    guard test.lists > 0 else { return Input(queries: queries, keys: keys, values: values, sinks: sinks) }
    let selected = test.lengths.flatMap { length in
      (0..<length).flatMap { position in
        (0..<test.lists).map { _ -> [Int32]? in
          guard position > 4 else { return nil }
          // Scattered positions, or blocks of 32 neighbours and single ones.
          guard test.isChosenInBlocks else {
            var alike = Generator(seed: UInt64(position / 64))
            return (0...Int32(position)).filter { _ in
              (test.isChosenAlike ? alike.next() : generator.next()) % test.rarity == 0
            }
          }
          let blocks = (0...position / 32).filter { _ in generator.next() % 3 == 0 }
          return (0...Int32(position)).filter { blocks.contains(Int($0) / 32) || $0 % 57 == 5 }
        }
      }
    }
    return Input(queries: queries, keys: keys, values: values, sinks: sinks, selected: selected)
  }

  /// What the twin gives for every token.
  private func expected(_ test: Case, _ input: Input) -> [Float] {
    let shape = test.shape
    var start = 0
    return test.lengths.flatMap { length -> [Float] in
      defer { start += length }
      let rows = start..<start + length
      let (keys, values) = (input.keys[rows].values, input.values[rows].values)
      return (0..<length).flatMap { position -> [Float] in
        let token = start + position
        let selected = (0..<shape.keyHeads).map { keyHead in
          input.selected.map { $0[test.lists == 1 ? token : token * test.lists + keyHead] } ?? nil
        }
        return Reference.attention(
          shape, query: Array(input.queries[token]), keys: keys, values: values, position: position,
          sinks: input.sinks, selected: selected)
      }
    }
  }

  static let cases: [Case] = {
    let grouped = AttentionShape(heads: 8, keyHeads: 2, keyWidth: 20, valueWidth: 24, scale: 0.2)
    let single = AttentionShape(heads: 3, keyHeads: 3, keyWidth: 48, valueWidth: 16, scale: 0.5)
    let shared = AttentionShape(heads: 9, keyHeads: 1, keyWidth: 16, valueWidth: 33, scale: 1)
    let paired = AttentionShape(heads: 4, keyHeads: 2, keyWidth: 40, valueWidth: 56, scale: 0.4)
    var window = grouped
    window.window = 13
    var narrow = shared
    narrow.window = 1
    var wide = single
    wide.window = 70
    return [
      Case(shape: grouped, lengths: [1]), Case(shape: grouped, lengths: [15, 1, 40, 0, 77, 16]),
      Case(shape: single, lengths: [130], hasSinks: true), Case(shape: shared, lengths: [7, 71]),
      Case(shape: window, lengths: [100, 5, 33]), Case(shape: narrow, lengths: [40], hasSinks: true),
      Case(shape: wide, lengths: [150, 3]), Case(shape: window, lengths: [90], hasSinks: true, lists: 1),
      Case(shape: grouped, lengths: [70, 9], lists: 2),
      Case(shape: grouped, lengths: [130, 20], hasSinks: true, lists: 2, isChosenInBlocks: true),
      Case(shape: grouped, lengths: [99], lists: 2, isChosenInBlocks: true),
      Case(shape: single, lengths: [99], lists: 1),
      Case(shape: shared, lengths: [2, 66], hasSinks: true, lists: 1),
      Case(shape: single, lengths: [330], lists: 1, rarity: 60),
      Case(shape: paired, lengths: [400, 3, 64], hasSinks: true, lists: 1, rarity: 25),
      Case(shape: single, lengths: [300, 70], hasSinks: true, lists: 1, rarity: 6, isChosenAlike: true),
      Case(shape: paired, lengths: [290], lists: 1, rarity: 5, isChosenAlike: true),
    ]
  }()

  /// Few keys are taken by each token for itself, many by tokens that share them, and most as whole rows.
  @Test(arguments: [(60, false, 1), (6, true, 64), (3, false, nil)] as [(UInt64, Bool, Int?)])
  func whatCostsLeastRuns(rarity: UInt64, isAlike: Bool, tokens: Int?) {
    let shape = AttentionShape(heads: 2, keyHeads: 2, keyWidth: 16, valueWidth: 16, scale: 0.5)
    let test = Case(shape: shape, lengths: [640], lists: 1, rarity: rarity, isChosenAlike: isAlike)
    let input = input(test, seed: 55)
    _ = Matrix(rows: 640, columns: 32) { out in
      let tiles = AttentionTiles(
        core: core(shape), queries: input.queries, keys: input.keys, values: input.values, sinks: nil,
        selected: input.selected, out: SharedPointer(out))
      out.update(repeating: 0, count: 640 * 32)
      let span = AttentionSpan(tokens: 0..<640, origin: 0, firstPosition: 0, lowest: 0)
      let (blocks, rest) = tiles.chosenBlocks(span)
      // The first five tokens see all.
      #expect(rest?.tokens == 0..<(tokens == nil ? 640 : 5))
      #expect(blocks.reduce(0) { $0 + $1.tokens.count } == (tokens == nil ? 0 : 635))
      #expect(blocks.first?.tokens.count == tokens)
    }
  }

  @Test(arguments: cases) func blocksGiveTheTwinsBits(test: Case) {
    let input = input(test, seed: 51)
    let expected = expected(test, input).map(\.bitPattern)
    let batch = TokenBatch(test.lengths.map { [Int](repeating: 0, count: $0) })
    for threads in [1, 2] {
      let found = core(test.shape).attend(
        input.queries, input.keys, input.values, batch, sinks: input.sinks, selected: input.selected, nil,
        Pass(parallel: Parallel(threads: threads)))
      #expect(found.values.map(\.bitPattern) == expected, "\(threads) threads")
    }
  }

  /// One sequence in passes of ragged lengths, with the keys of a state.
  @Test(arguments: cases.filter { $0.lengths.count == 1 }, [[1, 2, 40], [33, 1, 1, 65], [64, 17], [170]])
  func continuedSequencesGiveTheSameBits(test: Case, cuts: [Int]) {
    let input = input(test, seed: 52)
    let expected = expected(test, input).map(\.bitPattern)
    let state = LayerState()
    var (found, start, cut) = ([UInt32](), 0, 0)
    while start < input.queries.rows {
      let rows = start..<min(input.queries.rows, start + cuts[cut % cuts.count])
      let lists = input.selected.map {
        Array($0[rows.lowerBound * test.lists..<rows.upperBound * test.lists])
      }
      found += core(test.shape).attend(
        input.queries[rows], input.keys[rows], input.values[rows],
        TokenBatch([[Int](repeating: 0, count: rows.count)], firstPosition: start), sinks: input.sinks,
        selected: lists, state, Pass(parallel: Parallel(threads: 2))
      ).values.map(\.bitPattern)
      (start, cut) = (rows.upperBound, cut + 1)
    }
    #expect(found == expected)
  }

  /// A key or value that is no number reaches the tokens that see it and no others.
  @Test(arguments: [40, 3]) func whatATokenDoesNotSeeDoesNotReachIt(length: Int) {
    let shape = AttentionShape(heads: 4, keyHeads: 2, keyWidth: 16, valueWidth: 20, scale: 0.3)
    for window in [nil, 9] {
      for bad: Float in [.nan, .infinity] {
        var test = Case(shape: shape, lengths: [length, 2], lists: 1)
        test.shape.window = window
        var input = input(test, seed: 53)
        let place = length / 2
        // The others choose what they see without the bad one.
        input.selected = input.selected!.map { $0?.filter { $0 != Int32(place) } }
        input.selected![place] = nil
        let clean = expected(test, input).map(\.bitPattern)
        for column in 0..<input.values.columns {
          input.values.values[place * input.values.columns + column] = bad
        }
        let batch = TokenBatch([[Int](repeating: 0, count: length), [0, 0]])
        let found = core(test.shape).attend(
          input.queries, input.keys, input.values, batch, selected: input.selected, nil, Pass())
        for token in 0..<length + 2 {
          let row = token * found.columns..<(token + 1) * found.columns
          let sees =
            token < length && token >= place && input.selected![token] == nil
            && token - place < window ?? length
          let isSame = found.values[row].map(\.bitPattern) == Array(clean[row])
          #expect(isSame == !sees, "token \(token), window \(window ?? 0), \(bad)")
        }
      }
    }
  }

  /// The scores of a block are few rows of a long context: memory grows with the context and not with its square.
  @Test func longContextsHaveSmallBlocks() {
    let shape = AttentionShape(heads: 1, keyHeads: 1, keyWidth: 16, valueWidth: 16, scale: 0.3)
    var generator = Generator(seed: 54)
    let count = 40_000
    let keys = Matrix(rows: count, columns: 16, values: generator.normals(16 * count))
    let queries = keys[count - 70..<count]
    let batch = TokenBatch([[Int](repeating: 0, count: 70)], firstPosition: count - 70)
    let found = core(shape).attend(queries, all: keys, keys, batch, origin: 0, Pass())
    for token in [0, 1, 30, 69] {
      let expected = Reference.attention(
        shape, query: Array(queries[token]), keys: keys.values, values: keys.values,
        position: count - 70 + token, sinks: nil, selected: [nil])
      #expect(Array(found[token]).map(\.bitPattern) == expected.map(\.bitPattern), "token \(token)")
    }
  }
}
