// The scanner behind `JSON.scan`: one pass over bytes, depth and number of values bounded, every index checked.
// Source of the grammar: RFC 8259.

/// A recursive-descent scanner over bytes; every index is checked.
struct JSONScanner {
  // SAFETY: a scanner lives inside the closure that is lent the bytes (`JSON.scan`) and keeps no part of them: strings are copies.
  // `position` is at most `count`, and every index is compared with `count` before a byte is read.
  private let bytes: UnsafeRawBufferPointer
  private let limits: JSONLimits
  private var position = 0
  private var valueCount = 0

  init(bytes: UnsafeRawBufferPointer, limits: JSONLimits) {
    self.bytes = bytes
    self.limits = limits
  }

  mutating func document() throws(JSONError) -> JSON {
    skipSpace()
    let value = try value(depth: 1)
    skipSpace()
    guard position == bytes.count else { throw syntax("found more after the value, expected the end") }
    return value
  }

  /// Scans one object and hands its members over, first to `known`, then as trees to `member`; `valueCount` starts again with each.
  mutating func documentMembers(
    _ known: (String, Int, UnsafeRawBufferPointer, Int) throws -> Int?,
    _ member: (String, Int, JSON) throws -> Void
  ) throws {
    skipSpace()
    guard current == UInt8(ascii: "{") else { throw syntax("found \(shown(current)), expected '{'") }
    position += 1
    skipSpace()
    if current == UInt8(ascii: "}") {
      position += 1
    } else {
      repeat {
        skipSpace()
        let offset = position
        let key = try key()
        if let end = try known(key, offset, bytes, position) {
          precondition((position...bytes.count).contains(end), "a value ends at \(end)")
          position = end
          continue
        }
        valueCount = 0
        try member(key, offset, value(depth: 2))
      } while try continues(until: UInt8(ascii: "}"))
    }
    skipSpace()
    guard position == bytes.count else { throw syntax("found more after the value, expected the end") }
  }

  private func syntax(_ problem: String, at offset: Int? = nil) -> JSONError {
    JSONError(kind: .syntax, offset: offset ?? position, problem: problem)
  }

  private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

  private func shown(_ byte: UInt8?) -> String {
    guard let byte else { return "the end" }
    return byte >= 0x20 && byte < 0x7F
      ? "'\(Character(UnicodeScalar(byte)))'" : "byte 0x\(String(byte, radix: 16))"
  }

  private mutating func skipSpace() {
    while position < bytes.count, bytes[position] <= 0x20 {
      switch bytes[position] {
      case 0x20, 0x09, 0x0A, 0x0D: position += 1
      default: return
      }
    }
  }

  private func follows(_ text: StaticString) -> Bool {
    position + text.utf8CodeUnitCount <= bytes.count
      && (0..<text.utf8CodeUnitCount).allSatisfy { bytes[position + $0] == text.utf8Start[$0] }
  }

  private mutating func expect(_ text: StaticString) throws(JSONError) {
    let start = position
    for index in 0..<text.utf8CodeUnitCount {
      guard current == text.utf8Start[index] else { throw syntax("found no JSON value", at: start) }
      position += 1
    }
  }

  private mutating func value(depth: Int) throws(JSONError) -> JSON {
    guard depth <= limits.depth else {
      throw JSONError(kind: .limit, offset: position, problem: "nested deeper than \(limits.depth) levels")
    }
    valueCount += 1
    guard valueCount <= limits.values else {
      throw JSONError(kind: .limit, offset: position, problem: "more than \(limits.values) values")
    }
    let start = position
    switch current {
    case UInt8(ascii: "{"): return JSON(.object(try object(depth: depth)), offset: start)
    case UInt8(ascii: "["): return JSON(.array(try array(depth: depth)), offset: start)
    case UInt8(ascii: "\""): return JSON(.string(try string()), offset: start)
    case UInt8(ascii: "t"):
      try expect("true")
      return JSON(.bool(true), offset: start)
    case UInt8(ascii: "f"):
      try expect("false")
      return JSON(.bool(false), offset: start)
    case UInt8(ascii: "n"):
      try expect("null")
      return JSON(.null, offset: start)
    case UInt8(ascii: "N") where limits.allowsNonFinite:
      try expect("NaN")
      return JSON(.number(.nan), offset: start)
    case UInt8(ascii: "I") where limits.allowsNonFinite:
      try expect("Infinity")
      return JSON(.number(.infinity), offset: start)
    case UInt8(ascii: "-") where limits.allowsNonFinite && follows("-Infinity"):
      try expect("-Infinity")
      return JSON(.number(-.infinity), offset: start)
    case .some(let byte) where byte == UInt8(ascii: "-") || (0x30...0x39).contains(byte):
      return JSON(try number(), offset: start)
    default: throw syntax("found \(shown(current)), expected a value")
    }
  }

  private mutating func object(depth: Int) throws(JSONError) -> JSONObject {
    position += 1
    var object = JSONObject()
    skipSpace()
    if current == UInt8(ascii: "}") {
      position += 1
      return object
    }
    repeat {
      skipSpace()
      let keyOffset = position
      let key = try key()
      guard object.append(key, try value(depth: depth + 1)) else {
        throw JSONError(
          kind: .duplicateKey, offset: keyOffset, problem: "the key '\(excerpt(key))' appears twice")
      }
    } while try continues(until: UInt8(ascii: "}"))
    return object
  }

