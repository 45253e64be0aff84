// Whether an engine has an implementation of a model's architecture.

import SmeltContainers
import SmeltModels
import SmeltStorage

extension EngineArchitectures {
  /// One case where the engine has no implementation of its own.
  /// - Parameter borrowed: whether to speak where the engine runs the implementation of transformers instead, or where it has
  ///   none at all.
  static func cases(_ view: EngineView, borrowed: Bool) -> [EngineCase] {
    guard view.model.containerName != "gguf" else { return borrowed ? [] : fileCases(view) }
    // That there is no configuration is a finding of its own.
    guard view.hasConfig else { return [] }
    switch view.engine {
    case .vllm, .sglang, .ollama: return classCases(view, borrowed: borrowed)
    case .transformers: return borrowed ? [] : typeCases(view, transformers)
    case .mlx: return borrowed ? [] : typeCases(view, mlx)
    case .llamaCpp: return []
    }
  }

  private static func typeCases(_ view: EngineView, _ known: Set<String>) -> [EngineCase] {
    guard let type = view.config["model_type"]?.string else {
      return [EngineCase(subject: "model_type", found: "is not there")]
    }
    return known.contains(type) ? [] : [EngineCase(subject: "model_type", found: "is '\(excerpt(type))'")]
  }

  private static func classCases(_ view: EngineView, borrowed: Bool) -> [EngineCase] {
    let known = view.engine == .vllm ? vllm : view.engine == .sglang ? sglang : ollama
    let names = view.architectures
    guard !names.contains(where: known.contains) else { return [] }
    guard let name = names.first else {
      return borrowed ? [] : [EngineCase(subject: "architectures", found: "is not there")]
    }
    var found = "is '\(excerpt(name))'"
    if view.engine == .vllm, let last = vllmUntil[name] {
      if EngineVersion(view.version) <= EngineVersion(last) { return [] }
      found += ", which it had until \(last)"
      return borrowed ? [] : [EngineCase(subject: "architectures", found: found)]
    }
    let isBorrowed = view.engine != .ollama && !view.types.isDisjoint(with: transformers)
    return isBorrowed == borrowed ? [EngineCase(subject: "architectures", found: found)] : []
  }

  /// Of a GGUF file: transformers has the family of few, SGLang those of them whose model_type is llama.cpp's
  /// word too, llama.cpp and Ollama what llama.cpp has.
  private static func fileCases(_ view: EngineView) -> [EngineCase] {
    switch view.engine {
    case .transformers:
      let type = view.model.family.modelType
      let names = [type, type.hasSuffix("_text") ? String(type.dropLast("_text".count)) : type]
      return names.contains(where: transformersGGUF.contains)
        ? [] : [EngineCase(subject: "general.architecture", found: "is that of '\(excerpt(type))'")]
    case .sglang:
      let name = EngineFile.architecture(view.model)
      guard transformersGGUF.contains(view.model.family.modelType), name.map(sglangGGUF.contains) ?? false
      else {
        return [EngineCase(subject: "general.architecture", found: "is '\(excerpt(name ?? ""))'")]
      }
      return []
    case .llamaCpp, .ollama:
      guard let name = EngineFile.architecture(view.model), !llamaCpp.contains(name) else { return [] }
      return [EngineCase(subject: "general.architecture", found: "is '\(excerpt(name))'")]
    default: return []
    }
  }
}

/// A version as its numbers: `0.9.2` before `0.10`; words count as nothing.
struct EngineVersion: Comparable {
  private let numbers: [Int]

  init(_ text: String) {
    numbers = text.split(whereSeparator: { !$0.isASCII || !$0.isNumber }).map { Int($0.prefix(9)) ?? 0 }
  }

  static func < (a: EngineVersion, b: EngineVersion) -> Bool {
    a.numbers.lexicographicallyPrecedes(b.numbers)
  }
}
