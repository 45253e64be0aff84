// Names that no weight has: told apart from an incomplete upload, and left out only where nothing is lost unseen.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct OtherNameTests {
  private func refusal(_ body: () throws -> Model) throws -> FormatError {
    try #require(throws: FormatError.self) { _ = try body() }
  }

  @Test(arguments: [
    (
      "switch_mlp", "23 more of the 45", "experts.0.gate_proj.weight", "6 tensors", "switch_mlp.down_proj",
      "MLX"
    ),
    (
      "lm_prefix", "44 more of the 45", "model.embed_tokens.weight", "45 tensors", "language_model.lm_head",
      "'language_model.'"
    ),
  ])
  func bothListsAreNamed(
    name: String, _ absent: String, _ first: String, _ unknown: String, _ stranger: String, _ help: String
  ) throws {
    let error = try refusal { try Model.open(fixture("reports/\(name)")) }
    #expect(error.code == .otherNames && error.exitStatus == 3)
    for words in [absent, first, unknown, stranger] { #expect(error.problem.contains(words), "\(error)") }
    #expect(error.help?.contains(help) == true, "\(error)")
    #expect(error.description.split(separator: "\n").count == 3)
  }

  /// Experts with a tensor each, inside a wrapper whose published files have stacks.
  @Test func expertsMayStandAloneInsideAWrapper() throws {
    let model = try Model.open(fixture("reports/lm_prefix2"))
    #expect(model.family.modelType == "qwen3_vl_moe_text")
    let windows = someWindows(model, count: 1, context: 8)
    #expect(try allLogits(model, windows).allSatisfy(\.isFinite))
  }

  /// A model around a text model that no family runs is opened; what would run it says so.
  @Test func aModelAroundATextModelIsOpened() throws {
    var variant = try Variant("reports/lm_prefix2")
    try variant.setText("model_type", "nobody_text")
    variant.set("model_type", "nobody")
    let folder = TemporaryFolder()
    let model = try variant.open(in: folder)
    #expect(model.family.modelType == "nobody" && !model.family.hasForwardPass)
    #expect(model.noForwardPass?.contains("nobody") == true)
    let error = #expect(throws: RequestError.self) { try model.requireForwardPass() }
    #expect(error?.kind == .unsupported)
  }

  /// A tensor of the text model that its family does not know makes the wrapper an architecture without a pass: nothing of it is left
  /// out unseen. Towers are carried.
  @Test(arguments: [
    ("qwen3_5_moe", "model.language_model.layers.3.self_attn.q_proj.bias"),
    ("gemma4", "model.language_model.layers.0.foo.weight"),
    ("mistral4", "language_model.model.layers.0.mlp.gate.e_score_correction_bias"),
    ("minimax_m3_vl", "language_model.model.norm.bias"),
  ])
  func strangersInsideAWrapperAreNotPassedOver(name: String, stranger: String) throws {
    let folder = TemporaryFolder()
    for (tensor, runs) in [(stranger, false), ("model.visual.foo.weight", true)] {
      var variant = try Variant("models/\(name)")
      variant.tensors.append(
        Variant.Tensor(name: tensor, dtype: .f32, shape: [4], bytes: [UInt8](repeating: 0, count: 16)))
      let model = try variant.open(in: folder)
      #expect(model.family.hasForwardPass == runs)
      #expect(model.family.weights.contains { $0.spellings[0].tensor == tensor })
      if !runs { #expect(model.noForwardPass?.contains(stranger) == true) }
    }
  }

  /// A text model of which a tensor is missing names it: "no forward pass" alone would say nothing of the shard that is not there.
  @Test(arguments: [
    ("qwen3_5_moe", "model.language_model.norm.weight"), ("gemma4", "model.language_model.norm.weight"),
    ("minimax_m3_vl", "language_model.lm_head.weight"),
  ])
  func aMissingTensorInsideAWrapperIsNamed(name: String, missing: String) throws {
    var variant = try Variant("models/\(name)")
    let count = variant.tensors.count
    variant.tensors.removeAll { $0.name == missing }
    #expect(variant.tensors.count == count - 1)
    let model = try variant.open(in: TemporaryFolder())
    let reason = try #require(model.noForwardPass)
    #expect(reason.contains("'\(missing)'") && reason.contains("is missing"), "\(reason)")
  }

  @Test func weightsOfMLXAreNamed() throws {
    for keys in [["quantization"], ["quantization_config"], []] {
      var variant = try Variant("reports/mlx_q")
      for key in keys { variant.set(key, nil) }
      let folder = TemporaryFolder()
      let error = try #require(throws: RequestError.self) { _ = try variant.open(in: folder) }
      #expect(error.kind == .unsupported && error.problem.contains("MLX 4-bit affine, group 32"), "\(error)")
    }
  }

  /// Whatever stands before or within the names, and in every container.
  @Test(arguments: ["model.language_model.", "module.", "base_model.model."])
  func otherPrefixes(prefix: String) throws {
    var variant = try Variant("reports/base")
    variant.rename { prefix + $0 }
    let folder = TemporaryFolder()
    let error = try refusal { try variant.open(in: folder, shards: 2) }
    #expect(error.code == .otherNames && error.help?.contains("'\(prefix)'") == true, "\(error)")
  }

  @Test func anUploadThatLacksAShardIsIncomplete() throws {
    // Scales of absent codes are no strangers.
    for name in ["reports/mo_parent", "reports/ct_asym", "reports/gq_emptygidx", "reports/base"] {
      var variant = try Variant(name)
      let codes = [".weight", ".weight_packed", ".qweight"]
      variant.tensors.removeAll { tensor in
        tensor.name.contains(".1.down_proj.") && codes.contains(where: tensor.name.hasSuffix)
      }
      let folder = TemporaryFolder()
      let error = try refusal { try variant.open(in: folder) }
      #expect(error.code == .incomplete && error.exitStatus == 2, "\(name): \(error)")
    }
  }

  @Test func codesWithoutAConfigurationAreStrangers() throws {
    var variant = try Variant("reports/gq_emptygidx")
    variant.set("quantization_config", nil)
    let folder = TemporaryFolder()
    let error = try refusal { try variant.open(in: folder) }
    #expect(error.code == .otherNames && error.problem.contains(".qweight"), "\(error)")
  }

  // MARK: GGUF

  private func file() throws -> GGUFVariant {
    try GGUFVariant(path: fixture("reports/gf_fused_gate_up.gguf"))
  }

  /// The first Mixtral's form: a tensor for each expert.
  @Test func expertsOfAFileMayBeForThemselves() throws {
    var variant = try file()
    variant.tensors = variant.tensors.flatMap { tensor -> [GGUFVariant.Tensor] in
      guard tensor.name.contains("_exps.") else { return [tensor] }
      let parts = tensor.name.contains("gate_up") ? ["gate", "up"] : ["down"]
      let count = tensor.shape[0] * parts.count
      let size = tensor.bytes.count / count
      return (0..<count).map { index in
        let (expert, part) = (index / parts.count, parts[index % parts.count])
        return GGUFVariant.Tensor(
          name: tensor.name.prefix(6) + "ffn_\(part).\(expert).weight", type: tensor.type,
          shape: [tensor.shape[1] / parts.count, tensor.shape[2]],
          bytes: Array(tensor.bytes[index * size..<(index + 1) * size]))
      }
    }
    #expect(variant.tensors.contains { $0.name == "blk.1.ffn_gate.3.weight" })
    let folder = TemporaryFolder()
    let model = try variant.open(in: folder)
    #expect(try distance(model, "base.lg.safetensors") <= 2e-5)
    try expectEqual(model, try Model.open(fixture("reports/gf_fused_gate_up.gguf")))
  }

  @Test func strangersInAFileAreNamed() throws {
    var variant = try file()
    for index in variant.tensors.indices {
      variant.tensors[index].name = variant.tensors[index].name.replacing("_gate_up_exps", with: "_both_exps")
    }
    let folder = TemporaryFolder()
    let error = try refusal { try variant.open(in: folder) }
    #expect(error.code == .otherNames && error.exitStatus == 3)
    #expect(error.problem.contains("ffn_gate_exps") && error.problem.contains("blk.0.ffn_both_exps.weight"))
    variant.tensors.removeAll { $0.name.contains("_both_exps") }
    #expect(try refusal { try variant.open(in: folder) }.code == .incomplete)
    var odd = try file()
    let place = try #require(odd.tensors.firstIndex { $0.name.contains("gate_up") })
    odd.tensors[place].shape = [8, 32, 64]
    #expect(try refusal { try odd.open(in: folder) }.code == .configShape)
  }
}

@Suite struct GuardedNameTests {
  private static let guarded = [
    "model.layers.0.mlp.experts.0.up_proj.weight_scale", "model.layers.0.self_attn.q_proj.scales",
    "model.layers.0.self_attn.q_proj.weight_zero_point", "model.layers.0.self_attn.q_proj.qzeros",
    "model.layers.0.self_attn.q_proj.biases", "model.layers.0.self_attn.q_proj.bias",
    "model.layers.0.mlp.gate_up_proj_bias", "model.layers.0.self_attn.q_proj.g_idx",
    "model.layers.0.self_attn.sub_norm.weight", "model.layers.0.mlp.router.weight",
    "model.layers.0.extra.gate.weight", "model.layers.0.self_attn.sinks_b", "head.weight", "output.weight",
    "model.embed_tokens_2.weight", "model.layers.0.self_attn.q_proj.weight_scale_inv",
  ]

  /// What other quantizers and trainers call scales, zero points, heads and weights of layers, in any case.
  private static let others =
    [
      "Scale", "BIAS", "SCB", "scb", "offset", "zp", "shift", "smooth_factor", "weight_s", "codebook",
      "quant_state.bitsandbytes__nf4", "lora_A.weight",
    ].map { "model.layers.0.self_attn.q_proj." + $0 } + [
      "value_head.weight", "v_head.weight", "proj_out.weight", "model.lm_head2.weight",
      "model.layers.0.mlp.shared_expert_2.gate_proj.weight",
    ]

  private func variant(_ name: String) throws -> Variant {
    var variant = try Variant("reports/base")
    variant.tensors.append(Variant.Tensor(name: name, dtype: .f32, shape: [1], bytes: [0, 0, 0, 0]))
    return variant
  }

  @Test(arguments: guarded + others) func whatCarriesNumbersIsLeftOutByItsWholeNameOnly(name: String) throws {
    let folder = TemporaryFolder()
    let variant = try variant(name)
    let unknown = try #require(throws: FormatError.self) { _ = try variant.open(in: folder) }
    #expect(unknown.code == .unknownTensor && !unknown.description.contains("allow-drop"), "\(unknown)")
    for pattern in ["*", "*" + name.suffix(5), name.dropLast() + "?"] {
      let error = try #require(throws: RequestError.self) {
        _ = try variant.open(in: folder, allowDrop: [pattern])
      }
      #expect(error.kind == .usage && error.exitStatus == 64 && error.problem.contains(name), "\(error)")
    }
    let model = try variant.open(in: folder, allowDrop: ["*", name])
    #expect(try Plan(model, try options("keep")).ledger.last?.rule == "allow-drop \(name)")
  }

  @Test(arguments: [
    "visual.blocks.0.norm1.weight", "model.visual.merger.bias", "vision_tower.patch_embed.weight",
    "mtp.layers.0.input_layernorm.weight", "audio_tower.conv1.bias",
  ])
  func partsBesideTheModelMayBeLeftOutByAPattern(name: String) throws {
    let folder = TemporaryFolder()
    let variant = try variant(name)
    let error = try #require(throws: FormatError.self) { _ = try variant.open(in: folder) }
    let help = try #require(error.help)
    let pattern = try #require(help.split(separator: "'").first { $0.hasSuffix(".*") })
    #expect(help.contains("--allow-drop"))
    let model = try variant.open(in: folder, allowDrop: [String(pattern)])
    #expect(try Plan(model, try options("keep")).dropped == 1)
  }

  /// A tensor inside a layer of which nothing is known is not offered, though a pattern may leave it out.
  @Test func unknownMatricesAreNotOffered() throws {
    let folder = TemporaryFolder()
    let variant = try variant("model.layers.0.self_attn.r_proj.weight")
    let error = try #require(throws: FormatError.self) { _ = try variant.open(in: folder) }
    #expect(!error.description.contains("allow-drop"))
    #expect(try variant.open(in: folder, allowDrop: ["*.r_proj.*"]).warnings.isEmpty)
  }
}
