// A result made again from what it records: the same bytes, or what is not the same, by name. Formats/attestation.md.

import SmeltPipeline
import SmeltStorage
import SmeltTestSupport
import Testing

/// A result of each kind.
private struct Made: Sendable {
  let result: String
  let options: String
  var source = "tiny"

  static let all = [
    Made(result: "x", options: "--scheme W8A8"),
    Made(result: "x", options: "--scheme fp8-block --max-shard-size 1M"),
    Made(result: "x", options: "--scheme nvfp4 --layout modelopt", source: "tiny"),
    Made(result: "x", options: "--scheme NVFP4A16"),
    Made(result: "x.gguf", options: "--scheme q8_0"),
    Made(result: "x.gguf", options: "--scheme Q4_K_M --split-max-size 1M"),
    Made(result: "x.ingot", options: "--scheme int8-channel --compression small"),
    Made(result: "x.ingot", options: "--max-part-size 2M"),
    Made(result: "x.ingot", options: "--scheme bf16", source: "fp4"),
    Made(result: "x.ingot", options: "--scheme int8-coded:5.25"),
  ]
}

@Suite struct RederiveTests {
  private func check(_ shell: Shell, _ words: String, exit: Int32, _ verdict: String) throws -> JSON {
    let outcome = try shell.run("smelt check --rederive \(words) --quiet --json")
    #expect(outcome.exit == exit, "\(words): \(outcome)")
    let json = try outcome.json()
    #expect(json["verdict"]?.string == verdict, "\(words): \(outcome.stdout)")
    #expect(try Contract("check --rederive").problems(json) == [])
    return json
  }

  @Test(arguments: Made.all.indices) func aResultIsMadeAgain(kind: Int) throws {
    let made = Made.all[kind]
    let shell = Shell()
    let outcome = try shell.run("smelt convert \(made.source) \(made.result) \(made.options) --quiet")
    // What the container or the family cannot hold is no example.
    #expect(outcome.exit == 0, "\(made.options): \(outcome.stderr)")
    let opened =
      try shell.names().contains("x-00001-of-00003.gguf") ? "x-00001-of-00003.gguf" : firstFile(made, shell)
    let whole = try check(shell, "\(made.source) \(opened)", exit: 0, "same")
    #expect(whole["compared"]?.integer == whole["tensors"]?.integer)
    #expect(whole["bytes"]?.integer ?? 0 > 0 && whole["differing"]?.integer == 0)
    #expect(whole["files"]?.integer ?? 0 > 1, "\(whole.text())")
    let sample = try check(shell, "\(made.source) \(opened) --sample 5 --threads 1", exit: 0, "same")
    #expect(sample["compared"]?.integer == 5)
    let names = try shell.names()
    #expect(!names.contains { $0.contains("partial") || $0.hasSuffix(".lock") })
  }

  private func firstFile(_ made: Made, _ shell: Shell) throws -> String {
    try shell.names().first { $0.hasPrefix("x-00001-of-") } ?? made.result
  }

  /// A tensor of all experts has a hash for each weight in it; a rule of a mixture for a tensor that only the result has is followed again.
  @Test func otherFamiliesAreMadeAgain() throws {
    let shell = Shell()
    let experts = fixture("models/gpt_oss")
    #expect(try shell.run("smelt convert \(experts) x.ingot --scheme int8-channel --quiet").exit == 0)
    _ = try check(shell, "\(experts) x.ingot", exit: 0, "same")
    let latent = fixture("models/deepseek_v3")
    for scheme in ["q8_0", "q4_k_m", "iq4_nl:keep-head"] {
      #expect(try shell.run("smelt convert \(latent) x.gguf --scheme \(scheme) --quiet -f").exit == 0)
      _ = try check(shell, "\(latent) x.gguf", exit: 0, "same")
    }
  }

