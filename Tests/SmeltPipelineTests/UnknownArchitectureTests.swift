// Checkpoints that no family knows, or knows in part: everything but a forward pass works, and nothing is lost.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct UnknownArchitectureTests {
  /// Tensors of a folder or of a file, by name, with type, dimensions and bytes.
  private func tensors(_ path: String) throws -> [String: String] {
    let source: any TensorSource =
      path.hasSuffix(".gguf") ? GGUFTensors(try GGUFFile(path: path)) : try SafetensorsDirectory(path: path)
    return Dictionary(
      uniqueKeysWithValues: source.tensors.map {
        ($0.name, "\($0.type) \($0.shape) \(SHA256.hex($0.bytes))")
      })
  }

  private func folder(_ options: ConvertOptions) -> ConvertOptions {
    var options = options
    options.target = SafetensorsResult()
    return options
  }

  /// Names of tensors and values of every type, some of which nobody computes with.
  private func oddities(_ home: String) throws {
    putFile(
      home + "/config.json",
      Array(#"{"model_type": "nosuch", "limit": [0.5, Infinity], "hidden_size": 4}"#.utf8))
    let types: [(String, DType, Shape)] = [
      ("model.embed_tokens.weight", .f32, [6, 4]), ("model.layers.0.attn.q_proj.weight", .bf16, [4, 4]),
      ("model.layers.0.conv1d.weight", .f16, [4, 1, 3]), ("model.layers.0.mask", .bool, [4]),
      ("model.layers.0.position_ids", .i64, [1, 5]), ("model.layers.0.bytes", .u8, [3, 2]),
      ("model.layers.0.words", .u32, [2]), ("model.layers.0.double", .f64, [2]), ("model.step", .i16, []),
      ("model.empty", .f32, [0, 4]), ("model.layers.0.code", .f8E4M3, [2, 2]), ("scale", .f8E8M0, [2]),
    ]
    var writer = try SafetensorsWriter(
      path: home + "/model.safetensors",
      tensors: types.map { SafetensorsWriter.Declaration($0.0, $0.1, $0.2) }, metadata: [])
    for (place, (name, dtype, shape)) in types.enumerated() {
      let count = try #require(dtype.byteCount(shape.count))
      try writer.write(name, Bytes((0..<count).map { UInt8(($0 * 7 + place) % 50) }))
    }
    try writer.commit()
  }

  @Test func tensorsOfEveryTypeGoToAnIngotAndBack() throws {
    let home = TemporaryFolder()
    try oddities(home.path)
    let model = try Model.open(home.path)
    #expect(model.family.modelType == "nosuch" && !model.family.hasForwardPass)
    let work = TemporaryFolder()
    _ = try convert(model, to: work.file("a.ingot"), try options("keep", compression: .small))
    let ingot = try Model.open(work.file("a.ingot"))
    _ = try checkModel(ingot, RunOptions())
    _ = try convert(ingot, to: work.file("b"), folder(try options("keep")))
    #expect(try tensors(work.file("b")) == tensors(home.path))
    #expect(try contents(work.file("b") + "/config.json") == contents(home.file("config.json")))
    #expect(try diff(model, try Model.open(work.file("b")), RunOptions()).isEqual)
  }

  /// Stacked experts, linear attention, a tower for pictures.
  @Test(arguments: ["W8A8", "FP8_DYNAMIC", "bf16"])
  func aDirectoryForEnginesHasEveryNameAndShape(scheme: String) throws {
    let source = try Model.open(fixture("unknown/qwen3_5_moe"))
    let work = TemporaryFolder()
    let path = work.file("r")
    var options = try options(scheme)
    options.target = SafetensorsResult(schemeWord: scheme)
    _ = try convert(source, to: path, options)
    let result = try Model.open(path)
    #expect(result.family.weights.map(\.name) == source.family.weights.map(\.name))
    #expect(result.family.weights.map(\.shape) == source.family.weights.map(\.shape))
    let report = try verifyWeights(
      source: source, result: result, thresholds: Thresholds(maxWeightError: 0.05), because: "a test",
      RunOptions())
    #expect(
      report.verdict == .pass && report.faults.isEmpty && report.weights.count == source.family.weights.count)
    #expect(scheme == "bf16" || report.exactWeights < report.weights.count)
    #expect(report.json["kl"]?["mean"]?.isNull == true && report.json["not_run"]?.string == "a test")
  }

  @Test func whatRunsSaysThatNothingDoes() throws {
    let model = try Model.open(fixture("unknown/qwen3_5_moe"))
    let windows = Windows([[1, 2, 3, 4]], context: 4)
    let work = TemporaryFolder()
    let attempts: [() throws -> Void] = [
      { _ = try evaluate(model, windows, RunOptions()) },
      { _ = try verify(source: model, result: model, windows, thresholds: Thresholds(), RunOptions()) },
      {
        _ = try calibrate(
          model, windows, textPath: fixture("README.md"), to: work.file("s"), overwrite: false, RunOptions())
      },
      { _ = try generate(model, prompt: [1], maxTokens: 1, sampling: Sampling(), stops: [], RunOptions()) },
    ]
    for attempt in attempts {
      let error = #expect(throws: RequestError.self) { try attempt() }
      #expect(error?.kind == .unsupported && error?.problem.contains("no forward pass") == true)
    }
    #expect(try names(work) == [])
  }

  /// Keys, their types and places, tensors, their order and bytes.
  @Test func aGGUFIsTheSameFileAgain() throws {
    let work = TemporaryFolder()
    let known = work.file("known.gguf")
    var gguf = try options("q8_0")
    gguf.target = GGUFResult()
    _ = try convert(try openFixture("qwen3_moe"), to: known, gguf)
    let odd = work.file("odd.gguf")
    putFile(
      odd, replaced(replaced(try contents(known), "qwen3moe", "qwen3odd"), "smelt.config", "smelt.cxnfig"))
    let model = try Model.open(odd)
    #expect(model.family.modelType == "gguf:qwen3odd" && !model.family.hasForwardPass)
    _ = try convert(model, to: work.file("a.ingot"), try options("keep", compression: .fast))
    var keep = try options("keep")
    keep.target = GGUFResult()
    _ = try convert(try Model.open(work.file("a.ingot")), to: work.file("back.gguf"), keep)
    #expect(try contents(work.file("back.gguf")) == contents(odd))
    var other = try options("q5_0")
    other.target = GGUFResult()
    _ = try convert(model, to: work.file("other.gguf"), other)
    #expect(try Model.open(work.file("other.gguf")).family.weights.count == model.family.weights.count)
  }

  private func replaced(_ bytes: [UInt8], _ old: String, _ new: String) -> [UInt8] {
    let (old, new) = (Array(old.utf8), Array(new.utf8))
    var out = bytes
    var place = 0
    while place + old.count <= out.count {
      if out[place] == old[0], Array(out[place..<place + old.count]) == old {
        out.replaceSubrange(place..<place + old.count, with: new)
        place += old.count
      } else {
        place += 1
      }
    }
    return out
  }
}

