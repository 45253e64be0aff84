// A window that runs in pieces gives the bits of the whole window, in every family and in whatever is made of it.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Synchronization
import Testing

@testable import SmeltPipeline

/// What a walk over all layers gives, as bits.
private struct Walk: Equatable {
  var streams: [[UInt32]] = []
  var experts: [[Int32]] = []
  var factors: [[UInt32]] = []
  var logits: [UInt32] = []
}

private func walk(_ model: Model, _ groups: [TokenBatch], threads: Int = 2) throws -> Walk {
  try walk(model.family, model.weights, groups, threads)
}

private func walk(
  _ family: some ModelFamily, _ weights: some Weights, _ groups: [TokenBatch], _ threads: Int
) throws -> Walk {
  let folder = TemporaryFolder()
  var found = Walk()
  var stream = try TokenStream(groups, family, weights, folder: folder.path)
  let pass = Pass(parallel: Parallel(threads: threads))
  for layer in 0..<family.dimensions.layers {
    var (experts, factors): ([Int32], [Float]) = ([], [])
    try stream.update(pass) { batch, _, x, pass in
      let routing = try family.layer(layer, &x, batch, weights, pass)
      experts += routing?.experts ?? []
      factors += routing?.weights ?? []
    }
    found.experts.append(experts)
    found.factors.append(factors.map(\.bitPattern))
    found.streams.append(try (0..<groups.count).flatMap { try stream[$0].values.map(\.bitPattern) })
  }
  try stream.forEach(pass) { batch, _, x, pass in
    try forEachLogits(family, x, batch, weights, pass) { logits, _ in
      found.logits += logits.values.map(\.bitPattern)
    }
  }
  return found
}

/// Two windows that need pieces in a memory that holds one piece.
private func longWindows(_ model: Model, context: Int = 600) -> Windows {
  someWindows(model, count: 2, context: context)
}

@Suite struct PieceTests {
  /// Cut anywhere; where a recurrence takes tokens in chunks, at the borders of its chunks.
  @Test(arguments: DecodingTests.models, [1, 7])
  func piecesGiveTheBitsOfTheWhole(name: String, limit: Int) throws {
    let model = try openFixture(name)
    let isRecurrent = model.family.settings.contains {
      ["linear_num_key_heads", "mamba_num_heads"].contains($0.key)
    }
    let size = isRecurrent ? min(128, 64 * limit) : limit
    let windows = someWindows(model, count: 2, context: isRecurrent ? 150 : limit == 1 ? 30 : 75)
    let pieces = windows.sequences.flatMap { TokenBatch.pieces(of: $0, limit: size) }
    let isSame = try walk(model, pieces) == walk(model, [TokenBatch(windows.sequences)], threads: 1)
    #expect(isSame, "\(name) in pieces of \(size)")
  }

  /// Pieces longer than the parts that attention runs in, a window longer than several of them, and keys that leave the window.
  @Test(arguments: ["gpt_oss", "gemma4_e2b", "deepseek_v4", "glm_moe_dsa"])
  func longPiecesGiveTheBitsOfTheWhole(name: String) throws {
    let model = try openFixture(name)
    let window = someWindows(model, count: 1, context: 2 * tokenChunk + 700).sequences[0]
    let pieces = TokenBatch.pieces(of: window, limit: tokenChunk + 256)
    #expect(pieces.map(\.isPiece) == [true, true, true])
    let isSame = try walk(model, pieces) == walk(model, [TokenBatch([window])])
    #expect(isSame)
  }

  /// Frequencies that depend on a sequence's length are those of the window, not of the piece.
  @Test(arguments: ["dynamic", "longrope"]) func rotationsAreThoseOfTheWindow(name: String) throws {
    let folder = TemporaryFolder()
    var variant = try Variant("models/llama")
    let all = try JSON.scan(Bytes(try contents(fixture("ropes/cases.json"))))
    let object = try #require(all[name]?.object)
    for (key, value) in zip(object.keys, object.values) { variant.set(key, value.isNull ? nil : value) }
    let model = try variant.open(in: folder)
    let window = someWindows(model, count: 1, context: 160).sequences[0]
    let whole = try walk(model, [TokenBatch([window])])
    let isSame = try walk(model, TokenBatch.pieces(of: window, limit: 40)) == whole
    #expect(isSame)
    // Without the ids behind a piece the frequencies are others.
    let alone = try walk(model, [TokenBatch([Array(window.prefix(40))])])
    #expect(alone.logits != Array(whole.logits.prefix(alone.logits.count)))
  }

  // MARK: how windows are cut

  @Test func windowsAreCutByTheMemoryThereIs() throws {
    let dimensions = try openFixture("deepseek_v4").family.dimensions
    let perToken = Windows.activationBytes(dimensions, streams: 1)
    let windows = Windows([[1, 2], Array(0..<1000), [3], [4]], context: 1000)
    func cut(_ memory: Int) -> [[Int]] {
      let groups = windows.groups(dimensions, streams: 1, maxMemory: memory)
      #expect(groups.flatMap(\.ids) == windows.sequences.flatMap { $0 })
      for (piece, next) in zip(groups, groups.dropFirst()) {
        #expect(piece.following.first == (next.firstPosition > 0 ? next.ids[0] : nil))
        #expect(piece.following.isEmpty || next.firstPosition == piece.endPosition)
      }
      return groups.map { batch in (0..<batch.sequenceCount).map { batch.range($0).count } }
    }
    #expect(cut(1 << 30) == [[2, 1000, 1, 1]])
    #expect(cut(2 * perToken * 1000) == [[2], [1000], [1, 1]])
    // Equal pieces, of a multiple of the step.
    #expect(cut(2 * perToken * 999) == [[2], [512], [488], [1, 1]])
    #expect(cut(2 * perToken * 300) == [[2], [256], [256], [256], [232], [1, 1]])
    #expect(cut(1) == [[2], [256], [256], [256], [232], [1], [1]])
  }

