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
  private func stopped(_ shell: Shell, by signal: Int32, after entries: Int) throws -> Bool {
    let process = try shell.launch(command)
    let isThere = try shell.wait {
      if try shell.names().contains("x.ingot") { return true }
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

  @Test func aSignalOffersToGoOnAndOthersAreRefused() throws {
    let shell = Shell()
    guard try stopped(shell, by: SIGTERM, after: 1) else { return }
    #expect(try shell.names() == ["x.ingot.journal", "x.ingot.partial"])
    let anew = try shell.run("smelt \(command)")
    #expect(anew.exit == 73 && anew.stderr.contains("--resume"))
    let other = try shell.run("smelt convert tiny x.ingot --scheme fp8-channel --resume")
    #expect(other.exit == 2 && other.stderr.hasPrefix("error[RESUME_MISMATCH]: 'origin' "), "\(other.stderr)")
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
