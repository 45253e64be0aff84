// --overwrite replaces what Smelt wrote and nothing else. Formats/manifest.md, sections 2 and 3.

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

/// Something in the place of a result, a command that would replace it, and what the refusal names.
private struct Foreign: Sendable {
  let what: String
  let setup: String
  let command: String
  let names: String

  init(_ what: String, _ setup: String, _ command: String, _ names: String) {
    (self.what, self.setup, self.command, self.names) = (what, setup, command, names)
  }

  static let toFolder = "convert v4 p --overwrite"
  static let toIngot = "convert v4 p.ingot --overwrite"
  static let toGGUF = "convert v4 p.gguf --overwrite"
  static let gguf = fixture("gguf/models/olmoe.q8_0.gguf")

  static let folders = [
    Foreign(
      "somebody's folder with a config.json", "mkdir p; echo '{}' >p/config.json; echo x >p/thesis", toFolder,
      "no smelt-manifest.json"),
    Foreign("a published checkpoint", "cp -R v4/. p", toFolder, "no smelt-manifest.json"),
    Foreign(
      "the source, arguments swapped", "cp -R v4/. p", "convert good p --overwrite", "no smelt-manifest.json"),
    Foreign("an empty folder", "mkdir p", toFolder, "no smelt-manifest.json"),
    Foreign("a result and a file", "cp -R good p; echo x >p/notes.txt", toFolder, "'notes.txt'"),
    Foreign("a result and a hidden file", "cp -R good p; echo x >p/.notes", toFolder, "'.notes'"),
    Foreign("a result and a folder", "cp -R good p; mkdir p/runs; echo x >p/runs/1", toFolder, "'runs'"),
    Foreign(
      "a result and a link", "cp -R good p; ln -s ../v4 p/source", toFolder, "'source' in it, a symbolic link"
    ),
    Foreign("a result and a pipe", "cp -R good p; mkfifo p/pipe", toFolder, "'pipe' in it, a pipe"),
    Foreign(
      "a result and a second name of a file", "cp -R good p; echo x >x; ln x p/x", toFolder, "'x' in it"),
    Foreign(
      "a result with an edited config.json", "cp -R good p; echo >>p/config.json", toFolder,
      "'config.json' in it was changed"),
    Foreign(
      "a result of a file less", "cp -R good p; rm p/tokenizer.json p/config.json", toFolder,
      "no longer in it"),
    Foreign(
      "a result with another's weights", "cp -R good p; cp v4/config.json p/model.safetensors", toFolder,
      "'model.safetensors' in it was changed"),
    Foreign(
      "a result whose list was taken out", "cp -R good p; rm p/smelt-manifest.json", toFolder,
      "no smelt-manifest.json"),
    Foreign("a link to a result", "ln -s good p", toFolder, "is a symbolic link"),
    Foreign("a link to nothing", "ln -s nowhere p", toFolder, "is a symbolic link to nothing"),
    Foreign("a file", "echo x >p", toFolder, "is not a folder"),
    Foreign("a pipe", "mkfifo p", toFolder, "is not a folder"),
  ]

  static let files = [
    Foreign("a text", "echo x >p.ingot", toIngot, "not an ingot that smelt wrote"),
    Foreign("an empty file", ": >p.ingot", toIngot, "not an ingot that smelt wrote"),
    Foreign(
      "a GGUF file in an ingot's place", "cp '\(gguf)' p.ingot", toIngot, "not an ingot that smelt wrote"),
    Foreign("a folder with an ingot's name", "cp -R v4/. p.ingot", toIngot, "is not a regular file"),
    Foreign("a result folder with an ingot's name", "cp -R good p.ingot", toIngot, "is not a regular file"),
    Foreign("a link to an ingot", "ln -s good.ingot p.ingot", toIngot, "is a symbolic link"),
    Foreign("a link to nothing", "ln -s nowhere p.ingot", toIngot, "is a symbolic link to nothing"),
    Foreign("a pipe", "mkfifo p.ingot", toIngot, "is not a regular file"),
    Foreign(
      "a second name of somebody's file", "echo x >x; ln x p.ingot", toIngot, "not an ingot that smelt wrote"),
    Foreign(
      "a part that is none", "echo x >p-00002-of-00009.ingot", "\(toIngot) --max-part-size 2M",
      "p-00002-of-00009.ingot' is not replaced"),
    Foreign("another tool's GGUF file", "cp '\(gguf)' p.gguf", toGGUF, "not a GGUF model that smelt wrote"),
    Foreign(
      "an ingot in a GGUF file's place", "cp good.ingot p.gguf", toGGUF, "not a GGUF model that smelt wrote"),
    Foreign(
      "another tool's part", "cp '\(gguf)' p-00001-of-00002.gguf", "\(toGGUF) --split-max-size 1M",
      "p-00001-of-00002.gguf' is not replaced"),
    Foreign(
      "another tool's safetensors in the place of statistics", "cp v4/model.safetensors p",
      "calibrate v4 p --tokens ids.json --overwrite", "not a statistics file that smelt wrote"),
    Foreign(
      "another tool's GGUF file in the place of an importance matrix", "cp '\(gguf)' p.gguf",
      "calibrate v4 p.gguf --tokens ids.json --overwrite", "not an importance matrix that smelt wrote"),
    Foreign(
      "statistics in the place of logits", "smelt calibrate v4 p --tokens ids.json --quiet >/dev/null",
      "logits v4 p --tokens ids.json --overwrite", "not a file of logits that smelt wrote"),
    Foreign(
      "somebody's JSON in a report's place", "echo '{\"schema\": \"mine\"}' >r.json",
      "verify v4 good --tokens ids.json --json r.json --overwrite", "not a report of verify that smelt wrote"),
    Foreign(
      "somebody's page in a report's place", "echo '<!doctype html><html>' >r.html",
      "verify v4 good --tokens ids.json --html r.html --overwrite", "not a page of verify that smelt wrote"),
    Foreign(
      "somebody's picture in a heat map's place", "echo '<svg xmlns=\"x\">' >r.svg",
      "calibrate v4 s --tokens ids.json --report r.svg --overwrite", "not a heat map that smelt wrote"),
  ]
}

