// Files: written beside and renamed, mapped, noticed when they change, and never their own source.

@testable import SmeltStorage
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite struct FileWriterTests {
  @Test func nothingIsThereBeforeCommit() throws {
    let folder = TemporaryFolder()
    let path = folder.file("result")
    var writer = try FileWriter(path: path, overwrite: false)
    try writer.write([1, 2, 3])
    #expect(writer.position == 3)
    #expect(pathKind(path) == .nothing)
    // Beside the target, so that the rename cannot cross disks.
    #expect(try namesInFolder(folder.path) == ["result.partial-\(getpid())"])
    try writer.pad(to: 8)
    try writer.write([9], at: 0)
    #expect(writer.position == 8)
    try writer.write([7])
    try writer.commit()
    #expect(try namesInFolder(folder.path) == ["result"])
    #expect(try MappedFile(path: path).bytes.array == [9, 2, 3, 0, 0, 0, 0, 0, 7])
  }

  /// Blocks go past the page cache, tails through it; a sync between them and a patch at the start change nothing.
  @Test func blocksAndTailsMakeOneFile() throws {
    let folder = TemporaryFolder()
    let path = folder.file("result")
    var generator = Generator(seed: 7)
    let block = 4 << 20
    var expected: [UInt8] = []
    var writer = try FileWriter(path: path, overwrite: false)
    for count in [10, block - 10, block, 3, 2 * block + 5, 4096, 1, block, 77] {
      let bytes = [UInt8](repeating: UInt8.random(in: 1...255, using: &generator), count: count)
      expected += bytes
      try writer.write(bytes)
      if count == 3 || count == 4096 { try writer.sync() }
      if count == 1 { try writer.rest() }
    }
    try writer.write([9, 9], at: 5)
    expected.replaceSubrange(5..<7, with: [9, 9])
    try writer.write([1])
    expected += [1]
    #expect(writer.position == expected.count)
    try writer.commit()
    let isEqual = try MappedFile(path: path).bytes.array == expected
    #expect(isEqual)
  }

  /// A file that may grow no further: the refusal comes with the system's reason, and nothing is left.
  @Test func aRefusedWriteIsSaid() throws {
    let folder = TemporaryFolder()
    let path = folder.file("result")
    try writeFile(path, [1], overwrite: false)
    let descriptor = open(path, O_RDONLY)
    defer { close(descriptor) }
    let blocks = WriteBehind(descriptor, at: 0)
    _ = [UInt8](repeating: 1, count: 9 << 20).withUnsafeBytes { blocks.append($0) }
    #expect(blocks.drain() == EBADF)
    #expect([UInt8](repeating: 1, count: 10).withUnsafeBytes { blocks.append($0) } == EBADF)
    #expect(try MappedFile(path: path).bytes.array == [1])
  }

  @Test func droppingLeavesNothing() throws {
    let folder = TemporaryFolder()
    do {
      var writer = try FileWriter(path: folder.file("result"), overwrite: false)
      try writer.write([1])
    }
    #expect(try namesInFolder(folder.path).isEmpty)
  }

  @Test func existingIsKeptUnlessOverwritten() throws {
    let folder = TemporaryFolder()
    let path = folder.file("result")
    try writeFile(path, [1], overwrite: false)
    let error = try #require(throws: RequestError.self) { try writeFile(path, [2], overwrite: false) }
    #expect(error.kind == .cannotCreate && error.exitStatus == 73)
    #expect(try MappedFile(path: path).bytes.array == [1])
    try writeFile(path, [2], overwrite: true)
    #expect(try MappedFile(path: path).bytes.array == [2])
    // Dropped before commit, the old file stays.
    do {
      var writer = try FileWriter(path: path, overwrite: true)
      try writer.write([3])
    }
    #expect(try MappedFile(path: path).bytes.array == [2])
  }

  @Test func whatTookTheNameMeanwhileIsKept() throws {
    let folder = TemporaryFolder()
    let path = folder.file("a")
    var refusal: RequestError?
    do {
      var writer = try FileWriter(path: path, overwrite: false)
      try writer.write([1, 2, 3])
      try writeFile(folder.file("other"), [9], overwrite: false)
      #expect(rename(folder.file("other"), path) == 0)
      try writer.commit()
    } catch let error as RequestError {
      refusal = error
    }
    #expect(refusal?.kind == .cannotCreate)
    #expect(try MappedFile(path: path).bytes.array == [9])
    #expect(try namesInFolder(folder.path) == ["a"])
  }

  @Test func aLinkInThePartialsPlaceIsNotFollowed() throws {
    let folder = TemporaryFolder()
    try writeFile(folder.file("victim"), [7], overwrite: false)
    symlink(folder.file("victim"), folder.file("a.partial-\(getpid())"))
    try writeFile(folder.file("a"), [1], overwrite: false)
    #expect(try MappedFile(path: folder.file("victim")).bytes.array == [7])
    #expect(try MappedFile(path: folder.file("a")).bytes.array == [1])
  }

  @Test func foldersAndMissingFoldersAreRefused() throws {
    let folder = TemporaryFolder()
    for path in [folder.path, folder.file("no/result")] {
      let error = try #require(throws: RequestError.self) { try writeFile(path, [1], overwrite: true) }
      #expect(error.kind == .cannotCreate)
    }
    #expect(try namesInFolder(folder.path).isEmpty)
  }
}

