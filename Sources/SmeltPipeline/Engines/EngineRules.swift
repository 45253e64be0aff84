// The table of rules, engine by engine. A new rule is a row in one of these files.

/// What is known of engines.
package enum EngineRules {
  /// Every row.
  package static let all: [EngineRule] = vllm + sglang + transformers + llamaCpp + ollama + mlx

  /// The rows of an engine.
  static func of(_ engine: Engine) -> [EngineRule] { all.filter { $0.engine == engine } }
}
