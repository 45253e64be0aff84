// From tokens back to bytes. Each step of a tokenizer.json's decoder takes the list of tokens and leaves a list; the result
// is joined. Unlike the `tokenizers` library nothing is turned into text on the way, so that bytes which are not UTF-8
// come back as they went in.

/// One step of decoding.
package enum TokenDecoderStep: Sendable {
  /// Byte-alphabet scalars become their bytes; a token with any other scalar stays.
  case byteLevel
  /// `<0x41>` becomes its byte.
  case byteFallback
  /// All tokens become one.
  case fuse
  /// Each match of a pattern becomes a text.
  case replace(SplitPattern, [UInt8])
  /// Up to `left` and `right` times `content` goes from each token's ends.
  case strip(content: [UInt8], left: Int, right: Int)
  /// The mark becomes a space; in the first token it goes, unless marks are never prepended.
  case metaspace(SplitPattern, dropsFirst: Bool)
  /// The suffix becomes a space, at the end nothing.
  case suffix(SplitPattern)

  /// A token on its way: its bytes, and whether they are an added token's own text.
  struct Token {
    var bytes: [UInt8]
    var isAdded: Bool
  }

  /// The tokens after the step.
  func apply(_ tokens: [Token]) -> [Token] {
    switch self {
    case .byteLevel:
      var joined: [UInt8] = []
      for token in tokens {
        let spelled =
          token.isAdded ? nil : ByteAlphabet.bytes(of: String(decoding: token.bytes, as: UTF8.self))
        joined += spelled ?? token.bytes
      }
      return [Token(bytes: joined, isAdded: false)]
    case .byteFallback:
      return tokens.map { token in
        Self.fallbackByte(token.bytes).map { Token(bytes: [$0], isAdded: token.isAdded) } ?? token
      }
    case .fuse: return [Token(bytes: tokens.flatMap(\.bytes), isAdded: false)]
    case .replace(let pattern, let content): return Self.replace(tokens, pattern) { _ in content }
    case .strip(let content, let left, let right):
      return tokens.map { Token(bytes: Self.strip($0.bytes, content, left, right), isAdded: $0.isAdded) }
    case .metaspace(let pattern, let dropsFirst):
      return Self.replace(tokens, pattern) { $0 == 0 && dropsFirst ? [] : [0x20] }
    case .suffix(let pattern): return Self.replace(tokens, pattern) { $0 == tokens.count - 1 ? [] : [0x20] }
    }
  }

  private static func replace(
    _ tokens: [Token], _ pattern: SplitPattern, _ content: (Int) -> [UInt8]
  ) -> [Token] {
    tokens.enumerated().map { index, token in
      Token(bytes: NormalizerStep.replace(token.bytes, pattern, content(index)), isAdded: token.isAdded)
    }
  }

  /// The byte of a token of the form `<0x41>`, or nil.
  package static func fallbackByte(_ token: some Collection<UInt8>) -> UInt8? {
    guard token.count == 6, token.starts(with: Array("<0x".utf8)) else { return nil }
    let tail = Array(token.dropFirst(3))
    guard tail[2] == UInt8(ascii: ">") else { return nil }
    return UInt8(String(decoding: tail[..<2], as: UTF8.self), radix: 16)
  }

  private static func strip(_ bytes: [UInt8], _ content: [UInt8], _ left: Int, _ right: Int) -> [UInt8] {
    guard !content.isEmpty else { return bytes }
    var kept = bytes[...]
    var count = 0
    while count < left, kept.starts(with: content) {
      kept.removeFirst(content.count)
      count += 1
    }
    count = 0
    while count < right, kept.suffix(content.count).elementsEqual(content) {
      kept.removeLast(content.count)
      count += 1
    }
    return Array(kept)
  }
}
