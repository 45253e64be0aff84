// How scales are chosen: exactness of power-of-two sources, percentile, least weighted error.

import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct ScaleTests {
  static let observers: [Observer] = [.absmax, .percentile(99), .mse]

  /// FP4 rows whose group scales span at most 14 octaves are exact in FP8 under a power-of-two scale.
  @Test(arguments: 0...14) func fp4RowsAreExactInFP8(_ octaves: Int) throws {
    var generator = Generator(seed: UInt64(octaves))
    let source = try fp4Weight(&generator, rows: 40, columns: 256, octaves: octaves)
    let expected = source.decode()
    for observer in ScaleTests.observers {
      let (result, report) = try ChannelScheme.fp8.quantize(
        source, options: QuantizeOptions(observer: observer))
      #expect(report.inexactValues == 0)
      #expect(report.inexactRows == 0)
      #expect(result.decode() == expected)  // Float's ==: −0 equals +0
      for scale in scales(result) { #expect(scale.significand == 1) }
    }
  }

  /// Past 14 octaves the smallest codes fall below FP8's smallest number; what is lost is counted.
  @Test func whatIsNotExactIsCounted() throws {
    var generator = Generator(seed: 3)
    let source = try fp4Weight(&generator, rows: 30, columns: 512, octaves: 18)
    let expected = source.decode()
    let (result, report) = try ChannelScheme.fp8.quantize(source)
    let decoded = result.decode()
    let differing = expected.indices.filter { expected[$0] != decoded[$0] }
    #expect(report.inexactValues == differing.count)
    #expect(report.inexactRows == Set(differing.map { $0 / 512 }).count)
    #expect(differing.count > 0)
  }

  /// The finding that made power-of-two scales the default: under absmax ÷ 448 a row of FP4 codes is not exact.
  @Test func absmaxScalesWouldRoundFP4() throws {
    let codes: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    let usual: Float = 6.0 / 448
    let under = codes.map { code in
      let quotient = code / usual
      let step = Float(sign: .plus, exponent: max(quotient.exponent, -6) - 3, significand: 1)
      return code == 0 ? 0 : (quotient / step).rounded(.toNearestOrEven) * step * usual
    }
    #expect(zip(codes, under).filter { abs($0 - $1) > 0.03 * $0 }.map(\.0) == [0.5, 1, 2, 4])
    let weight = try floatWeight((0..<4).flatMap { _ in codes + codes.map(-) }, rows: 1)
    let (result, report) = try ChannelScheme.fp8.quantize(weight)
    #expect(scales(result) == [0.015625])
    #expect(report.inexactValues == 0)
  }

  @Test func fp8SourcesWithOneScaleARowStayExact() throws {
    var generator = Generator(seed: 21)
    let granularities: [FP8.Granularity] = [.tensor, .channel, .block(rows: 8, columns: 128)]
    for granularity in granularities {
      let source = try fp8Weight(&generator, rows: 33, columns: 100, granularity) {
        Float($0) * 0.0137 + 0.003
      }
      for observer in ScaleTests.observers {
        let (result, report) = try ChannelScheme.fp8.quantize(
          source, options: QuantizeOptions(observer: observer))
        #expect(report.inexactValues == 0)
        #expect(result.decode() == source.decode())
      }
    }
  }

  /// Blocks with power-of-two scales that lie close together are exact too, if their codes leave room.
  @Test func fp8BlocksWithPowerOfTwoScales() throws {
    let codes: [UInt8] = (0..<4 * 256).map { UInt8(0x20 + $0 % 0x30) }  // 2⁻³ … 15
    let scaleValues: [Float] = [0.5, 0.25, 1, 2]
    let source = try Weight(
      name: "fp8", shape: [4, 256], encoding: FP8(.e4m3, .block(rows: 2, columns: 128)),
      parts: [
        Part(.values, dtype: .f8E4M3, shape: [4, 256], bytes: Bytes(codes)),
        Part(
          .scales, dtype: .f8E8M0, shape: [2, 2],
          bytes: Bytes(scaleValues.map { UInt8($0.exponent + 127) })),
      ])
    let (result, report) = try ChannelScheme.fp8.quantize(source)
    #expect(report.inexactValues == 0)
    #expect(result.decode() == source.decode())
    let bf16 = try PlainFloat.bf16.quantize(source)
    #expect(bf16.report.inexactValues == 0)
    #expect(bf16.weight.decode() == source.decode())
  }

  @Test func int8StaysInt8() throws {
    var generator = Generator(seed: 4)
    let first = try ChannelScheme.int8.quantize(try floatWeight(generator.normals(20 * 300), rows: 20)).weight
    let (second, report) = try ChannelScheme.int8.quantize(first, options: QuantizeOptions(observer: .mse))
    #expect(report.inexactValues == 0)
    #expect(second.values.bytes.array == first.values.bytes.array)
    #expect(second.parts[1].bytes.array == first.parts[1].bytes.array)
  }

  @Test func fp4IsExactInBF16AndF32() throws {
    var generator = Generator(seed: 9)
    let source = try fp4Weight(&generator, rows: 9, columns: 64, octaves: 14)
    for scheme in [PlainFloat.bf16, .f32] {
      let (result, report) = try scheme.quantize(source)
      #expect(report.inexactValues == 0)
      #expect(result.decode() == source.decode())
    }
  }

  @Test(arguments: [("int8-channel", Float(127)), ("fp8-channel", 448)])
  func absmaxScaleIsTheLargestMagnitudeOverTheLargestCode(_ name: String, largest: Float) throws {
    var generator = Generator(seed: 6)
    let values = generator.normals(8 * 130)
    let result = try Schemes.named(name).quantize(try floatWeight(values, rows: 8)).weight
    for row in 0..<8 {
      let absmax = values[row * 130..<(row + 1) * 130].map(abs).max()!
      #expect(scales(result)[row] == absmax / largest)
    }
  }

  @Test(arguments: [0.01, 50, 90, 99, 99.99, 100])
  func percentileIsTheNearestRank(_ p: Double) throws {
    var generator = Generator(seed: 13)
    for columns in [1, 2, 33, 1000] {
      let values = generator.normals(3 * columns)
      let options = QuantizeOptions(observer: .percentile(p))
      let result = try ChannelScheme.int8.quantize(try floatWeight(values, rows: 3), options: options).weight
      for row in 0..<3 {
        let sorted = values[row * columns..<(row + 1) * columns].map(abs).sorted()
        let rank = max(1, Int((p / 100 * Double(columns)).rounded(.up)))
        // One value in a row lies on every grid through it, so the exact rule comes first.
        if columns > 1 { #expect(scales(result)[row] == sorted[rank - 1] / 127) }
      }
    }
  }

  @Test func aPercentileOfZeroClipsNothing() throws {
    var values = [Float](repeating: 0, count: 100)
    (values[3], values[4]) = (0.7, 0.3)
    let options = QuantizeOptions(observer: .percentile(50))
    #expect(
      scales(try ChannelScheme.int8.quantize(try floatWeight(values, rows: 1), options: options).weight) == [
        0.7 / 127
      ])
  }

  @Test(arguments: ["int8-channel", "fp8-channel"], [false, true])
  func leastErrorIsNeverWorseThanAbsmax(_ name: String, weighted: Bool) throws {
    let scheme = try Schemes.named(name)
    var generator = Generator(seed: 17)
    let (rows, columns) = (64, 192)
    let values = outlierRows(&generator, rows: rows, columns: columns)
    // Two input groups: the lower rows see other inputs than the upper ones.
    let importance = weighted ? (0..<2 * columns).map { _ in abs(generator.normal(3)) } : nil
    let view = importance.map { ImportanceView(groups: 2, columns: columns, values: $0) }
    let weight = try floatWeight(values, rows: rows)
    let usual = try scheme.quantize(weight).weight.decode()
    let (best, report) = try scheme.quantize(
      weight, options: QuantizeOptions(observer: .mse, importance: view))
    let found = best.decode()
    var better = 0
    for row in 0..<rows {
      let range = row * columns..<(row + 1) * columns
      let group = row / (rows / 2)
      let own = importance.map { Array($0[group * columns..<(group + 1) * columns]) }
      let a = weightedError(Array(values[range]), Array(usual[range]), own)
      let b = weightedError(Array(values[range]), Array(found[range]), own)
      // The slow sum has another order: doubles agree to far better than this.
      #expect(b <= a * (1 + 1e-12), "row \(row): \(b) against \(a)")
      if b < a * (1 - 1e-6) { better += 1 }
    }
    #expect(better > rows / 8)  // narrow rows gain little by clipping; wide ones more
    #expect(report.values == rows * columns)
  }

  /// With all the importance on some channels the search clips an outlier that nobody sees.
  @Test func importanceDecidesWhatIsClipped() throws {
    var generator = Generator(seed: 19)
    var values = generator.normals(256, 0.1)
    values[7] = 0.9
    var importance = [Float](repeating: 1, count: 256)
    importance[7] = 0
    let weight = try floatWeight(values, rows: 1)
    func scale(_ view: ImportanceView?) throws -> Float {
      scales(
        try ChannelScheme.int8.quantize(
          weight, options: QuantizeOptions(observer: .mse, importance: view)
        ).weight)[0]
    }
    let seen = try scale(ImportanceView(groups: 1, columns: 256, values: importance))
    let alike = try scale(nil)
    #expect(seen < 0.5 * 0.9 / 127)
    #expect(alike > seen)
  }

  @Test func importanceOfAnotherShapeIsRefused() throws {
    let weight = try floatWeight([Float](repeating: 0.3, count: 5 * 8), rows: 5)
    for (groups, columns) in [(1, 9), (2, 8)] {
      let view = ImportanceView(
        groups: groups, columns: columns, values: [Float](repeating: 1, count: groups * columns))
      let error = #expect(throws: FormatError.self) {
        try ChannelScheme.int8.quantize(weight, options: QuantizeOptions(observer: .mse, importance: view))
      }
      #expect(error?.code.name == "STAT_MISMATCH")
    }
  }

  @Test func observersReadTheirOwnNames() throws {
    for observer in Observer.all + [.percentile(99.9), .percentile(50)] {
      #expect(try Observer.named(observer.description) == observer)
    }
    #expect(try Observer.named("MSE") == .mse)
    for text in ["percentile:0", "percentile:101", "percentile:x", "percentile:", "percentile:nan"] {
      #expect(throws: RequestError.self) { try Observer.named(text) }
    }
    let error = #expect(throws: RequestError.self) { try Observer.named("absmx") }
    #expect(error?.help == "did you mean absmax? known: absmax, percentile, mse")
  }
}
