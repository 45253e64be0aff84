// Names as users write them: globs, and mistyped names, whose refusal lists what is known and suggests the nearest.

/// The refusal of a name that is not in a list; `synonyms` may be suggested, but are not listed.
package func unknownName(_ text: String, kind: String, among known: [String], or synonyms: [String] = [])
  -> RequestError
{
  let near = nearestName(text, among: known + synonyms).map { "did you mean \($0)? " } ?? ""
  return RequestError(
    .usage, "unknown \(kind) '\(text)'", help: near + "known: " + known.joined(separator: ", "))
}

/// The known name with the fewest edits, if no more than half of its letters differ.
package func nearestName(_ text: String, among known: [String]) -> String? {
  let text = Array(text.lowercased())
  let scored = known.map { (name: $0, edits: editDistance(text, Array($0.lowercased()))) }
  guard let best = scored.min(by: { $0.edits < $1.edits }), best.edits * 2 <= best.name.count else {
    return nil
  }
  return best.name
}

/// Insertions, deletions and exchanges that turn one text into the other. Source: Levenshtein 1966.
private func editDistance(_ a: [Character], _ b: [Character]) -> Int {
  var row = Array(0...b.count)
  for (i, x) in a.prefix(200).enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, y) in b.enumerated() {
      let above = row[j + 1]
      row[j + 1] = min(above + 1, row[j] + 1, diagonal + (x == y ? 0 : 1))
      diagonal = above
    }
  }
  return row[b.count]
}

/// How the name of one of several files of a result or a model ends, before its extension: `-00002-of-00005`.
package func partEnding(_ number: Int, of count: Int) -> String {
  func digits(_ value: Int) -> String {
    let text = String(value)
    return String(repeating: "0", count: max(0, 5 - text.utf8.count)) + text
  }
  return "-\(digits(number))-of-\(digits(count))"
}

/// Whether a text fits a glob of `*` and `?`.
/// - Complexity: at most glob × text; no recursion.
package func matchesGlob(_ glob: String, _ text: String) -> Bool {
  let glob = Array(glob.unicodeScalars)
  let text = Array(text.unicodeScalars)
  var (g, t) = (0, 0)
  var star: (glob: Int, text: Int)?
  while t < text.count {
    if g < glob.count, glob[g] == "*" {
      star = (g, t)
      g += 1
    } else if g < glob.count, glob[g] == "?" || glob[g] == text[t] {
      g += 1
      t += 1
    } else if let last = star {  // the last star takes one character more
      g = last.glob + 1
      t = last.text + 1
      star = (last.glob, last.text + 1)
    } else {
      return false
    }
  }
  return glob[g...].allSatisfy { $0 == "*" }
}
