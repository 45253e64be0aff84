// The codes of chunks, on every instruction set, against their twins: all small lengths, unaligned places, and stored bytes that
// lie. Guard bytes stand on both sides of what is written, and what is read ends at the end of its memory.

import CKernels
import SmeltTensors
import SmeltTestSupport
import Testing

extension KernelTests {
  typealias Element = Reference.PlaneElement
  static let codecLengths =
    Array(0...330) + [383, 384, 385, 511, 512, 513, 640, 1000, 1023, 1024, 1025, 1099, 1100]

  /// Memory of exactly `count` bytes between guards, at a place that is aligned to nothing.
  static func guarded<R>(_ count: Int, _ body: (UnsafeMutablePointer<UInt8>) -> R) -> (
    R, [UInt8], clean: Bool
  ) {
    var bytes = [UInt8](repeating: 0xA5, count: count + 259)
    let place = 129 + count % 2
    let result = bytes.withUnsafeMutableBufferPointer { body($0.baseAddress! + place) }
    let clean = (bytes[..<place] + bytes[(place + count)...]).allSatisfy { $0 == 0xA5 }
    return (result, Array(bytes[place..<place + count]), clean)
  }

  /// A copy of `bytes` that ends where its memory does.
  static func exactly<R>(_ bytes: [UInt8], _ body: (UnsafePointer<UInt8>) -> R) -> R {
    let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, bytes.count))
    defer { memory.deallocate() }
    memory.update(from: bytes, count: bytes.count)
    return body(memory)
  }

  static func encodePlanes(_ source: [UInt8], _ element: Element, capacity: Int) -> (
    stored: [UInt8], clean: Bool
  ) {
    let n = source.count / element.width
    let scratch = UnsafeMutablePointer<UInt8>.allocate(capacity: sk_codec_scratch(n))
    defer { scratch.deallocate() }
    let (count, bytes, clean) = guarded(capacity) { out in
      exactly(source) { source in
        element == .bf16
          ? sk_planes16_encode(source, n, out, capacity, scratch)
          : sk_planes8_encode(source, n, out, capacity, scratch)
      }
    }
    return (Array(bytes.prefix(count)), clean)
  }

  static func decodePlanes(_ stored: [UInt8], count n: Int, _ element: Element) -> (
    fault: Int32, content: [UInt8], place: Int, clean: Bool
  ) {
    let scratch = UnsafeMutablePointer<UInt8>.allocate(capacity: sk_codec_scratch(n))
    defer { scratch.deallocate() }
    var place = -1
    let (fault, content, clean) = guarded(n * element.width) { out in
      exactly(stored) { stored_ in
        element == .bf16
          ? sk_planes16_decode(stored_, stored.count, out, n, scratch, &place)
          : sk_planes8_decode(stored_, stored.count, out, n, scratch, &place)
      }
    }
    return (fault, content, place, clean)
  }

  /// Exponents as trained weights have them, few symbols, every byte, one symbol: each of the lists of stages wins somewhere.
  static func contents(_ n: Int, _ element: Element) -> [[UInt8]] {
    var generator = Generator(seed: UInt64(n))
    let bytes = n * element.width
    return [
      (0..<n).flatMap { _ -> [UInt8] in
        let bits: UInt32 = generator.normal().bitPattern >> 16
        let (low, high) = (UInt8(bits & 0xFF), UInt8(bits >> 8))
        return element == .bf16 ? [low, high] : [(high & 0x80) | (high & 0x07) << 4 | low >> 4]
      },
      (0..<bytes).map { _ in [0x3C, 0x3C, 0x41, 0xBD].randomElement(using: &generator)! },
      (0..<bytes).map { _ in UInt8.random(in: 0...255, using: &generator) },
      [UInt8](repeating: 0x38, count: bytes),
    ]
  }

  @Test(arguments: Element.allCases)
  func planesAreTheirTwins(element: Element) {
    var lists = Set<UInt8>()
    for n in Self.codecLengths {
      for (kind, source) in Self.contents(n, element).enumerated() {
        let expected = Reference.encodePlanes(source, element)
        lists.insert(expected[0])
        #expect(Reference.decodePlanes(expected, count: n, element) == source)
        onEveryISA { isa in
          let what: Comment = "\(isa), \(element), kind \(kind), length \(n)"
          let (stored, encodedClean) = Self.encodePlanes(source, element, capacity: expected.count)
          #expect(stored == expected && encodedClean, what)
          #expect(Self.encodePlanes(source, element, capacity: expected.count - 1) == ([], true), what)
          let (fault, content, _, clean) = Self.decodePlanes(expected, count: n, element)
          #expect(fault == SK_FAULT_NONE && content == source && clean, what)
        }
      }
    }
    #expect(lists.count >= 4)
  }

  /// Of long contents some groups are counted, and symbols that are in others alone still come back.
  @Test(arguments: Element.allCases)
  func longPlanesAreTheirTwins(element: Element) {
    for n in [16_383, 16_384, 16_385, 16_448, 16_640, 20_001, 40_000] {
      for (kind, content) in Self.contents(n, element).enumerated() {
        var source = content
        // Behind the counted groups, and from then on, another exponent.
        for i in stride(from: 64 * element.width, to: source.count, by: 256 * element.width) {
          source[i + element.width - 1] = UInt8(truncatingIfNeeded: 0x11 * (i / 1000 + 1))
        }
        let expected = Reference.encodePlanes(source, element)
        #expect(Reference.decodePlanes(expected, count: n, element) == source)
        onEveryISA { isa in
          let what: Comment = "\(isa), \(element), kind \(kind), length \(n)"
          let (stored, isClean) = Self.encodePlanes(source, element, capacity: expected.count)
          let isTwin = stored == expected && isClean
          #expect(isTwin, what)
          #expect(Self.encodePlanes(source, element, capacity: expected.count - 1) == ([], true), what)
          let (fault, content, _, clean) = Self.decodePlanes(expected, count: n, element)
          let isBack = fault == SK_FAULT_NONE && content == source && clean
          #expect(isBack, what)
        }
      }
    }
  }

  /// What lies is refused by the kernels exactly where the twin refuses it; nothing outside is read or written.
  @Test(arguments: Element.allCases)
  func storedBytesThatLieAreRefused(element: Element) {
    var generator = Generator(seed: 99)
    var faults: [Int32: Int] = [:]
    for round in 0..<1500 {
      let n = [1, 63, 64, 65, 127, 200, 500][round % 7]
      var stored = Reference.encodePlanes(Self.contents(n, element)[round / 7 % 3], element)
      var count = n
      switch round % 11 {
      case 0: stored.removeLast(Int.random(in: 1...stored.count, using: &generator))
      case 1: stored += [UInt8](repeating: 0, count: Int.random(in: 1...70, using: &generator))
      case 2: count = Int.random(in: 0...600, using: &generator)
      case 3: stored[Int.random(in: 4..<20, using: &generator)] &+= 1
      case 4: stored[Int.random(in: 4..<20, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      case 5:
        stored[Int.random(in: 20..<36, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      case 6: stored[Int.random(in: 0..<4, using: &generator)] = UInt8.random(in: 0...7, using: &generator)
      case 7:  // one more escape, paid for by nobody
        stored[Int.random(in: 36..<stored.count, using: &generator)] = 0xFF
      default:
        stored[Int.random(in: 36..<stored.count, using: &generator)] ^=
          1 << UInt8.random(in: 0...7, using: &generator)
      }
      let expected = Reference.decodePlanes(stored, count: count, element)
      onEveryISA { isa in
        let (fault, content, place, clean) = Self.decodePlanes(stored, count: count, element)
        let what: Comment = "\(isa), \(element), round \(round), fault \(fault)"
        #expect(clean && (fault == SK_FAULT_NONE) == (expected != nil), what)
        if let expected { #expect(content == expected, what) }
        #expect(place >= 0 && place <= max(stored.count, 36), what)
        faults[fault, default: 0] += 1
      }
    }
    // Every kind of fault was met. (Every byte is a symbol of BF16.)
    for fault in SK_FAULT_NONE...SK_FAULT_PADDING where fault != SK_FAULT_SYMBOL || element == .fp8 {
      #expect(faults[Int32(fault), default: 0] > 0, "fault \(fault)")
    }
  }

  @Test func countsThatWouldOverflowAreRefused() {
    for element in Element.allCases {
      let stored = Reference.encodePlanes(Self.contents(64, element)[0], element)
      for s in 0..<4 {
        var lying = stored
        for i in 0..<4 { lying[4 + 4 * s + i] = 0xFF }
        #expect(Self.decodePlanes(lying, count: 64, element).fault == Int32(SK_FAULT_COUNT))
      }
    }
  }

  @Test func nibblesAreTheirTwins() {
    for n in Self.codecLengths {
      let source = Self.contents(n, .fp8)[2]
      for rotate in [false, true] {
        let expected = Reference.splitNibbles(source, rotate: rotate)
        let half = expected.high.count
        onEveryISA { isa in
          let what: Comment = "\(isa), rotate \(rotate), length \(n)"
          let (_, high, highClean) = Self.guarded(half) { high in
            let (_, low, lowClean) = Self.guarded(half) { low in
              Self.exactly(source) { sk_split_nibbles($0, n, rotate ? 1 : 0, high, low) }
            }
            #expect(low == expected.low && lowClean, what)
          }
          #expect(high == expected.high && highClean, what)
          let (_, joined, clean) = Self.guarded(n) { out in
            Self.exactly(expected.high) { high in
              Self.exactly(expected.low) { low in sk_join_nibbles(high, low, n, rotate ? 1 : 0, out) }
            }
          }
          #expect(joined == source && clean, what)
        }
        #expect(Self.exactly(expected.low) { sk_nibbles_padded($0, n) } == 1)
        for i in n..<(n + 63) / 64 * 64 where n > 0 {
          var filled = expected.low
          filled[i / 64 * 32 + i % 32] |= i % 64 < 32 ? 0x08 : 0x10
          #expect(Self.exactly(filled) { sk_nibbles_padded($0, n) } == 0, "length \(n), nibble \(i)")
        }
      }
    }
  }

  @Test func pairsAreTheirTwins() {
    for n in Self.codecLengths {
      for (kind, source) in Self.contents(n, .bf16).enumerated() {
        let base = Self.exactly(source) { sk_pairs16_base($0, n) }
        let counts = Reference.split(source, width: 2, rotate: 1).prefix(n).reduce(
          into: [Int](repeating: 0, count: 256)
        ) {
          $0[Int($1)] += 1
        }
        let inside = { (b: UInt8) in counts[Int(b) - 14...Int(b)].reduce(0, +) }
        #expect(base == (14...255).max { (inside($0), $1) < (inside($1), $0) }, "kind \(kind), length \(n)")
        let expected = Reference.splitPairs(source, base: base)
        onEveryISA { isa in
          let what: Comment = "\(isa), kind \(kind), length \(n)"
          let (_, nibbles, nibblesClean) = Self.guarded(expected.nibbles.count) { nibbles in
            let (_, low, lowClean) = Self.guarded(n) { low in
              let (count, escapes, clean) = Self.guarded(n) { escapes in
                Self.exactly(source) { sk_split_pairs16($0, n, base, nibbles, low, escapes) }
              }
              #expect(Array(escapes.prefix(count)) == expected.escapes && clean, what)
            }
            #expect(low == expected.low && lowClean, what)
          }
          #expect(nibbles == expected.nibbles && nibblesClean, what)
          // One escape too few or too many shows in the count, and nothing behind the last is read.
          for offered in [expected.escapes.count, expected.escapes.count - 1, 0] where offered >= 0 {
            let (asked, joined, clean) = Self.guarded(2 * n) { out in
              Self.exactly(expected.nibbles) { nibbles in
                Self.exactly(expected.low) { low in
                  Self.exactly(Array(expected.escapes.prefix(offered))) {
                    sk_join_pairs16(nibbles, low, n, base, $0, offered, out)
                  }
                }
              }
            }
            #expect(asked == expected.escapes.count && clean, what)
            if offered == expected.escapes.count { #expect(joined == source, what) }
          }
        }
      }
    }
  }

  @Test func bytesAreCounted() {
    for n in [0, 1, 3, 4, 5, 1000, 1003] {
      let source = Self.contents(n, .fp8)[1]
      var counts = [UInt32](repeating: 7, count: 256)
      Self.exactly(source) { sk_count_bytes($0, n, &counts) }
      #expect(counts == (0..<256).map { b in UInt32(source.count { Int($0) == b }) })
    }
    // Few symbols, and a rare one in some of the runs that are counted at once.
    for symbols in [1, 2, 3, 15, 16, 17, 40] {
      for n in [4095, 4096, 4097, 4160, 8192, 8256, 8257, 20480, 40_961] {
        var generator = Generator(seed: UInt64(symbols * n))
        var source = (0..<n).map { _ in UInt8((Int.random(in: 0..<symbols, using: &generator) + 250) & 255) }
        if n > 20_000 { source[n - 3] = 130 }
        var counts = [UInt32](repeating: 7, count: 256)
        Self.exactly(source) { sk_count_bytes($0, n, &counts) }
        var expected = [UInt32](repeating: 0, count: 256)
        for byte in source { expected[Int(byte)] += 1 }
        let isEqual = counts == expected
        #expect(isEqual, "\(symbols) symbols, \(n) bytes")
      }
    }
  }

  /// The bound on what a search for repetitions reaches: the twin's, and near the entropy where nothing is repeated.
  @Test func leastSearchedIsTheTwins() {
    let logarithms: [(UInt32, UInt32)] = [
      (1, 0), (2, 256), (3, 405), (7, 718), (10, 850), (255, 2046), (1_000, 2551), (65_535, 4095),
      (65_536, 4096), (262_143, 4607), (4_294_967_295, 8191),
    ]
    for (x, exact) in logarithms {
      let found = Reference.logarithm8(x)
      #expect(found <= exact && exact - found <= 1, "\(x): \(found), \(exact)")
    }
    var generator = Generator(seed: 21)
    for n in Array(0...40) + [255, 4096, 65_536, 65_537] {
      for values in [1, 2, 7, 256] as [UInt64] {
        var bytes = (0..<n).map { _ in UInt8(generator.next() % values) }
        for repeats in [false, true] where n >= 64 || !repeats {
          if repeats { for i in n / 2..<n { bytes[i] = bytes[i - n / 2] } }
          for element in [1, 2, 4, 8] {
            let found = Self.exactly(bytes) { sk_least_searched($0, n, element) }
            #expect(found == Reference.leastSearched(bytes, element: element), "\(n), \(values), \(element)")
          }
        }
      }
    }
    let random = (0..<65_536).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    #expect((65_000...65_536).contains(Reference.leastSearched(random, element: 2)))
    #expect(Reference.leastSearched(random + random, element: 2) == 0)
  }
}
