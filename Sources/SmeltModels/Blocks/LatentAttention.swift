// Latent attention ("MLA"): keys and values of all heads are made from one small latent vector a token; rotation has
// channels of its own, whose key all heads share. Sources: DeepSeek-AI, "DeepSeek-V2" (2024), section 2.1;
// deepseek-ai/DeepSeek-V3 inference/model.py; transformers' deepseek_v3.

import SmeltStorage
import SmeltTensors

/// The numbers of a latent attention.
struct LatentAttention: Sendable {
  /// Heads.
  var heads: Int
  /// Channels of a head's query and key that are not rotated; they come first.
  var plainWidth: Int
  /// Channels that are rotated.
  var rotaryWidth: Int
  /// Channels of a value.
  var valueWidth: Int
  /// Channels of the latent that keys and values are made from.
  var latentWidth: Int
  /// Channels of the latent that queries are made from; nil where they are made from the input itself.
  var queryRank: Int?
  /// The frequencies of the rotation.
  var rope: RotaryFrequencies
  /// Which channels turn together.
  var pairing: RotaryPairing
  /// Factor of the logits.
  var scale: Float
  /// Whether the projections from and to the residual stream have biases.
  var hasBiases: Bool
  /// Picks the tokens that queries see; nil: all before them.
  var indexer: TokenIndexer?
  /// What makes queries larger with their position; nil for nothing.
  var temperature: QueryTemperature?

  /// Who chooses the tokens that a layer's queries see.
  enum Selection {
    /// The layer's own indexer; without one, queries see all tokens before them. `isLeft` where later layers take the choice.
    case own(isLeft: Bool)
    /// An earlier layer.
    case taken(from: Int)
  }

  /// Added under the roots of the two inner norms, whatever the configuration says of the others.
  static let innerEpsilon: Float = 1e-6

  private var keyWidth: Int { plainWidth + rotaryWidth }

  /// The attention's output, [tokens, hidden].
  ///
  /// Memory: expanded keys and values of one part of the batch, heads × (key width + value width) floats a token.
  func apply(
    _ x: Matrix, _ batch: TokenBatch, _ name: LayerName, _ weights: some Weights, _ pass: Pass,
    selection: Selection = .own(isLeft: false)
  ) throws -> Matrix {
    let table = rope.table(batch.firstPosition..<batch.endPosition)
    var taken: [[Int32]?]?
    if case .taken(let chooser) = selection { taken = batch.memo.selection(of: chooser) }
    var own: [[Int32]?] = []
    let carried = pass.state?.layer(name.layer)
    var state = carried
    var out = Matrix(rows: 0, columns: x.columns)
    out.values.reserveCapacity(x.rows * x.columns)
    for part in batch.parts(of: tokenChunk) {
      try Interrupt.check()
      // The parts of one long sequence see each other through a state of their own.
      if carried == nil { state = part.isWhole ? nil : part.isFirst ? LayerState() : state }
      let rows = x[part.rows]
      let latent = try queryLatent(rows, name, weights, pass)
      var selected = taken.map { Array($0[part.rows]) }
      if case .own = selection, let indexer {
        let chosen = try indexer.select(rows, latent ?? rows, part.batch, table, name, weights, state, pass)
        own += chosen
        selected = chosen
      }
      out.append(
        try apply(rows, latent, part.batch, table, name, selected: selected, weights, state, pass))
    }
    if case .own(let isLeft) = selection, indexer != nil {
      isLeft ? batch.memo.leave(own, of: name.layer) : batch.memo.clear()
      for matrix in TokenIndexer.names(name) { weights.finished(matrix) }
    }
    for matrix in names(name) { weights.finished(matrix) }
    return out
  }

  private func names(_ name: LayerName) -> [WeightName] {
    let queries = queryRank == nil ? ["attn_q"] : ["attn_q_a", "attn_q_b"]
    return (queries + ["attn_kv_a_mqa", "attn_kv_b", "attn_output"]).map { name($0) }
  }

