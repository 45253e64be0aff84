// Models around a text model: a configuration with a section for the text model, and its tensors under a prefix of their own.

public import SmeltStorage
internal import SmeltTensors

/// How a wrapper spells the names of its text model's tensors.
public enum WrapperForm: String, Sendable, CaseIterable {
  /// `language_model.model.layers.0…`, `language_model.lm_head.weight`.
  case languageModel = "language_model."
  /// `model.language_model.layers.0…`, `lm_head.weight`.
  case insideModel = "model.language_model."
  /// `language_model.model.layers.0…`, `lm_head.weight`.
  case headApart = "language_model.model."
  /// `model.text_model.layers.0…`, `lm_head.weight`.
  case textModel = "model.text_model."
  /// `thinker.model.layers.0…`, `thinker.lm_head.weight`.
  case thinker = "thinker."

  /// The wrapper's name of one of the text model's tensors.
  public func tensor(_ name: String) -> String {
    switch self {
    case .languageModel, .thinker: rawValue + name
    case .insideModel, .headApart, .textModel:
      name.hasPrefix("model.") ? rawValue + name.dropFirst("model.".count) : name
    }
  }
}

/// The text model's part of a configuration that wraps one.
public struct TextConfig: Sendable {
  /// The keys under which wrappers keep it.
  public static let keys = ["text_config", "llm_config", "language_config", "thinker_config"]

  /// The text model's configuration, with what the wrapper says for it.
  public let json: JSON

  /// Nil where the configuration wraps no architecture that a family knows.
  public init?(_ config: JSON) {
    if let type = config["model_type"]?.string, ModelFamilies.knows(type) { return nil }
    for key in TextConfig.keys {
      guard var inner = config[key], inner.object != nil else { continue }
      if let deeper = inner["text_config"], deeper.object != nil { inner = deeper }
      guard let type = inner["model_type"]?.string, ModelFamilies.knows(type), let object = inner.object
      else {
        continue
      }
      var members = zip(object.keys, object.values).map { ($0.0, $0.1) }
      for shared in ["tie_word_embeddings", "eos_token_id", "bos_token_id"]
      where object[shared] == nil {
        if let value = config[shared] { members.append((shared, value)) }
      }
      json = JSON(members: members)
      return
    }
    return nil
  }
}

extension WeightSpec {
  /// The same weight under a wrapper's names.
  public func spelled(_ form: WrapperForm) -> WeightSpec {
    var spec = WeightSpec(
      name, shape, role, layer: layer, inputGroups: inputGroups,
      spellings: spellings.map { $0.renamed(form.tensor($0.tensor)) })
    (spec.isCarried, spec.isDraft, spec.isOptional) = (isCarried, isDraft, isOptional)
    return spec
  }
}
