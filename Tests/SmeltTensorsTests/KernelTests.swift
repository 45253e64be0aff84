// Every C kernel, on every instruction set of this machine, against its Swift twin: bit for bit, at all small lengths,
// at unaligned places, and without a byte written beyond the end.

import CKernels
import SmeltTensors
import SmeltTestSupport
import Synchronization
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Lengths around every vector width, and around the block of a sum.
let lengths = Array(0...67) + [127, 128, 255, 256, 257, 600]
let sumLengths = Array(0...67) + [128, 1000, 1023, 1024, 1025, 1040, 2048, 2100]
/// Elements in the arrays that the lengths are cut from, at places 0...3.
let arrayLength = 603

let availableISAs = [
  SK_ISA_BASELINE, SK_ISA_AVX2, SK_ISA_AVX512, SK_ISA_AVX512_VNNI, SK_ISA_AVX512_VBMI2, SK_ISA_NEON,
].map { Int32($0) }
  .filter { sk_isa_available($0) == 1 }

/// Held while an instruction set is forced: suites run side by side, and must not force another one meanwhile.
private let forced = Mutex(())

/// Runs `body` once with each instruction set.
func onEveryISA<E: Error>(_ body: (String) throws(E) -> Void) throws(E) {
  try forced.withLock { _ throws(E) in
    defer { sk_isa_force(sk_isa_chosen()) }
    for isa in availableISAs {
      sk_isa_force(isa)
      try body(String(cString: sk_isa_name(isa)))
    }
  }
}

/// The index of the first element whose bytes differ, or nil.
func firstDifference<T>(_ found: ArraySlice<T>, _ expected: ArraySlice<T>) -> Int? {
  precondition(found.count == expected.count)
  return found.withUnsafeBytes { f in
    expected.withUnsafeBytes { e in
      guard !f.isEmpty, memcmp(f.baseAddress!, e.baseAddress!, f.count) != 0 else { return nil }
      return zip(f, e).enumerated().first { $1.0 != $1.1 }.map { $0.offset / MemoryLayout<T>.stride }
    }
  }
}

func expectSame<T>(
  _ found: [T], _ expected: [T], _ what: String, sourceLocation: SourceLocation = #_sourceLocation
) {
  guard found.count == expected.count else {
    Issue.record(
      "\(what): \(found.count) elements, expected \(expected.count)", sourceLocation: sourceLocation)
    return
  }
  guard let i = firstDifference(found[...], expected[...]) else { return }
  Issue.record("\(what): [\(i)] is \(found[i]), expected \(expected[i])", sourceLocation: sourceLocation)
}

/// An element-wise kernel: unit u of the output follows from unit u of the input alone. Checks all lengths and places, and that
/// nothing is written behind the end.
func checkElementwise<I, O>(
  _ input: [I], per inUnit: Int = 1, _ expected: [O], outPer outUnit: Int = 1,
  sourceLocation: SourceLocation = #_sourceLocation,
  _ kernel: (UnsafePointer<I>, UnsafeMutablePointer<O>, _ units: Int) -> Void
) {
  let units = expected.count / outUnit
  precondition(input.count == units * inUnit)
  onEveryISA { isa in
    for n in lengths.filter({ $0 + 3 <= units }) + [units] {
      for place in 0...min(3, units - n) {
        // The output begins at a place of its own, after `place` elements of padding.
        let size = MemoryLayout<O>.stride
        var bytes = [UInt8](repeating: 0xa5, count: (place + n * outUnit) * size + 64)
        bytes.withUnsafeMutableBytes { raw in
          let out = raw.baseAddress!.assumingMemoryBound(to: O.self) + place
          input.withUnsafeBufferPointer { kernel($0.baseAddress! + place * inUnit, out, n) }
          let found = Array(UnsafeBufferPointer(start: out, count: n * outUnit))
          let wanted = expected[place * outUnit..<(place + n) * outUnit]
          if let i = firstDifference(found[...], wanted) {
            Issue.record(
              "\(isa), length \(n), place \(place): [\(i)] is \(found[i]), expected \(wanted[wanted.startIndex + i])",
              sourceLocation: sourceLocation)
          }
        }
        let untouched =
          bytes.suffix(64).allSatisfy { $0 == 0xa5 } && bytes.prefix(place * size).allSatisfy { $0 == 0xa5 }
        if !untouched { Issue.record("\(isa), length \(n): wrote outside", sourceLocation: sourceLocation) }
      }
    }
  }
}

