// Importance matrices of llama.cpp as statistics of our models, and the way back.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct ImatrixPipelineTests {
  private let text = fixture("models/tiny-v4/calibration.txt")

  /// The architecture that the golden files were made with, changed where a test says so.
  private func family(experts: Int = 2, hidden: Int = 256) throws -> any ModelFamily {
    let config = """
      {"model_type": "qwen3_moe", "vocab_size": 384, "hidden_size": \(hidden), "num_hidden_layers": 1,
       "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 256,
       "moe_intermediate_size": 256, "num_experts": \(experts), "num_experts_per_tok": 1, "norm_topk_prob": true,
       "decoder_sparse_step": 1, "mlp_only_layers": [], "rope_theta": 1000000.0, "rms_norm_eps": 1e-6,
       "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": false,
       "attention_bias": false}
      """
    return try ModelFamilies.family(of: JSON.scan(Bytes(Array(config.utf8))), file: "config.json")
  }

  @Test func goldenFilesAreTheSameStatistics() throws {
    let family = try family()
    let new = try readStatistics(fixture("gguf/imatrix.gguf"), for: family)
    let old = try readStatistics(fixture("gguf/imatrix.dat"), for: family)
    #expect((new.tokens, new.context, new.sequences) == (4096, 512, 8))
    #expect(new.modelType == nil && new.file == fixture("gguf/imatrix.gguf"))
    #expect(new.metadata.map(\.key) == ["format", "tokens", "context", "sequences", "datasets"])
    #expect(try new.expertTokens() == [ExpertTokens(layer: 0, counts: [2101, 1995])])
    // The older form has no tokens, only calls.
    #expect(try old.expertTokens() == [] && old.sequences == 8 && old.tokens == 0)
    var seen = 0
    for spec in family.weights where spec.isMultiplied && spec.layer == 0 {
      let a = try #require(try new.entry(spec.name), "\(spec.name)")
      let b = try #require(try old.entry(spec.name), "\(spec.name)")
      seen += 1
      #expect(a.absmax == nil && b.absmax == nil && a.groups == 1 && a.columns == 256)
      #expect(zip(a.meanSquare, b.meanSquare).allSatisfy { abs($0 - $1) <= $0 * 0x1p-22 }, "\(spec.name)")
      // Thousands of tokens: what calibration drew to the mean is next to nothing.
      let drawn = try #require(try new.importance(spec.name)).values
      let mean = a.meanSquare.reduce(0, +) / 256
      #expect(
        zip(drawn, a.meanSquare).allSatisfy {
          abs($0 - $1) <= 0.5 * abs($1 - mean) + 1e-5 * mean && ($0 - mean) * ($1 - mean) >= 0
        }, "\(spec.name)")
    }
    #expect(seen == 11)
    // By hand: the first sum of attn_k over its 4,096 tokens, and of the second expert's gate.
    #expect(try new.entry(WeightName("blk.0.attn_k.weight"))?.meanSquare[0] == 12206.4043 / 4096)
    #expect(try new.entry(WeightName("blk.0.ffn_gate_exps.weight", expert: 0))?.counts == [2101])
    #expect(try new.entry(WeightName("blk.0.ffn_gate_exps.weight", expert: 1))?.counts == [1995])
  }

  @Test func anotherModelsMatrixIsRefused() throws {
    for path in ["gguf/imatrix.gguf", "gguf/imatrix.dat"] {
      for family in [try family(experts: 4), try family(hidden: 128), try openFixture("mixtral").family] {
        let error = #expect(throws: FormatError.self) { try readStatistics(fixture(path), for: family) }
        #expect(error?.code == .statisticsMismatch && error?.file == fixture(path))
      }
    }
  }

  /// A matrix of these entries, each of one value.
  private func matrix(
    _ path: String, _ entries: [(name: String, matrices: Int, columns: Int)], count: Int = 3, sum: Float = 6
  ) throws {
    var writer = try ImatrixWriter(
      path: path, entries: entries.map { .init($0.name, matrices: $0.matrices, columns: $0.columns) },
      datasets: [], chunkCount: 1, chunkSize: 4, replacing: .anyFile)
    for entry in entries {
      try writer.write(
        entry.name, sums: [Float](repeating: sum, count: entry.matrices * entry.columns),
        counts: [Int](repeating: count, count: entry.matrices))
    }
    try writer.commit()
  }

  /// Latent attention in its absorbed form, layers that we do not run, and gate and up as one tensor.
  @Test func tensorsOfTheirOwnAreLeftOut() throws {
    let folder = TemporaryFolder()
    let path = folder.file("i.gguf")
    let family = try openFixture("deepseek_v3").family
    let layers = family.dimensions.layers
    let hidden = family.dimensions.hidden
    let experts = family.dimensions.experts
    try matrix(
      path,
      [
        ("blk.0.attn_k_b.weight", 1, 7), ("blk.0.attn_q_a.weight", 1, hidden),
        ("blk.0.attn_v_b.weight", 1, 7),
        ("blk.\(layers).attn_q_a.weight", 1, 5),
        ("blk.\(layers - 1).ffn_gate_up_exps.weight", experts, hidden),
      ])
    let statistics = try readStatistics(path, for: family)
    #expect(
      statistics.notes.map(\.value) == [
        "blk.0.attn_k_b.weight, blk.0.attn_v_b.weight, blk.\(layers).attn_q_a.weight"
      ])
    #expect(try statistics.importance(WeightName("blk.0.attn_q_a.weight"))?.values[0] == 2)
    for name in ["ffn_gate_exps", "ffn_up_exps"] {
      for expert in 0..<experts {
        let weight = WeightName("blk.\(layers - 1).\(name).weight", expert: expert)
        #expect(try statistics.entry(weight)?.counts == [3])
      }
    }
    #expect(try statistics.expertTokens().map(\.counts) == [[Int](repeating: 3, count: experts)])
    try matrix(path, [("blk.0.attn_qkv.weight", 1, hidden)])
    let error = #expect(throws: FormatError.self) { try readStatistics(path, for: family) }
    #expect(error?.code == .statisticsMismatch && error?.subject == "blk.0.attn_qkv.weight")
  }

  /// Values are first looked at when they are used, as those of other statistics are.
  @Test(arguments: [Float.nan, .infinity, -1]) func valuesNoRunGivesAreRefused(_ bad: Float) throws {
    let folder = TemporaryFolder()
    let path = folder.file("i.gguf")
    try matrix(path, [("blk.0.attn_k.weight", 1, 256)], sum: bad)
    let statistics = try readStatistics(path, for: try family())
    let error = #expect(throws: FormatError.self) {
      try statistics.importance(WeightName("blk.0.attn_k.weight"))
    }
    #expect(error?.code == .statistics && error?.file == path)
  }

  /// An expert that nothing reached: count 0, in the older form ones.
  @Test func starvedExpertsAreKnown() throws {
    let folder = TemporaryFolder()
    let path = folder.file("i")
    func le(_ value: Int32) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
    let name = "blk.0.ffn_up_exps.weight"
    let values = [Float](repeating: 0.5, count: 256) + [Float](repeating: 3, count: 256)
    let head: [[UInt8]] = [le(1), le(Int32(name.utf8.count)), Array(name.utf8), le(3), le(512)]
    try writeFile(path, Array(head.joined()) + values.withUnsafeBytes { Array($0) }, overwrite: false)
    let old = try readStatistics(path, for: try family())
    #expect(try old.importance(WeightName(name, expert: 0))?.values[0] == 0.5 / 3)
    #expect(try old.importance(WeightName(name, expert: 1)) == nil)
    #expect(try old.entry(WeightName(name, expert: 1))?.counts == [0])
    try matrix(path, [(name, 2, 256)], count: 0)
    let new = try readStatistics(path, for: try family())
    #expect(try new.importance(WeightName(name, expert: 0)) == nil)
    #expect(try new.entry(WeightName(name, expert: 0))?.meanSquare.allSatisfy { $0 == 0 } == true)
  }

  // MARK: writing

  /// What calibration writes as an importance matrix is what it writes as statistics, but for one rounding.
  @Test(arguments: ["qwen3_moe", "deepseek_v3", "deepseek_v4"])
  func calibrationWritesBothForms(_ fixture: String) throws {
    let folder = TemporaryFolder()
    let model = try openFixture(fixture)
    let windows = try referenceWindows(fixture)
    let paths = ["s.safetensors", "s.imatrix.gguf"].map(folder.file)
    let summaries = try paths.map {
      try calibrate(
        model, windows, textPath: text, to: $0, overwrite: false,
        policy: CalibrationPolicy(.weightOnly, minTokens: 1), RunOptions())
    }
    #expect(summaries[0].coverage == summaries[1].coverage)
    let file = try ImatrixFile(path: paths[1])
    #expect(file.datasets == ["calibration.txt"] && file.chunkSize == windows.context)
    #expect(file.chunkCount == windows.sequences.count)
    let own = try readStatistics(paths[0], for: model)
    let imatrix = try readStatistics(paths[1], for: model)
    #expect(imatrix.tokens == own.tokens && imatrix.context == own.context)
    #expect(try imatrix.expertTokens() == own.expertTokens())
    for spec in model.family.weights where spec.isMultiplied {
      let a = try #require(try own.entry(spec.name))
      let b = try imatrix.entry(spec.name)
      #expect((b == nil) == (spec.layer == nil), "\(spec.name)")
      guard let b else { continue }
      #expect(b.absmax == nil && b.groups == a.groups && b.columns == a.columns)
      guard spec.inputGroups == 1 else {
        // One row for all groups: the mean over them.
        for column in 0..<a.columns {
          let mean = (0..<a.groups).reduce(0.0) { $0 + Double(a.meanSquare[$1 * a.columns + column]) }
          #expect(abs(Double(b.meanSquare[column]) * Double(a.groups) - mean) <= mean * 0x1p-22)
        }
        continue
      }
      #expect(a.counts == b.counts)
      #expect(zip(a.meanSquare, b.meanSquare).allSatisfy { abs($0 - $1) <= $0 * 0x1p-22 }, "\(spec.name)")
    }
  }

  /// Either form may inform a conversion; the bytes of the matrix depend on nothing but model and text.
  @Test func conversionTakesEitherForm() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("qwen3_moe")
    let windows = try referenceWindows("qwen3_moe")
    let paths = ["1.gguf", "2.gguf"].map(folder.file)
    for (path, threads) in zip(paths, [1, 3]) {
      _ = try calibrate(
        model, windows, textPath: text, to: path, overwrite: false,
        RunOptions(parallel: Parallel(threads: threads)))
    }
    #expect(try contents(paths[0]) == contents(paths[1]))
    let result = folder.file("r.ingot")
    _ = try convert(
      model, to: result,
      try options("int8-channel", observer: .mse, statistics: try readStatistics(paths[0], for: model)))
    _ = try checkModel(try Model.open(result), RunOptions())
  }
}
