// Directories and GGUF files go on where a run was stopped, and end with the bytes of one that never stopped.

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

/// A conversion to plain files, and what it makes undisturbed.
private struct Conversion: Sendable {
  let result: String
  let command: String
  private let limits: String

  init(_ result: String, _ limits: String, scheme: String = "int8-channel") {
    self.result = result
    self.limits = limits
    command =
      "convert tiny \(result)\(result == "x" ? "/" : "") --scheme \(scheme) --journal-step 1M\(limits)"
  }

  static let all = [
    Conversion("x", ""), Conversion("x", " --max-shard-size 2M"), Conversion("x.gguf", "", scheme: "q8_0"),
    Conversion("x.gguf", " --split-max-size 2M", scheme: "q8_0"),
  ]

  var journal: String { "\(result).journal" }

  /// Every file of a result, by its name.
  static func contents(_ shell: Shell) throws -> [String: [UInt8]] {
    var found: [String: [UInt8]] = [:]
    func walk(_ folder: String) throws {
      for name in try namesInFolder(shell.file(folder)) {
        let path = folder.isEmpty ? name : "\(folder)/\(name)"
        if folder.isEmpty, !(try shell.names().contains(name)) { continue }
        if pathKind(shell.file(path)) == .directory {
          try walk(path)
        } else {
          found[path] = try MappedFile(path: shell.file(path)).bytes.array
        }
      }
    }
    try walk("")
    return found
  }

  func whole() throws -> [String: [UInt8]] {
    let shell = Shell()
    let outcome = try shell.run("smelt \(command)")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    return try Conversion.contents(shell)
  }

  /// Expects these files and no others.
  func expect(_ files: [String: [UInt8]], _ shell: Shell, sourceLocation: SourceLocation = #_sourceLocation)
    throws
  {
    let found = try Conversion.contents(shell)
    #expect(found.keys.sorted() == files.keys.sorted(), sourceLocation: sourceLocation)
    for (name, bytes) in files {
      let isEqual = found[name] == bytes
      #expect(isEqual, "\(command): \(name)", sourceLocation: sourceLocation)
    }
  }

  func entries(_ shell: Shell) throws -> [JSON] { try Journal.read(shell.file(journal))?.entries ?? [] }

  /// Stops the conversion once its journal has grown to so many entries.
  /// - Returns: false when it was done before.
  func stopped(_ shell: Shell, by signal: Int32, after entries: Int) throws -> Bool {
    let process = try shell.launch("\(command) --threads 1")
    let isThere = try shell.wait {
      if try shell.names().contains(where: { [result, "x-00001-of-00005.gguf"].contains($0) }) {
        return true
      }
      return try self.entries(shell).count >= entries
    }
    #expect(isThere)
    kill(process, signal)
    _ = try shell.finish(process)
    return try shell.names().contains(journal)
  }

  /// A folder in which the conversion was stopped, in one of five tries.
  /// - Parameter fits: whether what it left is what a test is about.
  func stopped(by signal: Int32, after entries: Int, _ fits: (Shell) throws -> Bool = { _ in true }) throws
    -> Shell
  {
    var found: Shell?
    for _ in 0..<5 where found == nil {
      let shell = Shell()
      if try stopped(shell, by: signal, after: entries), try fits(shell) { found = shell }
    }
    return try #require(found, "no run was stopped in time: \(command)")
  }
}

@Suite struct FileResumeTests {
  @Test(arguments: Conversion.all.indices) func killedAtAnyMomentItEndsWithTheSameBytes(kind: Int) throws {
    let conversion = Conversion.all[kind]
    let expected = try conversion.whole()
    var resumed = 0
    for entries in [1, 2, 3, 5] {
      let shell = Shell()
      guard try conversion.stopped(shell, by: SIGKILL, after: entries) else { continue }
      let outcome = try shell.run("smelt \(conversion.command) --resume --threads \(entries % 2 + 1)")
      #expect(outcome.exit == 0, "\(outcome.stderr)")
      let isEqual = try Conversion.contents(shell) == expected
      #expect(isEqual, "\(conversion.command) after \(entries) entries")
      resumed += 1
    }
    #expect(resumed > 0, "no run was stopped in time")
  }

