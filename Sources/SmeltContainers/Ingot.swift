// Reading an ingot: the index when it is opened, a weight when it is asked for. Raw weights are lent from the
// mapping; compressed ones are inflated and kept for a while. Formats/ingot.md, sections 3 and 7.

public import SmeltStorage
public import SmeltTensors
internal import Synchronization

/// An ingot, opened and checked as far as header and index go.
public final class IngotFile: Sendable {
  /// The path it was opened by.
  public let path: String
  /// What the writer said about the file: format, tool version, family, provenance. Formats/ingot.md, 4.6.
  public let metadata: JSON
  /// SHA-256 of the index, which holds a checksum of every stored byte; lower-case hexadecimal.
  public let contentHash: String
  /// The weights in the order of the file.
  public let entries: [IngotEntry]
  /// The names of the small files inside, in the order of the file.
  public let fileNames: [String]

  private let mapping: MappedFile
  private let bytes: Bytes
  private let index: IngotIndex
  private let indexOffset: Int
  private let cache: IngotCache

  /// Maps an ingot and reads its header and index.
  /// - Parameter cacheBytes: how many bytes of inflated weights are kept; a larger weight is inflated each time.
  /// - Throws: `C_HEADER`, `C_INDEX`, `C_BOMB`; `SRC_MISSING`, `SRC_NOT_FILE`, `SRC_LFS_POINTER`.
  public init(path: String, cacheBytes: Int = 256 << 20) throws {
    self.path = path
    mapping = try MappedFile(path: path)
    bytes = mapping.bytes
    let header = try IngotHeader(bytes, file: path)
    let indexBytes = bytes[header.indexOffset..<header.indexOffset + header.indexLength]
    let checksum = indexBytes.withUnsafeBytes { xxh64($0) }
    guard checksum == header.indexChecksum else {  // I6
      throw FormatError(
        .ingotIndex, file: path, subject: "index", offset: header.indexOffset,
        "its checksum is \(hex(checksum)), expected \(hex(header.indexChecksum))")
    }
    index = try IngotIndex(indexBytes, start: header.indexOffset, file: path)
    indexOffset = header.indexOffset
    contentHash = SHA256.hex(indexBytes)
    metadata = index.metadata
    entries = index.weights
    fileNames = index.files.map(\.name)
    cache = IngotCache(limit: cacheBytes)
  }

  /// Whether a regular file starts as an ingot does, whatever its name.
  public static func isIngot(_ path: String) -> Bool {
    guard pathKind(path) == .file, let file = try? MappedFile(path: path) else { return false }
    return file.bytes[0..<min(file.count, IngotLimits.magic.count)].array == IngotLimits.magic
  }

  /// The file's size.
  public var byteCount: Int { mapping.count }

  /// Bytes of inflated weights that are kept now.
  public var cachedBytes: Int { cache.byteCount }

  /// The entry of a name, or nil.
  public func entry(_ name: String) -> IngotEntry? { index.weightPlaces[name].map { entries[$0] } }

  /// Throws `SRC_CHANGED` when the file is no longer what it was when it was opened.
  public func checkUnchanged() throws(FormatError) { try mapping.checkUnchanged() }

  // MARK: weights and files

  /// The weight of a name. Raw parts are lent from the mapping and not verified here; compressed parts are verified
  /// and inflated, and kept for the next call while there is room.
  /// - Parameter parallel: threads for the chunks of a large compressed weight.
  /// - Throws: `ARCH_INCOMPLETE` when there is none of that name; `C_CHECKSUM` or `C_FRAME` naming weight, part and chunk.
  public func weight(_ name: String, parallel: Parallel) throws -> Weight {
    guard let place = index.weightPlaces[name] else {
      throw FormatError(.incomplete, file: path, subject: name, "is not in the ingot")
    }
    if let weight = cache.find(place) { return weight }
    let entry = entries[place]
    var inflated = 0
    let parts = try entry.parts.map { part in
      if part.frame.form.storage == .zstd { inflated += part.frame.contentLength }
      let content = try content(part.frame, subject: "\(name) (\(part.name.rawValue))", parallel)
      return Part(part.name, dtype: part.dtype, shape: part.shape, bytes: content)
    }
    let weight = try Weight(
      name: name, shape: entry.shape, encoding: entry.encoding, parts: parts, file: path)
    if inflated > 0 { cache.keep(place, weight, byteCount: inflated) }
    return weight
  }

  /// The weight of a name; chunks are inflated on the caller's thread.
  /// - Throws: `ARCH_INCOMPLETE` when there is none of that name; `C_CHECKSUM` or `C_FRAME` naming weight, part and chunk.
  public func weight(_ name: String) throws -> Weight { try weight(name, parallel: .serial) }

  /// Lets the system take back the pages that hold a weight. What is inflated stays while the cache has room.
  public func evict(_ name: String) {
    guard let place = index.weightPlaces[name] else { return }
    for part in entries[place].parts { bytes[part.frame.offset..<part.frame.end].evict() }
  }

  /// The content of a small file inside, verified; nil when there is none of that name.
  /// - Throws: `C_CHECKSUM` or `C_FRAME`.
  public func file(_ name: String) throws -> Bytes? {
    guard let place = index.filePlaces[name] else { return nil }
    let frame = index.files[place].frame
    if frame.form.storage == .raw {
      for chunk in pieces(of: frame) { try verify(chunk, subject: name) }
    }
    return try content(frame, subject: name, .serial)
  }