  /// Configuration, tokenizer and keys are part of the result.
  @Test func filesAndKeysAreCompared() throws {
    let shell = Shell()
    #expect(
      try shell.run(
        "smelt convert tiny x.gguf --scheme q8_0 --quiet; smelt convert tiny x --scheme W8A8 --quiet"
      ).exit == 0)
    for (change, name, problem) in [
      ("sed -i '$s/}/ }/' x/config.json", "config.json", "has other bytes"),
      ("echo >>x/tokenizer.json", "tokenizer.json", "bytes, "),
      ("rm x/tokenizer_config.json", "tokenizer_config.json", "is made and is not in the result"),
      ("echo x >x/chat_template.jinja", "chat_template.jinja", "is in the result and is not made"),
      ("cp x/model.safetensors x/x.safetensors", "x.safetensors", "is in the result and is not made"),
      ("echo {} >x/smelt-errors.json", "smelt-errors.json", "is in the result and is not made"),
      (
        "LC_ALL=C sed -i '1s/\"format\":\"pt\"/\"format\":\"tf\"/' x/model.safetensors",
        "model.safetensors __metadata__", "has other bytes"
      ),
    ] {
      let changed = try shell.run("rm -rf kept; cp -r x kept; \(change)")
      #expect(changed.exit == 0, "\(changed)")
      for more in ["", "--sample 3"] {
        let json = try check(shell, "tiny x \(more)", exit: 1, "differs")
        let difference = json["differences"]?.array?.first
        #expect(json["differing"]?.integer == 1 && difference?["tensor"]?.string == name, "\(json.text())")
        #expect(difference?["problem"]?.string?.contains(problem) == true, "\(json.text())")
      }
      #expect(try shell.run("rm -r x; mv kept x").exit == 0)
    }
    // What people write, and what a proof adds, is no difference.
    #expect(try shell.run("echo More. >>x/README.md").exit == 0)
    _ = try check(shell, "tiny x", exit: 0, "same")
    var bytes = try MappedFile(path: shell.file("x.gguf")).bytes.array
    let key = Array("general.size_label".utf8)
    let place = try #require(
      bytes.indices.first { bytes[$0] == key[0] && bytes[$0...].starts(with: key) })
    bytes[place + key.count + 12] ^= 1
    putFile(shell.file("x.gguf"), bytes)
    let json = try check(shell, "tiny x.gguf", exit: 1, "differs")
    #expect(
      json["differences"]?.array?.first?["tensor"]?.string == "key general.size_label", "\(json.text())")
  }

  /// What an ingot keeps of its source's scales is made again too.
  @Test func scalesThatAnIngotKeepsAreMadeAgain() throws {
    let shell = Shell()
    let source = fixture("models/deepseek_v3-fp8")
    #expect(try shell.run("smelt convert \(source) x.ingot --quiet").exit == 0)
    _ = try check(shell, "\(source) x.ingot", exit: 0, "same")
  }

  /// A record that no run could have written is said to be that.
  @Test(arguments: [
    ("samples", "-1"), ("parts", "0"), ("policy", "nope"), ("min_tokens", "-5"),
    ("context", "9223372036854775807"),
  ])
  func recordsOfNoCalibrationAreSaid(key: String, value: String) throws {
    let shell = Shell()
    let text = "--calibration tiny/calibration.txt"
    #expect(
      try shell.run("smelt quantize tiny x --scheme W8A8 \(text) --tokens-limit 64 --context 32 --quiet").exit
        == 0)
    let changed = try shell.run(
      """
      sed -i '/"\(key)":/d' x/README.md && sed -i '/"text_sha256":/s/^/"\(key)": "\(value)",/' x/README.md
      sed -i 's/"tokens": "[0-9]*"/"tokens": "9223372036854775807"/' x/README.md
      """)
    #expect(changed.exit == 0)
    let said = try check(shell, "tiny x \(text)", exit: 3, "not_reproducible")
    #expect(said["problem"]?.string?.contains("records \(key) '\(value)'") == true, "\(said.text())")
  }

  /// With its text a method is carried out again, and statistics that are gone are made again.
  @Test(arguments: [
    ("x.ingot", "--scheme int4-group"),
    ("x.ingot", "--scheme int8 --distill 1"), ("x", "--scheme FP8 --samples 3 --seed 7"),
    ("x.gguf", "--scheme q4_k_m --policy peer-max --min-tokens 60"),
  ]) func theTextOfACalibrationIsEnough(result: String, options: String) throws {
    let shell = Shell()
    let text = "--calibration tiny/calibration.txt"
    let made = try shell.run(
      "smelt quantize tiny \(result) \(options) \(text) --tokens-limit 256 --context 32 --quiet")
    #expect(made.exit == 0, "\(made.stderr)")
    let hasMethod = !options.contains("FP8") && !options.contains("q4_k_m")
    let needed = try check(
      shell, "tiny \(result)", exit: 3, "statistics_needed")
    #expect(needed["problem"]?.string?.contains("--calibration") == true, "\(needed.text())")
    let limit = options.contains("--samples") ? "--tokens-limit 256" : ""
    let again = try check(shell, "tiny \(result) \(text) \(limit)", exit: 0, "same")
    #expect(again["compared"]?.integer == again["tensors"]?.integer)
    #expect(try shell.names() == [result])
    _ = try check(shell, "tiny \(result) --calibration tiny/evaluation.txt", exit: 2, "statistics_changed")
    guard hasMethod else { return }
    #expect(
      try shell.run("smelt calibrate tiny s --text tiny/calibration.txt --tokens-limit 256 --context 32 -q")
        .exit
        == 0)
    let missing = try check(shell, "tiny \(result) --statistics s", exit: 3, "text_needed")
    #expect(missing["problem"]?.string?.contains("SHA-256") == true, "\(missing.text())")
    _ = try check(shell, "tiny \(result) --statistics s \(text) --sample 4", exit: 0, "same")
  }

  @Test func aByteThatDiffersIsNamed() throws {
    let shell = Shell()
    #expect(
      try shell.run(
        "smelt convert tiny x.gguf --scheme q8_0 --quiet; smelt convert tiny x --scheme W8A8 --quiet"
      ).exit == 0)
    for (file, result) in [("x.gguf", "x.gguf"), ("x/model.safetensors", "x")] {
      let sound = try MappedFile(path: shell.file(file)).bytes.array
      var damaged = sound
      damaged[sound.count / 2] ^= 1
      putFile(shell.file(file), damaged)
      let json = try check(shell, "tiny \(result)", exit: 1, "differs")
      let difference = try #require(json["differences"]?.array?.first)
      #expect(json["differing"]?.integer == 1 && difference["tensor"]?.string?.isEmpty == false)
      let (found, expected) = (difference["found"]?.integer ?? 0, difference["expected"]?.integer ?? 0)
      #expect(found ^ expected == 1, "\(json.text())")
      let text = try shell.run("smelt check --rederive tiny \(result) --quiet")
      #expect(text.exit == 1 && text.stdout.contains("has other bytes, byte "), "\(text)")
      putFile(shell.file(file), sound)
    }
    // Another version that made the same is no matter; one that made something else is named.
    let sound = try MappedFile(path: shell.file("x.gguf")).bytes.array
    let words = Array("\"tool\":\"smelt \(smeltVersion)\"".utf8)
    let place = try #require(
      sound.indices.first { sound[$0] == words[0] && sound[$0...].starts(with: words) })
    var other = sound
    let another = String(smeltVersion.dropLast()) + "9"
    other[place + words.count - 2] = UInt8(ascii: "9")
    putFile(shell.file("x.gguf"), other)
    let same = try check(shell, "tiny x.gguf", exit: 0, "same")
    #expect(same["tool"]?.string == "smelt \(another)" && same["program"]?.string == "smelt \(smeltVersion)")
    other[sound.count / 2] ^= 1
    putFile(shell.file("x.gguf"), other)
    let older = try check(shell, "tiny x.gguf", exit: 1, "other_version")
    #expect(older["problem"]?.string?.contains("smelt \(another)") == true)
    // What an ingot stores is held against its checksums first.
    #expect(try shell.run("smelt convert tiny x.ingot --scheme int8-channel --quiet").exit == 0)
    var ingot = try MappedFile(path: shell.file("x.ingot")).bytes.array
    ingot[ingot.count / 2] ^= 1
    putFile(shell.file("x.ingot"), ingot)
    let refused = try shell.run("smelt check --rederive tiny x.ingot --quiet")
    #expect(refused.exit == 2 && refused.stderr.hasPrefix("error[C_"), "\(refused)")
  }

  /// The same bytes under another type, or other dimensions, are other numbers.
  @Test func typesAndDimensionsAreCompared() throws {
    let shell = Shell()
    let made = try shell.run(
      "smelt convert tiny x.gguf --scheme q4_0 --quiet; smelt convert tiny x --scheme W8A8 --quiet")
    #expect(made.exit == 0, "\(made.stderr)")
    let file = try firstFile(in: "x", shell)
    var bytes = try MappedFile(path: shell.file(file)).bytes.array
    let length = bytes.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = String(decoding: bytes[8..<8 + length], as: UTF8.self)
    #expect(header.contains("\"BF16\""))
    bytes.replaceSubrange(8..<8 + length, with: Array(header.replacing("\"BF16\"", with: "\"F16\" ").utf8))
    putFile(shell.file(file), bytes)
    for words in ["", "--sample 100000"] {
      let json = try check(shell, "tiny x \(words)", exit: 1, "differs")
      #expect(json["differing"]?.integer ?? 0 > 0, "\(json.text())")
      let problem = json["differences"]?.array?.first?["problem"]?.string
      #expect(problem == "has the type F16, BF16 is made", "\(json.text())")
    }
    // Q4_0 and IQ4_NL have blocks of as many bytes.
    var blocks = try MappedFile(path: shell.file("x.gguf")).bytes.array
    let name = Array("blk.0.ffn_gate_exps.weight".utf8)
    let place =
      try #require(
        blocks.indices.last { blocks[$0] == name[0] && blocks[$0...].starts(with: name) }) + name.count
    let type = place + 4 + 8 * Int(blocks[place])
    try #require(blocks[type] == 2)
    blocks[type] = 20
    putFile(shell.file("x.gguf"), blocks)
    let json = try check(shell, "tiny x.gguf", exit: 1, "differs")
    #expect(json["differing"]?.integer == 1, "\(json.text())")
    let problem = json["differences"]?.array?.first?["problem"]?.string
    #expect(problem == "has the type IQ4_NL, Q4_0 is made", "\(json.text())")
  }

  private func firstFile(in folder: String, _ shell: Shell) throws -> String {
    let names = try namesInFolder(shell.file(folder)).filter { $0.hasSuffix(".safetensors") }.sorted()
    return "\(folder)/\(try #require(names.first))"
  }

  @Test func anotherSourceIsTold() throws {
    let shell = Shell()
    let made = try shell.run(
      """
      cp -rL tiny other; cp -rL tiny longer; mv longer/model.safetensors longer/weights.safetensors 2>/dev/null
      for result in x x.ingot; do smelt convert tiny $result --scheme int8-channel --quiet || exit 1; done
      """)
    #expect(made.exit == 0, "\(made.stderr)")
    let file = try #require(try namesInFolder(shell.file("other")).first { $0.hasSuffix(".safetensors") })
    var bytes = try MappedFile(path: shell.file("other/\(file)")).bytes.array
    bytes[bytes.count - 9] ^= 1
    putFile(shell.file("other/\(file)"), bytes)
    for result in ["x", "x.ingot"] {
      let json = try check(shell, "other \(result)", exit: 2, "source_changed")
      #expect(json["problem"]?.string?.contains("other bytes now") == true, "\(json.text())")
      let elsewhere = try check(shell, "fp4 \(result)", exit: 2, "source_changed")
      #expect(
        elsewhere["compared"]?.integer == 0
          && elsewhere["problem"]?.string?.contains("it was made from") == true)
    }
    let itself = try check(shell, "x.ingot x", exit: 2, "source_changed")
    #expect(itself["problem"]?.string?.contains("'safetensors'") == true)
  }

  @Test func statisticsAndMethodsAreTold() throws {
    let shell = Shell()
    let text = "--text tiny/calibration.txt --tokens-limit 512"
    let made = try shell.run(
      """
      smelt calibrate tiny s \(text) --quiet && smelt calibrate tiny t \(text) --min-tokens 3 --quiet || exit 1
      smelt convert tiny x --scheme FP8 --statistics s --quiet || exit 1
      smelt quantize tiny y.ingot --scheme int8-channel --calibration tiny/calibration.txt --tokens-limit 512 --quiet || exit 1
      smelt quantize tiny z.ingot --scheme int4-group --calibration tiny/calibration.txt --tokens-limit 512 --quiet || exit 1
      smelt convert tiny w.ingot --scheme int8-channel --quiet
      """)
    #expect(made.exit == 0, "\(made.stderr)")
    for result in ["x", "y.ingot"] {
      let needed = try check(shell, "tiny \(result)", exit: 3, "statistics_needed")
      #expect(needed["problem"]?.string?.contains("SHA-256") == true)
      _ = try check(shell, "tiny \(result) --statistics s", exit: 0, "same")
      _ = try check(shell, "tiny \(result) --statistics t", exit: 2, "statistics_changed")
    }
    let method = try check(shell, "tiny z.ingot --statistics s", exit: 3, "text_needed")
    #expect(method["problem"]?.string?.contains("gptq") == true)
    _ = try check(shell, "tiny w.ingot --statistics s", exit: 2, "statistics_changed")
    _ = try check(shell, "tiny w.ingot --calibration tiny/calibration.txt", exit: 2, "statistics_changed")
    _ = try check(shell, "tiny tiny", exit: 3, "no_provenance")
    for words in [
      "--rederive tiny x --sample 0", "x --sample 3", "x --statistics s", "--rederive tiny x --for vllm",
      "--rederive tiny x --checksums", "x --calibration t", "--rederive tiny x --tokens-limit 8",
    ] {
      let outcome = try shell.run("smelt check \(words)")
      #expect(outcome.exit == 64, "\(words): \(outcome.stderr)")
    }
  }
}

