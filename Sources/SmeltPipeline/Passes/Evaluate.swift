// Perplexity of a text: the model's own measure, window by window.

import SmeltModels
package import SmeltStorage
import SmeltTensors

/// What `evaluate` found; the JSON contract of DESIGN.
package struct Evaluation: Sendable {
  /// exp(mean negative log-likelihood).
  package var perplexity: Double
  /// Mean negative log-likelihood in nats a predicted token.
  package var meanNLL: Double
  /// Tokens predicted: all but the first of each window.
  package var predictedTokens: Int
  /// Windows run.
  package var windows: Int
  /// Tokens a window.
  package var context: Int
  /// Wall time.
  package var seconds: Double
  /// Peak resident memory of the process.
  package var peakMemoryBytes: Int
  /// What it took.
  package var resources: Resources
  /// Weights that were multiplied as whole numbers; nil where that was not asked for.
  package var integerWeights: Int?
  /// Tensors that take no part, by rule.
  package var leftOut: [LeftOut] = []
  /// Things worth saying of the text.
  package var warnings: [String] = []

  /// The contract's JSON.
  package var json: JSON {
    var members: [(String, JSON)] = [
      ("schema", "smelt.evaluate/1"), ("perplexity", JSON(perplexity)), ("mean_nll", JSON(meanNLL)),
      ("predicted_tokens", JSON(predictedTokens)), ("windows", JSON(windows)), ("context", JSON(context)),
      ("seconds", JSON(seconds)),
      ("tokens_per_second", JSON(Double(predictedTokens + windows) / max(seconds, 1e-9))),
      ("peak_memory_bytes", JSON(peakMemoryBytes)), ("resources", resources.json),
      ("left_out", JSON(leftOut.map(\.json))), ("warnings", JSON(warnings.map { JSON($0) })),
    ]
    if let integerWeights { members.append(("integer_weights", JSON(integerWeights))) }
    return JSON(members: members)
  }
}

/// Runs the model over the windows: logits[0 … n−2] of a window predict ids[1 … n−1].
/// - Throws: `RequestError` usage where no window has a second token, so that nothing is predicted.
package func evaluate(_ model: Model, _ windows: Windows, _ options: RunOptions) throws -> Evaluation {
  try model.requireForwardPass()
  guard windows.sequences.contains(where: { $0.count > 1 }) else {
    throw RequestError(
      .usage, "no sequence has two tokens, so that there is nothing to predict",
      help: "give sequences of at least two tokens")
  }
  windows.warnOfLength(model.family.dimensions, streams: 1, options)
  let groups = windows.groups(model.family.dimensions, streams: 1, maxMemory: options.maxMemory)
  options.progress.announce(windows.summary(groups: groups.count))
  options.progress.begin("evaluate", total: model.family.dimensions.layers, unit: "layers")
  let cache = WeightCache([model], groups.count > 1 ? .withinLayers : .never, options)
  let tally = IntegerTally()
  let weights = try model.multiplying(cache.weights(), as: options.compute, tally)
  let (losses, spilled) = try negativeLogLikelihoods(model.family, weights, cache, groups, options)
  options.progress.end()
  if options.compute == .int8 { tally.report(to: options.progress) }
  try model.checkUnchanged()
  let mean = losses.reduce(0, +) / Double(losses.count)  // of nothing: not a number
  let resources = cache.resources(spilledBytes: spilled)
  return Evaluation(
    perplexity: exponential(mean), meanNLL: mean, predictedTokens: losses.count,
    windows: windows.sequences.count,
    context: windows.context, seconds: resources.seconds, peakMemoryBytes: resources.peakMemoryBytes,
    resources: resources, integerWeights: options.compute == .int8 ? tally.count : nil,
    leftOut: model.leftOut, warnings: windows.notes)
}

/// The negative log-likelihoods of the predicted tokens of some groups of windows, in order. Layers outside, groups inside:
/// the weights of a layer are used for all tokens before the next layer is looked at.
private func negativeLogLikelihoods(
  _ family: some ModelFamily, _ weights: some Weights, _ cache: WeightCache, _ groups: [TokenBatch],
  _ options: RunOptions
) throws -> (losses: [Double], spilledBytes: Int) {
  let pass = Pass(parallel: options.parallel)
  var stream = try TokenStream(groups, family, weights, folder: ScratchFile.temporaryFolder)
  try LayerPass(family, cache, options.progress).run { layer in
    try stream.update(pass) { batch, _, x, pass in _ = try family.layer(layer, &x, batch, weights, pass) }
  }
  var losses: [Double] = []
  try stream.forEach(pass) { batch, _, x, pass in
    try forEachLogits(family, x, batch, weights, pass) { logits, range in
      losses += Metrics.negativeLogLikelihoods(logits, range, batch, options.parallel)
    }
  }
  return (losses, stream.spilledBytes)
}
