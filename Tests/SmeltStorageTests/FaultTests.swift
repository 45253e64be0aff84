// What the system takes away while it is used: pages of a mapped file, room for a journal's lines. Each in a process of its own.

import CKernels
import SmeltStorage
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// No file of this process may grow beyond so many bytes; a write beyond is an error, as on a full disk.
private func limitFiles(_ bytes: Int) {
  signal(SIGXFSZ, SIG_IGN)
  var limit = rlimit(rlim_cur: rlim_t(bytes), rlim_max: rlim_t(bytes))
  #if canImport(Glibc)
    setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
  #else
    setrlimit(RLIMIT_FSIZE, &limit)
  #endif
}

private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

@Suite struct FaultTests {
  /// 8 pages, of which 7 are cut off while the file is mapped.
  @Test func aFileCutShortWhileMappedIsNamed() async throws {
    let result = try await #require(
      processExitsWith: .exitCode(2), observing: [\.standardErrorContent]
    ) {
      let folder = TemporaryFolder()
      let path = folder.file("a\u{1B}b")
      try writeFile(path, [UInt8](repeating: 7, count: 1 << 17), overwrite: false)
      MappedFaults.install()
      let file = try MappedFile(path: path)
      let other = try MappedFile(path: path)
      truncate(path, 16384)
      let sum = file.bytes[16384..<1 << 17].withUnsafeBytes { $0.reduce(0) { $0 &+ Int($1) } }
      print(sum, other.count)
    }
    let lines = text(result.standardErrorContent).split(separator: "\n")
    #expect(
      lines.suffix(3).first
        == "error[SRC_CHANGED]: found 16384 bytes, expected 131072 with the time of the start")
    #expect(lines.suffix(2).first?.hasSuffix("a\\u{1b}b, byte 16384") == true, "\(lines)")
    #expect(lines.last == "  help: wait until nothing writes to the source")
  }

  /// A journal that another run can resume from is spoken of, and only then.
  @Test func keptWorkIsSpokenOf() async throws {
    let result = try await #require(
      processExitsWith: .exitCode(2), observing: [\.standardErrorContent]
    ) {
      let folder = TemporaryFolder()
      let path = folder.file("a")
      try writeFile(path, [UInt8](repeating: 7, count: 1 << 17), overwrite: false)
      MappedFaults.install()
      let file = try MappedFile(path: path)
      let journal = try Journal(creating: folder.file("j"), header: [:])
      try journal.append([["a": 1]])
      truncate(path, 0)
      print(file.bytes.withUnsafeBytes { $0[0] })
    }
    let lines = text(result.standardErrorContent).split(separator: "\n")
    #expect(lines.suffix(3).first?.hasPrefix("error[SRC_CHANGED]: found 0 bytes") == true, "\(lines)")
    #expect(lines.last?.contains("what is done is kept") == true && lines.last?.contains("--resume") == true)
  }

  /// The file is what it was, and a page of it cannot be read: the disk failed.
  @Test func aPageThatCannotBeReadIsAnErrorOfTheMachine() async throws {
    let result = try await #require(
      processExitsWith: .exitCode(74), observing: [\.standardErrorContent]
    ) {
      let folder = TemporaryFolder()
      let path = folder.file("a")
      try writeFile(path, [UInt8](repeating: 7, count: 100), overwrite: false)
      var status = stat()
      stat(path, &status)
      #if canImport(Darwin)
        let time = status.st_mtimespec
      #else
        let time = status.st_mtim
      #endif
      MappedFaults.install()
      // Pages behind the end of the file stand for pages that the disk does not give.
      let descriptor = open(path, O_RDONLY)
      let size = 1 << 17
      let mapped = try #require(mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0))
      _ = sk_mapping_add(
        mapped, size, path, "the file", 100, Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec),
        UInt64(truncatingIfNeeded: status.st_dev), UInt64(status.st_ino))
      print(mapped.load(fromByteOffset: 1 << 16, as: UInt8.self))
    }
    let lines = text(result.standardErrorContent).split(separator: "\n")
    #expect(
      lines.suffix(2) == [
        "error[io]: cannot read 'the file' at byte 65536: the disk failed",
        "  help: check the disk, or copy the file elsewhere",
      ], "\(lines)")
  }

  /// Addresses of nobody's, and signals that somebody sends, have their usual effect.
  @Test func otherFaultsEndTheProcessAsEver() async {
    await #expect(processExitsWith: .signal(SIGBUS)) {
      MappedFaults.install()
      kill(getpid(), SIGBUS)
      sleep(10)
    }
    await #expect(processExitsWith: .signal(SIGBUS)) {
      let folder = TemporaryFolder()
      let path = folder.file("a")
      try writeFile(path, [UInt8](repeating: 7, count: 1 << 17), overwrite: false)
      // One that was mapped, and is no more, speaks for nobody.
      _ = try MappedFile(path: path).count
      MappedFaults.install()
      let descriptor = open(path, O_RDONLY)
      let mapped = try #require(mmap(nil, 1 << 17, PROT_READ, MAP_PRIVATE, descriptor, 0))
      truncate(path, 0)
      print(mapped.load(as: UInt8.self))
    }
  }

  /// A journal whose first lines find no room is not there; one that finds none for more is what it was.
  @Test func aJournalNeverHoldsHalfOfWhatItWasTold() async {
    await #expect(processExitsWith: .success) {
      let folder = TemporaryFolder()
      let long = JSON(String(repeating: "x", count: 3000))
      do {
        let journal = try Journal(creating: folder.file("j"), header: ["a": 1])
        try journal.append([["b": 2]])
        limitFiles(2000)
        let before = try MappedFile(path: folder.file("j")).count
        #expect(throws: RequestError.self) { try journal.append([["c": long]]) }
        #expect(try MappedFile(path: folder.file("j")).count == before)
        try journal.append([["d": 4]])
      }
      let left = try #require(try Journal.read(folder.file("j")))
      #expect(left.entries.map { $0.text() } == ["{\"b\":2}", "{\"d\":4}"])
      #expect(throws: RequestError.self) {
        _ = try Journal(creating: folder.file("k"), header: ["a": 1], [["c": long]])
      }
      #expect(pathKind(folder.file("k")) == .nothing)
      #expect(try !Journal(creating: folder.file("l"), header: ["a": 1]).hasEntries)
      #expect(try Journal(creating: folder.file("l"), header: ["a": 1], [["b": 2]]).hasEntries)
    }
  }

  @Test func aChangeThatFindsNoRoomLeavesTheFileAsItWas() async {
    await #expect(processExitsWith: .success) {
      let folder = TemporaryFolder()
      let path = folder.file("a")
      let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0) }
      try writeFile(path, bytes, overwrite: false)
      limitFiles(2000)
      let error = #expect(throws: RequestError.self) {
        try patchFile(path, byteCount: 1000, tail: [UInt8](repeating: 1, count: 3000), head: [1, 2, 3])
      }
      #expect(error?.kind == .io && error?.help == "the file is as it was")
      #expect(try MappedFile(path: path).bytes.array == bytes)
      try patchFile(path, byteCount: 1000, tail: [9], head: [1, 2, 3])
      #expect(try MappedFile(path: path).bytes.array == [1, 2, 3] + bytes[3...] + [9])
    }
  }
}
