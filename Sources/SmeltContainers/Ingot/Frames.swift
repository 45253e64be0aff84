// How the content of a frame is cut into chunks, and one chunk becomes stored bytes and back. Formats/ingot.md, sections 3.2 to
// 3.4; the codecs are in Codecs.

package import SmeltStorage
package import SmeltTensors

/// One chunk of a frame as it is stored, with its checksums.
package struct EncodedChunk: Sendable {
  /// What goes into the file.
  package let stored: Bytes
  /// Bytes of content it stands for.
  package let contentCount: Int
  /// Whether `stored` is the content itself.
  package let isRaw: Bool
  /// CRC-32C of `stored`.
  package let checksum: UInt32
  /// XXH64 of the content, little-endian: what a frame's hash is made of.
  package let contentHash: [UInt8]
}

extension ChunkForm {
  /// Whether every chunk is the content itself.
  package var isRaw: Bool { codec == .raw }
}

/// Chooses, makes and reads the stored form of chunks. Everything is deterministic and may be called from any thread.
package enum FrameCodec {
  /// Bytes of content in a chunk; the last chunk of a frame holds the rest.
  package static let chunkBytes = ChunkCodec.chunkBytes

  /// Bytes at the start of a frame that its form is chosen from.
  package static let sampleBytes = 1 << 20

  /// The number of chunks of a frame.
  package static func chunkCount(_ contentLength: Int) -> Int { ceilDivide(contentLength, chunkBytes) }

  /// The bytes of content that chunk `index` holds.
  package static func chunkRange(_ index: Int, of contentLength: Int) -> Range<Int> {
    index * chunkBytes..<min(contentLength, (index + 1) * chunkBytes)
  }

  /// How a frame with this content is stored; looks at its first chunks. Formats/codecs.md, section 7.
  /// - Throws: `RequestError` io when zstd has no memory.
  package static func choose(content: Bytes, dtype: DType, mode: CodecMode) throws -> ChunkForm {
    try content[0..<min(content.count, sampleBytes)].withUnsafeBytes {
      try ChunkCodec.choose($0, dtype: dtype, mode: mode)
    }
  }

  /// One chunk as it is stored. A chunk that its codec does not shrink, and any chunk of a raw form, keeps the bytes it was
  /// given without a copy.
  /// - Parameters:
  ///   - content: at most `chunkBytes`.
  ///   - hash: the content's hash, where it is known.
  ///   - room: a buffer and a place in it with as much room behind as the content has: what is packed is left there. Nil: memory of
  ///     its own.
  /// - Throws: `RequestError` io when zstd has no memory.
  package static func encode(
    _ content: Bytes, _ form: ChunkForm, hash: UInt64? = nil,
    into room: (buffer: PooledBuffer, place: Int)? = nil
  ) throws -> EncodedChunk {
    precondition(content.count > 0 && content.count <= chunkBytes, "a chunk has 1 to \(chunkBytes) bytes")
    return try content.withUnsafeBytes { bytes in
      let contentHash = hash.map { stored($0) } ?? contentHash(bytes)
      if !form.isRaw, let (buffer, place) = room {
        precondition(place >= 0 && place + bytes.count <= buffer.memory.count, "no room for a chunk")
        let free = UnsafeMutableRawBufferPointer(rebasing: buffer.memory[place..<place + bytes.count])
        if let size = try form.encode(bytes, into: free) {
          let packed = buffer.bytes(place..<place + size)
          return EncodedChunk(
            stored: packed, contentCount: bytes.count, isRaw: false,
            checksum: packed.withUnsafeBytes { CRC32C.hash($0) }, contentHash: contentHash)
        }
      } else if !form.isRaw {
        // SAFETY: as much room as the content has, which is all that `encode` may write; freed on every way out.
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 64)
        defer { room.deallocate() }
        if let size = try form.encode(bytes, into: room) {
          let packed = ByteBuffer(count: size)
          packed.bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: room[0..<size]))
          return EncodedChunk(
            stored: Bytes(packed), contentCount: bytes.count, isRaw: false,
            checksum: CRC32C.hash(UnsafeRawBufferPointer(packed.bytes)), contentHash: contentHash)
        }
      }
      return EncodedChunk(
        stored: content, contentCount: bytes.count, isRaw: true, checksum: CRC32C.hash(bytes),
        contentHash: contentHash)
    }
  }

  /// The hash of a chunk's content. XXH64 under SHA-256 keeps hashing at the speed of memory: it tells contents apart that differ
  /// by accident, and is no proof against somebody who wants them to collide.
  static func contentHash(_ content: UnsafeRawBufferPointer) -> [UInt8] {
    stored(xxh64(content))
  }

  private static func stored(_ hash: UInt64) -> [UInt8] {
    withUnsafeBytes(of: hash.littleEndian) { Array($0) }
  }

  /// Decodes one chunk into memory of exactly its content length.
  /// - Throws: `C_FRAME` when the bytes are not what the codec makes, `offset` counted from the start of the chunk; file and
  ///   place are the caller's to add. Does not verify the checksum.
  package static func decode(
    _ stored: UnsafeRawBufferPointer, isRaw: Bool, _ codec: ChunkCodec,
    into out: UnsafeMutableRawBufferPointer
  ) throws {
    guard !isRaw else {
      precondition(stored.count == out.count, "a raw chunk has as many bytes as its content")
      out.copyMemory(from: stored)
      return
    }
    do throws(ChunkFault) {
      try codec.decode(stored, into: out)
    } catch {
      guard error != .memory else { throw RequestError(.io, error.problem) }
      throw FormatError(.ingotFrame, offset: error.byte, "\(codec.name): \(error.problem)")
    }
  }
}
