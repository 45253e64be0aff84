// Metadata for tests of tokenizers, without a GGUF file.

import SmeltStorage
import SmeltTestSupport
import SmeltTokenizers
import Testing

@testable import SmeltModels

/// The value of a key as JSON writes it.
func metadataValue(_ json: JSON) -> MetadataValue? {
  switch json.content {
  case .string(let text): return .string(text)
  case .integer(let number): return .integer(number)
  case .number(let number): return .number(number)
  case .bool(let flag): return .bool(flag)
  case .array(let list):
    if list.allSatisfy({ $0.string != nil }) { return .strings(list.compactMap(\.string)) }
    if list.allSatisfy({ if case .integer = $0.content { true } else { false } }) {
      return .integers(list.compactMap(\.integer))
    }
    return .numbers(list.compactMap(\.double))
  default: return nil
  }
}

/// The metadata that an object of keys stands for.
func metadata(_ json: JSON?, file: String = "m.gguf") -> Metadata {
  var metadata = Metadata(file: file)
  guard let object = json?.object else { return metadata }
  for (key, value) in zip(object.keys, object.values) { metadata[key] = metadataValue(value) }
  return metadata
}

extension Metadata {
  /// The metadata that entries make.
  init(_ entries: GGUFTokenizer.Entries) {
    self.init(file: "m.gguf")
    for (key, value) in entries.entries { self[key] = value }
  }
}

/// The tokenizer that a GGUF file's keys stand for.
func tokenizer(from metadata: Metadata) throws -> Tokenizer {
  let files = try GGUFTokenizer.files(from: metadata)
  let json = try #require(files.first { $0.name == "tokenizer.json" })
  return try Tokenizer(json: json.bytes, file: json.name)
}
