// The indexer of block-sparse attention: small heads score every key up to a query, a block of neighbouring keys is worth the best of
// its scores, and the query heads that share a key head see the keys of the best blocks alone. Unusual beside TokenIndexer.swift: each
// key head has a choice of its own, scores are plain products without weights of heads, and the query's own block and those right
// before it are always seen. Follows transformers' minimax_m3_vl; source: MiniMax, "MiniMax-M3" (2026), sparse attention.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// An indexer over blocks of keys.
struct BlockIndexer: Sendable {
  /// Heads, one for each key head of the attention.
  var heads: Int
  /// Channels of a query and a key, as rotated as those of the attention.
  var width: Int
  /// Keys of a block; the first block begins at position 0.
  var blockSize: Int
  /// Blocks a query sees at most.
  var keep: Int
  /// Blocks it sees whatever their scores: its own and those right before it; at most `keep`.
  var local: Int

  /// What the indexer takes over from the attention around it.
  struct Surroundings {
    /// The rotation, by tokens of the whole batch.
    let rotation: RotaryTables
    /// Scales of the norm over each head of queries.
    let queryNorm: [Float]
    /// Scales of the norm over a key.
    let keyNorm: [Float]
    /// Added under the roots of both norms.
    let epsilon: Float
  }

  /// The matrices it multiplies by.
  static func names(_ name: LayerName) -> [WeightName] { [name("indexer.q_proj"), name("indexer.k_proj")] }

  /// For each token and key head of a part of a batch the positions it sees, ascending; nil where it sees all before it.
  /// - Parameter x: the attention's input, [tokens of the part, hidden].
  func select(
    _ x: Matrix, _ part: TokenBatch.Part, _ name: LayerName, _ around: Surroundings, _ weights: some Weights,
    _ state: LayerState?, _ pass: Pass
  ) throws -> [[Int32]?] {
    func project(_ projection: WeightName, _ norm: [Float]) throws -> Matrix {
      var y = try weights.multiply(x, projection, rows: nil, parallel: pass.parallel)
      Linear.norm(&y, norm, width: width, epsilon: around.epsilon, pass)
      let (columns, positions) = (y.columns, part.batch.positions)
      y.forEachRow(pass.parallel) { token, row in
        let table = around.rotation[part.rows.lowerBound + token]
        for head in stride(from: 0, to: columns, by: width) {
          table.rotate(row + head, positions[token], .halves)
        }
      }
      return y
    }
    let own = try project(name("indexer.k_proj"), around.keyNorm)
    let keys =
      state.map { [$0.append("index", own)] }
      ?? (0..<part.batch.sequenceCount).map { own[part.batch.range($0)] }
    return select(try project(name("indexer.q_proj"), around.queryNorm), keys, part.batch, pass)
  }

  /// The same from queries, [tokens, heads × width], and the keys of each sequence from position 0 on, [tokens, width].
  private func select(_ queries: Matrix, _ keys: [Matrix], _ batch: TokenBatch, _ pass: Pass) -> [[Int32]?] {
    let (positions, owners) = (batch.positions, batch.owners)
    var selected = [[Int32]?](repeating: nil, count: queries.rows * heads)
    // SAFETY: a task replaces the lists of its own tokens; all of them were initialized. Rows of queries have heads × width floats.
    selected.withUnsafeMutableBufferPointer { selected in
      guard let base = selected.baseAddress else { return }
      let target = SharedPointer(base)
      eachToken(queries.rows, pass.parallel) { token in
        let visible = positions[token] + 1
        guard visible > keep * blockSize else { return }
        queries.values.withUnsafeBufferPointer { queries in
          guard let query = queries.baseAddress else { return }
          let chosen = choose(query + token * heads * width, keys[owners[token]], visible: visible)
          for head in 0..<heads { target.pointer[token * heads + head] = chosen[head] }
        }
      }
    }
    return selected
  }

  /// For each head the positions of the blocks that one query keeps.
  private func choose(_ query: UnsafePointer<Float>, _ keys: Matrix, visible: Int) -> [[Int32]] {
    // SAFETY: `query` holds heads × width floats and `keys` has a row of as many channels for each visible position; the scratch is a
    // row of scores for each head, written before it is read.
    precondition(visible <= keys.rows && keys.columns == width, "\(visible) keys of \(keys.rows)")
    return withUnsafeTemporaryAllocation(of: Float.self, capacity: heads * visible) { scores in
      guard let dots = scores.baseAddress else { return [] }
      keys.values.withUnsafeBufferPointer { keys in
        guard let key = keys.baseAddress else { return }
        for start in stride(from: 0, to: width, by: Int(SK_BLOCK)) {
          sk_gemm_f32(
            query + start, width, key + start, width, dots, visible, heads, visible,
            min(Int(SK_BLOCK), width - start), start > 0 ? 1 : 0)
        }
      }
      return (0..<heads).map { head in
        positions(of: UnsafeBufferPointer(start: dots + head * visible, count: visible))
      }
    }
  }

  /// The positions that one head of a query sees, ascending. Of blocks with equal scores the earlier is kept.
  /// - Parameter scores: of all positions up to the query's own.
  func positions(of scores: UnsafeBufferPointer<Float>) -> [Int32] {
    let count = ceilDivide(scores.count, blockSize)
    let best = (0..<count).map { block -> Float in
      guard block < count - local else { return .infinity }
      var largest = -Float.infinity
      for position in block * blockSize..<min(scores.count, (block + 1) * blockSize) {
        largest = max(largest, scores[position])
      }
      return largest
    }
    let kept = best.withUnsafeBufferPointer { Router.largest($0, count: keep) }
    return kept.flatMap { block -> Range<Int32> in
      let first = block * Int32(blockSize)
      return first..<Int32(min(scores.count, Int(first) + blockSize))
    }
  }

  /// The rows of its weights.
  func rows(_ rows: inout LayerRows, hidden: Int) {
    func add(_ part: String, _ shape: Shape, _ role: Role) {
      rows.add(
        "indexer.\(part).weight", shape, role, "self_attn.index_\(part).weight",
        memory: "self_attn.indexer.\(part).weight")
    }
    add("q_proj", [heads * width, hidden], .indexer)
    add("k_proj", [width, hidden], .indexer)
    add("q_norm", [width], .norm)
    add("k_norm", [width], .norm)
  }
}
