// Colours of verdicts, warnings and errors.

import ArgumentParser
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// When colours are used.
enum ColorChoice: String, CaseIterable, ExpressibleByArgument {
  /// Where a terminal is looked at, NO_COLOR is not set and TERM is not dumb.
  case auto
  case always
  case never
}

/// The option of every command.
struct ColorOption: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Colours of verdicts, warnings and errors: auto (where a terminal is looked at), always or never. NO_COLOR means never.",
      valueName: "when"))
  var color = ColorChoice.auto
}

/// Which words of a line have which colour.
enum Style {
  private enum Color: String {
    case red = "1;31"
    case green = "1;32"
    case yellow = "1;33"
    case bold = "1"
  }

  /// Words at the beginnings of lines. The first that a line begins with counts.
  private static let words: [(word: String, color: Color)] = [
    ("error[", .red), ("fault:", .red), ("damaged:", .red), ("beyond its scheme's rounding:", .red),
    ("warning:", .yellow), ("left out:", .yellow), ("not carried:", .yellow), ("difference:", .yellow),
    ("  help:", .bold), ("verdict: pass", .green), ("verdict: FAIL", .red), ("verdict: not judged", .yellow),
    ("sound:", .green), ("fits:", .green), ("does not fit:", .red),
  ]

  private static let choice = Atomic<Int>(0)

  /// Takes the choice from the words of a command line before they are parsed, so that what the parser refuses has it too.
  static func choose(from arguments: [String]) {
    let words = arguments.prefix { $0 != "--" }
    for (place, word) in words.enumerated() {
      let value =
        word == "--color" && place + 1 < words.count
        ? words[place + 1] : word.hasPrefix("--color=") ? String(word.dropFirst(8)) : nil
      guard let chosen = value.flatMap(ColorChoice.init(rawValue:)) else { continue }
      choice.store(ColorChoice.allCases.firstIndex(of: chosen) ?? 0, ordering: .relaxed)
    }
  }

  private static func isOn(_ descriptor: Int32) -> Bool {
    switch ColorChoice.allCases[choice.load(ordering: .relaxed)] {
    case .always: true
    case .never: false
    case .auto:
      Terminal.isCapable(descriptor) && (getenv("NO_COLOR").map { $0.pointee == 0 } ?? true)
    }
  }

  /// Lines for a descriptor, in colour where that is wanted.
  static func painted(_ text: String, _ descriptor: Int32) -> String {
    guard isOn(descriptor) else { return text }
    return text.split(separator: "\n", omittingEmptySubsequences: false).map { painted($0) }
      .joined(separator: "\n")
  }

  private static func painted(_ line: Substring) -> String {
    guard let found = words.first(where: { line.hasPrefix($0.word) }) else { return String(line) }
    // A code belongs to its error.
    let end =
      found.word.hasSuffix("[")
      ? line.firstIndex(of: ":").map { line.index(after: $0) } ?? line.endIndex
      : line.index(line.startIndex, offsetBy: found.word.count)
    return "\u{1B}[\(found.color.rawValue)m\(line[..<end])\u{1B}[0m\(line[end...])"
  }
}
