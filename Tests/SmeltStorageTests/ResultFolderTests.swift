// Folders as results: what is listed, what is replaced, what is never touched. Formats/manifest.md, section 2.

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

@Suite struct ResultFolderTests {
  /// Writes a folder of three files.
  @discardableResult
  private func write(_ path: String, _ text: String = "one", overwrite: Bool = false) throws -> [String] {
    let folder = try FolderWriter(path: path, overwrite: overwrite, tool: "smelt test")
    try folder.write("config.json", Array(text.utf8))
    try folder.write("sub/deep/a", [1, 2, 3])
    // A file that nothing is noted of is read at the end.
    try writeFile(try folder.file("sub/b"), [], overwrite: false)
    return try folder.commit()
  }

  private func refusal(_ path: String) -> String {
    let error = #expect(throws: RequestError.self) { try write(path, "two", overwrite: true) }
    #expect(error?.kind == .cannotCreate)
    return error?.problem ?? ""
  }

  @Test func aFolderListsItsFiles() throws {
    let folder = TemporaryFolder()
    try write(folder.file("r"))
    let manifest = try #require(try FolderManifest.read(folder.file("r")))
    #expect(manifest.tool == "smelt test")
    #expect(manifest.files.map(\.name) == ["config.json", "sub/b", "sub/deep/a"])
    #expect(manifest.files.map(\.byteCount) == [3, 0, 3])
    #expect(manifest.files[1].hash == 0xEF46_DB37_51D8_E999)
    #expect(manifest.files[2].hash == Bytes([1, 2, 3]).withUnsafeBytes { xxh64($0) })
    #expect(try namesInFolder(folder.path) == ["r"])
    #expect(try namesInFolder(folder.file("r")) == ["config.json", "smelt-manifest.json", "sub"])
  }

  /// A name as long as the file system allows has no room for the ending of an unfinished file.
  @Test(arguments: ["a", "é"], [200, 240, 246, 254, 255])
  func longNamesAreWritten(_ letter: String, _ bytes: Int) throws {
    let folder = TemporaryFolder()
    let name = String(repeating: letter, count: bytes / letter.utf8.count)
    let writer = try FolderWriter(path: folder.file("r"), overwrite: false, tool: "smelt test")
    try writer.write(name, [1])
    try writer.write(String(name.dropLast()) + "b", [2])
    _ = try writer.commit()
    #expect(try namesInFolder(folder.file("r")).count == 3)
    #expect(try FolderManifest.read(folder.file("r"))?.files.count == 2)
  }

  /// Blocks of a large file are hashed in order on their way, wherever it is synced in between.
  @Test func hashesAreTakenOnTheWay() throws {
    let folder = TemporaryFolder()
    let bytes = (0..<9_000_001).map { UInt8(truncatingIfNeeded: $0 * 7 ^ $0 >> 9) }
    var writer = try FileWriter(path: folder.file("f"), replacing: .nothing, sum: .xxh64)
    try writer.write(Array(bytes[..<5_000_000]))
    try writer.sync()
    try writer.write(Array(bytes[5_000_000...]))
    let written = try writer.commit()
    #expect(written.byteCount == bytes.count && written.sum == Bytes(bytes).withUnsafeBytes { xxh64($0) })
  }

  @Test(arguments: ["", "/a", "a//b", "../a", "a/../../b", ".", "a/.", "a/", "smelt-manifest.json", "a\0b"])
  func namesStayInTheFolder(name: String) throws {
    let folder = TemporaryFolder()
    let writer = try FolderWriter(path: folder.file("r"), overwrite: false, tool: "smelt test")
    let error = #expect(throws: RequestError.self) { try writer.write(name, [1]) }
    #expect(error?.kind == .cannotCreate)
    _ = try writer.commit()
    #expect(try namesInFolder(folder.path) == ["r"])
    #expect(try namesInFolder(folder.file("r")) == ["smelt-manifest.json"])
  }

