// What the command says of texts and sizes that are not what they should be.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct TextCommandTests {
  private static let verbs = [
    "smelt evaluate MODEL --text TEXT --context 8",
    "smelt calibrate MODEL s.safetensors --text TEXT --context 8",
    "smelt quantize MODEL o.ingot --scheme int8-channel --calibration TEXT --context 8",
    "smelt verify MODEL MODEL --text TEXT --context 8",
  ]

  private func line(_ verb: String, _ model: String, _ text: String) -> String {
    var out = ""
    for word in verb.split(separator: " ") {
      out += (out.isEmpty ? "" : " ") + (word == "MODEL" ? model : word == "TEXT" ? text : String(word))
    }
    return out
  }

  /// Every verb that reads a text refuses one without a tokenizer in the same words, and takes its bytes where that is asked.
  @Test(arguments: verbs) func textNeedsATokenizer(verb: String) throws {
    let shell = Shell()
    try shell.write("t.txt", "It is a truth universally acknowledged")
    let refused = try shell.run(line(verb, "v4", "t.txt"))
    #expect(refused.exit == 2 && refused.stdout == "")
    #expect(
      refused.stderr.hasPrefix("error[SRC_MISSING]: the model has no tokenizer.json"), "\(refused.stderr)")
    #expect(refused.stderr.contains("--bytes"))
    #expect(try shell.names() == ["t.txt"])
    let taken = try shell.run(line(verb, "v4", "t.txt") + " --bytes")
    #expect(taken.exit == 0, "\(taken.stderr)")
    #expect(taken.stderr.contains("warning: the model has no tokenizer, so the text's bytes are taken"))
    let needless = try shell.run(line(verb, "tiny", "t.txt") + " --bytes")
    #expect(needless.exit == 64 && needless.stderr.contains("--bytes"))
  }

  @Test(arguments: verbs) func textMustBeUTF8(verb: String) throws {
    let shell = Shell()
    for (name, printf, place) in [
      ("u16", #"\377\376H\000i\000"#, 0), ("l1", #"caf\351 au lait"#, 3), ("nul", #"ab\000c"#, 2),
    ] {
      let outcome = try shell.run("printf '\(printf)' > \(name)\n\(line(verb, "tiny", name))")
      #expect(outcome.exit == 2 && outcome.stdout == "", "\(name): \(outcome.stderr)")
      #expect(outcome.stderr.hasPrefix("error[TEXT_FORMAT]: "), "\(outcome.stderr)")
      #expect(outcome.stderr.contains("in \(name), byte \(place)"), "\(outcome.stderr)")
    }
    #expect(try shell.names() == ["l1", "nul", "u16"])
  }

  @Test func marksAndReturnsAreSaid() throws {
    let shell = Shell()
    let text = String(repeating: "It is a truth. ", count: 8)
    let outcome = try shell.run(
      "printf '\\357\\273\\277\(text)\\r\\n' > t; smelt evaluate tiny --text t --context 8")
    #expect(outcome.exit == 0)
    #expect(outcome.stderr.contains("warning: 't' begins with a byte-order mark, which was taken off\n"))
    #expect(outcome.stderr.contains("warning: 't' has lines that end in CR LF"))
  }

  @Test func promptsAreTexts() throws {
    let shell = Shell()
    let marked = try shell.run(
      #"smelt generate tiny --prompt "$(printf '\357\273\277It is')" --max-tokens 2"#)
    let plain = try shell.run("smelt generate tiny --prompt 'It is' --max-tokens 2")
    #expect(marked.exit == 0 && marked.stdout == plain.stdout)
    #expect(marked.stderr.contains("warning: the prompt begins with a byte-order mark"))
    let latin = try shell.run(#"smelt generate tiny --prompt "$(printf 'caf\351')""#)
    #expect(latin.exit == 64 && latin.stderr.contains("is not UTF-8: byte 3 is 0xE9"), "\(latin.stderr)")
    let bytes = try shell.run("smelt generate v4 --prompt 'It is' --bytes --max-tokens 2 --json")
    #expect(bytes.exit == 0)
    #expect(try bytes.json()["prompt_ids"]?.array?.compactMap(\.integer) == Array("It is".utf8).map(Int.init))
    let without = try shell.run("smelt generate v4 --prompt 'It is'")
    #expect(without.exit == 2 && without.stderr.contains("--bytes"))
  }

  /// Every option that takes a size reads it alike and says what it accepts.
  @Test(arguments: [
    ("check v4 --max-memory", "Memory"), ("convert v4 o.gguf --split-max-size", ""),
    ("convert v4 o --max-shard-size", ""),
    ("convert v4 o.ingot --max-part-size", ""), ("convert v4 o.ingot --journal-step", ""),
    ("quantize v4 o.ingot --scheme int8-coded --target-size", ""),
  ])
  func sizesAreReadAlike(line: String, _: String) throws {
    let shell = Shell()
    for wrong in ["lots", "-5G", "1,5G", "5GG", "0", "1e3", "99999999999G"] {
      let outcome = try shell.run("smelt \(line) \(wrong)")
      #expect(outcome.exit == 64 && outcome.stdout == "", "\(wrong): \(outcome.exit)")
      #expect(outcome.stderr.contains("powers of 1024"), "\(outcome.stderr)")
    }
    for right in ["1GB", "1.5GiB", "'2 gb'"] {
      let outcome = try shell.run("smelt \(line) \(right); rm -rf o*")
      #expect(!outcome.stderr.contains("powers of 1024"), "\(outcome.stderr)")
    }
    let verb = line.split(separator: " ")[0]
    #expect(try shell.run("smelt \(verb) --help").stdout.contains("MiB 2^20"))
  }

  /// A size of files that was meant in gigabytes, and options of another kind of result, are refused before anything is written.
  @Test(arguments: [
    ("out --max-shard-size 5", "--max-shard-size is 5 bytes"),
    ("out.gguf --split-max-size 48", "--split-max-size is 48 bytes"),
    ("out.ingot --max-part-size 2kB", "--max-part-size is 2000 bytes"),
    ("out --compression small", "--compression is for .ingot results"),
    ("out.gguf --compression raw", "--compression is for .ingot results"),
    ("out.ingot --compression smal", "did you mean small?"),
  ])
  func optionsOfFilesAreChecked(words: String, message: String) throws {
    let shell = Shell()
    let outcome = try shell.run("smelt convert v4 \(words); status=$?; ls -d out* 2>&1; exit $status")
    #expect(outcome.exit != 0 && outcome.stderr.contains(message), "\(outcome.stderr)")
    #expect(!outcome.stdout.contains("out\n") && !outcome.stdout.contains("out."), "\(outcome.stdout)")
  }
}