@Suite struct AttestationTests {
  /// Every file with the hash that other programs find, and what it was made from.
  @Test(arguments: [
    ("x/", "--scheme W8A8 --max-shard-size 1M"), ("x.gguf", "--scheme q8_0"),
    ("x.gguf", "--scheme q8_0 --split-max-size 1M"), ("x.ingot", "--scheme int8-channel --max-part-size 2M"),
    ("x/", ""),
  ]) func aStatementSaysWhatWasMadeOfWhat(result: String, options: String) throws {
    let shell = Shell()
    let made = try shell.run("smelt convert tiny \(result) \(options) --attest a.json --quiet")
    #expect(made.exit == 0, "\(made.stderr)")
    let statement = try JSON.scan(try MappedFile(path: shell.file("a.json")).bytes)
    #expect(statement["_type"]?.string == "https://in-toto.io/Statement/v1")
    #expect(statement["predicateType"]?.string == "urn:smelt:conversion:1")
    let page = String(decoding: try MappedFile(path: formats("attestation.md")).bytes.array, as: UTF8.self)
    #expect(page.contains("`urn:smelt:conversion:1`") && page.contains("`https://in-toto.io/Statement/v1`"))
    let subjects = try #require(statement["subject"]?.array)
    let sums = try shell.run(
      result == "x/"
        ? "cd x && find . -type f | sed 's|^./||' | LC_ALL=C sort | xargs sha256sum" : "sha256sum x*")
    let expected = sums.stdout.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    #expect(subjects.count == expected.count)
    for (subject, line) in zip(subjects, expected) {
      #expect(subject["name"]?.string == line[1] && subject["digest"]?["sha256"]?.string == line[0])
    }
    let predicate = try #require(statement["predicate"])
    #expect(
      predicate["tool"]?.string == "smelt \(smeltVersion)" && predicate["family"]?.string == "deepseek_v4")
    #expect(predicate["source"]?["sha256"]?.string?.utf8.count == 64)
    #expect(predicate["source"]?["files"]?.array?.isEmpty == false && predicate["recipe"] != nil)
    #expect(predicate["target"]?["scheme"]?.string == (options.contains("W8A8") ? "W8A8" : nil))
    // The same of shares that are joined.
    let joined = try shell.run(
      """
      mkdir other; cd other
      for i in 1 2; do smelt convert ../tiny \(result) \(options) --shard $i/2 --quiet || exit 1; done
      smelt join \(result == "x/" ? "x" : result).parts \(result) --attest a.json --quiet && cmp a.json ../a.json
      """)
    #expect(joined.exit == 0, "\(joined.stdout)\(joined.stderr)")
  }

  @Test func itsFileIsBesideTheResult() throws {
    let shell = Shell()
    for (file, exit) in [("x/a.json", 64), ("tiny/config.json", 2)] as [(String, Int32)] {
      let outcome = try shell.run("smelt convert tiny x/ --scheme bf16 --attest \(file) --quiet")
      #expect(outcome.exit == exit, "\(file): \(outcome.stderr)")
      #expect(try shell.names() == [])
    }
    try shell.write("a.json", "{}")
    let convert = "smelt convert tiny x.ingot --scheme int8-channel --attest a.json --quiet"
    #expect(try shell.run(convert).exit == 73)
    let kept = try shell.run("\(convert) --overwrite")
    #expect(kept.exit == 73 && kept.stderr.contains("a.json"), "only a statement is replaced: \(kept.stderr)")
    #expect(try shell.names() == ["a.json"])
    removeFile(shell.file("a.json"))
    #expect(try shell.run(convert).exit == 0)
    #expect(try shell.run("\(convert) --overwrite").exit == 0)
    let share = try shell.run("smelt convert tiny y/ --scheme bf16 --shard 1/2 --attest b.json")
    #expect(share.exit == 64, "\(share.stderr)")
  }
}
