// `calibrate`: the forward pass over a text, watched. Layers outside, experts inside: one layer's statistics are in
// memory at a time and go to the file as the layer ends.

import SmeltContainers
import SmeltModels
public import SmeltQuantization
public import SmeltStorage
import SmeltTensors

/// What a calibration did.
public struct CalibrationSummary: Sendable {
  /// The statistics file; nil when it was not kept.
  public var path: String?
  /// Tokens that ran.
  public var tokens: Int
  /// Windows that ran.
  public var windows: Int
  /// Windows of the text that did not fit into the memory allowed.
  public var windowsLeftOut: Int
  /// Which experts the text reached.
  public var coverage: Coverage
  /// Wall time.
  public var seconds: Double
  /// Peak resident memory of the process.
  public var peakMemoryBytes: Int

  /// For machines.
  public var json: JSON {
    [
      "path": JSON(path), "tokens": JSON(tokens), "windows": JSON(windows),
      "windows_left_out": JSON(windowsLeftOut), "coverage": coverage.json, "seconds": JSON(seconds),
      "tokens_per_second": JSON(Double(tokens) / max(seconds, 1e-9)),
      "peak_memory_bytes": JSON(peakMemoryBytes),
    ]
  }

  /// For people.
  public var text: String {
    var lines = [coverage.text]
    if windowsLeftOut > 0 {
      lines.append("note: \(windowsLeftOut) windows did not fit into --max-memory and were left out")
    }
    lines.append(
      "\(path ?? "calibration"): \(grouped(tokens)) tokens in \(fixed(seconds, 1)) s, peak memory \(byteText(peakMemoryBytes))"
    )
    return lines.joined(separator: "\n")
  }
}

/// Runs the windows and writes the statistics file of Formats/statistics.md; an importance matrix of llama.cpp when
/// `path` ends in `.gguf`.
/// - Throws: `RequestError` cannot-create, io, interrupted; `OUT_ALIASES_INPUT`; refusals of the model's content.
public func calibrate(
  _ model: Model, _ windows: Windows, textPath: String, to path: String, overwrite: Bool,
  _ options: RunOptions
) throws -> CalibrationSummary {
  let start = monotonicSeconds()
  try model.refuseAlias(path, and: [textPath])
  let family = model.family
  let groups = windows.groups(family.dimensions, streams: 1, maxMemory: options.maxMemory)
  let batch = groups[0]
  options.progress.announce(
    "\(grouped(batch.count)) of \(grouped(windows.tokenCount)) tokens, in one pass over the layers")
  var statistics = Statistics(
    modelType: family.modelType, tokens: batch.count, context: windows.context, sequences: batch.sequenceCount
  )
  statistics.notes = [("text_sha256", SHA256.hex(try MappedFile(path: textPath).bytes))]
  let layout = StatisticsLayout(family)
  let tokens =
    if path.hasSuffix(".gguf") {
      try observe(
        model, batch,
        into: try ImatrixSink(
          path: path, layout, dataset: fileName(textPath), statistics, overwrite: overwrite), layout, options)
    } else {
      try observe(
        model, batch, into: try SafetensorsSink(path: path, layout, statistics, overwrite: overwrite), layout,
        options)
    }
  return CalibrationSummary(
    path: path, tokens: batch.count, windows: batch.sequenceCount,
    windowsLeftOut: windows.sequences.count - batch.sequenceCount, coverage: Coverage(tokens),
    seconds: monotonicSeconds() - start, peakMemoryBytes: peakMemoryBytes())
}

/// Where statistics go as they are learned: entries and counts of one section of the layout after the other.
protocol StatisticsSink: ~Copyable {
  /// Takes a section: an entry for each of its weights, in order, and the tokens of its experts, if it has any.
  mutating func write(_ entries: [StatisticsEntry], _ tokens: ExpertTokens?) throws
  /// Everything was written.
  consuming func commit() throws
}

/// A statistics file of our own.
private struct SafetensorsSink: StatisticsSink, ~Copyable {
  var writer: SafetensorsWriter

  init(path: String, _ layout: StatisticsLayout, _ statistics: Statistics, overwrite: Bool) throws {
    writer = try SafetensorsWriter(
      path: path, tensors: layout.declarations, metadata: statistics.metadata.map { ($0.key, $0.value) },
      overwrite: overwrite)
  }

