// What encodings refuse: parts that do not fit, codes and scales that are not numbers.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

private func zeros(_ name: PartName, _ dtype: DType, _ shape: Shape) -> Part {
  Part(
    name, dtype: dtype, shape: shape,
    bytes: Bytes([UInt8](repeating: 0, count: dtype.byteCount(shape.count) ?? 0)))
}

/// The bytes of floats as F32.
private func singles(_ values: [Float]) -> Bytes {
  Bytes(values.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * $0)) } })
}

@Suite struct EncodingErrorTests {
  static let block = FP8(.e4m3, .block128)

  /// The refusal of a 192 × 160 weight with these parts.
  private func refuses(
    _ encoding: any Encoding, _ parts: [Part], shape: Shape = [192, 160]
  ) -> FormatError? {
    refusal { _ = try Weight(name: "layers.0.w", shape: shape, encoding: encoding, parts: parts, file: "a") }
  }

  @Test func missingScalesAreNamed() throws {
    for encoding in Encodings.all {
      guard !(encoding is GGUFBlock) else { continue }  // their scales lie among the codes
      let layout = try encoding.layout(of: [192, 160], name: "w")
      guard layout.count > 1 else { continue }
      let error = refuses(encoding, [zeros(.values, layout[0].dtypes[0], layout[0].shape)])
      #expect(error?.code == .scaleMissing && error?.subject == "layers.0.w" && error?.file == "a")
    }
  }

