// Models around a text model: a configuration with a section for the text model, and its tensors under a prefix of their own.

package import SmeltStorage
internal import SmeltTensors

/// How a wrapper spells the names of its text model's tensors.
package enum WrapperForm: String, Sendable, CaseIterable {
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
  /// `model.layers.0…`, `lm_head.weight`: the towers stand beside.
  case beside = ""

  /// The wrapper's name of one of the text model's tensors.
  package func tensor(_ name: String) -> String {
    switch self {
    case .languageModel, .thinker, .beside: rawValue + name
    case .insideModel, .headApart, .textModel:
      name.hasPrefix("model.") ? rawValue + name.dropFirst("model.".count) : name
    }
  }
}

extension WrapperForm {
  /// Whether a tensor belongs to the output head of the text model, in any of the forms.
  package static func isHead(_ name: String) -> Bool {
    allCases.contains { name.hasPrefix($0.tensor("lm_head.")) }
  }
}

/// The text model's part of a configuration that wraps one.
package struct TextConfig: Sendable {
  /// The keys under which wrappers keep it.
  package static let keys = ["text_config", "llm_config", "language_config", "thinker_config"]
  /// Wrappers whose configuration may say beside its towers what the text model is, and how that is called.
  private static let flat = ["qwen2_vl": "qwen2_vl_text", "qwen2_5_vl": "qwen2_5_vl_text"]

  /// The text model's configuration, with what the wrapper says for it.
  package let json: JSON

  /// Nil where the configuration wraps no architecture that a family knows.
  /// - Parameter hasHead: whether there is an output head. One that is there is used, and without one, a wrapper that ties it
  ///   to the embeddings goes before a text model that says otherwise.
  package init?(_ config: JSON, hasHead: Bool) {
    let type = config["model_type"]?.string ?? ""
    if ModelFamilies.knows(type) { return nil }
    for key in TextConfig.keys {
      guard var inner = config[key], inner.object != nil else { continue }
      if let deeper = inner["text_config"], deeper.object != nil { inner = deeper }
      guard let type = inner["model_type"]?.string, ModelFamilies.knows(type), let object = inner.object
      else {
        continue
      }
      json = TextConfig.merged(object, config, hasHead: hasHead)
      return
    }
    guard let text = TextConfig.flat[type], let object = config.object, object["num_hidden_layers"] != nil
    else {
      return nil
    }
    let own = zip(object.keys, object.values).filter { $0.0 != "model_type" }.map { ($0.0, $0.1) }
    guard let inner = JSON(members: [("model_type", JSON(text))] + own).object else { return nil }
    json = TextConfig.merged(inner, config, hasHead: hasHead)
  }

  /// A text model's section with what the wrapper says for it.
  private static func merged(_ text: JSONObject, _ wrapper: JSON, hasHead: Bool) -> JSON {
    let tied = "tie_word_embeddings"
    var members = zip(text.keys, text.values).map { ($0.0, $0.1) }
    for shared in [tied, "eos_token_id", "bos_token_id"] where text[shared] == nil {
      if let value = wrapper[shared] { members.append((shared, value)) }
    }
    let isTied = members.contains { $0.0 == tied && $0.1.bool == true }
    if hasHead ? isTied : wrapper[tied]?.bool == true {
      members.removeAll { $0.0 == tied }
      members.append((tied, JSON(!hasHead)))
    }
    return JSON(members: members)
  }
}

extension WeightSpec {
  /// The same weight under a wrapper's names.
  package func spelled(_ form: WrapperForm) -> WeightSpec { renamed(form.tensor) }
}
