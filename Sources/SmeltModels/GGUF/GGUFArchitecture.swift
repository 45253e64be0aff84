// What llama.cpp calls an architecture, and how its keys and tensors say what config.json and a family's weights table say.
// A new one is an enum in this folder and a line in `GGUFArchitectures.all`. Formats/gguf.md, sections 5 and 6.

package import SmeltStorage
package import SmeltTensors

/// One value of `general.architecture`. Sources: llama.cpp's `llama-arch.cpp`, its `src/models`, and what its conversion
/// writes for each family.
package protocol GGUFArchitecture: Sendable {
  /// The value of `general.architecture`, which is also the prefix of the architecture's keys.
  static var name: String { get }
  /// The families' `model_type` values it stands for.
  static var modelTypes: [String] { get }

  /// Whether it stands for a family: several architectures may share a `model_type`.
  static func stands(for family: any ModelFamily) -> Bool

  /// The members of a config.json that the family reads to the same numbers.
  /// - Throws: `CFG_VALUE` for missing or impossible keys; `RequestError` unsupported for variants without a family.
  static func config(_ model: GGUFModel) throws -> [(String, JSON)]

  /// The architecture's keys for a model of the family.
  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)]

  /// Where the file keeps a weight.
  static func place(of spec: WeightSpec, in family: any ModelFamily) -> GGUFPlace

  /// Whether a scale beside a weight's tensor is a part of the weight.
  static func takesScale(_ spec: WeightSpec) -> Bool

  /// Whether llama.cpp keeps a matrix in F32 whatever the others become.
  static func keepsFloats(_ spec: WeightSpec) -> Bool

  /// Whether llama.cpp's loader reads blocks that draft tokens, `blk.N.nextn.…` and a layer's tensors behind the last layer.
  static func readsDrafts(of family: any ModelFamily) -> Bool

  /// The tensors in which the architecture's files may keep factors of the rotation's frequencies.
  static var factorTensors: [String] { get }

  /// The factors that a file of the model has, beside its weights.
  static func factors(of family: any ModelFamily) -> [GGUFFactors]

  /// What llama.cpp would compute otherwise than this model asks, in sentences for a warning.
  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String]
}

extension GGUFArchitecture {
  /// Canonical names are GGUF's: experts of a layer are stacked, all else is a tensor of its own.
  static func usualPlace(of spec: WeightSpec, in family: any ModelFamily) -> GGUFPlace {
    guard let expert = spec.name.expert else { return .whole(spec.name.base) }
    return .stacked(spec.name.base, index: expert, count: family.dimensions.experts)
  }

  /// All families of its types.
  package static func stands(for family: any ModelFamily) -> Bool { modelTypes.contains(family.modelType) }

  /// As canonical names have it, unless an architecture says otherwise.
  package static func place(of spec: WeightSpec, in family: any ModelFamily) -> GGUFPlace {
    usualPlace(of: spec, in: family)
  }

  /// It is.
  package static func takesScale(_ spec: WeightSpec) -> Bool { true }

  /// It does not.
  package static func keepsFloats(_ spec: WeightSpec) -> Bool { false }

  /// It does not.
  package static func readsDrafts(of family: any ModelFamily) -> Bool { false }

  /// None.
  package static var factorTensors: [String] { [] }

  /// None.
  package static func factors(of family: any ModelFamily) -> [GGUFFactors] { [] }

  /// A key of the architecture.
  static func key(_ name: String) -> String { "\(Self.name).\(name)" }

  /// A config.json of the family, read from a file's metadata.
  /// - Throws: what `config(_:)` throws.
  package static func config(of model: GGUFModel) throws -> JSON {
    JSON(members: try config(model))
  }
}

/// Places of weights whose norm after attention llama.cpp names `post_attention_norm`.
func postAttentionPlace(_ place: GGUFPlace) -> GGUFPlace {
  guard case .whole(let name) = place, name.hasSuffix(".ffn_norm.weight") else { return place }
  return .whole(name.dropLast("ffn_norm.weight".count) + "post_attention_norm.weight")
}

