// `join`: the parts that the tasks of a cluster wrote, proved to be all of one conversion, become the result that one machine would
// have written. Formats/cluster.md, section 4.

import SmeltContainers
import SmeltModels
import SmeltQuantization
package import SmeltStorage

/// What is asked of a join beside what the parts say themselves.
package struct JoinOptions: Sendable {
  /// The source, where it lies elsewhere by now.
  package var source: String?
  /// The recipe's file, where it lies elsewhere.
  package var recipe: String?
  /// The statistics, where they lie elsewhere.
  package var statistics: String?
  /// Replace a result that Smelt wrote.
  package var overwrite: Bool
  /// Remove the parts once the result has its name.
  package var removesParts: Bool
  /// Whether a statement about the result is asked for, which only a model has.
  package var isStated: Bool

  /// Options.
  package init(
    source: String? = nil, recipe: String? = nil, statistics: String? = nil, overwrite: Bool = false,
    removesParts: Bool = false, isStated: Bool = false
  ) {
    (self.source, self.recipe, self.statistics) = (source, recipe, statistics)
    (self.overwrite, self.removesParts, self.isStated) = (overwrite, removesParts, isStated)
  }
}

/// What a join made.
package enum Joined: Sendable {
  /// A model.
  case model(ConvertSummary)
  /// Statistics.
  case statistics(CalibrationSummary)

  /// What was converted; nil for what is no model.
  package var conversion: ConvertSummary? {
    guard case .model(let summary) = self else { return nil }
    return summary
  }

  /// For machines: as the verb that one machine would have run.
  package var json: JSON {
    switch self {
    case .model(let summary): summary.json
    case .statistics(let summary): summary.json
    }
  }

  /// For people.
  package var text: String {
    switch self {
    case .model(let summary): summary.text
    case .statistics(let summary): summary.text
    }
  }
}

/// Joins the parts of a conversion or of a calibration.
/// - Parameter folders: the folders of parts that the tasks wrote.
/// - Throws: `UNIT_MISMATCH` where a unit is missing, twice with different bytes, changed, or of other work; refusals of the source;
///   `RequestError` usage for options that the work has no use for; cannot-create, io.
package func joinParts(_ folders: [String], to path: String, _ asked: JoinOptions, _ run: RunOptions) throws
  -> Joined
{
  try requireName(path)
  let found = try folders.flatMap { try FoundUnit.all(in: withoutSlash($0)) }
  guard let first = found.first else {
    throw FormatError(
      .unitMismatch, file: folders.first, "holds no part of anything",
      help: "give the folder RESULT.parts that tasks wrote with --shard")
  }
  let joined: Joined =
    switch first.manifest.work["schema"]?.string {
    case CalibrationParts.schema where asked.isStated:
      throw RequestError(
        .usage, "--attest states what a model was made of, these are parts of statistics",
        help: "omit --attest")
    case CalibrationParts.schema: .statistics(try joinCalibration(found, folders, to: path, asked, run))
    default: .model(try joinConversion(found, first, folders, to: path, asked, run))
    }
  if asked.removesParts { FoundUnit.remove(found, folders) }
  return joined
}

private func joinConversion(
  _ found: [FoundUnit], _ first: FoundUnit, _ folders: [String], to path: String, _ asked: JoinOptions,
  _ run: RunOptions
) throws -> ConvertSummary {
  let start = (monotonicSeconds(), processorSeconds())
  let request = try RecordedRequest(first.manifest.request, file: first.manifestPath, asked)
  let model = try Model.open(request.model, allowDrop: request.allowDrop)
  try model.refuseAlias(path)
  var options = try request.conversion.options(for: model, result: path, run)
  options.isStrict = request.isStrict
  options.unitBytes = request.unitBytes
  return try run.holding([path], "join") {
    let plan = try Plan(model, options)
    let work = try options.unitWork(path, plan, model)
    let parts = try proved(found, work, try options.work(model, plan, work.units), plan, folders)
    var facts = LedgerFacts(plan)
    var files: [UnitFile] = []
    for (unit, part) in zip(work.units.units, parts) {
      for (slab, done) in zip(plan.slabs[unit.slabs], part.manifest.done) {
        if done.facts.inexactValues > 0 { try options.requireExact(slab) }
        facts.add(done.facts, of: slab)
      }
      files.append(part.file)
    }
    run.progress.begin("join", total: files.count, unit: "units")
    let written = try work.join(files, ledger: facts.ledger)
    run.progress.end()
    return ConvertSummary(
      path: path, container: options.target.name, byteCount: written.byteCount,
      contentHash: written.contentHash, files: written.files, warnings: plan.warnings + written.warnings,
      bytesIn: plan.bytesIn, leftOut: plan.leftOut, leftFiles: plan.leftFiles, ledger: facts.ledger,
      provenance: try provenance(model, options, facts.ledger), seconds: monotonicSeconds() - start.0,
      processorSeconds: processorSeconds() - start.1,
      peakMemoryBytes: peakMemoryBytes())
  }
}

/// One part for each unit of a plan, in order.
/// - Throws: `UNIT_MISMATCH`.
private func proved(
  _ found: [FoundUnit], _ parts: any UnitWork, _ work: JSON, _ plan: Plan, _ folders: [String]
) throws -> [FoundUnit] {
  let units = parts.units.units
  for part in found {
    guard units.indices.contains(part.manifest.unit), part.manifest.units == units.count else {
      throw FormatError(
        .unitMismatch, file: part.manifestPath,
        "is unit \(part.manifest.unit + 1) of \(part.manifest.units), the conversion has \(units.count) units"
      )
    }
    try part.manifest.check(
      units[part.manifest.unit], plan, work: work, path: part.manifestPath)
  }
  return try FoundUnit.distinct(found, names: units.map(\.file), folders, check: parts.check)
}
