// What a conversion does with blocks that draft tokens.

import SmeltModels
import SmeltQuantization
import SmeltStorage

extension DraftFate {
  /// A choice by its name.
  /// - Throws: `RequestError` usage.
  init(named text: String) throws {
    guard let fate = DraftFate(rawValue: text) else {
      throw unknownName(text, kind: "choice for --mtp", among: DraftFate.allCases.map(\.rawValue))
    }
    self = fate
  }

  /// The rule by which a weight is left out; nil for all others.
  func leaves(_ spec: WeightSpec) -> LeftOut? {
    guard self == .drop, spec.isDraft else { return nil }
    return LeftOut(DropRule.mtp("--mtp drop: blocks that draft tokens take no part in the forward pass"))
  }

  /// The decision for a weight that is kept whatever the recipe says; nil for all others.
  func decision(_ spec: WeightSpec) -> QuantizeDecision? {
    guard self == .keep, spec.isDraft else { return nil }
    return QuantizeDecision(scheme: Keep(), options: QuantizeOptions(observer: .absmax), note: nil)
  }

  /// The reason for it.
  func reason(_ spec: WeightSpec) -> String? {
    self == .keep && spec.isDraft ? "--mtp keep: drafts tokens" : nil
  }

  /// Refuses to drop blocks that the keys of a GGUF file count and nothing here knows: such keys are kept word for word.
  /// - Throws: `RequestError` unsupported.
  func check(_ model: Model) throws {
    guard self == .drop, GGUFResult.isGeneric(model.family),
      let config = try model.smallFile("config.json"),
      let keys = try? parseConfig(config, file: "config.json")["gguf"]?.object
    else { return }
    let counts = zip(keys.keys, keys.values).filter { $0.0.hasSuffix(".nextn_predict_layers") }
    guard counts.contains(where: { $0.1.integer ?? 0 > 0 }) else { return }
    throw RequestError(
      .unsupported,
      "--mtp drop: the architecture '\(excerpt(model.family.modelType))' has no family here, and its keys count the blocks",
      help: "leave --mtp away: nothing is lost then")
  }
}

extension LeftOut {
  /// No tensors yet.
  init(_ rule: DropRule) { self.init(rule: rule.name, reason: rule.reason, tensors: 0, bytes: 0) }
}
