// The schemes of engines' formats: blocks, tensors, groups. Bounds, exactness, cuts, and shapes that do not fit.

import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

private let names = [
  "fp8-tensor", "fp8-block", "fp8-block-e8m0", "fp8-block:32", "fp8-block-e8m0:64", "mxfp8", "int4-group",
  "int4-group:64", "int4-group:32", "int4-zero", "int4-zero:64", "int4-zero:32", "nvfp4", "mxfp4",
]

@Suite struct EngineSchemeTests {
  /// Root mean square error of normal numbers, relative to theirs: measured, times 1.1.
  private func bound(_ name: String) -> Double {
    switch name {
    case "int4-group", "int4-zero": 0.13
    case "int4-group:64", "int4-zero:64": 0.12
    case "int4-group:32", "int4-zero:32": 0.11
    case "nvfp4": 0.11
    case "mxfp4": 0.13
    default: 0.03
    }
  }

  @Test(arguments: names, ["absmax", "percentile:99.9", "mse"])
  func errorIsBoundedAndEveryScaleIsUsable(_ name: String, observer: String) throws {
    let scheme = try Schemes.named(name)
    var generator = Generator(seed: 71)
    let values = generator.normals(200 * 384, 0.03)
    let options = QuantizeOptions(observer: try Observer.named(observer))
    let (result, report) = try scheme.quantize(try floatWeight(values, rows: 200), options: options)
    try result.validate()
    let decoded = result.decode()
    let error = (weightedError(values, decoded, nil) / weightedError(values, values.map { _ in 0 }, nil))
      .squareRoot()
    #expect(error <= bound(name), "\(name), \(observer): \(error)")
    #expect(report.inexactValues == zip(values, decoded).count { $0 != $1 })
    #expect(report.values == values.count)
  }

  /// `mse` is never worse than `absmax`, weighted as it is asked to be; of int4 as a likeness of 1.01 times the values.
  @Test(arguments: names)
  func theLeastErrorIsNotAboveAbsmax(_ name: String) throws {
    let scheme = try Schemes.named(name)
    var generator = Generator(seed: 72)
    let values = outlierRows(&generator, rows: 130, columns: 256)
    let importance = (0..<256).map { _ in abs(generator.normal()) }
    let weight = try floatWeight(values, rows: 130)
    func error(_ observer: Observer) throws -> Double {
      let view = ImportanceView(groups: 1, columns: 256, values: importance)
      let result = try scheme.quantize(weight, options: QuantizeOptions(observer: observer, importance: view))
        .weight.decode()
      return (0..<130).reduce(0) { sum, row in
        let range = row * 256..<(row + 1) * 256
        let gain: Float = name.hasPrefix("int4") ? 1.01 : 1
        return sum + weightedError(values[range].map { $0 * gain }, Array(result[range]), importance)
      }
    }
    let (least, absmax) = (try error(.mse), try error(.absmax))
    #expect(least <= absmax * (1 + 1e-6), "\(name): \(least / absmax)")
  }