  /// What one layer keeps of the whole window takes room from the pieces, and is said where it does not fit.
  @Test func whatALayerKeepsCounts() throws {
    let dimensions = try openFixture("qwen3_moe").family.dimensions
    let (count, kept) = (8192, 4 * dimensions.kept)
    let windows = Windows([Array(0..<count)], context: count)
    let perToken = Windows.activationBytes(dimensions, streams: 1)
    #expect(kept > 0)
    let enough = 2 * count * (kept + perToken)
    for (memory, isEnough) in [
      (enough, true), (2 * count * kept + 2 * 1024 * perToken, true), (1 << 16, false),
    ] {
      let groups = windows.groups(dimensions, streams: 1, maxMemory: memory)
      #expect((groups.count == 1) == (memory == enough))
      #expect((Windows.bytesAtOnce(groups, dimensions, streams: 1) <= memory / 2) == isEnough, "\(memory)")
      let said = Mutex([String]())
      let log = ProgressLines(warn: { text in said.withLock { $0.append(text) } }, write: { _ in })
      windows.warnOfLength(dimensions, streams: 1, RunOptions(maxMemory: memory, progress: log))
      let warnings = said.withLock { $0 }
      #expect(
        warnings.count == (isEnough ? 0 : 1) && warnings.allSatisfy { $0.contains("in pieces of 256,") })
    }
  }

  // MARK: what is made of pieces

  @Test(arguments: [
    "deepseek_v4-fp4", "deepseek_v3-fp8", "glm_moe_dsa", "gemma4_e2b", "qwen3_next", "nemotron_h", "gpt_oss",
  ])
  func reportsAreTheSame(name: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture(name)
    let path = folder.file("r.ingot")
    _ = try convert(source, to: path, try options("int8-channel"))
    let result = try Model.open(path)
    let windows = longWindows(source)
    let reports = try [1 << 30, 1].map { memory in
      var report = try verify(
        source: source, result: result, windows, thresholds: Thresholds(),
        rounding: try ActivationRounding(.int8, for: result), drafts: !source.family.runningDrafts.isEmpty,
        RunOptions(parallel: Parallel(threads: 2), maxMemory: memory))
      #expect((report.resources.spilledBytes > 0) == (memory == 1))
      #expect(report.kl.mean > 0)
      report.resources = Resources()
      report.making.date = ""
      return report.json.text()
    }
    #expect(reports[0] == reports[1])
  }

  @Test(arguments: ["deepseek_v4", "qwen3_next", "deepseek_v32"])
  func statisticsLogitsAndPerplexityAreTheSame(name: String) throws {
    let folder = TemporaryFolder()
    let model = try openFixture(name)
    let windows = longWindows(model)
    let found = try [1 << 30, 1].map { memory in
      let options = RunOptions(parallel: Parallel(threads: 2), maxMemory: memory)
      let (statistics, logits) = (folder.file("\(memory).s"), folder.file("\(memory).l"))
      _ = try calibrate(
        model, windows, textPath: fixture("models/tiny-v4/calibration.txt"), to: statistics, overwrite: false,
        policy: CalibrationPolicy(.topUp, minTokens: 400), options)
      try writeLogits(
        model, sequences: windows.sequences, to: logits, hiddenStates: true, routing: true, overwrite: false,
        options)
      return (
        try contents(statistics), try contents(logits), try evaluate(model, windows, options).meanNLL
      )
    }
    let isSame = (found[0].0 == found[1].0, found[0].1 == found[1].1)
    #expect(isSame == (true, true))
    #expect(found[0].2 == found[1].2)
  }

  /// Moments of inputs, whether layers run once or twice; and factors, which look at the first window.
  @Test(arguments: [(Method.gptq, false), (.gptq, true), (.awq, false)])
  func codesAreTheSame(_ kind: Method, isSequential: Bool) throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let columns = model.family.weights.map(\.shape.columns).max() ?? 0
    let perToken = Windows.activationBytes(model.family.dimensions, streams: 2)
    let memory = 2 * max(40 * columns * columns, 300 * perToken)
    let windows = someWindows(model, count: 1, context: memory / 2 / perToken + 300)
    var method = MethodOptions(kind)
    method.minTokens = 1
    method.isSequential = isSequential
    let codes = try [1 << 30, memory].map { memory in
      let path = folder.file("\(memory).ingot")
      var options = try options("int4-group:32")
      options.run.maxMemory = memory
      let groups = windows.groups(model.family.dimensions, streams: 2, maxMemory: memory)
      #expect((groups.count > 1 && groups.allSatisfy(\.isPiece)) == (memory < 1 << 30))
      _ = try quantize(
        model, to: path, calibration: windows, textPath: fixture("models/tiny-v4/calibration.txt"),
        choosesObserver: true, method: method, options)
      return try contents(path)
    }
    let isSame = codes[0] == codes[1]
    #expect(isSame)
  }
}
