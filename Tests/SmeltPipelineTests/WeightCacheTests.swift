// The cache of weights: its budget, what goes first, what stays; and that no budget, thread or container changes a bit.

import SmeltModels
@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// The golden checkpoint whose experts are stacks that have to be put in order, and others that are lent.
private let checkpoint = "tiny-v4"

/// Where a model may lie.
private let containers = ["directory", "gguf", "raw ingot", "compressed ingot"]

private func open(_ container: String, _ folder: TemporaryFolder) throws -> Model {
  let model = try openFixture(checkpoint)
  guard container != "directory" else { return model }
  let path = folder.file(container == "gguf" ? "m.gguf" : "m.ingot")
  var options = try options("keep", compression: container == "compressed ingot" ? .fast : .raw)
  if container == "gguf" { options.target = GGUFResult() }
  _ = try convert(model, to: path, options)
  return try Model.open(path)
}

private func windows(_ model: Model) -> Windows { someWindows(model, count: 3, context: 24) }

@Suite struct WeightCacheTests {
  /// Groups of one window and pages given back; all at once and everything kept.
  @Test(arguments: containers)
  func budgetsAndThreadsChangeNoDigit(_ container: String) throws {
    let folder = TemporaryFolder()
    let model = try open(container, folder)
    let windows = windows(model)
    let prompt = windows.sequences[0]
    var losses: Set<Double> = []
    var continuations: Set<[Int]> = []
    var statistics: Set<[UInt8]> = []
    for threads in [1, 2] {
      for memory in [1, 1 << 20, 1 << 34] {
        let options = RunOptions(parallel: Parallel(threads: threads), maxMemory: memory)
        let evaluation = try evaluate(model, windows, options)
        losses.insert(evaluation.meanNLL)
        #expect((evaluation.resources.spilledBytes > 0) == (memory < 1 << 30))
        #expect(evaluation.resources.bytesRead > 0)
        continuations.insert(
          try generate(model, prompt: prompt, maxTokens: 3, sampling: Sampling(), stops: [], options))
        let path = folder.file("s-\(threads)-\(memory)")
        _ = try calibrate(
          model, windows, textPath: fixture("models/\(checkpoint)/calibration.txt"), to: path,
          overwrite: false, options)
        statistics.insert(try contents(path))
      }
    }
    #expect(losses.count == 1 && continuations.count == 1 && statistics.count == 1)
  }

  /// Weights that stay are found without the caches; their uses count as those of weights that go.
  @Test(arguments: containers)
  func usesAreCountedWhetherWeightsStayOrNot(_ container: String) throws {
    let folder = TemporaryFolder()
    let model = try open(container, folder)
    let prompt = windows(model).sequences[0]
    let found = try [1, 200_000, 1 << 34].map { memory -> Resources in
      var resources = Resources()
      _ = try generate(
        model, prompt: prompt, maxTokens: 4, sampling: Sampling(), stops: [],
        RunOptions(parallel: .serial, maxMemory: memory), done: { made, _ in resources = made })
      return resources
    }
    #expect(Set(found.map { $0.cacheHits + $0.cacheMisses }).count == 1, "\(found)")
    #expect(found[2].hitRate > 0.5 && found[0].cacheHits < found[2].cacheHits, "\(found)")
    #expect(found[0].bytesRead > found[2].bytesRead, "\(found)")
  }

  /// A budget that holds everything reads a compressed model once for all tokens; one of nothing reads it for each.
  @Test func hitsGrowWithTheBudget() throws {
    let folder = TemporaryFolder()
    let model = try open("compressed ingot", folder)
    let prompt = windows(model).sequences[0]
    let read = try [0, 1 << 34].map { memory in
      var resources = Resources()
      _ = try generate(
        model, prompt: prompt, maxTokens: 4, sampling: Sampling(), stops: [],
        RunOptions(parallel: .serial, maxMemory: memory), done: { made, _ in resources = made })
      return resources
    }
    #expect(read[0].bytesRead > 2 * read[1].bytesRead, "\(read)")
    #expect(read[0].hitRate < read[1].hitRate && read[1].hitRate > 0.5, "\(read)")
    let stored = try #require(model.files.first).byteCount
    #expect(read[1].bytesRead <= stored)
  }