/// Zeros, subnormals, extremes, then floats of all sizes.
func difficult(_ count: Int, seed: UInt64, bound: Int = 20) -> [Float] {
  var generator = Generator(seed: seed)
  let special: [Float] = [
    0, -0.0, 1, -1, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, .leastNormalMagnitude,
    Float.leastNormalMagnitude.nextDown,
    .greatestFiniteMagnitude, -.greatestFiniteMagnitude, 0.5, 1.5, 2.5, -2.5, 126.5, 127.5, 448, 464, 57344,
    65519, 65520,
  ]
  return (0..<count).map { i in
    if i % 9 == 4 { return special[(i / 9) % special.count] }
    return generator.float()
      * Float(sign: .plus, exponent: Int.random(in: -bound...bound, using: &generator), significand: 1)
  }
}

/// Floats whose sums stay finite, with products that underflow.
func summable(_ count: Int, seed: UInt64) -> [Float] {
  var generator = Generator(seed: seed)
  return (0..<count).map { i in
    let x = generator.normal()
    switch i % 23 {
    case 3: return 0
    case 7: return -0.0
    case 11: return x * 1e-30
    case 17: return x * 1e6
    default: return x
    }
  }
}

/// Every midpoint between neighbouring values and the floats next to it, both signs, times a power of two.
func midpoints(_ largest: UInt32, exponent: Int, mantissa: Int, scale: Float) -> [Float] {
  (0...largest).flatMap { code -> [Float] in
    let low = Reference.value(code, exponent: exponent, mantissa: mantissa)
    let high = Reference.value(code + 1, exponent: exponent, mantissa: mantissa)
    let middle = low + (high - low) / 2
    return [low, middle, middle.nextUp, middle.nextDown, -middle, -middle.nextUp, -middle.nextDown].map {
      $0 * scale
    }
  }
}

@Suite(.serialized) struct KernelTests {

