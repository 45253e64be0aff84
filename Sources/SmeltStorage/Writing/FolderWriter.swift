// A folder written beside its target and renamed at the end: until `commit`, nothing stands under the final name.

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A folder being filled as `NAME.partial-PID` beside its target. Dropping it without `commit` removes what was written.
///
/// Its files have names below it, `a` or `sub/a`; folders in it are made as they are needed. The last file written is
/// `smelt-manifest.json`, the list of all others.
package struct FolderWriter: ~Copyable {
  /// The path the folder will have.
  package let path: String
  /// The folder as it is while it is filled.
  package let partial: String
  private let overwrite: Bool
  private let tool: String
  private let identity: FileIdentity
  /// The folder that is to be replaced, as it was when the writing began.
  private let replaced: FolderSnapshot?
  private let contents = FolderContents()
  private var isCommitted = false

  /// Starts a folder.
  /// - Parameters:
  ///   - overwrite: whether a folder that holds exactly what Smelt wrote into it is replaced.
  ///   - tool: the program and its version, for the manifest.
  /// - Throws: `RequestError` cannot-create when `path` exists and is not to be replaced, naming what in it is not Smelt's, or
  ///   when the folder around it is not writable.
  package init(path: String, overwrite: Bool, tool: String) throws {
    let trimmed = withoutSlash(path)
    let found = try requireCreatableFolder(trimmed, overwrite: overwrite, hashes: true)
    try self.init(trimmed, found, overwrite: overwrite, tool: tool)
  }

  /// Starts a folder that is never committed: what is in it is gone with the writer.
  /// - Throws: `RequestError` cannot-create.
  package init(scratch path: String) throws { try self.init(path, nil, overwrite: false, tool: "") }

  private init(_ path: String, _ replaced: FolderSnapshot?, overwrite: Bool, tool: String) throws {
    let made = try FolderWriter.make(path)
    (partial, identity) = (made.partial, made.identity)
    self.path = path
    self.replaced = replaced
    self.overwrite = overwrite
    self.tool = tool
    ResultLock.note(partial, identity)
  }

  private static func make(_ path: String) throws -> (partial: String, identity: FileIdentity) {
    for name in FileWriter.partialNames(path) {
      ResultLock.announce(name)
      if mkdir(name, 0o755) == 0 {
        if let stamp = FileStamp(path: name) { return (name, stamp.identity) }
        let code = errno
        rmdir(name)
        errno = code
      }
      guard errno == EEXIST else { break }
    }
    throw RequestError(
      .cannotCreate, "cannot create '\(path)': \(Platform.lastError())",
      help: "the folder around it must exist and be writable")
  }

  deinit {
    if !isCommitted, FileStamp(path: partial)?.identity == identity { contents.remove(from: partial) }
  }

  /// Where a file of the folder is to be written; the folders it lies in are made.
  /// - Parameter name: its name below the folder, components with `/` between them.
  /// - Throws: `RequestError` cannot-create when the name would lead out of the folder, or is the manifest's; io.
  package func file(_ name: String) throws -> String {
    if let problem = CarriedName.problem(name) {
      throw RequestError(
        .cannotCreate, "'\(excerpt(name))' is not a name for a file of the result: \(problem)")
    }
    guard name != FolderManifest.fileName else {
      throw RequestError(.cannotCreate, "'\(name)' is the name of the result's own list of files")
    }
    for folder in CarriedName.folders(name) where contents.add(folder: folder) {
      ResultLock.announce(joinPath(partial, folder))
      guard mkdir(joinPath(partial, folder), 0o755) == 0 else {
        throw RequestError(.io, "cannot create '\(joinPath(path, folder))': \(Platform.lastError())")
      }
      ResultLock.note(joinPath(partial, folder))
    }
    contents.expect(name)
    return joinPath(partial, name)
  }

  /// Notes what a file is that was written under the path of `file`. A file that nothing is noted of is read at the end.
  package func add(_ name: String, _ written: WrittenFile) { contents.note(name, written) }

  /// Writes a whole small file of the folder.
  /// - Throws: as `file`; `RequestError` io.
  package func write(_ name: String, _ bytes: [UInt8]) throws {
    var writer = try FileWriter(path: try file(name), replacing: .nothing, hashes: true)
    try writer.write(bytes)
    contents.note(name, try writer.commit())
  }

  /// Writes the manifest and gives the folder its final name. A folder that is replaced goes file by file once the new one
  /// stands in its place. The files must be synced.
  /// - Returns: remarks: what turned up in the folder that was replaced, and where it is now.
  /// - Throws: `RequestError` cannot-create when something took the final name since the start, when what is to be replaced is
  ///   no longer only what Smelt wrote, or the system refuses; io. Nothing changed under the final name then.
  package consuming func commit() throws -> [String] {
    let manifest = FolderManifest(tool: tool, files: try contents.files(in: partial, of: path))
    try writeFile(joinPath(partial, FolderManifest.fileName), manifest.text, overwrite: false)
    for folder in contents.folders { Platform.syncFolder(joinPath(partial, folder)) }
    Platform.syncFolder(partial)
    guard FileStamp(path: partial)?.identity == identity else {
      throw RequestError(
        .cannotCreate, "'\(partial)' is no longer the folder that was written",
        help: "something took it away or put another in its place; start again")
    }
    let remarks = try place()
    isCommitted = true
    return remarks
  }

  private func place() throws -> [String] {
    guard overwrite, FileStamp(path: path) != nil, let first = replaced else {
      try check(Platform.renameNew(partial, path))
      Platform.syncFolder(parentFolder(path))
      return []
    }
    let old = try first.isUnchanged() ? first : FolderSnapshot(path)
    // Killed before the old files are gone, they are where the new ones were.
    ResultLock.note(partial, old.root.identity)
    for (name, stamp) in old.files + old.folders { ResultLock.note(joinPath(partial, name), stamp.identity) }
    let aside: String
    let code = Platform.exchange(partial, path)
    if code == 0 {
      aside = partial
      guard FileStamp(path: aside)?.identity == old.root.identity else {
        _ = Platform.exchange(partial, path)
        throw RequestError(.cannotCreate, "'\(path)' was replaced by something else meanwhile")
      }
    } else if Platform.isUnsupported(code) {
      aside = try twoRenames(old)
    } else {
      throw RequestError(.cannotCreate, "cannot replace '\(path)': \(Platform.text(of: code))")
    }
    Platform.syncFolder(parentFolder(path))
    let left = old.remove(at: aside)
    guard let name = left.first else { return [] }
    let kept = FolderWriter.setAside(aside, path) ?? aside
    return ["'\(kept)' holds '\(name)', which turned up in the folder that was replaced; it is left there"]
  }

  /// Where the system cannot let two names change places.
  private func twoRenames(_ old: FolderSnapshot) throws -> String {
    let aside = FolderWriter.setAside(path, path) { name in
      // Killed between the two renames, the old folder is the one that goes back.
      ResultLock.note(name, old.root.identity, restores: path)
      for (inner, stamp) in old.files + old.folders { ResultLock.note(joinPath(name, inner), stamp.identity) }
    }
    guard let aside else {
      throw RequestError(.cannotCreate, "cannot replace '\(path)': \(Platform.lastError())")
    }
    let code = Platform.renameNew(partial, path)
    if code != 0 { _ = Platform.renameNew(aside, path) }
    try check(code)
    return aside
  }

  /// Renames to a name of its own beside a result.
  /// - Parameter before: is given each name before it is tried.
  /// - Returns: the name; nil when the system refuses.
  private static func setAside(_ from: String, _ path: String, before: (String) -> Void = { _ in }) -> String?
  {
    for name in FileWriter.names("\(path).replaced-\(getpid())") {
      before(name)
      let code = Platform.renameNew(from, name)
      if code == 0 { return name }
      guard code == EEXIST || code == ENOTEMPTY else {
        errno = code
        return nil
      }
    }
    return nil
  }

  private func check(_ code: Int32) throws {
    guard code != 0 else { return }
    throw RequestError(
      .cannotCreate,
      code == EEXIST || code == ENOTEMPTY
        ? "'\(path)' exists by now" : "cannot rename to '\(path)': \(Platform.text(of: code))",
      help: "choose another name, or start again")
  }
}

