// Recycles the physical pages of blocks that were dropped. Fresh memory comes from the system page by page and zeroed, which costs more
// than the copy into it; pages that are moved to another address stay resident.

internal import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A pool of free blocks that keep their physical pages, for use by one thread at a time. It stays empty where the system cannot move
/// pages between addresses.
final class SpareMemory {
  // SAFETY: `slots` is a private reservation of addresses for `capacity` blocks that nobody else knows; the first `count` blocks have
  // memory, which nobody reads. Memory is moved by whole blocks, from and to blocks that the caller has to itself. The whole is
  // removed in `deinit`.
  private let slots: UnsafeMutableRawPointer?
  private let capacity: Int
  /// Blocks that are kept.
  private(set) var count = 0
  /// Whether memory moves here, as far as is known.
  private(set) var canMove: Bool

  /// Room for some blocks; for none where the system gives no addresses.
  init(capacity: Int) {
    slots = reserveAddresses(capacity * PageBlock.bytes)
    self.capacity = capacity
    #if os(Linux)
      canMove = slots != nil
    #else
      canMove = false
    #endif
  }

  deinit { if let slots { munmap(slots, capacity * PageBlock.bytes) } }

  /// Takes a block's memory, unless there are `limit` blocks of it already. The block's addresses stay mapped.
  func keep(_ block: UnsafeMutableRawPointer, limit: Int) {
    guard let slots, count < min(limit, capacity), move(block, to: slots + count * PageBlock.bytes) else {
      return
    }
    count += 1
  }

  /// Gives memory to a block, which can be read and written then: what is in it is what it held before.
  /// - Returns: false if the pool is empty or the pages cannot be moved.
  func give(to block: UnsafeMutableRawPointer) -> Bool {
    guard let slots, count > 0, move(slots + (count - 1) * PageBlock.bytes, to: block) else { return false }
    count -= 1
    return true
  }

  private func move(_ block: UnsafeMutableRawPointer, to place: UnsafeMutableRawPointer) -> Bool {
    guard canMove else { return false }
    if sk_move_pages(block, place, PageBlock.bytes) == 0 { return true }
    // A system that can, and has no memory for its own tables, has given up what was mapped there.
    canMove = false
    removeMemory(place, PageBlock.bytes)
    return false
  }

  /// Gives all but some blocks back to the system.
  func shrink(to limit: Int) {
    while let slots, count > max(0, limit) {
      count -= 1
      removeMemory(slots + count * PageBlock.bytes, PageBlock.bytes)
    }
  }
}

/// Addresses that can neither be read nor written, a whole number of blocks that begin at a multiple of their size, so that memory moves as
/// one; nil where the system gives none.
func reserveAddresses(_ count: Int) -> UnsafeMutableRawPointer? {
  // SAFETY: what is cut off at both ends lies inside the mapping that was just made.
  let more = count + PageBlock.bytes
  guard count > 0, let memory = mmap(nil, more, PROT_NONE, reservationFlags, -1, 0), memory != MAP_FAILED
  else { return nil }
  let start = memory.alignedUp(toMultipleOf: PageBlock.bytes)
  if start > memory { munmap(memory, start - memory) }
  let rest = memory + more - (start + count)
  if rest > 0 { munmap(start + count, rest) }
  // A block may hold a few cells of many: a huge page would be all of it.
  #if os(Linux)
    madvise(start, count, Int32(MADV_NOHUGEPAGE))
  #endif
  return start
}

/// Takes memory from addresses of a reservation. Mapped anew: no other way gives it back on every system.
func removeMemory(_ start: UnsafeMutableRawPointer, _ count: Int) {
  mmap(start, count, PROT_NONE, reservationFlags | MAP_FIXED, -1, 0)
}

private var reservationFlags: Int32 {
  #if canImport(Darwin)
    MAP_PRIVATE | MAP_ANON | MAP_NORESERVE
  #else
    MAP_PRIVATE | Int32(MAP_ANONYMOUS) | Int32(MAP_NORESERVE)
  #endif
}