@Suite struct FilesTests {
  @Test func mapsWhatIsThere() throws {
    let folder = TemporaryFolder()
    let path = folder.file("f")
    try writeFile(path, Array(0..<200), overwrite: false)
    let file = try MappedFile(path: path)
    #expect(file.count == 200 && file.name == "f" && file.bytes[10..<13].array == [10, 11, 12])
    file.bytes.evict()
    #expect(file.bytes[199..<200].array == [199])
    try file.checkUnchanged()
    try writeFile(path, Array(0..<100), overwrite: true)
    #expect(throws: FormatError.self) { try file.checkUnchanged() }
    removeFile(path)
    #expect(try #require(throws: FormatError.self) { try file.checkUnchanged() }.code == .changed)
  }

  @Test func emptyFileIsMapped() throws {
    let folder = TemporaryFolder()
    try writeFile(folder.file("e"), [], overwrite: false)
    #expect(try MappedFile(path: folder.file("e")).bytes.array.isEmpty)
  }

  @Test func smallFilesAreBounded() throws {
    let folder = TemporaryFolder()
    try writeFile(folder.file("f"), [1, 2, 3], overwrite: false)
    #expect(try readSmallFile(folder.file("f"), limit: 3, code: .configJSON).array == [1, 2, 3])
    let error = try #require(throws: FormatError.self) {
      try readSmallFile(folder.file("f"), limit: 2, code: .configJSON)
    }
    #expect(error.code == .configJSON)
  }

  /// Formats/safetensors.md, rule 29: by inode, so that no spelling and no link hides it.
  @Test func resultIsNoneOfItsSources() throws {
    let folder = TemporaryFolder()
    let source = folder.file("source")
    try writeFile(source, [1], overwrite: false)
    #expect(link(source, folder.file("hard")) == 0)
    #expect(symlink(source, folder.file("soft")) == 0)
    for result in [source, folder.path + "/./source", folder.file("hard"), folder.file("soft")] {
      let error = try #require(throws: FormatError.self) {
        try refuseAlias(result: result, sources: ["/", source])
      }
      #expect(error.code == .outputAliasesInput && error.file == result)
    }
    try refuseAlias(result: folder.file("new"), sources: [source])
    try writeFile(folder.file("other"), [1], overwrite: false)
    try refuseAlias(result: folder.file("other"), sources: [source, folder.file("gone")])
  }

  @Test(arguments: [
    ("a/b/c", "c", "a/b"), ("c", "c", "."), ("/c", "c", "/"), ("a/b/", "b", "a"), ("/", "/", "/"),
  ])
  func namesAndFolders(_ path: String, _ name: String, _ folder: String) {
    #expect(fileName(path) == name)
    #expect(parentFolder(path) == folder)
  }
}

