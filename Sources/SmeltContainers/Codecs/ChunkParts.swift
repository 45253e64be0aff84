// The parts that Huffman codes a chunk in: bytes or nibbles of one kind, each a zstd frame or as it is. Formats/codecs.md,
// sections 3, 5 and 6.

internal import CKernels
internal import SmeltStorage

/// Writes the parts of a chunk one after another.
struct ChunkWriter {
  // SAFETY: `stored` is lent for one `encode`. Every write is held against what is left of it first (`fits`): a slice of raw memory is
  // checked in a debug build only. The worker's memory belongs to the thread that has taken it.
  let stored: UnsafeMutableRawBufferPointer
  let worker: CodecWorker
  /// Where the next part begins.
  var end: Int
  /// Cleared when a part did not fit.
  var fits = true

  /// A chunk whose header has `header` bytes, written when the parts are known.
  init(_ stored: UnsafeMutableRawBufferPointer, header: Int, _ worker: CodecWorker) {
    self.stored = stored
    self.worker = worker
    end = header
    fits = header <= stored.count
  }

  /// Appends bytes.
  mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard fits, bytes.count <= stored.count - end else { return fits = false }
    UnsafeMutableRawBufferPointer(rebasing: stored[end..<end + bytes.count]).copyMemory(from: bytes)
    end += bytes.count
  }

  /// Appends a part, Huffman coded where that is smaller, and says its stored length in the header.
  mutating func appendPart(_ part: UnsafeRawBufferPointer, lengthAt place: Int) throws {
    guard fits else { return }
    let start = end
    if isFlat(part) {
      append(part)
    } else {
      let size = try worker.compress(part, .none)
      append(
        size < part.count ? UnsafeRawBufferPointer(rebasing: worker.output.bytes[0..<size]) : part)
    }
    set(UInt32(end - start), at: place)
  }

  /// Sets a number of the header.
  func set(_ value: UInt32, at place: Int) {
    guard fits else { return }
    stored.storeBytes(of: value.littleEndian, toByteOffset: place, as: UInt32.self)
  }

  /// Whether a Huffman code would not save the 1.6 % that zstd asks for: the chance that two bytes are the same is below
  /// 1.1/256. (A byte that is as often as 1 + e times the average costs e²/(2 ln 2) bits less; 1.6 % is a mean e² of 0.18.)
  private func isFlat(_ part: UnsafeRawBufferPointer) -> Bool {
    var counts = [UInt32](repeating: 0, count: 256)
    sk_count_bytes(part.baseAddress?.assumingMemoryBound(to: UInt8.self), part.count, &counts)
    let squares = counts.reduce(UInt64(0)) { $0 + UInt64($1) * UInt64($1) }
    return squares * 2560 < UInt64(part.count) * UInt64(part.count) * 11
  }
}

/// Reads the parts of a chunk one after another.
struct ChunkReader {
  // SAFETY: every length is the file's and may lie: `take` compares it with what is left, `scratch` with the worker's memory, `number`
  // reads inside the header, whose presence `init` checks. Parts are lent from `stored` or from scratch memory that nothing else
  // uses until the chunk is decoded.
  let codec: ChunkCodec
  let stored: UnsafeRawBufferPointer
  let contentCount: Int
  let worker: CodecWorker
  /// Where the next part begins.
  var end: Int
  /// How much of the worker's `planes` is used.
  private var used = 0

  init(
    _ codec: ChunkCodec, _ stored: UnsafeRawBufferPointer, header: Int, contentCount: Int,
    _ worker: CodecWorker
  ) throws(ChunkFault) {
    self.codec = codec
    self.stored = stored
    self.contentCount = contentCount
    self.worker = worker
    end = header
    guard stored.count >= header else { throw .size(stored: stored.count, content: contentCount) }
  }

  /// A number of the header.
  func number(at place: Int) -> Int {
    Int(stored.loadUnaligned(fromByteOffset: place, as: UInt32.self).littleEndian)
  }

  /// The next `count` bytes. `place` is where the header gives the count.
  mutating func take(_ count: Int, saidAt place: Int) throws(ChunkFault) -> UnsafeRawBufferPointer {
    guard count <= stored.count - end else { throw .count(byte: place) }
    defer { end += count }
    return UnsafeRawBufferPointer(rebasing: stored[end..<end + count])
  }

