// zstd's contexts and scratch memory for one thread at a time. The only place that speaks to zstd.

internal import CKernels
internal import CZstd
internal import SmeltStorage
internal import Synchronization

/// What is wrong with a zstd frame: found before expected.
struct ZstdFault: Error {
  let problem: String
}

/// zstd's contexts and some scratch memory, used by one thread at a time and kept for the next.
final class CodecWorker: @unchecked Sendable {
  // SAFETY: `take` removes a worker from the list of idle ones under a lock, so that one thread has it, and `giveBack` orders memory for
  // the next. Both contexts are made in `init` and freed in `deinit`. zstd is told the size of every buffer and never writes beyond.
  private let compressor: OpaquePointer
  private let decompressor: OpaquePointer
  /// Room for one chunk in planes, and for what coding it takes.
  let planes = ByteBuffer(count: sk_codec_scratch(ChunkCodec.chunkBytes))
  /// Room for one compressed chunk.
  let output = ByteBuffer(count: ZSTD_compressBound(ChunkCodec.chunkBytes))

  private static let idle = Mutex<[CodecWorker]>([])

  /// Takes a worker, or makes one; nil when there is no memory for one. `giveBack` ends the loan.
  static func take() -> CodecWorker? { idle.withLock { $0.popLast() } ?? CodecWorker() }

  /// Keeps the worker for the next.
  func giveBack() { CodecWorker.idle.withLock { $0.append(self) } }

  /// Lends a worker.
  static func use<R>(_ body: (CodecWorker) throws -> R) throws -> R {
    guard let worker = take() else { throw RequestError(.io, "there is no memory for zstd") }
    defer { worker.giveBack() }
    return try body(worker)
  }

  private init?() {
    guard let compressor = ZSTD_createCCtx() else { return nil }
    guard let decompressor = ZSTD_createDCtx() else {
      ZSTD_freeCCtx(compressor)  // a failed `init` has no `deinit`
      return nil
    }
    self.compressor = compressor
    self.decompressor = decompressor
  }

  deinit {
    ZSTD_freeCCtx(compressor)
    ZSTD_freeDCtx(decompressor)
  }

  /// How zstd compresses.
  enum Search {
    /// Not at all: zstd is its Huffman coder, bytes are coded by how frequent they are.
    case none
    /// Repetitions are looked for, at a level, in a window of so many bits.
    case matches(level: Int32, windowLog: Int32)
  }

  private func prepare(_ search: Search, contentCount: Int) throws {
    ZSTD_CCtx_reset(compressor, ZSTD_reset_session_and_parameters)
    switch search {
    case .matches(let level, let windowLog):
      try set(ZSTD_c_compressionLevel, level)
      try set(ZSTD_c_windowLog, windowLog)
    case .none:
      // Matches are as good as never looked for, literals are always coded.
      try set(ZSTD_c_compressionLevel, -1)
      try set(ZSTD_c_strategy, Int32(bitPattern: ZSTD_fast.rawValue))
      try set(ZSTD_c_targetLength, 131_072)
      try set(ZSTD_c_minMatch, 7)
      try set(ZSTD_c_hashLog, 6)
      try set(ZSTD_c_windowLog, 17)
      // ZSTD_c_literalCompressionMode = ZSTD_ps_enable; negative levels would store literals raw.
      try set(ZSTD_c_experimentalParam5, 1)
    }
    try checked(ZSTD_CCtx_setPledgedSrcSize(compressor, UInt64(contentCount)))
  }

  /// Compresses one frame into `output`.
  /// - Returns: its length there.
  /// - Throws: `RequestError` io when zstd has no memory.
  func compress(_ content: UnsafeRawBufferPointer, _ search: Search) throws -> Int {
    try prepare(search, contentCount: content.count)
    return try checked(
      ZSTD_compress2(
        compressor, output.bytes.baseAddress, output.bytes.count, content.baseAddress, content.count))
  }

  /// Inflates one zstd frame that must yield exactly `out.count` bytes and be of the form that ingots hold: one frame with a
  /// content size, without a dictionary, with a window of at most `windowLimit`. RFC 8878, 3.1.1.
  func inflate(_ stored: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer, windowLimit: Int)
    throws(ZstdFault)
  {
    try CodecWorker.checkHeader(stored, contentCount: out.count, windowLimit: windowLimit)
    let size = ZSTD_decompressDCtx(
      decompressor, out.baseAddress, out.count, stored.baseAddress, stored.count)
    guard ZSTD_isError(size) == 0 else {
      throw ZstdFault(problem: "the zstd frame is damaged: \(zstdError(size))")
    }
    guard size == out.count else {
      throw ZstdFault(problem: "the zstd frame yields \(size) bytes, expected \(out.count)")
    }
  }

  private static func checkHeader(_ stored: UnsafeRawBufferPointer, contentCount: Int, windowLimit: Int)
    throws(ZstdFault)
  {
    guard stored.count >= 5, stored.loadUnaligned(as: UInt32.self).littleEndian == 0xFD2F_B528 else {
      throw ZstdFault(problem: "found no zstd frame, expected one that starts with 28 b5 2f fd")
    }
    let descriptor = stored[4]
    guard descriptor & 0x08 == 0 else { throw ZstdFault(problem: "the zstd frame uses a reserved bit") }
    guard descriptor & 0x03 == 0 else {
      throw ZstdFault(problem: "the zstd frame asks for a dictionary, expected none")
    }
    let isSingleSegment = descriptor & 0x20 != 0
    let sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][Int(descriptor >> 6)]
    guard sizeBytes > 0 else { throw ZstdFault(problem: "the zstd frame does not say its content size") }
    let sizeOffset = isSingleSegment ? 5 : 6
    guard stored.count >= sizeOffset + sizeBytes else {
      throw ZstdFault(problem: "the zstd frame ends in its header")
    }
    if !isSingleSegment {
      let base = 1 << (10 + Int(stored[5] >> 3))
      let window = base + base / 8 * Int(stored[5] & 7)
      guard window <= windowLimit else {
        throw ZstdFault(
          problem: "the zstd frame needs a window of \(window) bytes, expected at most \(windowLimit)")
      }
    }
    var size: UInt64 = sizeBytes == 2 ? 256 : 0
    for index in 0..<sizeBytes { size &+= UInt64(stored[sizeOffset + index]) << (8 * UInt64(index)) }
    guard size == UInt64(contentCount) else {
      throw ZstdFault(problem: "the zstd frame holds \(size) bytes of content, expected \(contentCount)")
    }
    let length = ZSTD_findFrameCompressedSize(stored.baseAddress, stored.count)
    guard ZSTD_isError(length) == 0 else {
      throw ZstdFault(problem: "the zstd frame is damaged: \(zstdError(length))")
    }
    guard length == stored.count else {
      throw ZstdFault(problem: "the zstd frame ends after \(length) bytes, expected \(stored.count)")
    }
  }

  private func set(_ parameter: ZSTD_cParameter, _ value: Int32) throws {
    try checked(ZSTD_CCtx_setParameter(compressor, parameter, value))
  }

  @discardableResult
  private func checked(_ code: Int) throws -> Int {
    guard ZSTD_isError(code) == 0 else { throw RequestError(.io, "zstd cannot compress: \(zstdError(code))") }
    return code
  }
}

private func zstdError(_ code: Int) -> String { String(cString: ZSTD_getErrorName(code)) }

/// The version of the zstd library that runs.
package let codecLibraryVersion = String(cString: ZSTD_versionString())
