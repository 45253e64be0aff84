// JSON as headers and configurations need it: key order and byte offsets kept, duplicate keys refused, depth and size
// bounded, numbers told apart from fractions. Source of the grammar: RFC 8259.

/// A JSON value and the byte where it starts.
package struct JSON: Sendable {
  /// What the value is.
  package enum Content: Sendable {
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
  package let content: Content
  /// The byte where it starts, counted from the start of the scanned bytes; 0 for values made by a program.
  package let offset: Int

  /// A value made by a program or a scanner.
  package init(_ content: Content, offset: Int = 0) {
    self.content = content
    self.offset = offset
  }

  /// The object, if it is one.
  package var object: JSONObject? { if case .object(let object) = content { object } else { nil } }
  /// The list, if it is one.
  package var array: [JSON]? { if case .array(let array) = content { array } else { nil } }
  /// The string, if it is one.
  package var string: String? { if case .string(let string) = content { string } else { nil } }
  /// The truth value, if it is one.
  package var bool: Bool? { if case .bool(let bool) = content { bool } else { nil } }
  /// The whole number, if it is one; a fraction-free `4.0` or `1e3` counts.
  package var integer: Int? {
    switch content {
    case .integer(let integer): integer
    case .number(let number): Int(exactly: number)
    default: nil
    }
  }
  /// The number, whole or not.
  package var double: Double? {
    switch content {
    case .integer(let integer): Double(integer)
    case .number(let number): number
    default: nil
    }
  }
  /// Whether it is `null`.
  package var isNull: Bool { if case .null = content { true } else { false } }
  /// The member of an object, or nil.
  package subscript(key: String) -> JSON? { object?[key] }

  /// The kind in words, for messages.
  package var kind: String {
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
package struct JSONObject: Sendable {
  /// The keys in file order.
  package private(set) var keys: [String] = []
  /// The values in the order of the keys.
  package private(set) var values: [JSON] = []
  /// Where each key stands; kept only when a linear search would be slow.
  private var places: [ExactKey: Int] = [:]

  /// A key compared byte by byte: Swift's strings hold `é` in one scalar or two for equal, files do not.
  private struct ExactKey: Hashable {
    var key: String

    static func == (a: ExactKey, b: ExactKey) -> Bool {
      // Their length tells nearly all keys apart.
      a.key.utf8.count == b.key.utf8.count && a.key.utf8.elementsEqual(b.key.utf8)
    }

    func hash(into hasher: inout Hasher) {
      var copy = key
      // SAFETY: lent for the call; the hasher keeps no address.
      copy.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
  }

  /// As many keys are looked for one after the other: an entry of a ledger has a dozen, and there are a hundred thousand of them.
  private static let few = 16

  /// An empty map.
  package init() {}

  /// A map of known members. Keys must differ.
  package init(_ members: [(String, JSON)]) {
    for (key, value) in members {
      let added = append(key, value)
      precondition(added, "the key '\(key)' appears twice")
    }
  }

  /// The number of members.
  package var count: Int { keys.count }

  /// The value of a key, or nil.
  package subscript(key: String) -> JSON? { place(key).map { values[$0] } }

  /// Adds a member at the end; false when the key is there already.
  package mutating func append(_ key: String, _ value: JSON) -> Bool {
    if keys.count < JSONObject.few {
      guard place(key) == nil else { return false }
    } else {
      if keys.count == JSONObject.few {
        for (index, key) in keys.enumerated() { places[ExactKey(key: key)] = index }
      }
      if let place = places.updateValue(keys.count, forKey: ExactKey(key: key)) {
        places[ExactKey(key: key)] = place
        return false
      }
    }
    keys.append(key)
    values.append(value)
    return true
  }

  private func place(_ key: String) -> Int? {
    keys.count > JSONObject.few
      ? places[ExactKey(key: key)] : keys.firstIndex { ExactKey(key: $0) == ExactKey(key: key) }
  }
}

/// Why bytes are not the JSON that was asked for.
package struct JSONError: Error, Sendable, Hashable {
  /// The kind of trouble, so that each format can use its own code.
  package enum Kind: Sendable, Hashable {
    /// Not JSON, or not UTF-8.
    case syntax
    /// A key appears twice in one object.
    case duplicateKey
    /// Too deep or too many values.
    case limit
  }
  /// The kind of trouble.
  package let kind: Kind
  /// The byte where it starts.
  package let offset: Int
  /// What was found and expected.
  package let problem: String
}

/// How much JSON is accepted.
package struct JSONLimits: Sendable {
  /// The deepest nesting; the outermost value has depth 1.
  package var depth: Int
  /// The most members and elements altogether.
  package var values: Int

  /// Whether NaN, Infinity and -Infinity are numbers, as Python's module json writes them.
  package var allowsNonFinite: Bool

  /// Limits of a caller's choice.
  package init(depth: Int = 64, values: Int = 4_000_000, allowsNonFinite: Bool = false) {
    self.depth = depth
    self.values = values
    self.allowsNonFinite = allowsNonFinite
  }
}

extension JSON {
  /// Scans one JSON value with nothing but white space around it.
  /// - Complexity: linear in the number of bytes.
  package static func scan(_ bytes: Bytes, limits: JSONLimits = JSONLimits()) throws(JSONError) -> JSON {
    try bytes.withUnsafeBytes { (buffer) throws(JSONError) in
      var scanner = JSONScanner(bytes: buffer, limits: limits)
      return try scanner.document()
    }
  }

  /// Scans one object and hands over its members one at a time, so that a header of many members is never held as a
  /// tree. The limit of values counts for each member alone. A key that appears twice at the outermost level is
  /// handed over twice: the caller, who keeps the keys, refuses it.
  /// - Parameter known: takes a value of a form that the caller knows from its bytes, before it is made a tree: given the bytes and
  ///   the first of the value, it returns the byte behind it, between that one and the end. Nil leaves the value to `member`.
  /// - Throws: `JSONError`, or what `member` and `known` throw; `keyOffset` is the byte of the key's opening quote.
  package static func scanMembers(
    _ bytes: Bytes, limits: JSONLimits = JSONLimits(),
    known: (_ key: String, _ keyOffset: Int, _ bytes: UnsafeRawBufferPointer, _ start: Int) throws -> Int? = {
      _, _, _, _ in nil
    },
    member: (_ key: String, _ keyOffset: Int, _ value: JSON) throws -> Void
  ) throws {
    try bytes.withUnsafeBytes { buffer in
      var scanner = JSONScanner(bytes: buffer, limits: limits)
      try scanner.documentMembers(known, member)
    }
  }

  /// Scans one JSON value in a string.
  package static func scan(_ text: String, limits: JSONLimits = JSONLimits()) throws(JSONError) -> JSON {
    try scan(Bytes(Array(text.utf8)), limits: limits)
  }
}