  /// Scratch memory that stays until the chunk is decoded.
  mutating func scratch(_ count: Int) -> UnsafeMutableRawBufferPointer {
    precondition(count <= worker.planes.bytes.count - used, "scratch memory for \(count) more bytes")
    defer { used += (count + 63) / 64 * 64 }
    return UnsafeMutableRawBufferPointer(rebasing: worker.planes.bytes[used..<used + count])
  }

  /// The next part, `count` bytes of it: lent from the chunk, or inflated.
  mutating func part(_ count: Int, lengthAt place: Int) throws(ChunkFault) -> UnsafeRawBufferPointer {
    let length = number(at: place)
    guard length <= count, length > 0 || count == 0 else { throw .count(byte: place) }
    let start = end
    let bytes = try take(length, saidAt: place)
    guard length < count else { return bytes }
    let out = scratch(count)
    try codec.inflate(bytes, at: start, into: out, worker)
    return UnsafeRawBufferPointer(out)
  }

  /// Refuses what is left over.
  func finish() throws(ChunkFault) {
    guard end == stored.count else { throw .length(byte: end) }
  }

  /// A part of `count` packed nibbles, whose last group must be filled with zeros.
  mutating func nibbles(_ count: Int, lengthAt place: Int) throws(ChunkFault) -> UnsafePointer<UInt8>? {
    let start = end
    let bytes = try part(nibbleBytes(count), lengthAt: place).baseAddress?.assumingMemoryBound(to: UInt8.self)
    guard sk_nibbles_padded(bytes, count) == 1 else { throw .padding(byte: start) }
    return bytes
  }
}

/// Bytes that `count` nibbles take: groups of 64, the last one filled up.
func nibbleBytes(_ count: Int) -> Int { (count + 63) / 64 * 32 }

extension ChunkCodec {
  /// Carves pieces out of the worker's scratch memory.
  private func pieces(_ worker: CodecWorker, _ counts: [Int]) -> [UnsafeMutableRawBufferPointer] {
    var start = 0
    return counts.map { count in
      precondition(count <= worker.planes.bytes.count - start, "scratch memory for \(count) more bytes")
      defer { start += (count + 63) / 64 * 64 }
      return UnsafeMutableRawBufferPointer(rebasing: worker.planes.bytes[start..<start + count])
    }
  }

  // MARK: BF16 in pairs. Formats/codecs.md, section 5.1

  private static let bf16PairsHeader = 16

  func encodeBF16Pairs(
    _ content: UnsafeRawBufferPointer, into stored: UnsafeMutableRawBufferPointer, _ worker: CodecWorker
  ) throws -> Int? {
    let n = content.count / 2
    let parts = pieces(worker, [nibbleBytes(n), n, n])
    let source = content.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let base = sk_pairs16_base(source, n)
    let bytes = parts.map { $0.baseAddress?.assumingMemoryBound(to: UInt8.self) }
    let escapes = sk_split_pairs16(source, n, base, bytes[0], bytes[1], bytes[2])
    var writer = ChunkWriter(stored, header: Self.bf16PairsHeader, worker)
    writer.set(UInt32(base), at: 0)
    writer.set(UInt32(escapes), at: 4)
    try writer.appendPart(UnsafeRawBufferPointer(parts[0]), lengthAt: 8)
    writer.append(UnsafeRawBufferPointer(rebasing: parts[2][0..<escapes]))
    try writer.appendPart(UnsafeRawBufferPointer(parts[1]), lengthAt: 12)
    return writer.fits ? writer.end : nil
  }

