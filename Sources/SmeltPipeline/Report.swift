// What `verify` found: the JSON contract (schema smelt.verify/1), and the lines a person reads.

import SmeltContainers
import SmeltModels
public import SmeltStorage

/// The result of a verification.
public struct Report: Sendable {
  /// One weight's distance from its source.
  public struct WeightError: Sendable {
    /// Canonical name.
    public var name: String
    /// The result's encoding.
    public var scheme: String
    /// √(Σ (a − b)² / Σ a²), a the source.
    public var relativeError: Double
    /// max |a − b|.
    public var maxAbsError: Double
    /// Σ a b / √(Σ a² Σ b²).
    public var cosine: Double

    /// Whether every number is the source's.
    public var isExact: Bool { maxAbsError == 0 }
  }

  /// One layer's router agreement.
  public struct RouterAgreement: Sendable {
    /// The layer.
    public var layer: Int
    /// Share of tokens that went to the same experts.
    public var setAgreement: Double
    /// Mean share of a token's experts that are the same.
    public var meanOverlap: Double
  }

  /// One layer's distance from the source's.
  public struct LayerError: Sendable {
    /// The layer.
    public var layer: Int
    /// √(Σ (a − b)² / Σ a²) over the layer's output.
    public var relativeError: Double
    /// Σ a b / √(Σ a² Σ b²).
    public var cosine: Double
  }

  /// The KL divergence over the tokens, in nats.
  public struct Divergence: Sendable {
    /// Mean over all tokens.
    public var mean = 0.0
    /// The middle one.
    public var median = 0.0
    /// Exceeded by one token in a hundred.
    public var p99 = 0.0
    /// The largest.
    public var max = 0.0
    /// Mean of the source against itself with another order of summation.
    public var floor = 0.0
    /// Mean with the result following the source's expert choices.
    public var forcedRoutingMean = 0.0
  }

  let sides: [(key: String, json: JSON)]
  /// Tokens compared.
  public let tokens: Int
  /// Tokens a window.
  public let context: Int
  /// Where the ids came from.
  public let tokenization: Windows.Tokenization
  /// What was demanded.
  public let thresholds: Thresholds
  /// Perplexities of source and result.
  public internal(set) var perplexity = (source: 0.0, result: 0.0)
  /// The KL divergence.
  public internal(set) var kl = Divergence()
  /// Share of tokens with the same most likely next token.
  public internal(set) var top1 = 0.0
  /// Mean share of the source's five most likely next tokens among the result's five.
  public internal(set) var top5 = 0.0
  /// By layer with experts.
  public internal(set) var router: [RouterAgreement] = []
  /// By layer.
  public internal(set) var layers: [LayerError] = []
  /// By weight.
  public internal(set) var weights: [WeightError] = []
  /// The result with its activations rounded; nil where that was not asked for.
  public internal(set) var activations: Activations?
  /// What it took.
  public internal(set) var resources = Resources()

  init(source: Model, result: Model, windows: Windows, thresholds: Thresholds) {
    sides = [("source", Report.describe(source)), ("result", Report.describe(result))]
    tokens = windows.tokenCount
    context = windows.context
    tokenization = windows.tokenization
    self.thresholds = thresholds
  }

  private static func describe(_ model: Model) -> JSON {
    var members: [(String, JSON)] = [
      ("path", JSON(model.path)), ("container", JSON(model.containerName)),
      ("family", JSON(model.family.modelType)),
      ("bytes", JSON(model.files.reduce(0) { $0 + $1.byteCount })),
    ]
    if case .ingot(let ingot) = model.container {
      members.append(("content_hash", JSON(ingot.file.contentHash)))
    }
    return JSON(members: members)
  }

  mutating func fill(_ comparison: Comparison) {
    func mean(_ values: [Double]) -> Double {
      values.reduce(0, +) / Double(values.count)  // of nothing: not a number
    }
    perplexity = (exponential(mean(comparison.sourceLosses)), exponential(mean(comparison.resultLosses)))
    let sorted = comparison.divergences.sorted()
    kl = Divergence(
      mean: mean(comparison.divergences), median: Metrics.percentile(sorted, 0.5),
      p99: Metrics.percentile(sorted, 0.99), max: sorted.last ?? 0, floor: mean(comparison.floorDivergences),
      forcedRoutingMean: mean(comparison.forcedDivergences))
    let count = Double(max(1, comparison.divergences.count))
    if activations != nil {
      let rounded = comparison.rounded
      let sorted = rounded.divergences.sorted()
      activations?.perplexity = exponential(mean(rounded.losses))
      activations?.kl = Divergence(
        mean: mean(rounded.divergences), median: Metrics.percentile(sorted, 0.5),
        p99: Metrics.percentile(sorted, 0.99), max: sorted.last ?? 0)
      activations?.top1 = Double(rounded.sameTop) / count
      activations?.top5 = rounded.top5 / count
    }
    top1 = Double(comparison.sameTop) / count
    top5 = comparison.top5 / count
    router = comparison.routing.enumerated().compactMap { layer, sums in
      sums.map {
        RouterAgreement(
          layer: layer, setAgreement: Double($0.sameSet) / Double($0.tokens),
          meanOverlap: $0.overlap / Double($0.tokens))
      }
    }
    layers = comparison.layers.enumerated().map {
      LayerError(layer: $0.offset, relativeError: $0.element.relativeError, cosine: $0.element.cosine)
    }
  }

