// Every code and many floats against Formats/vectors, which ml_dtypes made; and against the slow twins of
// EncodingSupport.swift where vectors would be too many.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct EncodingVectorTests {
  @Test(arguments: FP8.Format.allCases)
  func everyFP8CodeDecodesOrIsRefused(_ format: FP8.Format) throws {
    let encoding = FP8(format, .tensor)
    let lines = try vectorLines(format.rawValue)
    #expect(lines.count == 256)
    let one = Part(.scales, dtype: .f32, shape: [1], bytes: Bytes([0, 0, 0x80, 0x3F]))
    for (code, line) in lines.enumerated() {
      #expect(hexNumber(line[0]) == code)
      let expected = Float(bitPattern: hexNumber(line[1]))
      let values = Part(.values, dtype: format.dtype, shape: [1, 1], bytes: Bytes([UInt8(code)]))
      let weight = try Weight(name: "w", shape: [1, 1], encoding: encoding, parts: [values, one])
      guard expected.isFinite else {
        #expect(refusal { try weight.validate() }?.code == .codeNaN, "code \(code)")
        continue
      }
      try weight.validate()
      #expect(weight.decode()[0].bitPattern == expected.bitPattern, "code \(code)")
    }
  }

  @Test func everyE8M0CodeIsItsPowerOfTwo() throws {
    let lines = try vectorLines("e8m0")
    #expect(lines.count == 256)
    for (number, line) in lines.enumerated() {
      let code = UInt8(number)
      let expected = Float(bitPattern: hexNumber(line[1]))
      if code == E8M0.nan {
        #expect(expected.isNaN && E8M0.value(code).isNaN)
      } else {
        #expect(E8M0.value(code).bitPattern == expected.bitPattern, "code \(code)")
        #expect(E8M0.code(of: expected) == code)
        #expect(E8M0.code(of: -expected) == nil)
        #expect(E8M0.code(of: expected.nextUp) == nil)
        #expect(E8M0.code(of: expected.nextDown) == nil)
      }
    }
    for other: Float in [
      0, -0.0, .infinity, .nan, 3, .leastNonzeroMagnitude, 0x1p-128, .greatestFiniteMagnitude,
    ] {
      #expect(E8M0.code(of: other) == nil, "\(other)")
    }
  }

  @Test func everyE2M1CodeDecodesInBothNibbles() throws {
    let values = try vectorLines("e2m1").map { Float(bitPattern: hexNumber($0[1])) }
    #expect(values.count == 16)
    // Row r holds every byte with high nibble r: 16 bytes, one group.
    let codes = Part(.values, dtype: .u8, shape: [16, 16], bytes: Bytes((0...255).map { UInt8($0) }))
    let scales = Part(.scales, dtype: .u8, shape: [16, 1], bytes: Bytes([UInt8](repeating: 127, count: 16)))
    let weight = try Weight(name: "w", shape: [16, 32], encoding: FP4.mxfp4, parts: [codes, scales])
    try weight.validate()
    let decoded = weight.decode()
    for byte in 0..<256 {
      #expect(decoded[2 * byte].bitPattern == values[byte & 15].bitPattern, "low nibble of \(byte)")
      #expect(decoded[2 * byte + 1].bitPattern == values[byte >> 4].bitPattern, "high nibble of \(byte)")
    }
  }

  @Test func publishedFP4RowsDecodeAsMLDtypesDoes() throws {
    for line in try vectorLines("mxfp4") {
      let codes = hexBytes(line[0])
      let scales = hexBytes(line[1])
      let expected = hexFloats(line[2])
      #expect(expected.count == 2 * codes.count && Set(scales).count > 1)
      let weight = try Weight(
        name: "w1", shape: [1, expected.count], encoding: FP4.mxfp4,
        parts: [
          Part(.values, dtype: .i8, shape: [1, codes.count], bytes: Bytes(codes)),
          Part(.scales, dtype: .f8E8M0, shape: [1, scales.count], bytes: Bytes(scales)),
        ])
      try weight.validate()
      #expect(weight.decode().map(\.bitPattern) == expected.map(\.bitPattern))
    }
  }

  @Test func wholeWeightsDecodeAsNumpyDoes() throws {
    let lines = try vectorLines("weights")
    var names: Set<String> = []
    for line in lines {
      let name = String(line[0])
      names.insert(name)
      let encoding = try #require(Encodings.named(name), "\(name)")
      let shape = Shape([try #require(Int(line[1])), try #require(Int(line[2]))])
      let scaleShape = Shape(line[6].split(separator: "x").compactMap { Int($0) })
      let weight = try Weight(
        name: name, shape: shape, encoding: encoding,
        parts: [
          Part(
            .values, dtype: try #require(DType(rawValue: String(line[3]))), shape: shape,
            bytes: Bytes(hexBytes(line[4]))),
          Part(
            .scales, dtype: try #require(DType(rawValue: String(line[5]))), shape: scaleShape,
            bytes: Bytes(hexBytes(line[7]))),
        ])
      try weight.validate()
      #expect(
        weight.decode().map(\.bitPattern) == hexFloats(line[8]).map(\.bitPattern), "\(name) \(line[5])")
    }
    #expect(names.count >= 13)
  }

  @Test(arguments: SmallFormat.allCases)
  func codesOfFloatsAreThoseOfMLDtypes(_ format: SmallFormat) throws {
    var wrong: [String] = []
    for line in try vectorLines("\(format.rawValue).encode") {
      let x = Float(bitPattern: hexNumber(line[0]))
      let scale = Float(bitPattern: hexNumber(line[1]))
      // E2M1 takes powers of two only: the quotient, which is what the vector rounds, goes in under scale 1.
      let found = format == .e2m1 ? format.codes([x / scale], scale: 1) : format.codes([x], scale: scale)
      if UInt32(found[0]) != hexNumber(line[2]) {
        wrong.append("\(x) / \(scale): \(found[0]), not \(line[2])")
      }
    }
    #expect(wrong.isEmpty, "\(wrong.count) wrong, first \(wrong.first ?? "")")
  }

  @Test(arguments: SmallFormat.allCases)
  func codesOfFloatsAreTheNearestOnes(_ format: SmallFormat) {
    let magnitudes = format.magnitudes
    let top = Float(magnitudes[magnitudes.count - 1])
    var x: [Float] = []
    var random = Generator(seed: 11)
    for _ in 0..<6_000 { x.append(random.float(top * 1.1)) }  // linear: mostly the upper codes
    for _ in 0..<6_000 {  // even in exponents: from below half the smallest code to beyond the largest
      let exponent = Int.random(in: -20...Int(top.exponent) + 1, using: &random)
      x.append(random.float(2) * Float(powerOfTwo(exponent)))
    }
    for (low, high) in zip(magnitudes, magnitudes.dropFirst()) {  // ties and their neighbours, both signs
      let tie = Float((low + high) / 2)
      for value in [tie, tie.nextUp, tie.nextDown] { x += [value, -value] }
    }
    x += [0, -0.0, .infinity, -.infinity, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, top, -top]
    for scale: Float in [1, 0x1p-60, 0x1p-3, 0x1p20] {  // powers of two, so that the quotient is exact
      let scaled = x.map { $0 * scale }
      let found = format.codes(scaled, scale: scale)
      for (index, value) in scaled.enumerated() {
        let expected = format.slowCode(value / scale, magnitudes)
        guard found[index] != expected else { continue }
        Issue.record("\(value) / \(scale): code \(found[index]), expected \(expected)")
        return
      }
    }
  }

  @Test(arguments: SmallFormat.allCases)
  func encodingDecodedNumbersGivesTheirCodes(_ format: SmallFormat) {
    let magnitudes = format.magnitudes.map { Float($0) }
    // 0.3 is no power of two: fl(fl(m · s) / s) is within two roundings of m, far from any tie.
    for scale: Float in format == .e2m1 ? [1, 0x1p-30] : [1, 0.3, 7e-5, 1e10] {
      let found = format.codes(magnitudes.map { $0 * scale }, scale: scale)
      #expect(found == (0..<magnitudes.count).map { UInt8($0) }, "scale \(scale)")
    }
  }

  @Test func notANumberBecomesTheNaNCode() {
    #expect(SmallFormat.e4m3.codes([.nan, -.nan], scale: 2) == [0x7F, 0x7F])
    #expect(SmallFormat.e5m2.codes([.nan, -.nan], scale: 2) == [0x7F, 0x7F])
  }

  @Test(arguments: ["f16", "bf16"])
  func every16BitCodeDecodes(_ name: String) throws {
    let encoding = try #require(Encodings.named(name) as? Plain)
    let bytes = (0...0xFFFF).flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
    let weight = try Weight(
      name: "all", shape: [1, 65_536], encoding: encoding,
      parts: [Part(.values, dtype: encoding.dtype, shape: [1, 65_536], bytes: Bytes(bytes))])
    let decoded = weight.decode()
    var encoded = [UInt8](repeating: 0, count: 131_072)
    encoding.encode(decoded, count: 65_536, into: &encoded)
    let (exponentBits, mantissaBits) = encoding.dtype == .f16 ? (5, 10) : (8, 7)
    var wrong = 0
    for code in 0...0xFFFF {
      let exponent = code >> mantissaBits & (1 << exponentBits - 1)
      let found = decoded[code]
      if exponent == 1 << exponentBits - 1 {
        let isNaN = code & (1 << mantissaBits - 1) != 0
        wrong += (isNaN ? found.isNaN : found.isInfinite) ? 0 : 1
        wrong += found.sign == (code >> 15 == 1 ? .minus : .plus) ? 0 : 1
        if isNaN { continue }
      } else {
        let value = slowFloat(
          code, exponentBits: exponentBits, mantissaBits: mantissaBits, bias: 1 << (exponentBits - 1) - 1)
        wrong += found.bitPattern == Float(value).bitPattern ? 0 : 1
      }
      wrong += Int(encoded[2 * code]) | Int(encoded[2 * code + 1]) << 8 == code ? 0 : 1
    }
    #expect(wrong == 0)
    #expect(refusal { try weight.validate() }?.code == .codeNaN)
  }

  @Test(arguments: ["f16", "bf16"])
  func sixteenBitCodesOfFloatsAreThoseOfMLDtypes(_ name: String) throws {
    let encoding = try #require(Encodings.named(name) as? Plain)
    let lines = try vectorLines("\(name).encode")
    let x = lines.map { Float(bitPattern: hexNumber($0[0])) }
    var codes = [UInt8](repeating: 0, count: 2 * x.count)
    encoding.encode(x, count: x.count, into: &codes)
    for (index, line) in lines.enumerated() {
      let found = UInt32(codes[2 * index]) | UInt32(codes[2 * index + 1]) << 8
      guard found != hexNumber(line[1]) else { continue }
      Issue.record("\(x[index]): code \(found), expected \(line[1])")
      return
    }
  }

  /// The worked bytes of Formats/encodings.md, sections 2, 3, 8, 9 and 10.
  @Test func workedBytesOfTheDocumentAreRight() throws {
    func decoded(
      _ name: String, _ shape: Shape, _ codes: [UInt8], _ scales: [UInt8] = [], _ dtype: DType = .f8E8M0
    ) throws -> [Float] {
      let encoding = try #require(Encodings.named(name))
      let bytes = [PartName.values: codes, .scales: scales]
      let parts = try encoding.layout(of: shape, name: name).map { layout in
        let dtype = layout.name == .scales ? dtype : layout.dtypes[0]
        return Part(layout.name, dtype: dtype, shape: layout.shape, bytes: Bytes(bytes[layout.name] ?? []))
      }
      return try Weight(name: name, shape: shape, encoding: encoding, parts: parts).decode()
    }
    let half: [UInt8] = [0x00, 0x3C, 0x01, 0x00, 0xFF, 0x7B, 0x66, 0x2E]
    #expect(try decoded("f16", [4], half) == [1, 0x1p-24, 65504, 0.099975586])
    let upper: [UInt8] = [0x80, 0x3F, 0x49, 0x40, 0x01, 0x00, 0x7F, 0x7F]
    #expect(try decoded("bf16", [4], upper) == [1, 3.140625, 0x1p-133, 3.3895314e38])
    #expect(try decoded("i64", [1], [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]) == [-2])
    #expect(try decoded("i32", [1], [7, 0, 0, 0]) == [7])
    #expect(
      try decoded(
        "f8_e4m3.block2x2", [3, 3], [0x38, 0x39, 0x7E, 0xB8, 0x00, 0x08, 0x38, 0x40, 0x01],
        [0x7E, 0x80, 0x7F, 0x00]) == [0.5, 0.5625, 896, -0.5, 0, 0.03125, 1, 2, 0x1p-136])
    #expect(
      try decoded("int8.channel", [4], [0x80, 0x7F, 0xFF, 0x02], [0, 0, 0, 0x3F], .f32) == [
        -64, 63.5, -0.5, 1,
      ])
    let packed: [UInt8] = [0x21, 0x43, 0x65, 0xF7] + [UInt8](repeating: 0, count: 12)
    #expect(try decoded("mxfp4", [32], packed, [0x80]).prefix(8) == [1, 2, 3, 4, 6, 8, 12, -12])
    #expect(
      SmallFormat.e4m3.codes([0x1p-10, 1.0625, 1.1875, 464, -0.0, 1e9], scale: 1)
        == [0x00, 0x38, 0x3A, 0x7E, 0x80, 0x7E])
    #expect(SmallFormat.int8.codes([0.25, 0.75, -1000], scale: 0.5) == [0, 2, 0x81])
    #expect(SmallFormat.e2m1.codes([0.25, 0.75, 2.5, 5, 100], scale: 1) == [0, 2, 4, 6, 7])
  }
}
