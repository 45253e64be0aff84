// A result folder that is to be replaced: looked at as a whole before it goes, and taken away file by file. What Smelt did not
// write is never touched.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A folder that holds exactly what its manifest says, as it was when it was looked at.
struct FolderSnapshot: Sendable {
  /// Where it was.
  let path: String
  let root: FileStamp
  /// The files, the manifest last.
  let files: [(name: String, stamp: FileStamp)]
  /// The folders inside, a folder before those in it.
  let folders: [(name: String, stamp: FileStamp)]

  /// Looks at a folder: every name in it, every size, every hash.
  /// - Parameter hashes: whether the files are read; without, names and sizes are held against the manifest.
  /// - Throws: `RequestError` cannot-create naming the first thing in it that Smelt did not write; io.
  init(_ path: String, hashes: Bool = true) throws {
    func refusal(_ problem: String, _ help: String? = nil) -> RequestError {
      RequestError(
        .cannotCreate, "'\(path)' is not replaced: \(problem)",
        help: help ?? "move that away, remove the folder yourself, or choose another name")
    }
    guard let root = FileStamp(path: path), root.isFolder else { throw refusal("it is not a folder") }
    guard !Platform.isMountPoint(path),
      FileStamp(path: parentFolder(path))?.identity.device == root.identity.device
    else { throw refusal("a disk is mounted there", "choose another name") }
    guard let manifest = try FolderManifest.read(path) else {
      let isThere = FileStamp(path: joinPath(path, FolderManifest.fileName)) != nil
      throw refusal(
        isThere
          ? "its \(FolderManifest.fileName) is not one that smelt wrote"
          : "it has no \(FolderManifest.fileName), which lists what smelt wrote",
        "remove the folder yourself if nothing in it is needed, or choose another name")
    }
    var expected: [[UInt8]: FolderManifest.File] = [:]
    var parents: Set<[UInt8]> = []
    for file in manifest.files {
      let bytes = Array(file.name.utf8)
      expected[bytes] = file
      for place in bytes.indices where bytes[place] == UInt8(ascii: "/") {
        parents.insert(Array(bytes[..<place]))
      }
    }
    var files: [(name: String, stamp: FileStamp)] = []
    var folders: [(name: String, stamp: FileStamp)] = []
    var itself: FileStamp?
    var waiting = [""]
    while let folder = waiting.popLast() {
      for name in try rawNames(in: folder.isEmpty ? path : joinPath(path, folder)) {
        let text = String(decoding: name, as: UTF8.self)
        let relative = folder.isEmpty ? text : "\(folder)/\(text)"
        let key = Array(relative.utf8)
        let isText = Array(text.utf8) == name
        guard let stamp = FileStamp(path: joinPath(path, relative)), isText else {
          throw refusal("'\(relative)' in it was not written by smelt")
        }
        if stamp.isFolder, parents.contains(key), stamp.identity.device == root.identity.device,
          !Platform.isMountPoint(joinPath(path, relative))
        {
          folders.append((relative, stamp))
          waiting.append(relative)
        } else if stamp.isFile, relative == FolderManifest.fileName {
          itself = stamp
        } else if stamp.isFile, let file = expected.removeValue(forKey: key) {
          guard stamp.byteCount == file.byteCount else {
            throw refusal(
              "'\(relative)' in it was changed: found \(stamp.byteCount) bytes, smelt wrote \(file.byteCount)"
            )
          }
          if hashes, try FolderManifest.contents(of: joinPath(path, relative)).hash != file.hash {
            throw refusal("'\(relative)' in it was changed since smelt wrote it")
          }
          files.append((relative, stamp))
        } else {
          throw refusal("'\(relative)' in it, \(stamp.words), was not written by smelt")
        }
      }
    }
    if let missing = expected.keys.min(by: { $0.lexicographicallyPrecedes($1) }) {
      throw refusal("'\(String(decoding: missing, as: UTF8.self))', which smelt wrote, is no longer in it")
    }
    guard let itself else { throw refusal("its \(FolderManifest.fileName) is gone") }
    self.path = path
    self.root = root
    self.files = files + [(FolderManifest.fileName, itself)]
    self.folders = folders
  }

  /// Whether the folder is exactly what it was, by names, identities, sizes and times.
  func isUnchanged() throws -> Bool {
    guard FileStamp(path: path) == root else { return false }
    let known = Dictionary(
      uniqueKeysWithValues: (files + folders).map { (Array($0.name.utf8), $0.stamp) })
    var count = 0
    for folder in [""] + folders.map(\.name) {
      for name in try rawNames(in: folder.isEmpty ? path : joinPath(path, folder)) {
        let key = (folder.isEmpty ? [] : Array("\(folder)/".utf8)) + name
        let text = String(decoding: key, as: UTF8.self)
        guard let stamp = known[key], FileStamp(path: joinPath(path, text)) == stamp else { return false }
        count += 1
      }
    }
    return count == known.count
  }

  /// Takes the folder away, which lies at `place` by now: its files one by one, then the folders that are empty.
  /// - Returns: names in it that were not there before and stay.
  func remove(at place: String) -> [String] {
    for (name, stamp) in files where stamp.isSameFile(FileStamp(path: joinPath(place, name))) {
      unlink(joinPath(place, name))
    }
    for (name, _) in folders.reversed() { rmdir(joinPath(place, name)) }
    guard rmdir(place) != 0, FileStamp(path: place) != nil else { return [] }
    return ((try? rawNames(in: place)) ?? []).map { String(decoding: $0, as: UTF8.self) }
  }
}
