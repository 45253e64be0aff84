// The lightning indexer of DeepSeek-V3.2 and GLM-5: many small heads score every token before, and the attention sees only the best.
// Sources: DeepSeek-AI, "DeepSeek-V3.2" (2025); deepseek-ai/DeepSeek-V3.2-Exp inference/model.py as corrected on
// 2025-11-17 (rotation of halves); transformers' deepseek_v32. The reference's Hadamard rotation of queries and keys
// changes no product and its FP8 rounding belongs to its kernels; both are left out.

import SmeltStorage
import SmeltTensors

/// An indexer over tokens.
struct TokenIndexer: Sendable {
  /// Heads.
  var heads: Int
  /// Channels of a query and a key. Rotation takes the leading ones.
  var width: Int
  /// Tokens a query sees at most.
  var keep: Int
  /// Which channels turn together: halves in DeepSeek-V3.2, neighbours in GLM-5.
  var pairing: RotaryPairing

  /// Added to the variance of a key's normalization.
  static let epsilon = 1e-6

  /// The matrices it multiplies by.
  static func names(_ name: LayerName) -> [WeightName] {
    [name("indexer.attn_q_b"), name("indexer.attn_k"), name("indexer.proj")]
  }

  /// For each token the positions it sees, ascending; nil for a token that sees all before it.
  /// - Parameters:
  ///   - x: the attention's input, [tokens, hidden].
  ///   - latent: what the attention's queries are made from, [tokens, query rank].
  func select(
    _ x: Matrix, _ latent: Matrix, _ batch: TokenBatch, _ table: RotaryTable, _ name: LayerName,
    _ weights: some Weights, _ state: LayerState?, _ pass: Pass
  ) throws -> [[Int32]?] {
    let positions = batch.positions
    let keys = try keys(x, batch, table, name, weights, state, pass)
    var queries = try weights.multiply(
      latent, name("indexer.attn_q_b"), rows: nil, parallel: pass.parallel)
    queries.forEachRow(pass.parallel) { token, row in
      for head in 0..<heads { table.rotate(row + head * width, positions[token], pairing) }
    }
    var factors = try weights.multiply(x, name("indexer.proj"), rows: nil, parallel: pass.parallel)
    let factor = 1 / Float(width).squareRoot() / Float(heads).squareRoot()
    factors.forEachRow(pass.parallel) { _, row in
      for head in 0..<heads { row[head] *= factor }
    }
    let (rotated, scaled, owners) = (queries, factors, batch.owners)
    let keep = keep
    var selected = [[Int32]?](repeating: nil, count: x.rows)
    // SAFETY: a task replaces the lists of its own tokens; all of them were initialized. Rows have heads × width floats.
    selected.withUnsafeMutableBufferPointer { selected in
      guard let base = selected.baseAddress else { return }
      let target = SharedPointer(base)
      eachToken(x.rows, pass.parallel) { token in
        guard positions[token] + 1 > keep else { return }
        rotated.values.withUnsafeBufferPointer { rotated in
          scaled.values.withUnsafeBufferPointer { scaled in
            target.pointer[token] = Indexer.select(
              queries: rotated.baseAddress! + token * heads * width,
              headWeights: scaled.baseAddress! + token * heads, heads: heads, keys: keys[owners[token]],
              complete: positions[token] + 1, keep: keep)
          }
        }
      }
    }
    return selected
  }

  /// The keys of each sequence from position 0 on, [tokens, width], normalized and rotated.
  private func keys(
    _ x: Matrix, _ batch: TokenBatch, _ table: RotaryTable, _ name: LayerName, _ weights: some Weights,
    _ state: LayerState?, _ pass: Pass
  ) throws -> [Matrix] {
    let positions = batch.positions
    let scale = try weights.vector(name("indexer.k_norm"))
    let shift = try weights.vector(name("indexer.k_norm", suffix: "bias"))
    var keys = try weights.multiply(x, name("indexer.attn_k"), rows: nil, parallel: pass.parallel)
    keys.forEachRow(pass.parallel) { token, row in
      TokenIndexer.normalize(UnsafeMutableBufferPointer(start: row, count: width), scale, shift)
      table.rotate(row, positions[token], pairing)
    }
    if let state { return [state.append("index", keys)] }
    return (0..<batch.sequenceCount).map { keys[batch.range($0)] }
  }

  /// Layer normalization in place: (x - mean) / √(variance + epsilon) × scale + shift, the variance over all channels;
  /// sums in double precision.
  static func normalize(_ x: UnsafeMutableBufferPointer<Float>, _ scale: [Float], _ shift: [Float]) {
    let count = Double(x.count)
    let mean = x.reduce(0.0) { $0 + Double($1) } / count
    let variance = x.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / count
    let root = (variance + epsilon).squareRoot()
    for index in x.indices {
      x[index] = Float((Double(x[index]) - mean) / root) * scale[index] + shift[index]
    }
  }
}
