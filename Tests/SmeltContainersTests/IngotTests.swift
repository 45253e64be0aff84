// Writing and reading ingots: what comes out is what went in, raw is lent, memory is bounded, bytes are the same.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct IngotTests {
  let folder = TemporaryFolder()

  /// A weight of random bytes in an encoding, or nil when the encoding has no such shape.
  private func random(_ encoding: any Encoding, _ shape: Shape, seed: UInt64) throws -> Weight? {
    guard let layouts = try? encoding.layout(of: shape, name: "w") else { return nil }
    let parts = layouts.enumerated().map { place, layout in
      let count = layout.dtypes[0].byteCount(layout.shape.count)!
      return Part(
        layout.name, dtype: layout.dtypes[0], shape: layout.shape,
        bytes: Bytes(noise(count, seed: seed + UInt64(place))))
    }
    return try Weight(name: "\(encoding.name) \(shape)", shape: shape, encoding: encoding, parts: parts)
  }

  private func expectEqual(_ found: Weight, _ expected: Weight) {
    #expect(found.name == expected.name)
    #expect(found.shape == expected.shape, "\(expected.name)")
    #expect(found.encoding.name == expected.encoding.name, "\(expected.name)")
    #expect(found.parts.count == expected.parts.count, "\(expected.name)")
    for (a, b) in zip(found.parts, expected.parts) {
      #expect(a.name == b.name && a.dtype == b.dtype && a.shape == b.shape, "\(expected.name)")
      #expect(a.bytes.array == b.bytes.array, "\(expected.name) \(a.name)")
    }
  }

  /// Rules I24 to I26 from the writer's side, for every encoding there is.
  @Test(arguments: Encodings.all.map(\.name), CodecMode.allCases)
  func whatIsWrittenIsRead(encoding: String, compression: CodecMode) throws {
    let encoding = try #require(Encodings.named(encoding))
    let shapes: [Shape] = [[130, 256], [0, 256], [1, 1024], [256], [2, 3, 128]]
    let weights = try shapes.enumerated().compactMap { try random(encoding, $1, seed: UInt64($0) * 10) }
    #expect(weights.count >= 2)
    let path = folder.file("a.ingot")
    let summary = try writeIngot(
      path, weights, files: [("config.json", Array("{\"a\": 1}".utf8)), ("empty.txt", [])],
      compression: compression)
    let ingot = try IngotFile(path: path)
    #expect(ingot.entries.map(\.name) == weights.map(\.name))
    for weight in weights { expectEqual(try ingot.weight(weight.name), weight) }
    #expect(ingot.fileNames == ["config.json", "empty.txt"])
    #expect(try ingot.file("config.json")?.array == Array("{\"a\": 1}".utf8))
    #expect(try ingot.file("empty.txt")?.array == [])
    #expect(try ingot.file("tokenizer.json") == nil)
    #expect(ingot.contentHash == summary.contentHash && ingot.byteCount == summary.byteCount)
    #expect(summary.weightCount == weights.count)
    #expect(ingot.metadata["format"]?.string == "ingot")
    #expect(try ingot.damage().isEmpty)
  }

  @Test func anUnknownNameIsRefused() throws {
    let path = folder.file("a.ingot")
    try writeIngot(path, [f32("a", [1], [0, 0, 0, 0])])
    let error = #expect(throws: FormatError.self) { try IngotFile(path: path).weight("b") }
    #expect(error?.code == .incomplete && error?.subject == "b")
  }

  /// Rule I11 and 3.2: around the chunk's size, compressed and not.
  @Test(arguments: [-1, 0, 1], [false, true])
  func chunksMayBeRagged(difference: Int, isNoise: Bool) throws {
    let count = FrameCodec.chunkBytes + 2 * difference
    let bytes = isNoise ? noise(count, seed: 3) : normalBF16(count / 2, seed: 3)
    let weight = try bf16("w", [count / 2], bytes)
    for compression in CodecMode.allCases {
      let path = folder.file("\(compression).ingot")
      try writeIngot(path, [weight], compression: compression)
      let ingot = try IngotFile(path: path)
      expectEqual(try ingot.weight("w"), weight)
      let frame = try #require(ingot.entry("w")).parts[0].frame
      #expect(frame.chunks.count == (difference > 0 ? 2 : 1))
      #expect((frame.codec == .raw) == (isNoise || compression == .raw))
      if difference > 0 && frame.codec != .raw {
        // I17: two bytes do not shrink, and are stored as they are.
        #expect(frame.chunks[1].isRaw && frame.chunks[1].storedLength == 2)
        let stored = try readPlainly(path)[frame.end - 2..<frame.end]
        #expect(Array(stored) == Array(bytes.suffix(2)))
      }
    }
  }

  /// Rules I8 and I9: frames side by side in call order, large raw ones on pages, and the addresses of raw weights are
  /// those of one mapping.
  @Test func rawFramesAreLentFromTheMapping() throws {
    let small = try f32("small", [16], noise(64, seed: 1))
    let large = try f32("large", [128, 128], noise(65536, seed: 2))
    let odd = try f32("odd", [3], noise(12, seed: 3))
    let path = folder.file("a.ingot")
    try writeIngot(path, [small, odd, large, try small.named("again")], compression: .raw)
    let ingot = try IngotFile(path: path)
    #expect(ingot.entries.map { $0.parts[0].frame.offset } == [64, 128, 4096, 69632])
    let lent = try ingot.entries.map { try ingot.weight($0.name) }
    let base = try #require(lent[0].values.bytes.baseAddress) - 64
    for (weight, entry) in zip(lent, ingot.entries) {
      #expect(weight.values.bytes.baseAddress == base + entry.parts[0].frame.offset, "\(weight.name)")
    }
    #expect(Int(bitPattern: lent[2].values.bytes.baseAddress) % 4096 == 0)
    #expect(ingot.cachedBytes == 0)
    #expect(lent[0].values.bytes.array == small.values.bytes.array)
  }

  @Test(arguments: CodecMode.allCases)
  func evictedWeightsCanBeReadAgain(compression: CodecMode) throws {
    let path = folder.file("a.ingot")
    let weights = try (0..<3).map { try bf16("w\($0)", [256, 256], normalBF16(65536, seed: UInt64($0))) }
    try writeIngot(path, weights, compression: compression)
    let ingot = try IngotFile(path: path, cacheBytes: 0)
    let lent = try weights.map { try ingot.weight($0.name) }
    for weight in weights { ingot.evict(weight.name) }
    ingot.evict("none of that name")
    for (found, weight) in zip(lent, weights) {
      expectEqual(found, weight)
      expectEqual(try ingot.weight(weight.name), weight)
    }
  }

  @Test func weightsOutliveTheFile() throws {
    let path = folder.file("a.ingot")
    let bytes = noise(65536, seed: 2)
    try writeIngot(path, [f32("w", [128, 128], bytes)], compression: .raw)
    var ingot: IngotFile? = try IngotFile(path: path)
    let weight = try #require(try ingot?.weight("w"))
    ingot = nil
    removeFile(path)
    #expect(weight.values.bytes.array == bytes)
  }

  @Test func theCacheIsBoundedAndDropsTheOldest() throws {
    let path = folder.file("a.ingot")
    let weights = try (0..<6).map { try bf16("w\($0)", [64, 128], normalBF16(64 * 128, seed: UInt64($0))) }
    let big = try bf16("big", [256, 128], normalBF16(256 * 128, seed: 9))
    try writeIngot(path, weights + [big])
    let size = 64 * 128 * 2
    let ingot = try IngotFile(path: path, cacheBytes: 3 * size + 100)
    for weight in weights {
      expectEqual(try ingot.weight(weight.name), weight)
      #expect(ingot.cachedBytes <= 3 * size)
    }
    #expect(ingot.cachedBytes == 3 * size)
    // The last three are kept: asking again lends the same memory. Asking for w3 makes w4 the oldest.
    func address(_ name: String) throws -> UnsafeRawPointer? {
      try ingot.weight(name).values.bytes.baseAddress
    }
    let kept = try [3, 4, 5].map { try ingot.weight("w\($0)") }
    #expect(try address("w3") == kept[0].values.bytes.baseAddress)
    _ = try ingot.weight("w0")
    #expect(try address("w3") == kept[0].values.bytes.baseAddress)
    #expect(try address("w5") == kept[2].values.bytes.baseAddress)
    #expect(try address("w4") != kept[1].values.bytes.baseAddress)
    // Larger than the cache: read, not kept, and nothing is dropped for it.
    let before = ingot.cachedBytes
    expectEqual(try ingot.weight("big"), big)
    #expect(ingot.cachedBytes == before)
  }

  @Test func manyThreadsReadTheSame() throws {
    let path = folder.file("a.ingot")
    let weights = try (0..<8).map { try bf16("w\($0)", [32, 128], normalBF16(32 * 128, seed: UInt64($0))) }
    try writeIngot(path, weights)
    let ingot = try IngotFile(path: path, cacheBytes: 3 * 32 * 128 * 2)
    try Parallel(threads: 8).forEach(400) { (index: Int) throws -> Void in
      let weight = weights[index * 7 % 8]
      let found = try ingot.weight(weight.name)
      #expect(found.values.bytes.array == weight.values.bytes.array)
      #expect(ingot.cachedBytes <= 3 * 32 * 128 * 2)
    }
  }

  /// Rules I19 and I36: neither a part's hash nor that of the whole depends on how it is stored, on the order of weights, or on
  /// the files it is cut into.
  @Test func compressionChangesNoHash() throws {
    let weights = try [
      bf16("a", [700, 1024], normalBF16(700 * 1024, seed: 1)),
      f32("b", [64, 128], noise(4 * 64 * 128, seed: 2)),
      f32("c", [64, 128], [UInt8](repeating: 0, count: 4 * 64 * 128)),
    ]
    let small: [(String, [UInt8])] = [("config.json", [1, 2]), ("a.json", [3])]
    let packed = folder.file("auto.ingot")
    let plain = folder.file("none.ingot")
    let turned = folder.file("turned.ingot")
    let first = try writeIngot(packed, weights, files: small, compression: .fast)
    let second = try writeIngot(plain, weights, files: small, compression: .raw)
    #expect(first.contentBytes == second.contentBytes && first.byteCount < second.byteCount * 3 / 4)
    #expect(first.contentHash == second.contentHash)
    let third = try writeIngot(turned, weights.reversed(), files: small.reversed(), metadata: ["other": 1])
    #expect(third.contentHash == first.contentHash)
    let cut = folder.file("cut.ingot")
    var writer = try IngotWriter(path: cut, overwrite: false, maxFileBytes: 2 << 20)
    for weight in weights {
      if try writer.needsFile(contentBytes: weight.byteCount, frames: 1, name: weight.name) {
        try writer.beginFile()
      }
      try writer.write(weight, mode: .raw)
    }
    for (name, bytes) in small { try writer.addFile(name: name, bytes: Bytes(bytes), mode: .raw) }
    try writer.addNote(name: "note.json", bytes: Bytes([1]), mode: .raw)
    let fourth = try writer.finish(metadata: [:])
    #expect(fourth.files.count == 1 && fourth.contentHash == first.contentHash)
    let (a, b) = (try IngotFile(path: packed), try IngotFile(path: plain))
    for weight in weights {
      expectEqual(try a.weight(weight.name), weight)
      expectEqual(try a.weight(weight.name, parallel: Parallel(threads: 3)), weight)
      expectEqual(try b.weight(weight.name), weight)
      let hashes = [a, b].map { $0.entry(weight.name)!.parts[0].frame.contentHash }
      #expect(hashes[0] == hashes[1])
    }
    // What does count: a byte, a name, an encoding's name, a shape, a file.
    var other = weights[1].values.bytes.array
    other[5] ^= 1
    for changed in try [
      [weights[0], f32("b", [64, 128], other), weights[2]],
      [weights[0], f32("bb", [64, 128], weights[1].values.bytes.array), weights[2]],
      [weights[0], f32("b", [128, 64], weights[1].values.bytes.array), weights[2]], [weights[0], weights[1]],
    ] {
      let hash = try writeIngot(folder.file("changed.ingot"), changed, files: small).contentHash
      #expect(hash != first.contentHash)
    }
    #expect(
      try writeIngot(turned, weights, files: [("config.json", [1, 2])]).contentHash != first.contentHash)
  }

  /// Rule I31.
  @Test func bytesDoNotDependOnThreads() throws {
    var weights: [Weight] = []
    for seed in 0..<4 {
      weights.append(
        try bf16("w\(seed)", [3, 600, 1024], normalBF16(3 * 600 * 1024, seed: UInt64(seed % 2))))
      weights.append(try f32("n\(seed)", [333], noise(1332, seed: UInt64(seed))))
    }
    let text = Array(String(repeating: "{\"token\": 17, \"text\": \"word\"},\n", count: 50_000).utf8)
    let paths = try [1, 4, 4].enumerated().map { number, threads in
      let path = folder.file("\(number).ingot")
      try writeIngot(
        path, weights, files: [("tokenizer.json", text)], parallel: Parallel(threads: threads))
      return path
    }
    let one = try readPlainly(paths[0])
    #expect(try readPlainly(paths[1]) == one)
    #expect(try readPlainly(paths[2]) == one)
    #expect(try IngotFile(path: paths[0]).file("tokenizer.json")?.array == text)
  }

  /// Rule I28: what compresses too well is stored so that a reader takes it.
  @Test(arguments: [10_000, 3_000_000])
  func aFileOfSpacesIsReadable(count: Int) throws {
    let path = folder.file("a.ingot")
    let spaces = [UInt8](repeating: 32, count: count)
    try writeIngot(path, [], files: [("a.txt", spaces)])
    #expect(try IngotFile(path: path).file("a.txt")?.array == spaces)
  }

  /// Rules I22, I23 and I27 from the writer's side.
  @Test func theWriterRefusesNamesThatReadersWould() throws {
    var writer = try IngotWriter(path: folder.file("a.ingot"), overwrite: false)
    for name in ["", "a\nb", "a\u{202E}b", "\u{E9}", String(repeating: "a", count: 1001)] {
      do {
        try writer.beginWeight(name: name, shape: [1], encoding: "f32")
        Issue.record("'\(printable(name))' was taken")
      } catch let error as FormatError {
        #expect(error.code == .ingotIndex)
      }
    }
    for name in [
      "..", ".", "/a", "a/../b", "a//b", "a\u{1B}", "a\\b", "c:", "", String(repeating: "a", count: 256),
    ] {
      do {
        try writer.addFile(name: name, bytes: Bytes([1]), mode: .raw)
        Issue.record("'\(name)' was taken")
      } catch let error as FormatError {
        #expect(error.code == .ingotIndex)
      }
    }
    do {
      try writer.addNote(name: "a/b", bytes: Bytes([1]), mode: .raw)
      Issue.record("a note in a folder was taken")
    } catch let error as FormatError {
      #expect(error.code == .ingotIndex)
    }
    let weight = try f32("w", [1], [1, 2, 3, 4])
    try writer.write(weight, mode: .raw)
    do {
      try writer.write(weight, mode: .raw)
      Issue.record("a second weight of the same name was taken")
    } catch let error as FormatError {
      #expect(error.code == .ingotIndex)
    }
  }

  /// Rules I22 and I27 from the reader's side: a name of bytes that were changed, its index true of them.
  @Test(arguments: [
    ("encoding/a.jinja", true), ("/abs/a.jinja.txt", false), ("../../../a.jinja", false),
    ("encoding//.jinja", false),
    ("encoding/../a.ji", false), ("encoding\\a.jinja", false), ("encoding:a.jinja", false),
    ("config.json/a.ji", false),
    ("other.txt\u{0}a.jinj", false), ("encoding/\u{E9}.jinj", true), ("encoding/a\u{202E}b.j", false),
  ])
  func namesAreHeldAgainstTheirRule(name: String, isGood: Bool) throws {
    let path = folder.file("a.ingot")
    try writeIngot(
      path, [f32("w", [1], [1, 2, 3, 4])],
      files: [("config.json", Array("{}".utf8)), ("0123456789012345", [1, 2, 3])])
    var bytes = try readPlainly(path)
    let place = try #require(bytes.firstRange(of: Array("0123456789012345".utf8)))
    try #require(name.utf8.count == 16)
    bytes.replaceSubrange(place, with: Array(name.utf8))
    repairIndex(&bytes)
    try writePlainly(bytes, to: path)
    guard isGood else {
      let error = try #require(throws: FormatError.self) { try IngotFile(path: path) }
      return #expect(error.code == .ingotIndex, "\(error)")
    }
    #expect(try IngotFile(path: path).file(name)?.array == [1, 2, 3])
  }

  /// Rule I7: without `finish` nothing stands under the name.
  @Test func anUnfinishedWriterLeavesNothing() throws {
    let path = folder.file("a.ingot")
    try startWithoutFinishing(path)
    #expect(try namesInFolder(folder.path) == [])
    try writeIngot(path, [f32("w", [1], [1, 2, 3, 4])])
    let before = try readPlainly(path)
    try startWithoutFinishing(path)
    #expect(try readPlainly(path) == before)
    #expect(try namesInFolder(folder.path) == ["a.ingot"])
  }

  private func startWithoutFinishing(_ path: String) throws {
    var writer = try IngotWriter(path: path, overwrite: true)
    try writer.write(f32("w", [1024], noise(4096, seed: 1)), mode: .raw)
    #expect(try namesInFolder(folder.path).contains { $0.contains("partial") })
  }

  /// Rule I7: what is on the disk until then has no header.
  @Test func anUnfinishedFileHasNoHeader() throws {
    let path = folder.file("a.ingot")
    var writer = try IngotWriter(path: path, overwrite: true)
    try writer.write(f32("w", [1024], noise(4096, seed: 1)), mode: .raw)
    _ = try writer.takeProgress()
    let partial = try #require(try namesInFolder(folder.path).first { $0.contains("partial") })
    let bytes = try readPlainly(folder.file(partial))
    #expect(bytes.prefix(64).allSatisfy { $0 == 0 } && bytes.count == 64 + 4096)
    let refused = try #require(try refusal(folder.file(partial)))
    #expect(refused.error.code == .ingotHeader)
  }

  @Test func anExistingFileIsKept() throws {
    let path = folder.file("a.ingot")
    try writeIngot(path, [])
    #expect(throws: RequestError.self) { _ = try IngotWriter(path: path, overwrite: false) }
    #expect(try IngotFile(path: path).entries.isEmpty)
  }

  @Test func aChangedFileIsNoticed() throws {
    let path = folder.file("a.ingot")
    try writeIngot(path, [f32("w", [1], [1, 2, 3, 4])])
    let ingot = try IngotFile(path: path)
    try ingot.checkUnchanged()
    try writeIngot(path, [])
    let error = #expect(throws: FormatError.self) { try ingot.checkUnchanged() }
    #expect(error?.code == .changed)
  }
}

extension Weight {
  fileprivate func named(_ name: String) throws -> Weight {
    try Weight(name: name, shape: shape, encoding: encoding, parts: parts)
  }
}
