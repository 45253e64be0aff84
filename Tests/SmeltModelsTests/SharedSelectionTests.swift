// Layers that take the tokens which an earlier layer's indexer has chosen: every way in which a configuration says it, and the memo
// that holds the choice between layers.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

/// Settings beside those of the other families with latent attention.
private func config(_ changes: [(String, JSON?)]) -> LatentConfig {
  LatentConfig(
    "glm_moe_dsa",
    [("num_hidden_layers", 8), ("n_group", nil), ("topk_group", nil), ("first_k_dense_replace", 1)] + changes)
}

@Suite struct SharedSelectionTests {
  @Test(
    arguments: [
      ([], "FFFFFFFF"), ([("indexer_types", nil)], "FFFFFFFF"),
      (
        [("indexer_types", ["full", "full", "shared", "full", "shared", "shared", "full", "full"])],
        "FFSFSSFF"
      ), ([("index_topk_pattern", "FSSSFSSS")], "FSSSFSSS"),
      (
        [
          (
            "index_topk_pattern",
            ["full", "shared", "full", "full", "full", "full", "full", "shared"]
          )
        ], "FSFFFFFS"
      ), ([("index_topk_freq", 4), ("index_skip_topk_offset", 3)], "FFFSSSFS"),
      ([("index_topk_freq", 2), ("index_skip_topk_offset", 2)], "FFSFSFSF"),
      ([("index_topk_freq", 1)], "FFFFFFFF"), ([("index_topk_freq", 0)], "FFFFFFFF"),
      (
        [
          ("index_topk_freq", 4), ("index_skip_topk_offset", 3), ("index_topk_pattern", "FFFSSSFS"),
        ], "FFFSSSFS"
      ),
    ] as [([(String, JSON?)], String)])
  func everySpellingIsRead(changes: [(String, JSON?)], expected: String) throws {
    let decoder = try config(changes).read().decoder
    #expect(decoder.sharesSelection.map { $0 ? "S" : "F" }.joined() == expected)
    #expect(decoder.attention.indexer?.pairing == .interleaved)
  }

  @Test(
    arguments: [
      ("indexer_types", ["full"]), ("indexer_types", "FSSS"),
      ("indexer_types", ["shared", "full", "full", "full", "full", "full", "full", "full"]),
      ("indexer_types", ["full", "full", "full", "full", "full", "full", "full", "half"]),
      ("index_topk_pattern", "FSSS"), ("index_topk_pattern", "FSSSFSSX"), ("index_topk_pattern", 4),
      ("index_topk_freq", -1), ("index_topk_freq", "4"),
    ] as [(String, JSON)])
  func valueIsRefused(key: String, value: JSON) throws {
    let error = try #require(throws: FormatError.self) { try config([(key, value)]).read() }
    #expect(error.code == .configValue && error.subject == key, "\(error)")
  }

  @Test(
    arguments: [
      [("index_topk_freq", 4)],
      [("index_topk_freq", 4), ("index_skip_topk_offset", 3), ("index_topk_pattern", "FSSSFSSS")],
      [("rope_interleave", false)], [("indexer_rope_interleave", false)], [("partial_rotary_factor", 0.5)],
    ] as [[(String, JSON?)]])
  func variantIsUnsupported(changes: [(String, JSON?)]) throws {
    let error = try #require(throws: RequestError.self) { try config(changes).read() }
    #expect(error.kind == .unsupported && error.problem.contains("config.json"), "\(error)")
    #expect(error.problem.contains(changes[0].0), "\(error)")
  }

  /// A layer without an indexer has no rows for one; a block that drafts has one.
  @Test func tablesFollow() throws {
    let family = try config([("index_topk_pattern", "FFSFSSFF"), ("num_nextn_predict_layers", 1)]).read()
    for layer in 0..<8 {
      let rows = family.weights.filter { $0.layer == layer && $0.name.base.contains(".indexer.") }
      #expect(rows.count == (family.decoder.sharesSelection[layer] ? 0 : 5), "layer \(layer)")
      #expect(family.canBegin(at: layer) != family.decoder.sharesSelection[layer])
    }
    #expect(family.canBegin(at: 8))
    #expect(family.decoder.chooser(for: 5) == 3 && family.decoder.chooser(for: 6) == nil)
    let block = family.drafts.table(0).filter { $0.name.base.contains(".indexer.") }
    #expect(block.count == 5)
  }

