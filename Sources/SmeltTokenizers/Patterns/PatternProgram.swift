// A regular expression as a flat program for the matcher: instructions, bitmaps of sets, bitmaps of first bytes.

/// One step of a program. The meaning of `a`, `b`, `c` is the operation's.
struct PatternInstruction: Equatable {
  enum Operation {
    /// The byte `a`.
    case byte
    /// One scalar of set `a`.
    case set
    /// Scalars of set `a`, at least `b`, at most `c`, as many as possible, given back one by one.
    case greedyRun
    /// The same without giving back.
    case possessiveRun
    /// The same, as few as possible.
    case lazyRun
    /// Go on at the next step, and if that fails at `a`. `b` and `c`: which bytes may come first on either way; -1: any.
    case split
    /// Go on at `a`.
    case jump
    /// The anchor `a`.
    case anchor
    /// The steps up to `accept` must match here (`b` = 0) or must not (`b` = 1); go on at `a` without moving.
    case look
    /// The steps up to `accept` match here in the first way they can; go on at `a` behind them.
    case atomic
    /// Remember in register `a` where a round begins.
    case mark
    /// Leave the loop for `b` when the round that began at register `a` was empty.
    case leaveIfEmpty
    /// The end of the program or of a part of it.
    case accept
  }

  var operation: Operation
  var a: Int32 = 0
  var b: Int32 = 0
  var c: Int32 = 0
}

/// A set of bytes.
struct ByteSet: Equatable, Sendable {
  var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

  static let all = ByteSet(words: (.max, .max, .max, .max))

  /// The bytes that the UTF-8 of the scalars of a set begins with.
  init(leading set: ScalarSet) {
    for range in set.ranges {
      var value = range.lowerBound
      while value <= range.upperBound {
        var bytes: [UInt8] = []
        UTF8Text.append(value, to: &bytes)
        insert(bytes[0])
        // The next scalar that begins with another byte.
        let shift: UInt32 = value < 0x80 ? 0 : value < 0x800 ? 6 : value < 0x10000 ? 12 : 18
        value = (value >> shift + 1) << shift
      }
    }
  }

  init(words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)) { self.words = words }

  mutating func insert(_ byte: UInt8) {
    let bit = UInt64(1) << UInt64(byte & 63)
    switch byte >> 6 {
    case 0: words.0 |= bit
    case 1: words.1 |= bit
    case 2: words.2 |= bit
    default: words.3 |= bit
    }
  }

  func union(_ other: ByteSet) -> ByteSet {
    ByteSet(
      words: (
        words.0 | other.words.0, words.1 | other.words.1, words.2 | other.words.2, words.3 | other.words.3
      ))
  }

  static func == (a: ByteSet, b: ByteSet) -> Bool { a.words == b.words }
}

/// A compiled regular expression.
struct PatternProgram: Sendable {
  private(set) var instructions: [PatternInstruction] = []
  private(set) var bitmaps = ScalarBitmaps()
  /// 256 flags for each set of first bytes.
  private(set) var firstBytes: [Bool] = []
  private(set) var registerCount = 0
  /// The set of bytes that a match can begin with, as a number in `firstBytes`; -1 when it may be empty.
  private(set) var start: Int32 = -1
  private var firstSets: [ByteSet] = []

  /// The most instructions of a program; the longest published pattern has about a hundred.
  private static let limit = 20_000

  /// Compiles a tree.
  init(_ node: PatternNode) throws(PatternError) {
    try emit(node)
    try append(.accept)
    let first = Self.first(node)
    if !first.isEmptyPossible { start = number(first.bytes) }
  }

  private mutating func append(
    _ operation: PatternInstruction.Operation, _ a: Int32 = 0, _ b: Int32 = 0, _ c: Int32 = 0
  ) throws(PatternError) {
    guard instructions.count < Self.limit else {
      throw PatternError(problem: "more than \(Self.limit) steps", unsupported: true)
    }
    instructions.append(PatternInstruction(operation: operation, a: a, b: b, c: c))
  }

  private var here: Int32 { Int32(instructions.count) }

  private mutating func bitmap(_ set: ScalarSet) throws(PatternError) -> Int32 {
    guard let place = bitmaps.add(set) else {
      throw PatternError(problem: "too many different classes", unsupported: true)
    }
    return Int32(place)
  }

  private mutating func number(_ bytes: ByteSet) -> Int32 {
    if let known = firstSets.firstIndex(of: bytes) { return Int32(known) }
    firstSets.append(bytes)
    for byte in 0..<256 {
      let words = [bytes.words.0, bytes.words.1, bytes.words.2, bytes.words.3]
      firstBytes.append(words[byte >> 6] >> UInt64(byte & 63) & 1 == 1)
    }
    return Int32(firstSets.count - 1)
  }

