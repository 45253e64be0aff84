// Protocol buffers as far as a SentencePiece file needs them: fields in any order, unknown ones skipped, every length checked
// against what is left. Source: the encoding page of the protocol buffers' documentation.

import SmeltStorage

/// Reads the fields of one message.
struct ProtobufReader {
  /// What a field holds.
  enum Value {
    case number(UInt64)
    case bits32(UInt32)
    case bits64(UInt64)
    /// The place of a string, of bytes or of a message inside.
    case bytes(Range<Int>)
  }

  private let bytes: [UInt8]
  private let file: String
  private var position: Int
  private let end: Int

  /// A reader of the message in `range` of `bytes`; the file's name is for messages.
  init(_ bytes: [UInt8], _ range: Range<Int>, file: String) {
    self.bytes = bytes
    self.file = file
    position = range.lowerBound
    end = range.upperBound
  }

  /// The next field: its number, its value and where it begins; nil at the end.
  /// - Throws: `TOK_VALUE` for a field that is cut short, longer than its message, or of no known kind.
  mutating func next() throws(FormatError) -> (field: UInt64, value: Value, offset: Int)? {
    guard position < end else { return nil }
    let start = position
    let key = try varint()
    let value: Value
    switch key & 7 {
    case 0: value = .number(try varint())
    case 1: value = .bits64(try fixed(8))
    case 2:
      let length = try varint()
      guard length <= UInt64(end - position) else {
        throw wrong(start, "found a field of \(length) bytes, expected at most \(end - position)")
      }
      value = .bytes(position..<(position + Int(length)))
      position += Int(length)
    case 5: value = .bits32(UInt32(truncatingIfNeeded: try fixed(4)))
    default: throw wrong(start, "found a field of wire type \(key & 7), expected 0, 1, 2 or 5")
    }
    guard key >> 3 > 0 else { throw wrong(start, "found field 0, expected one from 1 on") }
    return (key >> 3, value, start)
  }

  private mutating func varint() throws(FormatError) -> UInt64 {
    let start = position
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      guard position < end else { throw wrong(start, "found the end inside of a number") }
      let byte = bytes[position]
      position += 1
      guard shift < 63 || byte < 2 else { break }
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
    }
    throw wrong(start, "found a number of more than 64 bits")
  }

  private mutating func fixed(_ count: Int) throws(FormatError) -> UInt64 {
    guard count <= end - position else { throw wrong(position, "found the end inside of a number") }
    defer { position += count }
    return (0..<count).reduce(0) { $0 | UInt64(bytes[position + $1]) << UInt64(8 * $1) }
  }

  private func wrong(_ offset: Int, _ problem: String) -> FormatError {
    FormatError(.tokenizerValue, file: file, offset: offset, problem, help: "fetch \(file) again")
  }
}
