// Threads that take part in work. A token is some hundred pieces of work of a few microseconds each, one close behind the other, so
// that opening, joining, leaving and closing one takes no lock and no system call as long as threads are awake.

internal import CKernels
internal import Synchronization

/// Threads that help whoever asks. They are started when they are first needed, and stay.
final class ThreadPool: Sendable {
  static let shared = ThreadPool()

  /// A slot: one piece of work that threads may join.
  ///
  /// `state` says who may do what: bits 0 to 15 count the threads that are in the work, bits 16 to 31 those that may still join, then come
  /// three flags, and above them how often the slot was taken, so that a thread joins the very work that it saw.
  private struct Slot: ~Copyable {
    let state = Atomic<UInt64>(0)
    /// When the work was opened, by the count of all work; the newest is joined first.
    let order = Atomic<Int>(0)
    /// The work. Written by its owner while nobody can join.
    var body: (@Sendable () -> Void)?

    static let activeMask: UInt64 = 0xffff
    static let oneSeat: UInt64 = 1 << 16
    static let seatsMask: UInt64 = 0xffff << 16
    /// Threads may join.
    static let isOpen: UInt64 = 1 << 32
    /// The owner sleeps until the last thread has left.
    static let isAwaited: UInt64 = 1 << 33
    /// The slot has an owner.
    static let isTaken: UInt64 = 1 << 34
    static let oneTaking: UInt64 = 1 << 35

    static func canBeJoined(_ state: UInt64) -> Bool { state & isOpen != 0 && state & seatsMask != 0 }
  }

  // SAFETY: the slots are made once and never freed. `body` is written by the owner, which alone has set `isTaken`, before `isOpen` is
  // set and after the last thread has left; a thread reads it between joining and leaving. A closure is not escaping: `run` returns only
  // when no thread is in it.
  /// Work that is open at once; whoever finds no slot works alone.
  private static let slotCount = 64
  private let slots: SharedSlots
  private struct SharedSlots: @unchecked Sendable {
    let first: UnsafeMutablePointer<Slot>
  }

  /// Work ever opened. Threads that watch look at it.
  private let opened = Atomic<Int>(0)
  /// Threads without work that watch for it.
  private let watching = Atomic<Int>(0)
  /// Threads without work that sleep, or are about to.
  private let sleeping = Atomic<Int>(0)
  /// Threads started, and how many may be. Work within work finds no thread where the outer work waits, so that there are more than were
  /// asked for.
  private let threads = Atomic<Int>(0)
  private let limit = Atomic<Int>(0)
  /// Guards falling asleep and starting threads.
  private let rest = Monitor()
  /// Owners that sleep until the last thread has left.
  private let done = Monitor()

  /// Seconds for which a thread watches before it sleeps: a few times what falling asleep and waking up cost on a virtual machine.
  private static let patience = 200e-6
  /// At most so many threads watch: with the one that works, as many as can run at once.
  private let watchers = max(1, coreCount() - 1)

  private init() {
    let first = UnsafeMutablePointer<Slot>.allocate(capacity: ThreadPool.slotCount)
    for index in 0..<ThreadPool.slotCount { (first + index).initialize(to: Slot()) }
    slots = SharedSlots(first: first)
  }

  /// Runs `meanwhile` on this thread, and lets up to `helpers` others run `help` beside it. Whether any of them comes is not
  /// known: `meanwhile` must do all the work that they do not. Returns when those that came have returned.
  func run(helpers: Int, _ help: @Sendable () -> Void, meanwhile: () -> Void) {
    guard helpers > 0, let slot = take() else { return meanwhile() }
    withoutActuallyEscaping(help) { help in
      open(slot, helpers: min(helpers, Int(Slot.activeMask)), help)
      meanwhile()
      close(slot)
    }
  }

  // MARK: owners

  /// A slot that nobody has.
  private func take() -> UnsafeMutablePointer<Slot>? {
    for index in 0..<ThreadPool.slotCount {
      let slot = slots.first + index
      let state = slot.pointee.state.load(ordering: .relaxed)
      guard state & Slot.isTaken == 0 else { continue }
      let taken = (state &+ Slot.oneTaking) | Slot.isTaken
      if slot.pointee.state.compareExchange(
        expected: state, desired: taken, successOrdering: .acquiring, failureOrdering: .relaxed
      ).exchanged {
        return slot
      }
    }
    return nil
  }