/// A GGUF model as an architecture sees it: keys, and which tensors there are.
package struct GGUFModel {
  /// The keys.
  package let metadata: Metadata
  /// The architecture's name, the prefix of its keys.
  package let architecture: String
  /// The dimensions of a tensor, or nil when the file has none of the name.
  private let shapes: (String) -> Shape?
  /// The numbers of a small tensor, or nil when the file has none of the name.
  let numbers: (String) throws -> [Float]?

  /// A model.
  /// - Parameters:
  ///   - numbers: the numbers of a tensor of factors, or nil.
  ///   - shapes: the dimensions of a tensor, or nil.
  package init(
    _ metadata: Metadata, architecture: String, numbers: @escaping (String) throws -> [Float]? = { _ in nil },
    shapes: @escaping (String) -> Shape?
  ) {
    self.metadata = metadata
    self.architecture = architecture
    self.numbers = numbers
    self.shapes = shapes
  }

  func key(_ name: String) -> String { "\(architecture).\(name)" }

  func has(_ tensor: String) -> Bool { shapes(tensor) != nil }

  /// Tokens of the vocabulary, 0 without embeddings.
  var vocabulary: Int { shapes("token_embd.weight")?.rows ?? 0 }
  /// The dimensions of a tensor, or nil when the file has none of the name.
  func tensorShape(_ tensor: String) -> Shape? { shapes(tensor) }

  /// Whether the file has the key.
  func hasKey(_ name: String) -> Bool { metadata[key(name)] != nil }

  /// A whole number of at least 0. Absent: the default, or a refusal without one.
  func integer(_ name: String, default fallback: Int? = nil) throws(FormatError) -> Int {
    let key = key(name)
    // Some keys may hold one number a layer; only lists of one and the same number are known to our families.
    if case .integers(let list)? = metadata[key] {
      guard let first = list.first, list.allSatisfy({ $0 == first }), first >= 0 else {
        throw metadata.error(key, "holds different numbers for different layers, expected one for all")
      }
      return first
    }
    guard let value = try metadata.integer(key) else {
      guard let fallback else { throw metadata.error(key, "is missing, expected a whole number") }
      return fallback
    }
    guard value >= 0 else { throw metadata.error(key, "found \(value), expected at least 0") }
    return value
  }

  /// A whole number of at least 0 for each layer, from a list or from one number for all.
  /// - Parameter count: the layers, those that draft tokens included.
  func integers(_ name: String, count: Int) throws(FormatError) -> [Int] {
    let key = key(name)
    guard case .integers(let list)? = metadata[key] else {
      return [Int](repeating: try integer(name), count: count)
    }
    guard list.count == count, list.allSatisfy({ $0 >= 0 }) else {
      throw metadata.error(
        key, "holds \(list.count) numbers, expected one of at least 0 for each of \(count) layers")
    }
    return list
  }

  /// A finite number, or nil when the key is absent.
  func number(_ name: String) throws(FormatError) -> Double? {
    guard let value = try metadata.number(key(name)) else { return nil }
    guard value.isFinite else { throw metadata.error(key(name), "found \(value), expected a finite number") }
    return value
  }

  /// A finite number. Absent: the default, or a refusal without one.
  func number(_ name: String, default fallback: Double? = nil) throws(FormatError) -> Double {
    guard let value = try number(name) ?? fallback else {
      throw metadata.error(key(name), "is missing, expected a number")
    }
    return value
  }

  func bool(_ name: String, default fallback: Bool) throws(FormatError) -> Bool {
    try metadata.bool(key(name)) ?? fallback
  }

  /// Layers that take part in the pass; layers that draft tokens stand behind them.
  func layers() throws(FormatError) -> Int {
    let (all, drafts) = (try integer("block_count"), try integer("nextn_predict_layers", default: 0))
    // Lists with an entry a layer are made from this number.
    guard all <= Bounds.layers else {
      throw metadata.error(
        key("block_count"), "found \(all), expected a whole number from 1 to \(Bounds.layers)")
    }
    guard drafts < all else {
      throw metadata.error(
        key("nextn_predict_layers"), "found \(drafts), expected fewer than the \(all) layers")
    }
    return all - drafts
  }

  /// The members that all families read alike.
  func commonConfig(_ modelType: String) throws -> [(String, JSON)] {
    var members: [(String, JSON)] = [("model_type", JSON(modelType))]
    func add(_ key: String, _ value: JSON) { members.append((key, value)) }
    add("vocab_size", JSON(vocabulary))
    add("hidden_size", JSON(try integer("embedding_length")))
    add("num_hidden_layers", JSON(try layers()))
    if hasKey("nextn_predict_layers") {
      add("num_nextn_predict_layers", JSON(try integer("nextn_predict_layers")))
    }
    add("num_attention_heads", JSON(try integer("attention.head_count")))
    if hasKey("context_length") { add("max_position_embeddings", JSON(try integer("context_length"))) }
    add("rms_norm_eps", JSON(try number("attention.layer_norm_rms_epsilon")))
    add("rope_theta", JSON(try number("rope.freq_base", default: 10000)))
    add("tie_word_embeddings", JSON(!has("output.weight")))
    add("hidden_act", "silu")
    add("torch_dtype", "bfloat16")
    for (name, token) in [("bos_token_id", "bos"), ("eos_token_id", "eos")] {
      if let id = try metadata.integer("tokenizer.ggml.\(token)_token_id") { add(name, JSON(id)) }
    }
    return members
  }

  /// The stretching of the rotation as `rope_scaling`, or nil for none.
  /// - Parameter more: members beside those that keys tell.
  func ropeScaling(_ more: [(String, JSON)] = []) throws -> JSON? {
    guard let type = try metadata.string(key("rope.scaling.type")), type != "none" else { return nil }
    var members: [(String, JSON)] = [("type", JSON(type))]
    let names = [
      ("factor", "factor"), ("original_max_position_embeddings", "original_context_length"),
      ("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow"),
      ("attention_factor", "yarn_attn_factor"),
    ]
    for (member, name) in names {
      if let value = try number("rope.scaling.\(name)") { members.append((member, JSON(value))) }
    }
    return JSON(members: members + more)
  }
}

