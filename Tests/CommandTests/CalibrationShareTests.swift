// Parts of a calibration, in any order, twice, killed: joined, they are the statistics that one machine makes in as many parts.

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

@Suite struct CalibrationShareTests {
  private static let text = "--text tiny/calibration.txt --tokens-limit 1792"

  private func bytes(_ shell: Shell, _ name: String) throws -> [UInt8] {
    try MappedFile(path: shell.file(name)).bytes.array
  }

  private func run(_ shell: Shell, _ words: String) throws -> Outcome {
    try shell.run("smelt calibrate tiny \(words) --quiet")
  }

  /// Both kinds of statistics, in memory and group by group, each policy that parts allow.
  @Test(arguments: [
    ("s", ""), ("s.gguf", ""), ("s", "--max-memory 8M"), ("s", "--policy peer-max --min-tokens 60"),
  ]) func joinedPartsAreWhatOneMachineMakes(name: String, more: String) throws {
    for (count, order) in [(1, [1]), (2, [2, 1]), (3, [2, 3, 2, 1]), (9, [9, 1, 3, 2, 6, 5, 4, 7, 8])] {
      let one = Shell()
      let whole = try run(one, "\(name) \(Self.text) \(more) --parts \(count) --threads 1")
      #expect(whole.exit == 0, "\(whole.stderr)")
      #expect(try one.names() == [name])
      let shell = Shell()
      for number in order {
        let outcome = try run(
          shell, "\(name) \(Self.text) \(more) --shard \(number)/\(count) --threads \(number % 2 + 1)")
        #expect(outcome.exit == 0, "\(outcome.stderr)")
      }
      let joined = try shell.run("smelt join \(name).parts \(name) --remove-parts --quiet --json")
      #expect(joined.exit == 0, "\(joined.stderr)")
      #expect(try Contract("calibrate").problems(joined.json()) == [])
      let isEqual = try bytes(shell, name) == bytes(one, name)
      #expect(isEqual, "\(name) \(more): \(count)")
      #expect(try shell.names() == [name])
    }
  }

