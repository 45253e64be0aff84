// A model, whatever it lies in: a checkpoint directory, a GGUF file or an ingot. The verbs work on this.

public import SmeltContainers
public import SmeltModels
public import SmeltStorage
public import SmeltTensors
public import SmeltTokenizers

internal import Synchronization

/// An opened model: its family, its weights, and the files that came with it.
public struct Model: Sendable {
  /// Where it lies.
  public enum Container: Sendable {
    /// A directory of safetensors, or a GGUF file.
    case checkpoint(Checkpoint)
    /// An ingot.
    case ingot(IngotWeights)
  }

  /// The path it was opened by.
  public let path: String
  /// Where it lies.
  public let container: Container
  /// Weights that a method chose, in place of the container's own; nil unless a conversion is under way.
  var prepared: PreparedStore?

  /// Opens a model: a directory, a GGUF file or an ingot (named so, or known by their first bytes).
  /// - Parameter allowDrop: globs of tensors that may be left out where no rule explains them; the ledger names them.
  /// - Throws: `SRC_MISSING`, `SRC_NOT_MODEL`, and every refusal of the container and the family.
  public static func open(_ path: String, allowDrop: [String] = []) throws -> Model {
    guard !path.isEmpty else {
      throw RequestError(
        .usage, "the path of the model is empty", help: "give a directory, a .gguf or an .ingot")
    }
    switch pathKind(path) {
    case .nothing:
      throw FormatError(
        .missingFile, file: path, "there is no such file or directory",
        help: firstPart(of: path).map { "it was written in parts: give '\($0)'" })
    case .directory:
      return Model(path: path, container: .checkpoint(try Checkpoint(path: path, allowDrop: allowDrop)))
    case .other: throw FormatError(.notFile, file: path, "found a device or a pipe, expected a model")
    case .file:
      if path.hasSuffix(".ingot") || IngotFile.isIngot(path) {
        return Model(path: path, container: .ingot(try IngotWeights(path: path)))
      }
      if path.hasSuffix(".gguf") || GGUFFile.isGGUF(path) {
        return Model(path: path, container: .checkpoint(try Checkpoint(path: path, allowDrop: allowDrop)))
      }
      throw FormatError(
        .notModel, file: path, "found a file that is neither an .ingot nor a .gguf",
        help: path.hasSuffix(".safetensors")
          ? "give the directory that holds it, with config.json beside it" : nil)
    }
  }

  /// The first of several files that a result of this name was cut into, if there is one.
  private static func firstPart(of path: String) -> String? {
    guard let ending = [".ingot", ".gguf"].first(where: { path.hasSuffix($0) }) else { return nil }
    let stem = fileName(path).dropLast(ending.count)
    let names = (try? namesInFolder(parentFolder(path))) ?? []
    return names.first { matchesGlob("\(stem)-00001-of-?????\(ending)", $0) }.map {
      path.contains("/") ? joinPath(parentFolder(path), $0) : $0
    }
  }

  /// The architecture.
  public var family: any ModelFamily {
    switch container {
    case .checkpoint(let checkpoint): checkpoint.family
    case .ingot(let ingot): ingot.family
    }
  }

  /// What the forward pass multiplies by.
  public var weights: any Weights {
    guard let prepared else { return sourceWeights }
    switch container {
    case .checkpoint(let checkpoint): return OverlaidWeights(base: checkpoint, store: prepared)
    case .ingot(let ingot): return OverlaidWeights(base: ingot, store: prepared)
    }
  }

  /// The container's weights, whatever a method chose.
  var sourceWeights: any Weights {
    switch container {
    case .checkpoint(let checkpoint): checkpoint
    case .ingot(let ingot): ingot
    }
  }

  /// `safetensors`, `gguf` or `ingot`.
  public var containerName: String {
    switch container {
    case .checkpoint(let checkpoint): checkpoint.containerName
    case .ingot: "ingot"
    }
  }

  /// The dialect whose names the weights have, or had before they came into this container; the hub's where nothing is
  /// known.
  var dialect: String {
    var name: String?
    switch container {
    case .checkpoint(let checkpoint): name = checkpoint.sourceDialect ?? checkpoint.dialect
    case .ingot(let ingot): name = ingot.file.metadata["source"]?["dialect"]?.string
    }
    return family.writtenDialects.first { $0 == name } ?? family.dialects[0]
  }