/// The keys that llama.cpp's conversion writes for all families, in its order.
struct GGUFKeys {
  private let architecture: any GGUFArchitecture.Type
  private let prefix: String
  private(set) var entries: [(String, MetadataValue)] = []

  init(_ architecture: any GGUFArchitecture.Type) {
    self.architecture = architecture
    prefix = architecture.name + "."
  }

  mutating func add(_ name: String, _ value: Int) { entries.append((prefix + name, .integer(value))) }
  mutating func add(_ name: String, _ value: Double) { entries.append((prefix + name, .number(value))) }
  mutating func add(_ name: String, _ value: Bool) { entries.append((prefix + name, .bool(value))) }
  mutating func add(_ name: String, _ value: String) { entries.append((prefix + name, .string(value))) }
  mutating func add(_ name: String, _ value: [Int]) { entries.append((prefix + name, .integers(value))) }
  mutating func add(_ name: String, _ value: [Bool]) { entries.append((prefix + name, .bools(value))) }
  mutating func add(_ name: String, _ value: [Double]) { entries.append((prefix + name, .numbers(value))) }

  /// Sizes, rotation and experts.
  mutating func common(
    _ family: any ModelFamily, _ config: ConfigReader, heads: Int, keyHeads: Int, feedForward: Int?,
    rope: (theta: Double, yarn: YarnScaling?), headWidth: Int?
  ) throws {
    let dimensions = family.dimensions
    let drafts = architecture.readsDrafts(of: family) ? try config.declaredDrafts() : 0
    add("block_count", dimensions.layers + drafts)
    if drafts > 0 { add("nextn_predict_layers", drafts) }
    try context(family, config)
    add("embedding_length", dimensions.hidden)
    if let feedForward { add("feed_forward_length", feedForward) }
    add("attention.head_count", heads)
    add("attention.head_count_kv", keyHeads)
    if let yarn = rope.yarn {
      add("rope.scaling.type", "yarn")
      add("rope.scaling.factor", yarn.factor)
      add("rope.scaling.original_context_length", Int(yarn.originalPositions))
      add("rope.scaling.yarn_beta_fast", yarn.betaFast)
      add("rope.scaling.yarn_beta_slow", yarn.betaSlow)
    }
    add("rope.freq_base", rope.theta)
    add("attention.layer_norm_rms_epsilon", try config.number("rms_norm_eps", in: 0...1))
    if dimensions.experts > 0 {
      add("expert_count", dimensions.experts)
      add("expert_used_count", dimensions.expertsPerToken)
    }
    if let headWidth {
      add("attention.key_length", headWidth)
      add("attention.value_length", headWidth)
    }
  }
}

