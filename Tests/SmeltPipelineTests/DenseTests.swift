// Models without experts through all verbs, and what their configurations may say.

import SmeltContainers
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels
@testable import SmeltPipeline

private func decoder(_ name: String, _ changes: [(String, JSON?)]) throws -> Decoder {
  var variant = try Variant("models/\(name)")
  for (key, value) in changes { variant.set(key, value) }
  let config = JSON(members: variant.config)
  let family = try ModelFamilies.family(of: try JSON.scan(config.text()), file: "config.json")
  return try #require(family as? any DecoderFamily).decoder
}

@Suite struct DenseConfigTests {
  @Test func windows() throws {
    func windows(_ name: String, _ changes: [(String, JSON?)]) throws -> [Int?] {
      try decoder(name, changes).layers.map(\.window)
    }
    #expect(try windows("mistral", []) == [16, 16, 16])
    #expect(try windows("mistral", [("sliding_window", JSON(.null))]) == [nil, nil, nil])
    #expect(try windows("mistral", [("sliding_window", nil)]) == [4096, 4096, 4096])
    #expect(try windows("qwen2", []) == [nil, nil, 16])
    #expect(try windows("qwen2", [("use_sliding_window", false)]) == [nil, nil, nil])
    #expect(try windows("qwen2", [("max_window_layers", 1), ("sliding_window", nil)]) == [nil, 4096, 4096])
    #expect(try windows("qwen2", [("max_window_layers", nil)]) == [nil, nil, nil])
    let types: JSON = ["sliding_attention", "full_attention", "full_attention"]
    #expect(try windows("qwen3", [("layer_types", types), ("sliding_window", 8)]) == [8, nil, nil])
  }

  @Test func biases() throws {
    let llama = try decoder("llama", [("attention_bias", true), ("mlp_bias", true)])
    #expect(llama.attention.hasInputBias && llama.attention.hasOutputBias)
    #expect(llama.feedForward.hasDenseBiases)
    let qwen2 = try decoder("qwen2", [])
    #expect(qwen2.attention.hasInputBias && !qwen2.attention.hasOutputBias)
    let qwen3 = try decoder("qwen3", [("attention_bias", true)])
    #expect(qwen3.attention.hasInputBias && qwen3.attention.hasOutputBias)
  }

  /// What early Llamas leave out.
  @Test func earlyLlamas() throws {
    let early = try decoder(
      "llama", [("num_key_value_heads", nil), ("rope_theta", nil), ("rope_scaling", nil), ("head_dim", nil)])
    #expect(early.attention.keyHeads == 4 && early.attention.rope.theta == 10000)
    #expect(early.attention.headWidth == 16)
  }

