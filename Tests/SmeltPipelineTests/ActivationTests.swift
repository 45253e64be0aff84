// Rounded activations: the grids against a naive computation, and both figures in the report.

import SmeltModels
@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct ActivationTests {
  @Test func gridsAreThoseOfEngines() throws {
    let model = try openFixture("deepseek_v4")
    var generator = Generator(seed: 9)
    let x = Matrix(rows: 3, columns: 70, values: generator.normals(210).enumerated().map { $0 < 70 ? 0 : $1 })
    let name = WeightName("blk.0.attn_q_a.weight")
    for (kind, largest) in [(ActivationRounding.Kind.int8, Float(127)), (.fp8, 448)] {
      let rounded = try ActivationRounding(kind, for: model).round(x, name, Parallel(threads: 2))
      #expect(rounded.values[..<70].allSatisfy { $0 == 0 })
      for row in 1..<3 {
        let scale = x[row].map(abs).max()! / largest
        for column in 0..<70 {
          let (value, found) = (x.values[row * 70 + column], rounded.values[row * 70 + column])
          if kind == .int8 {
            #expect(found == (value / scale).rounded(.toNearestOrEven) * scale)
          } else {
            // Three bits after the first: half a unit is a sixteenth, below the smallest normal a fixed step.
            #expect(abs(found - value) <= max(abs(value) / 16, scale * 0x1p-10) * 1.0001)
          }
        }
        #expect(rounded[row].map(abs).max()! == x[row].map(abs).max()!)
      }
    }
  }

  @Test func blocksHaveScalesOfTheirOwn() throws {
    let model = try openFixture("deepseek_v4")
    let x = Matrix(rows: 1, columns: 5, values: [127, 0.3, 1270, 3, 64.4])
    let rounded = try ActivationRounding(.int8, for: model).round(
      x, WeightName("a"), block: 2, .serial)
    #expect(rounded.values == [127, 0, 1270, 0, Float(64.4) / 127 * 127])
    #expect(ActivationRounding.block(FP8(.e4m3, .block128)) == 128)
    #expect(ActivationRounding.block(FP8(.e4m3, .channel)) == nil)
  }

  /// MXFP8: the scale of 32 channels is the smallest power of two under which E4M3 holds them.
  @Test func scalesOfMXFP8ArePowersOfTwo() throws {
    let model = try openFixture("deepseek_v4")
    var generator = Generator(seed: 10)
    let x = Matrix(rows: 2, columns: 64, values: generator.normals(128))
    let mx = FP8(.e4m3, .block(rows: 1, columns: 32))
    #expect(ActivationRounding.block(mx) == 32 && ActivationRounding.hasPowers(mx))
    #expect(!ActivationRounding.hasPowers(FP8(.e4m3, .block(rows: 32, columns: 32))))
    let rounded = try ActivationRounding(.fp8, for: model).round(
      x, WeightName("a"), block: 32, hasPowers: true, .serial)
    for start in stride(from: 0, to: 128, by: 32) {
      let values = x.values[start..<start + 32]
      let largest = values.map(abs).max()!
      let scale = (0...40).map { Float(sign: .plus, exponent: 10 - $0, significand: 1) }.last {
        $0 * 448 >= largest
      }!
      for (value, found) in zip(values, rounded.values[start..<start + 32]) {
        var (code, back): (UInt8, Float) = (0, 0)
        withUnsafePointer(to: value) {
          FP8(.e4m3, .tensor).encode($0, count: 1, scale: scale, into: &code)
        }
        back = FP8Values.value(code) * scale
        #expect(found == back)
      }
    }
    for (scale, power) in [
      (1, 1), (1.0001, 2), (0.75, 1), (0.5, 0.5), (.leastNonzeroMagnitude, .leastNormalMagnitude),
    ]
      as [(Float, Float)]
    { #expect(ActivationRounding.power(scale) == power) }
  }

  @Test func staticScalesSaturate() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let path = folder.file("s")
    _ = try calibrate(
      model, try referenceWindows("deepseek_v4"), textPath: fixture("models/tiny-v4/calibration.txt"),
      to: path,
      overwrite: false, RunOptions())
    let statistics = try readStatistics(path, for: model)
    let name = WeightName("blk.0.attn_q_a.weight")
    let range = try #require(try statistics.entry(name)?.absmax?.max())
    let rounding = try ActivationRounding(.staticInt8, statistics: statistics, for: model)
    let x = Matrix(rows: 1, columns: 3, values: [3 * range, -range, range / 254 * 0.9])
    #expect(rounding.round(x, name, .serial).values == [range / 127 * 127, -(range / 127 * 127), 0])
    #expect(throws: RequestError.self) { try ActivationRounding(.staticFP8, for: model) }
  }

  @Test func bothFiguresAreReported() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("deepseek_v4")
    let path = folder.file("r.ingot")
    _ = try convert(source, to: path, try options("int8-channel"))
    let result = try Model.open(path)
    let windows = try referenceWindows("deepseek_v4")
    let plain = try verify(source: source, result: result, windows, thresholds: Thresholds(), RunOptions())
    #expect(plain.activations == nil)
    for kind in [ActivationRounding.Kind.int8, .fp8] {
      let runs = try [(1, 1), (3, 1 << 30)].map { threads, memory in
        try verify(
          source: source, result: result, windows, thresholds: Thresholds(),
          rounding: try ActivationRounding(kind, for: result),
          RunOptions(parallel: Parallel(threads: threads), maxMemory: memory))
      }
      let found = try #require(runs[0].activations)
      #expect(runs[0].kl.mean == plain.kl.mean && found.kl.mean > 0)
      #expect(found.kl.mean != plain.kl.mean && found.kl.mean < 0.1)
      #expect(found.roundedWeights == runs[0].weights.count { $0.scheme == "int8.channel" })
      #expect(found.json.text() == runs[1].activations?.json.text())
      #expect(runs[0].html.contains("With activations rounded to \(kind.rawValue)"))
      #expect(runs[0].text.contains("with \(kind.rawValue) activations"))
    }
    #expect(throws: RequestError.self) {
      try verify(
        source: source, result: source, windows, thresholds: Thresholds(),
        rounding: try ActivationRounding(.int8, for: source), RunOptions())
    }
  }
}

/// E4M3 codes by the words of Formats/encodings.md, section 4.
private enum FP8Values {
  static func value(_ code: UInt8) -> Float {
    let (exponent, mantissa) = (Int(code >> 3 & 15), Float(code & 7))
    let magnitude =
      exponent == 0
      ? mantissa / 512 : (1 + mantissa / 8) * Float(sign: .plus, exponent: exponent - 7, significand: 1)
    return code < 128 ? magnitude : -magnitude
  }
}
