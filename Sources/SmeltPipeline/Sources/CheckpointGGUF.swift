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
    if case .string(let name)? = file.value("general.architecture"), !GGUFArchitectures.knows(name) {
      self = try OpenedSource(unknownGGUF: file, name, allowDrop: allowDrop)
      return
    }
    var opening: GGUFOpening
    do {
      opening = try GGUFOpening(file)
    } catch let error as RequestError where error.kind == .unsupported {
      guard case .string(let name)? = file.value("general.architecture") else { throw error }
      self = try OpenedSource(unknownGGUF: file, name, allowDrop: allowDrop, refusal: error.sentence)
      return
    }
    let architecture = opening.architecture
    let head = try opening.separateTiedHead()
    let family = opening.family
    let joined = try family.weights.map { spec in
      guard let found = try opening.join(spec) else { throw opening.missing() }
      return found
    }
    let source = GGUFTensors(file)
    let rules = opening
    func rule(_ tensor: TensorInfo) throws -> DropRule? {
      try rules.rule(for: tensor) ?? head?.rule(for: tensor.name)
    }
    let count = try opening.draftCount()
    let drafts = try FoundDrafts(family, count: count, in: source) { tensor in
      try rule(tensor) != nil || DropRule.isAllowed(tensor.name, allowDrop)
    } join: {
      try rules.join($0)
    } stored: {
      try file.stored($0)
    }
    var used = joined.tensors(in: source)
    used.formUnion(drafts.joined.tensors(in: source))
    let dropped = try droppedTensors(of: source, family, used: used, allowDrop) { tensor in
      try rule(tensor)
        ?? (opening.isDraft(tensor.name, count) ? DropRule.allowed(tensor.name, allowDrop) : nil)
    }
    let files = opening
    self.init(
      container: "gguf", source: source, family: drafts.carried(by: family), dialect: architecture.name,
      joined: joined + drafts.joined, dropped: dropped, notes: head?.notes ?? [],
      publishedDialect: try opening.metadata.string(SmeltKey.dialect),
      sourceTypes: try opening.sourceTypes(), recorded: try RecordedOrigin(opening.metadata),
      config: opening.configText,
      smallFiles: { try files.smallFiles() })
  }
}

/// A GGUF file on its way to being a checkpoint.
private struct GGUFOpening {
  let file: GGUFFile
  let architecture: any GGUFArchitecture.Type
  private(set) var family: any ModelFamily
  private(set) var configText: Bytes
  let metadata: Metadata

  init(_ file: GGUFFile) throws {
    self.file = file
    // Only keys that say what the model is; those of the tokenizer are read when it is asked for.
    metadata = Metadata(file) { !$0.hasPrefix("tokenizer.") || $0.hasSuffix("_token_id") }
    architecture = try GGUFArchitectures.of(metadata)
    let model = GGUFModel(
      metadata, architecture: architecture.name, numbers: { try GGUFOpening.numbers($0, in: file) }
    ) { file.tensor($0)?.shape }
    let bytes = file.files.reduce(0) { $0 + $1.byteCount }
    if let text = try metadata.string(SmeltKey.config) {
      configText = Bytes(Array(text.utf8))
      let config = try parseConfig(configText, file: SmeltKey.config)
      family = try ModelFamilies.family(of: config, file: SmeltKey.config, byteCount: bytes)
      try checkKeys(ConfigReader(config, file: SmeltKey.config))
      try checkFactors()
    } else {
      let config = try architecture.config(of: model)
      configText = Bytes(Array(config.text(indented: true).utf8))
      do {
        family = try ModelFamilies.family(of: config, file: fileName(file.path), byteCount: bytes)
      } catch var error as FormatError {
        error.offset = nil  // the value was put together from keys
        throw error
      }
    }
  }

