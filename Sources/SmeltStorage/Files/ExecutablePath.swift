// Where the running program lies.

#if canImport(Darwin)
  import Darwin
#endif

/// The path of the running program, links resolved; nil where the system does not say.
package func executablePath() -> String? {
  #if canImport(Darwin)
    var size: UInt32 = 0
    _NSGetExecutablePath(nil, &size)
    var path = [CChar](repeating: 0, count: Int(size) + 1)
    guard _NSGetExecutablePath(&path, &size) == 0 else { return nil }
    let bytes = path.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    return resolvedPath(String(decoding: bytes, as: UTF8.self))
  #else
    return resolvedPath("/proc/self/exe")
  #endif
}
