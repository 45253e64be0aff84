// Linear attention by a gated delta rule, as a layer's mixer: one projection makes queries, keys and values, a short convolution
// over time mixes each channel with the tokens just before, every head keeps a matrix instead of keys, and what it gives is normed
// and gated. Sources: Yang, Kautz and Hatamizadeh, "Gated Delta Networks" (2024); transformers' qwen3_next and qwen3_5.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// The numbers of a linear attention.
struct DeltaAttention: Sendable {
  /// How the projections of the input lie in the checkpoint.
  enum Projections: Sendable {
    /// Four matrices: queries, keys and values of all heads one after another; the gate z; beta; the decay.
    case apart
    /// Two matrices, whose rows stand head of keys by head of keys: query, key, the values and the gates of the head's value heads;
    /// and their betas and decays.
    case byKeyHead
  }

  /// Heads of queries and keys.
  var keyHeads: Int
  /// Heads of values, a multiple of `keyHeads`: each head of keys serves so many heads of values in a row.
  var valueHeads: Int
  /// Channels of a query and a key.
  var keyWidth: Int
  /// Channels of a value.
  var valueWidth: Int
  /// Tokens that the convolution sees, the last one included.
  var kernel: Int
  var projections: Projections

  /// What the name of the norm of a head's output ends in.
  static let normSuffix = ".ssm_norm.weight"

  /// Heads of values that a head of keys serves.
  var perKeyHead: Int { valueHeads / keyHeads }
  /// Channels of all keys.
  var keyChannels: Int { keyHeads * keyWidth }
  /// Channels of all values.
  var valueChannels: Int { valueHeads * valueWidth }
  /// Channels of queries, keys and values together, which the convolution mixes with earlier tokens.
  var mixedChannels: Int { 2 * keyChannels + valueChannels }

  /// The attention's output for the normed stream `h`, [tokens, hidden].
  ///
  /// Memory: the projections of one part of the batch.
  func apply(
    _ h: Matrix, _ batch: TokenBatch, _ name: LayerName, normEpsilon: Float, _ weights: some Weights,
    _ pass: Pass
  ) throws -> Matrix {
    let convolution = CausalConvolution(channels: mixedChannels, kernel: kernel)
    let rule = GatedDelta(
      keyHeads: keyHeads, valueHeads: valueHeads, keyWidth: keyWidth, valueWidth: valueWidth)
    let taps = try weights.vector(name("ssm_conv1d"))
    let norm = try weights.vector(name("ssm_norm"))
    let rates = try weights.vector(name.bare("ssm_a")).map(decayRate)
    let shifts = try weights.vector(name("ssm_dt", suffix: "bias"))
    let carried = pass.state?.layer(name.layer)
    var state = carried
    var out = Matrix(rows: 0, columns: h.columns)
    for part in batch.parts(of: tokenChunk) {
      try Interrupt.check()
      // The parts of one long sequence see each other through a state of their own.
      if carried == nil { state = part.state(after: state) }
      var (mixed, gates, beta, decay) = try project(h[part.rows], name, weights, pass)
      convolution.apply(
        &mixed, taps, bias: nil, silu: true, part.batch, state, key: "convolution", pass)
      beta.forEachRow(pass.parallel) { _, row in
        for head in 0..<valueHeads { row[head] = logistic(row[head]) }
      }
      decay.forEachRow(pass.parallel) { _, row in
        for head in 0..<valueHeads {
          row[head] = Float(rates[head] * softplus(Double(row[head] + shifts[head])))
        }
      }
      var heads = rule.apply(
        queries: mixed.columns(0..<keyChannels), keys: mixed.columns(keyChannels..<2 * keyChannels),
        values: mixed.columns(2 * keyChannels..<mixedChannels), decay: decay, beta: beta, part.batch, state,
        pass)
      Linear.norm(&heads, norm, width: valueWidth, epsilon: normEpsilon, pass)
      heads.multiply(bySiluOf: gates, pass)
      out.append(try Linear.apply(heads, name("ssm_out"), weights, pass))
    }
    for matrix in matrices { weights.finished(name(matrix)) }
    return out
  }

  private var matrices: [String] {
    (projections == .apart ? ["attn_qkv", "attn_gate", "ssm_beta", "ssm_alpha"] : ["ssm_in", "ssm_ba"])
      + ["ssm_out"]
  }

