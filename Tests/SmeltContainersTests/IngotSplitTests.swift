// An ingot in several files: what the writer cuts, and what a reader refuses. Formats/ingot.md, section 6.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite struct IngotSplitTests {
  private let folder = TemporaryFolder()
  private static let experts = 6

  /// Six experts of two matrices of 32 KiB, cut into files of at most `limit` bytes.
  @discardableResult
  private func write(_ name: String, limit: Int, compression: CodecMode = .raw, seed: UInt64 = 0) throws
    -> IngotSummary
  {
    var writer = try IngotWriter(path: folder.file(name), overwrite: true, maxFileBytes: limit)
    for expert in 0..<IngotSplitTests.experts {
      if try writer.needsFile(contentBytes: 2 * 32768, frames: 2, name: "expert \(expert)") {
        try writer.beginFile()
      }
      for (place, matrix) in ["gate", "up"].enumerated() {
        let weight = try bf16(
          "blk.0.\(matrix)#\(expert)", [128, 128],
          normalBF16(128 * 128, seed: seed + UInt64(2 * expert + place)))
        try writer.write(weight, layer: 0, expert: expert, mode: compression)
      }
    }
    try writer.addFile(name: "config.json", bytes: Bytes([1, 2, 3]), mode: .raw)
    return try writer.finish(metadata: ["format": "ingot"])
  }

  private func part(_ name: String, _ number: Int, of count: Int) -> String {
    folder.file("\(name)-0000\(number)-of-0000\(count).ingot")
  }

  /// Rules I33 to I35 from the writer's side: no file above the limit, no expert in two, one content hash, any part opens all.
  @Test func anyPartOpensTheWhole() throws {
    let whole = try write("whole.ingot", limit: 1 << 30)
    #expect(whole.files == [folder.file("whole.ingot")])
    for limit in [100_000, 180_000, 250_000] {
      let summary = try write("x.ingot", limit: limit)
      let count = summary.files.count
      #expect(count > 1 && summary.contentHash == whole.contentHash && summary.weightCount == 12)
      #expect(summary.files == (1...count).map { part("x", $0, of: count) })
      for number in 1...count {
        let ingot = try IngotFile(path: part("x", number, of: count))
        #expect(ingot.files.map(\.path) == summary.files && ingot.byteCount == summary.byteCount)
        #expect(ingot.files.allSatisfy { $0.byteCount <= limit })
        #expect(ingot.weightCount == 12 && ingot.fileNames == ["config.json"])
        for expert in 0..<IngotSplitTests.experts {
          let range = try #require(ingot.range(layer: 0, expert: expert))
          #expect(range.weights == ["blk.0.gate#\(expert)", "blk.0.up#\(expert)"])
          #expect(
            try ingot.weight("blk.0.up#\(expert)").values.bytes.array
              == normalBF16(128 * 128, seed: UInt64(2 * expert + 1)))
        }
        #expect(try ingot.damage().isEmpty)
      }
      for file in summary.files { removeFile(file) }
    }
  }

  @Test func whatHasNoRoomInAFileIsRefusedFirst() throws {
    let error = #expect(throws: RequestError.self) { try write("x.ingot", limit: 70_000) }
    #expect(error?.help?.contains("--max-part-size at least") == true)
    #expect(try namesInFolder(folder.path) == [])
  }

  private func refusal(_ path: String) -> FormatError? {
    do {
      _ = try IngotFile(path: path)
      return nil
    } catch { return error as? FormatError }
  }

  /// Rule I35: every way in which parts are not one ingot, refused with the name of the file.
  @Test func partsThatDoNotBelongTogetherAreRefused() throws {
    let files = try write("x.ingot", limit: 180_000).files
    let count = files.count
    try #require(count == 3)
    let good = try files.map { try readPlainly($0) }
    func restore() throws { for (file, bytes) in zip(files, good) { try writePlainly(bytes, to: file) } }

    removeFile(files[1])
    let missing = try #require(refusal(files[0]))
    #expect(missing.code == .ingotSplit && missing.problem.contains(fileName(files[1])), "\(missing)")
    try restore()

    // The same weights, stored otherwise: the content hash is the same, the identity is not.
    let others = try write("y.ingot", limit: 180_000, compression: .fast)
    let same = try write("z.ingot", limit: 180_000, seed: 100)
    for donor in [try readPlainly(others.files[0]), try readPlainly(same.files[0])] {
      try writePlainly(donor, to: files[0])
      let foreign = try #require(refusal(files[2]))
      #expect(foreign.code == .ingotSplit && foreign.file == files[0], "\(foreign)")
    }
    try restore()

    // A part twice, under another's name.
    try writePlainly(good[0], to: files[1])
    let twice = try #require(refusal(files[0]))
    #expect(twice.code == .ingotSplit && twice.file == files[1], "\(twice)")
    try restore()

    let renamed = folder.file("renamed.ingot")
    try writePlainly(good[0], to: renamed)
    let stray = try #require(refusal(renamed))
    #expect(stray.code == .ingotSplit && stray.problem.contains("-00001-of-00003.ingot"), "\(stray)")

    // Damage in one part is that part's.
    var damaged = good[1]
    damaged[100] ^= 1
    try writePlainly(damaged, to: files[1])
    let damage = try IngotFile(path: files[0]).damage()
    #expect(damage.map(\.error.file) == [files[1]] && damage[0].weight != nil)
    try restore()
    #expect(refusal(files[1]) == nil)
  }

  /// A part cannot be given its name, whichever: no name opens the ingot then, and what a journal names gets its names later.
  @Test(arguments: 1...3, [true, false]) func aNameThatCannotBeGiven(part number: Int, isKept: Bool) throws {
    let path = folder.file("x.ingot")
    var writer = try IngotWriter(
      path: path, overwrite: false, isResumable: true, maxFileBytes: 100_000)
    for expert in 0..<IngotSplitTests.experts {
      if try writer.needsFile(contentBytes: 32768, frames: 1, name: "\(expert)") { try writer.beginFile() }
      let weight = try bf16(
        "blk.0.gate#\(expert)", [128, 128], normalBF16(128 * 128, seed: UInt64(expert)))
      try writer.write(weight, layer: 0, expert: expert, mode: .raw)
    }
    if isKept {
      _ = try writer.takeProgress()
      writer.keep()
    }
    let summary = try writer.complete(metadata: ["format": "ingot"])
    try #require(summary.files.count == 3)
    try #require(mkdir(summary.files[number - 1], 0o755) == 0)
    do {
      try writer.commit()
      Issue.record("a folder was replaced")
    } catch let error as RequestError { #expect(error.kind == .cannotCreate) }
    rmdir(summary.files[number - 1])
    let left = try namesInFolder(folder.path)
    #expect(summary.files.allSatisfy { file in throwsAnError { try IngotFile(path: file) } })
    guard isKept else {
      #expect(left == [])
      return
    }
    #expect(left.count == 3 && left.count { $0.hasSuffix(".partial") } == number)
    let plan = (0..<IngotSplitTests.experts).map {
      ExpectedWeight(
        name: "blk.0.gate#\($0)", encoding: "bf16", shape: [128, 128], layer: 0, expert: $0, parts: [],
        isRaw: true, unit: nil)
    }
    func adopt(_ plan: [ExpectedWeight], _ identity: String) throws -> IngotFile {
      try IngotFile.adopt(
        path, files: 3, identity: identity, plan, overwrite: false, parallel: Parallel(threads: 2))
    }
    #expect(throws: FormatError.self) { _ = try adopt(plan.dropLast(), summary.identity) }
    #expect(throws: FormatError.self) { _ = try adopt(plan.reversed(), summary.identity) }
    #expect(throws: FormatError.self) { _ = try adopt(plan, String(repeating: "0", count: 32)) }
    #expect(try namesInFolder(folder.path) == left, "a refusal touches nothing")
    let ingot = try adopt(plan, summary.identity)
    #expect(ingot.files.map(\.path) == summary.files && ingot.contentHash == summary.contentHash)
    #expect(try ingot.damage().isEmpty)
  }

  private func throwsAnError(_ body: () throws -> IngotFile) -> Bool {
    do {
      _ = try body()
      return false
    } catch { return true }
  }
}