  /// Source and result are read once, however many groups of windows there are: the layers are outside.
  @Test func verifyReadsEachSideOnce() throws {
    let folder = TemporaryFolder()
    let source = try openFixture(checkpoint)
    let path = folder.file("r.ingot")
    _ = try convert(source, to: path, try options("fp8-channel", compression: .fast))
    let result = try Model.open(path)
    let windows = windows(source)
    // Activations of one window a group, weights of a layer in the cache.
    let perWindow = 24 * Windows.activationBytes(source.family.dimensions, streams: 3)
    let small = RunOptions(parallel: .serial, maxMemory: 2 * perWindow)
    #expect(windows.groups(source.family.dimensions, streams: 3, maxMemory: small.maxMemory).count == 3)
    let cache = WeightCache([source, result], .withinLayers, budget: 64 << 20, small)
    let plan = ComparisonPlan(windows, source.family.dimensions, hasRounding: false, small)
    var comparison = Comparison(source.family.dimensions.layers)
    let spilled = try comparison.run(
      plan, source.family, cache.weights(0), source.family, cache.weights(1), small
    ) {
      cache.begin(layer: $0)
    }
    #expect(spilled > 0)
    let bytes = try #require(result.files.first).byteCount + #require(source.files.first).byteCount
    #expect(cache.resources().bytesRead <= bytes)
    #expect(cache.resources().hitRate > 0.5)
  }

  @Test(arguments: [0, 1000, 300_000, 1 << 30])
  func neverAboveTheBudget(_ budget: Int) throws {
    let folder = TemporaryFolder()
    let model = try open("compressed ingot", folder)
    let run = RunOptions(parallel: Parallel(threads: 2), maxMemory: 1 << 30)
    let cache = WeightCache([model], .withinLayers, budget: budget, run)
    let weights = cache.weights()
    for layer in 0..<model.family.dimensions.layers {
      cache.begin(layer: layer)
      let names = model.family.weights.filter { $0.layer == layer }.map(\.name)
      weights.upcoming(names)
      for name in names {
        _ = try weights.weight(name)
        #expect(cache.byteCount <= budget)
        weights.finished(name)
      }
    }
    #expect((cache.byteCount > 0) == (budget > 1000))
  }

  /// What is wrong with a weight that was read ahead is told when it is used, and again the next time.
  @Test func faultsReadAheadAreToldOnUse() throws {
    let folder = TemporaryFolder()
    let model = try open("compressed ingot", folder)
    let ingot = try #require(model.source as? IngotSource)
    let spec = try model.family.weights.first {
      try $0.name.expert == 1 && ingot.file.weight($0.name.description).heldBytes > 0
    }
    let name = try #require(spec?.name)
    let place = try #require(ingot.file.entry(name.description)?.parts.first?.frame.offset)
    var bytes = try contents(model.path)
    bytes[place + 9] ^= 1
    let path = folder.file("damaged.ingot")
    try writeFile(path, bytes, overwrite: false)
    let cache = WeightCache([try Model.open(path)], .never, RunOptions(parallel: Parallel(threads: 2)))
    cache.announce([name])
    for _ in 0..<2 {
      let error = try #require(throws: FormatError.self) { _ = try cache.weights().weight(name) }
      #expect(error.code == .ingotChecksum)
    }
  }

  /// Small raw parts of inflated weights are copied: their pages, and those around them, would come and never go.
  @Test func nothingThatIsKeptTouchesTheFile() throws {
    let folder = TemporaryFolder()
    let path = folder.file("r.ingot")
    _ = try convert(try openFixture(checkpoint), to: path, try options("fp8-channel", compression: .fast))
    let model = try Model.open(path)
    let stored = try model.family.weights.map { try model.source.weight($0.name) }
    let mixed = stored.filter { $0.heldBytes > $0.byteCount / 2 && $0.heldBytes < $0.byteCount }
    #expect(!mixed.isEmpty)
    let weights = WeightCache([model], .never, RunOptions(parallel: .serial)).weights()
    for spec in model.family.weights where mixed.contains(where: { $0.name == spec.name.description }) {
      let weight = try weights.weight(spec.name)
      #expect(weight.heldBytes == weight.byteCount)
    }
  }

  /// An ingot's own cache rests while another one keeps its weights, and works again afterwards.
  @Test func theIngotsOwnCacheRests() throws {
    let folder = TemporaryFolder()
    let model = try open("compressed ingot", folder)
    let ingot = try #require(model.source as? IngotSource)
    let limit = ingot.file.cacheLimit
    #expect(limit > 0)
    do {
      let cache = WeightCache([model, model], .never, RunOptions())
      #expect(ingot.file.cacheLimit == 0)
      _ = try cache.weights().weight(WeightName("token_embd.weight"))
      #expect(ingot.file.cachedBytes == 0)
    }
    #expect(ingot.file.cacheLimit == limit)
  }
}
