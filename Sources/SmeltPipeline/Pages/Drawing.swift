// SVG by hand: elements in a picture 720 units wide.

/// Elements of a picture.
enum Drawing {
  /// The width of every picture.
  static let width = 720.0

  /// A whole picture.
  /// - Parameters:
  ///   - title: what it shows, as text; `description` the same for those who do not see it.
  static func picture(_ title: String, _ description: String, height: Double, _ content: String) -> String {
    """
    <svg viewBox="0 0 \(n(width)) \(n(height))" role="img">
    <title>\(HTML.escape(title))</title><desc>\(HTML.escape(description))</desc>
    \(content)</svg>
    """
  }

  /// A coordinate.
  static func n(_ value: Double) -> String {
    let text = fixed(value, 1)
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }

  static func text(_ x: Double, _ y: Double, _ text: String, _ style: String = "") -> String {
    "<text x=\"\(n(x))\" y=\"\(n(y))\"\(style.isEmpty ? "" : " class=\"\(style)\"")>\(HTML.escape(text))</text>\n"
  }

  static func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ style: String) -> String {
    "<path class=\"\(style)\" d=\"M\(n(x1)) \(n(y1))L\(n(x2)) \(n(y2))\"/>\n"
  }

  static func path(_ points: [(x: Double, y: Double)], _ style: String) -> String {
    guard let first = points.first else { return "" }
    let rest = points.dropFirst().map { "L\(n($0.x)) \(n($0.y))" }.joined()
    return "<path class=\"\(style)\" d=\"M\(n(first.x)) \(n(first.y))\(rest)\"/>\n"
  }

  /// A box; what a pointer is told stands in `title`.
  static func box(
    _ x: Double, _ y: Double, _ width: Double, _ height: Double, _ style: String, title: String? = nil
  ) -> String {
    let start =
      "<rect x=\"\(n(x))\" y=\"\(n(y))\" width=\"\(n(max(width, 0)))\" height=\"\(n(height))\" class=\"\(style)\""
    return title.map { "\(start)><title>\(HTML.escape($0))</title></rect>\n" } ?? "\(start)/>\n"
  }

  /// A mark of a series: discs, squares, triangles, so that no meaning rests on colour alone.
  static func mark(_ x: Double, _ y: Double, series: Int, title: String? = nil) -> String {
    let told = title.map { "<title>\(HTML.escape($0))</title>" } ?? ""
    switch series {
    case 0: return "<circle cx=\"\(n(x))\" cy=\"\(n(y))\" r=\"4\" class=\"f0\">\(told)</circle>\n"
    case 1:
      return
        "<path class=\"f1\" d=\"M\(n(x)) \(n(y - 5.5))l5.5 5.5l-5.5 5.5l-5.5 -5.5z\">\(told)</path>\n"
    default:
      return
        "<rect x=\"\(n(x - 4))\" y=\"\(n(y - 4))\" width=\"8\" height=\"8\" class=\"f2\">\(told)</rect>\n"
    }
  }

  /// About how wide a text is.
  static func textWidth(_ text: String) -> Double { 7.2 * Double(text.count) }

  /// A name of a legend.
  struct Series {
    /// How a series is drawn.
    enum Form {
      case mark
      case bar
      case line
    }

    var name: String
    var series: Int
    var form = Form.mark
  }

  /// Names of series with what they are drawn with, side by side.
  static func legend(_ names: [Series], x: Double, y: Double) -> String {
    var out = ""
    var place = x
    for entry in names {
      switch entry.form {
      case .mark: out += mark(place + 5, y - 4.5, series: entry.series)
      case .bar: out += box(place, y - 9, 12, 9, "f\(entry.series)")
      case .line: out += line(place - 4, y - 4.5, place + 14, y - 4.5, "l\(entry.series)")
      }
      out += text(place + 18, y, entry.name)
      place += textWidth(entry.name) + 40
    }
    return out
  }
}
