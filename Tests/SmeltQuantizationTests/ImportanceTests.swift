// What is believed of importances, what stands in their place, and that searches over scales miss nothing.

import SmeltModels
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltQuantization

@Suite struct ImportanceTests {
  /// True variances that scatter around a mean, and what `tokens` normal inputs show of them.
  private func observed(_ generator: inout Generator, columns: Int, tokens: Int, scatter: Float)
    -> (truth: [Float], squares: [Float], absmax: [Float])
  {
    let truth = (0..<columns).map { _ in max(0.05, 1 + scatter * generator.normal()) }
    var squares = [Float](repeating: 0, count: columns)
    var absmax = squares
    for column in 0..<columns {
      for x in generator.normals(tokens, truth[column].squareRoot()) {
        squares[column] += x * x / Float(tokens)
        absmax[column] = max(absmax[column], abs(x))
      }
    }
    return (truth, squares, absmax)
  }

  private func distance(_ a: [Float], _ b: [Float]) -> Double {
    zip(a, b).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
  }

  /// Few tokens: nearer to the truth than the mean squares themselves. Many: the mean squares themselves, nearly.
  @Test(arguments: [true, false]) func shrunkImportancesAreNearerToTheTruth(knowsAbsmax: Bool) {
    var generator = Generator(seed: 11)
    for (tokens, gain) in [(8, 0.5), (32, 0.8), (128, 1.0)] {
      let (truth, squares, absmax) = observed(&generator, columns: 512, tokens: tokens, scatter: 0.2)
      let shrunk = shrunkImportances(squares, absmax: knowsAbsmax ? absmax : nil, counts: [tokens])
      let (before, after) = (distance(squares, truth), distance(shrunk, truth))
      #expect(after < gain * before, "\(tokens) tokens: \(after) and \(before)")
    }
    let (_, squares, absmax) = observed(&generator, columns: 256, tokens: 4000, scatter: 0.3)
    let shrunk = shrunkImportances(squares, absmax: knowsAbsmax ? absmax : nil, counts: [4000])
    for (a, b) in zip(shrunk, squares) { #expect(abs(a - b) < 0.05 * b) }
  }

  /// A channel whose mean square one token made, and channels that show nothing but noise.
  @Test func whatOneTokenBroughtIsNotBelieved() {
    var squares = [Float](repeating: 1, count: 64)
    var absmax = [Float](repeating: 3, count: 64)
    for column in 0..<32 { squares[column] = 2 }
    (squares[63], absmax[63]) = (40, 200)  // 200² ÷ 1000 tokens: all of it one token's
    let shrunk = shrunkImportances(squares, absmax: absmax, counts: [1000])
    #expect(shrunk[63] < 5, "\(shrunk[63])")
    let equal = shrunkImportances([1, 1.1, 0.9, 1], absmax: [2, 2.2, 1.8, 2], counts: [4])
    #expect(equal.allSatisfy { abs($0 - 1) < 1e-6 }, "\(equal)")
    // Groups are by themselves; a group of zeros, and a single channel, stay as they are.
    #expect(shrunkImportances([0, 0, 4, 4], absmax: [0, 0, 2, 2], counts: [9, 9]) == [0, 0, 4, 4])
    #expect(shrunkImportances([3], absmax: [9], counts: [1]) == [3])
  }

  /// Of all scale codes that E4M3 has, none is better than the one chosen, weighted by √(2 m + x²).
  @Test func nvfp4FindsTheBestScaleOfAll() throws {
    var generator = Generator(seed: 12)
    let (rows, columns) = (40, 128)
    let values = generator.normals(rows * columns, 0.03)
    let weight = try floatWeight(values, rows: rows)
    let result = try NVFP4Scheme().quantize(weight, options: QuantizeOptions(observer: .mse)).weight
    let found = result.decode()
    let global = try #require(try NVFP4Scheme().survey(weight, options: QuantizeOptions()))
    let steps: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    for row in 0..<rows {
      let own = Array(values[row * columns..<(row + 1) * columns])
      let base = 2 * own.reduce(0) { $0 + Double($1) * Double($1) } / Double(columns)
      for start in stride(from: 0, to: columns, by: 16) {
        func error(_ value: (Int) -> Double) -> Double {
          (start..<start + 16).reduce(0) { sum, column in
            let x = Double(own[column])
            let distance = x - value(column)
            return sum + (1 + x * x / base).squareRoot() * distance * distance
          }
        }
        let least = (1...0x7E).map { code -> Double in
          let scale = Double(NVFP4Scheme.scale(UInt8(code), global))
          return error { column in
            let t = abs(Double(own[column])) / scale
            let near = steps.min { abs(Double($0) - t) < abs(Double($1) - t) } ?? 0
            return (own[column] < 0 ? -1 : 1) * Double(near) * scale
          }
        }.min()
        let chosen = error { Double(found[row * columns + $0]) }
        let best = try #require(least)
        #expect(chosen <= best * (1 + 1e-4), "row \(row), group \(start / 16)")
      }
    }
  }

  /// 400 scales in place of 21 find less than a hundredth more.
  @Test func int4FindsNearlyTheBestScale() throws {
    var generator = Generator(seed: 13)
    let (rows, columns) = (24, 128)
    let values = generator.normals(rows * columns, 0.02)
    let importance = (0..<columns).map { _ in 0.2 + abs(generator.normal()) }
    let view = ImportanceView(groups: 1, columns: columns, values: importance)
    let found = try Int4Group(size: 128).quantize(
      try floatWeight(values, rows: rows), options: QuantizeOptions(observer: .mse, importance: view)
    ).weight.decode()
    var (chosen, least) = (0.0, 0.0)
    for row in 0..<rows {
      let range = row * columns..<(row + 1) * columns
      let own = Array(values[range])
      let aim = own.map { $0 * 1.01 }
      chosen += weightedError(aim, Array(found[range]), importance)
      let absmax = own.map(abs).max() ?? 0
      least += try #require(
        (0..<400).map { step -> Double in
          let scale = absmax / 7 * (0.5 + 0.6 * Float(step) / 400)
          return weightedError(
            aim, own.map { max(-8, min(7, ($0 / scale).rounded(.toNearestOrEven))) * scale }, importance)
        }.min())
    }
    #expect(chosen < 1.01 * least, "\(chosen) and \(least)")
  }

