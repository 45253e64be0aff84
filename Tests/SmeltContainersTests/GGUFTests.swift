// GGUF files of llama.cpp's own tools: names, types, shapes, places and every kind of metadata. The numbers were read
// from the files with an independent reader.

import SmeltContainers
import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct GGUFTests {
  static let allTypes = fixture("gguf/all-types.gguf")

  @Test func everyKindOfMetadata() throws {
    let file = try GGUFFile(path: Self.allTypes)
    #expect(file.version == 3)
    #expect(
      file.metadata.map(\.key) == [
        "general.architecture", "golden.note", "golden.rows", "kv.u8", "kv.i8", "kv.u16", "kv.i16", "kv.i32",
        "kv.f32", "kv.true", "kv.false", "kv.u64", "kv.i64", "kv.f64", "kv.utf8", "kv.arr.str", "kv.arr.i32",
        "kv.arr.f32", "kv.arr.bool",
      ])
    #expect(
      file.metadata.map(\.value.type) == [
        .string, .string, .u32, .u8, .i8, .u16, .i16, .i32, .f32, .bool, .bool, .u64, .i64, .f64, .string,
        .array, .array, .array, .array,
      ])
    #expect(file.value("general.architecture")?.string == "golden")
    #expect(file.value("golden.rows")?.integer == 8)
    #expect(file.value("kv.u8")?.integer == 200)
    #expect(file.value("kv.i8")?.integer == -5)
    #expect(file.value("kv.u16")?.integer == 60000)
    #expect(file.value("kv.i16")?.integer == -300)
    #expect(file.value("kv.i32")?.integer == -70000)
    #expect(file.value("kv.f32")?.float == Double(Float(0.1)))
    #expect(file.value("kv.true")?.bool == true)
    #expect(file.value("kv.false")?.bool == false)
    #expect(file.value("kv.i64")?.integer == -1_099_511_627_776)
    #expect(file.value("kv.f64")?.float == 0.1)
    #expect(file.value("kv.utf8")?.string == "żółw 🐢 \0x")
    #expect(file.value("kv.arr.str")?.array?.strings == ["a", "", "żółw"])
    #expect(file.value("kv.arr.i32")?.array?.integers == [1, -2, 3])
    #expect(file.value("kv.arr.f32")?.array?.floats == [0.5, -1.5])
    #expect(file.value("kv.arr.bool")?.array?.bools == [true, false])
    #expect(file.value("kv.absent") == nil)
    // Above 2^63 - 1: a value, but no Int.
    guard case .u64(let large) = try #require(file.value("kv.u64")) else {
      Issue.record("kv.u64 is no u64")
      return
    }
    #expect(large == 9_223_372_036_854_775_813 && file.value("kv.u64")?.integer == nil)
    // A request for another kind than the one that stands there.
    #expect(file.value("kv.u8")?.string == nil && file.value("kv.f32")?.integer == nil)
    #expect(
      file.value("kv.arr.str")?.array?.integers == nil && file.value("kv.arr.i32")?.array?.strings == nil)
    #expect(file.place(ofKey: "general.architecture") == 24)
  }

  /// A tensor of each type, named for it: ggml's spelling, number and block size.
  @Test func everyType() throws {
    let file = try GGUFFile(path: Self.allTypes)
    #expect(file.tensors.count == 56)
    let json = try JSON.scan(
      readSmallFile(fixture("gguf/all-types.json"), limit: 1 << 16, code: .configJSON))
    var seen = 0
    for tensor in file.tensors {
      guard let expected = json[tensor.name] else { continue }
      seen += 1
      let name = tensor.name.split(separator: ".")[0]
      #expect(tensor.type.name == name)
      #expect(tensor.type.blockElements == expected["block"]?.integer, "\(name)")
      #expect(tensor.type.blockBytes == expected["bytes"]?.integer, "\(name)")
      #expect(tensor.shape == [8, 512])
      #expect(tensor.bytes.count == 4096 / tensor.type.blockElements * tensor.type.blockBytes)
    }
    #expect(seen == 49)
    let plain = file.tensors.prefix(7)
    #expect(plain.map(\.name) == ["src.f32", "src.imp", "i8", "i16", "i32", "i64", "f64"])
    #expect(plain.map(\.type.name) == ["F32", "F32", "I8", "I16", "I32", "I64", "F64"])
    #expect(plain.map(\.shape) == [[8, 512], [512], [16], [16], [16], [16], [16]])
  }

  @Test func tensorsAreLentFromTheirPlaces() throws {
    let file = try GGUFFile(path: Self.allTypes)
    let raw = try MappedFile(path: Self.allTypes).bytes
    let places: [Int] = file.tensors.prefix(4).map(\.offset)
    #expect(places == [3200, 19584, 21632, 21664])
    let last = try #require(file.tensor("Q2_0.imx"))
    #expect(last.offset == 129952)
    #expect(last.bytes.count == 1152 && last.type.id == 42)
    for tensor in file.tensors {
      #expect(tensor.file == Self.allTypes)
      #expect(tensor.bytes.array == raw[tensor.offset..<tensor.offset + tensor.bytes.count].array)
    }
    let first = try #require(file.tensors.first?.bytes.baseAddress)
    #expect(last.bytes.baseAddress == first + 126752)
    #expect(file.tensor("q2_0.imx") == nil)
    try file.checkUnchanged()
  }

  /// The numbers of ggml; a type's number is never used again, so that the gaps stay.
  @Test func typeNumbers() {
    let ids = GGUFTensorType.all.map(\.id)
    let gaps: Set<UInt32> = [4, 5, 31, 32, 33, 36, 37, 38]
    #expect(ids == Array(UInt32(0)...42).filter { !gaps.contains($0) })
    #expect(Set(GGUFTensorType.removed.keys) == gaps)
    #expect(Set(GGUFTensorType.all.map(\.name)).count == ids.count)
  }

  /// The document's table says what the code does, and no more.
  @Test func documentHasTheTypes() throws {
    let page = try readSmallFile(formats("gguf.md"), limit: 1 << 20, code: .configJSON).array
    // The table of section 1; later ones name types in words.
    let text = String(decoding: page, as: UTF8.self)
    let section = text.prefix(upTo: try #require(text.firstRange(of: "## 2.")).lowerBound)
    let cells = section.split(separator: "|")
      .map { $0.split(separator: " ").joined() }
    let known = GGUFTensorType.all.map { ["\($0.id)", $0.name, "\($0.blockElements)", "\($0.blockBytes)"] }
    let rows = cells.indices.dropLast(3).filter { GGUFTensorType.all.map(\.name).contains(cells[$0 + 1]) }
      .map { Array(cells[$0..<$0 + 4]) }
    #expect(Set(rows) == Set(known) && rows.count == known.count)
  }

  // MARK: parts

  private static let parts = (1...4).map {
    fixture("gguf/split/qwen3moe-empty-first.bf16-0000\($0)-of-00004.gguf")
  }

  /// llama-gguf-split's parts, the first of which holds metadata alone.
  @Test func partsAreOneModel() throws {
    let file = try GGUFFile(path: Self.parts[0])
    #expect(file.value("general.architecture")?.string == "qwen3moe")
    #expect(file.value("qwen3moe.block_count")?.integer == 2)
    #expect(file.value("tokenizer.ggml.tokens")?.array?.strings?.count == 384)
    #expect(file.tensors.count == 27 && file.value("split.tensors.count")?.integer == 27)
    #expect(file.files.map(\.path) == Self.parts)
    #expect(file.files.map(\.byteCount) == [8384, 204064, 122144, 25472])
    let counts = Self.parts.map { part in file.tensors.filter { $0.file == part }.count }
    #expect(counts == [0, 10, 10, 7])
    let expert = try #require(file.tensor("blk.1.ffn_down_exps.weight"))
    #expect(expert.file == Self.parts[2] && expert.shape == [8, 64, 32] && expert.type.name == "BF16")
  }

  /// A part that changes after opening is seen, and named.
  @Test func changedPartIsSeen() throws {
    let folder = TemporaryFolder()
    let copies = Self.parts.map { folder.file(fileName($0)) }
    for (from, to) in zip(Self.parts, copies) { writeRaw(to, try MappedFile(path: from).bytes.array) }
    let file = try GGUFFile(path: copies[0])
    try file.checkUnchanged()
    removeFile(copies[3])
    let error = #expect(throws: FormatError.self) { try file.checkUnchanged() }
    #expect(error?.code == .changed && error?.file == copies[3])
  }

  // MARK: what the writer may choose

  private static func header(version: UInt32, keys: Int, tensors: Int) -> [UInt8] {
    let parts: [[UInt8]] = [Array("GGUF".utf8), le(version), le(UInt64(tensors)), le(UInt64(keys))]
    return Array(parts.joined())
  }

  private static func le<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  private static func text(_ text: String) -> [UInt8] {
    le(UInt64(text.utf8.count)) + Array(text.utf8)
  }

  /// Two tensors of three numbers, the second at the first multiple of the alignment.
  private static func aligned(_ alignment: UInt32, version: UInt32, lastPadding: Bool = true) -> [UInt8] {
    var bytes = header(version: version, keys: 1, tensors: 2)
    bytes += text("general.alignment")
    bytes += le(UInt32(4))
    bytes += le(alignment)
    for (name, offset) in [("a", 0), ("b", UInt64(alignment))] {
      bytes += text(name)
      bytes += le(UInt32(1))
      bytes += le(UInt64(3))
      bytes += le(UInt32(24))
      bytes += le(offset)
    }
    func pad() { while bytes.count % Int(alignment) != 0 { bytes.append(0) } }
    pad()
    bytes += [1, 2, 3]
    pad()
    bytes += [4, 5, 6]
    if lastPadding { pad() }
    return bytes
  }

  @Test(arguments: [8, 16, 32, 64, 128, 4096, 65536] as [UInt32], [2, 3] as [UInt32])
  func everyAlignmentInBothVersions(_ alignment: UInt32, _ version: UInt32) throws {
    let folder = TemporaryFolder()
    let path = folder.file("a.gguf")
    for lastPadding in [true, false] {
      writeRaw(path, Self.aligned(alignment, version: version, lastPadding: lastPadding))
      let file = try GGUFFile(path: path)
      #expect(file.version == Int(version))
      #expect(file.tensors.map(\.bytes.array) == [[1, 2, 3], [4, 5, 6]])
      #expect(file.tensors.allSatisfy { $0.offset % Int(alignment) == 0 })
    }
  }
}
