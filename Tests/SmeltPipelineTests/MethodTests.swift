// Methods end to end on small models: folding changes nothing, prepared weights arrive in every container, refinement
// never costs, and what is written does not depend on the threads.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

private let text = fixture("models/tiny-v4/calibration.txt")

private func logits(_ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch) throws
  -> [Float]
{
  let pass = Pass(parallel: .serial)
  var x = try family.embed(batch, weights)
  for layer in 0..<family.dimensions.layers { _ = try family.layer(layer, &x, batch, weights, pass) }
  return try family.logits(x, weights, pass).values
}

private func foldedLogits(
  _ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch,
  _ factors: [WeightName: FoldFactors]
)
  throws -> [Float]
{
  try logits(family, FoldedWeights(base: weights, factors: factors), batch)
}

@Suite struct MethodTests {
  /// Powers of two move between weights without a bit of the logits changing.
  @Test(arguments: [
    "deepseek_v4", "deepseek_v2", "deepseek_v3", "olmoe", "qwen3_moe", "mixtral", "gpt_oss", "qwen2_moe",
    "llama", "mistral", "qwen2", "qwen3", "gemma4", "gemma4_dense", "gemma4_e2b",
  ])
  func foldingPowersOfTwoChangesNothing(name: String) throws {
    let model = try openFixture(name)
    var generator = Generator(seed: 4)
    var chosen: [(site: FoldSite, factors: [Float])] = []
    for layer in 0..<model.family.dimensions.layers {
      let specs = model.family.weights.filter { $0.layer == layer }
      for site in FoldSite.all(specs) {
        let factors = (0..<site.channels).map { _ in
          Float(sign: .plus, exponent: Int.random(in: -2...2, using: &generator), significand: 1)
        }
        chosen.append((site, factors))
      }
    }
    #expect(!chosen.isEmpty)
    let batch = TokenBatch(someWindows(model, count: 2, context: 24).sequences)
    let expected = try logits(model.family, model.weights, batch)
    let found = try foldedLogits(model.family, model.weights, batch, FoldFactors.all(chosen))
    #expect(found == expected)
  }

  /// A norm whose scales are stored as distances from 1 takes factors of any size: (1 + w) / s - 1.
  @Test(arguments: ["qwen3_5_moe", "qwen3_next", "minimax_m3_vl"])
  func foldingIntoDistancesFromOneKeepsTheLogits(name: String) throws {
    let model = try openFixture(name)
    var generator = Generator(seed: 8)
    var chosen: [(site: FoldSite, factors: [Float])] = []
    for layer in 0..<model.family.dimensions.layers {
      for site in FoldSite.all(model.family.weights.filter { $0.layer == layer }) where site.offset != 0 {
        let factors = (0..<site.channels).map { _ in Float.random(in: 0.5...2, using: &generator) }
        chosen.append((site, factors))
      }
    }
    #expect(chosen.count >= 2 * model.family.dimensions.layers)
    // Ids whose choices of experts and blocks are not nearly tied.
    let batch = TokenBatch(try referenceWindows(name).sequences)
    let expected = try logits(model.family, model.weights, batch)
    let found = try foldedLogits(model.family, model.weights, batch, FoldFactors.all(chosen))
    let worst = zip(expected, found).map { abs($0 - $1) }.max() ?? .infinity
    #expect(worst < 1e-4 && worst > 0, "\(worst)")
  }

