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

  var keyWidth: Int { plainWidth + rotaryWidth }

  /// The name of what a state keeps of each token: its latent, and the key that all heads share.
  private static let kept = "latents"

  /// The attention's output, [tokens, hidden].
  ///
  /// A state keeps what the published caches keep: latent width + rotary width floats a token. A few tokens that follow others see
  /// them as they are kept (`absorbed`), many see expanded keys and values. A state of pieces keeps these, as the layer made them.
  ///
  /// Memory: expanded keys and values of one layer, heads × (key width + value width) floats a token: of one part of the batch, or of
  /// the sequence where a part continues one.
  func apply(
    _ x: Matrix, _ batch: TokenBatch, _ name: LayerName, _ weights: some Weights, _ pass: Pass,
    selection: Selection = .own(isLeft: false)
  ) throws -> Matrix {
    let table = rope.table(batch.firstPosition..<batch.endPosition)
    var taken: [[Int32]?]?
    if case .taken(let chooser) = selection { taken = batch.memo.selection(of: chooser) }
    var own: [[Int32]?] = []
    let given = pass.state?.layer(name.layer)
    let carried = pass.state?.isOfPieces == true ? nil : given
    var state = given
    var expanded = carried == nil ? given : nil
    let isAbsorbed = carried != nil && batch.firstPosition > 0 && x.rows <= Experts.fewTokens
    if let carried, !isAbsorbed {
      expanded = LayerState()
      try expand(carried, into: expanded, name, weights, pass)
    }
    var out = Matrix(rows: 0, columns: x.columns)
    out.values.reserveCapacity(x.rows * x.columns)
    for part in batch.parts(of: tokenChunk) {
      try Interrupt.check()
      // The parts of one long sequence see each other through a state of their own.
      if given == nil {
        state = part.state(after: state)
        expanded = state
      }
      let rows = x[part.rows]
      let latent = try queryLatent(rows, name, weights, pass)
      var selected = taken.map { Array($0[part.rows]) }
      if case .own = selection, let indexer {
        let chosen = try indexer.select(rows, latent ?? rows, part.batch, table, name, weights, state, pass)
        own += chosen
        selected = chosen
      }
      let queries = try queries(
        latent ?? rows, isLatent: latent != nil, part.batch, table, name, weights, pass)
      let latents = try latents(rows, part.batch.positions, table, name, weights, pass)
      let all = carried?.append(LatentAttention.kept, latents)
      let mixed: Matrix
      if isAbsorbed, let all {
        mixed = try absorbed(queries, all, part.batch, name, selected: selected, weights, pass)
      } else {
        let (keys, values) = try expand(latents, name, weights, pass)
        mixed = grouped.attend(queries, keys, values, part.batch, selected: selected, expanded, pass)
      }
      out.append(
        try Linear.apply(
          mixed, name("attn_output"), bias: name.bias("attn_output", if: hasBiases), weights, pass))
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

  /// Attention over expanded keys and values.
  private var grouped: GroupedAttention {
    GroupedAttention(
      heads: heads, keyHeads: heads, keyWidth: keyWidth, valueWidth: valueWidth, scale: scale)
  }

  /// Queries of a part, [tokens, heads × key width], rotated.
  /// - Parameter isLatent: whether `x` is what `queryLatent` gave, else the input itself.
  private func queries(
    _ x: Matrix, isLatent: Bool, _ batch: TokenBatch, _ table: RotaryTable, _ name: LayerName,
    _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    let positions = batch.positions
    var queries = try weights.multiply(
      x, name(isLatent ? "attn_q_b" : "attn_q"), rows: nil, parallel: pass.parallel)
    queries.forEachRow(pass.parallel) { token, row in
      for head in 0..<heads {
        table.rotate(row + head * keyWidth + plainWidth, positions[token], pairing)
      }
      guard let factor = temperature?.factor(positions[token]), factor != 1 else { return }
      for channel in 0..<heads * keyWidth { row[channel] *= factor }
    }
    return queries
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

  /// What keys and values are made from, [tokens, latent width + rotary width]: the normed latent, and behind it the rotated key that all
  /// heads share.
  private func latents(
    _ x: Matrix, _ positions: [Int], _ table: RotaryTable, _ name: LayerName, _ weights: some Weights,
    _ pass: Pass
  ) throws -> Matrix {
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
    return latents.joined(shared)
  }

  /// Expands what a state keeps of the tokens before, for a pass with many tokens more.
  private func expand(
    _ carried: LayerState, into expanded: LayerState?, _ name: LayerName, _ weights: some Weights,
    _ pass: Pass
  ) throws {
    let before = carried.all(LatentAttention.kept, columns: latentWidth + rotaryWidth)
    for start in stride(from: 0, to: before.rows, by: tokenChunk) {
      let rows = before[start..<min(before.rows, start + tokenChunk)]
      let (keys, values) = try expand(rows, name, weights, pass)
      grouped.remember(keys, values, expanded)
    }
  }

  /// Keys [tokens, heads × key width], rotated, and values [tokens, heads × value width].
  /// - Parameter joint: latents and shared keys, as `latents` gives them.
  private func expand(_ joint: Matrix, _ name: LayerName, _ weights: some Weights, _ pass: Pass) throws -> (
    keys: Matrix, values: Matrix
  ) {
    let both = try weights.multiply(
      joint.columns(0..<latentWidth), name("attn_kv_b"), rows: nil, parallel: pass.parallel)
    let stride = plainWidth + valueWidth
    // SAFETY: `both` has heads × (plain + value width) columns and `joint` the latent and the rotary width, as the weights' shapes were
    // checked; every float of the two matrices is written once.
    let keys = Matrix(rows: joint.rows, columns: heads * keyWidth) { out in
      both.values.withUnsafeBufferPointer { both in
        joint.values.withUnsafeBufferPointer { joint in
          for place in 0..<both.count / stride {
            let row = out + place * keyWidth
            row.update(from: both.baseAddress! + place * stride, count: plainWidth)
            (row + plainWidth).update(
              from: joint.baseAddress! + place / heads * (latentWidth + rotaryWidth) + latentWidth,
              count: rotaryWidth)
          }
        }
      }
    }
    let values = Matrix(rows: joint.rows, columns: heads * valueWidth) { out in
      both.values.withUnsafeBufferPointer { both in
        for place in 0..<both.count / stride {
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

  /// The rows of two matrices side by side.
  func joined(_ other: Matrix) -> Matrix {
    // SAFETY: both have `rows` rows; every float of the result is written once.
    precondition(rows == other.rows, "\(rows) rows beside \(other.rows)")
    let width = columns + other.columns
    return Matrix(rows: rows, columns: width) { out in
      values.withUnsafeBufferPointer { left in
        other.values.withUnsafeBufferPointer { right in
          for row in 0..<rows {
            (out + row * width).update(from: left.baseAddress! + row * columns, count: columns)
            (out + row * width + columns).update(
              from: right.baseAddress! + row * other.columns, count: other.columns)
          }
        }
      }
    }
  }
}
