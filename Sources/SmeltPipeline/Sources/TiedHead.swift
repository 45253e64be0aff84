// An output head of its own beside embeddings that config.json ties: the embeddings again, or other numbers that the file
// wants to be used.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

/// What a head beside tied embeddings turned out to be.
struct TiedHead {
  /// The family that uses the head; nil where the head is the embeddings again.
  let family: (any ModelFamily)?
  /// All rows of the weights table, the head's too.
  let table: [WeightSpec]
  /// config.json as it is true of that family.
  let config: Bytes?
  /// What is worth saying.
  let notes: [FormatError]
  private let copies: Set<String>

  /// The rule for a head that is the embeddings again.
  static let copy = DropRule(
    "tied-head",
    "the output head holds the embeddings again, and tie_word_embeddings says that they are the head",
    prefixes: [])

  /// Looks for a head where the configuration ties the embeddings; nil if it does not, or if the source has no head. Both are read to
  /// the first difference.
  /// - Parameter join: the weight of a row of the family's table, or nil when its tensors are not there.
  init?(
    _ text: Bytes, _ config: JSON, file: String, _ tied: any ModelFamily,
    _ join: (WeightSpec) throws -> JoinedWeight?
  ) throws {
    guard let value = config["tie_word_embeddings"], value.bool == true,
      !tied.weights.contains(where: { $0.role == .outputHead })
    else { return nil }
    // A text that was put together from keys has no places, and says what the tensors say.
    let literal = value.offset..<value.offset + "true".utf8.count
    guard literal.upperBound <= text.count, text[literal].array == Array("true".utf8) else { return nil }
    let changed = text.array.replacingSubrange(literal, with: Array("false".utf8))
    let free = try ModelFamilies.family(of: try parseConfig(Bytes(changed), file: file), file: file)
    guard let headSpec = free.weights.first(where: { $0.role == .outputHead }),
      let tableSpec = free.weights.first(where: { $0.role == .embedding }), let head = try join(headSpec),
      let table = try join(tableSpec)
    else { return nil }
    self.table = free.weights
    if try TiedHead.isEqual(head, table) {
      (family, self.config, notes, copies) = (nil, nil, [], Set(head.tensors.map(\.name)))
      return
    }
    family = free
    self.config = Bytes(changed)
    copies = []
    notes = [
      FormatError(
        .configValue, file: file, subject: "tie_word_embeddings", offset: value.offset,
        "is true, but '\(head.name)' holds other numbers than the embeddings: it is used, and results say false",
        help: "nothing, if the head was trained for itself; else remove the tensor")
    ]
  }

  /// The rule that leaves a tensor of the head out, or nil.
  func rule(for tensor: String) -> DropRule? { copies.contains(tensor) ? TiedHead.copy : nil }

  /// Whether two weights hold the same numbers, however they are stored.
  private static func isEqual(_ a: JoinedWeight, _ b: JoinedWeight) throws -> Bool {
    defer {
      a.evict()
      b.evict()
    }
    let (x, y) = (try a.weight(), try b.weight())
    guard x.shape == y.shape else { return false }
    if x.encoding.name == y.encoding.name, zip(x.parts, y.parts).allSatisfy({ $0.dtype == $1.dtype }),
      zip(x.parts, y.parts).allSatisfy({ isEqual($0.bytes, $1.bytes) })
    {
      return true
    }
    // Plain numbers of one type differ where their bytes do, zeros of both signs apart.
    try x.validate()
    try y.validate()
    let width = x.columns
    let count = max(1, (4 << 20) / max(1, width))
    let (left, right) = (ByteBuffer(count: count * width * 4), ByteBuffer(count: count * width * 4))
    for first in stride(from: 0, to: x.rows, by: count) {
      try Interrupt.check()
      let rows = first..<min(x.rows, first + count)
      // SAFETY: fresh memory for the decoded rows, bound to floats once
      guard let one = left.bytes.bindMemory(to: Float.self).baseAddress,
        let other = right.bytes.bindMemory(to: Float.self).baseAddress
      else { return true }
      x.encoding.decode(x, rows: rows, columns: 0..<width, into: one, stride: width)
      y.encoding.decode(y, rows: rows, columns: 0..<width, into: other, stride: width)
      for place in 0..<rows.count * width where one[place] != other[place] { return false }
    }
    return true
  }

  /// Byte by byte, a part at a time, to the first difference.
  private static func isEqual(_ a: Bytes, _ b: Bytes) -> Bool {
    guard a.count == b.count else { return false }
    for start in stride(from: 0, to: a.count, by: 1 << 20) {
      let range = start..<min(a.count, start + (1 << 20))
      let isSame = a[range].withUnsafeBytes { x in b[range].withUnsafeBytes { y in x.elementsEqual(y) } }
      if !isSame { return false }
    }
    return true
  }
}

extension [UInt8] {
  fileprivate func replacingSubrange(_ range: Range<Int>, with bytes: [UInt8]) -> [UInt8] {
    self[..<range.lowerBound] + bytes + self[range.upperBound...]
  }
}
