// A tensor of a directory, and the slabs that fill it.

import SmeltContainers

/// One tensor with codes, the slabs that fill it, and the tensors with their scales.
struct NamedTensor {
  /// The slabs in the order of their bytes, as places in the plan.
  var slabs: [Int]
  /// Codes first, then one for each further part.
  var entries: [DeclaredTensor]
}
