// Two runs and one result: the second one fails at once and says who is at work; what a killed one left is in nobody's way.
// Formats/manifest.md, section 4.

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

@Suite struct TwoRunsTests {
  /// Starts a command and stops it in the middle; nil when it was done before.
  private func stopped(_ shell: Shell, _ command: String, _ signal: Int32 = SIGSTOP) throws -> pid_t? {
    let process = try shell.launch(command)
    // Done before it could be stopped, it leaves no lock.
    _ = try shell.wait { try shell.names().contains { !$0.hasSuffix(".lock") } }
    kill(process, signal)
    return try shell.names().contains { $0.contains(".partial") } ? process : nil
  }

  @Test(arguments: [
    ("convert tiny o.ingot --compression small", "o.ingot"),
    ("convert tiny o.ingot --compression small --journal-step 256K", "o.ingot"),
    ("convert tiny o.ingot --max-part-size 2M --compression small", "o.ingot"),
    ("convert tiny o --scheme int8", "o/"),
    ("convert tiny o.gguf --split-max-size 2M --scheme q4_k", "o.gguf"),
    ("calibrate tiny s --text tiny/calibration.txt", "s"),
    ("quantize tiny q.ingot --scheme int8 --calibration tiny/calibration.txt", "q.ingot"),
  ])
  func theSecondFailsAtOnceAndSaysWhoIsAtWork(command: String, result: String) throws {
    let shell = Shell()
    guard let process = try stopped(shell, command) else { return }
    let before = try shell.names()
    let verb = command.prefix { $0 != " " }
    for more in ["", " --overwrite", " --resume", " --resume --overwrite"] {
      let second = Shell(in: shell)
      let outcome = try second.run("smelt \(command)\(more)")
      let isNoResume = more.contains("resume") && outcome.exit == 64
      #expect(outcome.exit == 73 || isNoResume, "\(more): \(outcome.stderr)")
      #expect(
        isNoResume
          || outcome.stderr.contains("is being written by another run: smelt \(verb), process \(process) on "),
        "\(more): \(outcome.stderr)")
      #expect(!outcome.stderr.contains("was left by"), "a live journal is nobody's leftover")
    }
    #expect(try shell.names() == before)
    kill(process, SIGCONT)
    let first = try shell.finish(process)
    #expect(first.exit == 0, "\(first.stderr)")
    #expect(
      try shell.names().allSatisfy {
        !$0.contains("partial") && !$0.contains("lock") && !$0.contains("journal")
      })
  }

  /// Killed anywhere: the next run names what it removes, and only that is gone.
  @Test(arguments: [
    ("convert tiny o --scheme int8", ["o"]), ("convert tiny o.gguf --scheme q4_k", ["o.gguf"]),
    ("convert tiny o.ingot --compression small", ["o.ingot"]),
  ])
  func whatAKilledRunLeftIsRemovedByName(command: String, names: [String]) throws {
    let shell = Shell()
    guard let process = try stopped(shell, command, SIGKILL) else { return }
    #expect(try shell.finish(process).exit == 128 + SIGKILL)
    #expect(try shell.names().contains { $0.hasSuffix(".lock") })
    try shell.write("\(names[0]).partial-notes", "mine")
    let outcome = try shell.run("smelt \(command)")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    #expect(outcome.stderr.contains("which a run that was stopped left, is removed"), "\(outcome.stderr)")
    #expect(try shell.names() == names + ["\(names[0]).partial-notes"])
  }

  /// Somebody else's files under the names that a run takes for itself are refused by name and stay.
  @Test(arguments: [
    ("o.ingot.lock", "convert tiny o.ingot"), ("o.ingot.journal", "convert tiny o.ingot"),
    ("o.ingot.partial", "convert tiny o.ingot"), ("o.lock", "convert tiny o"),
    ("q.ingot.partial-statistics", "quantize tiny q.ingot --scheme int8 --calibration tiny/calibration.txt"),
    (
      "q.ingot.partial-statistics.journal",
      "quantize tiny q.ingot --scheme int8 --calibration tiny/calibration.txt"
    ),
    ("s.journal", "calibrate tiny s --text tiny/calibration.txt"),
    ("s.partial-layers-0-0", "calibrate tiny s --text tiny/calibration.txt"),
    ("s.partial-activations-1", "calibrate tiny s --text tiny/calibration.txt"),
  ])
  func namesThatARunTakesForItselfAreNotTakenFromOthers(name: String, command: String) throws {
    let shell = Shell()
    try shell.write(name, "mine\n")
    for more in ["", " --overwrite"] {
      let outcome = try shell.run("smelt \(command)\(more)")
      #expect(outcome.exit == 73 && outcome.stderr.contains("'\(name)'"), "\(outcome.stderr)")
    }
    #expect(try shell.names() == [name])
    #expect(try MappedFile(path: shell.file(name)).bytes.array == Array("mine\n".utf8))
  }

  @Test(arguments: [
    "calibrate tiny s --text tiny/calibration.txt --report s",
    "calibrate tiny s --text tiny/calibration.txt --report s.journal",
    "quantize tiny q.ingot --scheme int8 --calibration tiny/calibration.txt --report q.ingot.partial-statistics",
    "quantize tiny q.ingot --target-size 20M --calibration tiny/calibration.txt --save-recipe q.ingot",
    "verify tiny tiny --text tiny/evaluation.txt --json r --html r",
  ])
  func outputsOfOneCommandHaveNamesOfTheirOwn(command: String) throws {
    let shell = Shell()
    let outcome = try shell.run("smelt \(command)")
    #expect(outcome.exit == 64, "\(outcome.stderr)")
    #expect(try shell.names() == [])
  }
}
