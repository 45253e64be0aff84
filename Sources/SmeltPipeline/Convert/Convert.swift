// The main path: every weight read, quantized as the plan says, and written. The bytes written depend on source, recipe and
// statistics alone.

import SmeltContainers
import SmeltModels
import SmeltQuantization
package import SmeltStorage
import SmeltTensors

/// What a conversion did.
package struct ConvertSummary: Sendable {
  /// The result's path.
  package var path: String
  /// What it is: `ingot`, `gguf` or `safetensors`.
  package var container: String
  /// The result's size; of several files, their sum.
  package var byteCount: Int
  /// SHA-256 of an ingot's index, which holds a checksum of every stored byte; nil for other results.
  package var contentHash: String?
  /// The files, where there are several.
  package var files: [String]
  /// Things worth saying.
  package var warnings: [String]
  /// Bytes of the source tensors that were read.
  package var bytesIn: Int
  /// Tensors of the source that the result does not hold, by rule.
  package var leftOut: [LeftOut] = []
  /// Files beside the source's weights that the result did not take.
  package var leftFiles: [LeftFile] = []
  /// The ledger with what reading the data told.
  package var ledger: [LedgerEntry]
  /// What it was made from and how.
  package var provenance: JSON
  /// Wall time of the whole conversion, syncing included.
  package var seconds: Double
  /// CPU time of the conversion, all threads together.
  package var processorSeconds: Double
  /// Peak resident memory of the process.
  package var peakMemoryBytes: Int
  /// The table that a budget was met with, if there was one.
  package var budget: BudgetSummary?
  /// Which method was taken where none was asked for, and how it is left away; nil where there is nothing to say.
  package var chosenMethod: String?

  /// Input bytes per second of wall time, in 10⁹.
  package var gigabytesPerSecond: Double { Double(bytesIn) / max(seconds, 1e-9) / 1e9 }
  /// Input bytes per second of CPU time, in 10⁹: what one core does.
  package var gigabytesPerCoreSecond: Double { Double(bytesIn) / max(processorSeconds, 1e-9) / 1e9 }
  /// Weights that were given another encoding.
  package var converted: [LedgerEntry] { ledger.filter { $0.fate == .converted } }
  /// How many of these hold exactly the source's numbers.
  package var exact: Int { converted.count { $0.inexactValues == 0 } }

  /// One line: the path, sizes, exactness, speed, hash.
  package var text: String {
    let entries = converted
    let kept = ledger.count { $0.isKept }
    var line =
      "\(printable(files.count > 1 && container != "safetensors" ? files[0] : path)): \(byteText(byteCount)) from \(byteText(bytesIn)); \(kept) weights kept"
    if !entries.isEmpty { line += ", \(entries.count) converted (\(exact) exact)" }
    line += "; \(fixed(seconds, 2)) s, \(fixed(gigabytesPerSecond, 2)) GB/s of input"
    line += " (\(fixed(gigabytesPerCoreSecond, 2)) a core)"
    if let contentHash { line += "; content hash \(contentHash)" }
    if files.count > 1 { line += "; \(files.count) files" }
    let left = leftOut.map { "left out: \($0.text)" } + leftFiles.lines
    return ([line] + [chosenMethod].compactMap { $0 } + warnings.map { "warning: \($0)" } + left).joined(
      separator: "\n")
  }

  /// For machines.
  package var json: JSON {
    [
      "schema": "smelt.convert/1", "path": JSON(path), "container": JSON(container), "bytes": JSON(byteCount),
      "content_hash": JSON(contentHash), "files": JSON(files.map { JSON($0) }), "bytes_in": JSON(bytesIn),
      "converted": JSON(converted.count), "exact": JSON(exact),
      "inexact_values": JSON(converted.reduce(0) { $0 + ($1.inexactValues ?? 0) }), "seconds": JSON(seconds),
      "gigabytes_per_second": JSON(gigabytesPerSecond),
      "gigabytes_per_core_second": JSON(gigabytesPerCoreSecond),
      "peak_memory_bytes": JSON(peakMemoryBytes), "warnings": JSON(warnings.map { JSON($0) }),
      "left_out": JSON(leftOut.map(\.json)), "left_files": JSON(leftFiles.map(\.json)),
    ]
  }
}

/// Converts a model, while no other run writes the result.
/// - Throws: every refusal of the source's content; `RequestError` cannot-create, io, interrupted; unsupported where
///   `exactOnly` meets a number that its new encoding does not hold. Nothing is left under the final name then.
package func convert(_ model: Model, to path: String, _ options: ConvertOptions) throws -> ConvertSummary {
  try requireName(path)
  try model.refuseAlias(path)
  return try options.run.holding([path], "convert") { try converting(model, to: path, options) }
}

/// Converts a model to a result whose lock is held.
func converting(_ model: Model, to path: String, _ options: ConvertOptions) throws -> ConvertSummary {
  let start = (monotonicSeconds(), processorSeconds())
  model.limitCache(options.run.maxMemory / 8)
  let plan = try Plan(model, options)
  try model.refuseAlias(path)
  let sink = try options.target.sink(path, plan, model, options)
  let converter = Converter(model, plan, options)
  var facts = LedgerFacts(plan)
  let room = freeDiskBytes(parentFolder(path)).map { "; \(byteText($0)) free on the disk" } ?? ""
  options.run.progress.announce("\(path): \(plan.summary)\(room)")
  if let notice = RemoteModels.notice(model.path) { options.run.progress.announce(notice) }
  options.run.progress.begin("convert", total: plan.bytesOut, unit: "bytes")
  let written: ResultSummary
  do {
    try converter.carryOut(model, plan, options, into: sink, &facts)
    options.run.progress.end()
    try model.checkUnchanged()
    written = try sink.finish(ledger: facts.ledger)
  } catch let error as RequestError
    where sink.canResume && [.interrupted, .io, .cannotCreate].contains(error.kind)
  {
    throw error.offeringResume
  }
  return ConvertSummary(
    path: path, container: options.target.name, byteCount: written.byteCount,
    contentHash: written.contentHash,
    files: written.files, warnings: plan.warnings + written.warnings, bytesIn: plan.bytesIn,
    leftOut: plan.leftOut, leftFiles: plan.leftFiles, ledger: facts.ledger,
    provenance: try provenance(model, options, facts.ledger), seconds: monotonicSeconds() - start.0,
    processorSeconds: processorSeconds() - start.1,
    peakMemoryBytes: peakMemoryBytes())
}

/// The version of this program.
package let smeltVersion = "0.1.0"
