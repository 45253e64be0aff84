// A directory of safetensors being written: shards one after another, in a folder beside the target that is renamed when
// everything is there, with a journal beside it.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// A directory being written.
final class SafetensorsFolderSink: ResultSink {
  private var folder: FolderWriter?
  private var writer: SafetensorsWriter?
  private let model: Model
  private let plan: Plan
  private let options: ConvertOptions
  private let naming: TensorNaming
  private let assembler: TensorAssembler
  private let shards: ShardPlan
  /// What another run needs to go on; nil where the shards are there.
  private let journal: FileJournal?
  /// Whether everything is in the folder, and only its name is to come.
  private var isWhole = false
  private var shard = -1
  /// Bytes of tensors and headers that were written.
  private var written = 0
  private var byteCount = 0
  private let title: String
  private let leftNames: Set<String>

  init(
    _ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions, naming: TensorNaming,
    shardBytes: Int, leftNames: Set<String>
  ) throws {
    self.leftNames = leftNames
    self.plan = plan
    self.model = model
    self.options = options
    self.naming = naming
    title = fileName(withoutSlash(path))
    let tensors = naming.tensors(plan)
    assembler = TensorAssembler(tensors, plan, options)
    shards = ShardPlan(tensors, limit: shardBytes)
    let journal = try FileJournal(path, shards.layout(tensors, plan), plan, model, options) {
      try FolderWriter.discard(path) { ShardPlan.isName($0) }
    }
    self.journal = journal
    if options.byteLimit != nil { try ResultTooLarge.check(try mostBytes(), options) }
    let tool = "smelt \(smeltVersion)"
    if let identity = journal.identity {
      folder = try FolderWriter.complete(
        path, overwrite: options.overwrite, manifest: UInt64(identity, radix: 16) ?? 0)
      isWhole = true
    } else if journal.places.isEmpty {
      folder = try FolderWriter(path: path, overwrite: options.overwrite, tool: tool, isResumable: true)
    } else {
      folder = try FolderWriter(
        resuming: path, overwrite: options.overwrite, tool: tool,
        keeping: Set(shards.names.prefix(journal.places.count)))
      try resume(journal)
    }
  }

  /// A directory whose shards are there already, each with what it was made from.
  /// - Throws: `RequestError` cannot-create, io.
  init(
    _ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions, naming: TensorNaming,
    shards: ShardPlan, leftNames: Set<String>, joining parts: [UnitFile]
  ) throws {
    self.leftNames = leftNames
    self.plan = plan
    self.model = model
    self.options = options
    self.naming = naming
    self.shards = shards
    title = fileName(withoutSlash(path))
    assembler = TensorAssembler(naming.tensors(plan), plan, options)
    journal = nil
    folder = try FolderWriter(path: path, overwrite: options.overwrite, tool: "smelt \(smeltVersion)")
    for (name, part) in zip(shards.names, parts) {
      try folder?.adopt(name, part.path, WrittenFile(byteCount: part.byteCount, sum: part.sum))
      byteCount += part.byteCount
      assembler.counts = zip(assembler.counts, part.counts).map { $0 + $1 }
    }
    shard = shards.count - 1
  }

  /// Takes up the shards that an interrupted run wrote.
  private func resume(_ journal: FileJournal) throws {
    for (number, place) in journal.places.enumerated() {
      guard let path = try folder?.file(shards.names[number]) else { continue }
      // It had its name already, and the next one was not begun.
      if pathKind(FileWriter.resumablePath(path)) == .nothing { FileWriter.withdraw(path) }
      writer = try SafetensorsWriter(
        resuming: path, tensors: shards.tensors[number], metadata: ShardPlan.metadata, at: place.position,
        sum: (.xxh64, place.sum))
      shard = number
      written += place.position
      byteCount += shards.sizes[number]
      if number < journal.places.count - 1 { try endShard() }
    }
    assembler.counts = journal.counts
  }

  var done: [String: SlabFacts] { journal?.done ?? [:] }

  var canResume: Bool { journal?.canResume ?? false }

