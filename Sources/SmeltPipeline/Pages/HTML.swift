// Text and tables made safe for a page.

import SmeltStorage

/// Pieces of a page. Everything a file or a user said passes through `escape`.
enum HTML {
  /// Text that means itself, in an element as in an attribute.
  static func escape(_ text: String) -> String {
    var out = ""
    for character in printable(text) {
      switch character {
      case "&": out += "&amp;"
      case "<": out += "&lt;"
      case ">": out += "&gt;"
      case "\"": out += "&quot;"
      default: out.append(character)
      }
    }
    return out
  }

  /// A table in a box of its own, which scrolls where the page is narrow. Cells that look like numbers stand to the right.
  /// - Parameter rows: cells as text, without marks.
  static func table(_ header: [String], _ rows: [[String]]) -> String {
    guard !rows.isEmpty else { return "" }
    let numeric = header.indices.map { column in
      rows.allSatisfy { column < $0.count && isNumber($0[column]) }
    }
    func row(_ cells: [String], _ tag: String) -> String {
      "<tr>"
        + cells.enumerated().map { column, cell in
          "<\(tag)\(column < numeric.count && numeric[column] ? " class=\"n\"" : "")>\(escape(cell))</\(tag)>"
        }.joined() + "</tr>\n"
    }
    return "<div class=\"scroll\"><table>\n<thead>" + row(header, "th") + "</thead><tbody>\n"
      + rows.map { row($0, "td") }.joined() + "</tbody></table></div>\n"
  }

  private static func isNumber(_ cell: String) -> Bool {
    guard let first = cell.first else { return true }
    return first.isNumber || cell == "–" || first == "-" && cell.dropFirst().first?.isNumber == true
  }

  /// Names and what stands for them, each pair a line; beneath each other where the page is narrow.
  static func facts(_ pairs: [(name: String, value: String)]) -> String {
    "<dl>\n" + pairs.map { "<dt>\(escape($0.name))</dt><dd>\(escape($0.value))</dd>\n" }.joined() + "</dl>\n"
  }

  /// A paragraph.
  static func paragraph(_ text: String, style: String? = nil) -> String {
    "<p\(style.map { " class=\"\($0)\"" } ?? "")>\(escape(text))</p>\n"
  }

  /// What is folded away until a reader asks for it.
  /// - Parameter isLong: whether it is left out on paper; else it is printed.
  static func details(_ summary: String, _ body: String, isLong: Bool = false) -> String {
    guard !body.isEmpty else { return "" }
    let start = isLong ? "<details class=\"long\">" : "<details>"
    return "\(start)<summary>\(escape(summary))</summary>\n\(body)</details>\n"
  }

  /// What a bounded list leaves out.
  static func left(_ count: Int, after shown: Int) -> String {
    guard count > shown else { return "" }
    return paragraph("\(grouped(count - shown)) more are left out here; --json has them all.", style: "soft")
  }

  /// A picture, with the sentence that says how to read it. It scrolls in its box where it would become too small.
  static func figure(_ svg: String, _ caption: String) -> String {
    "<figure><div class=\"scroll\">\(svg)</div><figcaption>\(escape(caption))</figcaption></figure>\n"
  }
}