  private mutating func emit(_ node: PatternNode) throws(PatternError) {
    switch node {
    case .set(let set):
      if set.count == 1, let value = set.ranges.first?.lowerBound {
        var bytes: [UInt8] = []
        UTF8Text.append(value, to: &bytes)
        for byte in bytes { try append(.byte, Int32(byte)) }
      } else {
        try append(.set, try bitmap(set))
      }
    case .sequence(let nodes):
      for node in nodes { try emit(node) }
    case .choice(let branches): try emitChoice(branches)
    case .repeated(let body, let minimum, let maximum, let mode):
      if case .set(let set) = body {
        let operation: PatternInstruction.Operation =
          switch mode {
          case .greedy: .greedyRun
          case .lazy: .lazyRun
          case .possessive: .possessiveRun
          }
        try append(operation, try bitmap(set), Int32(minimum), maximum.map(Int32.init) ?? .max)
      } else if mode == .possessive {
        try emitPart(.atomic) { (program) throws(PatternError) in
          try program.emitLoop(body, minimum, maximum, lazy: false)
        }
      } else {
        try emitLoop(body, minimum, maximum, lazy: mode == .lazy)
      }
    case .look(let body, let negative):
      try emitPart(.look, negative ? 1 : 0) { (program) throws(PatternError) in try program.emit(body) }
    case .atomic(let body):
      try emitPart(.atomic) { (program) throws(PatternError) in try program.emit(body) }
    case .anchor(let anchor): try append(.anchor, anchor.rawValue)
    }
  }

  /// A part with an end of its own, matched apart from what follows.
  private mutating func emitPart(
    _ operation: PatternInstruction.Operation, _ b: Int32 = 0,
    _ body: (inout PatternProgram) throws(PatternError) -> Void
  ) throws(PatternError) {
    let place = instructions.count
    try append(operation, 0, b)
    try body(&self)
    try append(.accept)
    instructions[place].a = here
  }

  private mutating func emitChoice(_ branches: [PatternNode]) throws(PatternError) {
    var exits: [Int] = []
    for (index, branch) in branches.enumerated() {
      guard index < branches.count - 1 else {
        try emit(branch)
        break
      }
      let split = instructions.count
      let rest = branches[(index + 1)...].map(Self.first)
      let second = First(
        bytes: rest.reduce(ByteSet()) { $0.union($1.bytes) },
        isEmptyPossible: rest.contains { $0.isEmptyPossible })
      try append(.split, 0, firsts(Self.first(branch)), firsts(second))
      try emit(branch)
      exits.append(instructions.count)
      try append(.jump)
      instructions[split].a = here
    }
    for exit in exits { instructions[exit].a = here }
  }

  private mutating func firsts(_ first: First) -> Int32 { first.isEmptyPossible ? -1 : number(first.bytes) }

  private mutating func emitLoop(
    _ body: PatternNode, _ minimum: Int, _ maximum: Int?, lazy: Bool
  ) throws(PatternError) {
    let first = Self.first(body)
    for _ in 0..<minimum { try emit(body) }
    var exits: [Int] = []
    func leave(_ program: inout PatternProgram) throws(PatternError) {
      let enter = program.firsts(first)
      exits.append(program.instructions.count)
      try program.append(.split, 0, lazy ? -1 : enter, -1)
    }
    if let maximum {
      // Each optional round stands behind the one before it.
      for _ in minimum..<max(minimum, maximum) {
        try leave(&self)
        if lazy { try skip(&exits) }
        try emit(body)
      }
    } else {
      let top = here
      try leave(&self)
      if lazy { try skip(&exits) }
      if first.isEmptyPossible {
        let register = Int32(registerCount)
        registerCount += 1
        try append(.mark, register)
        try emit(body)
        exits.append(instructions.count)
        try append(.leaveIfEmpty, register)
      } else {
        try emit(body)
      }
      try append(.jump, top)
    }
    for exit in exits {
      if instructions[exit].operation == .leaveIfEmpty {
        instructions[exit].b = here
      } else {
        instructions[exit].a = here
      }
    }
  }

  /// Swaps the ways of the split just emitted: the first leaves the loop by a jump, the second continues here.
  private mutating func skip(_ exits: inout [Int]) throws(PatternError) {
    let split = instructions.count - 1
    exits[exits.count - 1] = instructions.count
    try append(.jump)
    instructions[split].a = here
  }

  // MARK: what a match begins with

  private struct First {
    var bytes = ByteSet()
    var isEmptyPossible = false
  }

  private static func first(_ node: PatternNode) -> First {
    switch node {
    case .set(let set): return First(bytes: ByteSet(leading: set))
    case .sequence(let nodes):
      var out = First(isEmptyPossible: true)
      for node in nodes where out.isEmptyPossible {
        let next = first(node)
        out = First(bytes: out.bytes.union(next.bytes), isEmptyPossible: next.isEmptyPossible)
      }
      return out
    case .choice(let branches):
      return branches.map(first).reduce(First()) {
        First(bytes: $0.bytes.union($1.bytes), isEmptyPossible: $0.isEmptyPossible || $1.isEmptyPossible)
      }
    case .repeated(let body, let minimum, let maximum, _):
      let inner = first(body)
      if maximum == 0 { return First(isEmptyPossible: true) }
      return First(bytes: inner.bytes, isEmptyPossible: inner.isEmptyPossible || minimum == 0)
    case .atomic(let body): return first(body)
    case .look, .anchor: return First(isEmptyPossible: true)
    }
  }
}
