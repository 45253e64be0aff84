// Shares of a conversion, in any order, twice, killed: joined, they are what one machine writes.

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

/// A conversion that tasks share.
private struct SharedConversion: Sendable {
  let result: String
  let options: String

  static let all = [
    SharedConversion(result: "x", options: "--scheme int8-channel --max-shard-size 1M"),
    SharedConversion(result: "x", options: "--scheme W8A8"),
    SharedConversion(result: "x.gguf", options: "--scheme q8_0 --unit-size 256K"),
    SharedConversion(result: "x.gguf", options: "--scheme q8_0 --split-max-size 1M"),
    SharedConversion(result: "x.ingot", options: "--scheme int8-channel --unit-size 256K"),
    SharedConversion(result: "x.ingot", options: "--scheme int8-channel --unit-size 256K --max-part-size 2M"),
  ]

  func run(_ shell: Shell, _ more: String = "") throws -> Outcome {
    try shell.run("smelt convert tiny \(result)\(result == "x" ? "/" : "") \(options) --quiet \(more)")
  }

  /// The files of an undisturbed run.
  func whole() throws -> [String: [UInt8]] {
    let shell = Shell()
    let outcome = try run(shell)
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    return try files(shell)
  }

  /// Every file of the result, by its name.
  func files(_ shell: Shell) throws -> [String: [UInt8]] {
    var found: [String: [UInt8]] = [:]
    for name in try shell.names() where name.hasPrefix("x") && !name.hasSuffix(".parts") {
      let path = shell.file(name)
      for inner in pathKind(path) == .directory ? try namesInFolder(path).map({ "/\($0)" }) : [""] {
        found[name + inner] = try MappedFile(path: path + inner).bytes.array
      }
    }
    return found
  }

  func expectWhole(
    _ expected: [String: [UInt8]], _ shell: Shell, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let found = try files(shell)
    #expect(found.keys.sorted() == expected.keys.sorted(), sourceLocation: sourceLocation)
    for (name, bytes) in expected {
      let isEqual = found[name] == bytes
      #expect(isEqual, "\(options): \(name)", sourceLocation: sourceLocation)
    }
  }
}

@Suite struct ShareTests {
  @Test(arguments: SharedConversion.all.indices) func joinedSharesAreWhatOneMachineWrites(kind: Int) throws {
    let conversion = SharedConversion.all[kind]
    let expected = try conversion.whole()
    for (count, order) in [(1, [1]), (2, [2, 1]), (3, [2, 3, 2, 1]), (7, [7, 1, 3, 2, 6, 5, 4])] {
      let shell = Shell()
      for number in order {
        let outcome = try conversion.run(shell, "--shard \(number)/\(count) --threads \(number % 2 + 1)")
        #expect(outcome.exit == 0, "\(outcome.stderr)")
      }
      let joined = try shell.run("smelt join \(conversion.result).parts \(conversion.result) --quiet")
      #expect(joined.exit == 0, "\(joined.stderr)")
      try conversion.expectWhole(expected, shell)
      let again = try shell.run(
        "smelt join \(conversion.result).parts \(conversion.result) --overwrite --remove-parts --quiet")
      #expect(again.exit == 0, "\(again.stderr)")
      try conversion.expectWhole(expected, shell)
      let left = try shell.names()
      #expect(!left.contains("\(conversion.result).parts"))
    }
  }

  @Test func killedAndStartedAgain() throws {
    let conversion = SharedConversion.all[0]
    let expected = try conversion.whole()
    let shell = Shell()
    let process = try shell.launch(
      "convert tiny x \(conversion.options) --quiet --shard 1/2 --threads 1")
    let isThere = try shell.wait {
      try shell.names().contains("x.parts")
        && namesInFolder(shell.file("x.parts")).contains { $0.hasSuffix(".unit.json") }
    }
    #expect(isThere)
    kill(process, SIGKILL)
    _ = try shell.finish(process)
    // Another number of shares finds what is done.
    for share in ["1/1", "2/2", "1/2"] {
      let outcome = try conversion.run(shell, "--shard \(share) --json")
      #expect(outcome.exit == 0, "\(outcome.stderr)")
      let found = try outcome.json()["found"]?.integer ?? 0
      #expect(found > 0)
    }
    #expect(try shell.run("smelt join x.parts x --quiet").exit == 0)
    try conversion.expectWhole(expected, shell)
  }

