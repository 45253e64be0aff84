// UTF-8 by hand: one scalar forward, one scalar back, one scalar written. Safe on any bytes, exact on well-formed ones.

/// Steps over UTF-8 bytes.
enum UTF8Text {
  // SAFETY: `text` must hold the bytes up to `end` (from `low` on), with `position` inside. A scalar that would reach beyond `end` is
  // not read; bytes that are not UTF-8 give a value of at most `ScalarSet.last`, so that tables over scalars are never left.
  /// The bytes with every ill-formed part replaced by U+FFFD (one for each maximal subpart, as Python's
  /// `errors="replace"` does).
  static func repaired(_ bytes: [UInt8]) -> [UInt8] {
    Array(String(decoding: bytes, as: UTF8.self).utf8)
  }

  /// The scalar at `position`, which lies before `end`, and its number of bytes. Ill-formed bytes count as U+FFFD, one
  /// at a time.
  @inline(__always)
  static func scalar(
    _ text: UnsafePointer<UInt8>, _ position: Int, _ end: Int
  ) -> (value: UInt32, length: Int) {
    let lead = UInt32(text[position])
    if lead < 0x80 { return (lead, 1) }
    if lead < 0xE0 {
      guard lead >= 0xC0, position + 2 <= end else { return (0xFFFD, 1) }
      return ((lead & 0x1F) << 6 | UInt32(text[position + 1] & 0x3F), 2)
    }
    if lead < 0xF0 {
      guard position + 3 <= end else { return (0xFFFD, 1) }
      return (
        (lead & 0x0F) << 12 | UInt32(text[position + 1] & 0x3F) << 6 | UInt32(text[position + 2] & 0x3F), 3
      )
    }
    guard position + 4 <= end else { return (0xFFFD, 1) }
    let value =
      (lead & 0x07) << 18 | UInt32(text[position + 1] & 0x3F) << 12 | UInt32(text[position + 2] & 0x3F) << 6
      | UInt32(text[position + 3] & 0x3F)
    return (min(value, ScalarSet.last), 4)
  }

  /// Where the scalar before `position` starts; never before `low`.
  @inline(__always)
  static func previous(_ text: UnsafePointer<UInt8>, _ position: Int, _ low: Int) -> Int {
    var start = position - 1
    while start > low, text[start] & 0xC0 == 0x80 { start -= 1 }
    return start
  }

  /// Appends one scalar.
  static func append(_ value: UInt32, to out: inout [UInt8]) {
    switch value {
    case 0..<0x80: out.append(UInt8(value))
    case 0x80..<0x800:
      out.append(UInt8(0xC0 | value >> 6))
      out.append(UInt8(0x80 | value & 0x3F))
    case 0x800..<0x10000:
      out.append(UInt8(0xE0 | value >> 12))
      out.append(UInt8(0x80 | value >> 6 & 0x3F))
      out.append(UInt8(0x80 | value & 0x3F))
    default:
      out.append(UInt8(0xF0 | value >> 18 & 0x07))
      out.append(UInt8(0x80 | value >> 12 & 0x3F))
      out.append(UInt8(0x80 | value >> 6 & 0x3F))
      out.append(UInt8(0x80 | value & 0x3F))
    }
  }
}
