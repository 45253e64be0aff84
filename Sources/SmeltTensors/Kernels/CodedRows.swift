// Products of a few tokens with a weight as it is stored. What is bound by memory then is the weight: its codes are read once and
// multiplied in registers.

internal import CKernels
import SmeltStorage

/// A weight's codes and scales where they lie, as the product kernel reads them. An encoding describes itself with one.
package struct CodedRows: @unchecked Sendable {
  // SAFETY: the addresses are those of the weight's parts, which nobody writes to; whoever uses the value keeps the weight alive. What
  // the parts hold for each row and column follows from the encoding's layout, as `Weight.init` checked it.
  private var form = sk_coded()

  /// Which columns and rows share a scale.
  enum Groups {
    /// All of them.
    case tensor
    /// Those of a row.
    case channel
    /// Those of this many columns, and this many rows.
    case block(columns: Int, rows: Int = 1)
  }

  /// Codes without scales beside them.
  /// - Parameters:
  ///   - code: which of `SK_CODED_…`.
  ///   - rowBytes: from one row to the next.
  init?(_ weight: Weight, _ code: Int, rowBytes: Int) {
    guard let codes = weight.values.bytes.baseAddress else { return nil }
    form.codes = codes.assumingMemoryBound(to: UInt8.self)
    form.row_bytes = rowBytes
    form.code = Int32(code)
    form.scale = Int32(SK_SCALED_NOT)
  }

  /// Codes with scales in a part of their own; nil where groups of columns do not fit sixteen columns.
  init?(_ weight: Weight, _ code: Int, rowBytes: Int, _ groups: Groups) {
    self.init(weight, code, rowBytes: rowBytes)
    guard let scales = weight.parts[1].bytes.baseAddress else { return nil }
    form.scales = scales.assumingMemoryBound(to: UInt8.self)
    let kind =
      switch weight.parts[1].dtype {
      case .f32: SK_SCALED_F32
      case .f16: SK_SCALED_F16
      case .bf16: SK_SCALED_BF16
      default: SK_SCALED_E8M0
      }
    form.scale = Int32(kind)
    (form.scale_rows, form.scale_columns, form.scales_a_row) = (1, .max, 1)
    switch groups {
    case .tensor: form.scale_rows = .max
    case .channel: break
    case .block(let columns, let rows):
      guard columns % 16 == 0 || columns >= weight.columns else { return nil }
      form.scale_rows = rows
      form.scale_columns = columns
      form.scales_a_row = ceilDivide(weight.columns, columns)
    }
  }

  /// The scales are E4M3 codes that a number multiplies, or divides.
  mutating func setGlobal(_ global: Float, divides: Bool) {
    form.global = global
    form.scale = Int32((divides ? SK_SCALED_E4M3_BY : SK_SCALED_E4M3_TIMES))
  }

  /// Each scale has a zero point.
  mutating func setZeroPoints(_ part: Part) {
    form.zeros = part.bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
  }

  /// out[t × stride + j] = row t of x times row `rows.lowerBound + j`.
  /// - Parameters:
  ///   - x: [tokens, columns], one row after another.
  ///   - columns: the weight's, above zero.
  ///   - out: [tokens, stride].
  func multiply(
    _ x: UnsafePointer<Float>, tokens: Int, columns: Int, rows: Range<Int>,
    into out: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    // SAFETY: as the callers' checks of shapes say; the form is a weight's, whose parts are as long as its layout asks.
    withUnsafePointer(to: form) {
      sk_multiply_coded($0, rows.lowerBound, rows.count, columns, x, columns, tokens, out, stride)
    }
  }

  /// From one row to the next, in bytes.
  var rowBytes: Int { form.row_bytes }
}
