// The mixtures that users of llama.cpp know by name (`q4_k_m`, `q6_k`): which type each tensor gets, by its name, its shape and its layer.
// Follows llama-quantize of llama.cpp 0c1e57098 (src/llama-quant.cpp), function by function; Formats/recipe.md, section 6.

package import SmeltModels
internal import SmeltTensors

extension Recipe {
  /// The mixtures that are no scheme's name, for help.
  package static let mixtureNames: [String] = Mixture.allCases.map(\.rawValue).filter { name in
    !GGUFScheme.all.contains { $0.name == name }
  }

  /// The names that mean llama-quantize's types in a `.gguf`: mixtures, schemes of its names, and its short names (`q4_k` is `q4_k_m`).
  package static let llamaNames: [String] = Mixture.allCases.map(\.rawValue) + Mixture.short.keys.sorted()

  /// Behind a name: embeddings, output head and whatever else the default recipe of a scheme keeps are kept.
  package static let keepHead = ":keep-head"

  /// The name without `keepHead`, lowercase, and whether it had it.
  package static func parts(of name: String) -> (name: String, keepsHead: Bool) {
    let lower = name.lowercased()
    return lower.hasSuffix(keepHead) ? (String(lower.dropLast(keepHead.count)), true) : (lower, false)
  }

  /// The mixture that a short name of llama-quantize's stands for, or the name itself.
  package static func llamaName(_ name: String) -> String {
    Mixture.short[name.lowercased()]?.rawValue ?? name.lowercased()
  }

  /// The recipe of a mixture for a model, nil for an unknown name: what llama-quantize makes of each tensor, embeddings, output head,
  /// compressors and hyper-connections included. It keeps what llama-quantize keeps: the router, norms, short convolutions and vectors.
  ///
  /// Names of plain schemes (`q4_0`, `q2_k`) and short names (`q4_k`) give llama-quantize's mixture of that name here.
  /// - Parameters:
  ///   - hasImportances: whether calibration is at hand; a few first layers get other types then.
  ///   - keepsHead: whether weights that schemes for layers do not reach are kept.
  package static func gguf(
    _ name: String, for model: MixtureModel, hasImportances: Bool = false, keepsHead: Bool = false
  ) -> Recipe? {
    guard let mixture = Mixture(rawValue: llamaName(name)) else { return nil }
    let chosen = MixtureChooser(mixture, model, hasImportances: hasImportances).choose(keepsHead: keepsHead)
    var rules = GGUFScheme.all.compactMap { scheme in
      chosen.types[scheme.block.kind].map { Rule(.names($0, of: mixture.rawValue), scheme) }
    }
    if !chosen.kept.isEmpty { rules.append(Rule(.names(chosen.kept, of: mixture.rawValue), Keep())) }
    return Recipe(GGUFScheme.of(mixture.base), rules: rules)
  }

  /// The same for a table of weights, each in the tensor of its name.
  package static func gguf(_ name: String, for specs: [WeightSpec], hasImportances: Bool = false) -> Recipe? {
    gguf(name, for: MixtureModel(specs), hasImportances: hasImportances)
  }
}

private enum Mixture: String, CaseIterable {
  case q2_k_s, q3_k_s, q3_k_m, q3_k_l, q4_k_s, q4_k_m, q5_k_s, q5_k_m, mxfp4_moe
  case q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q6_k, iq4_nl, iq4_xs, q1_0, q2_0, tq1_0, tq2_0

  /// Names that llama-quantize takes for another. Source: `QUANT_OPTIONS` in tools/quantize/quantize.cpp.
  static let short: [String: Mixture] = ["q3_k": .q3_k_m, "q4_k": .q4_k_m, "q5_k": .q5_k_m]

  /// The type of most weights.
  var base: GGUFBlock.Kind {
    switch self {
    case .q2_k, .q2_k_s: .q2_k
    case .q3_k_s, .q3_k_m, .q3_k_l: .q3_k
    case .q4_k_s, .q4_k_m: .q4_k
    case .q5_k_s, .q5_k_m: .q5_k
    case .q6_k: .q6_k
    case .mxfp4_moe, .q8_0: .q8_0
    case .q4_0: .q4_0
    case .q4_1: .q4_1
    case .q5_0: .q5_0
    case .q5_1: .q5_1
    case .iq4_nl: .iq4_nl
    case .iq4_xs: .iq4_xs
    case .q1_0: .q1_0
    case .q2_0: .q2_0
    case .tq1_0: .tq1_0
    case .tq2_0: .tq2_0
    }
  }
}

/// Chooses types, tensor by tensor in llama-quantize's order.
private struct MixtureChooser {
  let mixture: Mixture
  let base: GGUFBlock.Kind
  let model: MixtureModel
  /// Tensors that make values of the attention, of all layers.
  let valueCount: Int
  /// The embeddings are the output head too.
  let isTied: Bool
  let hasImportances: Bool

