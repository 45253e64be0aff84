// A file whose bytes are fetched into addresses that are reserved for all of it. Memory is given to what is held or was asked for
// ahead, in blocks; what nobody holds goes again, least recently used first.

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Where the bytes of a file come from.
package protocol RangeSource: Sendable {
  /// Brings a range of the file into memory, all of it or an error. Called from threads of the pool, several at a time.
  /// - Throws: `FormatError` where the file is refused, `RequestError` io or interrupted.
  func fetch(_ range: Range<Int>, into memory: UnsafeMutableRawPointer) throws
  /// Throws `SRC_CHANGED` when the file is known to be no longer what it was.
  func checkUnchanged() throws(FormatError)
}

/// A file that is fetched through a `PagePool`.
package final class FetchedFile: PagedFile, @unchecked Sendable {
  // SAFETY: `base` is a private reservation of addresses, removed in `deinit`, when no hold, job or `Bytes` has the object. Pages are
  // given memory, filled and taken back by the pool alone, under its lock: never while a block is held, or being filled. A page that is
  // not there can be neither read nor written. `blocks` and `failure` are the pool's, under its lock.
  /// Ranges that a source is asked for begin and end at multiples of this, but for the end of the file.
  package static let cellBytes = PageBlock.cellBytes

  package let count: Int
  package let identity: FileIdentity
  let source: any RangeSource
  private let pool: PagePool
  private let reserved: UnsafeMutableRawPointer?
  private let reservedBytes: Int
  var blocks: [Int: PageBlock] = [:]
  /// The latest failure of a fetch, and how many there were.
  var failure: (number: Int, error: (any Error)?) = (0, nil)

  private static let made = Atomic<UInt64>(0)

  /// A file of `count` bytes, none of which is fetched yet.
  /// - Throws: `RequestError` io where the system gives no addresses for it.
  package init(count: Int, from source: any RangeSource, pool: PagePool = .shared) throws {
    precondition(count >= 0)
    self.count = count
    self.source = source
    self.pool = pool
    identity = FileIdentity(
      device: .max, inode: FetchedFile.made.add(1, ordering: .relaxed).oldValue)
    reservedBytes = (count + PageBlock.bytes - 1) / PageBlock.bytes * PageBlock.bytes
    guard count > 0 else {
      reserved = nil
      return
    }
    guard let memory = reserveAddresses(reservedBytes) else {
      throw RequestError(
        .io, "cannot reserve addresses for \(count) bytes: \(Platform.lastError())",
        help: "lift the limit on the addresses of a process (ulimit -v unlimited)")
    }
    reserved = memory
  }

  deinit { if let reserved { munmap(reserved, reservedBytes) } }

  package var base: UnsafeRawPointer? { reserved.map { UnsafeRawPointer($0) } }

  package func hold(_ range: Range<Int>) throws { try pool.hold(self, range) }
  package func release(_ range: Range<Int>) { pool.release(self, range) }
  package func willNeed(_ range: Range<Int>) { pool.willNeed(self, range) }
  package func evict(_ range: Range<Int>) { pool.evict(self, range) }
  package func checkUnchanged() throws(FormatError) { try source.checkUnchanged() }

  /// Gives the file bytes of its beginning that came already: whole cells of them are kept as if they had been asked for ahead.
  package func provide(_ head: [UInt8]) { pool.provide(self, head) }

  // MARK: for the pool

  /// The address of a byte, to be filled.
  func address(_ place: Int) -> UnsafeMutableRawPointer { reserved! + place }

  /// Makes a block writable, with pages from the pool of free blocks if one is passed.
  func open(_ block: Int, _ spare: SpareMemory?) throws {
    let start = address(block * PageBlock.bytes)
    if spare?.give(to: start) == true { return }
    guard mprotect(start, PageBlock.bytes, PROT_READ | PROT_WRITE) == 0 else {
      throw RequestError(
        .io, "cannot get memory for bytes that are fetched: \(Platform.lastError())",
        help: "give the program more memory, or pass a smaller --max-memory")
    }
  }

  /// Releases a block's memory; its pages may go to the pool of free blocks.
  func close(_ block: Int, _ spare: SpareMemory, limit: Int) {
    spare.keep(address(block * PageBlock.bytes), limit: limit)
    removeMemory(address(block * PageBlock.bytes), PageBlock.bytes)
  }
}

/// A stretch of a file that gets memory and loses it as one; filled in cells.
final class PageBlock {
  // Used under the pool's lock alone.
  static let bytes = 64 * cellBytes
  /// What is fetched at least: a multiple of every page size there is.
  static let cellBytes = 32 << 10

  /// Which cells are there, a bit each.
  var present: UInt64 = 0
  /// Which are asked for.
  var requested: UInt64 = 0
  var holds = 0
  /// Whether it was held since it was filled.
  var wasHeld = false
  /// The bytes of the file in it that are no longer needed: weights end where they end, and a block goes once nothing in it is needed.
  var evicted = RangeSet<Int>()
  /// When it was left last.
  var turn = 0
  /// The entry by which it stands in line to go; 0 without one.
  var listing = 0

  var isFree: Bool { holds == 0 && requested == 0 }
  /// Whether nothing that is there, of the block of this number in a file of so many bytes, is needed any longer.
  func isEvicted(_ number: Int, of count: Int) -> Bool {
    guard !evicted.isEmpty else { return false }
    return PageBlock.runs(present).allSatisfy { run in
      let start = number * PageBlock.bytes
      let (first, end) = (
        start + run.lowerBound * PageBlock.cellBytes,
        min(count, start + run.upperBound * PageBlock.cellBytes)
      )
      return evicted.ranges.contains { $0.lowerBound <= first && $0.upperBound >= end }
    }
  }

  var byteCount: Int { (present | requested).nonzeroBitCount * PageBlock.cellBytes }

  /// Cells that follow each other.
  static func runs(_ cells: UInt64) -> [Range<Int>] {
    var (runs, left): ([Range<Int>], UInt64) = ([], cells)
    while left != 0 {
      let first = left.trailingZeroBitCount
      let length = (~(left >> UInt64(first))).trailingZeroBitCount
      runs.append(first..<first + length)
      left &= first + length == 64 ? 0 : UInt64.max << UInt64(first + length)
    }
    return runs
  }

  /// The cells of a block that a range of the file touches.
  static func cells(_ range: Range<Int>, of block: Int) -> UInt64 {
    let start = block * bytes
    let first = max(0, range.lowerBound - start) / cellBytes
    let last = (min(bytes, range.upperBound - start) - 1) / cellBytes
    return (UInt64.max >> UInt64(63 - (last - first))) << UInt64(first)
  }

  /// The blocks that a range of a file touches.
  static func blocks(_ range: Range<Int>) -> Range<Int> {
    range.isEmpty ? 0..<0 : range.lowerBound / bytes..<(range.upperBound - 1) / bytes + 1
  }
}
