// The sum of a file's bytes, taken while they are on their way to the disk.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// How the bytes of a file are summed while they are written.
package enum FileSum: String, Sendable {
  /// Not at all.
  case none
  /// CRC-32C: costs least, and finds what a disk changes.
  case crc32c
  /// XXH64, as lists of files have it.
  case xxh64

  /// The sum of the first bytes of a file. Read piece by piece, and not through a mapping, which a file that becomes shorter
  /// would turn into a signal.
  /// - Returns: how many bytes there were, at most `count`, and their sum.
  /// - Throws: `RequestError` io, interrupted.
  package func contents(of path: String, first count: Int = .max) throws -> (byteCount: Int, sum: UInt64) {
    var running = RunningSum(self)
    let found = try running.add(contentsOf: path, first: count)
    return (found, running.value ?? 0)
  }
}

/// A sum of bytes that arrive in pieces.
enum RunningSum: Sendable {
  case none
  case crc32c(UInt32)
  case xxh64(XXH64)

  init(_ sum: FileSum) {
    self =
      switch sum {
      case .none: .none
      case .crc32c: .crc32c(0)
      case .xxh64: .xxh64(XXH64())
      }
  }

  mutating func update(_ bytes: UnsafeRawBufferPointer) {
    switch self {
    case .none: break
    case .crc32c(let sum): self = .crc32c(CRC32C.hash(bytes, after: sum))
    case .xxh64(var hash):
      hash.update(bytes)
      self = .xxh64(hash)
    }
  }

  /// The checksum of all bytes so far; nil if no checksum is computed.
  var value: UInt64? {
    switch self {
    case .none: nil
    case .crc32c(let sum): UInt64(sum)
    case .xxh64(let hash): hash.value()
    }
  }

  /// Adds the first bytes of a file.
  /// - Parameter use: is given them, piece by piece.
  /// - Returns: how many there were, at most `limit`.
  /// - Throws: `RequestError` io, interrupted.
  mutating func add(
    contentsOf path: String, first limit: Int, _ use: (UnsafeRawBufferPointer) throws -> Void = { _ in }
  ) throws -> Int {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard descriptor >= 0 else { throw RequestError(.io, "cannot open '\(path)': \(Platform.lastError())") }
    defer { close(descriptor) }
    // SAFETY: freed on every way out; the sum takes the `count` bytes that were just read, at most all of it.
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { buffer.deallocate() }
    var total = 0
    while total < limit {
      try Interrupt.check()
      let count = Platform.read(descriptor, buffer.baseAddress!, min(buffer.count, limit - total))
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw RequestError(.io, "cannot read '\(path)': \(Platform.lastError())") }
      if count == 0 { break }
      let some = UnsafeRawBufferPointer(rebasing: buffer[..<count])
      update(some)
      try use(some)
      total += count
    }
    return total
  }
}
