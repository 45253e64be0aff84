// How a weight's numbers are stored. Encodings are arithmetic, without judgement: they decode codes to floats and
// encode floats under a scale that somebody else (a scheme) has chosen.

package import SmeltStorage

/// One way to store a weight's numbers. Formats/encodings.md is the law for each.
package protocol Encoding: Sendable {
  // SAFETY: an encoding reads parts through addresses that follow from the weight's shape. `Weight.init` has checked that each part
  // has the bytes that `layout` asks for, `requireInside` the rectangle; a number inside a part that is used as an index (a column's
  // group) is checked by `validate`, and where it is used.
  /// The stable name, for example `f8_e4m3.block`. `Encodings.named` finds the encoding back.
  var name: String { get }

  /// Whether several codes share a byte.
  var isPacked: Bool { get }

  /// The parts of a weight of this shape: names, dtypes and dimensions as stored.
  /// - Throws: `Q_PACK` when the shape cannot be stored this way.
  func layout(of shape: Shape, name: String) throws(FormatError) -> [PartLayout]

  /// Refuses codes and scales that are not finite, naming the first culprit.
  /// - Throws: `Q_CODE_NAN`, `Q_SCALE_VALUE`, `Q_BLOCK`.
  func validate(_ weight: Weight) throws(FormatError)

  /// Decodes a rectangle. Row `r` of it goes to `out + (r - rows.lowerBound) * stride`. Exact: code × scale in float32.
  /// `columns.lowerBound` must be a multiple of 1024 or 0. Rows and columns must lie inside the weight: the program ends where they
  /// do not. `out` must have room for the rectangle; nothing is written between the end of a row and the next stride.
  func decode(
    _ weight: Weight, rows: Range<Int>, columns: Range<Int>, into out: UnsafeMutablePointer<Float>,
    stride: Int)

  /// The weight's codes where they lie, for products of a few tokens; nil where there is no kernel for them, and they are decoded.
  func coded(_ weight: Weight) -> CodedRows?

  /// The encoding's number in the integer matrix-product kernels (`SK_CODED_…`); nil if no such kernel supports it.
  var integerCode: Int32? { get }

  /// Whether a code stands for one number, so that half a step bounds what rounding does to it. Codes for several numbers
  /// at once, as those of `iq2_xs`, have no such bound.
  var hasGrid: Bool { get }

  /// Calls `body` with each run of a row's columns that share scales, and the numbers that its codes can stand for, in order.
  /// Not at all where `hasGrid` is false. The weight is a valid one.
  func grids(_ weight: Weight, row: Int, _ body: (Range<Int>, CodeGrid) -> Void)
}

extension Encoding {
  /// One code a byte or more, unless an encoding says otherwise.
  package var isPacked: Bool { false }

  /// Codes are decoded, unless an encoding says otherwise.
  package func coded(_ weight: Weight) -> CodedRows? { nil }

  /// Most encodings are multiplied as floats alone.
  package var integerCode: Int32? { nil }

  /// Most encodings round each number by itself.
  package var hasGrid: Bool { true }

  /// Bytes that a weight of this shape takes, scales included, with the first dtype of each part; 0 where it cannot be stored.
  package func byteCount(of shape: Shape) -> Int {
    guard let parts = try? layout(of: shape, name: "") else { return 0 }
    return parts.reduce(0) { $0 + ($1.dtypes[0].byteCount($1.shape.count) ?? 0) }
  }
}