  mutating func write(_ entries: [StatisticsEntry], _ tokens: ExpertTokens?) throws {
    for tensor in entries.flatMap(\.tensors) { try writer.write(tensor.name, tensor.bytes) }
    if let tokens { try writer.write(tokens.tensor.name, tokens.tensor.bytes) }
  }

  consuming func commit() throws { try writer.commit() }
}

/// The pass itself; each layer's statistics are written as soon as the layer is over, and the file is there at the end.
private func observe<Sink: StatisticsSink & ~Copyable>(
  _ model: Model, _ batch: TokenBatch, into sink: consuming Sink, _ layout: StatisticsLayout,
  _ options: RunOptions
) throws -> [ExpertTokens] {
  options.progress.begin("calibrate", total: model.family.dimensions.layers + 1, unit: "layers")
  let tokens = try observe(model.family, model.weights, batch, layout, &sink, options)
  options.progress.end()
  try model.checkUnchanged()
  try sink.commit()
  return tokens
}

private func observe<Sink: StatisticsSink & ~Copyable>(
  _ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch, _ layout: StatisticsLayout,
  _ sink: inout Sink, _ options: RunOptions
) throws -> [ExpertTokens] {
  let observed = ObservedWeights(weights, specs: family.weights)
  let pass = Pass(parallel: options.parallel)
  var tokens: [ExpertTokens] = []
  var x = try family.embed(batch, observed)
  for layer in 0..<family.dimensions.layers {
    try Interrupt.check()
    if let routing = try family.layer(layer, &x, batch, observed, pass) {
      observed.record(routing, layer: layer, experts: family.dimensions.experts)
    }
    let counts = observed.drainRouting()
    tokens += counts
    let section = layout.sections[layer]
    try sink.write(section.entries(observed.drain()), section.tokens(counts.first))
    giveBackFreeMemory()
    options.progress.advance(1)
  }
  try eachLogits(family, x, batch, observed, pass) { _, _ in }
  try sink.write(layout.sections[family.dimensions.layers].entries(observed.drain()), nil)
  options.progress.advance(1)
  return tokens
}

/// Which statistics a model has, in file order: layer by layer, then what lies outside the layers.
struct StatisticsLayout {
  /// A layer, or what lies outside the layers.
  struct Section {
    let layer: Int?
    let specs: [WeightSpec]
    /// Routed experts; 0 for a section without.
    let experts: Int

    /// An entry for each weight; weights that no token reached get one that says so.
    func entries(_ found: [StatisticsEntry]) -> [StatisticsEntry] {
      let found = Dictionary(uniqueKeysWithValues: found.map { ($0.weight, $0) })
      return specs.map {
        found[$0.name]
          ?? StatisticsEntry(unreached: $0.name, groups: $0.inputGroups, columns: $0.shape.columns)
      }
    }

    /// The tokens of the section's experts; nil when it has none.
    func tokens(_ found: ExpertTokens?) -> ExpertTokens? {
      guard let layer, experts > 0 else { return nil }
      return found ?? ExpertTokens(layer: layer, counts: [Int](repeating: 0, count: experts))
    }
  }

  /// Layers in order, then what lies outside.
  let sections: [Section]

  init(_ family: any ModelFamily) {
    let layers = family.dimensions.layers
    var specs = [[WeightSpec]](repeating: [], count: layers + 1)
    for spec in family.weights where spec.isMultiplied { specs[spec.layer ?? layers].append(spec) }
    sections = specs.enumerated().map { index, specs in
      let layer = index < layers ? index : nil
      let hasExperts = layer != nil && specs.contains { $0.role.isRouted }
      return Section(layer: layer, specs: specs, experts: hasExperts ? family.dimensions.experts : 0)
    }
  }

  var declarations: [SafetensorsWriter.Declaration] {
    sections.flatMap { section in
      var tensors = section.specs.flatMap {
        StatisticsEntry.layout($0.name, groups: $0.inputGroups, columns: $0.shape.columns)
      }
      if let layer = section.layer, section.experts > 0 {
        tensors.append((ExpertTokens.tensorName(layer), .i64, [section.experts]))
      }
      return tensors.map { SafetensorsWriter.Declaration($0.name, $0.dtype, $0.shape) }
    }
  }
}
