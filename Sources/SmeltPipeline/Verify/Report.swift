// What `verify` found.

import SmeltContainers
import SmeltModels
import SmeltStorage

/// The result of a verification.
package struct Report: Sendable {
  /// One weight's distance from its source.
  package struct WeightError: Sendable {
    /// Canonical name.
    package var name: String
    /// The result's encoding.
    package var scheme: String
    /// √(Σ (a − b)² / Σ a²), a the source.
    package var relativeError: Double
    /// max |a − b|.
    package var maxAbsError: Double
    /// Σ a b / √(Σ a² Σ b²).
    package var cosine: Double
    /// Numbers outside the range of the codes.
    var clipped = 0
    /// Whether it is what its scheme makes of the source's.
    var state = WeightFindings.State.exact
    /// The row that is furthest beyond its bound, where one is.
    var row: WeightFindings.Row?
    /// What it does.
    var role = Role.other
    /// The layer it belongs to, if any.
    var layer: Int?
    /// How many numbers.
    var elements = 0
    /// Bytes of codes and scales in the source.
    var sourceBytes = 0
    /// The same in the result.
    var resultBytes = 0
    /// Σ (a − b)².
    var squares = 0.0
    /// Σ a².
    var energy = 0.0

    /// Whether every number is the source's.
    package var isExact: Bool { maxAbsError == 0 }
  }

  /// One layer's router agreement.
  package struct RouterAgreement: Sendable {
    /// The layer.
    package var layer: Int
    /// Share of tokens that went to the same experts.
    package var setAgreement: Double
    /// Mean share of a token's experts that are the same.
    package var meanOverlap: Double
    /// By expert: tokens that the source sent to it.
    package var chosen: [Int]
    /// By expert: those of them that the result did not send to it.
    package var missed: [Int]
  }

  /// One layer's distance from the source's.
  package struct LayerError: Sendable {
    /// The layer.
    package var layer: Int
    /// √(Σ (a − b)² / Σ a²) over the layer's output.
    package var relativeError: Double
    /// Σ a b / √(Σ a² Σ b²).
    package var cosine: Double
  }

  /// The KL divergence over the tokens, in nats.
  package struct Divergence: Sendable {
    /// Mean over all tokens.
    package var mean = 0.0
    /// The middle one.
    package var median = 0.0
    /// Exceeded by one token in a hundred.
    package var p99 = 0.0
    /// The largest.
    package var max = 0.0
    /// Mean of the source against itself with another order of summation, over the sample.
    package var floor = 0.0
    /// Mean with the result following the source's expert choices, over the sample; `mean` for models without experts.
    package var forcedRoutingMean = 0.0
    /// Mean over the sample of what `mean` is over all tokens: what `forcedRoutingMean` is to be held against.
    package var sampleMean = 0.0
    /// Tokens of the sample: windows at equal steps, or all of them.
    package var sampleTokens = 0
  }

  private(set) var sides: [(key: String, json: JSON)]
  /// How it came about.
  package internal(set) var making: Making
  /// What the source holds and the result left out.
  let missing: [LeftOut]
  /// Tokens compared.
  package let tokens: Int
  /// Tokens a window.
  package let context: Int
  /// Where the ids came from.
  package let tokenization: Windows.Tokenization
  /// What was demanded.
  package let thresholds: Thresholds
  /// Perplexities of source and result.
  package internal(set) var perplexity = (source: 0.0, result: 0.0)
  /// The KL divergence.
  package internal(set) var kl = Divergence()
  /// The divergences that shares of the tokens do not exceed, from the least to the largest; empty where none was measured.
  package internal(set) var quantiles: [(share: Double, value: Double)] = []
  /// How sure the figures are; nil where one window or none tells.
  package internal(set) var intervals: Intervals?
  /// Each of several texts by itself; empty where there is one, which all other figures are about.
  package internal(set) var texts: [TextFigures] = []
  /// The tokens of the largest divergence, the largest first.
  package internal(set) var largest: [LargestToken] = []
  /// Share of tokens with the same most likely next token.
  package internal(set) var top1 = 0.0
  /// Mean share of the source's five most likely next tokens among the result's five.
  package internal(set) var top5 = 0.0
  /// By layer with experts.
  package internal(set) var router: [RouterAgreement] = []
  /// By layer.
  package internal(set) var layers: [LayerError] = []
  /// By weight.
  package internal(set) var weights: [WeightError] = []
  /// The result with its activations rounded; nil where that was not asked for.
  package internal(set) var activations: Activations?
  /// The result as an engine computes it; nil where that was not asked for.
  package internal(set) var engine: EngineParityReport?
  /// What configurations and tokenizers differ in.
  package internal(set) var differences: [ModelDifference] = []
  /// What no scheme explains; any of it fails the result.
  package internal(set) var faults: [Fault] = []
  /// What blocks that draft tokens did; empty where they were not run.
  package internal(set) var drafts: [Drafts] = []
  /// Weights of blocks that draft tokens, on both sides: they are compared, and run where that is asked for.
  package let draftWeights: Int
  /// Why no forward pass was run, where none was: the weights alone were compared then.
  package internal(set) var notRun: String?
  /// What it took.
  package internal(set) var resources = Resources()

  /// Tokens of each window.
  private let lengths: [Int]
  /// Which windows are which text's, where there are several.
  private let parts: [Windows.Part]
  /// Experts of a layer, where there are any.
  private let expertCount: Int

  init(source: Model, result: Model, windows: Windows, thresholds: Thresholds) throws {
    making = try Making(windows)
    lengths = windows.sequences.map(\.count)
    parts = windows.parts
    expertCount = source.family.dimensions.experts
    missing = try result.lacksDrafts(of: source)
    sides = [
      ("source", Report.describe(source, try source.lacksDrafts(of: result))),
      ("result", Report.describe(result, missing)),
    ]
    draftWeights = source.comparedWeights(with: result).count { $0.isDraft }
    tokens = windows.tokenCount
    context = windows.context
    tokenization = windows.tokenization
    self.thresholds = thresholds
  }

  private static func describe(_ model: Model, _ missing: [LeftOut]) -> JSON {
    var members: [(String, JSON)] = [
      ("path", JSON(model.path)), ("container", JSON(model.containerName)),
      ("family", JSON(model.family.modelType)),
      ("bytes", JSON(model.files.reduce(0) { $0 + $1.byteCount })),
    ]
    if let hash = model.source.contentHash { members.append(("content_hash", JSON(hash))) }
    if let hash = Making.manifestHash(model) { members.append(("manifest_sha256", JSON(hash))) }
    members.append(("left_out", JSON((model.leftOut + missing).map(\.json))))
    return JSON(members: members)
  }

  /// Adds the hash of each side's weights to what is said of the two.
  mutating func add(_ hashes: (source: String, result: String)) {
    for (place, hash) in [hashes.source, hashes.result].enumerated() {
      let members = sides[place].json.object.map { Array(zip($0.keys, $0.values)) } ?? []
      sides[place].json = JSON(members: members + [("weights_sha256", JSON(hash))])
    }
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
      // Without choices there is nothing to follow: the pass is the same.
      forcedRoutingMean: mean(
        comparison.forcedDivergences.isEmpty && comparison.routing.allSatisfy { $0 == nil }
          ? comparison.divergences : comparison.forcedDivergences),
      sampleMean: mean(comparison.sampleDivergences), sampleTokens: comparison.sampleDivergences.count)
    if kl.mean.isFinite {
      quantiles = Report.shares.map { ($0, Metrics.percentile(sorted, $0)) }
      intervals = Intervals(comparison.sums(lengths))
    }
    drafts = comparison.drafts?.drafts ?? []
    if !kl.mean.isFinite { faults.append(Fault(numbers: "the divergence is no finite number")) }
    let count = Double(max(1, comparison.divergences.count))
    if activations != nil {
      let rounded = comparison.rounded
      let sorted = rounded.divergences.sorted()
      activations?.perplexity = exponential(mean(rounded.losses))
      activations?.kl = Divergence(
        mean: mean(rounded.divergences), median: Metrics.percentile(sorted, 0.5),
        p99: Metrics.percentile(sorted, 0.99), max: sorted.last ?? 0)
      activations?.top1 = Double(rounded.sameTop) / count
      activations?.top5 = rounded.top5.reduce(0, +) / count
    }
    top1 = Double(comparison.sameTop.count { $0 }) / count
    top5 = comparison.top5.reduce(0, +) / count
    texts = parts.enumerated().map { TextFigures($0.element, making.parts[$0.offset], lengths, comparison) }
    router = comparison.routing.enumerated().compactMap { layer, sums in
      sums.map { RouterAgreement(layer: layer, $0, experts: expertCount) }
    }
    layers = comparison.layers.enumerated().map {
      LayerError(layer: $0.offset, relativeError: $0.element.relativeError, cosine: $0.element.cosine)
    }
  }

  /// The shares of the tokens whose quantiles are kept.
  private static let shares = (0..<100).map { Double($0) / 100 } + [0.995, 0.999, 1]

  /// Whether nothing speaks against the result: no fault, and every threshold that was given is met.
  package var passes: Bool { verdict != .fail }

  /// Weights whose every number is the source's.
  package var exactWeights: Int { weights.count { $0.isExact } }
}
