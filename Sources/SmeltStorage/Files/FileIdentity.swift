// What tells one file from another, whatever its names.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Device and inode: equal for two paths of one file.
package struct FileIdentity: Hashable, Sendable {
  /// The device's number.
  package let device: UInt64
  /// The file's number on that device.
  package let inode: UInt64

  /// An identity of known numbers.
  package init(device: UInt64, inode: UInt64) {
    self.device = device
    self.inode = inode
  }

  /// The identity of what lies at `path`, links followed; nil when nothing is there.
  package init?(path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    self.init(device: UInt64(truncatingIfNeeded: status.st_dev), inode: UInt64(status.st_ino))
  }
}
