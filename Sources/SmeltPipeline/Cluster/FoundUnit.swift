// Parts that tasks of a cluster left in folders, as a join finds them.

import SmeltStorage

/// A unit's manifest in a folder, and the file that it speaks of.
struct FoundUnit {
  let manifest: UnitManifest
  let manifestPath: String
  let path: String

  var file: UnitFile {
    UnitFile(path: path, byteCount: manifest.byteCount, sum: manifest.sum, counts: manifest.counts)
  }

  /// All of a folder, in order of their units.
  static func all(in folder: String) throws -> [FoundUnit] {
    guard pathKind(folder) == .directory else {
      throw FormatError(.missingFile, file: folder, "there is no such folder of parts")
    }
    return try namesInFolder(folder).filter { $0.hasSuffix(UnitManifest.ending) }.map { name in
      let path = joinPath(folder, name)
      return FoundUnit(
        manifest: try UnitManifest(path: path), manifestPath: path,
        path: String(path.dropLast(UnitManifest.ending.count)))
    }.sorted { $0.manifest.unit < $1.manifest.unit }
  }

  /// Removes the file, its manifest, and what killed tasks left of them.
  func remove() {
    removeFile(manifestPath)
    removeFile(path)
    let own = [fileName(manifestPath), fileName(path)]
    for name in (try? namesInFolder(parentFolder(path))) ?? [] {
      guard
        own.contains(where: { name.hasPrefix($0) && FoundUnit.isLeftover(name.dropFirst($0.count)) })
          || name == fileName(ResultJournal.path(path))
      else { continue }
      removeFile(joinPath(parentFolder(path), name))
    }
  }

  /// Whether a name's end is one that tasks give to what they keep: Formats/manifest.md, section 5.
  private static func isLeftover(_ ending: Substring) -> Bool {
    var words = ending.split(separator: "-", omittingEmptySubsequences: false)
    guard words.count > 1, words.removeFirst() == ".partial" else { return false }
    if words[0] == "layers" || words[0] == "activations" { words.removeFirst() }
    return !words.isEmpty && words.allSatisfy { !$0.isEmpty && $0.allSatisfy { ("0"..."9").contains($0) } }
  }

  /// One for each unit, in order.
  /// - Parameters:
  ///   - found: each of a number that `names` has.
  ///   - names: the files of all units.
  ///   - check: holds the file of one against what is said of it.
  /// - Throws: `UNIT_MISMATCH` where one is missing, or twice with different bytes.
  static func distinct(
    _ found: [FoundUnit], names: [String], _ folders: [String],
    check: (UnitFile) throws -> Void = { try $0.check() }
  ) throws -> [FoundUnit] {
    var byNumber: [Int: FoundUnit] = [:]
    for part in found {
      guard let other = byNumber[part.manifest.unit] else {
        byNumber[part.manifest.unit] = part
        continue
      }
      guard other.manifest.sum == part.manifest.sum, other.manifest.byteCount == part.manifest.byteCount
      else {
        throw FormatError(
          .unitMismatch, file: part.manifestPath, subject: "unit \(part.manifest.unit + 1)",
          "has other bytes than '\(other.manifestPath)' says")
      }
      // The first is read by whoever joins them.
      try check(part.file)
    }
    let missing = names.indices.filter { byNumber[$0] == nil }
    guard missing.isEmpty else {
      let words = missing.prefix(5).map { names[$0] }.joined(separator: ", ")
      throw FormatError(
        .unitMismatch, file: folders.first,
        "\(missing.count) of \(names.count) units are missing: \(words)\(missing.count > 5 ? " and others" : "")",
        help: "run the tasks again whose shares they are: a task does only what is missing")
    }
    return names.indices.compactMap { byNumber[$0] }
  }

  /// Removes parts, and folders that are empty then.
  static func remove(_ found: [FoundUnit], _ folders: [String]) {
    for part in found { part.remove() }
    for folder in folders { removeEmptyFolder(withoutSlash(folder)) }
  }
}
