// Chunks as stored bytes: the choice, the transforms against their definition, zstd frames of the agreed form.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Synchronization
import Testing

@Suite struct IngotFramesTests {
  /// BF16 of trained weights takes 0.66 to 0.68 of its bytes with an ideal order-0 coder of the exponents; 0.70 leaves
  /// room for other versions of zstd.
  static let bf16Ratio = 0.70

  private func choose(_ bytes: [UInt8], _ dtype: DType) throws -> FrameForm {
    try bytes.withUnsafeBytes { try FrameCodec.choose(sample: $0, dtype: dtype, compression: .auto) }
  }

  private func decode(_ chunk: EncodedChunk, _ form: FrameForm) throws -> [UInt8] {
    var out = [UInt8](repeating: 0xAA, count: chunk.contentCount)
    try out.withUnsafeMutableBytes { out in
      try chunk.stored.withUnsafeBytes {
        try FrameCodec.decode($0, isRaw: chunk.isRaw, form.transform, into: out)
      }
    }
    return out
  }

  @Test func theChoiceFollowsTheContent() throws {
    let normals = normalBF16(200_000, seed: 1)
    #expect(try choose(normals, .bf16) == FrameForm(storage: .zstd, transform: .split16Rotate))
    #expect(try choose(noise(300_000, seed: 1), .bf16) == .raw)
    #expect(try choose(noise(300_000, seed: 1), .f4) == .raw)
    #expect(try choose([UInt8](normals.prefix(4095)), .bf16) == .raw)
    #expect(try choose([], .bf16) == .raw)
    // BF16 widened to F32: two planes are zero.
    let widened = stride(from: 0, to: 200_000, by: 2).flatMap { place -> [UInt8] in
      [0, 0, normals[place], normals[place + 1]]
    }
    #expect(try choose(widened, .f32) == FrameForm(storage: .zstd, transform: .split32Rotate))
    // Scales that are powers of two from few octaves.
    let scales = noise(50_000, seed: 2).map { 120 + $0 % 5 }
    #expect(try choose(scales, .f8E8M0) == FrameForm(storage: .zstd, transform: .none))
    // Text repeats itself, which a Huffman coder cannot see.
    let text = Array(
      String(repeating: "{\"id\": 17, \"content\": \"word\", \"special\": false},\n", count: 2000).utf8)
    #expect(try choose(text, .u8) == FrameForm(storage: .zstd, transform: .none, searchesMatches: true))
    let none = try normals.withUnsafeBytes {
      try FrameCodec.choose(sample: $0, dtype: .bf16, compression: .none)
    }
    #expect(none == .raw)
  }

  @Test func trainedWeightsShrinkAsTheyShould() throws {
    // Small frames too: an expert's matrix of a tiny model has 64 KiB, less than one zstd block.
    for count in [16_384, 32_768, 100_000, FrameCodec.chunkBytes / 2] {
      let bytes = normalBF16(count, seed: 7)
      let form = FrameForm(storage: .zstd, transform: .split16Rotate)
      let chunk = try FrameCodec.encode(Bytes(bytes), form)
      let ratio = Double(chunk.stored.count) / Double(bytes.count)
      #expect(ratio < IngotFramesTests.bf16Ratio, "\(count) numbers: \(ratio)")
      #expect(try decode(chunk, form) == bytes)
    }
  }

