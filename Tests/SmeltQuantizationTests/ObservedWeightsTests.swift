// Observing: what is learned equals the naive formula, for any number of threads, and no product bit changes.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// Weights from a table.
private struct TableWeights: Weights {
  let table: [WeightName: Weight]

  func weight(_ name: WeightName) throws -> Weight { table[name]! }
  func finished(_ name: WeightName) {}
}

@Suite struct ObservedWeightsTests {
  let plain = WeightName("blk.0.attn_q_a.weight")
  let grouped = WeightName("blk.0.attn_output_a.weight")

  private func weights(_ generator: inout Generator, columns: Int) throws -> (TableWeights, [WeightSpec]) {
    let table = [
      plain: try floatWeight(generator.normals(6 * columns), rows: 6),
      grouped: try floatWeight(generator.normals(6 * columns), rows: 6),
    ]
    return (
      TableWeights(table: table),
      [
        WeightSpec(plain, [6, columns], .attention, layer: 0, spellings: []),
        WeightSpec(grouped, [6, columns], .attention, layer: 0, inputGroups: 3, spellings: []),
      ]
    )
  }

  /// Runs a small pass: two products of one weight, one of them cut into rows, and a grouped product.
  private func run(_ parallel: Parallel, columns: Int) throws -> (
    entries: [StatisticsEntry], products: [[Float]]
  ) {
    var generator = Generator(seed: 77)
    let (base, specs) = try weights(&generator, columns: columns)
    let inputs = (0..<5).map {
      Matrix(rows: 9 + $0, columns: columns, values: generator.normals((9 + $0) * columns))
    }
    let observed = ObservedWeights(base, specs: specs)
    var products: [[Float]] = []
    func multiply(_ weights: some Weights, _ x: Matrix, _ name: WeightName, _ rows: Range<Int>?) throws
      -> [Float]
    {
      try weights.multiply(x, name, rows: rows, parallel: parallel).values
    }
    var steps: [(Int, WeightName, Range<Int>?)] = [(0, plain, nil), (1, plain, 0..<4), (1, plain, 4..<6)]
    steps += (0..<3).map { (2 + $0, grouped, $0 * 2..<$0 * 2 + 2) }
    for (input, name, rows) in steps {
      let product = try multiply(observed, inputs[input], name, rows)
      #expect(product == (try multiply(base, inputs[input], name, rows)))
      products.append(product)
    }
    let entries = observed.drain()
    #expect(observed.drain().isEmpty)
    // The naive formula, token after token in double precision.
    func naive(_ name: WeightName, _ groups: [[Matrix]]) -> StatisticsEntry {
      var (absmax, squares): ([Float], [Float]) = ([], [])
      for matrices in groups {
        let tokens = matrices.reduce(0) { $0 + $1.rows }
        for column in 0..<columns {
          var (most, sum): (Float, Double) = (0, 0)
          for matrix in matrices {
            for row in 0..<matrix.rows {
              let x = matrix.values[row * columns + column]
              most = max(most, abs(x))
              sum += Double(x) * Double(x)
            }
          }
          absmax.append(most)
          squares.append(Float(sum / Double(tokens)))
        }
      }
      return StatisticsEntry(
        name, groups: groups.count, columns: columns, absmax: absmax, meanSquare: squares,
        counts: groups.map { $0.reduce(0) { $0 + $1.rows } })
    }
    #expect(
      entries == [
        naive(plain, [[inputs[0], inputs[1]]]), naive(grouped, [[inputs[2]], [inputs[3]], [inputs[4]]]),
      ])
    return (entries, products)
  }

  @Test(arguments: [1, 40, 513, 1300]) func threadsChangeNothing(_ columns: Int) throws {
    let one = try run(.serial, columns: columns)
    let three = try run(Parallel(threads: 3), columns: columns)
    #expect(one.entries == three.entries)
    #expect(one.products == three.products)
  }

  @Test func activationsThatAreNotFiniteAreRefused() throws {
    var generator = Generator(seed: 1)
    let (base, specs) = try weights(&generator, columns: 4)
    let observed = ObservedWeights(base, specs: specs)
    let x = Matrix(rows: 2, columns: 4, values: [0, 1, 2, 3, 4, 5, .nan, 7])
    let error = #expect(throws: FormatError.self) {
      try observed.multiply(x, plain, rows: nil, parallel: .serial)
    }
    #expect(error?.subject == plain.description)
    #expect(error?.problem.hasPrefix("token 1 brings nan to input channel 2") == true)
  }

  @Test func weightsWithoutTokensAreNotInTheDrain() throws {
    var generator = Generator(seed: 1)
    let (base, specs) = try weights(&generator, columns: 4)
    let observed = ObservedWeights(base, specs: specs)
    _ = try observed.multiply(Matrix(rows: 0, columns: 4), plain, rows: nil, parallel: .serial)
    #expect(observed.drain().isEmpty)
    let unreached = StatisticsEntry(unreached: plain, groups: 1, columns: 4)
    #expect(unreached.counts == [0])
    #expect(unreached.absmax == [0, 0, 0, 0])
  }

  @Test func expertsAreCounted() throws {
    var generator = Generator(seed: 1)
    let (base, specs) = try weights(&generator, columns: 4)
    let observed = ObservedWeights(base, specs: specs)
    let routing = Routing(perToken: 2, experts: [0, 3, 1, 3, 0, 3], weights: [1, 1, 1, 1, 1, 1])
    observed.record(routing, layer: 7, experts: 5)
    observed.record(routing, layer: 7, experts: 5)
    observed.record(routing, layer: 2, experts: 4)
    #expect(
      observed.drainRouting() == [
        ExpertTokens(layer: 2, counts: [2, 1, 0, 3]), ExpertTokens(layer: 7, counts: [4, 2, 0, 6, 0]),
      ])
    #expect(observed.drainRouting().isEmpty)
  }
}
