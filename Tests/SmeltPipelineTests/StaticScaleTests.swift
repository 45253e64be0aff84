// Scales of activations and caches that calibration chooses: written as engines read them, read back, and rounded by.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

/// What a calibration of a fixture learned.
func learned(_ name: String, in folder: TemporaryFolder) throws -> Statistics {
  let model = try openFixture(name)
  let path = folder.file("\(name).statistics")
  _ = try calibrate(
    model, someWindows(model, count: 2, context: 24), textPath: fixture("models/tiny-v4/calibration.txt"),
    to: path, overwrite: false, RunOptions())
  return try readStatistics(path, for: model)
}

/// A directory of a scheme, with the words for engines.
@discardableResult
func writeDirectory(
  _ source: Model, _ scheme: String, to path: String, _ statistics: Statistics? = nil,
  layout: String? = nil, activations: String? = nil, cache: String? = nil, rules: [Recipe.Rule] = [],
  exactOnly: Bool = false
) throws -> ConvertSummary {
  let name = CompressedLayout.presets[scheme] ?? scheme
  var options = try options(name, statistics: statistics, exactOnly: exactOnly)
  options.recipe.rules = rules
  options.target = SafetensorsResult(
    layout: try EngineWords(layout: layout, activations: activations, cache: cache).layout(schemeWord: scheme)
  )
  return try convert(source, to: path, options)
}

/// The number of a tensor that has one.
func number(_ name: String, in path: String) throws -> Float {
  try #require(try SafetensorsDirectory(path: path).tensor(name), "\(name)").scaleNumber()
}