  @Test(arguments: Conversion.all.indices) func aSignalOffersToGoOnAndOthersAreRefused(kind: Int) throws {
    let conversion = Conversion.all[kind]
    let shell = try conversion.stopped(by: SIGTERM, after: 2)
    let left = try Conversion.contents(shell)
    #expect(left.keys.contains(conversion.journal))
    #expect(left.keys.contains { $0.contains(".partial") }, "\(left.keys.sorted())")
    #expect(
      !left.keys.contains { $0.contains(".partial-") || $0.hasSuffix(".lock") }, "\(left.keys.sorted())")
    let anew = try shell.run("smelt \(conversion.command)")
    #expect(anew.exit == 73 && anew.stderr.contains("--resume"), "\(anew.stderr)")
    let other = try shell.run(
      "smelt convert tiny \(conversion.result) --scheme bf16 --journal-step 1M --resume")
    #expect(other.exit == 2 && other.stderr.hasPrefix("error[RESUME_MISMATCH]: '"), "\(other.stderr)")
    let foreign = "\(shell.file(conversion.result)).partial/notes.txt"
    if conversion.result == "x" {
      putFile(foreign, [1])
      let outcome = try shell.run("smelt \(conversion.command) --resume")
      #expect(outcome.exit == 73 && outcome.stderr.contains("notes.txt"), "\(outcome.stderr)")
      removeFile(foreign)
    }
    let same = try Conversion.contents(shell) == left
    #expect(same, "a refusal touches nothing")
    let (name, bytes) = try #require(left.first { $0.key.hasSuffix(".partial") })
    var damaged = bytes
    damaged[4200] ^= 1
    putFile(shell.file(name), damaged)
    let outcome = try shell.run("smelt \(conversion.command) --resume")
    #expect(outcome.exit == 2 && outcome.stderr.hasPrefix("error[RESUME_MISMATCH]: "), "\(outcome.stderr)")
    let over = try shell.run("smelt \(conversion.command) --overwrite")
    #expect(over.exit == 0, "\(over.stderr)")
    let isEqual = try Conversion.contents(shell) == conversion.whole()
    #expect(isEqual)
    let nothing = try shell.run("smelt convert tiny y.gguf --resume")
    #expect(nothing.exit == 64 && nothing.stderr.contains("nothing to resume"))
  }

  /// Stopped after everything was written, before or while the files got their names.
  @Test(arguments: Conversion.all.indices) func whatIsWholeOnlyGetsItsName(kind: Int) throws {
    let conversion = Conversion.all[kind]
    let expected = try conversion.whole()
    let shell = try conversion.stopped(by: SIGKILL, after: 1)
    // A second name of the journal shows it as it was just before the result got its name, which is when the first is removed.
    let aside = TemporaryFolder()
    #expect(link(shell.file(conversion.journal), aside.file("journal")) == 0)
    let resumed = try shell.run("smelt \(conversion.command) --resume --threads 1")
    #expect(resumed.exit == 0, "\(resumed.stderr)")
    let journal = try #require(try Journal.read(aside.file("journal")))
    #expect(journal.entries.last?["finished"] != nil)
    do {
      _ = try Journal(
        creating: shell.file(conversion.journal), header: journal.header, journal.entries)
    }
    // Files of several are named from the last to the first; a folder has its name at once.
    let names = try shell.names().filter { $0.hasSuffix(".gguf") || $0 == "x" }.sorted()
    for name in names.prefix(2) { rename(shell.file(name), shell.file(name) + ".partial") }
    let outcome = try shell.run("smelt \(conversion.command) --resume")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    try conversion.expect(expected, shell)
    do {
      _ = try Journal(
        creating: shell.file(conversion.journal), header: journal.header, journal.entries)
    }
    let again = try shell.run("smelt \(conversion.command) --resume")
    #expect(again.exit == 0, "\(again.stderr)")
    try conversion.expect(expected, shell)
  }

