// What a folder that is being filled holds, and what of it another run could use.

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What is known of a folder that is being filled. Used by one thread at a time.
final class FolderContents: Sendable {
  private let state = Mutex(State())

  private struct State {
    var names: [String] = []
    var written: [String: WrittenFile] = [:]
    var folders: [String] = []
    /// Files that another run needs.
    var kept: Set<String> = []
    var keepsAll = false
  }

  var folders: [String] { state.withLock { $0.folders } }

  func expect(_ name: String) {
    state.withLock { if !$0.names.contains(name) { $0.names.append(name) } }
  }

  func note(_ name: String, _ file: WrittenFile) { state.withLock { $0.written[name] = file } }

  func keep(_ names: some Collection<String>) { state.withLock { $0.kept = Set(names) } }

  func keepAll() { state.withLock { $0.keepsAll = true } }

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
        if let written = known.written[text], let hash = written.sum, written.byteCount == stamp.byteCount {
          files.append(FolderManifest.File(name: text, byteCount: written.byteCount, hash: hash))
        } else {
          let found = try FolderManifest.contents(of: joinPath(partial, text))
          files.append(FolderManifest.File(name: text, byteCount: found.byteCount, hash: found.hash))
        }
      }
    }
    return files
  }

  /// Removes what was written and is not to stay, and the folders if nothing else is in them.
  /// - Parameter isWhole: whether the folder itself goes.
  func remove(from partial: String, isWhole: Bool) {
    let known = state.withLock { $0 }
    guard !known.keepsAll || isWhole else { return }
    for name in known.names + [FolderManifest.fileName] where isWhole || !known.kept.contains(name) {
      let path = joinPath(partial, name)
      for file in [path, FileWriter.resumablePath(path)] + FileWriter.partialNames(path).prefix(1)
      where FileStamp(path: file)?.isFile == true {
        unlink(file)
      }
    }
    for folder in known.folders.reversed() { rmdir(joinPath(partial, folder)) }
    if isWhole { rmdir(partial) }
  }
}
