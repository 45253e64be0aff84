// A byte of an ingot flipped anywhere: whatever reads it refuses it with a code, or gives exactly what the undamaged one gives. No
// verb makes a number of it. Formats/ingot.md, rule I18.

import SmeltContainers
import SmeltPipeline
import SmeltQuantization
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

/// What reads an ingot, and what it makes of it, as text.
private enum Reader: String, CaseIterable {
  case convert, convertWhole, quantize, diff, verify, evaluate, logits, generate, calibrate, inspect, plan
  case check, seal

  /// Whether every stored byte of weights is read.
  var readsAll: Bool { [.convert, .convertWhole, .diff, .verify, .check, .seal].contains(self) }

  func run(_ path: String, source: Model, _ folder: TemporaryFolder) throws -> String {
    let run = RunOptions(parallel: Parallel(threads: 2))
    let windows = Windows([[1, 5, 9, 13, 2, 7, 11, 3], [4, 4, 8, 15, 16, 23, 2, 1]], context: 8)
    let out = folder.file("out")
    // What the result says of its text must not change with the ingot.
    let text = folder.file("text")
    putFile(text, [0x61])
    defer { for name in ["out", "out.ingot", "text"] { removeFile(folder.file(name)) } }
    func hash(_ path: String) throws -> String { SHA256.hex(try MappedFile(path: path).bytes) }
    func members(_ json: JSON, _ keys: [String]) -> String {
      keys.map { json[$0]?.text() ?? "absent" }.joined(separator: "\n")
    }
    let model = try Model.open(path)
    switch self {
    case .convert:
      _ = try SmeltPipeline.convert(
        model, to: folder.file("out.ingot"), try options("keep", compression: .fast))
      return try hash(folder.file("out.ingot"))
    case .convertWhole:
      _ = try SmeltPipeline.convert(
        model, to: folder.file("out.ingot"), try options("keep", compression: .raw, threads: 1))
      return try hash(folder.file("out.ingot"))
    case .quantize:
      _ = try SmeltPipeline.quantize(
        model, to: folder.file("out.ingot"), calibration: windows, textPath: text, choosesObserver: true,
        try options("int8-channel"))
      return try hash(folder.file("out.ingot"))
    case .diff:
      return members(
        try SmeltPipeline.diff(source, model, run).json, ["weights", "equal", "reencoded", "differences"])
    case .verify:
      let report = try SmeltPipeline.verify(
        source: source, result: model, windows, thresholds: Thresholds(), run)
      return members(report.json, ["perplexity", "kl", "top1_agreement", "layers", "weights"])
    case .seal:
      let report = try SmeltPipeline.verify(
        source: source, result: model, windows, thresholds: Thresholds(), run)
      try report.seal(model)
      return members(report.json, ["perplexity", "kl", "top1_agreement", "layers", "weights"])
    case .evaluate:
      return members(try SmeltPipeline.evaluate(model, windows, run).json, ["perplexity", "mean_nll"])
    case .logits:
      try writeLogits(
        model, sequences: windows.sequences, to: out, hiddenStates: true, routing: true, overwrite: false, run
      )
      return try hash(out)
    case .generate:
      let ids = try SmeltPipeline.generate(
        model, prompt: [1, 2, 3], maxTokens: 3, sampling: Sampling(), stops: [], run)
      return "\(ids)"
    case .calibrate:
      _ = try SmeltPipeline.calibrate(model, windows, textPath: text, to: out, overwrite: false, run)
      return try hash(out)
    case .inspect:
      return try members(
        SmeltPipeline.inspect(model).json(withTensors: true), ["bytes", "tensors", "experts"])
    case .plan: return "\(try Plan(model, try options("int8-channel")).bytesOut)"
    case .check:
      let summary = try checkModel(model, run)
      if let refusal = summary.refusal { throw refusal }
      return "\(summary.weights)"
    }
  }
}

/// An ingot of each kind of storage, and what each reader makes of it undamaged.
private final class Patient {
  let bytes: [UInt8]
  let path: String
  let source: Model
  private let folder: TemporaryFolder
  private var sound: [Reader: String] = [:]

