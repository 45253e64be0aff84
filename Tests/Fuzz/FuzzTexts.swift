// JSON, and what is written in it: tokenizers and configurations.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTokenizers

/// A path in the repository, found from this file.
func repositoryFolder(_ path: String) -> String {
  let parts = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
  return parts.joined(separator: "/") + "/" + path
}

/// Texts that meet every kind of rule: words, runs, numbers, spaces, scripts, marks and bytes that are no UTF-8.
private let texts: [[UInt8]] = [
  Array("Hello, world! It's 2024: 1234567 tokens\r\n\n  and\ttabs   <s>[INST] end".utf8),
  Array("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab".utf8),
  Array("e\u{301}é \u{1F468}\u{200D}\u{1F469} 中文字 ½ \u{FB01} \u{3000}नमस्ते ΑΣ".utf8),
  [0xFF, 0x41, 0xC3, 0x28, 0xE2, 0x82, 0x20, 0xF0, 0x9F, 0x98, 0xED, 0xA0, 0x80, 0x00, 0x0A],
  [],
]

/// Encodes and decodes.
func use(_ tokenizer: Tokenizer) {
  for text in texts {
    let ids = tokenizer.encode(text)
    precondition(ids.allSatisfy { tokenizer.token($0) != nil }, "an id that no token has")
    sink &+= UInt64(tokenizer.decode(ids).count)
  }
  sink &+= UInt64(tokenizer.decode(Array(-1...tokenizer.vocabularySize)).count)
}

/// Reads a configuration and lists what the model consists of, unless that is rightly long.
func use(config: JSON, file: String) throws {
  let family = try ModelFamilies.family(of: config, file: file)
  guard family.dimensions.layers * (family.dimensions.experts + 1) <= 10_000 else { return }
  sink &+= UInt64(family.weights.count)
}

extension FuzzTarget {
  /// Any JSON: what is read is written, and reads back as the same.
  static let json = FuzzTarget(name: "json") { input, path in
    let bytes = Bytes(input)
    var members = 0
    let isObject = (try? JSON.scanMembers(bytes) { _, _, _ in members += 1 }) != nil
    do throws(JSONError) {
      let json = try JSON.scan(bytes)
      precondition(json.object == nil || isObject && json.object?.count == members, "two counts of members")
      for indented in [false, true] {
        let text = json.text(indented: indented)
        do throws(JSONError) {
          let again = try JSON.scan(text)
          precondition(again.text(indented: indented) == text, "a text that reads as another")
        } catch {
          fatalError("a text that does not read back: \(error.problem) at byte \(error.offset)")
        }
      }
    } catch {
      precondition((0...input.count).contains(error.offset), "an error outside of the input")
      precondition(!error.problem.isEmpty, "an error without words")
    }
  }

  /// A tokenizer.json.
  static let tokenizer = FuzzTarget(name: "tokenizer") { input, path in
    use(try Tokenizer(json: Bytes(input), file: path))
  }

  /// A tiktoken file or a SentencePiece model, whichever the first bytes say.
  static let vocabulary = FuzzTarget(name: "vocabulary") { input, path in
    let settings = Bytes(Array(#"{"tokenizer_class": "TikTokenTokenizer"}"#.utf8))
    let files = try TokenizerFiles(among: ["tokenizer.model"]) {
      $0 == "tokenizer.model" ? Bytes(input) : $0 == "tokenizer_config.json" ? settings : nil
    }
    if let files { use(try files.tokenizer()) }
  }

  /// A config.json.
  static let config = FuzzTarget(name: "config") { input, path in
    guard let json = try? JSON.scan(Bytes(input)) else { return }
    answer { _ = try QuantizationConfig(config: json, file: path) }
    try use(config: json, file: path)
  }
}
