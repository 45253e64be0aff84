// `model.safetensors.index.json`: which tensor lies in which shard. The index comes from a stranger, so that a shard's
// name is a bare name or the index is refused. Formats/safetensors.md, rules 22 to 27.

internal import SmeltStorage
internal import SmeltTensors

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
    /// The place of the shard in `shards`.
    var shard: Int32
    /// The bytes of the tensor's name; of a name that is not spelled plainly the place in `spelled`, and -1. An index has 100 MB at
    /// most.
    let name: (place: Int32, count: Int32)
    /// The byte of the index where the shard's name stands.
    let place: Int32
    /// The tensor's name's, as `NameTable` has it.
    let hash: UInt64

    /// The bytes of a plainly spelled name.
    fileprivate var range: Range<Int> { Int(name.place)..<Int(name.place) + Int(name.count) }
  }

  /// The shards' file names, in order of their bytes.
  private(set) var shards: [String] = []
  /// `weight_map` in file order.
  private(set) var lines: [Line] = []
  /// `metadata.total_size`, whatever it is.
  private(set) var totalSize: JSON?
  private let bytes: Bytes
  private var spelled: [String] = []

  /// Reads an index; errors name `file`.
  init(_ bytes: Bytes, file: String) throws(FormatError) {
    self.bytes = bytes
    guard bytes.count <= SafetensorsIndex.byteLimit else {
      throw FormatError(
        .idxJSON, file: file, "found \(bytes.count) bytes, expected at most \(SafetensorsIndex.byteLimit)")
    }
    try PlaceholderFile.refusePointerAndPage(bytes, file: file, expected: "an index")
    // Nearly all indexes are of one form. What is not, and whatever is wrong, is for the JSON reader to say.
    var form = IndexForm()
    if form.read(bytes), form.shards.allSatisfy({ SafetensorsIndex.problem(withShard: $0) == nil }) {
      (lines, totalSize) = (form.lines, form.totalSize)
      setShards(form.shards)
    } else {
      try readTree(file)
    }
  }

  /// The name of a line's tensor.
  func tensor(_ line: Line) -> String {
    if line.name.count < 0 { return spelled[Int(line.name.place)] }
    return bytes[line.range].withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
  }

  /// Whether a line's tensor has the name of another.
  func isNamed(_ line: Line, _ tensor: TensorInfo) -> Bool {
    if line.name.count < 0 { return spelled[Int(line.name.place)] == tensor.name }
    // SAFETY: lent for the calls; `IndexForm` found the name inside the bytes.
    return bytes.withUnsafeBytes { tensor.isNamed(UnsafeRawBufferPointer(rebasing: $0[line.range])) }
  }

  /// Puts the shards in order; the lines count them as they were found.
  private mutating func setShards(_ found: [String]) {
    let order = found.indices.sorted { found[$0].utf8.lexicographicallyPrecedes(found[$1].utf8) }
    shards = order.map { found[$0] }
    guard order != Array(found.indices), let places = RowOrder.inverse(order) else { return }
    for place in lines.indices { lines[place].shard = Int32(places[Int(lines[place].shard)]) }
  }

  private mutating func readTree(_ file: String) throws(FormatError) {
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
    var found: [String] = []
    spelled = object.keys
    lines.reserveCapacity(object.count)
    for (number, (tensor, value)) in zip(object.keys, object.values).enumerated() {
      guard let shard = value.string else {
        throw FormatError(
          .idxJSON, file: file, subject: excerpt(tensor, limit: 1000), offset: value.offset,
          "found \(value.kind), expected the name of a shard")
      }
      if places[shard] == nil {
        if let problem = SafetensorsIndex.problem(withShard: shard) {
          throw FormatError(
            .idxPath, file: file, subject: excerpt(tensor, limit: 1000), offset: value.offset, problem)
        }
        places[shard] = found.count
        found.append(shard)
      }
      lines.append(
        Line(
          shard: Int32(places[shard] ?? 0), name: (Int32(number), -1), place: Int32(value.offset),
          hash: NameTable.hash(tensor)))
    }
    totalSize = root["metadata"]?["total_size"]
    setShards(found)
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