  /// How the weights are stored, in the order of the family's table; from headers alone.
  public func storedWeights() throws -> [StoredWeight] {
    let stored = try sourceStoredWeights()
    guard let prepared else { return stored }
    return stored.map { weight in
      guard let found = prepared.find(weight.spec.name) else { return weight }
      return StoredWeight(
        spec: weight.spec, encoding: found.weight.encoding, tensors: weight.tensors,
        contentBytes: found.weight.byteCount, hasPowerScales: found.weight.part(.scales)?.dtype == .f8E8M0,
        prepared: found)
    }
  }

  private func sourceStoredWeights() throws -> [StoredWeight] {
    switch container {
    case .checkpoint(let checkpoint):
      zip(family.weights, checkpoint.joined).map { spec, joined in
        StoredWeight(
          spec: spec, encoding: joined.encoding, tensors: joined.tensors, contentBytes: joined.byteCount,
          sourceType: checkpoint.sourceTypes[joined.name],
          hasPowerScales: joined.parts.contains { $0.name == .scales && $0.dtype == .f8E8M0 })
      }
    case .ingot(let ingot):
      try family.weights.map { spec in
        let name = spec.name.description
        guard let entry = ingot.file.entry(name), let encoding = Encodings.named(entry.encodingName) else {
          throw FormatError(.incomplete, file: path, subject: name, "is not in the ingot")
        }
        return StoredWeight(
          spec: spec, encoding: encoding,
          tensors: entry.parts.map {
            ($0.name == .values ? name : "\(name) \($0.name.rawValue)", $0.frame.contentLength)
          }, contentBytes: entry.contentLength,
          hasPowerScales: entry.parts.contains { $0.name == .scales && $0.dtype == .f8E8M0 })
      }
    }
  }

  /// Things worth saying about the model that are no reason to refuse it, as people read them.
  public var warnings: [String] {
    switch container {
    case .checkpoint(let checkpoint):
      checkpoint.warnings.map(\.warning)
    case .ingot: []
    }
  }

  /// The configuration of the text model: the section of a wrapper's, or config.json as it is.
  func textConfig() throws -> Bytes? {
    guard let bytes = try smallFile("config.json") else { return nil }
    guard (family as? CarryingFamily)?.wrapper != nil,
      let text = TextConfig(try parseConfig(bytes, file: "config.json"), hasHead: family.core.hasHead)
    else { return bytes }
    return Bytes(Array((text.json.text(indented: true) + "\n").utf8))
  }

  /// A small file that came with the model, such as `tokenizer.json`.
  public func smallFile(_ name: String) throws -> Bytes? {
    switch container {
    case .checkpoint(let checkpoint):
      name == "config.json" ? checkpoint.config : try checkpoint.smallFiles().first { $0.name == name }?.bytes
    case .ingot(let ingot): try ingot.file.file(name)
    }
  }

  /// The model's tokenizer.
  /// - Throws: `SRC_MISSING` when there is none; refusals of its file.
  public func tokenizer() throws -> Tokenizer {
    guard let files = try tokenizerFiles() else {
      throw FormatError(
        .missingFile, file: joinPath(path, "tokenizer.json"),
        "the model has no tokenizer.json, no tiktoken file and no SentencePiece model",
        help:
          "put the model's tokenizer.json beside its weights; --bytes insists, and takes a text's bytes as token ids"
      )
    }
    return try files.tokenizer()
  }

  /// The files of the model's tokenizer: tokenizer.json before a tiktoken file before a SentencePiece model; nil without one.
  func tokenizerFiles() throws -> TokenizerFiles? {
    switch container {
    case .checkpoint(let checkpoint):
      let files = try checkpoint.smallFiles()
      return try TokenizerFiles(among: files.map(\.name)) { name in files.first { $0.name == name }?.bytes }
    case .ingot(let ingot):
      return try TokenizerFiles(among: ingot.file.fileNames) { try ingot.file.file($0) }
    }
  }

