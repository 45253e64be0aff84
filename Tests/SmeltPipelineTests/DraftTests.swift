// Blocks that draft tokens (multi-token prediction): carried into every container that holds them, quantized by the recipe, kept or
// dropped as the user says, and counted by the configuration exactly where they are.
import SmeltContainers
import SmeltModels
@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// Golden checkpoints with such a block: FP8 and FP4 with `mtp.0`, the others with a layer behind the last, with and without embeddings.
private let fixtures =
  ["models/deepseek_v4-fp4", "models/deepseek_v3-fp8", "reports/glm_mtp"]
  + ["glm4_moe_lite", "glm_moe_dsa", "hy_v3"].map { "models/\($0)" }

/// A conversion with a recipe's name and a choice for drafts.
private func options(_ scheme: String, _ target: any ResultTarget, _ drafts: DraftFate = .quantize) throws
  -> ConvertOptions
{
  ConvertOptions(recipe: Recipe(try Schemes.named(scheme)), target: target, drafts: drafts)
}

private func config(_ model: Model) throws -> JSON {
  try JSON.scan(try #require(try model.smallFile("config.json")))
}

@Suite struct DraftTests {
  private let folder = TemporaryFolder()

  /// All weights of the block are weights, with the roles of the layers they resemble; none is the forward pass's.
  @Test(arguments: fixtures) func everyTensorIsAWeight(name: String) throws {
    let model = try Model.open(fixture(name))
    let drafts = model.drafts
    let layers = model.family.dimensions.layers
    #expect(model.leftOut.isEmpty && !drafts.isEmpty)
    #expect(try config(model)["num_nextn_predict_layers"]?.integer == 1)
    #expect(drafts.allSatisfy { $0.isCarried && !$0.hasSourceName && $0.layer == layers && !$0.isMultiplied })
    #expect((model.family as? CarryingFamily)?.draftBlocks == 1)
    let last = model.family.dimensions.experts - 1
    #expect(drafts.contains { $0.role == .routedGate && $0.name.expert == last })
    #expect(drafts.contains { $0.role == .attention } && drafts.contains { $0.role == .router })
    let found = try #require(try inspect(model).drafts)
    #expect(found.blocks == 1 && found.weights == drafts.count && found.bytes > 0)
    #expect(try inspect(model).text(withTensors: false).contains("1 block that drafts tokens, "))
    // Parameters are the model's own, as they were before drafts were carried.
    let own = model.family.core.weights.filter { $0.role != .hashTable }.reduce(0) { $0 + $1.shape.count }
    #expect(try inspect(model).parameters == own)
  }

  /// Through an ingot and back every tensor has its bytes, and config.json is the source's byte for byte.
  @Test(arguments: fixtures) func throughAnIngotAndBackEveryByteIsTheSame(name: String) throws {
    let source = try Model.open(fixture(name))
    _ = try convert(source, to: folder.file("a.ingot"), try options("keep", IngotResult(.fast)))
    let ingot = try Model.open(folder.file("a.ingot"))
    #expect(ingot.family.weights.map(\.name) == source.family.weights.map(\.name))
    #expect(ingot.family.weights.map(\.isDraft) == source.family.weights.map(\.isDraft))
    #expect(ingot.family.weights.map(\.role) == source.family.weights.map(\.role))
    #expect(ingot.leftOut.isEmpty)
    _ = try convert(ingot, to: folder.file("back"), try options("keep", SafetensorsResult()))
    let (original, back) = (
      try SafetensorsDirectory(path: fixture(name)), try SafetensorsDirectory(path: folder.file("back"))
    )
    #expect(Set(back.tensors.map(\.name)) == Set(original.tensors.map(\.name)))
    for tensor in back.tensors {
      let old = try #require(original.tensor(tensor.name))
      #expect(old.dtype == tensor.dtype && old.shape == tensor.shape, "\(tensor.name)")
      #expect(old.bytes.array == tensor.bytes.array, "\(tensor.name) is bit-identical")
    }
    #expect(try contents(folder.file("back/config.json")) == contents(fixture(name) + "/config.json"))
    let report = try verifyWeights(
      source: source, result: ingot, thresholds: Thresholds(), because: "weights alone", RunOptions())
    #expect(report.draftWeights == source.drafts.count && report.exactWeights == report.weights.count)
    #expect(report.text.contains("weights compared"))
  }

  /// Lossy schemes take the matrices of the block as those of a layer, and leave its norms, router, embeddings and head.
  @Test(arguments: fixtures, ["int8-channel", "fp8-channel"])
  func aRecipeTakesThemAsLayers(name: String, scheme: String) throws {
    let source = try Model.open(fixture(name))
    let plan = try Plan(source, try options(scheme, SafetensorsResult()))
    for weight in plan.weights where weight.stored.spec.isDraft {
      let spec = weight.stored.spec
      #expect(weight.isKept == staysPlain(spec), "\(spec.name), \(spec.role)")
    }
    _ = try convert(source, to: folder.file("q"), try options(scheme, SafetensorsResult()))
    let result = try Model.open(folder.file("q"))
    #expect(result.drafts.map(\.name) == source.drafts.map(\.name))
    #expect(try config(result)["num_nextn_predict_layers"]?.integer == 1)
    let report = try verifyWeights(
      source: source, result: result, thresholds: Thresholds(maxWeightError: 0.05), because: "weights alone",
      RunOptions())
    #expect(report.passes && report.draftWeights == source.drafts.count, "\(report.text)")
    // What stays as it is stands in `ignore`, or has a group of its own.
    let section = try section(folder.file("q"))
    let ignored = (section["ignore"]?.array ?? []).compactMap { $0.string }
    let head = source.drafts.first { $0.role == .outputHead }?.spellings[0].tensor
    if let head { #expect(ignored.contains(String(head.dropLast(".weight".count)))) }
    #expect(ignored.contains("lm_head") || ignored.contains("head"))
  }

  /// `keep`: the numbers of the block stay as they are stored, beside quantized layers.
  @Test(arguments: fixtures) func keptOnesStayAsTheyAre(name: String) throws {
    let source = try Model.open(fixture(name))
    let chosen = try options("int8-channel", SafetensorsResult(), .keep)
    let plan = try Plan(source, chosen)
    for weight in plan.weights {
      let spec = weight.stored.spec
      if spec.isDraft {
        #expect(weight.isKept && weight.reason == "--mtp keep: drafts tokens", "\(spec.name)")
      } else {
        #expect(weight.isKept == staysPlain(spec), "\(spec.name)")
      }
    }
    _ = try convert(source, to: folder.file("k"), chosen)
    let result = try Model.open(folder.file("k"))
    #expect(result.drafts.map(\.name) == source.drafts.map(\.name))
    for (old, new) in zip(try source.storedWeights(), try result.storedWeights()) where old.spec.isDraft {
      #expect(old.encoding.name == new.encoding.name, "\(old.spec.name)")
      let (a, b) = (
        try source.weights.weight(old.spec.name), try result.weights.weight(old.spec.name)
      )
      #expect(zip(a.parts, b.parts).allSatisfy { $0.bytes.array == $1.bytes.array }, "\(old.spec.name)")
    }
  }

  /// `drop`: the rule names every tensor, and the configuration of the result counts no block, in every container.
  @Test(arguments: fixtures) func droppedOnesAreNamedAndNotCounted(name: String) throws {
    let source = try Model.open(fixture(name))
    let tensors = Set(
      try source.storedWeights().filter(\.spec.isDraft).flatMap { $0.tensors.map(\.name) })
    let targets: [(String, any ResultTarget)] = [
      ("d", SafetensorsResult()), ("d.ingot", IngotResult(.fast)), ("d.gguf", GGUFResult()),
    ]
    for (path, target) in targets {
      let chosen = try options("keep", target, .drop)
      let plan = try Plan(source, chosen)
      #expect(plan.leftOut.map(\.rule) == ["mtp"] && plan.leftOut.map(\.tensors) == [tensors.count])
      #expect(Set(plan.ledger.filter { $0.fate == .dropped }.map(\.source)) == tensors)
      let made = try convert(source, to: folder.file(path), chosen)
      #expect(made.text.contains("left out: ") && made.text.contains("'mtp'"))
      let result = try Model.open(folder.file(path))
      #expect(result.drafts.isEmpty && result.leftOut.isEmpty && !(result.family is CarryingFamily))
      let found = try config(result)
      #expect(found["num_nextn_predict_layers"]?.integer == 0)
      if let ratios = found["compress_ratios"]?.array { #expect(ratios.count == 4) }
      // The report says that they are not there, and compares what is.
      let report = try verifyWeights(
        source: source, result: result, thresholds: Thresholds(), because: "weights alone", RunOptions())
      #expect(report.draftWeights == 0 && report.weights.count == source.family.core.weights.count)
      #expect(report.missing.map(\.tensors) == [tensors.count])
      #expect(report.text.contains("left out of the result: ") && report.passes)
      #expect(report.json["result"]?["left_out"]?.array?.first?["rule"]?.string == "mtp")
      let both = try diff(source, result, RunOptions())
      #expect(both.isEqual && both.text.contains("left out in b: "))
    }
    let file = try GGUFFile(path: folder.file("d.gguf"))
    #expect(!file.metadata.contains { $0.key.hasSuffix("nextn_predict_layers") })
  }

  /// GGUF has them where llama.cpp reads them: names, keys and counts, and the checkpoint again on the way back.
  @Test func ggufHoldsThemWhereLlamaCppReadsThem() throws {
    // As GLM-4.5 is published: with embeddings and a head of the block's own, copies of the model's.
    var variant = try Variant("reports/glm_mtp")
    for (name, copy) in [("model.embed_tokens", "embed_tokens"), ("lm_head", "shared_head.head")] {
      var tensor = variant.tensors[try variant.place("\(name).weight")]
      tensor.name = "model.layers.4.\(copy).weight"
      variant.tensors.append(tensor)
    }
    try variant.write(to: folder.file("source"))
    let source = try Model.open(folder.file("source"))
    _ = try convert(source, to: folder.file("a.gguf"), try options("keep", GGUFResult()))
    let file = try GGUFFile(path: folder.file("a.gguf"))
    func key(_ name: String) -> Int? { file.metadata.first { $0.key == "glm4moe.\(name)" }?.value.integer }
    #expect(key("block_count") == 5 && key("nextn_predict_layers") == 1)
    #expect(file.tensor("blk.4.nextn.eh_proj.weight")?.shape == [64, 128])
    for part in [
      "nextn.enorm", "nextn.hnorm", "nextn.embed_tokens", "nextn.shared_head_head", "nextn.shared_head_norm",
      "attn_norm", "attn_q", "attn_output", "post_attention_norm", "ffn_gate_inp", "ffn_gate_exps",
      "ffn_up_exps", "ffn_down_exps", "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp",
    ] {
      #expect((file.tensor("blk.4.\(part).weight") != nil), "\(part)")
    }
    #expect(file.tensor("blk.4.ffn_norm.weight") == nil)
    #expect(file.tensor("blk.4.ffn_gate_exps.weight")?.shape == [8, 32, 64])
    let model = try Model.open(folder.file("a.gguf"))
    #expect(model.drafts.map(\.name) == source.drafts.map(\.name) && model.leftOut.isEmpty)
    try expectEqual(source, model)
    _ = try convert(model, to: folder.file("back"), try options("keep", SafetensorsResult()))
    let (original, back) = (
      try SafetensorsDirectory(path: source.path), try SafetensorsDirectory(path: folder.file("back"))
    )
    #expect(Set(back.tensors.map(\.name)) == Set(original.tensors.map(\.name)))
    for tensor in back.tensors {
      #expect(original.tensor(tensor.name)?.bytes.array == tensor.bytes.array, "\(tensor.name)")
    }
    // Quantized by a scheme of GGUF's, as the layers are.
    _ = try convert(source, to: folder.file("q.gguf"), try options("q8_0", GGUFResult()))
    let quantized = try GGUFFile(path: folder.file("q.gguf"))
    #expect(quantized.tensor("blk.4.ffn_up_exps.weight")?.type.name == "Q8_0")
    #expect(quantized.tensor("blk.4.attn_q.weight")?.type.name == "Q8_0")
    #expect(quantized.tensor("blk.4.nextn.hnorm.weight")?.type.name == "F32")
  }

  /// The block of V3.2 in the words of `deepseek32`, the latent's matrix in two pieces and an indexer of its own.
  @Test func ggufHoldsLatentBlocksToo() throws {
    var variant = try Variant("models/deepseek_v32")
    let layers = 4
    let last = "model.layers.\(layers - 1)."
    for tensor in variant.tensors where tensor.name.hasPrefix(last) {
      var copy = tensor
      copy.name = "model.layers.\(layers)." + tensor.name.dropFirst(last.count)
      variant.tensors.append(copy)
    }
    let norm = variant.tensors[try variant.place("model.norm.weight")]
    let hidden = norm.shape.count
    for name in ["enorm", "hnorm", "shared_head.norm"] {
      var copy = norm
      copy.name = "model.layers.\(layers).\(name).weight"
      variant.tensors.append(copy)
    }
    let width = norm.bytes.count / hidden
    variant.tensors.append(
      Variant.Tensor(
        name: "model.layers.\(layers).eh_proj.weight", dtype: norm.dtype, shape: [hidden, 2 * hidden],
        bytes: [UInt8](repeating: 0, count: 2 * hidden * hidden * width)))
    variant.set("num_nextn_predict_layers", 1)
    try variant.write(to: folder.file("source"))
    let source = try Model.open(folder.file("source"))
    #expect((source.family as? CarryingFamily)?.draftBlocks == 1)
    let made = try convert(source, to: folder.file("a.gguf"), try options("keep", GGUFResult()))
    #expect(made.leftOut.isEmpty)
    let file = try GGUFFile(path: folder.file("a.gguf"))
    for part in ["attn_k_b", "attn_v_b", "indexer.attn_k", "indexer.proj", "nextn.eh_proj"] {
      #expect(file.tensor("blk.\(layers).\(part).weight") != nil, "\(part)")
    }
    let model = try Model.open(folder.file("a.gguf"))
    #expect(model.drafts.map(\.name) == source.drafts.map(\.name))
    try expectEqual(source, model)
    // Without this program's copy of config.json the keys say it all.
    try rewrite(folder.file("a.gguf"), to: folder.file("bare.gguf")) { keys in
      keys.removeAll { $0.key.hasPrefix("smelt.") }
    }
    let bare = try Model.open(folder.file("bare.gguf"))
    #expect(bare.drafts.map(\.name) == source.drafts.map(\.name) && bare.family.dimensions.layers == layers)
    try expectEqual(source, bare)
  }

  /// Keys of a GGUF file that no family knows are kept word for word, the number of its blocks among them.
  @Test func keysThatCountThemAreNotLeftUntrue() throws {
    let source = try Model.open(fixture("reports/glm_mtp"))
    _ = try convert(source, to: folder.file("a.gguf"), try options("keep", GGUFResult()))
    try rewrite(folder.file("a.gguf"), to: folder.file("b.gguf")) { keys in
      keys.removeAll { $0.key.hasPrefix("smelt.") }
      for index in keys.indices {
        if keys[index].key == "general.architecture" { keys[index].value = .string("glm9moe") }
        keys[index].key = keys[index].key.replacing("glm4moe.", with: "glm9moe.")
      }
    }
    let model = try Model.open(folder.file("b.gguf"))
    let error = try #require(throws: RequestError.self) {
      _ = try Plan(model, try options("keep", GGUFResult(), .drop))
    }
    #expect(error.kind == .unsupported && error.problem.contains("--mtp drop"), "\(error)")
    _ = try convert(model, to: folder.file("c.gguf"), try options("keep", GGUFResult()))
    #expect(try GGUFFile(path: folder.file("c.gguf")).tensor("blk.4.nextn.eh_proj.weight") != nil)
  }

  /// Under a budget the block follows the last layer, which it resembles; what is dropped needs no room.
  @Test func aBudgetCountsThem() throws {
    let source = try Model.open(fixture("reports/glm_mtp"))
    var chosen = try options("int8-coded", IngotResult(.small))
    let budget = Budget(.bits(6), candidates: [Budget.codedScheme])
    let summary = try quantize(source, to: folder.file("b.ingot"), within: budget, chosen)
    let drafts = summary.ledger.filter { $0.weight?.hasPrefix("blk.4.") == true && $0.fate == .converted }
    #expect(drafts.contains { $0.weight == "blk.4.attn_q.weight" })
    let (with, without) = (
      try BudgetTable(source, budget, chosen).roles.flatMap(\.specs).count { $0.isDraft },
      try BudgetTable(
        source, budget, try options("int8-coded", IngotResult(.small), .drop)
      ).roles.flatMap(\.specs).count { $0.isDraft }
    )
    #expect(with == source.drafts.count { $0.role.isQuantizedByDefault } && without == 0)
    chosen.drafts = .keep
    #expect(try BudgetTable(source, budget, chosen).roles.flatMap(\.specs).allSatisfy { !$0.isDraft })
  }

  /// Where it does not, they are left out by the rule, which says so.
  @Test(arguments: [("models/deepseek_v4-fp4", "deepseek4"), ("models/deepseek_v3-fp8", "deepseek2")])
  func ggufLeavesThemOutElsewhere(name: String, architecture: String) throws {
    let source = try Model.open(fixture(name))
    let made = try convert(source, to: folder.file("a.gguf"), try options("keep", GGUFResult()))
    #expect(made.leftOut.map(\.rule) == ["mtp"])
    #expect(made.text.contains("llama.cpp reads no blocks that draft tokens in '\(architecture)'"))
    let model = try Model.open(folder.file("a.gguf"))
    #expect(try model.drafts.isEmpty && config(model)["num_nextn_predict_layers"]?.integer == 0)
    let file = try GGUFFile(path: folder.file("a.gguf"))
    #expect(!file.metadata.contains { $0.key.hasSuffix("nextn_predict_layers") })
  }

  /// A block without one of its weights is carried tensor by tensor, FP8 with its scales; a GGUF file that cannot count it has none.
  @Test func aBlockOfAnotherMakeIsCarriedUnderItsNames() throws {
    var variant = try Variant("reports/glm_mtp")
    variant.tensors.remove(at: try variant.place("model.layers.4.enorm.weight"))
    variant.rename { $0 == "model.layers.4.hnorm.weight" ? "model.layers.4.other_norm.weight" : $0 }
    try variant.write(to: folder.file("v"))
    let model = try Model.open(folder.file("v"))
    #expect(model.leftOut.isEmpty && (model.family as? CarryingFamily)?.draftBlocks == 0)
    #expect(model.drafts.count == variant.tensors.count { $0.name.hasPrefix("model.layers.4.") })
    #expect(
      model.drafts.allSatisfy { $0.hasSourceName && $0.layer == nil }
        && model.drafts.contains { $0.role == .routedUp })
    _ = try convert(model, to: folder.file("v.ingot"), try options("keep", IngotResult(.fast)))
    let ingot = try Model.open(folder.file("v.ingot"))
    #expect(ingot.drafts.map(\.name) == model.drafts.map(\.name))
    _ = try convert(ingot, to: folder.file("back"), try options("keep", SafetensorsResult()))
    let back = try SafetensorsDirectory(path: folder.file("back"))
    #expect(Set(back.tensors.map(\.name)) == Set(variant.tensors.map(\.name)))
    for tensor in variant.tensors {
      #expect(back.tensor(tensor.name)?.bytes.array == tensor.bytes, "\(tensor.name)")
    }
    let made = try convert(model, to: folder.file("v.gguf"), try options("keep", GGUFResult()))
    #expect(made.leftOut.map(\.rule) == ["mtp"])
    // FP8 codes with their scales, of which the block is not whole.
    var scaled = try Variant("models/deepseek_v3-fp8")
    scaled.tensors.remove(at: try scaled.place("model.layers.3.mlp.experts.5.up_proj.weight"))
    scaled.tensors.remove(at: try scaled.place("model.layers.3.mlp.experts.5.up_proj.weight_scale_inv"))
    try scaled.write(to: folder.file("s"))
    let fp8 = try Model.open(folder.file("s"))
    let stored = try fp8.storedWeights().first {
      $0.spec.name.base == "model.layers.3.mlp.experts.6.up_proj.weight"
    }
    #expect(stored?.encoding.name == "f8_e4m3.block" && stored?.tensors.count == 2)
  }

  /// Methods that need inputs take the blocks without: the pass does not run them.
  @Test func methodsTakeThemWithoutData() throws {
    let source = try Model.open(fixture("reports/glm_mtp"))
    var chosen = try options("int8-channel", IngotResult(.fast))
    chosen.run = RunOptions(parallel: Parallel(threads: 2))
    let windows = someWindows(source, count: 4, context: 32)
    try writeFile(folder.file("ids"), Array("ids".utf8), overwrite: false)
    let made = try quantize(
      source, to: folder.file("g.ingot"), calibration: windows, textPath: folder.file("ids"),
      choosesObserver: true, method: try MethodOptions(named: "gptq"), chosen)
    let result = try Model.open(folder.file("g.ingot"))
    #expect(result.drafts.map(\.name) == source.drafts.map(\.name))
    let notes = made.1.ledger.filter { $0.weight?.hasPrefix("blk.4.attn_q.") == true }.map(\.note)
    #expect(notes.first??.contains("weights alone") == true, "\(notes)")
    let report = try verify(
      source: source, result: result, windows, thresholds: Thresholds(maxWeightError: 0.05), RunOptions())
    #expect(report.passes && report.draftWeights == source.drafts.count, "\(report.text)")
    // The logits are those of a model without drafts.
    _ = try convert(source, to: folder.file("without"), try options("keep", SafetensorsResult(), .drop))
    #expect(try allLogits(source, windows) == allLogits(try Model.open(folder.file("without")), windows))
  }

  /// An architecture that no family knows carries its drafts as before, and its configuration now counts them.
  @Test func unknownArchitecturesAreCountedToo() throws {
    var variant = try Variant("reports/glm_mtp")
    variant.set("model_type", "some_new_moe")
    try variant.write(to: folder.file("u"))
    let model = try Model.open(folder.file("u"))
    #expect(model.drafts.count == variant.tensors.count { $0.name.hasPrefix("model.layers.4.") })
    for (path, drafts) in [("c", DraftFate.quantize), ("d", .drop)] {
      _ = try convert(model, to: folder.file(path), try options("keep", SafetensorsResult(), drafts))
      let result = try Model.open(folder.file(path))
      #expect(result.drafts.isEmpty == (drafts == .drop))
      #expect(try config(result)["num_nextn_predict_layers"]?.integer == (drafts == .drop ? 0 : 1))
    }
  }

  /// The text model of a wrapper has its drafts under the wrapper's names.
  @Test func wrappersKeepThemToo() throws {
    var variant = try Variant("reports/glm_mtp")
    let text = JSON(members: variant.config)
    variant.config = [("model_type", "some_vision_model"), ("text_config", text)]
    variant.rename { "language_model." + $0 }
    try variant.write(to: folder.file("w"))
    let model = try Model.open(folder.file("w"))
    #expect((model.family as? CarryingFamily)?.draftBlocks == 1 && !model.drafts.isEmpty)
    _ = try convert(model, to: folder.file("w.ingot"), try options("keep", IngotResult(.fast)))
    let ingot = try Model.open(folder.file("w.ingot"))
    #expect(ingot.drafts.map(\.name) == model.drafts.map(\.name))
    _ = try convert(ingot, to: folder.file("back"), try options("keep", SafetensorsResult()))
    let back = try SafetensorsDirectory(path: folder.file("back"))
    for tensor in variant.tensors {
      #expect(back.tensor(tensor.name)?.bytes.array == tensor.bytes, "\(tensor.name)")
    }
    #expect(
      try config(Model.open(folder.file("back")))["text_config"]?["num_nextn_predict_layers"]?.integer == 1)
  }

  /// A pattern of the user's leaves them out on opening, as it does other parts beside the model.
  @Test func theUserMayLeaveThemOutOnOpening() throws {
    let model = try Model.open(fixture("models/deepseek_v4-fp4"), allowDrop: ["mtp.*"])
    #expect(model.drafts.isEmpty)
    #expect(model.leftOut.map { "\($0.rule): \($0.tensors)" } == ["allow-drop mtp.*: 87"])
  }
}

/// Whether a directory of a lossy scheme keeps a weight: its role says so, or engines have its matrix plain only.
private func staysPlain(_ spec: WeightSpec) -> Bool {
  !spec.role.isQuantizedByDefault || spec.fusionGroup?.isPlain == true
}
