// Queries that grow with their position, so that attention over a long context stays as sharp as over a short one. Source: Llama 4's
// temperature of attention, as transformers' mistral4 has it (`llama_4_scaling_beta`).

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A factor of queries by their position.
struct QueryTemperature: Sendable, Equatable {
  /// How much the factor grows with the logarithm.
  var beta: Float
  /// Positions after which it grows for the first time: the length that the model was trained on first.
  var length: Int

  /// 1 + beta × ln(1 + ⌊position / length⌋), in float32 but for the logarithm.
  func factor(_ position: Int) -> Float {
    1 + beta * Float(log(1 + Double(position / length)))
  }
}