  /// Bytes of all files, at most: what only reading the weights tells makes a model card a few digits longer.
  private func mostBytes() throws -> Int {
    var names = shards.names
    var bytes = shards.sizes.reduce(0, +)
    if shards.count > 1 {
      bytes += shards.index().count
      names.append("model.safetensors.index.json")
    }
    let files = try DirectoryFiles(model, plan, naming, without: leftNames)
    for (name, content) in files.all {
      names.append(name)
      bytes += content.count
    }
    if plan.changesWeights {
      bytes += try ModelCardWriter(title, model, options, plan.ledger).text(after: files.card).count + 64
      names.append(ModelCard.fileName)
    }
    // The list of the result's files has a line for each: name, size, hash.
    return bytes + names.reduce(512) { $0 + 2 * $1.utf8.count + 128 }
  }

  func begin(_ slab: OutputMatrix, form: ChunkForm) { assembler.begin(slab) }

  func append(_ piece: ConvertedPiece) throws { try assembler.append(piece) { try write($0, $1) } }

  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws {
    try assembler.end(others) { try write($0, $1) }
  }

  private func write(_ name: String, _ bytes: Bytes) throws {
    let wanted = shards.number[name] ?? 0
    try told {
      while shard < wanted { try startNextShard() }
      try writer?.write(name, bytes)
      written += bytes.count
    }
  }

  /// People know the folder by its final name.
  private func told(_ body: () throws -> Void) throws {
    do {
      try body()
    } catch var error as RequestError {
      if let partial = folder?.partial, let path = folder?.path,
        let place = error.problem.firstRange(of: partial)
      {
        error.problem.replaceSubrange(place, with: path)
      }
      throw error
    }
  }

  private func startNextShard() throws {
    // A shard that is whole goes into the journal before the next one begins.
    if writer != nil { try secure() }
    try endShard()
    shard += 1
    guard let path = try folder?.file(shards.names[shard]) else { return }
    byteCount += shards.sizes[shard]
    written += shards.headerBytes(shard)
    writer = try SafetensorsWriter(
      path: path, tensors: shards.tensors[shard], metadata: ShardPlan.metadata, isResumable: true,
      sum: .xxh64)
  }

  private func endShard() throws {
    guard let writer = writer.take() else { return }
    folder?.add(shards.names[shard], try writer.commit())
  }

  func ended(_ slab: OutputMatrix, _ facts: SlabFacts) throws {
    journal?.ended(slab, facts)
    // Scales of a tensor that is not whole yet are in memory alone.
    if assembler.isBetween, journal?.isDue(written) == true { try secure() }
  }

  /// Brings what is done to the disk and into the journal.
  private func secure() throws {
    guard let place = try writer?.secured() else { return }
    try journal?.secure(
      FilePlace(file: shard, position: place.position), sum: place.sum, bytes: written,
      counts: assembler.counts)
    // Not before the journal names them: what no journal names is of no use to another run.
    folder?.keep(shards.names.prefix(shard + 1))
    writer?.keep()
  }

  func finish(ledger: [LedgerEntry]) throws -> ResultSummary {
    if !isWhole { try writeOthers(ledger) }
    var remarks = try folder.take()?.commit() ?? []
    journal?.remove()
    remarks += [assembler.remark].compactMap { $0 }
    if try plan.changesWeights && model.smallFile("config.json") == nil {
      remarks.append("there is no config.json to say how the weights are stored: engines need one")
    }
    return ResultSummary(byteCount: byteCount, files: shards.names, warnings: remarks)
  }

  /// Writes what is beside the weights: the folder is whole then.
  private func writeOthers(_ ledger: [LedgerEntry]) throws {
    try told {
      while shard < shards.count - 1 { try startNextShard() }
      if canResume { try secure() }
      try endShard()
    }
    if shards.count > 1 { try write(file: "model.safetensors.index.json", shards.index()) }
    let files = try DirectoryFiles(model, plan, naming, without: leftNames)
    for (name, bytes) in files.carried {
      try write(file: name, bytes.array)
      bytes.evict()
    }
    if plan.changesWeights {
      try write(
        file: ModelCard.fileName, try ModelCardWriter(title, model, options, ledger).text(after: files.card))
    }
    for (name, bytes) in files.own { try write(file: name, bytes.array) }
    guard let manifest = try folder?.complete() else { preconditionFailure("a directory is finished once") }
    if canResume {
      try journal?.finish(identity: hexadecimal(manifest))
      folder?.keepAll()
    }
    isWhole = true
  }

  private func write(file name: String, _ bytes: [UInt8]) throws {
    try told { try folder?.write(name, bytes) }
    byteCount += bytes.count
  }
}
