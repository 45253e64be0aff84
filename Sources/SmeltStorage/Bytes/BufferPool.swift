// Memory that is used again and again. Fresh pages cost the system more to hand out, and the processor to bring into its cache, than
// what is computed into them.

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Buffers of one kind of work, taken and given back from any thread. It never holds more of them than were in use at once.
package final class BufferPool: Sendable {
  private struct Block: @unchecked Sendable {
    // SAFETY: one owner at a time: the list of free blocks, under its lock, or a `PooledBuffer`.
    let base: UnsafeMutableRawPointer
    let capacity: Int
  }

  /// Capacities are multiples of it, so that a buffer fits its neighbours in size.
  private static let granule = 256 << 10

  private let idle: Mutex<[Block]> = Mutex([])

  /// An empty pool.
  package init() {}

  deinit { for block in idle.withLock({ $0 }) { Self.release(block) } }

  /// A buffer of `count` bytes, uninitialized, aligned to 64; a free one is used where one is large enough, the smallest of these.
  package func take(_ count: Int) -> PooledBuffer {
    let (found, surplus) = idle.withLock { blocks -> (Block?, Block?) in
      let fitting = blocks.indices.filter { blocks[$0].capacity >= count }
      if let best = fitting.min(by: { blocks[$0].capacity < blocks[$1].capacity }) {
        return (blocks.remove(at: best), nil)
      }
      // What is too small gives way: memory is that of the largest buffers in use.
      return (nil, blocks.popLast())
    }
    if let surplus { Self.release(surplus) }
    if let found { return PooledBuffer(self, found.base, found.capacity, count) }
    let capacity = max(1, (count + Self.granule - 1) / Self.granule) * Self.granule
    return PooledBuffer(self, OutOfMemory.allocate(capacity, alignment: 64), capacity, count)
  }

  fileprivate func giveBack(_ base: UnsafeMutableRawPointer, _ capacity: Int) {
    let block = Block(base: base, capacity: capacity)
    idle.withLock { $0.append(block) }
  }

  private static func release(_ block: Block) { free(block.base) }
}

/// A buffer that goes back to its pool with the last reference to it.
package final class PooledBuffer: @unchecked Sendable {
  // SAFETY: the object has `capacity` bytes at `base` to itself from `take` until `deinit`. Its maker fills ranges of `memory`, each
  // once and before it is lent as `bytes`; nobody writes to a range that was lent.
  private let pool: BufferPool
  private let capacity: Int
  /// The memory.
  package let memory: UnsafeMutableRawBufferPointer

  fileprivate init(_ pool: BufferPool, _ base: UnsafeMutableRawPointer, _ capacity: Int, _ count: Int) {
    self.pool = pool
    self.capacity = capacity
    memory = UnsafeMutableRawBufferPointer(start: base, count: count)
  }

  deinit { if let base = memory.baseAddress { pool.giveBack(base, capacity) } }

  /// Lends a part that is filled; it must lie inside.
  package func bytes(_ range: Range<Int>) -> Bytes {
    Bytes(owner: self, pointer: UnsafeRawPointer(memory.baseAddress), count: memory.count)[range]
  }
}
