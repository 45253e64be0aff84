// Little-endian numbers at an address, as blocks hold them.

/// Two little-endian bytes.
@inline(__always) func word(_ bytes: UnsafePointer<UInt8>) -> UInt32 {
  UInt32(bytes[0]) | UInt32(bytes[1]) << 8
}

/// Four little-endian bytes.
@inline(__always) func long(_ bytes: UnsafePointer<UInt8>) -> UInt32 { word(bytes) | word(bytes + 2) << 16 }

/// The F32 at an address.
@inline(__always) func single(_ bytes: UnsafePointer<UInt8>) -> Float { Float(bitPattern: long(bytes)) }

/// The F16 at an address, widened exactly.
@inline(__always) func half(_ bytes: UnsafePointer<UInt8>) -> Float { half(word(bytes)) }

/// An F16's 16 bits, widened exactly: its exponent's bias is 112 less than a float32's.
@inline(__always) func half(_ bits: UInt32) -> Float {
  let sign = (bits & 0x8000) << 16
  let magnitude =
    bits & 0x7C00 == 0x7C00
    ? 0x7F80_0000 | (bits & 0x3FF) << 13 : (Float(bitPattern: (bits & 0x7FFF) << 13) * 0x1p112).bitPattern
  return Float(bitPattern: sign | magnitude)
}
