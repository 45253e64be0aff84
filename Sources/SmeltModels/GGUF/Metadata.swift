// The keys of a GGUF file as a family meets them: named values without a file behind them. Containers read and write
// them, families say what they mean.

package import SmeltStorage

/// One value of a GGUF file's metadata. Whole numbers of every width are one case, and floating-point numbers too: what
/// width is written is decided where they are written.
package enum MetadataValue: Sendable, Equatable {
  /// A text.
  case string(String)
  /// A whole number; written as u32, or as u64 where it needs more bits.
  case integer(Int)
  /// A floating-point number; written as f32.
  case number(Double)
  /// A truth value.
  case bool(Bool)
  /// A list of texts.
  case strings([String])
  /// A list of whole numbers; written as i32.
  case integers([Int])
  /// A list of floating-point numbers; written as f32.
  case numbers([Double])
  /// A list of truth values.
  case bools([Bool])

  /// What it is, in the words of a message.
  package var kind: String {
    switch self {
    case .string: "a string"
    case .integer: "a whole number"
    case .number: "a floating-point number"
    case .bool: "a truth value"
    case .strings: "a list of strings"
    case .integers: "a list of whole numbers"
    case .numbers: "a list of floating-point numbers"
    case .bools: "a list of truth values"
    }
  }
}

/// The metadata of a GGUF model: keys in the order of the file, each once.
package struct Metadata: Sendable {
  /// Keys and values in order.
  package private(set) var entries: [(key: String, value: MetadataValue)] = []
  /// The file's name, for messages.
  package let file: String
  private var places: [String: Int] = [:]
  private let offsets: [String: Int]

  /// No keys yet.
  /// - Parameter offsets: where each key stands in the file, for messages.
  package init(file: String, offsets: [String: Int] = [:]) {
    self.file = file
    self.offsets = offsets
  }

  /// The value of a key. Setting replaces it in its place, or adds it at the end; setting nil takes it out.
  package subscript(key: String) -> MetadataValue? {
    get { places[key].map { entries[$0].value } }
    set {
      if let place = places[key] {
        if let newValue {
          entries[place].value = newValue
        } else {
          entries.remove(at: place)
          places = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.key, $0) })
        }
      } else if let newValue {
        places[key] = entries.count
        entries.append((key, newValue))
      }
    }
  }

  /// A `CFG_VALUE` refusal of a key.
  package func error(_ key: String, _ problem: String) -> FormatError {
    FormatError(.configValue, file: file, subject: key, offset: offsets[key], problem)
  }

  /// A text, or nil when the key is absent.
  /// - Throws: `CFG_VALUE` for a value of another kind.
  package func string(_ key: String) throws(FormatError) -> String? {
    guard let value = self[key] else { return nil }
    guard case .string(let text) = value else { throw error(key, "found \(value.kind), expected a string") }
    return text
  }

  /// A whole number, or nil when the key is absent.
  /// - Throws: `CFG_VALUE` for a value of another kind.
  package func integer(_ key: String) throws(FormatError) -> Int? {
    guard let value = self[key] else { return nil }
    guard case .integer(let number) = value else {
      throw error(key, "found \(value.kind), expected a whole number")
    }
    return number
  }

  /// A number, or nil when the key is absent.
  /// - Throws: `CFG_VALUE` for a value of another kind.
  package func number(_ key: String) throws(FormatError) -> Double? {
    switch self[key] {
    case nil: return nil
    case .number(let number): return number
    case .integer(let number): return Double(number)
    case let value?: throw error(key, "found \(value.kind), expected a number")
    }
  }

  /// A truth value, or nil when the key is absent.
  /// - Throws: `CFG_VALUE` for a value of another kind.
  package func bool(_ key: String) throws(FormatError) -> Bool? {
    guard let value = self[key] else { return nil }
    guard case .bool(let flag) = value else {
      throw error(key, "found \(value.kind), expected a truth value")
    }
    return flag
  }

  /// A list of texts, or nil when the key is absent.
  /// - Throws: `CFG_VALUE` for a value of another kind.
  package func strings(_ key: String) throws(FormatError) -> [String]? {
    guard let value = self[key] else { return nil }
    guard case .strings(let list) = value else {
      throw error(key, "found \(value.kind), expected a list of strings")
    }
    return list
  }

  /// A list of whole numbers, or nil when the key is absent.
  /// - Throws: `CFG_VALUE` for a value of another kind.
  package func integers(_ key: String) throws(FormatError) -> [Int]? {
    guard let value = self[key] else { return nil }
    guard case .integers(let list) = value else {
      throw error(key, "found \(value.kind), expected a list of whole numbers")
    }
    return list
  }

  /// A list of numbers, or nil when the key is absent.
  /// - Throws: `CFG_VALUE` for a value of another kind.
  package func numbers(_ key: String) throws(FormatError) -> [Double]? {
    switch self[key] {
    case nil: return nil
    case .numbers(let list): return list
    case .integers(let list): return list.map(Double.init)
    case let value?: throw error(key, "found \(value.kind), expected a list of numbers")
    }
  }

  /// A list of truth values, or nil when the key is absent.
  /// - Throws: `CFG_VALUE` for a value of another kind.
  package func bools(_ key: String) throws(FormatError) -> [Bool]? {
    guard let value = self[key] else { return nil }
    guard case .bools(let list) = value else {
      throw error(key, "found \(value.kind), expected a list of truth values")
    }
    return list
  }
}
