// README.md of a directory that Smelt wrote: what it says of its origin, and the place for a report.

import SmeltStorage

/// The section that a conversion adds to a model card, read back.
enum ModelCard {
  /// The card's name in a directory.
  static let fileName = "README.md"

  /// Between these lines stands what verification found.
  static let open = "<!-- smelt: verification -->"
  /// The line after it.
  static let close = "<!-- smelt: end -->"

  /// What the last such section of a card says about the source and the making; nil without such a section.
  static func origin(in card: [UInt8]) -> JSON? {
    let text = String(decoding: card, as: UTF8.self)
    guard let section = text.ranges(of: "\n## Converted by smelt ").last,
      let open = text[section.upperBound...].firstRange(of: "\n```json\n"),
      let close = text[open.upperBound...].firstRange(of: "\n```")
    else { return nil }
    return try? JSON.scan(String(text[open.upperBound..<close.lowerBound]))
  }

  /// Begins the line of such a section that has the hash of the source.
  static let hashLine = "SHA-256 of the lines \"name XXH64\" of the source's tensors: "

  /// The hash of the source's tensors that the last such section of a card has; nil without one.
  static func statedHash(in card: [UInt8]) -> String? {
    let text = String(decoding: card, as: UTF8.self)
    guard let line = text.ranges(of: hashLine).last else { return nil }
    let hash = text[line.upperBound...].dropFirst().prefix { $0 != "`" && $0 != "\n" }
    return hash.utf8.count == 64 ? String(hash) : nil
  }

  /// A card with a report's lines in the place for it, the last one where a card was copied along; nil without a place.
  static func sealed(_ card: [UInt8], with report: String) -> [UInt8]? {
    let text = String(decoding: card, as: UTF8.self)
    guard let place = place(in: text), Array(text.utf8) == card else { return nil }
    return Array((text[..<place.lowerBound] + "\n\(report)\n" + text[place.upperBound...]).utf8)
  }

  /// Text that may stand in a cell of a table.
  static func cell(_ text: String) -> String {
    text.replacing("|", with: "\\|").replacing("<", with: "&lt;")
  }

  /// Whether a card has a place for a report.
  static func hasPlace(_ card: [UInt8]) -> Bool { place(in: String(decoding: card, as: UTF8.self)) != nil }

  private static func place(in text: String) -> Range<String.Index>? {
    guard let start = text.ranges(of: open).last, let end = text[start.upperBound...].firstRange(of: close)
    else { return nil }
    return start.upperBound..<end.lowerBound
  }
}
