// Layouts of engines that came after the first: MXFP8, FP8 of 32 × 32, 4-bit weights with 8-bit activations, zero points; and what
// becomes of experts that the source stacks.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

/// A word of a user's, and what config.json says of the weights and of the activations.
struct LayoutCase: Sendable, CustomTestStringConvertible {
  let word: String
  let format: String
  let bits: Int
  let isSymmetric: Bool
  let strategy: String
  /// Type, strategy and length of the group of `input_activations`; nil where there are none.
  let inputs: (type: String, strategy: String, group: Int?)?
  var testDescription: String { word }

  init(
    _ word: String, _ format: String, _ bits: Int, isSymmetric: Bool = true, strategy: String = "group",
    _ inputs: (String, String, Int?)?
  ) {
    (self.word, self.format, self.bits, self.isSymmetric) = (word, format, bits, isSymmetric)
    (self.strategy, self.inputs) = (strategy, inputs)
  }
}

private let cases = [
  LayoutCase("mxfp8", "mxfp8-quantized", 8, ("float", "group", 32)),
  LayoutCase("MXFP8A16", "mxfp8-quantized", 8, nil),
  LayoutCase("fp8-block:32", "float-quantized", 8, strategy: "block", ("float", "group", 32)),
  LayoutCase("W4A8", "int-quantized", 4, ("int", "token", nil)),
  LayoutCase("W4AFP8", "pack-quantized", 4, ("float", "token", nil)),
  LayoutCase("W4A16_ASYM", "pack-quantized", 4, isSymmetric: false, nil),
  LayoutCase("MXFP4XFP8", "mxfp4-pack-quantized", 4, ("float", "group", 128)),
  LayoutCase("fp8-channel@a16", "naive-quantized", 8, strategy: "channel", nil),
]

/// A directory of a scheme.
@discardableResult
private func write(_ source: Model, _ word: String, to path: String, recipe: Recipe? = nil) throws
  -> ConvertSummary
{
  var wanted = try options("keep")
  wanted.recipe = try recipe ?? Recipe(SchemeWord(word))
  wanted.target = SafetensorsResult(schemeWord: recipe == nil ? word : nil)
  return try convert(source, to: path, wanted)
}

/// The result of the same recipe in a container that keeps every encoding, with what was levelled for engines.
private func reference(_ source: Model, _ word: String, like result: Model, to path: String) throws -> Model {
  var wanted = try options("keep")
  wanted.recipe = try Recipe(SchemeWord(word))
  var seen: Set<String> = []
  for weight in try result.storedWeights() where weight.spec.shape.rank > 1 {
    guard seen.insert(weight.spec.name.base).inserted else { continue }
    var scheme: (any Scheme)? = weight.encoding is Plain ? Keep() : nil
    if let integers = weight.encoding as? GroupedIntegers, case .group(let size) = integers.granularity {
      scheme = integers.hasZeroPoints ? Int4Zero(size: size) : Int4Group(size: size)
    }
    if let scheme { wanted.recipe.rules.append(Recipe.Rule(.name(weight.spec.name.base), scheme)) }
  }
  _ = try convert(source, to: path, wanted)
  return try Model.open(path)
}

