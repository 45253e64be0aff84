// Good files: what the reference library writes is read as it reads it, what we write is read back and is the same
// file again; and a byte changed anywhere gives a refusal or the same content.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct SafetensorsTests {
  static let good = fixture("safetensors/all-dtypes.safetensors")

  /// What the reference library read from its own file.
  static func reference() throws -> JSON {
    try JSON.scan(readSmallFile(fixture("safetensors/all-dtypes.json"), limit: 1 << 20, code: .configJSON))
  }

  static func hex(_ bytes: Bytes) -> String {
    bytes.array.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  @Test func readsWhatTheReferenceLibraryWrites() throws {
    let file = try SafetensorsFile(path: Self.good)
    let reference = try Self.reference()
    let expected = try #require(reference["tensors"]?.array)
    #expect(file.tensors.map(\.name) == expected.map { $0["name"]?.string })
    for (tensor, expected) in zip(file.tensors, expected) {
      #expect(tensor.dtype.rawValue == expected["dtype"]?.string)
      #expect(tensor.shape.dimensions == expected["shape"]?.array?.map(\.integer))
      #expect(Self.hex(tensor.bytes) == expected["hex"]?.string, "\(tensor.name)")
      #expect(file.tensor(tensor.name)?.offset == tensor.offset)
    }
    let notes = try #require(reference["metadata"]?.object)
    #expect(file.metadata.map(\.0) == notes.keys)
    #expect(file.metadata.map(\.1) == notes.values.map(\.string))
    #expect(file.files.map(\.path) == [Self.good])
    #expect(file.tensor("none") == nil)
    #expect(file.warnings.isEmpty)
    // The library writes no 6-bit floats yet; everything else is in its file.
    let missing = Set(DType.allCases).subtracting(file.tensors.map(\.dtype))
    #expect(missing == [.f6E2M3, .f6E3M2])
  }

  @Test(arguments: DType.allCases)
  func everyDTypeGoesRound(_ dtype: DType) throws {
    let folder = TemporaryFolder()
    let path = folder.file("x.safetensors")
    let declaration = SafetensorsWriter.Declaration("x", dtype, [2, 4])
    #expect(declaration.byteCount == dtype.bits)
    let content = (0..<dtype.bits).map { UInt8($0) }
    var writer = try SafetensorsWriter(path: path, tensors: [declaration])
    try writer.write("x", content)
    try writer.commit()
    let tensor = try #require(try SafetensorsFile(path: path).tensor("x"))
    #expect(tensor.dtype == dtype && tensor.shape == [2, 4] && tensor.bytes.array == content)
  }

  @Test func writeReadWriteGivesTheSameBytes() throws {
    let folder = TemporaryFolder()
    let source = try SafetensorsFile(path: Self.good)
    let first = folder.file("first.safetensors")
    let second = folder.file("second.safetensors")
    try copy(source, to: first)
    try copy(SafetensorsFile(path: first), to: second)
    let one = try MappedFile(path: first).bytes.array
    #expect(try MappedFile(path: second).bytes.array == one)
    // The data starts at a multiple of 8 and is the data of the source, whose order it keeps.
    let copied = try SafetensorsFile(path: first)
    #expect(copied.tensors[0].offset % 8 == 0)
    #expect(copied.tensors.map { $0.bytes.array } == source.tensors.map { $0.bytes.array })
    #expect(copied.tensors.map(\.name) == source.tensors.map(\.name))
    #expect(copied.metadata.map(\.0) == source.metadata.map(\.0))
    let declarations = source.tensors.map { SafetensorsWriter.Declaration($0.name, $0.dtype, $0.shape) }
    #expect(SafetensorsWriter.byteCount(tensors: declarations, metadata: source.metadata) == one.count)
  }

  private func copy(_ source: SafetensorsFile, to path: String) throws {
    var writer = try SafetensorsWriter(
      path: path, tensors: source.tensors.map { .init($0.name, $0.dtype, $0.shape) },
      metadata: source.metadata)
    for tensor in source.tensors where tensor.bytes.count > 0 {
      // In two parts, as a stream would bring them.
      let half = tensor.bytes.count / 2
      try writer.write(tensor.name, tensor.bytes[0..<half])
      try writer.write(tensor.name, tensor.bytes[half..<tensor.bytes.count])
    }
    try writer.commit()
  }

  /// The header's exact bytes: the format is a promise.
  @Test func headerIsWhatTheFormatSays() throws {
    let folder = TemporaryFolder()
    let path = folder.file("x.safetensors")
    var writer = try SafetensorsWriter(
      path: path, tensors: [.init("b", .bf16, [1, 2]), .init("a", .f32, [])], metadata: [("k", "v")])
    try writer.write("b", [UInt8](arrayLiteral: 1, 2, 3, 4))
    try writer.write("a", [Float(1)])
    try writer.commit()
    let text =
      #"{"__metadata__":{"k":"v"},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]},"#
      + #""a":{"dtype":"F32","shape":[],"data_offsets":[4,8]}}"#
    let padding = (8 - text.utf8.count % 8) % 8
    let length = UInt8(text.utf8.count + padding)
    let expected =
      [length, 0, 0, 0, 0, 0, 0, 0] + Array(text.utf8) + [UInt8](repeating: 0x20, count: padding)
      + [1, 2, 3, 4, 0, 0, 0x80, 0x3F]
    #expect(try MappedFile(path: path).bytes.array == expected)
  }

  @Test func nothingStandsUnderTheNameBeforeCommit() throws {
    let folder = TemporaryFolder()
    let path = folder.file("x.safetensors")
    do {
      var writer = try SafetensorsWriter(path: path, tensors: [.init("a", .u8, [2])])
      try writer.write("a", [UInt8(1)])
      #expect(pathKind(path) == .nothing)
    }
    #expect(try namesInFolder(folder.path).isEmpty)
    try writeFile(path, [1], overwrite: false)
    #expect(throws: RequestError.self) { _ = try SafetensorsWriter(path: path, tensors: []) }
  }

  @Test func noTensorAtAllIsAFile() throws {
    let folder = TemporaryFolder()
    let path = folder.file("none.safetensors")
    let writer = try SafetensorsWriter(path: path, tensors: [])
    try writer.commit()
    #expect(try SafetensorsFile(path: path).tensors.isEmpty)
    #expect(try MappedFile(path: path).bytes.array == [8, 0, 0, 0, 0, 0, 0, 0] + Array("{}      ".utf8))
  }

  /// A header's members may stand in any order; the tensors come in the order of their bytes.
  @Test func tensorsComeInTheOrderOfTheirBytes() throws {
    let folder = TemporaryFolder()
    let path = folder.file("x.safetensors")
    let header =
      #"{"z":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"#
      + #""e":{"data_offsets":[1,1],"shape":[0],"dtype":"I64"},"y":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#
    let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) }
    try writeFile(path, length + Array(header.utf8) + [7, 8, 9], overwrite: false)
    let file = try SafetensorsFile(path: path)
    #expect(file.tensors.map(\.name) == ["y", "e", "z"])
    #expect(file.tensors.map { $0.bytes.array } == [[7], [], [8, 9]])
  }

  /// Offsets beyond 32 bits, in a file that is mostly a hole.
  @Test func sixGigabytesAreMapped() throws {
    let folder = TemporaryFolder()
    let path = folder.file("large.safetensors")
    let large = 6 << 30
    let header =
      #"{"hole":{"dtype":"U8","shape":[6,1073741824],"data_offsets":[0,\#(large)]},"#
      + #""end":{"dtype":"U8","shape":[3],"data_offsets":[\#(large),\#(large + 3)]}}"#
    let start = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) } + Array(header.utf8)
    var writer = try FileWriter(path: path, overwrite: false)
    try writer.write(start)
    try writer.write([7, 8, 9], at: start.count + large)
    try writer.commit()
    let file = try SafetensorsFile(path: path)
    #expect(file.tensor("end")?.bytes.array == [7, 8, 9])
    #expect(file.tensor("end")?.offset == start.count + large)
    #expect(file.tensor("hole")?.bytes.count == large)
    #expect(file.tensor("hole")?.bytes[large - 2..<large].array == [0, 0])
  }

  /// 2,000 files with one byte of length or header changed: refused, or read as the same tensors.
  @Test func changedByteIsRefusedOrHarmless() throws {
    let good = try MappedFile(path: Self.good).bytes.array
    let tensors = try SafetensorsFile(path: Self.good).tensors
    let headerEnd = tensors[0].offset
    let folder = TemporaryFolder()
    let path = folder.file("mutant.safetensors")
    var generator = Generator(seed: 0x5AFE)
    var refused = 0
    for _ in 0..<2000 {
      var mutant = good
      let place = Int.random(in: 0..<headerEnd, using: &generator)
      mutant[place] = UInt8.random(in: 0...255, using: &generator)
      writeRaw(path, mutant)
      do {
        let file = try SafetensorsFile(path: path)
        // A name, a note or a dtype of the same width may have changed; the places and the bytes may not.
        #expect(file.tensors.map(\.offset) == tensors.map(\.offset), "byte \(place)")
        #expect(file.tensors.map { $0.bytes.array } == tensors.map { $0.bytes.array }, "byte \(place)")
      } catch let error as FormatError {
        refused += 1
        #expect(error.file == path)
      }
    }
    #expect(refused > 1000)
  }
}

