// A folder written beside its target and renamed at the end: until `commit`, nothing stands under the final name.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A folder being filled as `NAME.partial-PID` beside its target, or as `NAME.partial` where another run may go on with it. Dropping it
/// without `commit` removes what was written, unless `keep` was called.
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
  /// Whether what was written stays when the writer is dropped.
  private var isKept = false
  /// Whether the manifest is there.
  private var isComplete = false

  /// Starts a folder.
  /// - Parameters:
  ///   - overwrite: whether a folder that holds exactly what Smelt wrote into it is replaced.
  ///   - tool: the program and its version, for the manifest.
  ///   - isResumable: whether the folder has a name that another run can find.
  /// - Throws: `RequestError` cannot-create when `path` exists and is not to be replaced, naming what in it is not Smelt's, or
  ///   when the folder around it is not writable.
  package init(path: String, overwrite: Bool, tool: String, isResumable: Bool = false) throws {
    let trimmed = withoutSlash(path)
    let found = try requireCreatableFolder(trimmed, overwrite: overwrite, hashes: true)
    try self.init(trimmed, found, overwrite: overwrite, tool: tool, isResumable: isResumable)
  }

  /// Continues the folder that an interrupted run left of `path`.
  /// - Parameter names: its files that stay; one of them that was not whole has another name until it is. Every other one that the
  ///   run left is removed.
  /// - Throws: `RequestError` cannot-create, also where something else is in the folder; io when it is not there.
  package init(resuming path: String, overwrite: Bool, tool: String, keeping names: Set<String>) throws {
    let path = withoutSlash(path)
    let found = try requireCreatableFolder(path, overwrite: overwrite, hashes: true)
    let partial = FileWriter.resumablePath(path)
    guard let stamp = FileStamp(path: partial), stamp.isFolder else {
      throw RequestError(
        .io, "'\(partial)' is not what an interrupted run left",
        help: "remove it and the .journal beside it, and start again without --resume")
    }
    try FolderWriter.tidy(partial, keeping: names)
    self.init(path, found, overwrite: overwrite, tool: tool, left: partial, stamp.identity)
    contents.keep(names)
  }

  /// The folder that an interrupted run left at `partial`.
  private init(
    _ path: String, _ replaced: FolderSnapshot?, overwrite: Bool, tool: String, left partial: String,
    _ identity: FileIdentity
  ) {
    self.path = path
    self.partial = partial
    self.overwrite = overwrite
    self.tool = tool
    self.identity = identity
    self.replaced = replaced
    isKept = true
    ResultLock.note(partial, identity, isResumable: true)
  }

  /// The folder that an interrupted run left whole, which needs only its name.
  /// - Parameter manifest: XXH64 of its manifest.
  /// - Returns: nil where it has its name already.
  /// - Throws: `RESUME_MISMATCH` when neither is that folder; `RequestError` cannot-create, io.
  package static func complete(_ path: String, overwrite: Bool, manifest: UInt64) throws -> FolderWriter? {
    let path = withoutSlash(path)
    let partial = FileWriter.resumablePath(path)
    let isNamed = FileStamp(path: partial) == nil
    let found: FolderSnapshot
    do {
      found = try FolderSnapshot(isNamed ? path : partial)
    } catch let error as RequestError where error.kind == .cannotCreate {
      throw FormatError(
        .resumeMismatch, file: isNamed ? path : partial,
        "is not the folder that was written: \(error.problem)")
    }
    let list = try FileSum.xxh64.contents(of: joinPath(found.path, FolderManifest.fileName))
    guard list.sum == manifest else {
      throw FormatError(.resumeMismatch, file: found.path, "is not the folder that was written")
    }
    if isNamed { return nil }
    let replaced = try requireCreatableFolder(path, overwrite: overwrite, hashes: true)
    var folder = FolderWriter(
      path, replaced, overwrite: overwrite, tool: "", left: partial, found.root.identity)
    folder.isComplete = true
    folder.keepAll()
    return folder
  }

  /// Removes what a run left in its folder and another one cannot use.
  /// - Throws: `RequestError` cannot-create, naming what is in it that the run did not make.
  private static func tidy(_ place: String, keeping names: Set<String>, inside folder: String = "") throws {
    for name in try rawNames(in: place) {
      let relative = folder + String(decoding: name, as: UTF8.self)
      let child = joinPath(place, String(decoding: name, as: UTF8.self))
      guard let stamp = FileStamp(path: child) else { continue }
      if stamp.isFile, names.contains(where: { [$0, FileWriter.resumablePath($0)].contains(relative) }) {
        continue
      }
      guard ResultLock.inherits(child, stamp) else {
        throw RequestError(
          .cannotCreate, "'\(child)' is not what an interrupted run left",
          help: "move it away, and give the same command again")
      }
      if stamp.isFolder {
        try tidy(child, keeping: names, inside: relative + "/")
        rmdir(child)
      } else {
        unlink(child)
      }
    }
  }

  /// Removes the unfinished folder that runs left of `path`, as far as its files have names that `isOurs` knows, or the folder is
  /// what its manifest says.
  /// - Throws: `RequestError` io.
  package static func discard(_ path: String, isOurs: (String) -> Bool) throws {
    let partial = FileWriter.resumablePath(withoutSlash(path))
    guard let stamp = FileStamp(path: partial), stamp.isFolder else { return }
    if let whole = try? FolderSnapshot(partial, hashes: false) {
      _ = whole.remove(at: partial)
      return
    }
    for name in try namesInFolder(partial) {
      let ending = FileWriter.resumablePath("")
      guard isOurs(name.hasSuffix(ending) ? String(name.dropLast(ending.count)) : name) else { continue }
      removeFile(joinPath(partial, name))
    }
    rmdir(partial)
  }

  /// From here on these files, whole or not, stay beside the target when the writer is dropped; the others go.
  package mutating func keep(_ names: some Collection<String>) {
    isKept = true
    contents.keep(names)
  }

  /// From here on all files stay beside the target when the writer is dropped.
  package mutating func keepAll() {
    isKept = true
    contents.keepAll()
  }

  private init(
    _ path: String, _ replaced: FolderSnapshot?, overwrite: Bool, tool: String, isResumable: Bool
  ) throws {
    let made = try FolderWriter.make(path, isResumable: isResumable)
    (partial, identity) = (made.partial, made.identity)
    self.path = path
    self.replaced = replaced
    self.overwrite = overwrite
    self.tool = tool
    ResultLock.note(partial, identity, isResumable: isResumable)
  }

  private static func make(_ path: String, isResumable: Bool) throws -> (
    partial: String, identity: FileIdentity
  ) {
    let resumable = FileWriter.resumablePath(path)
    for name in isResumable ? [resumable] : FileWriter.partialNames(path) {
      ResultLock.announce(name)
      if mkdir(name, 0o755) == 0 {
        if let stamp = FileStamp(path: name) { return (name, stamp.identity) }
        let code = errno
        rmdir(name)
        errno = code
      }
      guard errno == EEXIST else { break }
      guard !isResumable else {
        throw RequestError(
          .cannotCreate, "'\(name)' exists, and '\(path)' would be written there",
          help:
            "if an interrupted run left it, resume that with --resume or remove the folder; else move it away"
        )
      }
    }
    throw RequestError(
      .cannotCreate, "cannot create '\(path)': \(Platform.lastError())",
      help: "the folder around it must exist and be writable")
  }

  deinit {
    guard !isCommitted, FileStamp(path: partial)?.identity == identity else { return }
    contents.remove(from: partial, isWhole: !isKept)
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

  /// Takes a file from elsewhere on the same disk: it gets a second name in the folder, or is copied where it can have none.
  /// - Parameter written: what the file is.
  /// - Throws: as `file`; `RequestError` io.
  package func adopt(_ name: String, _ source: String, _ written: WrittenFile) throws {
    let place = try file(name)
    if link(source, place) == 0 {
      ResultLock.note(place)
    } else {
      var writer = try FileWriter(path: place, replacing: .nothing)
      _ = try writer.append(contentsOf: source, sum: .none)
      try writer.commit()
    }
    contents.note(name, written)
  }

  /// Notes what a file is that was written under the path of `file`. A file that nothing is noted of is read at the end.
  package func add(_ name: String, _ written: WrittenFile) { contents.note(name, written) }

  /// Writes a whole small file of the folder.
  /// - Throws: as `file`; `RequestError` io.
  package func write(_ name: String, _ bytes: [UInt8]) throws {
    var writer = try FileWriter(path: try file(name), replacing: .nothing, sum: .xxh64)
    try writer.write(bytes)
    contents.note(name, try writer.commit())
  }

  /// Writes the manifest: the folder is whole then, and has its name with `commit`. The files must be synced.
  /// - Returns: XXH64 of the manifest.
  /// - Throws: `RequestError` cannot-create when something is in the folder that was not written into it; io.
  package mutating func complete() throws -> UInt64 {
    let manifest = FolderManifest(tool: tool, files: try contents.files(in: partial, of: path)).text
    try writeFile(joinPath(partial, FolderManifest.fileName), manifest, overwrite: false)
    for folder in contents.folders { Platform.syncFolder(joinPath(partial, folder)) }
    Platform.syncFolder(partial)
    isComplete = true
    return manifest.withUnsafeBytes { xxh64($0) }
  }

  /// Writes the manifest, unless it is there, and gives the folder its final name. A folder that is replaced goes file by file once the new one
  /// stands in its place. The files must be synced.
  /// - Returns: remarks: what turned up in the folder that was replaced, and where it is now.
  /// - Throws: `RequestError` cannot-create when something took the final name since the start, when what is to be replaced is
  ///   no longer only what Smelt wrote, or the system refuses; io. Nothing changed under the final name then.
  package consuming func commit() throws -> [String] {
    if !isComplete { _ = try complete() }
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
