// What can go wrong, told apart by whose fault it is: a file that breaks its rule (`FormatError`), a request that
// cannot be met (`RequestError`), and a program that is wrong (a trap, never reachable from a file's bytes).

/// A stable, documented, grep-able name of one kind of refusal. `Formats/errors.md` explains each.
package struct ErrorCode: Sendable, Hashable, CustomStringConvertible {
  /// The name as printed between the brackets of `error[…]`.
  package let name: String
  /// One sentence: what the code means.
  package let meaning: String
  /// One sentence: what a person can do about it. Used as the `help:` line when the error brings none of its own.
  package let remedy: String

  /// A code with its explanation.
  package init(_ name: String, _ meaning: String, _ remedy: String) {
    self.name = name
    self.meaning = meaning
    self.remedy = remedy
  }

  /// The bare name.
  package var description: String { name }

  /// Codes are equal when their names are.
  package static func == (a: ErrorCode, b: ErrorCode) -> Bool { a.name == b.name }

  /// Hashes the name.
  package func hash(into hasher: inout Hasher) { hasher.combine(name) }
}

/// A file that breaks its rule: which file, which tensor or key, which byte, what was found and what was expected.
package struct FormatError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The stable code.
  package var code: ErrorCode
  /// The file's name, as the user knows it.
  package var file: String?
  /// The tensor, key or field.
  package var subject: String?
  /// The byte in `file` where the trouble starts.
  package var offset: Int?
  /// What was found and what was expected: lower case, no full stop.
  package var problem: String
  /// What a person can do about it; the code's remedy when absent.
  package var help: String?

  /// A refusal. `problem` says what was found before what was expected.
  package init(
    _ code: ErrorCode, file: String? = nil, subject: String? = nil, offset: Int? = nil, _ problem: String,
    help: String? = nil
  ) {
    self.code = code
    self.file = file
    self.subject = subject
    self.offset = offset
    self.problem = problem
    self.help = help
  }

  /// The same error with a file's name, if it had none.
  package func inFile(_ name: String) -> FormatError {
    var copy = self
    if copy.file == nil { copy.file = name }
    return copy
  }

  /// The exit status that belongs to the error: tensors that no rule explains are well-formed but unsupported (3), all else
  /// is refused (2).
  package var exitStatus: Int32 { code == .unknownTensor || code == .otherNames ? 3 : 2 }

  /// Three lines at most: what, where, help.
  package var description: String {
    var lines = ["error[\(code)]: \(subjectAndProblem)"]
    if let file {
      lines.append("  in \(capped(file, MessageLimit.path))" + (offset.map { ", byte \($0)" } ?? ""))
    }
    lines.append("  help: \(help.map { capped($0, MessageLimit.text) } ?? code.remedy)")
    return lines.joined(separator: "\n")
  }

  /// One line for a list of warnings: code, subject and what was found.
  package var warning: String { "[\(code)] \(subjectAndProblem)" }

  private var subjectAndProblem: String {
    (subject.map { "'\(capped($0, MessageLimit.subject))' " } ?? "") + capped(problem, MessageLimit.text)
  }
}

/// A request that cannot be met although no file is at fault.
package struct RequestError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Who must act; decides the exit status.
  package enum Kind: String, Sendable, Hashable, CaseIterable {
    /// Well-formed, but not supported (exit 3).
    case unsupported
    /// The command line asks for something contradictory or missing (exit 64).
    case usage
    /// The result cannot be created: it exists, or its folder does not (exit 73).
    case cannotCreate = "cannot-create"
    /// The machine failed: disk full, input/output error (exit 74).
    case io
    /// Stopped by the user; nothing was left under the final name (exit 75).
    case interrupted
  }

  /// Who must act.
  package var kind: Kind
  /// What cannot be done and why: lower case, no full stop.
  package var problem: String
  /// What to do instead.
  package var help: String?

  /// A refusal of a request.
  package init(_ kind: Kind, _ problem: String, help: String? = nil) {
    self.kind = kind
    self.problem = problem
    self.help = help
  }

  /// Two lines at most.
  package var description: String {
    "error[\(kind.rawValue)]: \(capped(problem, MessageLimit.text))"
      + (help.map { "\n  help: \(capped($0, MessageLimit.text))" } ?? "")
  }

  /// The exit status that belongs to the kind.
  package var exitStatus: Int32 {
    switch kind {
    case .unsupported: 3
    case .usage: 64
    case .cannotCreate: 73
    case .io: 74
    case .interrupted: 75
    }
  }
}

/// Text from a file made safe to print: control characters, bidirectional marks and NUL are escaped.
package func printable(_ text: String) -> String {
  var out = ""
  for scalar in text.unicodeScalars {
    switch scalar.value {
    case 0x0A: out.append("\\n")
    case 0..<0x20, 0x7F..<0xA0, 0x061C, 0x200B...0x200F, 0x2028...0x202E, 0x2060...0x2069, 0xFEFF:
      out.append("\\u{\(String(scalar.value, radix: 16))}")
    default: out.unicodeScalars.append(scalar)
    }
  }
  return out
}

/// Text of several lines made safe to print, line by line.
package func printableLines(_ text: String) -> String {
  text.split(separator: "\n", omittingEmptySubsequences: false).map { printable(String($0)) }
    .joined(separator: "\n")
}

/// Characters of a message's parts: room for a list of names, and none for a header.
private enum MessageLimit {
  static let subject = 200
  static let path = 400
  static let text = 1200
}

/// A text of any length made safe to print and short: of a long one the beginning and the end, which says what was
/// expected, or which file of a long path it is.
func capped(_ text: String, _ limit: Int) -> String {
  let scalars = text.unicodeScalars
  guard scalars.count > limit else { return printable(text) }
  let tail = limit / 3
  func part(_ slice: Substring.UnicodeScalarView) -> String {
    printable(String(String.UnicodeScalarView(slice)))
  }
  return part(scalars.prefix(limit - tail)) + "… (\(scalars.count - limit) characters) …"
    + part(scalars.suffix(tail))
}

/// The beginning of a text from a file, for messages: a name in a hostile header can be as long as the header.
package func excerpt(_ text: String, limit: Int = 80) -> String {
  let head = text.unicodeScalars.prefix(limit + 1)
  return head.count > limit ? String(String.UnicodeScalarView(head.dropLast())) + "…" : text
}
