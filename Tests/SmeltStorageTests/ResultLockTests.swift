// One run a result, and what a run that was killed leaves. Formats/manifest.md, sections 1 and 4.

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

@Suite struct ResultLockTests {
  private func hold<T>(_ paths: [String], _ lines: inout [String], _ body: () throws -> T) throws -> T {
    var found: [String] = []
    defer { lines += found }
    return try ResultLock.holding(paths, verb: "test", report: { found.append($0) }, body)
  }

  private func hold(_ path: String) throws -> [String] {
    var lines: [String] = []
    try hold([path], &lines) {}
    return lines
  }

  @Test func aLockIsThereWhileTheWorkLastsAndGoesWithIt() throws {
    let folder = TemporaryFolder()
    var lines: [String] = []
    try hold([folder.file("r.ingot")], &lines) {
      #expect(try namesInFolder(folder.path) == ["r.ingot.lock"])
      let text = String(
        decoding: try MappedFile(path: folder.file("r.ingot.lock")).bytes.array, as: UTF8.self)
      #expect(text.hasPrefix("{\"schema\":\"smelt.lock/1\",\"process\":\(getpid()),\"host\":"), "\(text)")
    }
    #expect(throws: CancellationError.self) {
      try hold([folder.file("r.ingot")], &lines) { throw CancellationError() }
    }
    #expect(try namesInFolder(folder.path) == [] && lines == [])
  }

  @Test(arguments: [
    ("a/x.ingot", "a/x.ingot"), ("a/x-00002-of-00003.ingot", "a/x.ingot"),
    ("x-00001-of-00002.gguf", "x.gguf"),
    ("d/", "d"), ("d//", "d"), ("x-0001-of-00002.gguf", "x-0001-of-00002.gguf"),
    ("x-abcde-of-00002.gguf", "x-abcde-of-00002.gguf"),
  ])
  func partsShareALock(_ result: String, _ name: String) { #expect(ResultLock.name(result) == name) }

  /// Two outputs of one command, of which one has the name of the other or one that the other needs.
  @Test(arguments: ["r", "r.journal", "r.lock", "r.partial-statistics", "r.prepared", "./r"])
  func outputsOfOneCommandHaveNamesOfTheirOwn(other: String) throws {
    let folder = TemporaryFolder()
    for paths in [["r", other], [other, "r"]] {
      var lines: [String] = []
      let error = #expect(throws: RequestError.self) {
        try hold(paths.map { folder.file($0) }, &lines) {}
      }
      #expect(error?.kind == .usage, "\(paths)")
      #expect(try namesInFolder(folder.path) == [])
    }
  }

  @Test(arguments: ["", "mine", "{\"schema\":\"other\"}\n"]) func whatIsNoLockStays(text: String) throws {
    let folder = TemporaryFolder()
    try writeFile(folder.file("r.lock"), Array(text.utf8), overwrite: false)
    let error = #expect(throws: RequestError.self) { try hold(folder.file("r")) }
    #expect(error?.kind == .cannotCreate && error?.problem.contains("r.lock' is not a Smelt lock") == true)
    #expect(try MappedFile(path: folder.file("r.lock")).bytes.array == Array(text.utf8))
  }

  @Test func linksFoldersAndPipesInALocksPlaceStay() throws {
    for make: (String) -> Void in [{ symlink("nowhere", $0) }, { mkdir($0, 0o700) }, { mkfifo($0, 0o600) }] {
      let folder = TemporaryFolder()
      make(folder.file("r.lock"))
      let before = try listing(folder.path)
      #expect(throws: RequestError.self) { try hold(folder.file("r")) }
      #expect(try listing(folder.path) == before)
    }
  }

  /// Copies a lock while it is held, and puts the copy back once it is gone: that is what a kill leaves.
  private func killed(_ path: String, _ body: () throws -> Void) throws {
    let copy = path + ".copy"
    var lines: [String] = []
    try hold([path], &lines) {
      try body()
      try writeFile(copy, try MappedFile(path: path + ".lock").bytes.array, overwrite: false)
    }
    #expect(rename(copy, path + ".lock") == 0)
  }

  @Test func whatAKilledRunLeftIsRemovedByNameAndNothingElse() throws {
    let folder = TemporaryFolder()
    let path = folder.file("r")
    let pid = getpid()
    try killed(path) {
      for name in ["r.partial-\(pid)", "r.partial-\(pid)-2"] {
        try writeFile(folder.file(name), [1], overwrite: false)
        ResultLock.note(folder.file(name))
      }
      let (place, inner) = (
        folder.file("r.prepared.partial-\(pid)"), folder.file("r.prepared.partial-\(pid)/sub")
      )
      mkdir(place, 0o700)
      mkdir(inner, 0o700)
      try writeFile(inner + "/ours", [2], overwrite: false)
      for name in [place, inner, inner + "/ours"] { ResultLock.note(name) }
    }
    // Somebody put a file of his own in the place of one of them.
    try writeFile(folder.file("r.partial-\(pid)-2"), [9], overwrite: true)
    try writeFile(folder.file("r.partial-notes"), [9], overwrite: false)
    let lines = try hold(path)
    #expect(
      lines.count == 2 && lines.allSatisfy { $0.contains("which a run that was stopped left, is removed") },
      "\(lines)")
    #expect(try namesInFolder(folder.path) == ["r.partial-\(pid)-2", "r.partial-notes"])
  }

  /// Killed between making a file and saying which one: it is empty then. A file with something in it is somebody's.
  @Test func whatWasAboutToBeMadeGoesWhereItIsEmpty() throws {
    let folder = TemporaryFolder()
    try writeFile(folder.file("r.partial-3"), [], overwrite: false)
    try killed(folder.file("r")) {
      for name in ["r.journal", "r.partial-1", "r.partial-2", "r.partial-3", "r.partial-4"] {
        ResultLock.announce(folder.file(name))
      }
      for (name, bytes) in [("r.journal", []), ("r.partial-1", []), ("r.partial-2", [UInt8(1)])] {
        putFile(folder.file(name), bytes)
      }
      mkdir(folder.file("r.partial-4"), 0o700)
    }
    let lines = try hold(folder.file("r"))
    let removed = lines.filter { $0.contains("which a run that was stopped left, is removed") }
    #expect(removed.count == 3, "\(lines)")
    #expect(try namesInFolder(folder.path) == ["r.partial-2", "r.partial-3"])
  }

  /// A lock that came with a folder lists whatever its writer likes: nothing of it is touched but names of the result's own.
  @Test(arguments: [
    "proj/__init__.py", "../keep", "r2", "r.json", "r", "r.partial-1/../../keep", "x.partial-1",
    "r.partialx/x",
    "r-part2", "r-part.partial", "r-00001-of-00002.safetensors",
  ])
  func aLockIsNoListOfOthersFiles(name: String) throws {
    let folder = TemporaryFolder()
    for place in ["proj", "home", "home/r.partial-1", "home/r.partialx"] { mkdir(folder.file(place), 0o700) }
    let victim = folder.file("home/\(name)")
    mkdir(folder.file("home/proj"), 0o700)
    putFile(folder.file("keep"), [])
    if name.hasPrefix("r.partial-1") == false { putFile(victim, []) }
    let stamp = try #require(FileStamp(path: victim))
    let first = #"{"schema":"smelt.lock/1","process":1,"host":"x","verb":"convert","start":"s","result":"r"}"#
    let lines = [
      "{\"name\":\"\(name)\"}", "{\"name\":\"\(victim)\"}",
      "{\"name\":\"\(name)\",\"device\":\"\(stamp.identity.device)\",\"inode\":\"\(stamp.identity.inode)\"}",
      "{\"name\":\"\(name)\",\"device\":\"\(stamp.identity.device)\",\"inode\":\"\(stamp.identity.inode)\",\"restores\":\"../moved\"}",
    ]
    putFile(folder.file("home/r.lock"), Array(([first] + lines).joined(separator: "\n").utf8) + [0x0A])
    _ = try hold(folder.file("home/r"))
    #expect(FileStamp(path: victim)?.identity == stamp.identity)
    #expect(pathKind(folder.file("moved")) == .nothing)
  }

  /// A file that serves one run only is listed under its final name before it has that.
  @Test func whatIsWrittenBesideAResultGoesUnderBothNames() throws {
    let folder = TemporaryFolder()
    try killed(folder.file("r")) {
      try writeFile(folder.file("r.partial-statistics"), [1], overwrite: false)
      try writeFile(folder.file("r.json"), [1], overwrite: false)
    }
    #expect(try hold(folder.file("r")).count == 1)
    #expect(try namesInFolder(folder.path) == ["r.json"])
  }

  /// Killed while its lock had another name still.
  @Test func locksThatWereNeverTakenGoWithTheirProcess() throws {
    let folder = TemporaryFolder()
    let gone = 4_194_305  // beyond every process
    let names = [
      "r.lock-\(gone)", "r.lock-\(gone)-2", "r.lock-\(getpid())", "r.lock-notes", "s.lock-\(gone)",
    ]
    for name in names { try writeFile(folder.file(name), [], overwrite: false) }
    try writeFile(folder.file("r.lock-\(gone)-3"), Array("mine\n".utf8), overwrite: false)
    #expect(try hold(folder.file("r")).count == 2)
    #expect(
      try namesInFolder(folder.path)
        == ["r.lock-\(getpid())", "r.lock-\(gone)-3", "r.lock-notes", "s.lock-\(gone)"].sorted())
  }

  /// What old parts of a split result were moved to is named; no lock speaks of it.
  @Test func partsThatWereMovedAsideAreNamed() throws {
    let folder = TemporaryFolder()
    let names = [
      "r-00001-of-00002.gguf.replaced-4194305", "robot.gguf.partial-4194305", "r.gguf.partial-4194305",
    ]
    for name in names { try writeFile(folder.file(name), [1], overwrite: false) }
    let lines = try hold(folder.file("r.gguf"))
    #expect(lines.count == 2 && lines.allSatisfy { $0.contains("may be left") }, "\(lines)")
    #expect(try namesInFolder(folder.path).count == 3)
  }

  @Test func aFolderWithSomethingElseInItStays() throws {
    let folder = TemporaryFolder()
    let place = folder.file("r.partial-1")
    try killed(folder.file("r")) {
      mkdir(place, 0o700)
      try writeFile(place + "/ours", [2], overwrite: false)
      for name in [place, place + "/ours"] { ResultLock.note(name) }
    }
    try writeFile(place + "/theirs", [9], overwrite: false)
    let lines = try hold(folder.file("r"))
    #expect(
      lines.contains {
        $0.contains("r.partial-1', which a run that was stopped left, holds other files and stays")
      })
    #expect(try namesInFolder(place) == ["theirs"])
  }

  /// Killed between the two renames of a disk that cannot let names change places: the old result is back.
  @Test func whatWasMovedAsideGoesBack() throws {
    let folder = TemporaryFolder()
    try killed(folder.file("r")) {
      try writeFile(folder.file("r.replaced-1"), [7], overwrite: false)
      let stamp = try #require(FileStamp(path: folder.file("r.replaced-1")))
      ResultLock.note(folder.file("r.replaced-1"), stamp.identity, restores: folder.file("r"))
    }
    let lines = try hold(folder.file("r"))
    #expect(lines.count == 1 && lines[0].contains("is back in its place"), "\(lines)")
    #expect(try namesInFolder(folder.path) == ["r"])
  }

  @Test func whatAJournalNeedsStays() throws {
    let folder = TemporaryFolder()
    let journal = folder.file("r.journal")
    try killed(folder.file("r")) {
      for name in ["r.partial-layers-0-0", "r.partial-layers-1-1"] {
        try writeFile(folder.file(name), [1], overwrite: false)
        ResultLock.note(folder.file(name), journal: journal)
      }
      let kept = try Journal(creating: journal, header: ["schema": "x"])
      try kept.append([["files": ["r.partial-layers-0-0"]]])
    }
    #expect(try hold(folder.file("r")).count == 1)
    // The lock stays with what it lists.
    #expect(try namesInFolder(folder.path) == ["r.journal", "r.lock", "r.partial-layers-0-0"])
    removeFile(journal)
    #expect(try hold(folder.file("r")).count == 1)
    #expect(try namesInFolder(folder.path) == [])
  }

  /// A journal that does not name every step's files may need any of them.
  @Test func aJournalWithoutNamesKeepsEverything() throws {
    let folder = TemporaryFolder()
    let journal = folder.file("r.journal")
    try killed(folder.file("r")) {
      for name in ["r.partial-layers-0-0", "r.partial-layers-1-1"] {
        try writeFile(folder.file(name), [1], overwrite: false)
        ResultLock.note(folder.file(name), journal: journal)
      }
      let kept = try Journal(creating: journal, header: ["schema": "x"])
      try kept.append([["files": ["r.partial-layers-0-0"]], ["layers": 2]])
    }
    #expect(try hold(folder.file("r")) == [])
    #expect(
      try namesInFolder(folder.path)
        == ["r.journal", "r.lock", "r.partial-layers-0-0", "r.partial-layers-1-1"])
  }

  /// Process 2³¹ − 2 is nobody's: a name alone is no proof.
  @Test func whatNoLockNamesIsNamedAndStays() throws {
    let folder = TemporaryFolder()
    try writeFile(folder.file("r.partial-2147483646"), [1], overwrite: false)
    try writeFile(folder.file("r.partial-1"), [1], overwrite: false)
    let lines = try hold(folder.file("r"))
    #expect(lines.count == 1 && lines[0].contains("r.partial-2147483646' may be left by"), "\(lines)")
    #expect(try namesInFolder(folder.path).count == 2)
  }
}

