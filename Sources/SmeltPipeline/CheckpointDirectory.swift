// Opening a directory: config.json names the family, the family's dialects name the tensors, layouts join them.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

extension OpenedSource {
  /// Opens a directory of safetensors.
  init(directory path: String, allowDrop: [String]) throws {
    let configPath = joinPath(path, "config.json")
    guard pathKind(configPath) != .nothing else {
      throw FormatError(
        .notModel, file: path, "the directory has no config.json",
        help: "give the directory that holds config.json, tokenizer.json and the safetensors")
    }
    let smallFiles = try CheckpointDirectory.readSmallFiles(path)
    // The bytes that are read are the bytes that a result will hold, though the file may change in between.
    guard let configBytes = smallFiles.first(where: { $0.name == "config.json" })?.bytes else {
      throw FormatError(
        .notFile, file: configPath, "found \(pathKind(configPath).words), expected a regular file")
    }
    let config = try parseConfig(configBytes, file: "config.json")
    let family = try ModelFamilies.family(of: config, file: "config.json")
    let source = try SafetensorsDirectory(path: path)
    let quantization = try QuantizationConfig(
      config: config, file: "config.json", sidecar: try CheckpointDirectory.sidecar(smallFiles))
    let column = try CheckpointDirectory.dialect(family, source, quantization, path)
    try quantization.check(
      family.weights.lazy.map { $0.spellings[column] }, in: source)
    let joined = try family.weights.map { spec in
      let request = WeightRequest(
        spec.spellings[column], shape: spec.shape, isTable: spec.role == .hashTable)
      guard let joined = try Layouts.join(request, in: source, quantization) else {
        throw CheckpointDirectory.missing(family, source, quantization, column, path)
      }
      return joined
    }
    let dropped = try droppedTensors(of: source, family, joined, allowDrop) { tensor in
      Layouts.isActivationScale(tensor, quantization) ? CheckpointDirectory.activationScale : nil
    }
    self.init(
      container: "safetensors", source: source, family: family, dialect: family.dialects[column],
      joined: joined, dropped: dropped, config: configBytes, smallFiles: { smallFiles })
  }
}

/// Parses the text of a config.json.
/// - Throws: `CFG_JSON`.
func parseConfig(_ bytes: Bytes, file: String) throws -> JSON {
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

/// Every tensor must be a part of a weight or fall under a named rule: the family's, one of `others`, the user's.
/// - Throws: `ARCH_UNKNOWN_TENSOR`.
func droppedTensors(
  of source: any TensorSource, _ family: any ModelFamily, _ joined: [JoinedWeight], _ allowDrop: [String],
  others: (TensorInfo) -> DropRule?
) throws -> [(tensor: TensorInfo, rule: DropRule)] {
  let used = Set(joined.flatMap { $0.tensors.map(\.name) })
  var dropped: [(tensor: TensorInfo, rule: DropRule)] = []
  for tensor in source.tensors where !used.contains(tensor.name) {
    let rule =
      family.dropRules.first { $0.covers(tensor.name) } ?? others(tensor)
      ?? allowDrop.first { matchesGlob($0, tensor.name) }.map {
        DropRule("allow-drop \($0)", "the user allows that tensors of this name are left out", prefixes: [])
      }
    guard let rule else {
      throw FormatError(
        .unknownTensor, file: fileName(tensor.file), subject: tensor.name, offset: tensor.offset,
        "(\(tensor.type) \(tensor.shape)) belongs to no weight of \(family.modelType)")
    }
    dropped.append((tensor, rule))
  }
  return dropped
}

/// What a directory holds beside tensors, and whose names the tensors have.
private enum CheckpointDirectory {
  /// The rule for scales that are not the weights'.
  static let activationScale = DropRule(
    Layouts.activationScale.name, Layouts.activationScale.reason, prefixes: [])

  /// ModelOpt's own configuration file, if there is one.
  static func sidecar(_ files: [(name: String, bytes: Bytes)]) throws -> JSON? {
    guard let file = files.first(where: { $0.name == QuantizationConfig.sidecarName }) else { return nil }
    return try parseConfig(file.bytes, file: file.name)
  }

  /// Names and contents of the files that belong to the model besides its weights. They are copied into results, so
  /// that a link may lead no further than a shard's may.
  /// - Throws: `IDX_LINK`; `CFG_VALUE` and `TOK_VALUE` for a config or a tokenizer too large to be one.
  static func readSmallFiles(_ path: String) throws -> [(name: String, bytes: Bytes)] {
    let folder = try ShardFolder(path)
    let names = folder.names.filter { name in
      (name.hasSuffix(".json") && name != "model.safetensors.index.json")
        || name.hasSuffix(".jinja") || name == "tokenizer.model" || name == "merges.txt"
        || name == "vocab.txt"
        || name.hasPrefix("LICENSE") || name == ModelCard.fileName
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
  static func dialect(
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

  static func missing(
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
}
