// The command as a user meets it: help, exit status, what goes to which stream, and what machines read.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// The commands that help lists.
private func commands() throws -> [String] {
  let section = try #require(try Shell().run("smelt --help").stdout.split(separator: "SUBCOMMANDS:\n").last)
  return section.split(separator: "\n").compactMap { line in
    line.hasPrefix("  ") && !line.hasPrefix("   ") && !line.hasPrefix("  See")
      ? line.split(separator: " ").first.map(String.init) : nil
  }
}

/// Ids for models without a tokenizer.
private let ids = #"{"sequences": [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [200, 100, 50]]}"#

@Suite struct HelpTests {
  @Test(arguments: try commands()) func everyCommandExplainsItself(command: String) throws {
    let shell = Shell()
    let outcome = try shell.run("smelt \(command) --help")
    #expect(outcome.exit == 0)
    #expect(outcome.stderr == "")
    let lines = outcome.stdout.split(separator: "\n").map(String.init)
    let overview = try #require(lines.first)
    #expect(overview.hasPrefix("OVERVIEW: ") && overview.dropFirst(10).first?.isUppercase == true)
    #expect(
      lines.contains { $0.hasPrefix("Example: smelt \(command)") || $0.hasPrefix("  smelt \(command) ") })
    #expect(lines.contains { $0.hasPrefix("USAGE: smelt \(command)") })
    #expect(try shell.run("smelt help \(command)").stdout == outcome.stdout)
    // Every argument and option says what it is for, on its line or the next.
    for (index, line) in lines.enumerated() where line.hasPrefix("  -") || line.hasPrefix("  <") {
      let words = line.split(separator: " ", omittingEmptySubsequences: true)
      let rest = line.dropFirst(26)
      let next = index + 1 < lines.count ? lines[index + 1] : ""
      #expect(!rest.isEmpty || next.hasPrefix(String(repeating: " ", count: 26)), "\(words[0]) has no help")
    }
    // Lines of ours that the parser had to break would end in a line of one or two words.
    let breaks = lines.filter { $0.count > 80 }
    #expect(breaks == [])
  }

  @Test func theFirstPageListsTheCommands() throws {
    let outcome = try Shell().run("smelt --help")
    #expect(outcome.exit == 0 && outcome.stderr == "")
    let promised = [
      "inspect", "plan", "convert", "calibrate", "quantize", "verify", "evaluate", "logits", "check", "demo",
    ]
    #expect(Set(promised).subtracting(try commands()) == [])
    #expect(try Shell().run("smelt").stdout == outcome.stdout)
    for line in outcome.stdout.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
  }

  @Test func mistypedNamesGetTheNearest() throws {
    for (line, problem, hint) in [
      ("smelt inspekt v4", "unknown command 'inspekt'", "did you mean inspect? known: inspect, plan"),
      (
        "smelt convert v4 o.ingot --scheme int8-chanel", "unknown scheme 'int8-chanel'",
        "did you mean int8-channel?"
      ),
      ("smelt convert v4 o.ingot --observer mze", "unknown observer 'mze'", "did you mean mse?"),
    ] {
      let outcome = try Shell().run(line)
      #expect(outcome.exit == 64 && outcome.stdout == "")
      #expect(outcome.stderr.hasPrefix("error[usage]: \(problem)\n  help: \(hint)"), "\(outcome.stderr)")
    }
  }

  /// What needs a forward pass says in one line that there is none, and what works.
  @Test(arguments: [
    "evaluate m --tokens ids.json", "logits m l.safetensors --tokens ids.json",
    "calibrate m s --text tiny/config.json",
    "generate m --tokens ids.json", "generate m --prompt a", "verify m m --tokens ids.json",
    "quantize m q.ingot --scheme int8 --calibration tiny/config.json",
  ])
  func anUnknownArchitectureHasNoForwardPass(command: String) throws {
    let shell = Shell()
    try shell.write("ids.json", #"{"sequences": [[1, 2, 3]]}"#)
    let outcome = try shell.run(
      """
      mkdir m && sed s/deepseek_v4/gpt_neo/ v4/config.json > m/config.json && cp v4/model.safetensors m
      smelt inspect m >&2 && smelt check m --quiet >&2 && smelt plan m x.ingot --scheme int8 >&2 || exit 90
      smelt verify m m | tail -n 1 >&2 || exit 91
      smelt \(command)
      """)
    #expect(outcome.exit == 3 && outcome.stdout == "")
    let lines = outcome.stderr.split(separator: "\n")
    #expect(
      lines.suffix(2).first == "error[unsupported]: the architecture 'gpt_neo' has no forward pass here")
    #expect(lines.last?.hasPrefix("  help: inspect, plan, check, diff, convert") == true, "\(outcome.stderr)")
  }

  @Test(arguments: [
    ("smelt convert v4", "<result>"), ("smelt convert v4 a b", "'b'"),
    ("smelt inspect v4 --nosuch", "--nosuch"),
    ("smelt evaluate tiny", "--text"), ("smelt evaluate tiny --text a --tokens b", "--text or --tokens"),
    ("smelt quantize v4 o.ingot", "--scheme, --for, --recipe"), ("smelt check v4 --threads 0", "--threads"),
    ("smelt check v4 --max-memory lots", "--max-memory"),
    ("smelt evaluate tiny --text t --context 1", "--context"),
    ("smelt evaluate tiny --text t --tokens-limit 10", "--tokens-limit"),
    ("smelt verify v4 v4 --text t --max-kl nan", "--max-kl"),
    ("smelt verify v4 v4 --text t --min-top1 2", "--min-top1"),
  ])
  func wrongLinesAreRefused(line: String, word: String) throws {
    let outcome = try Shell().run(line)
    #expect(outcome.exit == 64 && outcome.stdout == "")
    #expect(outcome.stderr.contains(word), "\(outcome.stderr)")
  }
}

