// Numbers of bytes as people write and read them. One parser and one printer for the whole program: MB is 10⁶, MiB 2²⁰.

/// A number of bytes with its unit: `10MB` is 10⁷, `10MiB` 10 · 2²⁰, `140G` 140 · 10⁹.
package struct ByteSize: Sendable, Hashable, CustomStringConvertible {
  /// The number of bytes.
  package let bytes: Int

  /// A size of known bytes.
  package init(_ bytes: Int) { self.bytes = bytes }

  /// What is accepted, for help and messages.
  package static let accepted =
    "a number with a unit: kB, MB, GB, TB are powers of 1000 (140G and 140GB alike), KiB, MiB, GiB, TiB powers of 1024; "
    + "without a unit bytes; case does not matter"

  /// Why a text is not a size.
  package struct Refusal: Error, Sendable, Hashable, CustomStringConvertible {
    /// What was found and what is accepted.
    package let description: String
  }

  /// The largest size: far above any disk, and far below what sums of sizes would overflow at.
  private static let limit = 1 << 60

  /// Reads a size. A fraction of a byte is cut off, so that a limit is never read as more than was written.
  /// - Throws: `Refusal` for anything else than digits, an optional fraction and an optional unit.
  package init(parsing text: String) throws(Refusal) {
    func refusal(_ problem: String) -> Refusal {
      Refusal(description: "'\(printable(excerpt(text)))' \(problem); expected \(ByteSize.accepted)")
    }
    let trimmed = Array(text.utf8.drop { $0 == 0x20 }.reversed().drop { $0 == 0x20 }.reversed())
    let whole = trimmed.prefix(while: isDigit)
    var rest = trimmed[whole.endIndex...]
    guard !whole.isEmpty else {
      throw refusal(trimmed.first == UInt8(ascii: "-") ? "is negative" : "is not a size")
    }
    var fraction: ArraySlice<UInt8> = []
    if rest.first == UInt8(ascii: ".") {
      fraction = rest.dropFirst().prefix(while: isDigit)
      guard !fraction.isEmpty else { throw refusal("has no digit after the point") }
      rest = rest[fraction.endIndex...]
    }
    let unit = String(decoding: rest.drop { $0 == 0x20 }, as: UTF8.self).lowercased()
    guard let factor = ByteSize.factor(unit) else {
      throw refusal("has the unknown unit '\(printable(excerpt(unit)))'")
    }
    guard factor > 1 || fraction.allSatisfy({ $0 == UInt8(ascii: "0") }) else {
      throw refusal("is not a whole number of bytes")
    }
    guard let count = Int(String(decoding: whole, as: UTF8.self)),
      case let (product, overflow) = count.multipliedReportingOverflow(by: factor), !overflow,
      product < ByteSize.limit
    else { throw refusal("is too large") }
    // Fifteen digits: more name no byte of any unit.
    let digits = fraction.prefix(15)
    let numerator = digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
    let denominator = digits.reduce(1) { power, _ in power * 10 }
    let part = denominator.dividingFullWidth(numerator.multipliedFullWidth(by: factor)).quotient
    guard product + part > 0 else { throw refusal("is less than a byte") }
    bytes = product + part
  }

  private static func factor(_ unit: String) -> Int? {
    if unit.isEmpty || unit == "b" { return 1 }
    let name = unit.hasSuffix("b") ? String(unit.dropLast()) : unit
    for (place, letter) in ["k", "m", "g", "t", "p"].enumerated() {
      if name == letter { return (0...place).reduce(1) { power, _ in power * 1000 } }
      if name == letter + "i" { return 1 << (10 * (place + 1)) }
    }
    return nil
  }

  /// The size without rounding, in the largest unit that divides it: `2GiB`, `5GB`, `1234B`. Reads back as the same size.
  package var description: String {
    let units = [
      ("TiB", 1 << 40), ("TB", 1_000_000_000_000), ("GiB", 1 << 30), ("GB", 1_000_000_000), ("MiB", 1 << 20),
      ("MB", 1_000_000), ("KiB", 1 << 10), ("kB", 1000),
    ]
    let found = units.first { bytes > 0 && bytes % $0.1 == 0 }
    return found.map { "\(bytes / $0.1)\($0.0)" } ?? "\(bytes)B"
  }
}

private func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

/// Bytes in units of a thousand, to three digits: `25.7 MB`.
package func byteText(_ bytes: Int) -> String {
  let units = ["B", "kB", "MB", "GB", "TB"]
  var value = Double(bytes)
  var unit = 0
  while value >= 999.5, unit < units.count - 1 {
    value /= 1000
    unit += 1
  }
  let decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0
  return unit == 0 ? "\(bytes) B" : "\(decimalText(value, decimals)) \(units[unit])"
}

/// A number from 0 to 10⁹ with a fixed count of decimals, at most two.
private func decimalText(_ value: Double, _ decimals: Int) -> String {
  let scale = decimals == 2 ? 100 : decimals == 1 ? 10 : 1
  let scaled = Int((value * Double(scale)).rounded())
  guard decimals > 0 else { return "\(scaled)" }
  let rest = String(scaled % scale)
  return "\(scaled / scale).\(String(repeating: "0", count: decimals - rest.count))\(rest)"
}
