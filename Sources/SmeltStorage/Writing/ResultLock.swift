// One run a result: a lock beside it, taken before the work begins. The lock is also the list of what the run has put beside
// its result, so that the next run can tell what a killed one left from what is somebody else's. Formats/manifest.md, section 4.

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// `X.lock` beside the result X, held with `flock` as long as the run works on X: the system lets go of it with the process,
/// however that ends.
package final class ResultLock: Sendable {
  /// The first line of a lock.
  package static let schema = "smelt.lock/1"

  /// The path of the lock.
  let path: String
  /// What paths beside the result begin with: the result's without `.ingot` and `.gguf`.
  private let stem: String
  private let result: String
  /// The same with its folder's links resolved.
  private let place: String
  private let descriptor: Int32
  private let identity: FileIdentity
  /// What a run that was killed left for `--resume`.
  private let inherited = Mutex<[LockEntry]>([])

  /// The locks that this process holds.
  private static let held = Mutex<[ResultLock]>([])

  /// Works on results while no other run does.
  /// - Parameters:
  ///   - results: the results' paths.
  ///   - verb: the command, for those who find the lock.
  ///   - report: is given lines about what was found of runs that were killed.
  /// - Throws: `RequestError` cannot-create when another run holds a lock, naming it, or when a file that is not a lock is in the
  ///   place of one; what `body` throws.
  package static func holding<T>(
    _ results: [String], verb: String, report: (String) -> Void, _ body: () throws -> T
  ) throws -> T {
    var locks: [ResultLock] = []
    defer { for lock in locks.reversed() { lock.release() } }
    for result in results { locks.append(try ResultLock(result, verb: verb, report: report)) }
    return try body()
  }

  /// The result that a lock's name is made of: all parts of a split result share one.
  static func name(_ result: String) -> String {
    let path = withoutSlash(result)
    for ending in [".ingot", ".gguf"] where path.hasSuffix(ending) {
      let stem = path.dropLast(ending.count)
      let part = stem.suffix("-00001-of-00001".count)
      if part.count == 15, matchesGlob("-?????-of-?????", String(part)),
        part.allSatisfy({ "-of".contains($0) || ("0"..."9").contains($0) })
      {
        return stem.dropLast(15) + ending
      }
    }
    return path
  }

  private init(_ result: String, verb: String, report: (String) -> Void) throws {
    try requireName(result)
    let name = ResultLock.name(result)
    let path = "\(name).lock"
    let place = ResultLock.resolved(name)
    for other in ResultLock.held.withLock({ $0 }) { try ResultLock.requireApart(place, other.place, result) }
    let content = LockContent(verb: verb, result: fileName(result))
    let (made, earlier) = try ResultLock.take(path, result, content)
    self.path = path
    self.place = place
    self.result = name
    stem = [".ingot", ".gguf"].first { name.hasSuffix($0) }.map { String(name.dropLast($0.count)) } ?? name
    descriptor = made.descriptor
    identity = made.identity
    ResultLock.held.withLock { $0.append(self) }
    let kept = Leftovers(earlier, parentFolder(path), result: name).tidy(result: name, report: report)
    inherited.withLock { $0 = kept }
    for entry in kept { write(entry) }
    Leftovers.removeLocks(path, report: report)
    Leftovers.reportUnknown(name, stem: stem, report: report)
  }

  private static func resolved(_ path: String) -> String {
    joinPath(resolvedPath(parentFolder(path)) ?? parentFolder(path), fileName(path))
  }

  /// Refuses two outputs of one command of which one has the other's name, or a name that the other uses for itself.
  private static func requireApart(_ a: String, _ b: String, _ result: String) throws {
    if a == b {
      throw RequestError(
        .usage, "'\(result)' is written by this command already", help: "give each output a name of its own")
    }
    let endings = [".partial", ".prepared", ".replaced-", ".lock", ".journal"]
    for (long, short) in [(a, b), (b, a)] where long.hasPrefix(short) {
      let rest = long.dropFirst(short.count)
      guard endings.contains(where: { rest.hasPrefix($0) }) else { continue }
      throw RequestError(
        .usage, "'\(long)' is a name that smelt uses itself while it writes '\(short)'",
        help: "choose another name")
    }
  }

  /// Takes the lock's file, made new or left by a run that is over.
  private static func take(_ path: String, _ result: String, _ content: LockContent) throws -> (
    (descriptor: Int32, identity: FileIdentity), earlier: [LockEntry]
  ) {
    // Each round that fails means that another run let go of the lock at that moment.
    for _ in 0..<100 {
      guard let found = FileStamp(path: path) else {
        if let made = try make(path, content, replaces: false) { return (made, []) }
        continue
      }
      guard found.isFile, found.byteCount <= 64 << 20 else { throw foreign(path, result) }
      let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
      guard descriptor >= 0 else {
        if errno == ENOENT { continue }
        throw foreign(path, result)
      }
      defer { close(descriptor) }
      let isHeld = flock(descriptor, LOCK_EX | LOCK_NB) != 0
      let code = errno
      guard let left = LockContent(reading: descriptor) else {
        if isHeld && code == EWOULDBLOCK { throw busy(result, nil) }
        throw foreign(path, result)
      }
      // A disk without such locks has the word of the file alone.
      if isHeld, code == EWOULDBLOCK || left.isAlive { throw busy(result, left) }
      var status = stat()
      guard fstat(descriptor, &status) == 0, FileStamp(path: path)?.identity == FileStamp(status).identity
      else { continue }
      // Made beside it and put in its place, so that the file is never there without its first line.
      if let made = try make(path, content, replaces: true) { return (made, left.entries) }
    }
    throw busy(result, nil)
  }

  /// A new lock, held and with its first line before it has its name.
  /// - Returns: nil when another run was faster.
  private static func make(_ path: String, _ content: LockContent, replaces: Bool) throws -> (
    descriptor: Int32, identity: FileIdentity
  )? {
    func refusal() -> RequestError {
      RequestError(
        .cannotCreate, "cannot create '\(path.dropLast(".lock".count))': \(Platform.lastError())",
        help: "the folder must exist and be writable")
    }
    for name in FileWriter.names("\(path)-\(getpid())") {
      let descriptor = open(name, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0o644)
      guard descriptor >= 0 else {
        if errno == EEXIST { continue }
        throw refusal()
      }
      _ = flock(descriptor, LOCK_EX | LOCK_NB)
      var status = stat()
      guard fstat(descriptor, &status) == 0, append(descriptor, content.line) else {
        let error = refusal()
        unlink(name)
        close(descriptor)
        throw error
      }
      let code = replaces ? (rename(name, path) == 0 ? 0 : errno) : Platform.renameNew(name, path)
      if code == 0 { return (descriptor, FileStamp(status).identity) }
      unlink(name)
      close(descriptor)
      if code == EEXIST { return nil }
      errno = code
      throw refusal()
    }
    throw refusal()
  }

  private static func busy(_ result: String, _ holder: LockContent?) -> RequestError {
    let who = holder.map { ": \($0.words)" } ?? ""
    return RequestError(
      .cannotCreate, "'\(result)' is being written by another run\(who)",
      help: "wait for it to end, or choose another name")
  }

  private static func foreign(_ path: String, _ result: String) -> RequestError {
    RequestError(
      .cannotCreate, "'\(path)' is not a Smelt lock, and has the name of the one for '\(result)'",
      help: "move it away, or choose another name for the result")
  }

  private static func append(_ descriptor: Int32, _ line: JSON) -> Bool {
    let bytes = Array((line.text() + "\n").utf8)
    return bytes.withUnsafeBytes { Platform.append(descriptor, $0) }
  }

  private func write(_ entry: LockEntry) { _ = ResultLock.append(descriptor, entry.json) }

  /// Lets go of the lock and removes it, unless it still lists what a killed run left.
  private func release() {
    ResultLock.held.withLock { $0.removeAll { $0 === self } }
    let folder = parentFolder(path)
    let isNeeded = inherited.withLock { entries in
      entries.contains { $0.isMade(FileStamp(path: $0.path(in: folder))) }
    }
    if !isNeeded, FileStamp(path: path)?.identity == identity { unlink(path) }
    close(descriptor)
  }

  /// Whether a file is one that a killed run left beside a result whose lock this process holds.
  static func owns(_ path: String) -> Bool {
    guard let found = FileStamp(path: path), found.isFile else { return false }
    return held.withLock { $0 }.contains { lock in
      lock.inherited.withLock { entries in
        entries.contains { $0.isMade(found) && $0.path(in: parentFolder(lock.path)) == path }
      }
    }
  }

  /// Removes what a killed run left beside a result whose lock this process holds and no journal speaks of any more.
  package static func tidy(_ result: String, report: (String) -> Void) {
    let name = ResultLock.name(result)
    for lock in held.withLock({ $0 }) where lock.result == name {
      let left = lock.inherited.withLock { $0 }
      let kept = Leftovers(left, parentFolder(lock.path), result: name).tidy(result: name, report: report)
      lock.inherited.withLock { $0 = kept }
    }
  }

  /// Whether a file or folder is one that a killed run made, by this name or by one that it had before.
  static func inherits(_ path: String, _ found: FileStamp) -> Bool {
    held.withLock { $0 }.contains { lock in
      lock.inherited.withLock { entries in
        entries.contains { entry in
          entry.isMade(found) && (entry.identity != nil || entry.path(in: parentFolder(lock.path)) == path)
        }
      }
    }
  }

  // MARK: what a run puts beside its result

  /// Notes a file or folder that this run made beside a result whose lock it holds; does nothing for others.
  /// - Parameters:
  ///   - isResumable: whether it stays for `--resume`, as long as the result's journal names it.
  ///   - journal: the journal, where it is not the result's.
  ///   - restores: the path that it had before, where it must go back if that is free.
  static func note(
    _ path: String, _ identity: FileIdentity?, isResumable: Bool = false, journal: String? = nil,
    restores: String? = nil
  ) {
    for lock in held.withLock({ $0 }) where path.hasPrefix(lock.stem) {
      let folder = parentFolder(lock.path)
      func relative(_ path: String) -> String {
        folder != "." && path.hasPrefix("\(folder)/") ? String(path.dropFirst(folder.count + 1)) : path
      }
      let named = journal ?? (isResumable ? "\(lock.result).journal" : nil)
      lock.write(
        LockEntry(
          name: relative(path), identity: identity, journal: named.map(relative),
          restores: restores.map(relative)))
    }
  }

  /// Says that this run is about to make a file or a folder where nothing is: killed before it can say which one it made, it has
  /// left something empty.
  static func announce(_ path: String) {
    if FileStamp(path: path) == nil { note(path, nil) }
  }

  /// Notes the final name of a file that serves this run only, before it has that name.
  static func noteBeside(_ path: String, _ identity: FileIdentity) {
    if held.withLock({ $0 }).contains(where: { lock in
      [".partial-", ".prepared.partial-"].contains { path.hasPrefix(lock.result + $0) }
    }) {
      note(path, identity)
    }
  }

  /// Notes what lies at a path by now, which this run made.
  /// - Parameter journal: the journal that says whether another run can use it; nil: it is of no use to another.
  package static func note(_ path: String, journal: String? = nil) {
    if let stamp = FileStamp(path: path) { note(path, stamp.identity, journal: journal) }
  }
}
