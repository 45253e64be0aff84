// The names in a folder as the system has them.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The names in a folder as the bytes that they are, sorted, without `.` and `..`.
/// - Throws: `RequestError` io.
func rawNames(in path: String) throws -> [[UInt8]] {
  guard let folder = opendir(path) else {
    throw RequestError(.io, "cannot list '\(path)': \(Platform.lastError())")
  }
  defer { closedir(folder) }
  var names: [[UInt8]] = []
  while let entry = readdir(folder) {
    // SAFETY: the entry is the system's until the next `readdir`; the name is copied up to its zero byte, within its field.
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
    if name != [0x2E], name != [0x2E, 0x2E] { names.append(name) }
  }
  return names.sorted { $0.lexicographicallyPrecedes($1) }
}
