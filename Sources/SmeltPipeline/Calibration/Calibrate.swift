// `calibrate`: the forward pass over a text, watched. Layers outside, experts inside: one layer's statistics are in
// memory at a time and go to the file as the layer ends. Activations that do not fit wait in a file.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// Runs the windows and writes the statistics file of Formats/statistics.md; an importance matrix of llama.cpp when
/// `path` ends in `.gguf`.
/// - Parameters:
///   - textPath: what the windows came from, unless they say so themselves.
///   - policy: what becomes of experts that few tokens reach.
///   - checkpoints: what is kept of it while it runs, and whether to go on with what was kept.
/// - Throws: `RequestError` cannot-create, io, interrupted; `OUT_ALIASES_INPUT`, `CAL_STARVED`, `RESUME_MISMATCH`; refusals of the
///   model's content.
package func calibrate(
  _ model: Model, _ windows: Windows, textPath: String, to path: String, overwrite: Bool,
  policy: CalibrationPolicy = CalibrationPolicy(),
  checkpoints: CalibrationProgressOptions = CalibrationProgressOptions(),
  _ options: RunOptions
) throws -> CalibrationSummary {
  try model.requireForwardPass()
  try requireName(path)
  try model.refuseAlias(path, and: windows.files.isEmpty ? [textPath] : windows.files)
  return try options.holding([path], "calibrate") {
    try calibrating(
      model, windows, textPath: textPath, to: path, overwrite: overwrite, policy: policy,
      checkpoints: checkpoints, options
    ) { $0 }
  }
}

/// Calibrates into a file beside a result whose lock is held, or into one whose lock is held itself.
/// - Parameters:
///   - form: means, or the sums of a part, of which any file is replaced.
///   - use: what the statistics are for; its checkpoints stay until that is done.
func calibrating<T>(
  _ model: Model, _ windows: Windows, textPath: String, to path: String, overwrite: Bool,
  policy: CalibrationPolicy, form: StatisticsForm = .means, checkpoints: CalibrationProgressOptions,
  _ options: RunOptions, use: (CalibrationSummary) throws -> T
) throws -> T {
  let files = windows.textFiles(textPath)
  try model.refuseAlias(path, and: files)
  // Killed before its journal was gone, a run may have written the statistics already.
  let mayBeWritten = checkpoints.resume && !overwrite && pathKind(ResultJournal.path(path)) == .file
  let replacement =
    form == .sums || mayBeWritten ? .sameBytes : Replacement(overwrite: overwrite, statisticsKind(path))
  try requireCreatable(path, replacing: replacement)
  let kept = try CalibrationProgress(
    path, try windows.identity(model, files, policy), model.family, form, pool: windows.pool.count,
    checkpoints)
  do {
    let result = try use(
      calibrate(model, windows, files, to: path, replacement, policy: policy, form, kept, options))
    kept.remove()
    return result
  } catch let error as RequestError
    where kept.canResume && [.interrupted, .io, .cannotCreate].contains(error.kind)
  {
    throw error.offeringResume
  } catch let error as FormatError where error.code == .resumeMismatch {
    throw error  // a refusal touches nothing
  } catch {
    kept.remove()
    throw error
  }
}

/// What a calibration writes under a name.
func statisticsKind(_ path: String) -> OutputKind { path.hasSuffix(".gguf") ? .imatrix : .statistics }

