// Schemes without scales: every value becomes the nearest float of a type.

internal import CKernels
internal import SmeltStorage
package import SmeltTensors

/// Stores values as floats without scales. Named `bf16`, `f16`, `f32`.
///
/// `f32` changes no value. `bf16` and `f16` round to nearest, ties to even; values from FP8 and FP4 codes with
/// power-of-two scales fit BF16 exactly. A value that would become infinite is refused.
package struct PlainFloat: Scheme {
  private let result: Plain
  /// Other spellings.
  package let synonyms: [String]
  /// One line for help.
  package let summary: String

  /// The upper half of a single: 8 significant bits.
  package static let bf16 = PlainFloat(
    result: .bf16, synonyms: ["bfloat16"], summary: "BF16: 16 bits, 8 of them significant")
  /// IEEE half: 11 significant bits up to 65,504.
  package static let f16 = PlainFloat(
    result: .f16, synonyms: ["fp16", "float16"], summary: "F16: 16 bits, 11 of them significant, up to 65504")
  /// IEEE single: exact.
  package static let f32 = PlainFloat(
    result: .f32, synonyms: ["fp32", "float32"], summary: "F32: exact, four bytes a value")

  /// The encoding's name.
  package var name: String { result.name }
  /// Only `f32` holds every value.
  package var isLossy: Bool { result.dtype != .f32 }
  /// Values are encoded again.
  package var keepsBytes: Bool { false }
  /// Every matrix of floats.
  package var reach: SchemeReach { .matrices }

  /// The plain encoding; tables of integers keep theirs.
  package func encoding(for source: any Encoding, shape: Shape) -> any Encoding {
    source is IntegerTable ? source : result
  }

  /// Rounds each value on its own; options change nothing.
  /// - Throws: `Q_CODE_NAN`; `RequestError` unsupported for a value beyond the type's range.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    throws -> RowReport
  {
    if weight.encoding is IntegerTable { return copyRows(weight, rows: rows, into: target) }
    let columns = weight.columns
    let rowBytes = columns * (result.dtype.bits / 8)
    var report = RowReport()
    try forEachDecodedRow(weight, rows: rows, spareRows: 1) { row, values, back in
      let place = target.values + (row - rows.lowerBound) * rowBytes
      switch result.dtype {
      case .bf16:
        sk_encode_bf16(values, place, columns)
        sk_decode_bf16(place, back, columns)
      case .f16:
        sk_encode_f16(values, place, columns)
        sk_decode_f16(place, back, columns)
      default:
        // SAFETY: the target has `rowBytes` for each row (`RowTarget`), `values` a row of floats.
        UnsafeMutableRawPointer(place).copyMemory(from: values, byteCount: rowBytes)
        report.add(row: columns, inexact: 0)
        return
      }
      let inexact = sk_count_different(values, back, columns)
      if inexact > 0, sk_count_nonfinite_f32(back, columns) > 0 {
        let column = (0..<columns).first { !back[$0].isFinite } ?? 0
        throw RequestError(
          .unsupported,
          "'\(weight.name)' row \(row), column \(column) is \(values[column]), beyond the range of \(name)",
          help: "keep this weight or store it as f32, by a rule of a recipe")
      }
      report.add(row: columns, inexact: inexact)
    }
    return report
  }
}
