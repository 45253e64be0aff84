// A page: one self-contained file, without scripts and links, in the same style for every verb that writes one.

import SmeltContainers
import SmeltStorage

/// A page under construction.
struct Page {
  /// What stands in the head.
  private let title: String
  /// The command that writes it, by which `--overwrite` knows its own pages.
  private let verb: String
  private var body = ""

  /// - Parameter title: as text.
  init(_ title: String, verb: String) {
    (self.title, self.verb) = (title, verb)
  }

  /// Adds what is already marked up.
  mutating func add(_ markup: String) { body += markup }

  /// Adds a part under a heading; nothing where it has no content.
  mutating func section(_ heading: String, _ markup: String) {
    guard !markup.isEmpty else { return }
    body += "<section><h2>\(HTML.escape(heading))</h2>\n\(markup)</section>\n"
  }

  /// The file.
  var text: String {
    """
    <!doctype html>
    <html lang="en"><head><meta charset="utf-8">\(OutputKind.pageMark)\(smeltVersion) \(verb)">\
    <meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">\
    <title>\(HTML.escape(title))</title><style>
    \(PageStyle.colours)\(PageStyle.layout)\(PageStyle.pictures)</style></head><body>
    <main>
    \(body)</main>
    </body></html>

    """
  }
}
