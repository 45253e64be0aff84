// A source that is cut short while a command reads it: an error with a code, whatever the verb, and what was done before is kept.

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

@Suite struct SourceFaultTests {
  /// A folder `src` with a model of its own, and `kept`, a copy with its times.
  private func shell() throws -> Shell {
    let shell = Shell()
    #expect(
      try shell.run(
        "mkdir src; cp -p tiny/*.json tiny/evaluation.txt src/; cp -p tiny/model.safetensors src/; "
          + "cp -p src/model.safetensors kept"
      ).exit == 0)
    return shell
  }

  /// Stops the process, cuts the source, and lets it go on.
  private func cut(_ shell: Shell, _ process: pid_t) {
    kill(process, SIGSTOP)
    truncate(shell.file("src/model.safetensors"), 4096)
    kill(process, SIGCONT)
  }

  @Test func whatIsDoneIsKept() throws {
    let shell = try shell()
    let command = "convert src x.ingot --scheme int8-channel --journal-step 1M --threads 1"
    let process = try shell.launch(command)
    #expect(
      try shell.wait {
        try shell.names().contains("x.ingot")
          || (Journal.read(shell.file("x.ingot.journal"))?.entries.count ?? 0) >= 1
      })
    cut(shell, process)
    let outcome = try shell.finish(process)
    guard try !shell.names().contains("x.ingot") else { return }  // it was done before
    #expect(outcome.exit == 2 && outcome.stdout == "", "\(outcome.stderr)")
    let lines = outcome.stderr.split(separator: "\n")
    #expect(
      lines.first == "error[SRC_CHANGED]: found 4096 bytes, expected 25732524 with the time of the start")
    #expect(lines.count == 3 && lines[1].hasPrefix("  in src/model.safetensors, byte "), "\(outcome.stderr)")
    #expect(lines.last?.contains("--resume") == true)
    #expect(try shell.names().contains("x.ingot.journal") && shell.names().contains("x.ingot.partial"))
    let changed = try shell.run("smelt \(command) --resume")
    #expect(changed.exit == 2, "\(changed.stderr)")
    let resumed = try shell.run("cp -p kept src/model.safetensors; smelt \(command) --resume")
    #expect(resumed.exit == 0, "\(resumed.stderr)")
    #expect(
      try shell.run("smelt convert src y.ingot --scheme int8-channel >&2; cmp x.ingot y.ingot").exit == 0)
  }

  @Test(arguments: [
    "convert src o", "convert src o.gguf", "convert src o.ingot --compression small", "check src",
    "evaluate src --text src/evaluation.txt --tokens-limit 2048",
    "calibrate src o --text src/evaluation.txt --tokens-limit 2048",
    "diff src tiny", "verify src tiny --text src/evaluation.txt --tokens-limit 1024",
  ])
  func everyVerbSaysSo(command: String) throws {
    let shell = try shell()
    let process = try shell.launch(command)
    usleep(120_000)
    cut(shell, process)
    let outcome = try shell.finish(process)
    // A small machine may be stopped before it opened the file, or after it was done with it.
    #expect(outcome.exit == 2 || outcome.exit == 0, "\(outcome.exit): \(outcome.stderr)")
    if outcome.exit == 2 {
      #expect(
        outcome.stderr.hasPrefix("error[") && outcome.stderr.contains("src/model.safetensors"),
        "\(outcome.stderr)")
      #expect(!outcome.stderr.contains("--resume"), "\(outcome.stderr)")
      #expect(try !shell.names().contains { ["o", "o.gguf", "o.ingot"].contains($0) })
    }
  }
}
