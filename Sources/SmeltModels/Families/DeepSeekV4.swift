// DeepSeek-V4 (Flash, Pro and their kin). Unusual: four residual streams joined by hyper-connections; one latent
// vector a token that is key and value of all heads, with rotation undone on the way out; beyond a sliding window,
// keys are compressed (every 4 tokens with an indexer that picks, or every 128 tokens, all seen); the first layers
// route by token id. Follows deepseek-ai/DeepSeek-V4-Flash inference/model.py and transformers' deepseek_v4.

internal import CKernels
package import SmeltStorage
package import SmeltTensors

/// The DeepSeek-V4 architecture.
package struct DeepSeekV4: ModelFamily {
  /// `deepseek_v4`.
  package static let modelTypes = ["deepseek_v4"]

  /// What a layer's queries see besides the window.
  enum LayerKind: Sendable, Hashable {
    /// Nothing.
    case window
    /// Overlapping compressed entries, the best of them chosen by an indexer ("CSA").
    case indexed(ratio: Int)
    /// Compressed entries, all of them ("HCA").
    case compressed(ratio: Int)

    var ratio: Int {
      switch self {
      case .window: 0
      case .indexed(let ratio), .compressed(let ratio): ratio
      }
    }
  }

  /// The configuration, whatever dialect it came in.
  struct Configuration: Sendable, Equatable {
    var vocabulary: Int
    var hidden: Int
    var heads: Int
    var headWidth: Int
    var rotaryWidth: Int
    var queryRank: Int
    var outputGroups: Int
    var outputRank: Int
    var window: Int
    var layers: [LayerKind]
    var hashLayers: [Bool]
    var experts: Int
    var expertsPerToken: Int
    var expertWidth: Int
    var sharedExperts: Int
    var routedScaling: Float
    var normalizesRouting: Bool
    var swigluLimit: Float
    var streams: Int
    var sinkhornIterations: Int
    var hyperEpsilon: Float
    var normEpsilon: Float
    var indexHeads: Int
    var indexWidth: Int
    var indexKeep: Int
    var tiedEmbeddings: Bool
    var mainRope: RotaryFrequencies
    var compressedRope: RotaryFrequencies

    /// What a layer's attention sees; a block behind the last layer, which drafts tokens, its window alone.
    func kind(of layer: Int) -> LayerKind { layer < layers.count ? layers[layer] : .window }

    /// Compressed entries of a layer and its indexer's keys, a token.
    var kept: Int {
      layers.map { kind in
        guard kind.ratio > 0 else { return 0 }
        if case .indexed = kind { return ceilDivide(headWidth + indexWidth, kind.ratio) }
        return ceilDivide(headWidth, kind.ratio)
      }.max() ?? 0
    }

    /// Whether a layer's experts are chosen by token id.
    func isHashed(_ layer: Int) -> Bool { layer < hashLayers.count && hashLayers[layer] }
  }

  let configuration: Configuration
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// The multi-token-prediction blocks, no part of the model's own forward pass.
  package let drafts: DraftBlocks

  /// Reads config.json as the hub has it or as transformers saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    configuration = try Configuration(config)
    weights = configuration.weightTable().map(\.clampedAfterUp)
    let predicted = try config.integer("num_nextn_predict_layers", in: 0...64, default: 0)
    drafts = configuration.drafts(declared: predicted)
  }

  /// Sizes for reports and estimates.
  package var dimensions: ModelDimensions {
    ModelDimensions(
      layers: configuration.layers.count, experts: configuration.experts,
      expertsPerToken: configuration.expertsPerToken, hidden: configuration.hidden,
      streams: configuration.streams, vocabulary: configuration.vocabulary, kept: configuration.kept)
  }

  /// What the pass takes from the configuration.
  package var settings: [FamilySetting] { FamilySetting.all(of: configuration) }

  /// The hub's names, the hybrid that transformers saves, and transformers' own in memory.
  package var dialects: [String] { ["hub", "transformers-saved", "transformers"] }

  /// None.
  package var dropRules: [DropRule] { [] }

  // MARK: the forward pass

  /// Every stream starts as the token's embedding.
  package func embed(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix {
    let (hidden, streams) = (configuration.hidden, configuration.streams)
    let table = try TokenTable(Name.embedding, weights)
    defer { weights.finished(Name.embedding) }
    let rows = try table.rows(of: batch)  // [tokens, hidden]
    return Matrix(rows: batch.count, columns: streams * hidden) { out in
      rows.values.withUnsafeBufferPointer { rows in
        // SAFETY: read for the call; the table has a row of `hidden` numbers for each id, and ids are checked against it
        guard let base = rows.baseAddress else { return }
        for place in 0..<batch.count * streams {
          (out + place * hidden).update(from: base + place / streams * hidden, count: hidden)
        }
      }
    }
  }

  /// Attention, then experts, each between a collapse and an expansion of the streams.
  package func layer(
    _ index: Int, _ x: inout Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Routing? {
    let hyper = hyperConnections
    let name = Name(layer: index)

    var coefficients = try hyper.coefficients(x, name.attentionSite, weights, pass)
    // [tokens, hidden]
    var h = hyper.collapse(x, coefficients.pre, norm: try weights.vector(name("attn_norm")), pass)
    let attended = try attention(index, h, batch, weights, pass)
    hyper.expand(&x, attended, coefficients, pass)

    coefficients = try hyper.coefficients(x, name.expertSite, weights, pass)
    h = hyper.collapse(x, coefficients.pre, norm: try weights.vector(name("ffn_norm")), pass)
    let routing = try route(index, h, batch, weights, pass)
    let mixed = try experts(index, h, routing, weights, pass)
    hyper.expand(&x, mixed, coefficients, pass)
    return routing
  }

  /// The mixed streams, normalized, times the output head.
  package func logits(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    let h = try hyperConnections.headMix(
      x, Name.headSite, norm: try weights.vector(Name.outputNorm), weights, pass)  // [tokens, hidden]
    let head = configuration.tiedEmbeddings ? Name.embedding : Name.outputHead
    defer { weights.finished(head) }
    return try weights.multiply(h, head, rows: nil, parallel: pass.parallel)
  }

  /// One routed expert's output for rows of its layer's router input: [rows, hidden].
  package func expert(_ expert: Int, layer: Int, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  {
    try Experts.one(
      x, Name(layer: layer).expert(expert), .swiglu(limit: configuration.swigluLimit), weights, pass)
  }

  var hyperConnections: HyperConnections {
    HyperConnections(
      streams: configuration.streams, hidden: configuration.hidden,
      iterations: configuration.sinkhornIterations,
      epsilon: configuration.hyperEpsilon, normEpsilon: configuration.normEpsilon)
  }

  // MARK: attention

  private func attention(
    _ index: Int, _ h: Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    let c = configuration
    let name = Name(layer: index)
    let kind = c.kind(of: index)
    let rope = kind == .window ? c.mainRope : c.compressedRope
    let table = rope.table(batch.firstPosition..<batch.endPosition)
    let state = pass.state?.layer(index)
    let positions = batch.positions

    // The latents: key and value of every head, [tokens, head width].
    var latents = try weights.multiply(h, name("attn_kv"), rows: nil, parallel: pass.parallel)
    let latentNorm = try weights.vector(name("attn_kv_a_norm"))
    latents.forEachRow(pass.parallel) { token, row in
      latentNorm.withUnsafeBufferPointer {
        // SAFETY: a row has `headWidth` numbers, the norm as many: its spec says so, and a head is not empty
        sk_rms_norm(row, $0.baseAddress!, c.normEpsilon, row, c.headWidth)
      }
      table.rotateTail(row, width: c.headWidth, position: positions[token])
    }

    // Of one sequence that is continued, all latents in reach; of whole sequences, each has its own range of rows.
    if let state { latents = state.append("latents", latents, keepingLast: c.window - 1) }

    var entries = [Matrix](repeating: Matrix(rows: 0, columns: c.headWidth), count: batch.sequenceCount)
    if let compressor = name.compressor(kind, c) {
      entries = try compressor.entries(h, batch, rope: rope, weights, pass, state, "keys")
    }
    var indexKeys: [Matrix] = []
    if let compressor = name.indexCompressor(kind, c) {
      indexKeys = try compressor.entries(h, batch, rope: rope, weights, pass, state, "index")
    }

    let sinks = try weights.vector(name("attn_sinks"))
    let queryNorm = try weights.vector(name("attn_q_a_norm"))
    var output = Matrix(rows: 0, columns: c.hidden, values: [])
    output.values.reserveCapacity(h.rows * c.hidden)
    for start in stride(from: 0, to: h.rows, by: tokenChunk) {
      try Interrupt.check()
      let range = start..<min(h.rows, start + tokenChunk)
      let chunk = h[range]
      var latent = try weights.multiply(chunk, name("attn_q_a"), rows: nil, parallel: pass.parallel)
      latent.forEachRow(pass.parallel) { _, row in
        queryNorm.withUnsafeBufferPointer {
          // SAFETY: a row has `queryRank` numbers, the norm as many: its spec says so, and the rank is above zero
          sk_rms_norm(row, $0.baseAddress!, c.normEpsilon, row, c.queryRank)
        }
      }
      var queries = try weights.multiply(latent, name("attn_q_b"), rows: nil, parallel: pass.parallel)
      queries.forEachRow(pass.parallel) { token, row in
        for head in 0..<c.heads {
          let query = row + head * c.headWidth
          sk_rms_norm(query, nil, c.normEpsilon, query, c.headWidth)
          table.rotateTail(query, width: c.headWidth, position: positions[start + token])
        }
      }
      let selected = try select(index, chunk, latent, start: start, indexKeys, batch, table, weights, pass)
      let heads = attend(
        queries, start: start, batch, latents, entries, selected, ratio: kind.ratio, table, sinks, pass)
      output.values += try project(heads, name, weights, pass).values
    }
    for part in ["attn_kv", "attn_q_a", "attn_q_b", "attn_output_a", "attn_output_b"] {
      weights.finished(name(part))
    }
    if case .indexed = kind { for part in name.indexerParts { weights.finished(part) } }
    return Matrix(rows: h.rows, columns: c.hidden, values: output.values)
  }

  /// For each token of the chunk the entries its queries may see; nil where all complete ones are.
  private func select(
    _ index: Int, _ h: Matrix, _ latent: Matrix, start: Int, _ keys: [Matrix], _ batch: TokenBatch,
    _ table: RotaryTable, _ weights: some Weights, _ pass: Pass
  ) throws -> [[Int32]]? {
    let c = configuration
    let name = Name(layer: index)
    guard case .indexed(let ratio) = c.kind(of: index) else { return nil }
    var queries = try weights.multiply(latent, name.indexerQueries, rows: nil, parallel: pass.parallel)
    let headWeights = try weights.multiply(h, name.indexerHeads, rows: nil, parallel: pass.parallel)
    let factor = 1 / Float(c.indexWidth).squareRoot() / Float(c.indexHeads).squareRoot()
    let positions = batch.positions
    let owners = batch.owners
    var selected = [[Int32]](repeating: [], count: h.rows)
    queries.forEachRow(pass.parallel) { token, row in
      for head in 0..<c.indexHeads {
        table.rotateTail(row + head * c.indexWidth, width: c.indexWidth, position: positions[start + token])
      }
    }
    let rotated = queries
    selected.withUnsafeMutableBufferPointer { selected in
      // SAFETY: not empty, and outlived by the closure; each token writes its own entries
      let target = SharedPointer(selected.baseAddress!)
      eachToken(h.rows, pass.parallel) { token in
        let factors = headWeights[token].map { $0 * factor }
        rotated.values.withUnsafeBufferPointer { queries in
          target.pointer[token] = Indexer.select(
            // SAFETY: a row of queries is `indexHeads × indexWidth` numbers, and `token` is below the rows
            queries: queries.baseAddress! + token * c.indexHeads * c.indexWidth, headWeights: factors,
            heads: c.indexHeads, keys: keys[owners[start + token]],
            complete: min(keys[owners[start + token]].rows, (positions[start + token] + 1) / ratio),
            keep: c.indexKeep)
        }
      }
    }
    return selected
  }

  /// The heads' outputs of a chunk, one matrix an output group: [tokens, heads of the group × head width].
  private func attend(
    _ queries: Matrix, start: Int, _ batch: TokenBatch, _ latents: Matrix, _ entries: [Matrix],
    _ selected: [[Int32]]?, ratio: Int, _ table: RotaryTable, _ sinks: [Float], _ pass: Pass
  ) -> Matrix {
    let c = configuration
    let positions = batch.positions
    let owners = batch.owners
    // Few tokens, as in decoding, are spread over the threads by their heads as well.
    let threads = pass.parallel.threads
    let parts = threads > 1 && queries.rows < 2 * threads && c.heads % 4 == 0 ? 4 : 1
    let core = SparseAttention(heads: c.heads / parts, headWidth: c.headWidth, window: c.window)
    return Matrix(rows: queries.rows, columns: queries.columns) { out in
      let target = SharedPointer(out)
      let block = max(1, min(16, queries.rows / (4 * threads)))
      pass.parallel.forEach(ceilDivide(queries.rows, block) * parts) { task in
        var scratch = AttentionScratch()
        let first = task / parts * block
        for token in first..<min(queries.rows, first + block) {
          let sequence = owners[start + token]
          let range = pass.state == nil ? batch.range(sequence) : 0..<latents.rows
          let position = positions[start + token]
          let keys = SparseKeys(
            tokens: latents.values[range.lowerBound * c.headWidth..<range.upperBound * c.headWidth],
            firstToken: pass.state == nil ? 0 : batch.endPosition - latents.rows,
            entries: entries[sequence], selected: selected?[token], ratio: ratio)
          let head = task % parts * core.heads
          let row = target.pointer + (token * c.heads + head) * c.headWidth
          queries.values.withUnsafeBufferPointer { queries in
            sinks.withUnsafeBufferPointer { sinks in
              core.attend(
                // SAFETY: a row of queries is `heads × headWidth` numbers, `token` is below the rows, and there is a sink a head; a
                // task has its part of the heads, `core.heads` of them
                queries.baseAddress! + (token * c.heads + head) * c.headWidth, position: position, keys,
                sinks: sinks.baseAddress! + head, scratch: &scratch, into: row)
            }
          }
          for head in 0..<core.heads {
            table.rotateTail(row + head * c.headWidth, width: c.headWidth, position: position, sign: -1)
          }
        }
      }
    }
  }

  /// The grouped low-rank output projection: each group of heads by rows of its own, then all together.
  private func project(_ heads: Matrix, _ name: Name, _ weights: some Weights, _ pass: Pass) throws -> Matrix
  {
    let c = configuration
    let width = c.heads * c.headWidth / c.outputGroups
    var inner = Matrix(rows: heads.rows, columns: c.outputGroups * c.outputRank)
    for group in 0..<c.outputGroups {
      let part = Matrix(rows: heads.rows, columns: width) { out in
        heads.values.withUnsafeBufferPointer { heads in
          for token in 0..<inner.rows {
            (out + token * width).update(
              // SAFETY: a row is `outputGroups × width` numbers, of which a group takes its own `width`
              from: heads.baseAddress! + token * c.outputGroups * width + group * width, count: width)
          }
        }
      }
      let low = try weights.multiply(
        part, name("attn_output_a"), rows: group * c.outputRank..<(group + 1) * c.outputRank,
        parallel: pass.parallel)
      inner.forEachRow(pass.parallel) { token, row in
        low.values.withUnsafeBufferPointer {
          (row + group * c.outputRank).update(
            // SAFETY: a row is `outputRank` numbers, and `token` is below the rows
            from: $0.baseAddress! + token * c.outputRank, count: c.outputRank)
        }
      }
    }
    return try weights.multiply(inner, name("attn_output_b"), rows: nil, parallel: pass.parallel)
  }

  // MARK: experts

  private func route(
    _ index: Int, _ h: Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Routing {
    let c = configuration
    let name = Name(layer: index)
    let logits = try weights.multiply(h, name("ffn_gate_inp"), rows: nil, parallel: pass.parallel)
    weights.finished(name("ffn_gate_inp"))
    let router = Router(
      score: .sqrtSoftplus, perToken: c.expertsPerToken,
      weighting: c.normalizesRouting ? .normalized : .plain,
      scaling: c.routedScaling)
    if let forced = pass.forcedRouting {
      return router.route(logits, bias: nil, parallel: pass.parallel, given: forced.choice)
    }
    guard c.isHashed(index) else {
      return router.route(
        logits, bias: try weights.vector(name("exp_probs_b", suffix: "bias")), parallel: pass.parallel)
    }
    let table = try TokenTable(name("ffn_gate_tid2eid"), weights)
    defer { weights.finished(name("ffn_gate_tid2eid")) }
    let chosen = try table.integers(of: batch, below: c.experts)
    return router.route(logits, bias: nil, parallel: pass.parallel) { chosen[$0].sorted() }
  }

  private func experts(
    _ index: Int, _ h: Matrix, _ routing: Routing, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    let c = configuration
    let name = Name(layer: index)
    let activation = Activation.swiglu(limit: c.swigluLimit)
    var out = Matrix(rows: h.rows, columns: c.hidden)
    try Experts.routed(into: &out, h, routing, count: c.experts, activation, weights, pass) {
      name.expert($0)
    }
    if c.sharedExperts > 0 { try Experts.addToAll(&out, h, name.sharedExpert, activation, weights, pass) }
    return out
  }
}
