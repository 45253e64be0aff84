// Reading config.json: every value with its range, every refusal with its key and byte.

package import SmeltStorage

/// Typed, bounded access to the keys of a configuration.
package struct ConfigReader {
  /// The object.
  package let json: JSON
  /// The file's name for messages.
  package let file: String

  /// A reader of an object.
  package init(_ json: JSON, file: String) {
    self.json = json
    self.file = file
  }

  /// A `CFG_VALUE` error about a key.
  package func error(_ key: String, _ problem: String) -> FormatError {
    FormatError(.configValue, file: file, subject: key, offset: json[key]?.offset ?? json.offset, problem)
  }

  /// The value of a key that is neither absent nor null.
  package func value(_ key: String) -> JSON? {
    guard let value = json[key], !value.isNull else { return nil }
    return value
  }

  /// A whole number between bounds that other values of the file set. Absent: the default, or an error without one. Bounds that
  /// leave no number are an error too, never a range that is upside down.
  package func integer(_ key: String, from low: Int, to high: Int, default fallback: Int? = nil)
    throws(FormatError) -> Int
  {
    guard low <= high else {
      throw error(key, "must be from \(low) to \(high) by the other values, which no number is")
    }
    return try integer(key, in: low...high, default: fallback)
  }

  /// A whole number within a range of literals. Absent: the default, or an error without one.
  package func integer(_ key: String, in range: ClosedRange<Int>, default fallback: Int? = nil)
    throws(FormatError)
    -> Int
  {
    guard let value = value(key) else {
      guard let fallback else { throw error(key, "is missing, expected \(text(range))") }
      return fallback
    }
    guard let integer = value.integer else {
      throw error(key, "found \(ConfigReader.noInteger(value)), expected \(text(range))")
    }
    guard range.contains(integer) else { throw error(key, "found \(integer), expected \(text(range))") }
    return integer
  }

  /// What was found where a whole number was expected: a number beyond 64 bits is shown, it is no fraction.
  private static func noInteger(_ value: JSON) -> String {
    guard let number = value.double, abs(number) >= 0x1p63 else { return value.kind }
    return "\(number)"
  }

  /// A finite number within a range. Absent: the default, or an error without one.
  package func number(_ key: String, in range: ClosedRange<Double>, default fallback: Double? = nil)
    throws(FormatError) -> Double
  {
    guard let value = value(key) else {
      guard let fallback else { throw error(key, "is missing, expected a number") }
      return fallback
    }
    guard let number = value.double else { throw error(key, "found \(value.kind), expected a number") }
    guard range.contains(number) else {
      throw error(key, "found \(number), expected \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  /// A truth value. Absent: the default. null counts as false in the frameworks, also where true is what goes without saying: that
  /// contradiction is an error.
  package func bool(_ key: String, default fallback: Bool) throws(FormatError) -> Bool {
    guard let value = value(key) else {
      guard json[key] == nil || !fallback else {
        throw error(key, "found null, expected true or false, or no such key, which means true")
      }
      return fallback
    }
    guard let bool = value.bool else { throw error(key, "found \(value.kind), expected true or false") }
    return bool
  }

  /// A string, or nil when absent.
  package func string(_ key: String) throws(FormatError) -> String? {
    guard let value = value(key) else { return nil }
    guard let string = value.string else { throw error(key, "found \(value.kind), expected a string") }
    return string
  }

  /// A list of strings, or nil when absent.
  package func strings(_ key: String) throws(FormatError) -> [String]? {
    guard let list = try list(key) else { return nil }
    var strings: [String] = []
    for element in list {
      guard let string = element.string else { throw error(key, "holds \(element.kind), expected strings") }
      strings.append(string)
    }
    return strings
  }

  /// A list of whole numbers between bounds that other values of the file set, or nil when absent.
  package func integers(_ key: String, from low: Int, to high: Int) throws(FormatError) -> [Int]? {
    guard low <= high else {
      throw error(key, "must hold numbers from \(low) to \(high) by the other values, which no number is")
    }
    return try integers(key, in: low...high)
  }

  /// A list of whole numbers within a range of literals, or nil when absent.
  package func integers(_ key: String, in range: ClosedRange<Int>) throws(FormatError) -> [Int]? {
    guard let list = try list(key) else { return nil }
    var integers: [Int] = []
    for element in list {
      guard let integer = element.integer, range.contains(integer) else {
        throw error(key, "holds \(element.integer.map(String.init) ?? element.kind), expected \(text(range))")
      }
      integers.append(integer)
    }
    return integers
  }

  /// A list of finite numbers within a range, or nil when absent.
  package func numbers(_ key: String, in range: ClosedRange<Double>) throws(FormatError) -> [Double]? {
    guard let list = try list(key) else { return nil }
    var numbers: [Double] = []
    for element in list {
      guard let number = element.double else {
        throw error(key, "holds \(element.kind), expected numbers")
      }
      guard range.contains(number) else {
        throw error(key, "holds \(number), expected \(range.lowerBound) to \(range.upperBound)")
      }
      numbers.append(number)
    }
    return numbers
  }

  /// The object of a key, or nil when absent.
  package func object(_ key: String) throws(FormatError) -> ConfigReader? {
    guard let value = value(key) else { return nil }
    guard value.object != nil else { throw error(key, "found \(value.kind), expected an object") }
    return ConfigReader(value, file: file)
  }

  /// Refuses any value but the listed ones; absent is accepted.
  /// - Throws: `RequestError` unsupported.
  package func requireSupported(_ key: String, _ accepted: [String]) throws {
    guard let found = try string(key), !accepted.contains(found) else { return }
    throw RequestError(
      .unsupported, "'\(key)' is '\(found)' in '\(file)'",
      help: "supported: \(accepted.joined(separator: ", "))")
  }

  private func list(_ key: String) throws(FormatError) -> [JSON]? {
    guard let value = value(key) else { return nil }
    guard let list = value.array else { throw error(key, "found \(value.kind), expected a list") }
    return list
  }

  private func text(_ range: ClosedRange<Int>) -> String {
    range.upperBound == .max
      ? "a whole number of at least \(range.lowerBound)"
      : "a whole number from \(range.lowerBound) to \(range.upperBound)"
  }
}
