// What --resume finds where a run was stopped after its files were whole: they get the names they do not have yet, the journal goes,
// and nothing else is left to do.

import SmeltContainers
import SmeltQuantization
import SmeltStorage

/// An ingot that is whole already, its journal still beside it.
final class FinishedIngot: ResultSink {
  private let path: String
  private let ingot: IngotFile
  let done: [String: SlabFacts]
  let canResume = true

  /// Nil where something is still to be written, or nothing was begun.
  /// - Throws: `RESUME_MISMATCH` when the journal is of another conversion, or the files are not those that it speaks of; refusals of
  ///   the ingot.
  init?(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws {
    let journal = ResultJournal.path(path)
    guard let left = try Journal.read(journal), let finished = ConversionJournal.finished(left.entries) else {
      return nil
    }
    try ResultJournal.check(
      left.header, is: try ConversionJournal.header(model, plan, options), file: journal)
    self.path = path
    ingot = try IngotFile.adopt(
      path, files: finished.files, identity: finished.identity,
      plan.slabs.map { $0.expected(isRaw: false, unit: nil) }, overwrite: options.overwrite,
      parallel: options.run.parallel)
    let ledger = try ingot.file(RecordedOrigin.ledgerName).map { try JSON.scan($0) }
    var known: [String: SlabFacts] = [:]
    for entry in ledger?["ledger"]?.array ?? [] {
      guard let weight = entry["weight"]?.string, let hash = entry["source_xxh64"]?.string else { continue }
      known[weight] = SlabFacts(inexactValues: entry["inexact_values"]?.integer ?? 0, sourceHashes: [hash])
    }
    done = Dictionary(
      uniqueKeysWithValues: plan.slabs.map {
        ($0.name, known[$0.name] ?? SlabFacts(inexactValues: 0, sourceHashes: []))
      })
  }

  func begin(_ slab: OutputMatrix, form: ChunkForm) throws { preconditionFailure("nothing is left to write") }
  func append(_ piece: ConvertedPiece) throws { preconditionFailure("nothing is left to write") }
  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws {
    preconditionFailure("nothing is left to write")
  }
  func ended(_ slab: OutputMatrix, _ facts: SlabFacts) throws {
    preconditionFailure("nothing is left to write")
  }

  func finish(ledger: [LedgerEntry]) throws -> ResultSummary {
    removeFile(ResultJournal.path(path))
    let files = ingot.files.map(\.path)
    return ResultSummary(
      byteCount: ingot.byteCount, contentHash: ingot.contentHash, files: files.count > 1 ? files : [])
  }
}
