// Lines of text within the width of a terminal.

/// The width that text for people is fitted to.
package enum TextWidth {
  /// Columns of the terminal that the text goes to; nil: lines are as long as they are, for pipes and files.
  @TaskLocal package static var columns: Int?
}

/// A line broken at spaces into lines of at most `width` characters. Words longer than that stay whole, as do a number and the unit
/// or the digits behind it.
/// - Parameter indent: spaces before all lines but the first, besides those that the line begins with.
package func wrapped(_ line: String, _ width: Int, indent: Int = 2) -> [String] {
  guard line.count > width else { return [line] }
  let lead = String(line.prefix { $0 == " " })
  let next = lead + String(repeating: " ", count: indent)
  var lines: [String] = []
  var current = lead
  for word in unbrokenWords(line.dropFirst(lead.count)) {
    if current.count == (lines.isEmpty ? lead : next).count {
      current += word
    } else if current.count + 1 + word.count <= width {
      current += " " + word
    } else {
      lines.append(current)
      current = next + word
    }
  }
  return lines + [current]
}

/// A text of several lines, each within a width.
package func fitted(_ text: String, to width: Int?) -> String {
  guard let width else { return text }
  return text.split(separator: "\n", omittingEmptySubsequences: false).flatMap { wrapped(String($0), width) }
    .joined(separator: "\n")
}

/// Words of a line, a number together with its unit or its next three digits.
func unbrokenWords(_ line: Substring) -> [String] {
  var words: [String] = []
  var endsInNumber = false
  for word in line.split(separator: " ") {
    if endsInNumber, word.count <= 3, let last = words.indices.last {
      words[last] += " " + word
    } else {
      words.append(String(word))
    }
    endsInNumber = word.first?.isNumber == true && word.last?.isNumber == true
  }
  return words
}
