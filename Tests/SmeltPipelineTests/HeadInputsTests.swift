// The end of a calibration: the output head is watched and read, and nothing is multiplied by it.

import SmeltModels
@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Synchronization
import Testing

/// Weights that count how often one is read, multiply by nothing, and refuse to read one of them.
private struct Watched<Base: Weights>: Weights {
  let base: Base
  let damaged: WeightName?
  let reads = Reads()

  final class Reads: Sendable { let count = Atomic<Int>(0) }

  func weight(_ name: WeightName) throws -> Weight {
    reads.count.add(1, ordering: .relaxed)
    if name == damaged { throw FormatError(.codeNaN, subject: name.description, "is damaged") }
    return try base.weight(name)
  }
  func finished(_ name: WeightName) {}
  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    Matrix(
      rows: x.rows, columns: rows?.count ?? 1, values: Array(repeating: 7, count: x.rows * (rows?.count ?? 1))
    )
  }
}

@Suite struct HeadInputsTests {
  private func check(_ family: some ModelFamily, _ base: some Weights) throws {
    let head = try #require(
      family.weights.first { $0.role == .outputHead } ?? family.weights.first { $0.role == .embedding })
    let other = try #require(family.weights.first { $0.role == .attention && $0.isMultiplied })
    let watched = Watched(base: base, damaged: nil)
    let weights = HeadInputs(watched, of: family)
    let x = Matrix(
      rows: 2, columns: head.shape.columns, values: Array(repeating: 1, count: 2 * head.shape.columns))
    let y = try weights.multiply(x, head.name, rows: nil, parallel: .serial)
    #expect(y.rows == 2 && y.columns == head.shape.rows && y.values.allSatisfy { $0 == 0 })
    let part = try weights.multiply(x, head.name, rows: 1..<4, parallel: .serial)
    #expect(part.columns == 3 && part.values.allSatisfy { $0 == 0 })
    // Once for all tokens: it may come from another machine.
    #expect(watched.reads.count.load(ordering: .relaxed) == 1)
    #expect(try weights.multiply(x, other.name, rows: nil, parallel: .serial).values == [7, 7])
    let damaged = HeadInputs(Watched(base: base, damaged: head.name), of: family)
    #expect(throws: FormatError.self) { try damaged.multiply(x, head.name, rows: nil, parallel: .serial) }
  }

  @Test(arguments: ["tiny-v4", "qwen3_moe", "llama"])
  func theHeadIsReadAndNotMultiplied(_ name: String) throws {
    let model = try openFixture(name)
    try check(model.family, model.weights)
  }

  /// The statistics of the head are those of the inputs of logits that are computed.
  @Test func theHeadIsWatched() throws {
    let model = try openFixture("tiny-v4")
    let folder = TemporaryFolder()
    let path = folder.file("s.safetensors")
    let windows = someWindows(model, count: 2, context: 24)
    _ = try calibrate(
      model, windows, textPath: fixture("models/tiny-v4/calibration.txt"), to: path, overwrite: false,
      RunOptions(parallel: .serial, maxMemory: 1 << 30))
    let found = try watched(model.family, model.weights, windows)
    let head = try #require(found.first { $0.weight.base == "output.weight" })
    #expect(try readStatistics(path, for: model).entry(head.weight) == head)
  }

  private func watched(_ family: some ModelFamily, _ weights: some Weights, _ windows: Windows) throws
    -> [StatisticsEntry]
  {
    let observed = ObservedWeights(weights, specs: family.weights)
    let (batch, pass) = (TokenBatch(windows.sequences), Pass(parallel: .serial))
    var x = try family.embed(batch, observed)
    for layer in 0..<family.dimensions.layers { _ = try family.layer(layer, &x, batch, observed, pass) }
    _ = observed.drain()
    _ = try family.logits(x, observed, pass)
    return observed.drain()
  }
}
