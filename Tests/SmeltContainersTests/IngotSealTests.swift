// A note added to an ingot that is there. Formats/ingot.md, section 7.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct IngotSealTests {
  private let folder = TemporaryFolder()

  private func ingot(weights: Int) throws -> String {
    let path = folder.file("a.ingot")
    let weights = try (0..<weights).map {
      try bf16("w\($0)", [64, 64], normalBF16(4096, seed: UInt64($0)))
    }
    try writeIngot(path, weights, files: [("config.json", Array("{}".utf8))])
    return path
  }

  /// Rules I29 and I32: nothing that was there is touched but the header, and all of it is still checked. 900 weights have an index
  /// that lies on a page.
  @Test(arguments: [1, 900], [5, 300_000])
  func aNoteIsAddedInPlace(weights: Int, length: Int) throws {
    let path = try ingot(weights: weights)
    let before = try readPlainly(path)
    let hash = try IngotFile(path: path).contentHash
    for (round, byte) in [UInt8(ascii: "a"), UInt8(ascii: "b"), UInt8(ascii: "c")].enumerated() {
      let old = try readPlainly(path)
      let report = noise(length, seed: UInt64(byte))
      try IngotFile(path: path).seal(name: "report.json", bytes: Bytes(report))
      let sealed = try IngotFile(path: path)
      #expect(sealed.contentHash == hash && sealed.fileNames == ["config.json"])
      #expect(sealed.noteNames == ["report.json"])
      #expect(try sealed.file("report.json")?.array == report, "round \(round)")
      #expect(try sealed.weight("w0").values.bytes.array == normalBF16(4096, seed: 0))
      #expect(try sealed.damage().isEmpty)
      let new = try readPlainly(path)
      #expect(new[64..<old.count] == old[64...] && new.count > old.count)

      // Before the header was written, the file says how to have the old one back.
      try writePlainly(Array(old[..<64] + new[64...]), to: path)
      let refused = try #require(try refusal(path))
      #expect(refused.error.help?.contains("cut the file to \(old.count) bytes") == true)
      try writePlainly(Array((old[..<64] + new[64...])[..<old.count]), to: path)
      #expect(try refusal(path) == nil)
      try writePlainly(new, to: path)
    }
    #expect(Array(try readPlainly(path)[64..<before.count]) == Array(before[64...]))
  }

  @Test func onlyNotesAreReplaced() throws {
    let path = try ingot(weights: 1)
    for name in ["config.json", "", "a/b", ".."] {
      let error = #expect(throws: FormatError.self) {
        try IngotFile(path: path).seal(name: name, bytes: Bytes([1]))
      }
      #expect(error?.code == .ingotIndex, "'\(name)'")
    }
    let ingot = try IngotFile(path: path)
    try ingot.seal(name: "a", bytes: Bytes([1]))
    let error = #expect(throws: FormatError.self) { try ingot.seal(name: "b", bytes: Bytes([2])) }
    #expect(error?.code == .changed, "it was opened before the first note")
    #expect(try IngotFile(path: path).noteNames == ["a"])
  }
}
