// What a machine or a user may withhold: descriptors, threads, memory. And what may lie where a file is expected. Each ends in a
// message and a status, or in the result; never in a trap, and never in a wait without end.

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

@Suite struct LimitTests {
  @Test func fewDescriptorsAreEnoughOrSaid() throws {
    let shell = Shell()
    for limit in 3...8 {
      let outcome = try shell.run(
        "(ulimit -n \(limit); exec \"$SMELT\" convert v4 o.ingot --overwrite --threads 4)")
      // Below 4 the program's own libraries cannot be opened.
      #expect(
        [0, 73, 74, 126, 127].contains(outcome.exit),
        "-n \(limit): \(outcome.exit) \(outcome.stderr.suffix(300))")
      if outcome.exit == 73 || outcome.exit == 74 {
        #expect(outcome.stderr.contains("error["), "-n \(limit)")
      }
    }
  }

  #if os(Linux)
    /// The limit does not bind root, who becomes somebody else where that can be.
    @Test func withoutThreadsTheCallerWorks() throws {
      let shell = Shell()
      chmod(parentFolder(shell.file("x")), 0o777)
      let asOther = geteuid() == 0 ? "setpriv --reuid=65533 --clear-groups --inh-caps=-all " : ""
      let outcome = try shell.run(
        "\(asOther)sh -c 'ulimit -u 1; exec \"$SMELT\" convert v4 o.ingot --threads 8' || [ $? -eq 126 ]")
      #expect(outcome.exit == 0, "\(outcome.stderr)")
    }

    @Test func wantOfMemoryHasAMessage() throws {
      let shell = Shell()
      var started = 0
      for limit in stride(from: 40_000, through: 80_000, by: 4000) {
        // Below some limit the loader or the language's runtime ends the process before its first line.
        guard try shell.run("(ulimit -v \(limit); exec \"$SMELT\" --version)").exit == 0 else { continue }
        started += 1
        let outcome = try shell.run("(ulimit -v \(limit); exec \"$SMELT\" check v4 --threads 2)")
        #expect(
          [0, 74].contains(outcome.exit),
          "-v \(limit): \(outcome.exit) \(outcome.stderr.suffix(300))")
        if outcome.exit == 74 {
          #expect(outcome.stderr.contains("error[io]"), "-v \(limit): \(outcome.stderr)")
        }
      }
      #expect(started > 2)
    }
  #endif

  @Test(arguments: [
    "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json",
    "model.safetensors",
  ])
  func aPipeIsNoFile(_ name: String) throws {
    let shell = Shell()
    let outcome = try shell.run(
      "cp -rL v4 m; rm -f m/\(name); mkfifo m/\(name); timeout -k 1 20 \"$SMELT\" check m")
    #expect(
      outcome.exit == 2 && outcome.stderr.contains("error[SRC_NOT_FILE]"), "\(outcome.exit) \(outcome.stderr)"
    )
  }

  /// Where one window needs more memory than is allowed even in pieces, that is said.
  @Test(arguments: [
    "evaluate tiny --text tiny/evaluation.txt", "verify tiny tiny --text tiny/evaluation.txt",
    "calibrate tiny s --text tiny/calibration.txt",
    "quantize tiny q --scheme int4-group:32 --method gptq --calibration tiny/calibration.txt",
  ])
  func windowsThatAreTooLongAreSaid(line: String) throws {
    let shell = Shell()
    let warning = "warning: the activations of a window of 256 tokens take about"
    let options = "--context 256 --tokens-limit 256 --max-memory"
    #expect(try shell.run("smelt \(line) \(options) 1M").stderr.contains(warning))
    let room = try shell.run("rm -rf s q; smelt \(line) \(options) 100M")
    #expect(room.exit == 0 && !room.stderr.contains(warning), "\(room.stderr)")
  }

  @Test func longNamesAreCut() throws {
    let shell = Shell()
    let long = String(repeating: "x", count: 100_000)
    for (key, value) in [("hidden_act", long), ("model_type", long), ("scoring_func", long)] {
      let outcome = try shell.run(
        """
        mkdir -p m; cp v4/*.safetensors m/
        awk -v key='"\(key)"' '{ if (index($0, key)) { sub(/:.*/, ": \\"LONG\\","); } print }' v4/config.json > c
        """)
      #expect(outcome.exit == 0, "\(outcome.stderr)")
      let config = String(decoding: try MappedFile(path: shell.file("c")).bytes.array, as: UTF8.self)
      try shell.write("m/config.json", config.split(separator: "LONG").joined(separator: value))
      try shell.write("ids.json", #"{"sequences": [[1, 2]]}"#)
      let refused = try shell.run("smelt logits m l.safetensors --tokens ids.json")
      #expect(refused.exit == 3 && refused.stderr.utf8.count < 5000, "\(key): \(refused.stderr.prefix(300))")
      #expect(refused.stderr.contains("help: "), "\(key): the end of the message is kept")
    }
    let path = try shell.run("smelt inspect \(String(repeating: "d/", count: 1900))m")
    #expect(path.exit == 2 && path.stderr.utf8.count < 1000)
  }

  /// A value that no option knows is the command line's fault, whichever option it is.
  @Test func unknownValuesAreUsageErrors() throws {
    let shell = Shell()
    let dump = try shell.run("smelt --experimental-dump-help").json()
    let commands = try #require(dump["command"]?["subcommands"]?.array)
    let base = [
      "plan": "plan v4 o.ingot", "convert": "convert v4 o.ingot",
      "calibrate": "calibrate v4 s.safetensors --text t.txt",
      "quantize": "quantize v4 o.ingot --scheme int8 --calibration t.txt",
      "verify": "verify v4 v4 --tokens ids.json",
      "evaluate": "evaluate v4 --tokens ids.json", "logits": "logits v4 l.safetensors --tokens ids.json",
      "generate": "generate v4 --tokens ids.json", "inspect": "inspect v4", "check": "check v4",
      "diff": "diff v4 v4",
      "demo": "demo", "formats": "formats",
    ]
    try shell.write("t.txt", String(repeating: "one two three ", count: 100))
    try shell.write("ids.json", "{\"sequences\": [[1, 2, 3]]}")
    // A file, a folder, a pattern of names or any text has no unknown value.
    let free: Set<String> = [
      "allow-drop", "text", "tokens", "calibration", "recipe", "statistics", "save-recipe", "report", "html",
      "json",
      "prompt", "text-field", "model", "input", "keep", "attest", "save-statistics", "rederive",
    ]
    var walked = 0
    for command in commands {
      guard let name = command["commandName"]?.string, let words = base[name] else { continue }
      for argument in command["arguments"]?.array ?? [] where argument["kind"]?.string == "option" {
        guard let option = argument["preferredName"]?["name"]?.string, !free.contains(option) else {
          continue
        }
        let outcome = try shell.run("smelt \(words) --\(option) gtpq")
        walked += 1
        #expect(outcome.exit == 64, "\(name) --\(option): \(outcome.exit) \(outcome.stderr.suffix(300))")
      }
    }
    #expect(walked > 60, "\(walked) options")
  }

  /// An id beyond the embedding is refused by whoever uses it, and named by `check`.
  @Test func idsBeyondTheEmbedding() throws {
    let shell = Shell()
    symlink(fixture("reports/oob_garbage"), shell.file("oob"))
    try shell.write("t.txt", String(repeating: "one <|im_start|> two ", count: 100))
    for words in [
      "generate oob --prompt 'a <|im_start|> b' --max-tokens 2", "evaluate oob --text t.txt --context 8",
      "calibrate oob s.safetensors --text t.txt --context 8", "verify oob oob --text t.txt --context 8",
      "quantize oob q.ingot --scheme int8 --calibration t.txt --context 8",
    ] {
      let outcome = try shell.run("smelt \(words)")
      #expect(outcome.exit == 2, "\(words): \(outcome.exit) \(outcome.stderr)")
      for part in ["400", "<|im_start|>", "384"] {
        #expect(outcome.stderr.contains(part), "\(words): \(outcome.stderr)")
      }
    }
    for ids in ["[400]", "[-1]", "[384]", "[9223372036854775807]", "[18446744073709551615]"] {
      try shell.write("ids.json", "{\"sequences\": [\(ids)]}")
      for words in ["generate oob", "evaluate oob", "logits oob l.safetensors", "verify oob oob"] {
        #expect(try shell.run("smelt \(words) --tokens ids.json").exit == 2, "\(words) \(ids)")
      }
    }
    let check = try shell.run("smelt check oob")
    #expect(check.exit == 0 && check.stdout.contains("'<|im_start|>' (400)"), "\(check)")
    #expect(try shell.names().filter { $0.contains("ingot") || $0.contains("safetensors") }.isEmpty)
  }
}
