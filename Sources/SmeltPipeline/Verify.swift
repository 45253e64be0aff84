// `verify`: source and result through the same forward pass, layer by layer, side by side. Two (and for the floor and
// the forced routing two more) sets of activations, one layer's weights at a time.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// What `verify` demands of a result.
public struct Thresholds: Sendable {
  /// The largest mean KL divergence that passes, in nats a token.
  public var maxKL: Double?
  /// The smallest share of tokens with the same most likely next token that passes.
  public var minTop1: Double?

  /// Thresholds; without any the verdict is always `pass`.
  public init(maxKL: Double? = nil, minTop1: Double? = nil) {
    self.maxKL = maxKL
    self.minTop1 = minTop1
  }
}

/// Tokens for which the noise of rounding alone is measured: a few windows are enough for a mean.
private let floorTokens = 2048

/// Compares a result with its source over the windows of a text.
/// - Parameter rounding: how the result's activations are rounded in a further pass; nil for none.
/// - Throws: `RequestError` usage when the two are not the same architecture.
public func verify(
  source: Model, result: Model, _ windows: Windows, thresholds: Thresholds,
  rounding: ActivationRounding? = nil, _ options: RunOptions
) throws -> Report {
  let start = monotonicSeconds()
  try requireComparable(source, result)
  var report = Report(source: source, result: result, windows: windows, thresholds: thresholds)
  report.activations = try rounding.map { try Report.activations($0, of: result) }
  let groups = windows.groups(
    source.family.dimensions, streams: rounding == nil ? 4 : 5, maxMemory: options.maxMemory)
  options.progress.announce(windows.summary(passes: groups.count))
  report.weights = try compareWeights(source, result, options)
  var comparison = Comparison(source.family.dimensions.layers, rounding: rounding)
  options.progress.begin(
    "compare layers", total: groups.count * source.family.dimensions.layers, unit: "layers")
  var noiseLeft = floorTokens
  for batch in groups {
    let noisy = noiseBatch(batch, &noiseLeft)
    try comparison.add(batch, noisy: noisy, source.family, source.weights, result.weights, options)
  }
  options.progress.end()
  try source.checkUnchanged()
  try result.checkUnchanged()
  report.fill(comparison)
  report.seconds = monotonicSeconds() - start
  report.peakMemoryBytes = peakMemoryBytes()
  return report
}

/// Refuses two models whose weights do not stand for each other, naming the first difference.
private func requireComparable(_ source: Model, _ result: Model) throws {
  let (a, b) = (source.family, result.family)
  var difference: String?
  if a.modelType != b.modelType {
    difference = "one is \(a.modelType), the other \(b.modelType)"
  } else if let (x, y) = zip(a.weights, b.weights).first(where: { $0.name != $1.name || $0.shape != $1.shape }
  ) {
    difference =
      x.name == y.name
      ? "'\(x.name)' is \(x.shape) and \(y.shape)" : "one has '\(x.name)', the other '\(y.name)'"
  } else if a.weights.count != b.weights.count {
    difference = "one has \(a.weights.count) weights, the other \(b.weights.count)"
  }
  guard let difference else { return }
  throw RequestError(
    .usage, "'\(source.path)' and '\(result.path)' are not the same architecture: \(difference)",
    help: "verify compares a model with what was made from it")
}

/// The first windows of a batch, as long as fewer than `left` tokens were taken; at least one window the first time.
private func noiseBatch(_ batch: TokenBatch, _ left: inout Int) -> TokenBatch? {
  var sequences: [[Int]] = []
  for sequence in 0..<batch.sequenceCount where left > 0 {
    sequences.append(Array(batch.ids[batch.range(sequence)]))
    left -= batch.range(sequence).count
  }
  return sequences.isEmpty ? nil : TokenBatch(sequences)
}

/// Decodes every weight on both sides and measures how far they are apart.
func compareWeights(_ source: Model, _ result: Model, _ options: RunOptions) throws -> [Report.WeightError] {
  let specs = source.family.weights
  options.progress.begin("compare weights", total: specs.count, unit: "weights")
  defer { options.progress.end() }
  return try specs.map { spec in
    try Interrupt.check()
    let (a, b) = (try source.weights.weight(spec.name), try result.weights.weight(spec.name))
    let distance =
      spec.role == .hashTable
      ? Metrics.Distance(integers: try a.integers(), try b.integers())
      : Metrics.distance(a, b, options.parallel)
    source.weights.finished(spec.name)
    result.weights.finished(spec.name)
    options.progress.advance(1)
    return Report.WeightError(
      name: spec.name.description, scheme: b.encoding.name, relativeError: distance.relativeError,
      maxAbsError: distance.largest, cosine: distance.cosine)
  }
}

/// Sums over tokens that become the report.
struct Comparison {
  /// How the result's activations are rounded, where they are.
  let rounding: ActivationRounding?
  var rounded = Agreements()
  var sourceLosses: [Double] = []
  var resultLosses: [Double] = []
  var divergences: [Double] = []
  var forcedDivergences: [Double] = []
  var floorDivergences: [Double] = []
  var sameTop = 0
  var top5 = 0.0
  var layers: [Metrics.Distance]
  var routing: [RouterSums?]

  /// Sums of a further stream against the source.
  struct Agreements {
    var losses: [Double] = []
    var divergences: [Double] = []
    var sameTop = 0
    var top5 = 0.0
  }

  /// Sums of a layer's router agreement.
  struct RouterSums {
    var tokens = 0
    var sameSet = 0
    var overlap = 0.0
  }

