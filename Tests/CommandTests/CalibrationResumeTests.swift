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

  /// A folder in which a command was stopped before its result was there, in one of five tries.
  private func stopped(
    _ command: String, _ journal: String, by signal: Int32 = SIGKILL, after entries: Int
  ) throws -> Shell {
    var found: Shell?
    for _ in 0..<5 where found == nil {
      let shell = Shell()
      if try stopped(shell, command, journal, by: signal, after: entries), try !shell.names().contains("s") {
        found = shell
      }
    }
    return try #require(found, "no run was stopped in time")
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

  /// Killed when the statistics have their name and the journal is still there, a run has only to remove that; what somebody else put
  /// under the name stays.
  @Test func killedBehindItsResult() throws {
    let command = "calibrate tiny s --text tiny/calibration.txt --tokens-limit 1536"
    let whole = Shell()
    #expect(try whole.run("smelt \(command)").exit == 0)
    let expected = try contents(whole, "s")
    let shell = Shell()
    guard try stopped(shell, command, "s.journal", after: 3), try !shell.names().contains("s") else { return }
    try shell.write("s", "mine")
    let foreign = try shell.run("smelt \(command) --resume")
    #expect(foreign.exit == 73 && foreign.stderr.contains("'s' exists"), "\(foreign)")
    #expect(try contents(shell, "s") == Array("mine".utf8))
    putFile(shell.file("s"), expected)
    let outcome = try shell.run("smelt \(command) --resume")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    #expect(try shell.names() == ["s"])
    let isSame = try contents(shell, "s") == expected
    #expect(isSame)
    let done = try shell.run("smelt \(command) --resume")
    #expect(done.exit == 73 && done.stderr.contains("exists"), "\(done)")
  }

  @Test func anotherCalibrationIsRefused() throws {
    let command = "calibrate tiny s --text tiny/calibration.txt --tokens-limit 1536"
    let shell = try stopped(command, "s.journal", by: SIGTERM, after: 3)
    let left = try shell.names()
    let anew = try shell.run("smelt \(command)")
    #expect(anew.exit == 73 && anew.stderr.contains("--resume"), "\(anew.stderr)")
    for (other, member) in [
      ("calibrate tiny s --text tiny/calibration.txt --tokens-limit 1024", "tokens_xxh64"),
      ("\(command) --policy weight-only", "policy"), ("\(command) --min-tokens 3", "min_tokens"),
      ("calibrate v4 s --bytes --text tiny/calibration.txt --tokens-limit 1536", "files"),
    ] {
      let outcome = try shell.run("smelt \(other) --resume")
      #expect(
        outcome.exit == 2 && outcome.stderr.contains("error[RESUME_MISMATCH]: '\(member)"),
        "\(outcome.stderr)")
    }
    #expect(try shell.names() == left, "a refusal touches nothing")
    // Every file that is resumed is held against its hash.
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

  /// A journal whose every checksum is right may lie all the same: it is refused, and nothing traps.
  @Test func aJournalThatLiesIsRefused() throws {
    let command = "calibrate tiny s --text tiny/calibration.txt --tokens-limit 1536"
    let shell = try stopped(command, "s.journal", after: 4)
    let path = shell.file("s.journal")
    let journal = try #require(try Journal.read(path))
    let sound = try contents(shell, "s.journal")
    func identity(_ name: String) throws -> JSON {
      let bytes = try contents(shell, name)
      let digits = String(bytes.withUnsafeBytes { xxh64($0) }, radix: 16)
      return [
        "bytes": JSON(bytes.count),
        "xxh64": JSON(String(repeating: "0", count: 16 - digits.count) + digits),
      ]
    }
    func refused(_ entries: [JSON], _ what: String) throws {
      do {
        let lie = try Journal(creating: path, header: journal.header)
        try lie.append(entries)
      }
      let outcome = try shell.run("smelt \(command) --resume")
      #expect(outcome.exit == 2 && outcome.stderr.contains("RESUME_MISMATCH"), "\(what): \(outcome.stderr)")
    }
    for added: JSON in [[-1], [1_000_000], [0, 0], ["x"]] {
      try refused([["added": added]] + journal.entries.dropFirst(), "windows \(added.text())")
    }
    try refused(Array(journal.entries.dropFirst()), "no windows")
    let first = try contents(shell, "s.partial-layers-0-0")
    let later = try contents(shell, "s.partial-layers-1-1")
    try writeFile(shell.file("s.partial-layers-0-0"), later, overwrite: true)
    var entries = journal.entries
    let activations = try #require(entries[1]["activations"])
    entries[1] = [
      "layers": 1, "statistics": try identity("s.partial-layers-0-0"), "activations": activations,
    ]
    try refused(entries, "another layer's statistics")
    try writeFile(shell.file("s.partial-layers-0-0"), first, overwrite: true)
    entries = journal.entries
    let last = try #require(entries.last)
    let (layers, statistics) = (try #require(last["layers"]), try #require(last["statistics"]))
    let name = "s.partial-activations-\(layers.text())"
    let whole = try contents(shell, name)
    try writeFile(shell.file(name), Array(whole.dropLast(4)), overwrite: true)
    entries[entries.count - 1] = [
      "layers": layers, "statistics": statistics, "activations": try identity(name),
    ]
    try refused(entries, "fewer activations")
    try writeFile(shell.file(name), whole, overwrite: true)
    try writeFile(path, sound, overwrite: true)
    // What only looks like ours stays.
    try writeFile(shell.file("s.partial-notes"), [1], overwrite: false)
    #expect(try shell.run("smelt \(command) --resume").exit == 0)
    #expect(try shell.names() == ["s", "s.partial-notes"])
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
