// `verify`: source and result through the same forward pass, layer by layer, side by side. Two (and, over a
// sample of the windows, for the floor and the forced routing two more) sets of activations, one layer's weights at a time. Activations that do not fit wait in
// files, so that each side is read once, however many windows there are.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// Compares a result with its source over the windows of a text, each on its own configuration.
/// - Parameters:
///   - rounding: how the result's activations are rounded in a further pass; nil for none.
///   - engine: whose arithmetic that pass follows instead; nil for none.
///   - drafts: whether the blocks that draft tokens run too.
///   - isFull: whether the floor and the forced routing are measured over all windows, not over a sample.
///   - parts: what parts found, which are joined; nil: the windows run now.
/// - Throws: `RequestError` usage when the two are not the same architecture, unsupported for drafts where one side has none that
///   run; refusals of their content; `UNIT_MISMATCH` for parts that are not all of this comparison.
package func verify(
  source: Model, result: Model, _ windows: Windows, thresholds: Thresholds,
  rounding: ActivationRounding? = nil, engine: EngineRun? = nil, drafts: Bool = false,
  isFull: Bool = false, parts: ComparisonParts? = nil, _ options: RunOptions
) throws -> Report {
  try requireVerifiable(source, result, rounding, engine, drafts, options)
  var report = try Report(source: source, result: result, windows: windows, thresholds: thresholds)
  report.differences = try ModelDifference.all(source, result, each: try windows.comparedTexts)
  report.activations = try rounding.map { try Report.activations($0, of: result) }
  let layers = source.family.dimensions.layers
  let cache = WeightCache([source, result], .withinLayers, options)
  var weights = try WeightComparison(source, result, cache)
  var comparison = Comparison(layers, rounding: rounding, engine: engine, drafts: drafts)
  var spilled = 0
  if let parts {
    try parts.join(into: &comparison, options)
    options.progress.begin("compare weights", total: layers + 1, unit: "layers")
    for layer in 0..<layers {
      cache.begin(layer: layer)
      try weights.compare(layer: layer, options)
      options.progress.advance(1)
    }
  } else {
    let plan = ComparisonPlan(
      windows, source.family.dimensions, hasRounding: rounding != nil || engine != nil, isFull: isFull,
      options)
    windows.warnOfLength(source.family.dimensions, streams: 3, options)
    options.progress.announce(windows.summary(groups: plan.groups.count))
    if options.compute == .int8 { comparison.integers = IntegerTally() }
    options.progress.begin("compare layers", total: layers + 1, unit: "layers")
    spilled = try comparison.run(
      plan, source.family, cache.weights(0), result.family, cache.weights(1), options
    ) {
      cache.begin(layer: $0)
      if $0 < layers { try weights.compare(layer: $0, options) }
    }
  }
  try weights.compareRest(options)
  options.progress.advance(1)
  options.progress.end()
  if let integers = comparison.integers { integers.report(to: options.progress) }
  report.weights = weights.errors
  try source.checkUnchanged()
  try result.checkUnchanged()
  report.fill(comparison)
  report.making.add(weights.origin, source: source)
  report.add(weights.hashes)
  report.largest = comparison.largest.located(
    windows.sequences, decode: source.decoder(windows.tokenization))
  report.engine = engine.map { Report.EngineParityReport($0, comparison, divergence: report.kl.mean) }
  report.faults =
    report.differences.filter(\.changesNumbers).map { Fault($0) } + weights.faults + report.faults
  report.resources = cache.resources(spilledBytes: spilled)
  return report
}

/// Refuses what cannot be compared in a forward pass.
/// - Throws: `RequestError` usage, unsupported.
func requireVerifiable(
  _ source: Model, _ result: Model, _ rounding: ActivationRounding?, _ engine: EngineRun?, _ drafts: Bool,
  _ options: RunOptions
) throws {
  guard options.compute == .float32 || rounding != nil || engine != nil else {
    throw RequestError(
      .usage, "--compute int8 is for a pass whose activations are rounded",
      help: "add --activations int8, gguf or declared, or --as an engine")
  }
  try requireComparable(source, result)
  try source.requireForwardPass()
  if drafts { for model in [source, result] { try model.requireDrafts() } }
}

