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
  private let tensors: [NamedTensor]
  /// For each slab's name its tensor.
  private let owners: [String: Int]
  private let shards: ShardPlan
  private let journal: FileJournal
  /// Whether everything is in the folder, and only its name is to come.
  private var isWhole = false
  private var shard = -1
  /// Bytes of tensors and headers that were written.
  private var written = 0
  private var current = 0
  /// Codes that the tensor at hand still needs, and parts that wait for them.
  private var left = 0
  private var waiting: [[Bytes]] = []
  private var byteCount = 0
  /// Global scales that were stored as their reciprocals, and how many of these were rounded.
  private var turned = 0
  private var roundedReciprocals = 0
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
    title = fileName(path)
    tensors = naming.tensors(plan)
    var owners: [String: Int] = [:]
    for (index, tensor) in tensors.enumerated() {
      for slab in tensor.slabs { owners[plan.slabs[slab].name] = index }
    }
    self.owners = owners
    shards = ShardPlan(tensors, limit: shardBytes)
    journal = try FileJournal(path, shards.layout(tensors, plan), plan, model, options) {
      try FolderWriter.discard(path) { ShardPlan.isName($0) }
    }
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
      try resume()
    }
  }

  /// Takes up the shards that an interrupted run wrote.
  private func resume() throws {
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
    if journal.counts.count == 2 { (turned, roundedReciprocals) = (journal.counts[0], journal.counts[1]) }
  }

  var done: [String: SlabFacts] { journal.done }

  var canResume: Bool { journal.canResume }

  /// Bytes of all files, at most: what only reading the weights tells makes a model card a few digits longer.
  private func mostBytes() throws -> Int {
    var names = shards.names
    var bytes = shards.sizes.reduce(0, +)
    if shards.count > 1 {
      bytes += shards.index().count
      names.append("model.safetensors.index.json")
    }
    let section = QuantizationSection(plan, naming)
    var card: Bytes?
    for (name, content) in try model.resultFiles(holdsDrafts: plan.holdsDrafts)
    where !leftNames.contains(name) {
      names.append(name)
      if name == ModelCard.fileName, plan.changesWeights {
        card = content
      } else {
        bytes += name == "config.json" ? try section.config(content).count : content.count
      }
    }
    if let sidecar = section.sidecar {
      bytes += sidecar.count
      names.append(QuantizationConfig.sidecarName)
    }
    if plan.changesWeights {
      bytes += try ModelCardWriter(title, model, options, plan.ledger).text(after: card).count + 64
      names.append(ModelCard.fileName)
    }
    if let errors = model.preparedErrors {
      bytes += errors.count
      names.append(WeightErrors.fileName)
    }
    // The list of the result's files has a line for each: name, size, hash.
    return bytes + names.reduce(512) { $0 + 2 * $1.utf8.count + 128 }
  }

  func begin(_ slab: OutputMatrix, form: ChunkForm) {
    current = owners[slab.name] ?? 0
    if left == 0 { left = declaration(0).byteCount }
  }

  private func declaration(_ part: Int) -> SafetensorsWriter.Declaration {
    let entry = tensors[current].entries[part]
    return SafetensorsWriter.Declaration(entry.name, entry.dtype, entry.shape)
  }

  func append(_ piece: ConvertedPiece) throws {
    let entry = tensors[current].entries[0]
    let content = entry.stored(piece.content)
    try write(entry.name, content)
    left -= content.count
  }

  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws {
    waiting.append(others.map(\.bytes))
    guard left == 0 else { return }
    for (part, entry) in tensors[current].entries.enumerated().dropFirst() {
      if let constant = entry.constant {
        try write(entry.name, constant)
      } else {
        for bytes in waiting {
          try write(entry.name, try stored(bytes[part - 1], entry))
        }
      }
    }
    waiting = []
  }

  /// A part as its tensor has it.
  private func stored(_ bytes: Bytes, _ entry: DeclaredTensor) throws -> Bytes {
    guard entry.isReciprocal else { return entry.packed?.words(bytes) ?? bytes }
    let (reciprocal, isExact) = bytes.reciprocal
    turned += 1
    guard !isExact else { return reciprocal }
    roundedReciprocals += 1
    guard !options.exactOnly else {
      throw RequestError(
        .unsupported,
        "the reciprocal of the global scale in '\(entry.name)' is not exact, and --exact-only allows no rounding",
        help: "leave --exact-only away, or choose the source's own --layout")
    }
    return reciprocal
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
    journal.ended(slab, facts)
    // Scales of a tensor that is not whole yet are in memory alone.
    if left == 0, waiting.isEmpty, journal.isDue(written) { try secure() }
  }

  /// Brings what is done to the disk and into the journal.
  private func secure() throws {
    guard let place = try writer?.secured() else { return }
    try journal.secure(
      FilePlace(file: shard, position: place.position), sum: place.sum, bytes: written,
      counts: [turned, roundedReciprocals])
    // Not before the journal names them: what no journal names is of no use to another run.
    folder?.keep(shards.names.prefix(shard + 1))
    writer?.keep()
  }

  func finish(ledger: [LedgerEntry]) throws -> ResultSummary {
    if !isWhole { try writeOthers(ledger) }
    var remarks = try folder.take()?.commit() ?? []
    journal.remove()
    if roundedReciprocals > 0 {
      remarks.append(
        "\(grouped(roundedReciprocals)) of \(grouped(turned)) global scales are stored as reciprocals that float32 rounds: "
          + "numbers differ by 2⁻²³ of themselves at most; codes and group scales are the same")
    }
    if try plan.changesWeights && model.smallFile("config.json") == nil {
      remarks.append("there is no config.json to say how the weights are stored: engines need one")
    }
    return ResultSummary(byteCount: byteCount, files: shards.names, warnings: remarks)
  }

  /// Writes what is beside the weights: the folder is whole then.
  private func writeOthers(_ ledger: [LedgerEntry]) throws {
    try told {
      while shard < shards.count - 1 { try startNextShard() }
      if journal.canResume { try secure() }
      try endShard()
    }
    if shards.count > 1 { try write(file: "model.safetensors.index.json", shards.index()) }
    let section = QuantizationSection(plan, naming)
    let changes = plan.changesWeights
    var card: Bytes?
    for (name, bytes) in try model.resultFiles(holdsDrafts: plan.holdsDrafts) where !leftNames.contains(name)
    {
      if name == ModelCard.fileName, changes {
        card = bytes
      } else if name == "config.json" {
        try write(file: name, try section.config(bytes))
      } else {
        try write(file: name, bytes.array)
        bytes.evict()
      }
    }
    if changes {
      try write(
        file: ModelCard.fileName, try ModelCardWriter(title, model, options, ledger).text(after: card))
    }
    if let sidecar = section.sidecar { try write(file: QuantizationConfig.sidecarName, sidecar) }
    if let errors = model.preparedErrors { try write(file: WeightErrors.fileName, errors) }
    guard let manifest = try folder?.complete() else { preconditionFailure("a directory is finished once") }
    if journal.canResume {
      try journal.finish(identity: hexadecimal(manifest))
      folder?.keepAll()
    }
    isWhole = true
  }

  private func write(file name: String, _ bytes: [UInt8]) throws {
    try told { try folder?.write(name, bytes) }
    byteCount += bytes.count
  }
}