  init(_ layerCount: Int, rounding: ActivationRounding? = nil) {
    self.rounding = rounding
    layers = Array(repeating: Metrics.Distance(), count: layerCount)
    routing = Array(repeating: nil, count: layerCount)
  }

  /// Runs a batch through both sides; the result also with the source's expert choices; and the source once more with
  /// its sums in another order, over `noisy`.
  mutating func add(
    _ batch: TokenBatch, noisy: TokenBatch?, _ family: some ModelFamily, _ source: some Weights,
    _ result: some Weights,
    _ options: RunOptions
  ) throws {
    let pass = Pass(parallel: options.parallel)
    let permuted = PermutedWeights(base: source)
    var x = try family.embed(batch, source)
    var y = try family.embed(batch, result)
    var forced = y
    let rounded = rounding.map { RoundedActivations(base: result, rounding: $0) }
    var z = rounded == nil ? nil : y
    var noise = try noisy.map { try family.embed($0, source) }
    for layer in 0..<family.dimensions.layers {
      try Interrupt.check()
      let sourceRouting = try family.layer(layer, &x, batch, source, pass)
      let resultRouting = try family.layer(layer, &y, batch, result, pass)
      _ = try family.layer(
        layer, &forced, batch, result, Pass(parallel: options.parallel, forcedRouting: sourceRouting))
      if let rounded, var stream = z {
        z = nil  // one owner, so that the layer works in place
        _ = try family.layer(layer, &stream, batch, rounded, pass)
        z = stream
      }
      if let noisy, var stream = noise {
        _ = try family.layer(layer, &stream, noisy, permuted, pass)
        noise = stream
      }
      for window in 0..<batch.sequenceCount {  // one by one, so that the sums do not depend on the groups
        layers[layer].add(Metrics.distance(x, y, rows: batch.range(window), options.parallel))
      }
      if let sourceRouting, let resultRouting { compare(sourceRouting, resultRouting, layer) }
      giveBackFreeMemory()
      options.progress.advance(1)
    }
    try compareLogits(batch, noisy, family, source, permuted, result, (x, y, forced, noise), options)
    if let rounded, let z {
      try eachLogits(family, x, batch, source, pass) { a, range in
        let b = try family.logits(z[range], rounded, pass)
        self.rounded.losses += Metrics.negativeLogLikelihoods(b, range, batch, options.parallel)
        for agreement in agreements(a, b, options) {
          self.rounded.divergences.append(agreement.divergence)
          self.rounded.sameTop += agreement.sameTop ? 1 : 0
          self.rounded.top5 += agreement.top5
        }
      }
    }
  }

  private mutating func compare(_ source: Routing, _ result: Routing, _ layer: Int) {
    var sums = routing[layer] ?? RouterSums()
    let k = source.perToken
    for token in 0..<source.experts.count / k {
      let a = source.experts[token * k..<(token + 1) * k]
      let shared = Set(a).intersection(result.experts[token * k..<(token + 1) * k]).count
      sums.tokens += 1
      sums.sameSet += shared == Set(a).count ? 1 : 0
      sums.overlap += Double(shared) / Double(Set(a).count)
    }
    routing[layer] = sums
  }

  private mutating func compareLogits(
    _ batch: TokenBatch, _ noisy: TokenBatch?, _ family: some ModelFamily, _ source: some Weights,
    _ permuted: some Weights, _ result: some Weights, _ streams: (Matrix, Matrix, Matrix, Matrix?),
    _ options: RunOptions
  ) throws {
    let pass = Pass(parallel: options.parallel)
    let (x, y, forced, noise) = streams
    options.progress.begin("compare logits", total: batch.count, unit: "tokens")
    try eachLogits(family, x, batch, source, pass) { a, range in
      let b = try family.logits(y[range], result, pass)
      sourceLosses += Metrics.negativeLogLikelihoods(a, range, batch, options.parallel)
      resultLosses += Metrics.negativeLogLikelihoods(b, range, batch, options.parallel)
      for agreement in agreements(a, b, options) {
        divergences.append(agreement.divergence)
        sameTop += agreement.sameTop ? 1 : 0
        top5 += agreement.top5
      }
      let c = try family.logits(forced[range], result, pass)
      forcedDivergences += agreements(a, c, options).map(\.divergence)
      if let noise, range.lowerBound < noise.rows {
        let part = range.clamped(to: 0..<noise.rows)
        let d = try family.logits(noise[part], permuted, pass)
        floorDivergences += agreements(a[0..<part.count], d, options).map(\.divergence)
      }
      options.progress.advance(range.count)
    }
    options.progress.end()
  }

  private func agreements(_ a: Matrix, _ b: Matrix, _ options: RunOptions) -> [Metrics.Agreement] {
    var all = [Metrics.Agreement](
      repeating: Metrics.Agreement(divergence: 0, sameTop: false, top5: 0), count: a.rows)
    Metrics.fill(&all, options.parallel) { row in
      Metrics.withRow(a, row) { x in Metrics.withRow(b, row) { y in Metrics.agreement(x, y) } }
    }
    return all
  }
}

/// The same weights, their products summed in another order: what differs is the noise of rounding.
struct PermutedWeights<Base: Weights>: Weights {
  let base: Base

  func weight(_ name: WeightName) throws -> Weight { try base.weight(name) }
  func finished(_ name: WeightName) { base.finished(name) }
  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    SmeltTensors.multiply(x, try weight(name), rows: rows, parallel: parallel, order: .permuted)
  }
}
