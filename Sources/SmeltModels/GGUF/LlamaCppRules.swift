// What llama.cpp does with a GGUF file, from its keys, and its tensors' names and dimensions alone: rules by architecture, each with the
// place in llama.cpp's source that it comes from (0c1e57098). Formats/gguf.md, section 10.

package import SmeltTensors

/// A GGUF file as llama.cpp's loader meets it.
package struct LlamaCppFile: Sendable {
  /// `general.architecture`.
  package let architecture: String
  /// All keys.
  let metadata: Metadata
  /// The dimensions of all tensors by name, the slowest first.
  let tensors: [String: Shape]

  /// A file, written or about to be.
  package init(_ metadata: Metadata, tensors: [String: Shape]) {
    self.metadata = metadata
    self.tensors = tensors
    if case .string(let name)? = metadata["general.architecture"] {
      architecture = name
    } else {
      architecture = ""
    }
  }

  /// A key of the architecture.
  func value(_ key: String) -> MetadataValue? { metadata["\(architecture).\(key)"] }

  /// A whole number, or the first of a list.
  func integer(_ key: String) -> Int? {
    switch value(key) {
    case .integer(let number)?: number
    case .integers(let list)?: list.first
    default: nil
    }
  }

  func integers(_ key: String) -> [Int] {
    switch value(key) {
    case .integer(let number)?: [number]
    case .integers(let list)?: list
    default: []
    }
  }

  func has(_ tensor: String) -> Bool { tensors[tensor] != nil }

  /// Layers of the pass; those that draft tokens stand behind them.
  var layers: Int {
    max(0, min((integer("block_count") ?? 0) - (integer("nextn_predict_layers") ?? 0), 1 << 16))
  }
}

/// What llama.cpp does with a file.
package struct LlamaCppFinding: Sendable, Hashable {
  /// How bad it is.
  package enum Effect: String, Sendable, CaseIterable {
    /// The loader refuses the file.
    case doesNotLoad = "does not load"
    /// The file loads, and the program stops when it makes or runs the graph.
    case stops = "stops"
  }

  /// What it comes from, and so what helps.
  package enum Cause: String, Sendable, CaseIterable {
    /// There is no tokenizer in the file.
    case tokenizer
    /// A key or a tensor is not there that a writer can put there.
    case contents
    /// The model has dimensions or parts that llama.cpp has no code for.
    case model
  }

  /// How bad it is.
  package let effect: Effect
  /// What it comes from.
  package let cause: Cause
  /// What is so in the file, and what llama.cpp wants.
  package let text: String
  /// The place in llama.cpp's source.
  package let source: String

  /// One line.
  package var sentence: String {
    (effect == .doesNotLoad
      ? "llama.cpp does not load this file: " : "llama.cpp stops when it runs this file: ")
      + "\(text) (\(source))"
  }
}

/// One rule: for some architectures, what is wrong with a file.
struct LlamaCppRule: Sendable {
  /// The architectures it is for; none: all.
  let architectures: [String]
  let effect: LlamaCppFinding.Effect
  let cause: LlamaCppFinding.Cause
  let source: String
  /// What is wrong; nil where nothing is.
  let problem: @Sendable (LlamaCppFile) -> String?

  init(
    _ architectures: [String], _ effect: LlamaCppFinding.Effect, _ source: String,
    cause: LlamaCppFinding.Cause = .model, _ problem: @escaping @Sendable (LlamaCppFile) -> String?
  ) {
    self.architectures = architectures
    self.effect = effect
    self.cause = cause
    self.source = source
    self.problem = problem
  }
}