@Suite struct StaticScaleTests {
  /// Weights by tensor have activations by tensor: engines assert it of experts.
  @Test func activationsOfWeightsByTensorAreByTensor() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let summary = try writeDirectory(source, "fp8-tensor", to: folder.file("r"))
    let group = try #require(try section(folder.file("r"))["config_groups"]?["group_0"])
    #expect(group["weights"]?["strategy"]?.string == "tensor")
    #expect(group["input_activations"]?["strategy"]?.string == "tensor")
    #expect(group["input_activations"]?["dynamic"]?.bool == true)
    #expect(summary.warnings.contains { $0.contains("--activations static") })
    // Without experts there is nothing to warn of.
    let dense = try writeDirectory(try openFixture("qwen3"), "fp8-tensor", to: folder.file("dense"))
    #expect(!dense.warnings.contains { $0.contains("--activations static") })
    let plain = try writeDirectory(
      source, "fp8-tensor", to: folder.file("a16"), activations: "none")
    #expect(
      try section(folder.file("a16"))["config_groups"]?["group_0"]?["input_activations"]?.isNull == true)
    #expect(plain.warnings.isEmpty)
  }

  @Test(arguments: ["FP8", "NVFP4"], ["qwen3_moe", "deepseek_v3"])
  func scalesAreTheRangesOfWhatIsFused(_ word: String, family: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture(family)
    let statistics = try learned(family, in: folder)
    try writeDirectory(source, word, to: folder.file("r"), statistics)
    let inputs = try #require(
      try section(folder.file("r"))["config_groups"]?["group_0"]?["input_activations"])
    #expect(inputs["dynamic"]?.text() == (word == "FP8" ? "false" : "\"local\""))
    #expect(inputs["strategy"]?.string == (word == "FP8" ? "tensor" : "tensor_group"))

    let result = try Model.open(folder.file("r"))
    let declared = try result.declaredScales()
    let tensors = try SafetensorsDirectory(path: folder.file("r"))
    func range(_ names: [String]) throws -> Float {
      try names.map { try #require(try statistics.entry(WeightName(parsing: $0))?.absmax?.max(), "\($0)") }
        .max()!
    }
    func expect(_ members: [String], _ range: Float) throws {
      let scale = word == "FP8" ? range / 448 : 2688 / range
      for name in members {
        let input = try #require(declared.inputs[WeightName(parsing: name)], "\(name)")
        #expect(input.scale == InputScale(scale, divides: word != "FP8"), "\(name)")
        #expect(input.fused == (word == "FP8" ? scale : 1 / scale))
      }
    }
    let layer = 3
    let experts = (0..<8).flatMap { expert in
      ["gate", "up"].map { "blk.\(layer).ffn_\($0)_exps.weight#\(expert)" }
    }
    try expect(experts, try range(experts))
    let downs = (0..<8).map { "blk.\(layer).ffn_down_exps.weight#\($0)" }
    try expect(downs, try range(downs))
    let fused =
      family == "qwen3_moe" ? ["attn_q", "attn_k", "attn_v"] : ["attn_q_a", "attn_kv_a_mqa"]
    try expect(fused.map { "blk.0.\($0).weight" }, try range(fused.map { "blk.0.\($0).weight" }))
    try expect(["blk.0.attn_output.weight"], try range(["blk.0.attn_output.weight"]))
    let name = word == "FP8" ? "input_scale" : "input_global_scale"
    let tensor = try #require(tensors.tensor("model.layers.0.self_attn.o_proj.\(name)"))
    #expect(tensor.shape == [1] && tensor.dtype == .f32)
    // The weights are those of the scheme as ever.
    _ = try convert(source, to: folder.file("r.ingot"), try options(CompressedLayout.presets[word]!))
    var ranges = try options(CompressedLayout.presets[word]!, statistics: statistics, overwrite: true)
    ranges.recipe.observer = .absmax
    _ = try convert(source, to: folder.file("r.ingot"), ranges)
    try expectEqual(try Model.open(folder.file("r.ingot")), result)
  }

  @Test func withoutCalibrationTheyAreRefused() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    for (word, other) in [("FP8", "FP8_DYNAMIC"), ("NVFP4", "NVFP4A16")] {
      let error = #expect(throws: RequestError.self) {
        try writeDirectory(source, word, to: folder.file("r"))
      }
      #expect(error?.kind == .usage && error?.help?.contains("--calibration") == true)
      #expect(error?.help?.contains(other) == true)
    }
    let cache = #expect(throws: RequestError.self) {
      try writeDirectory(source, "fp8-channel", to: folder.file("r"), cache: "fp8")
    }
    #expect(cache?.problem.contains("--kv-cache fp8") == true)
    // What calibration is to bring is planned without it.
    var options = try options("fp8-tensor")
    options.target = SafetensorsResult(layout: CompressedLayout(schemeWord: "FP8", cachesFP8: true))
    options.calibrates = true
    #expect(try Plan(source, options).slabs.count > 0)
    // An importance matrix has no ranges.
    let matrix = folder.file("m.gguf")
    _ = try calibrate(
      source, someWindows(source, count: 1, context: 16),
      textPath: fixture("models/tiny-v4/calibration.txt"), to: matrix, overwrite: false, RunOptions())
    let error = #expect(throws: RequestError.self) {
      try writeDirectory(source, "FP8", to: folder.file("r"), try readStatistics(matrix, for: source))
    }
    #expect(error?.problem.contains("no ranges of activations") == true)
    #expect(pathKind(folder.file("r")) == .nothing)
  }

  /// Calibration does not run blocks that draft tokens.
  @Test func draftsStayAsTheyAre() throws {
    let folder = TemporaryFolder()
    let statistics = try learned("glm4_moe_lite", in: folder)
    let source = try openFixture("glm4_moe_lite")
    try writeDirectory(source, "FP8", to: folder.file("r"), statistics)
    let result = try Model.open(folder.file("r"))
    let stored = try result.storedWeights()
    let drafts = stored.filter(\.spec.isDraft)
    #expect(!drafts.isEmpty && drafts.allSatisfy { $0.encoding is Plain })
    #expect(stored.contains { $0.encoding is FP8 })
  }

  // MARK: caches

  @Test func cachesHaveTheRangeOfTheirLayer() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let statistics = try learned("qwen3_moe", in: folder)
    try writeDirectory(source, "FP8_DYNAMIC", to: folder.file("r"), statistics, cache: "fp8")
    let scheme = try #require(try section(folder.file("r"))["kv_cache_scheme"])
    #expect(scheme["num_bits"]?.integer == 8 && scheme["strategy"]?.string == "tensor")
    let declared = try Model.open(folder.file("r")).declaredScales()
    #expect(declared.caches.count == 4)
    for layer in 0..<4 {
      let range = try #require(try statistics.cacheRange(layer: layer))
      #expect(range.keys > 0 && range.values > 0)
      let name = "model.layers.\(layer).self_attn"
      #expect(try number("\(name).k_scale", in: folder.file("r")) == range.keys / 448)
      #expect(try number("\(name).v_scale", in: folder.file("r")) == range.values / 448)
      #expect(
        declared.caches[layer]
          == CacheRange(layer: layer, keys: range.keys / 448, values: range.values / 448))
    }
    let bare = #expect(throws: RequestError.self) {
      try writeDirectory(source, "bf16", to: folder.file("n"), statistics, cache: "fp8")
    }
    #expect(bare?.problem.contains("none is quantized") == true)
  }

  /// The ranges are those of what the pass keeps: keys normed and rotated, values as they are projected.
  @Test func rangesAreThoseOfKeysAndValues() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("qwen3_moe")
    let statistics = try learned("qwen3_moe", in: folder)
    let recorder = CacheRecorder(model.source)
    try run(model.family, recorder, TokenBatch(someWindows(model, count: 2, context: 24).sequences))
    for layer in 0..<4 {
      let range = try #require(try statistics.cacheRange(layer: layer))
      #expect(
        range.keys == recorder.largest[layer]?[.keys] && range.values == recorder.largest[layer]?[.values])
    }
    #expect(try learned("deepseek_v3", in: folder).cacheRange(layer: 1).map { $0.keys == $0.values } == true)
    // Layers of DeepSeek-V4 keep what no engine scales so.
    #expect(try learned("deepseek_v4", in: folder).cacheRange(layer: 0) == CacheRange(layer: 0))
  }

  /// Engines take no scale for latents from compressed-tensors.
  @Test func latentsNeedModelOpt() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("deepseek_v3")
    let statistics = try learned("deepseek_v3", in: folder)
    let error = #expect(throws: RequestError.self) {
      try writeDirectory(source, "FP8", to: folder.file("r"), statistics, cache: "fp8")
    }
    #expect(error?.help?.contains("--layout modelopt") == true)
    try writeDirectory(source, "FP8", to: folder.file("r"), statistics, layout: "modelopt", cache: "fp8")
    let range = try #require(try statistics.cacheRange(layer: 0))
    for part in ["k", "v"] {
      let name = "model.layers.0.self_attn.\(part)_proj.\(part)_scale"
      #expect(try number(name, in: folder.file("r")) == range.keys / 448)
    }
  }

  // MARK: rounding as declared

  /// E4M3 scales of sixteen under a global one, E2M1 codes: a slow twin.
  @Test func localFP4IsThatOfEngines() throws {
    var generator = Generator(seed: 3)
    func nearest(_ value: Float, _ grid: [Float]) -> Float {
      // Of two equally near the one whose code is even: every other number of the grid.
      var best = 0
      for (place, number) in grid.enumerated() {
        let (found, least) = (abs(abs(value) - number), abs(abs(value) - grid[best]))
        if found < least || found == least && place % 2 == 0 { best = place }
      }
      return value < 0 ? -grid[best] : grid[best]
    }
    let codes: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    let e4m3 = ActivationRounding.e4m3[0..<127].map { $0 }
    for global: Float in [1, 0.01, 2.5e-4] {
      for count in [16, 7] {
        for _ in 0..<40 {
          var row = generator.normals(count).map { $0 * 3 }
          let scale = nearest(row.map(abs).max()! / 6 / global, e4m3) * global
          let expected = row.map { scale == 0 ? 0 : nearest($0 / scale, codes) * scale }
          row.withUnsafeMutableBufferPointer { LocalFP4.round($0.baseAddress!, count, under: global) }
          #expect(row == expected)
        }
      }
    }
    var zeros = [Float](repeating: 0, count: 16)
    zeros.withUnsafeMutableBufferPointer { LocalFP4.round($0.baseAddress!, 16, under: 1) }
    #expect(zeros.allSatisfy { $0 == 0 })
  }

  @Test func theProofRoundsAsTheResultDeclares() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let statistics = try learned("qwen3_moe", in: folder)
    let windows = someWindows(source, count: 2, context: 24)
    func report(_ name: String) throws -> Report {
      let result = try Model.open(folder.file(name))
      return try verify(
        source: source, result: result, windows, thresholds: Thresholds(),
        rounding: try ActivationRounding(.declared, for: result), RunOptions())
    }
    try writeDirectory(source, "FP8", to: folder.file("fp8"), statistics)
    let fp8 = try #require(try report("fp8").activations)
    #expect(fp8.roundedWeights == 4 * (4 + 3 * 8) && fp8.withoutRange == 0 && fp8.cachedLayers == 0)
    try writeDirectory(source, "NVFP4", to: folder.file("nvfp4"), statistics)
    let nvfp4 = try report("nvfp4")
    #expect(nvfp4.activations!.kl.mean > nvfp4.kl.mean, "four bits of activations cost something")
    // A cache in eight bits and nothing else.
    try writeDirectory(
      source, "fp8-channel", to: folder.file("kv"), statistics, activations: "none", cache: "fp8")
    let cached = try report("kv")
    #expect(cached.activations?.roundedWeights == 0 && cached.activations?.cachedLayers == 4)
    #expect(cached.activations?.kl.mean != cached.kl.mean)
    // Nothing is declared: nothing to do.
    try writeDirectory(source, "NVFP4A16", to: folder.file("a16"))
    #expect(throws: RequestError.self) { try report("a16") }
  }

  /// A scale far too small saturates, as it would in the engine: the scale is read from the file.
  @Test func scalesAreReadBack() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    try writeDirectory(source, "FP8", to: folder.file("r"), try learned("qwen3_moe", in: folder))
    let result = try Model.open(folder.file("r"))
    let rounding = try ActivationRounding(.declared, for: result)
    let name = WeightName("blk.0.attn_q.weight")
    let scale = try number("model.layers.0.self_attn.q_proj.input_scale", in: folder.file("r"))
    let x = Matrix(rows: 1, columns: 4, values: [1000 * scale, -1000 * scale, scale, 0])
    #expect(rounding.round(x, name, .serial).values == [448 * scale, -448 * scale, scale, 0])
    #expect(rounding.round(x, WeightName("blk.0.ffn_gate_inp.weight"), .serial).values == x.values)
  }
}

/// Runs all layers.
private func run(_ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch) throws {
  var x = try family.embed(batch, weights)
  for layer in 0..<family.dimensions.layers {
    _ = try family.layer(layer, &x, batch, weights, Pass(parallel: .serial))
  }
}

/// Weights that write down the largest magnitudes of what is kept.
private final class CacheRecorder: Weights, @unchecked Sendable {
  // Called from one thread.
  let base: any Weights
  var largest: [Int: [CachePart: Float]] = [:]

  init(_ base: any Weights) { self.base = base }

  func weight(_ name: WeightName) throws -> Weight { try base.weight(name) }
  func finished(_ name: WeightName) { base.finished(name) }
  func cached(_ x: Matrix, _ part: CachePart, layer: Int, parallel: Parallel) throws -> Matrix {
    largest[layer, default: [:]][part] = max(
      largest[layer]?[part] ?? 0, x.values.map(abs).max() ?? 0)
    return x
  }
}
