// The tables of Formats/report.md as something JSON can be compared with.

package import SmeltStorage

/// One table of Formats/report.md: the keys that an object of a command has, and their types.
package struct Contract: Sendable {
  /// The types by key path, in the words of the document.
  package let types: [String: String]

  /// The table below the heading that names `title` in backticks.
  package init(_ title: String) throws {
    let text = String(decoding: try MappedFile(path: formats("report.md")).bytes.array, as: UTF8.self)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard let heading = lines.firstIndex(where: { $0.hasPrefix("## ") && $0.hasSuffix("`\(title)`") }) else {
      preconditionFailure("report.md has no section `\(title)`")
    }
    var types: [String: String] = [:]
    for line in lines[(heading + 1)...].prefix(while: { !$0.hasPrefix("## ") }) where line.hasPrefix("| `") {
      let cells = line.split(separator: "|").map { $0.drop { $0 == " " } }
      let key = cells[0].drop { $0 == "`" }.prefix { $0 != "`" }
      types[String(key)] = String(cells[1]).trimmingSpaces
    }
    self.types = types
  }

  /// What is wrong with an object: keys the document lacks, types it does not give, keys the object lacks.
  package func problems(_ json: JSON) -> [String] {
    var leaves: [(path: String, value: JSON)] = []
    var empty: [String] = []
    Contract.flatten(json, "", &leaves, &empty)
    var problems: [String] = []
    for (path, value) in leaves {
      guard let type = types[path] else {
        problems.append("report.md lacks \(path)")
        continue
      }
      if !Contract.fits(value, type) {
        problems.append("\(path) is \(value.kind), the document says \(type)")
      }
    }
    let found = Set(leaves.map(\.path))
    for (path, type) in types where !found.contains(path) && !type.hasSuffix("optional") {
      if !empty.contains(where: { path.hasPrefix($0) }) { problems.append("\(path) is missing") }
    }
    return problems.sorted()
  }

  /// The paths that none of the objects has: an optional key is shown by at least one example.
  package func unseen(_ objects: [JSON]) -> [String] {
    var leaves: [(path: String, value: JSON)] = []
    var empty: [String] = []
    for json in objects { Contract.flatten(json, "", &leaves, &empty) }
    return Set(types.keys).subtracting(leaves.map(\.path)).sorted()
  }

  private static func flatten(
    _ json: JSON, _ path: String, _ leaves: inout [(path: String, value: JSON)], _ empty: inout [String]
  ) {
    if let object = json.object {
      for (key, value) in zip(object.keys, object.values) {
        flatten(value, path.isEmpty ? key : "\(path).\(key)", &leaves, &empty)
      }
    } else if let array = json.array {
      if array.isEmpty { empty.append("\(path)[]") }
      for value in array { flatten(value, "\(path)[]", &leaves, &empty) }
    } else {
      leaves.append((path, json))
    }
  }

  private static func fits(_ value: JSON, _ type: String) -> Bool {
    let type = type.hasSuffix(", optional") ? String(type.dropLast(10)) : type
    if value.isNull { return type.hasSuffix(" or null") }
    switch type.split(separator: " ").first ?? "" {
    case "string": return value.string != nil
    case "boolean": return value.bool != nil
    case "integer": if case .integer = value.content { return true } else { return false }
    case "number": return value.double != nil
    default: return false
    }
  }
}

extension String {
  fileprivate var trimmingSpaces: String {
    var text = Substring(self).drop { $0 == " " }
    while text.last == " " { text.removeLast() }
    return String(text)
  }
}
