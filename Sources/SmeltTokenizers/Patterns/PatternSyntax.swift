// The regular expressions of pre-tokenizers, as a tree. The dialect is Oniguruma's (Ruby syntax), the one the `tokenizers`
// library reads them with: `^` and `$` stand at lines, `\h` is a hexadecimal digit, `{n,m}+` repeats the repetition.
// What the matcher does not do (back references, lookbehind, conditionals) is refused by name.

/// A regular expression as a tree.
indirect enum PatternNode {
  /// One scalar of a set.
  case set(ScalarSet)
  /// One after the other; empty matches the empty string.
  case sequence([PatternNode])
  /// The first that leads to a match.
  case choice([PatternNode])
  /// At least `minimum`, at most `maximum` times.
  case repeated(PatternNode, minimum: Int, maximum: Int?, mode: Mode)
  /// What follows matches, or does not; nothing is consumed.
  case look(PatternNode, negative: Bool)
  /// The first match is the only one tried.
  case atomic(PatternNode)
  /// A place between scalars.
  case anchor(Anchor)

  /// How a repetition gives back.
  enum Mode {
    case greedy, lazy, possessive
  }

  /// Places between scalars.
  enum Anchor: Int32 {
    case lineStart, lineEnd, textStart, textEnd, textEndOrNewline, wordEdge, notWordEdge
  }
}

/// Why a regular expression is refused.
package struct PatternError: Error, Equatable {
  /// What was found, and for syntax what was expected.
  var problem: String
  /// Well-formed, but beyond the matcher.
  var unsupported: Bool
}

/// A recursive-descent parser; nesting is bounded.
struct PatternParser {
  private let scalars: [Unicode.Scalar]
  private var position = 0
  private var depth = 0
  private var ignoresCase = false
  /// Whether the atom being read is the first of its branch.
  private var isLeading = false
  /// The deepest nesting of groups and classes.
  private static let depthLimit = 64
  /// The largest count in `{n,m}`.
  private static let countLimit = 1000
  /// The most repetitions of one atom: `a{2}{3}+` has three.
  private static let stackedLimit = 8

  private init(_ text: String) { scalars = Array(text.unicodeScalars) }

  /// The tree of a regular expression.
  static func parse(_ text: String) throws(PatternError) -> PatternNode {
    var parser = PatternParser(text)
    let node = try parser.choice()
    guard parser.current == nil else { throw parser.wrong("found ')' without its '('") }
    return node
  }

  /// The tree of a text that stands for itself.
  static func literal(_ text: String) -> PatternNode {
    .sequence(text.unicodeScalars.map { .set(ScalarSet($0.value)) })
  }

  private var current: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  private func wrong(_ problem: String) -> PatternError { PatternError(problem: problem, unsupported: false) }
  private func unsupported(_ what: String) -> PatternError { PatternError(problem: what, unsupported: true) }

