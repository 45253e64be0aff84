// Paths with * and ?: the files they mean, in an order that is the same everywhere.

/// The regular files a path or a pattern means. A path that is there is taken as it is, whatever its characters; else `*`
/// and `?` stand for any characters of one name, hidden files apart.
/// - Returns: names in the order of their bytes, folder by folder.
/// - Throws: `SRC_MISSING` when nothing fits.
package func files(matching pattern: String) throws -> [String] {
  guard pathKind(pattern) == .nothing, pattern.contains(where: { $0 == "*" || $0 == "?" }) else {
    return [pattern]  // what is missing or no file is refused by whoever opens it
  }
  var found = [pattern.hasPrefix("/") ? "/" : ""]
  let pieces = pattern.split(separator: "/", omittingEmptySubsequences: true).map(String.init)
  for (index, piece) in pieces.enumerated() {
    let wanted: PathKind = index == pieces.count - 1 ? .file : .directory
    var next: [String] = []
    for folder in found {
      func path(_ name: String) -> String { folder.isEmpty ? name : joinPath(folder, name) }
      guard piece.contains(where: { $0 == "*" || $0 == "?" }) else {
        next.append(path(piece))
        continue
      }
      guard pathKind(folder.isEmpty ? "." : folder) == .directory else { continue }
      next += try namesInFolder(folder.isEmpty ? "." : folder).filter {
        !$0.hasPrefix(".") && matchesGlob(piece, $0) && pathKind(path($0)) == wanted
      }.map(path)
    }
    found = next
  }
  found.removeAll { pathKind($0) != .file }
  guard !found.isEmpty else {
    throw FormatError(.missingFile, file: pattern, "no file has a name of this pattern")
  }
  return found
}
