// SentencePiece's byte-pair encoding: neighbours are joined as long as the joined text is a piece, the piece of the highest
// score first, the leftmost of equal ones. Unlike a list of merges it asks for texts, not for pairs of ids.

/// Pieces with scores.
struct ScoredPairModel: Sendable {
  /// The ids of the pieces that joining may make.
  var pieces: ByteTable
  /// The ids of the other pieces: control, unknown, bytes.
  var reserved: ByteTable
  /// The place of each id's score among all scores, the highest first; equal scores share one.
  var ranks: [UInt32]
  /// Pieces that joining makes on its way and that are taken apart again.
  var isUnused: [Bool]
  /// Pieces that are one symbol wherever they stand, and are never joined; nil for models without any.
  var frozen: ByteTrie?
  /// What stands for a symbol that is no piece; a run of them is one.
  var unknown: Int32
  /// The ids of `<0x00>` to `<0xFF>`; empty without byte fallback.
  var fallbackIds: [Int32] = []

  /// Working memory of `encode`, kept from word to word.
  struct Workspace {
    fileprivate var starts: [Int] = []
    /// The bytes of each symbol; 0 once it is part of another.
    fileprivate var lengths: [Int] = []
    fileprivate var isFrozen: [Bool] = []
    fileprivate var next: [Int] = []
    fileprivate var previous: [Int] = []
    /// The rank of each symbol joined with the one behind it, or `none`.
    fileprivate var ranks: [UInt32] = []
    fileprivate var heap: [UInt64] = []
    /// How an unused piece was last to be made: the bytes of its left part.
    fileprivate var parts: [Int32: Int] = [:]

    init() {}
  }

  private static let none = UInt32.max

  /// Appends the ids of one word.
  /// - Complexity: n log n in the length of the word.
  func encode(_ word: UnsafeBufferPointer<UInt8>, _ space: inout Workspace, into out: inout [Int32]) {
    // SAFETY: the word is lent for the call, and slices of it lie between positions inside it (`TokenizerModel.encode`).
    split(word, &space)
    let count = space.starts.count
    for index in space.starts.indices.dropLast() { consider(index, word, &space) }
    while let top = MinHeap.pop(&space.heap) {
      let place = Int(top & 0xFFFF_FFFF)
      guard space.lengths[place] > 0, UInt64(space.ranks[place]) == top >> 32 else { continue }
      let right = space.next[place]
      space.lengths[place] += space.lengths[right]
      space.lengths[right] = 0
      space.ranks[right] = Self.none
      space.next[place] = space.next[right]
      if space.next[place] < count { space.previous[space.next[place]] = place }
      consider(place, word, &space)
      if space.previous[place] >= 0 { consider(space.previous[place], word, &space) }
    }
    var isUnknown = false
    var index = 0
    while index < count {
      emit(word, space.starts[index], space.lengths[index], space.parts, &isUnknown, &out)
      index = space.next[index]
    }
  }

  /// Cuts the word into characters and frozen pieces.
  private func split(_ word: UnsafeBufferPointer<UInt8>, _ space: inout Workspace) {
    space.starts.removeAll(keepingCapacity: true)
    space.lengths.removeAll(keepingCapacity: true)
    space.isFrozen.removeAll(keepingCapacity: true)
    space.heap.removeAll(keepingCapacity: true)
    if !space.parts.isEmpty { space.parts = [:] }
    guard let text = word.baseAddress else { return }
    var position = 0
    while position < word.count {
      let known = frozen?.longest(word, position) ?? 0
      let length = known > 0 ? known : UTF8Text.scalar(text, position, word.count).length
      space.starts.append(position)
      space.lengths.append(length)
      space.isFrozen.append(known > 0)
      position += length
    }
    let count = space.starts.count
    space.next = Array(1..<(count + 1))
    space.previous = Array(-1..<(count - 1))
    space.ranks = [UInt32](repeating: Self.none, count: count)
  }

  /// Notes whether a symbol and the one behind it make a piece.
  private func consider(_ place: Int, _ word: UnsafeBufferPointer<UInt8>, _ space: inout Workspace) {
    space.ranks[place] = Self.none
    let right = space.next[place]
    guard right < space.starts.count, !space.isFrozen[place], !space.isFrozen[right] else { return }
    let start = space.starts[place]
    let length = space.lengths[place] + space.lengths[right]
    guard let id = pieces.find(UnsafeBufferPointer(rebasing: word[start..<(start + length)])) else { return }
    if isUnused[Int(id)] { space.parts[id] = space.lengths[place] }
    space.ranks[place] = ranks[Int(id)]
    MinHeap.push(UInt64(ranks[Int(id)]) << 32 | UInt64(place), &space.heap)
  }

  /// The ids of one symbol; an unused piece gives those of its parts.
  private func emit(
    _ word: UnsafeBufferPointer<UInt8>, _ start: Int, _ length: Int, _ parts: [Int32: Int],
    _ isUnknown: inout Bool, _ out: inout [Int32]
  ) {
    var open = [(start: start, length: length)]
    while let (start, length) = open.popLast() {
      let text = UnsafeBufferPointer(rebasing: word[start..<(start + length)])
      let id = reserved.find(text) ?? pieces.find(text) ?? unknown
      if isUnused[Int(id)], let left = parts[id], left > 0, left < length {
        open.append((start + left, length - left))
        open.append((start, left))
      } else if id == unknown {
        if !fallbackIds.isEmpty {
          for byte in text { out.append(fallbackIds[Int(byte)]) }
        } else if !isUnknown {
          out.append(id)
        }
        isUnknown = true
      } else {
        out.append(id)
        isUnknown = false
      }
    }
  }
}
