// What llama-quantize looks at when it chooses types: the tensors of a GGUF file, their names and shapes, and four numbers of the model.
// Follows llama.cpp 0c1e57098, src/llama-quant.cpp. Formats/recipe.md, section 6.

package import SmeltModels
internal import SmeltTensors

/// One tensor of a GGUF file, and the weight that it holds.
package struct MixtureTensor: Sendable {
  /// What llama-quantize tells apart (`tensor_category`), as far as its mixtures of the types that are written here need it.
  package enum Category: Sendable {
    case embedding, values, keys, attentionOutput, down, output, other

    /// Whether the tensor makes values of the attention.
    var makesValues: Bool { self == .values }
  }

  /// The tensor's name.
  package let name: String
  /// The names that a recipe calls it by: the weight's, where the tensor stands for it.
  let names: Set<String>
  /// The fastest dimension.
  let columns: Int
  /// Whether it holds several matrices.
  let isStack: Bool
  /// Whether llama-quantize touches it.
  let isQuantized: Bool
  /// Whether the default recipe of a scheme reaches the weight.
  let isReached: Bool
  /// Whether its weight has other tensors too.
  let isPart: Bool
  /// The layer that its name says.
  let layer: Int?
  /// What it is to llama-quantize.
  let category: Category

  /// A tensor.
  /// - Parameters:
  ///   - shape: its dimensions, stacks included.
  ///   - isPart: whether it is one of several that hold the weight.
  ///   - isFirst: whether it stands for the weight.
  ///   - isGGUFName: whether the name is one of GGUF's.
  init(
    _ name: String, _ shape: Shape, of spec: WeightSpec, isPart: Bool, isFirst: Bool, isGGUFName: Bool
  ) {
    self.name = name
    self.isPart = isPart
    names = Set((isPart ? [name] : []) + (isFirst ? [spec.name.base] : []))
    let dimensions = shape.dimensions.drop { $0 == 1 }
    columns = shape.columns
    isStack = dimensions.count > 2
    layer = MixtureTensor.layer(of: name)
    isReached = spec.role.isQuantizedByDefault && spec.shape.rank >= 2
    if isGGUFName {
      category = MixtureTensor.category(name)
      isQuantized = dimensions.count >= 2 && spec.role != .hashTable && MixtureTensor.allows(name)
    } else {
      // Names of the source's own: the role says what the name does not.
      category = MixtureTensor.category(spec.role)
      isQuantized = dimensions.count >= 2 && (isReached || category == .embedding || category == .output)
    }
  }

  /// `blk.%d.`
  static func layer(of name: String) -> Int? {
    let parts = name.split(separator: ".", maxSplits: 2)
    return parts.count == 3 && parts[0] == "blk" ? Int(parts[1]) : nil
  }

  /// `tensor_get_category`.
  private static func category(_ name: String) -> Category {
    if name == "output.weight" { return .output }
    if name == "token_embd.weight" || name == "per_layer_token_embd.weight" { return .embedding }
    if ["attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight"].contains(where: name.contains) {
      return .values
    }
    if name.contains("attn_k.weight") { return .keys }
    if name.contains("attn_q.weight") { return .other }
    if name.contains("attn_output.weight") { return .attentionOutput }
    if name.contains("ffn_up") || name.contains("ffn_gate") { return .other }
    return name.contains("ffn_down") ? .down : .other
  }

  private static func category(_ role: Role) -> Category {
    switch role {
    case .embedding: .embedding
    case .outputHead: .output
    case .routedDown, .sharedDown, .denseDown: .down
    default: .other
    }
  }

  /// `tensor_allows_quantization`, for the tensors that architectures written here can have.
  private static func allows(_ name: String) -> Bool {
    name.hasSuffix("weight") && !untouched.contains(where: name.contains)
  }

  private static let untouched = [
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel",
    "per_layer_model_proj",
    "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight",
  ]
}