@Suite struct SafetensorsDirectoryTests {
  static func write(_ path: String, _ tensors: [(String, [Float])]) throws {
    var writer = try SafetensorsWriter(path: path, tensors: tensors.map { .init($0.0, .f32, [$0.1.count]) })
    for (name, values) in tensors { try writer.write(name, values) }
    try writer.commit()
  }

  static func writeIndex(_ folder: TemporaryFolder, _ map: [(String, String)], total: Int) throws {
    let json = JSON(members: [
      ("metadata", JSON(members: [("total_size", JSON(total))])),
      ("weight_map", JSON(members: map.map { ($0.0, JSON($0.1)) })),
    ])
    try writeFile(folder.file("model.safetensors.index.json"), Array(json.text().utf8), overwrite: false)
  }

  @Test func readsShardsByTheirIndex() throws {
    let folder = TemporaryFolder()
    let names = (1...3).map { "model-0000\($0)-of-00003.safetensors" }
    try Self.write(folder.file(names[0]), [("b", [1, 2]), ("a", [3])])
    try Self.write(folder.file(names[1]), [("c", [4])])
    try Self.write(folder.file(names[2]), [("d", [5, 6, 7])])
    // A file that the index does not name is left alone, whatever is in it.
    try writeFile(folder.file("reference.safetensors"), [1, 2, 3], overwrite: false)
    try Self.writeIndex(
      folder, [("d", names[2]), ("a", names[0]), ("b", names[0]), ("c", names[1])], total: 28)
    let source = try SafetensorsDirectory(path: folder.path)
    #expect(source.tensors.map(\.name) == ["b", "a", "c", "d"])
    #expect(source.files.map(\.path) == names.map(folder.file))
    #expect(source.warnings.isEmpty)
    let d = try #require(source.tensor("d"))
    #expect(d.file == folder.file(names[2]))
    #expect(d.bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) } == [5, 6, 7])
    #expect(source.tensor("e") == nil)
    try source.checkUnchanged()
  }

