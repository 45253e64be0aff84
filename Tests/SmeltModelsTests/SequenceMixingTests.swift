// Sequence-mixing blocks: ragged batches, shared heads and threads against twins in double precision, and a state that continues a
// sequence in parts of any length.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

/// The largest error, as a share of the largest output.
private let bound = 1e-5

@Suite struct SequenceMixingTests {
  /// Lengths of the sequences of a batch; one has no tokens.
  private static let ragged = [3, 65, 0, 1, 130]

  private func batch(_ lengths: [Int], from first: Int = 0) -> TokenBatch {
    TokenBatch(lengths.map { [Int](repeating: 1, count: $0) }, firstPosition: first)
  }

  private func matrix(_ rows: Int, _ columns: Int, _ generator: inout Generator) -> Matrix {
    Matrix(rows: rows, columns: columns, values: generator.normals(rows * columns))
  }

  private func expectNear(_ found: Matrix, _ expected: [Double], _ what: String) {
    #expect(found.values.count == expected.count)
    let largest = expected.reduce(0) { max($0, abs($1)) }
    for (place, (found, expected)) in zip(found.values, expected).enumerated()
    where !(abs(Double(found) - expected) <= bound * largest) {
      Issue.record("\(what): [\(place)] is \(found), expected \(expected), largest \(largest)")
      return
    }
  }

  /// A block on operands that have a row for each token.
  private typealias Block = ([Matrix], TokenBatch, LayerState?, Pass) -> Matrix
  /// Its twin on one sequence.
  private typealias Twin = ([Matrix]) -> [Double]

  private func check(_ operands: [Matrix], _ lengths: [Int], _ block: Block, _ twin: Twin) {
    let whole = batch(lengths)
    let expected = (0..<whole.sequenceCount).flatMap { sequence in
      let range = whole.range(sequence)
      return range.isEmpty ? [] : twin(operands.map { $0[range] })
    }
    let serial = block(operands, whole, nil, Pass())
    expectNear(serial, expected, "ragged")
    for threads in [2, 5, 32] {
      let parallel = block(operands, whole, nil, Pass(parallel: Parallel(threads: threads)))
      #expect(parallel.values == serial.values, "\(threads) threads")
    }
    // The longest sequence in parts: 64 at a time are the same chunks and the same bits.
    let range = whole.range(lengths.count - 1)
    let last = operands.map { $0[range] }
    for parts in [[64], [1], [64, 1, 1, 40], [17, 9, 66]] {
      let state = LayerState()
      var out = Matrix(rows: 0, columns: serial.columns)
      var turn = 0
      while out.rows < range.count {
        let place = out.rows..<min(range.count, out.rows + parts[min(turn, parts.count - 1)])
        out.append(
          block(last.map { $0[place] }, batch([place.count], from: place.lowerBound), state, Pass()))
        turn += 1
      }
      expectNear(out, Array(expected.suffix(out.values.count)), "in parts of \(parts)")
      if parts == [64] { #expect(out.values == serial[range].values) }
    }
    #expect(block(operands.map { $0[0..<0] }, batch([]), nil, Pass()).rows == 0)
  }

  @Test(arguments: [false, true]) func gatedDelta(byChannel: Bool) {
    var generator = Generator(seed: 21)
    let rule = GatedDelta(keyHeads: 2, valueHeads: 6, keyWidth: 12, valueWidth: 20)
    let shape = StateShape(keyHeads: 2, valueHeads: 6, keyWidth: 12, valueWidth: 20)
    let tokens = Self.ragged.reduce(0, +)
    var decay = matrix(tokens, byChannel ? 72 : 6, &generator)
    decay.values = decay.values.map { -$0 * $0 }
    var beta = matrix(tokens, 6, &generator)
    beta.values = beta.values.map { 1 / (1 + $0 * $0) }
    let operands = [
      matrix(tokens, 24, &generator), matrix(tokens, 24, &generator), matrix(tokens, 120, &generator), decay,
      beta,
    ]
    check(operands, Self.ragged) {
      rule.apply(
        queries: $0[0], keys: $0[1], values: $0[2], decay: $0[3], beta: $0[4], $1, $2, $3)
    } _: {
      var state = [Double](repeating: 0, count: shape.stateCount)
      return Reference.deltaRule(
        shape, queries: $0[0].values, keys: $0[1].values, values: $0[2].values, decay: $0[3].values,
        beta: $0[4].values, state: &state)
    }
  }

  /// Eleven heads share one group: more than a task takes.
  @Test(arguments: [(6, 2), (11, 1)]) func stateSpace(heads: Int, groups: Int) {
    var generator = Generator(seed: 22)
    let space = StateSpace(heads: heads, headWidth: 12, groups: groups, stateWidth: 20)
    let shape = StateShape(keyHeads: groups, valueHeads: heads, keyWidth: 20, valueWidth: 12)
    let tokens = Self.ragged.reduce(0, +)
    var steps = matrix(tokens, heads, &generator)
    steps.values = steps.values.map { $0 * $0 }
    let decay = generator.normals(heads).map { -$0 * $0 }
    let skip = generator.normals(heads)
    let operands = [
      matrix(tokens, heads * 12, &generator), matrix(tokens, groups * 20, &generator),
      matrix(tokens, groups * 20, &generator), steps,
    ]
    check(operands, Self.ragged) {
      space.apply($0[0], b: $0[1], c: $0[2], steps: $0[3], decay: decay, skip: skip, $1, $2, $3)
    } _: {
      var state = [Double](repeating: 0, count: shape.stateCount)
      return Reference.stateSpace(
        shape, c: $0[2].values, b: $0[1].values, x: $0[0].values, steps: $0[3].values, rates: decay,
        skip: skip, state: &state)
    }
  }

  @Test(arguments: [1, 4]) func causalConvolution(kernel: Int) {
    var generator = Generator(seed: 23)
    let convolution = CausalConvolution(channels: 10, kernel: kernel)
    let weight = generator.normals(10 * kernel)
    let bias = generator.normals(10)
    let operands = [matrix(Self.ragged.reduce(0, +), 10, &generator)]
    for isPlain in [true, false] {
      let bias = isPlain ? nil : bias
      check(operands, Self.ragged) {
        var x = $0[0]
        convolution.apply(&x, weight, bias: bias, silu: !isPlain, $1, $2, key: "conv", $3)
        return x
      } _: {
        Reference.convolve(
          $0[0].values, before: [Float](repeating: 0, count: 10 * (kernel - 1)), weight, bias: bias,
          channels: 10, silu: !isPlain)
      }
    }
  }

  /// A rule known by heart: a key that comes again recalls the value it was given last.
  @Test func aKeyRecallsItsLastValue() {
    let rule = GatedDelta(keyHeads: 1, valueHeads: 1, keyWidth: 4, valueWidth: 2)
    let keys = Matrix(rows: 3, columns: 4, values: [2, 0, 0, 0, 0, 3, 0, 0, 1, 0, 0, 0])
    let values = Matrix(rows: 3, columns: 2, values: [1, 2, 3, 4, 5, 6])
    let out = rule.apply(
      queries: keys, keys: keys, values: values, decay: Matrix(rows: 3, columns: 1),
      beta: Matrix(rows: 3, columns: 1, values: [1, 1, 1]), batch([3]), nil, Pass())
    // Queries are divided by √4.
    for (found, value) in zip(out.values, values.values) { #expect(abs(found - value / 2) < 1e-5) }
  }
}