  /// A task of an array knows its share by itself.
  @Test func arraysOfSlurmAndKubernetes() throws {
    let conversion = SharedConversion.all[0]
    let shell = Shell()
    for task in [4, 6] {
      let outcome = try shell.run(
        "export SLURM_ARRAY_TASK_ID=\(task) SLURM_ARRAY_TASK_MIN=4 SLURM_ARRAY_TASK_STEP=2 SLURM_ARRAY_TASK_COUNT=2; smelt convert tiny x \(conversion.options) --shard auto --json"
      )
      let share = try outcome.json()["share"]?.integer
      #expect(share == task / 2 - 1 && outcome.exit == 0, "\(outcome)")
    }
    let pod = try shell.run(
      "export JOB_COMPLETION_INDEX=1; smelt convert tiny x \(conversion.options) --shard auto/2 --json")
    let (found, written) = (try pod.json()["found"]?.integer, try pod.json()["written"]?.array)
    #expect(found ?? 0 > 0 && written?.isEmpty == true, "\(pod)")
    for index in ["9223372036854775807", "-9223372036854775808"] {
      for name in ["JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID"] {
        let far = try shell.run("export \(name)=\(index); smelt convert tiny x --shard auto/4")
        #expect(far.exit == 64 && far.stderr.contains(name), "\(far)")
      }
    }
    for (script, words) in [
      ("--shard auto", "neither SLURM"), ("--shard 0/2", "no share 0"), ("--shard 3/2", "no share 3"),
      ("--shard 2", "expected NUMBER/COUNT"), ("--shard a/b", "expected NUMBER/COUNT"),
      ("--shard 1/2 --resume", "needs no --resume"),
    ] {
      let outcome = try conversion.run(shell, script)
      #expect(outcome.exit == 64 && outcome.stderr.contains(words), "\(script): \(outcome.stderr)")
    }
  }

