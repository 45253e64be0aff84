// JSON as headers and configurations need it: key order and byte offsets kept, duplicate keys refused, depth and size
// bounded, numbers told apart from fractions. Source of the grammar: RFC 8259.

/// A JSON value and the byte where it starts.
public struct JSON: Sendable {
  /// What the value is.
  public enum Content: Sendable {
    /// `null`
    case null
    /// `true` or `false`
    case bool(Bool)
    /// A number without fraction or exponent that fits in 64 bits.
    case integer(Int)
    /// Any other number.
    case number(Double)
    /// A string, escapes resolved.
    case string(String)
    /// A list.
    case array([JSON])
    /// A map with its keys in file order.
    case object(JSONObject)
  }

  /// What the value is.
  public let content: Content
  /// The byte where it starts, counted from the start of the scanned bytes; 0 for values made by a program.
  public let offset: Int

  /// A value made by a program or a scanner.
  public init(_ content: Content, offset: Int = 0) {
    self.content = content
    self.offset = offset
  }

  /// The object, if it is one.
  public var object: JSONObject? { if case .object(let object) = content { object } else { nil } }
  /// The list, if it is one.
  public var array: [JSON]? { if case .array(let array) = content { array } else { nil } }
  /// The string, if it is one.
  public var string: String? { if case .string(let string) = content { string } else { nil } }
  /// The truth value, if it is one.
  public var bool: Bool? { if case .bool(let bool) = content { bool } else { nil } }
  /// The whole number, if it is one; a fraction-free `4.0` or `1e3` counts.
  public var integer: Int? {
    switch content {
    case .integer(let integer): integer
    case .number(let number): Int(exactly: number)
    default: nil
    }
  }
  /// The number, whole or not.
  public var double: Double? {
    switch content {
    case .integer(let integer): Double(integer)
    case .number(let number): number
    default: nil
    }
  }
  /// Whether it is `null`.
  public var isNull: Bool { if case .null = content { true } else { false } }
  /// The member of an object, or nil.
  public subscript(key: String) -> JSON? { object?[key] }

  /// The kind in words, for messages.
  public var kind: String {
    switch content {
    case .null: "null"
    case .bool: "a truth value"
    case .integer: "a whole number"
    case .number: "a fractional number"
    case .string: "a string"
    case .array: "a list"
    case .object: "an object"
    }
  }
}

/// A map with its keys in order, each at most once.
public struct JSONObject: Sendable {
  /// The keys in file order.
  public private(set) var keys: [String] = []
  /// The values in the order of the keys.
  public private(set) var values: [JSON] = []
  /// Where each key stands; kept only when a linear search would be slow.
  private var places: [String: Int] = [:]

  /// An empty map.
  public init() {}

  /// A map of known members. Keys must differ.
  public init(_ members: [(String, JSON)]) {
    for (key, value) in members {
      let added = append(key, value)
      precondition(added, "the key '\(key)' stands twice")
    }
  }

  /// The number of members.
  public var count: Int { keys.count }

  /// The value of a key, or nil.
  public subscript(key: String) -> JSON? { place(key).map { values[$0] } }

  /// Adds a member at the end; false when the key is there already.
  public mutating func append(_ key: String, _ value: JSON) -> Bool {
    guard place(key) == nil else { return false }
    if keys.count == 8 { for (index, key) in keys.enumerated() { places[key] = index } }
    if keys.count >= 8 { places[key] = keys.count }
    keys.append(key)
    values.append(value)
    return true
  }

  private func place(_ key: String) -> Int? {
    keys.count > 8 ? places[key] : keys.firstIndex(of: key)
  }
}

/// Why bytes are not the JSON that was asked for.
public struct JSONError: Error, Sendable, Hashable {
  /// The kind of trouble, so that each format can use its own code.
  public enum Kind: Sendable, Hashable {
    /// Not JSON, or not UTF-8.
    case syntax
    /// A key stands twice in one object.
    case duplicateKey
    /// Too deep or too many values.
    case limit
  }
  /// The kind of trouble.
  public let kind: Kind
  /// The byte where it starts.
  public let offset: Int
  /// What was found and expected.
  public let problem: String
}

/// How much JSON is accepted.
public struct JSONLimits: Sendable {
  /// The deepest nesting; the outermost value has depth 1.
  public var depth: Int
  /// The most members and elements altogether.
  public var values: Int

  /// Limits of a caller's choice.
  public init(depth: Int = 64, values: Int = 4_000_000) {
    self.depth = depth
    self.values = values
  }
}

extension JSON {
  /// Scans one JSON value with nothing but white space around it.
  /// - Complexity: linear in the number of bytes.
  public static func scan(_ bytes: Bytes, limits: JSONLimits = JSONLimits()) throws(JSONError) -> JSON {
    try bytes.withUnsafeBytes { (buffer) throws(JSONError) in
      var scanner = JSONScanner(bytes: buffer, limits: limits)
      return try scanner.document()
    }
  }

  /// Scans one JSON value in a string.
  public static func scan(_ text: String, limits: JSONLimits = JSONLimits()) throws(JSONError) -> JSON {
    try scan(Bytes(Array(text.utf8)), limits: limits)
  }
}

/// A recursive-descent scanner over bytes; every index is checked.
private struct JSONScanner {
  let bytes: UnsafeRawBufferPointer
  let limits: JSONLimits
  var position = 0
  var valueCount = 0

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
    while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) { position += 1 }
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
    while true {
      skipSpace()
      let keyOffset = position
      guard current == UInt8(ascii: "\"") else { throw syntax("found \(shown(current)), expected a key") }
      let key = try string()
      skipSpace()
      guard current == UInt8(ascii: ":") else { throw syntax("found \(shown(current)), expected ':'") }
      position += 1
      skipSpace()
      guard object.append(key, try value(depth: depth + 1)) else {
        throw JSONError(kind: .duplicateKey, offset: keyOffset, problem: "the key '\(key)' stands twice")
      }
      skipSpace()
      switch current {
      case UInt8(ascii: ","): position += 1
      case UInt8(ascii: "}"):
        position += 1
        return object
      default: throw syntax("found \(shown(current)), expected ',' or '}'")
      }
    }
  }

  private mutating func array(depth: Int) throws(JSONError) -> [JSON] {
    position += 1
    var array: [JSON] = []
    skipSpace()
    if current == UInt8(ascii: "]") {
      position += 1
      return array
    }
    while true {
      skipSpace()
      array.append(try value(depth: depth + 1))
      skipSpace()
      switch current {
      case UInt8(ascii: ","): position += 1
      case UInt8(ascii: "]"):
        position += 1
        return array
      default: throw syntax("found \(shown(current)), expected ',' or ']'")
      }
    }
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
    if whole, let integer = Int(text) { return .integer(integer) }
    guard let number = Double(text) else { throw syntax("the number '\(text)' cannot be read", at: start) }
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
    while let byte = current, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 {
      position += 1
    }
    if current == UInt8(ascii: "\"") {
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
