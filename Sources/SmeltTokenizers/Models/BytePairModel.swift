// Byte-pair encoding of one word: units to ids, then the merge of lowest rank first, the leftmost on a tie, until none is
// left. The rules for units without a token (byte fallback, unknown token) are those of the `tokenizers` library.

/// A vocabulary with its merges.
struct BytePairModel: Sendable {
  /// The id of every token of the vocabulary, by its text in UTF-8.
  var tokens: ByteTable
  /// The merges.
  var merges: MergeTable
  /// Whether a unit is a byte (byte-level models), not a scalar.
  var isByteLevel = false
  /// Byte-level models: the id of each byte, or -1.
  var byteIds: [Int32] = []
  /// Whether a word that is a token as a whole is not split; with it, `wholeWords` holds the tokens by the bytes that they
  /// stand for.
  var ignoresMerges = false
  var wholeWords = ByteTable()
  /// The ids of `<0x00>` to `<0xFF>`, -1 where absent; empty without byte fallback.
  var fallbackIds: [Int32] = []
  /// What stands for a unit without a token.
  var unknown: Int32?
  /// Whether a run of unknown units is one token.
  var fusesUnknown = false
  /// Before every unit but a word's first.
  var prefix: [UInt8] = []
  /// Behind a word's last unit.
  var suffix: [UInt8] = []

  /// Working memory of `encode`, kept from word to word.
  struct Workspace {
    fileprivate var ids: [Int32] = []
    fileprivate var next: [Int32] = []
    fileprivate var previous: [Int32] = []
    fileprivate var ranks: [UInt32] = []
    fileprivate var heap: [UInt64] = []

    init() {}
  }

  /// Up to this many symbols a scan for the lowest rank is faster than a heap.
  private static let scanLimit = 32

  /// Appends the ids of one word, which is not empty.
  func encode(_ word: UnsafeBufferPointer<UInt8>, _ space: inout Workspace, into out: inout [Int32]) {
    // SAFETY: the word is lent for the call, and slices of it lie between positions inside it (`TokenizerModel.encode`).
    if ignoresMerges, let id = wholeWords.find(word) {
      out.append(id)
      return
    }
    units(word, &space.ids)
    if space.ids.count > Self.scanLimit { mergeByHeap(&space) } else { mergeByScan(&space) }
    out.append(contentsOf: space.ids)
  }

  // MARK: units

  private func units(_ word: UnsafeBufferPointer<UInt8>, _ ids: inout [Int32]) {
    ids.removeAll(keepingCapacity: true)
    var pending: Int32?
    guard let text = word.baseAddress else { return }
    let decorated = !prefix.isEmpty || !suffix.isEmpty
    var position = 0
    while position < word.count {
      let length = isByteLevel ? 1 : UTF8Text.scalar(text, position, word.count).length
      let unit = UnsafeBufferPointer(rebasing: word[position..<(position + length)])
      let id: Int32
      if isByteLevel, !decorated {
        id = byteIds[Int(unit[0])]
      } else if decorated {
        id = tokens.find(spelled(unit, first: position == 0, last: position + length == word.count)) ?? -1
      } else {
        id = tokens.find(unit) ?? -1
      }
      if id >= 0 {
        if let unknown = pending { ids.append(unknown) }
        pending = nil
        ids.append(id)
      } else {
        missing(
          spelled(unit, first: position == 0, last: position + length == word.count), &ids, &pending)
      }
      position += length
    }
    if let unknown = pending { ids.append(unknown) }
  }

  /// The unit as the vocabulary spells it.
  private func spelled(_ unit: UnsafeBufferPointer<UInt8>, first: Bool, last: Bool) -> [UInt8] {
    var out = first ? [] : prefix
    if isByteLevel {
      UTF8Text.append(ByteAlphabet.scalars[Int(unit[0])], to: &out)
    } else {
      out += unit
    }
    return last ? out + suffix : out
  }

  /// A unit without a token: its bytes where all of them have one, else the unknown token, else nothing. The library
  /// writes a pending unknown token behind bytes that follow it; so do we.
  private func missing(_ unit: [UInt8], _ ids: inout [Int32], _ pending: inout Int32?) {
    if !fallbackIds.isEmpty, unit.allSatisfy({ fallbackIds[Int($0)] >= 0 }) {
      for byte in unit { ids.append(fallbackIds[Int(byte)]) }
    } else if let unknown {
      if let before = pending, !fusesUnknown { ids.append(before) }
      pending = unknown
    }
  }

  // MARK: merges