  @Test(arguments: [0, 2, 3, 4]) func partsThatDoNotMakeAResultAreRefused(kind: Int) throws {
    let conversion = SharedConversion.all[kind]
    let shell = Shell()
    let parts = "\(conversion.result).parts"
    func join(_ words: String, _ folders: String? = nil) throws {
      let outcome = try shell.run("smelt join \(folders ?? parts) \(conversion.result) --quiet")
      #expect(outcome.exit == 2 && outcome.stderr.hasPrefix("error[UNIT_MISMATCH]: "), "\(outcome)")
      #expect(outcome.stderr.contains(words), "\(words): \(outcome.stderr)")
      #expect(try conversion.files(shell).isEmpty, "nothing has the result's name")
    }
    for share in ["1/2", "2/2"] { #expect(try conversion.run(shell, "--shard \(share)").exit == 0) }
    let names = try namesInFolder(shell.file(parts)).filter { $0.hasSuffix(".unit.json") }
    #expect(names.count > 2)
    let manifest = "\(parts)/\(names[1])"
    let file = String(manifest.dropLast(".unit.json".count))
    let (text, bytes) = (
      try MappedFile(path: shell.file(manifest)).bytes.array,
      try MappedFile(path: shell.file(file)).bytes.array
    )
    removeFile(shell.file(manifest))
    try join("are missing: ")
    putFile(shell.file(manifest), text)
    var damaged = bytes
    damaged[bytes.count / 2] ^= 1
    putFile(shell.file(file), damaged)
    try join("that was written")
    putFile(shell.file(file), Array(bytes.dropLast()))
    try join("that was written")
    removeFile(shell.file(file))
    try join("that was written")
    putFile(shell.file(file), bytes)
    putFile(shell.file(manifest), Array(text.dropLast(20)))
    try join("does not describe a unit")
    putFile(shell.file(manifest), text)
    // A unit of another recipe.
    let options = conversion.options.replacing("int8-channel", with: "fp8-channel").replacing(
      "q8_0", with: "q4_0")
    let other = try shell.run(
      "mkdir other; cd other; smelt convert ../tiny \(conversion.result) \(options) --shard 1/1 --quiet")
    #expect(other.exit == 0, "\(other.stderr)")
    let foreign = try #require(
      try namesInFolder(shell.file("other/\(parts)")).first { $0.hasSuffix(".unit.json") })
    let mine = try? MappedFile(path: shell.file("\(parts)/\(foreign)")).bytes.array
    putFile(
      shell.file("\(parts)/\(foreign)"),
      try MappedFile(path: shell.file("other/\(parts)/\(foreign)")).bytes.array)
    try join("error[UNIT_MISMATCH]: ")
    removeFile(shell.file("\(parts)/\(foreign)"))
    if let mine { putFile(shell.file("\(parts)/\(foreign)"), mine) }
    // A task does not write its unit in the place of one of other work, unless it is told to, and not beside units with other names.
    for more in ["", mine == nil ? "--overwrite" : ""] {
      let mixed = try shell.run(
        "smelt convert tiny \(conversion.result) \(options) --shard 1/1 --quiet \(more)")
      #expect(mixed.exit == 2 && mixed.stderr.hasPrefix("error[UNIT_MISMATCH]: "), "\(mixed.stderr)")
    }
    #expect(try shell.run("smelt join \(parts) \(conversion.result) --quiet").exit == 0)
  }

