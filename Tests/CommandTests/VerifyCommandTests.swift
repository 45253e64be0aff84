// What decides the exit status of `verify`: thresholds that were asked for, and faults whatever was asked for.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct VerifyCommandTests {
  private func shell() throws -> Shell {
    let shell = Shell()
    try shell.write("ids.json", "{\"sequences\": [[1, 2, 3, 4, 5, 6, 7, 8], [8, 6, 4, 2, 1, 3, 5, 7]]}")
    return shell
  }

  private func verdict(_ outcome: Outcome) throws -> String? {
    let json = try outcome.json()
    #expect(json["schema"]?.string == "smelt.verify/3")
    return json["verdict"]?.string
  }

  @Test(arguments: [
    ("int8-channel", "", 0, "not judged"), ("int8-channel", "--profile near-lossless", 1, "fail"),
    ("keep", "--profile near-lossless", 0, "pass"), ("keep", "--profile good --max-kl 0", 0, "pass"),
    ("int8-channel", "--max-weight-error 1", 0, "pass"),
    ("int8-channel", "--max-weight-error 1e-9", 1, "fail"),
  ])
  func thresholdsDecide(scheme: String, options: String, exit: Int32, verdict: String) throws {
    let shell = try shell()
    let outcome = try shell.run(
      "smelt convert v4 r.ingot --scheme \(scheme) --quiet >&2; "
        + "smelt verify v4 r.ingot --tokens ids.json --json --quiet \(options)")
    #expect(outcome.exit == exit, "\(outcome.stderr)")
    #expect(try self.verdict(outcome) == verdict)
  }

  /// A bound that nothing exceeds is none.
  @Test(arguments: ["--max-kl inf", "--max-kl 1e400", "--max-kl nan", "--max-weight-error inf"])
  func boundsAreFinite(_ option: String) throws {
    let outcome = try shell().run("smelt verify v4 v4 --tokens ids.json --quiet \(option)")
    #expect(outcome.exit == 64, "\(outcome.stderr)")
  }

  @Test func aPerplexityOfNothingIsRefused() throws {
    let shell = try shell()
    try shell.write("ones.json", "{\"sequences\": [[1], [2]]}")
    let outcome = try shell.run("smelt evaluate v4 --tokens ones.json --quiet")
    #expect(outcome.exit == 64 && outcome.stderr.contains("two tokens"), "\(outcome.stderr)")
    #expect(!outcome.stdout.contains("perplexity"))
  }

  @Test func aResultsNameIsMadeSafeToPrint() throws {
    let outcome = try shell().run(
      "name=\"$(printf 'r\\nverdict: pass.ingot')\"; smelt convert v4 \"$name\" --scheme keep --quiet")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    #expect(!outcome.stdout.contains("\nverdict") && outcome.stdout.contains("r\\nverdict: pass.ingot"))
  }

  /// A byte of a kept weight: no threshold is needed to fail it.
  @Test func aDamagedWeightFailsWhateverWasAsked() throws {
    let shell = try shell()
    let outcome = try shell.run(
      """
      smelt convert v4 r --quiet >&2 || exit 90
      file=$(ls r/*.safetensors | head -n 1); size=$(($(wc -c <$file)))
      printf '\\101' | dd of=$file bs=1 seek=$((size - 400)) conv=notrunc 2>&-
      smelt verify v4 r --tokens ids.json --json --quiet --profile usable
      """)
    #expect(outcome.exit == 1, "\(outcome.stderr)")
    #expect(try verdict(outcome) == "fail")
    #expect(try outcome.json()["faults"]?.array?.count == 1, "\(outcome.stdout)")
  }

  @Test(arguments: [
    ("--profile nearlossless", "near-lossless"), ("--max-weight-error -1", "max-weight-error"),
    ("--max-kl=inf", "max-kl"), ("--max-weight-error 1e400", "max-weight-error"),
  ])
  func wrongThresholdsAreRefused(options: String, word: String) throws {
    let shell = try shell()
    let outcome = try shell.run("smelt verify v4 v4 --tokens ids.json \(options)")
    #expect(outcome.exit == 64 && outcome.stderr.contains(word), "\(outcome.exit): \(outcome.stderr)")
  }

  /// What takes no part on either side is in the JSON of whoever reads it.
  @Test func whatIsLeftOutIsInEveryJSON() throws {
    let shell = try shell()
    let outcome = try shell.run(
      """
      ln -s '\(fixture("reports/glm_mtp"))' mtp
      a="--allow-drop model.layers.4.*"
      smelt convert mtp $a r.ingot --quiet --json && smelt verify mtp $a r.ingot --tokens ids.json --json --quiet \
        && smelt diff mtp $a r.ingot --json && smelt evaluate mtp $a --tokens ids.json --json --quiet \
        && smelt check mtp $a --json --quiet && smelt inspect mtp $a --json
      """)
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    let rule = "\"rule\": \"allow-drop model.layers.4.*\""
    #expect(outcome.stdout.split(separator: "\n").filter { $0.contains(rule) }.count == 6)
    // What a result lacks of the source's is said of the result.
    let without = try shell.run(
      "smelt convert mtp d.ingot --mtp drop --quiet --json && smelt verify mtp d.ingot --tokens ids.json --quiet --json && smelt diff mtp d.ingot --json"
    )
    #expect(without.exit == 0, "\(without.stderr)")
    #expect(without.stdout.split(separator: "\n").filter { $0.contains("\"rule\": \"mtp\"") }.count == 3)
  }

  /// An arithmetic that nothing ran in is said, but with --quiet.
  @Test func wholeNumbersThatNothingTakesAreSaid() throws {
    let shell = Shell()
    try shell.write("ids.json", #"{"sequences": [[1, 2, 3, 4]]}"#)
    for line in ["evaluate v4 --tokens ids.json", "generate v4 --tokens ids.json --max-tokens 1"] {
      let outcome = try shell.run("smelt \(line) --compute int8")
      #expect(
        outcome.exit == 0 && outcome.stderr.contains("no weight was multiplied in int8"), "\(outcome.stderr)")
      let quiet = try shell.run("smelt \(line) --compute int8 --quiet")
      #expect(quiet.exit == 0 && quiet.stderr == "" && !quiet.stdout.isEmpty)
    }
  }
}