@Suite struct OverwriteTests {
  /// A folder with a result and an ingot of the golden checkpoint.
  private func shell() throws -> Shell {
    let shell = Shell()
    try shell.write("ids.json", "{\"sequences\": [[1, 2, 3, 4, 5, 6, 7, 8]]}")
    let made = try shell.run("smelt convert v4 good --scheme int8; smelt convert v4 good.ingot")
    #expect(made.exit == 0, "\(made.stderr)")
    return shell
  }

  /// Names, what they lead to, and sums of all files.
  private let listing =
    "ls -iRA1; find . -type f -exec cksum {} + | sort; find . -type l -exec ls -l {} + | sort"

  private func refuse(_ cases: [Foreign]) throws {
    let shell = try shell()
    for foreign in cases {
      let before = try shell.run("\(foreign.setup)\n\(listing)")
      let outcome = try shell.run("smelt \(foreign.command)")
      #expect(outcome.exit == 73, "\(foreign.what): \(outcome.stderr)")
      #expect(outcome.stderr.contains(foreign.names), "\(foreign.what): \(outcome.stderr)")
      #expect(outcome.stderr.contains("\n  help: "), "\(foreign.what)")
      let after = try shell.run(listing)
      // The setup may print nothing.
      #expect(after.stdout == before.stdout, "\(foreign.what): something was touched")
      #expect(try shell.run("rm -rf p p.* p-* r.* x s").exit == 0)
    }
  }

  @Test func noFolderThatSmeltDidNotWriteIsTouched() throws { try refuse(Foreign.folders) }

  @Test func noFileThatSmeltDidNotWriteIsTouched() throws { try refuse(Foreign.files) }

