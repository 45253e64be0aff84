// Files of named tensors: everything that a header describes is read, checked and decoded.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTokenizers
import SmeltTensors

/// Weights with more decoded bytes than this are checked by chunks alone: a compressed file of some kilobytes may
/// rightly hold gigabytes.
private let weightLimit = 16 << 20

/// Checks a weight, and decodes it when it is sound.
private func use(_ weight: Weight) throws {
  for part in weight.parts { touch(part.bytes) }
  try weight.validate()
  if weight.encoding is IntegerTable {
    sink &+= UInt64(try weight.integers().count)
  } else if weight.shape.count <= weightLimit / 4 {
    sink &+= UInt64(weight.decode().count)
  }
}

/// Uses all that a source says of its tensors.
private func use(_ source: some TensorSource) throws {
  for tensor in source.tensors {
    touch(tensor.bytes)
    precondition(source.tensor(tensor.name)?.offset == tensor.offset, "a tensor that its name does not find")
  }
  precondition(source.warnings.allSatisfy { !$0.problem.isEmpty })
  try source.checkUnchanged()
}

extension FuzzTarget {
  /// A safetensors file.
  static let safetensors = FuzzTarget(name: "safetensors") { _, path in
    try use(try SafetensorsFile(path: path))
  }

  /// The tensors of a safetensors file as weights, in the layouts that checkpoints are published in.
  static let layouts = FuzzTarget(name: "layouts") { _, path in
    let file = try SafetensorsFile(path: path)
    for config in configs {
      for tensor in file.tensors {
        for name in names(tensor.name) {
          for shape in shapes(tensor.shape) {
            for isTable in [false, true] {
              let request = WeightRequest(Spelling(name), shape: shape, isTable: isTable)
              answer {
                if let weight = try Layouts.join(request, in: file, config) { try use(weight.weight()) }
              }
            }
          }
        }
      }
    }
  }

  /// The quantization_config of the checkpoints in Fixtures/layouts.
  private static let configs: [QuantizationConfig] = {
    let folder = repositoryFolder("Fixtures/layouts")
    return ((try? namesInFolder(folder)) ?? []).sorted().compactMap { name in
      let path = "\(folder)/\(name)/config.json"
      guard let bytes = try? readSmallFile(path, limit: 1 << 20, code: .configJSON),
        let config = try? JSON.scan(bytes)
      else { return nil }
      return try? QuantizationConfig(config: config, file: path)
    }
  }()

  /// The names that a family would ask for where a checkpoint names its tensors by layout.
  private static func names(_ name: String) -> [String] {
    for suffix in ["_packed", "_blocks", ".qweight"] where name.hasSuffix(suffix) {
      let module = String(name.dropLast(suffix.count))
      return [module, module + ".weight"]
    }
    return [name]
  }

  /// The dimensions that a family would ask for: as they are, and with codes packed in bytes or words.
  private static func shapes(_ shape: Shape) -> [Shape] {
    guard shape.rank >= 2, shape.count < weightLimit else { return [shape] }
    let (rows, columns) = (shape.dimensions[shape.rank - 2], shape.dimensions[shape.rank - 1])
    return [
      shape, [rows, 2 * columns], [rows, 8 * columns], [columns, 8 * rows], [8 * columns, rows],
      [rows, 32 * columns],
    ]
  }

  /// An ingot, with the checksums of header, index and chunks made right.
  static let ingot = FuzzTarget(name: "ingot", prepare: sign) { _, path in
    let ingot = try IngotFile(path: path, cacheBytes: 0)
    var contentBytes = 0
    for entry in ingot.entries {
      let (sum, isOver) = contentBytes.addingReportingOverflow(entry.contentLength)
      contentBytes = isOver ? .max : sum
      precondition(ingot.entry(entry.name)?.name == entry.name, "a weight that its name does not find")
      if let layer = entry.layer, let expert = entry.expert {
        precondition(ingot.range(layer: layer, expert: expert)?.weights.contains(entry.name) == true)
      }
      guard entry.contentLength <= weightLimit else { continue }
      answer { try use(try ingot.weight(entry.name)) }
    }
    for name in ingot.fileNames + ingot.noteNames {
      answer { if let bytes = try ingot.file(name) { touch(bytes) } }
    }
    for deep in [false, true] where !deep || contentBytes <= weightLimit {
      for damage in try ingot.check(deep: deep, parallel: .serial, progress: SilentProgress()) {
        answer { throw damage.error }
      }
    }
    try ingot.checkUnchanged()
  }

  /// A GGUF file: tensors, keys, the model's configuration and the tokenizer.
  static let gguf = FuzzTarget(name: "gguf") { _, path in
    let file = try GGUFFile(path: path)
    answer { try use(GGUFTensors(file)) }
    for tensor in file.tensors {
      for isTable in [false, true] {
        answer {
          let weight = try file.join(.whole(tensor.name), shape: tensor.shape, isTable: isTable)
          if let weight { try use(weight.weight()) }
        }
      }
    }
    let metadata = metadata(of: file)
    answer {
      let architecture = try GGUFArchitectures.of(metadata)
      let model = GGUFModel(metadata, architecture: architecture.name) { file.tensor($0)?.shape }
      try use(config: architecture.config(of: model), file: path)
    }
    answer {
      for (name, bytes) in try GGUFTokenizer.files(from: metadata) {
        guard name == "tokenizer.json" else { continue }
        // A tokenizer that the reader made is one that the reader of tokenizers takes, or says why not.
        use(try Tokenizer(json: bytes, file: name))
      }
    }
  }

  /// The keys of a file as the architectures meet them.
  private static func metadata(of file: GGUFFile) -> Metadata {
    var metadata = Metadata(file: fileName(file.path))
    for (key, value) in file.metadata { metadata[key] = self.value(value) }
    return metadata
  }

  private static func value(_ value: GGUFValue) -> MetadataValue {
    switch value {
    case .f32(let number): return .number(Double(number))
    case .f64(let number): return .number(number)
    case .bool(let bool): return .bool(bool)
    case .string(let text): return .string(text)
    case .array(let array):
      if let strings = array.strings { return .strings(strings) }
      if let bools = array.bools { return .bools(bools) }
      if let integers = array.integers { return .integers(integers) }
      return .numbers(array.values.map { $0.float ?? .nan })
    default: return value.integer.map { .integer($0) } ?? .number(.nan)
    }
  }
}
