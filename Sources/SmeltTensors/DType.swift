// Element types as safetensors spells them.

/// The type of a tensor's elements, named as in a safetensors header.
package enum DType: String, Sendable, Hashable, CaseIterable, CustomStringConvertible {
  /// One byte, 0 or 1.
  case bool = "BOOL"
  /// Two 4-bit floats a byte.
  case f4 = "F4"
  /// 6-bit floats.
  case f6E2M3 = "F6_E2M3"
  /// 6-bit floats.
  case f6E3M2 = "F6_E3M2"
  /// Unsigned byte.
  case u8 = "U8"
  /// Signed byte.
  case i8 = "I8"
  /// 8-bit float, 5 exponent bits.
  case f8E5M2 = "F8_E5M2"
  /// 8-bit float, 4 exponent bits, no infinities.
  case f8E4M3 = "F8_E4M3"
  /// 8-bit power of two.
  case f8E8M0 = "F8_E8M0"
  /// 8-bit float of another bias, without negative zero.
  case f8E4M3FNUZ = "F8_E4M3FNUZ"
  /// 8-bit float of another bias, without negative zero.
  case f8E5M2FNUZ = "F8_E5M2FNUZ"
  /// Signed 16-bit.
  case i16 = "I16"
  /// Unsigned 16-bit.
  case u16 = "U16"
  /// IEEE half.
  case f16 = "F16"
  /// The upper half of a float.
  case bf16 = "BF16"
  /// Signed 32-bit.
  case i32 = "I32"
  /// Unsigned 32-bit.
  case u32 = "U32"
  /// IEEE single.
  case f32 = "F32"
  /// A pair of singles.
  case c64 = "C64"
  /// IEEE double.
  case f64 = "F64"
  /// Signed 64-bit.
  case i64 = "I64"
  /// Unsigned 64-bit.
  case u64 = "U64"

  /// Bits of one element.
  package var bits: Int {
    switch self {
    case .f4: 4
    case .f6E2M3, .f6E3M2: 6
    case .bool, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ: 8
    case .i16, .u16, .f16, .bf16: 16
    case .i32, .u32, .f32: 32
    case .c64, .f64, .i64, .u64: 64
    }
  }

  /// Bytes of `count` elements, or nil when that overflows or is not a whole number.
  package func byteCount(_ count: Int) -> Int? {
    let (total, overflow) = count.multipliedReportingOverflow(by: bits)
    return overflow || total % 8 != 0 ? nil : total / 8
  }

  /// The header's spelling.
  package var description: String { rawValue }
}
