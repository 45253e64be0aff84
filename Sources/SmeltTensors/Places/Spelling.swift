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
  // A model has hundreds of thousands of these: what is nil is -1, and the stride, the phase and the side share a word.
  private let stack: Int
  private let firstRow: Int
  private let rowsEnd: Int
  private let stride: Int32
  private let phaseAndSide: Int32

  /// The index along the leading dimension of a stacked tensor, or nil.
  package var stackIndex: Int? { stack < 0 ? nil : stack }
  /// The rows of the (unstacked) tensor, or nil for all.
  package var rows: Range<Int>? { firstRow < 0 ? nil : firstRow..<rowsEnd }
  /// The distance between two of the weight's rows; 2 where gate and up rows alternate.
  package var rowStride: Int { Int(stride) }
  /// The first of the weight's rows, 0 to `rowStride` - 1.
  package var rowPhase: Int { Int(phaseAndSide / 2) }
  /// Whether plain tensors hold the matrix as [input channels, output channels]. Quantized layouts, which keep output
  /// channels first whatever the plain spelling does, ignore it.
  package var transposed: Bool { phaseAndSide % 2 == 1 }

  /// A whole tensor, or a part of a stacked or fused one. `0 <= rowPhase < rowStride` must hold.
  package init(
    _ tensor: String, stackIndex: Int? = nil, rows: Range<Int>? = nil, rowStride: Int = 1, rowPhase: Int = 0,
    transposed: Bool = false
  ) {
    precondition(
      (1..<1 << 30).contains(rowStride) && (0..<rowStride).contains(rowPhase) && stackIndex ?? 0 >= 0
        && rows?.lowerBound ?? 0 >= 0, "stack \(stackIndex ?? 0), phase \(rowPhase) of stride \(rowStride)")
    self.tensor = tensor
    stack = stackIndex ?? -1
    (firstRow, rowsEnd) = rows.map { ($0.lowerBound, $0.upperBound) } ?? (-1, -1)
    stride = Int32(rowStride)
    phaseAndSide = Int32(rowPhase) * 2 + (transposed ? 1 : 0)
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
