// The slow, obvious twins of the encoders of GGUF's blocks (sk_blocks.h): the blocks with one scale, and how the codes of
// all types are packed. The searches are in Reference+BlockSearch.swift.

package import SmeltTensors

extension Reference {
  /// A block before it is packed: F16 scales, integers of the groups, and codes from 0 on.
  struct PlainBlock {
    var d: UInt32 = 0
    var m: UInt32 = 0
    var scales: [Int] = []
    var leasts: [Int] = []
    var codes: [Int] = []
  }

  /// `sk_encode_*`: whole blocks of floats, and the column weights or nil; nil when a scale is beyond F16.
  package static func encodeBlocks(_ kind: GGUFBlock.Kind, _ values: [Float], weights: [Float]?) -> [UInt8]? {
    let size = GGUFBlock(kind).elements
    var bytes: [UInt8] = []
    for first in stride(from: 0, to: values.count, by: size) {
      guard
        let block = block(
          kind, Array(values[first..<first + size]), weights.map { Array($0[first..<first + size]) })
      else { return nil }
      bytes += block
    }
    return bytes
  }

  private static func block(_ kind: GGUFBlock.Kind, _ x: [Float], _ w: [Float]?) -> [UInt8]? {
    switch kind {
    case .q8_0:
      let scale = absmax(x) / 127
      return fits(scale) ? bytes(halfBits(scale)) + x.map { byte(away($0, scale)) } : nil
    case .q4_0, .q5_0:
      guard let b = symmetric(x, w, count: kind == .q4_0 ? 8 : 16) else { return nil }
      return bytes(b.d) + (kind == .q4_0 ? [] : fifthBits(b.codes)) + nibbles(b.codes)
    case .q4_1, .q5_1:
      guard let b = affine(x, w, top: kind == .q4_1 ? 15 : 31) else { return nil }
      return bytes(b.d) + bytes(b.m) + (kind == .q4_1 ? [] : fifthBits(b.codes)) + nibbles(b.codes)
    case .mxfp4: return mxfp4(x)
    case .nvfp4: return nvfp4(x)
    case .q1_0:
      let scale = x.reduce(0) { $0 + $1.magnitude } / 128
      return fits(scale) ? bytes(halfBits(scale)) + bits(x.map { $0 >= 0 ? 1 : 0 }, each: 1) : nil
    case .q2_0, .tq1_0, .tq2_0:
      let scale = absmax(x)
      guard fits(scale) else { return nil }
      let codes = x.map { away($0, scale) + 1 }
      if kind == .q2_0 { return bytes(halfBits(scale)) + bits(codes, each: 2) }
      if kind == .tq2_0 { return pairs(codes) + bytes(halfBits(scale)) }
      return digits(codes[0..<160], 5) + digits(codes[160..<240], 5) + digits(codes[240...], 4)
        + bytes(halfBits(scale))
    case .q2_k, .q3_k, .q4_k, .q5_k, .q6_k, .iq4_nl, .iq4_xs: return searched(kind, x, w)
    case .q8_1, .q8_k, .iq1_s, .iq1_m, .iq2_xxs, .iq2_xs, .iq2_s, .iq3_xxs, .iq3_s:
      preconditionFailure("\(kind) has no encoder")
    }
  }

  // MARK: One scale

  private static func symmetric(_ x: [Float], _ w: [Float]?, count n: Int) -> PlainBlock? {
    if let w { return searchedSymmetric(x, w, CodeRange(low: Float(-n), high: Float(n - 1))) }
    let scale = peak(x) / Float(-n)
    guard fits(scale) else { return nil }
    return PlainBlock(
      d: halfBits(scale), codes: x.map { min(2 * n - 1, Int($0 * inverse(scale) + (Float(n) + 0.5))) })
  }

  private static func affine(_ x: [Float], _ w: [Float]?, top: Int) -> PlainBlock? {
    if let w { return searchedAffine(x, w, top: Float(top)) }
    let least = x.reduce(x[0]) { $1 < $0 ? $1 : $0 }  // of both zeros the first
    let scale = (x.max()! - least) / Float(top)
    guard fits(scale), fits(least) else { return nil }
    return PlainBlock(
      d: halfBits(scale), m: halfBits(least),
      codes: x.map { min(top, Int(($0 - least) * inverse(scale) + 0.5)) })
  }

  private static func mxfp4(_ x: [Float]) -> [UInt8] {
    let largest = absmax(x)
    // The whole part of the logarithm to the base 2, which is rounded to float32 first.
    let exponent = largest < 0x1p-125 ? -125 : Int(logarithm(largest).rounded(.down))
    return [UInt8(exponent + 125)] + nibbles(x.map { doubledCode($0, power2(exponent - 3)) })
  }

  /// log₂ of a normal float, rounded to float32: exact powers, and series in what is missing to the next one.
  private static func logarithm(_ x: Float) -> Float {
    let rest = 2 - Double(x.significand)  // 0 < rest ≤ 1
    guard rest < 0x1p-10 else { return Float(x.exponent) }  // far from the next: only the whole part is used
    return Float(Double(x.exponent) + 1 - (rest / 2 + rest * rest / 8) * 1.4426950408889634)
  }

