// What a run that was killed left beside its result. Only what its lock lists, by name and by inode, is removed: file by file,
// never a folder with something else in it.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The entries of a lock whose run is over.
struct Leftovers {
  private let entries: [LockEntry]
  private let folder: String
  private let made: Set<FileIdentity>
  /// What was only announced, by its path.
  private var announced: [String: LockEntry] = [:]

  /// - Parameters:
  ///   - listed: what the lock lists, in its order: of a name and a file the last word counts, and what was announced only counts
  ///     where it was never made. A lock may come from anywhere: names that no run gives to files of `result` are left alone.
  ///   - result: the path that the lock is for.
  init(_ listed: [LockEntry], _ folder: String, result: String) {
    self.folder = folder
    let lines = listed.filter { $0.belongs(to: fileName(result)) }
    made = Set(lines.compactMap(\.identity))
    let known = Set(lines.filter { $0.identity != nil }.map(\.name))
    var last: [String: Int] = [:]
    for (place, entry) in lines.enumerated() {
      last["\(entry.identity.map { "\($0.device) \($0.inode)" } ?? "") \(entry.name)"] = place
    }
    entries = last.values.sorted().map { lines[$0] }.filter {
      $0.identity != nil || !known.contains($0.name)
    }
    for entry in entries where entry.identity == nil { announced[entry.path(in: folder)] = entry }
  }

  private func path(_ name: String) -> String {
    folder == "." || name.hasPrefix("/") ? name : joinPath(folder, name)
  }

  /// Puts back what was moved aside, and removes what no other run can use.
  /// - Returns: the entries of what stays for `--resume`.
  func tidy(result: String, report: (String) -> Void) -> [LockEntry] {
    for entry in entries {
      guard let home = entry.restores, entry.isMade(FileStamp(path: path(entry.name))) else { continue }
      if Platform.renameNew(path(entry.name), path(home)) == 0 {
        report(
          "'\(path(home))' is back in its place; a run that was stopped had moved it to '\(path(entry.name))'"
        )
      }
    }
    var kept: [LockEntry] = []
    let names = Set(entries.map(\.name))
    for entry in entries where !isInside(entry.name, names) {
      let place = entry.path(in: folder)
      guard let stamp = FileStamp(path: place), entry.isMade(stamp) else { continue }
      if let journal = entry.journal, isNeeded(entry, path(journal)) {
        kept.append(entry)
        // What lies in a folder that stays is still to be told from what is somebody else's.
        if stamp.isFolder { kept += entries.filter { $0.name.hasPrefix("\(entry.name)/") } }
      } else if stamp.isFile {
        if unlink(place) == 0 { report("'\(place)', which a run that was stopped left, is removed") }
      } else if stamp.isFolder {
        let isGone = remove(place)
        report(
          isGone
            ? "'\(place)', which a run that was stopped left, is removed"
            : "'\(place)', which a run that was stopped left, holds other files and stays")
      }
    }
    return kept
  }

  /// Whether a name lies in a folder that is listed itself, and goes with it.
  private func isInside(_ name: String, _ names: Set<String>) -> Bool {
    var folder = name[...]
    while let slash = folder.lastIndex(of: "/") {
      folder = folder[..<slash]
      if names.contains(String(folder)) { return true }
    }
    return false
  }

  /// Whether a journal says that a run can go on with a file.
  private func isNeeded(_ entry: LockEntry, _ journal: String) -> Bool {
    guard let content = try? Journal.read(journal), !content.entries.isEmpty else { return false }
    // A journal that does not name the files of every step cannot say that one is of no use.
    let steps = content.entries.filter { $0["added"] == nil }
    let lists = steps.compactMap { $0["files"]?.array }
    if lists.count < steps.count || path(entry.name) == journal { return true }
    return lists.contains { list in list.contains { $0.string == fileName(entry.name) } }
  }

  /// Removes what the run made in a folder, and the folder if nothing else is in it.
  private func remove(_ place: String) -> Bool {
    for name in (try? rawNames(in: place)) ?? [] {
      let child = joinPath(place, String(decoding: name, as: UTF8.self))
      guard let stamp = FileStamp(path: child),
        made.contains(stamp.identity) || announced[child].map({ $0.isMade(stamp) }) ?? false
      else { continue }
      if stamp.isFile { unlink(child) } else if stamp.isFolder { _ = remove(child) }
    }
    return rmdir(place) == 0
  }

  /// Removes what runs left that were killed before their lock had its name: `X.lock-PID`, empty or with a first line of that
  /// process, which is gone.
  static func removeLocks(_ lock: String, report: (String) -> Void) {
    for place in paths(beside: lock) {
      let digits = fileName(place).dropFirst(fileName(lock).count + 1)
      guard place.hasPrefix("\(lock)-"), let process = gone(digits), let stamp = FileStamp(path: place),
        stamp.isFile, stamp.byteCount <= 1 << 16
      else { continue }
      let descriptor = open(place, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
      guard descriptor >= 0 else { continue }
      defer { close(descriptor) }
      let content = LockContent(reading: descriptor)
      guard stamp.byteCount == 0 || content.map({ $0.process == Int(process) && !$0.isAlive }) ?? false,
        flock(descriptor, LOCK_EX | LOCK_NB) == 0, unlink(place) == 0
      else { continue }
      report("'\(place)', which a run that was stopped left, is removed")
    }
  }

  /// Names what looks like a leftover and is in no list: it may be anybody's, and stays.
  /// - Parameter stem: what the names of all files of the result begin with.
  static func reportUnknown(_ result: String, stem: String, report: (String) -> Void) {
    let ending = result.dropFirst(stem.count)
    for place in paths(beside: result) where place.hasPrefix(stem) {
      var rest = place.dropFirst(stem.count)
      if !rest.hasPrefix(ending) || ending.isEmpty, matchesGlob("-?????-of-?????*", String(rest)) {
        rest = rest.dropFirst("-00001-of-00001".count)
      }
      guard rest.hasPrefix(ending) else { continue }
      rest = rest.dropFirst(ending.count)
      let endings = [".partial-", ".replaced-", ".prepared.partial-"]
      guard let found = endings.first(where: { rest.hasPrefix($0) }), gone(rest.dropFirst(found.count)) != nil
      else { continue }
      report("'\(place)' may be left by a run that was stopped; no lock says so, and it stays")
    }
  }

  /// The paths of what lies in the folder of another path, written as that is.
  private static func paths(beside path: String) -> [String] {
    let folder = parentFolder(path)
    let names = (try? namesInFolder(folder)) ?? []
    return folder == "." && !path.hasPrefix("./") ? names : names.map { joinPath(folder, $0) }
  }

  /// The process that a name ends with, where it is gone.
  private static func gone(_ digits: Substring) -> pid_t? {
    guard let process = pid_t(digits.prefix { $0 != "-" }), process > 0, process != getpid(),
      kill(process, 0) != 0, errno == ESRCH
    else { return nil }
    return process
  }
}
