// Files for tests that write thousands: no sync, no rename.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Puts these bytes at `path`, whatever is there.
func writeRaw(_ path: String, _ bytes: [UInt8]) {
  guard let file = fopen(path, "wb") else { preconditionFailure("cannot write \(path)") }
  defer { fclose(file) }
  precondition(fwrite(bytes, 1, bytes.count, file) == bytes.count)
}
