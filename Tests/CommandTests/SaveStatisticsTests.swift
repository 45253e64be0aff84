// `quantize --save-statistics`: the statistics of one run serve the next scheme.

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

@Suite struct SaveStatisticsTests {
  private let text = "tiny/calibration.txt --tokens-limit 1536"

  private func contents(_ shell: Shell, _ name: String) throws -> [UInt8] {
    try MappedFile(path: shell.file(name)).bytes.array
  }

  /// The bytes that `calibrate` writes, and from them the result that a calibration of its own gives.
  @Test(arguments: ["", " --max-memory 8M", " --policy peer-max --min-tokens 200", " --samples 4 --seed 3"])
  func theyAreThoseOfCalibrate(_ more: String) throws {
    let shell = Shell()
    let outcome = try shell.run(
      """
      smelt quantize tiny a.ingot int8 --calibration \(text)\(more) --save-statistics s --json >&2
      smelt calibrate tiny c --text \(text)\(more) -q && cmp s c
      smelt quantize tiny b.gguf q4_k_m --calibration \(text)\(more) && smelt quantize tiny d.gguf q4_k_m --statistics s
      cmp b.gguf d.gguf
      """)
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    #expect(try JSON.scan(outcome.stderr)["calibration"]?["path"]?.string == "s")
    #expect(try shell.names() == ["a.ingot", "b.gguf", "c", "d.gguf", "s"])
  }

  /// Nothing that lies there is replaced unasked, and what cannot be is said before the passes.
  @Test func whatLiesThereStays() throws {
    let shell = Shell()
    let command = "smelt quantize tiny a.ingot int8 --calibration \(text) --save-statistics"
    try shell.write("s", "mine")
    for (line, exit, problem) in [
      ("\(command) s", 73, "'s' exists"), ("\(command) s -f", 73, "'s' is not replaced"),
      ("\(command) s --resume", 73, "'s' is not replaced"), ("\(command) a.ingot", 64, "'a.ingot'"),
      ("\(command) x.gguf", 64, "--save-statistics 'x.gguf'"),
      ("\(command) no/s", 73, "cannot create 'no/s'"),
      ("\(command) tiny/calibration.txt", 2, "'tiny/calibration.txt'"),
      ("\(command) .", 73, "'.' is not a name"),
    ] {
      let outcome = try shell.run(line)
      #expect(
        outcome.exit == exit && outcome.stderr.contains(problem), "\(line): \(outcome.exit) \(outcome.stderr)"
      )
    }
    #expect(try shell.names() == ["s"] && contents(shell, "s") == Array("mine".utf8))
    let again = try shell.run(
      "rm s; \(command) s && cp s t && smelt quantize tiny b.ingot int8 --calibration \(text) --save-statistics s -f && cmp s t"
    )
    #expect(again.exit == 0, "\(again.stderr)")
  }

  /// Stopped while it calibrates or while it converts, a run that goes on leaves the same statistics and the same result.
  @Test(arguments: ["a.ingot.partial-statistics.journal", "s"])
  func aRunThatGoesOnKeepsThem(until file: String) throws {
    let command =
      "quantize tiny a.ingot int8 --calibration \(text) --save-statistics s --checkpoint-seconds 0 --journal-step 64K"
    let whole = Shell()
    #expect(try whole.run("smelt \(command)").exit == 0)
    let shell = Shell()
    let process = try shell.launch(command)
    // A journal is one to resume from once it has an entry.
    _ = try shell.wait {
      guard try shell.names().contains(file) else { return try shell.names().contains("a.ingot") }
      return try !file.hasSuffix(".journal") || !(Journal.read(shell.file(file))?.entries.isEmpty ?? true)
    }
    kill(process, SIGKILL)
    _ = try shell.finish(process)
    let isOver = try shell.names().contains("a.ingot")
    if !isOver {
      let outcome = try shell.run("smelt \(command) --resume")
      #expect(outcome.exit == 0, "\(outcome.stderr)")
    }
    for name in ["s", "a.ingot"] { #expect(try contents(shell, name) == contents(whole, name), "\(name)") }
    #expect(try shell.names() == ["a.ingot", "s"])
  }
}
