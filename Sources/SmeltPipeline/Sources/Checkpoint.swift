// A source seen through its family: weights, not tensors. Containers and Models meet here and only here. Opening looks
// at headers alone, and refuses whatever the pass or a conversion would stumble over later.

package import SmeltContainers
package import SmeltModels
package import SmeltQuantization
package import SmeltStorage
package import SmeltTensors

internal import Synchronization

/// What opening a source found.
struct OpenedSource {
  /// What the container is called.
  var container: String
  var source: any TensorSource
  var family: any ModelFamily
  var dialect: String
  var joined: [JoinedWeight]
  var dropped: [(tensor: TensorInfo, rule: DropRule)]
  /// What is worth saying beyond the container's own warnings.
  var notes: [FormatError] = []
  /// The dialect that the tensors had when they were published, where the container records it.
  var publishedDialect: String?
  /// The encodings that tensors once had, by name.
  var sourceTypes: [String: String] = [:]
  /// What a conversion by this program recorded in the container's metadata; nil where it records in files.
  var recorded: RecordedOrigin?
  /// The text of config.json, where there is one.
  var config: Bytes?
  /// Whether the configuration says that keys and values are cached in FP8.
  var hasCacheScales = false
  /// Whether it says for every quantized weight what becomes of activations.
  var saysActivations = false
  /// Why nobody can follow what it says of cached keys and values.
  var cacheFault: (any Error)?
  /// Makes or hands over the files beside the weights.
  var smallFiles: @Sendable () throws -> [(name: String, bytes: Bytes)]
  /// Files that no result takes.
  var leftFiles: [LeftFile] = []
  /// Files beside the weights that are read when they are written.
  var mappedFiles: [MappedFile] = []
}

