// Changing a file that is there: bytes behind its end first, then, once they are on the disk, a few bytes of it over.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Appends to a file and overwrites its head last, so that whatever stops the program, the head's old bytes or its new ones
/// stand before a file that holds what they speak of.
/// - Parameters:
///   - byteCount: the file's size as the caller knows it.
///   - tail: what goes behind its end.
///   - head: what its first bytes become.
/// - Throws: `SRC_CHANGED` when the file is no longer that long; `RequestError` cannot-create, io; the file is as it was then.
public func patchFile(_ path: String, byteCount: Int, tail: [UInt8], head: [UInt8]) throws {
  let descriptor = open(path, O_RDWR | O_CLOEXEC)
  guard descriptor >= 0 else {
    throw RequestError(.cannotCreate, "cannot write to '\(path)': \(Platform.lastError())")
  }
  defer { close(descriptor) }
  var status = stat()
  guard fstat(descriptor, &status) == 0, Int(status.st_size) == byteCount else {
    throw FormatError(.changed, file: path, "found \(Int(status.st_size)) bytes, expected \(byteCount)")
  }
  let isThere =
    tail.withUnsafeBytes { Platform.write(descriptor, $0, at: byteCount) }
    && Platform.syncData(descriptor) == 0
  guard isThere else {
    let reason = Platform.lastError()
    ftruncate(descriptor, off_t(byteCount))
    throw RequestError(
      .io, "cannot write '\(path)': \(reason)", help: "the file is as it was; free some space")
  }
  guard head.withUnsafeBytes({ Platform.write(descriptor, $0, at: 0) }), Platform.syncData(descriptor) == 0
  else {
    throw RequestError(.io, "cannot write '\(path)': \(Platform.lastError())")
  }
}
