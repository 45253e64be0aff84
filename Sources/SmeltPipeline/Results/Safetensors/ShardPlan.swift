// How the tensors of a directory lie in its shards.

import SmeltContainers
import SmeltStorage

/// The shards of a directory before they are written. Depends on headers, recipe and options alone.
struct ShardPlan {
  /// The tensors of each shard.
  let tensors: [[SafetensorsWriter.Declaration]]
  /// For each tensor's name its shard.
  let number: [String: Int]
  /// Bytes of each shard.
  let sizes: [Int]

  /// The `__metadata__` of every shard.
  static let metadata = [("format", "pt")]

  /// Tensors in order, a new shard where the next one no longer fits; scales lie with their codes.
  init(_ tensors: [NamedTensor], limit: Int) {
    var shards: [[SafetensorsWriter.Declaration]] = [[]]
    var bytes = 0
    for tensor in tensors {
      let declarations = tensor.entries.map { SafetensorsWriter.Declaration($0.name, $0.dtype, $0.shape) }
      let size = declarations.reduce(0) { $0 + $1.byteCount }
      if bytes > 0, bytes + size > limit {
        shards.append([])
        bytes = 0
      }
      shards[shards.count - 1] += declarations
      bytes += size
    }
    self.tensors = shards
    number = Dictionary(
      shards.enumerated().flatMap { index, shard in shard.map { ($0.name, index) } },
      uniquingKeysWith: { first, _ in first })
    sizes = shards.map { SafetensorsWriter.byteCount(tensors: $0, metadata: ShardPlan.metadata) }
  }

  /// The number of shards.
  var count: Int { tensors.count }

  /// The names of the shards' files.
  var names: [String] { tensors.indices.map { name($0) } }

  private func name(_ index: Int) -> String {
    guard count > 1 else { return "model.safetensors" }
    func digits(_ value: Int) -> String {
      let text = String(value)
      return String(repeating: "0", count: max(0, 5 - text.utf8.count)) + text
    }
    return "model-\(digits(index + 1))-of-\(digits(count)).safetensors"
  }

  /// Whether a file has a name that shards have.
  static func isName(_ name: String) -> Bool {
    name == "model.safetensors" || matchesGlob("model-?????-of-?????.safetensors", name)
  }

  /// Bytes of a shard before its first tensor.
  func headerBytes(_ shard: Int) -> Int { tensors[shard].reduce(sizes[shard]) { $0 - $1.byteCount } }

  /// `model.safetensors.index.json`: names in order of their bytes, as other writers have them.
  func index() -> [UInt8] {
    let names = number.keys.sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
    let total = tensors.reduce(0) { $0 + $1.reduce(0) { $0 + $1.byteCount } }
    let json = JSON(members: [
      ("metadata", ["total_size": JSON(total)]),
      ("weight_map", JSON(members: names.map { ($0, JSON(name(number[$0] ?? 0))) })),
    ])
    return Array((json.text(indented: true) + "\n").utf8)
  }

  /// Where the slabs of a plan lie.
  func layout(_ named: [NamedTensor], _ plan: Plan) -> FileLayout {
    var files = [Int](repeating: 0, count: plan.slabs.count)
    var ends = [FilePlace?](repeating: nil, count: plan.slabs.count)
    var hash = XXH64()
    for shard in tensors.indices {
      let header = SafetensorsWriter.header(tensors[shard], ShardPlan.metadata)
      header.withUnsafeBytes { hash.update($0) }
    }
    var place = FilePlace(file: -1, position: 0)
    for tensor in named {
      let shard = number[tensor.entries[0].name] ?? 0
      if shard != place.file { place = FilePlace(file: shard, position: headerBytes(shard)) }
      for entry in tensor.entries {
        place.position += SafetensorsWriter.Declaration(entry.name, entry.dtype, entry.shape).byteCount
      }
      for slab in tensor.slabs { files[slab] = shard }
      if let last = tensor.slabs.last { ends[last] = place }
    }
    return FileLayout(names: names, sizes: sizes, files: files, ends: ends, hash: hash.value())
  }
}
