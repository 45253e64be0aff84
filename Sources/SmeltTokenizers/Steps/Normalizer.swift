// What a tokenizer does to a text before it cuts it: Unicode forms, replacements, what is put before, what is stripped.

/// One step of normalizing. Texts are UTF-8.
package enum NormalizerStep: Sendable {
  /// A Unicode normalization form.
  case form(UnicodeNormalization)
  /// Each match of a pattern becomes a text.
  case replace(SplitPattern, [UInt8])
  /// A text before every text that is not empty.
  case prepend([UInt8])
  /// White space at the ends goes.
  case strip(left: Bool, right: Bool)
  /// Every scalar becomes its lower case.
  case lowercase
  /// Bytes spelled in the byte alphabet.
  case spellBytes
  /// Compiled replacements, as the `tokenizers` library applies them.
  case characterMap(CharacterMap)
  /// All that SentencePiece does before it cuts.
  case sentencePiece(SentencePieceNormalizer)

  /// The text after the step; `isFirst`: whether it stands at the beginning of the whole text.
  package func apply(_ text: [UInt8], isFirst: Bool = true) -> [UInt8] {
    switch self {
    case .form(let form): return form.apply(text)
    case .replace(let pattern, let content): return Self.replace(text, pattern, content)
    case .prepend(let content): return text.isEmpty ? text : content + text
    case .strip(let left, let right):
      let scalars = String(decoding: text, as: UTF8.self).unicodeScalars
      func isSpace(_ scalar: Unicode.Scalar) -> Bool { UnicodeClasses.space.contains(scalar.value) }
      var kept = scalars[...]
      if left { kept = kept.drop(while: isSpace) }
      if right { while let last = kept.last, isSpace(last) { kept.removeLast() } }
      return Array(String(String.UnicodeScalarView(kept)).utf8)
    case .lowercase:
      var out = ""
      for scalar in String(decoding: text, as: UTF8.self).unicodeScalars {
        out += scalar.properties.lowercaseMapping
      }
      return Array(out.utf8)
    case .spellBytes: return ByteAlphabet.spelled(text)
    case .characterMap(let map): return map.applyByGraphemes(text)
    case .sentencePiece(let step): return step.apply(text, isFirst: isFirst)
    }
  }

  /// The text with each match of `pattern` replaced. Safe on bytes that are not UTF-8.
  static func replace(_ text: [UInt8], _ pattern: SplitPattern, _ content: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(text.count)
    // SAFETY: the matcher gives ranges inside the text that it was lent
    text.withUnsafeBufferPointer { buffer in
      guard let base = buffer.baseAddress, !buffer.isEmpty else { return }
      var last = 0
      var matcher = PatternMatcher(pattern)
      matcher.matches(in: base, 0..<buffer.count) { match in
        out += buffer[last..<match.lowerBound]
        out += content
        last = match.upperBound
      }
      out += buffer[last...]
    }
    return out
  }
}
