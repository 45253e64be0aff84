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
/// - Throws: `SRC_CHANGED` when the file is no longer that long; `RequestError` cannot-create, io; the file is as it was then, or the
///   error says what it needs.
package func patchFile(_ path: String, byteCount: Int, tail: [UInt8], head: [UInt8]) throws {
  let descriptor = open(path, O_RDWR | O_CLOEXEC)
  guard descriptor >= 0 else {
    throw RequestError(.cannotCreate, "cannot write to '\(path)': \(Platform.lastError())")
  }
  defer { close(descriptor) }
  var status = stat()
  guard fstat(descriptor, &status) == 0, Int(status.st_size) == byteCount else {
    throw FormatError(.changed, file: path, "found \(Int(status.st_size)) bytes, expected \(byteCount)")
  }
  // SAFETY: all buffers are arrays that are lent for one call; `Platform` reads and writes exactly their bytes.
  var old = [UInt8](repeating: 0, count: min(head.count, byteCount))
  guard old.withUnsafeMutableBytes({ Platform.read(descriptor, $0, at: 0) }) else {
    throw RequestError(.io, "cannot read '\(path)': \(Platform.lastError())")
  }
  let isThere =
    tail.withUnsafeBytes { Platform.write(descriptor, $0, at: byteCount) }
    && Platform.syncData(descriptor) == 0
  if isThere, head.withUnsafeBytes({ Platform.write(descriptor, $0, at: 0) }),
    Platform.syncData(descriptor) == 0
  {
    return
  }
  let reason = Platform.lastError()
  // The head first: it must never speak of bytes that are gone. A disk that is full may take none of it back, and has taken
  // none of the new one then.
  var found = old
  let isOld =
    !isThere || old.withUnsafeBytes { Platform.write(descriptor, $0, at: 0) }
    || (found.withUnsafeMutableBytes { Platform.read(descriptor, $0, at: 0) } && found == old)
  let isBack = isOld && ftruncate(descriptor, off_t(byteCount)) == 0
  _ = Platform.syncData(descriptor)
  throw RequestError(
    .io, "cannot write '\(path)': \(reason)",
    help: isBack
      ? "the file is as it was"
      : "the file may have bytes behind its end: cut it to \(byteCount) bytes, then `smelt check` it")
}
