// ModelOpt's mixed list as engines look modules up in it.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

@Suite struct ModelOptMixedTests {
  private static func experts(_ scheme: any Scheme) -> [Recipe.Rule] {
    [Role.routedGate, .routedUp, .routedDown].map { Recipe.Rule(.role($0), scheme) }
  }

  /// Attention and shared experts in FP8, experts in FP4, written in ModelOpt's layout.
  private func write(_ family: String, in folder: TemporaryFolder) throws -> Model {
    let statistics = try learned(family, in: folder)
    try writeDirectory(
      try openFixture(family), "fp8-tensor", to: folder.file("r"), statistics, layout: "modelopt",
      activations: "static", rules: Self.experts(NVFP4Scheme()))
    return try Model.open(folder.file("r"))
  }

  /// Parts and fused modules stand in the list; vLLM and SGLang find what each is stored in.
  @Test(arguments: [
    ("qwen3_moe", ["self_attn.qkv_proj"]),
    ("glm4_moe", ["self_attn.qkv_proj", "mlp.shared_experts.gate_up_proj"]),
    ("deepseek_v3", ["self_attn.fused_qkv_a_proj_with_mqa", "self_attn.fused_qkv_a_proj"]),
    ("mixtral", ["self_attn.qkv_proj"]), ("hy_v3", ["self_attn.qkv_proj"]),
  ])
  func enginesFindWhatIsListed(_ family: String, fused: [String]) throws {
    let folder = TemporaryFolder()
    let model = try write(family, in: folder)
    let layers = try #require(try section(folder.file("r"))["quantized_layers"]?.object)
    let last = model.family.dimensions.layers - 1
    for name in fused {
      #expect(layers["model.layers.\(last).\(name)"]?["quant_algo"]?.string == "FP8", "\(name)")
    }
    for engine in [Engine.vllm, .sglang] {
      let found = try checkEngine(model, for: engine).findings.filter { $0.rule.outcome != .notes }
      #expect(
        !found.contains { ["declared-scheme", "fused-scheme", "expert-scheme"].contains($0.rule.name) },
        "\(engine): \(found.map { ($0.rule.name, $0.cases.prefix(2)) })")
    }
    // Without the fused names SGLang takes what its class does not name for plain.
    var variant = try Variant(path: folder.file("r"))
    try variant.changeQuantization { text in
      fused.enumerated().reduce(text) { $0.replacing(".\($1.element)\"", with: ".other\($1.offset)\"") }
    }
    let other = try checkEngine(try variant.open(in: folder, "other"), for: .sglang)
    let speaks = other.findings.contains { $0.rule.name == "declared-scheme" }
    #expect(speaks == ["glm4_moe", "mixtral", "hy_v3"].contains(family))
    let vllm = try checkEngine(try variant.open(in: folder, "v"), for: .vllm)
    #expect(!vllm.findings.contains { $0.rule.name == "declared-scheme" })
  }

  /// FP8 in blocks, alone and beside NVFP4: scales that engines look for under another name.
  @Test func blocksHaveAnotherName() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let all = try writeDirectory(source, "fp8-block", to: folder.file("all"), layout: "modelopt")
    #expect(all.warnings.contains { $0.contains("FP8_PB_WO: SGLang") })
    let mixed = try writeDirectory(
      source, "fp8-block", to: folder.file("mixed"), layout: "modelopt", activations: nil,
      rules: Self.experts(NVFP4Scheme()))
    #expect(mixed.warnings.contains { $0.contains("FP8_PB_WO beside other formats") })
    func rules(_ path: String, _ engine: Engine) throws -> [String] {
      try checkEngine(try Model.open(folder.file(path)), for: engine).findings.map(\.rule.name)
    }
    #expect(try rules("all", .sglang).contains("modelopt-blocks"))
    #expect(try rules("all", .vllm).contains("modelopt-block-experts"))
    #expect(try rules("mixed", .sglang).contains("modelopt-blocks"))
    #expect(try !rules("mixed", .vllm).contains("modelopt-block-experts"))
    // Under the name that engines have, nothing is said.
    var variant = try Variant(path: folder.file("mixed"))
    for place in variant.tensors.indices
    where variant.tensors[place].name.hasSuffix("self_attn.q_proj.weight_scale") {
      variant.tensors[place].name += "_inv"
    }
    let cases =
      try checkEngine(try variant.open(in: folder, "renamed"), for: .sglang).findings
      .first { $0.rule.name == "modelopt-blocks" }?.cases ?? []
    #expect(!cases.isEmpty && !cases.contains { $0.subject.hasSuffix(".q_proj") })
  }

  /// Experts of a block that drafts tokens, in FP8 blocks beside NVFP4.
  @Test func draftsAreLookedAt() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("glm4_moe_lite")
    try writeDirectory(source, "fp8-block", to: folder.file("r"), layout: "modelopt")
    let model = try Model.open(folder.file("r"))
    #expect(model.family.weights.contains { $0.isDraft })
    let found = try checkEngine(model, for: .sglang).findings.first { $0.rule.name == "modelopt-blocks" }
    let drafts = Set(
      try model.storedWeights().filter { $0.spec.isDraft && $0.encoding is FP8 }.map(\.spec.name))
    #expect(!drafts.isEmpty)
    #expect(
      found?.cases.contains { $0.subject.hasPrefix("model.layers.\(model.family.dimensions.layers).") }
        == true)
  }
}