  @Test(arguments: names, [[0, 300], [0, 128, 300], [0, 128, 256, 300]])
  func slicesOfBlocksGiveTheBytesOfTheWhole(_ name: String, cuts: [Int]) throws {
    let scheme = try Schemes.named(name)
    var generator = Generator(seed: 73)
    let source = try bf16Weight(outlierRows(&generator, rows: 300, columns: 128 * 9), rows: 300)
    let whole = try scheme.quantize(source, parallel: Parallel(threads: 3)).weight
    var bytes: [PartName: [UInt8]] = [:]
    for (first, last) in zip(cuts, cuts.dropFirst()) {
      let part = try scheme.quantize(source, rows: first..<last, options: QuantizeOptions())
      bytes[.values, default: []] += part.values
      bytes[.scales, default: []] += part.scales
      bytes[.globalScale, default: []] += part.global
      bytes[.zeroPoints, default: []] += part.zeroPoints
    }
    for part in whole.parts { #expect(bytes[part.name] == part.bytes.array, "\(part.name)") }
  }

  /// What came out of the scheme comes out again, bit for bit, from its own numbers in BF16 or F32 where the scales are powers of two.
  @Test(arguments: ["fp8-block", "fp8-block-e8m0", "fp8-block-e8m0:32", "mxfp8", "mxfp4"])
  func numbersOfTheGridKeepTheirBytes(_ name: String) throws {
    let scheme = try Schemes.named(name)
    var generator = Generator(seed: 74)
    let values = generator.normals(192 * 320, 0.02)
    let power = try Schemes.named(name == "fp8-block" ? "fp8-block-e8m0" : name)
    let first = try power.quantize(try floatWeight(values, rows: 192)).weight
    let plain = try bf16Weight(first.decode(), rows: 192)
    #expect(plain.decode() == first.decode(), "BF16 holds FP8 and FP4 with powers of two")
    let (again, report) = try scheme.quantize(plain)
    #expect(report.inexactValues == 0)
    #expect(again.decode() == first.decode())
    if name != "mxfp8" { #expect(again.values.bytes.array == first.values.bytes.array) }
  }

  /// A source in blocks of FP8 keeps codes and scales whatever the scales are.
  @Test func sourcesInTheGridAreExact() throws {
    var generator = Generator(seed: 75)
    let fp8 = try fp8Weight(&generator, rows: 192, columns: 320, .block128) { 0.013 * Float($0 + 1) }
    let (same, report) = try BlockScheme.fp8.quantize(fp8)
    #expect(report.inexactValues == 0)
    #expect(same.values.bytes.array == fp8.values.bytes.array)
    #expect(same.parts[1].bytes.array == fp8.parts[1].bytes.array)
  }

  /// Groups whose scales span what E4M3's range holds change no number: 17 octaves in NVFP4, 14 in FP8.
  @Test(arguments: [
    ("nvfp4", 17), ("fp8-block", 14), ("fp8-block-e8m0", 14), ("fp8-tensor", 14), ("mxfp8", 100),
  ])
  func mxfp4WithinRangeIsExact(_ name: String, octaves: Int) throws {
    var generator = Generator(seed: 76)
    let codes = (0..<8 * 64).map { _ in UInt8.random(in: 0...255, using: &generator) }
    let scales = (0..<8 * 4).map { _ in UInt8.random(in: 110..<110 + UInt8(octaves), using: &generator) }
    let source = try Weight(
      name: "fp4", shape: [8, 128], encoding: FP4.mxfp4,
      parts: [
        Part(.values, dtype: .i8, shape: [8, 64], bytes: Bytes(codes)),
        Part(.scales, dtype: .f8E8M0, shape: [8, 4], bytes: Bytes(scales)),
      ])
    let (result, report) = try Schemes.named(name).quantize(source)
    #expect(report.inexactValues == 0)
    #expect(result.decode() == source.decode())
  }

  @Test(arguments: names)
  func zerosAndExtremesHaveUsableScales(_ name: String) throws {
    let scheme = try Schemes.named(name)
    for magnitude in [0, Float.leastNonzeroMagnitude, 1e-30, 1, 3e38] as [Float] {
      var values = [Float](repeating: 0, count: 4 * 128)
      for column in 0..<128 { values[128 + column] = magnitude * (column % 2 == 0 ? 1 : -0.3) }
      let result = try scheme.quantize(try floatWeight(values, rows: 4)).weight
      try result.validate()
      #expect(result.decode(rows: 0..<1).allSatisfy { $0 == 0 }, "\(name), \(magnitude)")
    }
  }

  @Test(arguments: names, [Float.nan, .infinity])
  func whatIsNotFiniteIsRefused(_ name: String, bad: Float) throws {
    var values = [Float](repeating: 0.5, count: 140 * 128)
    values[133 * 128 + 40] = bad
    let weight = try floatWeight(values, rows: 140)
    let error = #expect(throws: FormatError.self) { try Schemes.named(name).quantize(weight) }
    #expect(error?.code == .codeNaN && error?.problem.hasPrefix("row 133, column 40 ") == true)
    let view = ImportanceView(groups: 1, columns: 3, values: [1, 1, 1])
    let misfit = #expect(throws: FormatError.self) {
      try Schemes.named(name).quantize(
        try floatWeight(values.map { $0.isFinite ? $0 : 1 }, rows: 140),
        options: QuantizeOptions(observer: .mse, importance: view))
    }
    #expect(misfit?.code == .statisticsMismatch)
  }

  @Test func oddColumnsGetShorterGroupsOrStay() throws {
    for (name, columns, expected) in [
      ("int4-group", 256, nil), ("int4-group", 192, "int4-group:64"), ("int4-group", 96, "int4-group:32"),
      ("int4-group", 40, "keep"), ("int4-group:64", 96, "int4-group:32"), ("mxfp4", 48, "keep"),
      ("mxfp4", 64, nil), ("nvfp4", 48, nil), ("nvfp4", 40, "keep"), ("mxfp8", 48, "keep"),
      ("mxfp8", 64, nil),
      ("int4-zero", 192, "int4-zero:64"), ("int4-zero:64", 96, "int4-zero:32"), ("int4-zero", 40, "keep"),
    ] as [(String, Int, String?)] {
      let found = try Schemes.named(name).fallback(for: Plain.bf16, shape: [8, columns])
      #expect(found?.scheme.name == expected, "\(name) of \(columns)")
      if let found { #expect(found.why.contains("\(columns) columns are not a multiple of")) }
    }
    #expect(MXFP4Scheme().fallback(for: FP4.mxfp4, shape: [8, 64])?.scheme.name == "keep")
    let mx = FP8(.e4m3, .block(rows: 1, columns: 32))
    #expect(BlockScheme.mxfp8.fallback(for: mx, shape: [8, 64])?.scheme.name == "keep")
    for bad in [
      "int4-group:48", "int4-zero:48", "fp8-block:16", "fp8-block-e8m0:", "mxfp8@a7", "@a16", "w4a8@",
    ] {
      #expect(throws: RequestError.self, "\(bad)") { try Schemes.named(bad) }
    }
    #expect(try Schemes.named("w4a16").name == "int4-group")
  }
  /// Scale and zero point are those of compressed-tensors: (hi − lo) ÷ 15, −lo ÷ scale, from a range that holds zero.
  @Test func zeroPointsFollowTheRange() throws {
    // 0.25 × (−3 … 12): exact with zero point 3; a range without zero is widened to it.
    let exact = (0..<32).map { Float($0 % 16 - 3) / 4 }
    let positive = (0..<32).map { 1 + Float($0) / 31 }
    let (result, report) = try Int4Zero(size: 32).quantize(
      try floatWeight(exact + positive, rows: 2), options: QuantizeOptions(observer: .absmax))
    #expect(report.inexactRows == 1 && report.inexactValues > 16)
    #expect(Array(result.decode()[..<32]) == exact)
    let zeros = try #require(result.part(.zeroPoints)).bytes.array
    #expect(zeros == [3, 0])
    let scale = result.part(.scales)!.bytes.array
    // 2 ÷ 15 as BF16: 0x3E08 is 0.1328125, 0x3E09 is 0.1337890625.
    #expect(Array(scale[2...]) == [0x09, 0x3E] || Array(scale[2...]) == [0x08, 0x3E])
    let step = Float(bitPattern: UInt32(scale[2]) << 16 | UInt32(scale[3]) << 24)
    for (value, found) in zip(positive, result.decode()[32...]) {
      #expect(found == (value / step).rounded(.toNearestOrEven) * step)
    }
  }

  /// One-sided numbers lose half as much as with codes around zero.
  @Test func asymmetryHelpsOneSidedNumbers() throws {
    var generator = Generator(seed: 77)
    let values = generator.normals(16 * 256, 1).map { abs($0) }
    let weight = try floatWeight(values, rows: 16)
    func error(_ name: String) throws -> Double {
      weightedError(
        values,
        try Schemes.named(name).quantize(weight, options: QuantizeOptions(observer: .mse)).weight.decode(),
        nil)
    }
    #expect(try error("int4-zero") < error("int4-group") / 2.5)
  }

  @Test func wordsSayWhatBecomesOfActivations() throws {
    for (text, name) in [
      ("W8A16", "int8-channel@a16"), ("w4a8", "int4-group@a8"), ("W4AFP8", "int4-group@afp8"),
      ("MXFP8A16", "mxfp8@a16"), ("MXFP8", "mxfp8"), ("MXFP4XFP8", "mxfp4@afp8-group"),
      ("W8A8", "int8-channel"),
      ("int4-group:64@A8", "int4-group:64@a8"), ("W4A16_ASYM", "int4-zero"),
      ("fp8-block-e8m0:32", "fp8-block-e8m0:32"), ("FP8-BLOCK:128", "fp8-block"),
    ] {
      #expect(try SchemeWord(text).name == name, "\(text)")
      #expect(try SchemeWord(name).name == name, "\(name)")
    }
    let text = """
      {"schema": "smelt.recipe/1", "default": "W4A8",
       "rules": [{"role": "attention", "scheme": "W8A16"}, {"role": "routed_down", "scheme": "mxfp8"}]}
      """
    let recipe = try Recipe(Bytes(Array(text.utf8)))
    #expect(recipe.defaultActivations == .int8 && recipe.rules.map(\.activations) == [.kept, nil])
    let again = try Recipe(recipe.json)
    #expect(again.json.text() == recipe.json.text())
    #expect(again.json["rules"]?.array?.first?["scheme"]?.string == "int8-channel@a16")
  }
}
