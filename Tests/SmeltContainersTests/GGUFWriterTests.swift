// Writing GGUF: files of llama.cpp's own tools come out again byte for byte, a plan knows every size beforehand, what a
// reader would refuse is refused before a byte is written, and a half result never opens.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct GGUFWriterTests {
  /// Writes what `file` holds and gives the paths of the result.
  private func rewrite(
    _ file: GGUFFile, to path: String, split: GGUFPlan.Split? = nil, pieces: Int = .max
  ) throws -> [String] {
    let plan = try GGUFPlan(
      tensors: file.tensors.map { .init($0.name, $0.type, $0.shape) }, metadata: file.metadata, split: split)
    var writer = try GGUFWriter(path: path, plan: plan)
    for tensor in file.tensors {
      var start = 0
      while start < tensor.bytes.count {
        let end = min(tensor.bytes.count, start.addingReportingOverflow(pieces).partialValue)
        let stop = end <= start ? tensor.bytes.count : end
        try writer.write(tensor.name, tensor.bytes[start..<stop])
        start = stop
      }
    }
    try writer.commit()
    let paths = plan.paths(path)
    #expect(try paths.map { try MappedFile(path: $0).count } == plan.parts.map(\.byteCount))
    #expect(plan.byteCount == plan.parts.reduce(0) { $0 + $1.byteCount })
    return paths
  }

  private func bytes(_ path: String) throws -> [UInt8] { try MappedFile(path: path).bytes.array }

  /// A tensor of every type and a key of every kind, written by gguf-py; whole or in pieces of 1,000 bytes.
  @Test(arguments: [Int.max, 1000]) func goldenFileComesOutAgain(_ pieces: Int) throws {
    let folder = TemporaryFolder()
    let path = fixture("gguf/all-types.gguf")
    let paths = try rewrite(try GGUFFile(path: path), to: folder.file("a.gguf"), pieces: pieces)
    #expect(paths == [folder.file("a.gguf")])
    let same = try bytes(paths[0]) == bytes(path)
    #expect(same)
    #expect(try namesInFolder(folder.path) == ["a.gguf"])
  }

  /// The parts of llama-gguf-split, of ten tensors each and the first of metadata alone.
  @Test func goldenSplitComesOutAgain() throws {
    let folder = TemporaryFolder()
    let golden = (1...4).map { fixture("gguf/split/qwen3moe-empty-first.bf16-0000\($0)-of-00004.gguf") }
    let file = try GGUFFile(path: golden[0])
    let split = GGUFPlan.Split(maxTensors: 10, metadataFirst: true)
    let paths = try rewrite(file, to: folder.file("qwen3moe-empty-first.bf16.gguf"), split: split)
    #expect(paths.map(fileName) == golden.map(fileName))
    for (path, golden) in zip(paths, golden) {
      let same = try bytes(path) == bytes(golden)
      #expect(same, "\(fileName(path))")
    }
    #expect(try namesInFolder(folder.path) == golden.map(fileName))
  }

  /// What was split is one model again: the same keys without those of the split, the same tensors.
  @Test func splitIsJoined() throws {
    let folder = TemporaryFolder()
    let first = fixture("gguf/split/qwen3moe-empty-first.bf16-00001-of-00004.gguf")
    let split = try GGUFFile(path: first)
    let joined = try GGUFFile(path: try rewrite(split, to: folder.file("whole.gguf"))[0])
    #expect(joined.metadata.map(\.key) == split.metadata.map(\.key).filter { !$0.hasPrefix("split.") })
    #expect(joined.tensors.map(\.name) == split.tensors.map(\.name))
    for (a, b) in zip(joined.tensors, split.tensors) {
      #expect(a.type == b.type && a.shape == b.shape && a.bytes.array == b.bytes.array, "\(a.name)")
    }
  }

  // MARK: values

  private static let keys: [(key: String, value: GGUFValue)] = [
    ("general.architecture", .string("żółw 🐢 \0x")), ("u8", .u8(200)), ("i8", .i8(-5)), ("u16", .u16(60000)),
    ("i16", .i16(-300)), ("u32", .u32(4_000_000_000)), ("i32", .i32(-70000)), ("f32", .f32(0.1)),
    ("true", .bool(true)), ("false", .bool(false)), ("u64", .u64(1 << 63)), ("i64", .i64(-1 << 40)),
    ("f64", .f64(0.1)), ("strings", .array(GGUFArray(strings: ["a", "", "żółw"]))),
    ("bools", .array(GGUFArray(bools: [true, false]))), ("u8s", .array(GGUFArray(u8: [1, 255]))),
    ("i8s", .array(GGUFArray(i8: [-1, 127]))), ("u16s", .array(GGUFArray(u16: [65535]))),
    ("i16s", .array(GGUFArray(i16: [-32768]))), ("u32s", .array(GGUFArray(u32: [1, 4_000_000_000]))),
    ("i32s", .array(GGUFArray(i32: [1, -2]))), ("u64s", .array(GGUFArray(u64: [1 << 40]))),
    ("i64s", .array(GGUFArray(i64: [-1 << 40]))), ("f32s", .array(GGUFArray(f32: [0.5, -1.5]))),
    ("f64s", .array(GGUFArray(f64: [0.1]))), ("none", .array(GGUFArray(strings: []))),
  ]

  @Test func everyValueIsReadBack() throws {
    let folder = TemporaryFolder()
    let path = folder.file("keys.gguf")
    try GGUFWriter(path: path, tensors: [], metadata: Self.keys).commit()
    let file = try GGUFFile(path: path)
    #expect(file.version == 3 && file.tensors.isEmpty)
    #expect(file.metadata.map(\.key) == Self.keys.map(\.key))
    for ((key, found), (_, written)) in zip(file.metadata, Self.keys) {
      #expect("\(Self.plain(found))" == "\(Self.plain(written))", "\(key)")
    }
    #expect(file.value("strings")?.array?.strings == ["a", "", "żółw"])
    #expect(file.value("none")?.array?.strings == [])
    #expect(file.value("i32s")?.array?.integers == [1, -2])
    #expect(file.value("f32s")?.array?.floats == [0.5, -1.5])
    #expect(file.value("bools")?.array?.bools == [true, false])
  }

  /// A value without the place it comes from.
  private static func plain(_ value: GGUFValue) -> Any {
    value.array.map { ($0.elementType, $0.count, $0.bytes.array) } ?? value
  }

  // MARK: alignment and padding

  private static func type(_ name: String) -> GGUFTensorType {
    guard let type = GGUFTensorType.named(name) else { preconditionFailure("no type \(name)") }
    return type
  }

  @Test(arguments: [8, 32, 64, 4096, 65536] as [UInt32])
  func everyAlignment(_ alignment: UInt32) throws {
    let folder = TemporaryFolder()
    let keys: [(key: String, value: GGUFValue)] = [("general.alignment", .u32(alignment))]
    let tensors = ["a", "b", "c"].map { GGUFPlan.Tensor($0, Self.type("I8"), [3]) }
    for split in [nil, GGUFPlan.Split(maxTensors: 1)] {
      let plan = try GGUFPlan(tensors: tensors, metadata: keys, split: split)
      #expect(plan.alignment == Int(alignment) && plan.parts.count == (split == nil ? 1 : 3))
      let path = folder.file("\(plan.parts.count).gguf")
      var writer = try GGUFWriter(path: path, plan: plan)
      for (index, tensor) in tensors.enumerated() {
        try writer.write(tensor.name, [UInt8](repeating: UInt8(index), count: tensor.byteCount))
      }
      try writer.commit()
      let file = try GGUFFile(path: plan.paths(path)[0])
      #expect(file.tensors.allSatisfy { $0.offset % Int(alignment) == 0 })
      #expect(
        file.tensors.enumerated().allSatisfy { index, tensor in
          tensor.bytes.array.allSatisfy { $0 == UInt8(index) }
        })
      #expect(file.files.allSatisfy { $0.byteCount % Int(alignment) == 0 })
    }
  }

  // MARK: splits

  /// Rows of 32 bytes of I8, so many in each tensor.
  private static func tensors(_ rows: [Int]) -> [GGUFPlan.Tensor] {
    let type = type("I8")
    return rows.enumerated().map { GGUFPlan.Tensor("t\($0)", type, [$1, 32]) }
  }

  @Test func sizesCutBetweenTensors() throws {
    func parts(_ rows: [Int], _ split: GGUFPlan.Split?) throws -> [Int] {
      try GGUFPlan(tensors: Self.tensors(rows), metadata: [], split: split).parts.map(\.tensors.count)
    }
    #expect(try parts([1, 2, 3, 4], nil) == [4])
    #expect(try parts([1, 2, 3, 4], .init()) == [4])
    #expect(try parts([1, 2, 3, 4], .init(maxBytes: 320)) == [4])
    #expect(try parts([1, 2, 3, 4], .init(maxBytes: 319)) == [3, 1])
    #expect(try parts([1, 2, 3, 4], .init(maxBytes: 96)) == [2, 1, 1])
    #expect(try parts([1, 2, 3, 4], .init(maxBytes: 1)) == [1, 1, 1, 1])
    #expect(try parts([9, 1, 1], .init(maxBytes: 64)) == [1, 2])
    #expect(try parts([1, 1, 1, 1, 1], .init(maxTensors: 2)) == [2, 2, 1])
    #expect(try parts([1, 1, 1, 3, 1], .init(maxBytes: 96, maxTensors: 2)) == [2, 1, 1, 1])
    #expect(try parts([1, 1], .init(metadataFirst: true)) == [0, 2])
    #expect(try parts([], .init(maxTensors: 1, metadataFirst: true)) == [0])
  }

  /// A model that fits into one file keeps its name and has no keys of a split.
  @Test func oneFileIsNoSplit() throws {
    let plan = try GGUFPlan(
      tensors: Self.tensors([1]), metadata: [("split.count", .u16(7)), ("split.no", .u16(3))],
      split: .init(maxBytes: 1 << 30))
    #expect(plan.paths("x/a.gguf") == ["x/a.gguf"])
    #expect(plan.parts[0].byteCount == 24 + 8 + 2 + 4 + 16 + 4 + 8 + 30 + 32)
  }

  @Test func partsAreNamedAsTheyArePublished() throws {
    let plan = try GGUFPlan(tensors: Self.tensors([1, 1]), metadata: [], split: .init(maxTensors: 1))
    #expect(plan.paths("x/a.gguf") == ["x/a-00001-of-00002.gguf", "x/a-00002-of-00002.gguf"])
    #expect(plan.paths("x/a") == ["x/a-00001-of-00002.gguf", "x/a-00002-of-00002.gguf"])
  }

  /// Until all is written, no part stands under its name; the first comes last.
  @Test func halfAResultIsNone() throws {
    let folder = TemporaryFolder()
    let plan = try GGUFPlan(tensors: Self.tensors([1, 1, 1]), metadata: [], split: .init(maxTensors: 1))
    do {
      var writer = try GGUFWriter(path: folder.file("a.gguf"), plan: plan)
      for tensor in plan.parts.dropLast().flatMap(\.tensors) {
        try writer.write(tensor.name, [UInt8](repeating: 1, count: 32))
      }
      try writer.write("t2", [1] as [UInt8])
      let names = try namesInFolder(folder.path)
      #expect(names.count == 3 && names.allSatisfy { $0.contains(".gguf.partial-") })
    }
    #expect(try namesInFolder(folder.path) == [])
  }

  @Test func whatIsThereStays() throws {
    let folder = TemporaryFolder()
    let plan = try GGUFPlan(tensors: Self.tensors([1, 1]), metadata: [], split: .init(maxTensors: 1))
    writeRaw(folder.file("a-00002-of-00002.gguf"), [1, 2, 3])
    let error = #expect(throws: RequestError.self) {
      _ = try GGUFWriter(path: folder.file("a.gguf"), plan: plan)
    }
    #expect(error?.kind == .cannotCreate)
    #expect(try namesInFolder(folder.path) == ["a-00002-of-00002.gguf"])
    var writer = try GGUFWriter(path: folder.file("a.gguf"), plan: plan, replacing: .anyFile)
    for tensor in ["t0", "t1"] { try writer.write(tensor, [UInt8](repeating: 1, count: 32)) }
    try writer.commit()
    #expect(try GGUFFile(path: folder.file("a-00001-of-00002.gguf")).tensors.count == 2)
  }

  // MARK: what cannot be written

  static let refused: [(String, [GGUFPlan.Tensor], [(key: String, value: GGUFValue)])] = {
    let i8 = type("I8")
    let q8 = type("Q8_0")
    func one(_ name: String, _ shape: Shape, _ type: GGUFTensorType = i8) -> [GGUFPlan.Tensor] {
      [.init(name, type, shape)]
    }
    return [
      ("the name is empty", one("", [1]), []),
      ("the name has 64 bytes, expected at most 63", one(String(repeating: "n", count: 64), [1]), []),
      ("control character", one("a\0b", [1]), []), ("invisible character", one("a\u{202E}b", [1]), []),
      ("would appear twice", one("a", [1]) + one("a", [1]), []),
      ("would appear twice", one("\u{E9}", [1]) + one("e\u{301}", [1]), []),
      ("0 dimensions, expected 1 to 4", one("a", []), []),
      ("5 dimensions, expected 1 to 4", one("a", [1, 1, 1, 1, 1]), []),
      ("expected no dimension of 0", one("a", [4, 0]), []),
      ("expected no dimension of 0", one("a", [-1, 4]), []),
      ("expected a multiple of 32, the block of Q8_0", one("a", [32, 33], q8), []),
      ("do not fit in 63 bits", one("a", [1 << 32, 1 << 32]), []),
      ("do not fit in 63 bits", one("a", [1 << 31, 1 << 31], type("F32")), []),
      ("beyond 2^63 bytes", one("a", [Int.max]), []),
      ("beyond 2^63 bytes", one("a", [1 << 62]) + one("b", [1 << 62]), []),
      ("the key is empty", [], [("", .u8(0))]),
      ("the key has 65536 bytes", [], [(String(repeating: "k", count: 65536), .u8(0))]),
      ("control or invisible", [], [("a\nb", .u8(0))]),
      ("would appear twice", [], [("a", .u8(0)), ("a", .u8(1))]),
      ("found 48, expected a power of two", [], [("general.alignment", .u32(48))]),
      ("found 0, expected a power of two", [], [("general.alignment", .u32(0))]),
      ("found a value of type u64, expected u32", [], [("general.alignment", .u64(32))]),
      ("a string has 16777217 bytes", [], [("a", .string(String(repeating: "s", count: 16 << 20 + 1)))]),
      (
        "a string has 16777217 bytes", [],
        [("a", .array(GGUFArray(strings: ["", String(repeating: "s", count: 16 << 20 + 1)])))]
      ),
      ("more than a GGUF file may have", [], (0..<65536).map { ("k\($0)", .u8(0)) }),
    ]
  }()

  @Test(arguments: refused.indices) func isRefusedBeforeAByteIsWritten(_ index: Int) throws {
    let (problem, tensors, metadata) = Self.refused[index]
    let error = #expect(throws: RequestError.self, "\(problem)") {
      _ = try GGUFPlan(tensors: tensors, metadata: metadata)
    }
    #expect(error?.kind == .unsupported)
    #expect(error?.problem.contains(problem) == true, "\(error?.problem ?? "") for \(problem)")
  }

  /// A hundred plans of random tensors, keys, splits and alignments: the reader takes every result and finds what was written.
  @Test func whateverIsPlannedIsRead() throws {
    var generator = Generator(seed: 0x66F7)
    let folder = TemporaryFolder()
    for round in 0..<100 {
      let alignment = UInt32(8) << UInt32.random(in: 0...6, using: &generator)
      let tensors = (0..<Int.random(in: 0...6, using: &generator)).map { index in
        let type = GGUFTensorType.all[Int.random(in: 0..<GGUFTensorType.all.count, using: &generator)]
        let rows = (0..<Int.random(in: 0...3, using: &generator)).map { _ in
          Int.random(in: 1...3, using: &generator)
        }
        let columns = type.blockElements * Int.random(in: 1...3, using: &generator)
        return GGUFPlan.Tensor("t\(index)", type, Shape(rows + [columns]))
      }
      let split = GGUFPlan.Split(
        maxBytes: Bool.random(using: &generator) ? Int.random(in: 1...4096, using: &generator) : nil,
        maxTensors: Bool.random(using: &generator) ? Int.random(in: 1...4, using: &generator) : nil,
        metadataFirst: Bool.random(using: &generator))
      let plan = try GGUFPlan(
        tensors: tensors, metadata: [("general.alignment", .u32(alignment)), ("round", .u32(UInt32(round)))],
        split: split)
      let path = folder.file("r\(round).gguf")
      let data = tensors.map { tensor in
        (0..<tensor.byteCount).map { _ in UInt8.random(in: 0...255, using: &generator) }
      }
      var writer = try GGUFWriter(path: path, plan: plan)
      for (tensor, bytes) in zip(tensors, data) { try writer.write(tensor.name, bytes) }
      try writer.commit()
      let file = try GGUFFile(path: plan.paths(path)[0])
      #expect(file.value("round")?.integer == round)
      #expect(
        file.tensors.map(\.name) == tensors.map(\.name) && file.tensors.map(\.shape) == tensors.map(\.shape))
      #expect(file.tensors.map(\.bytes.array) == data)
      #expect(file.files.map(\.byteCount) == plan.parts.map(\.byteCount))
    }
  }
}
