// Experts, routers and rotations against numbers computed elsewhere, and the feed-forward half against slow arithmetic.

import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

@Suite struct ActivationTests {
  private func apply(_ activation: Activation, _ gate: Float, _ up: Float) -> Float {
    var (gate, up) = (gate, up)
    activation.apply(&gate, &up, count: 1)
    return gate
  }

  /// Ten digits were published; a float has seven.
  @Test(
    arguments: [(1, 2, 2.5373874), (12, 3, 27.9998131), (-30, 5, -1.2028e-20), (2, -50, -11.6139517)]
      as [(Float, Float, Float)])
  func shiftedSwiglu(gate: Float, up: Float, expected: Float) {
    let found = apply(.shiftedSwiglu(limit: 7), gate, up)
    #expect(abs(found - expected) <= abs(expected) * (expected == -1.2028e-20 ? 1e-4 : 1e-6), "\(found)")
  }

  @Test func theFactorInsideTheShiftedActivationIsASetting() {
    #expect(apply(.shiftedSwiglu(alpha: 1.702, limit: 7), 2, 3) == apply(.shiftedSwiglu(limit: 7), 2, 3))
    #expect(abs(apply(.shiftedSwiglu(alpha: 1, limit: 1), 5, -9)) == 0)
    // 2 × 1 × logistic(0.5)
    #expect(abs(apply(.shiftedSwiglu(alpha: 0.5, limit: 1), 5, 9) - 1.2449186) < 1e-6)
  }

  @Test func limitsClampTheGateFromAboveOnly() {
    #expect(apply(.swiglu(limit: 2), 50, 50) == apply(.swiglu(limit: 2), 2, 2))
    #expect(apply(.swiglu(limit: 2), -3, -50) == apply(.plain, -3, -2))
    #expect(apply(.plain, 50, 50) == 2500)
  }
}

@Suite struct GroupedRotationTests {
  @Test func halvesAreTurnedTogether() {
    var x: [Float] = [1, 2, 3, 4, 9, 9]
    let table = RotaryFrequencies(dimensions: 4, theta: 10000, yarn: nil).table(0..<4)
    x.withUnsafeMutableBufferPointer { table.rotate($0.baseAddress!, 3, .halves) }
    let expected: [Float] = [-1.413352489, 1.879118085, -2.828857422, 4.058191299, 9, 9]
    for (found, expected) in zip(x, expected) { #expect(abs(found - expected) < 1e-6) }
  }

  /// gpt-oss' bounds of the ramp are not whole pairs. Nine digits were published.
  @Test(
    arguments: [
      (8, 0.0508132726), (12, 0.00679495931), (15, 0.00105260219), (16, 0.000456483918),
      (18, 3.83088118e-05), (31, 3.0235114e-07),
    ] as [(Int, Float)])
  func yarnWithoutRounding(pair: Int, expected: Float) {
    var yarn = YarnScaling(factor: 32, betaFast: 32, betaSlow: 1, originalPositions: 4096)
    yarn.truncates = false
    let rope = RotaryFrequencies(dimensions: 64, theta: 150_000, yarn: yarn)
    #expect(abs(rope.frequencies[pair] - expected) <= expected * 1e-6)
    yarn.truncates = true
    #expect(RotaryFrequencies(dimensions: 64, theta: 150_000, yarn: yarn) != rope)
  }

  @Test func magnitudeScalesCosinesAndSines() {
    let plain = RotaryFrequencies(dimensions: 8, theta: 100, yarn: nil).table(0..<5)
    let scaled = RotaryFrequencies(dimensions: 8, theta: 100, yarn: nil, magnitude: 1.25).table(0..<5)
    #expect(scaled.cosines == plain.cosines.map { $0 * 1.25 })
    #expect(scaled.sines == plain.sines.map { $0 * 1.25 })
  }
}

@Suite struct RouterRuleTests {
  /// The logits of the published examples.
  private static let logits: [Float] = [
    0.3, -1.2, 2, 0.5, 1.1, 0, -0.4, 0.9, 3, -3, 0.2, 0.1, 0.7, 0.8, -0.9, 1.6,
  ]

  private func route(_ router: Router, bias: [Float]? = nil) -> Routing {
    router.route(Matrix(rows: 1, columns: Self.logits.count, values: Self.logits), bias: bias)
  }

  private func check(_ routing: Routing, _ experts: [Int32], _ weights: [Float]) {
    #expect(routing.experts == experts)
    for (found, expected) in zip(routing.weights, weights) {
      #expect(abs(found - expected) < 1e-6 * expected)
    }
  }

  /// Sigmoid scores, a bias, groups by their two best, a factor. Sorted by expert.
  @Test func sigmoidWithGroups() {
    var bias = [Float](repeating: 0, count: 16)
    (bias[1], bias[6], bias[8], bias[13]) = (0.5, 0.2, -0.4, 0.1)
    let router = Router(
      score: .sigmoid, groups: 4, keptGroups: 2, groupScore: .twoLargest, perToken: 3,
      weighting: .normalized, scaling: 2.5)
    check(route(router, bias: bias), [2, 13, 15], [0.916431606, 0.717888951, 0.865679502])
  }

  /// Softmax over all, groups by their best, not normalized.
  @Test func softmaxWithGroups() {
    let router = Router(
      score: .softmax, groups: 4, keptGroups: 2, groupScore: .largest, perToken: 3, weighting: .plain,
      scaling: 16)
    check(route(router), [2, 3, 8], [2.370009899, 0.528820693, 6.442354679])
  }