  @Test(arguments: ["model.safetensors", "consolidated.safetensors", "model-00001-of-00001.safetensors"])
  func readsASingleFile(_ name: String) throws {
    let folder = TemporaryFolder()
    try Self.write(folder.file(name), [("a", [1])])
    if name == "model.safetensors" { try Self.write(folder.file("reference.safetensors"), [("r", [1])]) }
    let source = try SafetensorsDirectory(path: folder.path + "/")
    #expect(source.tensors.map(\.name) == ["a"])
    #expect(source.tensors[0].file == folder.file(name))
    #expect(source.warnings.isEmpty)
  }

  /// A set of shards named `model` beats one of another name, as checkpoints with `consolidated` copies have it.
  @Test func prefersTheSetNamedModel() throws {
    let folder = TemporaryFolder()
    for part in 1...2 {
      try Self.write(folder.file("model-0000\(part)-of-00002.safetensors"), [("m\(part)", [1])])
      try Self.write(folder.file("consolidated-0000\(part)-of-00002.safetensors"), [("c\(part)", [1])])
    }
    #expect(try SafetensorsDirectory(path: folder.path).tensors.map(\.name) == ["m1", "m2"])
  }

  @Test func changedIndexIsNoticed() throws {
    let folder = TemporaryFolder()
    try Self.write(folder.file("x.safetensors"), [("a", [1])])
    try Self.writeIndex(folder, [("a", "x.safetensors")], total: 4)
    let source = try SafetensorsDirectory(path: folder.path)
    try source.checkUnchanged()
    removeFile(folder.file("model.safetensors.index.json"))
    #expect(try #require(throws: FormatError.self) { try source.checkUnchanged() }.code == .changed)
  }

  /// The shape of a published index, tensor by tensor: a thousand lines out of order over five shards.
  @Test func thousandTensors() throws {
    let folder = TemporaryFolder()
    var map: [(String, String)] = []
    for shard in 0..<5 {
      let file = "model-0000\(shard + 1)-of-00005.safetensors"
      let tensors = (0..<200).map {
        ("layers.\($0).ffn.experts.\(shard).w1.weight", [Float($0), Float(shard)])
      }
      try Self.write(folder.file(file), tensors)
      map += tensors.map { ($0.0, file) }
    }
    var generator = Generator(seed: 7)
    map.shuffle(using: &generator)
    try Self.writeIndex(folder, map, total: 8000)
    let source = try SafetensorsDirectory(path: folder.path)
    #expect(source.tensors.count == 1000 && source.warnings.isEmpty)
    for (name, file) in map {
      let tensor = try #require(source.tensor(name))
      #expect(tensor.name == name && tensor.file == folder.file(file))
    }
  }
}