  private static func nvfp4(_ x: [Float]) -> [UInt8]? {
    var scales: [UInt8] = []
    var packed: [UInt8] = []
    for group in stride(from: 0, to: 64, by: 16) {
      let values = Array(x[group..<group + 16])
      let wanted = absmax(values) / 6
      guard wanted <= 464 else { return nil }
      // Halves go up, among subnormals to seven steps at most; the top binade but 448 is left out.
      let code = (0..<0x78).last { code in
        guard code > 0 else { return true }
        let below = value(UInt32(code - 1), exponent: 4, mantissa: 3)
        let here = value(UInt32(code), exponent: 4, mantissa: 3)
        return code == 8 ? wanted >= here : wanted >= (below + here) / 2
      }!
      let scale: UInt8 = wanted >= 248 ? 0x7E : UInt8(code)
      scales.append(scale)
      let codes = values.map {
        doubledCode($0, Double(value(UInt32(scale), exponent: 4, mantissa: 3)) / 2)
      }
      packed += (0..<8).map { UInt8(codes[$0] | codes[$0 + 8] << 4) }
    }
    return scales + packed
  }

  /// The nearest of 0, 1, 2, 3, 4, 6, 8, 12 times the scale, of two the smaller; 8 for a minus, but not on zero.
  private static func doubledCode(_ x: Float, _ scale: Double) -> Int {
    let numbers: [Double] = [0, 1, 2, 3, 4, 6, 8, 12]
    let a = Double(x.magnitude)
    let code = numbers.indices.min {
      (($0 == 0 ? a : (numbers[$0] * scale - a).magnitude)) < (numbers[$1] * scale - a).magnitude
    }!
    return scale > 0 && code > 0 ? code + (x < 0 ? 8 : 0) : 0
  }

  // MARK: Numbers

  /// The first value of the largest magnitude; +0 when all are zero.
  static func peak(_ x: [Float]) -> Float { x.reduce(0) { $1.magnitude > $0.magnitude ? $1 : $0 } }

  static func fits(_ scale: Float) -> Bool { scale.magnitude < 65_520 }

  /// 1 / x, or 0 where that is not finite.
  static func inverse(_ x: Float) -> Float { (1 / x).isFinite ? 1 / x : 0 }

  /// x / scale, as a product, to the nearest integer, halves away from zero.
  private static func away(_ x: Float, _ scale: Float) -> Int {
    Int((x * inverse(scale)).rounded(.toNearestOrAwayFromZero))
  }

  private static func power2(_ n: Int) -> Double { Double(sign: .plus, exponent: n, significand: 1) }

  /// The nearest F16, ties to even, as a float; 65,520 and more are infinite.
  static func half(_ x: Float) -> Float {
    guard x != 0, x.isFinite else { return x }
    let step = power2(max(x.exponent, -14) - 10)
    let rounded = Float((Double(x) / step).rounded(.toNearestOrEven) * step)
    return rounded.magnitude < 65_536 ? rounded : Float(sign: x.sign, exponent: 0, significand: .infinity)
  }

  /// The bits of the nearest F16.
  static func halfBits(_ x: Float) -> UInt32 {
    let rounded = half(x)
    let sign: UInt32 = x.sign == .minus ? 0x8000 : 0
    let a = rounded.magnitude
    if a.isInfinite { return sign | 0x7C00 }
    if a < 0x1p-14 { return sign | UInt32(a * 0x1p24) }
    return sign | UInt32(a.exponent + 15) << 10 | UInt32((a.significand - 1) * 1024)
  }

  // MARK: Bytes

  static func byte(_ value: Int) -> UInt8 { UInt8(truncatingIfNeeded: value) }

  static func bytes(_ half: UInt32) -> [UInt8] { [byte(Int(half & 255)), byte(Int(half >> 8))] }

  /// Codes of `each` bits, the first in the lowest bits of the first byte.
  static func bits(_ codes: [Int], each: Int) -> [UInt8] {
    let perByte = 8 / each
    return (0..<codes.count / perByte).map { j in
      packed(perByte, each: each) { codes[j * perByte + $0] }
    }
  }

  /// A byte of `count` codes of `each` bits, the first in the lowest bits.
  static func packed(_ count: Int, each: Int, _ code: (Int) -> Int) -> UInt8 {
    var value = 0
    for k in 0..<count { value |= code(k) << (k * each) }
    return byte(value)
  }

  /// The low four bits of 32 codes, j and j + 16 in byte j.
  static func nibbles(_ codes: [Int]) -> [UInt8] {
    (0..<16).map { j in packed(2, each: 4) { codes[j + 16 * $0] & 15 } }
  }

  /// Bit 4 of 32 codes.
  private static func fifthBits(_ codes: [Int]) -> [UInt8] { bits(codes.map { $0 >> 4 & 1 }, each: 1) }

  /// Two bits of 256 codes: columns j, j + 32, j + 64 and j + 96 of each half in byte j.
  static func pairs(_ codes: [Int], shift: Int = 0) -> [UInt8] {
    (0..<64).map { j in
      packed(4, each: 2) { codes[j / 32 * 128 + j % 32 + 32 * $0] >> shift & 3 }
    }
  }

  /// Digits to the base 3, one of every fifth (fourth) of the codes a byte, as a fraction of 256 rounded up.
  private static func digits(_ codes: ArraySlice<Int>, _ digits: Int) -> [UInt8] {
    let count = codes.count / digits
    return (0..<count).map { j in
      var number = 0
      for k in 0..<5 { number = number * 3 + (k < digits ? codes[codes.startIndex + j + k * count] : 0) }
      return byte((number * 256 + 242) / 243)
    }
  }
}
