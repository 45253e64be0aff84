// Decoding and encoding: every code, every midpoint between codes.

import CKernels
import SmeltTensors
import SmeltTestSupport
import Testing

extension KernelTests {
  @Test(arguments: [1, 0.0078125, 0.1, 3.7e-5, 0x1p126, 0x1p-140] as [Float])
  func codesOfOneByteAreDecoded(scale: Float) {
    let codes = (0..<arrayLength).map { UInt8(truncatingIfNeeded: $0 * 77) }
    let e4m3 = codes.map { $0 & 0x7f == 0x7f ? 0x80 : $0 }
    let e5m2 = codes.map { $0 & 0x7c == 0x7c ? 0x80 : $0 }
    let int8 = codes.map { Int8(bitPattern: $0) }
    checkElementwise(e4m3, e4m3.map { Reference.decodeE4M3($0, scale: scale) }) {
      sk_decode_e4m3($0, scale, $1, $2)
    }
    checkElementwise(e5m2, e5m2.map { Reference.decodeE5M2($0, scale: scale) }) {
      sk_decode_e5m2($0, scale, $1, $2)
    }
    checkElementwise(int8, int8.map { Float($0) * scale }) { sk_decode_int8($0, scale, $1, $2) }
  }

  @Test func allHalvesAreDecoded() {
    let codes = (0...UInt16.max).map { $0.littleEndian }
    let bytes = codes.withUnsafeBytes { Array($0) }
    let bf16 = codes.map { Reference.decodeBF16($0) }
    let f16 = codes.map { Reference.decodeF16($0) }
    checkElementwise(bytes, per: 2, bf16) { sk_decode_bf16($0, $1, $2) }
    checkElementwise(bytes, per: 2, f16) { sk_decode_f16($0, $1, $2) }
  }

  @Test func fp4GroupsAreDecoded() {
    let bytes = (0..<320).map { UInt8(truncatingIfNeeded: $0 * 37 + $0 / 256) }
    for first in stride(from: 0, to: 255, by: 20) {
      let scales = (0..<20).map { UInt8(min(254, first + $0)) }
      for n in Array(stride(from: 0, through: 66, by: 2)) + [128, 200, 640] {
        let expected = Reference.decodeMXFP4(bytes, scales: scales, count: n)
        onEveryISA { isa in
          var found = [Float](repeating: 7, count: n + 8)
          sk_decode_mxfp4(bytes, scales, &found, n)
          expectSame(
            found, expected + [Float](repeating: 7, count: 8), "\(isa), length \(n), scales from \(first)")
        }
      }
    }
    onEveryISA { isa in
      var found = [Float](repeating: 0, count: 64)
      sk_decode_mxfp4(bytes, [255, 127], &found, 64)
      #expect(found[..<32].allSatisfy(\.isNaN) && found[32...].allSatisfy(\.isFinite), "\(isa)")
    }
    for code in UInt8.min...UInt8.max {
      let (found, expected) = (sk_e8m0(code), Reference.e8m0(code))
      #expect(found == expected || (found.isNaN && expected.isNaN))
    }
    #expect(sk_e8m0(0) == 0x1p-127 && sk_e8m0(127) == 1 && sk_e8m0(254) == 0x1p127 && sk_e8m0(255).isNaN)
  }

  @Test(arguments: [1, 0.25, 0.3, 1e-38] as [Float])
  func codesOfOneByteAreEncoded(scale: Float) {
    let special: [Float] = [.infinity, -.infinity, .nan, -.nan]
    let e4m3 = midpoints(0x7e, exponent: 4, mantissa: 3, scale: scale) + difficult(200, seed: 1) + special
    checkElementwise(e4m3, e4m3.map { Reference.encodeE4M3($0, scale: scale) }) {
      sk_encode_e4m3($0, scale, $1, $2)
    }
    let e5m2 = midpoints(0x7b, exponent: 5, mantissa: 2, scale: scale) + difficult(200, seed: 2) + special
    checkElementwise(e5m2, e5m2.map { Reference.encodeE5M2($0, scale: scale) }) {
      sk_encode_e5m2($0, scale, $1, $2)
    }
    let halves = (-130...130).flatMap { k -> [Float] in
      let x = Float(k) + 0.5
      return [Float(k), x, x.nextUp, x.nextDown].map { $0 * scale }
    }
    let int8 = halves + difficult(200, seed: 3) + special
    checkElementwise(int8, int8.map { Reference.encodeInt8($0, scale: scale) }) {
      sk_encode_int8($0, scale, $1, $2)
    }
  }

  @Test(arguments: [1, 0.25, 0.3, 1e-38] as [Float])
  func nibblesAreEncoded(scale: Float) {
    let special: [Float] = [.infinity, -.infinity, .nan, -.nan]
    let x = midpoints(7, exponent: 2, mantissa: 1, scale: scale) + difficult(200, seed: 4) + special
    let expected = stride(from: 0, to: x.count, by: 2).map {
      Reference.encodeE2M1(x[$0], scale: scale) | Reference.encodeE2M1(x[$0 + 1], scale: scale) << 4
    }
    checkElementwise(x, per: 2, expected) { sk_encode_e2m1($0, scale, $1, 2 * $2) }
  }

