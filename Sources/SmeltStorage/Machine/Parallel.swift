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
