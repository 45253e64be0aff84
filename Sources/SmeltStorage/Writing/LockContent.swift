// What a lock holds: who works on a result, and what that run has made.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

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
    start = utcText()
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
    let isOfOneRun = [".partial-", ".replaced-", ".prepared.partial-"].contains { rest.hasPrefix($0) }
    return isOfOneRun || rest == ".partial"
      || parts.count == 1 && [".journal", ".prepared.journal"].contains(rest)
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
