// Experts over many tokens, gated or not: gather the tokens of one expert, multiply them as one matrix, scatter back. One
// expert's weights are needed at a time.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// Tokens of an expert whose intermediate activations exist at once.
package let tokenChunk = 1024

/// The matrices of an expert, and its biases where it has any.
struct ExpertNames {
  /// Nil for an expert without a gate.
  let gate: WeightName?
  let up, down: WeightName
  var gateBias, upBias, downBias: WeightName?

  /// The matrices, in the order of their use.
  var matrices: [WeightName] { [gate, up, down].compactMap { $0 } }

  /// All of them, in the order of their use.
  var all: [WeightName] { [gate, gateBias, up, upBias, down, downBias].compactMap { $0 } }
}

/// What an expert does between its projections.
enum Activation: Sendable {
  /// silu(min(gate, limit)) × clamp(up, ±limit); an infinite limit clamps nothing.
  case swiglu(limit: Float)
  /// (clamp(up, ±limit) + 1) × g × logistic(alpha × g), g = min(gate, limit). Source: gpt-oss.
  case shiftedSwiglu(alpha: Float = 1.702, limit: Float)
  /// gelu(gate) × up, the Gaussian error linear unit by its tanh approximation. Source: Gemma.
  case gelu
  /// max(0, up)², of experts without a gate. Source: So et al., "Primer" (2021); Nemotron-H.
  case squaredRelu

  /// SwiGLU without a clamp.
  static let plain = Activation.swiglu(limit: .infinity)

  /// Whether experts have a gate beside up.
  var isGated: Bool { if case .squaredRelu = self { false } else { true } }

  /// The activation of one token in place of its gate values; of an expert without a gate, `gate` is up itself.
  func apply(_ gate: UnsafeMutablePointer<Float>, _ up: UnsafePointer<Float>, count: Int) {
    switch self {
    case .swiglu(let limit): sk_swiglu(gate, up, limit, gate, count)
    case .gelu: sk_geglu(gate, up, gate, count)
    case .shiftedSwiglu(let alpha, let limit):
      for index in 0..<count {
        let g = min(gate[index], limit)
        gate[index] = (min(max(up[index], -limit), limit) + 1) * g * logistic(alpha * g)
      }
    case .squaredRelu:
      for index in 0..<count {
        let u = max(gate[index], 0)
        gate[index] = u * u
      }
    }
  }
}

/// Experts, routed and shared, and dense layers of the same form.
enum Experts {
  // SAFETY: here and in `Linear`, a row is as long as the weight it comes from has output channels, and a bias, a scale and the rows
  // added to it were checked to be as long; tokens are numbers of rows of `out`, which one caller has.
  /// down · activation(gate · x, up · x), [tokens, hidden]; without a gate, down · activation(up · x).
  static func output(
    _ x: Matrix, _ names: ExpertNames, _ activation: Activation, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    guard let gate = names.gate else {
      var inner = try Linear.apply(x, names.up, bias: names.upBias, weights, pass)
      let width = inner.columns
      inner.forEachRow(pass.parallel) { _, row in activation.apply(row, row, count: width) }
      return try Linear.apply(inner, names.down, bias: names.downBias, weights, pass)
    }
    let both = try Linear.apply([(x, gate, names.gateBias), (x, names.up, names.upBias)], weights, pass)
    var inner = both[0]
    let up = both[1]
    let width = inner.columns
    inner.forEachRow(pass.parallel) { token, row in
      up.values.withUnsafeBufferPointer {
        activation.apply(row, $0.baseAddress! + token * width, count: width)
      }
    }
    return try Linear.apply(inner, names.down, bias: names.downBias, weights, pass)
  }

  /// expert(x) for all rows, after which the expert's weights are needed no more.
  static func one(
    _ x: Matrix, _ names: ExpertNames, _ activation: Activation, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    defer { for name in names.matrices { weights.finished(name) } }
    return try output(x, names, activation, weights, pass)
  }