/// A model as llama-quantize sees it.
package struct MixtureModel: Sendable {
  /// The tensors in llama.cpp's order: by layer, then by name.
  let tensors: [MixtureTensor]
  /// Layers, those for prediction of further tokens included.
  let layers: Int
  /// Routed experts a layer; 1 without.
  let experts: Int
  /// Query heads for one head of keys, in the first layer; 0 where it has no keys.
  let headsPerKeyHead: Int
  /// Whether llama.cpp takes the model for one of 70 billion parameters.
  let is70B: Bool

  /// A model whose weights lie where a GGUF file of its architecture has them.
  /// - Parameters:
  ///   - specs: the weights that the result has, and copies of them under other names.
  ///   - family: the family, whose architecture says where weights lie; nil where each lies under its own name.
  ///   - keys: the architecture's keys; empty where there are none, then the numbers are taken from the weights.
  ///   - splits: whether a weight in several tensors gets a type for each.
  ///   - namesAreGGUFs: whether the source's own names are a GGUF file's.
  package init(
    _ specs: [WeightSpec], family: (any ModelFamily)? = nil, keys: [(String, MetadataValue)] = [],
    splits: Bool = false, namesAreGGUFs: Bool = false
  ) {
    let architecture = family.flatMap { GGUFArchitectures.of($0) }
    let counted = (specs.compactMap(\.name.expert).max() ?? 0) + 1
    var seen: Set<String> = []
    var tensors: [MixtureTensor] = []
    for spec in specs {
      var place = GGUFPlace.whole(spec.name.base)
      if let expert = spec.name.expert { place = .stacked(spec.name.base, index: expert, count: counted) }
      if let family, let architecture { place = architecture.place(of: spec, in: family) }
      let found = place.tensors
      for (index, name) in found.enumerated() where seen.insert(name).inserted {
        guard index == 0 || splits else { continue }
        tensors.append(
          MixtureTensor(
            name, place.shape(of: spec.shape, at: index, isExpert: spec.name.expert != nil), of: spec,
            isPart: splits && found.count > 1, isFirst: index == 0,
            isGGUFName: namesAreGGUFs || !spec.hasSourceName))
      }
    }
    self.tensors = tensors.sorted { ($0.layer ?? -1, $0.name) < ($1.layer ?? -1, $1.name) }
    let numbers = Dictionary(
      keys.map { ($0.0.drop { $0 != "." }.dropFirst().description, $0.1) },
      uniquingKeysWith: { first, _ in first })
    func first(_ key: String) -> Int? {
      switch numbers[key] {
      case .integer(let number)?: number
      case .integers(let list)?: list.first
      default: nil
      }
    }
    layers = first("block_count") ?? (specs.compactMap(\.layer).max() ?? -1) + 1
    experts = max(1, first("expert_count") ?? counted)
    let heads = first("attention.head_count")
    let keyHeads = first("attention.head_count_kv") ?? heads
    if let heads, let keyHeads {
      headsPerKeyHead = keyHeads > 0 ? heads / keyHeads : 0
    } else {
      headsPerKeyHead = MixtureModel.sharing(specs)
    }
    let passes = layers - (first("nextn_predict_layers") ?? 0)
    // Source: src/models/llama.cpp and qwen2.cpp, `LLM_TYPE_70B`.
    is70B =
      passes == 80 && (architecture?.name == "llama" && heads != keyHeads || architecture?.name == "qwen2")
  }

  /// Rows of queries for one of keys. A latent attention has one latent for all heads.
  private static func sharing(_ specs: [WeightSpec]) -> Int {
    if specs.contains(where: { $0.name.base.contains("attn_kv_a_mqa") }) { return Int.max }
    func rows(_ part: String) -> Int? { specs.first { $0.name.base.hasSuffix(part) }?.shape.rows }
    guard let queries = rows("attn_q.weight"), let keys = rows("attn_k.weight"), keys > 0 else { return 0 }
    return queries / keys
  }
}

extension GGUFPlace {
  /// The dimensions of one of the place's tensors, as far as types depend on them: the columns, and whether it is a stack.
  fileprivate func shape(of shape: Shape, at index: Int, isExpert: Bool) -> Shape {
    switch self {
    case .stacked(_, _, let count): Shape([count] + shape.dimensions)
    case .keysAndValues(_, _, let heads, let width):
      index == 0
        ? [heads, shape.columns, width] : [heads, max(1, shape.rows / max(1, heads) - width), shape.columns]
    case .whole, .arranged: shape
    }
  }
}