  /// A key and its colon.
  private mutating func key() throws(JSONError) -> String {
    guard current == UInt8(ascii: "\"") else { throw syntax("found \(shown(current)), expected a key") }
    let key = try string()
    skipSpace()
    guard current == UInt8(ascii: ":") else { throw syntax("found \(shown(current)), expected ':'") }
    position += 1
    skipSpace()
    return key
  }

  /// Whether a comma follows, or else the bracket that closes the list or the object.
  private mutating func continues(until close: UInt8) throws(JSONError) -> Bool {
    skipSpace()
    guard let byte = current, byte == UInt8(ascii: ",") || byte == close else {
      throw syntax("found \(shown(current)), expected ',' or '\(Character(UnicodeScalar(close)))'")
    }
    position += 1
    return byte != close
  }

  private mutating func array(depth: Int) throws(JSONError) -> [JSON] {
    position += 1
    var array: [JSON] = []
    skipSpace()
    if current == UInt8(ascii: "]") {
      position += 1
      return array
    }
    repeat {
      skipSpace()
      array.append(try value(depth: depth + 1))
    } while try continues(until: UInt8(ascii: "]"))
    return array
  }

  private mutating func number() throws(JSONError) -> JSON.Content {
    let start = position
    var whole = true
    if current == UInt8(ascii: "-") { position += 1 }
    let firstDigit = position
    try digits()
    if bytes[firstDigit] == UInt8(ascii: "0"), position - firstDigit > 1 {
      throw syntax("a number starts with 0", at: firstDigit)
    }
    if current == UInt8(ascii: ".") {
      whole = false
      position += 1
      try digits()
    }
    if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
      whole = false
      position += 1
      if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
      try digits()
    }
    let text = String(decoding: UnsafeRawBufferPointer(rebasing: bytes[start..<position]), as: UTF8.self)
    // Minus zero is a number of its own; as an integer it would lose its sign.
    if whole, text != "-0", let integer = Int(text) { return .integer(integer) }
    guard let number = Double(text) else {
      throw syntax("the number '\(excerpt(text))' cannot be read", at: start)
    }
    return .number(number)
  }

  private mutating func digits() throws(JSONError) {
    let start = position
    while let byte = current, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { position += 1 }
    guard position > start else { throw syntax("found \(shown(current)), expected a digit") }
  }

  private mutating func string() throws(JSONError) -> String {
    position += 1
    let start = position
    var seen: UInt8 = 0
    while position < bytes.count {
      let byte = bytes[position]
      if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte < 0x20 { break }
      seen |= byte
      position += 1
    }
    if current == UInt8(ascii: "\"") {
      if seen < 0x80 {  // every byte of ASCII is a character
        defer { position += 1 }
        return String(decoding: UnsafeRawBufferPointer(rebasing: bytes[start..<position]), as: UTF8.self)
      }
      let text = try utf8(UnsafeRawBufferPointer(rebasing: bytes[start..<position]), at: start)
      position += 1
      return text
    }
    var units = [UInt8](bytes[start..<position])
    while true {
      guard let byte = current else { throw syntax("the string has no end", at: start - 1) }
      switch byte {
      case UInt8(ascii: "\""):
        position += 1
        guard let text = String(validating: units, as: UTF8.self) else {
          throw syntax("the string is not UTF-8", at: start)
        }
        return text
      case UInt8(ascii: "\\"):
        position += 1
        try escape(into: &units)
      case 0..<0x20: throw syntax("a string holds an unescaped control character")
      default:
        units.append(byte)
        position += 1
      }
    }
  }

  private func utf8(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(JSONError) -> String {
    guard let text = String(validating: buffer, as: UTF8.self) else {
      throw syntax("the string is not UTF-8", at: offset)
    }
    return text
  }

  private mutating func escape(into units: inout [UInt8]) throws(JSONError) {
    guard let byte = current else { throw syntax("the string has no end") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): units.append(byte)
    case UInt8(ascii: "b"): units.append(0x08)
    case UInt8(ascii: "f"): units.append(0x0C)
    case UInt8(ascii: "n"): units.append(0x0A)
    case UInt8(ascii: "r"): units.append(0x0D)
    case UInt8(ascii: "t"): units.append(0x09)
    case UInt8(ascii: "u"):
      let first = try hex4()
      var code = UInt32(first)
      if (0xD800..<0xDC00).contains(first) {
        guard current == UInt8(ascii: "\\"), position + 1 < bytes.count,
          bytes[position + 1] == UInt8(ascii: "u")
        else { throw syntax("half a surrogate pair") }
        position += 2
        let second = try hex4()
        guard (0xDC00..<0xE000).contains(second) else { throw syntax("half a surrogate pair") }
        code = 0x10000 + (UInt32(first) - 0xD800) << 10 + (UInt32(second) - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw syntax("half a surrogate pair") }
      units.append(contentsOf: UTF8.encode(scalar)!)
    default: throw syntax("found the escape \(shown(byte)), expected one of \"\\/bfnrtu", at: position - 1)
    }
  }

  private mutating func hex4() throws(JSONError) -> UInt16 {
    guard position + 4 <= bytes.count else { throw syntax("the string has no end") }
    var result: UInt16 = 0
    for _ in 0..<4 {
      guard let digit = Character(UnicodeScalar(bytes[position])).hexDigitValue else {
        throw syntax("found \(shown(current)), expected a hexadecimal digit")
      }
      result = result << 4 | UInt16(digit)
      position += 1
    }
    return result
  }
}
