// Directories in ModelOpt's layout: written, read back, and turned into compressed-tensors and back without rounding again.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

/// hf_quant_config.json of a directory.
private func sidecar(_ path: String) throws -> JSON {
  try #require(try JSON.scan(Bytes(contents(path + "/hf_quant_config.json")))["quantization"])
}

/// The bytes of tensors by their names' ending, or of all.
private func bytes(_ path: String, of endings: [String]? = nil) throws -> [String: [UInt8]] {
  try SafetensorsDirectory(path: path).tensors.reduce(into: [:]) { found, tensor in
    guard endings?.contains(where: { tensor.name.hasSuffix($0) }) ?? true else { return }
    found[tensor.name] = tensor.bytes.array
  }
}

@Suite struct ModelOptResultTests {
  @Test(arguments: [
    ("FP8", "FP8"), ("NVFP4", "NVFP4"), ("nvfp4", "W4A16_NVFP4"), ("fp8-block", "FP8_PB_WO"),
    ("fp8-channel", "FP8_PER_CHANNEL_PER_TOKEN"),
  ])
  func whatIsWrittenIsReadBack(_ word: String, algorithm: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let isStatic = CompressedLayout.meansStatic(word)
    let statistics = isStatic ? try learned("qwen3_moe", in: folder) : nil
    try writeDirectory(source, word, to: folder.file("r"), statistics, layout: "modelopt")
    let section = try section(folder.file("r"))
    #expect(section["quant_method"]?.string == "modelopt" && section["quant_algo"]?.string == algorithm)
    let quantization = try sidecar(folder.file("r"))
    #expect(quantization["quant_algo"]?.string == algorithm)
    #expect(quantization["kv_cache_quant_algo"]?.isNull == true)
    let excluded = try #require(quantization["exclude_modules"]?.array).compactMap(\.string)
    #expect(Set(excluded) == Set(["lm_head"] + (0..<4).map { "model.layers.\($0).mlp.gate" }))
    #expect(section["ignore"]?.text() == quantization["exclude_modules"]?.text())
    if algorithm.hasSuffix("NVFP4") { #expect(quantization["group_size"]?.integer == 16) }

    let result = try Model.open(folder.file("r"))
    let scheme = CompressedLayout.presets[word] ?? word
    let encodings = Set(
      try result.storedWeights().map(\.encoding.name).filter { $0 != "bf16" && $0 != "f32" })
    let wanted = try Schemes.named(scheme).encoding(for: Plain.bf16, shape: [64, 64]).name
    #expect(encodings == [wanted == "nvfp4.divided" ? "nvfp4" : wanted])
    try writeDirectory(source, word, to: folder.file("c"), statistics, layout: "compressed-tensors")
    let other = try Model.open(folder.file("c"))
    guard wanted == "nvfp4.divided" else { return try expectEqual(other, result) }
    // The same codes and group scales; the global scale is the reciprocal.
    for weight in try result.storedWeights() where weight.encoding is NVFP4 {
      let (a, b) = (try result.weights.weight(weight.spec.name), try other.weights.weight(weight.spec.name))
      #expect(a.parts[0].bytes.array == b.parts[0].bytes.array)
      #expect(a.parts[1].bytes.array == b.parts[1].bytes.array)
      for (x, y) in zip(a.decode(), b.decode()) { #expect(abs(x - y) <= 0x1p-22 * abs(y)) }
    }
    if isStatic {
      let name = WeightName(parsing: "blk.2.ffn_down_exps.weight#3")
      let (a, b) = (try result.declaredScales().inputs[name], try other.declaredScales().inputs[name])
      #expect(a?.scale?.divides == false && b?.scale?.divides == true && a?.form == .local)
      #expect(abs(a!.fused! - b!.fused!) <= 0x1p-22 * a!.fused!)
    }
  }

  /// Attention in FP8, experts in NVFP4: what the most used checkpoints of large models are.
  @Test(arguments: ["qwen3_moe", "deepseek_v3"]) func mixedCheckpointsSayWhatEachModuleIs(family: String)
    throws
  {
    let folder = TemporaryFolder()
    let source = try openFixture(family)
    let statistics = try learned(family, in: folder)
    let rules = [Role.routedGate, .routedUp, .routedDown].map { Recipe.Rule(.role($0), NVFP4Scheme()) }
    try writeDirectory(
      source, "fp8-tensor", to: folder.file("r"), statistics, layout: "modelopt", activations: "static",
      cache: "fp8", rules: rules)
    let section = try section(folder.file("r"))
    #expect(section["quant_algo"]?.string == "MIXED_PRECISION")
    let layers = try #require(section["quantized_layers"]?.object)
    let expert = try #require(layers["model.layers.3.mlp.experts.5.up_proj"])
    #expect(expert["quant_algo"]?.string == "NVFP4" && expert["group_size"]?.integer == 16)
    #expect(layers["model.layers.3.self_attn.o_proj"]?.text() == #"{"quant_algo":"FP8"}"#)
    #expect(try sidecar(folder.file("r"))["quantized_layers"]?.text() == section["quantized_layers"]?.text())
    #expect(try sidecar(folder.file("r"))["kv_cache_quant_algo"]?.string == "FP8")
    #expect(section["kv_cache_scheme"]?["num_bits"]?.integer == 8)
    let groups = try #require(section["config_groups"]?.object)
    #expect(groups.keys.count == 2)

    let result = try Model.open(folder.file("r"))
    let stored = try result.storedWeights()
    #expect(
      stored.filter(\.spec.role.isRouted).filter { !$0.spec.isDraft }.allSatisfy {
        $0.encoding.name == "nvfp4"
      })
    let declared = try result.declaredScales()
    #expect(declared.caches.count == source.family.dimensions.layers)
    let attention = stored.filter { $0.encoding is FP8 }
    #expect(!attention.isEmpty && attention.allSatisfy { declared.inputs[$0.spec.name]?.scale != nil })
    // Once more, nothing asked: the same files.
    try writeDirectory(result, "keep", to: folder.file("again"))
    #expect(try bytes(folder.file("again")) == bytes(folder.file("r")))
    #expect(
      try contents(folder.file("again/hf_quant_config.json"))
        == contents(folder.file("r/hf_quant_config.json")))
  }

