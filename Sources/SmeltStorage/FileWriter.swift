// Writing beside the target and renaming at the end: until `commit`, nothing stands under the final name, whatever
// stops the program.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// One file being written as `NAME.partial-PID` in the target's folder. Dropping it without `commit` removes it.
public struct FileWriter: ~Copyable {
  /// The path the file will have.
  public let path: String
  private let overwrite: Bool
  private let partial: String
  /// -1 once finished.
  private var descriptor: Int32
  private let blocks: WriteBehind

  /// The place where the next `write` goes, in bytes from the start.
  public var position: Int { blocks.position }

  /// Whether what was written stays beside the target when the writer is dropped.
  private var keepsPartial = false

  /// Where a result is written that can be gone on with: a name that the next run finds.
  public static func resumablePath(_ path: String) -> String { "\(path).partial" }

  /// Starts writing.
  /// - Parameter isResumable: whether the file beside the target has a name that another run can find.
  /// - Throws: `RequestError` cannot-create when `path` exists and `overwrite` is false, or its folder is not writable.
  public init(path: String, overwrite: Bool, isResumable: Bool = false) throws {
    let partial = isResumable ? FileWriter.resumablePath(path) : "\(path).partial-\(getpid())"
    descriptor = try FileWriter.create(path, partial, overwrite: overwrite)
    self.path = path
    self.overwrite = overwrite
    self.partial = partial
    blocks = WriteBehind(descriptor, at: 0)
  }

  private static func create(_ path: String, _ partial: String, overwrite: Bool) throws -> Int32 {
    try requireCreatable(path, overwrite: overwrite)
    // A leftover of this name is nobody's; what somebody else put there, a link perhaps, is not written through.
    unlink(partial)
    let descriptor = open(partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw RequestError(
        .cannotCreate, "cannot create '\(path)': \(Platform.lastError())",
        help: "the folder must exist and be writable")
    }
    return descriptor
  }

  /// Goes on with what another run left of `path`, after `position` bytes.
  /// - Throws: `RequestError` cannot-create; io when the file is not there, or is shorter.
  public init(resuming path: String, at position: Int, overwrite: Bool) throws {
    let partial = FileWriter.resumablePath(path)
    try requireCreatable(path, overwrite: overwrite)
    let opened = open(partial, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    var status = stat()
    guard opened >= 0, fstat(opened, &status) == 0, Int(status.st_size) >= position,
      ftruncate(opened, off_t(position)) == 0
    else {
      if opened >= 0 { close(opened) }
      throw RequestError(
        .io, "'\(partial)' is not what an interrupted run left",
        help: "remove it and the .journal beside it, and start again without --resume")
    }
    descriptor = opened
    self.path = path
    self.overwrite = overwrite
    self.partial = partial
    blocks = WriteBehind(opened, at: position)
    keepsPartial = true
  }

  /// From here on, what was written stays beside the target when the writer is dropped.
  public mutating func keepPartial() { keepsPartial = true }

  deinit {
    _ = blocks.drain()
    if descriptor >= 0 { close(descriptor) }
    if !keepsPartial { unlink(partial) }
  }

  /// Appends bytes. They are on their way to the disk when it returns; `sync` waits for them.
  /// - Throws: `RequestError` io with the system's reason (disk full, quota, input/output error), of this write or of one
  ///   before it.
  public mutating func write(_ bytes: UnsafeRawBufferPointer) throws { try check(blocks.append(bytes)) }

  private func check(_ code: Int32) throws {
    guard code == 0 else {
      throw RequestError(
        .io, "cannot write '\(path)': \(Platform.text(of: code))",
        help: "nothing was left under the final name; free some space and start again")
    }
  }

  /// Appends an array.
  public mutating func write(_ array: [UInt8]) throws {
    try array.withUnsafeBytes { try write($0) }
  }

  /// Writes zeros up to the next multiple of `alignment`.
  public mutating func pad(to alignment: Int) throws {
    let gap = (alignment - position % alignment) % alignment
    if gap > 0 { try write([UInt8](repeating: 0, count: gap)) }
  }

  /// Writes bytes at a place of their own, leaving `position` alone. Used for headers that are known last.
  public func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
    try check(blocks.drain())
    try check(Platform.write(descriptor, bytes, at: offset) ? 0 : errno)
  }

  /// Writes an array at a place of its own.
  public func write(_ array: [UInt8], at offset: Int) throws {
    try array.withUnsafeBytes { try write($0, at: offset) }
  }

  /// Waits until the data is on the disk.
  public func sync() throws {
    try check(blocks.drain())
    guard Platform.syncData(descriptor) == 0 else {
      throw RequestError(.io, "cannot flush '\(path)': \(Platform.lastError())")
    }
  }

  /// Syncs a file that is gone on with later, and holds no memory until then.
  /// - Throws: `RequestError` io.
  public func rest() throws {
    try sync()
    blocks.rest()
  }

  /// Syncs and closes a file that waits for others to be written before it is committed. Nothing can be appended any
  /// more.
  /// - Throws: `RequestError` io.
  public mutating func finish() throws {
    try sync()
    blocks.rest()
    close(descriptor)
    descriptor = -1
  }

  /// Syncs, renames to the final name, and syncs the folder: from here on the file is there, whole.
  /// - Throws: `RequestError` io; cannot-create when something took the final name since the start and `overwrite` is
  ///   false.
  public consuming func commit() throws {
    let path = path
    try commit(as: path)
  }

  /// Commits under another name than the one that the writing began with.
  /// - Throws: as `commit`.
  public consuming func commit(as path: String) throws {
    if descriptor >= 0 { try sync() }
    try requireCreatable(path, overwrite: overwrite)
    guard rename(partial, path) == 0 else {
      throw RequestError(.cannotCreate, "cannot rename to '\(path)': \(Platform.lastError())")
    }
    let folder = open(parentFolder(path), O_RDONLY | O_CLOEXEC)
    if folder >= 0 {
      fsync(folder)
      close(folder)
    }
  }
}

/// Writes a whole small file beside its target and renames it.
public func writeFile(_ path: String, _ array: [UInt8], overwrite: Bool) throws {
  var writer = try FileWriter(path: path, overwrite: overwrite)
  try writer.write(array)
  try writer.commit()
}
