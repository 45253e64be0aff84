// What all schemes that look at numbers share: decoding row by row into scratch, refusing what is not finite, and
// reading the scale a row already has.

internal import CKernels
internal import SmeltStorage
internal import SmeltTensors

/// Floats decoded at once: few enough for the first-level cache, enough to make narrow rows cheap.
private let scratchFloats = 4096

/// Calls `body` with each row's number and decoded values, in order. `spare` is scratch of `spareRows` rows.
/// - Throws: `Q_CODE_NAN` for the first value that is not finite, and what `body` throws.
func forEachDecodedRow(
  _ weight: Weight, rows: Range<Int>, spareRows: Int,
  _ body: (_ row: Int, _ values: UnsafePointer<Float>, _ spare: UnsafeMutablePointer<Float>) throws -> Void
) throws {
  // SAFETY: addresses are valid during the call of `body` only. A row has `columns` floats, `spare` as many for each row asked for; the
  // rows are held against the weight by `decode`.
  let columns = weight.columns
  guard columns > 0, !rows.isEmpty else { return }
  weight.requireInside(rows, 0..<columns)
  try refuseNaNCodes(weight, rows: rows)
  let batch = max(1, scratchFloats / columns)
  try withUnsafeTemporaryAllocation(of: Float.self, capacity: (batch + spareRows) * columns) { scratch in
    let values = scratch.baseAddress!
    let spare = values + batch * columns
    for first in stride(from: rows.lowerBound, to: rows.upperBound, by: batch) {
      let some = first..<min(rows.upperBound, first + batch)
      weight.encoding.decode(weight, rows: some, columns: 0..<columns, into: values, stride: columns)
      for row in some {
        let place = UnsafePointer(values + (row - first) * columns)
        if sk_peak_f32(place, columns) >= Float.infinity.bitPattern {
          let column = (0..<columns).first { !place[$0].isFinite } ?? 0
          throw FormatError(
            .codeNaN, file: weight.file, subject: weight.name,
            "row \(row), column \(column) is \(place[column]), expected a finite number")
        }
        try body(row, place, spare)
      }
    }
  }
}

/// Refuses NaN codes of FP8 sources: their decoding is bit arithmetic that would turn them into numbers.
func refuseNaNCodes(_ weight: Weight, rows: Range<Int>) throws(FormatError) {
  guard let source = weight.encoding as? FP8 else { return }
  // SAFETY: a code a byte, in the weight's shape; the rows lie inside, as the caller has checked.
  let columns = weight.columns
  let count = rows.count * columns
  guard count > 0 else { return }
  let found = weight.values.bytes.withUnsafeBytes { bytes in
    let codes = bytes.baseAddress!.assumingMemoryBound(to: UInt8.self) + rows.lowerBound * columns
    return source.format == .e4m3 ? sk_find_nan_e4m3(codes, count) : sk_find_nan_e5m2(codes, count)
  }
  guard found < count else { return }
  throw FormatError(
    .codeNaN, file: weight.file, subject: weight.name,
    "row \(rows.lowerBound + found / columns), column \(found % columns) is not a finite number, "
      + "expected a finite code")
}

/// The scale that all codes of a row have in the source, where there is one.
struct SourceScales {
  private let part: Part
  private let index: @Sendable (Int) -> Int

  init?(_ weight: Weight) {
    guard let part = weight.part(.scales) else { return nil }
    self.part = part
    switch weight.encoding {
    case is INT8: index = { $0 }
    case let source as FP8:
      switch source.granularity {
      case .tensor: index = { _ in 0 }
      case .channel: index = { $0 }
      case .block(let rows, let columns):
        guard weight.columns <= columns else { return nil }
        index = { $0 / rows }
      }
    default: return nil
    }
  }

  /// The scale of the block that holds a row and a column, where blocks are cut as `rows` × `columns` or coarser.
  static func blocks(_ weight: Weight, rows: Int, columns: Int) -> (
    @Sendable (_ row: Int, _ column: Int) -> Float?
  )? {
    guard let source = weight.encoding as? FP8, let part = weight.part(.scales) else { return nil }
    switch source.granularity {
    case .tensor: return { _, _ in value(part, 0) }
    case .block(let height, let width) where height % rows == 0 && width % columns == 0:
      let across = ceilDivide(weight.columns, width)
      return { value(part, $0 / height * across + $1 / width) }
    default: return nil
    }
  }

  /// The row's scale, or nil when it is not a normal positive number.
  subscript(row: Int) -> Float? { SourceScales.value(part, index(row)) }

  private static func value(_ part: Part, _ index: Int) -> Float? {
    // SAFETY: `index` is a row's or a block's, so the part has a scale of its dtype's size there.
    let scale: Float? = part.bytes.withUnsafeBytes { bytes in
      switch part.dtype {
      case .f32:
        Float(
          bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)))
      case .bf16, .f16:
        decoded16(bytes.baseAddress! + index * 2, part.dtype)
      case .f8E8M0, .u8: sk_e8m0(bytes[index])
      default: nil
      }
    }
    guard let scale, scale.isNormal, scale > 0 else { return nil }
    return scale
  }

  private static func decoded16(_ place: UnsafeRawPointer, _ dtype: DType) -> Float {
    var value: Float = 0
    let bytes = place.assumingMemoryBound(to: UInt8.self)
    if dtype == .bf16 { sk_decode_bf16(bytes, &value, 1) } else { sk_decode_f16(bytes, &value, 1) }
    return value
  }
}
