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
    let positions = batch.positions
    var selected = [[Int32]?](repeating: nil, count: queries.rows * heads)
    // A few tokens of one sequence together, so that a block of keys meets many queries while it is in the cache.
    let tasks = (0..<batch.sequenceCount).flatMap { sequence in
      let tokens = batch.range(sequence).filter { positions[$0] + 1 > keep * blockSize }
      return stride(from: 0, to: tokens.count, by: BlockIndexer.tokens).map { first in
        (sequence, tokens[first]..<tokens[min(tokens.count, first + BlockIndexer.tokens) - 1] + 1)
      }
    }
    // SAFETY: a task replaces the lists of its own tokens; all of them were initialized. Rows of queries have heads × width floats.
    selected.withUnsafeMutableBufferPointer { selected in
      guard let base = selected.baseAddress else { return }
      let target = SharedPointer(base)
      pass.parallel.forEach(tasks.count) { task in
        let (sequence, tokens) = tasks[task]
        queries.values.withUnsafeBufferPointer { queries in
          guard let query = queries.baseAddress else { return }
          choose(
            query + tokens.lowerBound * heads * width, keys[sequence],
            visible: tokens.map { positions[$0] + 1 },
            into: target.pointer + tokens.lowerBound * heads)
        }
      }
    }
    return selected
  }

  /// Tokens that one task chooses for.
  private static let tokens = 8
  /// Keys whose scores exist at once.
  private static let keys = 512

  /// For some queries of one sequence, and each head, the positions of the blocks that they keep.
  /// - Parameters:
  ///   - query: [tokens, heads × width].
  ///   - visible: how many positions each of the tokens sees, ascending.
  ///   - chosen: [tokens, heads].
  private func choose(
    _ query: UnsafePointer<Float>, _ keys: Matrix, visible: [Int], into chosen: UnsafeMutablePointer<[Int32]?>
  ) {
    // SAFETY: `query` holds heads × width floats for each of `visible` and `keys` has a row of as many channels for each visible
    // position; the scratch is scores of a run of keys for each row, and the best of each block, written before they are read.
    let (rows, most) = (visible.count * heads, visible.last ?? 0)
    precondition(most <= keys.rows && keys.columns == width, "\(most) keys of \(keys.rows)")
    let step = max(1, BlockIndexer.keys / blockSize) * blockSize
    let blocks = ceilDivide(most, blockSize)
    withUnsafeTemporaryAllocation(of: Float.self, capacity: rows * (step + blocks)) { scratch in
      guard let dots = scratch.baseAddress else { return }
      let best = dots + rows * step
      keys.values.withUnsafeBufferPointer { keys in
        guard let key = keys.baseAddress else { return }
        for first in stride(from: 0, to: most, by: step) {
          let count = min(step, most - first)
          for start in stride(from: 0, to: width, by: Int(SK_BLOCK)) {
            sk_gemm_f32(
              query + start, width, key + first * width + start, width, dots, step, rows, count,
              min(Int(SK_BLOCK), width - start), start > 0 ? 1 : 0)
          }
          for row in 0..<rows {
            let end = min(first + count, visible[row / heads])
            if end > first { note(dots + row * step, first..<end, best + row * blocks) }
          }
        }
      }
      for row in 0..<rows {
        let seen = visible[row / heads]
        chosen[row] = positions(
          best: UnsafeMutableBufferPointer(start: best + row * blocks, count: ceilDivide(seen, blockSize)),
          visible: seen)
      }
    }
  }

  /// The largest score of each block of some positions, which begin with a block.
  private func note(
    _ scores: UnsafePointer<Float>, _ positions: Range<Int>, _ best: UnsafeMutablePointer<Float>
  ) {
    for start in stride(from: 0, to: positions.count, by: blockSize) {
      best[(positions.lowerBound + start) / blockSize] = sk_largest_f32(
        scores + start, min(blockSize, positions.count - start), -.infinity)
    }
  }

  /// The positions that one head of a query sees, ascending. Of blocks with equal scores the earlier is kept.
  /// - Parameter scores: of all positions up to the query's own.
  func positions(of scores: UnsafeBufferPointer<Float>) -> [Int32] {
    guard let base = scores.baseAddress else { return [] }
    return withUnsafeTemporaryAllocation(of: Float.self, capacity: ceilDivide(scores.count, blockSize)) {
      best in
      guard let target = best.baseAddress else { return [] }
      // SAFETY: `note` writes the best of every block.
      note(base, 0..<scores.count, target)
      return positions(best: best, visible: scores.count)
    }
  }

  /// The same from the largest score of each block; those of the blocks that are always seen are replaced.
  private func positions(best: UnsafeMutableBufferPointer<Float>, visible: Int) -> [Int32] {
    for block in max(0, best.count - local)..<best.count { best[block] = .infinity }
    let kept = Router.largest(UnsafeBufferPointer(best), count: keep)
    return kept.flatMap { block -> Range<Int32> in
      let first = block * Int32(blockSize)
      return first..<Int32(min(visible, Int(first) + blockSize))
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