@Suite struct StreamTests {
  /// Results to stdout, warnings and errors to stderr; no bar and no escape code where stderr is no terminal.
  @Test func streamsAreKeptApart() throws {
    let shell = Shell()
    let converted = try shell.run("smelt convert fp4 a.ingot --scheme fp8-channel")
    #expect(converted.exit == 0 && converted.stderr == "")
    #expect(converted.stdout.hasPrefix("a.ingot: ") && converted.stdout.hasSuffix("\n"))
    #expect(
      converted.stdout.contains("\nnot carried: reference.safetensors (weights that are not the model's)\n"))
    #expect(converted.stdout.split(separator: "\n").count == 2)
    #expect(converted.stdout.contains("99 weights kept, 164 converted (164 exact)"))
    let dropped = try shell.run("smelt convert fp4 d.ingot --scheme fp8-channel --mtp drop")
    #expect(dropped.exit == 0 && dropped.stderr == "")
    #expect(dropped.stdout.contains("80 weights kept, 130 converted (130 exact)"))
    #expect(dropped.stdout.contains("\nleft out: 87 tensors (741 kB) by rule 'mtp': --mtp drop: "))
    let wrong = try shell.run("smelt convert fp4 w.ingot --mtp all")
    #expect(wrong.exit == 64 && wrong.stderr.contains("keep, quantize, drop"), "\(wrong.stderr)")
    let checked = try shell.run("smelt check a.ingot")
    #expect(checked.exit == 0 && checked.stdout.hasPrefix("sound: ") && checked.stderr == "")
    let verified = try shell.run(
      "smelt verify fp4 a.ingot --bytes --text tiny/evaluation.txt --tokens-limit 256")
    #expect(verified.exit == 0)
    #expect(verified.stdout.contains("exact weights") && verified.stdout.contains("verdict: not judged"))
    #expect(
      verified.stderr
        == "warning: the model has no tokenizer, so the text's bytes are taken as token ids\n")
    #expect(!(verified.stdout + verified.stderr).contains("\u{1B}"))
    #expect(try shell.names() == ["a.ingot", "d.ingot"])
  }

  /// One object, of the keys and types that Formats/report.md gives.
  @Test func machinesReadOneObject() throws {
    let shell = Shell()
    try shell.write("ids.json", ids)
    try shell.write("ids1.json", #"{"sequences": [[1, 2, 3]]}"#)
    func expect(_ title: String, _ line: String, exit: Int32 = 0, _ member: String? = nil) throws {
      let outcome = try shell.run(line)
      #expect(outcome.exit == exit && outcome.stderr == "", "\(line): \(outcome.stderr)")
      let json = try outcome.json()
      #expect(try Contract(title).problems(member.flatMap { json[$0] } ?? json) == [], "\(line)")
    }
    try expect("inspect", "smelt inspect v4 --json")
    try expect("inspect", "smelt inspect v4 --json --tensors")
    try expect("plan", "smelt plan fp4 a.ingot --scheme int8-channel --json")
    try expect("convert", "smelt convert v4 a.ingot --json")
    try expect("calibrate", "smelt calibrate v4 s.safetensors --tokens ids.json --json")
    try expect(
      "convert", "smelt quantize v4 b.ingot --scheme int8 --statistics s.safetensors --json", "conversion")
    try expect("check", "smelt check b.ingot --json")
    try expect("share", "smelt convert v4 p --shard 1/1 --json && rm -r p.parts")
    try expect("evaluate", "smelt evaluate b.ingot --tokens ids.json --json")
    try expect("diff", "smelt diff v4 a.ingot --json")
    try expect("diff", "smelt diff v4 b.ingot --json", exit: 1)
    try expect("generate", "smelt generate b.ingot --tokens ids1.json --max-tokens 2 --json")
    try expect("verify", "smelt verify v4 b.ingot --tokens ids.json --json")
    try expect("verify", "smelt verify v4 b.ingot --tokens ids.json --max-kl 0 --json", exit: 1)
    let formats = try shell.run("smelt formats --json").json()
    #expect(try Contract("formats").problems(formats) == [])
    let place = try shell.run("smelt inspect a.ingot --layer 0 --expert 1 --json").json()
    #expect(try Contract("inspect --layer --expert").problems(place) == [])
    for key in ["families", "containers", "encodings", "schemes"] {
      #expect(formats[key]?.array?.isEmpty == false)
    }
    let quantized = try shell.run(
      "smelt quantize tiny c.ingot --scheme int8 --calibration tiny/calibration.txt --tokens-limit 512 --json"
    )
    let parts = try #require(try quantized.json().object)
    let rest = zip(parts.keys, parts.values).filter {
      !["calibration", "conversion", "budget"].contains($0.0)
    }
    #expect(parts.keys == ["schema", "calibration", "conversion", "budget"])
    #expect(try Contract("quantize").problems(JSON(members: rest.map { ($0.0, $0.1) })) == [])
    let learned = try #require(try quantized.json()["calibration"])
    #expect(try Contract("calibrate").problems(learned) == [])
    #expect(learned["path"]?.isNull == true)  // the statistics are gone when the command ends
    #expect(try shell.names() == ["a.ingot", "b.ingot", "c.ingot", "ids.json", "ids1.json", "s.safetensors"])
  }

  /// What `--to ingot` writes under any name is read again under that name.
  @Test func anIngotIsKnownByItsBytes() throws {
    let outcome = try Shell().run(
      "smelt convert v4 plain --to ingot && smelt check plain && mv plain x.bin && smelt inspect x.bin")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    #expect(outcome.stdout.contains("sound: ") && outcome.stdout.contains(" ingot, 1 file"))
  }

  @Test func verdictsAreExitStatusAndReport() throws {
    let shell = Shell()
    try shell.write("ids.json", ids)
    #expect(try shell.run("smelt convert v4 a.ingot --scheme int8-channel").exit == 0)
    let failed = try shell.run(
      "smelt verify v4 a.ingot --tokens ids.json --max-kl 0 --json r.json --html r.html")
    #expect(failed.exit == 1 && failed.stderr == "")
    #expect(failed.stdout.contains("verdict: FAIL, mean KL"))
    let report = try JSON.scan(Bytes(try MappedFile(path: shell.file("r.json")).bytes.array))
    #expect(try Contract("verify").problems(report) == [])
    #expect(report["verdict"]?.string == "fail" && report["thresholds"]?["max_kl"]?.double == 0)
    #expect(report["tokens"]?.integer == 13 && report["tokenization"]?.string == "tokens")
    let page = String(decoding: try MappedFile(path: shell.file("r.html")).bytes.array, as: UTF8.self)
    #expect(page.hasPrefix("<!doctype html>") && page.contains("verdict: fail"))
    // A report that exists is neither overwritten nor a reason to work for nothing.
    let again = try shell.run("smelt verify v4 a.ingot --tokens ids.json --json r.json")
    #expect(again.exit == 73 && again.stdout == "")
    let passed = try shell.run(
      "smelt verify v4 a.ingot --tokens ids.json --max-kl 10 --min-top1 0 --json r.json --overwrite")
    #expect(passed.exit == 0 && passed.stdout.contains("verdict: pass, mean KL"))
    let itself = try shell.run("smelt verify v4 v4 --tokens ids.json --max-kl 0 --min-top1 1")
    #expect(itself.exit == 0)
  }

  @Test func logitsAreAFileOfTensors() throws {
    let shell = Shell()
    try shell.write("ids.json", ids)
    let outcome = try shell.run("smelt logits v4 out.safetensors --tokens ids.json --hidden-states --routing")
    #expect(outcome.exit == 0 && outcome.stdout == "out.safetensors\n" && outcome.stderr == "")
    let file = try SafetensorsFile(path: shell.file("out.safetensors"))
    var expected: [String] = []
    for (index, length) in [10, 3].enumerated() {
      #expect(file.tensor("logits.\(index)")?.shape == [length, 256])
      expected.append("logits.\(index)")
      for layer in 0..<4 {
        #expect(file.tensor("hidden.\(index).\(layer)")?.shape == [length, 4, 64])
        let experts = try #require(file.tensor("experts.\(index).\(layer)"))
        #expect(experts.dtype == .i32 && experts.shape == [length, 2])
        let chosen = experts.bytes.withUnsafeBytes { bytes in
          (0..<length * 2).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self) }
        }
        for token in 0..<length { #expect(chosen[2 * token] < chosen[2 * token + 1]) }
        let weights = try #require(file.tensor("expert_weights.\(index).\(layer)"))
        #expect(weights.dtype == .f32 && weights.shape == [length, 2])
        expected += ["hidden", "experts", "expert_weights"].map { "\($0).\(index).\(layer)" }
      }
    }
    #expect(file.tensors.map(\.name).sorted() == expected.sorted())
    // A sequence does not know of the others: alone it gives the same bits.
    try shell.write("one.json", #"{"sequences": [[200, 100, 50]]}"#)
    #expect(try shell.run("smelt logits v4 one.safetensors --tokens one.json --threads 1").exit == 0)
    let alone = try SafetensorsFile(path: shell.file("one.safetensors")).tensor("logits.0")
    #expect(alone?.bytes.array == file.tensor("logits.1")?.bytes.array)
  }

  @Test func aClosedOrFullStdoutIsAnError() throws {
    let shell = Shell()
    let closed = try shell.run("smelt inspect v4 >&-")
    #expect(closed.exit == 74)
    #expect(closed.stderr.hasPrefix("error[io]: cannot write to stdout: "))
    // The result's file must not become what stdout was: it is whole, and the line about it is lost and said to be.
    #expect(try shell.run("smelt convert v4 a.ingot >&-").exit == 74)
    #expect(try shell.run("smelt convert v4 b.ingot >&- 2>&- <&-").exit == 74)
    #expect(try shell.run("smelt check a.ingot && smelt check b.ingot").exit == 0)
    if pathKind("/dev/full") != .nothing {
      let full = try shell.run("smelt inspect v4 --tensors >/dev/full")
      #expect(full.exit == 74)
    }
    // A reader that has read enough is no error, and no signal.
    #expect(try shell.run("(smelt inspect v4 --tensors; echo $? >status) | true; cat status").stdout == "0\n")
  }
}
