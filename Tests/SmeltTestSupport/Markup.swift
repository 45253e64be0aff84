// Pages and pictures read back: a small reader of well-formed markup, as strict as XML about tags, attributes and entities.

/// An element of a page.
package struct Markup: Sendable {
  /// Why a text is not well-formed.
  package struct Failure: Error, CustomStringConvertible {
    package let description: String
  }

  /// The element's name; empty for the page itself.
  package var name: String
  /// Its attributes.
  package var attributes: [String: String] = [:]
  /// The elements in it.
  package var children: [Markup] = []
  /// The text right in it, entities resolved.
  package var text = ""

  /// Reads a page or a picture. `meta` has no end tag, as in HTML.
  /// - Throws: `Failure` where a tag is not closed, closed twice, or a character is not escaped.
  package init(_ source: String) throws {
    var source = Substring(source)
    let doctype = "<!doctype html>\n"
    if source.hasPrefix(doctype) { source = source.dropFirst(doctype.count) }
    var open = [Markup(name: "")]
    while let first = source.first {
      guard first == "<" else {
        let text = source.prefix { $0 != "<" }
        open[open.count - 1].text += try Markup.resolved(text)
        source = source.dropFirst(text.count)
        continue
      }
      guard let end = source.firstIndex(of: ">") else { throw Failure(description: "a tag has no end") }
      var tag = source[source.index(after: source.startIndex)..<end]
      source = source[source.index(after: end)...]
      if tag.hasPrefix("/") {
        guard open.count > 1, open[open.count - 1].name == tag.dropFirst() else {
          throw Failure(description: "</\(tag.dropFirst())> closes \(open[open.count - 1].name)")
        }
        let closed = open.removeLast()
        open[open.count - 1].children.append(closed)
        continue
      }
      let isClosed = tag.hasSuffix("/")
      if isClosed { tag = tag.dropLast() }
      let element = try Markup(tag: tag)
      if isClosed || element.name == "meta" {
        open[open.count - 1].children.append(element)
      } else {
        open.append(element)
      }
    }
    guard open.count == 1 else { throw Failure(description: "<\(open[open.count - 1].name)> is not closed") }
    self = open[0]
  }

  private init(name: String) { self.name = name }

  private init(tag: Substring) throws {
    var rest = tag
    let name = rest.prefix { $0.isLetter || $0.isNumber }
    guard !name.isEmpty else { throw Failure(description: "a tag without a name: <\(tag)>") }
    self.name = String(name)
    rest = rest.dropFirst(name.count)
    while !rest.drop(while: \.isWhitespace).isEmpty {
      guard rest.first?.isWhitespace == true else {
        throw Failure(description: "attributes run together in <\(tag)>")
      }
      rest = rest.drop(while: \.isWhitespace)
      let key = rest.prefix { $0 != "=" && !$0.isWhitespace }
      rest = rest.dropFirst(key.count)
      guard rest.hasPrefix("=\"") else { throw Failure(description: "'\(key)' has no value in <\(tag)>") }
      rest = rest.dropFirst(2)
      let value = rest.prefix { $0 != "\"" }
      guard rest.count > value.count else { throw Failure(description: "'\(key)' does not end in <\(tag)>") }
      rest = rest.dropFirst(value.count + 1)
      guard attributes[String(key)] == nil else { throw Failure(description: "'\(key)' twice in <\(tag)>") }
      attributes[String(key)] = try Markup.resolved(value)
    }
  }

  private static func resolved(_ text: Substring) throws -> String {
    var (out, rest) = ("", text)
    while let mark = rest.firstIndex(of: "&") {
      out += rest[..<mark]
      guard let end = rest[mark...].firstIndex(of: ";"),
        let character = ["amp": "&", "lt": "<", "gt": ">", "quot": "\""][rest[rest.index(after: mark)..<end]]
      else { throw Failure(description: "& is not escaped: \(rest[mark...].prefix(20))") }
      out += character
      rest = rest[rest.index(after: end)...]
    }
    return out + rest
  }

  /// All elements of a name, in the order of the page.
  package func all(_ name: String) -> [Markup] {
    children.flatMap { ($0.name == name ? [$0] : []) + $0.all(name) }
  }

  /// All text, that of inner elements included.
  package var allText: String { text + children.map { " " + $0.allText }.joined() }
}
