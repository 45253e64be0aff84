// Where the fixtures are, and small mathematics the tests share.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

extension Double {
  func logarithm() -> Double { log(self) }
  func cosine() -> Double { cos(self) }
}

/// The repository's root, found from this file.
package let repositoryRoot: String = {
  var parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
  parts.removeLast(3)
  return parts.joined(separator: "/")
}()

/// A path below `Fixtures`.
package func fixture(_ path: String) -> String { repositoryRoot + "/Fixtures/" + path }

/// A path below `Formats`.
package func formats(_ path: String) -> String { repositoryRoot + "/Formats/" + path }

/// A fresh folder that is removed with the value.
package final class TemporaryFolder: Sendable {
  /// Its path.
  package let path: String

  /// Makes the folder.
  package init() {
    let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array((base + "/smelt-test-XXXXXX").utf8CString)
    guard let made = template.withUnsafeMutableBufferPointer({ mkdtemp($0.baseAddress!) }) else {
      preconditionFailure("cannot make a temporary folder in \(base)")
    }
    path = String(cString: made)
  }

  /// A path in the folder.
  package func file(_ name: String) -> String { path + "/" + name }

  deinit { TemporaryFolder.remove(path) }

  private static func remove(_ path: String) {
    if let folder = opendir(path) {
      while let entry = readdir(folder) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) {
          String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        guard name != ".", name != ".." else { continue }
        let child = path + "/" + name
        if unlink(child) != 0 { remove(child) }
      }
      closedir(folder)
    }
    rmdir(path)
  }
}
