// The codecs of chunks: content to stored bytes and back. Formats/codecs.md is the law.

internal import CKernels
internal import SmeltStorage

/// What is wrong with the stored bytes of a chunk, and at which of them it shows.
package enum ChunkFault: Error, Hashable, Sendable {
  /// No stored bytes, fewer than the header has, or at least as many as the content has.
  case size(stored: Int, content: Int)
  /// The codec does not store content of this length.
  case content(Int)
  /// The parts do not add up to the stored length.
  case length(byte: Int)
  /// No such list of stages.
  case stages(byte: Int)
  /// A length or a count above what there can be.
  case count(byte: Int)
  /// More or fewer escapes than the count says.
  case escapes(byte: Int)
  /// A symbol that its element cannot hold.
  case symbol(byte: Int)
  /// Bytes, bits or nibbles that mean nothing are not zero.
  case padding(byte: Int)
  /// A zstd frame is not of the form that ingots hold.
  case zstd(byte: Int, problem: String)
  /// There is no memory for zstd.
  case memory

  /// The byte of the chunk where it shows.
  package var byte: Int {
    switch self {
    case .size, .content, .memory: 0
    case .length(let byte), .stages(let byte), .count(let byte), .escapes(let byte), .symbol(let byte),
      .padding(let byte), .zstd(let byte, _):
      byte
    }
  }

  /// What was found, and what was expected.
  package var problem: String {
    switch self {
    case .size(let stored, let content):
      "the chunk has \(stored) stored bytes for \(content) of content, expected a whole header and fewer than the content"
    case .content(let count): "the codec does not store chunks of \(count) bytes"
    case .length: "the parts of the chunk do not add up to its stored length"
    case .stages: "the chunk names a list of stages that is not defined"
    case .count: "the chunk counts more than it can hold"
    case .escapes: "the chunk holds more or fewer escapes than it counts"
    case .symbol: "the chunk names a symbol that its elements cannot hold"
    case .padding: "found bits that are set in a place that must be zero"
    case .zstd(_, let problem): problem
    case .memory: "there is no memory for zstd"
    }
  }

  /// From a kernel's answer; nil when nothing is wrong.
  init?(_ fault: Int32, place: Int, stored: Int, content: Int) {
    switch Int(fault) {
    case Int(SK_FAULT_NONE): return nil
    case Int(SK_FAULT_LENGTH):
      self = place == 0 ? .size(stored: stored, content: content) : .length(byte: place)
    case Int(SK_FAULT_STAGES): self = .stages(byte: place)
    case Int(SK_FAULT_COUNT): self = .count(byte: place)
    case Int(SK_FAULT_ESCAPES): self = .escapes(byte: place)
    case Int(SK_FAULT_SYMBOL): self = .symbol(byte: place)
    default: self = .padding(byte: place)
    }
  }
}