  /// Queries, keys and values [tokens, mixed channels], the gate's logits [tokens, value channels], and for each value head the
  /// logits of beta and of the decay, [tokens, value heads].
  private func project(_ h: Matrix, _ name: LayerName, _ weights: some Weights, _ pass: Pass) throws -> (
    mixed: Matrix, gates: Matrix, beta: Matrix, decay: Matrix
  ) {
    func product(_ part: String) throws -> Matrix { try Linear.apply(h, name(part), weights, pass) }
    switch projections {
    case .apart:
      return (
        try product("attn_qkv"), try product("attn_gate"), try product("ssm_beta"), try product("ssm_alpha")
      )
    case .byKeyHead:
      let (values, both) = (perKeyHead * valueWidth, perKeyHead)
      let parts = try product("ssm_in").regrouped(keyHeads, widths: [keyWidth, keyWidth, values, values])
      let logits = try product("ssm_ba").regrouped(keyHeads, widths: [both, both])
      return (
        parts.columns(0..<mixedChannels), parts.columns(mixedChannels..<mixedChannels + valueChannels),
        logits.columns(0..<valueHeads), logits.columns(valueHeads..<2 * valueHeads)
      )
    }
  }

  /// The rows of a layer's weights table. Numbers that steer the state are of the role `state_space`; the four large projections are
  /// quantized like those of any attention.
  func rows(_ rows: inout LayerRows, hidden: Int) {
    switch projections {
    case .apart:
      rows.add("attn_qkv.weight", [mixedChannels, hidden], .attention, "linear_attn.in_proj_qkv.weight")
      rows.add("attn_gate.weight", [valueChannels, hidden], .attention, "linear_attn.in_proj_z.weight")
      rows.add("ssm_beta.weight", [valueHeads, hidden], .stateSpace, "linear_attn.in_proj_b.weight")
      rows.add("ssm_alpha.weight", [valueHeads, hidden], .stateSpace, "linear_attn.in_proj_a.weight")
    case .byKeyHead:
      rows.add(
        "ssm_in.weight", [mixedChannels + valueChannels, hidden], .attention,
        "linear_attn.in_proj_qkvz.weight")
      rows.add("ssm_ba.weight", [2 * valueHeads, hidden], .stateSpace, "linear_attn.in_proj_ba.weight")
    }
    rows.add("ssm_conv1d.weight", [mixedChannels, 1, kernel], .convolution, "linear_attn.conv1d.weight")
    rows.add("ssm_dt.bias", [valueHeads], .bias, "linear_attn.dt_bias")
    rows.add("ssm_a", [valueHeads], .stateSpace, "linear_attn.A_log")
    rows.add("ssm_norm.weight", [valueWidth], .norm, "linear_attn.norm.weight")
    rows.add("ssm_out.weight", [hidden, valueChannels], .attention, "linear_attn.out_proj.weight")
  }
}

extension Matrix {
  /// Rows that hold, group by group, parts of the given widths, in the order part by part with the groups of each together.
  func regrouped(_ groups: Int, widths: [Int]) -> Matrix {
    let stride = widths.reduce(0, +)
    precondition(groups * stride == columns, "\(groups) groups of \(stride) channels in \(columns)")
    // SAFETY: the widths add up to a group's channels, as checked, so that every float of the result is written once.
    return Matrix(rows: rows, columns: columns) { out in
      values.withUnsafeBufferPointer { values in
        for row in 0..<rows {
          var target = out + row * columns
          var offset = 0
          for width in widths {
            for group in 0..<groups {
              target.update(
                from: values.baseAddress! + row * columns + group * stride + offset, count: width)
              target += width
            }
            offset += width
          }
        }
      }
    }
  }

  /// Takes every second part of `width` channels out of each row and returns them; the others stay.
  mutating func splitParts(width: Int) -> Matrix {
    let parts = columns / (2 * width)
    let all = regrouped(parts, widths: [width, width])
    self = all.columns(0..<parts * width)
    return all.columns(parts * width..<2 * parts * width)
  }

  /// Each number times 1 / (1 + e^-g) of the gate's number in its place.
  mutating func multiply(byLogisticOf gates: Matrix, _ pass: Pass) {
    let columns = columns
    precondition(gates.values.count == values.count, "a gate for each number")
    forEachRow(pass.parallel) { token, row in
      gates.values.withUnsafeBufferPointer { gates in
        for channel in 0..<columns { row[channel] *= logistic(gates[token * columns + channel]) }
      }
    }
  }

  /// Each number times g / (1 + e^-g) of the gate's number in its place.
  mutating func multiply(bySiluOf gates: Matrix, _ pass: Pass) {
    let columns = columns
    precondition(gates.values.count == values.count, "a gate for each number")
    // SAFETY: the gates are as many as the numbers, as checked.
    forEachRow(pass.parallel) { token, row in
      gates.values.withUnsafeBufferPointer {
        sk_swiglu($0.baseAddress! + token * columns, row, .infinity, row, columns)
      }
    }
  }
}
