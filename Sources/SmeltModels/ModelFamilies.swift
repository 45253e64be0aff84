// The list of families. A new one is a file in Families/ and a line here.

package import SmeltStorage

/// The architectures Smelt runs.
package enum ModelFamilies {
  /// All of them, in the order help shows them.
  package static let all: [any ModelFamily.Type] = [
    DeepSeekV2.self,
    DeepSeekV3.self,
    DeepSeekV32.self,
    DeepSeekV4.self,
    GLM4MoELite.self,
    GLMMoEDSA.self,
    Mistral4.self,
    Mixtral.self,
    Qwen2MoE.self,
    Qwen3MoE.self,
    Qwen3VLMoE.self,
    Qwen3Next.self,
    Qwen35MoE.self,
    OLMoE.self,
    GPTOSS.self,
    GLM4MoE.self,
    MiniMaxM2.self,
    MiniMaxM3.self,
    HYV3.self,
    NemotronH.self,
    Llama.self,
    Mistral.self,
    Qwen2.self,
    Qwen3.self,
    Qwen35.self,
    Gemma4.self,
  ]

  /// Whether some family has this `model_type`.
  package static func knows(_ type: String) -> Bool { all.contains { $0.modelTypes.contains(type) } }

  /// The family a configuration names.
  /// - Parameter byteCount: the size of the source that the configuration belongs to, which bounds what it may ask for; nil
  ///   without one.
  /// - Throws: `CFG_VALUE` without a `model_type`; `RequestError` unsupported, listing what is known.
  package static func family(of config: JSON, file: String, byteCount: Int? = nil) throws -> any ModelFamily {
    guard let type = config["model_type"]?.string else {
      throw FormatError(
        .configValue, file: file, subject: "model_type", offset: config["model_type"]?.offset,
        config["model_type"].map { "found \($0.kind), expected a string" } ?? "is missing")
    }
    guard let family = all.first(where: { $0.modelTypes.contains(type) }) else {
      let known = all.flatMap { $0.modelTypes }.joined(separator: ", ")
      throw RequestError(
        .unsupported, "model_type '\(type)' in '\(file)' is not supported", help: "supported are: \(known)")
    }
    if let byteCount { try Bounds.check(ConfigReader(config, file: file), byteCount: byteCount) }
    return try family.init(config: config, file: file)
  }
}
