// Ingots that are damaged or made to harm: each is refused with its code, none traps. And the page against the tests.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct IngotHostileTests {
  let folder = TemporaryFolder()

  static let malformed: [String] = {
    let names = (try? namesInFolder(fixture("malformed/ingot"))) ?? []
    return names.filter { $0.hasSuffix(".ingot") }.map { String($0.dropLast(6)) }
  }()

  private func text(_ path: String) throws -> String {
    String(decoding: try readPlainly(path), as: UTF8.self)
  }

  @Test(arguments: malformed)
  func isRefusedWithItsCode(name: String) throws {
    let expected = try JSON.scan(try text(fixture("malformed/ingot/\(name).json")))
    let path = fixture("malformed/ingot/\(name).ingot")
    let found = try #require(try refusal(path), "it was accepted")
    #expect(found.error.code.name == expected["code"]?.string, "\(found.error)")
    #expect(found.stage.rawValue == expected["stage"]?.string, "\(found.error)")
    #expect(found.error.file == path)
    #expect(found.error.offset != nil)
  }

  @Test func thereIsAZoo() { #expect(IngotHostileTests.malformed.count >= 151) }

  // MARK: vectors made by a second hand

  @Test func aSecondWritersIngotsAreRead() throws {
    for name in ["tiny", "rich", "coded", "split-00001-of-00002", "split-00002-of-00002"] {
      #expect(try refusal(formats("vectors/ingot/\(name).ingot")) == nil, "\(name)")
    }
    let tiny = try IngotFile(path: formats("vectors/ingot/tiny.ingot"))
    #expect(try tiny.weight("norm").decode() == [1, -2])
    #expect(try tiny.file("config.json")?.array == Array("{}\n".utf8))
    #expect(tiny.metadata["format"]?.string == "ingot")
    // I16: a frame of every codec; `refusal` held what it stands for against a hash that was not made here.
    let coded = try IngotFile(path: formats("vectors/ingot/coded.ingot"))
    #expect(Set(coded.entries.map { $0.parts[0].frame.codec }) == Set(ChunkCodec.allCases))
    let rich = try IngotFile(path: formats("vectors/ingot/rich.ingot"))
    let expert = "blk.1.ffn_gate_exps.weight#0"
    #expect(
      rich.entries.map(\.name) == [
        expert, "blk.1.ffn_up_exps.weight#0", "blk.1.ffn_gate_exps.weight#2", "blk.0.ffn_gate_exps.weight#1",
        "empty",
        "plain", "rows", "chunks",
      ])
    #expect(try rich.weight(expert).decode() == [Float](repeating: 1 + 1 / 128, count: 8))
    #expect(try rich.weight("plain").decode() == [Float](repeating: 0, count: 256))
    #expect(try rich.weight("rows").decode() == [0, 0.5, 1, 1.5, 1, 1.25, 1.5, 1.75])
    #expect(try rich.weight("empty").decode() == [])
    // I34: the matrices of an expert are one run of bytes.
    let range = try #require(rich.range(layer: 1, expert: 0))
    #expect(
      range.offset == 64 && range.count == 80 && range.weights == [expert, "blk.1.ffn_up_exps.weight#0"])
    #expect(rich.range(layer: 1, expert: 2)?.offset == 192 && rich.range(layer: 0, expert: 1)?.offset == 256)
    for (layer, expert) in [(0, 0), (1, 1), (2, 0), (-1, 0), (0, 3)] {
      #expect(rich.range(layer: layer, expert: expert) == nil, "layer \(layer), expert \(expert)")
    }
    #expect(
      rich.entry("rows")?.layer == nil && rich.entry(expert)?.layer == 1 && rich.entry(expert)?.expert == 0)
    // I29: the retired run is neither weight nor file; a note is no file.
    #expect(rich.fileNames == ["config.json"] && rich.noteNames == ["ledger.json"])
    #expect(
      try rich.file("config.json")?.array == Array(("[" + String(repeating: " ", count: 200) + "]").utf8))
    let chunks = try rich.weight("chunks").values.bytes.array
    #expect(
      chunks.count == FrameCodec.chunkBytes + 6 && chunks.prefix(FrameCodec.chunkBytes).allSatisfy { $0 == 0 }
    )
    #expect(Array(chunks.suffix(6)) == [0x80, 0x3F, 0x81, 0x3F, 0x82, 0x3F])
    // I35: any part opens the whole.
    for part in [1, 2] {
      let split = try IngotFile(path: formats("vectors/ingot/split-0000\(part)-of-00002.ingot"))
      #expect(split.entries.count == 3 && split.files.count == 2 && split.fileNames == ["config.json"])
      #expect(split.range(layer: 0, expert: 1)?.file.hasSuffix("-00002-of-00002.ingot") == true)
      #expect(try split.damage().isEmpty)
    }
  }

  @Test func bothWritersMakeTheSameBytes() throws {
    let path = folder.file("tiny.ingot")
    try writeIngot(
      path, [f32("norm", [2], [0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0])],
      files: [("config.json", Array("{}\n".utf8))])
    #expect(try readPlainly(path) == readPlainly(formats("vectors/ingot/tiny.ingot")))
  }

  /// Rule I2: a newer write version is none of a reader's business.
  @Test func aNewerWriteVersionIsRead() throws {
    var bytes = try readPlainly(formats("vectors/ingot/tiny.ingot"))
    bytes[12] = 9
    repairHeader(&bytes)
    let path = folder.file("a.ingot")
    try writePlainly(bytes, to: path)
    #expect(try refusal(path) == nil)
  }

  /// Rule I32, from the reader's side: after an interrupted change the file is refused with the length to cut it to, and
  /// cut to it, it is the old one.
  @Test func anInterruptedChangeCanBeUndone() throws {
    let good = try readPlainly(formats("vectors/ingot/tiny.ingot"))
    let path = folder.file("a.ingot")
    try writePlainly(good + noise(100, seed: 1), to: path)
    let refused = try #require(try refusal(path))
    #expect(refused.error.code == .ingotIndex)
    #expect(refused.error.help?.contains("cut the file to \(good.count) bytes") == true)
  }

  // MARK: damage

  private func richIngot() throws -> [UInt8] {
    let path = folder.file("rich.ingot")
    let weights = try [
      bf16("blk.0.w", [40, 64], normalBF16(2560, seed: 1)), f32("blk.0.norm", [9], noise(36, seed: 2)),
      f32("blk.0.zero", [16, 64], [UInt8](repeating: 0, count: 4096)),
    ]
    try writeIngot(path, weights, files: [("config.json", Array("{\"a\": [1, 2]}".utf8))])
    let ingot = try IngotFile(path: path)
    #expect(ingot.entries.map { $0.parts[0].frame.codec == .raw } == [false, true, false])
    return try readPlainly(path)
  }

  @Test func everyPrefixIsRefused() throws {
    let path = folder.file("cut.ingot")
    for source in [try readPlainly(formats("vectors/ingot/tiny.ingot")), try richIngot()] {
      for count in 0..<source.count {
        try writePlainly(Array(source.prefix(count)), to: path)
        let refused = try refusal(path)
        #expect(refused?.stage == .open, "the first \(count) bytes were accepted")
      }
    }
  }

  /// One bit at 500 places: a named error each time, and wherever something still reads, it reads what was written.
  @Test func everyFlippedBitIsNamed() throws {
    let good = try richIngot()
    let path = folder.file("flipped.ingot")
    let reference = try IngotFile(path: folder.file("rich.ingot"))
    let contents = try reference.entries.map { ($0.name, try reference.weight($0.name).values.bytes.array) }
    let owned = reference.entries.map { entry in
      (entry.name, entry.parts[0].frame.offset..<entry.parts[0].frame.end)
    }
    let small = try #require(try reference.file("config.json")).array
    var generator = Generator(seed: 2026)
    for round in 0..<500 {
      var bytes = good
      let place = round * bytes.count / 500 + Int.random(in: 0..<bytes.count / 500, using: &generator)
      bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      try writePlainly(bytes, to: path)
      do {
        let ingot = try IngotFile(path: path, cacheBytes: 0)
        let damage = try ingot.damage(threads: 1)
        #expect(damage.count == 1, "round \(round), byte \(place): \(damage.map(\.error))")
        let owner = owned.first { $0.1.contains(place) }?.0
        #expect(damage.first?.weight == owner, "round \(round), byte \(place)")
        for (name, content) in contents where name != owner {
          #expect(try ingot.weight(name).values.bytes.array == content, "round \(round): \(name)")
        }
        if damage.first?.error.subject != "config.json" {
          #expect(try ingot.file("config.json")?.array == small)
        }
      } catch let error as FormatError {
        #expect([.ingotHeader, .ingotIndex].contains(error.code), "round \(round): \(error)")
        #expect(error.file == path && error.offset != nil)
      }
    }
  }

  /// All damage is listed, each with its weight, expert and chunks; the rest reads.
  @Test func allDamageIsNamed() throws {
    let path = folder.file("many.ingot")
    var writer = try IngotWriter(path: path, overwrite: true)
    let chunk = FrameCodec.chunkBytes
    for expert in 0..<3 {
      for (place, matrix) in ["gate", "up"].enumerated() {
        let weight = try f32(
          "blk.7.\(matrix)#\(expert)", [3 * chunk / 4 - 1],
          noise(3 * chunk - 4, seed: UInt64(10 * expert + place)))
        try writer.write(weight, layer: 7, expert: expert, mode: .raw)
      }
    }
    _ = try writer.finish(metadata: [:])
    let whole = try IngotFile(path: path)
    var bytes = try readPlainly(path)
    let first = try #require(whole.entry("blk.7.gate#1")).parts[0].frame.offset
    let second = try #require(whole.entry("blk.7.up#2")).parts[0].frame.offset
    for place in [first, first + 2 * chunk + 5, second + chunk] { bytes[place] ^= 1 }
    bytes[first - 1] ^= 1  // the padding before it
    try writePlainly(bytes, to: path)
    let ingot = try IngotFile(path: path)
    for deep in [false, true] {
      for threads in [1, 3] {
        let damage = try ingot.check(
          deep: deep, parallel: Parallel(threads: threads), progress: SilentProgress())
        #expect(damage.map(\.weight) == ["blk.7.gate#1", "blk.7.up#2", nil])
        #expect(damage.map(\.chunks) == [[0, 2], [1], []])
        #expect(damage.map(\.expert) == [1, 2, nil] && damage.map(\.layer) == [7, 7, nil])
        #expect(damage.map(\.error.code) == [.ingotChecksum, .ingotChecksum, .ingotChecksum])
        #expect(damage.map(\.error.offset) == [first, second + chunk, first - 1])
      }
    }
    #expect(try ingot.weight("blk.7.up#1").values.bytes.array == noise(3 * chunk - 4, seed: 11))
  }

  /// Damage that a forger has signed: header and index checksums are right, the index is not what it was. Everything is
  /// refused, or reads without a trap.
  @Test func aForgedIndexNeverTraps() throws {
    let good = try richIngot()
    let indexOffset = Int(good[16..<24].reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) })
    let path = folder.file("forged.ingot")
    var generator = Generator(seed: 7)
    var accepted = 0
    for _ in 0..<4000 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let place = Int.random(in: indexOffset..<bytes.count, using: &generator)
        bytes[place] =
          Bool.random(using: &generator)
          ? UInt8.random(in: 0...255, using: &generator)
          : [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &generator)!
      }
      let checksum = bytes[indexOffset...].withUnsafeBytes { CRC32C.hash($0) }
      for index in 0..<4 { bytes[32 + index] = UInt8(truncatingIfNeeded: checksum >> (8 * UInt32(index))) }
      repairHeader(&bytes)
      try writePlainly(bytes, to: path)
      if try refusal(path) == nil { accepted += 1 }
    }
    // Names, metadata and unchanged bytes remain legal; most of an index does not.
    #expect(accepted < 2000)
  }

  /// Rule I16: stored bytes that a forger has signed: zstd's own guards and the exact length hold.
  @Test func forgedFramesNeverTrap() throws {
    let form = ChunkForm(.bf16Planes)
    let chunk = try FrameCodec.encode(Bytes(normalBF16(3000, seed: 3)), form)
    let good = chunk.stored.array
    var generator = Generator(seed: 8)
    for _ in 0..<4000 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(
          in: 0...255, using: &generator)
      }
      if Int.random(in: 0..<4, using: &generator) == 0 {
        bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator))
      }
      var out = [UInt8](repeating: 0, count: chunk.contentCount)
      do {
        try out.withUnsafeMutableBytes { out in
          try bytes.withUnsafeBytes { try FrameCodec.decode($0, isRaw: false, form.codec, into: out) }
        }
      } catch let error as FormatError {
        #expect(error.code == .ingotFrame)
      }
    }
  }

  private func repairHeader(_ bytes: inout [UInt8]) {
    let checksum = bytes[0..<60].withUnsafeBytes { CRC32C.hash($0) }
    for index in 0..<4 { bytes[60 + index] = UInt8(truncatingIfNeeded: checksum >> (8 * UInt32(index))) }
  }

  // MARK: the page

  /// Every numbered rule of Formats/ingot.md has a test or a malformed file that cites it, and no test cites another.
  @Test func everyRuleIsCited() throws {
    let page = try text(formats("ingot.md"))
    let rules = Set(page.matches(of: /\*\*I(\d+)\*\*/).map { Int($0.1)! })
    #expect(rules == Set(1...36))
    var cited: Set<Int> = []
    for name in IngotHostileTests.malformed {
      let about = try JSON.scan(try text(fixture("malformed/ingot/\(name).json")))
      cited.insert(Int(try #require(about["rule"]?.string).dropFirst())!)
    }
    let tests = repositoryRoot + "/Tests/SmeltContainersTests/"
    for name in try namesInFolder(tests) where name.hasPrefix("Ingot") {
      for match in try text(tests + name).matches(of: /\bI(\d+)\b/) { cited.insert(Int(match.1)!) }
    }
    #expect(
      cited == rules, "not cited: \(rules.subtracting(cited).sorted()), unknown: \(cited.subtracting(rules))")
  }

  @Test func theDumpOnThePageIsTheVector() throws {
    let dump = try text(formats("vectors/ingot/tiny.txt"))
    #expect(try text(formats("ingot.md")).contains("```\n" + dump + "```"))
    // And the dump is the file.
    let lines = dump.split(separator: "\n")
    let bytes = lines.flatMap { line in
      line.dropFirst(8).prefix(47).split(separator: " ").compactMap {
        $0.count == 2 ? UInt8($0, radix: 16) : nil
      }
    }
    #expect(bytes == (try readPlainly(formats("vectors/ingot/tiny.ingot"))))
  }
}