  /// The sums are those of a calibration in one piece: with one part bit for bit, with several to the last digits.
  @Test func partsAddUpToTheWhole() throws {
    let shell = Shell()
    #expect(try run(shell, "plain \(Self.text) --policy weight-only").exit == 0)
    for count in [1, 7] { #expect(try run(shell, "s\(count) \(Self.text) --parts \(count)").exit == 0) }
    func tensors(_ name: String) throws -> (header: JSON, data: [UInt8]) {
      let file = try bytes(shell, name)
      let length = file.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
      return (try JSON.scan(Bytes(Array(file[8..<8 + length]))), Array(file[(8 + length)...]))
    }
    let (plain, one, seven) = (try tensors("plain"), try tensors("s1"), try tensors("s7"))
    let isSame = plain.data == one.data
    #expect(isSame, "one part is all there is")
    #expect(
      one.header["__metadata__"]?["parts"]?.string == "1" && plain.header["__metadata__"]?["parts"] == nil)
    #expect(seven.data.count == plain.data.count)
    var furthest = 0.0
    for (name, tensor) in zip(plain.header.object?.keys ?? [], plain.header.object?.values ?? []) {
      guard let offsets = tensor["data_offsets"]?.array?.compactMap(\.integer), offsets.count == 2 else {
        continue
      }
      let (a, b) = (plain.data[offsets[0]..<offsets[1]], seven.data[offsets[0]..<offsets[1]])
      guard name.hasSuffix(".mean_square") else {
        let isEqual = a == b
        #expect(isEqual, "\(name)")
        continue
      }
      for place in stride(from: offsets[0], to: offsets[1], by: 4) {
        func value(_ bytes: ArraySlice<UInt8>) -> Double {
          Double(Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(bytes[place + $1]) << (8 * $1) }))
        }
        furthest = max(furthest, abs(value(a) - value(b)) / max(value(a), 1e-30))
      }
    }
    #expect(furthest < 1e-6)
  }

  /// A folder in which a task was killed before its part was there, in one of five tries.
  private func killed(_ options: String) throws -> Shell {
    var found: Shell?
    for _ in 0..<5 where found == nil {
      let shell = Shell()
      let process = try shell.launch(
        "calibrate tiny s \(Self.text) \(options) --quiet --threads 1 --checkpoint-seconds 0")
      let parts = shell.file("s.parts")
      func names() throws -> [String] { pathKind(parts) == .directory ? try namesInFolder(parts) : [] }
      let isThere = try shell.wait {
        try names().contains { $0.hasSuffix(".journal") || $0.hasSuffix(".unit.json") }
          || shell.names().contains("s")
      }
      #expect(isThere)
      kill(process, SIGKILL)
      _ = try shell.finish(process)
      let isOver = try shell.names().contains("s") || !names().contains { $0.hasSuffix(".journal") }
      if !isOver { found = shell }
    }
    return try #require(found, "no task was killed in time: \(options)")
  }

  @Test func aKilledTaskGoesOn() throws {
    let one = Shell()
    #expect(try run(one, "s \(Self.text) --parts 2").exit == 0)
    let expected = try bytes(one, "s")
    for command in ["--shard 2/2", "--parts 2"] {
      let shell = try killed(command)
      if command == "--parts 2" {
        let anew = try run(shell, "s \(Self.text) --parts 2")
        #expect(anew.exit == 73 && anew.stderr.contains("--resume"), "\(anew.stderr)")
        let outcome = try run(shell, "s \(Self.text) --parts 2 --resume")
        #expect(outcome.exit == 0, "\(outcome.stderr)")
      } else {
        for share in ["2/2", "1/2", "2/2"] {
          let outcome = try run(shell, "s \(Self.text) --shard \(share)")
          #expect(outcome.exit == 0, "\(outcome.stderr)")
        }
        #expect(try shell.run("smelt join s.parts s --remove-parts --quiet").exit == 0)
      }
      let isEqual = try bytes(shell, "s") == expected
      #expect(isEqual, "\(command)")
      #expect(try shell.names() == ["s"])
    }
  }

  /// What a task left of a part of other work is replaced like a whole one.
  @Test func aHalfMadePartOfOtherWorkIsReplaced() throws {
    for _ in 0..<5 {
      let shell = Shell()
      let process = try shell.launch(
        "calibrate tiny s \(Self.text) --shard 1/1 --quiet --threads 1 --checkpoint-seconds 0")
      let parts = shell.file("s.parts")
      func names() throws -> [String] {
        pathKind(parts) == .directory ? try namesInFolder(parts) : []
      }
      let isBegun = try shell.wait {
        try names().contains {
          $0.hasSuffix(".unit.json")
            || $0.hasSuffix(".journal") && fileByteCount(joinPath(parts, $0)) ?? 0 > 0
        }
      }
      #expect(isBegun)
      kill(process, SIGKILL)
      _ = try shell.finish(process)
      // It may have been done already.
      guard try !names().contains(where: { $0.hasSuffix(".unit.json") }) else { continue }
      let other = "s --text tiny/calibration.txt --tokens-limit 512 --shard 1/1"
      let refused = try run(shell, other)
      #expect(refused.exit == 2 && refused.stderr.contains("RESUME_MISMATCH"), "\(refused)")
      let replaced = try run(shell, "\(other) --overwrite")
      #expect(replaced.exit == 0, "\(replaced)")
      let left = try names()
      #expect(left.count == 2, "\(left)")
      return
    }
    Issue.record("no task was stopped within its part")
  }

  /// What is not the part that belongs under its name is somebody's; parts of another number are told before any work.
  @Test func aFolderOfOtherThingsIsRefused() throws {
    let shell = Shell()
    #expect(try run(shell, "s \(Self.text) --shard 1/6").exit == 0)
    for (words, folder) in [("s \(Self.text) --parts 5 --resume", "s"), ("s \(Self.text) --shard 2/5", "s")] {
      let outcome = try run(shell, words)
      #expect(outcome.exit == 2 && outcome.stderr.contains("UNIT_MISMATCH"), "\(words): \(outcome)")
      #expect(outcome.stderr.contains("--parts 6"), "\(outcome.stderr)")
      #expect(try namesInFolder(shell.file("\(folder).parts")).count == 2)
    }
    #expect(try run(shell, "s \(Self.text) --parts 6 --resume").exit == 0)
    #expect(try shell.names() == ["s"])
    let part = "t.parts/part-00001-of-00002.safetensors"
    try shell.write("mine", "mine")
    #expect(try shell.run("mkdir t.parts; cp mine \(part)").exit == 0)
    for more in ["", "--overwrite"] {
      let outcome = try run(shell, "t \(Self.text) --shard 1/2 \(more)")
      #expect(outcome.exit == 73 && outcome.stderr.contains("is not a part"), "\(outcome)")
      #expect(try bytes(shell, part) == Array("mine".utf8))
    }
    // A part of other work without its list, and one with it that is not what the list says.
    let other = "--text tiny/calibration.txt --tokens-limit 1024"
    let made = try shell.run(
      "rm -r t.parts; smelt calibrate tiny t \(other) --shard 1/2 --quiet && mv \(part).unit.json list")
    #expect(made.exit == 0, "\(made)")
    let kept = try bytes(shell, part)
    for more in ["", "--overwrite"] {
      let outcome = try run(shell, "t \(Self.text) --shard 1/2 \(more)")
      #expect(outcome.exit == 73 && outcome.stderr.contains("is not what would be written"), "\(outcome)")
      let isKept = try bytes(shell, part) == kept
      #expect(isKept, "\(more)")
    }
    #expect(try shell.run("mv list \(part).unit.json; cp mine \(part)").exit == 0)
    let changed = try run(shell, "t \(Self.text) --shard 1/2 --overwrite")
    #expect(changed.exit == 73 && changed.stderr.contains("not replaced"), "\(changed)")
    #expect(try bytes(shell, part) == Array("mine".utf8))
  }

  /// Killed once the statistics had their name, a calibration in parts ends with them.
  @Test func aRunThatOnlyHadToTidyGoesOn() throws {
    let shell = Shell()
    #expect(try run(shell, "s \(Self.text) --parts 2").exit == 0)
    let expected = try bytes(shell, "s")
    for share in ["1/2", "2/2"] { #expect(try run(shell, "s \(Self.text) --shard \(share)").exit == 0) }
    let resumed = try run(shell, "s \(Self.text) --parts 2 --resume")
    #expect(resumed.exit == 0, "\(resumed)")
    #expect(try shell.names() == ["s"])
    let isSame = try bytes(shell, "s") == expected
    #expect(isSame)
  }

  /// The parts are those of `--parts`, however many tasks share them; a task of an array knows its share by itself.
  @Test func tasksShareTheParts() throws {
    let one = Shell()
    #expect(try run(one, "s \(Self.text) --parts 5").exit == 0)
    let shell = Shell()
    for task in [4, 6] {
      let outcome = try shell.run(
        "export SLURM_ARRAY_TASK_ID=\(task) SLURM_ARRAY_TASK_MIN=4 SLURM_ARRAY_TASK_STEP=2 SLURM_ARRAY_TASK_COUNT=2; smelt calibrate tiny s \(Self.text) --shard auto --parts 5 --quiet --json"
      )
      #expect(outcome.exit == 0, "\(outcome.stderr)")
      #expect(try outcome.json()["share"]?.integer == task / 2 - 1)
      #expect(try Contract("share").problems(outcome.json()) == [])
    }
    let pod = try shell.run(
      "export JOB_COMPLETION_INDEX=2; smelt calibrate tiny s \(Self.text) --shard auto/3 --parts 5 --quiet --json"
    )
    let (found, written) = (try pod.json()["found"]?.integer, try pod.json()["written"]?.array)
    #expect(found ?? 0 > 0 && written?.isEmpty == true, "\(pod)")
    #expect(try shell.run("smelt join s.parts s --quiet").exit == 0)
    let isEqual = try bytes(shell, "s") == bytes(one, "s")
    #expect(isEqual)
    // More tasks than windows: those that are left over have nothing to do.
    let idle = try run(Shell(), "s \(Self.text) --shard 4/8")
    #expect(idle.exit == 0 && idle.stdout.contains("fewer units than shares"), "\(idle)")
    for (words, problem) in [
      ("--shard auto", "neither SLURM"), ("--shard 3/2", "no share 3"), ("--parts 0", "--parts must be"),
      ("--shard 1/2 --resume", "needs no --resume"), ("--shard 1/2 --report r.html", "--report shows all"),
      ("--parts 2 --resume", "nothing to resume"),
    ] {
      let outcome = try run(Shell(), "s \(Self.text) \(words)")
      #expect(outcome.exit == 64 && outcome.stderr.contains(problem), "\(words): \(outcome.stderr)")
    }
    let named = Shell()
    #expect(try named.run("mkdir s.parts; touch s.parts/... s.parts/part-").exit == 0)
    #expect(
      try run(named, "s \(Self.text) --shard 1/2").exit == 0, "names that are no part's are not looked at")
    let topUp = try run(Shell(), "s \(Self.text) --shard 1/2 --policy top-up")
    #expect(topUp.exit == 3 && topUp.stderr.contains("which no part has"), "\(topUp.stderr)")
  }

  @Test func partsThatDoNotBelongTogetherAreRefused() throws {
    let shell = Shell()
    func join(_ words: String, _ folders: String = "s.parts") throws {
      let outcome = try shell.run("smelt join \(folders) s --quiet")
      #expect(outcome.exit == 2 && outcome.stderr.hasPrefix("error[UNIT_MISMATCH]: "), "\(words): \(outcome)")
      #expect(outcome.stderr.contains(words), "\(words): \(outcome.stderr)")
      #expect(!(try shell.names().contains("s")), "nothing has the result's name")
    }
    for share in ["1/2", "2/2"] { #expect(try run(shell, "s \(Self.text) --shard \(share)").exit == 0) }
    let file = "s.parts/part-00002-of-00002.safetensors"
    let manifest = "\(file).unit.json"
    let (data, text) = (try bytes(shell, file), try bytes(shell, manifest))
    removeFile(shell.file(manifest))
    try join("1 of 2 units are missing: part-00002-of-00002.safetensors")
    var damaged = data
    damaged[data.count / 2] ^= 1
    putFile(shell.file(manifest), text)
    putFile(shell.file(file), damaged)
    try join("that was written")
    putFile(shell.file(file), data)
    // A part that is twice there, with other bytes; a part of another text, of other options, of another version, of another model.
    let sum = try #require(try JSON.scan(Bytes(text))["xxh64"]?.string)
    let words = String(decoding: text, as: UTF8.self)
    let twice = try shell.run("mkdir twice; cp s.parts/part-00002* twice/")
    #expect(twice.exit == 0)
    putFile(
      shell.file("twice/part-00002-of-00002.safetensors.unit.json"),
      Array(words.replacing(sum, with: String(sum.reversed())).utf8))
    try join("has other bytes than", "s.parts twice")
    putFile(shell.file("twice/part-00002-of-00002.safetensors.unit.json"), text)
    #expect(try shell.run("smelt join s.parts twice s --quiet").exit == 0, "twice the same is no harm")
    removeFile(shell.file("s"))
    putFile(
      shell.file(manifest), Array(words.replacing("\"tool\":\"smelt ", with: "\"tool\":\"smelt 9").utf8))
    try join("'tool'")
    for (options, member) in [
      ("--text tiny/calibration.txt --tokens-limit 1536", "tokens_xxh64"),
      ("\(Self.text) --min-tokens 3", "min_tokens"), ("\(Self.text) --policy refuse", "policy"),
    ] {
      let other = try shell.run(
        "mkdir -p other; cd other; smelt calibrate ../tiny s \(options.replacing("tiny/", with: "../tiny/")) --shard 2/2 --quiet"
      )
      #expect(other.exit == 0, "\(other.stderr)")
      for name in [file, manifest] { putFile(shell.file(name), try bytes(shell, "other/\(name)")) }
      try join("'\(member)")
      let mixed = try run(shell, "s \(Self.text) --shard 2/2")
      #expect(mixed.exit == 2 && mixed.stderr.contains("'\(member)") && mixed.stderr.contains("--overwrite"))
      #expect(try shell.run("rm -r other").exit == 0)
    }
    // A file that is longer than what is used of it: the tokens are the same, and the file is another.
    let longer = try shell.run(
      "mkdir -p other; (cat tiny/calibration.txt; echo) >other/t; cd other; smelt calibrate ../tiny s \(Self.text.replacing("tiny/calibration.txt", with: "t")) --shard 2/2 --quiet"
    )
    #expect(longer.exit == 0, "\(longer.stderr)")
    for name in [file, manifest] { putFile(shell.file(name), try bytes(shell, "other/\(name)")) }
    try join("is of the same tokens, read from other files")
    #expect(try run(shell, "s \(Self.text) --shard 2/2 --overwrite").exit == 0)
    // The folder of another verb's units.
    let units = try shell.run(
      "mkdir -p c/s.parts; touch c/s.parts/model-00001-of-00002.safetensors.unit.json; smelt calibrate tiny c/s \(Self.text) --shard 2/2 --quiet"
    )
    #expect(units.exit == 2 && units.stderr.contains("has this name"), "\(units.stderr)")
    let elsewhere = try shell.run("smelt join s.parts s --source v4 --quiet")
    #expect(elsewhere.exit == 2 && elsewhere.stderr.contains("UNIT_MISMATCH"), "\(elsewhere.stderr)")
    let recipe = try shell.run("smelt join s.parts s --recipe r.json --quiet")
    #expect(recipe.exit == 64, "\(recipe.stderr)")
    // A part is no statistics file.
    let used = try shell.run("smelt convert tiny x.ingot --scheme int8 --statistics \(file) --quiet")
    #expect(used.exit == 2 && used.stderr.contains("smelt join"), "\(used.stderr)")
    #expect(try shell.run("smelt join s.parts s --quiet").exit == 0)
  }

  /// A script for a calibration runs as it is, by a scheduler that does at once what it is told.
  @Test func aJobMakesStatistics() throws {
    let shell = Shell()
    let made = try shell.run(
      """
      \(Shell.scheduler)
      smelt job slurm tiny s --verb calibrate --nodes 3 --command "$SMELT" \(Self.text) >job.sh || exit 1
      PATH=$PWD/bin:$PATH bash job.sh || exit 1
      smelt calibrate tiny t \(Self.text) --parts 3 --quiet || exit 1
      smelt job kubernetes tiny s --verb calibrate --nodes 3 \(Self.text) | grep -q 'args: ."calibrate"' || exit 1
      cmp s t
      """)
    #expect(made.exit == 0, "\(made.stdout)\(made.stderr)")
    #expect(!(try shell.names().contains("s.parts")))
    for words in ["--scheme bf16", "--verb verifi --text a"] {
      #expect(try shell.run("smelt job slurm tiny s --verb calibrate --nodes 3 \(words)").exit == 64)
    }
  }

  /// What starved experts get is decided by what all parts have together.
  @Test func starvedExpertsAreThoseOfTheWholeText() throws {
    let shell = Shell()
    try shell.write("line.txt", String(repeating: "It is a truth universally acknowledged.\n", count: 60))
    for share in ["1/2", "2/2"] {
      #expect(try run(shell, "s --text line.txt --policy refuse --shard \(share)").exit == 0)
    }
    let refused = try shell.run("smelt join s.parts s --quiet")
    #expect(refused.exit == 2 && refused.stderr.hasPrefix("error[CAL_STARVED]: "), "\(refused.stderr)")
    #expect(!(try shell.names().contains("s")))
    let whole = try run(shell, "t --text line.txt --parts 2 --report r.svg --json")
    #expect(whole.exit == 0)
    let plain = try run(shell, "u --text line.txt --policy weight-only --json")
    #expect(try whole.json()["starved"]?.text() == plain.json()["starved"]?.text())
  }
}
