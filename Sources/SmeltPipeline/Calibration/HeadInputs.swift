// Weights for the end of a calibration: what meets the output head counts, what comes out of it nobody looks at.

import SmeltModels
import SmeltStorage
import SmeltTensors

internal import Synchronization

/// The same weights, but that nothing is multiplied by the output head, nor by the embeddings, which stand for it where they are tied:
/// zeros come out. For `logits` alone; layers may multiply by either.
struct HeadInputs<Base: Weights>: ForwardingWeights {
  let base: Base
  private let heads: Set<WeightName>
  /// Output channels of those that were read.
  private let rows = Rows()

  /// The weights of a family.
  init(_ base: Base, of family: some ModelFamily) {
    self.base = base
    heads = Set(family.weights.lazy.filter { $0.role == .outputHead || $0.role == .embedding }.map(\.name))
  }

  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    guard heads.contains(name) else {
      return try base.multiply(x, name, rows: rows, parallel: parallel)
    }
    // Read all the same, once for all tokens: a damaged head is refused.
    let count = try self.rows.count(of: name) { try base.weight(name).rows }
    return Matrix(rows: x.rows, columns: rows?.count ?? count)
  }

  private final class Rows: Sendable {
    private let known = Mutex<[WeightName: Int]>([:])

    func count(of name: WeightName, _ read: () throws -> Int) rethrows -> Int {
      if let count = known.withLock({ $0[name] }) { return count }
      let count = try read()
      known.withLock { $0[name] = count }
      return count
    }
  }
}
