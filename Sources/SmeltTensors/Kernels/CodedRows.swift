// A weight as it is stored, for products of floats and of whole numbers. What is bound by memory where tokens are few is the weight: its
// codes are read once and multiplied in registers.

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

/// A weight's codes where they lie, as the kernels of whole numbers read them.
struct IntegerRows: @unchecked Sendable {
  // SAFETY: the addresses are those of the weight's codes, which nobody writes to and whoever uses the value keeps alive, and of `scales`,
  // which is written here alone.
  let form: sk_integers
  /// Channels of activations that share a scale, as `activationBlock` says.
  let block: Int
  /// The float32 scale of each row, of `int8.channel`.
  private let scales: ByteBuffer?

  /// Nil where no kernel of whole numbers multiplies the weight.
  init?(_ weight: Weight) {
    guard let code = weight.encoding.integerCode else { return nil }
    block = sk_activation_block(code)
    guard block != 0 else { return nil }
    let rows = max(1, weight.rows)
    if code == SK_CODED_INT8 {
      guard weight.columns <= Int(SK_I8_COLUMNS) else { return nil }
      let scales = ByteBuffer(count: 4 * rows)
      let floats = scales.bytes.bindMemory(to: Float.self)
      weight.withCodesAndScales { _, numbers in
        for row in 0..<weight.rows { floats[row] = numbers[row] }
      }
      self.scales = scales
    } else {
      scales = nil
    }
    let bytes = weight.values.bytes
    // SAFETY: the weight's layout gives each row as many bytes, in whole blocks of the type, and `int8.channel` a scale. A weight without
    // bytes has no rows or no columns, and is not multiplied.
    form = sk_integers(
      codes: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), row_bytes: bytes.count / rows,
      scales: scales.map { UnsafePointer($0.bytes.bindMemory(to: Float.self).baseAddress!) }, code: code)
  }
}
