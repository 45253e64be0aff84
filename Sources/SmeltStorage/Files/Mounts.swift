// Folders that are not on this machine, under a name of their own (`hf://org/name`): paths that begin with it are answered by them.

internal import Synchronization

/// A folder elsewhere, listed when it was mounted. Paths are relative to it, without a slash at either end; the folder is "".
package protocol MountedFolder: Sendable {
  /// What lies at a path.
  func kind(_ path: String) -> PathKind
  /// The names in a folder, in order of their bytes; none where there is no such folder.
  func names(in path: String) -> [String]
  /// The size of a file; 0 for anything else.
  func byteCount(_ path: String) -> Int
  /// A file; the same object each time. Nothing is fetched yet.
  /// - Throws: `SRC_MISSING`, `SRC_NOT_FILE`.
  func open(_ path: String) throws -> any PagedFile
}

/// The folders that are mounted in this process.
package enum Mounts {
  private static let folders = Mutex<[String: any MountedFolder]>([:])
  private static let isEmpty = Atomic<Bool>(true)

  /// Answers for paths below a name from now on, in place of what did before. The name has a scheme (`hf://`), which no path
  /// on a disk begins with, and no slash at its end.
  package static func add(_ name: String, _ folder: some MountedFolder) {
    folders.withLock { $0[name] = folder }
    isEmpty.store(false, ordering: .releasing)
  }

  /// The folder that is mounted under a name.
  package static func folder(_ name: String) -> (any MountedFolder)? { folders.withLock { $0[name] } }

  /// The mounted folder that a path lies in, and the path within it.
  package static func find(_ path: String) -> (folder: any MountedFolder, path: String)? {
    guard !isEmpty.load(ordering: .acquiring), path.contains("://") else { return nil }
    return folders.withLock { folders in
      // The longest name wins: a folder may be mounted within another's name.
      var name = withoutSlash(path)[...]
      while true {
        if let folder = folders[String(name)] {
          return (folder, withoutSlash(String(path.dropFirst(name.count).drop { $0 == "/" })))
        }
        guard let slash = name.lastIndex(of: "/") else { return nil }
        name = name[..<slash]
      }
    }
  }

  /// The file of a path; nil where the path lies in no mounted folder.
  static func open(_ path: String) throws -> (any PagedFile)? {
    guard let (folder, inner) = find(path) else { return nil }
    do {
      return try folder.open(inner)
    } catch var error as FormatError {
      error.file = path
      throw error
    }
  }
}
