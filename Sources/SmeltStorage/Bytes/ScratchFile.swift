// Numbers that temporarily do not fit into memory: a file without a name, which the system removes with the process,
// however that ends.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A temporary file that is read and written by place. Its name is gone as soon as it is open, so that nothing is left
/// behind by an error, a signal or a crash.
package final class ScratchFile {
  private let descriptor: Int32
  private let folder: String
  /// The end of the furthest write, in bytes.
  package private(set) var byteCount = 0

  /// Where large temporary files go that belong beside no result: `TMPDIR`, else `/var/tmp`, which is on a disk where `/tmp`
  /// may be in memory.
  package static var temporaryFolder: String { getenv("TMPDIR").map { String(cString: $0) } ?? "/var/tmp" }

  /// Makes a file in `folder`, or in a folder for temporary files where that is not writable.
  /// - Throws: `RequestError` cannot-create.
  package init(in folder: String) throws {
    let temporary = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    for place in [folder, ScratchFile.temporaryFolder, temporary] {
      var template = Array(joinPath(place, ".smelt-XXXXXX").utf8CString)
      // SAFETY: the template ends with a zero byte and is never empty; `mkstemp` rewrites its six X.
      let made = template.withUnsafeMutableBufferPointer { mkstemp($0.baseAddress!) }
      guard made >= 0 else { continue }
      unlink(template)
      _ = fcntl(made, F_SETFD, FD_CLOEXEC)
      self.descriptor = made
      self.folder = place
      return
    }
    throw RequestError(
      .cannotCreate, "cannot make a temporary file in '\(folder)' or '\(temporary)': \(Platform.lastError())",
      help: "set TMPDIR to a folder with room, or allow more with --max-memory")
  }

  deinit { close(descriptor) }

  /// Writes bytes at a place.
  /// - Throws: `RequestError` io with the system's reason, such as a full disk.
  package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
    guard Platform.write(descriptor, bytes, at: offset) else {
      throw RequestError(
        .io, "cannot write a temporary file in '\(folder)': \(Platform.lastError())",
        help: "free some space there, or allow more with --max-memory")
    }
    byteCount = max(byteCount, offset + bytes.count)
  }

  /// Sends what was written to the disk.
  /// - Throws: `RequestError` io.
  package func sync() throws {
    guard Platform.syncData(descriptor) == 0 else {
      throw RequestError(.io, "cannot write a temporary file in '\(folder)': \(Platform.lastError())")
    }
  }

  /// Reads bytes that were written before.
  /// - Throws: `RequestError` io.
  package func read(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws {
    // SAFETY: reads no more than is left of the caller's buffer, whose address exists where it has bytes.
    var done = 0
    while done < bytes.count {
      let step = pread(
        descriptor, bytes.baseAddress! + done, min(bytes.count - done, 1 << 30), off_t(offset + done))
      if step < 0 && errno == EINTR { continue }
      guard step > 0 else {
        throw RequestError(
          .io, "cannot read a temporary file in '\(folder)': \(step < 0 ? Platform.lastError() : "it ended")")
      }
      done += step
    }
  }
}
