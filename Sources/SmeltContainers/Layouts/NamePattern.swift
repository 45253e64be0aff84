// The regular expressions of `ignore` and `targets` lists. A pattern is walked with the set of all places where a match may
// end, so that nothing is tried twice; nothing is captured.

internal import SmeltStorage

/// A pattern that is matched from the start of a name, as Python's `re.match` does. Knows literals, `.`, classes, `\d \w
/// \s` and their opposites, groups, alternatives, `* + ? {m,n}` (greedy and lazy are one, since only whether matters), `^ $`,
/// `\b`, and looking ahead.
package struct NamePattern: Sendable {
  private indirect enum Node: Sendable {
    case literal([UInt8])
    case set(Set, negated: Bool)
    case sequence([Node])
    case choice([Node])
    case times(Node, Int, Int?)
    case start, end, boundary
    case ahead(Node, negated: Bool)
  }

  private struct Set: Sendable {
    var ranges: [ClosedRange<UInt8>] = []

    func contains(_ byte: UInt8) -> Bool { ranges.contains { $0.contains(byte) } }
  }

  private let root: Node

  /// A pattern, or nil when it is not of the supported kind.
  package init?(_ text: String) {
    var parser = Parser(bytes: Array(text.utf8))
    guard let root = parser.choice(), parser.isAtEnd else { return nil }
    self.root = root
  }

  /// Whether some prefix of the name matches; nil when finding out would take too long.
  package func matches(_ name: String) -> Bool? {
    var walk = Walk(text: Array(name.utf8))
    var starts = [Bool](repeating: false, count: walk.text.count + 1)
    starts[0] = true
    let matches = walk.ends(root, starts).contains(true)
    return walk.steps > Walk.limit ? nil : matches
  }

  /// One name being matched: places as flags, one for each byte and one for the end.
  private struct Walk {
    /// Nodes looked at before giving up; a pattern of a real checkpoint needs a few hundred.
    static let limit = 20_000
    let text: [UInt8]
    var steps = 0

    /// Where matches that begin at one of `starts` end.
    mutating func ends(_ node: Node, _ starts: [Bool]) -> [Bool] {
      steps += 1
      let none = [Bool](repeating: false, count: text.count + 1)
      guard steps <= Walk.limit, starts.contains(true) else { return none }
      var out = none
      switch node {
      case .literal(let bytes):
        for place in 0..<text.count where starts[place] && text[place...].starts(with: bytes) {
          out[place + bytes.count] = true
        }
      case .set(let set, let negated):
        for place in text.indices where starts[place] {
          out[place + 1] = set.contains(text[place]) != negated
        }
      case .sequence(let nodes):
        out = starts
        for node in nodes { out = ends(node, out) }
      case .choice(let nodes): for node in nodes { out = Walk.union(out, ends(node, starts)) }
      case .start: out[0] = starts[0]
      case .end: out[text.count] = starts[text.count]
      case .boundary:
        for place in 0...text.count where starts[place] {
          let before = place > 0 && word.contains(text[place - 1])
          out[place] = before != (place < text.count && word.contains(text[place]))
        }
      case .ahead(let node, let negated):
        for place in 0...text.count where starts[place] {
          var one = none
          one[place] = true
          out[place] = ends(node, one).contains(true) != negated
        }
      case .times(.set(let set, let negated), 0, nil):
        out = starts
        for place in text.indices where out[place] && set.contains(text[place]) != negated {
          out[place + 1] = true
        }
      case .times(let node, let least, let most):
        var now = starts
        for _ in 0..<least {
          let next = ends(node, now)
          if next == now { break }
          now = next
        }
        out = now
        var count = least
        while now.contains(true), most.map({ count < $0 }) ?? true {
          now = zip(ends(node, now), out).map { $0 && !$1 }
          out = Walk.union(out, now)
          count += 1
        }
      }
      return out
    }

    private static func union(_ a: [Bool], _ b: [Bool]) -> [Bool] { zip(a, b).map { $0 || $1 } }
  }

  private static let digits = Set(ranges: [0x30...0x39])
  private static let word = Set(ranges: [0x30...0x39, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A])
  private static let space = Set(ranges: [0x09...0x0D, 0x20...0x20])

  // MARK: reading

  private struct Parser {
    let bytes: [UInt8]
    var place = 0
    var depth = 0

    var isAtEnd: Bool { place == bytes.count }

    private mutating func take(_ character: Character) -> Bool {
      guard place < bytes.count, bytes[place] == character.asciiValue else { return false }
      place += 1
      return true
    }

    private mutating func take(text: String) -> Bool {
      guard bytes[place...].starts(with: text.utf8) else { return false }
      place += text.utf8.count
      return true
    }

    mutating func choice() -> Node? {
      depth += 1
      defer { depth -= 1 }
      guard depth <= 32, bytes.count <= 4096 else { return nil }
      var branches: [Node] = []
      repeat {
        var nodes: [Node] = []
        while place < bytes.count, bytes[place] != UInt8(ascii: "|"), bytes[place] != UInt8(ascii: ")") {
          guard let node = repeated() else { return nil }
          if case .literal(let more) = node, case .literal(let before) = nodes.last {
            nodes[nodes.count - 1] = .literal(before + more)
          } else {
            nodes.append(node)
          }
        }
        branches.append(.sequence(nodes))
      } while take("|")
      return branches.count == 1 ? branches[0] : .choice(branches)
    }

    private mutating func repeated() -> Node? {
      guard var node = atom() else { return nil }
      while true {
        if take("*") {
          node = .times(node, 0, nil)
        } else if take("+") {
          node = .times(node, 1, nil)
        } else if take("?") {
          node = .times(node, 0, 1)
        } else if take("{") {
          guard let least = number() else { return nil }
          var most: Int? = least
          if take(",") { most = number() }
          guard take("}"), most.map({ $0 >= least }) ?? true else { return nil }
          node = .times(node, least, most)
        } else {
          return node
        }
        _ = take("?")  // lazy
        // Possessive, or repeated twice.
        if place < bytes.count, "*+{".utf8.contains(bytes[place]) { return nil }
      }
    }

    private mutating func number() -> Int? {
      let start = place
      while place < bytes.count, digits.contains(bytes[place]) { place += 1 }
      guard let value = Int(String(decoding: bytes[start..<place], as: UTF8.self)), value <= 1000 else {
        return nil
      }
      return value
    }

    private mutating func atom() -> Node? {
      if take("^") { return .start }
      if take("$") { return .end }
      if take(".") { return .set(Set(ranges: [0x0A...0x0A]), negated: true) }
      if take("(") {
        let isAhead = take(text: "?=")
        let isNegated = !isAhead && take(text: "?!")
        if !isAhead && !isNegated, take("?"), !take(":") { return nil }
        guard let inner = choice(), take(")") else { return nil }
        return isAhead || isNegated ? .ahead(inner, negated: isNegated) : inner
      }
      if take("[") { return set() }
      if take("\\") {
        if take("b") { return .boundary }
        guard let (set, negated) = escape() else { return nil }
        if !negated, set.ranges.count == 1, set.ranges[0].count == 1 {
          return .literal([set.ranges[0].lowerBound])
        }
        return .set(set, negated: negated)
      }
      guard place < bytes.count, !"*+?{}|)]".utf8.contains(bytes[place]) else { return nil }
      place += 1
      return .literal([bytes[place - 1]])
    }

    /// What follows a backslash: a class, or a character that is no letter and no digit.
    private mutating func escape() -> (set: Set, negated: Bool)? {
      for (letter, set) in [("d", digits), ("w", word), ("s", space)] as [(Character, Set)] {
        if take(letter) { return (set, false) }
        if take(Character(letter.uppercased())) { return (set, true) }
      }
      guard place < bytes.count, bytes[place] < 0x80, !word.contains(bytes[place]) || bytes[place] == 0x5F
      else {
        return nil
      }
      place += 1
      return (Set(ranges: [bytes[place - 1]...bytes[place - 1]]), false)
    }

    private mutating func set() -> Node? {
      let isNegated = take("^")
      var set = Set()
      var isFirst = true
      while isFirst || !take("]") {
        isFirst = false
        guard place < bytes.count else { return nil }
        if take("\\") {
          guard let inner = escape(), !inner.negated else { return nil }
          set.ranges += inner.set.ranges
          continue
        }
        let low = bytes[place]
        place += 1
        if place + 1 < bytes.count, bytes[place] == UInt8(ascii: "-"), bytes[place + 1] != UInt8(ascii: "]") {
          let high = bytes[place + 1]
          guard low <= high, high != UInt8(ascii: "\\") else { return nil }
          set.ranges.append(low...high)
          place += 2
        } else {
          set.ranges.append(low...low)
        }
      }
      return .set(set, negated: isNegated)
    }
  }
}
