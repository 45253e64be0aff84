// Parts of a verification, in any order: joined, they are the report of one machine, number by number.

import SmeltStorage
import SmeltTestSupport
import Testing

/// A verification that tasks share.
private struct Verification: Sendable {
  let result: String
  let scheme: String
  let options: String
  var text = "--text tiny/calibration.txt --tokens-limit 1792"

  static let all = [
    Verification(result: "x.ingot", scheme: "int8-channel", options: ""),
    Verification(result: "x", scheme: "W8A8", options: "--as vllm --full"),
    Verification(
      result: "x.gguf", scheme: "q8_0", options: "--activations gguf --compute int8 --max-memory 8M"),
    Verification(
      result: "x.ingot", scheme: "fp8-block", options: "--max-kl 1e-9 --context 100",
      text: "--text tiny/calibration.txt --text line.txt"),
  ]

  func shell() throws -> Shell {
    let shell = Shell()
    try shell.write("line.txt", String(repeating: "It is a truth universally acknowledged.\n", count: 60))
    let made = try shell.run("smelt convert tiny \(result) --scheme \(scheme) --quiet")
    #expect(made.exit == 0, "\(made.stderr)")
    return shell
  }

  func run(_ shell: Shell, _ more: String) throws -> Outcome {
    try shell.run("smelt verify tiny \(result) \(text) \(options) --quiet \(more)")
  }

  /// A report without what another run has otherwise: time, memory, the day.
  static func figures(_ shell: Shell, _ name: String) throws -> JSON {
    let json = try JSON.scan(try MappedFile(path: shell.file(name)).bytes)
    let members = zip(json.object?.keys ?? [], json.object?.values ?? []).filter {
      !["resources", "date"].contains($0.0)
    }
    return JSON(members: members.map { ($0, $1) })
  }
}

/// The lists of a part, and the file with others in their place.
private struct PartFile {
  let path: String
  let lists: [(name: String, values: [Double])]
  private let manifest: String

  init(_ path: String) throws {
    self.path = path
    let bytes = try MappedFile(path: path).bytes.array
    let length = bytes.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = try JSON.scan(Bytes(Array(bytes[8..<8 + length])))
    lists = (header.object?.keys ?? []).filter { $0 != "__metadata__" }.map { name in
      let range = (header[name]?["data_offsets"]?.array ?? []).compactMap {
        $0.integer.map { $0 + 8 + length }
      }
      return (
        name,
        stride(from: range[0], to: range[1], by: 8).map { place in
          Double(bitPattern: bytes[place..<place + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) })
        }
      )
    }
    manifest = String(
      decoding: try MappedFile(path: "\(path).unit.json").bytes.array, as: UTF8.self)
  }

  /// Writes the file with other lists, and their sum beside it.
  func write(_ lists: [(name: String, values: [Double])]) throws {
    var members: [(String, JSON)] = [("__metadata__", ["format": "smelt.verify-part/1"])]
    var data: [UInt8] = []
    for (name, values) in lists {
      let start = data.count
      for value in values { withUnsafeBytes(of: value.bitPattern.littleEndian) { data += $0 } }
      members.append(
        (
          name,
          [
            "dtype": "F64", "shape": [JSON(values.count)], "data_offsets": [JSON(start), JSON(data.count)],
          ]
        ))
    }
    var header = Array(JSON(members: members).text().utf8)
    header += Array(repeating: UInt8(ascii: " "), count: (8 - header.count % 8) % 8)
    let file = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) } + header + data
    let said = try JSON.scan(Bytes(Array(manifest.utf8)))
    let digits = String(file.withUnsafeBytes { xxh64($0) }, radix: 16)
    let sum = String(repeating: "0", count: 16 - digits.count) + digits
    let (old, bytes) = (try #require(said["xxh64"]?.string), try #require(said["bytes"]?.integer))
    putFile(path, file)
    putFile(
      "\(path).unit.json",
      Array(
        manifest.replacing(old, with: sum).replacing("\"bytes\":\(bytes),", with: "\"bytes\":\(file.count),")
          .utf8))
  }
}

