// GLM-4.7-Flash, GLM-5 and Mistral Small 4 as checkpoints and files: experts in a stack and one by one, files of llama.cpp's conversion
// with fewer keys than ours, and activations that wait in files.

import SmeltContainers
import SmeltModels
@testable import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct LatentKinTests {
  private let folder = TemporaryFolder()

  /// The published stacks taken apart: every expert a tensor of its own, and no wrapper.
  @Test func expertsOneByOneGiveTheSameLogits() throws {
    let source = try openFixture("mistral4")
    var variant = try Variant("models/mistral4")
    let text = try #require(try source.smallFile("config.json").flatMap { try JSON.scan($0)["text_config"] })
    let object = try #require(text.object)
    variant.config = zip(object.keys, object.values).map { ($0, $1) }
    variant.tensors = variant.tensors.flatMap { tensor -> [Variant.Tensor] in
      let prefix = "language_model."
      guard tensor.name.hasPrefix(prefix) else { return [] }
      var plain = tensor
      plain.name = String(tensor.name.dropFirst(prefix.count))
      guard plain.shape.rank == 3 else { return [plain] }
      let (experts, rows) = (plain.shape.dimensions[0], plain.shape.dimensions[1])
      let parts = plain.name.hasSuffix("gate_up_proj") ? ["gate_proj", "up_proj"] : ["down_proj"]
      let stem = plain.name.split(separator: ".").dropLast().joined(separator: ".")
      let size = plain.bytes.count / experts / parts.count
      return (0..<experts * parts.count).map { place in
        var piece = plain
        piece.name = "\(stem).\(place / parts.count).\(parts[place % parts.count]).weight"
        piece.shape = [rows / parts.count, plain.shape.columns]
        piece.bytes = Array(plain.bytes[place * size..<(place + 1) * size])
        return piece
      }
    }
    let model = try variant.open(in: folder)
    #expect(try inspect(model).dialect == "experts" && inspect(source).dialect == "hub")
    let windows = try referenceWindows("mistral4")
    #expect(try allLogits(model, windows) == allLogits(source, windows))
  }

  private func written(_ name: String, without keys: [String]) throws -> Model {
    var options = try options("keep")
    options.target = GGUFResult()
    _ = try convert(try openFixture(name), to: folder.file("a.gguf"), options)
    try rewrite(folder.file("a.gguf"), to: folder.file("b.gguf")) { entries in
      entries.removeAll { entry in
        entry.key.hasPrefix("smelt.") || keys.contains { entry.key.hasSuffix($0) }
      }
    }
    return try Model.open(folder.file("b.gguf"))
  }

  /// The conversion does not say how GLM-4.7-Flash scores experts; the bias that chooses tells it.
  @Test func aFileThatDoesNotSayHowExpertsAreScored() throws {
    let model = try written("glm4_moe_lite", without: ["expert_gating_func"])
    #expect(model.family.modelType == "glm4_moe_lite" && model.drafts.count > 20)
    let windows = try referenceWindows("glm4_moe_lite")
    #expect(try allLogits(model, windows) == allLogits(try openFixture("glm4_moe_lite"), windows))
  }

  /// Files of GLM-5 say nothing of layers that share: all have an indexer, and here one has none.
  @Test func aFileWithoutKindsOfLayersHasIndexersInAll() throws {
    let error = try #require(throws: FormatError.self) {
      try written("glm_moe_dsa", without: ["indexer.types"])
    }
    #expect(error.code == .incomplete && error.description.contains("blk.2.indexer."), "\(error)")
  }

  /// The conversion from the hub leaves the growth of queries out; its files are read as llama.cpp runs them.
  @Test func aFileWithoutATemperature() throws {
    let model = try written("mistral4", without: ["temperature_scale", "temperature_length"])
    let (short, long) = (Windows([[1, 5, 9, 2]], context: 4), try referenceWindows("mistral4", "long."))
    let source = try openFixture("mistral4")
    #expect(try allLogits(model, short) == allLogits(source, short))
    #expect(try allLogits(model, long) != allLogits(source, long))
  }

  /// A sequence longer than what a layer holds at once: its parts see what an earlier layer chose for them, as shorter steps do.
  @Test(arguments: ["glm_moe_dsa", "mistral4"]) func aLongSequenceIsTheSameInSteps(name: String) throws {
    let model = try openFixture(name)
    try compareSteps(model.family, model.weights, (0..<1100).map { ($0 * $0 + 7 * $0) % 251 })
  }

  private func compareSteps(_ family: some ModelFamily, _ weights: some Weights, _ ids: [Int]) throws {
    func hidden(_ batch: TokenBatch, _ pass: Pass) throws -> [Float] {
      var x = try family.embed(batch, weights)
      for layer in 0..<family.dimensions.layers { _ = try family.layer(layer, &x, batch, weights, pass) }
      return x.values
    }
    let whole = try hidden(TokenBatch([ids]), Pass(parallel: .allCores))
    let state = DecodingState()
    var steps: [Float] = []
    for range in [0..<600, 600..<1099, 1099..<1100] {
      let batch = TokenBatch([Array(ids[range])], firstPosition: range.lowerBound)
      steps += try hidden(batch, Pass(parallel: .allCores, state: state))
      state.advance(range.count)
    }
    let scale = whole.map(abs).max() ?? 1
    let worst = zip(whole, steps).map { abs($0 - $1) }.max() ?? .infinity
    #expect(worst <= 1e-5 * scale, "steps differ by \(worst) of \(scale)")
  }

  /// Groups of windows whose activations, and what layers leave to later ones, wait in files.
  @Test func whatLayersLeaveWaitsWithTheActivations() throws {
    let model = try openFixture("glm_moe_dsa")
    let windows = someWindows(model, count: 6, context: 40)
    let whole = try evaluate(model, windows, RunOptions())
    let parts = try evaluate(model, windows, RunOptions(maxMemory: 60_000))
    #expect(whole.resources.spilledBytes == 0 && parts.resources.spilledBytes > 6 * 40 * 64 * 4)
    #expect(whole.meanNLL == parts.meanNLL)
    let result = folder.file("a.ingot")
    _ = try convert(model, to: result, try options("int8-channel"))
    let reports = try [1 << 30, 60_000].map {
      try verify(
        source: model, result: try Model.open(result), windows, thresholds: Thresholds(),
        RunOptions(maxMemory: $0))
    }
    #expect(reports[0].kl.mean == reports[1].kl.mean && reports[0].kl.mean > 0)
    #expect(reports[1].resources.spilledBytes > 0)
  }
}
