// Every value of every config.json replaced by the numbers that sizes go wrong with, by other kinds of values and by lists too short
// and too long. What comes is a refusal with a code, or a model that runs; never a trap, and no memory that the file does not hold.

import SmeltModels
import SmeltPipeline
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

/// One place in a JSON tree.
private enum Step { case key(String), index(Int) }

extension JSON {
  /// The paths of all values, the outermost left out; of a list the first and the last element.
  fileprivate var places: [[Step]] {
    switch content {
    case .object(let object):
      zip(object.keys, object.values).flatMap { key, value in
        [[.key(key)]] + value.places.map { [.key(key)] + $0 }
      }
    case .array(let list):
      Set([0, list.count - 1]).sorted().filter(list.indices.contains).flatMap { place in
        [[.index(place)]] + list[place].places.map { [.index(place)] + $0 }
      }
    default: []
    }
  }

  /// The tree with another value in one place.
  fileprivate func replacing(_ path: ArraySlice<Step>, by value: JSON) -> JSON {
    guard let step = path.first else { return value }
    switch (step, content) {
    case (.key(let key), .object(let object)):
      return JSON(
        members: zip(object.keys, object.values).map {
          ($0, $0 == key ? $1.replacing(path.dropFirst(), by: value) : $1)
        })
    case (.index(let place), .array(var list)):
      list[place] = list[place].replacing(path.dropFirst(), by: value)
      return JSON(.array(list))
    default: return self
    }
  }
}

/// What becomes of a model whose description was changed.
enum WalkOutcome { case refused, ran, known }

/// Makes a family of changed numbers; opens the model and runs three tokens through it, unless the same numbers ran before.
func walk(
  _ what: @autoclosure () -> String, seen: inout Set<String>, family: () throws -> any ModelFamily,
  run: () throws -> Model
) throws -> WalkOutcome {
  do {
    let numbers = Mirror(reflecting: try family()).children.filter { $0.label != "weights" }
      .map { "\($0.value)" }.joined()
    guard seen.insert(numbers).inserted else { return .known }
    let model = try run()
    _ = try allLogits(model, Windows([[1, 2, 0]], context: 3), threads: 1)
    _ = try model.endTokens()
    return .ran
  } catch let error as FormatError {
    #expect(
      error.file != nil && !error.problem.isEmpty && error.description.utf8.count < 4000,
      "\(what()): \(error)")
    return .refused
  } catch let error as RequestError {
    #expect(error.kind == .unsupported, "\(what()): \(error)")
    return .refused
  }
}

@Suite struct ConfigWalkTests {
  /// The numbers, as JSON says them, and values of other kinds.
  private static let values: [JSON] =
    [0, 1, -1, 2, 3, 65536, 1 << 24, Int(Int32.max), 1 << 32, 1 << 62, .max, .min].map { JSON($0) }
    + [0x1p64 - 2048, 0.5, 1e308, -1e308, 1e-300, 4097].map { JSON($0) }
    + [
      JSON(.null), true, "", JSON(String(repeating: "x", count: 100_000)), JSON([JSON]()),
      JSON([JSON](repeating: 1, count: 3)), JSON(members: []),
    ]

  private static let models: [String] = [
    "deepseek_v2", "deepseek_v3-fp8", "deepseek_v32", "deepseek_v4-fp4", "deepseek_v4-hfsaved", "glm4_moe",
    "gpt_oss", "gpt_oss-mxfp4", "minimax_m2", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe",
    "llama", "mistral", "qwen2", "qwen3", "qwen3_next",
    "glm4_moe_lite", "glm_moe_dsa", "hy_v3", "mistral4", "nemotron_h",
    "gemma4", "gemma4_e2b", "minimax_m3_vl",
  ]

