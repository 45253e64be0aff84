// What is special about Nemotron-H: experts in a latent width, layers of one mixer, a block that drafts tokens out of two layers, a
// configuration with a word that JSON does not have, and models without experts.

import SmeltContainers
import SmeltModels
@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

private let published = "models/nemotron_h"

/// The checkpoint's tensors of one layer, without the prefix.
private func layer(_ variant: Variant, _ prefix: String) -> [Variant.Tensor] {
  variant.tensors.filter { $0.name.hasPrefix(prefix) }.map {
    var tensor = $0
    tensor.name = String($0.name.dropFirst(prefix.count))
    return tensor
  }
}

/// A model of other layers: where each of them comes from in the checkpoint.
private func model(_ pattern: String, of prefixes: [String]) throws -> Variant {
  let source = try Variant(published)
  var variant = source
  variant.tensors.removeAll { $0.name.contains(".layers.") }
  for (place, prefix) in prefixes.enumerated() {
    variant.tensors += layer(source, prefix).map {
      var tensor = $0
      tensor.name = "backbone.layers.\(place).\($0.name)"
      return tensor
    }
  }
  variant.set("hybrid_override_pattern", JSON(pattern))
  variant.set("num_hidden_layers", JSON(prefixes.count))
  variant.set("num_nextn_predict_layers", 0)
  return variant
}

/// A model without experts: its dense layer is a layer's shared expert.
private func dense() throws -> Variant {
  var variant = try model("M*-M", of: [0, 3, 1, 2].map { "backbone.layers.\($0)." })
  variant.tensors.removeAll {
    $0.name.hasPrefix("backbone.layers.2.") && !$0.name.contains("shared")
      && !$0.name.hasSuffix("2.norm.weight")
  }
  variant.rename { $0.replacing("mixer.shared_experts.", with: "mixer.") }
  variant.set("intermediate_size", 64)
  for key in ["n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"] { variant.set(key, nil) }
  return variant
}

@Suite struct NemotronTests {
  private let folder = TemporaryFolder()

  /// The names that transformers has in memory: no `backbone`, and the experts of a layer in two stacks.
  @Test func stackedExpertsGiveTheSameLogits() throws {
    var variant = try Variant(published)
    variant.tensors.removeAll { $0.name.hasPrefix("mtp.") }
    var stacks: [String: [Int: Variant.Tensor]] = [:]
    for tensor in variant.tensors {
      let words = tensor.name.split(separator: ".").map(String.init)
      guard let place = words.firstIndex(of: "experts"), let expert = Int(words[place + 1]) else { continue }
      stacks["model.layers.\(words[2]).mixer.experts.\(words[place + 2])", default: [:]][expert] = tensor
    }
    variant.tensors.removeAll { $0.name.contains(".experts.") }
    variant.rename { $0.replacing("backbone.", with: "model.") }
    for (name, experts) in stacks.sorted(by: { $0.key < $1.key }) {
      let all = experts.sorted { $0.key < $1.key }.map(\.value)
      variant.tensors.append(
        Variant.Tensor(
          name: name, dtype: all[0].dtype, shape: Shape([all.count] + all[0].shape.dimensions),
          bytes: all.flatMap(\.bytes)))
    }
    variant.set("num_nextn_predict_layers", 0)
    let stacked = try variant.open(in: folder)
    #expect((stacked.source as? Checkpoint)?.dialect == "transformers" && stacked.leftOut.isEmpty)
    let windows = try referenceWindows("nemotron_h")
    #expect(try allLogits(stacked, windows) == allLogits(try openFixture("nemotron_h"), windows))
    let back = try converted(try converted(stacked, folder.file("a.ingot")), folder.file("back"))
    try expectEqual(stacked, back)
  }

