// A directory written by many machines: each unit is a shard. Joined, the shards get a second name in the result's folder.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage

extension SafetensorsResult: SharedTarget {
  /// Each shard is a unit.
  package func unitWork(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws
    -> any UnitWork
  {
    try refuseNesting(path, model)
    var naming = try TensorNaming(model, plan.weights, layout)
    try naming.chooseScales(options.statistics, plan.weights, model)
    return SafetensorsUnits(
      path, plan, model, options, naming: naming, shardBytes: shardBytes,
      leftNames: Set(try leftFiles(plan, model).map(\.name)))
  }
}

/// The units of a directory.
struct SafetensorsUnits: UnitWork {
  let path: String
  let plan: Plan
  let model: Model
  let options: ConvertOptions
  let naming: TensorNaming
  let shards: ShardPlan
  let leftNames: Set<String>
  let units: UnitPlan

  init(
    _ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions, naming: TensorNaming,
    shardBytes: Int, leftNames: Set<String>
  ) {
    (self.path, self.plan, self.model, self.options) = (path, plan, model, options)
    (self.naming, self.leftNames) = (naming, leftNames)
    let tensors = naming.tensors(plan)
    shards = ShardPlan(tensors, limit: shardBytes)
    units = UnitPlan(plan, shards.layout(tensors, plan))
  }

  func sink(_ unit: ResultUnit, _ path: String) throws -> any UnitSink {
    try SafetensorsUnitSink(
      path, shards.tensors[unit.resultFile], TensorAssembler(naming.tensors(plan), plan, options))
  }

  func join(_ parts: [UnitFile], ledger: [LedgerEntry]) throws -> ResultSummary {
    try options.run.parallel.ordered(parts.count) {
      try parts[$0].check()
    } consume: {
      options.run.progress.advance(1)
    }
    let sink = try SafetensorsFolderSink(
      path, plan, model, options, naming: naming, shards: shards, leftNames: leftNames, joining: parts)
    return try sink.finish(ledger: ledger)
  }
}

/// A shard being written.
private final class SafetensorsUnitSink: UnitSink {
  private var writer: SafetensorsWriter?
  private let assembler: TensorAssembler

  init(_ path: String, _ tensors: [SafetensorsWriter.Declaration], _ assembler: TensorAssembler) throws {
    self.assembler = assembler
    writer = try SafetensorsWriter(
      path: path, tensors: tensors, metadata: ShardPlan.metadata, replacing: .sameBytes, sum: .xxh64)
  }

  func begin(_ slab: OutputMatrix, form: ChunkForm) { assembler.begin(slab) }

  func append(_ piece: ConvertedPiece) throws { try assembler.append(piece) { try writer?.write($0, $1) } }

  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws {
    try assembler.end(others) { try writer?.write($0, $1) }
  }

  func finish() throws -> (byteCount: Int, sum: UInt64, counts: [Int]) {
    guard let writer = writer.take() else { preconditionFailure("a shard is finished once") }
    let written = try writer.commit()
    return (written.byteCount, written.sum ?? 0, assembler.counts)
  }
}
