// MiniMax-M3 as a checkpoint: names as transformers has them in memory, a section that does not name the text model, modules that
// draft tokens; selections that are the same in parts, steps and batches; MXFP8 as it is stored; and what GGUF keeps of the indexer.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

private let name = "minimax_m3_vl"

/// Logits of sequences that go through the layers together.
private func logits(_ model: Model, _ sequences: [[Int]]) throws -> [Float] {
  func run(_ family: some ModelFamily, _ weights: some Weights) throws -> [Float] {
    let pass = Pass(parallel: Parallel(threads: 2))
    let batch = TokenBatch(sequences)
    var x = try family.embed(batch, weights)
    for layer in 0..<family.dimensions.layers { _ = try family.layer(layer, &x, batch, weights, pass) }
    return try family.logits(x, weights, pass).values
  }
  return try run(model.family, model.weights)
}

/// Logits of one sequence in steps of so many tokens.
private func logits(_ model: Model, _ ids: [Int], step: Int) throws -> [Float] {
  func run(_ family: some ModelFamily, _ weights: some Weights) throws -> [Float] {
    let state = DecodingState()
    var out: [Float] = []
    for start in stride(from: 0, to: ids.count, by: step) {
      let batch = TokenBatch([Array(ids[start..<min(ids.count, start + step)])], firstPosition: start)
      let pass = Pass(parallel: .serial, state: state)
      var x = try family.embed(batch, weights)
      for layer in 0..<family.dimensions.layers { _ = try family.layer(layer, &x, batch, weights, pass) }
      out += try family.logits(x, weights, pass).values
      state.advance(batch.count)
    }
    return out
  }
  return try run(model.family, model.weights)
}

private func distance(_ x: [Float], _ y: [Float]) -> Float {
  x.count == y.count ? zip(x, y).map { abs($0 - $1) }.max() ?? 0 : .infinity
}

@Suite struct MiniMaxM3Tests {
  /// A prompt of more tokens than a layer takes at once chooses the same blocks in parts of its own, in steps, and beside others.
  @Test func selectionsAreTheSameHoweverTokensCome() throws {
    let model = try openFixture(name)
    let ids = (0..<1100).map { ($0 * 37 + $0 / 7) % 250 }
    let whole = try logits(model, [ids])
    #expect(distance(whole, try logits(model, ids, step: 300)) < 1e-5)
    let short = Array(ids[5..<70])
    let batch = try logits(model, [short, Array(ids.prefix(400)), Array(ids[1..<4])])
    let alone = try logits(model, [short])
    #expect(distance(Array(batch.prefix(alone.count)), alone) < 1e-5)
    let first = Array(batch[alone.count..<alone.count + 400 * 256])
    #expect(distance(first, Array(whole.prefix(400 * 256))) < 1e-5)
  }

  /// What the choice leaves out is left out: the same weights without sparse layers give other logits, once there are more blocks.
  @Test func selectionsBite() throws {
    let folder = TemporaryFolder()
    var variant = try Variant("models/\(name)")
    try variant.setText("sparse_attention_config", nil)
    variant.tensors.removeAll { $0.name.contains(".index_") }
    let (sparse, dense) = (try openFixture(name), try variant.open(in: folder))
    let ids = (0..<60).map { $0 * 41 % 250 }
    let (a, b) = (try logits(sparse, [ids]), try logits(dense, [ids]))
    #expect(Array(a.prefix(24 * 256)) == Array(b.prefix(24 * 256)), "three blocks of eight are all seen")
    #expect(distance(a, b) > 1e-2)
  }

