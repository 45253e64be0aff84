// What SentencePiece does to a text before it cuts it: replacements, white space, the mark before the text. Source: its
// normalizer.cc; the order of the steps decides what an empty or a blank text becomes.

/// The normalizer of a SentencePiece file.
package struct SentencePieceNormalizer: Sendable {
  /// The replacements; nil for the identity.
  var map: CharacterMap?
  /// Texts that stay as they stand.
  var kept: ByteTrie?
  /// Where a space goes before the text.
  var prefix = MetaspacePrepend.always
  /// Whether that space goes behind the text instead.
  var isSuffix = false
  /// Whether white space at the ends goes and a run of spaces becomes one.
  var removesExtraSpaces = true
  /// Whether a space is written as U+2581.
  var escapesSpaces = true

  private static let space = UInt8(ascii: " ")
  private static let mark = Array("\u{2581}".utf8)

  /// The text after normalizing; `isFirst`: whether it stands at the beginning of the whole text.
  func apply(_ text: [UInt8], isFirst: Bool) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(text.count + text.count / 2 + 3)
    text.withUnsafeBufferPointer { apply($0, isFirst, &out) }
    return out
  }

  private func apply(_ text: UnsafeBufferPointer<UInt8>, _ isFirst: Bool, _ out: inout [UInt8]) {
    // SAFETY: the text is lent for the call; lengths come from `next`, which reads no further than its end.
    guard let base = text.baseAddress else { return }
    var position = 0
    if removesExtraSpaces {
      while position < text.count {
        let (length, content) = next(text, base, position)
        guard content.elementsEqual(CollectionOfOne(Self.space)) else { break }
        position += length
      }
    }
    guard position < text.count else { return }
    let written = escapesSpaces ? Self.mark : [Self.space]
    let addsSpace = prefix == .always || prefix == .first && isFirst
    if addsSpace, !isSuffix { out += written }
    var isBehindSpace = removesExtraSpaces
    while position < text.count {
      var (length, content) = next(text, base, position)
      position += length
      if isBehindSpace { content = content.drop { $0 == Self.space } }
      guard let last = content.last else { continue }
      for byte in content {
        if byte == Self.space { out += written } else { out.append(byte) }
      }
      isBehindSpace = removesExtraSpaces && last == Self.space
    }
    if removesExtraSpaces {
      while out.suffix(written.count).elementsEqual(written) { out.removeLast(written.count) }
    }
    if addsSpace, isSuffix { out += written }
  }

  /// The next piece of the text: its length and what it becomes.
  private func next(
    _ text: UnsafeBufferPointer<UInt8>, _ base: UnsafePointer<UInt8>, _ position: Int
  ) -> (Int, ArraySlice<UInt8>) {
    if let length = kept?.longest(text, position), length > 0 {
      return (length, ArraySlice(text[position..<(position + length)]))
    }
    if let match = map?.longest(base, position, text.count) { return match }
    let length = UTF8Text.scalar(base, position, text.count).length
    return (length, ArraySlice(text[position..<(position + length)]))
  }
}
