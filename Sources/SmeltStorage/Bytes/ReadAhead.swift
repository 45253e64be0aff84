// Work that will be needed soon, done by threads of its own while others compute.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A line of keys that will be asked for, and threads that get what they stand for ready.
///
/// What is ready and was not asked for yet costs room; the threads wait until some is free. Whoever needs a key takes it
/// out of the line first: then it is ready, or nobody works on it. Results do not depend on how far the threads came.
package final class ReadAhead<Key: Hashable & Sendable>: Sendable {
  private let line: ReadAheadLine<Key>
  private let threads: [pthread_t]

  /// Starts the threads.
  /// - Parameters:
  ///   - workers: how many threads; without any nothing is done ahead.
  ///   - room: what may be ready at once; a key that costs more is never done ahead.
  ///   - body: gets a key ready, given the one that follows in the line. Must not throw, and not hold this object.
  package init(workers: Int, room: Int, body: @escaping @Sendable (Key, Key?) -> Void) {
    let line = ReadAheadLine<Key>(room: room)
    self.line = line
    threads = (0..<max(0, workers)).compactMap { _ in
      startThread {
        while let (key, next) = line.next() {
          body(key, next)
          line.finish(key)
        }
      }
    }
  }

  deinit {
    line.stop()
    for thread in threads { pthread_join(thread, nil) }
  }

  /// Puts keys at the head of the line, with what each costs; those that are in line already move there, those that are
  /// ready stay so.
  package func announce(_ items: [(key: Key, cost: Int)]) {
    guard !threads.isEmpty, !items.isEmpty else { return }
    line.announce(items)
  }

  /// Takes a key out of the line: waits for it while a thread works on it, and frees the room it took.
  package func claim(_ key: Key) { line.claim(key) }

  /// Frees the room of what has been ready since before the last call and was not asked for; forgets what waits that long.
  package func turn() { line.turn() }

  /// What is ready or being made ready now, in the unit of the costs.
  package var cost: Int { line.cost }
}

/// The state that the threads share.
private final class ReadAheadLine<Key: Hashable & Sendable>: @unchecked Sendable {
  // SAFETY: every variable is read and written with `mutex` held. Mutex and condition stay where they are, since a class's storage
  // does not move; `deinit` runs when the threads, which hold this object, are gone, and `ReadAhead` joins them.
  private var mutex = pthread_mutex_t()
  private var changed = pthread_cond_t()
  private let room: Int
  private var stopped = false
  /// The keys to do, the next one last.
  private var waiting: [Key] = []
  private var items: [Key: Item] = [:]
  private var used = 0
  private var turns = 0

  private enum Stage { case waiting, working, ready }

  private struct Item {
    var cost: Int
    var turn: Int
    var stage = Stage.waiting
  }

  init(room: Int) {
    self.room = room
    pthread_mutex_init(&mutex, nil)
    pthread_cond_init(&changed, nil)
  }

  deinit {
    pthread_cond_destroy(&changed)
    pthread_mutex_destroy(&mutex)
  }

  /// Runs `body` with the mutex held, and wakes the threads where it says that there is something for them: a wake that finds nothing
  /// costs as much as a small product.
  private func locked(_ body: () -> Bool) {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    if body() { pthread_cond_broadcast(&changed) }
  }

  var cost: Int {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    return used
  }

  func announce(_ new: [(key: Key, cost: Int)]) {
    locked {
      let again = Set(new.map(\.key))
      waiting.removeAll { again.contains($0) }
      for (key, cost) in new.reversed() where cost <= room {
        if let old = items[key], old.stage != .waiting {
          items[key]?.turn = turns
          continue
        }
        items[key] = Item(cost: cost, turn: turns)
        waiting.append(key)
      }
      return true
    }
  }

  /// The next key for a thread, once there is room for it, and the one after it; nil when it is over.
  func next() -> (Key, Key?)? {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    while !stopped {
      if let key = waiting.last, let item = items[key], used + item.cost <= room {
        waiting.removeLast()
        items[key]?.stage = .working
        used += item.cost
        return (key, waiting.last)
      }
      pthread_cond_wait(&changed, &mutex)
    }
    return nil
  }

  func finish(_ key: Key) {
    locked {
      items[key]?.stage = .ready
      return true
    }
  }

  func claim(_ key: Key) {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    guard !items.isEmpty else { return }
    while let item = items[key] {
      if item.stage == .working {
        pthread_cond_wait(&changed, &mutex)
        continue
      }
      if item.stage == .ready {
        used -= item.cost
        pthread_cond_broadcast(&changed)
      } else {
        waiting.removeAll { $0 == key }
      }
      items[key] = nil
    }
  }

  func turn() {
    locked {
      var frees = false
      for (key, item) in items where item.turn < turns {
        switch item.stage {
        case .working: continue
        case .ready:
          used -= item.cost
          frees = true
        case .waiting: waiting.removeAll { $0 == key }
        }
        items[key] = nil
      }
      turns += 1
      return frees
    }
  }

  func stop() {
    locked {
      stopped = true
      return true
    }
  }
}
