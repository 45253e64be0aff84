// By whom and from what a report was made: what a reader needs to make it again.

import SmeltContainers
package import SmeltStorage

extension Report {
  /// How a report came about.
  package struct Making: Sendable {
    /// The program.
    package var tool = "smelt \(smeltVersion)"
    /// When the comparison began, UTC.
    package var date = utcText()
    /// Names of the files of text or token ids, without their folders.
    package var texts: [String] = []
    /// SHA-256 of these files end to end; nil without any. Of several texts in the order in which they were given.
    package var textHash: String?
    /// Each of several texts; empty for one.
    private(set) var parts: [Part] = []
    /// The result's recipe as it was recorded; nil where the result does not say.
    package var recipe: JSON?
    /// The method, where numbers were moved on purpose.
    package var method: JSON?
    /// What the result says of the source it was made from: SHA-256 of the list of its tensors' hashes. Nil where it does not say, or was
    /// made from another source.
    package var sourceHash: String?

    /// The files of one of several texts.
    struct Part: Sendable {
      /// Their names, without their folders.
      var files: [String]
      /// SHA-256 of them end to end.
      var hash: String
    }

    /// Of a comparison over some windows.
    /// - Throws: `RequestError` io where the text cannot be read again.
    init(_ windows: Windows) throws {
      texts = windows.files.map { fileName($0) }
      guard !windows.parts.isEmpty else {
        if !windows.files.isEmpty { textHash = try TextSource.hash(windows.files) }
        return
      }
      let hashes = try TextSource.hashes(windows.parts.map(\.files))
      textHash = hashes.all
      parts = zip(windows.parts, hashes.each).map { part, hash in
        Part(files: part.files.map { fileName($0) }, hash: hash)
      }
    }

    /// SHA-256 of the list of files in a folder that Smelt wrote; nil for other models.
    static func manifestHash(_ model: Model) -> String? {
      guard pathKind(model.path) == .directory,
        let bytes = try? readSmallFile(
          joinPath(model.path, FolderManifest.fileName), limit: 64 << 20, code: .missingFile)
      else { return nil }
      return SHA256.hex(bytes)
    }

    /// Adds what the result says of its making.
    mutating func add(_ origin: Origin?, source: Model) {
      recipe = origin?.recipe
      method = origin?.method
      if let origin, origin.isMade(from: source) { sourceHash = origin.sourceHash }
    }

    /// What a reader is told of the recipe: its default scheme and how many rules change it.
    var recipeText: String? {
      guard let recipe, let scheme = recipe["default"]?.string else { return nil }
      let rules = recipe["rules"]?.array?.count ?? 0
      return scheme + (rules > 0 ? " and \(grouped(rules)) rule\(rules == 1 ? "" : "s")" : "")
        + (recipe["observer"]?.string.map { ", observer \($0)" } ?? "")
        + (methodText.map { ", method \($0)" } ?? "")
    }

    private var methodText: String? { method?["name"]?.string }

    /// For machines, as members of the report.
    var members: [(String, JSON)] {
      [
        ("tool", JSON(tool)), ("date", JSON(date)),
        ("text", ["files": JSON(texts.map { JSON($0) }), "sha256": JSON(textHash)]),
        (
          "made",
          [
            "recipe": JSON(recipe?.text()), "method": JSON(method?.text()), "source_sha256": JSON(sourceHash),
          ]
        ),
      ]
    }
  }
}
