// Calibration and rounded activations as a user meets them.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct CalibrationCommandTests {
  /// A text that is one line again and again, in a file `line.txt`.
  private func starving() throws -> Shell {
    let shell = Shell()
    try shell.write("line.txt", String(repeating: "It is a truth universally acknowledged.\n", count: 60))
    return shell
  }

  @Test func starvedExpertsAreListedWithWhatTheyGot() throws {
    let shell = try starving()
    let outcome = try shell.run(
      "smelt calibrate tiny s --text line.txt --report r.svg --json && smelt check tiny >/dev/null")
    #expect(outcome.exit == 0 && outcome.stderr == "")
    let json = try outcome.json()
    #expect(try Contract("calibrate").problems(json) == [])
    let starved = try #require(json["starved"]?.array)
    #expect(!starved.isEmpty && json["policy"]?.string == "top-up")
    for expert in starved {
      #expect(expert["source"]?.string == "replayed")
      let tokens = ["own_tokens", "topped_up_tokens", "replayed_tokens"].map { expert[$0]?.integer ?? 0 }
      #expect(tokens.reduce(0, +) >= 32)
    }
    #expect(try shell.names() == ["line.txt", "r.svg", "s"])
    let text = try shell.run(
      "smelt quantize tiny q.ingot --scheme int8 --calibration line.txt --policy weight-only --report r.html")
    #expect(text.exit == 0 && text.stdout.contains("--policy weight-only gave them:\n  layer "))
    #expect(text.stdout.contains(", weights alone: "))
    #expect(try shell.run("smelt check q.ingot").exit == 0)
    #expect(try shell.names() == ["line.txt", "q.ingot", "r.html", "r.svg", "s"])
  }

  @Test func refusalNamesThem() throws {
    let shell = try starving()
    for line in [
      "smelt calibrate tiny s --text line.txt --policy refuse",
      "smelt quantize tiny q.ingot --scheme int8 --calibration line.txt --policy refuse",
    ] {
      let outcome = try shell.run(line)
      #expect(outcome.exit == 2 && outcome.stdout == "")
      #expect(outcome.stderr.hasPrefix("error[CAL_STARVED]: "))
      #expect(outcome.stderr.contains(" experts got fewer than 32 tokens: layer "))
      #expect(outcome.stderr.contains("\n  in line.txt\n  help: "))
    }
    #expect(try shell.names() == ["line.txt"])
    let unknown = try shell.run("smelt calibrate tiny s --text line.txt --policy refuze")
    #expect(unknown.exit == 64 && unknown.stderr.contains("did you mean refuse?"))
  }

  /// Files, a pattern and records give the same windows as the text they are parts of.
  @Test func textsComeInManyForms() throws {
    let shell = Shell()
    try shell.write("part-1.txt", "It is a truth universally acknowledged, ")
    try shell.write("part-2.txt", "that a single man in possession of a good fortune")
    try shell.write(
      "all.jsonl",
      """
      {"body": "It is a truth universally acknowledged, "}
      {"body": "that a single man in possession of a good fortune"}

      """)
    let values = try [
      "--text part-1.txt --text part-2.txt", "--text 'part-?.txt'", "--text all.jsonl --text-field body",
    ].map {
      try #require(
        try shell.run("smelt evaluate tiny \($0) --context 4 --json").json()["perplexity"]?.double)
    }
    #expect(values[0] == values[1] && values[1] == values[2])
    let wrong = try shell.run("smelt evaluate tiny --text all.jsonl --context 4")
    #expect(wrong.exit == 2 && wrong.stderr.hasPrefix("error[TEXT_FORMAT]: 'line 1' found nothing in 'text'"))
    let drawn = try ["1", "1", "2"].map {
      try shell.run(
        "smelt evaluate tiny --text tiny/evaluation.txt --context 16 --samples 3 --seed \($0) --json"
      ).json()
    }
    #expect(drawn.allSatisfy { $0["windows"]?.integer == 3 })
    #expect(drawn[0]["perplexity"]?.double == drawn[1]["perplexity"]?.double)
    #expect(drawn[0]["perplexity"]?.double != drawn[2]["perplexity"]?.double)
  }

  @Test func activationsAreRounded() throws {
    let shell = Shell()
    try shell.write("ids.json", #"{"sequences": [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [200, 100, 50]]}"#)
    _ = try shell.run(
      "smelt calibrate v4 s --tokens ids.json && smelt convert v4 a.ingot --scheme int8 --statistics s")
    for (kind, more) in [("int8", ""), ("fp8", ""), ("static-int8", "--statistics s")] {
      let outcome = try shell.run(
        "smelt verify v4 a.ingot --tokens ids.json --activations \(kind) \(more) --json --html \(kind).html")
      #expect(outcome.exit == 0 && outcome.stderr == "", "\(outcome.stderr)")
      let json = try outcome.json()
      #expect(try Contract("verify").problems(json) == [])
      #expect(json["activations"]?["rounding"]?.string == kind)
      #expect(json["activations"]?["kl"]?["mean"]?.double ?? 0 > 0)
    }
    for (line, exit, word) in [
      ("smelt verify v4 a.ingot --tokens ids.json --activations int4", Int32(64), "int8"),
      ("smelt verify v4 a.ingot --tokens ids.json --activations static-fp8", 64, "--statistics"),
      ("smelt verify v4 a.ingot --tokens ids.json --activations fp8 --statistics s", 64, "static-fp8"),
      ("smelt verify v4 v4 --tokens ids.json --activations fp8", 64, "no INT8"),
    ] {
      let outcome = try shell.run(line)
      #expect(outcome.exit == exit && outcome.stderr.contains(word), "\(line): \(outcome.stderr)")
    }
  }
}
