// Chunks as stored bytes: what a frame's form makes of them, with checksum and hash. The codecs have tests of their own.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Synchronization
import Testing

@Suite struct IngotFramesTests {
  private static let forms: [ChunkForm] =
    ChunkCodec.allCases.map { ChunkForm($0) } + [ChunkForm(.zstd, searchesMatches: true)]

  private func decode(_ chunk: EncodedChunk, _ form: ChunkForm) throws -> [UInt8] {
    var out = [UInt8](repeating: 0xAA, count: chunk.contentCount)
    try out.withUnsafeMutableBytes { out in
      try chunk.stored.withUnsafeBytes {
        try FrameCodec.decode($0, isRaw: chunk.isRaw, form.codec, into: out)
      }
    }
    return out
  }

  /// Rules I16 and I17, the checksums of I18 and I19, for all forms and lengths around their edges; one that is not a whole number of
  /// elements too.
  @Test(arguments: forms)
  func whatIsEncodedIsDecoded(form: ChunkForm) throws {
    for length in [
      1, 4, 8, 61, 1000, 4096, 131_072, 131_075, FrameCodec.chunkBytes - 4, FrameCodec.chunkBytes,
    ] {
      for (name, bytes) in [
        ("noise", noise(length, seed: UInt64(length))), ("zeros", [UInt8](repeating: 0, count: length)),
        ("normal", normalBF16(length / 2, seed: 1) + [UInt8](repeating: 7, count: length % 2)),
      ] {
        let chunk = try FrameCodec.encode(Bytes(bytes), form)
        #expect(try decode(chunk, form) == bytes, "\(name) of \(length)")
        #expect(chunk.contentCount == length && chunk.stored.count <= length)
        #expect(chunk.isRaw == (chunk.stored.count == length))
        #expect(
          chunk.contentHash
            == withUnsafeBytes(of: Bytes(bytes).withUnsafeBytes { xxh64($0) }.littleEndian, Array.init))
        #expect(chunk.checksum == chunk.stored.withUnsafeBytes { CRC32C.hash($0) })
        if name == "zeros" && length >= 4096 && length % 4 == 0 { #expect(chunk.isRaw == form.isRaw) }
      }
    }
  }

  @Test func aRawChunkIsNotCopied() throws {
    let content = Bytes(noise(1000, seed: 1))
    let chunk = try FrameCodec.encode(content, .raw)
    #expect(chunk.stored.baseAddress == content.baseAddress && chunk.isRaw)
  }

  /// A worker that coded something else before gives the same bytes.
  @Test func bytesDoNotDependOnWhatCameBefore() throws {
    let a = Bytes(normalBF16(100_000, seed: 1))
    let others = (2..<5).map { Bytes(normalBF16(90_000, seed: UInt64($0))) }
    for form in IngotFramesTests.forms {
      let first = try FrameCodec.encode(a, form).stored.array
      for other in others {
        _ = try FrameCodec.encode(other, form)
        _ = try FrameCodec.encode(other, .matches)
        #expect(try FrameCodec.encode(a, form).stored.array == first)
      }
      let different = Atomic<Int>(0)
      try Parallel(threads: 4).forEach(16) { (_: Int) throws -> Void in
        if try FrameCodec.encode(a, form).stored.array != first { different.add(1, ordering: .relaxed) }
      }
      #expect(different.load(ordering: .relaxed) == 0)
    }
  }

  /// Rule I15: neither more nor less than the content, whatever memory is offered.
  @Test func theLengthIsExact() throws {
    let chunk = try FrameCodec.encode(Bytes([UInt8](repeating: 1, count: 5000)), .huffman)
    for length in [0, 1, 4999, 5001, 100_000] {
      var out = [UInt8](repeating: 0, count: length)
      let error = #expect(throws: FormatError.self) {
        try out.withUnsafeMutableBytes { out in
          try chunk.stored.withUnsafeBytes { try FrameCodec.decode($0, isRaw: false, .zstd, into: out) }
        }
      }
      #expect(error?.code == .ingotFrame, "\(length)")
    }
  }
}
