// Opening a GGUF file: its keys name the architecture and say what config.json would, its tensors are found by canonical
// names. Formats/gguf.md, sections 5 to 7.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

extension OpenedSource {
  /// Opens a GGUF file, or the first of several parts.
  init(gguf path: String, allowDrop: [String]) throws {
    let file = try GGUFFile(path: path)
    let opening = try GGUFOpening(file)
    let (family, architecture) = (opening.family, opening.architecture)
    let joined = try family.weights.map { spec in
      guard let found = try opening.join(spec) else { throw opening.missing() }
      return found
    }
    let source = GGUFTensors(file)
    let draftRule = try opening.draftRule()
    let dropped = try droppedTensors(of: source, family, joined, allowDrop) {
      draftRule.covers($0.name) ? draftRule : nil
    }
    self.init(
      container: "gguf", source: source, family: family, dialect: architecture.name, joined: joined,
      dropped: dropped, sourceDialect: try opening.metadata.string(SmeltKey.dialect),
      sourceTypes: try opening.sourceTypes(), config: opening.configText,
      smallFiles: { try opening.smallFiles() })
  }
}

/// A GGUF file on its way to being a checkpoint.
private struct GGUFOpening {
  let file: GGUFFile
  let architecture: any GGUFArchitecture.Type
  let family: any ModelFamily
  let configText: Bytes
  let metadata: Metadata

  init(_ file: GGUFFile) throws {
    self.file = file
    // Only keys that say what the model is; those of the tokenizer are read when it is asked for.
    metadata = Metadata(file) { !$0.hasPrefix("tokenizer.") || $0.hasSuffix("_token_id") }
    architecture = try GGUFArchitectures.of(metadata)
    let model = GGUFModel(metadata, architecture: architecture.name) { file.tensor($0)?.shape }
    if let text = try metadata.string(SmeltKey.config) {
      configText = Bytes(Array(text.utf8))
      let config = try parseConfig(configText, file: SmeltKey.config)
      family = try ModelFamilies.family(of: config, file: SmeltKey.config)
      try checkKeys(ConfigReader(config, file: SmeltKey.config))
    } else {
      let config = try architecture.config(of: model)
      configText = Bytes(Array(config.text(indented: true).utf8))
      do {
        family = try ModelFamilies.family(of: config, file: fileName(file.path))
      } catch var error as FormatError {
        error.offset = nil  // the value was put together from keys
        throw error
      }
    }
  }

  /// The copy of config.json and llama.cpp's keys must say the same, since other programs read the keys alone.
  private func checkKeys(_ config: ConfigReader) throws {
    guard architecture.modelTypes.contains(family.modelType) else {
      throw metadata.error(
        SmeltKey.config, "is of '\(family.modelType)', which is no '\(architecture.name)'")
    }
    for (key, value) in try architecture.keys(of: family, config) {
      guard let found = metadata[key] else { continue }
      guard found.isStored(as: value) else {
        throw metadata.error(key, "says another number than '\(SmeltKey.config)' in the same file")
      }
    }
  }

  func join(_ spec: WeightSpec) throws -> JoinedWeight? {
    let isTable = spec.role == .hashTable
    let place = architecture.place(of: spec, in: family)
    if let found = try file.join(place, shape: spec.shape, isTable: isTable) { return found }
    // Older files hold in one piece what newer ones split.
    guard place.tensors.count > 1 else { return nil }
    return try file.join(.whole(spec.name.base), shape: spec.shape, isTable: isTable)
  }

  func missing() -> FormatError {
    var names: [String] = []
    for spec in family.weights {
      for name in architecture.place(of: spec, in: family).tensors
      where file.tensor(name) == nil && names.last != name { names.append(name) }
    }
    let count = Set(names).count
    return FormatError(
      .incomplete, file: file.path, subject: names.first,
      "is missing, and \(count - 1) more of the tensors that the file's keys ask for")
  }

  /// Layers behind the last one draft tokens.
  func draftRule() throws -> DropRule {
    let layers = family.dimensions.layers
    let drafts = try metadata.integer("\(architecture.name).nextn_predict_layers") ?? 0
    return DropRule(
      "mtp", "layers that draft tokens take no part in the forward pass",
      prefixes: (layers..<layers + max(0, min(drafts, 64))).map { "blk.\($0)." })
  }

  /// The types that tensors had before the file was made.
  func sourceTypes() throws -> [String: String] {
    var types: [String: String] = [:]
    for line in try metadata.strings(SmeltKey.dtypes) ?? [] {
      let parts = line.split(separator: "=", omittingEmptySubsequences: false)
      guard parts.count == 2, Encodings.named(String(parts[1])) != nil else {
        throw metadata.error(SmeltKey.dtypes, "holds '\(excerpt(line))', expected TENSOR=ENCODING")
      }
      types[String(parts[0])] = String(parts[1])
    }
    return types
  }

  /// config.json, and the tokenizer's files as the keys tell them.
  func smallFiles() throws -> [(name: String, bytes: Bytes)] {
    [("config.json", configText)] + (try GGUFTokenizer.files(from: Metadata(file)))
  }
}
