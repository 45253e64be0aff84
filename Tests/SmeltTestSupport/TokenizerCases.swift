// Texts and the ids that the `tokenizers` library gives for them: Fixtures/make/tokenizer_cases.py made both.

package import SmeltStorage

/// The texts and what the library made of them.
package struct TokenizerCases: Sendable {
  /// One text.
  package struct Text: Sendable {
    /// Its name, for messages.
    package var name: String
    /// Its bytes, which need not be UTF-8.
    package var bytes: [UInt8]
  }

  /// Fixtures/tokenizers/cases.json.
  package static let shared = TokenizerCases()
  /// The texts.
  package var texts: [Text] = []
  /// The ids by the tokenizer's name, in the order of the texts.
  package var rows: [String: [JSON]] = [:]

  private init() {
    guard
      let bytes = try? readSmallFile(fixture("tokenizers/cases.json"), limit: 1 << 24, code: .tokenizerJSON),
      let root = try? JSON.scan(bytes)
    else { return }
    for text in root["cases"]?.array ?? [] {
      var bytes: [UInt8] = []
      if let whole = text["text"]?.string { bytes = Array(whole.utf8) }
      if let hex = text["hex"]?.string {
        let digits = hex.compactMap(\.hexDigitValue)
        bytes = stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
      }
      if let unit = text["unit"]?.string, let count = text["count"]?.integer {
        bytes = Array(String(repeating: unit, count: count).utf8)
      }
      texts.append(Text(name: text["name"]?.string ?? "", bytes: bytes))
    }
    if let all = root["tokenizers"]?.object {
      for (name, rows) in zip(all.keys, all.values) { self.rows[name] = rows.array }
    }
  }
}
