// The forward pass of a block that drafts tokens: from what the model made of a token, and the token that follows it, the token
// after that. Sources: DeepSeek-AI, "DeepSeek-V3 Technical Report" (2024), section 2.2; transformers' modeling_layers.py, which
// gives the block the model's stream after the last norm, as llama.cpp does.

import SmeltStorage
package import SmeltTensors

/// A block that drafts tokens as a source holds it: what it has of its own, and what it takes from the model.
package struct DraftBlock: Sendable {
  /// Its number, from 0.
  package let number: Int
  /// Whether it has embeddings of its own.
  let hasEmbedding: Bool
  /// Whether it has a norm of its own before the head.
  let hasNorm: Bool
  /// Whether it has a head of its own.
  let hasHead: Bool

  /// A block among weights that are there.
  /// - Parameter layer: the number under which its weights stand.
  init(_ number: Int, layer: Int, among names: Set<WeightName>) {
    let name = LayerName(layer: layer)
    self.number = number
    hasEmbedding = names.contains(name("nextn.embed_tokens"))
    hasNorm = names.contains(name("nextn.shared_head_norm"))
    hasHead = names.contains(name("nextn.shared_head_head"))
  }
}

extension ModelFamily {
  /// None.
  package var runningDrafts: [DraftBlock] { [] }

  /// The stream after the last layer as a first block takes it; the stream itself unless a family norms it before.
  package func draftInput(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix { x }

  /// None of a family's blocks run unless it says how.
  package func draft(
    _ block: DraftBlock, _ x: Matrix, _ next: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix { throw noDraftPass }

  /// None of a family's blocks run unless it says how.
  package func draftLogits(_ block: DraftBlock, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  { throw noDraftPass }

  private var noDraftPass: RequestError {
    RequestError(.unsupported, "blocks of '\(modelType)' that draft tokens have no forward pass here")
  }
}

extension ResidualDecoder {
  /// The normed stream.
  func draftInput(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    var h = x
    Linear.norm(&h, try scale(of: ModelName.outputNorm, weights), epsilon: normEpsilon, pass)
    return h
  }

  /// One layer over [norm of the next token's embedding, norm of the stream] times the block's projection, and a norm: what the head
  /// takes, and a following block.
  /// - Parameters:
  ///   - x: what the model, or the block before, made of each token, [tokens, hidden].
  ///   - next: the token that follows each of them.
  func draft(
    _ block: DraftBlock, _ x: Matrix, _ next: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    let name = LayerName(layer: layerCount + block.number)
    let embedding = block.hasEmbedding ? name("nextn.embed_tokens") : ModelName.embedding
    var e = try TokenTable(embedding, weights).rows(of: next)
    weights.finished(embedding)
    Linear.norm(&e, try scale(of: name("nextn.enorm"), weights), epsilon: normEpsilon, pass)
    var h = x
    Linear.norm(&h, try scale(of: name("nextn.hnorm"), weights), epsilon: normEpsilon, pass)
    var y = try Linear.apply(e.beside(h), name("nextn.eh_proj"), weights, pass)
    weights.finished(name("nextn.eh_proj"))
    _ = try layer(layerCount + block.number, &y, next, weights, pass)
    let norm = block.hasNorm ? name("nextn.shared_head_norm") : ModelName.outputNorm
    Linear.norm(&y, try scale(of: norm, weights), epsilon: normEpsilon, pass)
    return y
  }

  /// A block's output times its head, or the model's: [rows, vocabulary].
  func draftLogits(_ block: DraftBlock, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    let own = LayerName(layer: layerCount + block.number)("nextn.shared_head_head")
    let head = block.hasHead ? own : tiedEmbeddings ? ModelName.embedding : ModelName.outputHead
    defer { weights.finished(head) }
    return try Linear.apply(x, head, weights, pass)
  }
}

extension Matrix {
  /// The rows of two matrices side by side.
  func beside(_ other: Matrix) -> Matrix {
    precondition(rows == other.rows, "\(rows) rows beside \(other.rows)")
    let (width, more) = (columns, other.columns)
    // SAFETY: both have the rows, as checked; every float of the result is written once.
    return Matrix(rows: rows, columns: width + more) { out in
      values.withUnsafeBufferPointer { a in
        other.values.withUnsafeBufferPointer { b in
          for row in 0..<rows {
            let target = out + row * (width + more)
            target.update(from: a.baseAddress! + row * width, count: width)
            (target + width).update(from: b.baseAddress! + row * more, count: more)
          }
        }
      }
    }
  }
}