  /// Adds factor × expert(x) to `out` for the tokens of one expert, a chunk of tokens at a time.
  static func add(
    to out: inout Matrix, _ x: Matrix, tokens: [Int], factors: [Float], _ names: ExpertNames,
    _ activation: Activation,
    _ weights: some Weights, _ pass: Pass
  ) throws {
    for start in stride(from: 0, to: tokens.count, by: tokenChunk) {
      let range = start..<min(tokens.count, start + tokenChunk)
      let result = try output(x.gather(Array(tokens[range])), names, activation, weights, pass)
      let hidden = out.columns
      out.values.withUnsafeMutableBufferPointer { out in
        result.values.withUnsafeBufferPointer { result in
          for place in range {
            sk_axpy_f32(
              factors[place], result.baseAddress! + (place - start) * hidden,
              out.baseAddress! + tokens[place] * hidden, hidden)
          }
        }
      }
    }
    for name in names.matrices { weights.finished(name) }
  }

  /// Adds expert(x) to `out` for all tokens: a shared expert, or a dense layer. Each token's result may have a factor.
  static func addToAll(
    _ out: inout Matrix, _ x: Matrix, _ names: ExpertNames, _ activation: Activation, factors: [Float]? = nil,
    _ weights: some Weights, _ pass: Pass
  ) throws {
    try add(
      to: &out, x, tokens: Array(0..<x.rows), factors: factors ?? [Float](repeating: 1, count: x.rows), names,
      activation, weights, pass)
  }

  /// Adds the sum over the chosen experts, experts in ascending order, to `out` [tokens, hidden].
  static func routed(
    into out: inout Matrix, _ x: Matrix, _ routing: Routing, count: Int, _ activation: Activation,
    _ weights: some Weights, _ pass: Pass, names: (Int) -> ExpertNames
  ) throws {
    var tokens = [[Int]](repeating: [], count: count)
    var factors = [[Float]](repeating: [], count: count)
    for (place, expert) in routing.experts.enumerated() {
      tokens[Int(expert)].append(place / routing.perToken)
      factors[Int(expert)].append(routing.weights[place])
    }
    let chosen = (0..<count).filter { !tokens[$0].isEmpty }
    let chosenNames = chosen.map(names)
    weights.upcoming(chosenNames.flatMap(\.all))
    var place = 0
    while place < chosen.count {
      try Interrupt.check()
      let start = place
      if x.rows <= shortPass, pass.parallel.threads > 1, !pass.takesOneExpert {
        while place < min(chosen.count, start + expertsAtOnce), tokens[chosen[place]].count <= fewTokens {
          place += 1
        }
      }
      guard place == start else {
        try together(
          into: &out, x, (start..<place).map { (tokens[chosen[$0]], factors[chosen[$0]], chosenNames[$0]) },
          activation, weights, pass)
        continue
      }
      try add(
        to: &out, x, tokens: tokens[chosen[place]], factors: factors[chosen[place]], chosenNames[place],
        activation, weights, pass)
      place += 1
    }
  }
}

extension Experts {
  /// Tokens of experts that work together: with so few a single expert's products are too short to share out.
  static let fewTokens = 8
  /// Tokens of a pass that does so. A longer one works through more experts than should be in memory at once.
  private static let shortPass = 64
  /// Experts whose weights are needed at the same time then.
  private static let expertsAtOnce = 8

