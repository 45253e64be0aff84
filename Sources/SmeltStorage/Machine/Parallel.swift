// Work over cores. What is computed never depends on how many threads do it.

internal import Synchronization

/// A number of threads to spread work over. Bodies must write to places of their own.
package struct Parallel: Sendable, Hashable {
  /// How many threads work at once.
  package let threads: Int

  /// Work on `threads` threads, at least one.
  package init(threads: Int) { self.threads = max(1, threads) }

  /// One thread: the caller's.
  package static let serial = Parallel(threads: 1)

  /// One thread a core.
  package static var allCores: Parallel { Parallel(threads: coreCount()) }

  /// Calls `body` once for each index below `count`, in no particular order. The first error (by index) is thrown
  /// after running bodies have ended.
  package func forEach(_ count: Int, _ body: @Sendable (Int) throws -> Void) throws {
    let workers = min(threads, count)
    guard workers > 1 else {
      for index in 0..<max(0, count) { try body(index) }
      return
    }
    let turns = Turns(count)
    let work = { @Sendable in
      while let index = turns.take() {
        do {
          try body(index)
        } catch {
          turns.fail(index, error)
        }
      }
    }
    ThreadPool.shared.run(helpers: workers - 1, work, meanwhile: work)
    if let error = turns.error { throw error }
  }

  /// Like `forEach` for bodies that cannot fail.
  package func forEach(_ count: Int, _ body: @Sendable (Int) -> Void) {
    let workers = min(threads, count)
    guard workers > 1 else {
      for index in 0..<max(0, count) { body(index) }
      return
    }
    let turns = Turns(count)
    let work = { @Sendable in while let index = turns.take() { body(index) } }
    ThreadPool.shared.run(helpers: workers - 1, work, meanwhile: work)
  }

  /// Like `forEach`, where an index is cheaper behind the one before it, as neighbouring rows of a matrix are: each thread has a share of
  /// indices that follow each other, and takes half of what another has left when its own is done.
  package func forEachInRuns(_ count: Int, _ body: @Sendable (Int) -> Void) {
    let workers = min(threads, count)
    guard workers > 1 else {
      for index in 0..<max(0, count) { body(index) }
      return
    }
    let shares = Shares(count, workers)
    let work = { @Sendable in
      let own = shares.join()
      while let index = shares.take(own) { body(index) }
    }
    ThreadPool.shared.run(helpers: workers - 1, work, meanwhile: work)
  }

  /// Makes items in parallel and hands them over in order: `consume` sees item 0, 1, 2 … one at a time. At most
  /// `2 × threads` items exist at once, so memory stays bounded.
  package func ordered<Item: Sendable>(
    _ count: Int, produce: @escaping @Sendable (Int) throws -> Item, consume: (Item) throws -> Void
  ) throws {
    guard threads > 1, count > 1 else {
      for index in 0..<max(0, count) { try consume(produce(index)) }
      return
    }
    let line = OrderedLine<Item>(count: count, window: 2 * threads)
    let make = { @Sendable (index: Int) in line.deliver(index, Result { try produce(index) }) }
    var failure: (any Error)?
    ThreadPool.shared.run(
      helpers: min(threads, count),
      { while let index = line.claim() { make(index) } },
      meanwhile: {
        defer { line.stop() }
        do {
          for _ in 0..<count { try consume(line.take(orMake: make).get()) }
        } catch {
          failure = error
        }
      })
    if let failure { throw failure }
  }
}

/// Indices that threads take one after another, and the first error.
private final class Turns: Sendable {
  private let count: Int
  private let next = Atomic<Int>(0)
  private let failed = Atomic<Bool>(false)
  private let failure = Mutex<(index: Int, error: any Error)?>(nil)

  init(_ count: Int) { self.count = count }

  /// The next index; nil if there is no such thing, or after an error.
  func take() -> Int? {
    guard !failed.load(ordering: .relaxed) else { return nil }
    let index = next.add(1, ordering: .relaxed).oldValue
    return index < count ? index : nil
  }

  func fail(_ index: Int, _ error: any Error) {
    failed.store(true, ordering: .relaxed)
    failure.withLock { if $0 == nil || $0!.index > index { $0 = (index, error) } }
  }

  var error: (any Error)? { failure.withLock { $0?.error } }
}

