// `--attest`: what a conversion made of what, as a statement that other programs read, sign and hold against a policy. In-toto
// Statement v1 (in-toto attestation framework, spec/v1/statement.md). Formats/attestation.md, section 2.

import SmeltContainers
import SmeltStorage

/// A statement about a result.
package enum Attestation {
  /// Writes what a conversion made of what. Every byte of the result is read for it.
  /// - Throws: `RequestError` cannot-create, io, interrupted; refusals of the result's list of files.
  package static func write(_ summary: ConvertSummary, to file: ReportFile, _ options: RunOptions) throws {
    try file.write(try statement(summary, options).text(indented: true) + "\n")
  }

  /// Refuses a file for a statement that would lie within the result.
  /// - Throws: `RequestError` usage.
  package static func requireBeside(_ path: String, _ result: String) throws {
    let (file, folder) = (absolutePath(path), absolutePath(withoutSlash(result)))
    guard file != folder, !file.hasPrefix(folder + "/"), parentFolder(path) != withoutSlash(result) else {
      throw RequestError(
        .usage, "--attest '\(path)' lies within the result '\(result)', which it speaks of",
        help: "give it a place beside the result")
    }
  }

  /// Bytes that are hashed before an interruption is looked for, and that stay in memory.
  private static let pieceBytes = 16 << 20

  /// The statement.
  static func statement(_ summary: ConvertSummary, _ options: RunOptions) throws -> JSON {
    let files = try subjects(summary)
    options.progress.begin("hash the result", total: files.count, unit: "files")
    var hashes = [String](repeating: "", count: files.count)
    var place = 0
    try options.parallel.ordered(files.count) { number in
      try Interrupt.check()
      let file = try MappedFile(path: files[number].path)
      var hash = SHA256()
      for start in stride(from: 0, to: file.count, by: Attestation.pieceBytes) {
        try Interrupt.check()
        let piece = file.bytes[start..<min(start + Attestation.pieceBytes, file.count)]
        piece.withUnsafeBytes { hash.update($0) }
        piece.evict()
      }
      return hash.hex()
    } consume: { hash in
      hashes[place] = hash
      place += 1
      options.progress.advance(1)
    }
    options.progress.end()
    let made = summary.provenance.members.filter { $0.0 != "format" }
    return [
      "_type": JSON(OutputKind.statementType),
      "subject": JSON(
        zip(files, hashes).map { file, hash -> JSON in
          ["name": JSON(file.name), "digest": ["sha256": JSON(hash)]]
        }),
      "predicateType": JSON(OutputKind.predicateType),
      "predicate": JSON(members: [("container", JSON(summary.container))] + made),
    ]
  }

  /// The files of a result: those of a folder by their paths below it, others by their names.
  private static func subjects(_ summary: ConvertSummary) throws -> [(name: String, path: String)] {
    let path = withoutSlash(summary.path)
    if pathKind(path) == .directory {
      let list = joinPath(path, FolderManifest.fileName)
      let json = try JSON.scan(
        try readSmallFile(list, limit: 64 << 20, code: .notModel), limits: JSONLimits(values: 64 << 20))
      let names = (json["files"]?.array ?? []).compactMap { $0["name"]?.string } + [FolderManifest.fileName]
      return names.sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }.map {
        ($0, joinPath(path, $0))
      }
    }
    let files = summary.files.isEmpty ? [path] : summary.files
    return files.map { file in
      (fileName(file), file.contains("/") ? file : joinPath(parentFolder(path), file))
    }
  }
}