  @Test(arguments: ["gptq", "awq", "smooth"], ["result.ingot", "result.gguf"])
  func everyMethodWritesEveryContainer(method: String, result: String) throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let windows = someWindows(model, count: 4, context: 32)
    let isGGUF = result.hasSuffix(".gguf")
    var hashes: [[UInt8]] = []
    for threads in [1, 2] {
      let path = folder.file("\(threads)-\(result)")
      var options = try options(isGGUF ? "q4_0" : "int4-group", threads: threads)
      if isGGUF { options.target = GGUFResult(split: nil, recipeName: nil) }
      _ = try quantize(
        model, to: path, calibration: windows, textPath: text, choosesObserver: true,
        method: try MethodOptions(named: method), options)
      hashes.append(try contents(path))
    }
    let isSame = hashes[0] == hashes[1]
    #expect(isSame)
    let converted = try Model.open(folder.file("1-\(result)"))
    _ = try checkModel(converted, RunOptions())
    let entries = try #require(try isGGUF ? [] : ledger(in: converted)["ledger"]?.array)
    if method == "gptq", !isGGUF {
      #expect(
        entries.contains {
          $0["note"]?.string?.contains("gptq: ") == true && $0["fate"]?.string == "converted"
        })
    }
    #expect(try names(folder).allSatisfy { !$0.contains("prepared") })
  }

  /// Tokens in one group or in many, and experts that run again over what waits in a file: the same codes.
  @Test(arguments: ["deepseek_v4", "qwen3_moe", "gpt_oss"], [false, true])
  func memoryDoesNotChangeTheResult(name: String, isSequential: Bool) throws {
    let folder = TemporaryFolder()
    let model = try openFixture(name)
    // Three groups, in a memory that holds the moments.
    let perWindow = 33 * Windows.activationBytes(model.family.dimensions, streams: 2)
    let columns = model.family.weights.map(\.shape.columns).max() ?? 0
    let group = 40 * columns * columns / perWindow + 1
    let windows = someWindows(model, count: 2 * group + 1, context: 33)
    var method = MethodOptions(.gptq)
    method.minTokens = 1
    method.isSequential = isSequential
    method.distillRounds = isSequential ? 1 : 0
    var hashes: [[UInt8]] = []
    for memory in [1 << 30, 2 * group * perWindow] {
      let path = folder.file("\(memory).ingot")
      var options = try options("int4-group:32")
      options.run.maxMemory = memory
      #expect(
        windows.groups(model.family.dimensions, streams: 2, maxMemory: memory).count
          == (hashes.isEmpty ? 1 : 3))
      _ = try quantize(
        model, to: path, calibration: windows, textPath: text, choosesObserver: true, method: method, options)
      hashes.append(try contents(path))
    }
    let isSame = hashes[0] == hashes[1]
    #expect(isSame)
  }

  @Test func momentsThatDoNotFitAreSaid() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let path = folder.file("result.ingot")
    var options = try options("int4-group:32")
    options.run.maxMemory = 80_000
    _ = try quantize(
      model, to: path, calibration: someWindows(model, count: 2, context: 16), textPath: text,
      choosesObserver: true, method: MethodOptions(.gptq), options)
    let entries = try #require(try ledger(in: try Model.open(path))["ledger"]?.array)
    let notes = entries.compactMap { $0["note"]?.string }
    #expect(notes.contains { $0.contains("rounded to nearest: gptq needs") })
    #expect(notes.contains { $0.contains("gptq: ") })
  }

  @Test func starvedExpertsAreRoundedToNearest() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let path = folder.file("result.ingot")
    let windows = Windows([[Int](repeating: 7, count: 64)], context: 64)
    var method = MethodOptions(.gptq)
    method.distillRounds = 2
    _ = try quantize(
      model, to: path, calibration: windows, textPath: text, choosesObserver: true, method: method,
      try options("int8-channel"))
    let entries = try #require(try ledger(in: try Model.open(path))["ledger"]?.array)
    #expect(entries.contains { $0["note"]?.string?.contains("0 tokens") == true })
  }

  @Test func aBudgetIsMet() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let windows = someWindows(model, count: 2, context: 32)
    let path = folder.file("result.gguf")
    var options = try options("keep")
    options.target = GGUFResult(split: nil, recipeName: nil)
    let (_, converted) = try quantize(
      model, to: path, calibration: windows, textPath: text, choosesObserver: true,
      budget: Budget(.bits(11), candidates: ["q4_0", "q8_0"], recipePath: folder.file("recipe.json")), options
    )
    let budget = try #require(converted.budget)
    #expect(budget.bytes.planned <= budget.bytes.allowed)
    let recipe = try Recipe(try MappedFile(path: folder.file("recipe.json")).bytes, file: "recipe.json")
    #expect(!recipe.rules.isEmpty)
  }

  /// Any size within what the codes allow; and only where an entropy coder stores them.
  @Test func codesMeetASize() throws {
    let folder = TemporaryFolder()
    let model = try Model.open(fixture("models/tiny-v4"))
    var options = try options("int8-coded", compression: .fast)
    for size in [8_600_000, 11_300_000, 13_390_000] {
      let path = folder.file("\(size).ingot")
      let budget = Budget(.bytes(size), candidates: [Budget.codedScheme])
      _ = try quantize(model, to: path, within: budget, options)
      let found = try MappedFile(path: path).bytes.count
      #expect(found <= size && size - found <= size / 100, "\(found) for \(size)")
      options.recipe = Recipe(Int8Coded(bits: 6))
    }
    options.target = SafetensorsResult()
    #expect(throws: RequestError.self) { try convert(model, to: folder.file("out"), options) }
  }

  /// A budget that nothing fits into is refused before anything is run.
  @Test func anImpossibleBudgetIsRefusedAtOnce() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let error = #expect(throws: RequestError.self) {
      _ = try quantize(
        model, to: folder.file("result.ingot"), calibration: Windows([[0, 1, 1 << 20]], context: 3),
        textPath: text, choosesObserver: true, budget: Budget(.bytes(1000)), try options("keep"))
    }
    #expect(error?.problem.contains("the smallest possible result has") == true)
    #expect(try names(folder) == [])
  }
}

@Suite struct SealTests {
  /// The card of a directory says how it was made, and once verified, how far it is from its source.
  @Test func aDirectorysCardHoldsTheReport() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let path = folder.file("out")
    let windows = someWindows(source, count: 3, context: 32)
    var options = try options("int8-channel")
    options.target = SafetensorsResult(schemeWord: "W8A8")
    var method = MethodOptions(.gptq)
    method.minTokens = 1
    _ = try quantize(
      source, to: path, calibration: windows, textPath: text, choosesObserver: true, method: method, options)
    func card() throws -> String { String(decoding: try contents("\(path)/README.md"), as: UTF8.self) }
    #expect(try card().contains("Not verified yet"))
    #expect(try card().contains("\"name\": \"gptq\""))
    for count in [1, 2] {
      let result = try Model.open(path)
      try Report.requireSealable(result)
      let report = try verify(
        source: source, result: result, someWindows(source, count: count, context: 32),
        thresholds: Thresholds(),
        RunOptions())
      try report.seal(result)
      #expect(try !card().contains("Not verified yet"))
      let interval = report.intervalText(report.intervals?.kl, scientific)
      #expect(
        try card().contains(
          "| KL divergence, mean | \(scientific(report.kl.mean)) nats a token\(interval) |"))
      #expect(interval.isEmpty == (count == 1))
      #expect(try card().contains("\(32 * count) tokens in windows of 32"))
      #expect(try card().ranges(of: "Verified by smelt").count == 1)
    }
    #expect(throws: RequestError.self) { try Report.requireSealable(source) }
  }
}