/// Runs of indices, one a thread, of which others may take a half.
private final class Shares: @unchecked Sendable {
  // SAFETY: the words live as long as the object, and are atomic. A share that is not empty changes by exchange alone; one that is empty
  // is filled by its owner. No index is given twice, so that an exchange never succeeds on a range that was taken.
  /// Of each share the first index that is left, and above 32 bits the one behind the last.
  private let words: UnsafeMutablePointer<Atomic<UInt64>>
  private let count: Int
  private let joined = Atomic<Int>(0)
  /// From one share to the next: a cache line.
  private static let stride = 8

  init(_ indices: Int, _ count: Int) {
    precondition(indices <= Int(UInt32.max))
    self.count = count
    words = .allocate(capacity: count * Shares.stride)
    for share in 0..<count {
      (words + share * Shares.stride).initialize(
        to: Atomic(Shares.word(share * indices / count..<(share + 1) * indices / count)))
    }
  }

  deinit { words.deallocate() }

  private static func word(_ range: Range<Int>) -> UInt64 {
    UInt64(range.lowerBound) | UInt64(range.upperBound) << 32
  }

  private static func range(_ word: UInt64) -> Range<Int> { Int(word & 0xffff_ffff)..<Int(word >> 32) }

  /// A share for the thread that asks.
  func join() -> Int { joined.add(1, ordering: .relaxed).oldValue % count }

  /// The next index of a share, or of what is left of another; nil when nothing is.
  func take(_ own: Int) -> Int? {
    let word = words + own * Shares.stride
    while true {
      let seen = word.pointee.load(ordering: .relaxed)
      let range = Shares.range(seen)
      if range.isEmpty {
        guard takeHalf(own) else { return nil }
      } else if word.pointee.compareExchange(
        expected: seen, desired: seen + 1, ordering: .relaxed
      ).exchanged {
        return range.lowerBound
      }
    }
  }

  /// Fills an empty share with the second half of the largest one.
  private func takeHalf(_ own: Int) -> Bool {
    while true {
      var (victim, seen, left) = (0, UInt64(0), 0)
      for share in 0..<count {
        let word = words[share * Shares.stride].load(ordering: .relaxed)
        if Shares.range(word).count > left { (victim, seen, left) = (share, word, Shares.range(word).count) }
      }
      guard left > 0 else { return false }
      let range = Shares.range(seen)
      let middle = range.lowerBound + left / 2
      if words[victim * Shares.stride].compareExchange(
        expected: seen, desired: Shares.word(range.lowerBound..<middle), ordering: .relaxed
      ).exchanged {
        words[own * Shares.stride].store(Shares.word(middle..<range.upperBound), ordering: .relaxed)
        return true
      }
    }
  }
}

/// The slots between producers and the one consumer of `Parallel.ordered`.
private final class OrderedLine<Item: Sendable>: @unchecked Sendable {
  // SAFETY: all variables are read and written under `monitor`; `claimNow` and `nextStep` are called with it held.
  private let monitor = Monitor()
  private let count: Int
  private let window: Int
  private var claimed = 0
  private var taken = 0
  private var stopped = false
  private var ready: [Int: Result<Item, any Error>] = [:]

  init(count: Int, window: Int) {
    self.count = count
    self.window = window
  }

  private enum Step {
    case make(Int)
    case take(Result<Item, any Error>)
  }

  /// The next index to make, once there is room for it; nil if there is no such thing.
  func claim() -> Int? {
    monitor.locked {
      while !stopped && claimed < count && claimed >= taken + window { monitor.wait() }
      return stopped ? nil : claimNow()
    }
  }

  private func claimNow() -> Int? {
    guard claimed < count, claimed < taken + window else { return nil }
    claimed += 1
    return claimed - 1
  }

  func deliver(_ index: Int, _ item: Result<Item, any Error>) {
    monitor.locked {
      ready[index] = item
      monitor.wakeAll()
    }
  }

  /// The next item, which is made here when nobody else has begun to.
  func take(orMake make: (Int) -> Void) -> Result<Item, any Error> {
    while true {
      switch monitor.locked({ nextStep() }) {
      case .take(let item): return item
      case .make(let index): make(index)
      }
    }
  }

  private func nextStep() -> Step {
    while true {
      if let item = ready.removeValue(forKey: taken) {
        taken += 1
        monitor.wakeAll()
        return .take(item)
      }
      if claimed == taken, let index = claimNow() { return .make(index) }
      monitor.wait()
    }
  }

  func stop() {
    monitor.locked {
      stopped = true
      monitor.wakeAll()
    }
  }
}
