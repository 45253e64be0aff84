// What llama.cpp asks of a GGUF file before it loads it, answered from the file's header by the writer's own table.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

/// A GGUF file as llama.cpp's loader meets it.
enum EngineFile {
  /// `general.architecture`; nil for a model that is no GGUF file.
  static func architecture(_ model: Model) -> String? {
    guard model.containerName == "gguf", let file = try? GGUFFile(path: model.path) else { return nil }
    if case .string(let text)? = file.value("general.architecture") { return text }
    return nil
  }

  /// What llama.cpp refuses in a file, or stops at: the rules of `LlamaCppRules.swift`, each with its place in the source.
  /// - Throws: refusals of the file.
  static func cases(_ model: Model, _ causes: [LlamaCppFinding.Cause]) throws -> [EngineCase] {
    guard model.containerName == "gguf" else { return [] }
    let file = try GGUFFile(path: model.path)
    let metadata = Metadata(file) { !$0.hasPrefix("tokenizer.ggml.") || $0 == "tokenizer.ggml.model" }
    let tensors = Dictionary(file.tensors.map { ($0.name, $0.shape) }) { first, _ in first }
    return LlamaCpp.findings(LlamaCppFile(metadata, tensors: tensors)).filter { causes.contains($0.cause) }
      .map {
        EngineCase(subject: fileName(model.path), found: "\($0.effect.rawValue): \($0.text) (\($0.source))")
      }
  }

  /// What llama.cpp computes otherwise than the model asks: what `convert` warns of, from the file's own
  /// configuration.
  /// - Throws: refusals of the configuration.
  static func differences(_ model: Model) throws -> [EngineCase] {
    guard model.containerName == "gguf", let architecture = GGUFArchitectures.of(model.family),
      let text = try model.textConfig()
    else { return [] }
    let config = ConfigReader(try parseConfig(text, file: "config.json"), file: "config.json")
    return try architecture.differences(of: model.family, config).map {
      EngineCase(subject: fileName(model.path), found: "computes otherwise: \($0)")
    }
  }
}
