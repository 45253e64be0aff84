// Hash tables for the inner loops of tokenizing: byte strings to numbers without an allocation a look-up, and pairs of ids to
// merges. Open addressing with linear probing; nothing is ever removed.

/// A map from byte strings to numbers.
package struct ByteTable: Sendable {
  private struct Entry {
    var hash: UInt64
    var start: Int
    var count: Int32
    var value: Int32
  }

  private var bytes: [UInt8] = []
  private var entries: [Entry] = []
  /// The place of an entry plus one; 0 where nothing stands.
  private var slots: [Int32]

  /// A table with room for `capacity` strings before it first grows.
  package init(capacity: Int = 0) {
    var count = 16
    while count < capacity * 2 { count *= 2 }
    slots = [Int32](repeating: 0, count: count)
    entries.reserveCapacity(capacity)
  }

  /// The number of strings.
  package var count: Int { entries.count }

  /// The number of `key`, or nil.
  package func find(_ key: UnsafeBufferPointer<UInt8>) -> Int32? { find(key, hash: Self.hash(key)) }

  /// The number of `key`, or nil.
  package func find(_ key: some Collection<UInt8>) -> Int32? {
    key.withContiguousStorageIfAvailable { find($0) } ?? Array(key).withUnsafeBufferPointer { find($0) }
  }

  func find(_ key: UnsafeBufferPointer<UInt8>, hash: UInt64) -> Int32? {
    let place = slots[slot(key, hash)]
    return place == 0 ? nil : entries[Int(place) - 1].value
  }

  /// Adds a string; false when it is there already.
  package mutating func insert(_ key: UnsafeBufferPointer<UInt8>, _ value: Int32) -> Bool {
    insert(key, value, hash: Self.hash(key))
  }

  mutating func insert(_ key: UnsafeBufferPointer<UInt8>, _ value: Int32, hash: UInt64) -> Bool {
    let place = slot(key, hash)
    guard slots[place] == 0, key.count < Int32.max, entries.count < Int32.max - 1 else { return false }
    entries.append(Entry(hash: hash, start: bytes.count, count: Int32(key.count), value: value))
    bytes.append(contentsOf: key)
    slots[place] = Int32(entries.count)
    if entries.count * 2 > slots.count { grow() }
    return true
  }

  private func slot(_ key: UnsafeBufferPointer<UInt8>, _ hash: UInt64) -> Int {
    // SAFETY: keys are lent for one call and copied into `bytes`; an entry's start and count lie inside, since `insert` made them.
    let mask = slots.count - 1
    var place = Int(truncatingIfNeeded: hash) & mask
    while slots[place] != 0 {
      let entry = entries[Int(slots[place]) - 1]
      if entry.hash == hash, Int(entry.count) == key.count, isEqual(key, entry.start) { break }
      place = (place + 1) & mask
    }
    return place
  }

  private func isEqual(_ key: UnsafeBufferPointer<UInt8>, _ start: Int) -> Bool {
    bytes.withUnsafeBufferPointer { stored in
      for index in 0..<key.count where stored[start + index] != key[index] { return false }
      return true
    }
  }

  private mutating func grow() {
    slots = [Int32](repeating: 0, count: slots.count * 2)
    let mask = slots.count - 1
    for (index, entry) in entries.enumerated() {
      var place = Int(truncatingIfNeeded: entry.hash) & mask
      while slots[place] != 0 { place = (place + 1) & mask }
      slots[place] = Int32(index + 1)
    }
  }

  /// A 64-bit hash, eight bytes at a time.
  static func hash(_ key: UnsafeBufferPointer<UInt8>) -> UInt64 {
    let raw = UnsafeRawBufferPointer(key)
    var hash = UInt64(truncatingIfNeeded: key.count) &* 0x9E37_79B9_7F4A_7C15
    var index = 0
    while index + 8 <= raw.count {
      hash = mix(hash ^ raw.loadUnaligned(fromByteOffset: index, as: UInt64.self))
      index += 8
    }
    var rest: UInt64 = 0
    while index < raw.count {
      rest = rest << 8 | UInt64(raw[index])
      index += 1
    }
    return mix(hash ^ rest)
  }

  @inline(__always)
  private static func mix(_ value: UInt64) -> UInt64 {
    let product = value.multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
    return product.high ^ product.low
  }
}

/// A map from pairs of ids to the merge that joins them.
struct MergeTable: Sendable {
  /// A merge: its place in the list, and the id that it makes.
  struct Merge: Sendable {
    var rank: UInt32
    var id: Int32
  }

  private var keys: [UInt64]
  private var values: [Merge]
  private static let empty = UInt64.max

  /// A table with room for `count` merges.
  init(count: Int) {
    var size = 16
    while size < count * 2 { size *= 2 }
    keys = [UInt64](repeating: Self.empty, count: size)
    values = [Merge](repeating: Merge(rank: 0, id: 0), count: size)
  }

  /// Adds a merge, or takes the place of one for the same pair. At most as many as the table was made for.
  mutating func insert(_ left: Int32, _ right: Int32, _ merge: Merge) {
    let place = place(Self.key(left, right))
    keys[place] = Self.key(left, right)
    values[place] = merge
  }

  /// The merge of a pair, or nil.
  @inline(__always)
  func find(_ left: Int32, _ right: Int32) -> Merge? {
    let place = place(Self.key(left, right))
    return keys[place] == Self.empty ? nil : values[place]
  }

  @inline(__always)
  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  @inline(__always)
  private func place(_ key: UInt64) -> Int {
    let mask = keys.count - 1
    var place = Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 20) & mask
    while keys[place] != Self.empty, keys[place] != key { place = (place + 1) & mask }
    return place
  }
}
