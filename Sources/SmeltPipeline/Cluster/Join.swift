// `join`: the parts that the tasks of a cluster wrote, proved to be all of one conversion, become the result that one machine would
// have written. Formats/cluster.md, section 4.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage

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

  /// Options.
  package init(
    source: String? = nil, recipe: String? = nil, statistics: String? = nil, overwrite: Bool = false,
    removesParts: Bool = false
  ) {
    (self.source, self.recipe, self.statistics) = (source, recipe, statistics)
    (self.overwrite, self.removesParts) = (overwrite, removesParts)
  }
}

/// Joins the parts of a conversion.
/// - Parameter folders: the folders of parts that the tasks wrote.
/// - Throws: `UNIT_MISMATCH` where a unit is missing, twice with different bytes, changed, or of other work; refusals of the source;
///   `RequestError` cannot-create, io.
package func joinParts(_ folders: [String], to path: String, _ asked: JoinOptions, _ run: RunOptions) throws
  -> ConvertSummary
{
  let start = (monotonicSeconds(), processorSeconds())
  try requireName(path)
  let found = try folders.flatMap { try FoundUnit.all(in: withoutSlash($0)) }
  guard let first = found.first else {
    throw FormatError(
      .unitMismatch, file: folders.first, "holds no unit of a conversion",
      help: "give the folder RESULT.parts that `smelt convert --shard` wrote")
  }
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
    if asked.removesParts { for part in found { part.remove() } }
    if asked.removesParts { for folder in folders { removeEmptyFolder(withoutSlash(folder)) } }
    return ConvertSummary(
      path: path, container: options.target.name, byteCount: written.byteCount,
      contentHash: written.contentHash, files: written.files, warnings: plan.warnings + written.warnings,
      bytesIn: plan.bytesIn, leftOut: plan.leftOut, leftFiles: plan.leftFiles, ledger: facts.ledger,
      seconds: monotonicSeconds() - start.0, processorSeconds: processorSeconds() - start.1,
      peakMemoryBytes: peakMemoryBytes())
  }
}

/// One part for each unit of a plan, in order.
/// - Throws: `UNIT_MISMATCH`.
private func proved(
  _ found: [FoundUnit], _ parts: any UnitWork, _ work: JSON, _ plan: Plan, _ folders: [String]
) throws -> [FoundUnit] {
  let units = parts.units.units
  var byNumber: [Int: FoundUnit] = [:]
  for part in found {
    guard units.indices.contains(part.manifest.unit), part.manifest.units == units.count else {
      throw FormatError(
        .unitMismatch, file: part.manifestPath,
        "is unit \(part.manifest.unit + 1) of \(part.manifest.units), the conversion has \(units.count) units"
      )
    }
    try part.manifest.check(
      units[part.manifest.unit], plan, work: work, path: part.manifestPath)
    if let other = byNumber[part.manifest.unit] {
      guard other.manifest.sum == part.manifest.sum, other.manifest.byteCount == part.manifest.byteCount
      else {
        throw FormatError(
          .unitMismatch, file: part.manifestPath, subject: "unit \(part.manifest.unit + 1)",
          "has other bytes than '\(other.manifestPath)' says")
      }
      continue
    }
    byNumber[part.manifest.unit] = part
  }
  let missing = units.filter { byNumber[$0.number] == nil }
  guard missing.isEmpty else {
    let names = missing.prefix(5).map(\.file).joined(separator: ", ")
    throw FormatError(
      .unitMismatch, file: folders.first,
      "\(missing.count) of \(units.count) units are missing: \(names)\(missing.count > 5 ? " and others" : "")",
      help: "run the tasks again whose shares they are: a task does only what is missing")
  }
  return units.compactMap { byNumber[$0.number] }
}

/// A unit's manifest in a folder, and the file that it speaks of.
private struct FoundUnit {
  let manifest: UnitManifest
  let manifestPath: String
  let path: String

  var file: UnitFile {
    UnitFile(path: path, byteCount: manifest.byteCount, sum: manifest.sum, counts: manifest.counts)
  }

  /// All of a folder, in order of their units.
  static func all(in folder: String) throws -> [FoundUnit] {
    guard pathKind(folder) == .directory else {
      throw FormatError(.missingFile, file: folder, "there is no such folder of parts")
    }
    return try namesInFolder(folder).filter { $0.hasSuffix(UnitManifest.ending) }.map { name in
      let path = joinPath(folder, name)
      return FoundUnit(
        manifest: try UnitManifest(path: path), manifestPath: path,
        path: String(path.dropLast(UnitManifest.ending.count)))
    }.sorted { $0.manifest.unit < $1.manifest.unit }
  }

  /// Removes the file, its manifest, and what killed tasks left of them.
  func remove() {
    removeFile(manifestPath)
    removeFile(path)
    for name in (try? namesInFolder(parentFolder(path))) ?? []
    where name.hasPrefix(fileName(path))
      && matchesGlob("*.partial-*", String(name.dropFirst(fileName(path).count)))
    {
      removeFile(joinPath(parentFolder(path), name))
    }
  }
}