  /// Normal numbers keep their size: their product with what is stored is that with themselves to 0.4 %. (The least square error
  /// loses 0.5 to 0.6 %, as much as itself.)
  @Test(arguments: ["int4-group", "int4-group:64"])
  func numbersKeepTheirSize(_ name: String) throws {
    var generator = Generator(seed: 14)
    let values = generator.normals(256 * 512, 0.02)
    let found = try Schemes.named(name).quantize(
      try floatWeight(values, rows: 256), options: QuantizeOptions(observer: .mse)
    ).weight.decode()
    let (own, cross) = zip(values, found).reduce(into: (0.0, 0.0)) {
      $0.0 += Double($1.0) * Double($1.0)
      $0.1 += Double($1.0) * Double($1.1)
    }
    #expect(abs(cross / own - 1) < 0.004, "\(name): \(cross / own)")
  }

  /// Which observer a scheme takes when nobody asks.
  @Test func fourBitsTakeTheLeastErrorByThemselves() throws {
    let spec = WeightSpec(WeightName("blk.0.attn_q.weight"), [64, 128], .attention, layer: 0, spellings: [])
    for scheme in Schemes.all where scheme.choosesScales {
      let usual = try Recipe(scheme).decide(spec, source: Plain.bf16, statistics: nil).options.observer
      let isFour = ["nvfp4", "int4-group"].contains(scheme.name)
      #expect(usual == (isFour ? .mse : .absmax), "\(scheme.name)")
      let asked = try Recipe(scheme, observer: .absmax).decide(spec, source: Plain.bf16, statistics: nil)
      #expect(asked.options.observer == .absmax)
    }
    let json = Recipe(NVFP4Scheme()).json
    #expect(json["observer"]?.string == "auto")
    #expect(try Recipe(json).observer == nil)
    #expect(try Observer.orAuto("AUTO") == nil && Observer.orAuto("mse") == .mse)
  }
}