/// What is known of a folder that is being filled. Used by one thread at a time.
private final class FolderContents: Sendable {
  private let state = Mutex(State())

  private struct State {
    var names: [String] = []
    var written: [String: WrittenFile] = [:]
    var folders: [String] = []
  }

  var folders: [String] { state.withLock { $0.folders } }

  func expect(_ name: String) {
    state.withLock { if !$0.names.contains(name) { $0.names.append(name) } }
  }

  func note(_ name: String, _ file: WrittenFile) { state.withLock { $0.written[name] = file } }

  /// - Returns: whether the folder is new.
  func add(folder: String) -> Bool {
    state.withLock {
      guard !$0.folders.contains(folder) else { return false }
      $0.folders.append(folder)
      return true
    }
  }

  /// The files that are there. One that nothing was noted of is read.
  /// - Throws: `RequestError` cannot-create when something is there that was not asked for.
  func files(in partial: String, of path: String) throws -> [FolderManifest.File] {
    let known = state.withLock { $0 }
    var expected = Set(known.names.map { Array($0.utf8) })
    let folders = Set(known.folders.map { Array($0.utf8) })
    var files: [FolderManifest.File] = []
    for folder in [""] + known.folders {
      for name in try rawNames(in: folder.isEmpty ? partial : joinPath(partial, folder)) {
        let key = (folder.isEmpty ? [] : Array("\(folder)/".utf8)) + name
        let text = String(decoding: key, as: UTF8.self)
        let stamp = FileStamp(path: joinPath(partial, text))
        if folders.contains(key), stamp?.isFolder == true { continue }
        guard expected.remove(key) != nil, let stamp, stamp.isFile else {
          throw RequestError(
            .cannotCreate, "'\(joinPath(partial, text))' turned up while '\(path)' was written",
            help: "move it away, and start again")
        }
        if let written = known.written[text], let hash = written.hash, written.byteCount == stamp.byteCount {
          files.append(FolderManifest.File(name: text, byteCount: written.byteCount, hash: hash))
        } else {
          let found = try FolderManifest.contents(of: joinPath(partial, text))
          files.append(FolderManifest.File(name: text, byteCount: found.byteCount, hash: found.hash))
        }
      }
    }
    return files
  }

