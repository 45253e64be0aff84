// A checkpoint's safetensors: one file, or shards with an index. Index and shards must say the same, every shard must
// lie in the folder (or in the hub cache's own blobs), and all of that is known before a tensor is handed out.

public import SmeltStorage
internal import SmeltTensors

/// The tensors of a checkpoint's folder. Formats/safetensors.md, rules 22 to 30.
public final class SafetensorsDirectory: TensorSource {
  /// The folder, as the caller knows it.
  public let path: String
  /// The opened files, in order of their names.
  public let shards: [SafetensorsFile]
  /// All tensors, shard after shard.
  public let tensors: [TensorInfo]
  /// What is worth saying: `IDX_TOTAL`, and `IDX_MISSING` for a complete set of shards without an index.
  public let warnings: [FormatError]
  private let indices: [String: Int]
  private let index: MappedFile?

  /// Opens the safetensors of a folder: those `model.safetensors.index.json` names; else `model.safetensors`; else a
  /// complete set of shards `…-00001-of-0000N.safetensors`; else the only safetensors file there is. Files beside
  /// those are left alone.
  /// - Throws: `FormatError` with one of the codes `SRC_…`, `ST_…`, `IDX_…`; `RequestError` io when the system refuses.
  public init(path: String) throws {
    let folder = try ShardFolder(path)
    var warnings: [FormatError] = []
    var index: (file: MappedFile, path: String, content: SafetensorsIndex)?
    var names: [String]
    if folder.names.contains(SafetensorsIndex.fileName) {
      let place = folder.file(SafetensorsIndex.fileName)
      let file = try MappedFile(path: folder.resolve(SafetensorsIndex.fileName))
      let content = try SafetensorsIndex(file.bytes, file: place)
      index = (file, place, content)
      names = content.shards
      try folder.requireAll(names, namedBy: place)
      if folder.names.contains("model.safetensors"), !names.contains("model.safetensors") {
        warnings.append(
          FormatError(
            .idxMismatch, file: place, subject: "model.safetensors",
            "the file is there, but the index does not name it: it was not read",
            help: "remove the file or the index, whichever is stale"))
      }
    } else {
      names = try folder.namesWithoutIndex()
      if names.count > 1 {
        warnings.append(
          FormatError(
            .idxMissing, file: path, subject: SafetensorsIndex.fileName,
            "there is no index; all \(names.count) shards are there and were read",
            help: "fetch the index to be sure that the shards belong together"))
      }
    }
    let shards = try names.map { try SafetensorsFile(path: folder.file($0), resolved: folder.resolve($0)) }
    indices = try SafetensorsDirectory.unite(shards)
    if let index {
      try SafetensorsDirectory.compare(index.content, index.path, shards, indices)
      warnings += SafetensorsDirectory.total(index.content, index.path, shards)
    }
    self.path = path
    self.shards = shards
    self.index = index?.file
    self.warnings = warnings
    tensors = shards.flatMap(\.tensors)
  }

  /// The tensor of a name, or nil.
  public func tensor(_ name: String) -> TensorInfo? { indices[name].map { tensors[$0] } }

  /// The files that hold the tensors, with their sizes; the index is not one of them.
  public var files: [(path: String, byteCount: Int)] { shards.flatMap(\.files) }

  /// Throws `SRC_CHANGED` when a shard or the index is no longer what it was (rule 30).
  public func checkUnchanged() throws(FormatError) {
    try index?.checkUnchanged()
    for shard in shards { try shard.checkUnchanged() }
  }

  // MARK: index against shards

  /// The place of each name among the tensors of all shards (rule 26).
  private static func unite(_ shards: [SafetensorsFile]) throws(FormatError) -> [String: Int] {
    var indices: [String: Int] = [:]
    indices.reserveCapacity(shards.reduce(0) { $0 + $1.tensors.count })
    for shard in shards {
      for (tensor, place) in zip(shard.tensors, shard.namePlaces) {
        guard indices.updateValue(indices.count, forKey: tensor.name) == nil else {
          let other = shards.first { $0.tensor(tensor.name) != nil }
          throw FormatError(
            .idxDuplicate, file: shard.path, subject: tensor.name, offset: place,
            "found the tensor in '\(fileName(other?.path ?? ""))' and in '\(fileName(shard.path))', expected it once"
          )
        }
      }
    }
    return indices
  }

  /// Index and shards name the same tensors in the same places (rule 25).
  private static func compare(
    _ index: SafetensorsIndex, _ path: String, _ shards: [SafetensorsFile], _ indices: [String: Int]
  ) throws(FormatError) {
    var ranges: [Range<Int>] = []
    for shard in shards {
      let start = ranges.last?.upperBound ?? 0
      ranges.append(start..<start + shard.tensors.count)
    }
    let absent = index.lines.filter { line in
      !(indices[line.tensor].map { ranges[line.shard].contains($0) } ?? false)
    }
    if let first = absent.first {
      let holder = shards.first { $0.tensor(first.tensor) != nil }
      let found = holder.map { "'\(fileName($0.path))' holds it" } ?? "no shard holds it"
      throw FormatError(
        .idxMismatch, file: path, subject: excerpt(first.tensor, limit: 1000), offset: first.place,
        "\(found), expected it in '\(index.shards[first.shard])'" + more(absent.count))
    }
    // Every line has its tensor, and no tensor is in two shards: so the numbers tell whether one is left over.
    guard shards.reduce(0, { $0 + $1.tensors.count }) > index.lines.count else { return }
    let named = Set(index.lines.map(\.tensor))
    let extra = shards.flatMap { shard in
      zip(shard.tensors, shard.namePlaces).filter { !named.contains($0.0.name) }
    }
    guard let (tensor, place) = extra.first else { return }
    throw FormatError(
      .idxMismatch, file: tensor.file, subject: tensor.name, offset: place,
      "the shard holds it, expected a line in '\(SafetensorsIndex.fileName)'" + more(extra.count))
  }

  private static func more(_ count: Int) -> String { count > 1 ? "; \(count) tensors disagree" : "" }

  /// A warning where `total_size` is not the sum of the tensors' bytes (rule 27).
  private static func total(_ index: SafetensorsIndex, _ path: String, _ shards: [SafetensorsFile])
    -> [FormatError]
  {
    guard let stated = index.totalSize else { return [] }
    let sum = shards.reduce(0) { $0 + $1.tensors.reduce(0) { $0 + $1.bytes.count } }
    if stated.integer == sum { return [] }
    let found = stated.integer.map { "\($0) bytes" } ?? stated.kind
    return [
      FormatError(
        .idxTotal, file: path, subject: "metadata.total_size", offset: stated.offset,
        "found \(found), expected \(sum), the sum of the tensors")
    ]
  }
}
