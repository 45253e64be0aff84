// The bounded cache and the line of what is read ahead.

import SmeltStorage
import Synchronization
import Testing

@Suite struct BoundedCacheTests {
  @Test func theLeastRecentlyUsedGoesFirst() {
    let cache = BoundedCache<String, Int>(limit: 30)
    for (place, key) in ["a", "b", "c"].enumerated() { cache.keep(key, place, byteCount: 10) }
    #expect(cache.find("a") == 0)
    #expect(!cache.hasDropped)
    cache.keep("d", 3, byteCount: 10)
    #expect(cache.hasDropped)
    #expect(!cache.contains("b") && cache.contains("a") && cache.contains("c") && cache.contains("d"))
    #expect(cache.contains("c"))  // looking at it is no use
    cache.keep("e", 4, byteCount: 20)
    #expect(cache.find("c") == nil && cache.find("a") == nil && cache.find("d") == 3 && cache.find("e") == 4)
    #expect(cache.byteCount == 30)
  }

  @Test func pinnedValuesStayAndLeaveRoom() {
    let cache = BoundedCache<Int, Int>(limit: 100)
    cache.keep(0, 0, byteCount: 40, pinned: true)
    cache.keep(1, 1, byteCount: 20, pinned: true)  // half of the limit is pinned at most
    #expect(cache.pinnedBytes == 40)
    for key in 2..<50 {
      cache.keep(key, key, byteCount: 25)
      #expect(cache.byteCount <= 100)
    }
    #expect(cache.find(0) == 0 && cache.find(1) == nil)
    #expect(!cache.keep(99, 99, byteCount: 61))  // no room beside what is pinned
    cache.unpin(0)
    #expect(cache.pinnedBytes == 0)
    #expect(cache.keep(99, 99, byteCount: 100))
    #expect(cache.find(0) == nil && cache.byteCount == 100)
    cache.pin(99)
    #expect(cache.pinnedBytes == 0)
  }

  @Test func aPinMovesWhatIsKept() {
    let cache = BoundedCache<Int, Int>(limit: 40)
    cache.keep(0, 0, byteCount: 10)
    cache.pin(0)
    cache.pin(7)
    for key in 1..<9 { cache.keep(key, key, byteCount: 10) }
    #expect(cache.find(0) == 0 && cache.pinnedBytes == 10)
    cache.keep(0, 5, byteCount: 12)
    #expect(cache.find(0) == 5 && cache.pinnedBytes == 0)
  }

  @Test func aLowerLimitHoldsAtOnce() {
    let cache = BoundedCache<Int, Int>(limit: 100)
    cache.keep(0, 0, byteCount: 40, pinned: true)
    for key in 1..<7 { cache.keep(key, key, byteCount: 10) }
    cache.limit = 55
    #expect(cache.byteCount == 50 && cache.find(0) == 0 && cache.find(6) == 6 && cache.find(5) == nil)
    cache.limit = 20
    #expect(cache.byteCount == 0 && cache.pinnedBytes == 0)
    cache.keep(8, 8, byteCount: 20)
    #expect(cache.byteCount == 20)
    cache.remove(8)
    #expect(cache.byteCount == 0)
  }
}

@Suite struct ReadAheadTests {
  @Test(arguments: [1, 3])
  func whatIsClaimedIsReadyOrNobodysWork(_ workers: Int) {
    let states = Mutex<[Int: Int]>([:])  // 1: being made, 2: ready
    let ahead = ReadAhead<Int>(workers: workers, room: 4) { key, _ in
      states.withLock { $0[key] = 1 }
      states.withLock { $0[key] = 2 }
    }
    ahead.announce([(-1, 1)])
    while states.withLock({ $0[-1] }) != 2 {}
    ahead.claim(-1)
    for round in 0..<50 {
      let keys = round * 20..<round * 20 + 20
      ahead.announce(keys.map { ($0, 1) })
      for key in keys {
        ahead.claim(key)
        #expect(states.withLock { $0[key] } != 1)
        #expect(ahead.cost <= 4)
      }
    }
    #expect(ahead.cost == 0)
  }

  @Test func roomIsKeptAndComesBack() {
    let made = Mutex<[Int]>([])
    let ahead = ReadAhead<Int>(workers: 1, room: 10) { key, _ in made.withLock { $0.append(key) } }
    func wait(_ count: Int) { while made.withLock({ $0.count }) < count {} }
    ahead.announce([(1, 6), (2, 4), (3, 11), (4, 6)])  // 3 never fits
    wait(2)
    #expect(ahead.cost == 10)
    ahead.announce([(5, 1)])
    ahead.claim(1)
    wait(3)
    #expect(made.withLock { $0 } == [1, 2, 5])  // what was announced last comes first
    ahead.claim(5)
    wait(4)
    #expect(made.withLock { $0 } == [1, 2, 5, 4])
    #expect(ahead.cost == 10)
    ahead.turn()
    #expect(ahead.cost == 10)  // may still be asked for
    ahead.turn()
    #expect(ahead.cost == 0)
    ahead.claim(77)
  }

  @Test func nothingIsDoneWithoutThreads() {
    let ahead = ReadAhead<Int>(workers: 0, room: 10) { _, _ in Issue.record("was called") }
    ahead.announce([(1, 1)])
    ahead.claim(1)
    #expect(ahead.cost == 0)
  }
}
