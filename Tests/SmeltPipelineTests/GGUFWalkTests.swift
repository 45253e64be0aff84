// Every key of every GGUF architecture replaced by the numbers that sizes go wrong with, in every width, and by lists and texts. What
// comes is a refusal with a code, or a model that runs.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// A GGUF file as bytes that can be put together again with another value.
private struct RawGGUF {
  var keys: [(key: String, value: [UInt8])]
  let infos: [UInt8]
  let tensorCount: Int
  let data: [UInt8]

  init(_ path: String) throws {
    let bytes = try contents(path)
    let file = try GGUFFile(path: path)
    var infos: [UInt8] = []
    let start = try #require(file.tensors.first?.offset)
    for tensor in file.tensors {
      infos += little(UInt64(tensor.name.utf8.count)) + Array(tensor.name.utf8)
      infos += little(UInt32(tensor.shape.rank))
      for dimension in tensor.shape.dimensions.reversed() { infos += little(UInt64(dimension)) }
      infos += little(tensor.type.id) + little(UInt64(tensor.offset - start))
    }
    self.infos = infos
    tensorCount = file.tensors.count
    data = Array(bytes[start...])
    keys = []
    let places = try file.metadata.map { try #require(file.place(ofKey: $0.key)) }
    let end = try #require(bytes.range(of: Array(file.tensors[0].name.utf8), from: places.last ?? 0)) - 8
    for (index, entry) in file.metadata.enumerated() {
      let next = index + 1 < places.count ? places[index + 1] : end
      keys.append((entry.key, Array(bytes[(places[index] + 8 + entry.key.utf8.count)..<next])))
    }
  }

  /// The keys of a file as families meet them, without the tokenizer's and the copy of config.json.
  static func metadata(of file: GGUFFile) throws -> Metadata {
    var metadata = Metadata(file: "walked.gguf")
    for (key, value) in file.metadata where !key.hasPrefix("smelt.") && !key.hasPrefix("tokenizer.") {
      metadata[key] =
        switch value {
        case .f32(let number): .number(Double(number.description) ?? Double(number))
        case .bool(let flag): .bool(flag)
        case .string(let text): .string(text)
        case .array(let list):
          list.bools.map { .bools($0) } ?? list.integers.map { .integers($0) }
            ?? .numbers(list.floats ?? [])
        default: .integer(try #require(value.integer))
        }
    }
    return metadata
  }

  /// The bytes of a file with another value, its type included, for one key.
  func bytes(_ place: Int? = nil, _ value: [UInt8] = []) -> [UInt8] {
    var out =
      Array("GGUF".utf8) + little(UInt32(3)) + little(UInt64(tensorCount)) + little(UInt64(keys.count))
    for (index, entry) in keys.enumerated() {
      out +=
        little(UInt64(entry.key.utf8.count)) + Array(entry.key.utf8) + (index == place ? value : entry.value)
    }
    out += infos
    return out + [UInt8](repeating: 0, count: (32 - out.count % 32) % 32) + data
  }
}

private func little<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
  withUnsafeBytes(of: value.littleEndian) { Array($0) }
}

extension [UInt8] {
  /// The place of some bytes.
  fileprivate func range(of other: [UInt8], from start: Int) -> Int? {
    (start..<count - other.count).first { self[$0..<$0 + other.count].elementsEqual(other) }
  }
}

@Suite struct GGUFWalkTests {
  /// A value as a file has it, type first, and as families meet it.
  private struct Value {
    let bytes: [UInt8]
    let read: MetadataValue
  }

  private static let values: [Value] = {
    func of<T: FixedWidthInteger>(_ type: UInt32, _ numbers: [T]) -> [Value] {
      numbers.map {
        // A number above 2^63 - 1 is read as one that no key takes.
        Value(bytes: little(type) + little($0), read: Int(exactly: $0).map { .integer($0) } ?? .number(.nan))
      }
    }
    func list<T: FixedWidthInteger>(_ type: UInt32, _ numbers: [T], _ read: MetadataValue) -> Value {
      Value(
        bytes: little(9 as UInt32) + little(type) + little(UInt64(numbers.count)) + numbers.flatMap(little),
        read: read)
    }
    let u32 = of(4, [0, 1, 2, 3, 65536, 1 << 24, UInt32(Int32.max), .max])
    let u64 = of(10, [1 << 32, 1 << 62, UInt64(Int64.max), .max])
    let f32 = ([0, -1, 0.5, 1e-30, 1e38, .infinity, .nan] as [Float]).map {
      Value(bytes: little(6 as UInt32) + little($0.bitPattern), read: .number(Double($0)))
    }
    let f64 = ([1e308, -.infinity] as [Double]).map {
      Value(bytes: little(12 as UInt32) + little($0.bitPattern), read: .number($0))
    }
    let text = String(repeating: "x", count: 100_000)
    let long = [UInt32](repeating: 1, count: 1_000_000)
    return u32 + of(5, [-1, Int32.min]) + u64 + of(11, [-1, Int64.min]) + f32 + f64 + [
      Value(bytes: little(8 as UInt32) + little(100_000 as UInt64) + Array(text.utf8), read: .string(text)),
      Value(bytes: little(7 as UInt32) + [1], read: .bool(true)),
      list(5, [Int32](), .integers([])), list(5, [-1 as Int32, 2], .integers([-1, 2])),
      list(4, [UInt32](repeating: 2, count: 4), .integers([2, 2, 2, 2])),
      list(6, [Float.nan.bitPattern], .numbers([.nan])), list(4, long, .integers(long.map(Int.init))),
    ]
  }()

