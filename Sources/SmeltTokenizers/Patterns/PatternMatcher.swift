// Runs a compiled pattern over UTF-8 bytes: a backtracking matcher with a stack of its own, so that neither a long text nor a
// long run costs depth. Runs of one set are one step with one entry on the stack, given back scalar by scalar.

/// A compiled pattern laid out for matching. Shared by all texts and threads; nothing in it changes.
package final class SplitPattern: @unchecked Sendable {
  // SAFETY: the four buffers are allocated and filled in `init`, never written again, and freed in `deinit`, so any thread may read
  // them. Operands are right by construction: `PatternProgram` numbers steps, sets and registers as it lays them out. A buffer of
  // no elements keeps its allocation's address, which is what is freed.
  fileprivate let instructions: UnsafeMutableBufferPointer<PatternInstruction>
  fileprivate let pages: UnsafeMutableBufferPointer<UInt16>
  fileprivate let words: UnsafeMutableBufferPointer<UInt64>
  fileprivate let firstBytes: UnsafeMutableBufferPointer<Bool>
  fileprivate let registerCount: Int
  fileprivate let start: Int32

  /// Lays out a tree.
  init(_ node: PatternNode) throws(PatternError) {
    let program = try PatternProgram(node)
    func copy<T>(_ array: [T]) -> UnsafeMutableBufferPointer<T> {
      let buffer = UnsafeMutableBufferPointer<T>.allocate(capacity: max(array.count, 1))
      _ = buffer.initialize(from: array)
      return UnsafeMutableBufferPointer(rebasing: buffer[..<array.count])
    }
    instructions = copy(program.instructions)
    pages = copy(program.bitmaps.pages)
    words = copy(program.bitmaps.words)
    firstBytes = copy(program.firstBytes)
    registerCount = program.registerCount
    start = program.start
  }

  /// Compiles a regular expression in Oniguruma's syntax.
  convenience init(regex: String) throws(PatternError) { try self.init(PatternParser.parse(regex)) }

  /// A text that stands for itself.
  package convenience init(text: String) throws(PatternError) { try self.init(PatternParser.literal(text)) }

  deinit {
    instructions.deallocate()
    pages.deallocate()
    words.deallocate()
    firstBytes.deallocate()
  }
}

extension SplitPattern: Equatable {
  /// Whether two patterns became the same program: `\p{N}` is `[\p{N}]`, and `\n` is the line feed itself.
  package static func == (a: SplitPattern, b: SplitPattern) -> Bool {
    a.start == b.start && a.registerCount == b.registerCount && a.instructions.elementsEqual(b.instructions)
      && a.pages.elementsEqual(b.pages) && a.words.elementsEqual(b.words)
  }
}

/// Finds the matches of one pattern; keeps its stack from text to text.
struct PatternMatcher {
  // SAFETY: `pattern` keeps the buffers behind `steps`, `pages`, `words` and `firstBytes` alive. `text` is read from `from` up to `end`
  // only, during `matches`, whose caller lends it; what is left of it afterwards is not read. A step's number comes from the program;
  // a scalar is at most U+10FFFF (`UTF8Text`), the last one of a set's pages.
  private struct Entry {
    enum Kind {
      /// Go on at `step` from `position`.
      case resume
      /// A greedy run that ends at `position` and may shrink to `low`; `step` follows it.
      case greedy
      /// A lazy run, instruction `step`, that ends at `position` and may take `low` scalars more.
      case lazy
      /// Register `step` had the value `position`.
      case register
    }
    var kind: Kind
    var step: Int32
    var position: Int
    var low: Int
  }

  private let pattern: SplitPattern
  private let steps: UnsafeMutablePointer<PatternInstruction>
  private let pages: UnsafeMutablePointer<UInt16>
  private let words: UnsafeMutablePointer<UInt64>
  private let firstBytes: UnsafeMutablePointer<Bool>
  private var stack: [Entry] = []
  private var registers: [Int]
  private var text: UnsafePointer<UInt8>
  private var from = 0
  private var end = 0
  /// Backtracking steps since the search began at this place of the text, those inside of lookaheads among them.
  private var retries = 0
  /// What lookaheads and atomic groups came to, by step and position, once patience is over: the end, or -1.
  private var outcomes: [UInt64: Int] = [:]

