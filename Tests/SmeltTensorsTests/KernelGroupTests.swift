// The kernels of grouped codes against their slow twins, at every length and alignment that matters.

import CKernels
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct KernelGroupTests {
  static let bytes = (0..<300).map { UInt8(truncatingIfNeeded: $0 * 37 + $0 / 256) }

  private func floats(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) -> [UInt32] {
    var out = [Float](repeating: 7, count: count + 3)
    body(&out)
    #expect(out.suffix(3) == [7, 7, 7], "length \(count)")
    return out.prefix(count).map(\.bitPattern)
  }

  @Test(
    arguments: [0, 1, 2, 3, 31, 32, 33, 600], [(8, 0.37), (0, 0x1p-130), (15, 3e38)] as [(Float, Float)])
  func codesAreDecoded(_ count: Int, _ pair: (Float, Float)) {
    let (zero, scale) = pair
    let int4 = Reference.decodeInt4(Self.bytes, zero: zero, scale: scale, count: count)
    #expect(
      floats(count) { sk_decode_int4(Self.bytes, zero, scale, $0, count) } == int4.map(\.bitPattern))
    let e2m1 = Reference.decodeE2M1(Self.bytes, scale: scale, count: count)
    #expect(floats(count) { sk_decode_e2m1(Self.bytes, scale, $0, count) } == e2m1.map(\.bitPattern))
    let signed = (0..<count).map { Int8(bitPattern: Self.bytes[$0 % 300]) }
    let int8 = Reference.decodeInt8(signed, zero: zero, scale: scale)
    #expect(floats(count) { sk_decode_int8_zero(signed, zero, scale, $0, count) } == int8.map(\.bitPattern))
  }

  @Test(arguments: [1, 2, 4, 8], [(1, 1), (33, 65), (64, 31), (3, 100), (0, 5)])
  func matricesAreGathered(_ size: Int, _ shape: (Int, Int)) {
    let (rows, columns) = shape
    // Straight with every second row, transposed, and every second column of a transposed one; from an odd address.
    for (rowStep, columnStep) in [(2 * columns, 1), (1, rows), (2, 2 * rows + 1)] {
      let count = max(1, rows * rowStep + columns * columnStep)
      var random = Generator(seed: UInt64(size * 1000 + rows))
      let elements = (0..<count).map { _ in
        (0..<size).map { _ -> UInt8 in UInt8(truncatingIfNeeded: random.next()) }
      }
      let source: [UInt8] = [0] + Array(elements.joined())
      let expected = Array(
        Reference.gather(elements, rows: rows, columns: columns, rowStep: rowStep, columnStep: columnStep)
          .joined())
      var out = [UInt8](repeating: 0xAA, count: rows * columns * size + 1)
      source.withUnsafeBufferPointer { source in
        sk_gather(source.baseAddress! + 1, size, rows, columns, rowStep, columnStep, &out)
      }
      #expect(out == expected + [0xAA], "\(shape), steps \(rowStep), \(columnStep)")
    }
  }

  @Test func awqWordsAreUnpacked() {
    var random = Generator(seed: 4)
    let words = (0..<9).map { _ in UInt32(truncatingIfNeeded: random.next()) } + [0x7531_6420]
    let bytes = words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
    var out = [UInt8](repeating: 0xAA, count: 8 * words.count + 1)
    sk_unpack_awq(bytes, words.count, &out)
    #expect(out == Reference.unpackAWQ(words) + [0xAA])
    #expect(out[72..<80] == [0, 1, 2, 3, 4, 5, 6, 7])
  }

  @Test(arguments: [0, 1, 2, 7, 8])
  func nibblesArePackedAndSignsFlipped(_ count: Int) {
    let nibbles = Self.bytes.prefix(count).map { $0 & 15 }
    var out = [UInt8](repeating: 0xAA, count: (count + 1) / 2 + 1)
    sk_pack_nibbles(nibbles, &out, count)
    #expect(out == Reference.packNibbles(nibbles) + [0xAA])
    var flipped = [UInt8](repeating: 0xAA, count: count + 1)
    sk_flip_top_bit(Self.bytes, &flipped, count)
    #expect(flipped == Reference.flipTopBit(Array(Self.bytes.prefix(count))) + [0xAA])
  }
}
