// Paths and folders: what lies where, without opening it. Paths in mounted folders are answered by these.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What lies at a path.
package enum PathKind: Sendable, Hashable {
  /// Nothing.
  case nothing
  /// A regular file.
  case file
  /// A directory.
  case directory
  /// A device, a pipe, a socket.
  case other

  /// The kind in words, for messages.
  package var words: String {
    switch self {
    case .nothing: "nothing"
    case .file: "a file"
    case .directory: "a directory"
    case .other: "a device, pipe or socket"
    }
  }

  init(_ mode: mode_t) {
    switch mode & S_IFMT {
    case S_IFREG: self = .file
    case S_IFDIR: self = .directory
    default: self = .other
    }
  }
}

/// What lies at `path`, symbolic links followed.
package func pathKind(_ path: String) -> PathKind {
  if let (folder, inner) = Mounts.find(path) { return folder.kind(inner) }
  var status = stat()
  guard stat(path, &status) == 0 else { return .nothing }
  return PathKind(status.st_mode)
}

/// The size of a regular file, links followed; 0 for anything else.
package func fileByteCount(_ path: String) -> Int {
  if let (folder, inner) = Mounts.find(path) { return folder.byteCount(inner) }
  var status = stat()
  guard stat(path, &status) == 0, PathKind(status.st_mode) == .file else { return 0 }
  return Int(status.st_size)
}

/// Whether this process may read what lies at `path`: true where nothing does, which whoever opens it will find.
package func mayRead(_ path: String) -> Bool {
  Mounts.find(path) != nil || access(path, R_OK) == 0 || (errno != EACCES && errno != EPERM)
}

/// Whether `path` itself is a symbolic link.
package func isSymbolicLink(_ path: String) -> Bool {
  var status = stat()
  return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK
}

/// A path from the root, whether something lies there or not. Links in the folder around it are followed; a link itself keeps its
/// name, which may be that of a model.
package func absolutePath(_ path: String) -> String {
  resolvedPath(parentFolder(path)).map { joinPath($0, fileName(path)) } ?? path
}

/// The absolute path with every link resolved, or nil when nothing is there.
package func resolvedPath(_ path: String) -> String? {
  if let (folder, inner) = Mounts.find(path) { return folder.kind(inner) == .nothing ? nil : path }
  guard let resolved = realpath(path, nil) else { return nil }
  defer { free(resolved) }
  return String(cString: resolved)
}

/// A path without slashes at its end; `/` stays.
package func withoutSlash(_ path: String) -> String {
  var bytes = Array(path.utf8)
  while bytes.count > 1, bytes.last == UInt8(ascii: "/") { bytes.removeLast() }
  return String(decoding: bytes, as: UTF8.self)
}

/// The last component of a path.
package func fileName(_ path: String) -> String {
  var path = path
  let slash = UInt8(ascii: "/")
  // SAFETY: lent for the call; what is found is copied.
  let name = path.withUTF8 { bytes -> String? in
    var end = bytes.count
    while end > 1, bytes[end - 1] == slash { end -= 1 }
    var start = end
    while start > 0, bytes[start - 1] != slash { start -= 1 }
    if start == end { start = 0 }  // nothing, or the root
    if end - start == bytes.count { return nil }
    return String(decoding: UnsafeBufferPointer(rebasing: bytes[start..<end]), as: UTF8.self)
  }
  return name ?? path
}

/// The folder a path lies in; `.` for a bare name.
package func parentFolder(_ path: String) -> String {
  let trimmed = withoutSlash(path)
  guard let slash = trimmed.lastIndex(of: "/") else { return "." }
  return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
}

/// A folder and a name joined by one slash.
package func joinPath(_ folder: String, _ name: String) -> String {
  folder.hasSuffix("/") ? folder + name : folder + "/" + name
}

/// The names in a folder, sorted, without `.` and `..`.
package func namesInFolder(_ path: String) throws -> [String] {
  if let (folder, inner) = Mounts.find(path) { return folder.names(in: inner) }
  guard let folder = opendir(path) else {
    throw RequestError(.io, "cannot list '\(path)': \(Platform.lastError())")
  }
  defer { closedir(folder) }
  var names: [String] = []
  // The end and a failure look the same but for the error number: a list cut short is not the list.
  errno = 0
  while let entry = readdir(folder) {
    // SAFETY: the entry is the system's until the next `readdir`; the name is copied up to its zero byte, within its field.
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in
      String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
    }
    if name != "." && name != ".." { names.append(name) }
    errno = 0
  }
  guard errno == 0 else { throw RequestError(.io, "cannot list '\(path)': \(Platform.lastError())") }
  return names.sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
}

/// A whole small file.
/// - Throws: `SRC_MISSING`, `SRC_NOT_FILE`, or `code` when it is larger than `limit` bytes.
package func readSmallFile(_ path: String, limit: Int, code: ErrorCode) throws -> Bytes {
  let file = try MappedFile(path: path)
  guard file.count <= limit else {
    throw FormatError(code, file: path, "found \(file.count) bytes, expected at most \(limit)")
  }
  return Bytes(file.bytes.array)
}

/// Refuses a result that is one of its own sources, by whatever path or link it is named.
/// - Throws: `OUT_ALIASES_INPUT`. Formats/safetensors.md, rule 29.
package func refuseAlias(result: String, sources: [String]) throws(FormatError) {
  guard let identity = FileIdentity(path: result) else { return }
  for source in sources where FileIdentity(path: source) == identity {
    throw FormatError(
      .outputAliasesInput, file: result, "the result is the same file as the source '\(source)'")
  }
}

/// Removes a file; says nothing when it is not there.
package func removeFile(_ path: String) { unlink(path) }

/// Removes a folder that nothing is in, if it is there.
package func removeEmptyFolder(_ path: String) { rmdir(path) }

/// The size of a regular file in bytes; nil if the path is not a regular file.
package func fileByteCount(_ path: String) -> Int? {
  FileStamp(path: path).flatMap { $0.isFile ? $0.byteCount : nil }
}

/// Makes a folder unless it is there.
/// - Throws: `RequestError` cannot-create.
package func requireFolder(_ path: String) throws {
  guard mkdir(path, 0o755) != 0, FileStamp(path: path)?.isFolder != true else { return }
  throw RequestError(
    .cannotCreate, "cannot create the folder '\(path)': \(Platform.lastError())",
    help: "the folder around it must exist and be writable")
}

/// Bytes free for this user on the disk that holds `path`, or nil when the system does not say.
package func freeDiskBytes(_ path: String) -> Int? {
  var status = statvfs()
  guard statvfs(path, &status) == 0 else { return nil }
  return Int(status.f_bavail) * Int(status.f_frsize)
}
