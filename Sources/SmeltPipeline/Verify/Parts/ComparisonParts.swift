// `verify --shard`: runs of windows compared by themselves, on many machines; joined they are the report of one. Formats/cluster.md,
// section 6.

import SmeltContainers
import SmeltModels
import SmeltQuantization
package import SmeltStorage

/// The parts of one verification.
package struct ComparisonParts {
  /// The `schema` of the work.
  static let schema = "smelt.verify-part/1"

  private let windows: Windows
  private let isFull: Bool
  private let sides: ComparedSides
  /// The folder of the parts, or several.
  private let folders: [String]
  /// How many parts there are.
  private let count: Int
  /// What the verification is, the same for all parts and on all machines.
  private let work: JSON

  /// The parts of a verification.
  /// - Parameters:
  ///   - settings: what else the numbers depend on: the arithmetic of a further pass.
  ///   - parts: how many; not more than windows. Nil: as many as the parts that are there were made for.
  package init(
    source: Model, result: Model, _ windows: Windows, isFull: Bool, settings: JSON, folders: [String],
    parts: Int?
  ) throws {
    (self.windows, self.isFull, self.folders) = (windows, isFull, folders)
    sides = ComparedSides(source.family, result.family)
    let first = try parts == nil ? ComparisonParts.found(folders).first : nil
    let wanted = parts ?? first?.manifest.units ?? 1
    guard (1...1_000_000).contains(wanted) else {
      if let first {
        throw FormatError(
          .unitMismatch, file: first.manifestPath, subject: "units", "found \(wanted), expected 1 to 1000000")
      }
      throw RequestError(.usage, "--parts must be from 1 to 1000000, found \(wanted)")
    }
    count = min(wanted, windows.sequences.count)
    var ids = XXH64()
    for sequence in windows.sequences {
      [sequence.count].withUnsafeBytes { ids.update($0) }
      sequence.withUnsafeBytes { ids.update($0) }
    }
    work = [
      "schema": JSON(ComparisonParts.schema), "tool": JSON("smelt \(smeltVersion)"),
      "family": JSON(source.family.modelType), "source": try source.identity(hasTimes: false),
      "result": try result.identity(hasTimes: false), "tokens_xxh64": JSON(hexadecimal(ids.value())),
      "text": JSON(members: try windows.notes(windows.files).map { ($0.key, JSON($0.value)) }),
      "windows": JSON(windows.sequences.count), "context": JSON(windows.context),
      "tokenization": JSON(windows.tokenization.rawValue), "full": JSON(isFull), "settings": settings,
      "parts": JSON(count),
    ]
  }

  private static func found(_ folders: [String]) throws -> [FoundUnit] {
    try folders.flatMap { try FoundUnit.all(in: withoutSlash($0)) }
  }

  private func range(_ part: Int) -> Range<Int> {
    WindowParts.windows(part, of: count, among: windows.sequences.count)
  }

  private func counts(_ part: Int) -> [Int] { [range(part).lowerBound, range(part).count] }

  // MARK: a task

  /// Makes one share of the parts.
  /// - Parameters:
  ///   - overwrite: whether parts of other work are replaced.
  ///   - request: what was asked for, so that the parts can be joined without being told again.
  /// - Throws: as `verify`; `UNIT_MISMATCH` where the folder holds a part of other work and nothing is to be replaced.
  package func make(
    _ share: Share, source: Model, result: Model, rounding: ActivationRounding?, engine: EngineRun?,
    drafts: Bool, overwrite: Bool, request: JSON, _ options: RunOptions
  ) throws -> ShareSummary {
    let start = (monotonicSeconds(), processorSeconds())
    let folder = folders[0]
    try requireVerifiable(source, result, rounding, engine, drafts, options)
    try requireFolder(folder)
    try WindowParts.requireCount(count, in: folder)
    let own = share.parts(count)
    var written: [String] = []
    for part in own {
      let name = WindowParts.name(part, of: count)
      let path = joinPath(folder, name)
      func isThere() throws -> Bool {
        try UnitManifest.isThere(
          part, of: count, work: work, counts: counts(part), path: path, overwrite: overwrite)
      }
      if try isThere() { continue }
      try options.holding([path], "verify") {
        // Another task may have made it meanwhile.
        if try isThere() { return }
        options.progress.announce(
          "part \(part + 1) of \(count): windows \(range(part).lowerBound + 1) to \(range(part).upperBound)")
        let comparison = try compare(part, source, result, rounding, engine, drafts, options)
        try ComparisonNumbers(comparison).write(path)
        let manifest = try UnitManifest(
          work: work, request: request, part: part, of: count, path: path, counts: counts(part))
        try writeFile(UnitManifest.path(path), manifest.text, replacing: .only(.unitManifest))
        written.append(name)
      }
    }
    return ShareSummary(
      folder: folder, share: share, written: written, found: own.count - written.count, units: count,
      byteCount: written.reduce(0) { $0 + (fileByteCount(joinPath(folder, $1)) ?? 0) },
      seconds: monotonicSeconds() - start.0, processorSeconds: processorSeconds() - start.1,
      peakMemoryBytes: peakMemoryBytes())
  }

  /// Runs the windows of a part through both sides.
  private func compare(
    _ part: Int, _ source: Model, _ result: Model, _ rounding: ActivationRounding?, _ engine: EngineRun?,
    _ drafts: Bool, _ options: RunOptions
  ) throws -> Comparison {
    let layers = source.family.dimensions.layers
    let own = range(part)
    let sample = ComparisonPlan.sample(windows.sequences.map(\.count), isFull: isFull)
    let plan = ComparisonPlan(
      windows.part(own), source.family.dimensions, hasRounding: rounding != nil || engine != nil,
      sample: Set(sample.filter(own.contains).map { $0 - own.lowerBound }), options)
    windows.part(own).warnOfLength(source.family.dimensions, streams: 3, options)
    let cache = WeightCache([source, result], .withinLayers, options)
    var comparison = Comparison(layers, rounding: rounding, engine: engine, drafts: drafts)
    comparison.windowLayers = Array(repeating: [], count: layers)
    if options.compute == .int8 { comparison.integers = IntegerTally() }
    options.progress.begin("compare layers", total: layers + 1, unit: "layers")
    _ = try comparison.run(
      plan, source.family, cache.weights(0), result.family, cache.weights(1), options
    ) { cache.begin(layer: $0) }
    options.progress.advance(1)
    options.progress.end()
    comparison.integers?.report(to: options.progress)
    try source.checkUnchanged()
    try result.checkUnchanged()
    return comparison
  }

  // MARK: the join

  /// Whether folders hold parts of a verification, and what was asked for then.
  /// - Throws: `UNIT_MISMATCH` for what is no part of anything.
  package static func request(_ folders: [String]) throws -> JSON? {
    guard let first = try found(folders).first, first.manifest.work["schema"]?.string == schema else {
      return nil
    }
    return first.manifest.request
  }

  /// Adds up all parts.
  /// - Throws: `UNIT_MISMATCH` where one is missing, twice with different bytes, changed, or of another verification.
  func join(into comparison: inout Comparison, _ options: RunOptions) throws {
    let found = try ComparisonParts.found(folders)
    for part in found {
      let own = min(part.manifest.unit, count - 1)
      try part.manifest.check(
        part.manifest.unit, of: count, work: work, counts: counts(own), path: part.manifestPath)
    }
    let names = (0..<count).map { WindowParts.name($0, of: count) }
    let sample = ComparisonPlan.sample(windows.sequences.map(\.count), isFull: isFull)
    options.progress.begin("join", total: count, unit: "parts")
    for (part, unit) in try FoundUnit.distinct(found, names: names, folders).enumerated() {
      try Interrupt.check()
      try unit.file.check()
      let numbers = ComparisonReader(try ComparisonNumbers(path: unit.path), file: unit.path)
      try comparison.add(
        numbers, lengths: windows.sequences[range(part)].map(\.count),
        sampled: range(part).filter(sample.contains).reduce(0) { $0 + windows.sequences[$1].count }, sides)
      options.progress.advance(1)
    }
    options.progress.end()
  }

  /// Removes parts, and folders that are empty then.
  package static func remove(_ folders: [String]) throws { FoundUnit.remove(try found(folders), folders) }
}