  /// The output for one part of the batch.
  /// - Parameters:
  ///   - latent: what queries are made from where that is not `x` itself.
  ///   - selected: for each token the positions it sees, nil for all before it; nil where every token sees all.
  private func apply(
    _ x: Matrix, _ latent: Matrix?, _ batch: TokenBatch, _ table: RotaryTable, _ name: LayerName,
    selected: [[Int32]?]?, _ weights: some Weights, _ state: LayerState?, _ pass: Pass
  ) throws -> Matrix {
    let positions = batch.positions
    var queries = try weights.multiply(
      latent ?? x, name(latent == nil ? "attn_q" : "attn_q_b"), rows: nil, parallel: pass.parallel)
    queries.forEachRow(pass.parallel) { token, row in
      for head in 0..<heads {
        table.rotate(row + head * keyWidth + plainWidth, positions[token], pairing)
      }
      guard let factor = temperature?.factor(positions[token]), factor != 1 else { return }
      for channel in 0..<heads * keyWidth { row[channel] *= factor }
    }
    let (keys, values) = try expand(x, positions, table, name, weights, pass)
    // The state keeps expanded keys and values: making them again from kept latents would cost every step a product
    // with kv_b for all tokens before. Their memory is bounded by the sequence.
    let attention = GroupedAttention(
      heads: heads, keyHeads: heads, keyWidth: keyWidth, valueWidth: valueWidth, scale: scale)
    let mixed = attention.attend(queries, keys, values, batch, selected: selected, state, pass)
    return try Linear.apply(
      mixed, name("attn_output"), bias: name.bias("attn_output", if: hasBiases), weights, pass)
  }

  /// The normalized vectors that queries are made from, [tokens, query rank]; nil without them.
  private func queryLatent(_ x: Matrix, _ name: LayerName, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix?
  {
    guard queryRank != nil else { return nil }
    var latent = try Linear.apply(
      x, name("attn_q_a"), bias: name.bias("attn_q_a", if: hasBiases), weights, pass)
    let norm = try weights.vector(name("attn_q_a_norm"))
    Linear.norm(&latent, norm, epsilon: LatentAttention.innerEpsilon, pass)
    return latent
  }

  /// Keys [tokens, heads × key width], rotated, and values [tokens, heads × value width].
  private func expand(
    _ x: Matrix, _ positions: [Int], _ table: RotaryTable, _ name: LayerName, _ weights: some Weights,
    _ pass: Pass
  ) throws -> (keys: Matrix, values: Matrix) {
    var joint = try Linear.apply(
      x, name("attn_kv_a_mqa"), bias: name.bias("attn_kv_a_mqa", if: hasBiases), weights, pass)
    joint.forEachRow(pass.parallel) { token, row in
      table.rotate(row + latentWidth, positions[token], pairing)
    }
    let shared = try weights.cached(
      joint.columns(latentWidth..<latentWidth + rotaryWidth), .latents, layer: name.layer,
      parallel: pass.parallel)
    var latents = joint.columns(0..<latentWidth)
    let norm = try weights.vector(name("attn_kv_a_norm"))
    Linear.norm(&latents, norm, epsilon: LatentAttention.innerEpsilon, pass)
    latents = try weights.cached(latents, .latents, layer: name.layer, parallel: pass.parallel)
    let both = try weights.multiply(latents, name("attn_kv_b"), rows: nil, parallel: pass.parallel)
    let stride = plainWidth + valueWidth
    // SAFETY: `both` has heads × (plain + value width) columns and `shared` the rotary width, as the weights' shapes were checked; every
    // float of the two matrices is written once.
    let keys = Matrix(rows: x.rows, columns: heads * keyWidth) { out in
      both.values.withUnsafeBufferPointer { both in
        shared.values.withUnsafeBufferPointer { shared in
          for place in 0..<x.rows * heads {
            let row = out + place * keyWidth
            row.update(from: both.baseAddress! + place * stride, count: plainWidth)
            (row + plainWidth).update(
              from: shared.baseAddress! + place / heads * rotaryWidth, count: rotaryWidth)
          }
        }
      }
    }
    let values = Matrix(rows: x.rows, columns: heads * valueWidth) { out in
      both.values.withUnsafeBufferPointer { both in
        for place in 0..<x.rows * heads {
          (out + place * valueWidth).update(
            from: both.baseAddress! + place * stride + plainWidth, count: valueWidth)
        }
      }
    }
    return (keys, values)
  }
}

extension Matrix {
  /// A copy of some columns.
  func columns(_ range: Range<Int>) -> Matrix {
    // SAFETY: the range is held against the columns; every float of the copy is written once.
    precondition(range.lowerBound >= 0 && range.upperBound <= columns, "columns \(range) of \(columns)")
    return Matrix(rows: rows, columns: range.count) { out in
      values.withUnsafeBufferPointer { values in
        for row in 0..<rows {
          (out + row * range.count).update(
            from: values.baseAddress! + row * columns + range.lowerBound, count: range.count)
        }
      }
    }
  }
}
