// Calibration: numbers against a naive computation, the same bytes whatever the threads, experts that no token reaches.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Synchronization
import Testing

/// Weights that write down what one of them is multiplied with.
private final class Recorder<Base: Weights>: Weights {
  let base: Base
  let name: WeightName
  let seen = Mutex<[[Float]]>([])

  init(_ base: Base, _ name: WeightName) { (self.base, self.name) = (base, name) }

  func weight(_ name: WeightName) throws -> Weight { try base.weight(name) }
  func finished(_ name: WeightName) { base.finished(name) }
  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    if name == self.name {
      seen.withLock { seen in
        for row in 0..<x.rows { seen.append(Array(x.values[row * x.columns..<(row + 1) * x.columns])) }
      }
    }
    return try base.multiply(x, name, rows: rows, parallel: parallel)
  }
}

/// The inputs of one weight over a batch, one list a token.
private func inputs(_ name: WeightName, _ model: Model, _ windows: Windows) throws -> [[Float]] {
  try inputs(name, model.family, model.weights, TokenBatch(windows.sequences))
}

private func inputs(
  _ name: WeightName, _ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch
) throws -> [[Float]] {
  let recorder = Recorder(weights, name)
  var x = try family.embed(batch, recorder)
  let pass = Pass(parallel: .serial)
  for layer in 0..<family.dimensions.layers {
    _ = try family.layer(layer, &x, batch, recorder, pass)
  }
  return recorder.seen.withLock { $0 }
}

/// Expects an entry to be the largest magnitude and the mean square of some inputs.
private func expect(_ entry: StatisticsEntry, of inputs: [[Float]]) {
  #expect(entry.counts == [inputs.count])
  for column in 0..<entry.columns {
    let values = inputs.map { $0[column] }
    #expect(entry.absmax?[column] == values.map(abs).max())
    let mean = values.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(values.count)
    // The mean is rounded to float32 once: half a unit in the last place.
    #expect(abs(Double(entry.meanSquare[column]) - mean) <= mean * 0x1p-23)
  }
}

@Suite struct CalibrateTests {
  private let text = fixture("models/tiny-v4/calibration.txt")

  private func statistics(_ model: Model, _ windows: Windows, threads: Int, in folder: TemporaryFolder)
    throws -> (path: String, summary: CalibrationSummary)
  {
    let path = folder.file("statistics-\(threads)")
    let options = RunOptions(parallel: Parallel(threads: threads))
    let summary = try calibrate(
      model, windows, textPath: text, to: path, overwrite: false,
      policy: CalibrationPolicy(.weightOnly, minTokens: 1), options)
    return (path, summary)
  }

  @Test func statisticsEqualANaiveComputation() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let windows = try referenceWindows("deepseek_v4")
    let made = try statistics(model, windows, threads: 2, in: folder)
    let statistics = try readStatistics(made.path, for: model)
    #expect(statistics.tokens == 96)
    for name in ["blk.2.attn_q_a.weight", "blk.3.ffn_down_exps.weight#5", "blk.1.ffn_up_shexp.weight"] {
      let weight = WeightName(parsing: name)
      let entry = try #require(try statistics.entry(weight))
      expect(entry, of: try inputs(weight, model, windows))
    }
    // The first site of the first layer sees the embeddings, once a stream: no part of the pass is needed to know that.
    let table = try model.weights.weight(WeightName("token_embd.weight")).decode()
    let dimensions = model.family.dimensions
    let rows = windows.sequences.flatMap { $0 }.map { id in
      let row = Array(table[id * dimensions.hidden..<(id + 1) * dimensions.hidden])
      return (0..<dimensions.streams).flatMap { _ in row }
    }
    expect(try #require(try statistics.entry(WeightName("blk.0.hc_attn_fn.weight"))), of: rows)
    // Tokens an expert got are tokens its matrices saw; each token goes to as many experts as the model says.
    for tokens in try statistics.expertTokens() {
      #expect(tokens.counts.reduce(0, +) == 96 * dimensions.expertsPerToken)
      for (expert, count) in tokens.counts.enumerated() {
        let gate = WeightName("blk.\(tokens.layer).ffn_gate_exps.weight", expert: expert)
        #expect(try statistics.entry(gate)?.counts == [count])
      }
    }
  }