  /// A file under the very name of a unit that is not that unit is somebody's: it is refused and stays, whatever the option.
  @Test(arguments: [0, 2, 3, 4]) func aFileOfSomebodyElseIsNotReplaced(kind: Int) throws {
    let conversion = SharedConversion.all[kind]
    let expected = try conversion.whole()
    let shell = Shell()
    let parts = "\(conversion.result).parts"
    #expect(try conversion.run(shell, "--shard 1/2").exit == 0)
    let manifest = try #require(
      try namesInFolder(shell.file(parts)).filter { $0.hasSuffix(".unit.json") }.sorted().first)
    let (list, file) = ("\(parts)/\(manifest)", "\(parts)/\(manifest.dropLast(".unit.json".count))")
    let (text, bytes) = (
      try MappedFile(path: shell.file(list)).bytes.array, try MappedFile(path: shell.file(file)).bytes.array
    )
    func refused(_ words: String, _ name: String, holds content: [UInt8], exit: Int32 = 73) throws {
      for more in ["", "--overwrite"] {
        let outcome = try conversion.run(shell, "--shard 1/2 \(more)")
        let status = more.isEmpty ? exit : 73
        #expect(outcome.exit == status, "\(words) \(more): \(outcome)")
        #expect(
          status != 73 || outcome.stderr.contains("move it away") || outcome.stderr.contains("not replaced"))
        let isKept = try MappedFile(path: shell.file(name)).bytes.array == content
        #expect(isKept, "\(words) \(more)")
      }
    }
    let mine = Array("mine".utf8)
    putFile(shell.file(file), mine)
    try refused("another file than the list says", file, holds: mine)
    removeFile(shell.file(list))
    try refused("no list", file, holds: mine)
    let twin = bytes.dropLast() + [bytes[bytes.count - 1] ^ 1]
    putFile(shell.file(file), Array(twin))
    try refused("no list, as many bytes", file, holds: Array(twin))
    putFile(shell.file(file), bytes)
    putFile(shell.file(list), mine)
    try refused("another list", list, holds: mine, exit: 2)
    // What a task leaves that is killed between the two names is what is made anew.
    removeFile(shell.file(list))
    putFile(shell.file("\(list).partial-2147483647"), mine)
    for share in ["1/2", "2/2"] { #expect(try conversion.run(shell, "--shard \(share)").exit == 0) }
    let isSame = try MappedFile(path: shell.file(list)).bytes.array == text
    #expect(isSame)
    // The list that it was writing goes with the parts.
    let joined = try shell.run("smelt join \(parts) \(conversion.result) --remove-parts --quiet")
    #expect(joined.exit == 0, "\(joined)")
    #expect(!(try shell.names().contains(parts)))
    try conversion.expectWhole(expected, shell)
  }

  @Test func aPlanListsItsUnits() throws {
    for conversion in SharedConversion.all {
      let shell = Shell()
      let plan = try shell.run("smelt plan tiny \(conversion.result) \(conversion.options) --json").json()
      let units = try #require(plan["units"]?.array)
      let names = units.flatMap { $0["weights"]?.array?.compactMap(\.string) ?? [] }
      let kept = Set(
        (plan["ledger"]?.array ?? []).filter { $0["fate"]?.string != "dropped" }.compactMap {
          $0["weight"]?.string
        })
      #expect(Set(names) == kept)
      #expect(units.map { $0["unit"]?.integer } == units.indices.map { $0 })
      var listed: [Int] = []
      for number in 1...3 {
        let own = try shell.run(
          "smelt plan tiny \(conversion.result) \(conversion.options) --json --shard \(number)/3"
        ).json()
        listed += (own["units"]?.array ?? []).compactMap { $0["unit"]?.integer }
      }
      #expect(listed == Array(units.indices), "every unit is in one share")
    }
  }

  /// The scripts run as they are, whatever is in the paths: by a scheduler that does at once what it is told.
  @Test func jobsRunAsTheyAre() throws {
    let shell = Shell()
    let name = "it's \"my\" $HOME"
    let quoted = "'it'\\''s \"my\" $HOME'"
    let made = try shell.run(
      """
      mkdir \(quoted); cp -rL tiny \(quoted)/model
      \(Shell.scheduler)
      smelt job slurm \(quoted)/model \(quoted)/x --nodes 3 --cores 1 --time 1:00:00 --command "$SMELT" --scheme bf16 --max-shard-size 1M >job.sh || exit 1
      smelt job kubernetes \(quoted)/model \(quoted)/x --nodes 3 --memory 8Gi --scheme bf16 >job.yaml || exit 1
      PATH=$PWD/bin:$PATH bash job.sh
      """)
    #expect(made.exit == 0, "\(made.stderr)")
    #expect(made.stdout.hasPrefix("tasks: ") && !made.stdout.contains("cluster"), "\(made.stdout)")
    let asked = String(decoding: try MappedFile(path: shell.file("asked")).bytes.array, as: UTF8.self)
    #expect(asked.contains("--dependency=afterok:"), "\(asked)")
    #expect(try shell.run("smelt convert tiny x --scheme bf16 --max-shard-size 1M").exit == 0)
    let same = try shell.run(
      "rm -f x/README.md x/smelt-manifest.json; for f in x/*; do cmp $f \(quoted)/$f || exit 1; done")
    #expect(same.exit == 0, "\(same.stdout)\(same.stderr)")
    #expect(!(try namesInFolder(shell.file(name)).contains("x.parts")))
    let yaml = String(decoding: try MappedFile(path: shell.file("job.yaml")).bytes.array, as: UTF8.self)
    let word = "it's \\\"my\\\" $HOME/model\""
    #expect(
      yaml.contains(word) && yaml.contains("\"--shard\", \"auto/3\"") && yaml.contains("completions: 3"),
      "\(yaml)")
    let refused = try shell.run("smelt job slurm tiny x --nodes 3 --no-such-option")
    #expect(refused.exit == 64, "\(refused.stderr)")
  }
}