  /// The word `Infinity` of config.json stays where the bytes stay, and is a number of the same value where the text is made anew.
  @Test func theWordInfinitySurvives() throws {
    let source = try openFixture("nemotron_h")
    let bytes = try contents(fixture(published) + "/config.json")
    #expect(String(decoding: bytes, as: UTF8.self).contains("Infinity"))
    #expect(throws: JSONError.self) { try JSON.scan(Bytes(bytes)) }
    for name in ["a.ingot", "a.gguf"] {
      let back = try converted(try converted(source, folder.file(name)), folder.file("\(name).back"))
      #expect(try contents(back.path + "/config.json") == bytes)
    }
    var options = try options("int8-channel")
    (options.target, options.drafts) = (SafetensorsResult(schemeWord: "int8-channel"), .drop)
    _ = try convert(source, to: folder.file("dropped"), options)
    let text = String(decoding: try contents(folder.file("dropped/config.json")), as: UTF8.self)
    #expect(text.contains("1e999") && !text.contains("Infinity"))
    let result = try Model.open(folder.file("dropped"))
    let differences = try ModelDifference.all(source, result)
    #expect(result.drafts.isEmpty && differences.map(\.key) == ["num_nextn_predict_layers"])
    #expect(differences.allSatisfy { !$0.changesNumbers })
  }