  /// `add` for several experts, whose products are one piece of work for all threads. The sums keep their order.
  private static func together(
    into out: inout Matrix, _ x: Matrix, _ experts: [(tokens: [Int], factors: [Float], names: ExpertNames)],
    _ activation: Activation, _ weights: some Weights, _ pass: Pass
  ) throws {
    let inputs = experts.map { x.gather($0.tokens) }
    let isGated = experts.contains { $0.names.gate != nil }
    let ups = try Linear.apply(
      zip(inputs, experts).flatMap { x, expert in
        (expert.names.gate.map { [(x, $0, expert.names.gateBias)] } ?? [])
          + [(x, expert.names.up, expert.names.upBias)]
      }, weights, pass)
    let inner = experts.indices.map { index in
      // SAFETY: gate and up of an expert have its tokens' rows of one width
      var first = ups[isGated ? 2 * index : index]
      let up = isGated ? ups[2 * index + 1] : first
      let width = first.columns
      first.forEachRow(.serial) { token, row in
        up.values.withUnsafeBufferPointer {
          activation.apply(row, isGated ? $0.baseAddress! + token * width : UnsafePointer(row), count: width)
        }
      }
      return first
    }
    let results = try Linear.apply(
      zip(inner, experts).map { ($0, $1.names.down, $1.names.downBias) }, weights, pass)
    let hidden = out.columns
    for (result, expert) in zip(results, experts) {
      out.values.withUnsafeMutableBufferPointer { out in
        result.values.withUnsafeBufferPointer { result in
          for (place, token) in expert.tokens.enumerated() {
            sk_axpy_f32(
              expert.factors[place], result.baseAddress! + place * hidden, out.baseAddress! + token * hidden,
              hidden)
          }
        }
      }
      for name in expert.names.matrices { weights.finished(name) }
    }
  }
}

/// Linear layers with an optional bias, and norms over rows.
enum Linear {
  /// x · Wᵀ + bias, [tokens, output channels].
  static func apply(
    _ x: Matrix, _ name: WeightName, bias: WeightName? = nil, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    var out = try weights.multiply(x, name, rows: nil, parallel: pass.parallel)
    try add(bias, to: &out, weights, pass)
    return out
  }

  /// The same for several weights that do not depend on each other.
  static func apply(
    _ products: [(x: Matrix, name: WeightName, bias: WeightName?)], _ weights: some Weights, _ pass: Pass
  ) throws -> [Matrix] {
    var out = try weights.multiply(products.map { ($0.x, $0.name) }, parallel: pass.parallel)
    for (index, product) in products.enumerated() where product.bias != nil {
      try add(product.bias, to: &out[index], weights, pass)
    }
    return out
  }

  private static func add(_ bias: WeightName?, to out: inout Matrix, _ weights: some Weights, _ pass: Pass)
    throws
  {
    guard let bias else { return }
    let values = try weights.vector(bias)
    let columns = out.columns
    out.forEachRow(pass.parallel) { _, row in
      values.withUnsafeBufferPointer { sk_axpy_f32(1, $0.baseAddress!, row, columns) }
    }
  }

  /// x + y in place of x, of the same size.
  static func add(_ x: inout Matrix, _ y: Matrix, _ pass: Pass) {
    let columns = x.columns
    x.forEachRow(pass.parallel) { token, row in
      y.values.withUnsafeBufferPointer { sk_axpy_f32(1, $0.baseAddress! + token * columns, row, columns) }
    }
  }

  /// RMS norm of each row, or of each of its equal parts of `width` channels, in place.
  /// - Parameter scale: one factor a channel, or those of one part for all parts; nil for none.
  static func norm(_ x: inout Matrix, _ scale: [Float]?, width: Int? = nil, epsilon: Float, _ pass: Pass) {
    let width = width ?? x.columns
    let parts = x.columns / width
    let step = scale?.count == x.columns ? width : 0
    precondition(
      scale.map { step == width || $0.count == width } ?? true,
      "\(scale?.count ?? 0) scales for \(x.columns) channels")
    x.forEachRow(pass.parallel) { _, row in
      guard let scale else {
        for part in 0..<parts { sk_rms_norm(row + part * width, nil, epsilon, row + part * width, width) }
        return
      }
      scale.withUnsafeBufferPointer { scale in
        for part in 0..<parts {
          sk_rms_norm(
            row + part * width, scale.baseAddress! + part * step, epsilon, row + part * width, width)
        }
      }
    }
  }
}
