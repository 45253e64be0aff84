// Checksums against accidents: CRC-32C and XXH64.

internal import CKernels

/// CRC-32C, Castagnoli's polynomial, as iSCSI, ext4 and SSE 4.2 have it. Source: RFC 3720, section 12.1.
package enum CRC32C {
  // SAFETY: here and in the hashes below, kernels get a buffer's own address and count, and keep neither.
  /// The sum of `bytes`, or of what `sum` is the sum of, followed by `bytes`. The sum of no bytes is 0.
  package static func hash(_ bytes: UnsafeRawBufferPointer, after sum: UInt32 = 0) -> UInt32 {
    sk_crc32c(sum, bytes.baseAddress, bytes.count)
  }
}

/// XXH64 of bytes, seed 0. Source: the xxHash specification.
package func xxh64(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
  sk_xxh64(bytes.baseAddress, bytes.count, 0)
}

/// XXH64 of bytes that arrive in pieces.
package struct XXH64: Sendable {
  private var state = sk_xxh64_state()

  /// Nothing hashed yet; seed 0.
  package init() { sk_xxh64_init(&state, 0) }

  /// Adds bytes.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    sk_xxh64_update(&state, bytes.baseAddress, bytes.count)
  }

  /// Adds bytes, and gives the hash of these alone: both for little more than one of them.
  package mutating func updateTwice(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    sk_xxh64_update_twice(&state, bytes.baseAddress, bytes.count)
  }

  /// The hash of all bytes so far.
  package func value() -> UInt64 { withUnsafePointer(to: state) { sk_xxh64_final($0) } }
}

/// All lower-case hexadecimal digits of a number: sixteen for 64 bits.
package func hexadecimal(_ value: some FixedWidthInteger & UnsignedInteger) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: value.bitWidth / 4 - digits.count) + digits
}

/// Two lower-case digits a byte.
package func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
  var digits: [UInt8] = []
  digits.reserveCapacity(2 * bytes.underestimatedCount)
  for byte in bytes {
    for half in [byte >> 4, byte & 15] { digits.append(half < 10 ? 0x30 + half : 0x57 + half) }
  }
  return String(decoding: digits, as: UTF8.self)
}
