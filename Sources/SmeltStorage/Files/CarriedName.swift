// Names of files that a result takes over from a source: what a name may be, so that it leads nowhere but below the result.

/// The rule for names of files that go along with a model. Components have `/` between them.
package enum CarriedName {
  /// The most bytes of a name, and of one of its components.
  package static let limits = (name: 1000, component: 255)

  /// What is wrong with a name, or nil: `a.json` and `encoding/a.jinja` are good; what is absolute, leads out, or holds a
  /// character that is not shown or means something to a system is not.
  package static func problem(_ name: String) -> String? {
    if name.isEmpty { return "the name is empty" }
    if name.utf8.count > limits.name {
      return "the name has \(name.utf8.count) bytes, expected at most \(limits.name)"
    }
    if name.utf8.first == 0x2F { return "the name is absolute" }
    for component in name.utf8.split(separator: 0x2F, omittingEmptySubsequences: false) {
      if component.isEmpty { return "the name has an empty component" }
      if component.elementsEqual(".".utf8) || component.elementsEqual("..".utf8) {
        return "the name has the component '\(component.count == 1 ? "." : "..")'"
      }
      if component.count > limits.component {
        return "the name has a component of \(component.count) bytes, expected at most \(limits.component)"
      }
    }
    if name.utf8.contains(0x5C) { return "the name holds a backslash" }
    if name.utf8.contains(0x3A) { return "the name holds a colon" }
    if name.unicodeScalars.contains("\u{FFFD}") { return "the name is not UTF-8" }
    if printable(name) != name { return "the name holds a control character or one that is not shown" }
    return nil
  }

  /// The folders a name lies in, outermost first: `a` and `a/b` of `a/b/c`.
  package static func folders(_ name: String) -> [String] {
    let parts = name.split(separator: "/").dropLast()
    return parts.indices.map { parts[...$0].joined(separator: "/") }
  }
}
