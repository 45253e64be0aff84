// DeepSeek-V4's blocks that draft tokens: the next token's embedding joins every stream, one window-only layer runs over the streams,
// and a mixing and a norm of the block's own come before the model's head. Follows the inference code published with the weights.

import SmeltStorage
package import SmeltTensors

extension DeepSeekV4 {
  /// Each stream times a projection, plus a projection of the next token's embedding, through one layer: [tokens, streams × hidden].
  package func draft(
    _ block: DraftBlock, _ x: Matrix, _ next: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    let (c, name) = (configuration, Name(layer: drafts.first + block.number))
    let table = try TokenTable(Name.embedding, weights)
    var e = try table.rows(of: next)
    weights.finished(Name.embedding)
    Linear.norm(&e, try weights.vector(name("nextn.enorm")), epsilon: c.normEpsilon, pass)
    e = try Linear.apply(e, name("nextn.e_proj"), weights, pass)
    // Every stream of a token is a row of its own.
    var h = Matrix(rows: x.rows * c.streams, columns: c.hidden, values: x.values)
    Linear.norm(&h, try weights.vector(name("nextn.hnorm")), epsilon: c.normEpsilon, pass)
    h = try Linear.apply(h, name("nextn.h_proj"), weights, pass)
    for part in ["nextn.e_proj", "nextn.h_proj"] { weights.finished(name(part)) }
    Linear.add(&h, e.gather((0..<h.rows).map { $0 / c.streams }), pass)
    var y = Matrix(rows: x.rows, columns: x.columns, values: h.values)
    _ = try layer(drafts.first + block.number, &y, next, weights, pass)
    return y
  }

  /// The block's streams, mixed and normed by its own weights, times the model's head.
  package func draftLogits(_ block: DraftBlock, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  {
    let name = Name(layer: drafts.first + block.number)
    let site = HyperConnections.Site(
      mapping: name("nextn.hc_head_fn"), base: name("nextn.hc_head_base"),
      scale: name("nextn.hc_head_scale"))
    let norm = try weights.vector(block.hasNorm ? name("nextn.shared_head_norm") : Name.outputNorm)
    let h = try hyperConnections.headMix(x, site, norm: norm, weights, pass)
    let head = configuration.tiedEmbeddings ? Name.embedding : Name.outputHead
    defer { weights.finished(head) }
    return try weights.multiply(h, head, rows: nil, parallel: pass.parallel)
  }
}
