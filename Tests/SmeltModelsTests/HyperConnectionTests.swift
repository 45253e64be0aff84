// Hyper-connections against the formulas in double precision, one token and one stream at a time.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

/// Float32 sums of some hundred terms, through twenty rounds of Sinkhorn.
private let bound = 2e-5

@Suite struct HyperConnectionTests {
  private let m = 4
  private let hidden = 24
  private let tokens = 37
  private let site = HyperConnections.Site(
    mapping: WeightName("fn"), base: WeightName("base"), scale: WeightName("scale"))
  private let x: Matrix
  private let mapping: [Float]
  private let base: [Float]
  private let scale: [Float]
  private let norm: [Float]
  private let weights: MemoryWeights
  private var hyper: HyperConnections {
    HyperConnections(streams: m, hidden: hidden, iterations: 20, epsilon: 1e-3, normEpsilon: 1e-2)
  }

  init() throws {
    var generator = Generator(seed: 31)
    x = Matrix(rows: tokens, columns: m * hidden, values: generator.normals(tokens * m * hidden))
    mapping = generator.normals((2 + m) * m * m * hidden, 0.2)
    base = generator.normals((2 + m) * m)
    scale = [0.7, -1.3, 1.9]
    norm = generator.normals(hidden)
    var weights = MemoryWeights()
    try weights.add(site.mapping, [(2 + m) * m, m * hidden], mapping)
    try weights.add(site.base, [(2 + m) * m], base)
    try weights.add(site.scale, [3], scale)
    self.weights = weights
  }

  /// fn · x / rms(x); the norm has its own eps, ten times the other here.
  private func logits(_ token: Int) -> [Double] {
    Slow.product(Slow.rms(Slow.doubles(x[token]), nil, 1e-2), mapping)
  }

  private func coefficients(_ token: Int) -> (pre: [Double], post: [Double], mix: [Double]) {
    let logits = logits(token)
    let shifted = logits.indices.map { index in
      let part = index < m ? 0 : index < 2 * m ? 1 : 2
      return logits[index] * Double(scale[part]) + Double(base[index])
    }
    let pre = shifted[0..<m].map { Slow.sigmoid($0) + 1e-3 }
    let post = shifted[m..<2 * m].map { 2 * Slow.sigmoid($0) }
    var c = Array(shifted[(2 * m)...])
    for row in 0..<m {
      let e = (0..<m).map { Slow.exponential(c[row * m + $0]) }
      let sum = e.reduce(0, +)
      for column in 0..<m { c[row * m + column] = e[column] / sum + 1e-3 }
    }
    for round in 0..<20 {
      if round > 0 {
        for row in 0..<m {
          let sum = (0..<m).reduce(1e-3) { $0 + c[row * m + $1] }
          for column in 0..<m { c[row * m + column] /= sum }
        }
      }
      for column in 0..<m {
        let sum = (0..<m).reduce(1e-3) { $0 + c[$1 * m + column] }
        for row in 0..<m { c[row * m + column] /= sum }
      }
    }
    return (pre, post, c)
  }

  @Test func coefficientsFollowTheFormula() throws {
    let found = try hyper.coefficients(x, site, weights, Pass())
    for token in 0..<tokens {
      let expected = coefficients(token)
      #expect(distance(found.pre[token * m..<(token + 1) * m], expected.pre) < bound)
      #expect(distance(found.post[token * m..<(token + 1) * m], expected.post) < bound)
      #expect(distance(found.mix[token * m * m..<(token + 1) * m * m], expected.mix) < bound)
    }
  }

  @Test func collapseNormsTheWeightedSum() throws {
    let pre = try hyper.coefficients(x, site, weights, Pass()).pre
    let found = hyper.collapse(x, pre, norm: norm, Pass())
    for token in 0..<tokens {
      let old = Array(x[token])
      let sum = (0..<hidden).map { channel -> Double in
        (0..<m).reduce(0.0) { $0 + Double(pre[token * m + $1]) * Double(old[$1 * hidden + channel]) }
      }
      #expect(distance(found[token], Slow.rms(sum, norm, 1e-2)) < bound)
    }
  }

  /// Stream k takes `mix[j][k]` of stream j: the matrix is used by columns.
  @Test func expandUsesTheMixByColumns() throws {
    var generator = Generator(seed: 32)
    let coefficients = try hyper.coefficients(x, site, weights, Pass())
    let output = Matrix(rows: tokens, columns: hidden, values: generator.normals(tokens * hidden))
    var found = x
    hyper.expand(&found, output, coefficients, Pass())
    for token in 0..<tokens {
      let old = Array(x[token])
      let expected = (0..<m * hidden).map { place -> Double in
        let (k, channel) = (place / hidden, place % hidden)
        let post = Double(coefficients.post[token * m + k])
        var sum = post * Double(output.values[token * hidden + channel])
        for j in 0..<m {
          let mix = Double(coefficients.mix[(token * m + j) * m + k])
          sum += mix * Double(old[j * hidden + channel])
        }
        return sum
      }
      #expect(distance(found[token], expected) < bound)
    }
  }

  /// Two streams that swap: nothing but the order of the indices can tell right from wrong.
  @Test func expandMovesStreamsWhereTheMixSays() {
    let small = HyperConnections(streams: 2, hidden: 1, iterations: 1, epsilon: 0, normEpsilon: 0)
    var x = Matrix(rows: 1, columns: 2, values: [1, 10])
    let coefficients = HyperConnections.Coefficients(pre: [0, 0], post: [0, 100], mix: [1, 2, 3, 4])
    small.expand(&x, Matrix(rows: 1, columns: 1, values: [1]), coefficients, Pass())
    #expect(x.values == [31, 142])  // 1·1 + 3·10, and 2·1 + 4·10 + 100
  }

  @Test func headMixFollowsTheFormula() throws {
    var head = MemoryWeights()
    try head.add(site.mapping, [m, m * hidden], Array(mapping.prefix(m * m * hidden)))
    try head.add(site.base, [m], Array(base.prefix(m)))
    try head.add(site.scale, [1], [scale[0]])
    let found = try hyper.headMix(x, site, norm: norm, head, Pass())
    for token in 0..<tokens {
      let pre = coefficients(token).pre
      let old = Array(x[token])
      let sum = (0..<hidden).map { channel in
        (0..<m).reduce(0.0) { $0 + pre[$1] * Double(old[$1 * hidden + channel]) }
      }
      #expect(distance(found[token], Slow.rms(sum, norm, 1e-2)) < bound)
    }
  }

  @Test(arguments: [2, 3, 7])
  func threadsChangeNothing(threads: Int) throws {
    let pass = Pass(parallel: Parallel(threads: threads))
    let (one, many) = (
      try hyper.coefficients(x, site, weights, Pass()), try hyper.coefficients(x, site, weights, pass)
    )
    #expect(one.pre == many.pre && one.post == many.post && one.mix == many.mix)
  }
}
