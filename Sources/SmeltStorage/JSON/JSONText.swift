// JSON values made by a program, and their text.

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  /// A string.
  package init(stringLiteral value: String) { self.init(.string(value)) }
  /// A whole number.
  package init(integerLiteral value: Int) { self.init(.integer(value)) }
  /// A number.
  package init(floatLiteral value: Double) { self.init(.number(value)) }
  /// A truth value.
  package init(booleanLiteral value: Bool) { self.init(.bool(value)) }
  /// A list.
  package init(arrayLiteral elements: JSON...) { self.init(.array(elements)) }
  /// An object with its keys in the order written.
  package init(dictionaryLiteral elements: (String, JSON)...) { self.init(.object(JSONObject(elements))) }

  /// A string.
  package init(_ value: String) { self.init(.string(value)) }
  /// A string, or null.
  package init(_ value: String?) { self.init(value.map { .string($0) } ?? .null) }
  /// A whole number.
  package init(_ value: Int) { self.init(.integer(value)) }
  /// A number; not-a-number and infinities become null, since JSON has none.
  package init(_ value: Double) { self.init(value.isFinite ? .number(value) : .null) }
  /// A truth value.
  package init(_ value: Bool) { self.init(.bool(value)) }
  /// A list.
  package init(_ values: [JSON]) { self.init(.array(values)) }
  /// An object with its keys in the order given. Keys must differ.
  package init(members: [(String, JSON)]) { self.init(.object(JSONObject(members))) }

  /// The text of the value, in one line or indented by two spaces a level. Numbers are the shortest text that reads
  /// back as the same value.
  package func text(indented: Bool = false) -> String {
    var out = ""
    write(into: &out, indented: indented, level: 0) { _ in }
    return out
  }

  /// Hands the same text over in pieces of about a megabyte: of a hundred thousand tensors it is never there at once.
  package func forEachPiece(indented: Bool, _ body: (String) throws -> Void) rethrows {
    var out = ""
    try write(into: &out, indented: indented, level: 0) { text in
      guard text.utf8.count >= 1 << 20 else { return }
      try body(text)
      text = ""
    }
    try body(out)
  }

  /// - Parameter grown: called behind each element, may take what there is so far.
  private func write(
    into out: inout String, indented: Bool, level: Int, _ grown: (inout String) throws -> Void
  ) rethrows {
    switch content {
    case .null: out += "null"
    case .bool(let bool): out += bool ? "true" : "false"
    case .integer(let integer): out += String(integer)
    // A number too large for a Double was read as infinite, and reads back as that, in JSON as Python's module json has it too, which
    // alone has a word for what is no number.
    case .number(let number):
      out += number.isFinite ? "\(number)" : number.isNaN ? "NaN" : number < 0 ? "-1e999" : "1e999"
    case .string(let string): JSON.quote(string, into: &out)
    case .array(let array):
      let flat = !indented || array.allSatisfy(\.isSingle)
      out += "["
      for index in array.indices {
        if index > 0 { out += flat && indented ? ", " : "," }
        if !flat { JSON.newLine(level + 1, &out) }
        try array[index].write(into: &out, indented: indented, level: level + 1, grown)
        try grown(&out)
      }
      if !flat && !array.isEmpty { JSON.newLine(level, &out) }
      out += "]"
    case .object(let object):
      out += "{"
      for index in 0..<object.count {
        if index > 0 { out += "," }
        if indented { JSON.newLine(level + 1, &out) }
        JSON.quote(object.keys[index], into: &out)
        out += indented ? ": " : ":"
        try object.values[index].write(into: &out, indented: indented, level: level + 1, grown)
        try grown(&out)
      }
      if indented && object.count > 0 { JSON.newLine(level, &out) }
      out += "}"
    }
  }

  /// Whether it is neither a list nor an object.
  private var isSingle: Bool {
    switch content {
    case .array, .object: false
    default: true
    }
  }

  private static func newLine(_ level: Int, _ out: inout String) {
    out += "\n"
    for _ in 0..<level { out += "  " }
  }

  private static func quote(_ string: String, into out: inout String) {
    var string = string
    // Nearly every text stands as it is.
    let isPlain = string.withUTF8 { utf8 in
      utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }
    }
    out += "\""
    guard !isPlain else {
      out += string
      out += "\""
      return
    }
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\r": out += "\\r"
      case "\t": out += "\\t"
      case "\u{0}"..<"\u{20}", "\u{7F}", "\u{2028}", "\u{2029}":
        let hex = String(scalar.value, radix: 16)
        out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: out.unicodeScalars.append(scalar)
      }
    }
    out += "\""
  }
}
