// Numbers stored one by one without scales: F32, F16, BF16, F64, and tables of integers.
// Formats/encodings.md, sections 2 and 3.

internal import CKernels
package import SmeltStorage

/// Floats stored as they are.
package struct Plain: Encoding {
  /// The stable name: `f32`, `f16`, `bf16` or `f64`.
  package let name: String
  /// How an element is stored.
  package let dtype: DType

  /// IEEE single.
  package static let f32 = Plain(name: "f32", dtype: .f32)
  /// IEEE half.
  package static let f16 = Plain(name: "f16", dtype: .f16)
  /// The upper half of a single.
  package static let bf16 = Plain(name: "bf16", dtype: .bf16)
  /// IEEE double; read as the nearest single, never chosen for a result.
  package static let f64 = Plain(name: "f64", dtype: .f64)

  /// One part: the values.
  package func layout(of shape: Shape, name: String) -> [PartLayout] {
    [PartLayout(.values, dtypes: [dtype], shape: shape)]
  }

  /// NaN and infinite values are refused.
  package func validate(_ weight: Weight) throws(FormatError) {
    let columns = weight.columns
    guard columns > 0 else { return }
    // An embedding of gigabytes is not held because it was looked at once.
    let rowBytes = weight.values.bytes.count / max(1, weight.rows)
    let step = max(1, (16 << 20) / max(1, rowBytes))
    for first in stride(from: 0, to: weight.rows, by: step) {
      let rows = first..<min(weight.rows, first + step)
      let bytes = weight.values.bytes[rows.lowerBound * rowBytes..<rows.upperBound * rowBytes]
      if let place = firstNonfinite(weight, rows, bytes) {
        let (row, column) = (first + place / columns, place % columns)
        var value: Float = 0
        decode(weight, rows: row..<row + 1, columns: column..<column + 1, into: &value, stride: 1)
        throw FormatError(
          .codeNaN, file: weight.file, subject: weight.name,
          "row \(row), column \(column) is \(shown(value)), expected a finite number")
      }
      if rows.count == step { bytes.evict() }
    }
  }

  /// Refuses NaN and infinite values among some of a weight's bytes, which must lie inside; numbers that are cut are left to the run
  /// that begins with them.
  /// - Throws: `Q_CODE_NAN`, as `validate`.
  package func validate(_ weight: Weight, bytes range: Range<Int>) throws(FormatError) {
    let (size, columns) = (dtype.bits / 8, weight.columns)
    let numbers = ceilDivide(range.lowerBound, size)..<range.upperBound / size
    guard columns > 0, !numbers.isEmpty else { return }
    let bytes = weight.values.bytes[numbers.lowerBound * size..<numbers.upperBound * size]
    if dtype == .bf16 || dtype == .f16, firstNonfinite16(bytes) == numbers.count { return }
    // By rows, the first and the last of them perhaps in part: other types, and to name what was found.
    for row in numbers.lowerBound / columns...(numbers.upperBound - 1) / columns {
      let own = numbers.clamped(to: row * columns..<(row + 1) * columns)
      let place = own.lowerBound - row * columns..<own.upperBound - row * columns
      var values = [Float](repeating: 0, count: place.count)
      // SAFETY: room for the numbers of the rectangle, which `decode` holds against the weight.
      values.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { return }
        decode(weight, rows: row..<row + 1, columns: place, into: base, stride: place.count)
      }
      guard sk_peak_f32(values, values.count) >= Float.infinity.bitPattern,
        let bad = values.firstIndex(where: { !$0.isFinite })
      else { continue }
      throw FormatError(
        .codeNaN, file: weight.file, subject: weight.name,
        "row \(row), column \(place.lowerBound + bad) is \(shown(values[bad])), expected a finite number")
    }
  }

  /// The place of the first 16-bit float that is not finite, or their number.
  private func firstNonfinite16(_ bytes: Bytes) -> Int {
    let count = bytes.count / 2
    return bytes.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return count }
      return sk_find_nonfinite16(
        base.assumingMemoryBound(to: UInt8.self), dtype == .bf16 ? 0x7F80 : 0x7C00, count)
    }
  }

  /// The place of the first number in some rows that is not finite.
  private func firstNonfinite(_ weight: Weight, _ rows: Range<Int>, _ bytes: Bytes) -> Int? {
    let columns = weight.columns
    if dtype == .bf16 || dtype == .f16 {
      let place = firstNonfinite16(bytes)
      return place < rows.count * columns ? place : nil
    }
    // SAFETY: `columns` is above zero, so `row` has an address; it takes one row of the weight.
    var row = [Float](repeating: 0, count: columns)
    for index in rows {
      let bad = row.withUnsafeMutableBufferPointer { buffer in
        decode(
          weight, rows: index..<index + 1, columns: 0..<columns, into: buffer.baseAddress!, stride: columns)
        return sk_count_nonfinite_f32(buffer.baseAddress!, columns)
      }
      if bad > 0, let column = row.firstIndex(where: { !$0.isFinite }) {
        return (index - rows.lowerBound) * columns + column
      }
    }
    return nil
  }

  /// Widens to float32, exactly; doubles are rounded to nearest, ties to even.
  package func decode(
    _ weight: Weight, rows: Range<Int>, columns: Range<Int>, into out: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    // SAFETY: `size` bytes for each number, as the layout asks; loads need no alignment.
    weight.requireInside(rows, columns)
    let size = dtype.bits / 8
    let width = weight.columns
    // These rows alone: a table of which a few are asked for may have to be fetched.
    weight.values.bytes[rows.lowerBound * width * size..<rows.upperBound * width * size].withUnsafeBytes {
      bytes in
      guard let base = bytes.bindMemory(to: UInt8.self).baseAddress else { return }
      for row in rows {
        let source = base + ((row - rows.lowerBound) * width + columns.lowerBound) * size
        let target = out + (row - rows.lowerBound) * stride
        switch dtype {
        case .bf16: sk_decode_bf16(source, target, columns.count)
        case .f16: sk_decode_f16(source, target, columns.count)
        case .f64:
          for column in 0..<columns.count {
            let bits = UnsafeRawPointer(source).loadUnaligned(fromByteOffset: column * 8, as: UInt64.self)
            target[column] = Float(Double(bitPattern: UInt64(littleEndian: bits)))
          }
        default: UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: columns.count * 4)
        }
      }
    }
  }

  /// Numbers as they are; doubles are decoded.
  package func coded(_ weight: Weight) -> CodedRows? {
    let code =
      switch dtype {
      case .f32: SK_CODED_F32
      case .f16: SK_CODED_F16
      case .bf16: SK_CODED_BF16
      default: SK_CODED_COUNT
      }
    guard code != SK_CODED_COUNT else { return nil }
    return CodedRows(weight, code, rowBytes: weight.columns * dtype.bits / 8)
  }

  /// Stores a row of `count` floats; F16 and BF16 round to nearest, ties to even.
  package func encode(_ row: UnsafePointer<Float>, count: Int, into out: UnsafeMutablePointer<UInt8>) {
    // SAFETY: `row` must hold `count` floats, `out` have room for as many numbers of the type, apart from each other.
    switch dtype {
    case .bf16: sk_encode_bf16(row, out, count)
    case .f16: sk_encode_f16(row, out, count)
    case .f64:
      for index in 0..<count {
        UnsafeMutableRawPointer(out).storeBytes(
          of: Double(row[index]).bitPattern.littleEndian, toByteOffset: index * 8, as: UInt64.self)
      }
    default: UnsafeMutableRawPointer(out).copyMemory(from: row, byteCount: count * 4)
    }
  }
}