  @Test func theBytesDependOnNothingButTheInput() throws {
    let source = try openFixture("deepseek_v4")
    let windows = try referenceWindows("deepseek_v4")
    let folders = (0..<3).map { _ in TemporaryFolder() }
    let results = try zip(folders, [1, 3, 3]).map { folder, threads in
      let made = try statistics(source, windows, threads: threads, in: folder)
      let path = folder.file("result.ingot")
      _ = try convert(
        source, to: path,
        try options(
          "int8-channel", compression: .fast, observer: .mse,
          statistics: try readStatistics(made.path, for: source), threads: threads))
      return (statistics: try contents(made.path), result: try contents(path))
    }
    #expect(results[0].statistics == results[1].statistics)
    #expect(results[1].statistics == results[2].statistics)
    #expect(results[0].result == results[1].result)
    #expect(results[1].result == results[2].result)
  }

  /// One token again and again: hash layers send it to the same experts, and the others see nothing.
  @Test func starvedExpertsAreQuantizedByTheirWeightsAlone() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("deepseek_v4")
    let path = folder.file("result.ingot")
    let windows = Windows([[Int](repeating: 7, count: 64)], context: 64)
    let (learned, _) = try quantize(
      source, to: path, calibration: windows, textPath: text, choosesObserver: true,
      policy: CalibrationPolicy(.weightOnly, minTokens: 1), try options("int8-channel"))
    #expect(try names(folder) == ["result.ingot"])
    let dimensions = source.family.dimensions
    #expect(learned.coverage.layers[0].neverReached.count == dimensions.experts - dimensions.expertsPerToken)

    let result = try Model.open(path)
    _ = try checkModel(result, RunOptions())
    let entries = try #require(try ledger(in: result)["ledger"]?.array)
    let noted = entries.filter { $0["note"]?.string?.hasPrefix("weights alone") == true }
    #expect(noted.count == learned.coverage.neverReached * 3)
    #expect(noted.allSatisfy { $0["weight"]?.string?.contains("_exps.weight#") == true })
    let report = try verify(
      source: source, result: result, try referenceWindows("deepseek_v4"),
      thresholds: Thresholds(maxKL: 0.1), RunOptions())
    #expect(report.passes, "mean KL \(report.kl.mean)")
    // Eight bits of a row of normal numbers cost about 0.6 %; of what a token reached, the channels that matter cost less
    // and the others more.
    let starved = Set(noted.compactMap { $0["weight"]?.string })
    for weight in report.weights {
      #expect(weight.relativeError < (starved.contains(weight.name) ? 0.01 : 0.05), "\(weight.name)")
    }
  }

  @Test func quantizeLeavesOtherFilesAlone() throws {
    let folder = TemporaryFolder()
    let path = folder.file("r.ingot")
    try writeFile(path + ".statistics", Array("mine".utf8), overwrite: false)
    let windows = Windows([[1, 2, 3, 4]], context: 4)
    _ = try quantize(
      try openFixture("deepseek_v4"), to: path, calibration: windows, textPath: text, choosesObserver: true,
      try options("int8-channel"))
    #expect(try names(folder) == ["r.ingot", "r.ingot.statistics"])
    #expect(try contents(path + ".statistics") == Array("mine".utf8))
  }

  /// What cannot become a result is refused before the pass: a pass over these windows would trap on their ids.
  @Test func quantizeRefusesBeforeItCalibrates() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let never = Windows([[1 << 40]], context: 1)
    func run(_ path: String, _ options: ConvertOptions) throws {
      _ = try quantize(
        model, to: path, calibration: never, textPath: text, choosesObserver: true, options)
    }
    #expect {
      try run(folder.file("r.ingot"), options("int8-channel", exactOnly: true))
    } throws: { ($0 as? RequestError)?.kind == .usage }
    #expect {
      try run(folder.file("none/r.ingot"), options("int8-channel"))
    } throws: { ($0 as? RequestError)?.kind == .cannotCreate }
    #expect {
      try run(fixture("models/deepseek_v4/model.safetensors"), options("int8-channel", overwrite: true))
    } throws: { ($0 as? FormatError)?.code == .outputAliasesInput }
    #expect(try names(folder) == [])
  }

  @Test func statisticsOfAnotherModelAreRefused() throws {
    let folder = TemporaryFolder()
    let made = try statistics(
      try openFixture("deepseek_v4"), Windows([[1, 2, 3]], context: 3), threads: 1, in: folder)
    #expect {
      _ = try readStatistics(made.path, for: try openFixture("deepseek_v4-fp4"))
    } throws: { ($0 as? FormatError)?.code == .statisticsMismatch }
  }
}
