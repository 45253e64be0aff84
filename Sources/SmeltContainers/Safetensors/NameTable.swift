// Numbers by name. A name is hashed once for all tables that it goes into, and no table keeps names of its own.

/// An open-addressed table of the numbers of names that its user keeps. Names are equal where Swift's strings are.
struct NameTable: Sendable {
  /// The upper half of a hash, whose lower bits say where the search begins, and the number plus one; 0 where nothing is.
  private var slots: [UInt64] = []
  /// How many names it has.
  private(set) var count = 0

  /// Differs from run to run, so that nobody can choose names that collide. No result depends on it.
  private static let seed = UInt64.random(in: .min ... .max)

  /// Room for so many names.
  init(capacity: Int = 0) { reserve(capacity) }

  /// The hash of a name.
  static func hash(_ name: String) -> UInt64 {
    var name = name
    // SAFETY: lent for the call.
    let plain = name.withUTF8 { hash(ascii: UnsafeRawBufferPointer($0)) }
    return plain ?? UInt64(bitPattern: Int64(name.hashValue))
  }

  /// The hash of a name of ASCII; nil for any other, which may be equal to a name of other bytes.
  ///
  /// Eight bytes at a time: exclusive or, then the two halves of the product with an odd constant folded together.
  static func hash(ascii bytes: UnsafeRawBufferPointer) -> UInt64? {
    let factor: UInt64 = 0x9E37_79B9_7F4A_7C15
    var state = seed ^ UInt64(bytes.count) &* 0xD6E8_FEB8_6659_FD93
    var seen: UInt64 = 0
    func mix(_ word: UInt64) {
      seen |= word
      let product = (state ^ word).multipliedFullWidth(by: factor)
      state = product.high ^ product.low
    }
    var place = 0
    while place + 8 <= bytes.count {
      mix(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self)))
      place += 8
    }
    var rest: UInt64 = 0
    while place < bytes.count {
      rest = rest << 8 | UInt64(bytes[place])
      place += 1
    }
    mix(rest)
    let product = (state ^ seed).multipliedFullWidth(by: factor)
    return seen & 0x8080_8080_8080_8080 == 0 ? product.high ^ product.low : nil
  }

  /// The number of a name.
  /// - Parameters:
  ///   - hash: the name's.
  ///   - isEqual: whether a number's name is that name.
  func find(_ hash: UInt64, _ isEqual: (Int) -> Bool) -> Int? {
    guard count > 0 else { return nil }
    let mask = slots.count - 1
    var place = Int(hash >> 32) & mask
    while slots[place] != 0 {
      let slot = slots[place]
      if slot >> 32 == hash >> 32, case let number = Int(slot & 0xFFFF_FFFF) - 1, isEqual(number) {
        return number
      }
      place = (place + 1) & mask
    }
    return nil
  }

  /// Adds a name that is not there.
  /// - Parameter number: less than 2^32 - 1.
  mutating func insert(_ hash: UInt64, _ number: Int) {
    reserve(count + 1)
    put(hash & ~0xFFFF_FFFF | UInt64(number + 1))
    count += 1
  }

  /// Gives each number another one.
  mutating func renumber(_ number: (Int) -> Int) {
    for place in slots.indices where slots[place] != 0 {
      slots[place] = slots[place] & ~0xFFFF_FFFF | UInt64(number(Int(slots[place] & 0xFFFF_FFFF) - 1) + 1)
    }
  }

  private mutating func put(_ slot: UInt64) {
    let mask = slots.count - 1
    var place = Int(slot >> 32) & mask
    while slots[place] != 0 { place = (place + 1) & mask }
    slots[place] = slot
  }

  /// Makes room for so many names: a power of two of slots, a quarter of them free at least.
  mutating func reserve(_ capacity: Int) {
    guard capacity * 4 > slots.count * 3 else { return }
    var size = max(8, slots.count * 2)
    while capacity * 4 > size * 3 { size *= 2 }
    let old = slots
    slots = [UInt64](repeating: 0, count: size)
    for slot in old where slot != 0 { put(slot) }
  }
}

extension UnsafeRawBufferPointer {
  /// Whether other bytes are the same, eight at a time.
  func holdsSame(as other: UnsafeRawBufferPointer) -> Bool {
    guard count == other.count else { return false }
    // SAFETY: `place` and what is loaded there stay below the count of both.
    var place = 0
    while place + 8 <= count {
      let word = loadUnaligned(fromByteOffset: place, as: UInt64.self)
      if word != other.loadUnaligned(fromByteOffset: place, as: UInt64.self) { return false }
      place += 8
    }
    while place < count {
      if self[place] != other[place] { return false }
      place += 1
    }
    return true
  }

  /// Whether these bytes come before others in order, eight at a time.
  func precedes(_ other: UnsafeRawBufferPointer) -> Bool {
    let common = Swift.min(count, other.count)
    // SAFETY: `place` and what is loaded there stay below the count of both.
    var place = 0
    while place + 8 <= common {
      let word = UInt64(bigEndian: loadUnaligned(fromByteOffset: place, as: UInt64.self))
      let others = UInt64(bigEndian: other.loadUnaligned(fromByteOffset: place, as: UInt64.self))
      if word != others { return word < others }
      place += 8
    }
    while place < common {
      if self[place] != other[place] { return self[place] < other[place] }
      place += 1
    }
    return count < other.count
  }
}
