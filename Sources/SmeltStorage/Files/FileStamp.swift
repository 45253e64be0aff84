// What a file or folder is, to tell later whether it still is: which one, how large, changed when. And the renames that never
// replace anything by accident.

internal import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What lies at a path, a link itself and not what it leads to.
struct FileStamp: Sendable, Hashable {
  let identity: FileIdentity
  let kind: mode_t
  let byteCount: Int
  let modified: Int64
  let changed: Int64

  init(_ status: stat) {
    identity = FileIdentity(
      device: UInt64(truncatingIfNeeded: status.st_dev), inode: UInt64(status.st_ino))
    kind = status.st_mode & S_IFMT
    byteCount = Int(status.st_size)
    modified = Platform.modified(status)
    changed = Platform.statusChanged(status)
  }

  /// Nil when nothing is there.
  init?(path: String) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return nil }
    self.init(status)
  }

  var isFile: Bool { kind == S_IFREG }
  var isFolder: Bool { kind == S_IFDIR }
  var isLink: Bool { kind == S_IFLNK }

  /// The kind in words, for messages.
  var words: String {
    switch kind {
    case S_IFREG: "a file"
    case S_IFDIR: "a folder"
    case S_IFLNK: "a symbolic link"
    case S_IFIFO: "a pipe"
    case S_IFSOCK: "a socket"
    default: "a device"
    }
  }

  /// Whether a later look finds the same file with the same content. A rename of the file changes nothing of that.
  func isSameFile(_ later: FileStamp?) -> Bool {
    guard let later else { return false }
    return identity == later.identity && kind == later.kind && byteCount == later.byteCount
      && modified == later.modified
  }
}

extension Platform {
  /// Error numbers of a system, or of a disk, that cannot do what is asked.
  static func isUnsupported(_ code: Int32) -> Bool { [ENOSYS, EINVAL, ENOTSUP, EOPNOTSUPP].contains(code) }

  /// Renames unless the new name is taken.
  /// - Returns: 0, or the error number; EEXIST where the name is taken.
  static func renameNew(_ from: String, _ to: String) -> Int32 {
    if sk_rename_new(from, to) == 0 { return 0 }
    guard isUnsupported(errno) else { return errno }
    guard FileStamp(path: to) == nil else { return EEXIST }
    // A second name in place of the first: nobody's file is replaced. Folders have no second names.
    if link(from, to) == 0 { return unlink(from) == 0 ? 0 : errno }
    if errno == EEXIST { return EEXIST }
    return rename(from, to) == 0 ? 0 : errno
  }

  /// Lets two names change places.
  /// - Returns: 0, or the error number.
  static func exchange(_ a: String, _ b: String) -> Int32 { sk_exchange_names(a, b) == 0 ? 0 : errno }

  /// Whether something is mounted there, as far as the system says.
  static func isMountPoint(_ path: String) -> Bool { sk_is_mount_point(path) == 1 }

  /// Brings a folder's names to the disk.
  static func syncFolder(_ path: String) {
    let folder = open(path, O_RDONLY | O_CLOEXEC)
    guard folder >= 0 else { return }
    fsync(folder)
    close(folder)
  }

  /// A time stamp of the last change of a file or of what is known of it, in nanoseconds.
  static func statusChanged(_ status: stat) -> Int64 {
    #if canImport(Darwin)
      return Int64(status.st_ctimespec.tv_sec) * 1_000_000_000 + Int64(status.st_ctimespec.tv_nsec)
    #else
      return Int64(status.st_ctim.tv_sec) * 1_000_000_000 + Int64(status.st_ctim.tv_nsec)
    #endif
  }
}