@Suite struct VerifyShareTests {
  @Test(arguments: Verification.all.indices) func joinedPartsAreTheReportOfOneMachine(kind: Int) throws {
    let verification = Verification.all[kind]
    let shell = try verification.shell()
    let whole = try verification.run(shell, "--json a.json --html a.html --threads 1")
    let expected = try Verification.figures(shell, "a.json")
    #expect(whole.exit == (verification.options.contains("--max-kl") ? 1 : 0), "\(whole.stderr)")
    for (count, order) in [(1, [1]), (3, [2, 3, 2, 1]), (7, [7, 1, 3, 2, 6, 5, 4])] {
      for number in order {
        let outcome = try verification.run(
          shell, "--json b.json --shard \(number)/\(count) --threads \(number % 2 + 1) --overwrite")
        #expect(outcome.exit == 0, "\(outcome.stderr)")
      }
      // Joined from another folder: what the tasks said holds where they said it.
      let joined = try shell.run(
        "mkdir -p other; cd other; smelt join ../b.json.parts ../b.json --html ../b.html --overwrite --remove-parts --quiet"
      )
      #expect(joined.exit == whole.exit, "\(joined)")
      let found = try Verification.figures(shell, "b.json")
      #expect(found.text() == expected.text(), "\(count) parts")
      for (key, value) in zip(expected.object?.keys ?? [], expected.object?.values ?? [])
      where found[key]?.text() != value.text() {
        Issue.record("\(count) parts: \(key)")
      }
      let names = try shell.names()
      #expect(!names.contains("b.json.parts") && names.contains("b.html"))
    }
  }

  @Test func partsThatDoNotBelongTogetherAreRefused() throws {
    let verification = Verification.all[0]
    let shell = try verification.shell()
    func join(_ words: String) throws {
      let outcome = try shell.run("smelt join b.json.parts b.json --quiet")
      #expect(outcome.exit == 2 && outcome.stderr.hasPrefix("error[UNIT_MISMATCH]: "), "\(words): \(outcome)")
      #expect(outcome.stderr.contains(words), "\(words): \(outcome.stderr)")
      #expect(!(try shell.names().contains("b.json")))
    }
    for share in ["1/2", "2/2"] {
      #expect(try verification.run(shell, "--json b.json --shard \(share)").exit == 0)
    }
    let file = "b.json.parts/part-00002-of-00002.safetensors"
    let manifest = "\(file).unit.json"
    func bytes(_ name: String) throws -> [UInt8] { try MappedFile(path: shell.file(name)).bytes.array }
    let (data, text) = (try bytes(file), try bytes(manifest))
    removeFile(shell.file(manifest))
    try join("1 of 2 units are missing: part-00002-of-00002.safetensors")
    putFile(shell.file(manifest), text)
    var damaged = data
    damaged[data.count / 2] ^= 1
    putFile(shell.file(file), damaged)
    try join("that was written")
    putFile(shell.file(file), data)
    let words = String(decoding: text, as: UTF8.self)
    putFile(
      shell.file(manifest), Array(words.replacing("\"tool\":\"smelt ", with: "\"tool\":\"smelt 9").utf8))
    try join("'tool'")
    for (options, member) in [
      ("--text line.txt", "tokens_xxh64"), ("\(verification.text) --full", "full"),
      ("\(verification.text) --activations int8", "settings"),
    ] {
      let other = try shell.run(
        "smelt verify tiny x.ingot \(options) --json c.json --shard 2/2 --quiet; cp c.json.parts/part-00002* b.json.parts/; rm -r c.json.parts"
      )
      #expect(other.exit == 0, "\(other.stderr)")
      try join("'\(member)")
      let mixed = try verification.run(shell, "--json b.json --shard 2/2")
      #expect(mixed.exit == 2 && mixed.stderr.contains("--overwrite"), "\(mixed.stderr)")
    }
    #expect(try verification.run(shell, "--json b.json --shard 2/2 --overwrite").exit == 0)
    // Numbers that no comparison has, under the right sum.
    let (first, stamp) = (
      "b.json.parts/part-00001-of-00002.safetensors", "b.json.parts/part-00001-of-00002.safetensors.unit.json"
    )
    let (sound, said) = (try bytes(first), try bytes(stamp))
    let length = sound.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = try JSON.scan(Bytes(Array(sound[8..<8 + length])))
    for name in ["same_top", "largest", "routing.0", "chosen.1", "totals"] {
      let place = try #require(header[name]?["data_offsets"]?.array?.first?.integer)
      for value in [-1, 0.5, 0x1p60, Double.nan] where name != "largest" || !(value < 1) {
        var lie = sound
        withUnsafeBytes(of: value.bitPattern.littleEndian) {
          lie.replaceSubrange(8 + length + place..<16 + length + place, with: $0)
        }
        let digits = String(lie.withUnsafeBytes { xxh64($0) }, radix: 16)
        let old = try #require(try JSON.scan(Bytes(said))["xxh64"]?.string)
        putFile(shell.file(first), lie)
        putFile(
          shell.file(stamp),
          Array(
            String(decoding: said, as: UTF8.self).replacing(
              old, with: String(repeating: "0", count: 16 - digits.count) + digits
            ).utf8))
        try join("'\(name)")
      }
    }
    putFile(shell.file(first), sound)
    putFile(shell.file(stamp), said)
    for (words, exit) in [("--html h.html --recipe r", 64), ("--source tiny", 64), ("--attest a.json", 64)]
      as [(String, Int32)]
    {
      let outcome = try shell.run("smelt join b.json.parts b.json \(words) --quiet")
      #expect(outcome.exit == exit, "\(words): \(outcome.stderr)")
    }
    #expect(try shell.run("smelt join b.json.parts b.json --quiet").exit == 0)
    for (words, problem) in [
      ("--shard 1/2", "needs --json"), ("--shard 1/2 --json", "needs --json"),
      ("--shard 1/2 --json c.json --html h.html", "whole report"),
      ("--parts 2 --json c.json", "goes with --shard"),
      ("--shard 1/2 --json c.json --seal", "whole report"), ("--shard 3/2 --json c.json", "no share 3"),
    ] {
      let outcome = try verification.run(shell, words)
      #expect(outcome.exit == 64 && outcome.stderr.contains(problem), "\(words): \(outcome.stderr)")
    }
  }

