// A file that is fetched whole, since only the whole can be held against its hash.

import SmeltStorage

internal import Synchronization

/// Hands out ranges of a file once all of it came and has the hash that the hub states; used from any thread.
final class CheckedFile: RangeSource {
  private let entry: RemoteEntry
  /// The content, and how much of it nobody has asked for.
  private let content = Mutex<(bytes: [UInt8], left: Int)>(([], 0))

  init(_ entry: RemoteEntry) { self.entry = entry }

  func checkUnchanged() throws(FormatError) { try entry.source.checkUnchanged() }

  func fetch(_ range: Range<Int>, into memory: UnsafeMutableRawPointer) throws {
    try content.withLock { content in
      if content.bytes.isEmpty { content = (try whole(), entry.count) }
      // SAFETY: the caller has room for the range, which lies in the file.
      content.bytes[range].withUnsafeBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        memory.copyMemory(from: base, byteCount: bytes.count)
      }
      content.left -= range.count
      if content.left <= 0 { content = ([], 0) }
    }
  }

  private func whole() throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: entry.count)
    try bytes.withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      try entry.source.fetch(0..<entry.count, into: base)
    }
    var hash = SHA256()
    hash.update(bytes)
    let found = hash.hex()
    guard found == entry.sha256 else {
      throw FormatError(
        .netHash, file: entry.path, "found the SHA-256 \(found), expected \(entry.sha256 ?? "none")")
    }
    return bytes
  }
}
