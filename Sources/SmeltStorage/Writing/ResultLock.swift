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
public final class ResultLock: Sendable {
  /// The first line of a lock.
  public static let schema = "smelt.lock/1"

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
  public static func holding<T>(
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
    if held.withLock({ $0 }).contains(where: { path.hasPrefix("\($0.result).partial-") }) {
      note(path, identity)
    }
  }

  /// Notes what lies at a path by now, which this run made.
  /// - Parameter journal: the journal that says whether another run can use it; nil: it is of no use to another.
  public static func note(_ path: String, journal: String? = nil) {
    if let stamp = FileStamp(path: path) { note(path, stamp.identity, journal: journal) }
  }
}

/// Who holds a lock, and what that run has made.
struct LockContent {
  let process: Int
  let host: String
  let verb: String
  let start: String
  let result: String
  var entries: [LockEntry] = []

  /// This run's.
  init(verb: String, result: String) {
    process = Int(getpid())
    host = LockContent.hostName
    self.verb = verb
    self.result = result
    var now = time(nil)
    var parts = tm()
    gmtime_r(&now, &parts)
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    start =
      "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T"
      + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
  }

  /// Nil for a file that is not a lock. A last line that was cut short is left out.
  init?(reading descriptor: Int32) {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      // SAFETY: not empty, and read into for its own count at most
      let count = buffer.withUnsafeMutableBytes {
        pread(descriptor, $0.baseAddress!, $0.count, off_t(bytes.count))
      }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { break }
      bytes += buffer[..<count]
    }
    let lines = bytes.split(separator: 0x0A, omittingEmptySubsequences: false).dropLast()
    guard let first = lines.first, let json = try? JSON.scan(Bytes(Array(first))),
      json["schema"]?.string == ResultLock.schema, let process = json["process"]?.integer,
      let host = json["host"]?.string, let verb = json["verb"]?.string, let start = json["start"]?.string,
      let result = json["result"]?.string
    else { return nil }
    (self.process, self.host, self.verb, self.start, self.result) = (process, host, verb, start, result)
    entries = lines.dropFirst().compactMap { line in
      (try? JSON.scan(Bytes(Array(line)))).flatMap { LockEntry($0) }
    }
  }

  var line: JSON {
    [
      "schema": JSON(ResultLock.schema), "process": JSON(process), "host": JSON(host), "verb": JSON(verb),
      "start": JSON(start), "result": JSON(result),
    ]
  }

  /// For the run that finds the lock.
  var words: String { "smelt \(verb), process \(process) on \(host), since \(start)" }

  /// Whether the process is there, as far as this machine can tell; another machine's is taken to be.
  var isAlive: Bool {
    guard host == LockContent.hostName else { return true }
    guard let process = pid_t(exactly: process), process > 0 else { return false }
    return kill(process, 0) == 0 || errno != ESRCH
  }

  private static var hostName: String {
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, name.count - 1) == 0 else { return "unknown" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// Something that a run made beside its result.
struct LockEntry {
  /// The path from the lock's folder.
  let name: String
  /// Nil for what the run was about to make.
  let identity: FileIdentity?
  let journal: String?
  let restores: String?

  init(name: String, identity: FileIdentity?, journal: String?, restores: String?) {
    (self.name, self.identity, self.journal, self.restores) = (name, identity, journal, restores)
  }

  init?(_ json: JSON) {
    guard let name = json["name"]?.string else { return nil }
    func number(_ key: String) -> UInt64? { json[key]?.string.flatMap { UInt64($0) } }
    let isAnnounced = json["device"] == nil && json["inode"] == nil
    var identity: FileIdentity?
    if let device = number("device"), let inode = number("inode") {
      identity = FileIdentity(device: device, inode: inode)
    }
    guard isAnnounced || identity != nil else { return nil }
    self.init(
      name: name, identity: identity, journal: json["journal"]?.string, restores: json["restores"]?.string)
  }

  /// Whether a run that writes `result` gives such names: beside it, of the forms of Formats/manifest.md, section 5.
  func belongs(to result: String) -> Bool {
    guard LockEntry.isOwn(name, of: result), journal.map({ LockEntry.isOwn($0, of: result) }) ?? true else {
      return false
    }
    return restores.map { $0 == result } ?? true
  }

  private static func isOwn(_ name: String, of result: String) -> Bool {
    let parts = name.split(separator: "/", omittingEmptySubsequences: false)
    guard !parts.contains(where: { ["", ".", ".."].contains($0) }) else { return false }
    let ending = [".ingot", ".gguf"].first { result.hasSuffix($0) } ?? ""
    let stem = result.dropLast(ending.count)
    guard parts[0].hasPrefix(stem) else { return false }
    var rest = parts[0].dropFirst(stem.count)
    if matchesGlob("-?????-of-?????\(ending).*", String(rest)) {
      rest = rest.dropFirst("-00001-of-00001".count)
    }
    guard rest.hasPrefix(ending) else { return false }
    rest = rest.dropFirst(ending.count)
    if rest.hasPrefix("-part") {
      let number = rest.dropFirst("-part".count).prefix { $0.isASCII && $0.isNumber }
      rest = rest.dropFirst("-part".count + number.count)
      guard !number.isEmpty, rest == ".partial" else { return false }
    }
    let isFolder = [".partial-", ".replaced-", ".prepared.partial-"].contains { rest.hasPrefix($0) }
    return isFolder || parts.count == 1 && [".partial", ".journal"].contains(rest)
  }

  /// Whether what lies at the path now is what the run made.
  func isMade(_ found: FileStamp?) -> Bool {
    guard let found else { return false }
    return identity.map { $0 == found.identity } ?? (found.isFolder || found.isFile && found.byteCount == 0)
  }

  /// The path from where the program runs.
  func path(in folder: String) -> String {
    folder == "." || name.hasPrefix("/") ? name : joinPath(folder, name)
  }

  var json: JSON {
    var members: [(String, JSON)] = [("name", JSON(name))]
    if let identity {
      members += [("device", JSON("\(identity.device)")), ("inode", JSON("\(identity.inode)"))]
    }
    if let journal { members.append(("journal", JSON(journal))) }
    if let restores { members.append(("restores", JSON(restores))) }
    return JSON(members: members)
  }
}