  /// Backtracking steps after which tried places are remembered, so that no pattern takes exponential time: neither one
  /// that repeats repetitions nor one whose lookaheads hold such a one and lookaheads of their own.
  private static let patience = 10_000

  /// A matcher of a pattern.
  init(_ pattern: SplitPattern) {
    self.pattern = pattern
    steps = pattern.instructions.baseAddress!
    pages = pattern.pages.baseAddress!
    words = pattern.words.baseAddress!
    firstBytes = pattern.firstBytes.baseAddress!
    registers = [Int](repeating: -1, count: pattern.registerCount)
    // Stands in until the first text comes; never read.
    text = UnsafeRawPointer(pages).assumingMemoryBound(to: UInt8.self)
  }

  /// Calls `body` with every match in `range` of `text`, which is a text of its own for anchors and lookahead.
  /// An empty match right behind the match before it is passed over, as Oniguruma's iterator does.
  mutating func matches(
    in text: UnsafePointer<UInt8>, _ range: Range<Int>, _ body: (Range<Int>) -> Void
  ) {
    self.text = text
    from = range.lowerBound
    end = range.upperBound
    if !outcomes.isEmpty { outcomes = [:] }
    var position = from
    var last = -1
    while position <= end {
      guard let match = first(from: position) else { return }
      if match.isEmpty, match.lowerBound == last {
        position = last < end ? last + UTF8Text.scalar(text, last, end).length : end + 1
      } else {
        body(match)
        position = match.upperBound
        last = position
      }
    }
  }

  private mutating func first(from start: Int) -> Range<Int>? {
    var position = start
    let flags = pattern.start < 0 ? nil : firstBytes + Int(pattern.start) * 256
    while position <= end {
      if let flags {
        while position < end, !flags[Int(text[position])] { position += 1 }
        if position == end { return nil }
      }
      retries = 0
      let stop = run(0, position)
      if stop >= 0 { return position..<stop }
      if position == end { return nil }
      position += UTF8Text.scalar(text, position, end).length
    }
    return nil
  }

  @inline(__always)
  private func contains(_ set: Int32, _ value: UInt32) -> Bool {
    let page = Int(pages[Int(set) * ScalarBitmaps.pageCount + Int(value >> 8)])
    return words[page * 4 + Int(value >> 6 & 3)] >> UInt64(value & 63) & 1 == 1
  }

  /// Whether a match may begin at `position` with one of the bytes numbered `set`.
  @inline(__always)
  private func canBegin(_ set: Int32, _ position: Int) -> Bool {
    set < 0 || position < end && firstBytes[Int(set) * 256 + Int(text[position])]
  }

