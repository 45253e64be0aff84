// The second half of a layer: a router with its experts, routed and shared, or one dense layer of the same form.

import SmeltTensors

/// The numbers of a layer's feed-forward half.
struct FeedForward: Sendable {
  /// What is added to the routed experts' sum.
  enum Shared: Sendable {
    /// Nothing.
    case none
    /// A shared expert's output.
    case plain
    /// A shared expert's output times logistic(gate · x), one factor a token.
    case gated
  }

  /// Routed experts; 0 for a model without.
  var experts: Int
  /// How they are chosen and weighed.
  var router: Router
  /// What experts do between their projections; the shared one and dense layers too.
  var activation = Activation.plain
  /// What is added to the routed experts' sum. Several shared experts are one of their common width.
  var shared = Shared.none
  /// Whether the router's product has a bias.
  var hasRouterBias = false
  /// Whether a bias takes part in the choice of experts.
  var hasSelectionBias = false
  /// Whether routed experts' projections have biases.
  var hasExpertBiases = false
  /// Whether dense layers' projections have biases.
  var hasDenseBiases = false
  /// The width that routed experts work in where it is not the stream's: one projection leads there, another leads their weighed
  /// sum back. Router and shared expert read the stream. Source: Nemotron 3.
  var latentWidth: Int?

  /// The output of a dense layer, [tokens, hidden].
  func dense(_ x: Matrix, _ name: LayerName, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    var out = Matrix(rows: x.rows, columns: x.columns)
    try Experts.addToAll(
      &out, x, name.dense(biases: hasDenseBiases, gated: activation.isGated), activation, weights, pass)
    return out
  }

  /// The factor-weighted sum of each token's experts and what the shared one adds, [tokens, hidden].
  func mixture(_ x: Matrix, _ name: LayerName, _ weights: some Weights, _ pass: Pass) throws -> (
    out: Matrix, routing: Routing
  ) {
    var routing = try route(x, name, weights, pass)
    let inner = latentWidth == nil ? x : try Linear.apply(x, name.latentDown, weights, pass)
    if latentWidth != nil, pass.keepsExpertInputs { routing.inputs = inner }
    var out = Matrix(rows: x.rows, columns: inner.columns)
    try Experts.routed(into: &out, inner, routing, count: experts, activation, weights, pass) {
      name.expert($0, biases: hasExpertBiases, gated: activation.isGated)
    }
    if latentWidth != nil {
      out = try Linear.apply(out, name.latentUp, weights, pass)
      for projection in [name.latentDown, name.latentUp] { weights.finished(projection) }
    }
    if let factors = try sharedFactors(x, name, weights, pass) {
      try Experts.addToAll(
        &out, x, name.sharedExpert(gated: activation.isGated), activation, factors: factors, weights, pass)
    }
    return (out, routing)
  }

  /// One routed expert's output for all rows, without the router's factors; in and out of the latent width where there is one.
  func expert(_ expert: Int, _ x: Matrix, _ name: LayerName, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  {
    try Experts.one(
      x, name.expert(expert, biases: hasExpertBiases, gated: activation.isGated), activation, weights,
      pass)
  }

  /// The experts of each token: the router's own, or the pass's.
  func route(_ x: Matrix, _ name: LayerName, _ weights: some Weights, _ pass: Pass) throws -> Routing {
    let gate = name("ffn_gate_inp")
    let logits = try Linear.apply(
      x, gate, bias: name.bias("ffn_gate_inp", if: hasRouterBias), weights, pass)
    weights.finished(gate)
    if let forced = pass.forcedRouting {
      return router.route(logits, bias: nil, parallel: pass.parallel, given: forced.choice)
    }
    return router.route(
      logits, bias: hasSelectionBias ? try weights.vector(name("exp_probs_b", suffix: "bias")) : nil,
      parallel: pass.parallel)
  }

  /// The shared expert's factor for each token; nil without a shared expert.
  private func sharedFactors(_ x: Matrix, _ name: LayerName, _ weights: some Weights, _ pass: Pass) throws
    -> [Float]?
  {
    switch shared {
    case .none: return nil
    case .plain: return [Float](repeating: 1, count: x.rows)
    case .gated:
      let gate = name("ffn_gate_inp_shexp")
      defer { weights.finished(gate) }
      return try Linear.apply(x, gate, weights, pass).values.map(logistic)
    }
  }
}
