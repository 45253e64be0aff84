// Where a weight lies among named tensors. Families say it for each dialect, layouts find the bytes behind it.

/// Where a checkpoint keeps a weight: a tensor, or some rows of one that stacks or fuses several weights.
///
/// The rows are those of the matrix [output channels, input channels] that is left once a stacked tensor's index is taken
/// and a transposed one is transposed; of a vector (a bias) they are its elements. From `rows` (all by default) every
/// `rowStride`-th is taken, starting with number `rowPhase`.
package struct Spelling: Hashable, Sendable {
  /// The tensor's name. A quantized layout that names its tensors otherwise (`…_blocks`, `….weight_packed`, `….qweight`)
  /// derives those names from this one.
  package let tensor: String
  /// The index along the leading dimension of a stacked tensor, or nil.
  package let stackIndex: Int?
  /// The rows of the (unstacked) tensor, or nil for all.
  package let rows: Range<Int>?
  /// The distance between two of the weight's rows; 2 where gate and up rows alternate.
  package let rowStride: Int
  /// The first of the weight's rows, 0 to `rowStride` - 1.
  package let rowPhase: Int
  /// Whether plain tensors hold the matrix as [input channels, output channels]. Quantized layouts, which keep output
  /// channels first whatever the plain spelling does, ignore it.
  package let transposed: Bool

  /// A whole tensor, or a part of a stacked or fused one. `0 <= rowPhase < rowStride` must hold.
  package init(
    _ tensor: String, stackIndex: Int? = nil, rows: Range<Int>? = nil, rowStride: Int = 1, rowPhase: Int = 0,
    transposed: Bool = false
  ) {
    precondition(
      rowStride > 0 && (0..<rowStride).contains(rowPhase), "phase \(rowPhase) of stride \(rowStride)")
    self.tensor = tensor
    self.stackIndex = stackIndex
    self.rows = rows
    self.rowStride = rowStride
    self.rowPhase = rowPhase
    self.transposed = transposed
  }

  /// The same place in a tensor of another name.
  package func renamed(_ tensor: String) -> Spelling {
    Spelling(
      tensor, stackIndex: stackIndex, rows: rows, rowStride: rowStride, rowPhase: rowPhase,
      transposed: transposed)
  }

  /// Whether the weight is the whole tensor, as it lies.
  package var isWhole: Bool { stackIndex == nil && rows == nil && rowStride == 1 && !transposed }
}
