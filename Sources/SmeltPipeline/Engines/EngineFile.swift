// What llama.cpp asks of a GGUF file before it loads it, answered from the file's header.

import SmeltContainers
import SmeltModels
import SmeltStorage

/// A GGUF file as llama.cpp's loader meets it.
enum EngineFile {
  /// `general.architecture`; nil for a model that is no GGUF file.
  static func architecture(_ model: Model) -> String? {
    guard model.containerName == "gguf", let file = try? GGUFFile(path: model.path) else { return nil }
    return string("general.architecture", file)
  }

  private static func string(_ key: String, _ file: GGUFFile) -> String? {
    if case .string(let text)? = file.value(key) { text } else { nil }
  }

  /// What is missing. Source: llama.cpp, `src/llama-vocab.cpp`, `load`: a file without a tokenizer is not loaded.
  /// - Throws: refusals of the file.
  static func cases(_ model: Model) throws -> [EngineCase] {
    guard model.containerName == "gguf" else { return [] }
    let file = try GGUFFile(path: model.path)
    guard let name = string("tokenizer.ggml.model", file) else {
      return [EngineCase(subject: "tokenizer.ggml.model", found: "is not there")]
    }
    guard name == "none" || name == "no_vocab" || file.value("tokenizer.ggml.tokens") != nil else {
      return [EngineCase(subject: "tokenizer.ggml.tokens", found: "is not there")]
    }
    return []
  }
}