  init(_ mixture: Mixture, _ model: MixtureModel, hasImportances: Bool) {
    self.mixture = mixture
    self.model = model
    self.hasImportances = hasImportances
    base = mixture.base
    valueCount = model.tensors.count { $0.category.makesValues }
    isTied = !model.tensors.contains { $0.category == .output }
  }

  /// The names of each type that the default scheme would not give, and the names of what is kept though it would reach it.
  func choose(keepsHead: Bool) -> (types: [GGUFBlock.Kind: Set<String>], kept: Set<String>) {
    var chosen: [GGUFBlock.Kind: Set<String>] = [:]
    var kept: Set<String> = []
    var (values, downs) = (0, 0)  // the number of the tensor among those of its sort
    for tensor in model.tensors {
      guard tensor.isQuantized, tensor.isReached || !keepsHead else {
        if tensor.isReached || tensor.isPart { kept.formUnion(tensor.names) }
        continue
      }
      let kind = type(tensor, values: &values, downs: &downs)
      if kind != base || !tensor.isReached || tensor.isPart {
        chosen[kind, default: []].formUnion(tensor.names)
      }
    }
    return (chosen, kept)
  }

  /// `llama_tensor_get_type_impl`.
  private func type(_ tensor: MixtureTensor, values: inout Int, downs: inout Int) -> GGUFBlock.Kind {
    if tensor.category == .output || isTied && tensor.category == .embedding { return outputHead(tensor) }
    if mixture == .mxfp4_moe { return tensor.isStack ? .mxfp4 : .q8_0 }
    switch tensor.category {
    case .embedding: return embedding
    case .values:
      defer { values += 1 }
      return attentionValue(values)
    case .keys: return model.experts == 8 ? .q8_0 : base
    case .attentionOutput: return attentionOutput
    case .down:
      defer { downs += 1 }
      return down(model.experts > 1 ? tensor.layer ?? downs : downs)
    case .output, .other: return base
    }
  }

  /// The first and last eighth of the layers, and every third between.
  private func getsMoreBits(_ index: Int, of count: Int) -> Bool {
    index < count / 8 || index >= 7 * count / 8 || (index - count / 8) % 3 == 2
  }

  private func outputHead(_ tensor: MixtureTensor) -> GGUFBlock.Kind {
    let isWhole = tensor.columns % GGUFBlock(mixture == .mxfp4_moe ? .mxfp4 : base).elements == 0
    return !isWhole || mixture == .mxfp4_moe || base == .q8_0 ? .q8_0 : .q6_k
  }

  private var embedding: GGUFBlock.Kind {
    switch mixture {
    case .tq1_0, .tq2_0, .q2_0: .q4_k
    default: base
    }
  }

  private func attentionValue(_ index: Int) -> GGUFBlock.Kind {
    if model.experts == 8 { return .q8_0 }
    let sharesKeys = model.headsPerKeyHead >= 4
    let kind: GGUFBlock.Kind =
      switch mixture {
      case .q2_k: sharesKeys ? .q4_k : .q3_k
      case .q2_k_s: sharesKeys ? .q4_k : base
      case .q3_k_m: index < 2 ? .q5_k : .q4_k
      case .q3_k_l: .q5_k
      case .iq4_nl, .iq4_xs: sharesKeys ? .q5_k : base
      case .q4_k_m, .q5_k_m: getsMoreBits(index, of: valueCount) ? .q6_k : base
      case .q4_k_s: index < 4 ? .q5_k : base
      default: base
      }
    return model.is70B && (kind == .q3_k || kind == .q4_k) ? .q5_k : kind
  }

  private var attentionOutput: GGUFBlock.Kind {
    switch (mixture, model.experts) {
    case (.q2_k, 8), (.q3_k_s, 8), (.q3_k_m, 8), (.q4_k_s, 8), (.q4_k_m, 8), (.iq4_nl, 8), (.iq4_xs, 8): .q5_k
    case (.q3_k_l, 8): base
    case (.q2_k, _): .q3_k
    case (.q3_k_m, _): .q4_k
    case (.q3_k_l, _): .q5_k
    default: base
    }
  }

  private func down(_ layer: Int) -> GGUFBlock.Kind {
    let layers = model.layers
    let isEarly = layer < layers / 8
    switch mixture {
    case .q2_k: return .q3_k
    case .q2_k_s: return isEarly ? .q4_k : base
    case .q3_k_m: return layer < layers / 16 ? .q5_k : .q4_k
    case .q3_k_l: return .q5_k
    case .q4_k_m, .q5_k_m: return getsMoreBits(layer, of: layers) ? .q6_k : base
    case .q4_k_s: return isEarly ? .q5_k : base
    case .iq4_nl, .iq4_xs: return isEarly && !hasImportances ? .q5_k : base
    case .q4_0: return isEarly && hasImportances ? .q4_1 : base
    case .q5_0: return isEarly && hasImportances ? .q5_1 : base
    default: return base
    }
  }
}
