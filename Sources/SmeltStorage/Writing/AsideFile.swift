// A file that steps aside for one that is to replace it, and comes back when that fails.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file moved to `NAME.replaced-PID`.
package struct AsideFile: Sendable {
  private let home: String
  private let place: String
  private let identity: FileIdentity

  /// Moves a file aside.
  /// - Returns: nil when nothing is there.
  /// - Throws: `RequestError` cannot-create when the system refuses.
  package init?(_ path: String) throws {
    guard let stamp = FileStamp(path: path) else { return nil }
    for name in FileWriter.names("\(path).replaced-\(getpid())") {
      ResultLock.note(name, stamp.identity)
      let code = Platform.renameNew(path, name)
      if code == 0 {
        (home, place, identity) = (path, name, stamp.identity)
        return
      }
      guard code == EEXIST else {
        throw RequestError(.cannotCreate, "cannot replace '\(path)': \(Platform.text(of: code))")
      }
    }
    throw RequestError(.cannotCreate, "cannot replace '\(path)': names beside it are taken")
  }

  private var isThere: Bool { FileStamp(path: place)?.identity == identity }

  /// Moves the file back, unless its name is taken.
  package func putBack() { if isThere { _ = Platform.renameNew(place, home) } }

  /// Removes the file.
  package func remove() { if isThere { unlink(place) } }
}
