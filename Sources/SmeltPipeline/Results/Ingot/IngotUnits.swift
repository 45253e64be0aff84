// An ingot written by many machines: each unit is a small ingot of some weights. Joined, their frames are copied as they are stored.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

extension IngotResult: SharedTarget {
  /// Each run of weights is a unit.
  package func unitWork(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws
    -> any UnitWork
  { try IngotUnits(path, plan, model, options, self) }
}

/// The units of an ingot.
struct IngotUnits: UnitWork {
  let path: String
  let plan: Plan
  let model: Model
  let options: ConvertOptions
  let target: IngotResult
  let units: UnitPlan

  init(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions, _ target: IngotResult) throws
  {
    (self.path, self.plan, self.model, self.options, self.target) = (path, plan, model, options, target)
    // What must lie in one file is written by one task.
    let first = OutputMatrix.units(plan.slabs)
    let runs = UnitPlan.runs(plan, limit: options.unitBytes ?? UnitPlan.usualBytes(plan)) {
      first[plan.slabs[$0].name] != nil
    }
    let name = fileName(withoutSlash(path))
    units = UnitPlan(plan, runs, files: [name], layout: nil) { unit, _ in
      "\(name).unit-\(unit + 1)-of-\(runs.count).ingot"
    }
  }

  func sink(_ unit: ResultUnit, _ path: String) throws -> any UnitSink {
    try IngotUnitSink(path, target.compression ?? .raw)
  }

  /// An ingot is known by its identity; its chunks are held against their checksums when they are copied.
  func check(_ file: UnitFile) throws {
    guard let ingot = try? IngotFile(path: file.path), ingot.byteCount == file.byteCount,
      UInt64(ingot.identity.prefix(16), radix: 16) == file.sum
    else { throw file.refusal }
  }

  func join(_ parts: [UnitFile], ledger: [LedgerEntry]) throws -> ResultSummary {
    try IngotSink(path, plan, model, options, target, joining: parts).finish(ledger: ledger)
  }
}

/// A small ingot being written.
private final class IngotUnitSink: UnitSink {
  private var writer: IngotWriter?
  private let compression: CodecMode
  private let path: String

  init(_ path: String, _ compression: CodecMode) throws {
    self.path = path
    self.compression = compression
    writer = try IngotWriter(path: path, replacing: .sameBytes)
  }

  func begin(_ slab: OutputMatrix, form: ChunkForm) throws { try writer?.begin(slab, form) }

  func append(_ piece: ConvertedPiece) throws { for chunk in piece.chunks { try writer?.append(chunk) } }

  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws {
    try writer?.end(slab, others, compression)
  }

  func finish() throws -> (byteCount: Int, sum: UInt64, counts: [Int]) {
    guard let writer = writer.take() else { preconditionFailure("a unit is finished once") }
    let summary = try writer.finish(metadata: [
      "format": "smelt.unit/1", "tool": JSON("smelt \(smeltVersion)"),
    ])
    return (summary.byteCount, UInt64(summary.identity.prefix(16), radix: 16) ?? 0, [])
  }
}