  func decodeBF16Pairs(
    _ stored: UnsafeRawBufferPointer, into content: UnsafeMutableRawBufferPointer, _ worker: CodecWorker
  ) throws(ChunkFault) {
    let n = content.count / 2
    var reader = try ChunkReader(
      self, stored, header: Self.bf16PairsHeader, contentCount: content.count, worker)
    let base = reader.number(at: 0)
    guard base < 256 else { throw .padding(byte: 1) }
    guard base >= 14 else { throw .symbol(byte: 0) }
    let escapeCount = reader.number(at: 4)
    guard escapeCount <= n else { throw .count(byte: 4) }
    let nibbles = try reader.nibbles(n, lengthAt: 8)
    let escapesAt = reader.end
    let escapes = try reader.take(escapeCount, saidAt: 4).baseAddress?.assumingMemoryBound(to: UInt8.self)
    let low = try reader.part(n, lengthAt: 12).baseAddress?.assumingMemoryBound(to: UInt8.self)
    try reader.finish()
    let out = content.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let asked = sk_join_pairs16(nibbles, low, n, UInt8(base), escapes, escapeCount, out)
    guard asked == escapeCount else { throw .escapes(byte: escapesAt) }
  }

  // MARK: FP8 and INT8 in pairs. Formats/codecs.md, section 5.2

  private static let nibblePairsHeader = 8

  func encodeNibblePairs(
    _ content: UnsafeRawBufferPointer, into stored: UnsafeMutableRawBufferPointer, _ worker: CodecWorker
  ) throws -> Int? {
    let n = content.count
    let parts = pieces(worker, [nibbleBytes(n), nibbleBytes(n)])
    let bytes = parts.map { $0.baseAddress?.assumingMemoryBound(to: UInt8.self) }
    sk_split_nibbles(
      content.baseAddress?.assumingMemoryBound(to: UInt8.self), n, self == .fp8Pairs ? 1 : 0, bytes[0],
      bytes[1])
    var writer = ChunkWriter(stored, header: Self.nibblePairsHeader, worker)
    try writer.appendPart(UnsafeRawBufferPointer(parts[0]), lengthAt: 0)
    try writer.appendPart(UnsafeRawBufferPointer(parts[1]), lengthAt: 4)
    return writer.fits ? writer.end : nil
  }

  func decodeNibblePairs(
    _ stored: UnsafeRawBufferPointer, into content: UnsafeMutableRawBufferPointer, _ worker: CodecWorker
  ) throws(ChunkFault) {
    let n = content.count
    var reader = try ChunkReader(self, stored, header: Self.nibblePairsHeader, contentCount: n, worker)
    let high = try reader.nibbles(n, lengthAt: 0)
    let low = try reader.nibbles(n, lengthAt: 4)
    try reader.finish()
    sk_join_nibbles(
      high, low, n, self == .fp8Pairs ? 1 : 0, content.baseAddress?.assumingMemoryBound(to: UInt8.self))
  }

  // MARK: Bytes of F16 and F32 apart. Formats/codecs.md, section 6

  func encodeSplit(
    _ content: UnsafeRawBufferPointer, into stored: UnsafeMutableRawBufferPointer, _ worker: CodecWorker
  ) throws -> Int? {
    let n = content.count / elementBytes
    let source = content.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let planes = worker.planes.bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
    if self == .f16Split { sk_split16(source, planes, n) } else { sk_split32_rotate(source, planes, n) }
    var writer = ChunkWriter(stored, header: 4 * elementBytes, worker)
    for plane in 0..<elementBytes {
      try writer.appendPart(
        UnsafeRawBufferPointer(rebasing: worker.planes.bytes[plane * n..<(plane + 1) * n]),
        lengthAt: 4 * plane)
    }
    return writer.fits ? writer.end : nil
  }

  func decodeSplit(
    _ stored: UnsafeRawBufferPointer, into content: UnsafeMutableRawBufferPointer, _ worker: CodecWorker
  ) throws(ChunkFault) {
    let n = content.count / elementBytes
    var reader = try ChunkReader(self, stored, header: 4 * elementBytes, contentCount: content.count, worker)
    let planes = reader.scratch(content.count)
    for plane in 0..<elementBytes {
      let bytes = try reader.part(n, lengthAt: 4 * plane)
      UnsafeMutableRawBufferPointer(rebasing: planes[plane * n..<(plane + 1) * n]).copyMemory(from: bytes)
    }
    try reader.finish()
    let source = planes.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let out = content.baseAddress?.assumingMemoryBound(to: UInt8.self)
    if self == .f16Split { sk_join16(source, out, n) } else { sk_join32_rotate(source, out, n) }
  }
}