  /// Quadratic in the number of symbols; for short words.
  private func mergeByScan(_ space: inout Workspace) {
    guard space.ids.count > 1 else { return }
    let none = UInt32.max
    space.ranks.removeAll(keepingCapacity: true)
    for index in 0..<(space.ids.count - 1) {
      space.ranks.append(merges.find(space.ids[index], space.ids[index + 1])?.rank ?? none)
    }
    var count = space.ids.count
    while true {
      var best = none
      var place = -1
      for index in 0..<(count - 1) where space.ranks[index] < best {
        best = space.ranks[index]
        place = index
      }
      guard place >= 0, let merge = merges.find(space.ids[place], space.ids[place + 1]) else { break }
      space.ids[place] = merge.id
      for index in (place + 1)..<(count - 1) { space.ids[index] = space.ids[index + 1] }
      count -= 1
      for index in (place + 1)..<max(place + 1, count - 1) { space.ranks[index] = space.ranks[index + 1] }
      if place > 0 { space.ranks[place - 1] = merges.find(space.ids[place - 1], merge.id)?.rank ?? none }
      if place < count - 1 { space.ranks[place] = merges.find(merge.id, space.ids[place + 1])?.rank ?? none }
    }
    space.ids.removeSubrange(count...)
  }

  /// Linear times the logarithm of the number of symbols; for long words.
  private func mergeByHeap(_ space: inout Workspace) {
    let count = space.ids.count
    space.next = (1...Int32(count)).map { $0 }
    space.previous = (-1..<Int32(count - 1)).map { $0 }
    // A heap entry is a rank and a place; it counts as long as the pair at that place still has that rank.
    space.heap.removeAll(keepingCapacity: true)
    for index in 0..<(count - 1) {
      if let merge = merges.find(space.ids[index], space.ids[index + 1]) {
        MinHeap.push(UInt64(merge.rank) << 32 | UInt64(index), &space.heap)
      }
    }
    let gone: Int32 = -1
    while let top = MinHeap.pop(&space.heap) {
      let place = Int(top & 0xFFFF_FFFF)
      guard space.ids[place] != gone, Int(space.next[place]) < count else { continue }
      let right = Int(space.next[place])
      guard let merge = merges.find(space.ids[place], space.ids[right]), UInt64(merge.rank) == top >> 32
      else { continue }
      space.ids[place] = merge.id
      space.ids[right] = gone
      space.next[place] = space.next[right]
      let after = Int(space.next[place])
      if after < count {
        space.previous[after] = Int32(place)
        if let next = merges.find(merge.id, space.ids[after]) {
          MinHeap.push(UInt64(next.rank) << 32 | UInt64(place), &space.heap)
        }
      }
      let before = Int(space.previous[place])
      if before >= 0, let next = merges.find(space.ids[before], merge.id) {
        MinHeap.push(UInt64(next.rank) << 32 | UInt64(before), &space.heap)
      }
    }
    space.ids.removeAll { $0 == gone }
  }
}

/// A binary heap in an array, the least first.
enum MinHeap {
  static func push(_ value: UInt64, _ heap: inout [UInt64]) {
    heap.append(value)
    var child = heap.count - 1
    while child > 0, heap[(child - 1) / 2] > value {
      heap[child] = heap[(child - 1) / 2]
      child = (child - 1) / 2
    }
    heap[child] = value
  }

  static func pop(_ heap: inout [UInt64]) -> UInt64? {
    guard let top = heap.first, let last = heap.popLast() else { return nil }
    guard !heap.isEmpty else { return top }
    var parent = 0
    while true {
      var child = 2 * parent + 1
      guard child < heap.count else { break }
      if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
      guard heap[child] < last else { break }
      heap[parent] = heap[child]
      parent = child
    }
    heap[parent] = last
    return top
  }
}

/// The printable scalars that byte-level vocabularies write for the 256 bytes. Source: GPT-2.
enum ByteAlphabet {
  /// The scalar of each byte: itself where it is printable, else one from U+0100 on, in order.
  static let scalars: [UInt32] = {
    var next: UInt32 = 0x100
    return (UInt32(0)..<256).map { byte in
      if (0x21...0x7E).contains(byte) || (0xA1...0xFF).contains(byte) && byte != 0xAD { return byte }
      defer { next += 1 }
      return next
    }
  }()

  /// The byte of each scalar up to the last of the alphabet, or -1.
  private static let bytes: [Int16] = {
    var out = [Int16](repeating: -1, count: 0x180)
    for (byte, scalar) in scalars.enumerated() { out[Int(scalar)] = Int16(byte) }
    return out
  }()

  /// The bytes that a token stands for; nil when it holds a scalar that stands for none.
  static func bytes(of token: String) -> [UInt8]? {
    let table = bytes
    var out: [UInt8] = []
    out.reserveCapacity(token.utf8.count)
    for scalar in token.unicodeScalars {
      guard scalar.value < table.count, table[Int(scalar.value)] >= 0 else { return nil }
      out.append(UInt8(table[Int(scalar.value)]))
    }
    return out
  }

  /// The scalars of bytes, in UTF-8.
  static func spelled(_ bytes: some Sequence<UInt8>) -> [UInt8] {
    var out: [UInt8] = []
    for byte in bytes { UTF8Text.append(scalars[Int(byte)], to: &out) }
    return out
  }
}
