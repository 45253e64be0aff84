// Typed access to a quantization configuration.

import SmeltStorage

/// Typed access to a section of a quantization configuration.
struct QuantizationReader: Sendable {
  let json: JSON
  let file: String

  init(_ json: JSON, file: String) {
    self.json = json
    self.file = file
  }

  func error(_ key: String, _ problem: String) -> FormatError {
    FormatError(.configValue, file: file, subject: key, offset: json[key]?.offset ?? json.offset, problem)
  }

  func unsupported(_ key: String, _ found: String, _ supported: String) -> RequestError {
    RequestError(.unsupported, "'\(key)' is \(found) in '\(file)'", help: "supported: \(supported)")
  }

  /// The value of the first key that is neither absent nor null, with that key.
  func value(_ keys: String...) -> (key: String, value: JSON)? {
    for key in keys { if let value = json[key], !value.isNull { return (key, value) } }
    return nil
  }

  func integer(_ keys: String..., in range: ClosedRange<Int>) throws -> Int? {
    for key in keys {
      guard let value = json[key], !value.isNull else { continue }
      guard let integer = value.integer, range.contains(integer) else {
        throw error(
          key,
          "found \(value.integer.map(String.init) ?? value.kind), expected a whole number from \(range.lowerBound) to \(range.upperBound)"
        )
      }
      return integer
    }
    return nil
  }

  func bool(_ key: String, default fallback: Bool) throws -> Bool {
    guard let (_, value) = value(key) else { return fallback }
    guard let bool = value.bool else { throw error(key, "found \(value.kind), expected true or false") }
    return bool
  }

  func string(_ key: String) throws -> String? {
    guard let (_, value) = value(key) else { return nil }
    guard let string = value.string else { throw error(key, "found \(value.kind), expected a string") }
    return string
  }

  func strings(_ key: String) throws -> [String] {
    guard let (_, value) = value(key) else { return [] }
    guard let list = value.array else { throw error(key, "found \(value.kind), expected a list of strings") }
    return try list.map {
      guard let string = $0.string else { throw error(key, "holds \($0.kind), expected strings") }
      return string
    }
  }

  func object(_ key: String) throws -> QuantizationReader? {
    guard let (_, value) = value(key) else { return nil }
    guard value.object != nil else { throw error(key, "found \(value.kind), expected an object") }
    return QuantizationReader(value, file: file)
  }

  /// Two whole numbers from 1 to 65536, or nil when absent.
  func pair(_ key: String) throws -> (rows: Int, columns: Int)? {
    guard let (_, value) = value(key) else { return nil }
    guard let list = value.array, list.count == 2, let rows = list[0].integer, let columns = list[1].integer,
      (1...65536).contains(rows), (1...65536).contains(columns)
    else { throw error(key, "expected two whole numbers from 1 to 65536") }
    return (rows, columns)
  }
}
