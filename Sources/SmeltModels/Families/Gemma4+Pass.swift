// Gemma 4's forward pass. A layer that uses another's keys and values finds them in the decoding state, or, where whole sequences or
// pieces of them run, in the batch's memo.

import SmeltStorage
import SmeltTensors

extension Gemma4Decoder {
  /// Embeddings times the root of the width, [tokens, hidden]. The root is rounded to float32, not to the type of the weights.
  func scaledEmbeddings(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix {
    var x = try embed(batch, weights)
    let factor = Float(Double(hidden).squareRoot())
    for index in x.values.indices { x.values[index] *= factor }
    return x
  }

  /// One layer over the residual stream `x` [tokens, hidden], in place.
  func run(_ index: Int, _ x: inout Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass) throws
    -> Routing?
  {
    let name = LayerName(layer: index)
    func normed(_ x: Matrix, _ part: String) throws -> Matrix {
      var y = x
      Linear.norm(&y, try weights.vector(name(part)), epsilon: normEpsilon, pass)
      return y
    }
    let mixed = try attend(index, try normed(x, "attn_norm"), batch, weights, pass)
    Linear.add(&x, try normed(mixed, "post_attention_norm"), pass)

    var h = try feedForward.dense(try normed(x, "ffn_norm"), name, weights, pass)
    var routing: Routing?
    if feedForward.experts > 0 {
      h = try normed(h, "post_ffw_norm_1")
      let inputs = try normed(x, "pre_ffw_norm_2")
      var chosen = try route(x, name, weights, pass)
      var sum = Matrix(rows: x.rows, columns: hidden)
      try Experts.routed(
        into: &sum, inputs, chosen, count: feedForward.experts, feedForward.activation, weights, pass
      ) { name.expert($0) }
      Linear.add(&h, try normed(sum, "post_ffw_norm_2"), pass)
      if pass.keepsExpertInputs { chosen.inputs = inputs }
      routing = chosen
    }
    Linear.add(&x, try normed(h, "post_ffw_norm"), pass)

    if layerEmbedding > 0 {
      Linear.add(&x, try normed(try ownEmbedding(index, x, batch, weights, pass), "post_norm"), pass)
    }
    let factor = try weights.vector(name("layer_output_scale"))[0]
    let columns = x.columns
    x.forEachRow(pass.parallel) { _, row in for channel in 0..<columns { row[channel] *= factor } }
    return routing
  }

  /// The experts of each token. The router reads the stream under a norm without factors of its own, times a scale a channel; the
  /// chosen factors, whose sum is 1, are multiplied by one number an expert.
  private func route(_ x: Matrix, _ name: LayerName, _ weights: some Weights, _ pass: Pass) throws -> Routing
  {
    let root = Float(1 / Double(hidden).squareRoot())
    let scale = try weights.vector(name("ffn_gate_inp", suffix: "scale")).map { $0 * root }
    var h = x
    Linear.norm(&h, scale, epsilon: normEpsilon, pass)
    let routing = try feedForward.route(h, name, weights, pass)
    let factors = try weights.vector(name("ffn_down_exps", suffix: "scale"))
    return Routing(
      perToken: routing.perToken, experts: routing.experts,
      weights: zip(routing.weights, routing.experts).map { $0 * factors[Int($1)] })
  }

  /// What a layer makes of its own embedding of the tokens, before the norm: the stream's gate times the embedding, which is half
  /// the table's row and half a projection of the token's embedding.
  private func ownEmbedding(
    _ index: Int, _ x: Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    let name = LayerName(layer: index)
    let rows = index * layerEmbedding..<(index + 1) * layerEmbedding
    var own = try weights.multiply(
      try scaledEmbeddings(batch, weights), Gemma4Decoder.projection, rows: rows, parallel: pass.parallel)
    weights.finished(Gemma4Decoder.projection)
    let root = Float(1 / Double(hidden).squareRoot())
    for place in own.values.indices { own.values[place] *= root }
    Linear.norm(&own, try weights.vector(Gemma4Decoder.projectionNorm), epsilon: normEpsilon, pass)

    let table = try TokenTable(Gemma4Decoder.table, weights)
    let entries = try table.rows(of: batch, columns: rows)
    weights.finished(Gemma4Decoder.table)
    let factor = Float(Double(layerEmbedding).squareRoot())
    let half = Float(0.5.squareRoot())
    for place in own.values.indices {
      own.values[place] = (own.values[place] + entries.values[place] * factor) * half
    }

    var gate = try Linear.apply(x, name("inp_gate"), weights, pass)
    let (width, factors) = (layerEmbedding, own)
    gate.forEachRow(pass.parallel) { token, row in
      factors.values.withUnsafeBufferPointer { own in
        // SAFETY: both have a row of `width` floats for each token.
        guard let base = own.baseAddress else { return }
        feedForward.activation.apply(row, base + token * width, count: width)
      }
    }
    let out = try Linear.apply(gate, name("proj"), weights, pass)
    for part in ["inp_gate", "proj"] { weights.finished(name(part)) }
    return out
  }

  // MARK: attention

  /// A part of the batch at a time bounds what exists at once.
  func attend(
    _ index: Int, _ h: Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    let name = LayerName(layer: index)
    let a = attention(index)
    let tables = RotaryTables(a.rope, batch)
    let queryNorm = try weights.vector(name("attn_q_norm"))
    let core = GroupedAttention(
      heads: heads, keyHeads: a.keyHeads, keyWidth: a.headWidth, valueWidth: a.headWidth, scale: 1,
      window: a.window)
    let carried = pass.state?.layer(index)
    let shared = layers[index].keySource.map { sharedKeys(of: $0, a, core, batch, pass) }
    let leaves = isShared(index) && pass.state?.isOfPieces ?? true
    var left = SharedKeys(a)
    var state = carried
    var out = Matrix(rows: 0, columns: hidden)
    for part in batch.parts(of: tokenChunk) {
      try Interrupt.check()
      // The parts of one long sequence see each other through a state of their own.
      if carried == nil { state = part.state(after: state) }
      let rows = h[part.rows]
      func prepare(_ y: inout Matrix, _ norm: [Float]?, isRotated: Bool = true) {
        Linear.norm(&y, norm, width: a.headWidth, epsilon: normEpsilon, pass)
        guard isRotated else { return }
        let columns = y.columns
        let positions = part.batch.positions
        y.forEachRow(pass.parallel) { token, row in
          let table = tables[part.rows.lowerBound + token]
          for head in stride(from: 0, to: columns, by: a.headWidth) {
            table.rotate(row + head, positions[token], .halves)
          }
        }
      }
      var queries = try Linear.apply(rows, name("attn_q"), weights, pass)
      prepare(&queries, queryNorm)
      let mixed: Matrix
      if let shared {
        mixed = shared.attend(core, queries, part, of: batch, continues: carried != nil, pass)
      } else {
        var keys = try Linear.apply(rows, name("attn_k"), weights, pass)
        var values = a.sharesProjection ? keys : try Linear.apply(rows, name("attn_v"), weights, pass)
        prepare(&keys, try weights.vector(name("attn_k_norm")))
        prepare(&values, nil, isRotated: false)
        keys = try weights.cached(keys, .keys, layer: index, parallel: pass.parallel)
        values = try weights.cached(values, .values, layer: index, parallel: pass.parallel)
        if leaves { left.append(keys, values) }
        mixed = core.attend(queries, keys, values, part.batch, state, pass)
      }
      out.append(try Linear.apply(mixed, name("attn_output"), weights, pass))
    }
    for matrix in matrices(index) { weights.finished(name(matrix)) }
    if leaves { batch.memo.leave([left.keys, left.values], of: index) }
    return out
  }

  /// The projections of a layer's attention.
  private func matrices(_ index: Int) -> [String] {
    var parts = ["attn_q", "attn_output"]
    if layers[index].keySource == nil {
      parts.append("attn_k")
      if !attention(index).sharesProjection { parts.append("attn_v") }
    }
    return parts
  }

  /// The keys and values of an earlier layer, from the state or from the memo.
  private func sharedKeys(
    of source: Int, _ a: Attention, _ core: GroupedAttention, _ batch: TokenBatch, _ pass: Pass
  ) -> SharedKeys {
    let state = pass.state?.layer(source)
    if let state, pass.state?.isOfPieces == false {
      let columns = a.keyHeads * a.headWidth
      return SharedKeys(
        keys: state.all("keys", columns: columns), values: state.all("values", columns: columns))
    }
    guard let left = batch.memo.matrices(of: source), left[0].rows == batch.count else {
      preconditionFailure("layer \(source) has left no keys of these tokens")
    }
    // Of pieces, those of earlier ones come before.
    let (keys, values) = core.remember(left[0], left[1], state)
    return SharedKeys(keys: keys, values: values)
  }
}

/// Keys and values that several layers use: of the batch's tokens, or of all tokens of a state.
struct SharedKeys: Sendable {
  private(set) var keys: Matrix
  private(set) var values: Matrix

  init(keys: Matrix, values: Matrix) { (self.keys, self.values) = (keys, values) }

  /// None yet.
  init(_ a: Gemma4Decoder.Attention) {
    let none = Matrix(rows: 0, columns: a.keyHeads * a.headWidth)
    self.init(keys: none, values: none)
  }

  mutating func append(_ keys: Matrix, _ values: Matrix) {
    self.keys.append(keys)
    self.values.append(values)
  }

  /// The attention of the queries of a part of a batch.
  /// - Parameter continues: whether rows are those of a state, up to the batch's last token.
  func attend(
    _ core: GroupedAttention, _ queries: Matrix, _ part: TokenBatch.Part, of batch: TokenBatch,
    continues: Bool,
    _ pass: Pass
  ) -> Matrix {
    guard !continues else {
      return core.attend(
        queries, all: keys, values, part.batch, origin: keys.rows - batch.endPosition, pass)
    }
    // Of a sequence that runs in parts, all rows from its first on.
    let first = part.rows.lowerBound - (part.batch.firstPosition - batch.firstPosition)
    let rows = first..<part.rows.upperBound
    return core.attend(
      queries, all: keys[rows], values[rows], part.batch, origin: part.isWhole ? nil : 0, pass)
  }
}
