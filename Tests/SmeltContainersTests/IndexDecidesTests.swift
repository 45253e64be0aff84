// Copies of tensors in several shards: the index decides, or the folder is refused. Formats/safetensors.md, rules 25 to 27.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct IndexDecidesTests {
  private let folder = TemporaryFolder()

  /// Shards of F32 tensors of one number each, and an index.
  private func open(
    _ shards: [(name: String, tensors: [(String, Float)])], _ map: [(String, String)]?, total: Int? = nil
  ) throws -> SafetensorsDirectory {
    for name in try namesInFolder(folder.path) { removeFile(folder.file(name)) }
    for (name, tensors) in shards {
      var writer = try SafetensorsWriter(
        path: folder.file(name), tensors: tensors.map { SafetensorsWriter.Declaration($0.0, .f32, [1]) })
      for (tensor, value) in tensors { try writer.write(tensor, [value]) }
      try writer.commit()
    }
    if let map {
      var members: [(String, JSON)] = [("weight_map", JSON(members: map.map { ($0.0, JSON($0.1)) }))]
      if let total { members.append(("metadata", ["total_size": JSON(total)])) }
      try writeFile(
        folder.file("model.safetensors.index.json"), Array(JSON(members: members).text().utf8),
        overwrite: false)
    }
    return try SafetensorsDirectory(path: folder.path)
  }

  private func value(_ source: SafetensorsDirectory, _ name: String) throws -> Float {
    try #require(source.tensor(name)).bytes.withUnsafeBytes { $0.loadUnaligned(as: Float.self) }
  }

  private let shards: [(name: String, tensors: [(String, Float)])] = [
    ("model-00001-of-00003.safetensors", [("a", 1), ("b", 2)]),
    ("model-00002-of-00003.safetensors", [("c", 3), ("a", 4)]),
    ("model-00003-of-00003.safetensors", [("a", 5), ("d", 6)]),
  ]

  @Test(arguments: [(1, Float(1)), (2, 4), (3, 5)]) func theIndexDecides(number: Int, expected: Float) throws
  {
    func name(_ number: Int) -> String { "model-0000\(number)-of-00003.safetensors" }
    let map = [("a", name(number)), ("b", name(1)), ("c", name(2)), ("d", name(3))]
    let source = try open(shards, map, total: 16)
    #expect(try value(source, "a") == expected)
    #expect(source.tensors.count == 4 && Set(source.tensors.map(\.name)) == ["a", "b", "c", "d"])
    // Each tensor stands with those of its shard.
    let files = source.tensors.map(\.file)
    #expect(files == files.sorted())
    for tensor in source.tensors { #expect(source.tensor(tensor.name)?.offset == tensor.offset) }
    #expect(source.warnings.map(\.code) == [.idxDuplicate])
    #expect(
      source.warnings[0].problem.contains("2 copies") && source.warnings[0].problem.contains("(8 bytes"))
    #expect(source.files.count == 3)
  }

  @Test func theSumIsThatOfWhatIsUsed() throws {
    let map = zip(["a", "b", "c", "d"], [1, 1, 2, 3]).map { ($0, "model-0000\($1)-of-00003.safetensors") }
    #expect(try open(shards, map, total: 24).warnings.map(\.code) == [.idxDuplicate, .idxTotal])
  }

  @Test func whatTheIndexDoesNotSettleIsRefused() throws {
    func code(_ map: [(String, String)]?) throws -> ErrorCode {
      try #require(throws: FormatError.self) { _ = try open(shards, map) }.code
    }
    func name(_ number: Int) -> String { "model-0000\(number)-of-00003.safetensors" }
    #expect(try code([("b", name(1)), ("c", name(2)), ("d", name(3))]) == .idxDuplicate)
    #expect(try code(nil) == .idxDuplicate)
    // The index names a shard that has it not; a tensor that only one shard has and no line names.
    let other = [(name: "model-00004.safetensors", tensors: [("e", Float(7))])]
    let map = [
      ("a", "model-00004.safetensors"), ("b", name(1)), ("c", name(2)), ("d", name(3)),
      ("e", "model-00004.safetensors"),
    ]
    let error = try #require(throws: FormatError.self) { _ = try open(shards + other, map) }
    #expect(error.code == .idxMismatch && error.subject == "a")
    #expect(try code([("a", name(1)), ("c", name(2)), ("d", name(3))]) == .idxMismatch)
  }

  @Test func shardsThatTheIndexDoesNotNameAreTold() throws {
    let map = [("a", shards[0].name), ("b", shards[0].name)]
    let source = try open(
      [shards[0], ("model-00001-of-00001.safetensors", [("a", 9)]), ("model-old.safetensors", [("b", 9)])],
      map)
    #expect(try value(source, "a") == 1 && source.tensors.count == 2)
    #expect(source.warnings.map(\.code) == [.idxMismatch])
    #expect(source.warnings[0].problem.contains("1 more"))
    #expect(try open([shards[0], ("reference.safetensors", [("a", 9)])], map).warnings.isEmpty)
  }

  @Test func pathsOutOfTheFolderStayRefused() throws {
    for path in [folder.file(shards[0].name), "../model.safetensors", "parts/" + shards[0].name] {
      let error = try #require(throws: FormatError.self) {
        _ = try open([shards[0]], [("a", path), ("b", shards[0].name)])
      }
      #expect(error.code == .idxPath)
    }
  }
}
