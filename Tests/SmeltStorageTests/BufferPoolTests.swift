// Memory that is used again: one owner at a time, and no more of it than was in use at once.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct BufferPoolTests {
  @Test func aBufferComesBackWithItsLastBytes() {
    let pool = BufferPool()
    var first: PooledBuffer? = pool.take(1000)
    let place = first?.memory.baseAddress
    first?.memory.initializeMemory(as: UInt8.self, repeating: 7)
    var lent = first?.bytes(10..<20)
    first = nil
    // Still lent: another one is made.
    let second = pool.take(1000)
    #expect(second.memory.baseAddress != place && second.memory.count == 1000)
    second.memory.initializeMemory(as: UInt8.self, repeating: 9)
    #expect(lent?.array == [UInt8](repeating: 7, count: 10))
    lent = nil
    let third = pool.take(900)
    #expect(third.memory.baseAddress == place && third.memory.count == 900)
  }

  @Test func whatIsTooSmallGivesWay() {
    let pool = BufferPool()
    for count in [0, 1, 300_000, 5_000_000, 100, 8_000_000] {
      let buffer = pool.take(count)
      #expect(buffer.memory.count == count && Int(bitPattern: buffer.memory.baseAddress) % 64 == 0)
      buffer.memory.initializeMemory(as: UInt8.self, repeating: 1)
    }
  }

  @Test func threadsNeverShareABuffer() throws {
    let pool = BufferPool()
    try Parallel(threads: 4).forEach(400) { (index: Int) throws in
      let buffer = pool.take(1000 + index % 7 * 100_000)
      let byte = UInt8(index % 251)
      buffer.memory.initializeMemory(as: UInt8.self, repeating: byte)
      let lent = buffer.bytes(0..<buffer.memory.count)
      lent.withUnsafeBytes { bytes in #expect(bytes.allSatisfy { $0 == byte }) }
    }
  }
}