  /// Half of a head of 16 channels: 500000^(-2i/8) / 4, computed elsewhere.
  @Test func aPartOfTheChannelsMayBeRotated() throws {
    let scaling: JSON = ["rope_type": "linear", "factor": 4.0, "partial_rotary_factor": 0.5]
    let found = try decoder("llama", [("rope_scaling", scaling)]).attention.rope.frequencies
    let expected: [Float] = [0.25, 0.009401508, 0.00035355339, 1.3295739e-05]
    #expect(found.count == 4)
    for (found, expected) in zip(found, expected) { #expect(abs(found - expected) <= 1e-6 * expected) }
  }

  /// While a sequence grows past the length that LongRoPE's lists go by, earlier keys stay as they were rotated.
  @Test func aGrowingSequenceUsesTheLengthSoFar() throws {
    let list = (0..<8).map { JSON(1 + Double($0)) }
    let ones = [JSON](repeating: 1.0, count: 8)
    let scaling: JSON = [
      "rope_type": "longrope", "short_factor": JSON(ones), "long_factor": JSON(list),
      "original_max_position_embeddings": 8,
    ]
    let rope = try decoder("llama", [("rope_scaling", scaling)]).attention.rope
    let start = RotaryTables(rope, TokenBatch([[1, 2, 3, 4, 5, 6]]))
    let next = RotaryTables(rope, TokenBatch([[7, 8, 9]], firstPosition: 6))
    let mixed = RotaryTables(rope, TokenBatch([[1, 2], [Int](repeating: 1, count: 9)]))
    #expect(start[0].cosines == rope.table(0..<6, length: 8).cosines)
    #expect(next[0].cosines == rope.table(6..<9, length: 9).cosines)
    #expect(next[0].cosines != rope.table(6..<9, length: 8).cosines)
    #expect(mixed[1].cosines == rope.table(0..<9, length: 2).cosines)
    #expect(mixed[2].cosines == rope.table(0..<9, length: 9).cosines)
  }

  @Test func frequenciesThatAreTensorsAreLeftOut() throws {
    var variant = try Variant("models/llama")
    variant.tensors.append(
      Variant.Tensor(
        name: "model.layers.1.self_attn.rotary_emb.inv_freq", dtype: .f32, shape: [8],
        bytes: [UInt8](repeating: 0, count: 32)))
    let folder = TemporaryFolder()
    let model = try variant.open(in: folder)
    #expect(model.leftOut.map(\.rule) == ["rotary-frequencies"])
  }
}

@Suite struct DenseModelTests {
  /// A Llama with every bias that the family has, of numbers that differ.
  private func biased(in folder: TemporaryFolder) throws -> Model {
    var variant = try Variant("models/llama")
    variant.set("attention_bias", true)
    variant.set("mlp_bias", true)
    for layer in 0..<3 {
      for (name, count) in [
        ("self_attn.q_proj", 64), ("self_attn.k_proj", 32), ("self_attn.v_proj", 32),
        ("self_attn.o_proj", 64), ("mlp.gate_proj", 96), ("mlp.up_proj", 96), ("mlp.down_proj", 64),
      ] {
        let values = (0..<count).map { Float(($0 * 37 + layer * 11) % 64 - 32) / 128 }
        variant.tensors.append(
          Variant.Tensor(
            name: "model.layers.\(layer).\(name).bias", dtype: .f32, shape: [count],
            bytes: values.withUnsafeBytes { Array($0) }))
      }
    }
    return try variant.open(in: folder, "biased")
  }

  /// Rows of queries and keys are put in order for llama.cpp, and their biases with them.
  @Test func biasesGoThroughEveryContainer() throws {
    let folder = TemporaryFolder()
    let source = try biased(in: folder)
    let windows = Windows([(0..<40).map { $0 * 37 % 256 }], context: 40)
    let expected = try allLogits(source, windows)
    #expect(try allLogits(try openFixture("llama"), windows) != expected)
    var options = try options("keep", exactOnly: true)
    _ = try convert(source, to: folder.file("a.ingot"), options)
    #expect(try allLogits(try Model.open(folder.file("a.ingot")), windows) == expected)
    options.target = GGUFResult()
    _ = try convert(source, to: folder.file("a.gguf"), options)
    try rewrite(folder.file("a.gguf"), to: folder.file("bare.gguf")) { keys in
      keys.removeAll { $0.key.hasPrefix("smelt.") }
    }
    #expect(try allLogits(try Model.open(folder.file("bare.gguf")), windows) == expected)
    let file = try GGUFFile(path: folder.file("a.gguf"))
    let bias = try #require(file.tensor("blk.0.attn_q.bias")).bytes.withUnsafeBytes {
      Array($0.bindMemory(to: Float.self))
    }
    let original = (0..<64).map { Float(($0 * 37) % 64 - 32) / 128 }
    #expect(bias[1] == original[8] && bias[2] == original[1] && bias != original)
    options.target = SafetensorsResult()
    _ = try convert(try Model.open(folder.file("a.gguf")), to: folder.file("back"), options)
    #expect(try allLogits(try Model.open(folder.file("back")), windows) == expected)
  }

