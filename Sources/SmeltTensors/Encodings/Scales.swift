// What the scaled encodings share: reading scales of any dtype, refusing those that are not a positive finite number,
// and the 8-bit powers of two. Formats/encodings.md, sections 7 and 11.

internal import CKernels
internal import SmeltStorage

/// Powers of two in a byte: code c stands for 2^(c - 127), 0xFF for not-a-number. Formats/encodings.md, section 7.
package enum E8M0 {
  /// The code that stands for no number.
  package static let nan: UInt8 = 0xFF

  /// 2^(code - 127). Code 0 is 2^-127, a subnormal float, kept as it is; 0xFF gives not-a-number.
  package static func value(_ code: UInt8) -> Float { sk_e8m0(code) }

  /// The code of an exact power of two from 2^-127 to 2^127, nil for everything else.
  package static func code(of value: Float) -> UInt8? {
    let bits = value.bitPattern
    if bits == 0x0040_0000 { return 0 }  // 2^-127 is subnormal: half of the smallest exponent's step
    let exponent = UInt8(truncatingIfNeeded: bits >> 23)
    guard bits == UInt32(exponent) << 23, exponent != 0, exponent != 0xFF else { return nil }
    return exponent
  }
}

/// Scales as stored, read one at a time as floats. The pointer must outlive the value.
struct Scales {
  // SAFETY: `base` is valid inside the closure that lent it, for the part's `count` scales of its dtype's size (`Weight.init`). An
  // index is not checked: encodings compute it from a row and a column inside the weight.
  private let base: UnsafePointer<UInt8>
  private let dtype: DType
  let count: Int

  /// The dtypes a scale next to FP8 codes may have.
  static let floats: [DType] = [.f32, .bf16, .f16]
  /// The same, and powers of two.
  static let floatsAndPowers = floats + [.f8E8M0]

  init(_ part: Part, at bytes: UnsafeRawBufferPointer) {
    count = part.shape.count
    dtype = part.dtype
    // An empty weight has no scales and no address; nobody reads through this one.
    base = (bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 1)!).assumingMemoryBound(to: UInt8.self)
  }

  /// One scale, widened exactly.
  subscript(index: Int) -> Float {
    switch dtype {
    case .f8E8M0, .u8: return sk_e8m0(base[index])
    case .bf16:
      let place = UnsafeRawPointer(base + index * 2)
      return Float(bitPattern: UInt32(UInt16(littleEndian: place.loadUnaligned(as: UInt16.self))) << 16)
    case .f16:
      var value: Float = 0
      sk_decode_f16(base + index * 2, &value, 1)
      return value
    default:
      let place = UnsafeRawPointer(base + index * 4)
      return Float(bitPattern: UInt32(littleEndian: place.loadUnaligned(as: UInt32.self)))
    }
  }

  /// The first scale that is not a positive finite number, and the largest scale otherwise.
  func firstBad() -> (index: Int?, largest: Float) {
    if dtype == .f8E8M0 || dtype == .u8 {  // of 256 codes one is bad; the largest code is the largest scale
      let bad = sk_find_byte(base, E8M0.nan, count)
      guard bad == count else { return (bad, 0) }
      var code: UInt8 = 0
      for index in 0..<count { code = max(code, base[index]) }
      return (nil, sk_e8m0(code))
    }
    var largest: Float = 0
    for index in 0..<count {
      let scale = self[index]
      guard scale > 0, scale.isFinite else { return (index, 0) }
      largest = max(largest, scale)
    }
    return (nil, largest)
  }
}

/// A number in a message; a NaN's payload and sign say nothing to a reader.
func shown(_ value: Float) -> String { value.isNaN ? "NaN" : "\(value)" }

extension Weight {
  /// Lends codes and scales to a kernel.
  func withCodesAndScales<R, E: Error>(_ body: (UnsafePointer<UInt8>, Scales) throws(E) -> R) throws(E) -> R?
  {
    // SAFETY: both addresses are lent for the call of `body` only; the weight holds their owners.
    let codes = parts[0].bytes
    let scales = parts[1]
    return try codes.withUnsafeBytes { (codeBytes) throws(E) -> R? in
      guard let base = codeBytes.baseAddress else { return nil }
      return try scales.bytes.withUnsafeBytes { (scaleBytes) throws(E) -> R? in
        try body(base.assumingMemoryBound(to: UInt8.self), Scales(scales, at: scaleBytes))
      }
    }
  }

  /// Refuses scales that are NaN, infinite, zero or negative, and numbers that overflow float32.
  /// - Parameter largestCode: the largest magnitude of a code.
  /// - Throws: `Q_SCALE_VALUE`, naming the scale's place, or the number that is infinite.
  func validateScales(largestCode: Float) throws(FormatError) {
    let found = parts[1].bytes.withUnsafeBytes { bytes in
      let scales = Scales(parts[1], at: bytes)
      let found = scales.firstBad()
      return (index: found.index, value: found.index.map { scales[$0] } ?? found.largest)
    }
    if let index = found.index {
      throw FormatError(
        .scaleValue, file: file, subject: name,
        "scale \(place(index, in: parts[1].shape)) is \(shown(found.value)), expected a positive finite number"
      )
    }
    guard !(found.value * largestCode).isFinite else { return }
    try refuseOverflow()
  }

  /// Looks at every number. Needed only when a scale is so large that its largest code would overflow.
  private func refuseOverflow() throws(FormatError) {
    guard columns > 0 else { return }
    for row in 0..<rows {
      let values = decode(rows: row..<row + 1)
      guard let column = values.firstIndex(where: { !$0.isFinite }) else { continue }
      throw FormatError(
        .scaleValue, file: file, subject: name,
        "row \(row), column \(column): code times scale is \(shown(values[column])), expected a finite float32"
      )
    }
  }

  /// The refusal of a code that is not a finite number.
  func badCode(at index: Int, _ code: UInt8, _ what: String) -> FormatError {
    let hex = String(code, radix: 16)
    return FormatError(
      .codeNaN, file: file, subject: name,
      "row \(index / columns), column \(index % columns) (byte \(index) of its values) is 0x"
        + (code < 16 ? "0" : "") + "\(hex), \(what), expected a finite number")
  }

  private func place(_ index: Int, in shape: Shape) -> String {
    guard shape.rank == 2, shape.columns > 0 else { return "\(index)" }
    return "[\(index / shape.columns), \(index % shape.columns)]"
  }
}
