// Ingots as results: every encoding as it is, frames compressed where that pays.

package import SmeltContainers
import SmeltModels
package import SmeltQuantization
package import SmeltStorage
import SmeltTensors

/// Writes an ingot.
package struct IngotResult: ResultTarget {
  /// `ingot`.
  package let name = "ingot"
  private let mode: CodecMode
  /// The most bytes of one file; nil: one file.
  package let maxPartBytes: Int?

  /// An ingot whose frames are compressed as said.
  /// - Parameter maxPartBytes: the most bytes of one file; nil: one file.
  package init(_ compression: CodecMode, maxPartBytes: Int? = nil) {
    mode = compression
    self.maxPartBytes = maxPartBytes
  }

  /// An ingot.
  package var kind: OutputKind? { .ingot }

  /// Whether frames may be compressed.
  package var compression: CodecMode? { mode }

  /// An ingot holds every encoding.
  package func adapt(_ decision: QuantizeDecision, _ stored: StoredWeight, _ model: Model) -> (
    decision: QuantizeDecision, reason: String?
  ) { (decision, nil) }

  /// Weights as they are, the matrices of one expert side by side.
  package func slabs(_ weights: [PlannedWeight], _ model: Model) throws -> [OutputMatrix] {
    try plainSlabs(weights, model)
  }

  /// Files of the names that an ingot gives to its own.
  package func leftFiles(_ plan: Plan, _ model: Model) throws -> [LeftFile] {
    try model.source.smallFileSizes().filter { IngotResult.ownNames.contains($0.name) }.map {
      LeftFile($0.name, "an ingot has a file of its own under this name", bytes: $0.bytes)
    }
  }

  /// The files that an ingot takes from its source, and what it keeps of the source's scales.
  static func files(_ plan: Plan, _ model: Model) throws -> [(name: String, bytes: Bytes)] {
    let scales = try RecordedScales.file(model, plan.weights).map { (RecordedScales.fileName, $0.bytes) }
    return try model.resultFiles(holdsDrafts: plan.holdsDrafts).filter { !ownNames.contains($0.name) }
      + (scales.map { [$0] } ?? [])
  }

  /// What an ingot holds about itself.
  static let ownNames: Set<String> = [
    RecordedOrigin.ledgerName, IngotFacts.reportName, WeightErrors.fileName, RecordedScales.fileName,
  ]

  /// Scales of activations and caches that the ingot keeps beside its weights.
  package func takenScales(_ weights: [PlannedWeight], _ model: Model) throws -> Set<String> {
    try RecordedScales.file(model, weights)?.taken ?? []
  }

  /// Refuses a result that exists, in one file or in several.
  package func requirePlace(_ path: String, overwrite: Bool) throws {
    try requirePlace(path, overwrite: overwrite, isSplit: maxPartBytes != nil, ending: ".ingot")
  }

  /// Starts the file.
  package func sink(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws
    -> any ResultSink
  {
    try Journal.refuseForeign(ResultJournal.path(path))
    if options.resume, let finished = try FinishedIngot(path, plan, model, options) { return finished }
    if !options.resume {
      try ConversionJournal.clear(path, options) { entries in
        let finished = ConversionJournal.finished(entries)
        IngotFile.discard(path, files: finished?.files ?? 0, identity: finished?.identity ?? "")
      }
    }
    try requirePlace(path, overwrite: options.overwrite)
    return try IngotSink(path, plan, model, options, self)
  }
}

/// An ingot being written, with a journal beside it.
final class IngotSink: ResultSink {
  private var writer: IngotWriter?
  private var journal: Journal?
  private let header: JSON
  private let path: String
  private let model: Model
  private let options: ConvertOptions
  private let compression: CodecMode
  /// What must lie in one file with the slab of a name, which comes first.
  private let units: [String: IngotUnit]
  private let files: [(name: String, bytes: Bytes)]
  /// What a method did to the weights, where one did.
  private let errors: [UInt8]?
  /// Weights that ended since the journal was written last, and how much was written then.
  private var unsecured: [ConversionJournal.Done] = []
  private var secured = 0
  /// Whether the weights are there already: nothing is secured then.
  private var isJoining = false
  private(set) var done: [String: SlabFacts] = [:]

  init(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions, _ target: IngotResult) throws
  {
    self.path = path
    self.model = model
    self.options = options
    compression = target.compression ?? .raw
    units = OutputMatrix.units(plan.slabs)
    files = try IngotResult.files(plan, model)
    errors = model.preparedErrors
    header = try ConversionJournal.header(model, plan, options)
    let journalPath = ResultJournal.path(path)
    if options.resume {
      guard let left = try Journal.read(journalPath) else { throw RequestError.nothingToResume(journalPath) }
      try ResultJournal.check(left.header, is: header, file: journalPath)
      let state = try ResumableIngot(left.entries, file: journalPath)
      try state.done.check(plan, file: journalPath)
      let expected = plan.slabs.prefix(state.done.count).map {
        $0.expected(isRaw: $0.mode(compression) == .raw, unit: units[$0.name])
      }
      let remains = try IngotRemains(
        path, state.progress, expected, journal: journalPath, maxFileBytes: target.maxPartBytes,
        parallel: options.run.parallel)
      try state.done.check(model, plan, remains.contentHashes, file: journalPath, options.run)
      for entry in state.done { done[entry.slab] = entry.facts }
      writer = try IngotWriter(resuming: remains, overwrite: options.overwrite)
      journal = try Journal(resuming: journalPath, left)
      secured = writer?.writtenBytes ?? 0
    } else {
      writer = try IngotWriter(
        path: path, overwrite: options.overwrite, isResumable: true, maxFileBytes: target.maxPartBytes)
      // What has no room in a file of its own is refused before the work, not after it.
      for unit in units.values { _ = try writer?.needsFile(unit) }
      _ = try writer?.needsFile(smallUnit(ledgerFile(plan.ledger).count + 160 * plan.ledger.count))
    }
  }

  /// An ingot of weights that others wrote, in the plan's order.
  /// - Throws: `UNIT_MISMATCH` for a part that is not what was written; `RequestError` cannot-create, io.
  convenience init(
    _ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions, _ target: IngotResult,
    joining parts: [UnitFile]
  ) throws {
    try target.requirePlace(path, overwrite: options.overwrite)
    try self.init(path, plan, model, options, target)
    isJoining = true
    var left = plan.slabs.map(\.name)[...]
    for part in parts {
      let ingot: IngotFile
      do {
        ingot = try IngotFile(path: part.path)
      } catch let error as FormatError {
        throw FormatError(
          .unitMismatch, file: part.path, "is not the ingot that was written: \(error.problem)")
      }
      let damage = try ingot.check(deep: false, parallel: options.run.parallel, progress: SilentProgress())
      guard ingot.byteCount == part.byteCount, UInt64(ingot.identity.prefix(16), radix: 16) == part.sum,
        damage.isEmpty, left.starts(with: ingot.storedNames)
      else {
        throw FormatError(
          .unitMismatch, file: part.path,
          "is not the ingot that was written\(damage.first.map { ": \($0.error.problem)" } ?? "")")
      }
      left = left.dropFirst(ingot.weightCount)
      for (number, name) in ingot.storedNames.enumerated() {
        try Interrupt.check()
        try makeRoom(name)
        try writer?.copy(number, of: ingot)
      }
      options.run.progress.advance(1)
    }
  }

  /// What lies beside the weights: files, the ledger, the metadata.
  private func smallUnit(_ ledgerBytes: Int) throws -> IngotUnit {
    let metadata = try provenance(model, options).text().utf8.count + 256
    let beside = ledgerBytes + metadata + (errors?.count ?? 0)
    return IngotUnit(
      name: "the ledger", contentBytes: files.reduce(beside) { $0 + $1.bytes.count },
      frames: files.count + 2)
  }

  var canResume: Bool { secured > 0 }

  /// Brings what is done to the disk and into the journal.
  private func secure() throws {
    guard !isJoining, let progress = try writer?.takeProgress() else { return }
    let entry = ResumableIngot.entry(unsecured, progress)
    if journal == nil {
      journal = try Journal(creating: ResultJournal.path(path), header: header, [entry])
    } else {
      try journal?.append([entry])
    }
    // Not before the journal names them: what no journal names is of no use to another run.
    writer?.keep()
    unsecured = []
    secured = writer?.writtenBytes ?? 0
  }

  func begin(_ slab: OutputMatrix, form: ChunkForm) throws {
    try makeRoom(slab.name)
    try writer?.begin(slab, form)
  }

  /// Begins a new file where what begins with a slab has no room in the one at hand.
  private func makeRoom(_ slab: String) throws {
    guard let unit = units[slab], try writer?.needsFile(unit) == true else { return }
    // A file that is whole goes into the journal before the next one begins.
    try secure()
    try writer?.beginFile()
  }

  func append(_ piece: ConvertedPiece) throws {
    for chunk in piece.chunks { try writer?.append(chunk) }
  }

  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws {
    try writer?.end(slab, others, compression)
  }

  func ended(_ slab: OutputMatrix, _ facts: SlabFacts) throws {
    unsecured.append(ConversionJournal.Done(slab: slab.name, facts: facts))
    if (writer?.writtenBytes ?? 0) - secured >= options.journalStep { try secure() }
  }

  func finish(ledger: [LedgerEntry]) throws -> ResultSummary {
    let text = ledgerFile(ledger)
    if try writer?.needsFile(smallUnit(text.count)) == true {
      try secure()
      try writer?.beginFile()
    }
    for (name, bytes) in files {
      try writer?.addFile(name: name, bytes: bytes, mode: .small)
    }
    try writer?.addNote(name: RecordedOrigin.ledgerName, bytes: text, mode: .small)
    if let errors {
      try writer?.addNote(name: WeightErrors.fileName, bytes: Bytes(errors), mode: .small)
    }
    guard let summary = try writer?.complete(metadata: try provenance(model, options, ledger)) else {
      preconditionFailure("an ingot is finished once")
    }
    do {
      try ResultTooLarge.check(summary.byteCount, options)
    } catch {
      writer?.discard()
      journal = nil
      removeFile(ResultJournal.path(path))
      throw error
    }
    // From here on a run that is stopped has left whole files, which the next one needs only give their names.
    if journal != nil {
      try journal?.append([ConversionJournal.finished(summary.files.count, identity: summary.identity)])
      writer?.keep()
    }
    try writer.take()?.commit()
    removeFile(ResultJournal.path(path))
    return ResultSummary(
      byteCount: summary.byteCount, contentHash: summary.contentHash,
      files: summary.files.count > 1 ? summary.files : [])
  }
}

extension OutputMatrix {
  /// What must lie in one file, each by the name of its first slab.
  static func units(_ slabs: [OutputMatrix]) -> [String: IngotUnit] {
    var units: [String: IngotUnit] = [:]
    var first: (slab: String, place: ExpertName)?
    for slab in slabs {
      let place = ExpertName(slab.name)
      if let first, place.expert != nil, first.place == place {
        units[first.slab]?.contentBytes += slab.byteCount
        units[first.slab]?.frames += slab.parts.count
      } else {
        first = (slab.name, place)
        units[slab.name] = IngotUnit(name: slab.name, contentBytes: slab.byteCount, frames: slab.parts.count)
      }
    }
    return units
  }

  /// What a journal's records must say of it.
  func expected(isRaw: Bool, unit: IngotUnit?) -> ExpectedWeight {
    let place = ExpertName(name)
    return ExpectedWeight(
      name: name, encoding: encoding.name, shape: shape, layer: place.layer, expert: place.expert,
      parts: parts.map { ($0.name, $0.dtype, $0.shape) }, isRaw: isRaw, unit: unit)
  }
}

extension IngotWriter {
  /// The next slab begins, with its codes.
  mutating func begin(_ slab: OutputMatrix, _ form: ChunkForm) throws {
    let place = ExpertName(slab.name)
    try beginWeight(
      name: slab.name, shape: slab.shape, encoding: slab.encoding.name, layer: place.layer,
      expert: place.expert)
    let codes = slab.parts[0]
    try beginPart(codes.name, dtype: codes.dtype, shape: codes.shape, form: form)
  }

  /// A slab's codes are whole; its other parts follow.
  mutating func end(
    _ slab: OutputMatrix, _ others: [(part: ResultPart, bytes: Bytes)], _ compression: CodecMode
  ) throws {
    try endPart()
    for (part, bytes) in others {
      let form = try FrameCodec.choose(content: bytes, dtype: part.dtype, mode: slab.mode(compression))
      try beginPart(part.name, dtype: part.dtype, shape: part.shape, form: form)
      for index in 0..<FrameCodec.chunkCount(bytes.count) {
        try append(try FrameCodec.encode(bytes[FrameCodec.chunkRange(index, of: bytes.count)], form))
      }
      try endPart()
    }
    endWeight()
  }

  /// Whether a unit needs a new file.
  fileprivate func needsFile(_ unit: IngotUnit) throws -> Bool {
    try needsFile(contentBytes: unit.contentBytes, frames: unit.frames, name: unit.name)
  }
}

/// The layer and the expert in a weight's canonical name.
struct ExpertName: Hashable {
  let layer: Int?
  let expert: Int?

  init(_ name: String) {
    let parsed = WeightName(parsing: name)
    let words = parsed.base.split(separator: ".", maxSplits: 2)
    layer = words.count > 2 && words[0] == "blk" ? Int(words[1]) : nil
    expert = layer == nil ? nil : parsed.expert
  }
}