  @Test func aSocketIsLeftAlone() throws {
    let shell = Shell()
    let path = shell.file("p")
    var address = sockaddr_un()
    guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    #if canImport(Glibc)
      let socket = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    #else
      let socket = socket(AF_UNIX, SOCK_STREAM, 0)
    #endif
    defer { close(socket) }
    let size = socklen_t(MemoryLayout<sockaddr_un>.size)
    let isBound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(socket, $0, size) == 0 }
    }
    #expect(isBound)
    for result in ["p", "p/"] {
      #expect(try shell.run("smelt convert v4 \(result) --overwrite").exit == 73)
    }
    #expect(pathKind(path) == .other)
  }

  /// Only where the system lets the test mount something of its own.
  @Test func aMountPointIsLeftAlone() throws {
    let shell = try shell()
    let outcome = try shell.run(
      """
      mkdir m
      unshare -rm true 2>/dev/null || unshare -m true 2>/dev/null || { echo no mounts; exit 0; }
      for flags in -rm -m; do unshare $flags true 2>/dev/null && break; done
      unshare $flags sh -c 'mount --bind good m 2>/dev/null || { echo no mounts; exit 0; }
        "$SMELT" convert v4 m --overwrite; echo "exit $?"; ls m | wc -l'
      """)
    guard !outcome.stdout.contains("no mounts") else { return }
    #expect(outcome.stdout.contains("exit 73"), "\(outcome.stdout) \(outcome.stderr)")
    #expect(outcome.stderr.contains("a disk is mounted there"), "\(outcome.stderr)")
    #expect(try shell.names().contains("good"))
  }

  /// And what it wrote is replaced, whatever the kind.
  @Test func whatSmeltWroteIsReplaced() throws {
    let shell = try shell()
    for command in [
      "convert v4 good", "convert v4 good.ingot --scheme int8", "convert v4 p.gguf",
      "convert v4 q.gguf --split-max-size 1M",
      "convert v4 q.ingot --max-part-size 2M", "calibrate v4 s --tokens ids.json --report r.svg",
      "calibrate v4 s.gguf --tokens ids.json --report c.html", "logits v4 l --tokens ids.json",
      "verify v4 good --tokens ids.json --json r.json --html r.html",
    ] {
      for _ in 0..<2 {
        let outcome = try shell.run("smelt \(command) --overwrite")
        #expect(outcome.exit == 0, "\(command): \(outcome.stderr)")
      }
      let outcome = try shell.run("smelt \(command)")
      #expect(
        outcome.exit == 73 && outcome.stderr.contains("pass --overwrite"), "\(command): \(outcome.stderr)")
    }
    #expect(
      try shell.names().allSatisfy {
        !$0.contains("partial") && !$0.contains("replaced") && !$0.contains("lock")
      })
  }

  /// `verify --seal` changes README.md, and the folder stays one that Smelt wrote.
  @Test func aSealedFolderIsReplacedToo() throws {
    let shell = try shell()
    #expect(try shell.run("smelt verify v4 good --tokens ids.json --seal").exit == 0)
    #expect(try shell.run("smelt convert v4 good --scheme int8 --overwrite").exit == 0)
    // A README.md that somebody edited is sealed, and is still somebody's.
    #expect(
      try shell.run("echo mine >>good/README.md; smelt verify v4 good --tokens ids.json --seal").exit == 0)
    let outcome = try shell.run("smelt convert v4 good --overwrite")
    #expect(
      outcome.exit == 73 && outcome.stderr.contains("'README.md' in it was changed"), "\(outcome.stderr)")
    let none = try shell.run("rm good/README.md; smelt verify v4 good --tokens ids.json --seal")
    #expect(none.exit == 64 && none.stderr.contains("has no README.md"), "\(none.stderr)")
  }

  /// The list of a folder's files is no part of the model.
  @Test func theListIsNotCarriedAlong() throws {
    let shell = try shell()
    #expect(
      try shell.run(
        "smelt convert good again; smelt convert good again.ingot; smelt convert again.ingot back"
      ).exit == 0)
    let outcome = try shell.run(
      "grep -c smelt-manifest again/smelt-manifest.json back/smelt-manifest.json again.ingot; true")
    #expect(outcome.stdout == "again/smelt-manifest.json:0\nback/smelt-manifest.json:0\nagain.ingot:0\n")
  }

  @Test func pathsWithoutANameAreSaid() throws {
    let shell = Shell()
    try shell.write("ids.json", "{\"sequences\": [[1, 2]]}")
    for command in [
      "convert v4 ''", "convert '' out", "quantize v4 '' --scheme int8", "plan v4 ''", "inspect ''",
      "check ''",
      "calibrate v4 '' --tokens ids.json", "logits v4 '' --tokens ids.json", "logits v4 l --tokens ''",
      "convert v4 out --statistics ''", "convert v4 out --recipe ''", "evaluate tiny --text ''", "diff v4 ''",
      "verify v4 v4 --tokens ids.json --json ''", "verify v4 v4 --tokens ids.json --html ''",
      "calibrate v4 s --tokens ids.json --report ''",
    ] {
      let outcome = try shell.run("smelt \(command)")
      #expect(outcome.exit == 64 && outcome.stderr.contains("is empty"), "\(command): \(outcome.stderr)")
    }
    #expect(try shell.names() == ["ids.json"])
  }

  /// A terminal shows a path or an option as text, whoever wrote it.
  @Test func escapesInTheUsersOwnWordsAreShown() throws {
    let shell = Shell()
    for command in [
      "convert \"a${E}[31mb\" out", "convert v4 \"no${E}/out\"", "\"con${E}vert\"",
      "convert v4 out \"--x${E}y\"",
      "convert v4 out --scheme \"x${E}y\"", "convert v4 out --threads \"${E}\"",
      "convert v4 out \"extra${E}\"",
      "convert v4 out --to \"${E}\"", "evaluate tiny --text \"no${E}\"", "inspect \"${E}\"",
      "convert v4 \"ok${E}\" --scheme int8",
    ] {
      let outcome = try shell.run("E=$(printf '\\033')\nsmelt \(command)")
      #expect(!outcome.stderr.contains("\u{1B}") && !outcome.stdout.contains("\u{1B}"), "\(command)")
      #expect((outcome.stderr + outcome.stdout).contains("\\u{1b}"), "\(command): \(outcome.stderr)")
    }
  }
}