  @Test func scalesOfAnotherShapeAreRefused() {
    let codes = zeros(.values, .f8E4M3, [192, 160])
    for shape: Shape in [[1, 2], [2, 1], [2, 3], [4], [2, 2, 1], [192, 2]] {
      let error = refuses(Self.block, [codes, zeros(.scales, .f32, shape)])
      #expect(error?.code == .scaleShape, "\(shape)")
      #expect(error?.problem.contains("are \(shape), expected [2, 2]") == true)
    }
    #expect(refuses(Self.block, [codes, zeros(.scales, .f32, [2, 2])]) == nil)
    // Ragged edges come from the block size, never from the scales: 192 = 3 × 64 would fit [3, 2] as well.
    #expect(
      refuses(FP8(.e4m3, .block(rows: 64, columns: 128)), [codes, zeros(.scales, .f32, [3, 2])]) == nil)
    #expect(refuses(Self.block, [codes, zeros(.scales, .f32, [3, 2])])?.code == .scaleShape)
    #expect(refuses(FP8(.e4m3, .tensor), [codes, zeros(.scales, .f32, [192])])?.code == .scaleShape)
    #expect(refuses(FP8(.e4m3, .channel), [codes, zeros(.scales, .f32, [160])])?.code == .scaleShape)
    #expect(refuses(FP8(.e4m3, .channel), [codes, zeros(.scales, .f32, [192, 1])])?.code == .scaleShape)
    let bytes = zeros(.values, .i8, [192, 160])
    #expect(refuses(INT8.channel, [bytes, zeros(.scales, .f32, [1])])?.code == .scaleShape)
    let packed = zeros(.values, .i8, [192, 80])
    #expect(refuses(FP4.mxfp4, [packed, zeros(.scales, .f8E8M0, [192, 4])])?.code == .scaleShape)
    #expect(refuses(FP4.mxfp4, [packed, zeros(.scales, .f8E8M0, [192, 5])]) == nil)
  }

  @Test func dtypesThatDoNotFitAreRefused() {
    let codes = zeros(.values, .f8E4M3, [192, 160])
    for dtype: DType in [.i8, .u8, .f64, .i32, .f8E4M3] {
      #expect(refuses(Self.block, [codes, zeros(.scales, dtype, [2, 2])])?.code == .scaleShape, "\(dtype)")
    }
    for dtype: DType in [.f32, .bf16, .f16, .f8E8M0] {
      #expect(refuses(Self.block, [codes, zeros(.scales, dtype, [2, 2])]) == nil, "\(dtype)")
    }
    let scales = zeros(.scales, .f32, [2, 2])
    for dtype: DType in [.f8E5M2, .i8, .u8, .bf16, .f8E4M3FNUZ] {
      #expect(
        refuses(Self.block, [zeros(.values, dtype, [192, 160]), scales])?.code == .configShape, "\(dtype)")
    }
    let rows = zeros(.scales, .f8E8M0, [192])
    #expect(refuses(INT8.channel, [zeros(.values, .i8, [192, 160]), rows])?.code == .scaleShape)
    #expect(
      refuses(FP4.mxfp4, [zeros(.values, .u8, [192, 80]), zeros(.scales, .f32, [192, 5])])?.code
        == .scaleShape)
  }

  @Test func codesOfAnotherShapeAreRefused() {
    let scales = zeros(.scales, .f32, [2, 2])
    #expect(refuses(Self.block, [zeros(.values, .f8E4M3, [160, 192]), scales])?.code == .configShape)
    let short = Part(.values, dtype: .f8E4M3, shape: [192, 160], bytes: Bytes([0, 0, 0]))
    #expect(refuses(Self.block, [short, scales])?.code == .configShape)
    let half = Part(.scales, dtype: .f32, shape: [2, 2], bytes: Bytes([0, 0, 0]))
    #expect(refuses(Self.block, [zeros(.values, .f8E4M3, [192, 160]), half])?.code == .scaleShape)
  }

  @Test func packedWidthsThatAreNotHalfAreRefused() {
    let scales = zeros(.scales, .f8E8M0, [192, 5])
    for columns in [160, 79, 81, 40] {
      let error = refuses(FP4.mxfp4, [zeros(.values, .i8, [192, columns]), scales])
      #expect(error?.code == .packed, "\(columns)")
    }
    for columns in [1, 31, 33, 48, 161] {
      let error = refuses(FP4.mxfp4, [], shape: [4, columns])
      #expect(error?.code == .packed)
      #expect(error?.problem.contains("\(columns) columns") == true)
    }
    #expect(refuses(FP4.mxfp4, [], shape: [])?.code == .packed)
  }

  @Test(arguments: FP8.Format.allCases)
  func badCodesAreFoundWhereverTheyStand(_ format: FP8.Format) throws {
    let shape: Shape = [40, 160]
    let bad: [UInt8] =
      format == .e4m3 ? [0x7F, 0xFF] : [0x7C, 0x7D, 0x7E, 0x7F, 0xFC, 0xFD, 0xFE, 0xFF]
    let good = try randomWeight(FP8(format, .channel), shape, seed: 3)
    for code in bad {
      for place in [0, 1, 63, 64, 159, 160, 255, 256, 3001, 6399] {
        var bytes = good.values.bytes.array
        bytes[place] = code
        if place < 6399 { bytes[6399] = code }  // the first one is named
        let weight = try Weight(
          name: "w", shape: shape, encoding: FP8(format, .channel),
          parts: [Part(.values, dtype: format.dtype, shape: shape, bytes: Bytes(bytes)), good.parts[1]],
          file: "f")
        let error = try #require(refusal { try weight.validate() })
        #expect(error.code == .codeNaN && error.subject == "w" && error.file == "f")
        let start = "row \(place / 160), column \(place % 160) (byte \(place) of its values) is 0x"
        #expect(error.problem.hasPrefix(start + String(code, radix: 16)), "\(error.problem)")
        #expect(error.problem.contains("an infinity") == (format == .e5m2 && code & 0x7F == 0x7C))
      }
    }
  }

  @Test func badScalesAreNamed() throws {
    let codes = zeros(.values, .f8E4M3, [192, 160])
    for value: Float in [.nan, .infinity, -.infinity, 0, -0.0, -1] {
      for place in 0..<4 {
        var scales: [Float] = [1, 2, 3, 0x1p-140]
        scales[place] = value
        let weight = try Weight(
          name: "w", shape: [192, 160], encoding: Self.block,
          parts: [codes, Part(.scales, dtype: .f32, shape: [2, 2], bytes: singles(scales))])
        let error = try #require(refusal { try weight.validate() })
        #expect(error.code == .scaleValue)
        #expect(
          error.problem.hasPrefix(
            "scale [\(place / 2), \(place % 2)] is \(value.isNaN ? "NaN" : "\(value)")"), "\(error.problem)")
      }
    }
  }

  @Test(arguments: [
    (DType.bf16, [UInt8(0x80), 0x7F], "inf"), (.bf16, [0xC0, 0x7F], "NaN"), (.bf16, [0x80, 0xBF], "-1.0"),
    (.f16, [0x00, 0x7C], "inf"), (.f16, [0x01, 0xFE], "NaN"), (.f16, [0x00, 0x80], "-0.0"),
  ])
  func badSixteenBitScalesAreNamed(_ dtype: DType, _ bytes: [UInt8], _ shown: String) throws {
    let weight = try Weight(
      name: "w", shape: [2, 3], encoding: INT8.channel,
      parts: [
        zeros(.values, .i8, [2, 3]),
        Part(.scales, dtype: dtype, shape: [2], bytes: Bytes([1, 1] + bytes)),
      ])
    let error = try #require(refusal { try weight.validate() })
    #expect(error.code == .scaleValue && error.problem.hasPrefix("scale 1 is \(shown)"), "\(error.problem)")
  }

  @Test func theNaNScaleOfE8M0IsNamed() throws {
    for encoding: any Encoding in [FP4.mxfp4, FP8(.e4m3, .block(rows: 1, columns: 32))] {
      for place in [0, 4, 5, 299] {
        let layout = try encoding.layout(of: [60, 160], name: "w")
        var scales = [UInt8](repeating: 0, count: 300)
        scales[place] = E8M0.nan
        let weight = try Weight(
          name: "w", shape: [60, 160], encoding: encoding,
          parts: [
            zeros(.values, layout[0].dtypes[0], layout[0].shape),
            Part(.scales, dtype: .f8E8M0, shape: [60, 5], bytes: Bytes(scales)),
          ])
        let error = try #require(refusal { try weight.validate() })
        #expect(error.code == .scaleValue)
        #expect(error.problem.hasPrefix("scale [\(place / 5), \(place % 5)] is NaN"), "\(error.problem)")
      }
    }
  }

  /// A scale may be as large as float32 goes while every number stays finite; one infinite number is refused.
  @Test func numbersThatOverflowAreRefused() throws {
    func weight(_ bytes: [UInt8]) throws -> Weight {
      try Weight(
        name: "w", shape: [2, 2], encoding: FP8(.e4m3, .tensor),
        parts: [
          Part(.values, dtype: .f8E4M3, shape: [2, 2], bytes: Bytes(bytes)),
          Part(.scales, dtype: .f8E8M0, shape: [1], bytes: Bytes([254])),
        ])
    }
    try weight([0x00, 0x38, 0xB8, 0x01]).validate()  // 0, 1, -1 and 2^-9 times 2^127
    let error = try #require(refusal { try weight([0x38, 0x38, 0x38, 0x7E]).validate() })
    #expect(error.code == .scaleValue && error.problem.contains("row 1, column 1"), "\(error.problem)")
  }

  @Test func theLeastINT8CodeIsRead() throws {
    let weight = try Weight(
      name: "w", shape: [1, 2], encoding: INT8.channel,
      parts: [
        Part(.values, dtype: .i8, shape: [1, 2], bytes: Bytes([0x80, 0x7F])),
        Part(.scales, dtype: .f32, shape: [1], bytes: singles([0.5])),
      ])
    try weight.validate()
    #expect(weight.decode() == [-64, 63.5])
  }

  @Test func plainNumbersThatAreNoneAreRefused() throws {
    for (column, value) in [(2, Float.nan), (0, .infinity), (1, -.infinity)] {
      var values: [Float] = [1, 2, 3, 4, 5, 6]
      values[3 + column] = value
      let weight = try Weight(
        name: "w", shape: [2, 3], encoding: Plain.f32,
        parts: [Part(.values, dtype: .f32, shape: [2, 3], bytes: singles(values))])
      let error = try #require(refusal { try weight.validate() })
      #expect(error.code == .codeNaN && error.problem.contains("row 1, column \(column)"))
    }
  }

  // MARK: groups

  @Test func zeroPointsAndGroupsThatCannotBeAreNamed() throws {
    let encoding = try #require(Encodings.named("int4.group4.zero.indexed"))
    func weight(zeroPoints: [UInt8] = [8, 15, 0, 8], groups: [UInt8] = [1, 0, 1, 0, 1, 0]) throws -> Weight {
      try Weight(
        name: "w", shape: [2, 6], encoding: encoding,
        parts: [
          zeros(.values, .u8, [2, 3]),
          Part(.scales, dtype: .f32, shape: [2, 2], bytes: singles([1, 2, 3, 4])),
          Part(.zeroPoints, dtype: .u8, shape: [2, 2], bytes: Bytes(zeroPoints)),
          Part(
            .groupIndex, dtype: .i32, shape: [6],
            bytes: Bytes(groups.flatMap { $0 == 0xFF ? [$0, $0, $0, $0] : [$0, 0, 0, 0] })),
        ])
    }
    try weight().validate()
    #expect(try weight().decode() == [-30, -8, -30, -8, -30, -8, -32, 0, -32, 0, -32, 0])
    let zero = try #require(refusal { try weight(zeroPoints: [8, 8, 16, 99]).validate() })
    #expect(zero.code == .scaleValue && zero.problem == "zero point 2 is 16, expected 0 to 15")
    for (place, group) in [(0, UInt8(2)), (5, 0xFF)] {
      var groups: [UInt8] = [0, 0, 0, 0, 0, 0]
      groups[place] = group
      let error = try #require(refusal { try weight(groups: groups).validate() })
      #expect(error.code == .scaleShape && error.problem.hasPrefix("column \(place) is in group"))
    }
    #expect(refuses(encoding, [], shape: [2, 5])?.code == .packed)
    #expect(refuses(encoding, [], shape: [])?.code == .packed)
  }

  @Test(arguments: [NVFP4.multiplied, NVFP4.divided])
  func badScalesOfNVFP4AreNamed(_ encoding: NVFP4) throws {
    func weight(scales: [UInt8] = [0, 0x38, 0x7E, 1], global: Float = 0.5) throws -> Weight {
      try Weight(
        name: "w", shape: [2, 32], encoding: encoding,
        parts: [
          zeros(.values, .u8, [2, 16]), Part(.scales, dtype: .f8E4M3, shape: [2, 2], bytes: Bytes(scales)),
          Part(.globalScale, dtype: .f32, shape: [1], bytes: singles([global])),
        ])
    }
    try weight().validate()
    for global: Float in [0, -1, .nan, .infinity, encoding.isDivided ? 1e-38 : 1e38] {
      #expect(refusal { try weight(global: global).validate() }?.code == .scaleValue, "\(global)")
    }
    for (code, text) in [(UInt8(0x7F), "NaN"), (0xFF, "NaN"), (0x80, "-0.0"), (0xB8, "-1.0")] {
      let error = try #require(refusal { try weight(scales: [0, 1, code, 0xFF]).validate() })
      #expect(error.code == .scaleValue && error.problem.hasPrefix("scale [1, 0] is \(text), expected"))
    }
    #expect(refuses(encoding, [], shape: [2, 24])?.code == .packed)
  }

  /// Reading past a weight's last row would go unnoticed in a release build: the program ends instead.
  @Test func rowsOutsideTheWeightAreNotRead() async {
    await #expect(processExitsWith: .failure) {
      let part = zeros(.values, .f32, [4, 32])
      guard let weight = try? Weight(name: "w", shape: [4, 32], encoding: Plain.f32, parts: [part]) else {
        return
      }
      _ = weight.decode(rows: 3..<5)
    }
    await #expect(processExitsWith: .failure) {
      let part = zeros(.values, .f32, [4, 32])
      guard let weight = try? Weight(name: "w", shape: [4, 32], encoding: Plain.f32, parts: [part]) else {
        return
      }
      _ = multiply(Matrix(rows: 1, columns: 32), weight, rows: 2..<6)
    }
  }

  /// A column's group is a number from the file: decoding does not follow it outside the scales, validated or not.
  @Test func groupsThatDoNotExistAreNotRead() async {
    await #expect(processExitsWith: .failure) {
      guard let encoding = GroupedIntegers(.eight, .group(32), isIndexed: true) else { return }
      let parts = [
        zeros(.values, .i8, [2, 64]), zeros(.scales, .f32, [2, 2]),
        Part(
          .groupIndex, dtype: .i32, shape: [64],
          bytes: Bytes([UInt8](repeating: 0, count: 252) + [2, 0, 0, 0])),
      ]
      guard let weight = try? Weight(name: "w", shape: [2, 64], encoding: encoding, parts: parts) else {
        return
      }
      _ = weight.decode()
    }
  }
}
