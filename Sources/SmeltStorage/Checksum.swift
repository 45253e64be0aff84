// Checksums: CRC-32C and XXH64 against accidents, SHA-256 to name content.

internal import CKernels

/// CRC-32C, Castagnoli's polynomial, as iSCSI, ext4 and SSE 4.2 have it. Source: RFC 3720, section 12.1.
public enum CRC32C {
  /// The sum of `bytes`, or of what `sum` is the sum of, followed by `bytes`. The sum of no bytes is 0.
  public static func hash(_ bytes: UnsafeRawBufferPointer, after sum: UInt32 = 0) -> UInt32 {
    sk_crc32c(sum, bytes.baseAddress, bytes.count)
  }
}

/// XXH64 of bytes, seed 0. Source: the xxHash specification.
public func xxh64(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
  sk_xxh64(bytes.baseAddress, bytes.count, 0)
}

/// XXH64 of bytes that arrive in pieces.
public struct XXH64: Sendable {
  private var state = sk_xxh64_state()

  /// Nothing hashed yet; seed 0.
  public init() { sk_xxh64_init(&state, 0) }

  /// Adds bytes.
  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    sk_xxh64_update(&state, bytes.baseAddress, bytes.count)
  }

  /// The hash of all bytes so far.
  public func value() -> UInt64 { withUnsafePointer(to: state) { sk_xxh64_final($0) } }
}

/// SHA-256 of bytes that arrive in pieces. Source: FIPS 180-4.
public struct SHA256: Sendable {
  private var state = sk_sha256_state()

  /// Nothing hashed yet.
  public init() { sk_sha256_init(&state) }

  /// Adds bytes.
  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    sk_sha256_update(&state, bytes.baseAddress, bytes.count)
  }

  /// The digest in lower-case hexadecimal.
  public consuming func hex() -> String {
    var digest = [UInt8](repeating: 0, count: 32)
    sk_sha256_final(&state, &digest)
    return digest.map { byte in
      let text = String(byte, radix: 16)
      return text.count == 1 ? "0" + text : text
    }.joined()
  }

  /// The digest of some bytes in lower-case hexadecimal.
  public static func hex(_ bytes: Bytes) -> String {
    var hash = SHA256()
    bytes.withUnsafeBytes { hash.update($0) }
    return hash.hex()
  }
}