  /// Refuses bytes of a text as token ids where they mean something else, or nothing.
  /// - Throws: `RequestError` usage.
  func requireBytes() throws {
    guard try tokenizerFiles() == nil else {
      throw RequestError(
        .usage, "--bytes is for models without a tokenizer, and '\(path)' has one", help: "leave --bytes away"
      )
    }
    let vocabulary = family.dimensions.vocabulary
    guard vocabulary >= 256 else {
      throw RequestError(
        .usage, "--bytes needs 256 token ids, and '\(path)' has \(vocabulary)",
        help: "give token ids with --tokens")
    }
  }

  /// Throws `SRC_CHANGED` when a file changed since it was opened.
  public func checkUnchanged() throws {
    switch container {
    case .checkpoint(let checkpoint): try checkpoint.checkUnchanged()
    case .ingot(let ingot): try ingot.file.checkUnchanged()
    }
  }

  /// Refuses a result that is one of the model's own files, or one of `others` that a command reads.
  /// - Throws: `OUT_ALIASES_INPUT`.
  public func refuseAlias(_ result: String, and others: [String] = []) throws(FormatError) {
    var sources = files.map(\.path)
    if case .checkpoint(let checkpoint) = container, pathKind(path) == .directory {
      let names = ((try? checkpoint.smallFiles()) ?? []).map(\.name) + ["model.safetensors.index.json"]
      sources += names.map { joinPath(path, $0) }
    }
    try SmeltStorage.refuseAlias(result: result, sources: sources + others)
  }

  /// The files that hold the weights.
  public var files: [(path: String, byteCount: Int)] {
    switch container {
    case .checkpoint(let checkpoint): checkpoint.source.files
    case .ingot(let ingot): ingot.file.files
    }
  }
}

/// How one weight is stored in a source.
public struct StoredWeight: Sendable {
  /// What the family says about it.
  public let spec: WeightSpec
  /// The encoding.
  public let encoding: any Encoding
  /// The tensors it is made of, codes first, with their bytes.
  public let tensors: [(name: String, byteCount: Int)]

  /// Bytes of all parts, once they are in the encoding's order.
  public let contentBytes: Int
  /// The encoding it had before it came into this container, where that is known.
  public var sourceType: String?
  /// Whether its scales are powers of two by their type.
  public var hasPowerScales = false
  /// What a method made of it, where one did.
  var prepared: PreparedWeight?

  /// Bytes of the tensors.
  public var byteCount: Int { tensors.reduce(0) { $0 + $1.byteCount } }
}

/// The weights of an ingot.
public final class IngotWeights: Weights {
  /// The container.
  public let file: IngotFile
  /// The architecture, from the config.json inside.
  public let family: any ModelFamily
  private let specs: [WeightName: WeightSpec]
  private let validated = ScannedWeights()

  /// Opens an ingot and checks that it holds every weight of its family.
  /// - Throws: `C_…` for the container, `ARCH_INCOMPLETE`, `ARCH_UNKNOWN_TENSOR`, `CFG_SHAPE` for its content.
  public init(path: String) throws {
    file = try IngotFile(path: path)
    let config = try file.file("config.json").map { try parseConfig($0, file: "config.json") }
    guard config != nil || file.metadata[IngotWeights.noFamily] != nil else {
      throw FormatError(.notModel, file: path, "the ingot holds no config.json")
    }
    family = try IngotWeights.family(of: file, config ?? JSON(members: []))
    specs = Dictionary(family.weights.map { ($0.name, $0) }) { first, _ in first }
    var entries: [String: Shape] = [:]
    for entry in file.entries { entries[entry.name] = entry.shape }
    for spec in family.weights {
      guard let shape = entries.removeValue(forKey: spec.name.description) else {
        throw FormatError(.incomplete, file: path, subject: spec.name.description, "is not in the ingot")
      }
      guard shape == spec.shape else {
        throw FormatError(
          .configShape, file: path, subject: spec.name.description, "is \(shape), expected \(spec.shape)")
      }
    }
    if let stray = entries.keys.min() {
      throw FormatError(
        .unknownTensor, file: path, subject: stray, "belongs to no weight of \(family.modelType)")
    }
  }

  /// The key of the metadata that says that the weights have no family, and what one does not compute.
  static let noFamily = "no_family"

