// A GGUF file's keys as families meet them, and back.

import SmeltContainers
import SmeltModels
import SmeltStorage

/// Keys that this program adds to those of llama.cpp, so that a file can become the checkpoint again that it was.
enum SmeltKey {
  /// The text of the source's config.json.
  static let config = "smelt.config"
  /// The dialect of the source's tensor names.
  static let dialect = "smelt.dialect"
  /// `tensor=DTYPE` for tensors that were stored as another type in the source, whose numbers they hold exactly.
  static let dtypes = "smelt.dtypes"
  /// What the file was made from, and how, as JSON text.
  static let provenance = "smelt.provenance"
  /// `smelt-errors.json`, where a method moved numbers on purpose.
  static let errors = "smelt.errors"
}

extension RecordedOrigin {
  /// What keys of a GGUF file say.
  init(_ metadata: Metadata) throws {
    self.init(
      provenance: try metadata.string(SmeltKey.provenance).flatMap { try? JSON.scan($0) },
      errors: try metadata.string(SmeltKey.errors).map { Bytes(Array($0.utf8)) })
  }
}

extension Metadata {
  /// The keys of a file, or those that `isWanted` takes: lists of a tokenizer are long, and few ask for them.
  init(_ file: GGUFFile, where isWanted: (String) -> Bool = { _ in true }) {
    let wanted = file.metadata.filter { isWanted($0.key) }
    self.init(
      file: fileName(file.path),
      offsets: Dictionary(uniqueKeysWithValues: wanted.map { ($0.key, file.place(ofKey: $0.key) ?? 0) }))
    for (key, value) in wanted { self[key] = MetadataValue(value) }
  }
}

extension MetadataValue {
  /// A float32 is read as the number with the fewest digits that rounds to it, as whoever wrote it had it.
  init(_ value: GGUFValue) {
    func number(_ float: Float) -> Double { Double(float.description) ?? Double(float) }
    switch value {
    case .f32(let float): self = .number(number(float))
    case .f64(let double): self = .number(double)
    case .bool(let bool): self = .bool(bool)
    case .string(let string): self = .string(string)
    case .array(let array):
      if let strings = array.strings {
        self = .strings(strings)
      } else if let bools = array.bools {
        self = .bools(bools)
      } else if let integers = array.integers {
        self = .integers(integers)
      } else {
        self = .numbers(
          array.values.map { if case .f32(let float) = $0 { number(float) } else { $0.float ?? .nan } })
      }
    default:
      // A whole number above 2^63 - 1 means nothing to any key that is read as one.
      self = value.integer.map { .integer($0) } ?? .number(.nan)
    }
  }

  /// Whether two values are stored alike.
  func isStored(as other: MetadataValue) -> Bool {
    func same(_ a: Double, _ b: Double) -> Bool { Float(a) == Float(b) }
    switch (self, other) {
    case (.number(let a), .number(let b)): return same(a, b)
    case (.number(let a), .integer(let b)), (.integer(let b), .number(let a)): return same(a, Double(b))
    case (.numbers(let a), .numbers(let b)): return a.count == b.count && zip(a, b).allSatisfy(same)
    default: return self == other
    }
  }
}
