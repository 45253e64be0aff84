// Mamba-2 as a layer's mixer: one projection makes gates, inputs, B, C and steps; a short convolution over time mixes inputs, B and C
// with the tokens just before; every head keeps a state; what it gives is gated, then normed group by group. Sources: Dao and Gu,
// "Transformers are SSMs" (2024); transformers' nemotron_h, whose lower bound of the steps is kept for single tokens too: its own
// form for one token has none.

import SmeltStorage
import SmeltTensors

/// The numbers of a Mamba-2 mixer.
struct StateSpaceMixer: Sendable {
  /// Heads, groups of B and C, and states.
  var space: StateSpace
  /// Tokens that the convolution sees, the last one included.
  var kernel: Int
  /// The least step.
  var leastStep: Float
  /// Whether the projections have biases.
  var hasBiases = false
  /// Whether the convolution has a bias.
  var hasConvolutionBias = true

  /// Channels of all heads.
  var inner: Int { space.heads * space.headWidth }
  /// Numbers of B, and of C, of all groups.
  var stateChannels: Int { space.groups * space.stateWidth }
  /// Channels that the convolution mixes with earlier tokens: inputs, B and C.
  var mixedChannels: Int { inner + 2 * stateChannels }
  /// Rows of the projection of the input: gates, what the convolution mixes, and a step for each head.
  var projectedChannels: Int { inner + mixedChannels + space.heads }

  /// The mixer's output for the normed stream `h`, [tokens, hidden].
  ///
  /// Memory: the projections of one part of the batch.
  func apply(
    _ h: Matrix, _ batch: TokenBatch, _ name: LayerName, normEpsilon: Float, _ weights: some Weights,
    _ pass: Pass
  ) throws -> Matrix {
    let convolution = CausalConvolution(channels: mixedChannels, kernel: kernel)
    let taps = try weights.vector(name("ssm_conv1d"))
    let tapBias = try hasConvolutionBias ? weights.vector(name("ssm_conv1d", suffix: "bias")) : nil
    let norm = try weights.vector(name("ssm_norm"))
    let rates = try weights.vector(name.bare("ssm_a")).map { Float(decayRate($0)) }
    let skip = try weights.vector(name.bare("ssm_d"))
    let shifts = try weights.vector(name("ssm_dt", suffix: "bias"))
    let (input, b, c) = (
      0..<inner, inner..<inner + stateChannels, inner + stateChannels..<mixedChannels
    )
    let carried = pass.state?.layer(name.layer)
    var state = carried
    var out = Matrix(rows: 0, columns: h.columns)
    for part in batch.parts(of: tokenChunk) {
      try Interrupt.check()
      // The parts of one long sequence see each other through a state of their own.
      if carried == nil { state = part.state(after: state) }
      let projected = try Linear.apply(
        h[part.rows], name("ssm_in"), bias: name.bias("ssm_in", if: hasBiases), weights, pass)
      var mixed = projected.columns(inner..<inner + mixedChannels)
      convolution.apply(
        &mixed, taps, bias: tapBias, silu: true, part.batch, state, key: "convolution", pass)
      var steps = projected.columns(inner + mixedChannels..<projectedChannels)
      steps.forEachRow(pass.parallel) { _, row in
        for head in 0..<space.heads {
          let step = Float(softplus(Double(row[head] + shifts[head])))
          row[head] = max(step, leastStep)
        }
      }
      var heads = space.apply(
        mixed.columns(input), b: mixed.columns(b), c: mixed.columns(c), steps: steps, decay: rates,
        skip: skip, part.batch, state, pass)
      heads.multiply(bySiluOf: projected.columns(0..<inner), pass)
      Linear.norm(&heads, norm, width: inner / space.groups, epsilon: normEpsilon, pass)
      out.append(
        try Linear.apply(
          heads, name("ssm_out"), bias: name.bias("ssm_out", if: hasBiases), weights, pass))
    }
    for projection in ["ssm_in", "ssm_out"] { weights.finished(name(projection)) }
    return out
  }

  /// The rows of a layer's weights table. Numbers that steer the state are of the role `state_space`; the two projections are
  /// quantized like those of any attention.
  /// - Parameter prefix: what the hub calls the mixer within a layer.
  func rows(_ rows: inout LayerRows, hidden: Int, _ prefix: String) {
    rows.add("ssm_in.weight", [projectedChannels, hidden], .attention, "\(prefix).in_proj.weight")
    if hasBiases { rows.add("ssm_in.bias", [projectedChannels], .bias, "\(prefix).in_proj.bias") }
    rows.add("ssm_conv1d.weight", [mixedChannels, 1, kernel], .convolution, "\(prefix).conv1d.weight")
    if hasConvolutionBias { rows.add("ssm_conv1d.bias", [mixedChannels], .bias, "\(prefix).conv1d.bias") }
    rows.add("ssm_dt.bias", [space.heads], .bias, "\(prefix).dt_bias")
    rows.add("ssm_a", [space.heads], .stateSpace, "\(prefix).A_log")
    rows.add("ssm_d", [space.heads], .stateSpace, "\(prefix).D")
    rows.add("ssm_norm.weight", [inner], .norm, "\(prefix).norm.weight")
    rows.add("ssm_out.weight", [hidden, inner], .attention, "\(prefix).out_proj.weight")
    if hasBiases { rows.add("ssm_out.bias", [hidden], .bias, "\(prefix).out_proj.bias") }
  }
}