/// A model as published: config.json, safetensors and tokenizer in a directory, or a GGUF file with all of it inside.
package final class Checkpoint: ModelSource {
  /// The directory or the file.
  package let path: String
  /// `safetensors` or `gguf`.
  package let containerName: String
  /// The tensors.
  package let container: any TensorSource
  /// The architecture.
  package let family: any ModelFamily
  /// The dialect whose names the tensors have.
  package let dialect: String
  /// The weights in the order of the family's table.
  package let joined: [JoinedWeight]
  /// Tensors left out, with the rule that says so.
  package let dropped: [(tensor: TensorInfo, rule: DropRule)]
  /// Things worth saying that are no reason to refuse: of the container, and of its content.
  package let warnings: [FormatError]
  /// The dialect that the tensors had when they were published, where the container records it.
  package let publishedDialect: String?
  /// The encodings that tensors once had, by name, where the container records them.
  package let sourceTypes: [String: String]
  /// The text of config.json, or what stands for it; nil of a directory without one.
  package let config: Bytes?
  /// Files beside the weights that no result takes.
  package let leftFiles: [LeftFile]
  private let mappedFiles: [MappedFile]
  private let recorded: RecordedOrigin?
  /// Places in the family's table by name, made when one is asked for.
  private let places: Mutex<[WeightName: Int]?> = Mutex(nil)
  private let hasCacheScales: Bool
  private let saysActivations: Bool
  private let cacheFault: (any Error)?
  private let scales: Mutex<DeclaredScales?> = Mutex(nil)
  private let validated = ScannedWeights()
  private let built = BuiltWeights()
  private let makeFiles: @Sendable () throws -> [(name: String, bytes: Bytes)]
  private let smallFileList: Mutex<[(name: String, bytes: Bytes)]?> = Mutex(nil)

  /// A checkpoint of what opening a directory or a GGUF file found.
  /// - Throws: `Q_MIXED_EXPERTS`, `CFG_SHAPE` for weights that do not fit one another.
  init(_ opened: OpenedSource, path: String) throws {
    self.path = path
    containerName = opened.container
    container = opened.source
    family = opened.family
    dialect = opened.dialect
    joined = opened.joined
    dropped = opened.dropped
    warnings = opened.source.warnings + opened.notes
    publishedDialect = opened.publishedDialect
    sourceTypes = opened.sourceTypes
    config = opened.config
    recorded = opened.recorded
    makeFiles = opened.smallFiles
    hasCacheScales = opened.hasCacheScales
    saysActivations = opened.saysActivations
    cacheFault = opened.cacheFault
    leftFiles = opened.leftFiles
    mappedFiles = opened.mappedFiles
    try checkExperts()
    try checkStacks()
  }

  /// The files beside the weights by their names, those of folders with `/` in them: config, tokenizer, code, pictures.
  /// A GGUF file's are made from its metadata when they are first asked for.
  /// - Throws: `TOK_…` for metadata that is no tokenizer.
  package func smallFiles() throws -> [(name: String, bytes: Bytes)] {
    try smallFileList.withLock { known in
      if let known { return known }
      let made = try makeFiles()
      known = made
      return made
    }
  }

  /// Throws `SRC_CHANGED` when a file of weights, or one beside them, changed since it was opened.
  package func checkUnchanged() throws {
    try container.checkUnchanged()
    for file in mappedFiles { try file.checkUnchanged() }
  }

  /// What the configuration and the tensors beside the weights declare; read once.
  package func declaredScales() throws -> DeclaredScales {
    try scales.withLock { known in
      if let known { return known }
      var found = try DeclaredScales(
        zip(family.weights, joined), in: container, hasCacheScales: hasCacheScales)
      found.saysAll = saysActivations
      found.cacheFault = cacheFault
      known = found
      return found
    }
  }

  // MARK: weights

  /// The weight of a name; its codes and scales are scanned once, at first use.
  package func weight(_ name: WeightName) throws -> Weight {
    try scanned(name, try unscanned(name).fetched())
  }

  /// A weight of a name, scanned unless one was before.
  func scanned(_ name: WeightName, _ weight: Weight) throws -> Weight {
    try validated.once(name) { try weight.validate(for: family.weights[place(of: name)], of: family) }
    return weight
  }

  /// The weight of a name, its codes not looked at.
  package func unscanned(_ name: WeightName) throws -> Weight {
    let joined = stored(name)
    guard joined.isBuilt else { return try joined.weight() }
    if let kept = built.find(name) { return kept }
    let weight = try joined.weight()
    joined.evict()  // what was put in order is a copy
    built.keep(name, weight)
    return weight
  }

  /// How the weight of a name is stored, from headers alone.
  package func stored(_ name: WeightName) -> JoinedWeight { joined[place(of: name)] }

  private func place(of name: WeightName) -> Int {
    guard let place = findPlace(of: name) else { preconditionFailure("the family has no weight '\(name)'") }
    return place
  }

  private func findPlace(of name: WeightName) -> Int? {
    places.withLock { known in
      if known == nil {
        known = Dictionary(uniqueKeysWithValues: family.weights.enumerated().map { ($1.name, $0) })
      }
      return known?[name]
    }
  }

  /// Gives the pages back, and what was put in order for them.
  package func finished(_ name: WeightName) {
    guard let place = findPlace(of: name) else { return }
    if joined[place].isBuilt { built.remove(name) } else { joined[place].evict() }
  }

  /// What weights that are put in order may take at once, when several threads work on the largest.
  package func builtBytes(threads: Int) -> Int {
    let largest = joined.reduce(0) { $1.isBuilt ? max($0, $1.byteCount) : $0 }
    return largest == 0 ? 0 : BuiltWeights.limit + threads * 2 * largest
  }

  /// All experts of a layer and role are stored in one way.
  private func checkExperts() throws {
    var first: [String: (encoding: String, name: WeightName)] = [:]
    // An expert's matrices follow each other, and those of the next expert have the same bases.
    var recent: [(base: String, encoding: String, name: WeightName)] = []
    for (spec, joined) in zip(family.weights, joined) where spec.role.isRouted {
      let (name, encoding) = (spec.name, joined.encoding.name)
      let near = recent.first { $0.base == name.base }
      guard let sibling = near.map({ (encoding: $0.encoding, name: $0.name) }) ?? first[name.base] else {
        first[name.base] = (encoding, name)
        if recent.count == 3 { recent.removeFirst() }
        recent.append((name.base, encoding, name))
        continue
      }
      guard sibling.encoding == encoding else {
        throw FormatError(
          .mixedExperts, file: joined.file, subject: joined.name,
          "is \(encoding), its sibling '\(sibling.name)' is \(sibling.encoding)")
      }
    }
  }

  /// Weights cut out of a stacked or fused tensor leave nothing of it behind.
  private func checkStacks() throws {
    var taken: [String: Int] = [:]
    for joined in joined where !joined.takesWholeTensors {
      for (name, byteCount) in joined.tensors where byteCount != container.tensor(name)?.byteCount {
        taken[name] = 0
      }
    }
    guard !taken.isEmpty else { return }
    for joined in joined {
      for (name, byteCount) in joined.tensors { taken[name]? += byteCount }
    }
    for tensor in container.tensors {
      guard let bytes = taken[tensor.name], bytes != tensor.byteCount else { continue }
      throw FormatError(
        .configShape, file: tensor.fileName, subject: tensor.name, offset: tensor.offset,
        "is \(tensor.shape), of which the weights that config.json asks for take \(bytes) of "
          + "\(tensor.byteCount) bytes")
    }
  }
}