  /// The copy of config.json and llama.cpp's keys must say the same, since other programs read the keys alone.
  private func checkKeys(_ config: ConfigReader) throws {
    guard architecture.stands(for: family) else {
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

  /// The numbers of a tensor of factors, or nil when the file has none of the name.
  private static func numbers(_ name: String, in file: GGUFFile) throws -> [Float]? {
    guard let tensor = file.tensor(name) else { return nil }
    return try file.join(.whole(name), shape: [tensor.shape.count])?.weight().decode()
  }

  /// Factors of frequencies say what the copy of config.json says, since other programs read the factors alone.
  private func checkFactors() throws {
    let expected = architecture.factors(of: family)
    for name in architecture.factorTensors {
      guard let found = try GGUFOpening.numbers(name, in: file) else { continue }
      guard let own = expected.first(where: { $0.name == name }), own.isNear(found) else {
        throw FormatError(
          .configValue, file: fileName(file.path), subject: name, offset: file.tensor(name)?.offset,
          "holds other factors of frequencies than '\(SmeltKey.config)' in the same file asks for")
      }
    }
  }

  /// A copy of config.json may tie the embeddings though the file has a head.
  mutating func separateTiedHead() throws -> TiedHead? {
    guard metadata[SmeltKey.config] != nil else { return nil }
    let config = try parseConfig(configText, file: SmeltKey.config)
    let head = try TiedHead(configText, config, file: SmeltKey.config, family, join)
    if let free = head?.family, let text = head?.config { (family, configText) = (free, text) }
    return head
  }

  func join(_ spec: WeightSpec) throws -> JoinedWeight? {
    let isTable = spec.role == .hashTable
    let place = architecture.place(of: spec, in: family)
    let takesScale = architecture.takesScale(spec)
    if let found = try file.join(place, shape: spec.shape, isTable: isTable, takesScale: takesScale) {
      return found
    }
    if case .stacked(let name, let index, let count) = place {
      return try joinExpert(spec, name, index, count)
    }
    // Older files hold in one piece what newer ones split.
    guard place.tensors.count > 1 else { return nil }
    return try file.join(.whole(spec.name.base), shape: spec.shape, isTable: isTable)
  }

  /// An expert's matrix that is not in its own stack: gate and up of all experts in one tensor, gate rows first, or a tensor for
  /// each expert, as files of the first Mixtral have them.
  private func joinExpert(_ spec: WeightSpec, _ name: String, _ index: Int, _ count: Int) throws
    -> JoinedWeight?
  {
    for (half, part) in [".ffn_gate_exps.", ".ffn_up_exps."].enumerated() {
      guard let range = name.firstRange(of: part) else { continue }
      let fused = String(name[..<range.lowerBound]) + ".ffn_gate_up_exps." + name[range.upperBound...]
      if let found = try file.join(half: half, ofStack: fused, index: index, count: count, shape: spec.shape)
      {
        return found
      }
    }
    guard let range = name.firstRange(of: "_exps.") else { return nil }
    let single = String(name[..<range.lowerBound]) + ".\(index)." + name[range.upperBound...]
    return try file.join(.whole(single), shape: spec.shape)
  }

  func missing() -> FormatError {
    var absent: [String] = []
    var used: Set<String> = []
    var heads = 0
    for spec in family.weights {
      if let found = try? join(spec) {
        used.formUnion(found.tensors.map(\.name))
        continue
      }
      for name in architecture.place(of: spec, in: family).tensors {
        guard file.tensor(name) == nil else {
          used.insert(name)
          continue
        }
        if absent.last != name { absent.append(name) }
      }
      if spec.role == .outputHead { heads += 1 }
    }
    var seen: Set<String> = []
    absent.removeAll { !seen.insert($0).inserted }
    let source = GGUFTensors(file)
    let drafts = (try? draftCount()) ?? 0
    let unknown = source.tensors.filter { tensor in
      !used.contains(tensor.name) && knownRule(tensor, family) == nil && (try? rule(for: tensor)) == nil
        && !isDraft(tensor.name, drafts)
    }
    return AbsentNames(
      absent: absent.isEmpty ? [family.modelType] : absent, asked: Set(family.weights.map(\.name.base)).count,
      what: "tensors that the file's keys ask for", isHeadAlone: absent.count == 1 && heads == 1,
      unknown: unknown.map(\.name), all: source.tensors.map(\.name), family: family.modelType
    ).error(file.path)
  }

  /// The rule that leaves a tensor out of a GGUF file, or nil.
  func rule(for tensor: TensorInfo) throws -> DropRule? {
    if architecture.factorTensors.contains(tensor.name) {
      return DropRule("rotary-frequencies", "the configuration says how they are made", prefixes: [])
    }
    guard GGUFScale.isActivationScale(tensor.name, in: file) else { return nil }
    return DropRule(Layouts.activationScale.name, Layouts.activationScale.reason, prefixes: [])
  }

  /// Layers behind the last one that draft tokens, as the keys count them.
  func draftCount() throws -> Int {
    let count = try metadata.integer("\(architecture.name).nextn_predict_layers") ?? 0
    return max(0, min(count, DraftBlocks.most))
  }

  /// Whether a tensor belongs to one of them.
  func isDraft(_ name: String, _ count: Int) -> Bool {
    let layers = family.dimensions.layers
    return (layers..<layers + count).contains { name.hasPrefix("blk.\($0).") }
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