  @Test func droppingLeavesNothing() throws {
    let folder = TemporaryFolder()
    do {
      let writer = try FolderWriter(path: folder.file("r"), overwrite: false, tool: "smelt test")
      try writer.write("sub/deep/a", [1])
      #expect(try namesInFolder(folder.path) == ["r.partial-\(getpid())"])
    }
    #expect(try namesInFolder(folder.path) == [])
  }

  @Test func exactlyWhatWasWrittenIsReplaced() throws {
    let folder = TemporaryFolder()
    try write(folder.file("r"))
    #expect(try write(folder.file("r/"), "two", overwrite: true) == [])
    #expect(try MappedFile(path: folder.file("r/config.json")).bytes.array == Array("two".utf8))
    #expect(try namesInFolder(folder.path) == ["r"])
    let error = #expect(throws: RequestError.self) { try write(folder.file("r")) }
    #expect(error?.problem.hasSuffix("exists") == true)
  }

  /// What is in the way of each refusal, and what the refusal names.
  static let foreign: [(what: String, names: String, make: @Sendable (String) throws -> Void)] = [
    ("a file more", "'notes'", { try writeFile($0 + "/notes", [1], overwrite: false) }),
    ("a hidden file", "'.hidden'", { try writeFile($0 + "/.hidden", [1], overwrite: false) }),
    ("a file more inside", "'sub/notes'", { try writeFile($0 + "/sub/notes", [1], overwrite: false) }),
    ("an empty folder", "'empty'", { _ = mkdir($0 + "/empty", 0o700) }),
    ("a link", "'link' in it, a symbolic link", { _ = symlink("config.json", $0 + "/link") }),
    ("a pipe", "'pipe' in it, a pipe", { _ = mkfifo($0 + "/pipe", 0o600) }),
    (
      "a file changed", "'config.json' in it was changed",
      { try writeFile($0 + "/config.json", Array("ONE".utf8), overwrite: true) }
    ),
    (
      "a file longer", "found 4 bytes, smelt wrote 3",
      { try writeFile($0 + "/config.json", Array("ones".utf8), overwrite: true) }
    ),
    ("a file gone", "'sub/b', which smelt wrote, is no longer", { removeFile($0 + "/sub/b") }),
    (
      "a link in a file's place", "'config.json' in it, a symbolic link",
      { path in
        rename(path + "/config.json", path + ".away")
        symlink(path + ".away", path + "/config.json")
      }
    ),
    (
      "a folder in a file's place", "'config.json' in it, a folder",
      { path in
        removeFile(path + "/config.json")
        mkdir(path + "/config.json", 0o700)
      }
    ),
    (
      "a link in a folder's place", "'sub' in it, a symbolic link",
      { path in
        rename(path + "/sub", path + ".away")
        symlink(path + ".away", path + "/sub")
      }
    ),
    ("no list", "has no smelt-manifest.json", { removeFile($0 + "/smelt-manifest.json") }),
    (
      "a list that is another's", "is not one that smelt wrote",
      { try writeFile($0 + "/smelt-manifest.json", Array("{\"files\":[]}".utf8), overwrite: true) }
    ),
    (
      "a list that leads out of the folder", "is not one that smelt wrote",
      {
        let list = FolderManifest(tool: "x", files: [.init(name: "../r.away", byteCount: 0, hash: 0)])
        try writeFile($0 + "/smelt-manifest.json", list.text, overwrite: true)
      }
    ),
    (
      "a name that is no text", "was not written by smelt",
      { path in
        var raw = Array((path + "/").utf8CString.dropLast()) + [CChar(bitPattern: 0xFF), 0]
        close(open(&raw, O_CREAT | O_WRONLY, 0o600))
      }
    ),
  ]

  @Test(arguments: foreign.indices) func whatIsNotOursIsNeverTouched(index: Int) throws {
    let (what, names, make) = Self.foreign[index]
    let folder = TemporaryFolder()
    try write(folder.file("r"))
    try make(folder.file("r"))
    let before = try listing(folder.path)
    #expect(refusal(folder.file("r")).contains(names), "\(what): \(refusal(folder.file("r")))")
    #expect(try listing(folder.path) == before, "\(what)")
  }