  @Test(arguments: models) func everyValueIsRefusedOrRuns(_ name: String) throws {
    let folder = TemporaryFolder()
    var source = fixture("models/\(name)")
    let texts = TemporaryFolder()
    if let wrapped = try openFixture(name).family as? CarryingFamily, wrapped.wrapper != nil {
      // The text model by itself, as a GGUF file of it becomes a directory.
      var exact = try options("keep", exactOnly: true)
      exact.target = GGUFResult()
      _ = try convert(try openFixture(name), to: texts.file("a.gguf"), exact)
      exact.target = SafetensorsResult()
      source = texts.file("a")
      _ = try convert(try Model.open(texts.file("a.gguf")), to: source, exact)
    }
    for file in try namesInFolder(source) where file.hasSuffix(".safetensors") && !file.hasPrefix("reference")
    {
      putFile(folder.file(file), try contents(source + "/" + file))
    }
    var base = try JSON.scan(
      Bytes(try contents(source + "/config.json")), limits: JSONLimits(allowsNonFinite: true))
    if let text = base["text_config"] {
      // The text model alone: a family is not asked of a wrapper.
      var variant = try Variant("models/\(name)")
      variant.tensors.removeAll { !$0.name.hasPrefix("language_model.") }
      variant.rename { String($0.dropFirst("language_model.".count)) }
      try variant.write(to: folder.path)
      base = text
    }
    let before = peakMemoryBytes()
    var seen: Set<String> = []
    var counts: [WalkOutcome: Int] = [:]
    func attempt(_ config: JSON, _ what: @autoclosure () -> String) throws {
      let outcome = try walk(what(), seen: &seen) {
        try ModelFamilies.family(of: config, file: "config.json", byteCount: 1 << 20)
      } run: {
        putFile(folder.file("config.json"), Array(config.text().utf8))
        return try Model.open(folder.path)
      }
      counts[outcome, default: 0] += 1
    }
    try attempt(base, "as published")
    #expect(counts == [.ran: 1])
    for place in base.places {
      // How weights are stored is not the family's: what is said of it is always held against the tensors.
      if case .key("quantization_config")? = place.first { seen = [] }
      for value in Self.values {
        try attempt(base.replacing(place[...], by: value), "\(place) as \(value.text().prefix(40))")
      }
    }
    // A list of a million entries in the place of each list.
    for place in base.places where base.value(at: place)?.array != nil {
      for entry in ["full_attention", 1] as [JSON] {
        let list = JSON([JSON](repeating: entry, count: 1_000_000))
        try attempt(base.replacing(place[...], by: list), "\(place) as a million")
      }
    }
    #expect(counts[.refused, default: 0] > 100 && counts[.ran, default: 0] > 5, "\(counts)")
    #expect(peakMemoryBytes() - before < 1 << 30)
  }

  /// Configurations without any tensor: the published ones with numbers of other models.
  @Test func numbersOfPublishedConfigurationsAreBounded() throws {
    let before = peakMemoryBytes()
    for file in try namesInFolder(fixture("configs")) where file.hasSuffix(".json") {
      let base = try JSON.scan(Bytes(try contents(fixture("configs/\(file)"))))
      for place in base.places where base.value(at: place)?.integer != nil {
        // A key that takes the largest number is one that no family reads.
        for value in [.max, 1 << 62, Int(Int32.max), 1 << 24, 65536, -1].map({ JSON($0) }) {
          do {
            _ = try ModelFamilies.family(
              of: base.replacing(place[...], by: value), file: file, byteCount: 1000)
            break
          } catch let error as FormatError {
            #expect(error.code == .configValue, "\(file) \(place): \(error)")
          } catch let error as RequestError {
            #expect(error.kind == .unsupported)
          }
        }
      }
    }
    #expect(peakMemoryBytes() - before < 1 << 30)
  }

  /// Heads of one channel, of which no two can be rotated.
  @Test(arguments: ["gpt_oss", "qwen3_moe"]) func headsOfOneChannelAreRefused(_ name: String) {
    let error = #expect(throws: FormatError.self) {
      _ = try Model.open(fixture("reports/attacks/head-dim-1/\(name)"))
    }
    #expect(
      error?.code == .configValue && error?.subject == "head_dim",
      "\(String(describing: error))")
  }

  /// `in: a...variable` traps where the variable is smaller: such bounds are given as `from:` and `to:`, which refuse.
  @Test func rangesOfConfigurationsHaveLiteralEnds() throws {
    let literal = Set("0123456789_.e<-+ ")
    for room in ["SmeltModels", "SmeltPipeline"] {
      let files = try sources(below: repositoryRoot + "/Sources/" + room)
      #expect(files.count > 50)
      for file in files {
        let text = String(decoding: try contents(file), as: UTF8.self)
        for line in text.split(separator: "\n") where !line.contains("//") && !line.contains("low...high") {
          guard ["integer(", "integers(", "number("].contains(where: line.contains),
            let start = line.range(of: "in: ")
          else { continue }
          let range = line[start.upperBound...].prefix { $0 != "," && $0 != ")" }
          guard range.contains("...") else { continue }
          #expect(range.allSatisfy(literal.contains) || range.hasSuffix("Bounds.layers"), "\(file): \(line)")
        }
      }
    }
  }
}

/// The Swift files of a folder and of all folders in it.
private func sources(below folder: String) throws -> [String] {
  try namesInFolder(folder).flatMap { name -> [String] in
    let path = folder + "/" + name
    return pathKind(path) == .directory
      ? try sources(below: path) : name.hasSuffix(".swift") ? [path] : []
  }
}

extension JSON {
  fileprivate func value(at path: [Step]) -> JSON? {
    path.reduce(Optional(self)) { value, step in
      switch step {
      case .key(let key): value?[key]
      case .index(let place): value?.array?[place]
      }
    }
  }
}

extension StringProtocol {
  /// The place of a text.
  fileprivate func range(of text: String) -> Range<Index>? {
    var place = startIndex
    while place < endIndex {
      if self[place...].hasPrefix(text) { return place..<index(place, offsetBy: text.count) }
      place = index(after: place)
    }
    return nil
  }
}
