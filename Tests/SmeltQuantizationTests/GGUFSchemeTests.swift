// Schemes of GGUF's block types: bounds, exact sources, importances, stand-ins for odd widths, refusals, cuts.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct GGUFSchemeTests {
  static let names = GGUFScheme.all.map(\.name)

  private func scheme(_ name: String) throws -> GGUFScheme {
    try #require(Schemes.named(name) as? GGUFScheme)
  }

  @Test(arguments: names)
  func errorIsWithinTheStatedBound(_ name: String) throws {
    let scheme = try scheme(name)
    var generator = Generator(seed: 31)
    let values = generator.normals(8 * 1024, 0.02)
    let (result, report) = try scheme.quantize(try floatWeight(values, rows: 8))
    let decoded = result.decode()
    let relative =
      (weightedError(values, decoded, nil) / weightedError(values, values.map { _ in 0 }, nil)).squareRoot()
    #expect(relative <= 1.1 * scheme.relativeError, "\(relative)")
    #expect(relative >= 0.9 * scheme.relativeError, "\(relative): the stated error is out of date")
    #expect(report.values == values.count)
    #expect(report.inexactValues == zip(values, decoded).count { $0 != $1 })
    #expect(report.inexactRows == 8)
  }

  @Test(arguments: names)
  func cutsAndThreadsChangeNothing(_ name: String) throws {
    let scheme = try scheme(name)
    var generator = Generator(seed: 32)
    let source = try bf16Weight(outlierRows(&generator, rows: 12, columns: 512), rows: 12)
    let options = QuantizeOptions(
      observer: .mse,
      importance: ImportanceView(groups: 3, columns: 512, values: generator.normals(3 * 512).map { $0 * $0 }))
    let whole = try scheme.quantize(source, options: options)
    #expect(
      try scheme.quantize(source, options: options, parallel: Parallel(threads: 3)).weight.values.bytes.array
        == whole.weight.values.bytes.array)
    var (bytes, report): ([UInt8], RowReport) = ([], RowReport())
    for (first, last) in zip([0, 1, 3, 6, 6], [1, 3, 6, 6, 12]) {
      let part = try scheme.quantize(source, rows: first..<last, options: options)
      bytes += part.values
      report += part.report
    }
    #expect(bytes == whole.weight.values.bytes.array)
    #expect(report == whole.report)
    try whole.weight.validate()
  }

  /// What is stored as the scheme would store it stays as it is, and is read back as the same numbers.
  @Test(arguments: names)
  func aSourceOfTheSameTypeIsCopied(_ name: String) throws {
    let scheme = try scheme(name)
    var generator = Generator(seed: 33)
    let first = try scheme.quantize(try floatWeight(generator.normals(4 * 512), rows: 4)).weight
    let (again, report) = try scheme.quantize(first)
    #expect(again.values.bytes.array == first.values.bytes.array)
    #expect(report.inexactValues == 0 && report.values == 4 * 512)
  }

  @Test func fp4CodesAreMovedToGGUFsOrderAndBack() throws {
    var generator = Generator(seed: 34)
    let source = try fp4Weight(&generator, rows: 7, columns: 96, octaves: 20)
    let scheme = try scheme("mxfp4.gguf")
    let (result, report) = try scheme.quantize(source)
    #expect(result.encoding.name == "mxfp4.gguf")
    #expect(result.decode() == source.decode())
    #expect(report.inexactValues == 0 && report.values == 7 * 96)
    #expect(
      result.values.bytes.array
        == Reference.repackMXFP4(source.values.bytes.array, scales: source.parts[1].bytes.array))
    let back = try result.repackedMXFP4FromGGUF()
    #expect(back.encoding.name == "mxfp4")
    #expect(back.values.bytes.array == source.values.bytes.array)
    #expect(back.parts[1].bytes.array == source.parts[1].bytes.array)
    let part = try scheme.quantize(source, rows: 2..<5, options: QuantizeOptions())
    #expect(part.values == Array(result.values.bytes.array[2 * 51..<5 * 51]))
  }

  /// With importances their sum with the square errors is smaller than without, and a channel's row group has its own.
  @Test(arguments: GGUFScheme.all.filter(\.choosesScales).map(\.name))
  func importancesAreUsed(_ name: String) throws {
    let scheme = try scheme(name)
    var generator = Generator(seed: 35)
    let values = generator.normals(8 * 512, 0.02)
    let weight = try floatWeight(values, rows: 8)
    var importances = generator.normals(2 * 512).map { $0 * $0 * $0 * $0 }
    // The first group never saw a token.
    importances.replaceSubrange(0..<512, with: repeatElement(0, count: 512))
    let options = QuantizeOptions(
      observer: .mse, importance: ImportanceView(groups: 2, columns: 512, values: importances))
    let plain = try scheme.quantize(weight).weight
    let weighted = try scheme.quantize(weight, options: options).weight
    #expect(
      plain.values.bytes.array.prefix(plain.byteCount / 2)
        == weighted.values.bytes.array.prefix(plain.byteCount / 2))
    let own = Array(importances[512...])
    let rows = (4..<8).map { $0 * 512..<($0 + 1) * 512 }
    func error(_ result: Weight) -> Double {
      let decoded = result.decode()
      return rows.reduce(0) { $0 + weightedError(Array(values[$1]), Array(decoded[$1]), own) }
    }
    #expect(error(weighted) < 0.95 * error(plain), "\(error(weighted) / error(plain))")
    // Only ratios matter.
    let scaled = QuantizeOptions(
      observer: .mse,
      importance: ImportanceView(groups: 2, columns: 512, values: importances.map { $0 * 0x1p60 }))
    #expect(
      try scheme.quantize(weight, options: scaled).weight.values.bytes.array == weighted.values.bytes.array)
    let error = #expect(throws: FormatError.self) {
      try scheme.quantize(
        weight,
        options: QuantizeOptions(importance: ImportanceView(groups: 1, columns: 3, values: [1, 1, 1])))
    }
    #expect(error?.code == .statisticsMismatch)
  }

  /// llama-quantize's stand-ins, and what the ledger says about them.
  @Test(arguments: [
    ("q2_k", 320, "q4_0"), ("q3_k", 320, "q4_0"), ("q4_k", 320, "q5_0"), ("q5_k", 320, "q5_1"),
    ("q6_k", 320, "q8_0"), ("iq4_xs", 320, "iq4_nl"), ("tq1_0", 96, "q4_0"), ("tq2_0", 96, "q4_0"),
    ("q1_0", 64, "q4_0"), ("q2_0", 96, "q4_0"), ("nvfp4.gguf", 96, "mxfp4.gguf"), ("q8_0", 40, "f16"),
    ("q4_k", 40, "f16"), ("mxfp4.gguf", 33, "f16"), ("iq4_nl", 1, "f16"),
  ])
  func oddWidthsGetAnotherType(_ name: String, _ columns: Int, _ expected: String) throws {
    let scheme = try scheme(name)
    #expect(scheme.encoding(for: Plain.bf16, shape: [4, columns]).name == expected)
    let words =
      "\(expected): \(columns) columns are not a multiple of \(scheme.block.elements), as \(name) needs"
    #expect(scheme.note(for: Plain.bf16, shape: [4, columns]) == words)
    #expect(scheme.note(for: Plain.bf16, shape: [4, 512]) == nil)
    var generator = Generator(seed: 36)
    let values = generator.normals(4 * columns)
    let (result, _) = try scheme.quantize(try floatWeight(values, rows: 4))
    #expect(result.encoding.name == expected)
    let spec = WeightSpec(
      WeightName("blk.0.attn_q.weight"), [4, columns], .attention, layer: 0, spellings: [])
    #expect(try Recipe(scheme).decide(spec, source: Plain.bf16, statistics: nil).note == words)
  }

  @Test(arguments: names.filter { $0 != "mxfp4.gguf" })
  func aScaleBeyondF16IsRefused(_ name: String) throws {
    let scheme = try scheme(name)
    var generator = Generator(seed: 37)
    var values = generator.normals(3 * 1024)
    values[2 * 1024 + 800] = -1e12
    let weight = try floatWeight(values, rows: 3)
    _ = try scheme.quantize(weight, rows: 0..<2, options: QuantizeOptions())
    let error = #expect(throws: RequestError.self) { try scheme.quantize(weight) }
    #expect(error?.kind == .unsupported)
    let block = 800 / scheme.block.elements
    #expect(
      error?.problem == "'test' row 2, block \(block) has -1e+12, beyond the range of \(scheme.block.name)")
  }

  @Test(arguments: names)
  func zerosStayZeros(_ name: String) throws {
    let (result, report) = try scheme(name).quantize(
      try floatWeight([Float](repeating: -0.0, count: 512), rows: 2))
    try result.validate()
    #expect(result.decode().allSatisfy { $0 == 0 })
    #expect(report.inexactValues == 0)
  }
}