  /// llama.cpp knows no windows in these architectures: the file is read as a model without, and writing it says so.
  @Test(arguments: [("mistral", "llama"), ("qwen2", "qwen2")])
  func windowsThatGGUFDoesNotHold(name: String, type: String) throws {
    let folder = TemporaryFolder()
    var options = try options("keep", exactOnly: true)
    options.target = GGUFResult()
    let summary = try convert(try openFixture(name), to: folder.file("a.gguf"), options)
    #expect(summary.warnings.contains { $0.contains("attention has a window") })
    try rewrite(folder.file("a.gguf"), to: folder.file("bare.gguf")) { keys in
      keys.removeAll { $0.key.hasPrefix("smelt.") }
    }
    let bare = try Model.open(folder.file("bare.gguf"))
    #expect(bare.family.modelType == type)
    var variant = try Variant("models/\(name)")
    variant.set("sliding_window", JSON(.null))
    let windows = Windows([(0..<40).map { $0 * 37 % 256 }], context: 40)
    let expected = try allLogits(try variant.open(in: folder), windows)
    #expect(try allLogits(bare, windows) == expected)
  }

  @Test func calibrationLearnsEveryWeightAndNoExperts() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("llama")
    let summary = try calibrate(
      model, someWindows(model, count: 4, context: 32),
      textPath: fixture("models/tiny-v4/calibration.txt"), to: folder.file("s.safetensors"),
      overwrite: false, RunOptions())
    #expect(summary.coverage.experts == 0 && summary.starvedExperts == 0 && summary.toppedUpWindows == 0)
    #expect(summary.text.contains("no routed experts") && summary.heatMap.contains("no routed experts"))
    #expect(summary.heatMap.hasSuffix("</svg>\n") && !summary.heatMap.contains("NaN"))
    let file = try SafetensorsFile(path: folder.file("s.safetensors"))
    #expect(file.tensors.allSatisfy { !$0.name.contains("expert") } && !file.tensors.isEmpty)
  }

  @Test(arguments: ["gptq", "awq", "smooth"], ["result.ingot", "result.gguf"])
  func everyMethodWritesEveryContainer(method: String, result: String) throws {
    let folder = TemporaryFolder()
    let model = try openFixture("qwen2")
    let isGGUF = result.hasSuffix(".gguf")
    var options = try options(isGGUF ? "q4_0" : "int4-group:32")
    if isGGUF { options.target = GGUFResult() }
    _ = try quantize(
      model, to: folder.file(result), calibration: someWindows(model, count: 4, context: 32),
      textPath: fixture("models/tiny-v4/calibration.txt"), choosesObserver: true,
      method: try MethodOptions(named: method), options)
    let report = try verify(
      source: model, result: try Model.open(folder.file(result)), try referenceWindows("qwen2"),
      thresholds: Thresholds(maxKL: 10), RunOptions())
    #expect(report.passes && report.kl.mean.isFinite && report.kl.mean > 0)
  }

  /// A profile demands nothing of routers that are not there.
  @Test func aProfileJudgesWithoutRouters() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3")
    _ = try convert(source, to: folder.file("a.ingot"), try options("keep"))
    let report = try verify(
      source: source, result: try Model.open(folder.file("a.ingot")), try referenceWindows("qwen3"),
      thresholds: Thresholds(profile: .nearLossless), RunOptions())
    #expect(report.router.isEmpty && report.verdict == .pass)
    #expect(report.criteria.map(\.key) == ["faults", "kl.mean", "kl.p99", "top1_agreement"])
    #expect(report.kl.forcedRoutingMean == report.kl.mean)
    #expect(!report.text.contains("forced routing") && !report.card.contains("expert choices"))
  }

  @Test func inspectionSaysThatThereAreNoExperts() throws {
    let facts = try inspect(try openFixture("llama"))
    #expect(facts.text(withTensors: false).contains("no experts") && facts.dimensions.experts == 0)
    #expect(facts.activeParameters == facts.parameters, "tied embeddings are the output head too")
  }

  @Test func sizesAreNamedWithoutExperts() throws {
    #expect(try GGUFHeaderKeys.sizeLabel(openFixture("llama").family) == "109K")
  }
}