private func calibrate(
  _ model: Model, _ windows: Windows, _ files: [String], to path: String, _ replacement: Replacement,
  policy: CalibrationPolicy, _ form: StatisticsForm, _ kept: CalibrationProgress, _ options: RunOptions
) throws -> CalibrationSummary {
  let folder = parentFolder(path)
  func groups(_ added: [[Int]]) -> [TokenBatch] {
    Windows(windows.sequences + added, context: windows.context).groups(
      model.family.dimensions, streams: 1, maxMemory: options.maxMemory)
  }
  windows.warnOfLength(model.family.dimensions, streams: 1, options)
  // Of one group each weight is used once, but for starved experts.
  let runsOnce = windows.pool.isEmpty && groups([]).count == 1
  let cache = WeightCache([model], runsOnce ? .never : .withinLayers, options)
  let places =
    try kept.left.added
    ?? (policy.kind == .topUp
      ? topUpWindows(
        model.family, cache.weights(), cache, windows, minTokens: policy.minTokens, folder: folder, options)
      : [])
  try kept.note(added: places)
  let added = places.map { windows.pool[$0] }
  let calibration = Calibration(
    layout: StatisticsLayout(model.family), form: form, policy: policy,
    groups: groups(added), drawnTokens: windows.tokenCount,
    file: files.first, folder: folder, cache: cache, options: options)
  let tokens = calibration.groups.reduce(0) { $0 + $1.count }
  options.progress.announce(
    "\(grouped(tokens)) tokens in one pass over the layers, in \(grouped(calibration.groups.count)) \(calibration.groups.count == 1 ? "group" : "groups")"
  )
  var statistics = Statistics(
    modelType: model.family.modelType, tokens: tokens, context: windows.context,
    sequences: windows.sequences.count + added.count, form: form)
  statistics.notes = try windows.notes(files) + policy.notes(added: added.count)
  try kept.check(statistics, expertsPerToken: model.family.dimensions.expertsPerToken)
  let keeping = Keeping(checkpoints: kept, added: places, statistics: statistics)
  let learned: Learned
  if path.hasSuffix(".gguf") {
    learned = try calibration.observe(
      model, keeping,
      into: try ImatrixSink(
        path: path, calibration.layout, dataset: fileName(files[0]), statistics, replacement))
  } else {
    learned = try calibration.observe(
      model, keeping,
      into: try SafetensorsSink(path: path, calibration.layout, statistics, replacement))
  }
  let resources = cache.resources(spilledBytes: learned.spilledBytes)
  return CalibrationSummary(
    path: path, tokens: tokens, windows: statistics.sequences, toppedUpWindows: added.count,
    spilledBytes: learned.spilledBytes, policy: policy, coverage: Coverage(learned.tokens),
    expertTokens: learned.tokens, sources: learned.sources, seconds: resources.seconds,
    peakMemoryBytes: resources.peakMemoryBytes, resources: resources, leftOut: model.leftOut,
    warnings: windows.notes)
}

extension Windows {
  /// The files of the text, as far as the windows know them.
  func textFiles(_ textPath: String) -> [String] { files.isEmpty ? [textPath] : files }

  /// What a statistics file says of its text.
  func notes(_ files: [String]) throws -> [(key: String, value: String)] {
    var notes = [("text_sha256", try TextSource.hash(files)), ("text_files", String(files.count))]
    if let samples = draw.samples {
      notes += [("samples", String(samples)), ("seed", String(draw.seed))]
    }
    return notes
  }

  /// What a calibration is: program, model, tokens, and what becomes of starved experts.
  /// - Parameter hasTimes: whether the times of the model's files count.
  func identity(
    _ model: Model, _ files: [String], _ policy: CalibrationPolicy, hasTimes: Bool = true
  ) throws -> JSON {
    var ids = XXH64()
    for sequence in sequences + [[-1]] + pool { sequence.withUnsafeBytes { ids.update($0) } }
    return [
      "schema": "smelt.calibration-journal/2", "tool": JSON("smelt \(smeltVersion)"),
      "family": JSON(model.family.modelType), "files": try model.identity(hasTimes: hasTimes),
      "tokens_xxh64": JSON(hexadecimal(ids.value())), "windows": JSON(sequences.count),
      "context": JSON(context),
      "text": JSON(members: try notes(files).map { ($0.key, JSON($0.value)) }),
      "policy": JSON(policy.kind.rawValue), "min_tokens": JSON(policy.minTokens),
    ]
  }
}

/// What a calibration keeps of itself while it runs.
private struct Keeping {
  let checkpoints: CalibrationProgress
  /// The windows that were added, by their places in the pool.
  let added: [Int]
  /// The metadata.
  let statistics: Statistics
}

/// One calibration: what runs and what is done about starved experts.
private struct Calibration {
  let layout: StatisticsLayout
  let form: StatisticsForm
  let policy: CalibrationPolicy
  let groups: [TokenBatch]
  /// Tokens of the windows that were asked for; those after them were added.
  let drawnTokens: Int
  /// The text, for a refusal.
  let file: String?
  /// Where activations wait.
  let folder: String
  let cache: WeightCache
  let options: RunOptions

