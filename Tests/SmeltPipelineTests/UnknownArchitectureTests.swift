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

  /// FP8 in blocks of 32 columns keeps the layout of its makers.
  @Test func mxfp8IsTheSameAfterAnIngot() throws {
    let home = TemporaryFolder()
    putFile(
      home.file("config.json"),
      Array(#"{"model_type": "nosuch", "quantization_config": {"quant_method": "mxfp8"}}"#.utf8))
    let name = "model.layers.0.mlp.up_proj.weight"
    try Variant.write(
      [
        Variant.Tensor(name: name, dtype: .f8E4M3, shape: [4, 64], bytes: (0..<256).map { UInt8($0 % 100) }),
        Variant.Tensor(name: name + "_scale_inv", dtype: .u8, shape: [4, 2], bytes: (120..<128).map { $0 }),
        Variant.Tensor(name: "norm.weight", dtype: .f32, shape: [2], bytes: [UInt8](repeating: 1, count: 8)),
      ], to: home.file("model.safetensors"))
    let model = try Model.open(home.path)
    let work = TemporaryFolder()
    _ = try convert(model, to: work.file("a.ingot"), try options("keep"))
    _ = try convert(try Model.open(work.file("a.ingot")), to: work.file("b"), folder(try options("keep")))
    #expect(try tensors(work.file("b")) == tensors(home.path))
    #expect(try contents(work.file("b/config.json")) == contents(home.file("config.json")))
  }

  /// Stacked experts, linear attention, a tower for pictures.
  @Test(arguments: ["W8A8", "FP8_DYNAMIC", "bf16"])
  func aDirectoryForEnginesHasEveryNameAndShape(scheme: String) throws {
    let source = try Model.open(fixture("unknown/hybrid_moe"))
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
    let model = try Model.open(fixture("unknown/hybrid_moe"))
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

  /// A directory of safetensors alone.
  @Test(arguments: ["W8A8", "FP8_DYNAMIC"])
  func withoutAConfigurationEverythingButAPassWorks(scheme: String) throws {
    let home = TemporaryFolder()
    let variant = try Variant("models/qwen3")
    try Variant.write(variant.tensors, to: home.file("weights.safetensors"))
    let model = try Model.open(home.path)
    #expect(model.family.modelType == "unknown" && model.noForwardPass?.contains("config.json") == true)
    let text = try inspect(model).text(withTensors: false)
    #expect(text.contains("forward pass  none: there is no config.json"))
    let work = TemporaryFolder()
    _ = try convert(model, to: work.file("a.ingot"), try options("keep"))
    _ = try convert(try Model.open(work.file("a.ingot")), to: work.file("b"), folder(try options("keep")))
    #expect(try tensors(work.file("b")) == tensors(home.path))
    #expect(pathKind(work.file("b/config.json")) == .nothing)
    var options = try options(scheme)
    options.target = SafetensorsResult(schemeWord: scheme)
    let summary = try convert(model, to: work.file("c"), options)
    #expect(summary.warnings.contains { $0.contains("no config.json") })
    #expect(pathKind(work.file("c/config.json")) == .nothing)
    let result = try Model.open(work.file("c"))
    #expect(result.family.weights.map(\.shape) == model.family.weights.map(\.shape))
    let report = try verifyWeights(
      source: model, result: result, thresholds: Thresholds(maxWeightError: 0.05), because: "a test",
      RunOptions())
    #expect(report.verdict == .pass && report.exactWeights < report.weights.count)
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

/// Families whose configuration asks for what the family does not compute.
@Suite struct VariantTests {
  private static let variants: [(model: String, key: String, value: JSON, words: [String])] = [
    ("models/llama", "rope_scaling", ["rope_type": "cubic"], ["llama", "'cubic'", "longrope"]),
    ("models/mixtral", "hidden_act", "relu", ["mixtral", "'hidden_act'", "silu"]),
    ("models/deepseek_v4-fp4", "scoring_func", "sigmoid", ["deepseek_v4", "'scoring_func'", "sqrtsoftplus"]),
    ("models/deepseek_v3-fp8", "mlp_bias", true, ["deepseek_v3", "'mlp_bias'"]),
  ]

  @Test(arguments: variants.indices)
  func everythingButAPassWorks(index: Int) throws {
    let (name, key, value, words) = VariantTests.variants[index]
    var variant = try Variant(name)
    variant.set(key, value)
    let home = TemporaryFolder()
    let model = try variant.open(in: home)
    let reason = try #require(model.noForwardPass)
    for word in words { #expect(reason.contains(word), "\(reason)") }
    let inspection = try inspect(model)
    #expect(inspection.noForwardPass == reason && inspection.text(withTensors: false).contains(reason))
    let error = #expect(throws: RequestError.self) {
      _ = try evaluate(model, Windows([[1, 2, 3]], context: 3), RunOptions())
    }
    #expect(error?.kind == .unsupported && error?.problem == reason)
    #expect(error?.help?.contains("convert") == true)
    _ = try checkModel(model, RunOptions())
    _ = try convert(model, to: home.file("a.ingot"), try options("keep"))
    let ingot = try Model.open(home.file("a.ingot"))
    #expect(ingot.noForwardPass == reason)
    var keep = try options("keep")
    keep.target = SafetensorsResult()
    _ = try convert(ingot, to: home.file("b"), keep)
    let (before, after) = (
      try SafetensorsDirectory(path: model.path), try SafetensorsDirectory(path: home.file("b"))
    )
    let differing = before.tensors.filter { x in
      guard let y = after.tensor(x.name) else { return true }
      return x.dtype != y.dtype || x.shape != y.shape || x.bytes.array != y.bytes.array
    }.map(\.name)
    #expect(before.tensors.count == after.tensors.count && differing == [])
    #expect(try contents(home.file("b/config.json")) == contents(model.path + "/config.json"))
    #expect(try diff(model, try Model.open(home.file("b")), RunOptions()).isEqual)
    var int8 = try options("W8A8")
    int8.target = SafetensorsResult(schemeWord: "W8A8")
    _ = try convert(model, to: home.file("c"), int8)
    let report = try verifyWeights(
      source: model, result: try Model.open(home.file("c")), thresholds: Thresholds(maxWeightError: 0.05),
      because: reason, RunOptions())
    #expect(report.verdict == .pass && report.text.contains(reason))
    #expect(report.exactWeights < report.weights.count)
  }

  /// A GGUF file of such a variant is the same file after an ingot.
  @Test func aGGUFOfAVariantIsTheSameFileAgain() throws {
    let home = TemporaryFolder()
    try rewrite(fixture("gguf/models/qwen3moe.bf16.gguf"), to: home.file("a.gguf")) { keys in
      keys.append(("qwen3moe.rope.scaling.type", .string("cubic")))
    }
    let model = try Model.open(home.file("a.gguf"))
    let reason = try #require(model.noForwardPass)
    #expect(reason.contains("gguf:qwen3moe") && reason.contains("'cubic'"))
    _ = try checkModel(model, RunOptions())
    _ = try convert(model, to: home.file("a.ingot"), try options("keep"))
    let ingot = try Model.open(home.file("a.ingot"))
    #expect(ingot.noForwardPass == reason)
    var keep = try options("keep")
    keep.target = GGUFResult()
    _ = try convert(ingot, to: home.file("b.gguf"), keep)
    #expect(try contents(home.file("b.gguf")) == contents(home.file("a.gguf")))
  }

  @Test func aFileThatContradictsItselfIsRefused() throws {
    var variant = try Variant("models/llama")
    variant.set("num_attention_heads", 7)
    let home = TemporaryFolder()
    #expect(throws: FormatError.self) { _ = try variant.open(in: home) }
  }

  /// The same model cannot be compared with one that runs.
  @Test func aVariantIsNoResultOfAModelThatRuns() throws {
    var variant = try Variant("models/llama")
    variant.set("rope_scaling", ["rope_type": "cubic"])
    let home = TemporaryFolder()
    let model = try variant.open(in: home)
    let error = #expect(throws: RequestError.self) { _ = try diff(openFixture("llama"), model, RunOptions()) }
    #expect(error?.kind == .unsupported && error?.problem.contains("cubic") == true)
  }

  @Test func aTextModelInsideAnotherSaysWhy() throws {
    var variant = try Variant("models/kimi_k25")
    try variant.setText("mlp_bias", true)
    let home = TemporaryFolder()
    let model = try variant.open(in: home)
    #expect(model.family.modelType == "kimi_k25" && model.noForwardPass?.contains("'mlp_bias'") == true)
  }
}

/// A model around a text model that a family runs.
@Suite struct WrapperTests {
  private static let windows = Windows([[1, 5, 9, 13, 2, 7, 11, 3]], context: 8)

  /// The same numbers as the text model alone, in every container.
  private func expectTheSame(_ variant: Variant, as base: String, carried: Int) throws {
    let home = TemporaryFolder()
    let expected = try evaluate(openFixture(base), WrapperTests.windows, RunOptions()).perplexity
    let model = try variant.open(in: home)
    #expect(model.family.weights.count { $0.isCarried } == carried, "\(model.noForwardPass ?? "")")
    _ = try convert(model, to: home.file("a.ingot"), try options("keep"))
    var (folder, gguf) = (try options("keep"), try options("keep"))
    (folder.target, gguf.target) = (SafetensorsResult(), GGUFResult())
    _ = try convert(try Model.open(home.file("a.ingot")), to: home.file("b"), folder)
    _ = try convert(model, to: home.file("c.gguf"), gguf)
    for path in [model.path, home.file("a.ingot"), home.file("b"), home.file("c.gguf")] {
      #expect(try evaluate(Model.open(path), WrapperTests.windows, RunOptions()).perplexity == expected)
    }
  }

  private func tower() -> Variant.Tensor {
    Variant.Tensor(
      name: "visual.blocks.0.attn.qkv.weight", dtype: .f32, shape: [2, 2],
      bytes: [UInt8](repeating: 1, count: 16))
  }

  /// Text models under a name of their own, whose rotation goes by three positions that are one in a text.
  @Test(arguments: [
    ("qwen2_vl", "qwen2", "model.", "beside"), ("qwen2_5_vl", "qwen2", "model.", "flat"),
    ("qwen3_vl", "qwen3", "model.language_model.", "text_config"),
    ("qwen3_omni_moe", "qwen3_moe", "thinker.model.", "thinker_config"),
    ("qwen2_5_omni", "qwen2", "thinker.model.", "thinker_config"),
  ])
  func textModelsOfOtherNamesRun(type: String, base: String, prefix: String, section: String) throws {
    var variant = try Variant("models/\(base)")
    variant.rename { name in
      name.hasPrefix("model.")
        ? prefix + name.dropFirst(6) : prefix.hasPrefix("thinker.") ? "thinker.\(name)" : name
    }
    variant.tensors.append(tower())
    variant.set("rope_scaling", ["type": "mrope", "mrope_section": [4, 2, 2]])
    variant.set("model_type", JSON(section == "flat" ? type : type + "_text"))
    switch section {
    case "flat": break
    case "thinker_config":
      variant.config = [
        ("model_type", JSON(type)), ("thinker_config", ["text_config": JSON(members: variant.config)]),
      ]
    default:
      variant.config = [("model_type", JSON(type)), ("text_config", JSON(members: variant.config))]
    }
    try expectTheSame(variant, as: base, carried: 1)
  }

  /// The wrapper ties the head; what the text model's section says of it is not so.
  @Test func aWrapperThatTiesTheHeadIsBelievedWhereThereIsNone() throws {
    var variant = try Variant("models/llama")
    #expect(!variant.tensors.contains { $0.name == "lm_head.weight" })
    variant.rename { "language_model.\($0)" }
    variant.tensors.append(tower())
    variant.set("tie_word_embeddings", false)
    variant.config = [
      ("model_type", "nosuch"), ("tie_word_embeddings", true), ("text_config", JSON(members: variant.config)),
    ]
    try expectTheSame(variant, as: "llama", carried: 1)
  }

  /// A section ties a head that is there: it is used, not carried.
  @Test(arguments: [(true, false), (false, true), (true, nil), (nil, true)] as [(Bool?, Bool?)])
  func aHeadThatIsThereIsUsed(text: Bool?, wrapper: Bool?) throws {
    var variant = try Variant("models/qwen3")
    #expect(variant.tensors.contains { $0.name == "lm_head.weight" })
    variant.tensors.append(tower())
    variant.set("tie_word_embeddings", text.map { JSON($0) })
    variant.config = [("model_type", "nosuch"), ("text_config", JSON(members: variant.config))]
    variant.set("tie_word_embeddings", wrapper.map { JSON($0) })
    try expectTheSame(variant, as: "qwen3", carried: 1)
  }

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