/// How the chunks of a frame are stored. The numbers are the format's and never change. Formats/codecs.md, section 2.
package enum ChunkCodec: UInt8, CaseIterable, Sendable, Hashable {
  /// The content itself.
  case raw = 0
  /// One zstd frame.
  case zstd = 1
  /// BF16: exponents in bit planes with escapes, mantissas as they are.
  case bf16Planes = 2
  /// BF16: exponents in pairs of nibbles, Huffman coded.
  case bf16Pairs = 3
  /// FP8: exponents in bit planes with escapes, mantissas as they are.
  case fp8Planes = 4
  /// FP8: exponents in pairs of nibbles, Huffman coded.
  case fp8Pairs = 5
  /// INT8: high nibbles in pairs, Huffman coded.
  case int8Pairs = 6
  /// F16: high bytes Huffman coded.
  case f16Split = 7
  /// F32: exponents Huffman coded.
  case f32Split = 8

  /// Bytes of content in a chunk, at most.
  package static let chunkBytes = 256 << 10

  /// The largest window a zstd frame of a chunk may ask for.
  static let windowLimit = chunkBytes

  /// The name in lists and reports.
  package var name: String {
    switch self {
    case .raw: "raw"
    case .zstd: "zstd"
    case .bf16Planes: "bf16-planes"
    case .bf16Pairs: "bf16-pairs"
    case .fp8Planes: "fp8-planes"
    case .fp8Pairs: "fp8-pairs"
    case .int8Pairs: "int8-pairs"
    case .f16Split: "f16-split"
    case .f32Split: "f32-split"
    }
  }

  /// Bytes of an element; content is a whole number of them.
  package var elementBytes: Int {
    switch self {
    case .raw, .zstd, .fp8Planes, .fp8Pairs, .int8Pairs: 1
    case .bf16Planes, .bf16Pairs, .f16Split: 2
    case .f32Split: 4
    }
  }

  /// Stores one chunk. The bytes depend on the content only (and, in zstd's parts, on the library's version).
  /// - Parameters:
  ///   - content: at most `chunkBytes` bytes.
  ///   - stored: at least as many bytes as the content has, which do not overlap it.
  ///   - searchesMatches: with `zstd`, look for repetitions instead of coding bytes only. The format does not say it.
  /// - Returns: how many bytes were stored; nil when the codec makes no fewer than the content has or does not suit its
  ///   length, and for `raw`. The content is stored raw then.
  /// - Throws: `RequestError` io when zstd has no memory.
  package func encode(
    _ content: UnsafeRawBufferPointer, into stored: UnsafeMutableRawBufferPointer,
    searchesMatches: Bool = false
  ) throws -> Int? {
    precondition(content.count <= Self.chunkBytes, "a chunk has at most \(Self.chunkBytes) bytes")
    precondition(stored.count >= content.count, "stored bytes need as much room as the content")
    // SAFETY: kernels get whole elements, at most `chunkBytes` of them, and room for as many stored bytes; they are told that room
    // as their capacity. The worker is this thread's until `use` returns.
    guard self != .raw, content.count > 0, content.count % elementBytes == 0 else { return nil }
    let size = try CodecWorker.use { worker -> Int? in
      switch self {
      case .raw: return nil
      case .zstd:
        let search: CodecWorker.Search = searchesMatches ? .matches(level: 3, windowLog: 18) : .none
        let size = try worker.compress(content, search)
        guard size < content.count else { return nil }
        stored.copyMemory(from: UnsafeRawBufferPointer(rebasing: worker.output.bytes[0..<size]))
        return size
      case .bf16Planes, .fp8Planes: return encodePlanes(content, into: stored, worker)
      case .bf16Pairs: return try encodeBF16Pairs(content, into: stored, worker)
      case .fp8Pairs, .int8Pairs: return try encodeNibblePairs(content, into: stored, worker)
      case .f16Split, .f32Split: return try encodeSplit(content, into: stored, worker)
      }
    }
    return size.flatMap { $0 < content.count ? $0 : nil }
  }

  /// Gives back the content of one chunk, exactly as many bytes as `content` has room for.
  /// - Parameters:
  ///   - stored: the chunk's bytes as a file has them; every one of them may lie.
  ///   - content: the chunk's content length, at most `chunkBytes`. What a refused chunk leaves in it is not to be used.
  /// - Throws: what is wrong at which byte of `stored`.
  package func decode(_ stored: UnsafeRawBufferPointer, into content: UnsafeMutableRawBufferPointer)
    throws(ChunkFault)
  {
    // SAFETY: content and stored length are checked here, everything that the stored bytes say by whoever reads it; scratch memory
    // is for `chunkBytes`, the longest content there is.
    guard content.count <= Self.chunkBytes, content.count % elementBytes == 0 else {
      throw .content(content.count)
    }
    guard self != .raw else {
      guard stored.count == content.count else { throw .size(stored: stored.count, content: content.count) }
      content.copyMemory(from: stored)
      return
    }
    guard stored.count > 0, stored.count < content.count else {
      throw .size(stored: stored.count, content: content.count)
    }
    guard let worker = CodecWorker.take() else { throw .memory }
    defer { worker.giveBack() }
    switch self {
    case .raw: return
    case .zstd: try inflate(stored, at: 0, into: content, worker)
    case .bf16Planes, .fp8Planes: try decodePlanes(stored, into: content, worker)
    case .bf16Pairs: try decodeBF16Pairs(stored, into: content, worker)
    case .fp8Pairs, .int8Pairs: try decodeNibblePairs(stored, into: content, worker)
    case .f16Split, .f32Split: try decodeSplit(stored, into: content, worker)
    }
  }

  /// Inflates a zstd frame that stands at `byte` of the chunk.
  func inflate(
    _ stored: UnsafeRawBufferPointer, at byte: Int, into content: UnsafeMutableRawBufferPointer,
    _ worker: CodecWorker
  ) throws(ChunkFault) {
    do throws(ZstdFault) {
      try worker.inflate(stored, into: content, windowLimit: Self.windowLimit)
    } catch {
      throw .zstd(byte: byte, problem: error.problem)
    }
  }

  // MARK: Bit planes. Formats/codecs.md, section 4

  private func encodePlanes(
    _ content: UnsafeRawBufferPointer, into stored: UnsafeMutableRawBufferPointer, _ worker: CodecWorker
  ) -> Int? {
    let source = content.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let out = stored.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let scratch = worker.planes.bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let size =
      self == .bf16Planes
      ? sk_planes16_encode(source, content.count / 2, out, content.count - 1, scratch)
      : sk_planes8_encode(source, content.count, out, content.count - 1, scratch)
    return size > 0 ? size : nil
  }

  private func decodePlanes(
    _ stored: UnsafeRawBufferPointer, into content: UnsafeMutableRawBufferPointer, _ worker: CodecWorker
  ) throws(ChunkFault) {
    precondition(worker.planes.bytes.count >= sk_codec_scratch(content.count / elementBytes))
    let source = stored.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let out = content.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let scratch = worker.planes.bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
    var place = 0
    let fault =
      self == .bf16Planes
      ? sk_planes16_decode(source, stored.count, out, content.count / 2, scratch, &place)
      : sk_planes8_decode(source, stored.count, out, content.count, scratch, &place)
    if let fault = ChunkFault(fault, place: place, stored: stored.count, content: content.count) {
      throw fault
    }
  }
}
