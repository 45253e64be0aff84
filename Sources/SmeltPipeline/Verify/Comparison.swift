// Source and result side by side: what the layers and the logits of some windows say, summed up for the report.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// Sums over tokens that become the report.
struct Comparison {
  /// How the result's activations are rounded, where they are.
  let rounding: ActivationRounding?
  /// The engine whose arithmetic a further pass follows; nil where none is.
  let engine: EngineRun?
  /// Where the rounded pass computes with whole numbers: which weights did.
  var integers: IntegerTally?
  var rounded = Agreements()
  /// The result as the engine computes it against the result as it is.
  var parity = EngineParity()
  /// The drafts of blocks that draft tokens; nil where they are not run.
  var drafts: DraftComparison?
  var sourceLosses: [Double] = []
  var resultLosses: [Double] = []
  var divergences: [Double] = []
  /// Of the sample's tokens alone: the same as in `divergences`, on forced routing, and of the source against itself.
  var sampleDivergences: [Double] = []
  var forcedDivergences: [Double] = []
  var floorDivergences: [Double] = []
  /// Of each token, as `divergences`: whether the most likely next token is the same, and the share of the five most likely that is.
  var sameTop: [Bool] = []
  var top5: [Double] = []
  /// The tokens furthest apart.
  var largest = LargestTokens()
  var layers: [Metrics.Distance]
  /// The same window by window, where the windows are a part of all: one run adds them in the order of the windows.
  var windowLayers: [[Metrics.Distance]]?
  var routing: [RouterSums?]

  /// Sums of a further stream against the source.
  struct Agreements {
    var losses: [Double] = []
    var divergences: [Double] = []
    var sameTop = 0
    var top5: [Double] = []
  }

  init(
    _ layerCount: Int, rounding: ActivationRounding? = nil, engine: EngineRun? = nil, drafts: Bool = false
  ) {
    (self.rounding, self.engine) = (rounding, engine)
    self.drafts = drafts ? DraftComparison() : nil
    layers = Array(repeating: Metrics.Distance(), count: layerCount)
    routing = Array(repeating: nil, count: layerCount)
  }

  /// Sums of each window.
  /// - Parameter lengths: tokens of each.
  func sums(_ lengths: [Int]) -> [WindowSums] {
    WindowSums.all(lengths, divergences: divergences, losses: (sourceLosses, resultLosses))
  }

  /// The activations of all passes.
  private struct Streams: ~Copyable {
    /// The source's.
    var source: TokenStream
    /// The source's, its sums in another order, over the sample.
    var noise: TokenStream
    /// The result's.
    var result: TokenStream
    /// The result's with the source's expert choices, over the sample; of no groups where none can be followed.
    var forced: TokenStream
    /// The result's with rounded activations; of no groups where there is no rounding.
    var rounded: TokenStream

    var spilledBytes: Int {
      source.spilledBytes + noise.spilledBytes + result.spilledBytes + forced.spilledBytes
        + rounded.spilledBytes
    }
  }

  /// Runs the windows through both sides, each on its own configuration, a layer at a time; over a sample of them the result also with the source's expert
  /// choices, and the source once more with its sums in another order. What uses one side's weights runs
  /// together, so that a layer of one side is read, and used for everything, before one of the other is.
  /// - Parameter each: called with each layer before it runs, and with the number of layers before the logits.
  /// - Returns: bytes of activations that waited in files.
  mutating func run(
    _ plan: ComparisonPlan, _ mine: some ModelFamily, _ source: some Weights, _ its: some ModelFamily,
    _ result: some Weights, _ options: RunOptions, each: (Int) throws -> Void = { _ in }
  ) throws -> Int {
    let pass = Pass(parallel: options.parallel)
    let permuted = PermutedWeights(base: source)
    let rounded: (any Weights)? =
      engine?.weights(result, options.parallel, integers: integers)
      ?? rounding.map { RoundedActivations(base: result, rounding: $0, integers: integers) }
    // Choices of another number of experts cannot be followed; without experts there are none.
    let canForce =
      mine.dimensions.experts > 0
      && mine.dimensions.expertsPerToken == its.dimensions.expertsPerToken
    func stream(_ groups: [TokenBatch], _ family: some ModelFamily, _ weights: some Weights) throws
      -> TokenStream
    {
      try TokenStream(
        groups, family, weights, folder: ScratchFile.temporaryFolder, inMemory: plan.inMemory)
    }
    var streams = Streams(
      source: try stream(plan.groups, mine, source),
      noise: try stream(plan.samples.map(\.batch), mine, source),
      result: try stream(plan.groups, its, result),
      forced: try stream(canForce ? plan.samples.map(\.batch) : [], its, result),
      rounded: try stream(rounded == nil ? [] : plan.groups, its, result))
    try LayerPass(mine, nil, options.progress).run { layer in
      try each(layer)
      var choices: [Routing?] = []
      try streams.source.update(pass) { batch, _, x, pass in
        choices.append(try mine.layer(layer, &x, batch, source, pass))
      }
      try streams.noise.update(pass) { batch, _, x, pass in
        _ = try mine.layer(layer, &x, batch, permuted, pass)
      }
      var place = 0
      var distance = Metrics.Distance()
      try streams.result.update(pass) { batch, _, y, pass in
        let routing = try its.layer(layer, &y, batch, result, pass)
        let x = try streams.source[place]
        for window in 0..<batch.sequenceCount {  // one by one, so that the sums do not depend on the groups
          distance = Metrics.distance(x, y, rows: batch.range(window), after: distance, options.parallel)
          guard batch.following.isEmpty else { continue }  // the window goes on
          layers[layer].add(distance)
          windowLayers?[layer].append(distance)
          distance = Metrics.Distance()
        }
        if let choice = choices[place], let routing { compare(choice, routing, layer) }
        place += 1
      }
      place = 0
      try streams.forced.update(pass) { batch, _, y, pass in
        let sample = plan.samples[place]
        var forced = pass
        forced.forcedRouting = choices[sample.group]?.taking(sample.places)
        _ = try its.layer(layer, &y, batch, result, forced)
        place += 1
      }
      if let rounded {
        try streams.rounded.update(pass) { batch, _, y, pass in
          _ = try its.layer(layer, &y, batch, rounded, pass)
        }
      }
    }
    try each(mine.dimensions.layers)
    for place in plan.groups.indices {
      let (x, y) = (try streams.source[place], try streams.result[place])
      var sampled: Sampled?
      if let number = plan.samples.firstIndex(where: { $0.group == place }) {
        sampled = Sampled(
          sample: plan.samples[number], noise: try streams.noise[number],
          forced: canForce ? try streams.forced[number] : nil)
      }
      try compareLogits(
        plan.groups[place], mine, source, permuted, its, result, (x, y, sampled), options)
      try drafts?.run(plan.groups[place], mine, source, x, its, result, y, options)
      if let rounded {
        let z = try streams.rounded[place]
        try compareRounded(plan.groups[place], mine, source, its, rounded, x, z, options)
        if engine != nil { try compareEngine(its, result, rounded, y, z, plan.groups[place], options) }
      }
    }
    return streams.spilledBytes
  }

