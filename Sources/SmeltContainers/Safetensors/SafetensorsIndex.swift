// `model.safetensors.index.json`: which tensor lies in which shard. The index comes from a stranger, so that a shard's
// name is a bare name or the index is refused. Formats/safetensors.md, rules 22 to 27.

internal import SmeltStorage

/// A checked index.
struct SafetensorsIndex {
  /// The name every index has.
  static let fileName = "model.safetensors.index.json"
  /// The largest index accepted, in bytes.
  static let byteLimit = 100_000_000
  /// The most values accepted: a million tensors and some metadata.
  static let valueLimit = 1_010_000

  /// One line of `weight_map`.
  struct Line {
    let tensor: String
    /// The place of the shard in `shards`.
    let shard: Int
    /// The byte of the index where the shard's name stands.
    let place: Int
  }

  /// The shards' file names, in order of their bytes.
  let shards: [String]
  /// `weight_map` in file order.
  let lines: [Line]
  /// `metadata.total_size`, whatever it is.
  let totalSize: JSON?

  /// Reads an index; errors name `file`.
  init(_ bytes: Bytes, file: String) throws(FormatError) {
    guard bytes.count <= SafetensorsIndex.byteLimit else {
      throw FormatError(
        .idxJSON, file: file, "found \(bytes.count) bytes, expected at most \(SafetensorsIndex.byteLimit)")
    }
    try PlaceholderFile.refusePointerAndPage(bytes, file: file, expected: "an index")
    let root: JSON
    do {
      root = try JSON.scan(bytes, limits: JSONLimits(depth: 8, values: SafetensorsIndex.valueLimit))
    } catch {
      let code: ErrorCode = error.kind == .duplicateKey ? .idxDuplicate : .idxJSON
      throw FormatError(code, file: file, offset: error.offset, error.problem)
    }
    guard let map = root["weight_map"], let object = map.object else {
      let found = root["weight_map"].map { "\($0.kind)" } ?? (root.object == nil ? root.kind : "none")
      throw FormatError(
        .idxJSON, file: file, subject: "weight_map", offset: root["weight_map"]?.offset ?? root.offset,
        "found \(found), expected an object of tensor and shard names")
    }
    guard object.count > 0 else {
      throw FormatError(
        .idxJSON, file: file, subject: "weight_map", offset: map.offset,
        "found no tensor, expected one at least")
    }
    var places: [String: Int] = [:]
    var found: [(tensor: String, shard: String, place: Int)] = []
    found.reserveCapacity(object.count)
    for (tensor, value) in zip(object.keys, object.values) {
      guard let shard = value.string else {
        throw FormatError(
          .idxJSON, file: file, subject: excerpt(tensor, limit: 1000), offset: value.offset,
          "found \(value.kind), expected the name of a shard")
      }
      if shard != found.last?.shard, places[shard] == nil {
        if let problem = SafetensorsIndex.problem(withShard: shard) {
          throw FormatError(
            .idxPath, file: file, subject: excerpt(tensor, limit: 1000), offset: value.offset, problem)
        }
        places[shard] = 0
      }
      found.append((tensor, shard, value.offset))
    }
    let shards = places.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    for (place, shard) in shards.enumerated() { places[shard] = place }
    var last = (shard: "", place: 0)
    lines = found.map { line in
      // Lines of one shard mostly follow each other.
      if line.shard != last.shard { last = (line.shard, places[line.shard] ?? 0) }
      return Line(tensor: line.tensor, shard: last.place, place: line.place)
    }
    self.shards = shards
    totalSize = root["metadata"]?["total_size"]
  }

  /// Why a text cannot be a shard's name, or nil when it can: a bare file name (rule 22).
  static func problem(withShard name: String) -> String? {
    let utf8 = Array(name.utf8)
    let found = "found the shard '\(excerpt(name))'"
    if utf8.isEmpty || name == "." || name == ".." { return "\(found), expected a file name" }
    if utf8.count > 255 { return "\(found) of \(utf8.count) bytes, expected at most 255" }
    if utf8.contains(UInt8(ascii: "/")) || utf8.contains(UInt8(ascii: "\\")) {
      return "\(found), expected a bare file name without folders"
    }
    if utf8.count > 1, utf8[1] == UInt8(ascii: ":") {
      return "\(found), expected a bare file name without a drive letter"
    }
    if utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) {
      return "\(found), expected a file name without control characters"
    }
    return nil
  }
}

/// A name of the form `prefix-00002-of-00005.safetensors`.
struct ShardName: Hashable {
  let prefix: String
  let number: Int
  let total: Int

  /// The parts of a shard's name, or nil when it has another form.
  init?(_ name: String) {
    guard name.hasSuffix(".safetensors") else { return nil }
    let parts = name.dropLast(".safetensors".count).split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count >= 4, parts[parts.count - 2] == "of",
      let number = ShardName.number(parts[parts.count - 3]),
      let total = ShardName.number(parts[parts.count - 1]), number >= 1, number <= total
    else { return nil }
    prefix = parts.dropLast(3).joined(separator: "-")
    self.number = number
    self.total = total
  }

  /// A number of five digits, as every writer of shards spells them.
  private static func number(_ text: Substring) -> Int? {
    text.utf8.count == 5 && text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(text) : nil
  }

  /// The name of another part of the same set.
  func name(of number: Int) -> String { "\(prefix)\(partEnding(number, of: total)).safetensors" }
}
