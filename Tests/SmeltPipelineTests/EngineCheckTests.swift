// `check --for`: what each rule foretells of results, and results that engines load.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

@Suite struct EngineCheckTests {
  private let folder = TemporaryFolder()

  private func spoken(
    _ variant: Variant, _ engine: Engine, version: String? = nil, shards: Int = 1
  ) throws -> [String: EngineOutcome] {
    try engineCheck(variant, engine, in: folder, version: version, shards: shards).spoken
  }

  // MARK: what loads

  @Test(arguments: [Engine.vllm, .sglang, .transformers])
  func channelFP8LoadsAsProved(_ engine: Engine) throws {
    let variant = try engineVariant("qwen3_moe", "FP8_DYNAMIC", in: folder)
    let check = try engineCheck(variant, engine, in: folder)
    // transformers unpacks experts, and rounds no activations of theirs.
    let isUnpacked = engine == .transformers
    #expect(check.spoken == (isUnpacked ? ["expert-activations": .notes] : [:]), "\(check.text)")
    #expect(check.verdict == "loads")
    #expect(check.exitStatus(isStrict: true) == (isUnpacked ? 1 : 0))
    let fused = check.fates.filter { $0.action == .fuses }
    #expect(
      fused.contains { $0.tensor.hasSuffix("experts.0.up_proj.weight") && $0.target.hasSuffix(".experts") })
    #expect(fused.contains { $0.target.hasSuffix("self_attn.qkv_proj") } == (engine != .transformers))
    #expect(check.fates.count == variant.tensors.count)
  }

  @Test(arguments: [Engine.vllm, .sglang, .transformers, .mlx, .ollama])
  func plainDirectoriesLoad(_ engine: Engine) throws {
    let variant = try Variant("models/llama")
    #expect(try spoken(variant, engine).isEmpty)
  }

  @Test func sharedGlobalScalesLoad() throws {
    var variant = try engineVariant("tiny-v4", "nvfp4", in: folder)
    variant.shareGlobalScales()
    #expect(try spoken(variant, .vllm)["nvfp4-fused-scale"] == nil)
    #expect(try spoken(variant, .vllm)["nvfp4-expert-scale"] == nil)
    #expect(try spoken(variant, .sglang)["nvfp4-fused-scale"] == nil)
  }

  // MARK: numbers of fused matrices

  @Test func differentGlobalScalesAreToldApart() throws {
    var variant = try engineVariant("qwen3_moe", "nvfp4", in: folder)
    variant.shareGlobalScales()
    var attention = variant
    attention.setNumbers(where: { $0.hasSuffix("k_proj.weight_global_scale") }) { _, old in old * 2 }
    let check = try engineCheck(attention, .vllm, in: folder)
    #expect(check.spoken["nvfp4-fused-scale"] == .differs)
    #expect(check.spoken["nvfp4-expert-scale"] == nil)
    let cases = try #require(check.findings.first { $0.rule.name == "nvfp4-fused-scale" }).cases
    #expect(cases.first?.subject == "model.layers.0.self_attn.qkv_proj")
    #expect(cases.first?.found.hasSuffix("a factor of up to 2.000") == true)
    #expect(check.exitStatus(isStrict: false) == 1)
    #expect(try spoken(attention, .sglang)["nvfp4-fused-scale"] == .refuses)
    #expect(try spoken(attention, .transformers)["nvfp4-fused-scale"] == nil)

    var expert = variant
    expert.setNumbers(where: { $0.hasSuffix("experts.3.up_proj.weight_global_scale") }) { _, old in old / 2 }
    #expect(try spoken(expert, .vllm)["nvfp4-expert-scale"] == .differs)
    #expect(try spoken(expert, .vllm)["nvfp4-fused-scale"] == nil)
    #expect(try spoken(expert, .sglang)["nvfp4-expert-scale"] == .refuses)
  }

  @Test func scalesOfWholeMatricesAreToldApart() throws {
    var variant = try engineVariant("llama", "fp8-tensor", in: folder)
    variant.setNumbers(where: { $0.hasSuffix("v_proj.weight_scale") }) { _, old in old * 3 }
    for engine in [Engine.vllm, .sglang] {
      #expect(try spoken(variant, engine)["fp8-fused-scale"] == .differs)
    }
  }

  // MARK: schemes

  @Test func partsOfFusedMatricesHaveOneScheme() throws {
    var variant = try engineVariant("qwen3_moe", "FP8_DYNAMIC", in: folder)
    let source = try Variant("models/qwen3_moe")
    variant.makePlain(source) { $0.hasSuffix("layers.1.self_attn.k_proj") }
    try variant.ignore(["model.layers.1.self_attn.k_proj"])
    for engine in [Engine.vllm, .sglang] {
      let found = try spoken(variant, engine)
      #expect(found["fused-scheme"] == .refuses)
      #expect(found["declared-scheme"] == .refuses)
      #expect(found["expert-scheme"] == nil)
    }
    #expect(try spoken(variant, .transformers) == ["expert-activations": .notes])
  }

  @Test func expertsOfALayerHaveOneScheme() throws {
    var variant = try engineVariant("qwen3_moe", "FP8_DYNAMIC", in: folder)
    let source = try Variant("models/qwen3_moe")
    variant.makePlain(source) { $0.contains(".experts.") && $0.hasSuffix("down_proj") }
    try variant.ignore([#"re:.*experts\.\d+\.down_proj$"#])
    for engine in [Engine.vllm, .sglang] {
      let found = try spoken(variant, engine)
      #expect(found["expert-scheme"] == .refuses)
      #expect(found["fused-scheme"] == nil)
    }
  }

  /// vLLM asks for Mixtral's experts as w1, w3, w2; SGLang as gate_proj for all models, which no list of w1 holds.
  @Test func expertsAreAskedForByTheEnginesNames() throws {
    var variant = try engineVariant("mixtral", "FP8_DYNAMIC", in: folder)
    let source = try Variant("models/mixtral")
    #expect(source.tensors.contains { $0.name.hasSuffix("experts.0.w1.weight") })
    let modules = source.tensors.map(\.name).filter { $0.contains(".experts.") }.map {
      String($0.dropLast(".weight".count))
    }
    variant.makePlain(source) { $0.contains(".experts.") }
    try variant.ignore(modules)
    #expect(try spoken(variant, .vllm).isEmpty)
    let check = try engineCheck(variant, .sglang, in: folder)
    #expect(check.spoken == ["declared-scheme": .refuses])
    #expect(check.findings.first?.cases.first?.subject.hasSuffix(".experts") == true)
  }

  @Test func whatIsPlainButDeclaredIsFound() throws {
    var variant = try engineVariant("deepseek_v3", "fp8-block", in: folder)
    let source = try Variant("models/deepseek_v3")
    variant.makePlain(source) { $0.hasSuffix("layers.1.self_attn.o_proj") }
    let check = try engineCheck(variant, .vllm, in: folder)
    let cases = try #require(check.findings.first { $0.rule.name == "declared-scheme" }).cases
    #expect(cases.map(\.subject) == ["model.layers.1.self_attn.o_proj"])
  }

  @Test func routersStayPlain() throws {
    let recipe = Recipe(
      try Schemes.named("keep"), rules: [Recipe.Rule(.role(.router), try Schemes.named("fp8-channel"))])
    let variant = try engineVariant(
      "mixtral", "FP8_DYNAMIC", in: folder, recipe: recipe, isLevelled: false)
    #expect(try spoken(variant, .vllm)["plain-role"] == .refuses)
    #expect(try spoken(variant, .sglang)["plain-role"] == .refuses)
    // vLLM looks Qwen3's up: declared, it may be quantized.
    let qwen3 = try engineVariant(
      "qwen3_moe", "FP8_DYNAMIC", in: folder, recipe: recipe, isLevelled: false)
    #expect(try spoken(qwen3, .vllm).isEmpty)
    #expect(try spoken(qwen3, .sglang)["plain-role"] == .refuses)
  }

  @Test func activationsOfExpertsAreTheEngines() throws {
    var variant = try engineVariant("qwen3_moe", "fp8-tensor", in: folder)
    try variant.changeQuantization { text in
      text.replacing(
        "\"strategy\": \"tensor\",\n        \"dynamic\": true",
        with: "\"strategy\": \"token\", \"dynamic\": true")
    }
    let kinds = try spoken(variant, .vllm)
    #expect(kinds["fp8-tensor-expert-activations"] == .refuses, "\(kinds)")
    let a16 = try engineVariant("qwen3_moe", "W8A8", in: folder)
    #expect(try spoken(a16, .vllm).isEmpty)
    #expect(try spoken(a16, .sglang) == ["int8-experts": .refuses])
    #expect(try spoken(a16, .transformers) == ["int8-experts": .refuses])
  }

  @Test func formatsOfCompressedTensorsByEngine() throws {
    let mxfp4 = try engineVariant("qwen3_moe", "mxfp4", in: folder)
    #expect(try spoken(mxfp4, .sglang)["mxfp4-linear"] == .refuses)
    #expect(try spoken(mxfp4, .vllm)["mxfp4-linear"] == nil)
    let nvfp4 = try engineVariant("qwen3_moe", "nvfp4", in: folder)
    #expect(try spoken(nvfp4, .transformers)["nvfp4-experts"] == .refuses)
    let block = try engineVariant("qwen3_moe", "FP8_BLOCK", in: folder)
    #expect(try spoken(block, .transformers)["fp8-block-experts"] == .refuses)
    let fp8 = try engineVariant("llama", "FP8_DYNAMIC", in: folder)
    #expect(try spoken(fp8, .mlx)["format"] == .refuses)
    #expect(try spoken(fp8, .ollama)["fp8-scales"] == .refuses)
    let packed = try engineVariant("llama", "W4A16", in: folder)
    #expect(try spoken(packed, .mlx)["packed-names"] == .refuses)
    #expect(try spoken(packed, .ollama)["types"] == .refuses)
  }

  @Test func gptOSSLoadsFromItsOwnBlocks() throws {
    #expect(try spoken(try Variant("models/gpt_oss-mxfp4"), .vllm).isEmpty)
    var variant = try Variant("models/gpt_oss-mxfp4")
    variant.set("quantization_config", ["quant_method": "mxfp4"])
    #expect(try spoken(variant, .transformers).isEmpty)
    let view = try EngineView(try Model.open(fixture("models/gpt_oss-mxfp4")), .vllm)
    #expect(view.weights.contains { $0.isExpert && $0.kind == .mxfp4 && $0.isStacked })
  }

  // MARK: dimensions

  @Test func shardsCutBetweenScales() throws {
    let fp8 = try engineVariant("qwen3_moe", "FP8_DYNAMIC", in: folder)
    #expect(try spoken(fp8, .vllm, shards: 2).isEmpty)
    #expect(try spoken(fp8, .vllm, shards: 3)["shards"] == .refuses)
    let packed = try engineVariant("tiny-v4", "W4A16", in: folder)
    #expect(try spoken(packed, .vllm)["shard-groups"] == nil)
    let cut = try engineCheck(packed, .vllm, in: folder, shards: 4)
    #expect(cut.spoken["shard-groups"] == .refuses)
    #expect(cut.findings.first { $0.rule.name == "shard-groups" }?.cases.first?.found.contains("/ 4") == true)
  }

  @Test func blocksAreWhole() throws {
    // 96 hidden channels of an expert, 128 rows of a block.
    let fp8 = try Variant("models/deepseek_v3-fp8")
    for engine in [Engine.vllm, .sglang] {
      #expect(try spoken(fp8, engine)["expert-blocks"] == .refuses)
    }
    #expect(try spoken(fp8, .transformers)["expert-blocks"] == nil)
  }

  @Test func packedExpertsHaveWidthsAndGroups() throws {
    // 64 input channels, in groups of 64.
    let narrow = try spoken(try engineVariant("qwen3_moe", "W4A16", in: folder), .vllm)
    #expect(narrow["expert-width"] == .refuses)
    let wide = try spoken(try engineVariant("tiny-v4", "W4A16", in: folder), .vllm)
    #expect(wide["expert-width"] == nil && wide["expert-group"] == nil)
    var nvfp4 = try engineVariant("qwen3_moe", "nvfp4", in: folder)
    nvfp4.shareGlobalScales()
    let found = try spoken(nvfp4, .sglang)
    #expect(found["nvfp4-expert-width"] == .refuses && found["nvfp4-expert-hidden"] == .refuses)
  }

  // MARK: the rest

  @Test func tablesOfGroupsAreRefused() throws {
    var variant = try engineVariant("llama", "W4A16", in: folder)
    for tensor in variant.tensors where tensor.name.hasSuffix(".weight_packed") {
      let columns = tensor.shape.columns * 8
      let scales = try #require(
        variant.tensors.first { $0.name == tensor.name.replacing("_packed", with: "_scale") })
      let size = columns / scales.shape.columns
      let indices = (0..<columns).flatMap { column in
        withUnsafeBytes(of: Int32(column / size).littleEndian) { Array($0) }
      }
      variant.tensors.append(
        Variant.Tensor(
          name: tensor.name.replacing("_packed", with: "_g_idx"), dtype: .i32, shape: [columns],
          bytes: indices))
    }
    try variant.changeQuantization {
      $0.replacing("\"dynamic\": false", with: "\"dynamic\": false, \"actorder\": \"group\"")
    }
    #expect(try spoken(variant, .vllm)["activation-order"] == .refuses)
  }

  @Test func cachesAreFP8() throws {
    var variant = try engineVariant("llama", "FP8_DYNAMIC", in: folder)
    var right = variant
    func cache(_ text: String) throws {
      try variant.changeQuantization {
        $0.replacing("\"kv_cache_scheme\": null", with: "\"kv_cache_scheme\": \(text)")
      }
    }
    try cache(#"{"num_bits": 8, "type": "int", "strategy": "tensor", "symmetric": true}"#)
    #expect(try spoken(variant, .vllm) == ["kv-cache": .refuses])
    #expect(try spoken(variant, .sglang) == ["kv-cache": .differs])
    try right.changeQuantization {
      $0.replacing(
        "\"kv_cache_scheme\": null",
        with: #""kv_cache_scheme": {"num_bits": 8, "type": "float", "strategy": "tensor"}"#)
    }
    #expect(try spoken(right, .vllm).isEmpty)
  }

  @Test func containersThatEnginesDoNotRead() throws {
    let source = try openFixture("tiny-v4")
    _ = try convert(source, to: folder.file("m.ingot"), try options("keep"))
    var file = try options("keep")
    file.target = GGUFResult()
    _ = try convert(source, to: folder.file("m.gguf"), file)
    let ingot = try Model.open(folder.file("m.ingot"))
    for engine in Engine.allCases {
      let check = try checkEngine(ingot, for: engine)
      #expect(check.spoken == ["container": .refuses] && check.fates.isEmpty)
      #expect(check.exitStatus(isStrict: false) == 3)
    }
    let gguf = try Model.open(folder.file("m.gguf"))
    #expect(try checkEngine(gguf, for: .vllm).spoken == ["container": .refuses])
    #expect(try checkEngine(gguf, for: .transformers).spoken == ["architecture": .refuses])
    #expect(try checkEngine(gguf, for: .ollama).spoken["container"] == nil)
    // No tokenizer: llama.cpp loads nothing.
    _ = try convert(try openFixture("llama"), to: folder.file("l.gguf"), file)
    let bare = try Model.open(folder.file("l.gguf"))
    #expect(try checkEngine(bare, for: .llamaCpp).spoken["tokenizer"] == .refuses)
    #expect(try checkEngine(bare, for: .llamaCpp).spoken["architecture"] == nil)
    #expect(try checkEngine(try openFixture("llama"), for: .llamaCpp).spoken == ["container": .refuses])
  }

  @Test func architecturesByEngineAndVersion() throws {
    var variant = try Variant("models/llama")
    variant.set("architectures", ["Phi3SmallForCausalLM"])
    #expect(try spoken(variant, .vllm)["architecture"] == .refuses)
    #expect(try spoken(variant, .vllm, version: "0.9.1")["architecture"] == nil)
    #expect(try spoken(variant, .vllm, version: "0.10")["architecture"] == .refuses)
    variant.set("architectures", ["SomeLlamaForCausalLM"])
    #expect(try spoken(variant, .vllm) == ["borrowed-architecture": .notes])
    #expect(try spoken(variant, .sglang) == ["borrowed-architecture": .notes])
    #expect(try engineCheck(variant, .vllm, in: folder).exitStatus(isStrict: false) == 0)
    #expect(try engineCheck(variant, .vllm, in: folder).exitStatus(isStrict: true) == 1)
    variant.set("model_type", "unheard_of")
    for engine in [Engine.vllm, .sglang, .transformers, .mlx] {
      #expect(try spoken(variant, engine)["architecture"] == .refuses)
    }
  }

  @Test func expertsOfV4WithoutTheirType() throws {
    var variant = try engineVariant("deepseek_v4", "fp8-block", in: folder)
    variant.set("expert_dtype", nil)
    #expect(try spoken(variant, .vllm)["expert-type"] == .refuses)
    variant.set("expert_dtype", "fp8")
    #expect(try spoken(variant, .vllm)["expert-type"] == nil)
    let makers = try Variant("models/deepseek_v4-fp4")
    #expect(try spoken(makers, .vllm) == ["blocks": .refuses])  // 64 rows, blocks of 128
    #expect(try spoken(makers, .sglang) == ["blocks": .refuses])
  }

  @Test func methodsByEngine() throws {
    // vLLM has the indexer's projections in the fused matrix, SGLang beside it.
    let layout = try Variant("models/minimax_m3_vl-mxfp8")
    #expect(try spoken(layout, .vllm) == ["fused-scheme": .refuses])
    #expect(try spoken(layout, .sglang).isEmpty)
    #expect(try spoken(layout, .ollama)["method"] == .refuses)
  }

  @Test func draftsAreLookedAtApart() throws {
    var options = ConvertOptions(
      recipe: Recipe(try Schemes.named("W8A8")),
      target: SafetensorsResult(shardBytes: SafetensorsResult.usualShardBytes, schemeWord: "W8A8"),
      drafts: .quantize)
    options.overwrite = false
    _ = try convert(try openFixture("glm4_moe_lite"), to: folder.file("mtp"), options)
    var variant = try Variant(path: folder.file("mtp"))
    let found = try spoken(variant, .vllm)
    #expect(
      found["drafts"] == .notes && found["draft-scheme"] == nil && found["declared-scheme"] == nil, "\(found)"
    )
    let layers = try openFixture("glm4_moe_lite").family.dimensions.layers
    let source = try Variant("models/glm4_moe_lite")
    variant.makePlain(source) { $0.hasPrefix("model.layers.\(layers).") && $0.hasSuffix("o_proj") }
    #expect(try spoken(variant, .vllm)["draft-scheme"] == .differs)
    #expect(try spoken(variant, .vllm)["declared-scheme"] == nil)
  }

  /// Checkpoints of others.
  @Test func publishedLayoutsAreAsked() throws {
    let asymmetric = try Model.open(fixture("reports/ct_asym"))
    #expect(try checkEngine(asymmetric, for: .vllm).spoken["declared-scheme"] == nil)
    #expect(try checkEngine(asymmetric, for: .transformers).spoken["asymmetric-experts"] == .refuses)
    let symmetric = try engineVariant("qwen3_moe", "W4A16", in: folder)
    #expect(try spoken(symmetric, .transformers)["asymmetric-experts"] == nil)
    let modelopt = try checkEngine(try Model.open(fixture("reports/mo_w4a16_nvfp4")), for: .vllm)
    #expect(modelopt.spoken["method"] == nil && modelopt.spoken["declared-scheme"] == nil, "\(modelopt.text)")
    #expect(
      try checkEngine(try Model.open(fixture("reports/mo_w4a16_nvfp4")), for: .transformers).spoken["method"]
        == .refuses)
  }

  // MARK: the table

  @Test func rowsAreWhole() {
    var seen: Set<String> = []
    for rule in EngineRules.all {
      #expect(seen.insert("\(rule.engine) \(rule.name)").inserted, "\(rule.engine) \(rule.name) stands twice")
      #expect(!rule.source.isEmpty && !rule.says.hasSuffix("."))
      #expect(rule.source.hasPrefix(rule.engine.readVersion), "\(rule.engine) \(rule.name): \(rule.source)")
    }
    #expect(Set(EngineRules.all.map(\.engine)) == Set(Engine.allCases))
  }

  @Test func versionsAreComparedByNumbers() {
    #expect(EngineVersion("0.9.2") < EngineVersion("0.10.0"))
    #expect(EngineVersion("v0.10") < EngineVersion("0.10.1"))
    #expect(EngineVersion("0.33.0") == EngineVersion("v0.33.0"))
  }
}
