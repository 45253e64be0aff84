// One file of an ingot: its mapping, its index, and its chunks, each of which is verified before its first use.
// Formats/ingot.md, sections 3.2 to 3.4 and 8.

internal import SmeltStorage
internal import SmeltTensors
internal import Synchronization

/// One file of an ingot.
struct IngotFilePart: Sendable {
  /// What is verified at a time: neighbouring chunks of one frame.
  static let step = 16
  /// Bytes of a raw frame from which on its pages are given back while it is verified.
  private static let heldFrame = 64 << 20

  let path: String
  let mapping: MappedFile
  let bytes: Bytes
  let index: IngotIndex
  /// The chunks that were held against their checksums.
  let verified: VerifiedChunks

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
        "the index has the checksum \(hexadecimal(checksum)), expected \(hexadecimal(header.indexChecksum))",
        help: "the file was damaged after it was written; copy it again")
    }
    index = try IngotIndex(indexBytes, start: header.indexOffset, file: path)
    verified = VerifiedChunks(count: index.counts.chunks)
  }

  /// A file whose index lies elsewhere, as that of one that is being written.
  init(path: String, mapping: MappedFile, bytes: Bytes, index: IngotIndex) {
    self.path = path
    self.mapping = mapping
    self.bytes = bytes
    self.index = index
    verified = VerifiedChunks(count: index.counts.chunks)
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

  /// A frame's content, verified: lent when raw, else inflated into memory of exactly its length.
  func content(_ frame: IngotFrame, _ parallel: Parallel) throws -> Bytes {
    // One request for all chunks where the file is fetched, unless the frame is large and read piece by piece.
    let whole = bytes[frame.offset..<frame.end]
    if whole.isFetched, frame.storedLength > IngotFilePart.heldFrame { whole.willNeed() }
    let held = frame.storedLength > IngotFilePart.heldFrame ? whole : try whole.fetched()
    defer { withExtendedLifetime(held) {} }
    guard frame.codec != .raw else {
      try verifyLent(frame, parallel)
      return held
    }
    let pieces = pieces(of: frame)
    let buffer = ByteBuffer(count: frame.contentLength)
    // SAFETY: the pieces of a frame cover its content without an overlap, so that tasks write apart from each other.
    try parallel.forEach(pieces.count) { (index: Int) throws -> Void in
      try inflate(
        pieces[index], frame,
        into: UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[pieces[index].content]))
    }
    return Bytes(buffer)
  }

  /// Holds the chunks of a raw frame against their checksums, each once in the life of this object, on the threads of whoever
  /// comes first. Others that need the frame meanwhile take the chunks that nobody has begun, then those that are not done.
  private func verifyLent(_ frame: IngotFrame, _ parallel: Parallel) throws {
    let (first, count) = (frame.firstChunk, frame.chunkCount)
    guard !verified.areDone(first..<first + count) else { return }
    // What was looked at once is not held: the frame may be larger than the memory allowed.
    let evicts = frame.storedLength > IngotFilePart.heldFrame
    let steps = ceilDivide(count, IngotFilePart.step)
    for isFirstPass in [true, false] {
      try parallel.forEach(steps) { (number: Int) throws -> Void in
        let chunks = number * IngotFilePart.step..<min(count, (number + 1) * IngotFilePart.step)
        var run = 0..<0
        for chunk in chunks {
          let row = first + chunk
          guard isFirstPass ? verified.begin(row) : !verified.areDone(row..<row + 1) else { continue }
          let piece = piece(chunk, of: frame)
          try verify(piece, frame)
          verified.finish(row)
          run = (run.isEmpty ? piece.offset : run.lowerBound)..<piece.offset + piece.stored.count
        }
        if evicts, !run.isEmpty { bytes[run].evict() }
      }
    }
  }

  /// A chunk of a raw frame: the chunks before it are whole.
  private func piece(_ number: Int, of frame: IngotFrame) -> Piece {
    let content = FrameCodec.chunkRange(number, of: frame.contentLength)
    let offset = frame.offset + content.lowerBound
    return Piece(
      number: number, chunk: frame.chunk(number), stored: bytes[offset..<offset + content.count],
      offset: offset, content: content)
  }

  /// Rule I18.
  func verify(_ piece: Piece, _ frame: IngotFrame) throws(FormatError) {
    let checksum = piece.stored.withUnsafeBytes { CRC32C.hash($0) }
    guard checksum == piece.chunk.checksum else {
      throw FormatError(
        .ingotChecksum, file: path, subject: index.subject(frame.row), offset: piece.offset,
        "chunk \(piece.number) has the checksum \(hexadecimal(checksum)), expected \(hexadecimal(piece.chunk.checksum))"
      )
    }
  }

  func inflate(_ piece: Piece, _ frame: IngotFrame, into out: UnsafeMutableRawBufferPointer) throws {
    // A weight that is inflated again was verified before.
    let chunk = frame.firstChunk + piece.number
    if !verified.areDone(chunk..<chunk + 1) {
      try verify(piece, frame)
      verified.finish(chunk)
    }
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

/// Which chunks of a file were held against their checksums: two bits a chunk, set and never cleared, from any thread. Pages that
/// leave memory and come again are not verified again.
final class VerifiedChunks: @unchecked Sendable {
  // SAFETY: the words are atomic, allocated and initialized in `init`, and freed in `deinit`; a chunk's number is below the count that
  // they were made for, which comes from the same index. Relaxed order is enough: a bit only says that bytes were read and found
  // right, and whoever reads them afterwards reads the file.
  private static let bits = 64
  /// Words of begun chunks, then words of those that are done.
  private let words: UnsafeMutablePointer<Atomic<UInt64>>
  private let wordCount: Int

  /// None of `count` chunks.
  init(count: Int) {
    wordCount = ceilDivide(count, VerifiedChunks.bits)
    words = .allocate(capacity: 2 * wordCount)
    for place in 0..<2 * wordCount { (words + place).initialize(to: Atomic(0)) }
  }

  deinit {
    words.deinitialize(count: 2 * wordCount)
    words.deallocate()
  }

  /// Marks a chunk as begun.
  /// - Returns: whether nobody has begun it before.
  func begin(_ chunk: Int) -> Bool {
    let bit = UInt64(1) << UInt64(chunk % VerifiedChunks.bits)
    return words[chunk / VerifiedChunks.bits].bitwiseOr(bit, ordering: .relaxed).oldValue & bit == 0
  }

  /// Marks a chunk as sound.
  func finish(_ chunk: Int) {
    let bit = UInt64(1) << UInt64(chunk % VerifiedChunks.bits)
    words[wordCount + chunk / VerifiedChunks.bits].bitwiseOr(bit, ordering: .relaxed)
  }

  /// Whether all of some chunks are sound.
  func areDone(_ chunks: Range<Int>) -> Bool {
    var chunk = chunks.lowerBound
    while chunk < chunks.upperBound {
      let (place, first) = (chunk / VerifiedChunks.bits, chunk % VerifiedChunks.bits)
      let count = min(VerifiedChunks.bits - first, chunks.upperBound - chunk)
      let mask = (UInt64.max >> UInt64(VerifiedChunks.bits - count)) << UInt64(first)
      guard words[wordCount + place].load(ordering: .relaxed) & mask == mask else { return false }
      chunk += count
    }
    return true
  }
}