  /// What a task finds that the join could not do is told by the task.
  @Test func whatTheJoinWouldRefuse() throws {
    let shell = Shell()
    try shell.write("t.txt", String(repeating: "It is a truth universally acknowledged.\n", count: 60))
    try shell.write("taken.json", "{}")
    let verify = "smelt verify tiny tiny --text t.txt --tokens-limit 512 --quiet"
    for (file, exit) in [("taken.json", 73), ("t.txt", 2), ("tiny/config.json", 2), ("no/r.json", 73)]
      as [(String, Int32)]
    {
      for more in ["", "--overwrite"] {
        let outcome = try shell.run("\(verify) --json \(file) --shard 1/2 \(more)")
        #expect(outcome.exit == exit, "\(file) \(more): \(outcome)")
      }
      #expect(pathKind(shell.file("\(file).parts")) == .nothing)
    }
    // The text is what it was when the parts were made, beyond their windows too.
    for share in ["1/2", "2/2"] {
      #expect(try shell.run("\(verify) --json r.json --shard \(share)").exit == 0)
    }
    let changed = try shell.run("cp t.txt kept; echo More. >>t.txt; smelt join r.json.parts r.json --quiet")
    #expect(changed.exit == 2 && changed.stderr.contains("UNIT_MISMATCH"), "\(changed)")
    #expect(changed.stderr.contains("'text.text_sha256'"), "\(changed.stderr)")
    let joined = try shell.run("cp kept t.txt; smelt join r.json.parts r.json --quiet")
    #expect(joined.exit == 0, "\(joined)")
    let other = try shell.run("\(verify) --json r.json --shard 1/1 --overwrite")
    #expect(other.exit == 2 && other.stderr.contains("--parts 2"), "\(other)")
  }

