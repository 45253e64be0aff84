// Every scheme of the list: bounds, exactness, refusals, and bytes that do not depend on how a weight is cut.

import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct SchemeTests {
  static let channel: [any Scheme] = [ChannelScheme.fp8, ChannelScheme.int8]

  /// The stated bound of a value's error under a scale: half a step, and float32's rounding of the quotient and of the
  /// product, each 2⁻²⁴ of the value.
  func bound(_ scheme: any Scheme, _ value: Float, _ scale: Float) -> Double {
    let rounding = 4 * Double(abs(value)) * 0x1p-24
    return switch scheme.name {
    case "int8-channel": Double(scale) / 2 + rounding
    case "fp8-channel": max(Double(abs(value)) * 0x1p-4, Double(scale) * 0x1p-10) + rounding
    case "bf16": Double(abs(value)) * 0x1p-8
    case "f16": max(Double(abs(value)) * 0x1p-11, 0x1p-25)
    default: 0
    }
  }

  static let byRow = ["keep", "bf16", "f16", "f32", "fp8-channel", "int8-channel"]

  @Test(arguments: byRow, [1, 64, 257, 4096])
  func errorIsWithinTheStatedBound(_ name: String, columns: Int) throws {
    let scheme = try Schemes.named(name)
    var generator = Generator(seed: 11)
    let values = outlierRows(&generator, rows: 6, columns: columns)
    let (result, report) = try scheme.quantize(try floatWeight(values, rows: 6))
    let decoded = result.decode()
    var inexact = 0
    for index in values.indices {
      let scale = result.parts.count > 1 ? scales(result)[index / columns] : 1
      let error = Double(abs(values[index] - decoded[index]))
      #expect(
        error <= bound(scheme, values[index], scale),
        "\(name) row \(index / columns) column \(index % columns): \(values[index]) became \(decoded[index])")
      if values[index] != decoded[index] { inexact += 1 }
    }
    #expect(report.inexactValues == inexact)
    #expect(report.values == values.count)
    if !scheme.isLossy { #expect(inexact == 0) }
  }

  /// Every part, also those that do not belong to rows, from one slice and from many (a slice has 2^19 values).
  @Test(arguments: [3, 48]) func keepingCopiesEveryPart(rows: Int) throws {
    let columns = 16_384
    let encodings: [any Encoding] = [
      NVFP4.multiplied, FP8(.e4m3, .tensor), FP8(.e4m3, .block(rows: 2, columns: 128)), FP4.mxfp4,
      try #require(
        GroupedIntegers(.four, .group(128), hasZeroPoints: true, isIndexed: true)),
    ]
    for encoding in encodings {
      let shape: Shape = [rows, columns]
      let parts = try encoding.layout(of: shape, name: "w").map { layout in
        let count = layout.dtypes[0].byteCount(layout.shape.count) ?? 0
        return Part(
          layout.name, dtype: layout.dtypes[0], shape: layout.shape,
          bytes: Bytes((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 167 >> 3) }))
      }
      let source = try Weight(name: "w", shape: shape, encoding: encoding, parts: parts)
      let (kept, _) = try Keep().quantize(source, parallel: Parallel(threads: 2))
      for (before, after) in zip(source.parts, kept.parts) {
        #expect(before.bytes.array == after.bytes.array, "\(encoding.name): \(before.name.rawValue)")
      }
    }
  }

  @Test(arguments: Schemes.all.map(\.name), ["absmax", "percentile:99", "mse"])
  func slicesGiveTheBytesOfTheWhole(_ name: String, observer: String) throws {
    let scheme = try Schemes.named(name)
    var generator = Generator(seed: 5)
    let options = QuantizeOptions(
      observer: try Observer.named(observer),
      importance: ImportanceView(
        groups: 1, columns: 96, values: (0..<96).map { _ in abs(generator.normal()) }))
    let sources = [
      try bf16Weight(outlierRows(&generator, rows: 37, columns: 96), rows: 37),
      try fp4Weight(&generator, rows: 37, columns: 96, octaves: 20),
      try fp8Weight(&generator, rows: 37, columns: 96, .block(rows: 16, columns: 32)) {
        Float($0 + 1) * 0.01
      },
    ]
    for source in sources {
      let whole = try scheme.quantize(source, options: options, parallel: Parallel(threads: 3))
      for cuts in [[0, 37], [0, 1, 2, 36, 37], [0, 16, 37], [0, 20, 20, 37]]
      where cuts.allSatisfy({ $0 % scheme.rowBlock == 0 || $0 == 37 }) {
        var (values, scaleBytes): ([UInt8], [UInt8]) = ([], [])
        var report = RowReport()
        for (first, last) in zip(cuts, cuts.dropFirst()) {
          let part = try scheme.quantize(source, rows: first..<last, options: options)
          values += part.values
          scaleBytes += part.scales
          report += part.report
        }
        #expect(values == whole.weight.parts[0].bytes.array)
        #expect(scaleBytes == (whole.weight.parts.count > 1 ? whole.weight.parts[1].bytes.array : []))
        #expect(report == whole.report)
      }
    }
  }

  @Test func keepKeepsBytes() throws {
    var generator = Generator(seed: 2)
    let source = try fp8Weight(&generator, rows: 50, columns: 70, .block(rows: 16, columns: 32)) { _ in 0.3 }
    let (result, report) = try Keep().quantize(source, parallel: Parallel(threads: 2))
    #expect(result.encoding.name == source.encoding.name)
    for (a, b) in zip(source.parts, result.parts) {
      #expect(a.bytes.array == b.bytes.array)
      #expect(a.dtype == b.dtype)
    }
    #expect(report.inexactValues == 0)
  }

  @Test(arguments: ["fp8-channel", "int8-channel", "bf16", "f16", "f32", "q8_0", "q4_k"])
  func integerTablesAreCopied(_ name: String) throws {
    let table = try Weight(
      name: "ids", shape: [3, 2], encoding: IntegerTable.i64,
      parts: [Part(.values, dtype: .i64, shape: [3, 2], bytes: Bytes((0..<48).map { UInt8($0) }))])
    let result = try Schemes.named(name).quantize(table).weight
    #expect(result.encoding.name == "i64")
    #expect(result.values.bytes.array == table.values.bytes.array)
  }

  @Test(arguments: ["fp8-channel", "int8-channel"], ["absmax", "percentile", "mse"])
  func aRowOfZerosGetsScaleOne(_ name: String, observer: String) throws {
    var values = [Float](repeating: 0, count: 3 * 40)
    for column in 40..<80 { values[column] = Float(column) / 7 }
    values[100] = -0.0
    let options = QuantizeOptions(observer: try Observer.named(observer))
    let (result, report) = try Schemes.named(name).quantize(
      try floatWeight(values, rows: 3), options: options)
    #expect(scales(result)[0] == 1)
    #expect(scales(result)[2] == 1)
    #expect(result.decode(rows: 0..<1).allSatisfy { $0 == 0 })
    #expect(result.decode(rows: 2..<3).allSatisfy { $0 == 0 })
    #expect(report.inexactRows <= 1)
    #expect(throws: Never.self) { try result.validate() }
  }

  /// The scale of a row of tiny numbers must be a normal number that the encoding accepts.
  @Test(
    arguments: SchemeTests.channel.map(\.name), [Float.leastNonzeroMagnitude, 0x1p-133, 1e-30, 3e38, 3.4e38])
  func extremeRowsHaveUsableScales(_ name: String, magnitude: Float) throws {
    let scheme = try Schemes.named(name)
    let values: [Float] = [magnitude, -magnitude, magnitude * 0.7, magnitude * 0.013, 0]
    let result = try scheme.quantize(try floatWeight(values, rows: 1)).weight
    #expect(scales(result)[0].isNormal)
    #expect(throws: Never.self) { try result.validate() }
    for (value, decoded) in zip(values, result.decode()) {
      #expect(Double(abs(value - decoded)) <= bound(scheme, value, scales(result)[0]))
    }
  }

  @Test(
    arguments: ["fp8-channel", "int8-channel", "bf16", "f16", "f32", "q8_0", "q4_k"],
    [Float.nan, .infinity, -.infinity])
  func whatIsNotFiniteIsRefused(_ name: String, bad: Float) throws {
    var values = [Float](repeating: 0.5, count: 5 * 7)
    values[3 * 7 + 4] = bad
    let weight = try floatWeight(values, rows: 5)
    let error = #expect(throws: FormatError.self) { try Schemes.named(name).quantize(weight) }
    #expect(error?.code.name == "Q_CODE_NAN")
    #expect(error?.problem.hasPrefix("row 3, column 4 ") == true)
    #expect(error?.subject == "test")
  }

  @Test func nanCodesAreRefusedBeforeTheyDecodeToNumbers() throws {
    var codes = [UInt8](repeating: 0x38, count: 6 * 32)
    codes[4 * 32 + 9] = 0xFF
    let weight = try Weight(
      name: "fp8", shape: [6, 32], encoding: FP8(.e4m3, .tensor),
      parts: [
        Part(.values, dtype: .f8E4M3, shape: [6, 32], bytes: Bytes(codes)),
        Part(.scales, dtype: .f32, shape: [1], bytes: Bytes([0, 0, 0x80, 0x3F])),
      ])
    let error = #expect(throws: FormatError.self) {
      try ChannelScheme.fp8.quantize(weight, rows: 3..<6, options: QuantizeOptions())
    }
    #expect(error?.code.name == "Q_CODE_NAN")
    #expect(error?.problem.hasPrefix("row 4, column 9 ") == true)
  }

  @Test func valuesBeyondTheRangeOfF16AreRefused() throws {
    let weight = try floatWeight([1, 2, 65_504, 65_519, 3, 70_000], rows: 2)
    #expect(throws: Never.self) {
      try PlainFloat.f16.quantize(weight, rows: 0..<1, options: QuantizeOptions())
    }
    let error = #expect(throws: RequestError.self) { try PlainFloat.f16.quantize(weight) }
    #expect(error?.kind == .unsupported)
    #expect(error?.problem.contains("row 1, column 2 is 70000") == true)
  }

  @Test func namesAndSynonymsInAnyCase() throws {
    let expected = [
      "W8A16": "int8-channel", "w8a8": "int8-channel", "INT8": "int8-channel", "fp8_dynamic": "fp8-channel",
      "FP8": "fp8-channel", "FP8-Channel": "fp8-channel", "KEEP": "keep", "BF16": "bf16", "fp16": "f16",
      "f32": "f32", "Q8_0": "q8_0", "Q4_K": "q4_k", "MXFP4": "mxfp4",
    ]
    for (text, name) in expected { #expect(try Schemes.named(text).name == name) }
    let all = Schemes.all.flatMap { [$0.name] + $0.synonyms }.map { $0.lowercased() }
    #expect(Set(all).count == all.count)
    let near = #expect(throws: RequestError.self) { try Schemes.named("int8-chanel") }
    #expect(near?.kind == .usage)
    #expect(near?.help?.hasPrefix("did you mean int8-channel?") == true)
    let far = #expect(throws: RequestError.self) { try Schemes.named("xyzzy") }
    #expect(far?.help == "known: " + Schemes.all.map(\.name).joined(separator: ", "))
  }

  @Test func resultPartsAreKnownBefore() throws {
    var generator = Generator(seed: 8)
    let source = try bf16Weight(generator.normals(12 * 20), rows: 12)
    for scheme in Schemes.all where scheme.fallback(for: source.encoding, shape: source.shape) == nil {
      let parts = try scheme.resultParts(of: source)
      let result = try scheme.quantize(source).weight
      #expect(parts.map(\.byteCount) == result.parts.map(\.bytes.count))
      #expect(parts.map(\.dtype) == result.parts.map(\.dtype))
      #expect(result.encoding.name == scheme.encoding(for: source.encoding, shape: source.shape).name)
    }
  }
}
