// The form in which nearly every writer leaves `model.safetensors.index.json`, read from its bytes. Whatever differs is left to the
// JSON reader, which knows all forms and all refusals.

internal import SmeltStorage

/// An object with `weight_map` once, each of whose members is a name of ASCII without escapes and that of a shard, no tensor twice.
struct IndexForm {
  /// The shards in the order in which they were found.
  private(set) var shards: [String] = []
  /// `weight_map` in file order; a line's shard is its place in `shards`.
  private(set) var lines: [SafetensorsIndex.Line] = []
  /// `metadata.total_size`.
  private(set) var totalSize: JSON?

  /// The names so far; empty as long as each comes behind the one before, as writers sort them.
  private var table = NameTable()
  private var places: [String: Int32] = [:]
  /// The bytes and the number of the last line's shard.
  private var last: (range: Range<Int>, shard: Int32)?

  /// Reads an index; false, and no property has a meaning, where it is of another form or breaks a rule.
  mutating func read(_ bytes: Bytes) -> Bool {
    var keys: Set<String> = []
    var isRight = true
    do {
      let limits = JSONLimits(depth: 8, values: 10_000)
      try JSON.scanMembers(bytes, limits: limits) { key, _, buffer, start in
        guard keys.insert(key).inserted else {
          isRight = false
          return nil
        }
        guard key == "weight_map" else { return nil }
        let end = readMap(buffer, start)
        if end == nil { isRight = false }
        return end ?? start  // ends the scan: no member follows its own first byte
      } member: { key, _, value in
        if key == "metadata" { totalSize = value["total_size"] }
      }
    } catch {
      return false
    }
    return isRight && !lines.isEmpty
  }

  /// Reads the map that begins at a byte, and gives the byte behind it.
  private mutating func readMap(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int? {
    // SAFETY: `place` is compared with the count before each byte is read (`skip`, `readText`).
    var place = start
    func skip(_ byte: UInt8) -> Bool {
      while place < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[place]) { place += 1 }
      guard place < bytes.count, bytes[place] == byte else { return false }
      place += 1
      return true
    }
    /// A string of ASCII without escapes: the bytes between its quotes.
    func readText() -> Range<Int>? {
      guard skip(UInt8(ascii: "\"")) else { return nil }
      let first = place
      while place < bytes.count, bytes[place] != UInt8(ascii: "\"") {
        guard bytes[place] >= 0x20, bytes[place] < 0x80, bytes[place] != UInt8(ascii: "\\") else {
          return nil
        }
        place += 1
      }
      guard place < bytes.count else { return nil }
      place += 1
      return first..<place - 1
    }
    func slice(_ range: Range<Int>) -> UnsafeRawBufferPointer {
      UnsafeRawBufferPointer(rebasing: bytes[range])
    }
    guard skip(UInt8(ascii: "{")) else { return nil }
    lines.reserveCapacity(bytes.count / 120)
    repeat {
      guard let name = readText(), skip(UInt8(ascii: ":")), let shard = readText(),
        lines.count < SafetensorsHeader.tensorLimit, let hash = NameTable.hash(ascii: slice(name))
      else { return nil }
      func text(_ number: Int) -> UnsafeRawBufferPointer {
        let (place, count) = lines[number].name
        return slice(Int(place)..<Int(place) + Int(count))
      }
      if table.count > 0 || !(lines.isEmpty || text(lines.count - 1).precedes(slice(name))) {
        for number in table.count..<lines.count { table.insert(lines[number].hash, number) }
        guard table.find(hash, { text($0).holdsSame(as: slice(name)) }) == nil else { return nil }
        table.insert(hash, lines.count)
      }
      let shardNumber: Int32
      if let last, slice(last.range).holdsSame(as: slice(shard)) {
        shardNumber = last.shard
      } else {
        let text = String(decoding: slice(shard), as: UTF8.self)
        shardNumber = places[text] ?? Int32(shards.count)
        if places.updateValue(shardNumber, forKey: text) == nil { shards.append(text) }
        last = (shard, shardNumber)
      }
      lines.append(
        SafetensorsIndex.Line(
          shard: shardNumber, name: (Int32(name.lowerBound), Int32(name.count)),
          place: Int32(shard.lowerBound - 1), hash: hash))
    } while skip(UInt8(ascii: ","))
    return skip(UInt8(ascii: "}")) ? place : nil
  }
}
