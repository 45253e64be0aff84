// Reading an ingot: the index when it is opened, a weight when it is asked for. Raw weights are lent from the
// mapping; compressed ones are inflated and kept for a while. Formats/ingot.md, sections 3, 6 and 8.

public import SmeltStorage
public import SmeltTensors

/// Where some bytes of an ingot lie.
public struct IngotRange: Sendable, Hashable {
  /// The file.
  public let file: String
  /// The first byte.
  public let offset: Int
  /// The number of bytes.
  public let count: Int
  /// The weights that lie there.
  public let weights: [String]
}

/// An ingot, opened and checked as far as headers and indices go; one file or several.
public final class IngotFile: Sendable {
  /// The path it was opened by.
  public let path: String
  /// What the writer said about the file: format, tool version, family, provenance. Formats/ingot.md, 4.9.
  public let metadata: JSON
  /// SHA-256 of what the ingot holds, however it is stored; lower-case hexadecimal. Formats/ingot.md, section 5.
  public let contentHash: String

  let parts: [IngotFilePart]
  let cache: IngotCache

  /// Maps an ingot, all its files where there are several, and reads headers and indices.
  /// - Parameters:
  ///   - path: the file, or any of the files.
  ///   - cacheBytes: how many bytes of inflated weights are kept; a larger weight is inflated each time.
  /// - Throws: `C_HEADER`, `C_INDEX`, `C_BOMB`; `C_SPLIT` when a part is missing or belongs to another ingot;
  ///   `SRC_MISSING`, `SRC_NOT_FILE`, `SRC_LFS_POINTER`.
  public init(path: String, cacheBytes: Int = 256 << 20) throws {
    self.path = path
    parts = try IngotFilePart.all(path)
    metadata = parts[parts.count - 1].index.metadata
    contentHash = hexadecimal(parts[0].index.contentHash)
    cache = IngotCache(limit: cacheBytes)
  }

  /// Whether a regular file starts as an ingot does, whatever its name.
  public static func isIngot(_ path: String) -> Bool {
    guard pathKind(path) == .file, let file = try? MappedFile(path: path) else { return false }
    return file.bytes[0..<min(file.count, IngotLimits.magic.count)].array == IngotLimits.magic
  }

  /// The size of all files.
  public var byteCount: Int { parts.reduce(0) { $0 + $1.bytes.count } }

  /// The files with their sizes, in order.
  public var files: [(path: String, byteCount: Int)] { parts.map { ($0.path, $0.bytes.count) } }

  /// Bytes of inflated weights that are kept now.
  public var cachedBytes: Int { cache.byteCount }

  /// The number of weights.
  public var weightCount: Int { parts.reduce(0) { $0 + $1.index.counts.weights } }

  /// The weights in the order of the files.
  public var entries: [IngotEntry] {
    parts.enumerated().flatMap { number, part in
      (0..<part.index.counts.weights).map { part.index.entry($0, fileNumber: number) }
    }
  }

  /// The names of the model's small files inside, in the order of the file.
  public var fileNames: [String] { names(.file) }

  /// The names of the files about the ingot: its ledger, its report.
  public var noteNames: [String] { names(.note) }

  private func names(_ kind: OtherRecord.Kind) -> [String] {
    parts.flatMap { $0.index.others.filter { $0.kind == kind }.map(\.name) }
  }

  /// The entry of a name, or nil.
  public func entry(_ name: String) -> IngotEntry? {
    for (number, part) in parts.enumerated() {
      if let row = part.index.find(name) { return part.index.entry(row, fileNumber: number) }
    }
    return nil
  }

