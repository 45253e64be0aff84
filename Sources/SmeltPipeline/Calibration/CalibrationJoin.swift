// The parts of a calibration, proved to be all of one, added up in their order. Formats/cluster.md, section 5.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage

/// Joins the parts of a calibration that folders hold.
/// - Throws: `UNIT_MISMATCH`; `RequestError` usage for options of conversions; refusals of the source.
func joinCalibration(
  _ found: [FoundUnit], _ folders: [String], to path: String, _ asked: JoinOptions, _ run: RunOptions
) throws -> CalibrationSummary {
  guard asked.recipe == nil, asked.statistics == nil else {
    throw RequestError(
      .usage, "--recipe and --statistics are for parts of a conversion, these are of a calibration",
      help: "omit them")
  }
  guard let request = found.first?.manifest.request, let source = asked.source ?? request["model"]?.string
  else {
    throw FormatError(.unitMismatch, file: found.first?.manifestPath, "does not say what was asked for")
  }
  let model = try Model.open(
    source, allowDrop: (request["allow_drop"]?.array ?? []).compactMap(\.string))
  try model.refuseAlias(path, and: found.flatMap { [$0.path, $0.manifestPath] })
  return try run.holding([path], "join") {
    let replacement = Replacement(overwrite: asked.overwrite, statisticsKind(path))
    try requireCreatable(path, replacing: replacement)
    return try joinCalibration(found, folders, model, to: path, replacement, run)
  }
}

/// Joins the parts of a calibration of a model that is open, into a file whose lock is held.
/// - Throws: `UNIT_MISMATCH`; `STAT_FORMAT`, `STAT_MISMATCH`; `CAL_STARVED` where the policy is to refuse; `RequestError`
///   cannot-create, io.
func joinCalibration(
  _ found: [FoundUnit], _ folders: [String], _ model: Model, to path: String, _ replacement: Replacement,
  _ run: RunOptions
) throws -> CalibrationSummary {
  let start = monotonicSeconds()
  let family = model.family
  let parts = try JoinedParts(found, folders, model)
  let layout = StatisticsLayout(family)
  run.progress.begin("check parts", total: parts.units.count, unit: "parts")
  var files: [Statistics] = []
  for unit in parts.units {
    try unit.file.check()
    let file = try statisticsFile(unit.path, .sums)
    try file.check(
      modelType: family.modelType, experts: family.dimensions.experts, weights: family.weights)
    files.append(file)
    run.progress.advance(1)
  }
  run.progress.end()
  var statistics = Statistics(
    modelType: family.modelType, tokens: try sum(files.map(\.tokens), files), context: parts.context,
    sequences: try sum(files.map(\.sequences), files))
  statistics.notes = parts.notes
  run.progress.begin("add parts", total: layout.sections.count, unit: "layers")
  let learned: Learned
  if path.hasSuffix(".gguf") {
    learned = try parts.add(
      files, layout, run,
      into: try ImatrixSink(path: path, layout, dataset: parts.dataset, statistics, replacement))
  } else {
    learned = try parts.add(
      files, layout, run, into: try SafetensorsSink(path: path, layout, statistics, replacement))
  }
  run.progress.end()
  var resources = Resources()
  (resources.seconds, resources.peakMemoryBytes) = (monotonicSeconds() - start, peakMemoryBytes())
  return CalibrationSummary(
    path: path, tokens: statistics.tokens, windows: statistics.sequences, toppedUpWindows: 0,
    spilledBytes: 0, policy: parts.policy, coverage: Coverage(learned.tokens),
    expertTokens: learned.tokens, sources: learned.sources, seconds: resources.seconds,
    peakMemoryBytes: resources.peakMemoryBytes, resources: resources, leftOut: model.leftOut)
}

/// A sum of numbers that files tell.
/// - Throws: `STAT_FORMAT` for a number that no calibration can reach.
private func sum(_ numbers: [Int], _ files: [Statistics]) throws(FormatError) -> Int {
  var total = 0
  for (number, file) in zip(numbers, files) {
    // A million parts of so many stay below 2^63.
    guard (0...1 << 42).contains(number) else {
      throw FormatError(.statistics, file: file.file, "counts \(number) tokens, which no part has")
    }
    total += number
  }
  return total
}

