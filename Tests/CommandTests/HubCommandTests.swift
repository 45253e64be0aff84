// The command with addresses in place of paths: every verb that reads, what is refused, what is kept, and a network that fails.

import SmeltStorage
import SmeltTestSupport
import Synchronization
import Testing

@Suite struct HubCommandTests {
  private static let ids =
    #"echo '{"sequences": [[1, 2, 3, 4, 5, 6, 7, 8], [9, 8, 7, 6, 5, 4, 3, 2]]}' >ids.json; "#
    + "for i in 1 2 3 4 5 6; do echo 'It is a truth universally acknowledged, that a text must be long.'; done >t.txt; "

  private func hub(
    _ model: String = "deepseek_v4",
    _ change: @escaping @Sendable (FileServer.Request, FileServer.Reply) -> FileServer.Reply = { $1 }
  ) throws -> HubServer { HubServer(try HubServer.files(fixture("models/\(model)")), change: change) }

  /// What a user has said of the hub.
  private func said(_ hub: HubServer) -> String {
    "export HF_ENDPOINT=\(hub.server.address("")) HF_HOME=$PWD/home SMELT_FETCH_TRIES=3; M=hf://\(hub.id); "
      + Self.ids
  }

  @Test(arguments: [
    "inspect MODEL", "inspect MODEL --tensors --json", "plan MODEL r.ingot --no-measure", "check MODEL",
    "check MODEL --for vllm",
    "evaluate MODEL --tokens ids.json", "logits MODEL r.safetensors --tokens ids.json",
    "generate MODEL --tokens ids.json --max-tokens 2", "calibrate MODEL r.safetensors --tokens ids.json",
    "verify MODEL v4 --tokens ids.json", "diff MODEL v4", "convert MODEL r --scheme W8A8",
    "quantize MODEL r.ingot --scheme int8 --calibration t.txt --bytes --context 16",
  ]) func everyVerbReads(line: String) throws {
    let hub = try hub()
    let shell = Shell()
    let expected = try shell.run(
      Self.ids + "smelt \(line.replacing("MODEL", "v4")); s=$?; rm -rf r r.*; exit $s")
    let found = try shell.run(said(hub) + "smelt \(line.replacing("MODEL", "$M"))")
    #expect(found.exit == expected.exit, "\(found.stderr)\nlocal: \(expected.stderr)")
    #expect(found.exit == 0 || line.contains("--for"), "\(found.stderr)")
    #expect(!hub.server.log.isEmpty)
  }

  @Test func aConversionSaysWhereItsSourceIs() throws {
    let hub = try hub("qwen3_moe")
    let shell = Shell()
    let outcome = try shell.run(
      said(hub)
        + "ln -s '\(fixture("models/qwen3_moe"))' q; smelt convert $M r.ingot --quiet && smelt convert q l.ingot --quiet "
        + "&& smelt diff r.ingot l.ingot >&2 && smelt inspect r.ingot --json")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    let bytes = try MappedFile(path: shell.file("r.ingot")).bytes.array
    let text = String(decoding: bytes, as: UTF8.self)
    #expect(text.contains(HubServer.commit) && text.contains("hf://\(hub.id)"))
    // Nothing but results on the disk.
    #expect(try shell.names().sorted() == ["ids.json", "l.ingot", "q", "r.ingot", "t.txt"])
  }

  @Test func aFileOfARepository() throws {
    let hub = HubServer(
      ["sub/m.gguf": try MappedFile(path: fixture("gguf/all-types.gguf")).bytes.array], large: [".gguf"])
    let shell = Shell()
    let outcome = try shell.run(said(hub) + "smelt inspect $M/sub/m.gguf --json; smelt inspect $M/sub/n.gguf")
    #expect(outcome.stdout.contains("gguf"), "\(outcome.stderr)")
    #expect(outcome.exit == 2 && outcome.stderr.contains("SRC_MISSING"), "\(outcome.stderr)")
  }

  @Test func whatIsNoResult() throws {
    let shell = Shell()
    for line in [
      "convert v4 hf://org/name", "convert v4 https://host/x.ingot",
      "calibrate v4 hf://o/n --tokens ids.json", "logits v4 http://h/x --tokens ids.json",
    ] {
      let outcome = try shell.run(Self.ids + "smelt \(line)")
      #expect(outcome.exit == 64 && outcome.stderr.contains("is an address"), "\(line): \(outcome.stderr)")
    }
    #expect(try shell.names() == ["ids.json", "t.txt"])
  }