  /// Where all matrices of a routed expert lie, or nil when the ingot has no such expert. Looks into a table; nothing is read.
  public func range(layer: Int, expert: Int) -> IngotRange? {
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
  public func checkUnchanged() throws(FormatError) {
    for part in parts { try part.mapping.checkUnchanged() }
  }

  // MARK: weights and files

  /// The weight of a name. Raw parts are lent from the mapping and not verified here; compressed parts are verified
  /// and inflated, and kept for the next call while there is room.
  /// - Parameter parallel: threads for the chunks of a large compressed weight.
  /// - Throws: `ARCH_INCOMPLETE` when there is none of that name; `C_CHECKSUM` or `C_FRAME` naming weight, part and chunk.
  public func weight(_ name: String, parallel: Parallel) throws -> Weight {
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
  /// - Throws: `ARCH_INCOMPLETE` when there is none of that name; `C_CHECKSUM` or `C_FRAME` naming weight, part and chunk.
  public func weight(_ name: String) throws -> Weight { try weight(name, parallel: .serial) }

  /// Lets the system take back the pages that hold a weight.
  public func evict(_ name: String) {
    guard let entry = entry(name) else { return }
    for part in entry.parts { parts[entry.fileNumber].bytes[part.frame.offset..<part.frame.end].evict() }
  }

  /// Tells the system that a weight's bytes will be needed soon.
  public func willNeed(_ name: String) {
    guard let entry = entry(name) else { return }
    for part in entry.parts {
      parts[entry.fileNumber].bytes[part.frame.offset..<part.frame.end].willNeed()
    }
  }

  /// The content of a small file or note inside, verified; nil when there is none of that name.
  /// - Throws: `C_CHECKSUM` or `C_FRAME`.
  public func file(_ name: String) throws -> Bytes? {
    for part in parts {
      guard let other = part.index.others.first(where: { $0.kind != .retired && $0.name == name }) else {
        continue
      }
      let frame = part.index.frame(other.frame)
      if frame.codec == .raw {
        for piece in part.pieces(of: frame) { try part.verify(piece, frame) }
      }
      return try part.content(frame, .serial)
    }
    return nil
  }
}

/// One file of an ingot.
struct IngotFilePart: Sendable {
  let path: String
  let mapping: MappedFile
  let bytes: Bytes
  let index: IngotIndex

  /// Maps a file and reads its header and index.
  init(path: String) throws {
    self.path = path
    mapping = try MappedFile(path: path)
    bytes = mapping.bytes
    let header = try IngotHeader(bytes, file: path)
    let indexBytes = bytes[header.indexOffset..<header.indexOffset + header.indexLength]
    let checksum = indexBytes.withUnsafeBytes { CRC32C.hash($0) }
    guard checksum == header.indexChecksum else {  // I6
      throw FormatError(
        .ingotHeader, file: path, subject: "index", offset: 32,
        "the index has the checksum \(hex(checksum)), expected \(hex(header.indexChecksum))",
        help: "the file was damaged after it was written; copy it again")
    }
    index = try IngotIndex(indexBytes, start: header.indexOffset, file: path)
  }

  // MARK: chunks

  /// A chunk with its place in the file and in the content.
  struct Piece: Sendable {
    let number: Int
    let chunk: IngotChunk
    let stored: Bytes
    let offset: Int
    let content: Range<Int>
  }

  func pieces(of frame: IngotFrame) -> [Piece] {
    var offset = frame.offset
    let length = frame.contentLength
    return (0..<frame.chunkCount).map { number in
      let chunk = frame.chunk(number)
      defer { offset += chunk.storedLength }
      return Piece(
        number: number, chunk: chunk, stored: bytes[offset..<offset + chunk.storedLength], offset: offset,
        content: FrameCodec.chunkRange(number, of: length))
    }
  }

  /// A frame's content: lent when raw, else verified and inflated into memory of exactly its length.
  func content(_ frame: IngotFrame, _ parallel: Parallel) throws -> Bytes {
    guard frame.codec != .raw else { return bytes[frame.offset..<frame.end] }
    let pieces = pieces(of: frame)
    let buffer = ByteBuffer(count: frame.contentLength)
    try parallel.forEach(pieces.count) { (index: Int) throws -> Void in
      try inflate(
        pieces[index], frame,
        into: UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[pieces[index].content]))
    }
    return Bytes(buffer)
  }

  /// Rule I18.
  func verify(_ piece: Piece, _ frame: IngotFrame) throws(FormatError) {
    let checksum = piece.stored.withUnsafeBytes { CRC32C.hash($0) }
    guard checksum == piece.chunk.checksum else {
      throw FormatError(
        .ingotChecksum, file: path, subject: index.subject(frame.row), offset: piece.offset,
        "chunk \(piece.number) has the checksum \(hex(checksum)), expected \(hex(piece.chunk.checksum))")
    }
  }

  func inflate(_ piece: Piece, _ frame: IngotFrame, into out: UnsafeMutableRawBufferPointer) throws {
    try verify(piece, frame)
    do {
      try piece.stored.withUnsafeBytes {
        try FrameCodec.decode($0, isRaw: piece.chunk.isRaw, frame.codec, into: out)
      }
    } catch var error as FormatError {
      error.file = path
      error.subject = index.subject(frame.row)
      error.offset = piece.offset + (error.offset ?? 0)
      error.problem = "chunk \(piece.number): \(error.problem)"
      throw error
    }
  }
}