/// A model around a text model that a family runs.
@Suite struct WrapperTests {
  @Test(arguments: ["kimi_k25", "kimi_k25-int4"])
  func theTextModelRunsInEveryContainerAndTheRestIsCarried(name: String) throws {
    let source = try openFixture(name)
    let carried = source.family.weights.filter(\.isCarried)
    #expect(source.family.hasForwardPass && source.family.modelType == "deepseek_v3" && !carried.isEmpty)
    let work = TemporaryFolder()
    let windows = Windows([[1, 5, 9, 13, 2, 7, 11, 3]], context: 8)
    let expected = try evaluate(source, windows, RunOptions()).perplexity
    _ = try convert(source, to: work.file("a.ingot"), try options("keep"))
    var folder = try options("keep")
    folder.target = SafetensorsResult()
    _ = try convert(try Model.open(work.file("a.ingot")), to: work.file("b"), folder)
    for path in [work.file("a.ingot"), work.file("b")] {
      let model = try Model.open(path)
      #expect(model.family.weights.map(\.name) == source.family.weights.map(\.name))
      #expect(try evaluate(model, windows, RunOptions()).perplexity == expected)
      #expect(try diff(source, model, RunOptions()).isEqual)
    }
    var gguf = try options("bf16")
    gguf.target = GGUFResult()
    let summary = try convert(source, to: work.file("c.gguf"), gguf)
    #expect(summary.leftOut.map(\.tensors) == [carried.count])
    let text = try Model.open(work.file("c.gguf"))
    #expect(text.family.weights.count == source.family.weights.count - carried.count)
    let report = try verify(
      source: source, result: text, windows, thresholds: Thresholds(maxKL: 1e-3), RunOptions())
    #expect(report.verdict == .pass)
  }
}
