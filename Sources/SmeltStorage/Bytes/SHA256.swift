// SHA-256, to name content: CryptoKit's on Apple's systems, OpenSSL's libcrypto elsewhere.

#if canImport(CryptoKit)
  private import CryptoKit
#else
  internal import COpenSSL
#endif

/// SHA-256 of bytes that arrive in pieces. Source: FIPS 180-4, as the system's library computes it.
package struct SHA256: Sendable {
  /// Bytes of a digest.
  package static let byteCount = 32

  private var state = SHA256State()

  /// Nothing hashed yet.
  package init() {}

  /// Adds bytes.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    if !isKnownUniquelyReferenced(&state) { state = SHA256State(copying: state) }
    state.update(bytes)
  }

  /// Adds an array.
  package mutating func update(_ array: [UInt8]) { array.withUnsafeBytes { update($0) } }

  /// The digest: 32 bytes.
  package func digest() -> [UInt8] { SHA256State(copying: state).finish() }

  /// The digest in lower-case hexadecimal.
  package func hex() -> String { hexadecimal(digest()) }

  /// The digest of some bytes.
  package static func digest(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    let state = SHA256State()
    state.update(bytes)
    return state.finish()
  }

  /// The digest of some bytes in lower-case hexadecimal.
  package static func hex(_ bytes: Bytes) -> String { hexadecimal(bytes.withUnsafeBytes(digest)) }
}

/// The library's state of a hash that is under way.
private final class SHA256State: @unchecked Sendable {
  // SAFETY: `SHA256` changes the state only where it holds the sole reference to it, and copies it before it is finished.
  #if canImport(CryptoKit)
    private var hash = CryptoKit.SHA256()

    init() {}
    init(copying other: SHA256State) { hash = other.hash }

    func update(_ bytes: UnsafeRawBufferPointer) { hash.update(bufferPointer: bytes) }
    func finish() -> [UInt8] { Array(hash.finalize()) }
  #else
    private let context: OpaquePointer

    /// A state of no bytes. No input makes the library fail here or below: memory is at an end then, or libcrypto is installed without
    /// SHA-256; either ends the program as running out of memory does.
    init() {
      context = SHA256State.checked(EVP_MD_CTX_new()) { EVP_DigestInit_ex($0, EVP_sha256(), nil) }
    }

    init(copying other: SHA256State) {
      context = SHA256State.checked(EVP_MD_CTX_new()) { EVP_MD_CTX_copy_ex($0, other.context) }
    }

    private static func checked(_ context: OpaquePointer?, _ fill: (OpaquePointer) -> Int32) -> OpaquePointer
    {
      guard let context, fill(context) == 1 else {
        OutOfMemory.stop(
          "OpenSSL's libcrypto gives no state for SHA-256", help: "give the program more memory")
      }
      return context
    }

    deinit { EVP_MD_CTX_free(context) }

    func update(_ bytes: UnsafeRawBufferPointer) {
      let done = EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
      precondition(done == 1, "a running hash takes bytes")
    }

    /// The digest of all bytes so far. The state takes no further bytes.
    func finish() -> [UInt8] {
      [UInt8](unsafeUninitializedCapacity: SHA256.byteCount) { buffer, count in
        let done = EVP_DigestFinal_ex(context, buffer.baseAddress, nil)
        precondition(done == 1, "a running hash can be finished")
        count = SHA256.byteCount
      }
    }
  #endif
}
