// Blocks of a file on their way to the disk while the next ones are being filled. A result is written once, front to back, and is
// not read again soon: it goes past the system's page cache, where there is a way, and costs no copy there.

internal import CKernels
internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Appends bytes to an open file, block by block, on a thread of its own. Used by one thread at a time.
final class WriteBehind {
  /// Whole blocks end at multiples of this: a multiple of every disk's block size.
  static let blockBytes = 4 << 20
  /// What addresses and lengths of writes past the page cache must be multiples of: a page.
  fileprivate static let alignment = 4096
  /// Blocks at once: one being filled, the others on their way.
  private static let blockLimit = 3

  private let file: TargetFile
  private let thread = SerialThread()
  /// The sum of all bytes so far.
  private var running: RunningSum
  /// Bytes that are copied and summed at a time: they lie in the processor's cache for both.
  private static let stepBytes = 256 << 10
  /// The block being filled; nil while it is empty.
  private var block: WriteBlock?

  /// The place of the next byte.
  private(set) var position: Int

  /// Begins behind `position` bytes of a file that is open for writing.
  /// - Parameter sum: the sum of those bytes, to which all others are added.
  init(_ descriptor: Int32, at position: Int, sum: RunningSum = .none) {
    file = TargetFile(descriptor)
    running = sum
    self.position = position
  }

  deinit { _ = drain() }

  /// Adds bytes.
  /// - Returns: the error number of the first write that the system refused; 0: none.
  func append(_ bytes: UnsafeRawBufferPointer) -> Int32 {
    var done = 0
    while done < bytes.count {
      let open = block ?? begin()
      let count = min(open.room, bytes.count - done, WriteBehind.stepBytes)
      let some = UnsafeRawBufferPointer(rebasing: bytes[done..<done + count])
      open.append(some)
      running.update(some)
      (done, position) = (done + count, position + count)
      if open.room == 0 { send() }
    }
    return file.refusal
  }

  /// Waits until all bytes are written, which may be into the page cache.
  /// - Returns: as `append`.
  func drain() -> Int32 {
    thread.drain()
    if let last = block.take() { file.write(last) }
    return file.refusal
  }

  /// The sum of all bytes that were appended; nil where they were not to be summed.
  var sum: UInt64? { running.value }

  /// Frees the memory that waits for more bytes, and the thread.
  func rest() {
    thread.rest()
    file.forgetBlocks()
  }

  /// Begins a block: waits for a free one once there are enough.
  private func begin() -> WriteBlock {
    thread.drain(to: WriteBehind.blockLimit - 1)
    let next = file.takeBlock()
    next.begin(at: position)
    block = next
    return next
  }

  private func send() {
    guard let full = block.take() else { return }
    thread.add { [file] in file.write(full) }
  }
}

/// Memory for a run of a file's bytes, used again and again: fresh memory costs more than the copy into it.
private final class WriteBlock: @unchecked Sendable {
  // SAFETY: one thread at a time has a block: the filler until `send`, then the writing thread, which gives it to the list of free
  // ones under a lock; each handing over orders memory. `append` is given at most `room` bytes by `WriteBehind.append`, checked
  // here again, since a slice of raw memory is not checked in a release build.
  /// Where it goes.
  private(set) var offset = 0
  /// How many bytes are there.
  private(set) var count = 0
  /// How many fit.
  private var limit = 0
  private let memory = UnsafeMutableRawBufferPointer(
    start: OutOfMemory.allocate(WriteBehind.blockBytes, alignment: WriteBehind.alignment),
    count: WriteBehind.blockBytes)

  deinit { free(memory.baseAddress) }

  /// Empties the block for bytes from `offset` up to the next multiple of its size.
  func begin(at offset: Int) {
    (self.offset, count, limit) = (offset, 0, memory.count - offset % memory.count)
  }

  /// Bytes that still fit.
  var room: Int { limit - count }
  /// The bytes.
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[0..<count]) }

  func append(_ more: UnsafeRawBufferPointer) {
    precondition(more.count <= room, "\(more.count) bytes for a block with room for \(room)")
    UnsafeMutableRawBufferPointer(rebasing: memory[count..<count + more.count]).copyMemory(from: more)
    count += more.count
  }
}

/// A file that blocks are written to, one after another.
private final class TargetFile: Sendable {
  private let descriptor: Int32
  private let state = Mutex(State())

  private struct State {
    /// The first refusal.
    var refusal: Int32 = 0
    /// Pages that are on their way from the cache to the disk.
    var cached: Range<Int>?
    /// Blocks that are free.
    var spare: [WriteBlock] = []
  }

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  /// The error number of the first write that the system refused; 0: none.
  var refusal: Int32 { state.withLock { $0.refusal } }

  /// A free block.
  func takeBlock() -> WriteBlock { state.withLock { $0.spare.popLast() } ?? WriteBlock() }

  func forgetBlocks() { state.withLock { $0.spare = [] } }

  /// Writes a block, which is free then.
  func write(_ block: WriteBlock) {
    defer { state.withLock { $0.spare.append(block) } }
    guard refusal == 0 else { return }
    let (bytes, offset) = (block.bytes, block.offset)
    let isAligned = offset % WriteBehind.alignment == 0 && bytes.count % WriteBehind.alignment == 0
    if isAligned, sk_bypass_cache(descriptor, 1) == 0 {
      let isWritten = Platform.write(descriptor, bytes, at: offset)
      sk_bypass_cache(descriptor, 0)
      if isWritten { return }
    }
    // The tail of a file, or a system without a way past the cache, or one that refuses it after all.
    guard Platform.write(descriptor, bytes, at: offset) else {
      let code = errno
      return state.withLock { $0.refusal = code }
    }
    // Sends the pages to the disk while the work goes on, and drops those of the block before: a large result
    // neither fills the cache nor leaves all its writing to the last `sync`.
    guard isAligned, bytes.count == WriteBehind.blockBytes else { return }
    sk_start_writeback(descriptor, Int64(offset), Int64(bytes.count))
    let before = state.withLock { state in
      defer { state.cached = offset..<offset + bytes.count }
      return state.cached
    }
    if let before { sk_drop_written(descriptor, Int64(before.lowerBound), Int64(before.count)) }
  }
}
