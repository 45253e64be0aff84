// Tokens that are found in the text as they stand, before anything is cut: special tokens and those added later. The
// leftmost match counts, and of several there the longest.

/// A token that the text may hold literally.
struct AddedToken: Sendable {
  /// The text that is looked for.
  var content: [UInt8]
  var id: Int32
  /// Only where no word character touches it.
  var isSingleWord: Bool
  /// White space before it belongs to it.
  var stripsLeft: Bool
  /// White space behind it belongs to it.
  var stripsRight: Bool
}

/// A set of such tokens, ready for searching.
struct AddedTokens: Sendable {
  private var tokens: [AddedToken] = []
  /// The nodes of a trie: node and byte to node. The root is 0.
  private var edges: [UInt64: Int32] = [:]
  /// The token that ends at a node, or -1.
  private var ends: [Int32] = [-1]
  private var isFirstByte = [Bool](repeating: false, count: 256)

  /// Whether it holds no token.
  var isEmpty: Bool { tokens.isEmpty }

  /// Adds a token. One without text is never found.
  mutating func insert(_ token: AddedToken) {
    guard let first = token.content.first else { return }
    isFirstByte[Int(first)] = true
    var node: Int32 = 0
    for byte in token.content {
      let edge = UInt64(node) << 8 | UInt64(byte)
      if let next = edges[edge] {
        node = next
      } else {
        node = Int32(ends.count)
        edges[edge] = node
        ends.append(-1)
      }
    }
    ends[Int(node)] = Int32(tokens.count)
    tokens.append(token)
  }

  /// Calls `piece` with the stretches of `text` between tokens and with the tokens (their id), in order.
  func split(
    _ text: UnsafeBufferPointer<UInt8>, _ piece: (Range<Int>, Int32?) -> Void
  ) {
    // SAFETY: positions stay below `count`; `base` is read through `UTF8Text` within the text.
    guard let base = text.baseAddress, !isEmpty else { return piece(0..<text.count, nil) }
    var behind = 0
    var position = 0
    while position < text.count {
      guard isFirstByte[Int(text[position])], let match = longest(text, position) else {
        position += 1
        continue
      }
      let token = tokens[Int(match)]
      var start = position
      var end = position + token.content.count
      position = end
      if token.isSingleWord, touchesWord(base, start, end, text.count) { continue }
      if token.stripsLeft {
        while start > 0 {
          let before = UTF8Text.previous(base, start, 0)
          guard isSpace(base, before, text.count) else { break }
          start = before
        }
        start = max(start, behind)
      }
      if token.stripsRight {
        while end < text.count, isSpace(base, end, text.count) {
          end += UTF8Text.scalar(base, end, text.count).length
        }
      }
      if behind < start { piece(behind..<start, nil) }
      piece(start..<end, token.id)
      behind = end
    }
    if behind < text.count { piece(behind..<text.count, nil) }
  }

  private func longest(_ text: UnsafeBufferPointer<UInt8>, _ start: Int) -> Int32? {
    var node: Int32 = 0
    var found: Int32?
    var position = start
    while position < text.count, let next = edges[UInt64(node) << 8 | UInt64(text[position])] {
      node = next
      position += 1
      if ends[Int(node)] >= 0 { found = ends[Int(node)] }
    }
    return found
  }

  private func isSpace(_ text: UnsafePointer<UInt8>, _ position: Int, _ end: Int) -> Bool {
    UnicodeClasses.space.contains(UTF8Text.scalar(text, position, end).value)
  }

  private func touchesWord(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int, _ count: Int) -> Bool {
    func isWord(_ position: Int) -> Bool {
      UnicodeClasses.joinedWord.contains(UTF8Text.scalar(text, position, count).value)
    }
    return start > 0 && isWord(UTF8Text.previous(text, start, 0)) || end < count && isWord(end)
  }
}