  /// The architecture: of config.json, with the entries that the ingot says it carries, or the entries alone.
  private static func family(of file: IngotFile, _ config: JSON) throws -> any ModelFamily {
    func specs(_ entries: some Sequence<IngotEntry>, dialects: Int = 1, hasLayer: Bool = true)
      -> [WeightSpec]
    {
      entries.map { entry in
        let name = WeightName(parsing: entry.name)
        return WeightSpec(
          carried: name, entry.shape,
          Spelling(name.base, stackIndex: name.expert, transposed: name.expert != nil), dialects: dialects,
          hasLayer: hasLayer)
      }
    }
    // an entry is as good as the bytes of an expert, which zstd may make few
    let byteCount = file.entries.count * 64
    let form = file.metadata["wrapper"]?.string.flatMap { WrapperForm(rawValue: $0) }
    func unknown(_ type: String, refusal: String? = nil) -> any ModelFamily {
      UnknownArchitecture(
        type, config: config, dialect: file.metadata["source"]?["dialect"]?.string ?? "hub",
        specs(file.entries), refusal: refusal)
    }
    if let refusal = file.metadata[noFamily] {
      return unknown(
        config["model_type"]?.string ?? UnknownArchitecture.nameless, refusal: refusal.string)
    }
    let family: any ModelFamily
    if let type = config["model_type"]?.string, !ModelFamilies.knows(type) {
      let hasHead = file.entry("output.weight") != nil
      guard form != nil, let text = TextConfig(config, hasHead: hasHead) else {
        return unknown(type)
      }
      family = try ModelFamilies.family(of: text.json, file: "config.json", byteCount: byteCount)
    } else {
      family = try ModelFamilies.family(of: config, file: "config.json", byteCount: byteCount)
    }
    let count = file.metadata["carried"]?.integer ?? 0
    guard count > 0 || form != nil else { return family }
    let own = Set(family.weights.map(\.name.description))
    let carried = file.entries.filter { !own.contains($0.name) }
    guard carried.count == count else {
      throw FormatError(
        .ingotIndex, file: file.path, subject: "metadata",
        "says that \(count) weights are carried beside the family's, found \(carried.count)")
    }
    return CarryingFamily(
      family, wrapper: form, carrying: specs(carried, dialects: family.dialects.count, hasLayer: false))
  }

  /// The weight of a name; its codes and scales are scanned once, at first use.
  public func weight(_ name: WeightName) throws -> Weight {
    try scanned(name, try file.weight(name.description))
  }

  /// A weight of a name, scanned unless one was before.
  func scanned(_ name: WeightName, _ weight: Weight) throws -> Weight {
    try validated.once(name) { try weight.validate(for: specs[name], of: family) }
    return weight
  }

  /// Gives the pages of raw frames back; inflated ones stay while the cache has room.
  public func finished(_ name: WeightName) { file.evict(name.description) }
}

/// Which weights were scanned and found sound. A weight that was refused is scanned, and refused, again.
final class ScannedWeights: Sendable {
  private let names: Mutex<Set<WeightName>> = Mutex([])

  /// Calls `scan` unless it was called for this name and threw nothing.
  func once(_ name: WeightName, _ scan: () throws -> Void) throws {
    guard names.withLock({ $0.insert(name).inserted }) else { return }
    do {
      try scan()
    } catch {
      names.withLock { _ = $0.remove(name) }
      throw error
    }
  }
}

extension Weight {
  /// Refuses codes and scales that are no finite numbers, and tables that name experts the model has not.
  /// - Throws: `Q_CODE_NAN`, `Q_SCALE_VALUE`, `CFG_VALUE`.
  func validate(for spec: WeightSpec?, of family: any ModelFamily) throws {
    try validate()
    guard let spec, spec.role == .hashTable else { return }
    let experts = family.dimensions.experts
    let ids = try integers()
    guard let bad = ids.firstIndex(where: { !(0..<experts).contains($0) }) else { return }
    throw FormatError(
      .configValue, file: file, subject: name,
      "row \(bad / columns), column \(bad % columns) is expert \(ids[bad]), expected 0 to \(experts - 1)")
  }
}
