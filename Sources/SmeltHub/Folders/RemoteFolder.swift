// A folder elsewhere, as its listing says.

import SmeltStorage

internal import Synchronization

/// A mounted folder whose files are fetched.
final class RemoteFolder: MountedFolder {
  private let entries: [String: RemoteEntry]
  private let folders: [String: [String]]
  private let opened = Mutex<[String: FetchedFile]>([:])
  /// Where it lies: an address without what is secret in it, and the commit of a repository.
  let address: String
  let commit: String?
  /// The repository in the cache that keeps what is fetched; nil where nothing does.
  private let kept: HubCache?

  /// A folder of files with paths that `RemotePath` finds no fault with.
  /// - Throws: `NET_LISTING`.
  init(address: String, commit: String?, _ list: [RemoteEntry], keptIn kept: HubCache? = nil) throws {
    (self.address, self.commit, self.kept) = (address, commit, kept)
    var entries: [String: RemoteEntry] = [:]
    var folders: [String: Set<String>] = ["": []]
    for entry in list {
      if let problem = RemotePath.problem(entry.path) {
        throw FormatError(.netListing, file: address, subject: entry.path, problem)
      }
      guard entries.updateValue(entry, forKey: entry.path) == nil else {
        throw FormatError(
          .netListing, file: address, subject: entry.path, "found the file twice, expected it once")
      }
      var name = entry.path[...]
      while true {
        let slash = name.lastIndex(of: "/")
        let folder = slash.map { String(name[..<$0]) } ?? ""
        let isNew = folders[folder, default: []].insert(
          String(slash.map { name[name.index(after: $0)...] } ?? name)
        ).inserted
        guard isNew, let slash else { break }
        name = name[..<slash]
      }
    }
    if let both = entries.keys.filter({ folders[$0] != nil }).min() {
      throw FormatError(.netListing, file: address, subject: both, "found a file and a folder of this name")
    }
    self.entries = entries
    self.folders = folders.mapValues { names in
      names.sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
    }
  }

  func kind(_ path: String) -> PathKind {
    entries[path] != nil ? .file : folders[path] != nil ? .directory : .nothing
  }

  func names(in path: String) -> [String] { folders[path] ?? [] }

  func byteCount(_ path: String) -> Int { entries[path]?.count ?? 0 }

  func open(_ path: String) throws -> any PagedFile {
    guard let entry = entries[path] else {
      guard folders[path] == nil else {
        throw FormatError(.notFile, file: path, "found a directory, expected a regular file")
      }
      throw FormatError(.missingFile, file: path, "there is no such file")
    }
    return try opened.withLock { opened in
      if let file = opened[path] { return file }
      var source = entry.isChecked ? CheckedFile(entry) : entry.source
      if let kept, let commit, let file = try KeptFile(entry, in: kept, commit: commit) { source = file }
      let file = try FetchedFile(count: entry.count, from: source)
      file.provide(entry.head)
      opened[path] = file
      return file
    }
  }

  /// How many files of a folder, or whether a file, have a hash that is not checked while ranges are read.
  func uncheckedFiles(below path: String) -> Int {
    guard kept == nil else { return 0 }
    return entries.values.count { entry in
      let name = entry.path.split(separator: "/").last.map(String.init) ?? entry.path
      let folder = entry.path.dropLast(name.count + (name.count < entry.path.count ? 1 : 0))
      return entry.sha256 != nil && !entry.isChecked
        && entry.path.hasSuffix(".safetensors") == (kind(path) == .directory)
        && (entry.path == path || folder == path)
    }
  }

  /// Bytes of a file of weights that are asked for first: as a rule its whole header.
  static let headBytes = 256 << 10

  /// Begins to fetch what opening the model in a folder will read: headers, and small files.
  func begin(_ folder: String) {
    let all = names(in: folder).map { folder.isEmpty ? $0 : "\(folder)/\($0)" }
    let files = all.filter { entries[$0] != nil }
    for path in files
    where !path.hasSuffix(".safetensors") && (byteCount(path) <= 64 << 10 || path.hasSuffix(".json")) {
      if byteCount(path) <= 32 << 20 { (try? open(path))?.willNeed(0..<byteCount(path)) }
    }
    for name in RemotePath.weights(names(in: folder)) {
      let path = folder.isEmpty ? name : "\(folder)/\(name)"
      (try? open(path))?.willNeed(0..<min(RemoteFolder.headBytes, byteCount(path)))
    }
  }
}
