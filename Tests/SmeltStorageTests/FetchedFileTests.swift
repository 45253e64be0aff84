// Files whose bytes are fetched: what is held is there and stays, what nobody holds goes, and what fails is an error for those who
// wait for it alone.

import SmeltStorage
import SmeltTestSupport
import Synchronization
import Testing

/// Bytes that come from memory; counts what is asked for, and fails where it is told to.
private final class MemorySource: RangeSource {
  let bytes: [UInt8]
  private let state = Mutex<(asked: [Range<Int>], bad: Range<Int>, hidden: Bool)>(([], 0..<0, false))

  init(_ count: Int) { bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 9) } }

  var asked: [Range<Int>] { state.withLock { $0.asked } }
  var bad: Range<Int> {
    get { state.withLock { $0.bad } }
    set { state.withLock { $0.bad = newValue } }
  }

  func fetch(_ range: Range<Int>, into memory: UnsafeMutableRawPointer) throws {
    let isBad = state.withLock { state in
      state.asked.append(range)
      return state.bad.overlaps(range)
    }
    guard !isBad else { throw RequestError(.io, "no bytes \(range)") }
    bytes[range].withUnsafeBytes { memory.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
  }

  func checkUnchanged() throws(FormatError) {}
}

@Suite struct FetchedFileTests {
  private func file(_ count: Int, limit: Int = 8 << 20) throws -> (
    source: MemorySource, pool: PagePool, bytes: Bytes, FetchedFile
  ) {
    let source = MemorySource(count)
    let pool = PagePool(lanes: 3, limit: limit)
    let file = try FetchedFile(count: count, from: source, pool: pool)
    return (source, pool, Bytes(fetching: file), file)
  }

  @Test func everySliceIsTheFiles() throws {
    let (source, _, bytes, _) = try file(5_000_011)
    #expect(source.asked.isEmpty && bytes.count == 5_000_011 && bytes.isFetched && bytes.isMapped)
    var generator = Generator(seed: 5)
    for _ in 0..<60 {
      let start = Int(generator.next() % 5_000_011)
      let end = min(bytes.count, start + Int(generator.next() % 900_000))
      #expect(bytes[start..<end].array == Array(source.bytes[start..<end]))
      #expect(try bytes[start..<end].fetched().copy.array == Array(source.bytes[start..<end]))
    }
    #expect(bytes.array == source.bytes)
  }

  @Test(arguments: [0, 1, 4095, 32 << 10, (32 << 10) + 1, 2 << 20, (2 << 20) - 1])
  func sizesAtTheEdges(count: Int) throws {
    let (source, _, bytes, _) = try file(count)
    #expect(bytes.array == source.bytes)
    #expect(try bytes.fetched().withUnsafeBytes { Array($0) } == source.bytes)
    #expect(source.asked.allSatisfy { $0.upperBound <= count })
  }

  /// A slice is fetched without the rest, and once.
  @Test func onlyWhatIsAskedForIsFetched() throws {
    let (source, _, bytes, _) = try file(20 << 20)
    _ = try bytes[5_000_000..<5_000_100].fetched()
    #expect(source.asked.reduce(0) { $0 + $1.count } <= 64 << 10)
    let before = source.asked.count
    _ = bytes[5_000_000..<5_000_100].array
    #expect(source.asked.count == before)
  }

  /// An address stays good while the value lives, whatever is evicted and however little room there is.
  @Test func addressesStay() throws {
    let (source, _, bytes, _) = try file(24 << 20, limit: 4 << 20)
    let part = bytes[1_000_000..<3_000_000]
    let address = try #require(part.baseAddress)
    for start in stride(from: 0, to: bytes.count, by: 1 << 20) { _ = bytes[start..<start + (1 << 20)].array }
    part.evict()
    bytes.evict()
    let found = withExtendedLifetime(part) {
      Array(UnsafeRawBufferPointer(start: address, count: part.count))
    }
    #expect(found == Array(source.bytes[1_000_000..<3_000_000]))
  }

  /// What nobody holds stays within the limit, and comes again when it is asked for.
  @Test func memoryIsBounded() throws {
    let (source, pool, bytes, file) = try file(64 << 20, limit: 6 << 20)
    bytes.willNeed()
    for start in stride(from: 0, to: bytes.count, by: 3 << 20) {
      let end = min(bytes.count, start + 3 << 20)
      #expect(bytes[start..<end].array == Array(source.bytes[start..<end]))
      #expect(pool.idle <= 6 << 20)
    }
    withExtendedLifetime(file) {}
  }

