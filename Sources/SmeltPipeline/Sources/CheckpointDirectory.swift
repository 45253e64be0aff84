// Opening a directory: config.json names the family, the family's dialects name the tensors, layouts join them.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

extension OpenedSource {
  /// Opens a directory of safetensors.
  init(directory path: String, allowDrop: [String]) throws {
    let configPath = joinPath(path, "config.json")
    // What the folder lists is there, whether or not it can be looked at: a link to nothing, a disk that fails.
    let hasConfig = try namesInFolder(path).contains("config.json")
    guard try hasConfig || weightBytes(path) > 0 else {
      throw FormatError(
        .notModel, file: path, "the directory has no config.json",
        help: "give the directory that holds config.json, tokenizer.json and the safetensors")
    }
    let carried = try CarriedFiles(path)
    guard hasConfig else {
      self = try UnknownDirectory(
        UnknownArchitecture.nameless, nil, JSON(members: []), path, carried,
        sidecar: try CheckpointDirectory.sidecar(carried.files), allowDrop: allowDrop
      ).open()
      return
    }
    let smallFiles = carried.files
    // The bytes that are read are the bytes that a result will hold, though the file may change in between.
    guard let configBytes = smallFiles.first(where: { $0.name == "config.json" })?.bytes else {
      throw FormatError(
        .notFile, file: configPath, "found \(pathKind(configPath).words), expected a regular file")
    }
    let config = try parseConfig(configBytes, file: "config.json")
    func unknown(_ type: String, refusal: String? = nil) throws -> OpenedSource {
      try UnknownDirectory(
        type, configBytes, config, path, carried, sidecar: try CheckpointDirectory.sidecar(smallFiles),
        allowDrop: allowDrop, refusal: refusal
      ).open()
    }
    let type = config["model_type"]?.string ?? ""
    if config["model_type"]?.string != nil, !ModelFamilies.knows(type) {
      self = try unknown(type)
      return
    }
    let tied: any ModelFamily
    do {
      tied = try ModelFamilies.family(of: config, file: "config.json", byteCount: try weightBytes(path))
    } catch let error as RequestError where error.kind == .unsupported {
      // A variant that the family does not compute is converted like any other model.
      self = try unknown(type, refusal: error.sentence)
      return
    }
    let source = try SafetensorsDirectory(path: path)
    let quantization = try QuantizationConfig(
      config: config, file: "config.json", sidecar: try CheckpointDirectory.sidecar(smallFiles))
    let (column, codes) = try CheckpointDirectory.dialect(tied, source, quantization, path)
    func join(_ spec: WeightSpec) throws -> JoinedWeight? {
      try Layouts.join(CheckpointDirectory.request(spec, column), in: source, quantization)
    }
    let head = try TiedHead(configBytes, config, file: "config.json", tied, join)
    let family = head?.family ?? tied
    // A head that is left out may be all that is quantized.
    try quantization.check((head?.table ?? tied.weights).lazy.map { $0.spellings[column] }, in: source)
    let joined: [JoinedWeight]
    if head?.family == nil {
      joined = try zip(tied.weights, codes).map { spec, codes in
        try Layouts.join(CheckpointDirectory.request(spec, column), codes, in: source, quantization)
      }
    } else {
      joined = try family.weights.map { spec in
        guard let joined = try join(spec) else {
          throw CheckpointDirectory.missing(family, source, quantization, column, path)
        }
        return joined
      }
    }
    func rule(_ tensor: TensorInfo) -> DropRule? {
      if let rule = head?.rule(for: tensor.name) { return rule }
      return Layouts.isActivationScale(tensor, quantization) ? CheckpointDirectory.activationScale : nil
    }
    var used = joined.tensors(in: source)
    let known = KnownRules(family)
    let drafts = try FoundDrafts(family, column: column, in: source, quantization, used: used) {
      known.rule(for: $0.name) != nil || rule($0) != nil || DropRule.isAllowed($0.name, allowDrop)
    }
    used.formUnion(drafts.joined.tensors(in: source))
    let dropped = try droppedTensors(of: source, family, used: used, allowDrop, others: rule)
    let text = head?.config ?? configBytes
    let files = smallFiles.map { $0.name == "config.json" ? ($0.name, text) : $0 }
    self.init(
      container: "safetensors", source: source, family: drafts.carried(by: family),
      dialect: family.dialects[column], joined: joined + drafts.joined, dropped: dropped,
      notes: head?.notes ?? [], config: text, hasCacheScales: quantization.hasCacheScales,
      saysActivations: quantization.saysActivations, cacheFault: quantization.cacheFault,
      smallFiles: { files },
      leftFiles: carried.left(besides: source), mappedFiles: carried.mappings)
  }
}

/// Bytes of the files of a folder that can hold weights.
private func weightBytes(_ folder: String) throws -> Int {
  try namesInFolder(folder).filter { $0.hasSuffix(".safetensors") }.reduce(0) { sum, name in
    let (total, overflow) = sum.addingReportingOverflow(fileByteCount(joinPath(folder, name)))
    return overflow ? .max : total
  }
}

