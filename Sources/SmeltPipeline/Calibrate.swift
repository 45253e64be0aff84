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

/// Runs the windows and writes the statistics file of Formats/statistics.md.
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
  var writer = try SafetensorsWriter(
    path: path, tensors: layout.declarations, metadata: statistics.metadata.map { ($0.key, $0.value) },
    overwrite: overwrite)
  options.progress.begin("calibrate", total: family.dimensions.layers + 1, unit: "layers")
  let tokens = try observe(family, model.weights, batch, layout, &writer, options)
  options.progress.end()
  try model.checkUnchanged()
  try writer.commit()
  return CalibrationSummary(
    path: path, tokens: batch.count, windows: batch.sequenceCount,
    windowsLeftOut: windows.sequences.count - batch.sequenceCount, coverage: Coverage(tokens),
    seconds: monotonicSeconds() - start, peakMemoryBytes: peakMemoryBytes())
}

/// The pass itself; each layer's statistics are written as soon as the layer is over.
private func observe(
  _ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch, _ layout: StatisticsLayout,
  _ writer: inout SafetensorsWriter, _ options: RunOptions
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
    try layout.write(observed.drain(), counts.first, layer: layer, &writer)
    giveBackFreeMemory()
    options.progress.advance(1)
  }
  try eachLogits(family, x, batch, observed, pass) { _, _ in }
  try layout.write(observed.drain(), nil, layer: nil, &writer)
  options.progress.advance(1)
  return tokens
}

/// Which statistics a model has, in file order: layer by layer, then what lies outside the layers.
private struct StatisticsLayout {
  private let sections: [(layer: Int?, specs: [WeightSpec])]
  private let experts: Int

  init(_ family: any ModelFamily) {
    let layers = family.dimensions.layers
    var specs = [[WeightSpec]](repeating: [], count: layers + 1)
    for spec in family.weights where spec.isMultiplied { specs[spec.layer ?? layers].append(spec) }
    sections = specs.enumerated().map { ($0 < layers ? $0 : nil, $1) }
    experts = family.dimensions.experts
  }

  private func hasExperts(_ specs: [WeightSpec]) -> Bool { specs.contains { $0.role.isRouted } }

  var declarations: [SafetensorsWriter.Declaration] {
    sections.flatMap { section in
      var tensors = section.specs.flatMap {
        StatisticsEntry.layout($0.name, groups: $0.inputGroups, columns: $0.shape.columns)
      }
      if let layer = section.layer, hasExperts(section.specs) {
        tensors.append((ExpertTokens.tensorName(layer), .i64, [experts]))
      }
      return tensors.map { SafetensorsWriter.Declaration($0.name, $0.dtype, $0.shape) }
    }
  }

  /// Writes one section; weights that no token reached get an entry that says so.
  func write(
    _ entries: [StatisticsEntry], _ tokens: ExpertTokens?, layer: Int?, _ writer: inout SafetensorsWriter
  ) throws {
    let found = Dictionary(uniqueKeysWithValues: entries.map { ($0.weight, $0) })
    let section = sections[layer ?? sections.count - 1]
    for spec in section.specs {
      let entry =
        found[spec.name]
        ?? StatisticsEntry(unreached: spec.name, groups: spec.inputGroups, columns: spec.shape.columns)
      for tensor in entry.tensors { try writer.write(tensor.name, tensor.bytes) }
    }
    if let layer, hasExperts(section.specs) {
      let counts = tokens ?? ExpertTokens(layer: layer, counts: [Int](repeating: 0, count: experts))
      try writer.write(counts.tensor.name, counts.tensor.bytes)
    }
  }
}

/// Reads a statistics file and checks that it belongs to a model. Values stay in the mapping until they are asked for.
/// - Throws: `STAT_FORMAT`, `STAT_MISMATCH`.
public func readStatistics(_ path: String, for model: Model) throws -> Statistics {
  let file = try SafetensorsFile(path: path)
  let statistics = try Statistics(
    tensors: file.tensors.map {
      StatisticsTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes)
    }, metadata: file.metadata.map { ($0.0, $0.1) }, file: path)
  try statistics.check(
    modelType: model.family.modelType, experts: model.family.dimensions.experts, weights: model.family.weights
  )
  return statistics
}
