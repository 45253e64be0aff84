// A GGUF file of an architecture that no family runs: its tensors by their names, its keys as they are.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

extension OpenedSource {
  /// What the file says of its architecture is kept word for word, and nothing of it is computed with.
  /// - Parameter refusal: what the family of the architecture does not compute.
  /// - Throws: `RequestError` unsupported for tensors of a type that no encoding stands for; refusals of dimensions.
  init(unknownGGUF file: GGUFFile, _ architecture: String, allowDrop: [String], refusal: String? = nil) throws
  {
    let source = GGUFTensors(file)
    var dropped: [(tensor: TensorInfo, rule: DropRule)] = []
    var specs: [WeightSpec] = []
    var joined: [JoinedWeight] = []
    for (tensor, info) in zip(file.tensors, source.tensors) {
      if let rule = try UnknownName(tensor.name).allowed(by: allowDrop) {
        dropped.append((info, rule))
        continue
      }
      guard let weight = try file.stored(tensor.name) else { continue }
      let name = WeightName(parsing: tensor.name)
      specs.append(WeightSpec(carried: name, tensor.shape, Spelling(tensor.name)))
      joined.append(weight)
    }
    let type = UnknownGGUF.type(architecture)
    let config = UnknownGGUF.config(type, file)
    let text = Bytes(Array((config.text(indented: true) + "\n").utf8))
    self.init(
      container: "gguf", source: source,
      family: UnknownArchitecture(
        type, config: config, dialect: UnknownGGUF.dialect, specs, refusal: refusal),
      dialect: UnknownGGUF.dialect, joined: joined, dropped: dropped,
      recorded: RecordedOrigin(), config: text,
      smallFiles: {
        [("config.json", text), (GGUFKeys.fileName, Bytes(try GGUFKeys.bytes(file.metadata)))]
          + ((try? GGUFTokenizer.files(from: Metadata(file))) ?? [])
      })
  }
}

/// What stands for config.json where a GGUF file's architecture is not known.
enum UnknownGGUF {
  /// The dialect of GGUF's own names.
  static let dialect = "gguf"

  /// The `model_type` that no checkpoint of the hub has.
  static func type(_ architecture: String) -> String { "gguf:\(architecture)" }

  /// The keys that are one value each, the tokenizer's apart.
  static func config(_ type: String, _ file: GGUFFile) -> JSON {
    var members: [(String, JSON)] = []
    for (key, value) in file.metadata where !key.hasPrefix("tokenizer.") && !key.hasPrefix("split.") {
      switch MetadataValue(value) {
      case .string(let text): members.append((key, JSON(text)))
      case .integer(let number): members.append((key, JSON(number)))
      case .number(let number): members.append((key, JSON(number)))
      case .bool(let flag): members.append((key, JSON(flag)))
      default: break
      }
    }
    let free = members.filter {
      !["general.file_type", "general.quantization_version"].contains($0.0) && !$0.0.hasPrefix("smelt.")
    }
    return JSON(members: [("model_type", JSON(type)), ("gguf", JSON(members: free))])
  }

  /// The architecture's keys, without what is not one value or a list.
  /// - Throws: `GG_…`.
  static func numbers(_ model: Model) throws -> [(String, MetadataValue)] {
    guard let bytes = try model.smallFile(GGUFKeys.fileName) else { return [] }
    let keys = try GGUFKeys.read(bytes, file: GGUFKeys.fileName)
    let architecture = keys.first { $0.key == "general.architecture" }.map { MetadataValue($0.value) }
    guard case .string(let name)? = architecture else { return [] }
    return keys.filter { $0.key.hasPrefix(name + ".") }.map { ($0.key, MetadataValue($0.value)) }
  }

  /// The keys of a result: those of the source, what they say of the file's types made true.
  /// - Throws: `SRC_MISSING` when the source has none; `GG_…`.
  static func keys(_ model: Model, fileType: Int?) throws -> [(key: String, value: GGUFValue)] {
    guard let bytes = try model.smallFile(GGUFKeys.fileName) else {
      throw FormatError(
        .missingFile, file: model.path, "has no \(GGUFKeys.fileName), the keys of its GGUF file")
    }
    let keys = try GGUFKeys.read(bytes, file: GGUFKeys.fileName)
    guard let fileType else { return keys }
    let changed: [(String, GGUFValue)] = [
      ("general.file_type", .u32(UInt32(fileType))), ("general.quantization_version", .u32(2)),
      (OutputKind.writerKey, .string("smelt \(smeltVersion)")),
    ]
    // What an earlier conversion said of its own result is not true of this one.
    let names = Set(changed.map(\.0) + [SmeltKey.provenance, SmeltKey.errors, SmeltKey.dtypes])
    return keys.filter { !names.contains($0.key) } + changed.map { (key: $0.0, value: $0.1) }
  }
}