  private static let models = [
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "glm4_moe", "gpt_oss", "minimax_m2",
    "mixtral", "olmoe",
    "qwen2_moe", "qwen3_moe", "llama", "qwen2", "qwen3", "qwen3_5_moe", "qwen3_next",
    "glm4_moe_lite", "glm_moe_dsa", "hy_v3", "mistral4", "nemotron_h",
    "gemma4", "gemma4_e2b", "minimax_m3_vl",
  ]

  @Test(arguments: models) func everyKeyIsRefusedOrRuns(_ name: String) throws {
    let folder = TemporaryFolder()
    let made = folder.file("made.gguf")
    let model = try openFixture(name)
    let request = ConversionRequest(
      scheme: nil, recipePath: nil, statisticsPath: nil, observer: nil, exactOnly: false, compression: nil,
      kind: nil,
      overwrite: false)
    _ = try convert(
      model, to: made, try request.options(for: model, result: made, RunOptions(parallel: .serial)))
    var raw = try RawGGUF(made)
    // The copy of config.json would decide, and be held against the keys.
    raw.keys.removeAll { $0.key.hasPrefix("smelt.") || $0.key.hasPrefix("tokenizer.") }
    let file = try GGUFFile(path: made)
    let shapes = Dictionary(uniqueKeysWithValues: file.tensors.map { ($0.name, $0.shape) })
    let sound = try RawGGUF.metadata(of: file)
    let before = peakMemoryBytes()
    let path = folder.file("walked.gguf")
    var seen: Set<String> = []
    var counts: [WalkOutcome: Int] = [:]
    func attempt(_ place: Int?, _ value: Value?) throws {
      var metadata = sound
      if let place, let value { metadata[raw.keys[place].key] = value.read }
      let what = "\(place.map { raw.keys[$0].key } ?? "as written") as \(value?.bytes.prefix(12) ?? [])"
      // Most are refused by the numbers alone, without a file, and some say what another said before.
      let outcome = try walk(what, seen: &seen) {
        let architecture = try GGUFArchitectures.of(metadata)
        let model = GGUFModel(metadata, architecture: architecture.name) { shapes[$0] }
        return try ModelFamilies.family(
          of: try architecture.config(of: model), file: "walked.gguf", byteCount: 1 << 20)
      } run: {
        putFile(path, raw.bytes(place, value?.bytes ?? []))
        return try Model.open(path)
      }
      counts[outcome, default: 0] += 1
    }
    try attempt(nil, nil)
    // Dense layers of a qwen2_moe have no key: without the copy of config.json the file is refused.
    #expect(counts[.ran, default: 0] == (name == "qwen2_moe" ? 0 : 1))
    for (place, entry) in raw.keys.enumerated() where !entry.key.hasPrefix("general.name") {
      for value in Self.values { try attempt(place, value) }
    }
    #expect(counts[.refused, default: 0] > 100 && counts[.known, default: 0] > 2, "\(counts)")
    #expect(peakMemoryBytes() - before < 1 << 30)
  }

  /// Files of 160 bytes that asked for 85 GB, for a loop without end and for a trap.
  @Test func layersAreBoundedBeforeTheyAreCounted() throws {
    for name in ["85GB", "loop", "trap"] {
      let error = #expect(throws: FormatError.self) {
        _ = try Model.open(fixture("reports/attacks/gguf-layers/\(name).gguf"))
      }
      #expect(
        error?.code == .configValue && error?.subject == "gpt-oss.block_count", "\(String(describing: error))"
      )
    }
  }

  /// Every part of a split file states how many tensors all parts hold.
  @Test func laterPartsStateTheTruth() throws {
    let folder = TemporaryFolder()
    for number in 1...4 {
      let name = "qwen3moe-empty-first.bf16-0000\(number)-of-00004.gguf"
      var bytes = try contents(fixture("gguf/split/\(name)"))
      if number == 3 {
        let key = Array("split.tensors.count".utf8)
        let place = try #require(bytes.range(of: key, from: 0)) + key.count + 4
        bytes[place] ^= 1
      }
      putFile(folder.file(name), bytes)
    }
    let error = #expect(throws: FormatError.self) {
      _ = try Model.open(folder.file("qwen3moe-empty-first.bf16-00001-of-00004.gguf"))
    }
    #expect(error?.code == .ggSplit && error?.subject == "split.tensors.count")
    #expect(error?.file?.contains("00003") == true)
  }
}
