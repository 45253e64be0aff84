// An ingot as a model's source: the architecture from the config.json inside, its entries the weights by canonical name.

package import SmeltContainers
package import SmeltModels
package import SmeltQuantization
package import SmeltStorage
package import SmeltTensors

internal import Synchronization

/// An opened ingot.
package final class IngotSource: SealedSource {
  /// The container.
  package let file: IngotFile
  /// The architecture, from the config.json inside.
  package let family: any ModelFamily
  private let specs: [WeightName: WeightSpec]
  private let validated = ScannedWeights()
  private let scales: Mutex<DeclaredScales?> = Mutex(nil)

  /// Opens an ingot and checks that it holds every weight of its family.
  /// - Throws: `C_…` for the container, `ARCH_INCOMPLETE`, `ARCH_UNKNOWN_TENSOR`, `CFG_SHAPE` for its content.
  package init(path: String) throws {
    file = try IngotFile(path: path)
    let config = try file.file("config.json").map { try parseConfig($0, file: "config.json") }
    guard config != nil || file.metadata[IngotSource.noFamily] != nil else {
      throw FormatError(.notModel, file: path, "the ingot holds no config.json")
    }
    family = try IngotSource.family(of: file, config ?? JSON(members: []))
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
        specs(file.entries).map { $0.marked(by: DraftNames(config)) }, refusal: refusal)
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
    let named = specs(carried, dialects: family.dialects.count, hasLayer: false)
    let (ordered, blocks) = FoundDrafts.order(named, of: family, form, DraftNames(config))
    return CarryingFamily(family, wrapper: form, carrying: ordered, draftBlocks: blocks)
  }

  /// The weight of a name; its codes and scales are scanned once, at first use.
  package func weight(_ name: WeightName) throws -> Weight {
    try scanned(name, try file.weight(name.description))
  }

  /// A weight of a name, scanned unless one was before.
  func scanned(_ name: WeightName, _ weight: Weight) throws -> Weight {
    try validated.once(name) { try weight.validate(for: specs[name], of: family) }
    return weight
  }

  /// Gives the pages of raw frames back; inflated ones stay while the cache has room.
  package func finished(_ name: WeightName) { file.evict(name.description) }
}

extension IngotSource {
  package var path: String { file.path }
  package var containerName: String { "ingot" }
  package var dialect: String { "canonical" }
  package var publishedDialect: String? { file.metadata["source"]?["dialect"]?.string }
  package var files: [(path: String, byteCount: Int)] { file.files }
  package var tensors: [SourceTensor] {
    file.entries.map { entry in
      SourceTensor(
        name: entry.name, type: entry.encodingName, shape: entry.shape, byteCount: entry.storedLength,
        file: file.files[entry.fileNumber].path)
    }
  }
  package var droppedTensors: [DroppedTensor] { [] }
  package var leftFiles: [LeftFile] { [] }
  package var warnings: [FormatError] { [] }
  package var contentHash: String? { file.contentHash }
  package var makesItsFiles: Bool { false }

  package func smallFile(_ name: String) throws -> Bytes? { try file.file(name) }

  package func smallFiles() throws -> [(name: String, bytes: Bytes)] {
    try file.fileNames.filter { $0 != RecordedScales.fileName }.map { ($0, try file.file($0) ?? Bytes([])) }
  }

  package func smallFileSizes() throws -> [(name: String, bytes: Int)] {
    file.fileSizes.filter { $0.name != RecordedScales.fileName }.map { ($0.name, $0.byteCount) }
  }

  /// What the source declared of activations and caches; read once.
  package func declaredScales() throws -> DeclaredScales {
    try scales.withLock { known in
      if let known { return known }
      let found =
        try file.file(RecordedScales.fileName).map {
          try RecordedScales.read($0, of: family.weights, ingot: path)
        } ?? DeclaredScales()
      known = found
      return found
    }
  }

  package func recordedOrigin() throws -> RecordedOrigin {
    RecordedOrigin(
      provenance: file.metadata, errors: try file.file(WeightErrors.fileName),
      ledger: try file.file(RecordedOrigin.ledgerName).flatMap { try? JSON.scan($0) })
  }

  package func seal(_ report: Bytes) throws { try file.seal(name: IngotFacts.reportName, bytes: report) }

  package func facts() throws -> IngotFacts? { try IngotFacts(file) }

  package func storedWeights() throws -> [StoredWeight] {
    try family.weights.map { spec in
      let name = spec.name.description
      guard let entry = file.entry(name), let encoding = Encodings.named(entry.encodingName) else {
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

  package func storedParts(of name: WeightName) -> [ResultPart] {
    (file.entry(name.description)?.parts ?? []).map {
      ResultPart(name: $0.name, dtype: $0.dtype, shape: $0.shape, byteCount: $0.frame.contentLength)
    }
  }

  package func read(_ name: WeightName, parallel: Parallel) throws -> Weight {
    try scanned(name, try file.weight(name.description, parallel: parallel))
  }

  package func sizes(of name: WeightName) -> (stored: Int, content: Int) {
    guard let entry = file.entry(name.description) else { return (0, 0) }
    return (entry.storedLength, entry.contentLength)
  }

  package func willNeed(_ name: WeightName) { file.willNeed(name.description) }

  package func giveBack(_ name: WeightName) { file.evict(name.description) }

  package var inflatedLimit: Int {
    get { file.cacheLimit }
    set { file.cacheLimit = newValue }
  }

  package func checkUnchanged() throws { try file.checkUnchanged() }
}
