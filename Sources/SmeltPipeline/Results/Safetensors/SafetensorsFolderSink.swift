// A directory of safetensors being written: shards one after another, in a folder beside the target that is renamed when
// everything is there.

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
  /// The tensors of each shard, and for each tensor its shard.
  private let shards: [[SafetensorsWriter.Declaration]]
  private let shardOf: [String: Int]
  private var shard = -1
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
    shards = SafetensorsFolderSink.shards(tensors, shardBytes)
    shardOf = Dictionary(
      shards.enumerated().flatMap { index, shard in shard.map { ($0.name, index) } },
      uniquingKeysWith: { first, _ in first })
    if options.byteLimit != nil { try ResultTooLarge.check(try mostBytes(), options) }
    folder = try FolderWriter(
      path: path, overwrite: options.overwrite, tool: "smelt \(smeltVersion)")
  }

  /// Tensors in order, a new shard where the next one no longer fits; scales lie with their codes.
  private static func shards(_ tensors: [NamedTensor], _ limit: Int) -> [[SafetensorsWriter.Declaration]] {
    var shards: [[SafetensorsWriter.Declaration]] = [[]]
    var bytes = 0
    for tensor in tensors {
      let declarations = tensor.entries.map { SafetensorsWriter.Declaration($0.name, $0.dtype, $0.shape) }
      let size = declarations.reduce(0) { $0 + $1.byteCount }
      if bytes > 0, bytes + size > limit {
        shards.append([])
        bytes = 0
      }
      shards[shards.count - 1] += declarations
      bytes += size
    }
    return shards
  }

  /// Bytes of all files, at most: what only reading the weights tells makes a model card a few digits longer.
  private func mostBytes() throws -> Int {
    var names = shards.indices.map { shardName($0) }
    var bytes = shards.reduce(0) {
      $0 + SafetensorsWriter.byteCount(tensors: $1, metadata: [("format", "pt")])
    }
    if shards.count > 1 {
      bytes += index().count
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

  private func shardName(_ index: Int) -> String {
    guard shards.count > 1 else { return "model.safetensors" }
    func digits(_ value: Int) -> String {
      let text = String(value)
      return String(repeating: "0", count: max(0, 5 - text.utf8.count)) + text
    }
    return "model-\(digits(index + 1))-of-\(digits(shards.count)).safetensors"
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
    let wanted = shardOf[name] ?? 0
    try told {
      while shard < wanted { try startNextShard() }
      try writer?.write(name, bytes)
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
    try endShard()
    shard += 1
    guard let path = try folder?.file(shardName(shard)) else { return }
    let metadata = [("format", "pt")]
    byteCount += SafetensorsWriter.byteCount(tensors: shards[shard], metadata: metadata)
    writer = try SafetensorsWriter(path: path, tensors: shards[shard], metadata: metadata, hashes: true)
  }

  private func endShard() throws {
    guard let writer = writer.take() else { return }
    folder?.add(shardName(shard), try writer.commit())
  }

  func finish(ledger: [LedgerEntry]) throws -> ResultSummary {
    try told {
      while shard < shards.count - 1 { try startNextShard() }
      try endShard()
    }
    if shards.count > 1 { try write(file: "model.safetensors.index.json", index()) }
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
    guard let folder = folder.take() else { preconditionFailure("a directory is finished once") }
    var remarks = try folder.commit()
    if roundedReciprocals > 0 {
      remarks.append(
        "\(grouped(roundedReciprocals)) of \(grouped(turned)) global scales are stored as reciprocals that float32 rounds: "
          + "numbers differ by 2⁻²³ of themselves at most; codes and group scales are the same")
    }
    if try changes && model.smallFile("config.json") == nil {
      remarks.append("there is no config.json to say how the weights are stored: engines need one")
    }
    return ResultSummary(
      byteCount: byteCount, files: shards.indices.map { shardName($0) }, warnings: remarks)
  }

  private func write(file name: String, _ bytes: [UInt8]) throws {
    try told { try folder?.write(name, bytes) }
    byteCount += bytes.count
  }

  /// `model.safetensors.index.json`: names in order of their bytes, as other writers have them.
  private func index() -> [UInt8] {
    let names = shardOf.keys.sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
    let total = shards.reduce(0) { $0 + $1.reduce(0) { $0 + $1.byteCount } }
    let json = JSON(members: [
      ("metadata", ["total_size": JSON(total)]),
      ("weight_map", JSON(members: names.map { ($0, JSON(shardName(shardOf[$0] ?? 0))) })),
    ])
    return Array((json.text(indented: true) + "\n").utf8)
  }
}
