// A target size is an upper bound: of all files of the result, in every container, whatever codecs make of the weights.

import SmeltContainers
import SmeltModels
@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct TargetSizeTests {
  private let folder = TemporaryFolder()
  private let text = fixture("models/tiny-v4/calibration.txt")

  /// Bytes of everything that a result consists of.
  private func size(_ path: String) throws -> Int {
    guard pathKind(path) == .directory else { return try MappedFile(path: path).count }
    return try namesInFolder(path).reduce(0) { $0 + (try size(joinPath(path, $1))) }
  }

  private func options(_ target: any ResultTarget) throws -> ConvertOptions {
    ConvertOptions(
      recipe: Recipe(Keep()), target: target, run: RunOptions(parallel: Parallel(threads: 2)))
  }

  /// The number of bytes that a refusal names.
  private func named(_ error: RequestError) throws -> Int {
    let match = try #require(error.problem.firstMatch(of: /result has (?:about )?(\d+) bytes/))
    return try #require(Int(match.1))
  }

  @Test(arguments: ["ingot", "raw", "gguf", "safetensors"])
  func isNeverExceeded(container: String) throws {
    let model = try openFixture("qwen3_moe")
    let windows = someWindows(model, count: 1, context: 16)
    let targets: [String: any ResultTarget] = [
      "ingot": IngotResult(.fast), "raw": IngotResult(.raw), "gguf": GGUFResult(),
      "safetensors": SafetensorsResult(),
    ]
    let options = try options(try #require(targets[container]))
    let candidates = container == "safetensors" ? ["int4-group:32", "int8-channel"] : ["q4_0", "q8_0"]
    func quantize(_ bytes: Int, _ name: String) throws -> ConvertSummary {
      try SmeltPipeline.quantize(
        model, to: folder.file(name), calibration: windows, textPath: text, choosesObserver: true,
        budget: Budget(.bytes(bytes), candidates: candidates), options
      ).1
    }
    // The smallest is named before anything runs, and is possible.
    let error = try #require(throws: RequestError.self) { try quantize(1000, "none") }
    #expect(error.kind == .usage && error.exitStatus == 64)
    let least = try named(error)
    #expect(error.help?.contains(ByteSize(least).description) == true)
    #expect(try names(folder) == [])
    let below = try #require(throws: RequestError.self) { try quantize(least - 2000, "none") }
    let lower = try named(below)
    #expect(below.kind == .usage && lower <= least)
    let kept = try convert(model, to: folder.file("kept"), options).byteCount
    for (place, bytes) in [least, (3 * least + kept) / 4, (least + kept) / 2, (least + 3 * kept) / 4]
      .enumerated()
    {
      let made = try quantize(bytes, "r\(place)")
      let found = try size(folder.file("r\(place)"))
      #expect(found <= bytes && made.byteCount <= found, "\(found) for \(bytes)")
      #expect(made.warnings.filter { $0.contains("--target-size") } == [])
    }
    // More than the weights as they are: said, and nothing is rounded.
    let whole = try quantize(2 * kept, "whole")
    #expect(whole.converted.allSatisfy { $0.inexactValues == 0 })
    #expect(whole.warnings.contains { $0.contains("more than the result needs") })
    let left = try names(folder)
    #expect(!left.contains { $0.contains("partial") || $0.contains("journal") })
  }

  /// What a method keeps of its rows counts too; without a name a budget takes no method.
  @Test(arguments: ["gptq", nil]) func methodsStayWithin(method: String?) throws {
    let model = try openFixture("qwen3_moe")
    let windows = someWindows(model, count: 2, context: 64)
    let options = try options(SafetensorsResult())
    let kept = try convert(model, to: folder.file("kept"), options).byteCount
    for (place, share) in [60, 65, 70, 75, 80].enumerated() {
      let path = folder.file("r\(place)")
      let made = try SmeltPipeline.quantize(
        model, to: path, calibration: windows, textPath: text, choosesObserver: true,
        method: try MethodOptions(named: method),
        budget: Budget(.bytes(kept * share / 100), candidates: ["int4-group:32", "int8-channel"]), options
      ).1
      let found = try size(path)
      #expect(found <= kept * share / 100, "\(found) for \(kept * share / 100)")
      let hasErrors = try namesInFolder(path).contains(WeightErrors.fileName)
      #expect(hasErrors == (method != nil) && !made.text.contains("method: "))
    }
  }

  /// Codes for an entropy coder: their size is known when they are written.
  @Test func codesAreWrittenUntilTheyFit() throws {
    let model = try openFixture("qwen3_moe")
    let options = try options(IngotResult(.fast))
    let budget = { Budget(.bytes($0), candidates: [Budget.codedScheme]) }
    let refused = try #require(throws: RequestError.self) {
      try quantize(model, to: folder.file("none"), within: budget(1000), options)
    }
    let least = try named(refused)
    for (place, bytes) in [least, least + least / 50, least + least / 7, least + least / 2, 2 * least]
      .enumerated()
    {
      let path = folder.file("r\(place).ingot")
      let made = try quantize(model, to: path, within: budget(bytes), options)
      let found = try size(path)
      #expect(found <= bytes && made.byteCount == found, "\(made.byteCount) for \(bytes)")
    }
    let whole = try quantize(model, to: folder.file("whole.ingot"), within: budget(8 * least), options)
    // A byte less than the largest: the step down is as wide as the choice needs.
    let under = try quantize(
      model, to: folder.file("under.ingot"), within: budget(whole.byteCount - 1), options)
    #expect(under.byteCount < whole.byteCount)
    #expect(whole.warnings.contains { $0.contains("more than the result needs") && $0.contains("8.5 bits") })
  }

  /// A run whose result is too large leaves nothing, and none of what it noted for another run.
  @Test func aResultThatIsTooLargeLeavesNothing() throws {
    let model = try openFixture("qwen3_moe")
    for target: any ResultTarget in [IngotResult(.fast), GGUFResult(), SafetensorsResult()] {
      var options = try options(target)
      options.byteLimit = 1000
      options.journalStep = 1
      let error = try #require(throws: ResultTooLarge.self) {
        try convert(model, to: folder.file("r"), options)
      }
      #expect(error.limit == 1000 && error.bytes > 1000)
      #expect(try names(folder) == [])
    }
  }
}
