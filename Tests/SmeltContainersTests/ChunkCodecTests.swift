// The codecs of chunks against Formats/codecs.md: what is stored comes back, what lies is refused, and the sizes are
// those that were measured on real weights.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct ChunkCodecTests {
  static let coded = ChunkCodec.allCases.filter { $0 != .raw }

  /// The stored bytes, or nil; the memory around them must be left alone.
  static func encode(_ codec: ChunkCodec, _ content: [UInt8], searchesMatches: Bool = false) throws
    -> [UInt8]?
  {
    var memory = [UInt8](repeating: 0xA5, count: content.count + 128)
    let size = try memory.withUnsafeMutableBytes { memory in
      try content.withUnsafeBytes {
        try codec.encode(
          $0, into: UnsafeMutableRawBufferPointer(rebasing: memory[64..<64 + content.count]),
          searchesMatches: searchesMatches)
      }
    }
    #expect((memory.prefix(64) + memory.suffix(64)).allSatisfy { $0 == 0xA5 }, "\(codec), \(content.count)")
    return size.map { Array(memory[64..<64 + $0]) }
  }

  /// The content, or what is wrong.
  static func decode(_ codec: ChunkCodec, _ stored: [UInt8], count: Int) -> Result<[UInt8], ChunkFault> {
    var memory = [UInt8](repeating: 0xA5, count: count + 128)
    // Memory that ends with the stored bytes, so that a reader behind them is caught by a sanitizer.
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: stored.count, alignment: 1)
    defer { copy.deallocate() }
    copy.copyBytes(from: stored)
    let result = memory.withUnsafeMutableBytes { memory in
      Result { () throws(ChunkFault) in
        try codec.decode(
          UnsafeRawBufferPointer(copy), into: UnsafeMutableRawBufferPointer(rebasing: memory[64..<64 + count])
        )
      }
    }
    #expect((memory.prefix(64) + memory.suffix(64)).allSatisfy { $0 == 0xA5 }, "\(codec), \(count)")
    return result.map { Array(memory[64..<64 + count]) }
  }

  /// 2^14 numbers in the bytes that a codec is made for: sixteen channels of different sizes, as one scale for many of them leaves
  /// them.
  private static let elements: [ChunkCodec: [[UInt8]]] = {
    var generator = Generator(seed: 5)
    let normals = generator.normals(16384, 0.016).enumerated().map { $1 * (1 + Float($0 % 16) / 16) }
    return Dictionary(
      uniqueKeysWithValues: ChunkCodec.allCases.map { codec in (codec, normals.map { element(codec, $0) }) })
  }()

  /// Numbers as weights have them.
  static func weights(_ codec: ChunkCodec, _ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var generator = Generator(seed: seed)
    let elements = elements[codec] ?? []
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count * codec.elementBytes)
    for _ in 0..<(count + 3) / 4 {
      let choice = generator.next()
      for shift in [0, 16, 32, 48] as [UInt64] { bytes += elements[Int(choice >> shift & 16383)] }
    }
    return Array(bytes.prefix(count * codec.elementBytes))
  }

  private static func element(_ codec: ChunkCodec, _ x: Float) -> [UInt8] {
    switch codec {
    case .raw, .zstd: [UInt8(120 + Int(x * 250))]
    case .bf16Planes, .bf16Pairs: [UInt8(x.bitPattern >> 16 & 0xFF), UInt8(x.bitPattern >> 24)]
    case .fp8Planes, .fp8Pairs: [Reference.encodeE4M3(x, scale: 0.2 / 448)]
    case .int8Pairs: [UInt8(bitPattern: Reference.encodeInt8(x, scale: 0.2 / 127))]
    case .f16Split: withUnsafeBytes(of: Reference.encodeF16(x).littleEndian) { Array($0) }
    case .f32Split: withUnsafeBytes(of: x.bitPattern.littleEndian) { Array($0) }
    }
  }

  @Test func theNumbersOfTheFormatStay() {
    #expect(
      ChunkCodec.allCases.map { "\($0.rawValue) \($0.name) \($0.elementBytes)" } == [
        "0 raw 1", "1 zstd 1", "2 bf16-planes 2", "3 bf16-pairs 2", "4 fp8-planes 1", "5 fp8-pairs 1",
        "6 int8-pairs 1", "7 f16-split 2", "8 f32-split 4",
      ])
    // The page's table says the same. Formats/codecs.md, section 2.
    let page = try? String(decoding: MappedFile(path: formats("codecs.md")).bytes.array, as: UTF8.self)
    for codec in ChunkCodec.allCases {
      let bytes = codec.elementBytes == 1 ? "1 byte" : "\(codec.elementBytes) bytes"
      #expect(page?.contains("| \(codec.rawValue) | \(codec.name) | \(bytes) |") == true, "\(codec)")
    }
  }

  /// K1, K2: every length, whole elements or not.
  @Test(arguments: coded)
  func whatIsStoredComesBack(codec: ChunkCodec) throws {
    let width = codec.elementBytes
    let all = Self.weights(codec, ChunkCodec.chunkBytes / width)
    let random = noise(ChunkCodec.chunkBytes, seed: 5)
    let lengths =
      Array(0...200) + [
        255, 256, 257, 511, 513, 1023, 1024, 1025, 1100, 4096, 65_535, 65_536, 100_000,
        ChunkCodec.chunkBytes - width, ChunkCodec.chunkBytes,
      ]
    for length in lengths {
      for (kind, source) in [all, random, [UInt8](repeating: 7, count: length)].enumerated() {
        let content = Array(source.prefix(length))
        guard let stored = try Self.encode(codec, content) else {
          #expect(
            kind == 1 || length < 4096 || length % width != 0, "\(codec), kind \(kind), length \(length)")
          continue
        }
        #expect(length % width == 0 && stored.count < length && stored.count > 0)
        #expect(try Self.decode(codec, stored, count: length).get() == content, "\(codec), length \(length)")
      }
    }
  }

  /// Sizes that compression of real weights was measured to have, with room for the sample and zstd's version.
  @Test(
    arguments: [
      (.bf16Planes, 0.675), (.bf16Pairs, 0.670), (.fp8Planes, 0.845), (.fp8Pairs, 0.840), (.int8Pairs, 0.93),
      (.f16Split, 0.86), (.f32Split, 0.84),
    ] as [(ChunkCodec, Double)])
  func weightsShrinkAsTheyShould(codec: ChunkCodec, bound: Double) throws {
    let content = Self.weights(codec, ChunkCodec.chunkBytes / codec.elementBytes, seed: 3)
    let stored = try #require(try Self.encode(codec, content))
    let ratio = Double(stored.count) / Double(content.count)
    #expect(ratio < bound, "\(codec): \(ratio)")
  }

  /// BF16 widened to F32 has two planes of zeros; a table of biased signs has low bytes that shrink too.
  @Test func everyPartThatShrinksDoes() throws {
    let bf16 = Self.weights(.bf16Pairs, 32_768)
    let widened = stride(from: 0, to: bf16.count, by: 2).flatMap {
      [0, 0, bf16[$0], bf16[$0 + 1]] as [UInt8]
    }
    let split = try #require(try Self.encode(.f32Split, widened))
    #expect(Double(split.count) < 0.36 * Double(widened.count))
    let positive = bf16.enumerated().map { $0 % 2 == 1 ? $1 & 0x7F : $1 }
    let (signed, unsigned) = (try Self.encode(.bf16Pairs, bf16), try Self.encode(.bf16Pairs, positive))
    #expect(
      Double(try #require(unsigned).count) < Double(try #require(signed).count) - 0.05 * Double(bf16.count))
  }

  /// K2 to K10 through chunks made elsewhere, and the encoders that leave no choice.
  @Test func chunksOfTheIndependentEncoderAreDecoded() throws {
    let text = String(
      decoding: try MappedFile(path: formats("vectors/codecs.txt")).bytes.array, as: UTF8.self)
    var seen = Set<ChunkCodec>()
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: " ").map(String.init)
      let codec = try #require(ChunkCodec.allCases.first { $0.name == fields[0] })
      let (content, stored) = (try #require(bytes(hex: fields[1])), try #require(bytes(hex: fields[2])))
      #expect(try Self.decode(codec, stored, count: content.count).get() == content, "\(codec)")
      if codec == .bf16Planes || codec == .fp8Planes { #expect(try Self.encode(codec, content) == stored) }
      seen.insert(codec)
    }
    #expect(seen == Set(ChunkCodec.allCases))
  }

  private func bytes(hex: String) -> [UInt8]? {
    let digits = Array(hex.utf8)
    let values = stride(from: 0, to: digits.count - 1, by: 2).compactMap {
      UInt8(String(decoding: digits[$0...($0 + 1)], as: UTF8.self), radix: 16)
    }
    return values.count * 2 == digits.count ? values : nil
  }

  /// K3: every prefix is refused, and so is what follows.
  @Test(arguments: coded)
  func aChunkOfAnotherLengthIsRefused(codec: ChunkCodec) throws {
    let content = Self.weights(codec, 2000)
    let stored = try #require(try Self.encode(codec, content))
    for length in 0..<stored.count {
      guard case .failure(let fault) = Self.decode(codec, Array(stored[..<length]), count: content.count)
      else {
        Issue.record("\(codec): a prefix of \(length) was decoded")
        continue
      }
      #expect(fault.byte <= stored.count && !fault.problem.isEmpty, "\(codec): \(fault)")
    }
    for more in [1, 8, 64] {
      let longer = stored + [UInt8](repeating: 0, count: more)
      #expect(throws: ChunkFault.self) { try Self.decode(codec, longer, count: content.count).get() }
    }
    for count in [
      0, codec.elementBytes, content.count - codec.elementBytes, content.count + 64 * codec.elementBytes,
    ] {
      #expect(throws: ChunkFault.self) { try Self.decode(codec, stored, count: count).get() }
    }
    #expect(throws: ChunkFault.content(ChunkCodec.chunkBytes + 4)) {
      try Self.decode(codec, stored, count: ChunkCodec.chunkBytes + 4).get()
    }
    if codec.elementBytes > 1 {
      #expect(throws: ChunkFault.content(content.count - 1)) {
        try Self.decode(codec, stored, count: content.count - 1).get()
      }
    }
  }

  @Test func aRawChunkIsItsContent() throws {
    let content = noise(100, seed: 1)
    #expect(try Self.encode(.raw, content) == nil)
    #expect(try Self.decode(.raw, content, count: 100).get() == content)
    #expect(throws: ChunkFault.size(stored: 100, content: 101)) {
      try Self.decode(.raw, content, count: 101).get()
    }
  }

  /// Bytes changed anywhere: a fault, or some content, and never a byte outside.
  @Test(arguments: coded)
  func changedBytesNeverTrap(codec: ChunkCodec) throws {
    var generator = Generator(seed: 17)
    let content = Self.weights(codec, 3001)
    let stored = try #require(try Self.encode(codec, content))
    var refused = 0
    for round in 0..<1000 {
      var lying = stored
      let head = min(40, lying.count)
      for _ in 0...(round % 3) {
        let place = Int.random(in: 0..<(round % 2 == 0 ? head : lying.count), using: &generator)
        lying[place] = round % 5 == 0 ? 0xFF : UInt8.random(in: 0...255, using: &generator)
      }
      if case .failure(let fault) = Self.decode(codec, lying, count: content.count) {
        refused += 1
        #expect(fault.byte >= 0 && fault.byte <= lying.count)
      }
    }
    #expect(refused > 250)
  }

  /// Each rule of the pairs and splits, broken alone. The header's numbers: Formats/codecs.md, 5 and 6.
  @Test func brokenHeadersAreNamed() throws {
    func broken(_ codec: ChunkCodec, _ place: Int, _ bytes: [UInt8], _ fault: ChunkFault) throws {
      let content = Self.weights(codec, 2001)
      var stored = try #require(try Self.encode(codec, content))
      stored.replaceSubrange(place..<place + bytes.count, with: bytes)
      #expect(throws: fault, "\(codec), byte \(place)") {
        try Self.decode(codec, stored, count: content.count).get()
      }
    }
    try broken(.bf16Pairs, 0, [13], .symbol(byte: 0))  // K10
    try broken(.bf16Pairs, 2, [1], .padding(byte: 1))
    try broken(.bf16Pairs, 4, [0xFF, 0xFF, 0xFF, 0xFF], .count(byte: 4))
    for (codec, places) in [
      (.bf16Pairs, [8, 12]), (.fp8Pairs, [0, 4]), (.int8Pairs, [0, 4]), (.f16Split, [0, 4]),
      (.f32Split, [0, 4, 8, 12]),
    ] as [(ChunkCodec, [Int])] {
      for place in places {
        try broken(codec, place, [0, 0, 0, 0], .count(byte: place))  // K5
        try broken(codec, place, [0xFF, 0xFF, 0xFF, 0x7F], .count(byte: place))
      }
    }
    try broken(.bf16Planes, 0, [6], .stages(byte: 0))  // K7
    try broken(.bf16Planes, 3, [9], .padding(byte: 3))
    try broken(.fp8Planes, 20, [16], .symbol(byte: 20))
    try broken(.fp8Planes, 16, [1, 0, 8, 0], .count(byte: 16))  // K8
  }

  /// K10: an escape that no nibble asks for, with a chunk that adds up.
  @Test func anEscapeTooManyIsRefused() throws {
    let content = Self.weights(.bf16Pairs, 2001)
    var stored = try #require(try Self.encode(.bf16Pairs, content))
    let escapes = Int(stored[4]) | Int(stored[5]) << 8
    let nibbles = Int(stored[8]) | Int(stored[9]) << 8
    stored.insert(0x10, at: 16 + nibbles)
    stored[4] = UInt8(truncatingIfNeeded: escapes + 1)
    stored[5] = UInt8((escapes + 1) >> 8)
    #expect(throws: ChunkFault.escapes(byte: 16 + nibbles)) {
      try Self.decode(.bf16Pairs, stored, count: content.count).get()
    }
  }

  /// K6: a nibble behind the last one.
  @Test func aFilledGroupIsRefused() throws {
    for codec in [ChunkCodec.fp8Pairs, .int8Pairs] {
      let content = Self.weights(codec, 2001)
      var stored = try #require(try Self.encode(codec, content))
      stored[stored.count - 1] |= 0xF0  // low nibbles are stored as they are
      guard case .failure(.padding) = Self.decode(codec, stored, count: content.count) else {
        Issue.record("\(codec): a filled group was decoded")
        continue
      }
    }
  }

  /// K5: a frame that asks for a dictionary, says no size, says another, wants a large window, or is followed by something.
  @Test func zstdFramesOfAnotherFormAreRefused() throws {
    // One block of type RLE: 5000 times 1. Descriptor, window or size, then the block.
    let block: [UInt8] = [0x43, 0x9C, 0x00, 0x01]
    let magic: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD]
    let good = magic + [0x60, 0x88, 0x12] + block  // single segment, 2 bytes of size: 256 + 0x1288
    #expect(try Self.decode(.zstd, good, count: 5000).get() == [UInt8](repeating: 1, count: 5000))
    let window: [UInt8] = magic + [0x40, 8 << 3, 0x88, 0x12] + block  // 256 KiB
    #expect(try Self.decode(.zstd, window, count: 5000).get().count == 5000)
    for (bad, words) in [
      (magic + [0x40, 9 << 3, 0x88, 0x12] + block, "window"),
      (magic + [0x61, 7, 0x88, 0x12] + block, "dictionary"),
      (magic + [0x00, 0x38] + block, "content size"), (magic + [0x60, 0x89, 0x12] + block, "5001 bytes"),
      (magic + [0x68, 0x88, 0x12] + block, "reserved"), (good + [0], "ends after"),
      ([0] + good, "no zstd frame"),
      (Array(good.dropLast()), "damaged"), (magic + [0x60, 0x88, 0x12, 0x3B, 0x9C, 0x00, 0x01], "damaged"),
    ] as [([UInt8], String)] {
      guard case .failure(.zstd(0, let problem)) = Self.decode(.zstd, bad, count: 5000) else {
        Issue.record("\(words): was not refused as a zstd frame")
        continue
      }
      #expect(problem.contains(words), "\(problem)")
    }
  }

  @Test func bytesDoNotDependOnWhatCameBefore() throws {
    let contents = Dictionary(uniqueKeysWithValues: Self.coded.map { ($0, Self.weights($0, 30_000)) })
    let first = try contents.map { ($0, try Self.encode($0, $1)) }
    try Parallel(threads: 4).forEach(16) { index throws -> Void in
      for (codec, stored) in index % 2 == 0 ? first : first.reversed() {
        #expect(try Self.encode(codec, contents[codec] ?? []) == stored, "\(codec)")
      }
    }
  }
}
