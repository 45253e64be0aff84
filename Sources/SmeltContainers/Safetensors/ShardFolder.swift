// The folder of a checkpoint and the door its files go through: which names there are, which of them are shards, and
// where a symbolic link may lead. Formats/safetensors.md, rules 23, 24 and 28.

package import SmeltStorage

/// A folder with weights in it.
package struct ShardFolder {
  /// The folder as the caller knows it.
  let path: String
  /// Every name in it, in order of their bytes.
  package let names: [String]
  /// The folder with its links resolved.
  private let home: String

  /// Lists a folder.
  /// - Throws: `SRC_MISSING`, `SRC_NOT_MODEL`.
  package init(_ path: String) throws {
    switch pathKind(path) {
    case .directory: break
    case .nothing: throw FormatError(.missingFile, file: path, "there is no such folder")
    case let kind: throw FormatError(.notModel, file: path, "found \(kind.words), expected a folder")
    }
    guard let home = resolvedPath(path) else {
      throw FormatError(.missingFile, file: path, "there is no such folder")
    }
    self.path = path
    self.home = home
    names = try namesInFolder(path)
  }

  /// The path of a file in the folder.
  package func file(_ name: String) -> String { joinPath(path, name) }

  /// Where a file of the folder really is. A link must stay in the folder or be the hub cache's own,
  /// `snapshots/<revision>/… → blobs/<digest>` of one repository. Call it just before opening.
  /// - Throws: `IDX_MISSING` for a link to nothing, `IDX_LINK` for one that leaves.
  package func resolve(_ name: String) throws(FormatError) -> String {
    let place = file(name)
    guard isSymbolicLink(place) else { return place }
    guard let target = resolvedPath(place) else {
      throw FormatError(.idxMissing, file: place, "the file is a symbolic link to nothing")
    }
    if target.hasPrefix(home.hasSuffix("/") ? home : home + "/") || isHubBlob(target) { return target }
    throw FormatError(.idxLink, file: place, "the link leads to '\(target)', expected a file of '\(path)'")
  }

  private func isHubBlob(_ target: String) -> Bool {
    let parts = home.split(separator: "/")
    guard let snapshots = parts.lastIndex(of: "snapshots"), snapshots > 0, snapshots + 1 < parts.count else {
      return false
    }
    let repository = parts[..<snapshots]
    let digest = fileName(target)
    let isDigest =
      (digest.utf8.count == 40 || digest.utf8.count == 64)
      && digest.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    return isDigest && target == "/" + (repository + ["blobs", Substring(digest)]).joined(separator: "/")
  }

  /// Refuses a set of shards of which some are not there, naming all of those.
  /// - Throws: `IDX_MISSING`.
  func requireAll(_ shards: [String], namedBy index: String) throws(FormatError) {
    let missing = shards.filter { pathKind(file($0)) == .nothing }
    guard missing.isEmpty else { throw absent(missing, of: shards.count, index) }
  }

  private func absent(_ missing: [String], of total: Int, _ place: String) -> FormatError {
    let limit = 1000
    let list = missing.prefix(limit).joined(separator: ", ")
    return FormatError(
      .idxMissing, file: place, subject: missing.first,
      "\(missing.count) of \(total) shards are missing: \(list)"
        + (missing.count > limit ? " and \(missing.count - limit) more" : ""))
  }

  /// The safetensors of a folder that has no index.
  /// - Throws: `SRC_NOT_MODEL` when there are none, `IDX_MISSING` when nobody can say which belong together.
  func namesWithoutIndex() throws(FormatError) -> [String] {
    let candidates = names.filter { $0.hasSuffix(".safetensors") }
    if candidates.contains("model.safetensors") { return ["model.safetensors"] }
    guard !candidates.isEmpty else {
      throw FormatError(
        .notModel, file: path,
        "found no *.safetensors\(names.contains("pytorch_model.bin") ? ", but pytorch_model.bin" : "")")
    }
    let sets = Dictionary(grouping: candidates.compactMap { ShardName($0) }) {
      [$0.prefix, String($0.total)]
    }
    let main = sets.filter { $0.key[0] == "model" }
    if let set = main.count == 1 ? main.first : sets.count == 1 ? sets.first : nil, let any = set.value.first
    {
      let wanted = (1...any.total).map { any.name(of: $0) }
      let here = Set(candidates)
      let missing = wanted.filter { !here.contains($0) }
      guard missing.isEmpty else {
        var error = absent(missing, of: any.total, path)
        error.problem += "; \(SafetensorsIndex.fileName) is absent too"
        throw error
      }
      return wanted
    }
    if candidates.count == 1 { return candidates }
    throw FormatError(
      .idxMissing, file: path, subject: SafetensorsIndex.fileName,
      "found \(candidates.count) safetensors files and no index that says which belong to the model",
      help: "fetch the index, or keep the model's file alone in the folder")
  }
}
