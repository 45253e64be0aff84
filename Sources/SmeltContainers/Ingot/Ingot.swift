// Reading an ingot: the index when it is opened, a weight when it is asked for. Raw weights are lent from the
// mapping; compressed ones are inflated and kept for a while. Formats/ingot.md, sections 3, 6 and 8.

package import SmeltStorage
package import SmeltTensors

/// Where some bytes of an ingot lie.
package struct IngotRange: Sendable, Hashable {
  /// The file.
  package let file: String
  /// The first byte.
  package let offset: Int
  /// The number of bytes.
  package let count: Int
  /// The weights that lie there.
  package let weights: [String]
}

/// An ingot, opened and checked as far as headers and indices go; one file or several.
package final class IngotFile: Sendable {
  /// The path it was opened by.
  package let path: String
  /// What the writer said about the file: format, tool version, family, provenance. Formats/ingot.md, 4.9.
  package let metadata: JSON
  /// SHA-256 of what the ingot holds, however it is stored; lower-case hexadecimal. Formats/ingot.md, section 5.
  package let contentHash: String

  let parts: [IngotFilePart]
  let cache: IngotCache

  /// Maps an ingot, all its files where there are several, and reads headers and indices.
  /// - Parameters:
  ///   - path: the file, or any of the files.
  ///   - cacheBytes: how many bytes of inflated weights are kept; a larger weight is inflated each time.
  /// - Throws: `C_HEADER`, `C_INDEX`, `C_BOMB`; `C_SPLIT` when a part is missing or belongs to another ingot;
  ///   `SRC_MISSING`, `SRC_NOT_FILE`, `SRC_LFS_POINTER`.
  package init(path: String, cacheBytes: Int = 256 << 20) throws {
    self.path = path
    parts = try IngotFilePart.all(path)
    metadata = parts[parts.count - 1].index.metadata
    contentHash = hexadecimal(parts[0].index.contentHash)
    cache = IngotCache(limit: cacheBytes)
  }

  /// Whether a regular file starts as an ingot does, whatever its name.
  package static func isIngot(_ path: String) -> Bool {
    guard pathKind(path) == .file, let file = try? MappedFile(path: path) else { return false }
    return file.bytes[0..<min(file.count, IngotLimits.magic.count)].array == IngotLimits.magic
  }

  /// The size of all files.
  package var byteCount: Int { parts.reduce(0) { $0 + $1.bytes.count } }

  /// The files with their sizes, in order.
  package var files: [(path: String, byteCount: Int)] { parts.map { ($0.path, $0.bytes.count) } }

  /// Bytes of inflated weights that are kept now.
  package var cachedBytes: Int { cache.byteCount }

  /// The number of weights.
  package var weightCount: Int { parts.reduce(0) { $0 + $1.index.counts.weights } }

  /// The weights in the order of the files.
  package var entries: [IngotEntry] {
    parts.enumerated().flatMap { number, part in
      (0..<part.index.counts.weights).map { part.index.entry($0, fileNumber: number) }
    }
  }

  /// The names of the model's small files inside, in the order of the file.
  package var fileNames: [String] { names(.file) }

  /// The names of the files about the ingot: its ledger, its report.
  package var noteNames: [String] { names(.note) }

  private func names(_ kind: OtherRecord.Kind) -> [String] {
    parts.flatMap { $0.index.others.filter { $0.kind == kind }.map(\.name) }
  }

  /// The entry of a name, or nil.
  package func entry(_ name: String) -> IngotEntry? {
    for (number, part) in parts.enumerated() {
      if let row = part.index.find(name) { return part.index.entry(row, fileNumber: number) }
    }
    return nil
  }

  /// Where all matrices of a routed expert lie, or nil when the ingot has no such expert. Looks into a table; nothing is read.
  package func range(layer: Int, expert: Int) -> IngotRange? {
    for part in parts {
      guard let rows = part.index.weights(layer: layer, expert: expert) else { continue }
      let weights = rows.map { part.index.entry($0) }
      guard let first = weights.first?.parts.first, let last = weights.last?.parts.last else { continue }
      return IngotRange(
        file: part.path, offset: first.frame.offset, count: last.frame.end - first.frame.offset,
        weights: weights.map(\.name))
    }
    return nil
  }

  /// Throws `SRC_CHANGED` when a file is no longer what it was when it was opened.
  package func checkUnchanged() throws(FormatError) {
    for part in parts { try part.mapping.checkUnchanged() }
  }

  // MARK: weights and files

  /// The weight of a name. Raw parts are lent from the mapping, compressed ones are inflated and kept for the next call while
  /// there is room. Each chunk is held against its checksum when it is used for the first time, whatever its codec.
  /// - Parameter parallel: threads for the chunks of a large compressed weight.
  /// - Throws: `ARCH_INCOMPLETE` when no weight has that name; `C_CHECKSUM` or `C_FRAME` naming weight, part and chunk.
  package func weight(_ name: String, parallel: Parallel) throws -> Weight {
    guard let entry = entry(name) else {
      throw FormatError(.incomplete, file: path, subject: name, "is not in the ingot")
    }
    let key = entry.row * parts.count + entry.fileNumber
    if let weight = cache.find(key) { return weight }
    let file = parts[entry.fileNumber]
    var inflated = 0
    let content = try entry.parts.map { part in
      if part.frame.codec != .raw { inflated += part.frame.contentLength }
      return Part(
        part.name, dtype: part.dtype, shape: part.shape, bytes: try file.content(part.frame, parallel))
    }
    let weight = try Weight(
      name: name, shape: entry.shape, encoding: entry.encoding, parts: content, file: file.path)
    if inflated > 0 { cache.keep(key, weight, byteCount: inflated) }
    return weight
  }

  /// The weight of a name; chunks are inflated on the caller's thread.
  /// - Throws: `ARCH_INCOMPLETE` when no weight has that name; `C_CHECKSUM` or `C_FRAME` naming weight, part and chunk.
  package func weight(_ name: String) throws -> Weight { try weight(name, parallel: .serial) }

  /// Lets the system take back the pages that hold a weight.
  package func evict(_ name: String) {
    guard let entry = entry(name) else { return }
    for part in entry.parts { parts[entry.fileNumber].bytes[part.frame.offset..<part.frame.end].evict() }
  }

  /// Tells the system that a weight's bytes will be needed soon.
  package func willNeed(_ name: String) {
    guard let entry = entry(name) else { return }
    for part in entry.parts {
      parts[entry.fileNumber].bytes[part.frame.offset..<part.frame.end].willNeed()
    }
  }

  /// The content of a small file or note inside, verified; nil if there is no such thing of that name.
  /// - Throws: `C_CHECKSUM` or `C_FRAME`.
  package func file(_ name: String) throws -> Bytes? {
    for part in parts {
      guard let other = part.index.others.first(where: { $0.kind != .retired && $0.name == name }) else {
        continue
      }
      return try part.content(part.index.frame(other.frame), .serial)
    }
    return nil
  }
}
