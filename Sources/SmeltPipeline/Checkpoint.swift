// A source seen through its family: weights, not tensors. Containers and Models meet here and only here. Opening looks
// at headers alone, and refuses whatever the pass or a conversion would stumble over later.

public import SmeltContainers
public import SmeltModels
public import SmeltStorage
public import SmeltTensors

/// A directory as published: config.json, safetensors, tokenizer.
public final class Checkpoint: Weights {
  /// The directory.
  public let path: String
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
  /// The files beside the weights: config, tokenizer and other small text files, by name.
  public let smallFiles: [(name: String, bytes: Bytes)]
  private let places: [WeightName: Int]
  private let validated = ScannedWeights()
  private let built = BuiltWeights()

  /// Opens a directory.
  /// - Parameter allowDrop: globs of tensors that may be left out where no rule explains them.
  /// - Throws: every refusal of Formats/errors.md for sources, safetensors, index, config and quantized content;
  ///   `RequestError` unsupported for an unknown `model_type`.
  public init(path: String, allowDrop: [String] = []) throws {
    self.path = path
    let configPath = joinPath(path, "config.json")
    guard pathKind(configPath) != .nothing else {
      throw FormatError(
        .notModel, file: path, "the directory has no config.json",
        help: "give the directory that holds config.json, tokenizer.json and the safetensors")
    }
    smallFiles = try Checkpoint.readSmallFiles(path)
    // The bytes that are read are the bytes that a result will hold, though the file may change in between.
    guard let configBytes = smallFiles.first(where: { $0.name == "config.json" })?.bytes else {
      throw FormatError(
        .notFile, file: configPath, "found \(pathKind(configPath).words), expected a regular file")
    }
    let config = try Checkpoint.parseConfig(configBytes, file: "config.json")
    let family = try ModelFamilies.family(of: config, file: "config.json")
    let source = try SafetensorsDirectory(path: path)
    let quantization = try QuantizationConfig(
      config: config, file: "config.json", sidecar: try Checkpoint.sidecar(smallFiles))
    let column = try Checkpoint.dialect(family, source, quantization, path)
    dialect = family.dialects[column]
    try quantization.check(
      family.weights.lazy.map { $0.spellings[column] }, in: source)
    joined = try family.weights.map { spec in
      let request = WeightRequest(
        spec.spellings[column], shape: spec.shape, isTable: spec.role == .hashTable)
      guard let joined = try Layouts.join(request, in: source, quantization) else {
        throw Checkpoint.missing(family, source, quantization, column, path)
      }
      return joined
    }
    places = Dictionary(uniqueKeysWithValues: family.weights.enumerated().map { ($1.name, $0) })
    dropped = try Checkpoint.account(family, source, quantization, joined, allowDrop)
    self.family = family
    self.source = source
    try checkExperts()
    try checkStacks()
  }

  // MARK: weights

  /// The weight of a name; its codes and scales are scanned once, at first use.
  public func weight(_ name: WeightName) throws -> Weight {
    let weight = try unscanned(name)
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

  // MARK: opening

  static func parseConfig(_ bytes: Bytes, file: String) throws -> JSON {
    let config: JSON
    do {
      config = try JSON.scan(bytes)
    } catch {
      throw FormatError(.configJSON, file: file, offset: error.offset, error.problem)
    }
    guard config.object != nil else {
      throw FormatError(.configJSON, file: file, offset: 0, "found \(config.kind), expected an object")
    }
    return config
  }

  /// The rule for scales that are not the weights'.
  private static let activationScale = DropRule(
    Layouts.activationScale.name, Layouts.activationScale.reason, prefixes: [])

  /// ModelOpt's own configuration file, if there is one.
  private static func sidecar(_ files: [(name: String, bytes: Bytes)]) throws -> JSON? {
    guard let file = files.first(where: { $0.name == QuantizationConfig.sidecarName }) else { return nil }
    return try parseConfig(file.bytes, file: file.name)
  }

  /// Names and contents of the files that belong to the model besides its weights. They are copied into results, so
  /// that a link may lead no further than a shard's may.
  /// - Throws: `IDX_LINK`; `CFG_VALUE` and `TOK_VALUE` for a config or a tokenizer too large to be one.
  private static func readSmallFiles(_ path: String) throws -> [(name: String, bytes: Bytes)] {
    let folder = try ShardFolder(path)
    let names = folder.names.filter { name in
      (name.hasSuffix(".json") && name != "model.safetensors.index.json")
        || name.hasSuffix(".jinja") || name == "tokenizer.model" || name == "merges.txt"
        || name == "vocab.txt"
        || name.hasPrefix("LICENSE") || name == "README.md"
    }
    return try names.compactMap { name in
      guard pathKind(folder.file(name)) == .file else { return nil }
      let file = try MappedFile(path: folder.resolve(name))
      let limit = name == "config.json" ? 16 << 20 : 64 << 20
      guard file.count > limit else { return (name, Bytes(file.bytes.array)) }
      guard name == "config.json" || name == "tokenizer.json" else { return nil }
      throw FormatError(
        name == "config.json" ? .configValue : .tokenizerValue, file: name,
        "found \(file.count) bytes, expected at most \(limit)")
    }
  }

  /// The first dialect whose names are all present; else the one with most, to say what is missing.
  private static func dialect(
    _ family: any ModelFamily, _ source: some TensorSource, _ config: QuantizationConfig, _ path: String
  ) throws -> Int {
    var best = (column: 0, found: -1)
    for column in family.dialects.indices {
      let found = family.weights.count {
        Layouts.find($0.spellings[column], in: source, config) != nil
      }
      if found == family.weights.count { return column }
      if found > best.found { best = (column, found) }
    }
    throw missing(family, source, config, best.column, path)
  }

  private static func missing(
    _ family: any ModelFamily, _ source: some TensorSource, _ config: QuantizationConfig, _ column: Int,
    _ path: String
  ) -> FormatError {
    let names = family.weights.map { $0.spellings[column] }
      .filter { Layouts.find($0, in: source, config) == nil }.map(\.tensor)
    return FormatError(
      .incomplete, file: path, subject: names.first,
      "is missing, and \(names.count - 1) more of the \(family.weights.count) weights that config.json asks for"
    )
  }

  /// Every tensor must be a part of a weight or fall under a named rule.
  private static func account(
    _ family: any ModelFamily, _ source: some TensorSource, _ config: QuantizationConfig,
    _ joined: [JoinedWeight], _ allowDrop: [String]
  ) throws -> [(tensor: TensorInfo, rule: DropRule)] {
    let used = Set(joined.flatMap { $0.tensors.map(\.name) })
    var dropped: [(tensor: TensorInfo, rule: DropRule)] = []
    for tensor in source.tensors where !used.contains(tensor.name) {
      let rule =
        family.dropRules.first { $0.covers(tensor.name) }
        ?? (Layouts.isActivationScale(tensor, config) ? activationScale : nil)
        ?? allowDrop.first { matchesGlob($0, tensor.name) }.map {
          DropRule("allow-drop \($0)", "the user allows that tensors of this name are left out", prefixes: [])
        }
      guard let rule else {
        throw FormatError(
          .unknownTensor, file: fileName(tensor.file), subject: tensor.name, offset: tensor.offset,
          "(\(tensor.dtype) \(tensor.shape)) belongs to no weight of \(family.modelType)")
      }
      dropped.append((tensor, rule))
    }
    return dropped
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