  /// gpt-oss: the softmax is over the chosen alone; so is Mixtral's after it is normalized.
  @Test func softmaxOverTheChosen() {
    let after = route(Router(score: .identity, perToken: 3, weighting: .softmax))
    let before = route(Router(score: .softmax, perToken: 3, weighting: .normalized))
    #expect(after.experts == [2, 8, 15] && before.experts == after.experts)
    // e^2, e^3, e^1.6 over their sum.
    for (found, expected) in zip(after.weights, [0.2278630025, 0.6193958591, 0.1527411383] as [Float]) {
      #expect(abs(found - expected) < 1e-6)
    }
    for (a, b) in zip(after.weights, before.weights) { #expect(abs(a - b) < 1e-6) }
    #expect(abs(after.weights.reduce(0, +) - 1) < 1e-6)
  }
}

@Suite struct FeedForwardTests {
  private let hidden = 6
  private let width = 5

  /// Random weights of a layer with experts, biases and a gated shared expert.
  private func weights(_ generator: inout Generator) throws -> (MemoryWeights, [String: [Float]]) {
    var weights = MemoryWeights()
    var values: [String: [Float]] = [:]
    func add(_ name: WeightName, _ shape: Shape) throws {
      let numbers = generator.normals(shape.count)
      values[name.description] = numbers
      try weights.add(name, shape, numbers)
    }
    let name = LayerName(layer: 0)
    try add(name("ffn_gate_inp"), [3, hidden])
    try add(name("ffn_gate_inp", suffix: "bias"), [3])
    try add(name("exp_probs_b", suffix: "bias"), [3])
    try add(name("ffn_gate_inp_shexp"), [1, hidden])
    for names in (0..<3).map({ name.expert($0, biases: true) }) + [name.sharedExpert, name.dense] {
      try add(try #require(names.gate), [width, hidden])
      try add(names.up, [width, hidden])
      try add(names.down, [hidden, width])
      for (bias, count) in [(names.gateBias, width), (names.upBias, width), (names.downBias, hidden)] {
        if let bias { try add(bias, [count]) }
      }
    }
    return (weights, values)
  }

  /// One expert's output in double precision.
  private func expert(_ x: [Double], _ values: [String: [Float]], _ suffix: String) -> [Double] {
    func linear(_ x: [Double], _ part: String) -> [Double] {
      let pieces = "blk.0.ffn_\(part)"
      let product = Slow.product(x, values[pieces + suffix.replacing("KIND", with: "weight")] ?? [])
      guard let bias = values[pieces + suffix.replacing("KIND", with: "bias")] else { return product }
      return zip(product, bias).map { $0 + Double($1) }
    }
    let (gate, up) = (linear(x, "gate"), linear(x, "up"))
    return linear(zip(gate, up).map { $0 * Slow.sigmoid($0) * $1 }, "down")
  }

  @Test func mixtureAndDenseEqualSlowArithmetic() throws {
    var generator = Generator(seed: 11)
    let (weights, values) = try weights(&generator)
    let x = Matrix(rows: 4, columns: hidden, values: generator.normals(4 * hidden))
    let layer = FeedForward(
      experts: 3, router: Router(score: .sigmoid, perToken: 2, weighting: .normalized, scaling: 1.5),
      shared: .gated, hasRouterBias: true, hasSelectionBias: true, hasExpertBiases: true)
    let (out, routing) = try layer.mixture(x, LayerName(layer: 0), weights, Pass())
    let dense = try layer.dense(x, LayerName(layer: 0), weights, Pass())
    for token in 0..<4 {
      let row = Slow.doubles(x[token])
      let scores = zip(
        Slow.product(row, values["blk.0.ffn_gate_inp.weight"]!), values["blk.0.ffn_gate_inp.bias"]!
      ).map { Slow.sigmoid($0 + Double($1)) }
      let biased = zip(scores, values["blk.0.exp_probs_b.bias"]!).map { $0 + Double($1) }
      let chosen = biased.indices.sorted { biased[$0] > biased[$1] }.prefix(2).sorted()
      #expect(routing.experts[2 * token..<2 * token + 2].map(Int.init) == chosen)
      let sum = chosen.map { scores[$0] }.reduce(0, +)
      var expected = [Double](repeating: 0, count: hidden)
      for id in chosen {
        let y = expert(row, values, "_exps.KIND#\(id)")
        for channel in 0..<hidden { expected[channel] += scores[id] / sum * 1.5 * y[channel] }
      }
      let factor = Slow.sigmoid(Slow.product(row, values["blk.0.ffn_gate_inp_shexp.weight"]!)[0])
      let shared = expert(row, values, "_shexp.KIND")
      for channel in 0..<hidden { expected[channel] += factor * shared[channel] }
      #expect(distance(out[token], expected) < 1e-6)
      #expect(distance(dense[token], expert(row, values, ".KIND")) < 1e-6)
    }
  }

  @Test func forcedRoutingIsFollowed() throws {
    var generator = Generator(seed: 12)
    let (weights, _) = try weights(&generator)
    let x = Matrix(rows: 2, columns: hidden, values: generator.normals(2 * hidden))
    let layer = FeedForward(experts: 3, router: Router(score: .softmax, perToken: 1, weighting: .plain))
    let own = try layer.mixture(x, LayerName(layer: 0), weights, Pass()).routing
    let other = own.experts.map { ($0 + 1) % 3 }
    let forced = Routing(perToken: 1, experts: other, weights: [1, 1])
    let found = try layer.mixture(x, LayerName(layer: 0), weights, Pass(forcedRouting: forced)).routing
    #expect(found.experts == other && found.weights != forced.weights)
  }
}
