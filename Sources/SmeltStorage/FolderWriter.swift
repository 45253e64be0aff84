// A folder written beside its target and renamed at the end: until `commit`, nothing stands under the final name.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A folder being filled as `NAME.partial-PID` beside its target. Dropping it without `commit` removes it.
public struct FolderWriter: ~Copyable {
  /// The path the folder will have.
  public let path: String
  /// The folder as it is while it is filled.
  public let partial: String
  private let overwrite: Bool
  private var isCommitted = false

  /// Starts a folder.
  /// - Throws: `RequestError` cannot-create when `path` exists and `overwrite` is false, when it is more than a folder of
  ///   files with a config.json among them, or when the folder around it is not writable.
  public init(path: String, overwrite: Bool) throws {
    let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    try requireCreatableFolder(trimmed, overwrite: overwrite)
    let partial = "\(trimmed).partial-\(getpid())"
    removeFolder(partial)
    guard mkdir(partial, 0o755) == 0 else {
      throw RequestError(
        .cannotCreate, "cannot create '\(path)': \(Platform.lastError())",
        help: "the folder around it must exist and be writable")
    }
    self.path = trimmed
    self.partial = partial
    self.overwrite = overwrite
  }

  deinit { if !isCommitted { removeFolder(partial) } }

  /// Where a file of the folder is to be written.
  public func file(_ name: String) -> String { joinPath(partial, name) }

  /// Renames the folder to its final name; a folder that is replaced goes then. Its files must be synced.
  /// - Throws: `RequestError` cannot-create when something took the final name since the start, or the system refuses.
  public consuming func commit() throws {
    try requireCreatableFolder(path, overwrite: overwrite)
    let old = "\(path).replaced-\(getpid())"
    let replaces = pathKind(path) == .directory
    if replaces, rename(path, old) != 0 {
      throw RequestError(.cannotCreate, "cannot replace '\(path)': \(Platform.lastError())")
    }
    guard rename(partial, path) == 0 else {
      let reason = Platform.lastError()
      if replaces { rename(old, path) }
      throw RequestError(.cannotCreate, "cannot rename to '\(path)': \(reason)")
    }
    isCommitted = true
    if replaces { removeFolder(old) }
    let parent = open(parentFolder(path), O_RDONLY | O_CLOEXEC)
    if parent >= 0 {
      fsync(parent)
      close(parent)
    }
  }
}

/// Refuses a folder that cannot be created, before the work that it would take.
/// - Throws: `RequestError` cannot-create.
public func requireCreatableFolder(_ path: String, overwrite: Bool) throws {
  switch pathKind(path) {
  case .nothing where !isSymbolicLink(path): break
  case .directory where overwrite && !isSymbolicLink(path):
    // A folder that goes must look like what this program makes: files side by side, config.json among them.
    let names = try namesInFolder(path)
    let isModel = names.contains("config.json") || names.isEmpty
    guard isModel, names.allSatisfy({ pathKind(joinPath(path, $0)) == .file }) else {
      throw RequestError(
        .cannotCreate, "'\(path)' is a folder with more in it than a model's files, and is not replaced",
        help: "choose another name, or remove the folder yourself")
    }
  case .directory:
    throw RequestError(
      .cannotCreate, "'\(path)' exists", help: "choose another name, or pass --overwrite to replace it")
  default:
    throw RequestError(
      .cannotCreate, "'\(path)' exists and is no folder", help: "choose another name for the folder")
  }
  guard access(parentFolder(path), W_OK | X_OK) == 0 else {
    throw RequestError(
      .cannotCreate, "cannot create '\(path)': \(Platform.lastError())",
      help: "the folder around it must exist and be writable")
  }
}

/// Removes a folder and the files in it; folders inside it stay, and so does it then.
private func removeFolder(_ path: String) {
  guard pathKind(path) == .directory, !isSymbolicLink(path) else { return }
  for name in (try? namesInFolder(path)) ?? [] { unlink(joinPath(path, name)) }
  rmdir(path)
}