  /// Removes what was written, and the folders if nothing else is in them.
  func remove(from partial: String) {
    let known = state.withLock { $0 }
    for name in known.names + [FolderManifest.fileName] {
      for file in [joinPath(partial, name)] + FileWriter.partialNames(joinPath(partial, name)).prefix(1)
      where FileStamp(path: file)?.isFile == true {
        unlink(file)
      }
    }
    for folder in known.folders.reversed() { rmdir(joinPath(partial, folder)) }
    rmdir(partial)
  }
}

/// Refuses a folder that cannot be created, before the work that it would take.
/// - Parameter hashes: whether every file of a folder that is to be replaced is read.
/// - Returns: the folder that would be replaced.
/// - Throws: `RequestError` usage for an empty name; cannot-create.
func requireCreatableFolder(_ path: String, overwrite: Bool, hashes: Bool) throws -> FolderSnapshot? {
  let path = withoutSlash(path)
  try requireName(path)
  var replaced: FolderSnapshot?
  if let stamp = FileStamp(path: path) {
    try requireNoLink(path, stamp)
    guard stamp.isFolder else {
      throw RequestError(
        .cannotCreate, "'\(path)' exists and is not a folder", help: "choose another name for the folder")
    }
    guard overwrite else {
      throw RequestError(
        .cannotCreate, "'\(path)' exists",
        help: pathKind(joinPath(path, FolderManifest.fileName)) == .file
          ? "choose another name, or pass --overwrite to replace it"
          : "choose another name; smelt did not write this folder, and does not replace it")
    }
    replaced = try FolderSnapshot(path, hashes: hashes)
  }
  guard access(parentFolder(path), W_OK | X_OK) == 0 else {
    throw RequestError(
      .cannotCreate, "cannot create '\(path)': \(Platform.lastError())",
      help: "the folder around it must exist and be writable")
  }
  return replaced
}

/// Refuses a folder that cannot be created, before the work that it would take.
/// - Throws: `RequestError` usage for an empty name; cannot-create, naming what in a folder that is to be replaced Smelt did not
///   write.
package func requireCreatableFolder(_ path: String, overwrite: Bool) throws {
  _ = try requireCreatableFolder(path, overwrite: overwrite, hashes: true)
}
