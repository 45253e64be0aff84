// Names of modules in a configuration: by which names engines ask, and long lists as few patterns.

import SmeltModels

/// Lists of modules as few patterns.
enum ModulePatterns {
  /// Names that are listed one by one.
  static let mostNames = 2000

  /// Patterns that match all of some modules and none of the others: a number stands for any where that is so of all modules
  /// of the pattern, else an expert's number for any, else the name itself.
  static func of(_ modules: [String], but others: [String]) -> [String] {
    let isWrapped = modules.contains(where: isWrapped)
    let levels: [(String) -> String] = [
      { pattern($0, onlyExperts: false, isWrapped) }, { pattern($0, onlyExperts: true, isWrapped) },
    ]
    let taken = levels.map { level in Set(others.map(level)) }
    var seen: Set<String> = []
    var patterns: [String] = []
    for module in modules {
      let found = levels.indices.lazy.map { ($0, levels[$0](module)) }.first { !taken[$0.0].contains($0.1) }?
        .1
      // A pattern without a number is a name.
      let pattern = found.flatMap { $0.contains(#"\d+"#) ? $0 : nil } ?? module
      if seen.insert(pattern).inserted { patterns.append(pattern) }
    }
    return patterns
  }

  /// The names that engines look a module up by: its own, and
  ///
  /// - for the matrices of an expert that are named `w1`, `w2`, `w3` those by which some engines ask for every family's
  ///   (`experts.0.gate_proj`). Source: SGLang 0.5.23, `srt/layers/quantization/compressed_tensors/compressed_tensors.py`
  ///   (`unfused_names`);
  /// - the fused module's, `qkv_proj`, `gate_up_proj` and so on: SGLang knows its parts for some families only, and asks for the class `Linear`
  ///   before it asks for parts (the same folder, `utils.py`: `should_ignore_layer`, `find_matched_target`); vLLM 0.33 takes either
  ///   (`find_matching_patterns`).
  static func names(of module: String, in group: FusionGroup?) -> [String] {
    let words = module.split(separator: ".", omittingEmptySubsequences: false)
    guard words.count > 2, let last = words.last else { return [module] }
    func sibling(_ name: String) -> String { (words.dropLast() + [Substring(name)]).joined(separator: ".") }
    if words[words.count - 3] == "experts" {
      return [module]
        + [["w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"][last]].compactMap { $0.map(sibling) }
    }
    return [module] + (group?.engineNames(ofPart: last) ?? []).map(sibling)
  }

  /// Whether a module belongs to a text model inside a wrapper: engines have names of their own for what is before `layers`, and
  /// translate names of modules but not expressions (vLLM 0.33, `hf_to_vllm_mapper`).
  private static func isWrapped(_ module: String) -> Bool {
    module.hasPrefix("model.language_model.") || module.hasPrefix("language_model.")
  }

  /// A module or pattern of `TensorNaming.module` as a glob, which ModelOpt's lists have.
  static func glob(_ module: String) -> String {
    guard module.hasPrefix("re:^"), module.hasSuffix("..*") else { return module }
    return module.dropFirst(4).dropLast(3).split(separator: #"\."#).joined(separator: ".") + "*"
  }

  /// - Parameter isWrapped: whether what is before `layers` may be anything.
  private static func pattern(_ module: String, onlyExperts: Bool, _ isWrapped: Bool) -> String {
    let words = module.split(separator: ".", omittingEmptySubsequences: false)
    let first = isWrapped ? words.firstIndex(of: "layers") ?? 0 : 0
    let parts = words.indices[first...].map { index in
      let word = words[index]
      let isNumber = !word.isEmpty && word.allSatisfy { $0.isASCII && $0.isNumber }
      guard isNumber, !onlyExperts || index > 0 && words[index - 1] == "experts" else { return String(word) }
      return #"\d+"#
    }
    return (first > 0 ? #"re:.*\."# : "re:^") + parts.joined(separator: #"\."#) + "$"
  }
}