@Suite struct EngineLayoutTests {
  /// Every family that stacks experts, and one that does not: numbers, configuration, and a name for each expert.
  @Test(
    arguments: cases, ["qwen3_moe", "gpt_oss", "qwen3_5_moe", "qwen3_vl_moe", "gemma4", "mistral4"])
  func whatIsWrittenIsReadBack(_ known: LayoutCase, family: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture(family)
    try write(source, known.word, to: folder.file("out"))
    let result = try Model.open(folder.file("out"))
    try expectEqual(try reference(source, known.word, like: result, to: folder.file("r.ingot")), result)

    let said = try section(folder.file("out"))
    #expect(said["quant_method"]?.string == "compressed-tensors")
    #expect(said["format"]?.string == known.format)
    for group in try #require(said["config_groups"]?.object).values {
      let weights = try #require(group["weights"])
      #expect(group["format"]?.string == known.format)
      #expect(weights["num_bits"]?.integer == known.bits)
      #expect(weights["symmetric"]?.bool == known.isSymmetric)
      #expect(weights["strategy"]?.string == known.strategy)
      let inputs = try #require(group["input_activations"])
      #expect(inputs["type"]?.string == known.inputs?.type)
      #expect(inputs["strategy"]?.string == known.inputs?.strategy)
      #expect(inputs["group_size"]?.integer == known.inputs?.group)
    }
    let tensors = try SafetensorsDirectory(path: folder.file("out")).tensors
    let experts = tensors.filter { $0.name.contains(".experts.") && $0.name.contains(".weight") }
    // Experts whose down projections have no whole groups stay plain, all three, and stacked.
    #expect(
      !experts.isEmpty
        || family == "qwen3_vl_moe" && tensors.contains { $0.name.hasSuffix(".mlp.experts.gate_up_proj") })
    #expect(
      experts.allSatisfy { $0.name.firstMatch(of: /\.experts\.\d+\.(gate|up|down)_proj\.weight/) != nil })
    for tensor in experts
    where known.word == "W4A8" && experts.contains(where: { $0.name == "\(tensor.name)_scale" }) {
      #expect(tensor.dtype == .i8)
      #expect(tensor.bytes.array.allSatisfy { (-8...7).contains(Int8(bitPattern: $0)) })
    }
    // What is kept in the result's own encoding is written the same way again.
    try write(result, "keep", to: folder.file("again"))
    try expectEqual(result, try Model.open(folder.file("again")))
  }

  /// gpt-oss in MXFP4 is what its makers publish, whatever it was made from: experts in blocks, all else plain.
  @Test func gptOssHasItsPublishedLayout() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("gpt_oss")
    try write(source, "mxfp4", to: folder.file("a"))
    let found = try SafetensorsDirectory(path: folder.file("a"))
    let published = try SafetensorsDirectory(path: fixture("models/gpt_oss-mxfp4"))
    #expect(Set(found.tensors.map(\.name)) == Set(published.tensors.map(\.name)))
    for tensor in found.tensors {
      let other = try #require(published.tensor(tensor.name))
      #expect(tensor.shape == other.shape && tensor.dtype == other.dtype, "\(tensor.name)")
    }
    let said = try section(folder.file("a"))
    #expect(said["quant_method"]?.string == "mxfp4")
    #expect(said["modules_to_not_convert"]?.array?.count == 4)
    let plain = try #require(found.tensor("model.layers.0.self_attn.q_proj.weight"))
    let original = try SafetensorsDirectory(path: fixture("models/gpt_oss"))
    #expect(plain.bytes.array == original.tensor(plain.name)?.bytes.array)

    var wanted = try options("keep")
    wanted.target = GGUFResult()
    _ = try convert(source, to: folder.file("s.gguf"), wanted)
    _ = try convert(source, to: folder.file("s.ingot"), try options("bf16"))
    for name in ["s.gguf", "s.ingot"] {
      let other = folder.file("from-\(name)")
      try write(try Model.open(folder.file(name)), "mxfp4", to: other)
      let bytes = try SafetensorsDirectory(path: other)
      for tensor in found.tensors {
        #expect(bytes.tensor(tensor.name)?.bytes.array == tensor.bytes.array, "\(name): \(tensor.name)")
      }
    }
    // Blocks of GGUF that no directory holds become plain numbers, and the plan says so.
    var q8 = try options("q8_0")
    q8.target = GGUFResult()
    _ = try convert(source, to: folder.file("q8.gguf"), q8)
    let summary = try write(try Model.open(folder.file("q8.gguf")), "mxfp4", to: folder.file("from-q8"))
    #expect(summary.converted.contains { $0.rule.contains("safetensors have no q8_0") })
    #expect(
      try SafetensorsDirectory(path: folder.file("from-q8")).tensor(plain.name)?.dtype == .bf16)
  }

  /// MXFP8 as MiniMax-M3 publishes it: kept bit for bit, and made again from the same numbers.
  @Test func mxfp8IsThePublishedOne() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("minimax_m3_vl-mxfp8")
    let summary = try write(source, "mxfp8", to: folder.file("kept"))
    let original = try SafetensorsDirectory(path: fixture("models/minimax_m3_vl-mxfp8"))
    let kept = try SafetensorsDirectory(path: folder.file("kept"))
    for tensor in kept.tensors {
      #expect(original.tensor(tensor.name)?.bytes.array == tensor.bytes.array, "\(tensor.name)")
    }
    #expect(summary.converted.isEmpty)
    try write(source, "bf16", to: folder.file("bf16"))
    try write(try Model.open(folder.file("bf16")), "mxfp8", to: folder.file("made"))
    let made = try section(folder.file("made"))
    #expect(made["quant_method"]?.string == "mxfp8" && made["scale_fmt"]?.string == "ue8m0")
    #expect(made["weight_block_size"]?.array?.compactMap(\.integer) == [1, 32])
    #expect(made["ignored_layers"]?.array?.compactMap(\.string).contains { $0.hasSuffix("lm_head") } == true)
    try expectEqual(source, try Model.open(folder.file("made")))
    // The word for weights alone is compressed-tensors', and the codes are the source's.
    var weightsAlone = Recipe(try SchemeWord("MXFP8A16"))
    weightsAlone.rules = [Recipe.Rule(.role(.indexer), Keep())]
    try write(source, "", to: folder.file("compressed"), recipe: weightsAlone)
    #expect(try section(folder.file("compressed"))["format"]?.string == "mxfp8-quantized")
    try expectEqual(source, try Model.open(folder.file("compressed")))
    // From there back into the makers' layout.
    try write(try Model.open(folder.file("compressed")), "mxfp8", to: folder.file("back"))
    try expectEqual(source, try Model.open(folder.file("back")))
    #expect(try section(folder.file("back"))["quant_method"]?.string == "mxfp8")
  }

  /// Blocks of 32 × 32: DeepSeek's layout says so, powers of two where V4 has them, and the size changes with the scheme.
  @Test func smallBlocksAreSaidInTheConfiguration() throws {
    let folder = TemporaryFolder()
    for (family, scale, dtype) in [
      ("deepseek_v3", "weight_scale_inv", DType.f32), ("deepseek_v4", "scale", .f8E8M0),
    ] {
      let (a, b) = (folder.file("\(family).32"), folder.file("\(family).128"))
      try write(try openFixture(family), "fp8-block:32", to: a)
      let small = try Model.open(a)
      #expect(try section(a)["weight_block_size"]?.array?.compactMap(\.integer) == [32, 32])
      #expect(try section(a)["quant_method"]?.string == "fp8")
      let scales = try SafetensorsDirectory(path: a).tensors.filter { $0.name.hasSuffix(".\(scale)") }
      #expect(!scales.isEmpty && scales.allSatisfy { $0.dtype == dtype })
      #expect(try small.storedWeights().contains { $0.encoding.name == "f8_e4m3.block32x32" })
      let scheme = family == "deepseek_v4" ? "fp8-block-e8m0:32" : "fp8-block:32"
      try expectEqual(
        try reference(try openFixture(family), scheme, like: small, to: folder.file("\(family).ingot")), small
      )
      // Kept, the file says the same again; of another size it does not.
      try write(small, "keep", to: folder.file("\(family).kept"))
      #expect(try contents(folder.file("\(family).kept/config.json")) == contents("\(a)/config.json"))
      try write(small, "fp8-block", to: b)
      #expect(try section(b)["weight_block_size"]?.array?.compactMap(\.integer) == [128, 128])
      // Two sizes are two groups of compressed-tensors.
      let mixed = Recipe(
        try Schemes.named("fp8-block"),
        rules: [Recipe.Rule(.role(.routedDown), try Schemes.named("fp8-block:32"))])
      try write(try openFixture(family), "", to: folder.file("\(family).mixed"), recipe: mixed)
      #expect(try section(folder.file("\(family).mixed"))["config_groups"]?.object?.keys.count == 2)
    }
  }

  /// Codes of four bits in bytes that hold more are refused where they lie.
  @Test func codesBeyondFourBitsAreRefused() throws {
    let folder = TemporaryFolder()
    try write(try openFixture("qwen3_moe"), "W4A8", to: folder.file("out"))
    let path = folder.file("out/model.safetensors")
    var bytes = try contents(path)
    let tensor = try #require(
      try SafetensorsFile(path: path).tensors.first { $0.name == "model.layers.0.self_attn.q_proj.weight" })
    bytes[tensor.offset + 3] = 8
    try writeFile(path, bytes, overwrite: true)
    let model = try Model.open(folder.file("out"))
    let error = #expect(throws: FormatError.self) {
      try model.source.weight(WeightName("blk.0.attn_q.weight"))
    }
    #expect(error?.code == .packed && error?.problem.contains("column 3") == true, "\(error?.problem ?? "")")
  }

  /// A recipe's rules have words of their own for activations: one group for each.
  @Test func rulesSayWhatBecomesOfActivations() throws {
    let folder = TemporaryFolder()
    let text = """
      {"schema": "smelt.recipe/1", "default": "W4A8",
       "rules": [{"role": "attention", "scheme": "W8A16"}, {"role": "shared_gate", "scheme": "keep"}]}
      """
    let recipe = try Recipe(Bytes(Array(text.utf8)))
    try write(try openFixture("qwen3_moe"), "", to: folder.file("out"), recipe: recipe)
    let groups = try #require(try section(folder.file("out"))["config_groups"]?.object).values
    let attention = try #require(groups.first { $0["weights"]?["num_bits"]?.integer == 8 })
    #expect(attention["format"]?.string == "pack-quantized")
    #expect(attention["input_activations"]?.isNull == true)
    #expect(groups.filter { $0["input_activations"]?["type"]?.string == "int" }.count == groups.count - 1)
    for (word, part) in [("fp8-channel@a8", "'a8'"), ("int4-zero@afp8", "'afp8'"), ("nvfp4@a8", "'a8'")] {
      let error = #expect(throws: RequestError.self) {
        try write(try openFixture("qwen3_moe"), word, to: folder.file("bad"))
      }
      #expect(error?.kind == .unsupported && error?.problem.contains(part) == true, "\(word)")
    }
  }

  /// Experts that stay plain in their stack are named one by one where all else is quantized: engines look there.
  @Test func plainStacksAreIgnoredByTheirExpertsNames() throws {
    let folder = TemporaryFolder()
    for name in ["gpt_oss", "qwen3_5_moe", "mistral4"] {
      let recipe = Recipe(Keep(), rules: [Recipe.Rule(.role(.attention), try Schemes.named("W8A8"))])
      try write(try openFixture(name), "", to: folder.file(name), recipe: recipe)
      let ignored = try #require(try section(folder.file(name))["ignore"]?.array).compactMap(\.string)
      for part in ["gate", "up", "down"] {
        #expect(
          ignored.contains { $0.hasSuffix(".0.mlp.experts.0.\(part)_proj") },
          "\(name)")
      }
      #expect(
        try SafetensorsDirectory(path: folder.file(name)).tensors.contains {
          $0.name.hasSuffix(".mlp.experts.gate_up_proj")
        }, "plain experts stay as they were")
    }
  }

  /// Engines ask for experts' layers by the usual names, whatever a checkpoint calls them.
  @Test func expertsAreNamedAsEnginesAskForThem() throws {
    let folder = TemporaryFolder()
    let recipe = Recipe(
      try Schemes.named("W8A8"),
      rules: [Role.routedGate, .routedUp, .routedDown].map { Recipe.Rule(.role($0), Keep()) })
    try write(try openFixture("minimax_m3_vl"), "", to: folder.file("out"), recipe: recipe)
    let ignored = try #require(try section(folder.file("out"))["ignore"]?.array).compactMap(\.string)
    for part in ["w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"] {
      #expect(ignored.contains { $0.hasSuffix(".experts.0.\(part)") }, "\(part)")
    }
    #expect(
      ModulePatterns.names(of: "a.experts.7.w3", in: nil) == ["a.experts.7.w3", "a.experts.7.up_proj"]
        && ModulePatterns.names(of: "a.shared_experts.w3", in: nil) == ["a.shared_experts.w3"])
  }

  /// DeepSeek-V4.1, which no family runs: blocks of 32 × 32, the n-gram table with 32 columns a scale, FP4 experts; kept bit for bit, and
  /// read from other blocks again.
  @Test func v41HasSmallBlocksAndATableOfItsOwn() throws {
    let folder = TemporaryFolder()
    var generator = Generator(seed: 41)
    func codes(_ count: Int, below limit: UInt8) -> Bytes {
      Bytes((0..<count).map { _ in UInt8.random(in: 0..<limit, using: &generator) })
    }
    func scales(_ count: Int) -> Bytes {
      Bytes((0..<count).map { _ in UInt8.random(in: 110...120, using: &generator) })
    }
    let tensors: [(String, DType, Shape, Bytes)] = [
      ("layers.0.attn.wq_a.weight", .f8E4M3, [96, 80], codes(96 * 80, below: 0x7F)),
      ("layers.0.attn.wq_a.scale", .f8E8M0, [3, 3], scales(9)),
      ("layers.0.engram.embed.weight", .f8E4M3, [7, 64], codes(7 * 64, below: 0x7F)),
      ("layers.0.engram.embed.scale", .f8E8M0, [7, 2], scales(14)),
      ("layers.0.ffn.experts.0.w1.weight", .i8, [32, 32], codes(32 * 32, below: 255)),
      ("layers.0.ffn.experts.0.w1.scale", .f8E8M0, [32, 2], scales(64)),
    ]
    let config = """
      {"model_type": "deepseek_v41", "architectures": ["DeepseekV41ForCausalLM"], "expert_dtype": "fp4",
       "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "scale_fmt": "ue8m0",
         "weight_block_size": [32, 32]}}
      """
    let inner = TemporaryFolder()
    let source = inner.path
    try writeFile("\(source)/config.json", Array(config.utf8), overwrite: false)
    var writer = try SafetensorsWriter(
      path: "\(source)/model.safetensors",
      tensors: tensors.map { SafetensorsWriter.Declaration($0.0, $0.1, $0.2) }, metadata: [])
    for tensor in tensors { try writer.write(tensor.0, tensor.3) }
    _ = try writer.commit()

    let model = try Model.open(source)
    let encodings = Dictionary(
      uniqueKeysWithValues: try model.storedWeights().map { ($0.spec.spellings[0].tensor, $0.encoding.name) })
    #expect(encodings["layers.0.attn.wq_a.weight"] == "f8_e4m3.block32x32")
    #expect(encodings["layers.0.engram.embed.weight"] == "f8_e4m3.block1x32")
    #expect(encodings["layers.0.ffn.experts.0.w1.weight"] == "mxfp4")
    for (name, word) in [("kept", "keep"), ("bf16", "bf16")] { try write(model, word, to: folder.file(name)) }
    #expect(try contents(folder.file("kept/config.json")) == Array(config.utf8))
    let kept = try SafetensorsDirectory(path: folder.file("kept"))
    for tensor in tensors {
      let found = try #require(kept.tensor(tensor.0))
      #expect(
        found.bytes.array == tensor.3.array && found.dtype == tensor.1 && found.shape == tensor.2,
        "\(tensor.0)")
    }
    // The same through an ingot.
    _ = try convert(model, to: folder.file("k.ingot"), try options("keep"))
    try write(try Model.open(folder.file("k.ingot")), "keep", to: folder.file("again"))
    for name in ["model.safetensors", "config.json"] {
      #expect(try contents(folder.file("again/\(name)")) == contents(folder.file("kept/\(name)")), "\(name)")
    }
  }

  /// What engines fuse has one kind of activations too; the words of the plan say which.
  @Test func activationsAreLevelledWithTheirScheme() throws {
    let folder = TemporaryFolder()
    let text = """
      {"schema": "smelt.recipe/1", "default": "keep",
       "rules": [{"name": "blk.*.attn_q.weight", "scheme": "W8A16"}, {"role": "attention", "scheme": "W8A8"}]}
      """
    let recipe = try Recipe(Bytes(Array(text.utf8)))
    try write(try openFixture("qwen3_moe"), "", to: folder.file("out"), recipe: recipe)
    let groups = try #require(try section(folder.file("out"))["config_groups"]?.object).values
    func modules(_ format: String) -> [String] {
      groups.filter { $0["format"]?.string == format }.flatMap {
        $0["targets"]?.array?.compactMap(\.string) ?? []
      }
    }
    // Query, key and value are alike, whichever of the two they got; the output projection is as it was asked for.
    let tensors = try SafetensorsDirectory(path: folder.file("out")).tensors.map(\.name)
    let packed = ["q", "k", "v", "o"].map {
      tensors.contains("model.layers.0.self_attn.\($0)_proj.weight_packed")
    }
    #expect(packed[0] == packed[1] && packed[1] == packed[2] && !packed[3], "\(packed)")
    #expect(!modules("int-quantized").isEmpty && modules("pack-quantized").isEmpty == !packed[0])
    var strict = try options("keep")
    (strict.recipe, strict.target, strict.isStrict) = (recipe, SafetensorsResult(), true)
    let error = #expect(throws: RequestError.self) {
      try convert(try openFixture("qwen3_moe"), to: folder.file("strict"), strict)
    }
    #expect(error?.problem.contains("int8-channel@a16") == true, "\(error?.problem ?? "")")
  }
}
