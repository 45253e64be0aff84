// A source seen through its family: weights, not tensors. Containers and Models meet here and only here. Opening looks
// at headers alone, and refuses whatever the pass or a conversion would stumble over later.

public import SmeltContainers
public import SmeltModels
public import SmeltStorage
public import SmeltTensors

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
  /// The dialect whose names the weights once had, where the container keeps that in mind.
  var sourceDialect: String?
  /// The encodings that tensors once had, by name.
  var sourceTypes: [String: String] = [:]
  /// What a conversion by this program wrote into the container about its source, as JSON text.
  var provenance: String?
  /// The errors that a method left in the weights, as JSON text.
  var errors: String?
  /// The text of config.json, where there is one.
  var config: Bytes?
  /// Makes or hands over the files beside the weights.
  var smallFiles: @Sendable () throws -> [(name: String, bytes: Bytes)]
  /// Files that no result takes.
  var leftFiles: [LeftFile] = []
  /// Files beside the weights that are read when they are written.
  var mappedFiles: [MappedFile] = []
}

/// A model as published: config.json, safetensors and tokenizer in a directory, or a GGUF file with all of it inside.
public final class Checkpoint: Weights {
  /// The directory or the file.
  public let path: String
  /// `safetensors` or `gguf`.
  public let containerName: String
  /// The tensors.
  public let source: any TensorSource
  /// The architecture.
  public let family: any ModelFamily
  /// The dialect whose names the tensors have.
  public let dialect: String
  /// The weights in the order of the family's table.
  public let joined: [JoinedWeight]
  /// Tensors left out, with the rule that says so.
  public let dropped: [(tensor: TensorInfo, rule: DropRule)]
  /// Things worth saying that are no reason to refuse: of the container, and of its content.
  public let warnings: [FormatError]
  /// The dialect whose names the weights once had, where the container keeps that in mind.
  public let sourceDialect: String?
  /// The encodings that tensors once had, by name, where the container keeps that in mind.
  public let sourceTypes: [String: String]
  /// The text of config.json, or what stands for it; nil of a directory without one.
  public let config: Bytes?
  /// Files beside the weights that no result takes.
  public let leftFiles: [LeftFile]
  private let mappedFiles: [MappedFile]
  /// What a conversion by this program wrote into a GGUF file about its source, as JSON text.
  let provenance: String?
  /// The errors that a method left in the weights of a GGUF file, as JSON text.
  let errors: String?
  private let places: [WeightName: Int]
  private let validated = ScannedWeights()
  private let built = BuiltWeights()
  private let makeFiles: @Sendable () throws -> [(name: String, bytes: Bytes)]
  private let files: Mutex<[(name: String, bytes: Bytes)]?> = Mutex(nil)

  /// Opens a directory, or a GGUF file.
  /// - Parameter allowDrop: globs of tensors that may be left out where no rule explains them.
  /// - Throws: every refusal of Formats/errors.md for sources, safetensors, index, GGUF, config and quantized content;
  ///   `RequestError` unsupported for an unknown `model_type` or architecture.
  public init(path: String, allowDrop: [String] = []) throws {
    let opened =
      pathKind(path) == .directory
      ? try OpenedSource(directory: path, allowDrop: allowDrop)
      : try OpenedSource(gguf: path, allowDrop: allowDrop)
    self.path = path
    containerName = opened.container
    source = opened.source
    family = opened.family
    dialect = opened.dialect
    joined = opened.joined
    dropped = opened.dropped
    warnings = opened.source.warnings + opened.notes
    sourceDialect = opened.sourceDialect
    sourceTypes = opened.sourceTypes
    config = opened.config
    provenance = opened.provenance
    errors = opened.errors
    makeFiles = opened.smallFiles
    leftFiles = opened.leftFiles
    mappedFiles = opened.mappedFiles
    places = Dictionary(uniqueKeysWithValues: opened.family.weights.enumerated().map { ($1.name, $0) })
    try checkExperts()
    try checkStacks()
  }

