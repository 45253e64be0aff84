// Names that engines ask by where they are not the files' own.

import SmeltModels

/// Tables of names, by engine.
enum EngineNames {
  /// Prefixes that an engine gives other names: of modules, of targets and of ignored modules; expressions stay as they are.
  struct Prefix: Sendable {
    let engine: Engine
    /// Classes of models.
    let architectures: Set<String>
    let from: String
    let to: String
    let source: String
  }

  static let prefixes: [Prefix] = [
    Prefix(
      engine: .vllm,
      architectures: [
        "Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
      ], from: "model.language_model.", to: "language_model.model.",
      source: "vLLM 0.33.0, model_executor/models/qwen3_vl.py"),
    Prefix(
      engine: .vllm, architectures: ["Gemma4ForConditionalGeneration"], from: "model.language_model.",
      to: "language_model.model.", source: "vLLM 0.33.0, model_executor/models/gemma4_mm.py"),
    Prefix(
      engine: .vllm, architectures: ["Mistral3ForConditionalGeneration"], from: "model.language_model.",
      to: "language_model.model.", source: "vLLM 0.33.0, model_executor/models/mistral3.py"),
    Prefix(
      engine: .sglang,
      architectures: ["Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration"],
      from: "model.language_model.", to: "language_model.model.",
      source: "SGLang 0.5.23, srt/models/qwen3_vl.py"),
  ]

  static func renames(_ engine: Engine, _ architectures: [String]) -> [(from: String, to: String)] {
    prefixes.filter { $0.engine == engine && !$0.architectures.isDisjoint(with: architectures) }
      .map { ($0.from, $0.to) }
  }

  static func renamed(_ name: String, _ renames: [(from: String, to: String)]) -> String {
    for (from, to) in renames where name.hasPrefix(from) { return to + name.dropFirst(from.count) }
    return name
  }

  /// The names by which engines ask for an expert's matrices, where they are not `gate_proj`, `up_proj` and `down_proj`.
  struct Probe: Sendable {
    let engine: Engine
    let types: Set<String>
    let names: [String]
    let source: String
  }

  static let probes: [Probe] = [
    Probe(
      engine: .vllm, types: ["mixtral"], names: ["w1", "w3", "w2"],
      source: "vLLM 0.33.0, model_executor/models/mixtral.py"),
    Probe(
      engine: .vllm, types: ["minimax_m2"], names: ["w1", "w3", "w2"],
      source: "vLLM 0.33.0, model_executor/models/minimax_m2.py"),
    Probe(
      engine: .vllm, types: ["deepseek_v4"], names: ["w1", "w3", "w2"],
      source: "vLLM 0.33.0, models/deepseek_v4/nvidia/model.py"),
    Probe(
      engine: .vllm, types: ["nemotron_h"], names: ["up_proj", "down_proj"],
      source: "vLLM 0.33.0, model_executor/models/nemotron_h.py"),
  ]

  static func probes(_ engine: Engine, _ types: Set<String>) -> [String] {
    probes.first { $0.engine == engine && !$0.types.isDisjoint(with: types) }?.names
      ?? ["gate_proj", "up_proj", "down_proj"]
  }

  /// Fused matrices of which an engine does not know the parts when it looks up their scheme, because the model's class lists none: it asks
  /// by the fused name alone, which no list of parts holds.
  struct Unlisted: Sendable {
    let engine: Engine
    let types: Set<String>
    let matrices: Set<String>
    let source: String
  }

  static let unlisted: [Unlisted] = [
    Unlisted(
      engine: .vllm, types: ["qwen2_moe", "qwen3_moe", "qwen3_vl_moe", "qwen3_omni_moe"],
      matrices: ["gate_up_proj"],
      source:
        "vLLM 0.33.0, packed_modules_mapping of model_executor/models/qwen2_moe.py, qwen3_moe.py, "
        + "qwen3_vl_moe.py"
    ),
    Unlisted(
      engine: .sglang,
      types: [
        "llama", "mistral", "qwen2", "qwen2_moe", "qwen3", "mixtral", "olmoe", "gpt_oss", "glm4_moe", "hy_v3",
      ], matrices: ["qkv_proj", "gate_up_proj"],
      source: "SGLang 0.5.23, srt/models/*.py: no packed_modules_mapping"),
    Unlisted(
      engine: .sglang,
      types: ["deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe_lite", "glm_moe_dsa"],
      matrices: ["gate_up_proj"], source: "SGLang 0.5.23, srt/models/deepseek_v2.py: packed_modules_mapping"),
  ]

  /// Families whose routers an engine looks up like any linear module, rather than keep them plain.
  /// Source: vLLM 0.33.0, model_executor/models/qwen3_moe.py: GateLinear(…, quant_config=quant_config).
  static let lookedUpRouters: [Engine: Set<String>] = [
    .vllm: ["qwen3_moe", "qwen3_vl_moe", "qwen3_omni_moe"]
  ]

  static func looksUpRouters(_ engine: Engine, _ types: Set<String>) -> Bool {
    !types.isDisjoint(with: lookedUpRouters[engine] ?? [])
  }

  /// The engine's name for the fused module of a part.
  static func fused(_ group: FusionGroup, part: String, _ engine: Engine) -> String {
    let names = group.engineNames(ofPart: part.split(separator: ".").last ?? "")
    return (engine == .sglang ? names.last : names.first) ?? group.module
  }

  /// Whether an engine makes one module of the parts of this matrix.
  static func fuses(_ matrix: String, _ engine: Engine) -> Bool {
    guard engine == .vllm || engine == .sglang else { return false }
    let name = matrix.split(separator: ".").last.map(String.init) ?? matrix
    return name != "wk_weights_proj" && name != "fused_wkv_wgate"
  }

  /// Whether an engine looks at the channels of each part of the matrix; SGLang has the latents of MLA as one.
  /// Source: SGLang 0.5.23, srt/models/deepseek_v2.py: fused_qkv_a_proj_with_mqa is a ReplicatedLinear.
  static func cutsParts(_ matrix: String, _ engine: Engine) -> Bool {
    fuses(matrix, engine)
      && !(engine == .sglang
        && (matrix.hasSuffix(".fused_qkv_a_proj_with_mqa") || matrix.hasSuffix(".wqkv_a")))
  }

  /// Whether the engine knows the parts of the matrix when it looks up their scheme.
  static func lists(_ matrix: String, _ engine: Engine, _ types: Set<String>) -> Bool {
    let name = matrix.split(separator: ".").last.map(String.init) ?? matrix
    return !unlisted.contains {
      $0.engine == engine && !$0.types.isDisjoint(with: types) && $0.matrices.contains(name)
    }
  }
}
