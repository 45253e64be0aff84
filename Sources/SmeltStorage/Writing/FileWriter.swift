// Writing beside the target and renaming at the end: until `commit`, nothing stands under the final name, whatever
// stops the program.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What was written, for a list of files.
package struct WrittenFile: Sendable, Hashable {
  /// The file's size.
  package var byteCount: Int
  /// The sum of its bytes, of the kind that was asked for; nil when they were not summed on their way.
  package var sum: UInt64?

  /// A file of so many bytes.
  package init(byteCount: Int, sum: UInt64?) {
    self.byteCount = byteCount
    self.sum = sum
  }
}

/// One file being written as `NAME.partial-PID` in the target's folder. Dropping it without `commit` removes it.
package struct FileWriter: ~Copyable {
  /// The path the file will have.
  package let path: String
  private let replacement: Replacement
  private let partial: String
  /// -1 once finished.
  private var descriptor: Int32
  private let blocks: WriteBehind
  /// The file that is written, whatever its name leads to by now.
  private let identity: FileIdentity
  /// What it was when it was closed.
  private var finished: FileStamp?

  /// The place where the next `write` goes, in bytes from the start.
  package var position: Int { blocks.position }

  /// Whether what was written stays beside the target when the writer is dropped.
  private var keepsPartial = false

  /// Where a result is written that can be resumed: a name that the next run finds.
  package static func resumablePath(_ path: String) -> String { "\(path).partial" }

  /// The names that a file has while it is written, in the order in which they are tried.
  static func partialNames(_ path: String) -> [String] {
    let ending = ".partial-\(getpid())"
    let name = fileName(path)
    // Names that leave no room for the ending, and a number behind it, are cut; the number tells two of one beginning apart.
    let room = longestName - ending.utf8.count - 3
    guard name.utf8.count > room else { return names(path + ending) }
    var short = name
    while short.utf8.count > room { short.removeLast() }
    return names(joinPath(parentFolder(path), short + ending))
  }

  /// The most bytes that a name may have on the file systems of today.
  private static let longestName = 255

  /// A name, and others for the case that it is taken.
  static func names(_ name: String) -> [String] { [name] + (2...99).map { "\(name)-\($0)" } }

  /// Starts writing.
  /// - Parameters:
  ///   - replacement: what at `path` the file may take the place of.
  ///   - isResumable: whether the file beside the target has a name that another run can find.
  ///   - sum: how the bytes are summed on their way.
  /// - Throws: `RequestError` cannot-create when `path` exists and is not to be replaced, or its folder is not writable.
  package init(
    path: String, replacing replacement: Replacement, isResumable: Bool = false, sum: FileSum = .none
  ) throws {
    try requireCreatable(path, replacing: replacement)
    let made = try FileWriter.create(path, isResumable: isResumable)
    (partial, descriptor, identity) = (made.partial, made.descriptor, made.identity)
    ResultLock.note(partial, identity, isResumable: isResumable)
    ResultLock.noteBeside(path, identity)
    self.path = path
    self.replacement = replacement
    blocks = WriteBehind(descriptor, at: 0, sum: RunningSum(sum))
  }

  /// The same where any file at `path` may be replaced, or none: for names that no user gives.
  /// - Throws: as above.
  package init(path: String, overwrite: Bool, isResumable: Bool = false) throws {
    try self.init(path: path, replacing: overwrite ? .anyFile : .nothing, isResumable: isResumable)
  }

  private static func create(_ path: String, isResumable: Bool) throws -> (
    partial: String, descriptor: Int32, identity: FileIdentity
  ) {
    // What somebody else put there, a link perhaps, is neither removed nor written through.
    for name in isResumable ? [resumablePath(path)] : partialNames(path) {
      // What a killed run left is useless once the work starts again.
      if isResumable, ResultLock.owns(name) { unlink(name) }
      ResultLock.announce(name)
      let descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
      if descriptor >= 0 {
        var status = stat()
        if fstat(descriptor, &status) == 0 { return (name, descriptor, FileStamp(status).identity) }
        let reason = Platform.lastError()
        close(descriptor)
        unlink(name)
        throw RequestError(.io, "cannot look at '\(name)': \(reason)")
      }
      guard errno == EEXIST else { break }
      guard !isResumable else {
        throw RequestError(
          .cannotCreate, "'\(name)' exists, and '\(path)' would be written there",
          help:
            "if an interrupted run left it, resume that with --resume or remove the file; else move it away")
      }
    }
    throw RequestError(
      .cannotCreate, "cannot create '\(path)': \(Platform.lastError())",
      help: "the folder must exist and be writable")
  }

  /// Continues the file that an interrupted run left of `path`, after `position` bytes.
  /// - Parameters:
  ///   - sum: how those bytes are summed, and all that follow.
  ///   - expected: their sum; nil where they were checked otherwise.
  /// - Throws: `RequestError` cannot-create; io when the file is not there, or is shorter; `RESUME_MISMATCH` when the bytes have
  ///   another sum.
  package init(
    resuming path: String, at position: Int, replacing replacement: Replacement, sum: FileSum = .none,
    expecting expected: UInt64? = nil
  ) throws {
    let partial = FileWriter.resumablePath(path)
    try requireCreatable(path, replacing: replacement)
    var running = RunningSum(sum)
    if let expected {
      guard try running.add(contentsOf: partial, first: position) == position, running.value == expected
      else {
        throw FormatError(
          .resumeMismatch, file: partial, "its first \(position) bytes are not those that were written")
      }
    }
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
    identity = FileStamp(status).identity
    ResultLock.note(partial, identity, isResumable: true)
    self.path = path
    self.replacement = replacement
    self.partial = partial
    blocks = WriteBehind(opened, at: position, sum: running)
    keepsPartial = true
  }

  /// Takes a file from elsewhere on the same disk, which gets a second name, or is copied where it can have none.
  /// - Throws: `RequestError` cannot-create, io.
  package static func adopting(_ source: String, as path: String, replacing replacement: Replacement) throws
    -> FileWriter
  {
    try requireCreatable(path, replacing: replacement)
    for name in partialNames(path) {
      ResultLock.announce(name)
      guard link(source, name) == 0 else {
        if errno == EEXIST { continue }
        break
      }
      let descriptor = open(name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW)
      var status = stat()
      guard descriptor >= 0, fstat(descriptor, &status) == 0 else {
        let reason = Platform.lastError()
        if descriptor >= 0 { close(descriptor) }
        unlink(name)
        throw RequestError(.io, "cannot open '\(name)': \(reason)")
      }
      return FileWriter(adopted: name, descriptor, status, path, replacement)
    }
    var writer = try FileWriter(path: path, replacing: replacement)
    _ = try writer.append(contentsOf: source, sum: .none)
    return writer
  }

  private init(
    adopted partial: String, _ descriptor: Int32, _ status: stat, _ path: String, _ replacement: Replacement
  ) {
    self.path = path
    self.replacement = replacement
    self.partial = partial
    self.descriptor = descriptor
    identity = FileStamp(status).identity
    blocks = WriteBehind(descriptor, at: Int(status.st_size))
    ResultLock.note(partial, identity)
  }

  /// From here on, what was written stays beside the target when the writer is dropped.
  package mutating func keepPartial() { keepsPartial = true }

  /// From here on, what was written is removed when the writer is dropped, whatever `keepPartial` asked for.
  package mutating func dropPartial() { keepsPartial = false }

  deinit {
    _ = blocks.drain()
    // Only what this writer made: the name may lead to something else by now.
    if !keepsPartial, FileStamp(path: partial)?.identity == identity { unlink(partial) }
    if descriptor >= 0 { close(descriptor) }
  }

  /// Appends bytes. They are on their way to the disk when it returns; `sync` waits for them.
  /// - Throws: `RequestError` io with the system's reason (disk full, quota, input/output error), of this write or of one
  ///   before it.
  ///
  /// Lent bytes are copied before it returns; the caller may reuse them.
  package mutating func write(_ bytes: UnsafeRawBufferPointer) throws { try check(blocks.append(bytes)) }

  private func check(_ code: Int32) throws {
    guard code == 0 else {
      throw RequestError(
        .io, "cannot write '\(path)': \(Platform.text(of: code))",
        help: "nothing was left under the final name; free some space and start again")
    }
  }

  /// Appends an array.
  package mutating func write(_ array: [UInt8]) throws {
    try array.withUnsafeBytes { try write($0) }
  }

  /// Appends a whole file.
  /// - Returns: how many bytes there were, and their sum.
  /// - Throws: `RequestError` io, interrupted.
  package mutating func append(contentsOf path: String, sum: FileSum) throws -> (byteCount: Int, sum: UInt64)
  {
    var running = RunningSum(sum)
    let count = try running.add(contentsOf: path, first: .max) { try write($0) }
    return (count, running.value ?? 0)
  }

  /// Writes zeros up to the next multiple of `alignment`.
  package mutating func pad(to alignment: Int) throws {
    let gap = (alignment - position % alignment) % alignment
    if gap > 0 { try write([UInt8](repeating: 0, count: gap)) }
  }

  /// Writes bytes at a place of their own, leaving `position` alone. Used for headers that are known last; not for a file whose
  /// bytes are summed on their way.
  package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
    try check(blocks.drain())
    precondition(blocks.sum == nil, "the bytes were summed already")
    try check(Platform.write(descriptor, bytes, at: offset) ? 0 : errno)
  }

  /// Writes an array at a place of its own.
  package func write(_ array: [UInt8], at offset: Int) throws {
    try array.withUnsafeBytes { try write($0, at: offset) }
  }

  /// The sum of all bytes so far; nil where they are not summed.
  package var sum: UInt64? { blocks.sum }

  /// Waits until the data is on the disk.
  package func sync() throws {
    try check(blocks.drain())
    guard Platform.syncData(descriptor) == 0 else {
      throw RequestError(.io, "cannot flush '\(path)': \(Platform.lastError())")
    }
  }

  /// Syncs a file that is resumed later, and holds no memory until then.
  /// - Throws: `RequestError` io.
  package func rest() throws {
    try sync()
    blocks.rest()
  }

  /// Syncs and closes a file that waits for others to be written before it is committed. Nothing can be appended any
  /// more.
  /// - Throws: `RequestError` io.
  package mutating func finish() throws {
    try sync()
    blocks.rest()
    var status = stat()
    if fstat(descriptor, &status) == 0 { finished = FileStamp(status) }
    close(descriptor)
    descriptor = -1
  }

  /// Syncs, renames to the final name, and syncs the folder: from here on the file is there, whole.
  /// - Throws: `RequestError` io; cannot-create when something took the final name since the start that is not to be replaced, or
  ///   the partial's.
  @discardableResult
  package consuming func commit() throws -> WrittenFile {
    let path = path
    return try commit(as: path)
  }

  /// Commits under another name than the one that the writing began with.
  /// - Throws: as `commit`.
  @discardableResult
  package consuming func commit(as path: String) throws -> WrittenFile {
    if descriptor >= 0 { try sync() }
    try requireCreatable(path, replacing: replacement)
    // A name is only a name: what it leads to now must be the file that was written.
    let found = FileStamp(path: partial)
    guard found?.identity == identity, finished?.isSameFile(found) ?? true else {
      throw RequestError(
        .cannotCreate, "'\(partial)' is no longer the file that was written, and '\(path)' is not made of it",
        help: "another program took it away or put a file in its place; start again")
    }
    let code: Int32
    switch replacement {
    case .nothing: code = Platform.renameNew(partial, path)
    case .sameBytes:
      let taken = Platform.renameNew(partial, path)
      // The file that is there stays; the one that was written goes with this writer.
      code = try taken == EEXIST && FileWriter.haveSameBytes(partial, path) ? 0 : taken
      guard code != EEXIST else {
        throw RequestError(
          .cannotCreate, "'\(path)' exists, and is not what would be written there",
          help: "move it away: it is not replaced, whoever wrote it")
      }
    case .only, .anyFile: code = rename(partial, path) == 0 ? 0 : errno
    }
    guard code == 0 else {
      throw RequestError(
        .cannotCreate,
        code == EEXIST ? "'\(path)' exists by now" : "cannot rename to '\(path)': \(Platform.text(of: code))")
    }
    // Two names of one file: the system leaves both where one is to replace the other.
    if FileStamp(path: partial)?.identity == identity { unlink(partial) }
    Platform.syncFolder(parentFolder(path))
    return WrittenFile(byteCount: blocks.position, sum: blocks.sum)
  }
}

extension FileWriter {
  /// Whether two files are the same as far as size and XXH64 tell.
  private static func haveSameBytes(_ a: String, _ b: String) throws -> Bool {
    try FileSum.xxh64.contents(of: a) == FileSum.xxh64.contents(of: b)
  }

  /// Takes the name from a file that was committed: it is what an interrupted run would have left.
  package static func withdraw(_ path: String) { rename(path, resumablePath(path)) }
}

/// Writes a whole small file beside its target and renames it.
/// - Throws: as `FileWriter`.
package func writeFile(_ path: String, _ array: [UInt8], replacing replacement: Replacement) throws {
  var writer = try FileWriter(path: path, replacing: replacement)
  try writer.write(array)
  try writer.commit()
}

/// Writes a whole small file in the place of any file, or of none: for names that no user gives.
/// - Throws: as `FileWriter`.
package func writeFile(_ path: String, _ array: [UInt8], overwrite: Bool) throws {
  try writeFile(path, array, replacing: overwrite ? .anyFile : .nothing)
}