  /// The memory of what went is that of what comes: nobody sees a byte of another place, and what is kept stays within the limit.
  @Test func memoryIsUsedAgain() throws {
    let (source, pool, bytes, file) = try file((24 << 20) + 5, limit: 16 << 20)
    let step = 5 << 20
    var most = 0
    for round in 0..<3 {
      for start in stride(from: round << 19, to: bytes.count, by: step) {
        let end = min(bytes.count, start + step)
        if round > 0 { bytes[end..<min(bytes.count, end + step)].willNeed() }
        let part = bytes[start..<end]
        #expect(part.array == Array(source.bytes[start..<end]))
        part.evict()
        most = max(most, pool.spareBytes)
        #expect(pool.idle + pool.spareBytes <= 16 << 20)
      }
      if round == 1 { pool.idleLimit = 0 }
      if round == 1 { #expect(pool.spareBytes == 0) }
    }
    #if os(Linux)
      #expect(most > 0 && most <= 4 << 20)
    #endif
    withExtendedLifetime(file) {}
  }

  /// Ranges end within blocks: a block goes once none of them is needed, and no cell is fetched twice for that.
  @Test func blocksOfSeveralRangesGo() throws {
    let (source, pool, bytes, _) = try file(16 << 20, limit: 64 << 20)
    for start in stride(from: 0, to: bytes.count, by: 700_001) {
      let part = try bytes[start..<min(bytes.count, start + 700_001)].fetched()
      #expect(part.array == Array(source.bytes[start..<start + part.count]))
      part.evict()
    }
    #expect(pool.idle == 0)
    #expect(source.asked.reduce(0) { $0 + $1.count } == bytes.count)
    // What is asked for again is needed again.
    let (first, second) = (bytes[0..<1_000_000], bytes[1_000_000..<2 << 20])
    _ = (first.array, second.array)
    first.evict()
    first.willNeed()
    second.evict()
    let before = source.asked.count
    _ = first.array
    #expect(source.asked.count == before)
    second.evict()
    first.evict()
    #expect(pool.idle == 0)
  }

  @Test func evictedBytesGoAndComeAgain() throws {
    let (source, pool, bytes, _) = try file(8 << 20, limit: 12 << 20)
    _ = bytes.array
    #expect(pool.idle == 8 << 20)
    bytes.evict()
    #expect(pool.idle == 0)
    let held = try bytes[0..<4 << 20].fetched()
    held.evict()
    #expect(held.array == Array(source.bytes[0..<4 << 20]))
  }

  @Test func windows() throws {
    let (source, _, bytes, _) = try file(20 << 20)
    let window = try bytes.window(9_000_000..<9_100_000)
    #expect(window.count == bytes.count)
    #expect(window[9_000_000..<9_100_000].array == Array(source.bytes[9_000_000..<9_100_000]))
    #expect(source.asked.reduce(0) { $0 + $1.count } < 300_000)
    let found = window.withUnsafeBytes { Array($0[9_050_000..<9_050_010]) }
    #expect(found == Array(source.bytes[9_050_000..<9_050_010]))
  }

  /// A failure is for those who wait for those bytes, and is forgotten when it is over.
  @Test func failures() throws {
    let (source, _, bytes, _) = try file(20 << 20)
    source.bad = 10_000_000..<10_000_001
    #expect(throws: RequestError.self) { try bytes[9_999_000..<10_001_000].fetched() }
    #expect(try bytes[0..<1000].fetched().array == Array(source.bytes[0..<1000]))
    bytes[9_000_000..<11_000_000].willNeed()
    source.bad = 0..<0
    #expect(try bytes[9_999_000..<10_001_000].fetched().array == Array(source.bytes[9_999_000..<10_001_000]))
  }

  @Test func manyReaders() throws {
    let (source, _, bytes, _) = try file(32 << 20, limit: 4 << 20)
    try Parallel(threads: 8).forEach(400) { (number: Int) throws -> Void in
      let start = number * 7_919_111 % (31 << 20)
      let part = bytes[start..<start + 400_000 + number]
      if number.isMultiple(of: 3) { part.willNeed() }
      let isEqual = try part.fetched().withUnsafeBytes {
        $0.elementsEqual(source.bytes[start..<start + 400_000 + number])
      }
      if number.isMultiple(of: 2) { part.evict() }
      #expect(isEqual, "\(number)")
    }
  }

  /// The beginning that came already is not fetched again.
  @Test func aHeadIsKept() throws {
    let (source, _, bytes, file) = try file(1 << 20)
    file.provide(Array(source.bytes.prefix(100_000)))
    #expect(bytes[0..<98_304].array == Array(source.bytes.prefix(98_304)))
    #expect(source.asked.isEmpty)
    let (small, _, all, whole) = try self.file(1000)
    whole.provide(small.bytes)
    #expect(all.array == small.bytes && small.asked.isEmpty)
  }
}