  private func open(
    _ slot: UnsafeMutablePointer<Slot>, helpers: Int, _ body: @escaping @Sendable () -> Void
  ) {
    slot.pointee.body = body
    slot.pointee.order.store(opened.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
    let state = slot.pointee.state.load(ordering: .relaxed)
    // A thread that falls asleep counts itself before it looks at the slots, and this is the other way round: one sees the other.
    slot.pointee.state.store(
      state | Slot.isOpen | UInt64(helpers) << 16, ordering: .sequentiallyConsistent)
    opened.add(1, ordering: .sequentiallyConsistent)
    let missing = helpers - watching.load(ordering: .sequentiallyConsistent)
    if missing > 0 { call(missing, limit: 2 * helpers) }
  }

  /// Wakes or starts threads.
  private func call(_ missing: Int, limit asked: Int) {
    if asked > limit.load(ordering: .relaxed) { limit.max(asked, ordering: .relaxed) }
    let asleep = sleeping.load(ordering: .sequentiallyConsistent)
    let started = threads.load(ordering: .relaxed)
    guard asleep > 0 || started < limit.load(ordering: .relaxed) else { return }
    rest.locked {
      for _ in 0..<min(missing, asleep) { rest.wakeOne() }
      for _ in 0..<max(0, missing - asleep)
      where threads.load(ordering: .relaxed) < limit.load(ordering: .relaxed) {
        guard startDetachedThread({ [self] in serve() }) else {
          limit.store(threads.load(ordering: .relaxed), ordering: .relaxed)  // the system has no more
          break
        }
        threads.add(1, ordering: .relaxed)
      }
    }
  }

  private func close(_ slot: UnsafeMutablePointer<Slot>) {
    let state = slot.pointee.state.bitwiseAnd(
      ~(Slot.isOpen | Slot.seatsMask), ordering: .acquiringAndReleasing
    ).newValue
    if state & Slot.activeMask != 0 { waitForLast(slot) }
    // No thread joins any more, and those that did have left.
    slot.pointee.body = nil
    slot.pointee.state.bitwiseAnd(~(Slot.isTaken | Slot.isAwaited), ordering: .releasing)
  }

  private func waitForLast(_ slot: UnsafeMutablePointer<Slot>) {
    let isEmpty = { slot.pointee.state.load(ordering: .acquiring) & Slot.activeMask == 0 }
    if watch(until: isEmpty) { return }
    done.locked {
      slot.pointee.state.bitwiseOr(Slot.isAwaited, ordering: .acquiringAndReleasing)
      while !isEmpty() { done.wait() }
    }
  }

  // MARK: helpers

  private func serve() {
    while true {
      guard let slot = join() else {
        waitForWork()
        continue
      }
      ThreadPool.perform(slot)
      // It counts as watching before it leaves: work that is opened the moment after needs no other thread.
      watching.add(1, ordering: .sequentiallyConsistent)
      let before = opened.load(ordering: .relaxed)
      leave(slot)
      // More watchers than can run beside the one that works would only take its time.
      if watching.load(ordering: .relaxed) <= watchers, !hasWork() {
        watch { opened.load(ordering: .relaxed) != before }
      }
      watching.subtract(1, ordering: .sequentiallyConsistent)
    }
  }

  /// Runs the work of a slot. By itself, so that nothing of the closure is held when it returns.
  @inline(never)
  private static func perform(_ slot: UnsafeMutablePointer<Slot>) { slot.pointee.body?() }

  private func leave(_ slot: UnsafeMutablePointer<Slot>) {
    let left = slot.pointee.state.subtract(1, ordering: .acquiringAndReleasing).newValue
    if left & Slot.activeMask == 0, left & Slot.isAwaited != 0 { done.locked { done.wakeAll() } }
  }

  /// Joins the newest work that can be joined.
  private func join() -> UnsafeMutablePointer<Slot>? {
    while let (slot, state) = newest() {
      let joined = state - Slot.oneSeat + 1
      if slot.pointee.state.compareExchange(
        expected: state, desired: joined, successOrdering: .acquiring, failureOrdering: .relaxed
      ).exchanged {
        // Whoever opened work may have counted on this thread for two.
        if sleeping.load(ordering: .relaxed) > 0, watching.load(ordering: .relaxed) == 0, hasWork() {
          rest.locked { rest.wakeOne() }
        }
        return slot
      }
    }
    return nil
  }

  private func newest() -> (UnsafeMutablePointer<Slot>, UInt64)? {
    var found: (UnsafeMutablePointer<Slot>, UInt64)?
    var order = Int.min
    for index in 0..<ThreadPool.slotCount {
      let slot = slots.first + index
      let state = slot.pointee.state.load(ordering: .sequentiallyConsistent)
      guard Slot.canBeJoined(state) else { continue }
      let own = slot.pointee.order.load(ordering: .relaxed)
      if own > order { (found, order) = ((slot, state), own) }
    }
    return found
  }

  private func hasWork() -> Bool { newest() != nil }

  /// Sleeps until there may be work.
  private func waitForWork() {
    rest.locked {
      sleeping.add(1, ordering: .sequentiallyConsistent)
      if !hasWork() { rest.wait() }
      sleeping.subtract(1, ordering: .sequentiallyConsistent)
    }
  }

  /// Looks until something is so.
  /// - Returns: false when `patience` ended before.
  @discardableResult
  private func watch(until isSo: () -> Bool) -> Bool {
    let start = monotonicSeconds()
    repeat {
      for _ in 0..<64 {
        if isSo() { return true }
        sk_pause()
      }
    } while monotonicSeconds() - start < ThreadPool.patience
    return false
  }
}
