// Which codec a frame gets: the candidates of its dtype, tried on a sample. Formats/codecs.md, section 7.

internal import CKernels
internal import SmeltStorage
package import SmeltTensors

/// What a writer of chunks is after.
package enum CodecMode: String, Sendable, CaseIterable {
  /// Decoding near the speed of memory: bit planes; codes of 4 and 8 whole bits and blocks raw.
  case fast
  /// The smallest file: Huffman codes wherever they save.
  case small
  /// No codec.
  case raw
}

/// A codec, and what its writer does that its reader need not know.
package struct ChunkForm: Sendable, Hashable {
  /// How chunks are stored.
  package let codec: ChunkCodec
  /// Whether zstd looks for repetitions.
  package let searchesMatches: Bool

  /// The content itself.
  package static let raw = ChunkForm(.raw)
  /// zstd as its Huffman coder.
  package static let huffman = ChunkForm(.zstd)
  /// zstd with repetitions, for repeated rows and text.
  package static let matches = ChunkForm(.zstd, searchesMatches: true)

  /// A form; only zstd looks for repetitions.
  package init(_ codec: ChunkCodec, searchesMatches: Bool = false) {
    precondition(codec == .zstd || !searchesMatches, "only zstd looks for repetitions")
    self.codec = codec
    self.searchesMatches = searchesMatches
  }

  /// `ChunkCodec.encode` in this form.
  package func encode(_ content: UnsafeRawBufferPointer, into stored: UnsafeMutableRawBufferPointer) throws
    -> Int?
  {
    try codec.encode(content, into: stored, searchesMatches: searchesMatches)
  }

  /// What its trial is charged, in thousandths of the content, for inflating slowly: repetitions are a rescue, and the more so in
  /// `fast`, where a Huffman code saves a point over bit planes and inflates a tenth as fast; whole bytes give way to pairs of nibbles.
  func handicap(among others: [ChunkForm], mode: CodecMode) -> Int {
    if searchesMatches { return mode == .fast ? 50 : 10 }
    let hasPairs = others.contains { $0.codec == .fp8Pairs || $0.codec == .int8Pairs }
    return self == .huffman && hasPairs ? 10 : 0
  }
}

extension ChunkCodec {
  /// Content below this is stored raw: inflating it would cost more than its bytes.
  package static let smallestCompressed = 4096

  /// Bytes of one slice of a sample, and how many there are.
  static let sliceBytes = 4096
  static let sliceCount = 16

  /// The forms that are tried for a dtype beside `raw`. Bytes without a type (`U8`: blocks, packed codes) are tried in `small` only.
  package static func candidates(for dtype: DType, mode: CodecMode) -> [ChunkForm] {
    let isFast = mode == .fast
    guard mode != .raw else { return [] }
    switch dtype {
    case .bf16: return [ChunkForm(isFast ? .bf16Planes : .bf16Pairs), .matches]
    case .f16: return [ChunkForm(.f16Split), .matches]
    case .f32: return [ChunkForm(.f32Split), .matches]
    case .f8E4M3, .f8E5M2, .f8E4M3FNUZ, .f8E5M2FNUZ:
      return isFast ? [ChunkForm(.fp8Planes), .matches] : [ChunkForm(.fp8Pairs), .huffman, .matches]
    case .i8: return isFast ? [] : [ChunkForm(.int8Pairs), .huffman, .matches]
    case .u8, .f4, .f6E2M3, .f6E3M2: return isFast ? [] : [.huffman, .matches]
    case .f8E8M0, .bool, .i16, .u16, .i32, .u32, .c64, .f64, .i64, .u64: return [.huffman, .matches]
    }
  }

  /// Decides how a frame is stored: each candidate codes sixteen evenly spread slices of 4 KiB; the smallest result wins, if it saves 2 %
  /// of the content, and what inflates slowly is charged for it. Depends on the content only.
  ///
  /// Of weights a search for repetitions hardly ever wins, and takes ten times as long as everything else: it is not tried where a bound
  /// says that it cannot.
  /// - Parameters:
  ///   - content: of the whole frame, or as much of it as there is.
  ///   - triesAll: whether it is tried all the same.
  /// - Throws: `RequestError` io when zstd has no memory.
  package static func choose(
    _ content: UnsafeRawBufferPointer, dtype: DType, mode: CodecMode, triesAll: Bool = false
  ) throws -> ChunkForm {
    let forms = candidates(for: dtype, mode: mode)
    guard content.count >= smallestCompressed, !forms.isEmpty else { return .raw }
    // SAFETY: freed on every way out; `gather` fills all of the sample or returns the content itself, and what is coded of either
    // fits, since the content is no longer than the sample then.
    let sample = UnsafeMutableRawBufferPointer.allocate(byteCount: sliceBytes * sliceCount, alignment: 64)
    let coded = UnsafeMutableRawBufferPointer.allocate(byteCount: sliceBytes * sliceCount, alignment: 64)
    defer {
      sample.deallocate()
      coded.deallocate()
    }
    let slices = gather(content, into: sample)
    var best = ChunkForm.raw
    var bestSize = slices.count - slices.count / 50
    for form in forms {
      let handicap = slices.count * form.handicap(among: forms, mode: mode) / 1000
      if form.searchesMatches, !triesAll,
        leastSearched(slices, dtype, isGathered: content.count > slices.count) + handicap >= bestSize
      {
        continue
      }
      guard let size = try form.encode(slices, into: coded) else { continue }
      let charged = size + handicap
      if charged < bestSize {
        best = form
        bestSize = charged
      }
    }
    return best
  }

  /// About the fewest bytes that zstd's search makes of a sample: twice that of its first half, where it is gathered.
  private static func leastSearched(_ sample: UnsafeRawBufferPointer, _ dtype: DType, isGathered: Bool) -> Int
  {
    let shares = isGathered ? 2 : 1
    return shares
      * sk_least_searched(
        sample.baseAddress?.assumingMemoryBound(to: UInt8.self), sample.count / shares, max(1, dtype.bits / 8)
      )
  }

  /// The slices side by side, or all of the content when there is no more than that. Slices start at multiples of 64, so that they
  /// hold whole elements; every other one comes first, so that half of the sample is of all of the content too.
  private static func gather(_ content: UnsafeRawBufferPointer, into sample: UnsafeMutableRawBufferPointer)
    -> UnsafeRawBufferPointer
  {
    guard content.count > sample.count else { return content }
    for index in 0..<sliceCount {
      let start = (content.count - sliceBytes) / 64 * index / (sliceCount - 1) * 64
      let place = (index / 2 + index % 2 * (sliceCount / 2)) * sliceBytes
      UnsafeMutableRawBufferPointer(rebasing: sample[place..<place + sliceBytes])
        .copyMemory(from: UnsafeRawBufferPointer(rebasing: content[start..<start + sliceBytes]))
    }
    return UnsafeRawBufferPointer(sample)
  }
}