  @Test func theBestInstructionSetIsChosenAndCanBeForced() {
    #expect(availableISAs.contains(sk_isa_best()))
    onEveryISA { name in #expect(String(cString: sk_isa_name(sk_isa_current())) == name) }
    forced.withLock { _ in
      #expect(sk_isa_current() == sk_isa_chosen())
      sk_isa_force(99)
      #expect(sk_isa_current() == sk_isa_chosen())
    }
  }

  @Test func thePeakIsARate() {
    onEveryISA { isa in
      let rate = sk_peak_f32_gflops(0.002)
      #expect(rate > 0.01 && rate < 10_000, "\(isa): \(rate)")
    }
  }

  @Test func scansFindWhatIsThere() {
    for n in lengths {
      for place in 0...3 {
        var x = difficult(n + 3, seed: UInt64(n), bound: 5).map { $0.magnitude > 1e20 ? 3 : $0 }
        if n > 2 { (x[place], x[place + n / 2]) = (.nan, -1000 - Float(place)) }
        if n > 40 { (x[place + 20], x[place + n - 1]) = (.infinity, -.nan) }
        let slice = Array(x[place..<place + n])
        onEveryISA { isa in
          x.withUnsafeBufferPointer {
            #expect(
              sk_absmax_f32($0.baseAddress! + place, n) == Reference.absmax(slice), "\(isa), length \(n)")
            #expect(
              sk_peak_f32($0.baseAddress! + place, n) == Reference.peakBits(slice), "\(isa), length \(n)")
            #expect(
              sk_count_nonfinite_f32($0.baseAddress! + place, n) == Reference.countNonfinite(slice),
              "\(isa), length \(n)")
          }
        }
      }
    }
  }

  @Test func theFirstScaleThatIsNotFiniteIsFound() {
    for (bytes, place) in [(34, 0), (18, 0), (24, 2), (84, 82), (110, 108), (210, 208)] {
      for bad in [nil, 0, 7, 40] as [Int?] {
        var blocks = (0..<41 * bytes).map { UInt8(truncatingIfNeeded: $0 &* 77) & 0x7B }
        if let bad {
          blocks[bad * bytes + place] = bad == 7 ? 0 : 0x31
          blocks[bad * bytes + place + 1] = 0xFC
        }
        let expected = Reference.findNonfiniteScale(blocks, bytes: bytes, place: place)
        #expect(expected == bad ?? 41)
        #expect(sk_find_nonfinite_scale(blocks, 41, bytes, place) == expected)
      }
    }
  }

  @Test func theFirstWideFloatThatIsNotFiniteIsFound() {
    for exponent in [0x7F80, 0x7C00] as [UInt16] {
      for n in [0, 1, 2, 15, 16, 31, 33, 100, 1023, 1024, 1025, 2500] {
        var words = (0..<n + 3).map { UInt16(truncatingIfNeeded: $0 &* 40503) & ~(exponent & ~exponent << 1) }
        for bad in Set([n, 0, n / 2, n - 1, n - 2].filter { $0 >= 0 }) {
          if bad < n { words[bad] = exponent | 0x8001 }
          onEveryISA { isa in
            words.withUnsafeBytes { bytes in
              let base = bytes.baseAddress!.assumingMemoryBound(to: UInt8.self)
              #expect(
                sk_find_nonfinite16(base, exponent, n)
                  == Reference.findNonfinite(Array(words[..<n]), exponent: exponent), "\(isa), \(n), \(bad)")
            }
          }
          if bad < n { words[bad] = 0 }
        }
      }
    }
  }

  @Test func theFirstBadCodeIsFound() {
    let find: [(String, [UInt8], (UnsafePointer<UInt8>, Int) -> Int)] = [
      ("e4m3", [0x7f, 0xff], { sk_find_nan_e4m3($0, $1) }),
      ("e5m2", [0x7c, 0x7d, 0x7e, 0x7f, 0xfc, 0xfd, 0xfe, 0xff], { sk_find_nan_e5m2($0, $1) }),
      ("byte", [0x42], { sk_find_byte($0, 0x42, $1) }),
    ]
    onEveryISA { isa in
      for (name, bad, search) in find {
        let good = (UInt8.min...UInt8.max).filter { !bad.contains($0) }
        var bytes = (0..<700).map { good[$0 % good.count] }
        for n in lengths { #expect(search(bytes, n) == n, "\(isa), \(name), length \(n)") }
        for position in [0, 1, 31, 63, 64, 200, 255, 256, 300, 511, 512, 698, 699] {
          for code in bad {
            let kept = bytes[position]
            bytes[position] = code
            #expect(
              search(bytes, 700) == position && search(bytes, position) == position,
              "\(isa), \(name), \(code)")
            bytes[position] = kept
          }
        }
      }
    }
  }

  @Test func squaredErrorsKeepTheOrder() {
    let x = summable(2103, seed: 6), w = summable(2103, seed: 7).map(\.magnitude)
    let scale: Float = 0.031, gain: Float = 0.01
    let int8 = x.map { Float(Reference.encodeInt8($0, scale: scale)) * scale }
    let e4m3 = x.map { Reference.decodeE4M3(Reference.encodeE4M3($0, scale: scale), scale: scale) }
    let int4 = x.map { Float(min(7, max(-8, Reference.encodeInt8($0, scale: scale)))) * scale }
    let e2m1 = x.map {
      Reference.decodeE2M1([Reference.encodeE2M1($0, scale: scale)], scale: scale, count: 1)[0]
    }
    for n in sumLengths {
      let place = n % 4
      let (xs, ws) = (Array(x[place..<place + n]), Array(w[place..<place + n]))
      for weights in [nil, ws] {
        let wantedInt8 = Reference.weightedError(xs, weights, restored: Array(int8[place..<place + n]))
        let wantedE4M3 = Reference.weightedError(xs, weights, restored: Array(e4m3[place..<place + n]))
        let wantedInt4 = Reference.weightedError(
          xs, weights, restored: Reference.lessened(int4[place..<place + n], by: gain, of: xs))
        let wantedE2M1 = Reference.weightedError(
          xs, weights, restored: Reference.lessened(e2m1[place..<place + n], by: gain, of: xs))
        onEveryISA { isa in
          w.withUnsafeBufferPointer { wp in
            let pointer = weights == nil ? nil : wp.baseAddress! + place
            x.withUnsafeBufferPointer { xp in
              expectSame(
                [sk_error_int8(xp.baseAddress! + place, pointer, scale, n)], [wantedInt8],
                "\(isa), int8, \(n)")
              expectSame(
                [sk_error_e4m3(xp.baseAddress! + place, pointer, scale, n)], [wantedE4M3],
                "\(isa), e4m3, \(n)")
              expectSame(
                [sk_error_int4(xp.baseAddress! + place, pointer, scale, gain, n)], [wantedInt4],
                "\(isa), int4, \(n)")
              expectSame(
                [sk_error_e2m1(xp.baseAddress! + place, pointer, scale, gain, n)], [wantedE2M1],
                "\(isa), e2m1, \(n)")
            }
          }
        }
      }
    }
  }

  @Test func observationsAccumulate() {
    let x = difficult(67, seed: 8), y = difficult(67, seed: 9)
    for n in 0...67 {
      var absmax = [Float](repeating: 0, count: 67), squares = [Double](repeating: 0, count: 67)
      for values in [x, y] {
        for i in 0..<n { Reference.observe(values[i], absmax: &absmax[i], sumOfSquares: &squares[i]) }
      }
      onEveryISA { isa in
        var a = [Float](repeating: 0, count: 67), s = [Double](repeating: 0, count: 67)
        sk_observe(x, &a, &s, n)
        sk_observe(y, &a, &s, n)
        expectSame(a, absmax, "\(isa), length \(n)")
        expectSame(s, squares, "\(isa), length \(n)")
      }
    }
  }

  @Test func planesAreReversible() {
    typealias Kernel = (UnsafePointer<UInt8>?, UnsafeMutablePointer<UInt8>?, Int) -> Void
    let pairs: [(width: Int, rotate: Int, split: Kernel, join: Kernel)] = [
      (2, 1, sk_split16_rotate, sk_join16_rotate), (2, 0, sk_split16, sk_join16),
      (4, 1, sk_split32_rotate, sk_join32_rotate),
    ]
    var generator = Generator(seed: 28)
    let bytes = (0..<arrayLength * 4).map { _ in UInt8.random(in: 0...255, using: &generator) }
    for pair in pairs {
      for n in lengths {
        let place = n % 4
        let source = Array(bytes[place..<place + n * pair.width])
        let expected = Reference.split(source, width: pair.width, rotate: pair.rotate) + [9]
        onEveryISA { isa in
          var planes = [UInt8](repeating: 9, count: n * pair.width + 1), back = planes
          bytes.withUnsafeBufferPointer { pair.split($0.baseAddress! + place, &planes, n) }
          expectSame(planes, expected, "\(isa), split \(pair.width), length \(n)")
          pair.join(planes, &back, n)
          expectSame(back, source + [9], "\(isa), join \(pair.width), length \(n)")
        }
      }
    }
    // bfloat16 -1: the exponent 127 above, the sign lowest below.
    #expect(Reference.split([0x80, 0xbf], width: 2, rotate: 1) == [0x7f, 0x01])
  }
}