@Suite struct ErrorTextTests {
  @Test(arguments: [
    ("plain é 中 😀", "plain é 中 😀"), ("a\u{1B}[2Jb", "a\\u{1b}[2Jb"), ("a\0b", "a\\u{0}b"), ("a\nb", "a\\nb"),
    ("a\u{202E}b", "a\\u{202e}b"), ("a\u{200B}b", "a\\u{200b}b"), ("a\u{85}b\u{7F}", "a\\u{85}b\\u{7f}"),
    ("\u{FEFF}x", "\\u{feff}x"),
  ])
  func printableEscapes(_ text: String, _ expected: String) { #expect(printable(text) == expected) }

  @Test func excerptCountsScalars() {
    #expect(excerpt("abc", limit: 3) == "abc" && excerpt("abcd", limit: 3) == "abc…" && excerpt("") == "")
    #expect(excerpt("e\u{301}e\u{301}", limit: 2) == "e\u{301}…")
  }

  @Test func errorIsThreeLines() {
    let error = FormatError(
      .stSizeMismatch, file: "model.safetensors", subject: "a\u{202E}b", offset: 41,
      "found 4 bytes, expected 8", help: "fetch it\nagain")
    #expect(
      error.description == """
        error[ST_SIZE_MISMATCH]: 'a\\u{202e}b' found 4 bytes, expected 8
          in model.safetensors, byte 41
          help: fetch it\\nagain
        """)
    #expect(FormatError(.stName, "x").description.hasSuffix("help: \(ErrorCode.stName.remedy)"))
    #expect(error.inFile("other").file == "model.safetensors")
    #expect(FormatError(.stName, "x").inFile("other").file == "other")
  }

  @Test func checksumsAreTheirStandards() {
    // The empty string and "abc": published vectors of xxHash and of FIPS 180-4.
    #expect(Bytes([]).withUnsafeBytes { xxh64($0) } == 0xEF46_DB37_51D8_E999)
    #expect(Bytes(Array("abc".utf8)).withUnsafeBytes { xxh64($0) } == 0x44BC_2CF5_AD77_0999)
    #expect(
      SHA256.hex(Bytes(Array("abc".utf8)))
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    // In pieces as in one: lengths around the blocks of 32 and 64 bytes.
    let data = (0..<300).map { UInt8(truncatingIfNeeded: $0 &* 37) }
    for cut in [0, 1, 31, 32, 33, 63, 64, 65, 128, 299, 300] {
      var hash = XXH64()
      var digest = SHA256()
      for part in [data[..<cut], data[cut...]] {
        Bytes(Array(part)).withUnsafeBytes {
          hash.update($0)
          digest.update($0)
        }
      }
      #expect(hash.value() == Bytes(data).withUnsafeBytes { xxh64($0) })
      #expect(digest.hex() == SHA256.hex(Bytes(data)))
    }
  }

  /// Lengths around the padding of FIPS 180-4, cut everywhere; the sums are hashlib's.
  @Test(arguments: [
    (55, "8aa994584139d128848eeebc4e815639ba5ab6e6e39574195a63ac4f14f7c43b"),
    (56, "ad574708f75c044c9b85de64cb568ee7711ff4f36448c6242f053ba8f6cc2b63"),
    (63, "280ed3e8ff1df845b2e7dfe6ac6cee817bef20e783cc65abc41b818b4d2fe076"),
    (64, "c6ab9724ade5b6a7a1edfffb12f3aa9181351355af8fd08c919952ad211339dd"),
    (119, "3d610547d68216dedf7435a4fb6260353911f6b3fd3f18805ddb8be285d726fe"),
    (120, "1f80156a804cb7862ad113e8200e9d74499723e7c7854d5f48776d3148e09656"),
    (300, "4ebe2a8bd5ece93fb899b68e8a5fe64464b2058a5ddca6c079bc907930aa3003"),
  ])
  func sha256IsTheSameInPieces(length: Int, digest: String) {
    let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 * 31 + 7) }
    let wrong = (0...length).filter { cut in
      var hash = SHA256()
      hash.update(Array(bytes[..<cut]))
      hash.update(Array(bytes[cut...]))
      return hash.hex() != digest
    }
    #expect(wrong.isEmpty)
  }
}
