// GPTQ against the paper's own steps in double precision, and what it promises: the same bits from any number of
// threads, and outputs nearer to the source's than rounding to nearest gives.

import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// Inputs whose channels depend on each other, some much larger than others.
private func inputs(_ generator: inout Generator, tokens: Int, columns: Int) -> Matrix {
  let mix = (0..<columns * 8).map { _ in Float.random(in: -1...1, using: &generator) }
  let sizes = (0..<columns).map { $0 % 7 == 3 ? Float(6) : 1 }
  var values: [Float] = []
  for _ in 0..<tokens {
    let hidden = (0..<8).map { _ in Float.random(in: -1...1, using: &generator) }
    for column in 0..<columns {
      var sum = Float.random(in: -0.3...0.3, using: &generator)
      for k in 0..<8 { sum += mix[column * 8 + k] * hidden[k] }
      values.append(sum * sizes[column])
    }
  }
  return Matrix(rows: tokens, columns: columns, values: values)
}

private func randomWeight(_ generator: inout Generator, rows: Int, columns: Int) throws -> Weight {
  try floatWeight(
    (0..<rows * columns).map { _ in Float.random(in: -0.2...0.2, using: &generator) }, rows: rows)
}

/// The upper Cholesky factor of the inverse of a damped Σ x xᵀ, by Gauss and by the definition.
private func textbookFactor(_ x: Matrix, damping: Double) -> [[Double]] {
  let n = x.columns
  var h = [[Double]](repeating: [Double](repeating: 0, count: n), count: n)
  for token in 0..<x.rows {
    let row = Array(x[token]).map(Double.init)
    for i in 0..<n { for j in 0..<n { h[i][j] += row[i] * row[j] } }
  }
  let mean = (0..<n).reduce(0) { $0 + h[$1][$1] } / Double(n)
  for i in 0..<n { h[i][i] += damping * mean }
  // Gauss and Jordan, the matrix being positive.
  var inverse = (0..<n).map { i in (0..<n).map { $0 == i ? 1.0 : 0 } }
  for p in 0..<n {
    let pivot = h[p][p]
    for j in 0..<n {
      h[p][j] /= pivot
      inverse[p][j] /= pivot
    }
    for i in 0..<n where i != p {
      let factor = h[i][p]
      for j in 0..<n {
        h[i][j] -= factor * h[p][j]
        inverse[i][j] -= factor * inverse[p][j]
      }
    }
  }
  // Uᵀ U = inverse, row by row.
  var u = [[Double]](repeating: [Double](repeating: 0, count: n), count: n)
  for i in 0..<n {
    for j in i..<n {
      var sum = inverse[i][j]
      for k in 0..<i { sum -= u[k][i] * u[k][j] }
      u[i][j] = i == j ? sum.squareRoot() : sum / u[i][i]
    }
  }
  return u
}

/// Rounds a row to whole numbers times a scale of its own, one column after another.
private func textbookRow(_ row: [Float], scale: Float, _ u: [[Double]]) -> [Double] {
  var w = row.map(Double.init)
  for c in w.indices {
    let value = min(127, max(-127, (w[c] / Double(scale)).rounded(.toNearestOrEven))) * Double(scale)
    let error = (w[c] - value) / u[c][c]
    for j in c + 1..<max(c + 1, w.count) { w[j] -= error * u[c][j] }
    w[c] = value
  }
  return w
}

@Suite struct GPTQTests {
  @Test(arguments: [40, 150])
  func roundsAsThePaper(columns: Int) throws {
    var generator = Generator(seed: 11)
    let x = inputs(&generator, tokens: 90, columns: columns)
    let weight = try randomWeight(&generator, rows: 5, columns: columns)
    let hessian = Hessian(columns: columns)
    hessian.add(x, parallel: .serial)
    let grid = try #require(Grid(INT8.channel, shape: weight.shape))
    let outcome = try #require(
      try GPTQ(ordersByActivation: false).quantize(weight, to: grid, [hessian], parallel: .serial))
    let result = outcome.weight
    let scales = result.parts[1].bytes.array
    let u = textbookFactor(x, damping: 0.01)
    var different = 0
    for row in 0..<weight.rows {
      let scale = scales[row * 4..<row * 4 + 4].withUnsafeBytes {
        Float(bitPattern: UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)))
      }
      let expected = textbookRow(weight.decode(rows: row..<row + 1), scale: scale, u)
      let found = result.decode(rows: row..<row + 1)
      for column in 0..<columns where abs(Double(found[column]) - expected[column]) > Double(scale) / 2 {
        different += 1
      }
    }
    // float32 against double: a code may fall to the other side of a half now and then, and its followers with it.
    #expect(different <= weight.rows * columns / 50, "\(different) codes differ")
  }

  @Test(
    arguments: ["int8-channel", "fp8-channel", "int4-group", "mxfp4", "nvfp4", "q4_0", "q8_0"], [false, true])
  func lowersTheOutputErrorAndKeepsItsBits(scheme: String, ordered: Bool) throws {
    var generator = Generator(seed: 5)
    let columns = 288
    let x = inputs(&generator, tokens: 400, columns: columns)
    let weight = try randomWeight(&generator, rows: 37, columns: columns)
    let found = try Schemes.named(scheme)
    let encoding = found.encoding(for: weight.encoding, shape: weight.shape)
    var grid = try #require(Grid(encoding, shape: weight.shape))
    if let global = try found.survey(weight, options: QuantizeOptions()) { grid = grid.with(global: global) }
    var results: [[[UInt8]]] = []
    for threads in [1, 3] {
      let parallel = Parallel(threads: threads)
      let hessian = Hessian(columns: columns)
      hessian.add(x[0..<170], parallel: parallel)
      hessian.add(x[170..<400], parallel: parallel)
      let gptq = GPTQ(ordersByActivation: ordered)
      let outcome = try #require(try gptq.quantize(weight, to: grid, [hessian], parallel: parallel))
      try outcome.weight.validate()
      results.append(outcome.weight.parts.map(\.bytes.array))
      let plain = try found.quantize(weight, options: QuantizeOptions(observer: .mse)).weight
      func error(_ result: Weight) -> Double {
        let changes = zip(weight.decode(), result.decode()).map { $0 - $1 }
        return hessian.errors(
          Matrix(rows: weight.rows, columns: columns, values: changes), parallel: parallel
        ).reduce(0, +)
      }
      #expect(error(outcome.weight) < 0.7 * error(plain), "\(error(outcome.weight)) and \(error(plain))")
    }
    #expect(results[0] == results[1])
  }

  @Test func errorsAreThoseOfTheOutputs() {
    var generator = Generator(seed: 3)
    let x = inputs(&generator, tokens: 50, columns: 70)
    let hessian = Hessian(columns: 70)
    hessian.add(x, parallel: .serial)
    let d = Matrix(
      rows: 2, columns: 70, values: (0..<140).map { _ in Float.random(in: -1...1, using: &generator) })
    let errors = hessian.errors(d, parallel: .serial)
    for row in 0..<2 {
      var expected = 0.0
      for token in 0..<50 {
        let output = zip(x[token], d[row]).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        expected += output * output
      }
      #expect(abs(errors[row] - expected) < 1e-4 * expected)
    }
  }
}
