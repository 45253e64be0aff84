// A calibration that was stopped goes on where it was, and ends with the bytes of one that never stopped.

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

@Suite struct CalibrationResumeTests {
  private func contents(_ shell: Shell, _ name: String) throws -> [UInt8] {
    try MappedFile(path: shell.file(name)).bytes.array
  }

  /// Stops a command once the journal has so many entries; false when it was done before.
  private func stopped(
    _ shell: Shell, _ command: String, _ journal: String, by signal: Int32 = SIGKILL, after entries: Int
  ) throws -> Bool {
    let process = try shell.launch("\(command) --checkpoint-seconds 0")
    var isOver = false
    _ = try shell.wait {
      if try shell.names().contains(where: { ["s", "s.gguf", "x.ingot"].contains($0) }) { isOver = true }
      return try isOver || (Journal.read(shell.file(journal))?.entries.count ?? 0) >= entries
    }
    kill(process, signal)
    _ = try shell.finish(process)
    return try shell.names().contains(journal)
  }

  /// In memory and group by group from a file, for both kinds of statistics.
  @Test(arguments: [("s", ""), ("s.gguf", ""), ("s", " --max-memory 8M")])
  func killedAtAnyMomentItEndsWithTheSameBytes(_ name: String, _ more: String) throws {
    let text = "--text tiny/calibration.txt --tokens-limit 1536"
    let command = "calibrate tiny \(name) \(text)\(more)"
    let whole = Shell()
    #expect(try whole.run("smelt \(command)").exit == 0)
    let expected = try contents(whole, name)
    var resumed = 0
    for entries in [2, 3, 5, 7] {
      let shell = Shell()
      guard try stopped(shell, command, "\(name).journal", after: entries) else { continue }
      let outcome = try shell.run("smelt \(command) --resume --threads \(entries % 2 + 1)")
      #expect(outcome.exit == 0, "\(outcome.stderr)")
      let isEqual = try contents(shell, name) == expected
      #expect(isEqual, "stopped after \(entries) entries")
      #expect(try shell.names() == [name])
      resumed += 1
    }
    #expect(resumed > 0, "no run was stopped in time")
  }

  @Test func anotherCalibrationIsRefused() throws {
    let shell = Shell()
    let command = "calibrate tiny s --text tiny/calibration.txt --tokens-limit 1536"
    guard try stopped(shell, command, "s.journal", by: SIGTERM, after: 3) else { return }
    let left = try shell.names()
    let anew = try shell.run("smelt \(command)")
    #expect(anew.exit == 73 && anew.stderr.contains("--resume"), "\(anew.stderr)")
    for (other, member) in [
      ("calibrate tiny s --text tiny/calibration.txt --tokens-limit 1024", "tokens_xxh64"),
      ("\(command) --policy weight-only", "policy"), ("\(command) --min-tokens 3", "min_tokens"),
      ("calibrate v4 s --text tiny/calibration.txt --tokens-limit 1536", "files"),
    ] {
      let outcome = try shell.run("smelt \(other) --resume")
      #expect(
        outcome.exit == 2 && outcome.stderr.contains("error[RESUME_MISMATCH]: '\(member)' "),
        "\(outcome.stderr)")
    }
    #expect(try shell.names() == left, "a refusal touches nothing")
    // Every file that is gone on with is held against its hash.
    for name in left where name != "s.journal" {
      let sound = try contents(shell, name)
      var damaged = sound
      damaged[damaged.count / 2] ^= 1
      try writeFile(shell.file(name), damaged, overwrite: true)
      let outcome = try shell.run("smelt \(command) --resume")
      #expect(outcome.exit == 2 && outcome.stderr.contains(name), "\(outcome.stderr)")
      try writeFile(shell.file(name), sound, overwrite: true)
    }
    #expect(try shell.run("smelt \(command) --resume").exit == 0)
    #expect(try shell.names() == ["s"])
    let nothing = try shell.run("smelt calibrate tiny t --text tiny/calibration.txt --resume")
    #expect(nothing.exit == 64 && nothing.stderr.contains("nothing to resume"))
  }

  /// `quantize` goes on with whichever half it was stopped in.
  @Test func quantizeGoesOnWithItsCalibration() throws {
    let command =
      "quantize tiny x.ingot --scheme int8-channel --calibration tiny/calibration.txt --tokens-limit 1536 --journal-step 1M"
    let whole = Shell()
    #expect(try whole.run("smelt \(command)").exit == 0)
    let expected = try contents(whole, "x.ingot")
    for (journal, entries) in [("x.ingot.partial-statistics.journal", 3), ("x.ingot.journal", 2)] {
      let shell = Shell()
      guard try stopped(shell, command, journal, after: entries) else { continue }
      let outcome = try shell.run("smelt \(command) --resume")
      #expect(outcome.exit == 0, "\(outcome.stderr)")
      let isEqual = try contents(shell, "x.ingot") == expected
      #expect(isEqual, "\(journal)")
      #expect(try shell.names() == ["x.ingot"])
    }
  }
}
