// Index against shards: which tensor is taken from which shard, and what the two disagree about. Formats/safetensors.md,
// rules 25 to 27.

internal import SmeltStorage
internal import SmeltTensors

/// The tensors of all shards, each name once.
struct UnitedShards {
  /// Shard after shard, without superseded copies.
  var tensors: [TensorInfo] = []
  /// The place of each name in `tensors`.
  var table = NameTable()
  /// The number of the shard of each tensor.
  var origins: [Int32] = []
  /// Superseded copies, as reported.
  var warnings: [FormatError] = []
}

extension SafetensorsDirectory {
  /// The tensors of all shards. Where several hold one, the index decides; what it does not settle is refused (rule 26).
  static func unite(_ shards: [SafetensorsFile], _ index: (content: SafetensorsIndex, path: String)?)
    throws(FormatError) -> UnitedShards
  {
    var united = UnitedShards()
    let count = shards.reduce(0) { $0 + $1.tensors.count }
    united.table.reserve(count)
    united.tensors.reserveCapacity(count)
    united.origins.reserveCapacity(count)
    var superseded: [(tensor: TensorInfo, used: Int)] = []
    // Made when a name is met again, which it rarely is.
    var wanted: [String: Int]?
    for (number, shard) in shards.enumerated() {
      for tensor in shard.tensors {
        guard let known = united.table.find(tensor.hash, { united.tensors[$0].name == tensor.name }) else {
          united.table.insert(tensor.hash, united.tensors.count)
          united.tensors.append(tensor)
          united.origins.append(Int32(number))
          continue
        }
        let other = Int(united.origins[known])
        if wanted == nil {
          let content = index?.content
          wanted = Dictionary(
            (content?.lines ?? []).map { (content?.tensor($0) ?? "", Int($0.shard)) },
            uniquingKeysWith: { first, _ in first })
        }
        let named = wanted?[tensor.name].map { index?.content.shards[$0] }
        if named == fileName(shard.path) {
          superseded.append((united.tensors[known], number))
          united.tensors[known] = tensor
          united.origins[known] = Int32(number)
        } else if named != nil {
          // Whether the shard that the index names holds it at all, `compare` says.
          superseded.append((tensor, other))
        } else {
          throw FormatError(
            .idxDuplicate, file: shard.path, subject: tensor.name, offset: tensor.headerPlace,
            "found the tensor in '\(fileName(shards[other].path))' and in '\(fileName(shard.path))', expected it once"
              + (index == nil ? "" : ", and the index does not name it")
          )
        }
      }
    }
    inShardOrder(&united)
    if let first = superseded.first {
      let bytes = superseded.reduce(0) { $0 + $1.tensor.byteCount }
      let names = superseded.prefix(3).map { "'\(excerpt($0.tensor.name))'" }.joined(separator: ", ")
      let rest = superseded.count > 3 ? ", …" : ""
      united.warnings.append(
        FormatError(
          .idxDuplicate, file: first.tensor.file, subject: first.tensor.name,
          offset: first.tensor.headerPlace,
          "\(superseded.count) \(superseded.count == 1 ? "copy of a tensor is" : "copies of tensors are") not used "
            + "(\(bytes) bytes: \(names)\(rest)): '\(SafetensorsIndex.fileName)' takes "
            + "'\(excerpt(first.tensor.name))' from '\(fileName(shards[first.used].path))', not from "
            + "'\(fileName(first.tensor.file))'",
          help: "nothing, if the shard that the index names is the newer one"))
    }
    return united
  }

  /// Tensors stand where their shard has them, also those that took the place of a copy.
  private static func inShardOrder(_ united: inout UnitedShards) {
    let isOrdered = zip(united.origins, united.origins.dropFirst()).allSatisfy { $0 <= $1 }
    guard !isOrdered else { return }
    let order = united.origins.indices.sorted {
      (united.origins[$0], united.tensors[$0].headerPlace) < (
        united.origins[$1], united.tensors[$1].headerPlace
      )
    }
    united.tensors = order.map { united.tensors[$0] }
    united.origins = order.map { united.origins[$0] }
    var places = order
    for (place, old) in order.enumerated() { places[old] = place }
    united.table.renumber { places[$0] }
  }

  /// Index and shards name the same tensors in the same places (rule 25).
  static func compare(
    _ index: SafetensorsIndex, _ path: String, _ shards: [SafetensorsFile], _ united: UnitedShards
  ) throws(FormatError) {
    // The shards are those of the index, in its order.
    let absent = index.lines.filter { line in
      let place = united.table.find(line.hash) { index.isNamed(line, united.tensors[$0]) }
      return place.map { united.origins[$0] != line.shard } ?? true
    }
    if let first = absent.first {
      let name = index.tensor(first)
      let holder = shards.first { $0.tensor(name) != nil }
      let found = holder.map { "'\(fileName($0.path))' holds it" } ?? "no shard holds it"
      throw FormatError(
        .idxMismatch, file: path, subject: excerpt(name, limit: 1000), offset: Int(first.place),
        "\(found), expected it in '\(index.shards[Int(first.shard)])'" + more(absent.count))
    }
    // Every line has its tensor: so the numbers tell whether one is left over.
    guard united.tensors.count > index.lines.count else { return }
    let named = Set(index.lines.map { index.tensor($0) })
    let extra = united.tensors.filter { !named.contains($0.name) }
    guard let tensor = extra.first else { return }
    throw FormatError(
      .idxMismatch, file: tensor.file, subject: tensor.name, offset: tensor.headerPlace,
      "the shard holds it, expected a line in '\(SafetensorsIndex.fileName)'" + more(extra.count))
  }

  private static func more(_ count: Int) -> String { count > 1 ? "; \(count) tensors disagree" : "" }

  /// A warning where `total_size` is not the sum of the tensors' bytes (rule 27).
  static func total(_ index: SafetensorsIndex, _ path: String, _ united: UnitedShards) -> [FormatError] {
    guard let stated = index.totalSize else { return [] }
    let sum = united.tensors.reduce(0) { $0 + $1.byteCount }
    if stated.integer == sum { return [] }
    let found = stated.integer.map { "\($0) bytes" } ?? stated.kind
    return [
      FormatError(
        .idxTotal, file: path, subject: "metadata.total_size", offset: stated.offset,
        "found \(found), expected \(sum), the sum of the tensors")
    ]
  }

  /// A warning where the folder has files named like shards that the index does not name.
  static func unnamed(_ folder: ShardFolder, _ names: [String], _ index: String) -> FormatError? {
    let known = Set(names)
    let others = folder.names.filter { name in
      name.hasSuffix(".safetensors") && (name.hasPrefix("model") || ShardName(name) != nil)
        && !known.contains(name) && pathKind(folder.file(name)) == .file
    }
    guard let first = others.first(where: { $0 == "model.safetensors" }) ?? others.first else { return nil }
    return FormatError(
      .idxMismatch, file: index, subject: first,
      others.count == 1
        ? "the file is there, but the index does not name it: it was not read"
        : "the file is there, and \(others.count - 1) more, but the index does not name them: they were not read",
      help: "remove the files or the index, whichever is stale")
  }
}