  /// Rules I14 and I17, the checksums of I18 and I19, for all forms and lengths around their edges.
  @Test(arguments: FrameTransform.allCases, [false, true])
  func whatIsEncodedIsDecoded(transform: FrameTransform, searchesMatches: Bool) throws {
    let form = FrameForm(storage: .zstd, transform: transform, searchesMatches: searchesMatches)
    for length in [
      4, 8, 60, 1000, 4096, 131_072, 131_076, FrameCodec.chunkBytes - 4, FrameCodec.chunkBytes,
    ] {
      for (name, bytes) in [
        ("noise", noise(length, seed: UInt64(length))), ("zeros", [UInt8](repeating: 0, count: length)),
        ("normal", normalBF16(length / 2, seed: 1)),
      ] {
        let chunk = try FrameCodec.encode(Bytes(bytes), form)
        #expect(try decode(chunk, form) == bytes, "\(name) of \(length)")
        #expect(chunk.contentCount == length && chunk.stored.count <= length)
        #expect(chunk.isRaw == (chunk.stored.count == length))
        #expect(hexadecimal(chunk.contentHash) == SHA256.hex(Bytes(bytes)))
        #expect(chunk.checksum == chunk.stored.withUnsafeBytes { CRC32C.hash($0) })
        if !chunk.isRaw { #expect(Array(chunk.stored.array.prefix(4)) == [0x28, 0xB5, 0x2F, 0xFD]) }
        if name == "zeros" && length >= 4096 { #expect(!chunk.isRaw) }
      }
    }
  }

  @Test func aRawChunkIsNotCopied() throws {
    let content = Bytes(noise(1000, seed: 1))
    let chunk = try FrameCodec.encode(content, .raw)
    #expect(chunk.stored.baseAddress == content.baseAddress && chunk.isRaw)
  }

  /// A context that compressed something else before gives the same bytes.
  @Test func bytesDoNotDependOnWhatCameBefore() throws {
    let a = Bytes(normalBF16(100_000, seed: 1))
    let others = (2..<5).map { Bytes(normalBF16(90_000, seed: UInt64($0))) }
    for form in [
      FrameForm(storage: .zstd, transform: .split16Rotate), FrameForm(storage: .zstd, transform: .none),
      FrameForm(storage: .zstd, transform: .none, searchesMatches: true),
    ] {
      let first = try FrameCodec.encode(a, form).stored.array
      for other in others {
        _ = try FrameCodec.encode(other, form)
        _ = try FrameCodec.encode(other, FrameForm(storage: .zstd, transform: .none, searchesMatches: true))
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
    let form = FrameForm(storage: .zstd, transform: .none)
    let chunk = try FrameCodec.encode(Bytes([UInt8](repeating: 1, count: 5000)), form)
    for length in [0, 1, 4999, 5001, 100_000] {
      var out = [UInt8](repeating: 0, count: length)
      let error = #expect(throws: FormatError.self) {
        try out.withUnsafeMutableBytes { out in
          try chunk.stored.withUnsafeBytes { try FrameCodec.decode($0, isRaw: false, .none, into: out) }
        }
      }
      #expect(error?.code == .ingotFrame, "\(length)")
    }
  }

  /// 3.4, written out: the page's table against the kernels, through a frame that zstd stored as raw blocks or not.
  @Test(arguments: [FrameTransform.split16Rotate, .split16, .split32Rotate])
  func planesAreAsThePageSays(transform: FrameTransform) throws {
    let width = transform.elementBytes
    let count = 1024
    // Few values a plane, so that zstd does shrink it.
    let bytes = noise(count * width, seed: 5).map { $0 & 0x03 }
    var planes = [UInt8](repeating: 0, count: bytes.count)
    for index in 0..<count {
      var value: UInt32 = 0
      for byte in (0..<width).reversed() { value = value << 8 | UInt32(bytes[index * width + byte]) }
      if transform != .split16 {
        let top: UInt32 = value >> (8 * UInt32(width) - 1)
        value = value << 1 | top
        if width == 2 { value &= 0xFFFF }
      }
      for plane in 0..<width {
        planes[plane * count + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * (width - 1 - plane)))
      }
    }
    let form = FrameForm(storage: .zstd, transform: transform)
    let chunk = try FrameCodec.encode(Bytes(bytes), form)
    #expect(!chunk.isRaw)
    // The same stored bytes without the transform are the planes.
    #expect(try decode(chunk, FrameForm(storage: .zstd, transform: .none)) == planes)
  }
}
