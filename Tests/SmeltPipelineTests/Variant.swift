// Checkpoints and GGUF files of Fixtures with something changed, rewritten.

import SmeltContainers
import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A directory of safetensors in memory.
struct Variant {
  /// One tensor.
  struct Tensor {
    var name: String
    var dtype: DType
    var shape: Shape
    var bytes: [UInt8]
  }

  var tensors: [Tensor]
  var config: [(String, JSON)]

  /// A checkpoint of Fixtures.
  init(_ name: String) throws { try self.init(path: fixture(name)) }

  /// A directory anywhere.
  init(path: String) throws {
    let source = try SafetensorsDirectory(path: path)
    tensors = source.tensors.map {
      Tensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes.array)
    }
    let bytes = Bytes(try contents(path + "/config.json"))
    let object = try #require(try JSON.scan(bytes, limits: JSONLimits(allowsNonFinite: true)).object)
    config = zip(object.keys, object.values).map { ($0, $1) }
  }

  /// Sets a value of config.json; nil takes the key away.
  mutating func set(_ key: String, _ value: JSON?) {
    config.removeAll { $0.0 == key }
    if let value { config.append((key, value)) }
  }

  /// The same in the section of the text model, which must be there.
  mutating func setText(_ key: String, _ value: JSON?) throws {
    let text = try #require(config.first { $0.0 == "text_config" }?.1.object)
    let others = zip(text.keys, text.values).filter { $0.0 != key }.map { ($0, $1) }
    set("text_config", JSON(members: others + (value.map { [(key, $0)] } ?? [])))
  }

  /// The place of a tensor.
  func place(_ name: String) throws -> Int { try #require(tensors.firstIndex { $0.name == name }, "\(name)") }

  /// Gives tensors other names.
  mutating func rename(_ change: (String) -> String) {
    for index in tensors.indices { tensors[index].name = change(tensors[index].name) }
  }

  /// Writes the directory; with several shards the tensors go round, and an index says where.
  func write(to folder: String, shards: Int = 1) throws {
    if pathKind(folder) == .nothing { try makeFolder(folder) }
    for name in try namesInFolder(folder) { removeFile(folder + "/" + name) }
    try writeFile(
      folder + "/config.json", Array(JSON(members: config).text(indented: true).utf8), overwrite: true)
    var map: [(String, JSON)] = []
    for shard in 0..<shards {
      let name =
        shards == 1 ? "model.safetensors" : "model-0000\(shard + 1)-of-0000\(shards).safetensors"
      let own = tensors.enumerated().filter { $0.offset % shards == shard }.map(\.element)
      try Variant.write(own, to: folder + "/" + name)
      map += own.map { ($0.name, JSON(name)) }
    }
    guard shards > 1 else { return }
    let index: JSON = [
      "metadata": ["total_size": JSON(tensors.reduce(0) { $0 + $1.bytes.count })],
      "weight_map": JSON(members: map),
    ]
    try writeFile(folder + "/model.safetensors.index.json", Array(index.text().utf8), overwrite: true)
  }

  /// Writes one file of safetensors.
  static func write(_ tensors: [Tensor], to path: String) throws {
    var writer = try SafetensorsWriter(
      path: path, tensors: tensors.map { SafetensorsWriter.Declaration($0.name, $0.dtype, $0.shape) })
    for tensor in tensors { try writer.write(tensor.name, tensor.bytes) }
    try writer.commit()
  }

  /// The model that the variant is; its folder lasts as long as `folder`.
  func open(in folder: TemporaryFolder, _ name: String = "model", shards: Int = 1, allowDrop: [String] = [])
    throws -> Model
  {
    try write(to: folder.file(name), shards: shards)
    return try Model.open(folder.file(name), allowDrop: allowDrop)
  }

  private func makeFolder(_ path: String) throws {
    guard mkdir(path, 0o700) == 0 else { throw RequestError(.io, "cannot make '\(path)'") }
  }
}

/// A GGUF file in memory.
struct GGUFVariant {
  /// One tensor.
  struct Tensor {
    var name: String
    var type: String
    var shape: [Int]
    var bytes: [UInt8]
  }

  var tensors: [Tensor]
  var keys: [(key: String, value: GGUFValue)]

  /// A file.
  init(path: String) throws {
    let file = try GGUFFile(path: path)
    tensors = file.tensors.map {
      Tensor(name: $0.name, type: $0.type.name, shape: $0.shape.dimensions, bytes: $0.bytes.array)
    }
    keys = file.metadata
  }

  /// The model that the variant is.
  func open(in folder: TemporaryFolder, _ name: String = "variant.gguf") throws -> Model {
    let planned = try tensors.map {
      GGUFPlan.Tensor($0.name, try #require(GGUFTensorType.named($0.type)), Shape($0.shape))
    }
    var writer = try GGUFWriter(
      path: folder.file(name), tensors: planned, metadata: keys, replacing: .anyFile)
    for tensor in tensors { try writer.write(tensor.name, tensor.bytes) }
    try writer.commit()
    return try Model.open(folder.file(name))
  }
}

/// The ids of Fixtures/reports/tokens.json.
func reportTokens() throws -> [[Int]] {
  let json = try JSON.scan(Bytes(contents(fixture("reports/tokens.json"))))
  return try #require(json["sequences"]?.array).map { $0.array?.compactMap(\.integer) ?? [] }
}

/// How far a model's logits of these ids are from a reference's, as a part of the reference's largest.
func distance(_ model: Model, _ reference: String) throws -> Float {
  let file = try SafetensorsFile(path: fixture("reports/\(reference)"))
  var worst: Float = 0
  for (index, ids) in try reportTokens().enumerated() {
    let expected = try #require(file.tensor("logits.\(index)")).bytes.withUnsafeBytes { bytes in
      (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
    }
    let found = try allLogits(model, Windows([ids], context: ids.count))
    #expect(found.count == expected.count)
    let largest = expected.map(abs).max() ?? 1
    worst = max(worst, (zip(found, expected).map { abs($0 - $1) }.max() ?? .infinity) / largest)
  }
  return worst
}

/// A conversion to a path; its ending says what it becomes.
@discardableResult
func converted(_ source: Model, _ path: String, _ scheme: String = "keep") throws -> Model {
  var options = try options(scheme)
  if path.hasSuffix(".gguf") {
    options.target = GGUFResult()
  } else if !path.hasSuffix(".ingot") {
    options.target = SafetensorsResult(schemeWord: scheme)
  }
  _ = try convert(source, to: path, options)
  return try Model.open(path)
}