  /// The pass itself; each layer's statistics are written as soon as the layer is over, and the file is there at the end.
  func observe<Sink: StatisticsSink & ~Copyable>(
    _ model: Model, _ keeping: Keeping, into sink: consuming Sink
  ) throws -> Learned {
    options.progress.begin("calibrate", total: model.family.dimensions.layers + 1, unit: "layers")
    let learned = try observe(model.family, cache.weights(), keeping, &sink)
    options.progress.end()
    try model.checkUnchanged()
    try policy.check(learned.sources, file: file)
    try sink.commit()
    return learned
  }

  private func observe<Sink: StatisticsSink & ~Copyable>(
    _ family: some ModelFamily, _ weights: some Weights, _ keeping: Keeping, _ sink: inout Sink
  ) throws -> Learned {
    let tap = RouterTap(weights, of: family)
    let observed = ObservedWeights(tap, specs: family.weights, keepsSums: form == .sums)
    var pass = Pass(parallel: options.parallel)
    pass.keepsExpertInputs = policy.kind == .topUp
    let experts = family.dimensions.experts
    var learned = Learned()
    let left = keeping.checkpoints.left
    for layer in left.layers { try learned.add(layer, &sink) }
    options.progress.advance(left.layers.count)
    var stream =
      try left.activations.map { try TokenStream(groups, family, folder: folder, saved: $0) }
      ?? TokenStream(groups, family, observed, folder: folder)
    learned.spilledBytes = stream.spilledBytes
    let wanted = policy.kind == .topUp ? policy.minTokens : 0
    let inputs = groups.count > 1 && wanted > 0 ? try ScratchFile(in: folder) : nil
    try LayerPass(family, cache, options.progress).run(from: left.layers.count) { layer in
      var nearest = NearestTokens(experts: experts, wanted: wanted, scratch: inputs)
      var drawn = [Int](repeating: 0, count: experts)
      try stream.update(pass) { batch, first, x, pass in
        let routing = try family.layer(layer, &x, batch, observed, pass)
        var seen = tap.drain()
        guard let routing else { return }
        if let inputs = routing.inputs { seen?.inputs = inputs }
        observed.record(routing, layer: layer, experts: experts)
        let drawnHere = min(max(0, drawnTokens - first), batch.count)
        for expert in routing.experts.prefix(drawnHere * routing.perToken) { drawn[Int(expert)] += 1 }
        if let seen { try nearest.add(routing, seen, first: first) }
      }
      let section = layout.sections[layer]
      let counts = section.tokens(observed.drainRouting().first)
      let cache = section.cache(observed.drainCaches().first { $0.layer == layer })
      var replayed = [Int](repeating: 0, count: experts)
      if counts != nil {
        for expert in 0..<experts {
          guard let rows = try nearest.replay(expert) else { continue }
          try Interrupt.check()
          _ = try family.expert(expert, layer: layer, rows, observed, pass)
          replayed[expert] = rows.rows
        }
      }
      let sources = counts.map { policy.sources($0, drawn: drawn, replayed: replayed) }
      let entries = policy.finished(section.entries(observed.drain()), sources)
      let found = LearnedLayer(entries: entries, cache: cache, tokens: counts, sources: sources)
      try learned.add(found, &sink)
      try keeping.checkpoints.layerEnded(
        found, keeping.statistics, added: keeping.added, stream,
        canStop: family.canBegin(at: layer + 1))
    }
    learned.spilledBytes = stream.spilledBytes + (inputs?.byteCount ?? 0)
    let last = ObservedWeights(
      HeadInputs(weights, of: family), specs: family.weights, keepsSums: form == .sums)
    try stream.forEach(pass) { batch, _, x, pass in
      try forEachLogits(family, x, batch, last, pass) { _, _ in }
    }
    let outside = layout.sections[family.dimensions.layers].entries(last.drain())
    try sink.write(LearnedLayer(entries: outside))
    options.progress.advance(1)
    return learned
  }
}