/// llama.cpp, as far as files are concerned.
package enum LlamaCpp {
  /// The version that the rules were read from.
  package static let version = "0c1e57098"

  /// Whether an architecture's loader wants `output.weight` where the embeddings are the output head too.
  package static func needsHead(_ architecture: String) -> Bool { loader(architecture)?.head != nil }

  /// What llama.cpp refuses in a file, or stops at; empty where it loads and runs, as far as these rules tell, and for architectures
  /// without a row.
  package static func findings(_ file: LlamaCppFile) -> [LlamaCppFinding] {
    guard let loader = loader(file.architecture) else { return [] }
    return loader.findings(file)
      + rules.compactMap { rule in
        guard rule.architectures.isEmpty || rule.architectures.contains(file.architecture),
          let text = rule.problem(file)
        else { return nil }
        return LlamaCppFinding(effect: rule.effect, cause: rule.cause, text: text, source: rule.source)
      }
  }

  private static func loader(_ architecture: String) -> LlamaCppLoader? {
    LlamaCppLoader.all.first { $0.architectures.contains(architecture) }
  }

  private static let hybrids = ["qwen35", "qwen35moe", "qwen3next"]
  private static let leading = [
    "deepseek2", "mistral4", "deepseek32", "glm-dsa", "glm4moe", "minimax-m3",
  ]
  private static let allExperts = [
    "qwen2moe", "qwen3moe", "qwen3vlmoe", "olmoe", "gpt-oss", "minimax-m2", "qwen35moe", "qwen3next",
    "deepseek4",
  ]

  /// One row a rule.
  static let rules: [LlamaCppRule] = [
    LlamaCppRule([], .doesNotLoad, "src/llama-vocab.cpp:1944", cause: .tokenizer) { file in
      guard file.metadata["tokenizer.ggml.model"] == nil else { return nil }
      return "there is no tokenizer, and its loader wants 'tokenizer.ggml.model'"
    },
    LlamaCppRule(["deepseek4"], .doesNotLoad, "src/models/deepseek4.cpp:152") { file in
      let others = Set(file.integers("attention.compress_ratios")).subtracting([0, 4, 128]).sorted()
      guard let first = others.first else { return nil }
      return "keys are compressed by \(first), and it knows the ratios 0, 4 and 128"
    },
    LlamaCppRule(["deepseek4"], .doesNotLoad, "src/models/deepseek4.cpp:58") { file in
      let (found, wanted) = (
        file.integers("attention.compress_ratios").count, file.integer("block_count") ?? 0
      )
      return found < wanted ? "compress_ratios has \(found) numbers for \(wanted) blocks" : nil
    },
    LlamaCppRule(["deepseek4"], .doesNotLoad, "src/models/deepseek4.cpp:65") { file in
      let gating = file.integer("expert_gating_func")
      return gating == nil || gating == GGUFGating.sqrtSoftplus
        ? nil : "experts are not scored by the root of softplus"
    },
    LlamaCppRule(["deepseek4"], .stops, "src/models/deepseek4.cpp:366") { file in
      let streams = file.integer("hyper_connection.count") ?? 4
      return streams == 4 ? nil : "there are \(streams) residual streams, and it has code for 4"
    },
    LlamaCppRule(["deepseek32", "glm-dsa", "deepseek4"], .stops, "src/llama-kv-cache.cpp:1451") { file in
      guard let width = file.integer("attention.indexer.key_length"), width % 64 != 0 else { return nil }
      if file.architecture == "deepseek4", !file.integers("attention.compress_ratios").contains(4) {
        return nil
      }
      return "the indexer's heads have \(width) channels, and it rotates them by matrices of 64 × 64 at least"
    },
    LlamaCppRule(["deepseek2", "mistral4"], .doesNotLoad, "src/models/deepseek2.cpp:13") { file in
      let layers = file.layers
      let vocabulary = file.integer("vocab_size") ?? file.tensors["token_embd.weight"]?.rows
      if [26, 27].contains(layers) || layers == 48 && vocabulary == 128_256 { return nil }
      return file.value("attention.q_lora_rank") == nil ? "the key 'attention.q_lora_rank' is missing" : nil
    },
    LlamaCppRule(hybrids, .stops, "src/models/delta-net-base.cpp:33") { file in
      guard let inner = file.integer("ssm.inner_size"), let heads = file.integer("ssm.time_step_rank"),
        heads > 0,
        let keys = file.integer("ssm.state_size"), inner / heads != keys
      else { return nil }
      return "heads of values have \(inner / heads) channels and those of keys \(keys), and it wants as many"
    },
    LlamaCppRule([], .doesNotLoad, "src/llama-model.cpp:1369") { file in
      let (groups, kept) = (
        file.integer("expert_group_count") ?? 0, file.integer("expert_group_used_count") ?? 0
      )
      guard groups > 1, kept < 1 || kept >= groups || (file.integer("expert_count") ?? 0) % groups != 0 else {
        return nil
      }
      return "\(kept) of \(groups) groups of experts are kept, and it stops where none is left out"
    },
    LlamaCppRule(allExperts, .doesNotLoad, "src/models: 'ffn_gate_inp.weight' of each block") { file in
      (0..<file.layers).first { !file.has("blk.\($0).ffn_gate_inp.weight") }.map {
        "layer \($0) is dense, and it wants experts in all layers"
      }
    },
    LlamaCppRule(leading, .doesNotLoad, "src/models: 'leading_dense_block_count'") { file in
      let dense = file.integer("leading_dense_block_count") ?? 0
      guard file.integer("expert_count") ?? 0 > 0 else { return nil }
      return (0..<file.layers).first { ($0 < dense) == file.has("blk.\($0).ffn_gate_inp.weight") }.map {
        "layer \($0) is \($0 < dense ? "not dense" : "dense"), and it wants the \(dense) dense layers first"
      }
    },
    LlamaCppRule(["gpt-oss"], .doesNotLoad, "src/models/openai-moe.cpp:49") { file in
      file.has("blk.0.attn_output.weight") && !file.has("blk.0.attn_output.bias")
        ? "attention has no biases, and it wants them" : nil
    },
    LlamaCppRule(
      ["minimax-m2", "minimax-m3"], .doesNotLoad, "src/models/minimax-m2.cpp:30, 39 and minimax-m3.cpp:60, 73"
    ) { file in
      guard let layer = (0..<file.layers).first(where: { file.has("blk.\($0).ffn_gate_inp.weight") }) else {
        return nil
      }
      if !file.has("blk.\(layer).exp_probs_b.bias") { return "the router has no bias, and it wants one" }
      return file.has("blk.\(layer).attn_q_norm.weight")
        ? nil : "queries and keys have no norms, and it wants them"
    },
    LlamaCppRule(["minimax-m3"], .doesNotLoad, "src/models/minimax-m3.cpp:85") { file in
      let dense = file.integer("leading_dense_block_count") ?? 0
      return (0..<file.layers).first { ($0 >= dense) != file.has("blk.\($0).indexer.q_proj.weight") }.map {
        "layer \($0) has \($0 < dense ? "an" : "no") indexer, and it wants one in the layers with experts alone"
      }
    },
    LlamaCppRule(["hy_v3"], .stops, "src/models/hy-v3.cpp:193") { file in
      guard let layer = (0..<file.layers).first(where: { file.has("blk.\($0).ffn_gate_inp.weight") }),
        !file.has("blk.\(layer).ffn_gate_shexp.weight")
      else { return nil }
      return "there is no shared expert, and it wants one"
    },
    LlamaCppRule(["minimax-m3"], .doesNotLoad, "src/models/minimax-m3.cpp: 'ffn_gate_shexp.weight'") { file in
      let width =
        (file.integer("expert_feed_forward_length") ?? 0) * (file.integer("expert_shared_count") ?? 0)
      let odd = (0..<file.layers).first { layer in
        file.tensors["blk.\(layer).ffn_gate_shexp.weight"].map { $0.rows != width } ?? false
      }
      return odd.map { "the shared expert of layer \($0) is not as wide as some routed experts together" }
    },
    LlamaCppRule(["nemotron_h", "nemotron_h_moe"], .stops, "src/models/mamba-base.cpp:235") { file in
      (0..<file.layers).first {
        file.has("blk.\($0).ssm_conv1d.weight") && !file.has("blk.\($0).ssm_conv1d.bias")
      }
      .map { "the convolution of layer \($0) has no bias, and it wants one" }
    },
  ]
}