  /// What a shared layer sees is what the layer before it chose: another choice gives another output, on a walk of its own.
  @Test func walksDoNotMix() throws {
    let family = try config([("num_hidden_layers", 2), ("indexer_types", ["full", "shared"])]).read()
    let weights = try randomWeights(family, seed: 7)
    let ids = (0..<24).map { $0 * 7 % 40 }
    let batch = TokenBatch([ids])
    var x = try family.embed(batch, weights)
    _ = try family.layer(0, &x, batch, weights, Pass())
    let (before, copy) = (x, batch.separated())
    let chosen = batch.memo.selection(of: 0)
    #expect(chosen.count == 24 && chosen[4] == nil && chosen[23]?.count == 5)
    copy.memo.leave([[Int32]?](repeating: [0], count: 24), of: 0)
    _ = try family.layer(1, &x, batch, weights, Pass())
    var y = before
    _ = try family.layer(1, &y, copy, weights, Pass())
    #expect(x.values != y.values)
    var z = before
    _ = try family.layer(1, &z, batch.separated(), weights, Pass())
    #expect(x.values == z.values)
    // The first sequences alone have the same choice.
    let two = TokenBatch([ids, Array(ids.prefix(9))])
    two.memo.leave(chosen + [[Int32]?](repeating: nil, count: 9), of: 0)
    #expect(two.first(sequences: 1).memo.selection(of: 0) == chosen)
    #expect(two.first(sequences: 1).ids == ids)
  }

  @Test func aMemoIsTheSameAsNumbers() {
    let memo = LayerMemo()
    #expect(memo.take().isEmpty)
    let choice: [[Int32]?] = [nil, [0, 1], [], [3]]
    memo.leave(choice, of: 6)
    let numbers = memo.take()
    #expect(memo.take().isEmpty)
    memo.restore(numbers)
    #expect(memo.selection(of: 6) == choice)
  }

  /// Matrices too, with a choice beside them and without one.
  @Test func matricesAreTheSameAsNumbers() throws {
    for choice in [nil, [[0], [0, 1]] as [[Int32]?]] {
      let memo = LayerMemo()
      if let choice { memo.leave(choice, of: 3) }
      let keys = Matrix(rows: 2, columns: 3, values: [1, -2, .infinity, 0, -0.0, Float(bitPattern: 5)])
      memo.leave([keys, Matrix(rows: 2, columns: 1, values: [7, 8])], of: 5)
      memo.restore(memo.take())
      let back = try #require(memo.matrices(of: 5))
      #expect(back[0].values.map(\.bitPattern) == keys.values.map(\.bitPattern) && back[1].values == [7, 8])
      #expect(memo.matrices(of: 3) == nil)
      if let choice { #expect(memo.selection(of: 3) == choice) }
    }
  }
}

@Suite struct QueryTemperatureTests {
  /// Steps at multiples of the length; nothing before the first.
  @Test func factors() {
    let temperature = QueryTemperature(beta: 0.1, length: 32)
    #expect(temperature.factor(0) == 1 && temperature.factor(31) == 1)
    #expect(abs(temperature.factor(32) - 1.0693147) < 1e-6)
    #expect(abs(temperature.factor(159) - 1.1609438) < 1e-6)
  }

  @Test func configuration() throws {
    func read(_ parameters: JSON?, _ more: [(String, JSON?)] = []) throws -> LatentDecoder {
      try LatentConfig(
        "mistral4",
        [("topk_method", nil), ("scoring_func", nil), ("rope_parameters", parameters)] + more
      ).read().decoder
    }
    let plain = try read(["rope_type": "default"])
    #expect(plain.attention.temperature == nil && plain.dense == [true, false])
    #expect(plain.feedForward.router.groupScore == .twoLargest && plain.feedForward.router.score == .softmax)
    let beta: JSON = [
      "rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 16, "llama_4_scaling_beta": 0.2,
    ]
    #expect(try read(beta).attention.temperature == QueryTemperature(beta: 0.2, length: 16))
    let missing = try #require(throws: FormatError.self) { try read(nil) }
    #expect(missing.code == .configValue && missing.subject == "rope_parameters")
    let length = try #require(throws: FormatError.self) {
      try read(["rope_type": "default", "llama_4_scaling_beta": 0.2])
    }
    #expect(length.subject == "original_max_position_embeddings")
    let scoring = try #require(throws: RequestError.self) {
      try read(["rope_type": "default"], [("scoring_func", "sigmoid")])
    }
    #expect(scoring.kind == .unsupported && scoring.problem.contains("scoring_func"))
    let share = try #require(throws: RequestError.self) {
      try read(["rope_type": "default", "partial_rotary_factor": 0.5])
    }
    #expect(share.problem.contains("partial_rotary_factor"))
    #expect(try read(["rope_type": "default", "partial_rotary_factor": 0.4]).attention.rotaryWidth == 4)
    _ = try read(["rope_type": "default"], [("head_dim", 10)])
    let width = try #require(throws: FormatError.self) {
      try read(["rope_type": "default"], [("head_dim", 4)])
    }
    #expect(width.subject == "head_dim")
  }
}