  private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard current == scalar else { return false }
    position += 1
    return true
  }

  private mutating func take(_ text: String) -> Bool {
    let wanted = Array(text.unicodeScalars)
    guard scalars[position...].starts(with: wanted) else { return false }
    position += wanted.count
    return true
  }

  private mutating func deeper<R>(
    _ body: (inout PatternParser) throws(PatternError) -> R
  ) throws(PatternError) -> R {
    guard depth < Self.depthLimit else { throw unsupported("nesting deeper than \(Self.depthLimit) levels") }
    depth += 1
    let result = try body(&self)
    depth -= 1
    return result
  }

  private func set(_ set: ScalarSet) -> PatternNode { .set(ignoresCase ? set.ignoringCase() : set) }

  // MARK: sequences and repetitions

  private mutating func choice() throws(PatternError) -> PatternNode {
    let outer = ignoresCase
    var branches = [try sequence()]
    while take("|") { branches.append(try sequence()) }
    ignoresCase = outer
    return branches.count == 1 ? branches[0] : .choice(branches)
  }

  private mutating func sequence() throws(PatternError) -> PatternNode {
    var nodes: [PatternNode] = []
    while let scalar = current, scalar != "|", scalar != ")" {
      isLeading = nodes.isEmpty
      guard var node = try atom() else { continue }
      var stacked = 0
      while let next = try repetition(node) {
        node = next
        stacked += 1
        guard stacked <= Self.stackedLimit else { throw unsupported("a repetition of repetitions") }
      }
      nodes.append(node)
    }
    return nodes.count == 1 ? nodes[0] : .sequence(nodes)
  }

  private mutating func repetition(_ node: PatternNode) throws(PatternError) -> PatternNode? {
    var minimum = 0
    var maximum: Int?
    let start = position
    switch current {
    case "*": position += 1
    case "+":
      position += 1
      minimum = 1
    case "?":
      position += 1
      maximum = 1
    case "{":
      guard let counts = try counts() else {
        position = start
        return nil
      }
      (minimum, maximum) = counts
      if take("?") {
        guard minimum != maximum else { throw unsupported("'{n}?'") }
        return .repeated(node, minimum: minimum, maximum: maximum, mode: .lazy)
      }
      return .repeated(node, minimum: minimum, maximum: maximum, mode: .greedy)
    default: return nil
    }
    let mode: PatternNode.Mode = take("?") ? .lazy : take("+") ? .possessive : .greedy
    return .repeated(node, minimum: minimum, maximum: maximum, mode: mode)
  }

  /// `{n}`, `{n,}`, `{,m}`, `{n,m}`; nil where the brace stands for itself.
  private mutating func counts() throws(PatternError) -> (Int, Int?)? {
    position += 1
    let first = try count()
    let comma = take(",")
    let second = comma ? try count() : first
    guard take("}"), first != nil || second != nil else { return nil }
    let minimum = first ?? 0
    if let second, second < minimum { throw wrong("found the repetition {\(minimum),\(second)}") }
    return (minimum, comma ? second : minimum)
  }

  private mutating func count() throws(PatternError) -> Int? {
    var value: Int?
    while let scalar = current, ("0"..."9").contains(scalar) {
      value = (value ?? 0) * 10 + Int(scalar.value - 0x30)
      guard value ?? 0 <= Self.countLimit else { throw unsupported("a repetition over \(Self.countLimit)") }
      position += 1
    }
    return value
  }

  // MARK: atoms

  /// One atom; nil for an option that only changes what follows.
  private mutating func atom() throws(PatternError) -> PatternNode? {
    guard let scalar = current else { return .sequence([]) }
    switch scalar {
    case "(":
      position += 1
      return try deeper { (parser) throws(PatternError) in try parser.group() }
    case "[":
      position += 1
      let members = try deeper { (parser) throws(PatternError) in try parser.members() }
      return .set(members)
    case ".":
      position += 1
      return .set(ScalarSet(0x0A).inverted())
    case "^":
      position += 1
      return .anchor(.lineStart)
    case "$":
      position += 1
      return .anchor(.lineEnd)
    case "*", "+", "?": throw wrong("found '\(scalar)' with nothing to repeat")
    case "\\":
      position += 1
      return try escapedAtom()
    default:
      position += 1
      return set(ScalarSet(scalar.value))
    }
  }

  private mutating func group() throws(PatternError) -> PatternNode? {
    let leads = isLeading
    let node: PatternNode
    if take("?:") {
      node = try choice()
    } else if take("?=") {
      node = .look(try choice(), negative: false)
    } else if take("?!") {
      node = .look(try choice(), negative: true)
    } else if take("?>") {
      node = .atomic(try choice())
    } else if take("?<=") || take("?<!") {
      throw unsupported("lookbehind")
    } else if take("?<") {
      while let scalar = current, scalar != ">", scalar != ")" { position += 1 }
      guard take(">") else { throw wrong("found a group name without '>'") }
      node = try choice()
    } else if take("?i)") || take("?-i)") {
      // The option holds to the end of the group around it, over every branch that is left. In the middle of a branch
      // the dialect would also regroup the branches.
      guard leads else { throw unsupported("an option in the middle of a branch") }
      ignoresCase = scalars[position - 3] != "-"
      return nil
    } else if take("?i:") {
      node = try choice(ignoringCase: true)
    } else if take("?-i:") {
      node = try choice(ignoringCase: false)
    } else if current == "?" {
      let shown = String(String.UnicodeScalarView(scalars[position...].prefix(2)))
      throw unsupported("the group '(\(shown)'")
    } else {
      node = try choice()
    }
    guard take(")") else { throw wrong("found '(' without its ')'") }
    return node
  }

  private mutating func choice(ignoringCase: Bool) throws(PatternError) -> PatternNode {
    let outer = ignoresCase
    ignoresCase = ignoringCase
    let node = try choice()
    ignoresCase = outer
    return node
  }

  private mutating func escapedAtom() throws(PatternError) -> PatternNode {
    guard let scalar = current else { throw wrong("found '\\' at the end") }
    let anchors: [Unicode.Scalar: PatternNode.Anchor] = [
      "A": .textStart, "z": .textEnd, "Z": .textEndOrNewline, "b": .wordEdge, "B": .notWordEdge,
    ]
    if let anchor = anchors[scalar] {
      position += 1
      return .anchor(anchor)
    }
    if ("1"..."9").contains(scalar) || scalar == "k" { throw unsupported("back references") }
    return set(try escaped(inClass: false))
  }

  // MARK: escapes and classes

  /// What follows a backslash, as a set.
  private mutating func escaped(inClass: Bool) throws(PatternError) -> ScalarSet {
    guard let scalar = current else { throw wrong("found '\\' at the end") }
    position += 1
    switch scalar {
    case "s": return UnicodeClasses.space
    case "S": return UnicodeClasses.space.inverted()
    case "d": return UnicodeClasses.digit
    case "D": return UnicodeClasses.digit.inverted()
    case "w": return UnicodeClasses.word
    case "W": return UnicodeClasses.word.inverted()
    case "h": return ScalarSet([0x30...0x39, 0x41...0x46, 0x61...0x66])
    case "H": return ScalarSet([0x30...0x39, 0x41...0x46, 0x61...0x66]).inverted()
    case "p", "P": return try property(negative: scalar == "P")
    case "n": return ScalarSet(0x0A)
    case "r": return ScalarSet(0x0D)
    case "t": return ScalarSet(0x09)
    case "v": return ScalarSet(0x0B)
    case "f": return ScalarSet(0x0C)
    case "a": return ScalarSet(0x07)
    case "e": return ScalarSet(0x1B)
    case "b" where inClass: return ScalarSet(0x08)
    case "x":
      if take("{") {
        let value = try hexadecimal(1...8)
        guard take("}") else { throw wrong("found '\\x{' without '}'") }
        return ScalarSet(value)
      }
      return ScalarSet(try hexadecimal(1...2))
    case "u": return ScalarSet(try hexadecimal(4...4))
    case "0"..."9", "a"..."z", "A"..."Z": throw unsupported("the escape '\\\(scalar)'")
    default: return ScalarSet(scalar.value)
    }
  }

  private mutating func hexadecimal(_ lengths: ClosedRange<Int>) throws(PatternError) -> UInt32 {
    var value: UInt32 = 0
    var length = 0
    while length < lengths.upperBound, let digit = current.flatMap({ Character($0).hexDigitValue }) {
      value = value << 4 | UInt32(digit)
      length += 1
      position += 1
    }
    guard length >= lengths.lowerBound, Unicode.Scalar(value) != nil else {
      throw wrong("found a hexadecimal escape that names no Unicode scalar")
    }
    return value
  }

  private mutating func property(negative: Bool) throws(PatternError) -> ScalarSet {
    guard take("{") else { throw wrong("found '\\p' without '{'") }
    let inverted = take("^") != negative
    var name = String.UnicodeScalarView()
    while let scalar = current, scalar != "}" {
      name.append(scalar)
      position += 1
    }
    guard take("}") else { throw wrong("found '\\p{' without '}'") }
    guard let set = UnicodeClasses.named(String(name)) else {
      throw unsupported("the property '\\p{\(String(name))}'")
    }
    return inverted ? set.inverted() : set
  }

  /// The members of a class after its '[', up to and with its ']'.
  private mutating func members() throws(PatternError) -> ScalarSet {
    let inverted = take("^")
    var ranges: [ClosedRange<UInt32>] = []
    var kept: ScalarSet?
    var isFirst = true
    while true {
      guard let scalar = current else { throw wrong("found '[' without its ']'") }
      if scalar == "]", !isFirst {
        position += 1
        break
      }
      isFirst = false
      if take("&&") {
        let left = cased(ScalarSet(ranges))
        kept = kept?.intersection(left) ?? left
        ranges = []
        continue
      }
      let member = try member()
      if current == "-", member.count == 1, position + 1 < scalars.count, scalars[position + 1] != "]" {
        position += 1
        let end = try self.member()
        guard let low = member.ranges.first?.lowerBound, let high = end.ranges.first?.upperBound,
          end.count == 1, low <= high
        else { throw wrong("found a range of a class without two ends in order") }
        ranges.append(low...high)
      } else {
        ranges += member.ranges
      }
    }
    let right = cased(ScalarSet(ranges))
    let set = kept?.intersection(right) ?? right
    return inverted ? set.inverted() : set
  }

  private func cased(_ set: ScalarSet) -> ScalarSet { ignoresCase ? set.ignoringCase() : set }

  private mutating func member() throws(PatternError) -> ScalarSet {
    if take("[:") {
      let classes: [(String, ScalarSet)] = [
        ("space:]", UnicodeClasses.space), ("digit:]", UnicodeClasses.digit), ("word:]", UnicodeClasses.word),
      ]
      for (name, set) in classes where take(name) { return set }
      throw unsupported("the bracket '[:'")
    }
    if take("[") { return try deeper { (parser) throws(PatternError) in try parser.members() } }
    if take("\\") { return try escaped(inClass: true) }
    guard let scalar = current else { throw wrong("found '[' without its ']'") }
    position += 1
    return ScalarSet(scalar.value)
  }
}
