// Work over cores: every index once, items in order, memory bounded, errors thrown and nobody left waiting.

import SmeltStorage
import Synchronization
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

private struct Failure: Error, Equatable { let index: Int }

/// Counts how many things exist at once.
private final class Census: Sendable {
  private let state = Mutex<(now: Int, most: Int)>((0, 0))
  func arrive() {
    state.withLock {
      $0.now += 1
      $0.most = max($0.most, $0.now)
    }
  }
  func leave() { state.withLock { $0.now -= 1 } }
  var most: Int { state.withLock { $0.most } }
}

@Suite struct ParallelTests {
  @Test(arguments: [1, 2, 3, 8], [0, 1, 2, 7, 1000])
  func everyIndexOnce(_ threads: Int, _ count: Int) throws {
    let seen = Mutex([Int](repeating: 0, count: count))
    Parallel(threads: threads).forEach(count) { index in seen.withLock { $0[index] += 1 } }
    #expect(seen.withLock { $0 } == [Int](repeating: 1, count: count))
    try Parallel(threads: threads).forEach(count) { (index) throws in seen.withLock { $0[index] += 1 } }
    #expect(seen.withLock { $0 } == [Int](repeating: 2, count: count))
  }

  @Test(arguments: [1, 2, 3, 8], [0, 1, 2, 7, 64, 1000])
  func everyIndexOnceInRuns(_ threads: Int, _ count: Int) {
    for _ in 0..<20 {
      let seen = Mutex([Int](repeating: 0, count: count))
      Parallel(threads: threads).forEachInRuns(count) { index in
        // Uneven work, so that threads take from each other.
        let work = (0..<(index < count / 4 ? 500 : 0)).reduce(0) { $0 ^ ($1 & 0) }
        seen.withLock { $0[index] += 1 + work }
      }
      #expect(seen.withLock { $0 } == [Int](repeating: 1, count: count))
    }
  }

  /// Neighbours follow each other on a thread, but where it took what another had left.
  @Test func aThreadTakesNeighbours() {
    let seen = Mutex([String: [Int]]())
    Parallel(threads: 2).forEachInRuns(4096) { index in
      seen.withLock { $0["\(pthread_self())", default: []].append(index) }
    }
    for indices in seen.withLock({ Array($0.values) }) {
      let jumps = zip(indices, indices.dropFirst()).count { $0 + 1 != $1 }
      #expect(jumps <= 24, "\(jumps) jumps among \(indices.count)")
    }
  }

  /// More work at once than the pool has places for: whoever finds none works alone.
  @Test func workWithinWork() {
    let sum = Mutex(0)
    @Sendable func split(_ depth: Int) {
      guard depth > 0 else {
        sum.withLock { $0 += 1 }
        return
      }
      Parallel(threads: 3).forEach(3) { _ in split(depth - 1) }
    }
    split(7)
    #expect(sum.withLock { $0 } == 2187)
    @Sendable func deep(_ depth: Int) {
      guard depth > 0 else { return }
      Parallel(threads: 2).forEach(2) { index in if index == 0 { deep(depth - 1) } }
      sum.withLock { $0 += 1 }
    }
    deep(100)
    #expect(sum.withLock { $0 } == 2287)
  }

  /// Many short pieces of work with pauses between, so that threads fall asleep and wake up; from several threads at once.
  @Test func shortWorkAndPauses() {
    Parallel(threads: 4).forEach(4) { outer in
      for round in 0..<400 {
        let sum = Mutex(0)
        Parallel(threads: 2 + outer % 2).forEach(8) { index in sum.withLock { $0 += index } }
        #expect(sum.withLock { $0 } == 28)
        if round % 40 == 0 { usleep(500) }
      }
    }
  }

  @Test(arguments: [1, 2, 5]) func errorIsThrown(_ threads: Int) {
    let error = #expect(throws: Failure.self) {
      try Parallel(threads: threads).forEach(100) { index in if index == 40 { throw Failure(index: index) } }
    }
    #expect(error == Failure(index: 40))
  }

  @Test(arguments: [1, 2, 3, 8], [0, 1, 2, 500])
  func itemsComeInOrder(_ threads: Int, _ count: Int) throws {
    var found: [Int] = []
    try Parallel(threads: threads).ordered(count) { index in
      // Uneven work, so that later items are ready before earlier ones.
      (0..<(index % 7) * 2000).reduce(index * index) { $0 ^ ($1 & 0) }
    } consume: {
      found.append($0)
    }
    #expect(found == (0..<count).map { $0 * $0 })
  }

  @Test func atMostTwiceTheThreadsExist() throws {
    let census = Census()
    try Parallel(threads: 3).ordered(200) { index in
      census.arrive()
      return index
    } consume: { _ in
      census.leave()
    }
    // The window of 2 × 3, and the one that is being consumed.
    #expect(census.most <= 7 && census.most >= 1)
  }

  @Test(arguments: [1, 2, 4]) func producerErrorComesInItsTurn(_ threads: Int) {
    var consumed: [Int] = []
    let error = #expect(throws: Failure.self) {
      try Parallel(threads: threads).ordered(50) { index in
        if index >= 20 { throw Failure(index: index) }
        return index
      } consume: {
        consumed.append($0)
      }
    }
    #expect(error == Failure(index: 20))
    #expect(consumed == Array(0..<20))
  }

  @Test(arguments: [1, 2, 4]) func consumerErrorStopsTheProducers(_ threads: Int) {
    let made = Mutex(0)
    let error = #expect(throws: Failure.self) {
      try Parallel(threads: threads).ordered(1000) { index in
        made.withLock { $0 += 1 }
        return index
      } consume: { item in
        if item == 10 { throw Failure(index: item) }
      }
    }
    #expect(error == Failure(index: 10))
    // Ten consumed, one refused, and what the window lets be made ahead.
    #expect(made.withLock { $0 } <= 11 + 2 * threads)
  }

  @Test func threadsAreAtLeastOne() {
    #expect(Parallel(threads: 0).threads == 1 && Parallel(threads: -3) == .serial)
    #expect(Parallel.allCores.threads == coreCount())
  }
}