  /// Gate and up are one matrix in experts, dense layers and the shared expert; other words for router, bias and indexer.
  @Test func transformersNamesGiveTheSameLogits() throws {
    let folder = TemporaryFolder()
    var variant = try Variant("models/\(name)")
    let hub = try openFixture(name)
    let prefix = "language_model.model."
    let bytes = Dictionary(uniqueKeysWithValues: variant.tensors.map { ($0.name, $0) })
    variant.tensors.removeAll { $0.name.contains("gate_proj") && !$0.name.contains("vision") }
    variant.tensors.removeAll { $0.name.contains(".experts.") || $0.name.contains("up_proj") }
    for (layer, stem) in [(0, "mlp")] + (1...3).map({ ($0, "block_sparse_moe.shared_experts") }) {
      let path = "\(prefix)layers.\(layer).\(stem)."
      let halves = try ["gate", "up"].map { try #require(bytes["\(path)\($0)_proj.weight"]) }
      let shape = Shape([2 * halves[0].shape.rows, halves[0].shape.columns])
      variant.tensors.append(
        .init(
          name: "\(path)gate_up_proj.weight", dtype: .bf16, shape: shape,
          bytes: halves.flatMap(\.bytes)))
      guard layer > 0 else { continue }
      func stacked(_ parts: [String]) throws -> [UInt8] {
        try (0..<8).flatMap { expert in
          try parts.flatMap {
            try #require(bytes["\(prefix)layers.\(layer).block_sparse_moe.experts.\(expert).\($0).weight"])
              .bytes
          }
        }
      }
      let stack = "\(prefix)layers.\(layer).mlp.experts."
      variant.tensors.append(
        .init(
          name: stack + "gate_up_proj", dtype: .bf16, shape: [8, 64, 64], bytes: try stacked(["w1", "w3"])))
      variant.tensors.append(
        .init(name: stack + "down_proj", dtype: .bf16, shape: [8, 64, 32], bytes: try stacked(["w2"])))
    }
    variant.rename { old in
      [
        ("language_model.lm_head", "lm_head"), (prefix, "model.language_model."),
        ("block_sparse_moe.e_score", "mlp.gate.e_score"), ("block_sparse_moe", "mlp"),
        (".index_", ".indexer."),
      ].reduce(old) { $0.replacing($1.0, with: $1.1) }
    }
    let model = try variant.open(in: folder)
    #expect(try inspect(model).dialect == "transformers")
    #expect(model.family.core.weights.count == hub.family.core.weights.count)
    let windows = try referenceWindows(name)
    #expect(try allLogits(model, windows) == allLogits(hub, windows))
    // Written again under the hub's names, as transformers does.
    let again = try converted(model, folder.file("again"))
    #expect(try allLogits(again, windows) == allLogits(hub, windows))
  }

  /// The section may leave out what the text model is called; the wrapper's name says it.
  @Test func aSectionWithoutANameIsTheTextModel() throws {
    let folder = TemporaryFolder()
    var variant = try Variant("models/\(name)")
    try variant.setText("model_type", nil)
    let model = try variant.open(in: folder)
    #expect(model.family.modelType == "minimax_m3_vl_text" && model.family.hasForwardPass)
    let windows = try referenceWindows(name)
    let expected = try allLogits(try openFixture(name), windows)
    #expect(try allLogits(model, windows) == expected)
    #expect(try allLogits(try converted(model, folder.file("a.ingot")), windows) == expected)
    #expect(try allLogits(try converted(model, folder.file("a.gguf")), windows) == expected)
  }

  /// A module that drafts tokens has the roles of the layer it resembles, and is carried as it is; nothing runs it.
  @Test func draftsAreCarried() throws {
    let folder = TemporaryFolder()
    var variant = try Variant("models/\(name)")
    let (last, module) = ("language_model.model.layers.3.", "language_model.model.mtp.layers.0.")
    for tensor in variant.tensors where tensor.name.hasPrefix(last) {
      var copy = tensor
      copy.name = "\(module)transformer_layer.\(tensor.name.dropFirst(last.count))"
      variant.tensors.append(copy)
    }
    for part in ["enorm", "hnorm", "final_layernorm"] {
      variant.tensors.append(
        .init(
          name: "\(module)\(part).weight", dtype: .bf16, shape: [64],
          bytes: [UInt8](repeating: 0, count: 128)))
    }
    variant.tensors.append(
      .init(
        name: "\(module)eh_proj.weight", dtype: .bf16, shape: [64, 128],
        bytes: [UInt8](repeating: 61, count: 64 * 256)))
    let model = try variant.open(in: folder)
    #expect((model.family as? CarryingFamily)?.draftBlocks == 1 && model.family.runningDrafts.isEmpty)
    let own = variant.tensors.count { $0.name.hasPrefix(module) }
    #expect(model.drafts.count == own && model.drafts.allSatisfy { !$0.hasSourceName && $0.layer == 4 })
    #expect(model.drafts.count { $0.role == .indexer } == 2)
    #expect(model.drafts.allSatisfy { $0.role != .norm || $0.offset == 1 })
    let back = try converted(try converted(model, folder.file("a.ingot")), folder.file("back"))
    try expectEqual(model, back)
    let tensors = try SafetensorsDirectory(path: folder.file("back"))
    for tensor in variant.tensors {
      #expect(tensors.tensor(tensor.name)?.bytes.array == tensor.bytes, "\(tensor.name)")
    }
  }

  /// Codes and exponents stay what they are in an ingot and in a directory.
  /// vLLM makes one matrix of q, k, v and the indexer's two, and would copy plain numbers of the latter into FP8 codes without scales: a
  /// directory made from BF16 has all five plain in block-sparse layers, which every engine loads; the makers' own has not.
  @Test func theIndexerAndWhatItIsFusedWithAreAlike() throws {
    let folder = TemporaryFolder()
    let source = try openFixture(name)
    let summary = try writeDirectory(source, "mxfp8", to: folder.file("r"))
    #expect(summary.warnings.contains { $0.contains("qkv_proj") })
    let made = try Model.open(folder.file("r"))
    let sparse = Set(try made.storedWeights().filter { $0.spec.role == .indexer }.compactMap(\.spec.layer))
    #expect(!sparse.isEmpty)
    for weight in try made.storedWeights() where weight.spec.fusionGroup?.module == "qkv_proj" {
      guard let layer = weight.spec.layer, !weight.spec.isCarried else { continue }
      #expect((weight.encoding is Plain) == sparse.contains(layer), "\(weight.spec.name)")
    }
    for engine in [Engine.vllm, .sglang] {
      let rules = try checkEngine(made, for: engine).findings.map(\.rule.name)
      #expect(!rules.contains("fused-scheme") && !rules.contains("declared-scheme"), "\(engine) \(rules)")
    }
    let published = try checkEngine(try openFixture(name + "-mxfp8"), for: .vllm)
    #expect(published.findings.contains { $0.rule.name == "fused-scheme" })
  }

  @Test func mxfp8IsKept() throws {
    let folder = TemporaryFolder()
    let source = try openFixture(name + "-mxfp8")
    let ingot = try converted(source, folder.file("a.ingot"))
    let encodings = try ingot.storedWeights().map(\.encoding.name)
    #expect(encodings == (try source.storedWeights().map(\.encoding.name)))
    #expect(encodings.count { $0 == "f8_e4m3.block1x32" } == 100)
    let windows = try referenceWindows(name + "-mxfp8")
    #expect(try allLogits(ingot, windows) == allLogits(source, windows))
    _ = try converted(ingot, folder.file("back"))
    let (original, back) = (
      try SafetensorsDirectory(path: fixture("models/\(name)-mxfp8")),
      try SafetensorsDirectory(path: folder.file("back"))
    )
    #expect(original.tensors.count == back.tensors.count)
    for tensor in original.tensors {
      let new = try #require(back.tensor(tensor.name), "\(tensor.name)")
      #expect(new.dtype == tensor.dtype && new.bytes.array == tensor.bytes.array, "\(tensor.name)")
    }
  }

  /// In GGUF norms have their 1, and the indexer's projections are F32 whatever the scheme; keys alone say the model, but for the clamp,
  /// which has none.
  @Test func gguf() throws {
    let folder = TemporaryFolder()
    var variant = try Variant("models/\(name)")
    try variant.setText("swiglu_limit", 7)
    let source = try variant.open(in: folder)
    let result = try converted(source, folder.file("a.gguf"))
    let windows = try referenceWindows(name)
    #expect(try allLogits(result, windows) == allLogits(source, windows))
    try rewrite(folder.file("a.gguf"), to: folder.file("bare.gguf")) { keys in
      keys.removeAll { $0.key.hasPrefix("smelt.") }
    }
    #expect(try allLogits(try Model.open(folder.file("bare.gguf")), windows) == allLogits(source, windows))
    let norm = try #require(try GGUFFile(path: result.path).tensor("blk.2.indexer.k_norm.weight"))
    let first = norm.bytes.withUnsafeBytes { $0.loadUnaligned(as: Float.self) }
    let stored = try source.weights.weight(WeightName("blk.2.indexer.k_norm.weight")).decode()[0]
    #expect(first == stored + 1)
    let small = try GGUFFile(path: try converted(source, folder.file("b.gguf"), "q8_0").path)
    #expect(small.tensor("blk.3.indexer.q_proj.weight")?.type.name == "F32")
    #expect(small.tensor("blk.3.attn_q.weight")?.type.name == "Q8_0")
  }
}
