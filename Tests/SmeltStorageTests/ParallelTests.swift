// Work over cores: every index once, items in order, memory bounded, errors thrown and nobody left waiting.

import SmeltStorage
import Synchronization
import Testing

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
