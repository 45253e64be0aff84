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
    try IngotSink(path, plan, model, options, compression: how)
  }
}

/// An ingot being written, with a journal beside it.
private final class IngotSink: ResultSink {
  private var writer: IngotWriter?
  private var journal: Journal?
  private let header: JSON
  private let path: String
  private let model: Model
  private let options: ConvertOptions
  private let compression: Compression
  /// Weights that ended since the journal was written last, and where the file ended then.
  private var unsecured: [ConversionJournal.Done] = []
  private var secured = 0
  private(set) var done: [String: (inexactValues: Int, sourceHash: String)] = [:]

  init(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions, compression: Compression)
    throws
  {
    self.path = path
    self.model = model
    self.options = options
    self.compression = compression
    header = try ConversionJournal.header(model, plan, options)
    let journalPath = ConversionJournal.path(path)
    let left = try Journal.read(journalPath)
    if options.resume {
      guard let left else {
        throw RequestError(
          .usage, "there is nothing to resume: '\(journalPath)' is not there", help: "start without --resume")
      }
      try ConversionJournal.check(left.header, is: header, file: journalPath)
      let state = try ConversionJournal.state(left.entries, file: journalPath)
      for entry in state.done { done[entry.slab] = (entry.inexactValues, entry.sourceHash) }
      writer = try IngotWriter(
        resuming: path, records: state.records, weights: state.done.map(\.slab), position: state.position,
        contentBytes: state.contentBytes, overwrite: options.overwrite, parallel: options.run.parallel)
      journal = try Journal(resuming: journalPath, left)
      secured = state.position
    } else {
      guard left == nil || left?.entries.isEmpty == true else {
        throw RequestError(
          .cannotCreate, "'\(FileWriter.resumablePath(path))' was left by a run that was stopped",
          help: "give --resume to go on with it, or remove it and '\(fileName(journalPath))' to begin anew")
      }
      writer = try IngotWriter(path: path, overwrite: options.overwrite, isResumable: true)
    }
  }

  var canResume: Bool { secured > 0 }

  /// Brings what is done to the disk and into the journal.
  private func secure() throws {
    if journal == nil { journal = try Journal(creating: ConversionJournal.path(path), header: header) }
    let position = writer?.position ?? 0
    guard let (records, contentBytes) = try writer?.takeRecords() else { return }
    try journal?.append([
      ConversionJournal.entry(unsecured, records: records, position: position, contentBytes: contentBytes)
    ])
    unsecured = []
    secured = position
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

  func ended(_ slab: ResultSlab, inexactValues: Int, sourceHash: String) throws {
    unsecured.append(
      ConversionJournal.Done(slab: slab.name, inexactValues: inexactValues, sourceHash: sourceHash))
    if (writer?.position ?? 0) - secured >= options.journalStep { try secure() }
  }

  func finish(ledger: [LedgerEntry]) throws -> ResultSummary {
    for (name, bytes) in try model.smallFiles() where name != Model.ledgerName {
      try writer?.addFile(name: name, bytes: bytes, compression: .auto)
    }
    try writer?.addFile(name: Model.ledgerName, bytes: ledgerFile(ledger), compression: .auto)
    guard let writer = writer.take() else { preconditionFailure("an ingot is finished once") }
    let summary = try writer.finish(metadata: try provenance(model, options))
    removeFile(ConversionJournal.path(path))
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
    "source": JSON(members: source), "recipe": options.recipe.json, "method": options.method,
    "statistics": options.statistics.map { JSON(members: $0.metadata.map { ($0.key, JSON($0.value)) }) }
      ?? JSON(.null),
  ]
}
