// What is Gemma 4's own: keys that layers leave to later ones, what experts read, and the layouts its checkpoints come in.

import SmeltContainers
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Synchronization
import Testing

@testable import SmeltModels
@testable import SmeltPipeline

/// Weights that write down what each of them is multiplied with.
private final class Inputs<Base: Weights>: Weights {
  let base: Base
  let seen = Mutex<[WeightName: Matrix]>([:])

  init(_ base: Base) { self.base = base }

  func weight(_ name: WeightName) throws -> Weight { try base.weight(name) }
  func finished(_ name: WeightName) { base.finished(name) }
  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    seen.withLock { $0[name] = x }
    return try base.multiply(x, name, rows: rows, parallel: parallel)
  }
}

@Suite struct Gemma4Tests {
  /// Windows that run in groups leave their keys to themselves, whether they wait in memory or in a file.
  @Test func groupsLeaveTheirOwnKeys() throws {
    let model = try openFixture("gemma4_e2b")
    let windows = someWindows(model, count: 3, context: 20)
    let batches = windows.sequences.map { TokenBatch([$0]) }
    let together = try run(model.family, model.weights, [TokenBatch(windows.sequences)])
    #expect(try run(model.family, model.weights, batches) == together)
  }

  private func run(_ family: some ModelFamily, _ weights: some Weights, _ groups: [TokenBatch]) throws
    -> [Float]
  {
    let folder = TemporaryFolder()
    var stream = try TokenStream(groups, family, weights, folder: folder.path)
    let pass = Pass()
    for layer in 0..<family.dimensions.layers {
      try stream.update(pass) { batch, _, x, pass in
        _ = try family.layer(layer, &x, batch, weights, pass)
      }
    }
    return try (0..<groups.count).flatMap { try stream[$0].values }
  }

  /// A sequence longer than the parts that attention runs in: shared keys are those of all parts.
  @Test(arguments: ["gemma4", "gemma4_e2b"]) func longSequencesRunInParts(name: String) throws {
    let model = try openFixture(name)
    let ids = (0..<tokenChunk + 70).map { ($0 * 37 + $0 / 11) % 256 }
    let whole = try lastLogits(model.family, model.weights, [ids], nil)
    let state = DecodingState()
    let parts = stride(from: 0, to: ids.count, by: 400).map { Array(ids[$0..<min(ids.count, $0 + 400)]) }
    let stepwise = try lastLogits(model.family, model.weights, parts, state)
    let worst = zip(whole, stepwise).map { abs($0 - $1) }.max() ?? .infinity
    #expect(worst <= 1e-5, "\(worst)")
    // One prompt with a state that is longer than a part.
    let prompt = try lastLogits(model.family, model.weights, [ids], DecodingState())
    #expect(prompt == whole)
  }

  private func lastLogits(
    _ family: some ModelFamily, _ weights: some Weights, _ parts: [[Int]], _ state: DecodingState?
  ) throws -> [Float] {
    var logits: [Float] = []
    for part in parts {
      let batch = TokenBatch([part], firstPosition: state?.position ?? 0)
      let pass = Pass(state: state)
      var x = try family.embed(batch, weights)
      for layer in 0..<family.dimensions.layers { _ = try family.layer(layer, &x, batch, weights, pass) }
      state?.advance(part.count)
      logits = try family.logits(x[x.rows - 1..<x.rows], weights, pass).values
    }
    return logits
  }

  /// Experts read another norm than their router: the layer tells what, and calibration runs them on that.
  @Test func whatExpertsReadIsTold() throws {
    let model = try openFixture("gemma4")
    try check(model.family, model.weights, TokenBatch(someWindows(model, count: 2, context: 16).sequences))
  }

  private func check(_ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch) throws {
    let inputs = Inputs(weights)
    var x = try family.embed(batch, inputs)
    var pass = Pass()
    pass.keepsExpertInputs = true
    let routing = try #require(try family.layer(0, &x, batch, inputs, pass))
    let read = try #require(routing.inputs)
    for expert in Set(routing.experts.map { Int($0) }) {
      let tokens = routing.experts.indices.filter { Int(routing.experts[$0]) == expert }
        .map { $0 / routing.perToken }
      let seen = inputs.seen.withLock { $0[WeightName("blk.0.ffn_up_exps.weight", expert: expert)] }
      #expect(seen?.values == read.gather(tokens).values, "expert \(expert)")
    }
    let router = inputs.seen.withLock { $0[WeightName("blk.0.ffn_gate_inp.weight")] }
    #expect(router?.values != read.values)
    pass.keepsExpertInputs = false
    var y = try family.embed(batch, weights)
    #expect(try family.layer(0, &y, batch, weights, pass)?.inputs == nil)
  }