/// Compares the weights, the configurations and the tokenizers of a result and its source, and runs nothing.
/// - Parameters:
///   - thresholds: of weights; those of a forward pass cannot be met without one.
///   - reason: why nothing is run, for the report.
/// - Throws: `RequestError` usage when the two are not the same architecture, unsupported for thresholds that need a forward pass;
///   refusals of their content.
package func verifyWeights(
  source: Model, result: Model, thresholds: Thresholds, because reason: String, _ options: RunOptions
) throws -> Report {
  try requireComparable(source, result)
  guard thresholds.maxKL == nil, thresholds.minTop1 == nil, thresholds.profile == nil else {
    throw RequestError(
      .unsupported, "--profile, --max-kl and --min-top1 need a forward pass: \(reason)",
      help: "of weights alone, --max-weight-error is a threshold")
  }
  var report = try Report(
    source: source, result: result, windows: Windows([], context: 0), thresholds: thresholds)
  report.notRun = reason
  report.differences = try ModelDifference.all(source, result)
  let cache = WeightCache([source, result], .withinLayers, options)
  var weights = try WeightComparison(source, result, cache)
  options.progress.begin("compare weights", total: source.family.weights.count, unit: "weights")
  try weights.compareRest(options)
  options.progress.end()
  report.weights = weights.errors
  report.making.add(weights.origin, source: source)
  report.add(weights.hashes)
  try source.checkUnchanged()
  try result.checkUnchanged()
  report.faults = report.differences.filter(\.changesNumbers).map { Fault($0) } + weights.faults
  report.resources = cache.resources(spilledBytes: 0)
  return report
}

extension Model {
  /// The weights that stand on both sides: a container may hold the text model alone.
  func comparedWeights(with other: Model) -> [WeightSpec] {
    guard family is CarryingFamily, family.weights.count > other.family.weights.count else {
      return family.weights
    }
    let names = Set(other.family.weights.map(\.name))
    return family.weights.filter { !$0.isCarried || names.contains($0.name) }
  }

  /// Refuses a model that nothing here can run.
  /// - Throws: `RequestError` unsupported.
  package func requireForwardPass() throws {
    if let unknown = family.core as? UnknownArchitecture { throw unknown.noForwardPass }
  }

  /// Why nothing runs, where the architecture has no forward pass here; nil where it has one.
  package var noForwardPass: String? { (family.core as? UnknownArchitecture)?.noForwardPass.problem }
}

/// Refuses two models whose weights do not stand for each other, naming the first difference.
func requireComparable(_ source: Model, _ result: Model) throws {
  let (a, b) = (source.family, result.family)
  let (left, right) = (source.comparedWeights(with: result), result.comparedWeights(with: source))
  if a.modelType == b.modelType, a.hasForwardPass != b.hasForwardPass {
    try source.requireForwardPass()
    try result.requireForwardPass()
  }
  var difference: String?
  if a.modelType != b.modelType {
    difference = "one is \(a.modelType), the other \(b.modelType)"
  } else if let (x, y) = zip(left, right).first(where: { $0.name != $1.name || $0.shape != $1.shape }) {
    difference =
      x.name == y.name
      ? "'\(x.name)' is \(x.shape) and \(y.shape)" : "one has '\(x.name)', the other '\(y.name)'"
  } else if left.count != right.count {
    difference = "one has \(left.count) weights, the other \(right.count)"
  }
  guard let difference else { return }
  throw RequestError(
    .usage, "'\(source.path)' and '\(result.path)' are not the same architecture: \(difference)",
    help: "compare a model with what was made from it")
}