  /// Turned up while the new folder was being written: refused at the end as at the start.
  @Test func itIsLookedAtAgainAtTheEnd() throws {
    let folder = TemporaryFolder()
    try write(folder.file("r"))
    var message = ""
    do {
      let writer = try FolderWriter(path: folder.file("r"), overwrite: true, tool: "smelt test")
      try writer.write("config.json", [7])
      try writeFile(folder.file("r/notes"), [1], overwrite: false)
      _ = try writer.commit()
    } catch let error as RequestError { message = error.problem }
    #expect(message.contains("'notes'"))
    #expect(try namesInFolder(folder.path) == ["r"])
    #expect(try MappedFile(path: folder.file("r/config.json")).bytes.array == Array("one".utf8))
  }

  /// Somebody else's folder in the place of the one that was written does not get the name.
  @Test func anotherFolderInThePartialsPlaceIsNotPublished() throws {
    let folder = TemporaryFolder()
    let partial = folder.file("r.partial-\(getpid())")
    var message = ""
    do {
      let writer = try FolderWriter(path: folder.file("r"), overwrite: false, tool: "smelt test")
      try writer.write("config.json", [7])
      #expect(rename(partial, folder.file("away")) == 0)
      #expect(mkdir(partial, 0o700) == 0)
      try writeFile(partial + "/config.json", [9], overwrite: false)
      _ = try writer.commit()
    } catch let error as RequestError { message = error.problem }
    #expect(message.contains("no longer the folder"))
    #expect(pathKind(folder.file("r")) == .nothing)
    #expect(try MappedFile(path: partial + "/config.json").bytes.array == [9])
  }

  /// What the writer did not make is left in place, and so is the folder around it.
  @Test func aFileInThePartialIsLeftAlone() throws {
    let folder = TemporaryFolder()
    let partial = folder.file("r.partial-\(getpid())")
    do {
      let writer = try FolderWriter(path: folder.file("r"), overwrite: false, tool: "smelt test")
      try writer.write("config.json", [7])
      try writeFile(partial + "/theirs", [9], overwrite: false)
      _ = try writer.commit()
      Issue.record("it was published")
    } catch let error as RequestError { #expect(error.problem.contains("theirs")) }
    #expect(try namesInFolder(partial) == ["theirs"])
  }

  @Test func sealingKeepsTheListTrue() throws {
    let folder = TemporaryFolder()
    try write(folder.file("r"))
    try writeFile(folder.file("r/config.json"), Array("sealed".utf8), overwrite: true)
    try FolderManifest.update(
      folder.file("r"), "config.json", before: Array("one".utf8), after: Array("sealed".utf8))
    #expect(try write(folder.file("r"), "two", overwrite: true) == [])
    // What somebody changed before is not claimed.
    try writeFile(folder.file("r/config.json"), Array("theirs".utf8), overwrite: true)
    try FolderManifest.update(
      folder.file("r"), "config.json", before: Array("theirs".utf8), after: Array("sealed".utf8))
    #expect(refusal(folder.file("r")).contains("'config.json' in it was changed"))
  }
}

/// Every name below a folder with its kind and its content.
func listing(_ path: String) throws -> [String] {
  var lines: [String] = []
  for name in try rawNames(in: path) {
    let text = String(decoding: name, as: UTF8.self)
    let child = joinPath(path, text)
    let stamp = FileStamp(path: child)
    lines.append("\(text) \(stamp?.words ?? "?") \(stamp?.identity.inode ?? 0)")
    if stamp?.isFolder == true { lines += try listing(child).map { "\(text)/\($0)" } }
    if stamp?.isFile == true { lines.append("\(try MappedFile(path: child).bytes.array)") }
  }
  return lines
}
