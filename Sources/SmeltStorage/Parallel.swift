// Work over cores: the only threading in the package. What is computed never depends on how many threads do it.

internal import Dispatch
internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A number of threads to spread work over. Bodies must write to places of their own.
public struct Parallel: Sendable, Hashable {
  /// How many threads work at once.
  public let threads: Int

  /// Work on `threads` threads, at least one.
  public init(threads: Int) { self.threads = max(1, threads) }

  /// One thread: the caller's.
  public static let serial = Parallel(threads: 1)

  /// One thread a core.
  public static var allCores: Parallel { Parallel(threads: coreCount()) }

  /// Calls `body` once for each index below `count`, in no particular order. The first error (by index) is thrown
  /// after running bodies have ended.
  public func forEach(_ count: Int, _ body: @Sendable (Int) throws -> Void) throws {
    let workers = min(threads, count)
    guard workers > 1 else {
      for index in 0..<max(0, count) { try body(index) }
      return
    }
    let next = Atomic<Int>(0)
    let failed = Atomic<Bool>(false)
    let failure = Mutex<(index: Int, error: any Error)?>(nil)
    DispatchQueue.concurrentPerform(iterations: workers) { _ in
      while !failed.load(ordering: .relaxed) {
        let index = next.add(1, ordering: .relaxed).oldValue
        guard index < count else { return }
        do {
          try body(index)
        } catch {
          failed.store(true, ordering: .relaxed)
          failure.withLock { if $0 == nil || $0!.index > index { $0 = (index, error) } }
        }
      }
    }
    if let found = failure.withLock({ $0 }) { throw found.error }
  }

  /// Like `forEach` for bodies that cannot fail.
  public func forEach(_ count: Int, _ body: @Sendable (Int) -> Void) {
    let workers = min(threads, count)
    guard workers > 1 else {
      for index in 0..<max(0, count) { body(index) }
      return
    }
    let next = Atomic<Int>(0)
    DispatchQueue.concurrentPerform(iterations: workers) { _ in
      while true {
        let index = next.add(1, ordering: .relaxed).oldValue
        guard index < count else { return }
        body(index)
      }
    }
  }

  /// Makes items in parallel and hands them over in order: `consume` sees item 0, 1, 2 … one at a time. At most
  /// `2 × threads` items exist at once, so memory stays bounded.
  public func ordered<Item: Sendable>(
    _ count: Int, produce: @escaping @Sendable (Int) throws -> Item, consume: (Item) throws -> Void
  ) throws {
    guard threads > 1, count > 1 else {
      for index in 0..<max(0, count) { try consume(produce(index)) }
      return
    }
    let line = OrderedLine<Item>(count: count, window: 2 * threads)
    let group = DispatchGroup()
    let queue = DispatchQueue(label: "smelt.ordered", attributes: .concurrent)
    for _ in 0..<min(threads, count) {
      queue.async(group: group) {
        while let index = line.claim() {
          line.deliver(index, Result { try produce(index) })
        }
      }
    }
    defer {
      line.stop()
      group.wait()
    }
    for _ in 0..<count { try consume(line.take().get()) }
  }
}

/// The slots between producers and the one consumer of `Parallel.ordered`.
private final class OrderedLine<Item: Sendable>: @unchecked Sendable {
  private var mutex = pthread_mutex_t()
  private var changed = pthread_cond_t()
  private let count: Int
  private let window: Int
  private var claimed = 0
  private var taken = 0
  private var stopped = false
  private var ready: [Int: Result<Item, any Error>] = [:]

  init(count: Int, window: Int) {
    self.count = count
    self.window = window
    pthread_mutex_init(&mutex, nil)
    pthread_cond_init(&changed, nil)
  }

  deinit {
    pthread_cond_destroy(&changed)
    pthread_mutex_destroy(&mutex)
  }

  /// The next index to make, once there is room for it; nil when there is none.
  func claim() -> Int? {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    while !stopped && claimed < count && claimed >= taken + window { pthread_cond_wait(&changed, &mutex) }
    guard !stopped, claimed < count else { return nil }
    defer { claimed += 1 }
    return claimed
  }

  func deliver(_ index: Int, _ item: Result<Item, any Error>) {
    pthread_mutex_lock(&mutex)
    ready[index] = item
    pthread_cond_broadcast(&changed)
    pthread_mutex_unlock(&mutex)
  }

  func take() -> Result<Item, any Error> {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    while true {
      if let item = ready.removeValue(forKey: taken) {
        taken += 1
        pthread_cond_broadcast(&changed)
        return item
      }
      pthread_cond_wait(&changed, &mutex)
    }
  }

  func stop() {
    pthread_mutex_lock(&mutex)
    stopped = true
    pthread_cond_broadcast(&changed)
    pthread_mutex_unlock(&mutex)
  }
}
