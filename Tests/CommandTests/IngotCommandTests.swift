// What the commands tell of an ingot: where an expert lies, what is damaged, what was proven.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct IngotCommandTests {
  @Test func anExpertIsFound() throws {
    let shell = Shell()
    #expect(try shell.run("smelt convert tiny x.ingot --compression raw").exit == 0)
    let found = try JSON.scan(try shell.run("smelt inspect x.ingot --layer 1 --expert 3 --json").stdout)
    #expect(found["layer"]?.integer == 1 && found["expert"]?.integer == 3)
    let weights = ["gate", "up", "down"].map { "blk.1.ffn_\($0)_exps.weight#3" }
    #expect(found["weights"]?.array?.compactMap(\.string) == weights)
    // The bytes are the source's, one matrix after another.
    let (offset, count) = try (
      #require(found["offset"]?.integer), #require(found["bytes"]?.integer)
    )
    #expect(offset % 4096 == 0 && count >= 3 * 2 * 256 * 128)
    let text = try shell.run("smelt inspect x.ingot --layer 1 --expert 3")
    #expect(text.stdout.contains("bytes \(offset) to \(offset + count) of x.ingot"))
    for wrong in [
      "x.ingot --layer 1 --expert 16", "x.ingot --layer 9 --expert 0", "x.ingot --layer 1",
      "tiny --layer 1 --expert 1",
    ] {
      let outcome = try shell.run("smelt inspect \(wrong)")
      #expect(outcome.exit == 64, "\(wrong): \(outcome.stderr)")
    }
  }

  @Test func allDamageIsListed() throws {
    let shell = Shell()
    #expect(try shell.run("smelt convert tiny x.ingot").exit == 0)
    #expect(try shell.run("smelt check x.ingot").stdout.hasPrefix("sound: 448 weights"))
    #expect(try shell.run("smelt check x.ingot --checksums").stdout.hasPrefix("sound: "))
    var bytes = try MappedFile(path: shell.file("x.ingot")).bytes.array
    for expert in [2, 5] {
      let place = try JSON.scan(
        try shell.run("smelt inspect x.ingot --layer 2 --expert \(expert) --json").stdout)
      bytes[try #require(place["offset"]?.integer) + 40] ^= 0x10
    }
    try writeFile(shell.file("x.ingot"), bytes, overwrite: true)
    for flags in ["", " --checksums", " --threads 1"] {
      let outcome = try shell.run("smelt check x.ingot --json\(flags)")
      #expect(outcome.exit == 2 && outcome.stderr.hasPrefix("error[C_CHECKSUM]: 2 parts are damaged"))
      let found = try JSON.scan(outcome.stdout)
      #expect(found["verdict"]?.string == "damaged")
      let damage = try #require(found["damage"]?.array)
      #expect(
        damage.compactMap { $0["weight"]?.string } == [2, 5].map { "blk.2.ffn_gate_exps.weight#\($0)" })
      #expect(damage.compactMap { $0["layer"]?.integer } == [2, 2])
      #expect(damage.compactMap { $0["expert"]?.integer } == [2, 5])
      #expect(damage.allSatisfy { $0["chunks"]?.array?.compactMap(\.integer) == [0] })
    }
    let text = try shell.run("smelt check x.ingot")
    #expect(text.exit == 2 && text.stdout.hasPrefix("damaged: 2 parts; everything else still reads"))
    #expect(try shell.run("smelt check tiny --checksums").exit == 64)
    // A config.json that cannot be read ends no check.
    let key = Array("\"model_type\"".utf8)
    let place = bytes.indices.reversed().first { bytes[$0] == key[0] && bytes[$0...].starts(with: key) }
    bytes[try #require(place)] ^= 1
    try writeFile(shell.file("x.ingot"), bytes, overwrite: true)
    let outcome = try shell.run("smelt check x.ingot")
    #expect(outcome.exit == 2 && outcome.stdout.hasPrefix("damaged: 3 parts"), "\(outcome.stdout)")
  }

  @Test func aReportIsSealed() throws {
    let shell = Shell()
    #expect(try shell.run("smelt quantize tiny x.ingot --scheme int8-channel").exit == 0)
    func inspected() throws -> JSON { try JSON.scan(try shell.run("smelt inspect x.ingot --json").stdout) }
    let before = try inspected()
    #expect(before["report"] == nil && before["tool"]?.string?.hasPrefix("smelt ") == true)
    #expect(before["recipe"]?.string?.contains("int8-channel") == true)
    #expect(before["source"]?["sha256"]?.string?.utf8.count == 64)
    try writeFile(
      shell.file("t.txt"), Array(String(repeating: "The sea is wide. ", count: 60).utf8), overwrite: false)
    let verify = "smelt verify tiny x.ingot --text t.txt --context 32"
    #expect(try shell.run("\(verify) --seal --max-kl 1").exit == 0)
    let sealed = try inspected()
    #expect(sealed["report"]?["verdict"]?.string == "pass")
    #expect(try #require(sealed["report"]?["kl_mean"]?.double) < 1)
    #expect(sealed["content_hash"]?.string == before["content_hash"]?.string)
    // The last word counts, and a failure is sealed as well.
    #expect(try shell.run("\(verify) --seal --max-kl 1e-30").exit == 1)
    #expect(try inspected()["report"]?["verdict"]?.string == "fail")
    #expect(try shell.run("smelt check x.ingot").exit == 0)
    #expect(try shell.run("smelt inspect x.ingot").stdout.contains("verdict fail, mean KL "))
    let other = try shell.run("smelt verify tiny tiny --text t.txt --context 32 --seal")
    #expect(other.exit == 64 && other.stderr.contains("has no README.md"), "\(other.stderr)")
  }
}