  /// From one package's layout to the other's and back, nothing is rounded again but a global scale's reciprocal.
  @Test(arguments: ["FP8", "NVFP4"]) func betweenThePackages(_ word: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let statistics = try learned("qwen3_moe", in: folder)
    try writeDirectory(
      source, word, to: folder.file("c"), statistics, layout: "compressed-tensors", cache: "fp8")
    let first = try Model.open(folder.file("c"))
    let there = try writeDirectory(first, "keep", to: folder.file("m"), layout: "modelopt")
    let middle = try Model.open(folder.file("m"))
    try writeDirectory(middle, "keep", to: folder.file("b"), layout: "compressed-tensors")
    #expect(there.converted.isEmpty)
    let isFP4 = word == "NVFP4"
    let codes = isFP4 ? ["weight_packed", "weight_scale"] : nil
    #expect(try bytes(folder.file("b"), of: codes) == bytes(folder.file("c"), of: codes))
    #expect(try section(folder.file("b")).text() == section(folder.file("c")).text())
    #expect(try middle.declaredScales().caches == first.declaredScales().caches)
    #expect(there.warnings.contains { $0.contains("reciprocals") } == isFP4)
    if isFP4 {
      let scale = "model.layers.1.mlp.experts.2.down_proj"
      let (divisor, factor) = (
        try number("\(scale).weight_global_scale", in: folder.file("c")),
        try number("\(scale).weight_scale_2", in: folder.file("m"))
      )
      #expect(factor == 1 / divisor)
      let error = #expect(throws: RequestError.self) {
        try writeDirectory(first, "keep", to: folder.file("x"), layout: "modelopt", exactOnly: true)
      }
      #expect(error?.problem.contains("reciprocal") == true)
      #expect(pathKind(folder.file("x")) == .nothing)
    } else {
      try writeDirectory(first, "keep", to: folder.file("x"), layout: "modelopt", exactOnly: true)
    }
  }

  /// Powers of two have exact reciprocals, and nothing is said of them.
  @Test func exactReciprocals() {
    func turned(_ value: Float) -> (Float, Bool) {
      let (bytes, isExact) = DeclaredTensor.number("x", value, shape: []).constant!.reciprocal
      return (
        bytes.withUnsafeBytes { Float(bitPattern: UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self))) },
        isExact
      )
    }
    #expect(turned(0x1p-9) == (0x1p9, true))
    #expect(turned(3) == (1 / 3, false))
    #expect(turned(0x1p127) == (0x1p-127, false))
  }

  @Test func whatTheLayoutLacksIsRefused() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    for word in ["int8-channel", "mxfp4", "fp8-tensor"] {
      let error = #expect(throws: RequestError.self) {
        try writeDirectory(source, word, to: folder.file("r"), layout: "modelopt")
      }
      #expect(error?.kind == .unsupported && error?.problem.contains("ModelOpt's layout") == true, "\(word)")
    }
    let whole = #expect(throws: RequestError.self) {
      try writeDirectory(source, "fp8-channel", to: folder.file("r"), layout: "modelopt", activations: "none")
    }
    #expect(whole?.help?.contains("leaves activations as they are") == true)
    let channels = try writeDirectory(source, "fp8-channel", to: folder.file("r"), layout: "modelopt")
    #expect(channels.warnings.contains { $0.contains("FP8_PER_CHANNEL_PER_TOKEN") })
    for (layout, activations, cache) in [("onnx", nil, nil), (nil, "all", nil), (nil, nil, "int4")]
      as [(
        String?, String?, String?
      )]
    {
      #expect(throws: RequestError.self) {
        try EngineWords(layout: layout, activations: activations, cache: cache).layout(schemeWord: nil)
      }
    }
  }

  /// Containers of which nothing is quantized stand for what is below them, and for nothing else.
  @Test func excludedModules() {
    let quantized = ["model.layers.1.mlp.up_proj", "model.layers.10.mlp.up_proj"]
    func patterns(_ modules: [String]) -> [String] { ModelOptPatterns.of(modules, but: quantized) }
    #expect(patterns(["lm_head"]) == ["lm_head"])
    #expect(patterns(["model.layers.1.mlp.gate"]) == ["model.layers.1.mlp.gate"])
    #expect(patterns(["model.layers.2.mlp.up_proj", "model.layers.2.mlp.gate"]) == ["model.layers.2*"])
    #expect(patterns(["model.layers.1.self_attn.q_proj"]) == ["model.layers.1.self_attn*"])
    let layer = ModelOptPatterns.of(["model.layers.1.mlp.up_proj"], but: ["model.layers.10.mlp.up_proj"])
    #expect(layer == ["model.layers.1.*"])
  }

  /// Published checkpoints of the package keep their layout, scales of activations included.
  @Test(arguments: ["mo_parent", "mo_w4a16_nvfp4"]) func publishedCheckpointsKeepTheirLayout(name: String)
    throws
  {
    let folder = TemporaryFolder()
    let source = try Model.open(fixture("reports/\(name)"))
    let summary = try writeDirectory(source, "keep", to: folder.file("r"))
    #expect(try section(folder.file("r"))["quant_method"]?.string == "modelopt")
    let result = try Model.open(folder.file("r"))
    try expectEqual(source, result)
    #expect(summary.converted.isEmpty)
    // Weights alone are quantized: scales that lie there all the same belong to nothing.
    let isLeft = summary.leftOut.contains { $0.rule == "activation-scale" }
    #expect(isLeft == (name == "mo_w4a16_nvfp4"))
    let (a, b) = (try source.declaredScales(), try result.declaredScales())
    #expect(a.inputs.mapValues { $0.scale?.stored } == b.inputs.mapValues { $0.scale?.stored })
  }
}
