// Ingots as results: every encoding as it is, frames compressed where that pays.

public import SmeltContainers
import SmeltModels
public import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// Writes an ingot.
public struct IngotResult: ResultTarget {
  /// `ingot`.
  public let name = "ingot"
  private let how: Compression

  /// An ingot whose frames are compressed as said.
  public init(_ compression: Compression) { how = compression }

  /// Whether frames may be compressed.
  public var compression: Compression? { how }

  /// An ingot holds every encoding.
  public func settle(_ decision: QuantizeDecision, _ stored: StoredWeight, _ model: Model) -> (
    decision: QuantizeDecision, reason: String?
  ) { (decision, nil) }

  /// Weights as they are, the matrices of one expert side by side.
  public func slabs(_ weights: [PlannedWeight], _ model: Model) throws -> [ResultSlab] {
    try plainSlabs(weights, model)
  }

  /// Starts the file.
  public func sink(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws
    -> any ResultSink
  {
    try IngotSink(path, model, options, compression: how)
  }
}

/// An ingot being written.
private final class IngotSink: ResultSink {
  private var writer: IngotWriter?
  private let model: Model
  private let options: ConvertOptions
  private let compression: Compression

  init(_ path: String, _ model: Model, _ options: ConvertOptions, compression: Compression) throws {
    writer = try IngotWriter(path: path, overwrite: options.overwrite)
    self.model = model
    self.options = options
    self.compression = compression
  }

  func begin(_ slab: ResultSlab, form: FrameForm) throws {
    try writer?.beginWeight(name: slab.name, shape: slab.shape, encoding: slab.encoding.name)
    try begin(slab.parts[0], form)
  }

  private func begin(_ part: ResultPart, _ form: FrameForm) throws {
    try writer?.beginPart(part.name, dtype: part.dtype, shape: part.shape, form: form)
  }

  func append(_ piece: ConvertedPiece) throws {
    for chunk in piece.chunks { try writer?.append(chunk) }
  }

  func end(_ slab: ResultSlab, others: [(part: ResultPart, bytes: Bytes)]) throws {
    try writer?.endPart()
    for (part, bytes) in others {
      let form = try FrameCodec.choose(content: bytes, dtype: part.dtype, compression: compression)
      try begin(part, form)
      for index in 0..<FrameCodec.chunkCount(bytes.count) {
        try writer?.append(try FrameCodec.encode(bytes[FrameCodec.chunkRange(index, of: bytes.count)], form))
      }
      try writer?.endPart()
    }
    writer?.endWeight()
  }

  func finish(ledger: [LedgerEntry]) throws -> ResultSummary {
    for (name, bytes) in try model.smallFiles() where name != Model.ledgerName {
      try writer?.addFile(name: name, bytes: bytes, compression: .auto)
    }
    try writer?.addFile(name: Model.ledgerName, bytes: ledgerFile(ledger), compression: .auto)
    guard let writer = writer.take() else { preconditionFailure("an ingot is finished once") }
    let summary = try writer.finish(metadata: try provenance(model, options))
    return ResultSummary(byteCount: summary.byteCount, contentHash: summary.contentHash)
  }
}

/// The ledger as results carry it.
func ledgerFile(_ ledger: [LedgerEntry]) -> Bytes {
  let text = JSON(members: [("schema", "smelt.ledger/1"), ("ledger", JSON(ledger.map(\.json)))]).text()
  return Bytes(Array(text.utf8))
}

/// What a result says about its origin. Nothing in it depends on the time, the machine or the number of threads.
func provenance(_ model: Model, _ options: ConvertOptions) throws -> JSON {
  var source: [(String, JSON)] = [("container", JSON(model.containerName))]
  switch model.container {
  case .checkpoint(let checkpoint):
    source.append(("dialect", JSON(checkpoint.dialect)))
    source.append(
      (
        "files",
        JSON(checkpoint.source.files.map { ["name": JSON(fileName($0.path)), "bytes": JSON($0.byteCount)] })
      ))
  case .ingot(let ingot): source.append(("content_hash", JSON(ingot.file.contentHash)))
  }
  return [
    "format": "smelt.ingot/1", "tool": JSON("smelt \(smeltVersion)"), "family": JSON(model.family.modelType),
    "source": JSON(members: source), "recipe": options.recipe.json,
    "statistics": options.statistics.map { JSON(members: $0.metadata.map { ($0.key, JSON($0.value)) }) }
      ?? JSON(.null),
  ]
}
