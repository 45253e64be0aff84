// A file mapped read-only for as long as the object lives. The size is looked at before mapping, and size and time
// again on request. A page that cannot be read (the file was cut short, the disk failed) ends the process with an error. A file of a
// mounted folder is not mapped but fetched.

internal import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A regular file whose pages are addressable; none is read before it is touched.
package final class MappedFile: @unchecked Sendable {
  // SAFETY: all stored properties are constants. `base` is a private read-only mapping of `size` bytes, removed in `deinit`, when no
  // `Bytes` holds the object. The note for the fault handler is made after the mapping and removed before it. The kernel gives
  // SIGBUS, not other bytes, for pages behind the end of a file that became shorter (`MappedFaults`).
  /// The path it was opened by.
  package let path: String
  /// The file's name without its folders, for messages.
  package let name: String
  /// Device and inode, to tell whether two paths are one file.
  package let identity: FileIdentity
  private let base: UnsafeMutableRawPointer?
  private let size: Int
  private let modified: Int64
  /// The file of a mounted folder that stands behind this one; nil of a file on this machine.
  private let paged: (any PagedFile)?
  /// What the handler of unreadable pages knows of this file.
  private let noted: OpaquePointer?
  /// When the file was changed last, in nanoseconds of the system's clock.
  package var changed: Int { Int(modified) }

  /// Maps `path`.
  /// - Throws: `SRC_MISSING`, `SRC_NOT_FILE`, or a `RequestError` of kind io when the system refuses.
  package init(path: String) throws {
    self.path = path
    self.name = fileName(path)
    // Looked at before it is opened: opening a device can do something, and a pipe can wait.
    guard !path.isEmpty else { throw RequestError(.usage, "the path of a file is empty") }
    if let file = try Mounts.open(path) {
      (paged, base, noted) = (file, nil, nil)
      (size, modified, identity) = (file.count, 0, file.identity)
      return
    }
    paged = nil
    let kind = pathKind(path)
    guard kind != .directory && kind != .other else {
      throw FormatError(.notFile, file: path, "found \(kind.words), expected a regular file")
    }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      if errno == ENOENT || errno == ENOTDIR {
        throw FormatError(.missingFile, file: path, "there is no such file")
      }
      throw RequestError(.io, "cannot open '\(path)': \(Platform.lastError())")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw RequestError(.io, "cannot look at '\(path)': \(Platform.lastError())")
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FormatError(
        .notFile, file: path, "found \(PathKind(status.st_mode).words), expected a regular file")
    }
    size = Int(status.st_size)
    modified = Platform.modified(status)
    identity = FileIdentity(device: UInt64(truncatingIfNeeded: status.st_dev), inode: UInt64(status.st_ino))
    guard size > 0 else {
      (base, noted) = (nil, nil)
      return
    }
    guard let mapped = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), mapped != MAP_FAILED else {
      throw RequestError(.io, "cannot map '\(path)': \(Platform.lastError())")
    }
    base = mapped
    noted = sk_mapping_add(
      mapped, size, path, printable(path), Int64(size), modified, identity.device, identity.inode)
  }

  deinit {
    sk_mapping_remove(noted)
    if let base { munmap(base, size) }
  }

  /// All bytes of the file.
  package var bytes: Bytes {
    if let paged { return Bytes(fetching: paged) }
    return Bytes(owner: self, pointer: base.map { UnsafeRawPointer($0) }, count: size)
  }

  /// The file's size in bytes when it was mapped.
  package var count: Int { size }

  /// Throws `SRC_CHANGED` when the file's size or time is no longer what it was at the start.
  package func checkUnchanged() throws(FormatError) {
    if let paged { return try paged.checkUnchanged() }
    var status = stat()
    guard stat(path, &status) == 0 else {
      throw FormatError(.changed, file: path, "the file is gone; it was there when the work began")
    }
    if Int(status.st_size) != size || Platform.modified(status) != modified {
      throw FormatError(
        .changed, file: path,
        "found \(Int(status.st_size)) bytes, expected \(size) with the time of the start")
    }
  }

  /// Lets the system take back the pages around a range. Rounds outward to the largest run of pages that one fault
  /// maps (2 MiB, a large folio): neighbours that came along would never be given back, and coming back costs one fault.
  func evict(_ start: UnsafeRawPointer, _ length: Int) {
    // SAFETY: `start` is an address of this mapping (`Bytes.evict` passes its own). Private pages that nobody wrote to come back
    // from the file with the same bytes, so readers on other threads notice nothing.
    guard let base, length > 0 else { return }
    let granule = 2 << 20
    let first = (start - UnsafeRawPointer(base)) / granule * granule
    let last = min(size, ((start - UnsafeRawPointer(base)) + length + granule - 1) / granule * granule)
    madvise(base + first, last - first, MADV_DONTNEED)
  }

  /// Begins to read the pages of a range; returns without waiting for them.
  func willNeed(_ start: UnsafeRawPointer, _ length: Int) {
    guard let base, length > 0 else { return }
    let page = 16384  // a multiple of every page size there is
    let first = (start - UnsafeRawPointer(base)) / page * page
    madvise(base + first, (start - UnsafeRawPointer(base)) + length - first, MADV_WILLNEED)
  }
}
