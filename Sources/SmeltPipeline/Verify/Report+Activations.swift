// What a report says of rounded activations.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

extension Report {
  /// What rounding the activations as well does to the result.
  package struct Activations: Sendable {
    /// How they were rounded.
    package var rounding: String
    /// Weights of the result that met rounded activations.
    package var roundedWeights: Int
    /// Those of them that the statistics know no range of, where scales are static: they got one for each token.
    package var withoutRange: Int
    /// Layers whose cached keys and values were rounded.
    package var cachedLayers = 0
    /// e^(mean negative log-likelihood).
    package var perplexity = 0.0
    /// The KL divergence; floor and forced routing are not measured.
    package var kl = Divergence()
    /// Share of tokens with the source's most likely next token.
    package var top1 = 0.0
    /// Mean share of the source's five most likely next tokens among the five.
    package var top5 = 0.0

    /// The contract's JSON.
    var json: JSON {
      [
        "rounding": JSON(rounding), "rounded_weights": JSON(roundedWeights),
        "without_range": JSON(withoutRange), "cached_layers": JSON(cachedLayers),
        "perplexity": JSON(perplexity),
        "kl": [
          "mean": JSON(kl.mean), "median": JSON(kl.median), "p99": JSON(kl.p99), "max": JSON(kl.max),
        ], "top1_agreement": JSON(top1), "top5_agreement": JSON(top5),
      ]
    }
  }

  /// Names what will be rounded.
  /// - Throws: `RequestError` usage when the result has no weight that the rounding reaches.
  static func activations(_ rounding: ActivationRounding, of result: Model) throws -> Activations {
    let reached = try result.storedWeights().filter {
      $0.spec.isMultiplied && rounding.reaches($0.spec.name, $0.encoding)
    }
    if rounding.kind == .declared {
      let fixed = reached.compactMap { rounding.declared.inputs[$0.spec.name] }
      guard !reached.isEmpty || !rounding.declared.caches.isEmpty else {
        throw RequestError(
          .usage, "'\(result.path)' declares no rounding of activations or caches",
          help: "leave --activations away, or name a rounding: int8, fp8, gguf")
      }
      return Activations(
        rounding: rounding.kind.rawValue, roundedWeights: reached.count,
        withoutRange: fixed.count { $0.form == .local && $0.scale == nil },
        cachedLayers: rounding.declared.caches.count)
    }
    guard !reached.isEmpty else {
      let isGGUF = rounding.kind == .gguf
      throw RequestError(
        .usage,
        "'\(result.path)' has no \(isGGUF ? "weight of a GGUF block type" : "INT8 and no FP8 weight") to meet rounded activations",
        help: "leave --activations away")
    }
    return Activations(
      rounding: rounding.kind.rawValue, roundedWeights: reached.count,
      withoutRange: rounding.kind.isStatic
        ? reached.count { !(rounding.ranges[$0.spec.name] ?? 0 > 0) } : 0)
  }
}
