// What is left when the work is stopped, by a person or by the machine: nothing under the final name, and nothing beside it
// where the program had a say.

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

@Suite struct InterruptionTests {
  /// Starts a command and waits until it has begun to write.
  private func launched(_ command: String, in shell: Shell) throws -> pid_t {
    let process = try shell.launch(command)
    #expect(try shell.wait { try shell.names().contains { $0.contains(".partial-") } })
    return process
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGHUP]) func aSignalLeavesNothing(signal: Int32) throws {
    let shell = Shell()
    let process = try launched("calibrate tiny s.safetensors --text tiny/calibration.txt", in: shell)
    kill(process, signal)
    let outcome = try shell.finish(process)
    #expect(outcome.exit == 75)
    #expect(outcome.stdout == "")
    #expect(
      outcome.stderr == """
        error[interrupted]: stopped by a signal; no result was written
          help: start the command again

        """)
    #expect(try shell.names() == [])
  }

  /// Activations that wait in a file have no name there.
  @Test func aSignalLeavesNoActivations() throws {
    let shell = Shell()
    let process = try launched(
      "calibrate tiny s.safetensors --text tiny/calibration.txt --max-memory 1M", in: shell)
    // The lock, the statistics under way, what is kept of a calibration: all by the result's name.
    #expect(try shell.names().allSatisfy { $0.hasPrefix("s.safetensors.") })
    kill(process, SIGINT)
    #expect(try shell.finish(process).exit == 75)
    #expect(try shell.names() == [])
  }

  @Test func quantizeLeavesNoStatistics() throws {
    let shell = Shell()
    let process = try launched(
      "quantize tiny q.ingot --scheme int8 --calibration tiny/calibration.txt", in: shell)
    kill(process, SIGINT)
    #expect(try shell.finish(process).exit == 75)
    #expect(try shell.names() == [])
  }

  /// A method keeps what it chose in files beside the result, one for each layer; activations that wait in a file have no name. Stopped
  /// within its first layer it leaves nothing; later, what `--resume` goes on with and ends as a run that was never stopped.
  @Test(arguments: [
    "q.ingot --scheme int4-group:32 --method gptq", "q.gguf --scheme q4_0 --method gptq --inputs result",
    "q --scheme int8 --method gptq --max-memory 2M", "q --scheme int4-group:32 --method awq",
    "q.ingot --scheme int8 --method rtn --distill 20",
  ])
  func aMethodLeavesNothing(words: String) throws {
    let shell = Shell()
    let line = "quantize tiny \(words) --calibration tiny/calibration.txt --tokens-limit 1024"
    let process = try shell.launch(line)
    // awq looks at all layers before it stores the first weight; the others are stopped with a layer's file begun.
    let sign = words.hasSuffix("awq") ? ".partial-statistics" : ".prepared.partial-section-"
    #expect(try shell.wait { try shell.names().contains { $0.contains(sign) } })
    kill(process, SIGINT)
    let outcome = try shell.finish(process)
    #expect(outcome.exit == 75 && outcome.stdout == "", "\(outcome.stderr)")
    #expect(outcome.stderr.contains("error[interrupted]: stopped by a signal; no result was written"))
    if outcome.stderr.contains("--resume") {
      #expect(try shell.names().contains { $0.hasSuffix(".prepared.journal") })
      #expect(try shell.run("smelt \(line) --resume --quiet").exit == 0)
      #expect(try shell.names() == [String(words.prefix { $0 != " " })])
      return
    }
    #expect(try shell.names() == [])
  }

  @Test func theDemoTidiesUp() throws {
    let shell = Shell()
    let process = try shell.launch("demo")
    // It finds the bundled model from the place of the program, tells of it at once, and works in a folder of its own.
    #expect(try shell.wait { try shell.output("out").hasPrefix("source   ") })
    #expect(try shell.wait { try shell.names().contains { $0.hasPrefix("smelt-demo-") } })
    kill(process, SIGINT)
    #expect(try shell.finish(process).exit == 75)
    #expect(try shell.names() == [])
  }

  @Test func aKilledProgramLeavesNothingUnderTheFinalName() throws {
    let shell = Shell()
    let process = try launched("calibrate tiny s.safetensors --text tiny/calibration.txt", in: shell)
    kill(process, SIGKILL)
    #expect(try shell.finish(process).exit == 128 + SIGKILL)
    #expect(try !shell.names().contains("s.safetensors"))
    // And the next try is not in its way.
    let again = try shell.run(
      "smelt calibrate tiny s.safetensors --text tiny/calibration.txt --tokens-limit 256 --json")
    #expect(again.exit == 0)
    #expect(
      again.stderr.contains(
        "s.safetensors.partial-\(process)', which a run that was stopped left, is removed"))
    #expect(try shell.names() == ["s.safetensors"])
  }

  /// `nohup` and jobs in the background of a script: what the caller ignores stays ignored.
  @Test func ignoredSignalsStayIgnored() throws {
    let shell = Shell()
    let outcome = try shell.run(
      """
      trap '' HUP
      "$SMELT" calibrate tiny s.safetensors --text tiny/calibration.txt --tokens-limit 512 &
      job=$!
      while ! ls | grep -q -e partial -e s.safetensors; do sleep 0.01; done
      kill -HUP $job
      wait $job
      """)
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    #expect(try shell.names() == ["s.safetensors"])
  }

  /// A limit on the size of files stands for a full disk: `write` fails in the middle.
  @Test func aFullDiskLeavesNothing() throws {
    let shell = Shell()
    for line in [
      "smelt convert tiny out.ingot --threads 1", "smelt convert tiny out.ingot --threads 2",
      "smelt convert tiny out.ingot --compression raw", "smelt convert tiny out.gguf --threads 2",
      "smelt convert tiny out.gguf --split-max-size 8M", "smelt convert tiny out --threads 2",
    ] {
      let outcome = try shell.run("ulimit -f 4000\n\(line)")
      #expect(outcome.exit == 74 && outcome.stdout == "", "\(line)")
      #expect(outcome.stderr.hasPrefix("error[io]: cannot write 'out"), "\(line): \(outcome.stderr)")
      #expect(!outcome.stderr.contains("partial"), "people know the final name only")
      #expect(outcome.stderr.contains("\n  help: nothing was left under the final name"))
      #expect(try shell.names() == [])
    }
    let outcome = try shell.run(
      "ulimit -f 16\nsmelt calibrate v4 s.safetensors --bytes --text tiny/calibration.txt --tokens-limit 256")
    #expect(outcome.exit == 74)
    #expect(try shell.names() == [])
  }
}
