// What --resume finds where a run was stopped between giving its ingot the final name and removing its journal: nothing is left to do.

import SmeltContainers
import SmeltQuantization
import SmeltStorage

/// An ingot that is whole already, its journal still beside it.
final class FinishedIngot: ResultSink {
  private let path: String
  private let ingot: IngotFile
  let done: [String: (inexactValues: Int, sourceHash: String)]
  let canResume = false

  /// Nil where a part is still to be written, or nothing was finished.
  /// - Throws: `RESUME_MISMATCH` when the journal is of another conversion; refusals of the ingot.
  init?(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws {
    let journal = ResultJournal.path(path)
    guard pathKind(path) == .file, pathKind(FileWriter.resumablePath(path)) == .nothing,
      let left = try Journal.read(journal)
    else { return nil }
    try ResultJournal.check(
      left.header, is: try ConversionJournal.header(model, plan, options), file: journal)
    self.path = path
    ingot = try IngotFile(path: path)
    let ledger = try ingot.file(Model.ledgerName).map { try JSON.scan($0) }
    var known: [String: (Int, String)] = [:]
    for entry in ledger?["ledger"]?.array ?? [] {
      guard let weight = entry["weight"]?.string, let hash = entry["source_xxh64"]?.string else { continue }
      known[weight] = (entry["inexact_values"]?.integer ?? 0, hash)
    }
    done = Dictionary(uniqueKeysWithValues: plan.slabs.map { ($0.name, known[$0.name] ?? (0, "")) })
  }

  func begin(_ slab: ResultSlab, form: ChunkForm) throws { preconditionFailure("nothing is left to write") }
  func append(_ piece: ConvertedPiece) throws { preconditionFailure("nothing is left to write") }
  func end(_ slab: ResultSlab, others: [(part: ResultPart, bytes: Bytes)]) throws {
    preconditionFailure("nothing is left to write")
  }
  func ended(_ slab: ResultSlab, inexactValues: Int, sourceHash: String) throws {
    preconditionFailure("nothing is left to write")
  }

  func finish(ledger: [LedgerEntry]) throws -> ResultSummary {
    removeFile(ResultJournal.path(path))
    return ResultSummary(byteCount: ingot.byteCount, contentHash: ingot.contentHash)
  }
}
