// `convert --shard i/n`: one task of a cluster writes its share of a result's units into a folder beside it. No lock, no file that two
// tasks write: each unit gets its name when it is whole, and a unit that is there is not made again. Formats/cluster.md.

import SmeltContainers
import SmeltModels
import SmeltQuantization
package import SmeltStorage

/// What a task did.
package struct ShareSummary: Sendable {
  /// The folder of parts.
  package var folder: String
  /// Which share it was.
  package var share: Share
  /// Units of the share that were written, and that were there.
  package var written: [String]
  package var found: Int
  /// Units of all shares.
  package var units: Int
  /// Bytes that were written.
  package var byteCount: Int
  /// Wall time.
  package var seconds: Double
  /// CPU time, all threads together.
  package var processorSeconds: Double
  /// Peak resident memory of the process.
  package var peakMemoryBytes: Int

  /// One line.
  package var text: String {
    var line = "\(printable(folder)): share \(share.text), \(written.count) of \(units) units written"
    if found > 0 { line += ", \(found) were there" }
    if written.count + found == 0 { line += "; there are fewer units than shares" }
    return line + "; \(byteText(byteCount)), \(fixed(seconds, 2)) s"
  }

  /// For machines.
  package var json: JSON {
    [
      "schema": "smelt.share/1", "folder": JSON(folder), "share": JSON(share.number),
      "shares": JSON(share.count),
      "written": JSON(written.map { JSON($0) }), "found": JSON(found), "units": JSON(units),
      "bytes": JSON(byteCount), "seconds": JSON(seconds), "processor_seconds": JSON(processorSeconds),
      "peak_memory_bytes": JSON(peakMemoryBytes),
    ]
  }
}

/// The folder of parts beside a result.
package func partsFolder(_ result: String) -> String { withoutSlash(result) + ".parts" }

extension ConvertOptions {
  /// What the work is, the same for all tasks: a file's times may differ from machine to machine.
  func work(_ model: Model, _ plan: Plan, _ units: UnitPlan) throws -> JSON {
    let header = try ConversionJournal.header(model, plan, self, layout: units.layout, hasTimes: false)
    let sizes = JSON(units.units.map { [JSON($0.slabs.count), JSON($0.bytesOut)] }).text()
    return JSON(
      members: header.members + [
        ("units_xxh64", JSON(hexadecimal(Array(sizes.utf8).withUnsafeBytes { xxh64($0) }))),
        ("exact_only", JSON(exactOnly)),
      ])
  }
}

/// Writes one share of a conversion into the folder of parts.
/// - Throws: as `convert`; `UNIT_MISMATCH` where the folder holds a unit of other work and nothing is to be replaced.
package func convertShare(_ model: Model, to path: String, _ share: Share, _ options: ConvertOptions) throws
  -> ShareSummary
{
  let start = (monotonicSeconds(), processorSeconds())
  try requireName(path)
  try model.refuseAlias(path)
  try Share.requireNoResume(options.resume)
  model.limitCache(options.run.maxMemory / 8)
  let plan = try Plan(model, options)
  let work = try options.unitWork(path, plan, model)
  let folder = partsFolder(path)
  try requireFolder(folder)
  try UnitManifest.requireNames(Set(work.units.units.map(\.file)), in: folder)
  let own = share.units(work.units.units)
  let sink = try ShareSink(folder, own, work, plan, model, options)
  let converter = Converter(model, plan, options)
  var facts = LedgerFacts(plan)
  options.run.progress.announce(
    "\(folder): share \(share.text), \(own.count) of \(work.units.units.count) units, \(byteText(own.reduce(0) { $0 + $1.bytesIn })) in, "
      + "at most \(byteText(own.reduce(0) { $0 + $1.bytesOut })) out")
  options.run.progress.begin("convert", total: own.reduce(0) { $0 + $1.bytesOut }, unit: "bytes")
  try converter.carryOut(
    model, plan, options, only: sink.todo.map(\.slabs), into: sink, &facts)
  options.run.progress.end()
  try model.checkUnchanged()
  try sink.finishAll()
  return ShareSummary(
    folder: folder, share: share, written: sink.written.map(\.file), found: own.count - sink.todo.count,
    units: work.units.units.count, byteCount: sink.byteCount, seconds: monotonicSeconds() - start.0,
    processorSeconds: processorSeconds() - start.1, peakMemoryBytes: peakMemoryBytes())
}

/// Takes the slabs of a share to the files of its units.
private final class ShareSink: ResultSink {
  private let folder: String
  private let parts: any UnitWork
  private let options: ConvertOptions
  private let work: JSON
  /// The unit of each slab that is to be written, by the slab's name.
  private var owners: [String: Int] = [:]
  private var current: (unit: ResultUnit, sink: any UnitSink)?
  private var ended: [ConversionJournal.Done] = []
  /// Units that were not there.
  private(set) var todo: [ResultUnit] = []
  private(set) var written: [ResultUnit] = []
  private(set) var byteCount = 0

  init(
    _ folder: String, _ own: [ResultUnit], _ parts: any UnitWork, _ plan: Plan, _ model: Model,
    _ options: ConvertOptions
  ) throws {
    (self.folder, self.parts, self.options) = (folder, parts, options)
    work = try options.work(model, plan, parts.units)
    for unit in own {
      let isThere = try UnitManifest.isThere(joinPath(folder, unit.file), overwrite: options.overwrite) {
        try $0.check(unit, plan, work: work, path: $1)
      } isWritten: {
        try parts.check($0)
      }
      // Read when the parts are joined.
      if isThere { continue }
      for slab in plan.slabs[unit.slabs] { owners[slab.name] = todo.count }
      todo.append(unit)
    }
  }

  /// Units that are there are left out of the work.
  var done: [String: SlabFacts] { [:] }

  /// What is whole is found by the next task; there is no journal.
  var canResume: Bool { false }

  private func path(_ unit: ResultUnit) -> String { joinPath(folder, unit.file) }

  /// Ends the unit at hand, and those before `place` that hold no slab, and begins the one at it.
  private func move(to place: Int) throws {
    while written.count < place || current == nil {
      if let (unit, sink) = current.take() {
        let made = try sink.finish()
        let manifest = UnitManifest(
          work: work, request: options.request, unit, of: parts.units.units.count, byteCount: made.byteCount,
          sum: made.sum, done: ended, counts: made.counts)
        try writeFile(UnitManifest.path(path(unit)), manifest.text, replacing: .only(.unitManifest))
        ended = []
        byteCount += made.byteCount
        written.append(unit)
      }
      guard written.count < todo.count else { return }
      let next = todo[written.count]
      current = (next, try parts.sink(next, path(next)))
    }
  }

  func begin(_ slab: OutputMatrix, form: ChunkForm) throws {
    try move(to: owners[slab.name] ?? 0)
    try current?.sink.begin(slab, form: form)
  }

  func append(_ piece: ConvertedPiece) throws { try current?.sink.append(piece) }

  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws {
    try current?.sink.end(slab, others: others)
  }

  func ended(_ slab: OutputMatrix, _ facts: SlabFacts) throws {
    ended.append(ConversionJournal.Done(slab: slab.name, facts: facts))
  }

  /// Ends all units.
  func finishAll() throws { if !todo.isEmpty { try move(to: todo.count) } }

  func finish(ledger: [LedgerEntry]) throws -> ResultSummary {
    preconditionFailure("a share is no result; its parts are joined")
  }
}