  /// Numbers that no comparison of a part's windows has, in a file that is whole and has the right sum.
  @Test func numbersOfOtherWindowsAreRefused() throws {
    let verification = Verification.all[0]
    let shell = try verification.shell()
    #expect(try verification.run(shell, "--json b.json --shard 1/1").exit == 0)
    let part = try PartFile(shell.file("b.json.parts/part-00001-of-00001.safetensors"))
    typealias Lists = [(name: String, values: [Double])]
    func set(_ name: String, _ change: @escaping (inout [Double]) -> Void) -> (inout Lists) -> Void {
      { lists in for place in lists.indices where lists[place].name == name { change(&lists[place].values) } }
    }
    let samples = ["sample_divergences", "forced_divergences", "floor_divergences"]
    let lies: [(words: String, (inout Lists) -> Void)] = [
      ("follows token", set("largest") { $0[2] = 1 - $0[2] }), ("whether", set("largest") { $0[2] = 2 }),
      ("names the id", set("largest") { $0[6] = 0x1p30 }),
      ("'chosen.0", set("chosen.0") { $0 = Array(repeating: 0x1p42, count: 1 << 12) }),
      ("'chosen.0", set("chosen.0") { $0[0] = 0x1p42 }), ("'missed.0", set("missed.0") { $0[0] = 0x1p42 }),
      ("'routing.0", set("routing.0") { $0[1] = $0[0] + 1 }), ("'routing.0", set("routing.0") { $0[0] += 1 }),
      ("is missing", { $0.removeAll { $0.name == "routing.0" } }),
      ("'sample_divergences", { for name in samples { set(name) { $0 = [] }(&$0) } }),
    ]
    for (words, change) in lies {
      var lists = part.lists
      change(&lists)
      try part.write(lists)
      let outcome = try shell.run("smelt join b.json.parts b.json --quiet")
      #expect(outcome.exit == 2 && outcome.stderr.hasPrefix("error[UNIT_MISMATCH]: "), "\(words): \(outcome)")
      #expect(outcome.stderr.contains(words), "\(words): \(outcome.stderr)")
    }
    try part.write(part.lists)
    #expect(try shell.run("smelt join b.json.parts b.json --quiet").exit == 0)
  }

  /// Words of other programs, and parts of quiet tasks: the join has the tasks' words as they were parsed, and says its own report.
  @Test func habitsAreJoined() throws {
    let shell = Shell()
    let text = "--text tiny/calibration.txt --tokens-limit 512"
    for share in ["1/2", "2/2"] {
      let outcome = try shell.run(
        "smelt verify -m tiny tiny \(text) -c 128 -j 1 --force --silent --json r.json --shard \(share)")
      #expect(outcome.exit == 0, "\(outcome.stderr)")
    }
    let joined = try shell.run("env SMELT_PROGRESS_SECONDS=0.000001 \"$SMELT\" join r.json.parts r.json")
    #expect(joined.exit == 0 && joined.stderr.contains("compare weights"), "\(joined)")
    let report = try JSON.scan(try MappedFile(path: shell.file("r.json")).bytes)
    #expect(report["context"]?.integer == 128)
    let quiet = try shell.run("env SMELT_PROGRESS_SECONDS=0.000001 \"$SMELT\" join r.json.parts r.json -f -q")
    #expect(quiet.exit == 0 && quiet.stderr == "", "\(quiet.stderr)")
  }

  /// Files are named from the root in a script, so that tasks whose folder is another find them and the join its parts.
  @Test(arguments: ["slurm", "kubernetes"]) func aJobNamesItsFiles(scheduler: String) throws {
    let shell = Shell()
    try shell.write("s", "x")
    let made = try shell.run(
      "smelt job \(scheduler) tiny x.ingot --verb verify --nodes 2 --text 'tiny/*.txt' --text=t.txt --activations static-int8 --statistics s --json r9.json -c 64"
    )
    #expect(made.exit == 0, "\(made.stderr)")
    let words = Set(made.stdout.split { " \",\n[]'".contains($0) }.map(String.init))
    let folder = try #require(resolvedPath(shell.file(".")))
    for name in ["r9.json", "r9.json.parts", "s"] { #expect(words.contains("\(folder)/\(name)"), "\(words)") }
    #expect(words.contains("--text=\(folder)/t.txt") && words.isDisjoint(with: ["r9.json", "s", "-c"]))
    #expect(words.contains("--context"))
  }

  /// A script for a verification runs as it is, by a scheduler that does at once what it is told.
  @Test func aJobMakesAReport() throws {
    let verification = Verification.all[0]
    let shell = try verification.shell()
    let made = try shell.run(
      """
      \(Shell.scheduler)
      smelt job slurm tiny x.ingot --verb verify --nodes 2 --command "$SMELT" \(verification.text) --json r.json >job.sh || exit 1
      PATH=$PWD/bin:$PATH bash job.sh || exit 1
      """)
    #expect(made.exit == 0, "\(made.stdout)\(made.stderr)")
    let names = try shell.names()
    #expect(names.contains("r.json") && !names.contains("r.json.parts"))
    #expect(
      try Contract("verify").problems(JSON.scan(try MappedFile(path: shell.file("r.json")).bytes)) == [])
    let refused = try shell.run("smelt job slurm tiny x.ingot --verb verify --nodes 2 \(verification.text)")
    #expect(refused.exit == 64, "\(refused.stderr)")
  }
}
