// The normalization rules that SentencePiece compiles into its files: a double-array trie (darts-clone) from texts to offsets in
// a list of replacements. tokenizer.json files carry the same bytes in base64 (`Precompiled`).

/// Replacements of characters and short texts.
package struct CharacterMap: Sendable {
  /// The double array. Bits 0 to 7: the byte that leads to the unit; 8: whether its text has a replacement, whose offset is in
  /// the unit at the base; 9: whether the base counts in 256s; 10 to 30: the base; 31: the unit holds an offset (0 to 30).
  private let units: [UInt32]
  /// The replacements in UTF-8, each with a zero byte behind it.
  private let replacements: [UInt8]

  /// The longest text that is looked for; those of the known rules have fewer than 32 bytes. Bounds the walk through an array
  /// that leads in circles.
  private static let longestKey = 256
  /// The largest map; the rules in use take a quarter of a megabyte.
  static let byteLimit = 16 << 20

  /// Reads a compiled map: four bytes with the size of the array, the array, the replacements.
  /// - Returns: the map, or what is wrong with the bytes.
  static func read(_ blob: [UInt8]) -> Result<CharacterMap, Wrong> {
    func wrong(_ problem: String) -> Result<CharacterMap, Wrong> { .failure(Wrong(problem: problem)) }
    guard blob.count <= byteLimit else {
      return wrong("found a map of \(blob.count) bytes, expected at most \(byteLimit)")
    }
    guard blob.count > 4 else { return wrong("found a map of \(blob.count) bytes, expected more than 4") }
    func word(_ at: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(blob[at + $1]) << UInt32(8 * $1) }
    }
    let size = Int(word(0))
    guard size > 0, size % 4 == 0, size < blob.count - 4 else {
      return wrong(
        "found a trie of \(size) bytes in a map of \(blob.count), expected whole units and room behind them")
    }
    let units = (0..<size / 4).map { word(4 + 4 * $0) }
    let replacements = Array(blob[(4 + size)...])
    let isText = String(validating: replacements, as: UTF8.self) != nil
    guard isText, replacements.last == 0 else {
      return wrong("found replacements that are no UTF-8 or have no end")
    }
    for unit in units where unit >> 31 == 1 {
      let offset = Int(unit & 0x7FFF_FFFF)
      guard offset < replacements.count, replacements[offset] & 0xC0 != 0x80 else {
        return wrong("found a replacement at \(offset), expected one of the \(replacements.count) bytes")
      }
    }
    return .success(CharacterMap(units: units, replacements: replacements))
  }

  /// What is wrong with a map.
  struct Wrong: Error {
    let problem: String
  }

  private init(units: [UInt32], replacements: [UInt8]) {
    self.units = units
    self.replacements = replacements
  }

  /// Walks along `text` from `start`; `found` receives each length that has a replacement with its offset, and says whether to
  /// go on.
  private func walk(
    _ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int, _ found: (Int, Int) -> Bool
  ) {
    // SAFETY: `text` must hold the bytes from `start` up to `end`; a place in `units`, which a file brings, is compared with their
    // number before it is used.
    func base(_ unit: UInt32) -> Int { Int((unit >> 10) << ((unit & 1 << 9) >> 6)) }
    var place = base(units[0])
    var position = start
    let last = min(end, start + Self.longestKey)
    while position < last {
      place ^= Int(text[position])
      guard place < units.count, units[place] & 0x8000_00FF == UInt32(text[position]) else { return }
      let unit = units[place]
      place ^= base(unit)
      position += 1
      guard unit >> 8 & 1 == 1 else { continue }
      guard place < units.count, units[place] >> 31 == 1 else { return }
      guard found(position - start, Int(units[place] & 0x7FFF_FFFF)) else { return }
    }
  }

  private func replacement(at offset: Int) -> ArraySlice<UInt8> {
    replacements[offset...].prefix { $0 != 0 }
  }

  /// The longest text at `start` that has a replacement: its length, and what replaces it. SentencePiece's rule.
  func longest(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> (
    length: Int, text: ArraySlice<UInt8>
  )? {
    var match: (Int, Int)?
    var count = 0
    // SentencePiece looks at 32 matches.
    walk(text, start, end) { length, offset in
      match = (length, offset)
      count += 1
      return count < 32
    }
    return match.map { ($0.0, replacement(at: $0.1)) }
  }

  /// What replaces the shortest text at `start` that has a replacement.
  private func shortest(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> ArraySlice<UInt8>? {
    var match: Int?
    walk(text, start, end) { _, offset in
      match = offset
      return false
    }
    return match.map { replacement(at: $0) }
  }

  /// The text as the `tokenizers` library changes it: a grapheme of up to five bytes becomes what its shortest beginning does;
  /// of other graphemes each scalar is replaced by itself.
  func applyByGraphemes(_ text: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(text.count)
    text.withUnsafeBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      var position = 0
      for grapheme in String(decoding: buffer, as: UTF8.self) {
        let count = grapheme.utf8.count
        defer { position += count }
        guard position + count <= buffer.count else { return }
        if count < 6, let short = shortest(base, position, position + count) {
          out += short
          continue
        }
        var place = position
        while place < position + count {
          let length = UTF8Text.scalar(base, place, position + count).length
          out += shortest(base, place, place + length) ?? ArraySlice(buffer[place..<(place + length)])
          place += length
        }
      }
    }
    return out
  }
}