extension LlamaCppLoader {
  /// What is missing, and what it would not take.
  func findings(_ file: LlamaCppFile) -> [LlamaCppFinding] {
    var found: [LlamaCppFinding] = []
    func refuse(_ text: String, _ source: String, _ cause: LlamaCppFinding.Cause = .contents) {
      found.append(LlamaCppFinding(effect: .doesNotLoad, cause: cause, text: text, source: source))
    }
    for key in LlamaCppLoader.commonKeys where file.value(key) == nil {
      refuse("the key '\(file.architecture).\(key)' is missing", "src/llama-model.cpp:1321")
    }
    for key in keys where file.value(key) == nil {
      refuse("the key '\(file.architecture).\(key)' is missing", source)
    }
    if let head, !file.has("output.weight") {
      refuse("embeddings are the output head, and it wants 'output.weight'", head)
    }
    for name in ["token_embd.weight", "output_norm.weight"] where !file.has(name) {
      refuse("the tensor '\(name)' is missing", source)
    }
    let unknown = file.tensors.keys.filter { !takes($0) }.sorted()
    if let first = unknown.first {
      let more = unknown.count > 1 ? " and \(unknown.count - 1) more" : ""
      refuse("nothing asks for the tensor '\(first)'\(more)", "src/llama-model-loader.cpp:1398", .model)
    }
    return found
  }

  /// The keys of every architecture.
  static let commonKeys = ["context_length", "embedding_length", "block_count"]

  /// Whether a tensor of this name may be in the file. Scales beside quantized tensors are taken in every architecture
  /// (src/llama-model.cpp, `load_tensors`).
  func takes(_ name: String) -> Bool {
    if name.hasSuffix(".scale") || name.hasSuffix(".input_scale") { return true }
    if ["token_embd.weight", "output_norm.weight", "output.weight"].contains(name) || whole.contains(name) {
      return true
    }
    let parts = name.split(separator: ".", maxSplits: 2)
    guard parts.count == 3, parts[0] == "blk", Int(parts[1]) != nil else { return false }
    return block.contains(String(parts[2]))
  }
}