  @Test func namesWithoutAScheme() throws {
    let hub = try hub()
    let shell = Shell()
    let plain = try shell.run("smelt inspect \(hub.id)")
    #expect(
      plain.exit == 2 && plain.stderr.contains("hf://\(hub.id)") && plain.stderr.contains("--hub"),
      "\(plain.stderr)")
    #expect(try shell.run(said(hub) + "smelt inspect \(hub.id) --hub").exit == 0)
    for bad in ["hf://name", "https://user:secret@host/m/", "hf://org/name@"] {
      let outcome = try shell.run("smelt inspect \(bad)")
      #expect(outcome.exit == 64, "\(bad): \(outcome.stderr)")
    }
  }

  /// The program starts where there is no libcurl, and says what to do where it is needed.
  @Test func withoutTheLibrary() throws {
    let hub = try hub()
    let shell = Shell()
    let outcome = try shell.run(
      "export SMELT_LIBCURL=/nonexistent/libcurl.so; smelt inspect v4 >/dev/null && " + said(hub)
        + "smelt inspect $M")
    #expect(
      outcome.exit == 3 && outcome.stderr.contains("libcurl") && outcome.stderr.contains("apt install"),
      "\(outcome.stderr)")
    #expect(hub.server.log.isEmpty)
  }

  /// What is kept is a cache of the hub's, and enough without a network.
  @Test func whatIsKept() throws {
    let hub = try hub()
    let shell = Shell()
    let first = try shell.run(said(hub) + "smelt convert $M a.ingot --keep home/hub --quiet")
    #expect(first.exit == 0, "\(first.stderr)")
    let home = "home/hub/models--" + hub.id.split(separator: "/").joined(separator: "--")
    let snapshot = "\(home)/snapshots/\(HubServer.commit)"
    let files = try HubServer.files(fixture("models/deepseek_v4"))
    // What a conversion reads; the reference beside it is no part of the model.
    for (name, bytes) in files where name != "reference.safetensors" {
      let path = shell.file("\(snapshot)/\(name)")
      #expect(isSymbolicLink(path), "\(name)")
      #expect(try MappedFile(path: path).bytes.array == bytes, "\(name)")
    }
    #expect(try MappedFile(path: shell.file("\(home)/refs/main")).bytes.array == Array(HubServer.commit.utf8))
    #expect(try namesInFolder(shell.file("\(home)/blobs")).allSatisfy { !$0.contains(".smelt") })
    let asked = hub.server.log.count
    let offline = try shell.run(
      said(hub)
        + "export HF_HUB_OFFLINE=1; smelt convert $M b.ingot --quiet && smelt inspect \(home) >&2 && smelt diff a.ingot b.ingot >&2"
    )
    #expect(offline.exit == 0, "\(offline.stderr)")
    #expect(hub.server.log.count == asked)
    // Whole in the cache: the listing alone is asked for.
    #expect(try shell.run(said(hub) + "smelt inspect $M").exit == 0)
    #expect(hub.server.log.dropFirst(asked).allSatisfy { $0.path.hasPrefix("/api/") })
    let other = try shell.run(said(hub) + "export HF_HUB_OFFLINE=1; smelt inspect hf://org/other")
    #expect(other.exit == 74 && other.stderr.contains("HF_HUB_OFFLINE"), "\(other.stderr)")
  }

  /// Content that is not what the hub's hash names is neither kept nor taken for the file.
  @Test func contentOfAnotherHash() throws {
    let hub = try hub("deepseek_v4") { request, reply in
      guard request.path.hasPrefix("/cdn/"), reply.status == 206 else { return reply }
      var bad = reply
      if !bad.body.isEmpty { bad.body[bad.body.count - 1] ^= 1 }
      return bad
    }
    let shell = Shell()
    let outcome = try shell.run(said(hub) + "smelt convert $M a.ingot --keep kept --quiet")
    #expect(outcome.exit == 2 && outcome.stderr.contains("error[NET_HASH]"), "\(outcome.stderr)")
    #expect(try !shell.names().contains("a.ingot"))
  }

  /// A network that is gone ends the command with status 74; --resume goes on when it is back.
  @Test func anOutageAndItsEnd() throws {
    let isGone = Mutex(false)
    let count = Mutex(0)
    let hub = HubServer(try HubServer.files(fixture("models/tiny-v4"))) { request, reply in
      guard request.path.hasPrefix("/cdn/") else { return reply }
      // Headers and some weights come; then nothing does.
      let number = count.withLock { count in
        count += 1
        return count
      }
      return number > 4 && isGone.withLock({ $0 }) ? FileServer.Reply(503) : reply
    }
    let shell = Shell()
    isGone.withLock { $0 = true }
    let command =
      "smelt convert $M r.ingot --scheme int8-channel --journal-step 1M --threads 1 --max-memory 64M --quiet"
    let stopped = try shell.run(said(hub) + command)
    #expect(
      stopped.exit == 74 && stopped.stderr.hasPrefix("error[io]: cannot fetch"),
      "\(stopped.exit) \(stopped.stderr)")
    #expect(try !shell.names().contains("r.ingot"))
    isGone.withLock { $0 = false }
    let resume = try shell.names().contains("r.ingot.journal") ? " --resume" : ""
    let done = try shell.run(said(hub) + command + resume)
    #expect(done.exit == 0, "\(done.stderr)")
    let clean = try shell.run(said(hub) + command.replacing("r.ingot", "c.ingot") + "; cmp r.ingot c.ingot")
    #expect(clean.exit == 0, "\(clean.stderr)")
  }
}

extension String {
  /// The text with each occurrence of a word in place of another.
  fileprivate func replacing(_ old: String, _ new: String) -> String {
    var (out, rest) = ("", self[...])
    while let first = rest.first {
      if rest.hasPrefix(old) {
        out += new
        rest = rest.dropFirst(old.count)
      } else {
        out.append(first)
        rest = rest.dropFirst()
      }
    }
    return out
  }
}