  @Test func knownCodes() {
    #expect(Reference.encodeE4M3(448, scale: 1) == 0x7e && Reference.encodeE4M3(1, scale: 1) == 0x38)
    #expect(Reference.encodeE4M3(0x1p-9, scale: 1) == 1 && Reference.encodeE4M3(0x1p-10, scale: 1) == 0)
    #expect(Reference.encodeE4M3(0x1.8p-9, scale: 1) == 2 && Reference.encodeE4M3(-1e9, scale: 1) == 0xfe)
    #expect(Reference.encodeE5M2(57344, scale: 1) == 0x7b && Reference.encodeE5M2(1, scale: 1) == 0x3c)
    #expect([0, 0.5, 1, 1.5, 2, 3, 4, 6].map { Reference.encodeE2M1($0, scale: 1) } == Array(0...7))
    #expect([0.25, 0.75, 2.5, 5].map { Reference.encodeE2M1($0, scale: 1) } == [0, 2, 4, 6])
    #expect(
      [0.5, 1.5, 2.5, -0.5, -1.5, 200, -200].map { Reference.encodeInt8($0, scale: 1) } == [
        0, 2, 2, 0, -2, 127, -127,
      ])
    #expect(Reference.encodeF16(65519) == 0x7bff && Reference.encodeF16(65520) == 0x7c00)
    #expect(
      Reference.encodeBF16(1) == 0x3f80 && Reference.encodeBF16(0x1.01p0) == 0x3f80
        && Reference.encodeBF16(0x1.03p0) == 0x3f82)
  }

  @Test func halvesAreEncoded() {
    let special: [Float] = [
      .infinity, -.infinity, .nan, Float(bitPattern: 0xffc1_2345), .greatestFiniteMagnitude,
    ]
    let ties = stride(from: UInt16(0), to: 0x7c00, by: 7).flatMap { code -> [Float] in
      let (low, high) = (Reference.decodeF16(code), Reference.decodeF16(code + 1))
      let middle = high.isFinite ? (low + high) / 2 : 65520
      return [low, middle, -middle.nextUp, middle.nextDown]
    }
    let x = ties + difficult(400, seed: 5, bound: 120) + special
    let f16 = x.flatMap { value in withUnsafeBytes(of: Reference.encodeF16(value).littleEndian) { Array($0) }
    }
    checkElementwise(x, f16, outPer: 2) { sk_encode_f16($0, $1, $2) }
    let upper = stride(from: UInt32(0), to: 0xffff, by: 131).flatMap { high in
      [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map { Float(bitPattern: high << 16 | $0) }
    }
    let bf16 = upper.flatMap { value in
      withUnsafeBytes(of: Reference.encodeBF16(value).littleEndian) { Array($0) }
    }
    checkElementwise(upper, bf16, outPer: 2) { sk_encode_bf16($0, $1, $2) }
  }

  /// Every BF16 number, and its neighbours in float32 where codes meet, under scales of every kind: powers of two, usual ones, the
  /// least and the largest that a row may have.
  @Test(arguments: [1, 0.0031, 0x1p-126, 3.3e30] as [Float])
  func everyBF16IsEncodedAndCounted(scale: Float) {
    let all = (0...UInt16.max).map { Float(bitPattern: UInt32($0) << 16) }
    let ties =
      midpoints(0x7e, exponent: 4, mantissa: 3, scale: scale)
      + midpoints(0x7b, exponent: 5, mantissa: 2, scale: scale)
    let x = all + ties
    let e4m3 = x.map { Reference.encodeE4M3($0, scale: scale) }
    let e5m2 = x.map { Reference.encodeE5M2($0, scale: scale) }
    let int8 = x.map { Reference.encodeInt8($0, scale: scale) }
    let e2m1 = x.map { Reference.encodeE2M1($0, scale: scale) }
    let changedE4M3 = Reference.countDifferent(x, e4m3.map { Reference.decodeE4M3($0, scale: scale) })
    let changedInt8 = Reference.countDifferent(x, int8.map { Float($0) * scale })
    onEveryISA { isa in
      var codes = [UInt8](repeating: 0, count: x.count)
      sk_encode_e4m3(x, scale, &codes, x.count)
      #expect(codes == e4m3, "\(isa)")
      sk_encode_e5m2(x, scale, &codes, x.count)
      #expect(codes == e5m2, "\(isa)")
      #expect(sk_encode_counted_e4m3(x, scale, &codes, x.count) == changedE4M3, "\(isa)")
      #expect(codes == e4m3, "\(isa)")
      #expect(sk_encode_counted_int8(x, scale, &codes, x.count) == changedInt8, "\(isa)")
      #expect(codes == int8.map { UInt8(bitPattern: $0) }, "\(isa)")
      sk_encode_e2m1(x, scale, &codes, x.count / 2 * 2)
      var nibbles: [UInt8] = []
      for byte in codes[..<(x.count / 2)] { nibbles += [byte & 15, byte >> 4] }
      #expect(nibbles == Array(e2m1[..<(x.count / 2 * 2)]), "\(isa)")
    }
  }

  /// Lengths around every vector, and rows that the codes hold in part.
  @Test func changedValuesAreCountedAtEveryLength() {
    for n in lengths {
      let scale: Float = 0.03125
      let x = (0..<n).map { index -> Float in
        let step: Float = index % 3 == 0 ? 0.0312501 : 0.03125
        return Float(index % 100 - 50) * step
      }
      let e4m3 = x.map { Reference.decodeE4M3(Reference.encodeE4M3($0, scale: scale), scale: scale) }
      let int8 = x.map { Float(Reference.encodeInt8($0, scale: scale)) * scale }
      onEveryISA { isa in
        var codes = [UInt8](repeating: 0xA5, count: n + 1)
        #expect(
          sk_encode_counted_e4m3(x, scale, &codes, n) == Reference.countDifferent(x, e4m3), "\(isa), \(n)")
        #expect(
          sk_encode_counted_int8(x, scale, &codes, n) == Reference.countDifferent(x, int8), "\(isa), \(n)")
        #expect(sk_count_different(x, e4m3, n) == Reference.countDifferent(x, e4m3), "\(isa), \(n)")
        #expect(codes[n] == 0xA5, "\(isa), \(n)")
      }
    }
  }
}
