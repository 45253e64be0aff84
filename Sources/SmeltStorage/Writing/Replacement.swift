// What `--overwrite` may replace: a file of the kind that is written, which Smelt wrote, and nothing else.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A kind of file that Smelt writes, and how one is told from a file that somebody else wrote. All kinds: `OutputKinds`.
package struct OutputKind: Sendable {
  /// The kind in words, for messages: `an ingot`.
  package let words: String
  /// Whether Smelt wrote the regular file at a path, and it is of this kind.
  package let isWritten: @Sendable (_ path: String) -> Bool

  /// A kind.
  package init(_ words: String, isWritten: @escaping @Sendable (_ path: String) -> Bool) {
    self.words = words
    self.isWritten = isWritten
  }
}

/// What a file that is written may take the place of.
package enum Replacement: Sendable {
  /// Of nothing: the name must be free.
  case nothing
  /// Of a file of one kind that Smelt wrote.
  case only(OutputKind)
  /// Of a file with the very bytes that are written: what another run of the same work left, or made meanwhile.
  case sameBytes
  /// Of any regular file: for names that no user gives.
  case anyFile

  /// What `--overwrite` allows.
  package init(overwrite: Bool, _ kind: OutputKind) { self = overwrite ? .only(kind) : .nothing }
}

/// Refuses a path without a name.
/// - Parameter what: what the path is of.
/// - Throws: `RequestError` usage for an empty path; cannot-create for one that ends in `.` or `..`, or is `/`.
package func requireName(_ path: String, _ what: String = "result") throws {
  guard !path.isEmpty else {
    throw RequestError(.usage, "the path of the \(what) is empty", help: "name a file or a folder")
  }
  let scheme = path.prefix(8).lowercased()
  guard !["hf://", "http://", "https://"].contains(where: { scheme.hasPrefix($0) }) else {
    throw RequestError(
      .usage, "'\(path)' is an address, and a \(what) is written to this machine",
      help: "name a file or a folder")
  }
  guard ![".", "..", "/"].contains(fileName(path)) else {
    throw RequestError(.cannotCreate, "'\(path)' is not a name for a \(what)", help: "give the name itself")
  }
}

/// Refuses a symbolic link as a result: whatever it leads to, the link is somebody's.
func requireNoLink(_ path: String, _ stamp: FileStamp) throws {
  guard stamp.isLink else { return }
  throw RequestError(
    .cannotCreate,
    pathKind(path) == .nothing
      ? "'\(path)' is a symbolic link to nothing" : "'\(path)' exists, and is a symbolic link",
    help: "choose another name, or name what the link should lead to")
}

/// Refuses a file that cannot be created, before the work that it would take.
/// - Throws: `RequestError` usage for an empty path; cannot-create when something lies at `path` that is not to be replaced, or
///   when its folder does not exist or is not writable.
package func requireCreatable(_ path: String, replacing replacement: Replacement) throws {
  try requireName(path)
  if let stamp = FileStamp(path: path) {
    try requireNoLink(path, stamp)
    guard stamp.isFile else {
      throw RequestError(
        .cannotCreate, "'\(path)' exists and is not a regular file", help: "choose another name")
    }
    switch replacement {
    // What is there is held against what was written once that is whole.
    case .anyFile, .sameBytes: break
    case .nothing:
      throw RequestError(
        .cannotCreate, "'\(path)' exists", help: "choose another name, or pass --overwrite to replace it")
    case .only(let kind):
      guard kind.isWritten(path) else {
        throw RequestError(
          .cannotCreate, "'\(path)' is not replaced: it is not \(kind.words) that smelt wrote",
          help: "choose another name, or remove the file yourself")
      }
    }
  }
  guard access(parentFolder(path), W_OK | X_OK) == 0 else {
    throw RequestError(
      .cannotCreate, "cannot create '\(path)': \(Platform.lastError())",
      help: "the folder must exist and be writable")
  }
}

/// The same where any regular file may be replaced, or none: for names that no user gives.
/// - Throws: as above.
package func requireCreatable(_ path: String, overwrite: Bool) throws {
  try requireCreatable(path, replacing: overwrite ? .anyFile : .nothing)
}