@Suite struct PartialFileTests {
  /// Another file in the place of the one that was written does not get its name, and is not removed.
  @Test(arguments: [false, true]) func anotherFileIsNotPublished(isFinished: Bool) throws {
    let folder = TemporaryFolder()
    let partial = folder.file("r.partial-\(getpid())")
    var message = ""
    do {
      var writer = try FileWriter(path: folder.file("r"), overwrite: false)
      try writer.write([1, 2, 3])
      if isFinished { try writer.finish() }
      #expect(rename(partial, folder.file("away")) == 0)
      try writeFile(folder.file("other"), [9, 9, 9], overwrite: false)
      #expect(rename(folder.file("other"), partial) == 0)
      try writer.commit()
    } catch let error as RequestError { message = error.problem }
    #expect(message.contains("no longer the file that was written"))
    #expect(try namesInFolder(folder.path) == ["away", "r.partial-\(getpid())"])
    #expect(try MappedFile(path: partial).bytes.array == [9, 9, 9])
  }

  @Test func aResumableNameThatIsTakenIsRefused() throws {
    let folder = TemporaryFolder()
    try writeFile(folder.file("r.partial"), [7], overwrite: false)
    let error = #expect(throws: RequestError.self) {
      _ = try FileWriter(path: folder.file("r"), overwrite: true, isResumable: true)
    }
    #expect(error?.kind == .cannotCreate && error?.problem.contains("r.partial' exists") == true)
    #expect(try MappedFile(path: folder.file("r.partial")).bytes.array == [7])
  }

  @Test func aJournalsNameThatIsTakenIsRefused() throws {
    let folder = TemporaryFolder()
    try writeFile(folder.file("r.journal"), Array("my notes\n".utf8), overwrite: false)
    let error = #expect(throws: RequestError.self) {
      _ = try Journal(creating: folder.file("r.journal"), header: ["schema": "x"])
    }
    #expect(error?.kind == .cannotCreate)
    #expect(try MappedFile(path: folder.file("r.journal")).bytes.array == Array("my notes\n".utf8))
  }

  @Test func namesThatAreNoneAndLinksAreRefused() throws {
    let folder = TemporaryFolder()
    symlink(folder.file("nothing"), folder.file("dangling"))
    try writeFile(folder.file("f"), [1], overwrite: false)
    symlink(folder.file("f"), folder.file("link"))
    for (path, kind, words): (String, RequestError.Kind, String) in [
      ("", .usage, "is empty"), (folder.path + "/.", .cannotCreate, "is not a name"),
      ("/", .cannotCreate, "is not a name"),
      (folder.file("dangling"), .cannotCreate, "symbolic link to nothing"),
      (folder.file("link"), .cannotCreate, "is a symbolic link"),
    ] {
      for overwrite in [false, true] {
        let file = #expect(throws: RequestError.self) { try writeFile(path, [1], overwrite: overwrite) }
        let made = #expect(throws: RequestError.self) {
          _ = try FolderWriter(path: path, overwrite: overwrite, tool: "smelt test")
        }
        for error in [file, made] {
          #expect(
            error?.kind == kind && error?.problem.contains(words) == true, "\(path): \(error?.problem ?? "")")
        }
      }
    }
    #expect(try namesInFolder(folder.path) == ["dangling", "f", "link"])
  }
}