  /// Statistics of starved experts come from tokens as experts read them, in one group and in several.
  @Test func starvedExpertsSeeTheirOwnInputs() throws {
    let model = try openFixture("gemma4")
    let batch = TokenBatch(someWindows(model, count: 1, context: 24).sequences)
    let routing = try firstRouting(model.family, model.weights, batch)
    let read = try #require(routing.inputs)
    let logits = Matrix(rows: batch.count, columns: 8, values: (0..<batch.count * 8).map { Float($0 % 7) })
    var nearest = NearestTokens(experts: 8, wanted: 1000, scratch: nil)
    try nearest.add(routing, (read, logits), first: 0)
    let rows = try #require(try nearest.replay(0))
    let all = Set((0..<read.rows).map { Array(read[$0]) })
    #expect((0..<rows.rows).allSatisfy { all.contains(Array(rows[$0])) })
  }

  private func firstRouting(_ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch) throws
    -> Routing
  {
    var x = try family.embed(batch, weights)
    var pass = Pass()
    pass.keepsExpertInputs = true
    return try #require(try family.layer(0, &x, batch, weights, pass))
  }

  /// Quantized experts are tensors of their own, as engines want them; an ingot and a directory of it run alike.
  @Test(arguments: ["fp8-channel", "nvfp4", "int8-channel"]) func quantizedExpertsStandApart(scheme: String)
    throws
  {
    let folder = TemporaryFolder()
    let source = try openFixture("gemma4")
    var options = try options(scheme)
    options.target = SafetensorsResult(schemeWord: scheme)
    _ = try convert(source, to: folder.file("d"), options)
    let result = try Model.open(folder.file("d"))
    #expect(result.dialect == "expert-modules")
    let names = try SafetensorsDirectory(path: folder.file("d")).tensors.map(\.name)
    #expect(names.contains { $0.hasPrefix("model.language_model.layers.0.experts.7.down_proj.weight") })
    #expect(names.contains("model.vision_tower.std_scale"))
    options.target = IngotResult(.raw)
    options.recipe = Recipe(try Schemes.named("keep"))
    _ = try convert(result, to: folder.file("a.ingot"), options)
    let windows = someWindows(source, count: 2, context: 20)
    #expect(try allLogits(Model.open(folder.file("a.ingot")), windows) == allLogits(result, windows))
    // A file of GGUF holds the same numbers, however wide it must be.
    options.target = GGUFResult()
    _ = try convert(result, to: folder.file("a.gguf"), options)
    #expect(try allLogits(Model.open(folder.file("a.gguf")), windows) == allLogits(result, windows))
  }

  /// Projections that some files keep in layers which use other layers' keys are left out by a rule.
  @Test func keysOfSharingLayersAreLeftOut() throws {
    let folder = TemporaryFolder()
    var exact = try options("keep", exactOnly: true)
    exact.target = GGUFResult()
    _ = try convert(try openFixture("gemma4_e2b"), to: folder.file("a.gguf"), exact)
    exact.target = SafetensorsResult()
    _ = try convert(try Model.open(folder.file("a.gguf")), to: folder.file("a"), exact)
    let file = try SafetensorsFile(path: folder.file("a/model.safetensors"))
    let extra = "model.layers.5.self_attn.k_proj.weight"
    var tensors = file.tensors.map { ($0.name, $0.dtype, $0.shape, $0.bytes.array) }
    tensors.append((extra, .bf16, [16, 64], [UInt8](repeating: 0, count: 2048)))
    var writer = try SafetensorsWriter(
      path: folder.file("b.safetensors"), tensors: tensors.map { .init($0.0, $0.1, $0.2) },
      metadata: [("format", "pt")])
    for tensor in tensors { try writer.write(tensor.0, tensor.3) }
    try writer.commit()
    let bytes = try contents(folder.file("b.safetensors"))
    removeFile(folder.file("a/model.safetensors"))
    try writeFile(folder.file("a/model.safetensors"), bytes, overwrite: true)
    let model = try #require(try Model.open(folder.file("a")).source as? Checkpoint)
    #expect(model.dropped.map(\.tensor.name) == [extra] && model.dropped[0].rule.name == "shared-keys")
  }

  /// What llama.cpp would take otherwise is said.
  @Test func differencesAreNamed() throws {
    let model = try openFixture("gemma4_e2b")
    func differences(_ types: [String], _ shared: Int) throws -> [String] {
      let config = try #require(
        TextConfig(
          try JSON.scan(Bytes(contents(fixture("models/gemma4_e2b/config.json")))), hasHead: false)?.json
          .object)
      let members =
        zip(config.keys, config.values).filter { !["layer_types", "num_kv_shared_layers"].contains($0.0) }
        + [("layer_types", JSON(types.map { JSON($0) })), ("num_kv_shared_layers", JSON(shared))]
      let json = try JSON.scan(JSON(members: members).text())
      return try GGUFGemma4.differences(
        of: Gemma4(config: json, file: "c"), ConfigReader(json, file: "c"))
    }
    let (s, f) = ("sliding_attention", "full_attention")
    #expect(try differences([s, s, s, f, s, s, f], 3).count == 1)  // GELU
    #expect(try differences([s, s, f, s, s, s, f], 3).count == 2)
    let factors = GGUFGemma4.factors(of: model.family)[0].values
    #expect(factors.map { $0 > 1 } == (0..<16).map { $0 >= 4 })
  }
}
