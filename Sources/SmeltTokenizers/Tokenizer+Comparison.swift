// Whether two tokenizers are one: the same token for every id, and the same ids for texts that ask much of them. Files differ in
// ways that mean nothing, so that not their text is compared but what they do.

/// Where two tokenizers part.
package struct TokenizerDifference: Sendable, Hashable {
  /// What was compared: the id of a token, or a piece of text.
  package let subject: String
  /// What the first makes of it.
  package let first: String
  /// What the second makes of it.
  package let second: String

  /// A difference that was found.
  package init(subject: String, first: String, second: String) {
    self.subject = subject
    self.first = first
    self.second = second
  }
}

extension Tokenizer {
  /// The first difference of another tokenizer from this one; nil if they are equal. Tokens that only the other has
  /// behind the last of these do not count: files are padded with them.
  package func difference(from other: Tokenizer) -> TokenizerDifference? {
    let ids = (byId.map { Int($0.id) } + added.keys.map(Int.init)).sorted()
    for id in ids {
      let (mine, its) = (token(id), other.token(id))
      if mine != its {
        return TokenizerDifference(
          subject: "id \(id)", first: mine.map { "'\($0)'" } ?? "none",
          second: its.map { "'\($0)'" } ?? "none")
      }
    }
    if let found = difference(from: other, Array(Tokenizer.probe.utf8)) { return found }
    // A token's own text, alone and inside a word: every merge that leads to it has its turn.
    for id in ids {
      let text = decode([id])
      if let found = difference(from: other, text) ?? difference(from: other, [0x61] + text + [0x20]) {
        return found
      }
    }
    // Added tokens may take white space with them, or stand for themselves only.
    for id in Set(added.keys).union(other.added.keys).sorted() {
      let text = Array((added[id] ?? other.added[id] ?? "").utf8)
      for (before, after) in [("a ", " a"), ("a", "a"), ("\n\n", "\n\n"), ("", "")] {
        let probe = Array(before.utf8) + text + Array(after.utf8)
        if let found = difference(from: other, probe) { return found }
      }
    }
    return nil
  }

  /// Where the text that ids stand for parts, of each token by itself and of the probe; nil where it does not.
  package func textDifference(from other: Tokenizer) -> TokenizerDifference? {
    func found(_ ids: [Int], _ subject: String) -> TokenizerDifference? {
      let (mine, its) = (decode(ids), other.decode(ids))
      guard mine != its else { return nil }
      let place = zip(mine, its).enumerated().first { $0.element.0 != $0.element.1 }?.offset
      let start = place ?? min(mine.count, its.count)
      func shown(_ text: [UInt8]) -> String {
        "'\(String(decoding: text[start...].prefix(24), as: UTF8.self))'"
      }
      return TokenizerDifference(subject: "text of \(subject)", first: shown(mine), second: shown(its))
    }
    for id in (byId.map { Int($0.id) } + added.keys.map(Int.init)).sorted() {
      if let difference = found([id], "id \(id)") { return difference }
    }
    return found(encode(Tokenizer.probe), "the ids of a probe")
  }

  /// Where the ids of a text part.
  package func difference(from other: Tokenizer, _ text: [UInt8]) -> TokenizerDifference? {
    let (mine, its) = (encode(text), other.encode(text))
    guard mine != its else { return nil }
    let place =
      zip(mine, its).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(mine.count, its.count)
    // The text from there on, as far as one of them tells.
    let piece = String(decoding: decode(Array(mine[place...].prefix(8))), as: UTF8.self)
    func shown(_ ids: [Int]) -> String {
      place < ids.count ? ids[place...].prefix(4).map(String.init).joined(separator: " ") : "nothing"
    }
    return TokenizerDifference(
      subject: "position \(place), '\(piece)'", first: shown(mine), second: shown(its))
  }

  /// Letters with and without case and marks (composed and not), digits, white space, quotes and contractions, other scripts,
  /// full-width forms, symbols, and what a byte-level model splits.
  static let probe = """
    The quick BROWN fox didn't jump -- it'll say "we've 1234567 reasons, 3.14159 & more"!
    \tIndented\t\ttabs,   runs   of    spaces  \r\nand line ends.\n\n\n naïve café, nai\u{308}ve cafe\u{301}, \u{212B}ngstro\u{308}m
     Ⅷ ﬁne ＦＵＬＬ width \u{FF11}\u{FF12}\u{3000}ideographic; Straße STRASSE ǅ İi ıI
    漢字とかな、カタカナ。한국어 조합 \u{1112}\u{1161}\u{11AB} Ελληνικά Кириллица العربية עברית हिन्दी ไทย
    emoji 👩‍👩‍👧‍👦 🏳️‍🌈 ✈️ e\u{200B}zero\u{200D}width\u{FEFF}, \u{A0}nbsp\u{2009}thin… “quotes” ‘single’ —dash– 10²³ ½ ™
    <s> </s> <unk> <|endoftext|> [INST] x+=1; // code_with_snake camelCase HTTP2Server() {"a": [1, 2]} \\n %20
    """
}