  init(_ compression: CodecMode, _ folder: TemporaryFolder) throws {
    self.folder = folder
    let home = folder.file("source-\(compression.rawValue)")
    mkdir(home, 0o755)
    TinyV4(.plain).write(to: home)
    try writeFile(home + "/generation_config.json", Array("{\"eos_token_id\": 0}".utf8), overwrite: false)
    source = try Model.open(home)
    path = folder.file("\(compression.rawValue).ingot")
    _ = try SmeltPipeline.convert(source, to: path, try options("keep", compression: compression))
    bytes = try contents(path)
  }

  /// Reads the ingot with one byte changed.
  func flip(_ place: Int, _ mask: UInt8, _ reader: Reader) throws {
    let damaged = folder.file("damaged.ingot")
    if sound[reader] == nil {
      putFile(damaged, bytes)
      sound[reader] = try reader.run(damaged, source: source, folder)
    }
    var changed = bytes
    changed[place] ^= mask
    putFile(damaged, changed)
    do {
      let isEqual = try reader.run(damaged, source: source, folder) == sound[reader]
      #expect(isEqual, "\(reader) of byte \(place) ^ \(mask) gave another result")
      #expect(reader != .check, "check passed byte \(place) ^ \(mask)")
      guard reader.readsAll else { return }
      let damage = try IngotFile(path: damaged).check(
        deep: false, parallel: .serial, progress: SilentProgress())
      #expect(
        reader == .seal || damage.allSatisfy { $0.weight == nil },
        "\(reader) passed byte \(place) ^ \(mask)")
    } catch let error as FormatError {
      #expect(error.code.name.hasPrefix("C_"), "\(reader) of byte \(place) ^ \(mask): \(error)")
      let isThere = try names(folder).contains("out.ingot")
      #expect(!isThere, "\(reader) of byte \(place) ^ \(mask) left a result")
    }
  }
}

@Suite struct DamagedIngotTests {
  /// As many places as the length allows evenly, and as many anywhere.
  private func places(_ count: Int, in length: Int, _ generator: inout Generator) -> [Int] {
    (0..<count).map {
      $0 % 2 == 0 ? $0 * length / count : Int.random(in: 0..<length, using: &generator)
    }
  }

  /// 500 places over the three ingots, the readers in turn. With SMELT_LONG_TESTS every reader at 500 places of each ingot.
  @Test(arguments: [CodecMode.raw, .fast, .small])
  func aFlippedByteNeverBecomesANumber(compression: CodecMode) throws {
    let folder = TemporaryFolder()
    let patient = try Patient(compression, folder)
    var generator = Generator(seed: 0xDA)
    let isLong = getenv("SMELT_LONG_TESTS") != nil
    for (number, place) in places(isLong ? 500 : 168, in: patient.bytes.count, &generator).enumerated() {
      let readers = isLong ? Reader.allCases : [Reader.allCases[number % Reader.allCases.count]]
      let mask = UInt8(1) << UInt8.random(in: 0..<8, using: &generator)
      for reader in readers { try patient.flip(place, mask, reader) }
    }
  }

  /// The first use tells, whichever thread it is on; a refusal stands, and what is sound is used without another look.
  @Test func damageIsNamedOnceAndForAll() throws {
    let folder = TemporaryFolder()
    let patient = try Patient(.raw, folder)
    let ingot = try IngotFile(path: patient.path)
    let entry = try #require(ingot.entries.first { $0.contentLength > 100 })
    let frame = try #require(entry.parts.first).frame
    var changed = patient.bytes
    changed[frame.offset + 60] ^= 4
    let path = folder.file("damaged.ingot")
    putFile(path, changed)
    let damaged = try IngotFile(path: path)
    for threads in [1, 2, 1] {
      let error = #expect(throws: FormatError.self) {
        try damaged.weight(entry.name, parallel: Parallel(threads: threads))
      }
      #expect(error?.code == .ingotChecksum && error?.offset == frame.offset && error?.file == path)
      #expect(error?.subject == "\(entry.name) (values)" && error?.problem.contains("chunk 0") == true)
    }
    for other in ingot.entries where other.name != entry.name { _ = try damaged.weight(other.name) }
  }
}
