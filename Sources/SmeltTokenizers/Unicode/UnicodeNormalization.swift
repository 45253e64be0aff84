// The four Unicode normalization forms. Source: Unicode Standard Annex #15; the data's version is that of the `tokenizers`
// library's normalizer, so that marks it does not know stay where they are here too.

/// One of the four normalization forms.
package enum UnicodeNormalization: String {
  case nfc = "NFC"
  case nfd = "NFD"
  case nfkc = "NFKC"
  case nfkd = "NFKD"

  /// The text in this form. Input and output are UTF-8.
  package func apply(_ text: [UInt8]) -> [UInt8] {
    // ASCII is the same in all forms; what precedes U+00C0 is so in the canonical ones.
    if text.allSatisfy({ $0 < 0x80 }) { return text }
    let data = UnicodeNormalizationData.shared
    var scalars: [UInt32] = []
    scalars.reserveCapacity(text.count)
    var orders: [UInt8] = []
    orders.reserveCapacity(text.count)
    let compatible = self == .nfkc || self == .nfkd
    for scalar in String(decoding: text, as: UTF8.self).unicodeScalars {
      data.decompose(scalar.value, compatible: compatible) {
        scalars.append($0)
        orders.append(data.order($0))
      }
    }
    Self.reorder(&scalars, &orders)
    if self == .nfc || self == .nfkc { Self.compose(&scalars, orders, data) }
    var out: [UInt8] = []
    out.reserveCapacity(text.count)
    for value in scalars { UTF8Text.append(value, to: &out) }
    return out
  }

  /// Sorts each run of marks by combining class, keeping the order of equal classes.
  private static func reorder(_ scalars: inout [UInt32], _ orders: inout [UInt8]) {
    var start = 0
    while start < scalars.count {
      guard orders[start] != 0 else {
        start += 1
        continue
      }
      var end = start
      while end < scalars.count, orders[end] != 0 { end += 1 }
      if end - start > 1 {
        // The library's sort is stable; the index makes ours so.
        let sorted = (start..<end).sorted { (orders[$0], $0) < (orders[$1], $1) }
        let moved = sorted.map { (scalars[$0], orders[$0]) }
        for (index, value) in moved.enumerated() {
          scalars[start + index] = value.0
          orders[start + index] = value.1
        }
      }
      start = end
    }
  }

  /// Joins each scalar with the starter before it where nothing between them blocks it.
  private static func compose(_ scalars: inout [UInt32], _ orders: [UInt8], _ data: UnicodeNormalizationData)
  {
    var written = 0
    var starter: Int?
    var lastOrder: UInt8 = 0
    for index in scalars.indices {
      let scalar = scalars[index]
      let order = orders[index]
      if let place = starter, written == place + 1 || lastOrder < order,
        let joined = data.compose(scalars[place], scalar)
      {
        scalars[place] = joined
        continue
      }
      if order == 0 { starter = written }
      lastOrder = order
      scalars[written] = scalar
      written += 1
    }
    scalars.removeSubrange(written...)
  }
}

/// The tables behind the forms.
private struct UnicodeNormalizationData: Sendable {
  static let shared = UnicodeNormalizationData()

  private let canonical: [UInt32: [UInt32]]
  private let compatible: [UInt32: [UInt32]]
  private let orders: [UInt32: UInt8]
  private let pairs: [UInt64: UInt32]

  private init() {
    canonical = Self.mapping(UnicodeNormalizationTable.canonical)
    compatible = Self.mapping(UnicodeNormalizationTable.compatible)
    orders = Self.mapping(UnicodeNormalizationTable.order).compactMapValues { $0.first.map(UInt8.init) }
    var pairs: [UInt64: UInt32] = [:]
    for entry in UnicodeClasses.text(UnicodeNormalizationTable.composed).split(separator: UInt8(ascii: ",")) {
      let parts = entry.split(separator: UInt8(ascii: ".")).map(UnicodeClasses.number36)
      pairs[UInt64(parts[1]) << 32 | UInt64(parts[2])] = parts[0]
    }
    self.pairs = pairs
  }

  private static func mapping(_ table: StaticString) -> [UInt32: [UInt32]] {
    var out: [UInt32: [UInt32]] = [:]
    var key: UInt32 = 0
    for entry in UnicodeClasses.text(table).split(separator: UInt8(ascii: ",")) {
      let parts = entry.split(separator: UInt8(ascii: ":"))
      key += UnicodeClasses.number36(parts[0])
      out[key] = parts[1].split(separator: UInt8(ascii: ".")).map(UnicodeClasses.number36)
    }
    return out
  }

  /// The canonical combining class.
  func order(_ scalar: UInt32) -> UInt8 { scalar < 0x300 ? 0 : orders[scalar] ?? 0 }

  /// Hangul syllables are arithmetic. Source: The Unicode Standard, section 3.12.
  private enum Hangul {
    static let syllable: UInt32 = 0xAC00
    static let lead: UInt32 = 0x1100
    static let vowel: UInt32 = 0x1161
    static let tail: UInt32 = 0x11A7
    static let leadCount: UInt32 = 19
    static let vowelCount: UInt32 = 21
    static let tailCount: UInt32 = 28
    static let count: UInt32 = 11172
  }

  func decompose(_ scalar: UInt32, compatible wide: Bool, _ emit: (UInt32) -> Void) {
    guard scalar >= 0xA0 else { return emit(scalar) }
    if scalar >= Hangul.syllable, scalar < Hangul.syllable + Hangul.count {
      let index = scalar - Hangul.syllable
      emit(Hangul.lead + index / (Hangul.vowelCount * Hangul.tailCount))
      emit(Hangul.vowel + index % (Hangul.vowelCount * Hangul.tailCount) / Hangul.tailCount)
      let tail = index % Hangul.tailCount
      if tail > 0 { emit(Hangul.tail + tail) }
    } else if let parts = (wide ? compatible[scalar] : nil) ?? canonical[scalar] {
      for part in parts { emit(part) }
    } else {
      emit(scalar)
    }
  }

  func compose(_ first: UInt32, _ second: UInt32) -> UInt32? {
    if first >= Hangul.lead, first < Hangul.lead + Hangul.leadCount {
      guard second >= Hangul.vowel, second < Hangul.vowel + Hangul.vowelCount else { return nil }
      let index = (first - Hangul.lead) * Hangul.vowelCount + (second - Hangul.vowel)
      return Hangul.syllable + index * Hangul.tailCount
    }
    if first >= Hangul.syllable, first < Hangul.syllable + Hangul.count,
      (first - Hangul.syllable) % Hangul.tailCount == 0
    {
      guard second > Hangul.tail, second < Hangul.tail + Hangul.tailCount else { return nil }
      return first + (second - Hangul.tail)
    }
    return pairs[UInt64(first) << 32 | UInt64(second)]
  }
}
