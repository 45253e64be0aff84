// Weights whose products are summed in another order.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// The same weights, their products summed in another order: what differs is the noise of rounding.
struct PermutedWeights<Base: Weights>: ForwardingWeights {
  let base: Base

  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    SmeltTensors.multiply(x, try weight(name), rows: rows, parallel: parallel, order: .permuted)
  }
}
