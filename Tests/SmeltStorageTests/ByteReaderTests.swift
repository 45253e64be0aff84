// The cursor over bytes: numbers in file order, and no read beyond the end.

import SmeltStorage
import Testing

@Suite struct ByteReaderTests {
  private func reader(_ bytes: [UInt8], origin: Int = 0) -> ByteReader {
    ByteReader(Bytes(bytes), file: "f", origin: origin, code: .ingotIndex)
  }

  @Test func readsInOrder() throws {
    var reader = reader([1, 0x34, 0x12, 0xFF, 0xFF, 0xFF, 0xFF, 3, 0, 0x61, 0xC3, 0xA9, 9])
    #expect(try reader.number(UInt8.self, "a") == 1)
    #expect(try reader.number(UInt16.self, "b") == 0x1234)
    #expect(try reader.number(Int32.self, "c") == -1)
    #expect(try reader.string("d") == "aé")
    #expect(reader.position == 12 && reader.remaining == 1)
    #expect(try reader.take(1, "e").array == [9])
    #expect(try reader.take(0, "f").array.isEmpty)
  }

  @Test(arguments: [-1, 4, Int.max]) func refusesToPassTheEnd(_ count: Int) throws {
    var reader = reader([1, 2, 3, 4], origin: 100)
    _ = try reader.take(1, "first")
    let error = try #require(throws: FormatError.self) { try reader.take(count, "field") }
    #expect(error.code == .ingotIndex && error.file == "f" && error.subject == "field" && error.offset == 101)
    #expect(error.problem == "needs \(count) bytes, 3 are left")
    #expect(reader.position == 1)
  }

  @Test func refusesShortNumbers() throws {
    var reader = reader([1, 2, 3])
    #expect(throws: FormatError.self) { try reader.number(UInt32.self, "n") }
    #expect(try reader.number(UInt16.self, "n") == 0x0201)
  }

  @Test func sizesAreBounded() throws {
    var good = reader([0, 0, 0, 0, 0, 0, 0, 0x40])
    #expect(try good.size("s") == 1 << 62)
    var over = reader([1, 0, 0, 0, 0, 0, 0, 0x40])
    #expect(throws: FormatError.self) { try over.size("s") }
    var enormous = reader([UInt8](repeating: 0xFF, count: 8))
    #expect(throws: FormatError.self) { try enormous.size("s") }
  }

  @Test func refusesTextThatIsNone() throws {
    var long = reader([5, 0, 0x61])
    #expect(throws: FormatError.self) { try long.string("s") }
    var broken = reader([2, 0, 0xC3, 0x28])
    #expect(throws: FormatError.self) { try broken.string("s") }
  }

  @Test func slicesKeepTheirOwner() {
    var bytes: Bytes? = Bytes([1, 2, 3, 4, 5])
    let slice = bytes![1..<4][1..<3]
    bytes = nil
    #expect(slice.array == [3, 4] && slice.count == 2)
  }
}
