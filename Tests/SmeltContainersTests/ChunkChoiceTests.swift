// Which codec a frame gets.

import SmeltContainers
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct ChunkChoiceTests {
  private func choose(_ bytes: [UInt8], _ dtype: DType, _ mode: CodecMode) throws -> ChunkForm {
    try bytes.withUnsafeBytes { try ChunkCodec.choose($0, dtype: dtype, mode: mode) }
  }

  @Test func theChoiceFollowsDtypeAndMode() throws {
    let cases: [(ChunkCodec, DType, fast: ChunkForm, small: ChunkForm)] = [
      (.bf16Planes, .bf16, ChunkForm(.bf16Planes), ChunkForm(.bf16Pairs)),
      (.f16Split, .f16, ChunkForm(.f16Split), ChunkForm(.f16Split)),
      (.f32Split, .f32, ChunkForm(.f32Split), ChunkForm(.f32Split)),
      (.fp8Planes, .f8E4M3, ChunkForm(.fp8Planes), ChunkForm(.fp8Pairs)),
      (.int8Pairs, .i8, .raw, ChunkForm(.int8Pairs)), (.zstd, .f8E8M0, .huffman, .huffman),
      (.zstd, .u8, .raw, .huffman),
    ]
    for (kind, dtype, fast, small) in cases {
      let content = ChunkCodecTests.weights(kind, 100_000, seed: 9)
      let found = (try choose(content, dtype, .fast), try choose(content, dtype, .small))
      #expect(found == (fast, small), "\(dtype): \(found)")
      #expect(try choose(content, dtype, .raw) == .raw, "\(dtype)")
      #expect(try choose(Array(content.prefix(4095)), dtype, .small) == .raw, "\(dtype)")
    }
  }

  @Test(arguments: DType.allCases)
  func whatDoesNotShrinkIsRaw(dtype: DType) throws {
    for mode in CodecMode.allCases {
      #expect(try choose(noise(300_000, seed: 1), dtype, mode) == .raw, "\(mode)")
      for form in ChunkCodec.candidates(for: dtype, mode: mode) {
        #expect(form.codec.elementBytes * 8 == dtype.bits || form.codec == .zstd, "\(form)")
      }
    }
  }

  /// Repeated rows and zeros, which no Huffman code sees, are found by zstd's search.
  @Test func repetitionIsFound() throws {
    let row = ChunkCodecTests.weights(.bf16Planes, 256)
    let repeated = (0..<300).flatMap { _ in row }
    for mode in [CodecMode.fast, .small] {
      #expect(try choose(repeated, .bf16, mode) == .matches)
      for dtype in [DType.bf16, .f16, .f32, .f8E4M3, .f8E8M0, .i32] {
        let zeros = [UInt8](repeating: 0, count: 100_000)
        let form = try choose(zeros, dtype, mode)
        let stored = try ChunkCodecTests.encode(form.codec, zeros, searchesMatches: form.searchesMatches)
        #expect(try #require(stored).count < 5000, "\(dtype), \(mode): \(form)")
      }
    }
    let text = Array(String(repeating: "{\"id\": 17, \"content\": \"word\"},\n", count: 2000).utf8)
    #expect(try choose(text, .u8, .small) == .matches)
  }

  /// Slices come from all of the content, not from its beginning.
  @Test func theSampleIsSpread() throws {
    let weights = ChunkCodecTests.weights(.bf16Planes, 400_000)
    #expect(try choose(noise(65_536, seed: 2) + weights, .bf16, .fast) == ChunkForm(.bf16Planes))
    #expect(try choose(Array(weights.prefix(65_536)) + noise(4_000_000, seed: 3), .bf16, .fast) == .raw)
  }

  /// What is not tried would not have won: contents between noise and repetition, of which any share is either.
  @Test(arguments: [DType.bf16, .f16, .f32, .f8E4M3, .i8, .u8, .f8E8M0, .i32])
  func theBoundLeavesOutWhatCannotWin(dtype: DType) throws {
    let codec =
      ChunkCodec.allCases.first { $0.elementBytes * 8 == dtype.bits && ![.raw, .zstd].contains($0) } ?? .zstd
    var generator = Generator(seed: 11)
    var contents: [(String, [UInt8])] = []
    for count in [4096, 65_536, 300_000] {
      let weights = Array(ChunkCodecTests.weights(codec, count, seed: 3).prefix(count))
      contents.append(("weights", weights))
      contents.append(("noise", noise(count, seed: 4)))
      contents.append(("zeros", [UInt8](repeating: 0, count: count)))
      for period in [2, 6, 16, 64, 250, 1024, 4096, 10_000] {
        contents.append(("period \(period)", (0..<count).map { weights[$0 % period % weights.count] }))
      }
      for share in [2, 10, 30, 60, 90] {
        // Runs of 64 bytes, of which a share is an earlier one.
        var mixed = weights
        for start in stride(from: 64, to: count - 63, by: 64) where generator.next() % 100 < share {
          let from = Int(generator.next() % UInt64(start / 64)) * 64
          mixed.replaceSubrange(start..<start + 64, with: mixed[from..<from + 64])
        }
        contents.append(("\(share) % repeated", mixed))
        // Elements that are zero.
        var sparse = weights
        for start in stride(from: 0, to: count - 3, by: 4) where generator.next() % 100 < share {
          sparse.replaceSubrange(start..<start + 4, with: [0, 0, 0, 0])
        }
        contents.append(("\(share) % zeros", sparse))
      }
      contents.append(
        ("text", Array(String(repeating: "A word, 17 more of them; ", count: count / 25 + 1).utf8)))
    }
    for mode in [CodecMode.fast, .small] {
      for (name, content) in contents {
        let tried = try content.withUnsafeBytes {
          try ChunkCodec.choose($0, dtype: dtype, mode: mode, triesAll: true)
        }
        #expect(try choose(content, dtype, mode) == tried, "\(name), \(content.count) bytes, \(mode)")
      }
    }
  }
}