  /// The files beside the weights by their names, those of folders with `/` in them: config, tokenizer, code, pictures.
  /// A GGUF file's are made from its metadata when they are first asked for.
  /// - Throws: `TOK_…` for metadata that is no tokenizer.
  public func smallFiles() throws -> [(name: String, bytes: Bytes)] {
    try files.withLock { known in
      if let known { return known }
      let made = try makeFiles()
      known = made
      return made
    }
  }

  /// Throws `SRC_CHANGED` when a file of weights, or one beside them, changed since it was opened.
  func checkUnchanged() throws {
    try source.checkUnchanged()
    for file in mappedFiles { try file.checkUnchanged() }
  }

  // MARK: weights

  /// The weight of a name; its codes and scales are scanned once, at first use.
  public func weight(_ name: WeightName) throws -> Weight {
    try scanned(name, try unscanned(name))
  }

  /// A weight of a name, scanned unless one was before.
  func scanned(_ name: WeightName, _ weight: Weight) throws -> Weight {
    try validated.once(name) { try weight.validate(for: family.weights[place(of: name)], of: family) }
    return weight
  }

  /// The weight of a name, its codes not looked at.
  public func unscanned(_ name: WeightName) throws -> Weight {
    let joined = stored(name)
    guard joined.isBuilt else { return try joined.weight() }
    if let kept = built.find(name) { return kept }
    let weight = try joined.weight()
    joined.evict()  // what was put in order is a copy
    built.keep(name, weight)
    return weight
  }

  /// How the weight of a name is stored, from headers alone.
  public func stored(_ name: WeightName) -> JoinedWeight { joined[place(of: name)] }

  private func place(of name: WeightName) -> Int {
    guard let place = places[name] else { preconditionFailure("the family has no weight '\(name)'") }
    return place
  }

  /// Gives the pages back, and what was put in order for them.
  public func finished(_ name: WeightName) {
    guard let place = places[name] else { return }
    if joined[place].isBuilt { built.remove(name) } else { joined[place].evict() }
  }

  /// What weights that are put in order may take at once, when several threads work on the largest.
  public func builtBytes(threads: Int) -> Int {
    let largest = joined.reduce(0) { $1.isBuilt ? max($0, $1.byteCount) : $0 }
    return largest == 0 ? 0 : BuiltWeights.limit + threads * 2 * largest
  }

  /// All experts of a layer and role are stored in one way.
  private func checkExperts() throws {
    var first: [String: (encoding: String, name: WeightName)] = [:]
    for (spec, joined) in zip(family.weights, joined) where spec.role.isRouted {
      let encoding = joined.encoding.name
      if let sibling = first[spec.name.base] {
        guard sibling.encoding == encoding else {
          throw FormatError(
            .mixedExperts, file: joined.file, subject: joined.name,
            "is \(encoding), its sibling '\(sibling.name)' is \(sibling.encoding)")
        }
      } else {
        first[spec.name.base] = (encoding, spec.name)
      }
    }
  }

  /// Weights cut out of a stacked or fused tensor leave nothing of it behind.
  private func checkStacks() throws {
    var taken: [String: Int] = [:]
    var isCut: Set<String> = []
    for joined in joined {
      for (name, byteCount) in joined.tensors {
        taken[name, default: 0] += byteCount
        if byteCount != source.tensor(name)?.bytes.count { isCut.insert(name) }
      }
    }
    for tensor in source.tensors where isCut.contains(tensor.name) && taken[tensor.name] != tensor.bytes.count
    {
      throw FormatError(
        .configShape, file: fileName(tensor.file), subject: tensor.name, offset: tensor.offset,
        "is \(tensor.shape), of which the weights that config.json asks for take \(taken[tensor.name] ?? 0) of "
          + "\(tensor.bytes.count) bytes")
    }
  }
}
