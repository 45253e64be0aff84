// A conversion that was stopped goes on where it was, and ends with the bytes of one that never stopped.

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

@Suite struct ResumeTests {
  private let command = "convert tiny x.ingot --scheme int8-channel --journal-step 1M"

  private func contents(_ shell: Shell, _ name: String) throws -> [UInt8] {
    try MappedFile(path: shell.file(name)).bytes.array
  }

  /// Stops the conversion once its journal has grown to so many entries; false when it was done before.
  private func stopped(_ shell: Shell, by signal: Int32, after entries: Int, _ more: String = "") throws
    -> Bool
  {
    let process = try shell.launch(command + more)
    let isThere = try shell.wait {
      if try shell.names().contains(where: { $0.hasPrefix("x") && $0.hasSuffix(".ingot") }) { return true }
      let journal = try Journal.read(shell.file("x.ingot.journal"))
      return (journal?.entries.count ?? 0) >= entries
    }
    #expect(isThere)
    kill(process, signal)
    _ = try shell.finish(process)
    return try shell.names().contains("x.ingot.journal")
  }

  @Test func killedAtAnyMomentItEndsWithTheSameBytes() throws {
    let whole = Shell()
    #expect(try whole.run("smelt convert tiny x.ingot --scheme int8-channel").exit == 0)
    let expected = try contents(whole, "x.ingot")
    var resumed = 0
    for entries in [1, 2, 4, 7, 10] {
      let shell = Shell()
      guard try stopped(shell, by: SIGKILL, after: entries) else { continue }
      let outcome = try shell.run("smelt \(command) --resume --threads \(entries % 2 + 1)")
      #expect(outcome.exit == 0, "\(outcome.stderr)")
      #expect(try contents(shell, "x.ingot") == expected, "stopped after \(entries) entries")
      #expect(try shell.names() == ["x.ingot"])
      resumed += 1
    }
    #expect(resumed > 0, "no run was stopped in time")
  }

  /// Stopped between giving the ingot its name and removing the journal: nothing is left to do but that.
  @Test func aFinishedRunIsResumedByTidyingUp() throws {
    let shell = Shell()
    let process = try shell.launch(command)
    #expect(try shell.wait { (try Journal.read(shell.file("x.ingot.journal"))?.entries.count ?? 0) >= 1 })
    kill(process, SIGKILL)
    _ = try shell.finish(process)
    let journal = try #require(try Journal.read(shell.file("x.ingot.journal")))
    #expect(try shell.run("smelt \(command) --resume").exit == 0)
    let expected = try contents(shell, "x.ingot")
    let index = expected[16..<24].reversed().reduce(0) { $0 << 8 | Int($1) }
    do {
      _ = try Journal(
        creating: shell.file("x.ingot.journal"), header: journal.header,
        journal.entries + [
          ["finished": 1, "identity": JSON(hexadecimal(expected[index + 112..<index + 128]))]
        ])
    }
    let other = try shell.run("smelt convert tiny x.ingot --scheme fp8-channel --resume")
    #expect(other.exit == 2 && other.stderr.contains("RESUME_MISMATCH"), "\(other.stderr)")
    let outcome = try shell.run("smelt \(command) --resume")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    #expect(try shell.names() == ["x.ingot"])
    #expect(try contents(shell, "x.ingot") == expected)
  }

  /// In several files as in one: the parts that were whole, and the one that was not.
  @Test func partsGoOnToo() throws {
    let limit = " --max-part-size 2M"
    let whole = Shell()
    #expect(try whole.run("smelt convert tiny x.ingot --scheme int8-channel\(limit)").exit == 0)
    let names = try whole.names()
    #expect(names.count > 3 && names.allSatisfy { $0.hasPrefix("x-0000") })
    let expected = try names.map { try contents(whole, $0) }
    var resumed = 0
    for entries in [1, 3, 6, 9] {
      let shell = Shell()
      guard try stopped(shell, by: SIGKILL, after: entries, limit) else { continue }
      let other = try shell.run("smelt \(command) --resume --max-part-size 3M")
      #expect(other.exit == 2 && other.stderr.contains("max_part_bytes"), "\(other.stderr)")
      let outcome = try shell.run("smelt \(command)\(limit) --resume")
      #expect(outcome.exit == 0, "\(outcome.stderr)")
      #expect(try shell.names() == names)
      #expect(try names.map { try contents(shell, $0) } == expected, "stopped after \(entries) entries")
      resumed += 1
    }
    #expect(resumed > 0, "no run was stopped in time")
    let again = try whole.run("smelt convert tiny x.ingot\(limit)")
    #expect(again.exit == 73 && again.stderr.contains(names[0]), "\(again.stderr)")
  }

  @Test func aSignalOffersToGoOnAndOthersAreRefused() throws {
    let shell = Shell()
    guard try stopped(shell, by: SIGTERM, after: 1) else { return }
    #expect(try shell.names() == ["x.ingot.journal", "x.ingot.partial"])
    let anew = try shell.run("smelt \(command)")
    #expect(anew.exit == 73 && anew.stderr.contains("--resume"))
    let other = try shell.run("smelt convert tiny x.ingot --scheme fp8-channel --resume")
    #expect(other.exit == 2 && other.stderr.hasPrefix("error[RESUME_MISMATCH]: 'origin."), "\(other.stderr)")
    #expect(try shell.names() == ["x.ingot.journal", "x.ingot.partial"], "a refusal touches nothing")
    var damaged = try contents(shell, "x.ingot.partial")
    damaged[4200] ^= 1
    try writeFile(shell.file("x.ingot.partial"), damaged, overwrite: true)
    let outcome = try shell.run("smelt \(command) --resume")
    #expect(outcome.exit == 2 && outcome.stderr.hasPrefix("error[C_CHECKSUM]: "), "\(outcome.stderr)")
    let nothing = try shell.run("smelt convert tiny y.ingot --resume")
    #expect(nothing.exit == 64 && nothing.stderr.contains("nothing to resume"))
  }
}