/// Parses the text of a config.json.
/// - Throws: `CFG_JSON`.
func parseConfig(_ bytes: Bytes, file: String) throws -> JSON {
  let config: JSON
  do {
    config = try JSON.scan(bytes, limits: JSONLimits(allowsNonFinite: true))
  } catch {
    throw FormatError(.configJSON, file: file, offset: error.offset, error.problem)
  }
  guard config.object != nil else {
    throw FormatError(.configJSON, file: file, offset: 0, "found \(config.kind), expected an object")
  }
  return config
}

/// What a directory holds beside tensors, and whose names the tensors have.
enum CheckpointDirectory {
  /// The rule for scales that are not the weights'.
  static let activationScale = DropRule(
    Layouts.activationScale.name, Layouts.activationScale.reason, prefixes: [])

  /// ModelOpt's own configuration file, if there is one.
  static func sidecar(_ files: [(name: String, bytes: Bytes)]) throws -> JSON? {
    guard let file = files.first(where: { $0.name == QuantizationConfig.sidecarName }) else { return nil }
    return try parseConfig(file.bytes, file: file.name)
  }

  /// A dialect by its place, and for each row of the family's table where its codes are.
  typealias FoundDialect = (column: Int, codes: [Layouts.FoundCodes])

  /// The first dialect whose names are all present; nil without one. Of several with the same names (stacks that lie transposed, and
  /// that do not) the first whose shapes fit.
  static func dialect(
    of family: any ModelFamily, in source: some TensorSource, _ config: QuantizationConfig
  ) -> FoundDialect? {
    let whole = family.dialects.indices.compactMap { column in
      codes(family, column, source, config).map { FoundDialect(column, $0) }
    }
    guard whole.count > 1 else { return whole.first }
    return whole.first { column, codes in
      zip(family.weights, codes).lazy.filter { spec, _ in spec.spellings[column].stackIndex == 0 }.allSatisfy
      {
        (try? Layouts.join(request($0, column), $1, in: source, config)) != nil
      }
    } ?? whole[0]
  }

  /// Where the codes of all weights are by the names of a dialect; nil where one is missing.
  private static func codes(
    _ family: any ModelFamily, _ column: Int, _ source: some TensorSource, _ config: QuantizationConfig
  ) -> [Layouts.FoundCodes]? {
    let weights = family.weights
    var codes: [Layouts.FoundCodes] = []
    for spec in weights {
      guard let found = Layouts.find(spec.spellings[column], in: source, config) else { return nil }
      if codes.isEmpty { codes.reserveCapacity(weights.count) }
      codes.append(found)
    }
    return codes
  }

  /// What the family asks of a layout for a row of its table.
  static func request(_ spec: WeightSpec, _ column: Int) -> WeightRequest {
    WeightRequest(spec.spellings[column], shape: spec.shape, isTable: spec.role == .hashTable)
  }

  /// The same.
  /// - Throws: what is missing of the dialect with most names where no dialect has all.
  fileprivate static func dialect(
    _ family: any ModelFamily, _ source: some TensorSource, _ config: QuantizationConfig, _ path: String
  ) throws -> FoundDialect {
    if let found = dialect(of: family, in: source, config) { return found }
    throw missing(family, source, config, nearest(family, in: source, config).column, path)
  }

  /// The dialect of which most names are there, and how many are.
  static func nearest(
    _ family: any ModelFamily, in source: some TensorSource, _ config: QuantizationConfig
  ) -> (column: Int, count: Int) {
    let found = family.dialects.indices.map { column in
      family.weights.count { Layouts.find($0.spellings[column], in: source, config) != nil }
    }
    let most = found.indices.max { found[$0] < found[$1] || (found[$0] == found[$1] && $0 > $1) } ?? 0
    return (most, found.isEmpty ? 0 : found[most])
  }

  static func missing(
    _ family: any ModelFamily, _ source: some TensorSource, _ config: QuantizationConfig, _ column: Int,
    _ path: String
  ) -> FormatError {
    var used: Set<String> = []
    var absent: [(spec: WeightSpec, tensor: String)] = []
    for spec in family.weights {
      let place = spec.spellings[column]
      guard let found = Layouts.find(place, in: source, config) else {
        absent.append((spec, place.tensor))
        continue
      }
      used.insert(found.codes.name)
      // What is wrong with a weight that is there is another matter.
      if let joined = try? Layouts.join(request(spec, column), in: source, config) {
        used.formUnion(joined.tensors.map(\.name))
      }
    }
    let unknown = source.tensors.filter { tensor in
      !used.contains(tensor.name) && !Layouts.isActivationScale(tensor, config)
        && knownRule(tensor, family) == nil && !family.drafts.covers(tensor.name)
    }
    return AbsentNames(
      absent: absent.map(\.tensor), asked: family.weights.count, what: "weights that config.json asks for",
      isHeadAlone: absent.count == 1 && absent[0].spec.role == .outputHead, unknown: unknown.map(\.name),
      all: source.tensors.map(\.name), family: family.modelType
    ).error(path)
  }
}