/// Whole numbers, such as the expert ids of a hash router. They never take part in a product.
package struct IntegerTable: Encoding {
  /// The stable name: `i64`, `i32`, `i16` or `i8`.
  package let name: String
  /// How an element is stored.
  package let dtype: DType

  /// Signed 64-bit.
  package static let i64 = IntegerTable(name: "i64", dtype: .i64)
  /// Signed 32-bit.
  package static let i32 = IntegerTable(name: "i32", dtype: .i32)
  /// Signed 16-bit.
  package static let i16 = IntegerTable(name: "i16", dtype: .i16)
  /// Signed bytes.
  package static let i8 = IntegerTable(name: "i8", dtype: .i8)
  /// Elements that are kept and never computed with: unsigned integers, booleans, and codes whose scales are not known.
  package static let stored: [IntegerTable] = [
    DType.bool, .u8, .u16, .u32, .u64, .c64, .f8E4M3, .f8E5M2, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ,
  ].map { IntegerTable(name: "stored.\($0.rawValue.lowercased())", dtype: $0) }

  /// The table of elements of a type, or nil for floats and for types that share bytes.
  package static func of(_ dtype: DType) -> IntegerTable? {
    ([i64, i32, i16, i8] + stored).first { $0.dtype == dtype }
  }

  /// One part: the values.
  package func layout(of shape: Shape, name: String) -> [PartLayout] {
    [PartLayout(.values, dtypes: [dtype], shape: shape)]
  }

  /// Every integer is legal here; the family checks ranges.
  package func validate(_ weight: Weight) {}

  /// The integers as floats; exact up to 2^24.
  package func decode(
    _ weight: Weight, rows: Range<Int>, columns: Range<Int>, into out: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    weight.requireInside(rows, columns)
    for row in rows {
      for column in columns {
        let value = element(weight, row * weight.columns + column)
        out[(row - rows.lowerBound) * stride + column - columns.lowerBound] = Float(value)
      }
    }
  }

  /// All elements.
  func integers(_ weight: Weight) -> [Int] { (0..<weight.shape.count).map { element(weight, $0) } }

  private func element(_ weight: Weight, _ index: Int) -> Int {
    // SAFETY: the part has an element of the dtype's size for each of the shape's; `index` is below their number.
    weight.values.bytes.withUnsafeBytes { bytes in
      func load<T: FixedWidthInteger>(_: T.Type) -> Int {
        Int(T(littleEndian: bytes.loadUnaligned(fromByteOffset: index * MemoryLayout<T>.size, as: T.self)))
      }
      func load64(_ bytes: UnsafeRawBufferPointer, _ index: Int) -> UInt64 {
        UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
      }
      switch dtype {
      case .i8: return load(Int8.self)
      case .i16: return load(Int16.self)
      case .i32: return load(Int32.self)
      case .i64: return load(Int64.self)
      case .u16: return load(UInt16.self)
      case .u32: return load(UInt32.self)
      case .u64, .c64: return Int(truncatingIfNeeded: load64(bytes, index))
      default: return load(UInt8.self)
      }
    }
  }
}
