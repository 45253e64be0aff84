// A little-endian cursor over bytes: every read names its field, and a read past the end is an error with an offset.

/// Reads numbers and strings in order; refuses to pass the end.
package struct ByteReader {
  private let bytes: Bytes
  private let file: String
  private let code: ErrorCode
  private let origin: Int
  /// The next byte, counted from the start of `bytes`.
  package private(set) var position = 0

  /// A cursor over `bytes`, which start at byte `origin` of `file`; a short read throws `code`.
  package init(_ bytes: Bytes, file: String, origin: Int = 0, code: ErrorCode) {
    self.bytes = bytes
    self.file = file
    self.origin = origin
    self.code = code
  }

  /// Bytes not read yet.
  package var remaining: Int { bytes.count - position }

  /// The place in the file of the next byte.
  package var offset: Int { origin + position }

  /// An error of the cursor's code at the next byte.
  package func error(_ field: String, _ problem: String) -> FormatError {
    FormatError(code, file: file, subject: field, offset: offset, problem)
  }

  /// The next `count` bytes, as a slice.
  package mutating func take(_ count: Int, _ field: String) throws(FormatError) -> Bytes {
    guard count >= 0, count <= remaining else {
      throw error(field, "needs \(count) bytes, \(remaining) are left")
    }
    defer { position += count }
    return bytes[position..<position + count]
  }

  /// The next number, little-endian.
  package mutating func number<T: FixedWidthInteger>(_ type: T.Type, _ field: String) throws(FormatError) -> T
  {
    // SAFETY: `take` gives exactly the number's bytes, or throws; the load needs no alignment.
    let slice = try take(MemoryLayout<T>.size, field)
    return slice.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(as: T.self)) }
  }

  /// The next 64-bit number as a size: at most 2^62.
  package mutating func size(_ field: String) throws(FormatError) -> Int {
    let value = try number(UInt64.self, field)
    guard value <= 1 << 62 else { throw error(field, "found \(value), expected at most 2^62") }
    return Int(value)
  }

  /// The next string: a 16-bit length and that many bytes of UTF-8.
  package mutating func string(_ field: String) throws(FormatError) -> String {
    let count = Int(try number(UInt16.self, field))
    let slice = try take(count, field)
    guard let text = slice.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }) else {
      throw error(field, "the text is not UTF-8")
    }
    return text
  }
}