  /// Where nothing was left and the result is there, a method's passes are not begun.
  @Test func aFinishedResultIsNotPreparedAgain() throws {
    let shell = Shell()
    let line =
      "smelt quantize tiny q.ingot --scheme int4-group:32 --method gptq --calibration tiny/calibration.txt --tokens-limit 256 --quiet"
    #expect(try shell.run(line).exit == 0)
    let outcome = try shell.run(line + " --resume")
    #expect(outcome.exit == 73 && outcome.stderr.contains("'q.ingot' exists"), "\(outcome.stderr)")
    #expect(try shell.names() == ["q.ingot"])
  }

  /// A journal that was changed, every checksum made right.
  @Test(arguments: Conversion.all.indices) func aJournalThatLiesIsRefused(kind: Int) throws {
    let conversion = Conversion.all[kind]
    let shell = try conversion.stopped(by: SIGTERM, after: 3) {
      try conversion.entries($0).last?["finished"] == nil
    }
    // Known once a run has believed the journal's places and taken away what it does not speak of: a file begun behind its last
    // entry. Whether there is one depends on the moment of the stop.
    var left: [String: [UInt8]] = [:]
    let journal = try #require(try Journal.read(shell.file(conversion.journal)))
    let entries = journal.entries
    let last = entries.count - 1
    func changed(_ key: String, _ value: JSON) -> [JSON] {
      Array(entries.dropLast()) + [entries[last].with(key, value)]
    }
    func refused(_ entries: [JSON], _ what: String) throws {
      do { _ = try Journal(creating: shell.file(conversion.journal), header: journal.header, entries) }
      let outcome = try shell.run("smelt \(conversion.command) --resume")
      #expect(
        outcome.exit == 2 && outcome.stderr.hasPrefix("error[RESUME_MISMATCH]: "), "\(what): \(outcome)")
      for (name, bytes) in left where name != conversion.journal {
        let isEqual = try MappedFile(path: shell.file(name)).bytes.array == bytes
        #expect(isEqual, "\(what) changed \(name)")
      }
    }
    let position = entries[last]["position"]?.integer ?? 0
    let file = entries[last]["file"]?.integer ?? 0
    try refused(changed("sum", JSON("0123456789abcdef")), "another sum")
    left = try Conversion.contents(shell)
    try refused(changed("position", JSON(position - 64)), "another position")
    try refused(changed("position", JSON(Int.max)), "a position beyond the file")
    try refused(changed("file", JSON(file + 1)), "another file")
    try refused(changed("file", JSON(-1)), "no file")
    try refused(changed("done", JSON([])), "nothing done")
    try refused(changed("done", JSON(.null)), "no list")
    try refused([entries[0]] + entries, "an entry twice")
    try refused(Array(entries.dropFirst()), "an entry left out")
    try refused(entries + [["finished": 1, "identity": ""]], "whole files that are not")
    let done = try #require(entries[last]["done"]?.array)
    for number in [-1, Int.max] {
      try refused(
        changed("done", JSON([done[0].with("inexact_values", JSON(number))] + done.dropFirst())), "\(number)")
    }
    try refused(
      changed("done", JSON([done[0].with("source_xxh64", "0123456789abcdef")] + done.dropFirst())),
      "another source")
    do { _ = try Journal(creating: shell.file(conversion.journal), header: journal.header, entries) }
    let outcome = try shell.run("smelt \(conversion.command) --resume")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    let isEqual = try Conversion.contents(shell) == conversion.whole()
    #expect(isEqual)
  }
}