  /// The end of the part of the program that begins at `first`, matched at `start`; -1 when it does not match.
  private mutating func run(_ first: Int32, _ start: Int) -> Int {
    let base = stack.count
    var step = first
    var position = start
    var tried: Set<UInt64> = []
    while true {
      let instruction = steps[Int(step)]
      var matched = true
      switch instruction.operation {
      case .byte:
        if position < end, Int32(text[position]) == instruction.a { position += 1 } else { matched = false }
      case .set:
        if position < end {
          let scalar = UTF8Text.scalar(text, position, end)
          if contains(instruction.a, scalar.value) { position += scalar.length } else { matched = false }
        } else {
          matched = false
        }
      case .greedyRun, .possessiveRun:
        var count: Int32 = 0
        var low = instruction.b == 0 ? position : end + 1
        while position < end, count < instruction.c {
          let scalar = UTF8Text.scalar(text, position, end)
          guard contains(instruction.a, scalar.value) else { break }
          position += scalar.length
          count += 1
          if count == instruction.b { low = position }
        }
        if count < instruction.b {
          matched = false
        } else if instruction.operation == .greedyRun, position > low {
          stack.append(Entry(kind: .greedy, step: step + 1, position: position, low: low))
        }
      case .lazyRun:
        var count: Int32 = 0
        while position < end, count < instruction.b {
          let scalar = UTF8Text.scalar(text, position, end)
          guard contains(instruction.a, scalar.value) else { break }
          position += scalar.length
          count += 1
        }
        if count < instruction.b {
          matched = false
        } else if instruction.c > count {
          stack.append(
            Entry(kind: .lazy, step: step, position: position, low: Int(instruction.c - count)))
        }
      case .split:
        if canBegin(instruction.b, position) {
          if canBegin(instruction.c, position) {
            stack.append(Entry(kind: .resume, step: instruction.a, position: position, low: 0))
          }
        } else {
          step = instruction.a - 1
        }
      case .jump: step = instruction.a - 1
      case .anchor: matched = holds(instruction.a, position)
      case .look:
        matched = (nested(step + 1, position) >= 0) == (instruction.b == 0)
        step = instruction.a - 1
      case .atomic:
        let stop = nested(step + 1, position)
        matched = stop >= 0
        position = stop
        step = instruction.a - 1
      case .mark:
        let register = Int(instruction.a)
        stack.append(Entry(kind: .register, step: instruction.a, position: registers[register], low: 0))
        registers[register] = position
      case .leaveIfEmpty:
        if registers[Int(instruction.a)] == position { step = instruction.b - 1 }
      case .accept:
        if stack.count > base { stack.removeLast(stack.count - base) }
        return position
      }
      step += 1
      guard !matched else { continue }
      // Back to the last place with a way left that was not tried before.
      repeat {
        guard let way = giveBack(to: base) else { return -1 }
        (step, position) = way
        retries += 1
      } while retries > Self.patience && !tried.insert(UInt64(step) << 44 | UInt64(position)).inserted
    }
  }

  /// `run` for a lookahead or an atomic group. What it comes to depends on step and position alone.
  private mutating func nested(_ first: Int32, _ start: Int) -> Int {
    guard retries > Self.patience else { return run(first, start) }
    let place = UInt64(first) << 44 | UInt64(start)
    if let known = outcomes[place] { return known }
    let stop = run(first, start)
    outcomes[place] = stop
    return stop
  }

  /// The next way to try: a step and a position; nil when the stack is down to `base`.
  private mutating func giveBack(to base: Int) -> (Int32, Int)? {
    while stack.count > base {
      let top = stack.count - 1
      let entry = stack[top]
      switch entry.kind {
      case .resume:
        stack.removeLast()
        return (entry.step, entry.position)
      case .greedy:
        let position = UTF8Text.previous(text, entry.position, entry.low)
        if position > entry.low { stack[top].position = position } else { stack.removeLast() }
        return (entry.step, position)
      case .lazy:
        guard entry.position < end else {
          stack.removeLast()
          continue
        }
        let scalar = UTF8Text.scalar(text, entry.position, end)
        guard contains(steps[Int(entry.step)].a, scalar.value) else {
          stack.removeLast()
          continue
        }
        let position = entry.position + scalar.length
        if entry.low > 1 {
          stack[top].position = position
          stack[top].low -= 1
        } else {
          stack.removeLast()
        }
        return (entry.step + 1, position)
      case .register:
        registers[Int(entry.step)] = entry.position
        stack.removeLast()
      }
    }
    return nil
  }

  private func holds(_ anchor: Int32, _ position: Int) -> Bool {
    switch PatternNode.Anchor(rawValue: anchor) {
    case .lineStart: position == from || text[position - 1] == 0x0A && position < end
    case .lineEnd: position == end || text[position] == 0x0A
    case .textStart: position == from
    case .textEnd: position == end
    case .textEndOrNewline: position == end || position == end - 1 && text[position] == 0x0A
    case .wordEdge: isWord(before: position) != isWord(at: position)
    case .notWordEdge: isWord(before: position) == isWord(at: position)
    case nil: false
    }
  }

  private func isWord(at position: Int) -> Bool {
    position < end && UnicodeClasses.word.contains(UTF8Text.scalar(text, position, end).value)
  }

  private func isWord(before position: Int) -> Bool {
    position > from && isWord(at: UTF8Text.previous(text, position, from))
  }
}
