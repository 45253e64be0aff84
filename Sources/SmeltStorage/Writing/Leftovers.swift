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

  init(_ entries: [LockEntry], _ folder: String) {
    self.entries = entries
    self.folder = folder
    made = Set(entries.map(\.identity))
  }

  private func path(_ name: String) -> String {
    folder == "." || name.hasPrefix("/") ? name : joinPath(folder, name)
  }

  /// Puts back what was moved aside, and removes what no other run can use.
  /// - Returns: the entries of what stays for `--resume`.
  func tidy(result: String, report: (String) -> Void) -> [LockEntry] {
    for entry in entries {
      guard let home = entry.restores, FileStamp(path: path(entry.name))?.identity == entry.identity else {
        continue
      }
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
      guard let stamp = FileStamp(path: place), stamp.identity == entry.identity else { continue }
      if let journal = entry.journal, isNeeded(entry, path(journal)) {
        kept.append(entry)
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
    if steps.isEmpty || lists.count < steps.count || path(entry.name) == journal { return true }
    return lists.contains { list in list.contains { $0.string == fileName(entry.name) } }
  }

  /// Removes what the run made in a folder, and the folder if nothing else is in it.
  private func remove(_ place: String) -> Bool {
    for name in (try? rawNames(in: place)) ?? [] {
      let child = joinPath(place, String(decoding: name, as: UTF8.self))
      guard let stamp = FileStamp(path: child), made.contains(stamp.identity) else { continue }
      if stamp.isFile { unlink(child) } else if stamp.isFolder { _ = remove(child) }
    }
    return rmdir(place) == 0
  }

  /// Names what looks like a leftover and is in no list: it may be anybody's, and stays.
  static func reportUnknown(_ result: String, report: (String) -> Void) {
    let (folder, name) = (parentFolder(result), fileName(result))
    for found in (try? namesInFolder(folder)) ?? [] where found.hasPrefix(name) {
      let rest = found.dropFirst(name.count)
      guard
        let ending = [".partial-", ".replaced-", ".prepared.partial-"].first(where: { rest.hasPrefix($0) }),
        let process = pid_t(rest.dropFirst(ending.count).prefix { $0 != "-" }), process > 0,
        process != getpid(), kill(process, 0) != 0, errno == ESRCH
      else { continue }
      report(
        "'\(folder == "." ? found : joinPath(folder, found))' may be left by a run that was stopped; no lock says so, and it stays"
      )
    }
  }
}