  /// A header of safetensors is JSON, and no word of Python's.
  @Test func headersHaveNoSuchWord() throws {
    let header = Array(#"{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,4]}}   "#.utf8)
    let bytes = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) } + header + [0, 0, 0, 0]
    try writeFile(folder.file("model.safetensors"), bytes, overwrite: false)
    let error = #expect(throws: FormatError.self) {
      _ = try SafetensorsFile(path: folder.file("model.safetensors"))
    }
    #expect(error?.problem.contains("'I'") == true, "\(String(describing: error))")
  }

  /// The block is the layers that it is made of: the same weights as a model of two layers give the same numbers.
  @Test func theDraftBlockIsTwoLayers() throws {
    let source = try openFixture("nemotron_h")
    var variant = try model("*E", of: ["mtp.layers.0.", "mtp.layers.1."])
    let joining = ["enorm.weight", "hnorm.weight", "eh_proj.weight"]
    variant.tensors.removeAll { tensor in joining.contains { tensor.name.hasSuffix($0) } }
    let last = try variant.place("backbone.layers.1.final_layernorm.weight")
    variant.tensors[try variant.place("backbone.norm_f.weight")].bytes = variant.tensors[last].bytes
    variant.tensors.remove(at: last)
    let layers = try variant.open(in: folder)
    let ids = Array(try Reference(of: "nemotron_h").sequences("short.input_ids")[0])
    try compare(source.family, source.weights, layers.family, layers.weights, ids)
  }

  private func compare(
    _ family: some ModelFamily, _ weights: some Weights, _ layers: some ModelFamily, _ own: some Weights,
    _ ids: [Int]
  ) throws {
    let block = try #require(family.runningDrafts.first)
    let batch = TokenBatch([Array(ids.dropLast())])
    let next = TokenBatch([Array(ids.dropFirst())])
    var x = try family.embed(batch, weights)
    for layer in 0..<family.dimensions.layers { _ = try family.layer(layer, &x, batch, weights, Pass()) }
    let drafted = try family.draft(block, family.draftInput(x, weights, Pass()), next, weights, Pass())
    let found = try family.draftLogits(block, drafted, weights, Pass())

    func norm(_ x: Matrix, _ name: String) throws -> Matrix {
      let scale = try weights.vector(WeightName("blk.5.nextn.\(name).weight"))
      var y = x
      for row in 0..<x.rows {
        let values = x.values[row * x.columns..<(row + 1) * x.columns]
        let square = values.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(x.columns)
        let factor = 1 / (square + 1e-5).squareRoot()
        for (column, value) in values.enumerated() {
          y.values[row * x.columns + column] = Float(Double(value) * factor) * scale[column]
        }
      }
      return y
    }
    let embedded = try norm(try family.embed(next, weights), "enorm")
    // The stream as the head takes it: the block reads it after the last norm.
    let stream = try norm(try family.draftInput(x, weights, Pass()), "hnorm")
    var joined = Matrix(rows: x.rows, columns: 2 * x.columns)
    for row in 0..<x.rows {
      for column in 0..<x.columns {
        joined.values[row * 2 * x.columns + column] = embedded.values[row * x.columns + column]
        joined.values[(row * 2 + 1) * x.columns + column] = stream.values[row * x.columns + column]
      }
    }
    var y = try weights.multiply(
      joined, WeightName("blk.5.nextn.eh_proj.weight"), rows: nil, parallel: .serial)
    for layer in 0..<2 { _ = try layers.layer(layer, &y, next, own, Pass()) }
    let expected = try layers.logits(y, own, Pass())
    let worst = zip(found.values, expected.values).map { abs($0 - $1) }.max() ?? .infinity
    #expect(found.values.count == expected.values.count && worst <= 1e-5, "differ by \(worst)")
  }

  /// The block through every container: each tensor has its bytes.
  @Test(arguments: ["a.ingot", "a.gguf", "a"]) func theDraftBlockIsCarried(_ name: String) throws {
    let source = try openFixture("nemotron_h")
    let result = try converted(source, folder.file(name))
    #expect(result.drafts.map(\.name) == source.drafts.map(\.name) && source.drafts.count == 32)
    #expect(source.drafts.allSatisfy { !$0.hasSourceName && $0.layer == 5 })
    for spec in source.drafts {
      let (a, b) = (try source.weights.weight(spec.name), try result.weights.weight(spec.name))
      #expect(a.decode() == b.decode(), "\(spec.name)")
    }
  }

  /// Without experts: the other architecture of GGUF, the same logits, one token at a time too.
  @Test(arguments: [false, true]) func modelsWithoutExpertsRun(biases: Bool) throws {
    var variant = try dense()
    if biases {
      variant.set("mlp_bias", true)
      variant.set("attention_bias", true)
      variant.set("use_bias", true)
      let rows = [
        "0.mixer.in_proj": 328, "0.mixer.out_proj": 64, "3.mixer.in_proj": 328, "3.mixer.out_proj": 64,
        "1.mixer.q_proj": 128, "1.mixer.k_proj": 64, "1.mixer.v_proj": 64, "1.mixer.o_proj": 64,
        "2.mixer.up_proj": 64, "2.mixer.down_proj": 64,
      ]
      for (name, count) in rows.sorted(by: { $0.key < $1.key }) {
        // 0.5 and -0.5 in turn.
        let bytes = (0..<count).flatMap { [0, $0 % 2 == 0 ? 0x3F : 0xBF] as [UInt8] }
        variant.tensors.append(
          Variant.Tensor(name: "backbone.layers.\(name).bias", dtype: .bf16, shape: [count], bytes: bytes))
      }
    }
    let source = try variant.open(in: folder)
    #expect(source.family.dimensions.experts == 0)
    let windows = Windows([(0..<100).map { $0 * 37 % 256 }], context: 100)
    let logits = try allLogits(source, windows)
    if biases { #expect(try logits != allLogits(try dense().open(in: folder, "bare"), windows)) }
    let file = try converted(source, folder.file("a.gguf"))
    #expect((file.source as? Checkpoint)?.dialect == "nemotron_h")
    #expect(try allLogits(file, windows) == logits)
    #expect(try allLogits(try converted(file, folder.file("back")), windows) == logits)
    try expectDecoding(source.family, source.weights, windows.sequences[0], logits)
    let quantized = try converted(source, folder.file("q.ingot"), "int8-channel")
    let report = try verify(
      source: source, result: quantized, windows, thresholds: Thresholds(), RunOptions())
    #expect(report.kl.mean.isFinite && report.weights.count == source.family.weights.count)
  }

  private func expectDecoding(
    _ family: some ModelFamily, _ weights: some Weights, _ ids: [Int], _ expected: [Float]
  ) throws {
    let state = DecodingState()
    var found: [Float] = []
    for place in stride(from: 0, to: ids.count, by: 7) {
      let batch = TokenBatch([Array(ids[place..<min(place + 7, ids.count)])], firstPosition: place)
      var x = try family.embed(batch, weights)
      for layer in 0..<family.dimensions.layers {
        _ = try family.layer(layer, &x, batch, weights, Pass(state: state))
      }
      found += try family.logits(x, weights, Pass()).values
      state.advance(batch.count)
    }
    let worst = zip(found, expected).map { abs($0 - $1) }.max() ?? .infinity
    #expect(found.count == expected.count && worst <= 5e-5, "differ by \(worst)")
  }

  /// A sequence longer than what a layer takes at once.
  @Test func partsOfALongSequenceSeeEachOther() throws {
    let model = try openFixture("nemotron_h")
    let ids = (0..<tokenChunk + 70).map { ($0 * 37 + $0 / 11) % 256 }
    let logits = try allLogits(model, Windows([ids], context: ids.count))
    // Alone the second part would be the start of a sequence.
    try expectDecoding(model.family, model.weights, ids, logits)
  }

  /// Experts see latent inputs, and the projection that makes them sees each token once, replayed ones included.
  @Test func statisticsOfExpertsAreLatent() throws {
    let model = try openFixture("nemotron_h")
    let windows = Windows([(0..<24).map { $0 * 37 % 256 }], context: 24)
    _ = try calibrate(
      model, windows, textPath: fixture("models/tiny-v4/calibration.txt"), to: folder.file("s"),
      overwrite: false, policy: CalibrationPolicy(.topUp, minTokens: 24), RunOptions())
    let statistics = try readStatistics(folder.file("s"), for: model)
    for layer in [1, 4] {
      let down = try #require(try statistics.entry(WeightName("blk.\(layer).ffn_latent_down.weight")))
      #expect(down.columns == 64 && down.counts == [24])
      #expect(try statistics.entry(WeightName("blk.\(layer).ffn_latent_up.weight"))?.counts == [24])
      for expert in 0..<8 {
        let up = try #require(
          try statistics.entry(WeightName("blk.\(layer).ffn_up_exps.weight", expert: expert)))
        #expect(up.columns == 32 && up.counts == [24])
      }
    }
  }

  /// Factors fold into the norms, the latent projection and the norm of the state space, not through max(0, x)².
  @Test func factorsFoldWhereTheyComeOutAsTheyWentIn() throws {
    let family = try openFixture("nemotron_h").family
    func sites(_ layer: Int) -> [String: Int] {
      let sites = FoldSite.all(family.weights.filter { $0.layer == layer && !$0.isCarried })
      return Dictionary(
        uniqueKeysWithValues: sites.map {
          ($0.giver.base.replacing("blk.\(layer).", with: ""), $0.readers.count)
        })
    }
    #expect(sites(0) == ["attn_norm.weight": 1, "ssm_norm.weight": 1])
    #expect(sites(1) == ["attn_norm.weight": 3, "ffn_latent_down.weight": 8])
    #expect(sites(3) == ["attn_norm.weight": 3])
  }

  /// Keys with a number for each layer: of another length, or below 0, they are refused by name.
  @Test(arguments: ["attention.head_count_kv", "feed_forward_length"]) func listsOfOtherLengthsAreRefused(
    _ key: String
  ) throws {
    let path = try converted(try openFixture("nemotron_h"), folder.file("a.gguf")).path
    for list in [[2, 0] as [Int32], [0, 0, 0, 2, -1, 2]] {
      try rewrite(path, to: folder.file("b.gguf")) { keys in
        keys.removeAll { $0.key.hasPrefix("smelt.") || $0.key == "nemotron_h_moe.\(key)" }
        keys.append(("nemotron_h_moe.\(key)", .array(GGUFArray(i32: list))))
      }
      let error = #expect(throws: FormatError.self) { _ = try Model.open(folder.file("b.gguf")) }
      #expect(error?.code == .configValue && error?.subject == "nemotron_h_moe.\(key)")
      removeFile(folder.file("b.gguf"))
    }
  }
}