  private mutating func compare(_ source: Routing, _ result: Routing, _ layer: Int) {
    var sums = routing[layer] ?? RouterSums()
    sums.add(source, result)
    routing[layer] = sums
  }

  /// A group's windows in the sample, and their activations in the passes over it.
  private struct Sampled {
    var sample: ComparisonPlan.Sample
    var noise: Matrix
    var forced: Matrix?
  }

  private mutating func compareLogits(
    _ batch: TokenBatch, _ mine: some ModelFamily, _ source: some Weights, _ permuted: some Weights,
    _ its: some ModelFamily, _ result: some Weights, _ streams: (Matrix, Matrix, Sampled?),
    _ options: RunOptions
  ) throws {
    let pass = Pass(parallel: options.parallel)
    let (x, y, sampled) = streams
    try forEachLogits(mine, x, batch, source, pass) { a, range in
      let b = try its.logits(y[range], result, pass)
      drafts?.add(a, b, options)
      let found = agreements(a, b, options)
      sourceLosses += Metrics.losses(a, found.map(\.totals.source), range, batch)
      resultLosses += Metrics.losses(b, found.map(\.totals.result), range, batch)
      largest.add(found, a, b, first: divergences.count, range, batch)
      for agreement in found {
        divergences.append(agreement.divergence)
        sameTop.append(agreement.sameTop)
        top5.append(agreement.top5)
      }
      guard let sampled, case let part = sampled.sample.rows(in: range), !part.isEmpty else { return }
      let rows = sampled.sample.places[part].map { $0 - range.lowerBound }
      sampleDivergences += rows.map { found[$0].divergence }
      if let forced = sampled.forced {
        let c = try its.logits(forced[part], result, pass)
        forcedDivergences += Metrics.agreements(a, rows: rows, c, options.parallel).map(\.divergence)
      }
      let d = try mine.logits(sampled.noise[part], permuted, pass)
      floorDivergences += Metrics.agreements(a, rows: rows, d, options.parallel).map(\.divergence)
    }
  }

  private mutating func compareRounded(
    _ batch: TokenBatch, _ mine: some ModelFamily, _ source: some Weights, _ its: some ModelFamily,
    _ rounded: some Weights, _ x: Matrix, _ z: Matrix, _ options: RunOptions
  ) throws {
    let pass = Pass(parallel: options.parallel)
    try forEachLogits(mine, x, batch, source, pass) { a, range in
      let b = try its.logits(z[range], rounded, pass)
      let found = agreements(a, b, options)
      self.rounded.losses += Metrics.losses(b, found.map(\.totals.result), range, batch)
      for agreement in found {
        self.rounded.divergences.append(agreement.divergence)
        self.rounded.sameTop += agreement.sameTop ? 1 : 0
        self.rounded.top5.append(agreement.top5)
      }
    }
  }

  private mutating func compareEngine(
    _ its: some ModelFamily, _ result: some Weights, _ rounded: some Weights, _ y: Matrix, _ z: Matrix,
    _ batch: TokenBatch, _ options: RunOptions
  ) throws {
    let pass = Pass(parallel: options.parallel)
    try forEachLogits(its, y, batch, result, pass) { a, range in
      let b = try its.logits(z[range], rounded, pass)
      parity.add(a, b, agreements(a, b, options))
    }
  }

  private func agreements(_ a: Matrix, _ b: Matrix, _ options: RunOptions) -> [Metrics.Agreement] {
    Metrics.agreements(a, b, options.parallel)
  }
}
