// Whether bytes are UTF-8, and where they are not. Source of the ranges: The Unicode Standard, table 3-7.

/// Tells UTF-8 from other bytes.
package enum UTF8Check {
  // SAFETY: every index is compared with `count` before it is used: the buffer's own checks are gone in a release build.
  /// The place of the first byte that begins no well-formed character of UTF-8; nil when all do.
  /// - Complexity: linear; eight ASCII bytes at a time.
  package static func firstInvalid(_ bytes: UnsafeRawBufferPointer) -> Int? {
    var place = 0
    while place < bytes.count {
      if place + 8 <= bytes.count,
        bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self) & 0x8080_8080_8080_8080 == 0
      {
        place += 8
        continue
      }
      guard let length = length(bytes, place) else { return place }
      place += length
    }
    return nil
  }

  /// The place of the first NUL byte; nil if there is no such thing.
  package static func firstNUL(_ bytes: UnsafeRawBufferPointer) -> Int? { bytes.firstIndex(of: 0) }

  /// The length of the character at a place, or nil when none begins there.
  private static func length(_ bytes: UnsafeRawBufferPointer, _ place: Int) -> Int? {
    let lead = bytes[place]
    let length: Int
    var second: ClosedRange<UInt8> = 0x80...0xBF
    switch lead {
    case 0..<0x80: return 1
    case 0xC2...0xDF: length = 2
    case 0xE0: (length, second) = (3, 0xA0...0xBF)
    case 0xED: (length, second) = (3, 0x80...0x9F)  // no surrogates
    case 0xE1...0xEF: length = 3
    case 0xF0: (length, second) = (4, 0x90...0xBF)
    case 0xF1...0xF3: length = 4
    case 0xF4: (length, second) = (4, 0x80...0x8F)  // nothing above U+10FFFF
    default: return nil
    }
    guard place + length <= bytes.count, second.contains(bytes[place + 1]) else { return nil }
    for next in place + 2..<max(place + 2, place + length) where bytes[next] & 0xC0 != 0x80 { return nil }
    return length
  }
}
