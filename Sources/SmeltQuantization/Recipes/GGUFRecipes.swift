// The mixtures that users of llama.cpp know by name (`q4_k_m`): which type each tensor gets, by what it does and by layer.
// Follows llama-quantize of llama.cpp 0c1e57098, function by function; Formats/recipe.md, section 6.

package import SmeltModels
internal import SmeltTensors

extension Recipe {
  /// The mixtures that are no scheme's name, for help.
  package static let mixtureNames: [String] = Mixture.allCases.map(\.rawValue).filter { name in
    !GGUFScheme.all.contains { $0.name == name }
  }

  /// The recipe of a mixture for a model, nil for an unknown name. Embeddings and output head are quantized too; the
  /// router, norms and the other roles that schemes for layers do not reach are kept.
  ///
  /// Names of plain schemes (`q4_0`, `q2_k`) give llama-quantize's mixture of that name here.
  /// - Parameter hasImportances: whether calibration is at hand; a few first layers get other types then.
  package static func gguf(_ name: String, for specs: [WeightSpec], hasImportances: Bool = false) -> Recipe? {
    guard let mixture = Mixture(rawValue: name.lowercased()) else { return nil }
    let chooser = MixtureChooser(mixture, specs, hasImportances: hasImportances)
    let chosen = chooser.choose(specs)
    let rules = GGUFScheme.all.compactMap { scheme in
      chosen[scheme.block.kind].map { Rule(.names($0, of: mixture.rawValue), scheme) }
    }
    return Recipe(GGUFScheme.of(chooser.base), rules: rules)
  }
}

private enum Mixture: String, CaseIterable {
  case q2_k_s, q3_k_s, q3_k_m, q3_k_l, q4_k_s, q4_k_m, q5_k_s, q5_k_m, mxfp4_moe
  case q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q6_k, iq4_nl, iq4_xs, q1_0, q2_0, tq1_0, tq2_0

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

/// What the choice looks at, counted once for a model.
private struct MixtureChooser {
  let mixture: Mixture
  let base: GGUFBlock.Kind
  /// Layers, those for prediction of further tokens included.
  let layers: Int
  /// Routed experts a layer; 1 without.
  let experts: Int
  /// Weights that make values of the attention, of all layers.
  let valueCount: Int
  /// Four or more query heads share a key head.
  let sharesKeys: Bool
  /// The embeddings are the output head too.
  let isTied: Bool
  let hasImportances: Bool

  init(_ mixture: Mixture, _ specs: [WeightSpec], hasImportances: Bool) {
    self.mixture = mixture
    self.hasImportances = hasImportances
    base = mixture.base
    layers = (specs.compactMap(\.layer).max() ?? -1) + 1
    experts = (specs.compactMap(\.name.expert).max() ?? 0) + 1
    isTied = !specs.contains { $0.role == .outputHead && !$0.isDraft }
    var values: Set<String> = []
    var rows: [String: Int] = [:]
    for spec in specs {
      let base = spec.name.base
      if MixtureChooser.makesValues(base) { values.insert(base) }
      for part in ["attn_q.weight", "attn_k.weight"] where base.hasSuffix(part) {
        rows[part] = rows[part] ?? spec.shape.rows
      }
    }
    valueCount = values.count
    // Latent attention has one latent for all heads.
    let isLatent = specs.contains { $0.name.base.contains("attn_kv_a_mqa") }
    sharesKeys = isLatent || (rows["attn_q.weight"] ?? 0) >= 4 * (rows["attn_k.weight"] ?? Int.max / 4)
  }

  private static func makesValues(_ name: String) -> Bool {
    ["attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"].contains { name.hasSuffix($0) }
  }

  /// The names of each type that is not the base, and of embeddings and output head in any type.
  func choose(_ specs: [WeightSpec]) -> [GGUFBlock.Kind: Set<String>] {
    var chosen: [GGUFBlock.Kind: Set<String>] = [:]
    var seen: Set<String> = []
    var (values, downs) = (0, 0)  // the number of the weight among those of its sort
    for spec in specs where spec.shape.rank >= 2 && seen.insert(spec.name.base).inserted {
      let name = spec.name.base
      let kind: GGUFBlock.Kind
      switch spec.role {
      case .embedding: kind = isTied ? outputHead(spec) : embedding
      case .outputHead: kind = outputHead(spec)
      default:
        guard spec.role.isQuantizedByDefault else { continue }
        if mixture == .mxfp4_moe {
          kind = spec.role.isRouted && experts > 1 ? .mxfp4 : .q8_0
        } else if MixtureChooser.makesValues(name) {
          kind = attentionValue(values)
          values += 1
        } else if name.hasSuffix("attn_k.weight") {
          kind = experts == 8 ? .q8_0 : base
        } else if name.hasSuffix("attn_output.weight") {
          kind = attentionOutput
        } else if name.contains("ffn_down") {
          kind = down(experts > 1 ? spec.layer ?? downs : downs)
          downs += 1
        } else {
          kind = base
        }
        if kind == base { continue }
      }
      chosen[kind, default: []].insert(name)
    }
    return chosen
  }

  /// The first and last eighth of the layers, and every third between.
  private func getsMoreBits(_ index: Int, of count: Int) -> Bool {
    index < count / 8 || index >= 7 * count / 8 || (index - count / 8) % 3 == 2
  }

  private func outputHead(_ spec: WeightSpec) -> GGUFBlock.Kind {
    spec.shape.columns % GGUFBlock(base).elements != 0 || base == .q8_0 ? .q8_0 : .q6_k
  }

  private var embedding: GGUFBlock.Kind {
    switch mixture {
    case .tq1_0, .tq2_0, .q2_0: .q4_k
    default: base
    }
  }

  private func attentionValue(_ index: Int) -> GGUFBlock.Kind {
    if experts == 8 { return .q8_0 }
    switch mixture {
    case .q2_k: return sharesKeys ? .q4_k : .q3_k
    case .q2_k_s: return sharesKeys ? .q4_k : base
    case .q3_k_m: return index < 2 ? .q5_k : .q4_k
    case .q3_k_l: return .q5_k
    case .iq4_nl, .iq4_xs: return sharesKeys ? .q5_k : base
    case .q4_k_m, .q5_k_m: return getsMoreBits(index, of: valueCount) ? .q6_k : base
    case .q4_k_s: return index < 4 ? .q5_k : base
    default: return base
    }
  }

  private var attentionOutput: GGUFBlock.Kind {
    switch (mixture, experts) {
    case (.q2_k, 8), (.q3_k_s, 8), (.q3_k_m, 8), (.q4_k_s, 8), (.q4_k_m, 8), (.iq4_nl, 8), (.iq4_xs, 8): .q5_k
    case (.q3_k_l, 8): base
    case (.q2_k, _): .q3_k
    case (.q3_k_m, _): .q4_k
    case (.q3_k_l, _): .q5_k
    default: base
    }
  }

  private func down(_ layer: Int) -> GGUFBlock.Kind {
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
