// Engines that load results, and what a rule about one of them is: a row of a table, with its source. Formats/engines.md.

import SmeltModels
import SmeltStorage

/// A program that loads results.
package enum Engine: String, Sendable, CaseIterable {
  case vllm, sglang, transformers
  case llamaCpp = "llama.cpp"
  case ollama, mlx

  /// How its makers spell it.
  package var title: String {
    switch self {
    case .vllm: "vLLM"
    case .sglang: "SGLang"
    case .transformers: "transformers"
    case .llamaCpp: "llama.cpp"
    case .ollama: "Ollama"
    case .mlx: "mlx-lm"
    }
  }

  /// The version whose sources the rules were read from.
  package var readVersion: String {
    switch self {
    case .vllm: "0.33.0"
    case .sglang: "0.5.23"
    case .transformers: "5.24.0"
    case .llamaCpp: "0c1e57098"
    case .ollama: "fb30760"
    case .mlx: "0.32.2"
    }
  }

  /// The engine of a name.
  /// - Throws: `RequestError` usage, with the nearest name.
  package static func named(_ text: String) throws -> Engine {
    let wanted = text.lowercased()
    let synonyms = ["llamacpp": "llama.cpp", "llama-cpp": "llama.cpp", "mlx-lm": "mlx", "hf": "transformers"]
    if let engine = Engine(rawValue: synonyms[wanted] ?? wanted) { return engine }
    throw unknownName(text, kind: "engine", among: allCases.map(\.rawValue))
  }

  /// Whether rules ask how matrices are cut for several devices.
  package var cutsMatrices: Bool { self == .vllm || self == .sglang }

  /// A version as users write it: numbers with dots, an addition after them; of llama.cpp also a build
  /// (`b10488`), and of it and Ollama a
  /// commit.
  /// - Throws: `RequestError` usage if the text is not a version.
  package func version(_ text: String) throws -> String {
    let isNumbers = text.wholeMatch(of: #/v?[0-9]+(\.[0-9]+)*([-.+]?[A-Za-z][A-Za-z0-9.+-]*)?/#) != nil
    let isBuild = self == .llamaCpp && text.wholeMatch(of: #/b?[0-9]+/#) != nil
    let isCommit =
      (self == .llamaCpp || self == .ollama) && text.wholeMatch(of: #/[0-9a-f]{7,40}/#) != nil
    guard isNumbers || isBuild || isCommit else {
      throw RequestError(
        .usage, "--engine-version '\(excerpt(text))' is no version of \(title)",
        help: "for example \(readVersion), the one that the rules were read from")
    }
    return text
  }

  /// The engines whose arithmetic `verify --as` can follow: those that fuse matrices or round activations.
  package static let simulated: [Engine] = [.vllm, .sglang]
}

/// What an engine makes of a model.
package enum EngineOutcome: String, Sendable, CaseIterable, Comparable {
  /// It computes what was proved; something is worth knowing.
  case notes
  /// It loads the model and computes something else.
  case differs
  /// It does not load the model.
  case refuses

  package static func < (a: EngineOutcome, b: EngineOutcome) -> Bool { a.rank < b.rank }
  private var rank: Int { EngineOutcome.allCases.firstIndex(of: self) ?? 0 }
}

/// Which weights a rule is about.
enum EngineScope: String, Sendable {
  /// Those of routed experts, which engines keep as one module a layer.
  case experts
  /// All other matrices of layers.
  case linear
  /// Both.
  case all

  func holds(_ weight: EngineWeight) -> Bool {
    switch self {
    case .experts: weight.isExpert
    case .linear: !weight.isExpert
    case .all: true
    }
  }
}

/// Which number a fused matrix keeps of those that its parts have: the global scale of NVFP4 as it is stored, the scale of FP8
/// by tensor.
enum FusedNumber: String, Sendable {
  /// The largest.
  case largest
  /// The first part's.
  case first
  /// The largest, to which all parts are rounded again.
  case rounded
}

/// A condition under which a rule speaks. Whoever needs a new kind adds a case and its evaluation.
enum EngineCondition: Sendable {
  /// The model is not in one of these containers.
  case container([String])
  /// The engine has no implementation of the architecture.
  case architecture
  /// The engine has no implementation of its own and runs transformers'.
  case borrowed
  /// The quantization method is not one of these.
  case method([String])
  /// The configuration's format is not one of these, and the rule's scope has weights.
  case format([String], EngineScope)
  /// There is no config.json.
  case configuration
  /// What one module is made of has several schemes: an expert layer's matrices, or the parts of a fused one.
  case parts(EngineScope)
  /// All weights of the scope have one scheme, or only the first is found.
  case oneScheme(EngineScope)
  /// Parts of a fused matrix have different numbers where it keeps one.
  case number(EngineScope, FusedNumber)
  /// What the configuration says of a module, under the names that the engine asks by, is not how it is stored.
  case declared
  /// Weights that the engine keeps plain are quantized.
  case plainRoles
  /// A shard's input channels are not whole groups or blocks of scales, of matrices cut along them.
  case shardColumns(EngineScope)
  /// A shard's output channels, or a fused part's, are not whole blocks.
  case shardRows(EngineScope, exceptLast: Bool)
  /// Groups have none of these lengths; -1 stands for whole rows.
  case groups(EngineScope, [Int])
  /// Integers whose activations are rounded to FP8 have groups of none of these lengths, or a matrix's
  /// channels are no multiple.
  /// nil: not asked.
  case groupsWithFP8(EngineScope, [Int]?, multiple: Int?)
  /// Activations are declared in none of these ways, in the words of `EngineInputs.word`.
  case activations(EngineScope, [String])
  /// There are weights of the kinds at all; a layer's experts are one case.
  case stored(EngineScope)
  /// Scales of blocks have another name than this: of drafts too; a layer's experts are one case.
  case scalesNamed(EngineScope, String)
  /// Scales have zero points.
  case zeroPoints(EngineScope)
  /// Columns are in the order of a table of groups.
  case indexed
  /// The declared key-value cache is not FP8 with one of these strategies.
  case cache([String])
  /// Weights of blocks that draft tokens are quantized.
  case drafts
  /// The same as `declared` of weights of blocks that draft tokens.
  case declaredDrafts
  /// Experts are stacked in one tensor beside a quantization of single ones.
  case stacked
  /// The experts' input channels are no multiple.
  case expertInputs(Int)
  /// A shard of the experts' hidden channels is no multiple.
  case expertHidden(Int)
  /// Scales of packed integers have another type than the model's numbers.
  case scaleType
  /// The number of attention heads, or of a matrix's channels, is no multiple of the number of shards.
  case shards
  /// DeepSeek-V4 without the key that says that its experts are not FP4.
  case expertType
  /// Tensors have types that are none of these.
  case types([String])
  /// Tensors of a GGUF file have types that are none of these.
  case fileTypes([String])
  /// What llama.cpp asks of a file of its own, for one of the causes.
  case file([LlamaCppFinding.Cause])
  /// What llama.cpp computes otherwise than the model asks.
  case computes
}

extension EngineCondition {
  /// Whether it is about what a GGUF file has too: no configuration declares its modules' schemes, tensors
  /// have their own types.
  var concernsFiles: Bool {
    switch self {
    case .container, .architecture, .borrowed, .types, .fileTypes, .file, .computes: true
    default: false
    }
  }

  /// Whether cases say by themselves what the engine does.
  var speaksByCase: Bool {
    switch self {
    case .file, .computes: true
    default: false
    }
  }
}

/// One row of the table.
package struct EngineRule: Sendable {
  /// Its stable name.
  package let name: String
  /// The engine.
  package let engine: Engine
  /// What follows where the condition holds.
  package let outcome: EngineOutcome
  /// What the engine does, as a sentence without its subject.
  package let says: String
  /// Kinds of stored weights it is about; empty: all.
  let kinds: [EngineKind]
  /// Methods of quantization it is about; empty: all.
  let methods: [String]
  /// `model_type`s it is about; empty: all.
  let families: [String]
  /// When it speaks.
  let condition: EngineCondition
  /// File and version of the engine's source that says so.
  package let source: String
  /// What to do.
  package let help: String?

  init(
    _ name: String, _ engine: Engine, _ outcome: EngineOutcome, _ says: String, _ condition: EngineCondition,
    kinds: [EngineKind] = [], methods: [String] = [], families: [String] = [], source: String,
    help: String? = nil
  ) {
    (self.name, self.engine, self.outcome, self.says) = (name, engine, outcome, says)
    (self.condition, self.kinds, self.methods, self.families) = (condition, kinds, methods, families)
    (self.source, self.help) = (source, help)
  }
}

/// What a rule found.
package struct EngineFinding: Sendable {
  /// The rule.
  package let rule: EngineRule
  /// Where it speaks: tensors, modules or keys, and what was found there.
  package let cases: [EngineCase]

  /// For machines; of many cases the first.
  var json: JSON {
    [
      "rule": JSON(rule.name), "outcome": JSON(rule.outcome.rawValue), "says": JSON(rule.says),
      "source": JSON(rule.source), "help": rule.help.map { JSON($0) } ?? JSON(.null),
      "count": JSON(cases.count),
      "cases": JSON(
        cases.prefix(EngineFinding.most).map {
          ["subject": JSON($0.subject), "found": JSON($0.found)]
        }),
    ]
  }

  /// Cases that are listed.
  static let most = 100
}

/// One place where a rule speaks.
package struct EngineCase: Sendable, Equatable {
  /// The tensor, module or key.
  package var subject: String
  /// What was found there.
  package var found: String
}
