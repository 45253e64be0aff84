// The list of what Smelt wrote into a folder: names, sizes, hashes. `--overwrite` replaces a folder only if it holds exactly
// that. Formats/manifest.md.

/// The files of a result folder. Formats/manifest.md.
package struct FolderManifest: Sendable {
  /// The list's own name in the folder.
  package static let fileName = "smelt-manifest.json"
  /// The `schema` of the list.
  package static let schema = "smelt.manifest/1"
  private static let byteLimit = 64 << 20

  /// One file of the folder.
  package struct File: Sendable, Hashable {
    /// The path below the folder, with `/` between its components.
    package var name: String
    /// Its size.
    package var byteCount: Int
    /// XXH64 of its bytes.
    package var hash: UInt64

    /// A file of a list.
    package init(name: String, byteCount: Int, hash: UInt64) {
      self.name = name
      self.byteCount = byteCount
      self.hash = hash
    }
  }

  /// The program that wrote the folder.
  package var tool: String
  /// The files, in order of the bytes of their names. The list itself is not among them.
  package var files: [File]

  /// A list of files in any order.
  package init(tool: String, files: [File]) {
    self.tool = tool
    self.files = files.sorted { Array($0.name.utf8).lexicographicallyPrecedes(Array($1.name.utf8)) }
  }

  /// The text of the list.
  package var text: [UInt8] {
    let json = JSON(members: [
      ("schema", JSON(FolderManifest.schema)), ("tool", JSON(tool)),
      (
        "files",
        JSON(
          files.map {
            ["name": JSON($0.name), "bytes": JSON($0.byteCount), "xxh64": JSON(hexadecimal($0.hash))]
          })
      ),
    ])
    return Array((json.text(indented: true) + "\n").utf8)
  }

  /// The list of a folder; nil when the folder has none, or one that Smelt would not write.
  /// - Throws: `RequestError` io.
  package static func read(_ folder: String) throws -> FolderManifest? {
    let path = joinPath(folder, fileName)
    guard let stamp = FileStamp(path: path), stamp.isFile, stamp.byteCount <= byteLimit else { return nil }
    guard let json = try? JSON.scan(try MappedFile(path: path).bytes, limits: JSONLimits(values: 4 << 20)),
      json["schema"]?.string == schema, let tool = json["tool"]?.string, let list = json["files"]?.array
    else { return nil }
    var files: [File] = []
    var seen: Set<[UInt8]> = []
    for entry in list {
      guard let name = entry["name"]?.string, CarriedName.problem(name) == nil, name != fileName,
        let bytes = entry["bytes"]?.integer, bytes >= 0, let digits = entry["xxh64"]?.string,
        digits.utf8.count == 16, let hash = UInt64(digits, radix: 16), seen.insert(Array(name.utf8)).inserted
      else { return nil }
      files.append(File(name: name, byteCount: bytes, hash: hash))
    }
    return FolderManifest(tool: tool, files: files)
  }

  /// What a file on the disk is: its size and its hash.
  /// - Throws: `RequestError` io, interrupted.
  static func contents(of path: String) throws -> (byteCount: Int, hash: UInt64) {
    let (byteCount, hash) = try FileSum.xxh64.contents(of: path)
    return (byteCount, hash)
  }

  /// Takes what a file of the folder is now for what Smelt wrote, after Smelt itself changed it. A folder without a list, or
  /// whose list does not name the file, stays as it is.
  /// - Parameter before: the file's bytes before the change: a file that was not as the list says is not claimed.
  /// - Throws: `RequestError` io.
  package static func update(_ folder: String, _ name: String, before: [UInt8], after: [UInt8]) throws {
    guard var manifest = try read(folder), let place = manifest.files.firstIndex(where: { $0.name == name }),
      manifest.files[place].byteCount == before.count,
      manifest.files[place].hash == before.withUnsafeBytes({ xxh64($0) })
    else { return }
    manifest.files[place] = File(
      name: name, byteCount: after.count, hash: after.withUnsafeBytes { xxh64($0) })
    try writeFile(joinPath(folder, fileName), manifest.text, overwrite: true)
  }
}