extension GGUFKeys {
  /// The longest sequence, without which llama.cpp loads nothing; where config.json leaves it out, transformers' default.
  mutating func context(_ family: any ModelFamily, _ config: ConfigReader) throws {
    let usual = GGUFKeys.usualContext[family.core.modelType] ?? 2048
    add("context_length", try config.integer("max_position_embeddings", in: 1...1 << 31, default: usual))
  }

  /// `max_position_embeddings` where config.json does not say it. Source: the configurations of transformers 5.24.
  private static let usualContext = [
    "deepseek_v2": 2048, "deepseek_v3": 4096, "deepseek_v32": 163_840, "deepseek_v4": 1 << 20,
    "glm4_moe": 131_072,
    "glm4_moe_lite": 202_752, "glm_moe_dsa": 202_752, "gpt_oss": 131_072, "hy_v3": 131_072, "llama": 2048,
    "minimax_m2": 196_608, "minimax_m3_vl_text": 524_288, "mistral": 131_072, "mistral4": 1 << 20,
    "mixtral": 131_072, "nemotron_h": 4096, "olmoe": 4096, "qwen2": 32768, "qwen2_moe": 32768, "qwen3": 32768,
    "qwen3_5_text": 32768, "qwen3_5_moe_text": 32768, "qwen3_moe": 32768, "qwen3_next": 32768,
    "qwen3_vl_moe_text": 128_000,
  ]

  /// The sections of a rotation's channels for the three positions of a token, which are one in a text; four numbers.
  mutating func sections(_ config: ConfigReader, default fallback: [Int]) throws {
    let own = try config.ropeParameters()?.integers("mrope_section", in: 0...1 << 20) ?? fallback
    add("rope.dimension_sections", Array((own + [0, 0, 0, 0]).prefix(4)))
  }

  /// The groups of experts, where not all of them are kept: llama.cpp stops at groups that leave nothing out.
  mutating func groups(_ router: Router) {
    guard router.limitsGroups else { return }
    add("expert_group_count", router.groups)
    add("expert_group_used_count", router.keptGroups)
  }
}

extension Router {
  /// Whether some groups of experts are left out for a token.
  var limitsGroups: Bool { keptGroups < groups }
}

/// `expert_gating_func`: how llama.cpp numbers the functions that score experts.
enum GGUFGating {
  static let softmax = 1
  static let sigmoid = 2
  static let sqrtSoftplus = 4
}

/// The messages of the conditions that hold: what a model asks for and llama.cpp does not compute.
func messages(_ pairs: [(Bool, String)]) -> [String] { pairs.filter(\.0).map(\.1) }