extension Checkpoint {
  package var files: [(path: String, byteCount: Int)] { container.files }
  package var tensors: [SourceTensor] {
    container.tensors.map {
      SourceTensor(
        name: $0.name, type: $0.type, shape: $0.shape, byteCount: $0.byteCount, file: $0.file)
    }
  }
  package var droppedTensors: [DroppedTensor] {
    dropped.map { DroppedTensor(name: $0.name, byteCount: $0.byteCount, rule: $1) }
  }
  package var makesItsFiles: Bool { recorded != nil }
  package var guardedPaths: [String] {
    guard !makesItsFiles else { return [] }
    let names = ((try? smallFiles()) ?? []).map(\.name) + ["model.safetensors.index.json"]
    return names.map { joinPath(path, $0) }
  }

  package func smallFile(_ name: String) throws -> Bytes? {
    name == "config.json" ? config : try smallFiles().first { $0.name == name }?.bytes
  }

  package func smallFileSizes() throws -> [(name: String, bytes: Int)] {
    makesItsFiles ? [] : try smallFiles().map { ($0.name, $0.bytes.count) }
  }

  package func recordedOrigin() throws -> RecordedOrigin {
    if let recorded { return recorded }
    return RecordedOrigin(
      provenance: try smallFile(ModelCard.fileName).flatMap { ModelCard.origin(in: $0.array) },
      errors: try smallFile(WeightErrors.fileName))
  }

  package func storedWeights() throws -> [StoredWeight] {
    zip(family.weights, joined).map { stored($0, $1) }
  }

  package func forEachStoredWeight(_ body: (StoredWeight) -> Void) {
    for (spec, joined) in zip(family.weights, joined) { body(stored(spec, joined)) }
  }

  private func stored(_ spec: WeightSpec, _ joined: JoinedWeight) -> StoredWeight {
    StoredWeight(spec, joined, sourceType: sourceTypes.isEmpty ? nil : sourceTypes[joined.name])
  }

  package func storedParts(of name: WeightName) -> [ResultPart] {
    stored(name).parts.map {
      ResultPart(name: $0.name, dtype: $0.dtype, shape: $0.shape, byteCount: $0.byteCount)
    }
  }

  package func pieces(of name: WeightName) throws -> [Weight]? { try stored(name).pieces() }

  package func read(_ name: WeightName, parallel: Parallel) throws -> Weight {
    guard stored(name).isBuilt else { return try weight(name) }
    return try scanned(name, try stored(name).weight())
  }

  package func sizes(of name: WeightName) -> (stored: Int, content: Int) {
    let stored = stored(name)
    return (stored.storedBytes, stored.byteCount)
  }

  package func willNeed(_ name: WeightName) { stored(name).willNeed() }

  package func willNeed(_ name: WeightName, codes: Range<Int>) {
    let stored = stored(name)
    // What is put in order is read whole.
    guard !stored.isBuilt, let weight = try? stored.weight(), codes.upperBound <= weight.values.bytes.count
    else {
      if codes.lowerBound == 0 { stored.willNeed() }
      return
    }
    weight.values.bytes[codes].willNeed()
    if codes.lowerBound == 0 { for part in weight.parts.dropFirst() { part.bytes.willNeed() } }
  }

  package func giveBack(_ name: WeightName) { stored(name).evict() }
}
