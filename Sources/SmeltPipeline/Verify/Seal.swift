// What verification found, kept in the result itself.

import SmeltContainers
import SmeltStorage

extension Report {
  /// Refuses, before the long pass, a result that has no place for a report.
  /// - Throws: `RequestError` usage.
  package static func requireSealable(_ result: Model) throws {
    if result.source is any SealedSource { return }
    guard pathKind(result.path) == .directory else {
      throw RequestError(
        .usage, "'\(result.path)' has no place for a report", help: "write it to a file with --json or --html"
      )
    }
    let path = joinPath(result.path, ModelCard.fileName)
    let card = try result.smallFile(ModelCard.fileName)
    guard let card, ModelCard.hasPlace(card.array) else {
      throw RequestError(
        .usage,
        card == nil && FileIdentity(path: path) == nil
          ? "'\(result.path)' has no \(ModelCard.fileName) to write the report into"
          : "'\(path)' has no place for a report: it was not written by smelt",
        help: "write the report to a file with --json or --html")
    }
  }

  /// Writes the report into the result it is about: into an ingot, in place of an earlier one, or README.md of a directory.
  /// - Throws: `RequestError` usage where there is no place for it; cannot-create, io; `SRC_CHANGED`.
  package func seal(_ result: Model) throws {
    if let place = result.source as? any SealedSource {
      return try place.seal(Bytes(Array((json.text(indented: true) + "\n").utf8)))
    }
    try Report.requireSealable(result)
    guard let card = try result.smallFile(ModelCard.fileName),
      let sealed = ModelCard.sealed(card.array, with: self.card)
    else { return }
    try writeFile(joinPath(result.path, ModelCard.fileName), sealed, overwrite: true)
    try FolderManifest.update(result.path, ModelCard.fileName, before: card.array, after: sealed)
  }
}