  /// Whether every threshold is met.
  public var passes: Bool {
    // Written so that a NaN fails.
    (thresholds.maxKL.map { kl.mean <= $0 } ?? kl.mean.isFinite)
      && (thresholds.minTop1.map { top1 >= $0 } ?? true)
  }

  /// Weights whose every number is the source's.
  public var exactWeights: Int { weights.count { $0.isExact } }

  /// The contract's JSON.
  public var json: JSON {
    JSON(
      members: [("schema", "smelt.verify/1")] + sides.map { ($0.key, $0.json) } + [
        ("tokens", JSON(tokens)), ("context", JSON(context)), ("tokenization", JSON(tokenization.rawValue)),
        ("perplexity", ["source": JSON(perplexity.source), "result": JSON(perplexity.result)]),
        (
          "kl",
          [
            "mean": JSON(kl.mean), "median": JSON(kl.median), "p99": JSON(kl.p99), "max": JSON(kl.max),
            "floor": JSON(kl.floor), "forced_routing_mean": JSON(kl.forcedRoutingMean),
          ]
        ),
        ("top1_agreement", JSON(top1)), ("top5_agreement", JSON(top5)),
        (
          "router",
          JSON(
            router.map {
              [
                "layer": JSON($0.layer), "set_agreement": JSON($0.setAgreement),
                "mean_overlap": JSON($0.meanOverlap),
              ]
            })
        ),
        (
          "layers",
          JSON(
            layers.map {
              ["layer": JSON($0.layer), "relative_error": JSON($0.relativeError), "cosine": JSON($0.cosine)]
            })
        ),
        (
          "weights",
          JSON(
            weights.map {
              [
                "name": JSON($0.name), "scheme": JSON($0.scheme), "relative_error": JSON($0.relativeError),
                "max_abs_error": JSON($0.maxAbsError), "cosine": JSON($0.cosine),
              ]
            })
        ),
        ("exact_weights", JSON(exactWeights)),
      ] + (activations.map { [("activations", $0.json)] } ?? []) + [
        ("resources", resources.json),
        (
          "thresholds",
          [
            "max_kl": thresholds.maxKL.map { JSON($0) } ?? JSON(.null),
            "min_top1": thresholds.minTop1.map { JSON($0) } ?? JSON(.null),
          ]
        ),
        ("verdict", JSON(passes ? "pass" : "fail")),
      ])
  }

  /// What a person reads on the terminal.
  public var text: String {
    let worst = weights.max { $0.relativeError < $1.relativeError }
    let deepest = layers.max { $0.relativeError < $1.relativeError }
    let flips = router.min { $0.setAgreement < $1.setAgreement }
    var table = Table(["", "source", "result"])
    table.add(["perplexity", fixed(perplexity.source, 4), fixed(perplexity.result, 4)])
    var lines = [table.text, ""]
    var facts = Table(["measure", "value", "meaning"])
    facts.add(["KL, mean", scientific(kl.mean), "nats a token, source to result, \(grouped(tokens)) tokens"])
    facts.add([
      "KL, median / p99 / max", "\(scientific(kl.median)) / \(scientific(kl.p99)) / \(scientific(kl.max))",
      "",
    ])
    facts.add(["KL, floor", scientific(kl.floor), "the source against itself, sums in another order"])
    facts.add([
      "KL, forced routing", scientific(kl.forcedRoutingMean), "the result on the source's expert choices",
    ])
    facts.add(["top-1 agreement", fixed(top1, 4), "same most likely token"])
    facts.add(["top-5 agreement", fixed(top5, 4), "mean overlap of the five most likely"])
    if let activations {
      facts.add([
        "with \(activations.rounding) activations", scientific(activations.kl.mean),
        "KL, mean; top-1 \(fixed(activations.top1, 4)), perplexity \(fixed(activations.perplexity, 4))",
      ])
    }
    if let flips {
      facts.add([
        "router, worst layer", fixed(flips.setAgreement, 4),
        "layer \(flips.layer): tokens with the same experts",
      ])
    }
    if let deepest {
      facts.add(["layer error, worst", scientific(deepest.relativeError), "layer \(deepest.layer), relative"])
    }
    if let worst { facts.add(["weight error, worst", scientific(worst.relativeError), worst.name]) }
    facts.add(["exact weights", "\(exactWeights) of \(weights.count)", "every number equal"])
    facts.add([
      "time, memory", "\(fixed(resources.seconds, 1)) s, \(byteText(resources.peakMemoryBytes))",
      "peak resident; \(resources.readText)",
    ])
    lines.append(facts.text)
    var verdict = "verdict: \(passes ? "pass" : "FAIL")"
    if let limit = thresholds.maxKL {
      verdict += ", mean KL \(scientific(kl.mean)) against at most \(scientific(limit))"
    }
    if let limit = thresholds.minTop1 {
      verdict += ", top-1 \(fixed(top1, 4)) against at least \(fixed(limit, 4))"
    }
    lines.append("")
    lines.append(verdict)
    return lines.joined(separator: "\n")
  }
}