/// All parts of one calibration, in order, and what they say of it.
private struct JoinedParts {
  let units: [FoundUnit]
  let policy: CalibrationPolicy
  let context: Int
  /// What the statistics say of text and policy.
  let notes: [(key: String, value: String)]
  /// The name of the text.
  let dataset: String

  /// Proves that every part is there once, of one calibration of this model by this program.
  init(_ found: [FoundUnit], _ folders: [String], _ model: Model) throws {
    guard let first = found.first else {
      throw FormatError(.unitMismatch, file: folders.first, "holds no part of a calibration")
    }
    let work = first.manifest.work
    let mine: [String: JSON] = [
      "tool": JSON("smelt \(smeltVersion)"), "family": JSON(model.family.modelType),
      "files": try model.identity(hasTimes: false),
    ]
    let expected = JSON(
      members: work.members.map { ($0, mine[$0] ?? $1) })
    guard let count = work["parts"]?.integer, let windows = work["windows"]?.integer,
      (1...1_000_000).contains(count), (count...1 << 40).contains(windows),
      let context = work["context"]?.integer, context >= 0,
      let kind = work["policy"]?.string.flatMap(CalibrationPolicy.Kind.init), kind != .topUp,
      let minTokens = work["min_tokens"]?.integer, minTokens >= 0, let text = work["text"]?.object,
      mine.keys.allSatisfy({ work[$0] != nil })
    else {
      throw FormatError(.unitMismatch, file: first.manifestPath, "does not describe a part of a calibration")
    }
    for part in found {
      let own = WindowParts.windows(
        min(part.manifest.unit, count - 1), of: count, among: windows)
      try part.manifest.check(
        part.manifest.unit, of: count, work: expected, counts: [own.lowerBound, own.count],
        path: part.manifestPath)
    }
    units = try FoundUnit.distinct(
      found, names: (0..<count).map { WindowParts.name($0, of: count) }, folders)
    policy = CalibrationPolicy(kind, minTokens: minTokens)
    self.context = context
    notes =
      zip(text.keys, text.values).map { ($0, $1.string ?? $1.text()) } + policy.notes(added: 0)
      + [("parts", String(count))]
    dataset = units[0].manifest.request["text"]?.string ?? ""
  }

  /// Adds the parts layer by layer, weight by weight, from the first to the last.
  func add<Sink: StatisticsSink & ~Copyable>(
    _ files: [Statistics], _ layout: StatisticsLayout, _ run: RunOptions, into sink: consuming Sink
  ) throws -> Learned {
    var learned = Learned()
    for section in layout.sections {
      try Interrupt.check()
      try learned.add(try layer(section, files), &sink)
      run.progress.advance(1)
    }
    try policy.check(learned.sources, file: dataset)
    try sink.commit()
    return learned
  }

  private func layer(_ section: StatisticsLayout.Section, _ files: [Statistics]) throws -> LearnedLayer {
    let entries = try section.specs.map { spec in
      StatisticsEntry.sum(
        try files.map { file in
          guard let entry = try file.entry(spec.name), entry.absmax != nil else {
            throw missing(section, file)
          }
          _ = try sum(entry.counts, entry.counts.map { _ in file })
          return entry
        })
    }
    guard let number = section.layer else { return LearnedLayer(entries: entries) }
    var layer = LearnedLayer(entries: entries)
    for file in files {
      guard let cache = try file.cacheRange(layer: number) else { throw missing(section, file) }
      layer.cache = layer.cache?.joined(cache) ?? cache
    }
    guard section.experts > 0 else { return layer }
    var counts = [Int](repeating: 0, count: section.experts)
    for file in files {
      guard let tokens = try file.expertTokens(layer: number) else { throw missing(section, file) }
      _ = try sum(tokens.counts, tokens.counts.map { _ in file })
      for (expert, count) in tokens.counts.enumerated() { counts[expert] += count }
    }
    let tokens = ExpertTokens(layer: number, counts: counts)
    let sources = policy.sources(tokens, drawn: counts, replayed: counts.map { _ in 0 })
    (layer.tokens, layer.sources) = (tokens, sources)
    layer.entries = policy.finished(entries, sources)
    return layer
  }

  private func missing(_ section: StatisticsLayout.Section, _ file: Statistics) -> FormatError {
    FormatError(.unitMismatch, file: file.file, "lacks statistics of \(section.place)")
  }
}
