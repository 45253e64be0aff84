// The command on a terminal: a bar, colours, the width that it finds.

import SmeltStorage
import SmeltTestSupport
import Testing

private let clear = "\r\u{1B}[K"

@Suite struct TerminalTests {
  /// NO_COLOR turns colours off and nothing else; a dumb terminal gets neither colours nor a bar.
  @Test(arguments: [
    ("TERM=xterm", true, true), ("TERM=xterm NO_COLOR=1", true, false), ("TERM=xterm NO_COLOR=", true, true),
    ("TERM=dumb", false, false), ("", false, false),
  ])
  func aTerminalGetsWhatItCanShow(settings: String, hasBar: Bool, hasColours: Bool) throws {
    let outcome = try Shell().onTerminal("check tiny", settings)
    #expect(outcome.exit == 0 && outcome.stdout.contains("sound"))
    #expect(outcome.stdout.contains("█") == hasBar && outcome.stdout.contains(clear) == hasBar)
    #expect(outcome.stdout.contains("\u{1B}[1;32msound:\u{1B}[0m") == hasColours, "\(outcome.stdout)")
  }

  @Test func quietIsQuiet() throws {
    let shell = Shell()
    let outcome = try shell.onTerminal("check tiny -q --color never", "TERM=xterm")
    #expect(outcome.exit == 0 && outcome.stdout.hasPrefix("sound: ") && !outcome.stdout.contains("\u{1B}"))
    let noted = try shell.run("smelt evaluate v4 --bytes --text tiny/evaluation.txt --tokens-limit 256")
    #expect(noted.stderr.hasPrefix("warning: the model has no tokenizer"))
    let quiet = try shell.run("smelt evaluate v4 --bytes --text tiny/evaluation.txt --tokens-limit 256 -q")
    #expect(quiet.exit == 0 && quiet.stderr == "" && quiet.stdout.hasPrefix("perplexity "))
    let wrong = try shell.run("smelt evaluate nosuch --text t -q")
    #expect(wrong.exit == 2 && wrong.stderr.hasPrefix("error[SRC_MISSING]"))
  }

  /// A log gets lines: by the clock, and for each stage that is over where that is asked for.
  @Test func logsGetLines() throws {
    let shell = Shell()
    let often = try shell.run("env SMELT_PROGRESS_SECONDS=0.000001 \"$SMELT\" convert tiny a.ingot")
    #expect(often.exit == 0 && often.stderr.hasPrefix("a.ingot: 25.7 MB in, at most"), "\(often.stderr)")
    #expect(often.stderr.contains("\nconvert: ") && often.stderr.contains("/s, "), "\(often.stderr)")
    let verbose = try shell.run("smelt check tiny -v")
    #expect(verbose.stderr.hasPrefix("scan weights: 448 weights in "), "\(verbose.stderr)")
    #expect(try shell.run("env SMELT_PROGRESS_SECONDS=0.000001 \"$SMELT\" check tiny -q").stderr == "")
  }

  /// A bar that stands where an error is written is removed first.
  @Test func noBarIsLeftUnderAnError() throws {
    let shell = Shell()
    try #require(try shell.run("smelt convert tiny t.ingot").exit == 0)
    var bytes = try MappedFile(path: shell.file("t.ingot")).bytes.array
    for place in bytes.count * 3 / 4..<bytes.count * 4 / 5 { bytes[place] ^= 0x55 }
    try writeFile(shell.file("t.ingot"), bytes, overwrite: true)
    let outcome = try shell.onTerminal("convert t.ingot u.ingot", "TERM=xterm NO_COLOR=1")
    #expect(outcome.exit == 2)
    let error = try #require(outcome.stdout.ranges(of: "error[").last)
    // The bar of the first bytes may have no full part yet.
    #expect(
      outcome.stdout.contains { "█░".contains($0) } && outcome.stdout[..<error.lowerBound].hasSuffix(clear),
      "\(outcome.stdout)")
  }

  /// Colours are for whoever asks for them, a pipe too, and for errors of the parser as well.
  @Test func coloursAreChosen() throws {
    let shell = Shell()
    let always = try shell.run("smelt inspect nosuch --color always")
    #expect(always.stderr.hasPrefix("\u{1B}[1;31merror[SRC_MISSING]:\u{1B}[0m there is no such"))
    let parser = try shell.run("smelt inspect v4 --nosuch --color=always")
    #expect(
      parser.exit == 64
        && parser.stderr.hasPrefix("\u{1B}[1;31merror[usage]:\u{1B}[0m unknown option '--nosuch'"))
    #expect(try !shell.run("smelt inspect nosuch").stderr.contains("\u{1B}"))
    #expect(try !shell.onTerminal("inspect nosuch --color never", "TERM=xterm").stdout.contains("\u{1B}[1"))
    #expect(try shell.run("smelt inspect v4 --color often").exit == 64)
  }

  /// No line of any report is longer than the terminal, unless a single word is.
  @Test(arguments: [
    "formats", "inspect tiny", "inspect tiny --tensors", "plan fp4 o.ingot --scheme fp8-channel",
    "check tiny",
    "check tiny --for vllm", "diff fp4 v4",
    "verify tiny tiny --text tiny/evaluation.txt --tokens-limit 256 --max-kl 1",
    "calibrate tiny s --text tiny/calibration.txt --tokens-limit 256", "convert tiny c.ingot --scheme int8",
    "quantize v4 q.ingot --bits 6 --calibration tiny/calibration.txt --bytes --tokens-limit 256",
    "evaluate tiny --text tiny/evaluation.txt --tokens-limit 256",
    "compare r.json r2.json", "bench model tiny --prefill 8 --decode 2 --passes 1",
    "convert tiny o.ingot --scheme nosuch", "--help", "quantize --help",
  ])
  func everyReportFitsItsTerminal(command: String) throws {
    for columns in command.hasSuffix("help") ? [80] : [80, 60] {
      let shell = Shell()
      if command.hasPrefix("compare") { try shell.writeReports() }
      let outcome = try shell.onTerminal(command, "TERM=dumb", columns: columns)
      #expect(outcome.stdout.count > 20)
      for line in outcome.stdout.split(separator: "\n") where line.count > columns {
        #expect(line.drop { $0 == " " }.split(separator: " ").count == 1, "\(columns): \(line)")
      }
    }
  }

  /// COLUMNS says what a person wants; without it and without a size of its own a terminal has 80.
  @Test func theWidthIsFound() throws {
    for (columns, settings, width) in [
      (132, "TERM=dumb", 132), (132, "TERM=dumb COLUMNS=50", 50), (0, "TERM=dumb", 80),
      (100, "TERM=dumb COLUMNS=x", 100),
    ] {
      let lines = try Shell().onTerminal("formats", settings, columns: columns).stdout.split(separator: "\n")
      let longest = lines.map(\.count).max() ?? 0
      #expect(longest <= width && longest > width - 12, "\(settings) \(columns): \(longest)")
    }
    #expect(try Shell().run("COLUMNS=50 smelt formats").stdout == Shell().run("smelt formats").stdout)
  }
}
