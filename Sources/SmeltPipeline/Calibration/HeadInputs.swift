// Weights for the end of a calibration: what meets the output head counts, what comes out of it nobody looks at.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// The same weights, but that nothing is multiplied by the output head, nor by the embeddings, which stand for it where they are tied:
/// zeros come out. For `logits` alone; layers may multiply by either.
struct HeadInputs<Base: Weights>: ForwardingWeights {
  let base: Base
  private let heads: Set<WeightName>

  /// The weights of a family.
  init(_ base: Base, of family: some ModelFamily) {
    self.base = base
    heads = Set(family.weights.lazy.filter { $0.role == .outputHead || $0.role == .embedding }.map(\.name))
  }

  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    guard heads.contains(name) else {
      return try base.multiply(x, name, rows: rows, parallel: parallel)
    }
    // Read all the same: a damaged head is refused.
    let count = try base.weight(name).rows
    return Matrix(rows: x.rows, columns: rows?.count ?? count)
  }
}