  /// A frame's content: lent when raw, else verified and inflated into memory of exactly its length.
  private func content(_ frame: IngotFrame, subject: String, _ parallel: Parallel) throws -> Bytes {
    guard frame.form.storage == .zstd else { return bytes[frame.offset..<frame.end] }
    let pieces = pieces(of: frame)
    let buffer = ByteBuffer(count: frame.contentLength)
    try parallel.forEach(pieces.count) { (index: Int) throws -> Void in
      try inflate(
        pieces[index], frame.form, subject: subject,
        into: UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[pieces[index].content]))
    }
    return Bytes(buffer)
  }

  // MARK: chunks

  /// A chunk with its place in the file and in the content.
  private struct Piece: Sendable {
    let number: Int
    let chunk: IngotChunk
    let stored: Bytes
    let offset: Int
    let content: Range<Int>
  }

  private func pieces(of frame: IngotFrame) -> [Piece] {
    var offset = frame.offset
    return frame.chunks.enumerated().map { number, chunk in
      defer { offset += chunk.storedLength }
      return Piece(
        number: number, chunk: chunk, stored: bytes[offset..<offset + chunk.storedLength], offset: offset,
        content: FrameCodec.chunkRange(number, of: frame.contentLength))
    }
  }

  /// Rule I18.
  private func verify(_ piece: Piece, subject: String) throws(FormatError) {
    let checksum = piece.stored.withUnsafeBytes { xxh64($0) }
    guard checksum == piece.chunk.checksum else {
      throw FormatError(
        .ingotChecksum, file: path, subject: subject, offset: piece.offset,
        "chunk \(piece.number) has the checksum \(hex(checksum)), expected \(hex(piece.chunk.checksum))")
    }
  }

  private func inflate(
    _ piece: Piece, _ form: FrameForm, subject: String, into out: UnsafeMutableRawBufferPointer
  ) throws {
    try verify(piece, subject: subject)
    do {
      try piece.stored.withUnsafeBytes {
        try FrameCodec.decode($0, isRaw: piece.chunk.isRaw, form.transform, into: out)
      }
    } catch var error as FormatError {
      error.file = path
      error.subject = subject
      error.offset = piece.offset
      error.problem = "chunk \(piece.number): \(error.problem)"
      throw error
    }
  }

  // MARK: check

  /// Verifies every stored byte: the checksum of every chunk, and that the gaps between frames are zero.
  /// - Parameters:
  ///   - deep: also inflates everything and compares the content hashes.
  ///   - progress: hears one stage of stored bytes.
  /// - Throws: `C_CHECKSUM` naming weight, part and chunk, or the gap; `C_FRAME`; `RequestError` interrupted.
  public func check(deep: Bool, parallel: Parallel, progress: any ProgressReporter) throws {
    try checkGaps()
    let frames = index.frames
    for (subject, frame) in frames where frame.chunks.isEmpty && frame.contentHash != XXH64().value() {
      throw contentMismatch(subject, frame, XXH64().value())
    }
    let work = frames.enumerated().flatMap { place, item in
      pieces(of: item.frame).map { (frame: place, piece: $0) }
    }
    progress.begin("checking", total: frames.reduce(0) { $0 + $1.frame.storedLength }, unit: "bytes")
    var hash = XXH64()
    try parallel.ordered(work.count) { [self] number -> (number: Int, contentHash: UInt64) in
      let (place, piece) = work[number]
      let (subject, frame) = frames[place]
      let contentHash = try checkPiece(piece, frame.form, subject: subject, deep: deep)
      if piece.stored.count >= 65536 { piece.stored.evict() }
      return (number, contentHash)
    } consume: { result in
      try Interrupt.check()
      let (place, piece) = work[result.number]
      progress.advance(piece.stored.count)
      let (subject, frame) = frames[place]
      if piece.number == 0 { hash = XXH64() }
      withUnsafeBytes(of: result.contentHash.littleEndian) { hash.update($0) }
      // A raw chunk's checksum is its content's, so that raw frames are compared without `deep` too.
      guard deep || frame.form.storage == .raw, piece.number == frame.chunks.count - 1 else { return }
      guard hash.value() == frame.contentHash else { throw contentMismatch(subject, frame, hash.value()) }
    }
    progress.end()
  }

  /// Rule I19.
  private func contentMismatch(_ subject: String, _ frame: IngotFrame, _ found: UInt64) -> FormatError {
    FormatError(
      .ingotChecksum, file: path, subject: subject, offset: frame.offset,
      "its content has the hash \(hex(found)), expected \(hex(frame.contentHash))")
  }

  /// Verifies one chunk; its content's hash when `deep`.
  private func checkPiece(_ piece: Piece, _ form: FrameForm, subject: String, deep: Bool) throws -> UInt64 {
    guard deep, !piece.chunk.isRaw else {
      try verify(piece, subject: subject)
      return piece.chunk.checksum
    }
    let buffer = ByteBuffer(count: piece.content.count)
    try inflate(piece, form, subject: subject, into: buffer.bytes)
    return xxh64(UnsafeRawBufferPointer(buffer.bytes))
  }

  /// Rule I10.
  private func checkGaps() throws(FormatError) {
    var end = IngotLimits.headerBytes
    for (start, next) in index.frames.map({ ($0.frame.offset, $0.frame.end) }) + [(indexOffset, indexOffset)]
    {
      let gap = bytes[end..<start].array
      if let place = gap.firstIndex(where: { $0 != 0 }) {
        throw FormatError(
          .ingotChecksum, file: path, subject: "padding", offset: end + place,
          "found byte \(gap[place]) between two frames, expected zero")
      }
      end = next
    }
  }
}
