// Directories that engines load: what is written is read back as the numbers of an ingot of the same scheme, and
// config.json says what they are.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

/// A scheme as a user words it, the format's name, and how many bits.
private let words: [(word: String, format: String, bits: Int)] = [
  ("W8A8", "int-quantized", 8), ("W8A16", "pack-quantized", 8), ("FP8_DYNAMIC", "float-quantized", 8),
  ("fp8-tensor", "float-quantized", 8), ("FP8_BLOCK", "float-quantized", 8), ("W4A16", "pack-quantized", 4),
  ("nvfp4", "nvfp4-pack-quantized", 4), ("mxfp4", "mxfp4-pack-quantized", 4),
]

/// A directory of a scheme.
@discardableResult
private func write(
  _ source: Model, _ word: String, to path: String, recipe: Recipe? = nil, exactOnly: Bool = false,
  shardBytes: Int = SafetensorsResult.usualShardBytes
) throws -> ConvertSummary {
  var options = try options(word == "recipe" ? "keep" : word, exactOnly: exactOnly)
  if let recipe { options.recipe = recipe }
  options.target = SafetensorsResult(shardBytes: shardBytes, schemeWord: word)
  return try convert(source, to: path, options)
}

@Suite struct EngineResultTests {
  @Test(arguments: words.map(\.word), ["qwen3_moe", "deepseek_v3", "deepseek_v4"])
  func whatIsWrittenIsReadBack(_ word: String, family: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture(family)
    try write(source, word, to: folder.file("out"))
    let result = try Model.open(folder.file("out"))
    // An ingot of the same schemes, those included that are levelled for engines.
    var same = try options(word)
    for spec in source.family.weights where spec.role.isRouted {
      guard
        case .group(let size) = (try result.weights.weight(spec.name).encoding as? GroupedIntegers)?
          .granularity
      else { continue }
      same.recipe.rules.append(Recipe.Rule(.name(spec.name.base), Int4Group(size: size)))
    }
    _ = try convert(source, to: folder.file("r.ingot"), same)
    try expectEqual(try Model.open(folder.file("r.ingot")), result)
    _ = try checkModel(result, RunOptions())

    let section = try section(folder.file("out"))
    let (_, format, bits) = try #require(words.first { $0.word == word })
    #expect(section["quant_method"]?.string == "compressed-tensors")
    #expect(section["quantization_status"]?.string == "compressed")
    let groups = try #require(section["config_groups"]?.object)
    #expect(groups.keys.first == "group_0")
    let group = try #require(groups.values.first)
    #expect(group["targets"]?.array?.first?.string == "Linear")
    if section["format"]?.string != "mixed-precision" { #expect(section["format"]?.string == format) }
    #expect(
      groups.values.allSatisfy {
        $0["format"]?.string == format && $0["weights"]?["num_bits"]?.integer == bits
      })
    let isDynamic = group["input_activations"]?["dynamic"]?.bool ?? false
    #expect(isDynamic == (format == "int-quantized" || format == "float-quantized"))
    let ignore = try #require(section["ignore"]?.array).compactMap(\.string)
    #expect(ignore.contains(family == "deepseek_v4" ? "head" : "lm_head"))
    #expect(ignore.contains { $0.hasSuffix(".gate") }, "the router stays as it is")
    let card = String(decoding: try contents(folder.file("out/README.md")), as: UTF8.self)
    #expect(card.contains("weights converted (") && card.contains("smelt.recipe/1"))
  }

  /// Experts that are stacked in the source have tensors of their own in the result: the files are those of the hub's dialect.
  @Test(arguments: ["qwen3_moe", "mixtral"])
  func stackedExpertsGetTheHubsNames(name: String) throws {
    let folder = TemporaryFolder()
    let fused = TemporaryFolder()
    try fuse(
      try SafetensorsFile(path: fixture("models/\(name)/model.safetensors")),
      into: fused.file("model.safetensors"))
    try writeFile(
      fused.file("config.json"), try contents(fixture("models/\(name)/config.json")), overwrite: false)
    let source = try Model.open(fused.path)
    #expect(source.dialect == "transformers")
    try write(source, "W8A8", to: folder.file("fused"))
    try write(try openFixture(name), "W8A8", to: folder.file("hub"))
    for file in ["model.safetensors", "config.json"] {
      #expect(try contents(folder.file("fused/\(file)")) == contents(folder.file("hub/\(file)")))
    }
    let expert = name == "mixtral" ? "block_sparse_moe.experts.0.w2" : "mlp.experts.0.down_proj"
    let scale = try #require(
      try SafetensorsDirectory(path: folder.file("hub")).tensor("model.layers.0.\(expert).weight_scale"))
    #expect(scale.dtype == .f32 && scale.shape == [64, 1])
    // What keeps its numbers keeps its dialect.
    try write(source, "bf16", to: folder.file("plain"))
    #expect(try Model.open(folder.file("plain")).dialect == "transformers")
  }

  /// The plan says what headers tell: kept, decided by the data, rounded.
  @Test func thePlanSaysWhatIsExact() throws {
    func steps(_ name: String, _ word: String) throws -> [String: Int] {
      var options = try options(word)
      options.target = SafetensorsResult(schemeWord: word)
      let entries = try #require(try Plan(try openFixture(name), options).json["ledger"]?.array)
      return entries.compactMap { $0["step"]?.string }.reduce(into: [:]) { $0[$1, default: 0] += 1 }
    }
    #expect(Set(try steps("qwen3_moe", "W8A8").keys) == ["exact", "rounded"])
    #expect(Set(try steps("deepseek_v3-fp8", "FP8_DYNAMIC").keys) == ["exact", "may_be_exact"])
    #expect(Set(try steps("qwen3_moe", "f32").keys) == ["exact"])
    let folder = TemporaryFolder()
    #expect(throws: RequestError.self) {
      try write(try openFixture("qwen3_moe"), "FP8_BLOCK", to: folder.file("out"), exactOnly: true)
    }
    #expect(try namesInFolder(folder.path).isEmpty)
  }

  /// DeepSeek's own layout: from FP8 to BF16 and back to the makers' bytes, scales and config included.
  @Test(arguments: ["deepseek_v4-fp4", "gpt_oss-mxfp4"])
  func backToTheMakersBytes(_ name: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture(name)
    try write(source, "bf16", to: folder.file("bf16"))
    let rules = [Role.routedGate, .routedUp, .routedDown].map { Recipe.Rule(.role($0), MXFP4Scheme()) }
    try write(
      try Model.open(folder.file("bf16")), "recipe", to: folder.file("back"),
      recipe: Recipe(name == "gpt_oss-mxfp4" ? Keep() : BlockScheme.fp8, rules: rules))
    let back = try SafetensorsDirectory(path: folder.file("back"))
    let original = try SafetensorsDirectory(path: fixture("models/\(name)"))
    var (same, all) = (0, 0)
    for tensor in back.tensors {
      let old = try #require(original.tensor(tensor.name))
      #expect(old.dtype == tensor.dtype && old.shape == tensor.shape, "\(tensor.name)")
      all += 1
      if old.bytes.array == tensor.bytes.array { same += 1 }
    }
    try expectEqual(source, try Model.open(folder.file("back")))
    // One group of gpt_oss's random codes looks as if its scale were twice what it is; its numbers are the same.
    #expect(same >= (name == "gpt_oss-mxfp4" ? all - 2 : all), "\(same) of \(all) tensors")
    let section = try section(folder.file("back"))
    let old = try #require(
      try JSON.scan(Bytes(contents(source.path + "/config.json")))["quantization_config"])
    #expect(Set(try #require(section.object).keys) == Set(try #require(old.object).keys))
    for key in try #require(old.object).keys { #expect(section[key]?.text() == old[key]?.text(), "\(key)") }
  }

  /// FP8 with float32 scales stays what it is, and other families' blocks are compressed-tensors'.
  @Test func blocksByFamily() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("deepseek_v3-fp8")
    let summary = try write(source, "fp8-block", to: folder.file("a"), exactOnly: true)
    #expect(summary.exact == summary.converted.count)
    try expectEqual(source, try Model.open(folder.file("a")))
    #expect(try contents(folder.file("a/config.json")) == contents(source.path + "/config.json"))
    try write(source, "FP8_BLOCK", to: folder.file("b"))
    try expectEqual(source, try Model.open(folder.file("b")))
    #expect(try section(folder.file("b"))["quant_method"]?.string == "compressed-tensors")
    try write(try openFixture("olmoe"), "fp8-block", to: folder.file("c"))
    let weights = try section(folder.file("c"))["config_groups"]?["group_0"]?["weights"]
    #expect(weights?["block_structure"]?.array?.compactMap(\.integer) == [128, 128])
  }

  /// A recipe with several schemes: groups, patterns, and shards that change no number.
  @Test func severalFormatsInOneDirectory() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let fused = try ["q", "k", "v"].map {
      Recipe.Rule(.name("blk.1.attn_\($0).weight"), try Schemes.named("int8-channel"))
    }
    let recipe = Recipe(
      try Schemes.named("int4-group:32"),
      rules: fused + [Recipe.Rule(.role(.attention), try Schemes.named("fp8-channel"))])
    try write(source, "recipe", to: folder.file("out"), recipe: recipe, shardBytes: 100_000)
    var options = try options("keep")
    options.recipe = recipe
    _ = try convert(source, to: folder.file("r.ingot"), options)
    try expectEqual(try Model.open(folder.file("r.ingot")), try Model.open(folder.file("out")))
    let section = try section(folder.file("out"))
    #expect(section["format"]?.string == "mixed-precision")
    let targets = try #require(section["config_groups"]?.object).values.map {
      $0["targets"]?.array?.compactMap(\.string) ?? []
    }
    #expect(targets[0] == ["Linear"])
    #expect(targets.contains(["q", "qkv", "k", "v"].map { "model.layers.1.self_attn.\($0)_proj" }))
    #expect(targets.contains { $0.contains(#"re:^model\.layers\.\d+\.self_attn\.o_proj$"#) })
  }

  /// What has no place is refused with the weight and the reason; widths that no group fits stay as they are.
  @Test func whatDoesNotFit() throws {
    let folder = TemporaryFolder()
    let error = #expect(throws: RequestError.self) {
      try write(try openFixture("gpt_oss"), "nvfp4.gguf", to: folder.file("out"))
    }
    #expect(error?.kind == .unsupported)
    #expect(error?.problem.contains("'blk.0.attn_q.weight'") == true, "\(error?.problem ?? "")")
    let q8 = #expect(throws: RequestError.self) {
      try write(try openFixture("olmoe"), "q8_0", to: folder.file("out"))
    }
    #expect(q8?.problem.contains("cannot be written as safetensors") == true)
    #expect(try namesInFolder(folder.path).isEmpty)
  }

  /// Every thread count and shard size gives the same numbers, and the same bytes for the same shards.
  @Test func threadsChangeNoByte() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("deepseek_v3-fp8")
    for threads in [1, 3] {
      var options = try options("nvfp4", threads: threads)
      options.target = SafetensorsResult(shardBytes: 200_000, schemeWord: "nvfp4")
      _ = try convert(source, to: folder.file("\(threads)"), options)
    }
    for name in try namesInFolder(folder.file("1"))
    where !["README.md", "smelt-manifest.json"].contains(name) {
      #expect(try contents(folder.file("1/\(name)")) == contents(folder.file("3/\(name)")), "\(name)")
    }
  }

  @Test func patternsMatchWhatTheyMean() {
    let all = (0..<3).flatMap { layer in (0..<2).map { "model.layers.\(layer).mlp.experts.\($0).up_proj" } }
    #expect(ModulePatterns.of(all, but: []) == [#"re:^model\.layers\.\d+\.mlp\.experts\.\d+\.up_proj$"#])
    let last = all.filter { $0.contains(".2.mlp") }
    #expect(
      ModulePatterns.of(last, but: all.filter { !last.contains($0) })
        == [#"re:^model\.layers\.2\.mlp\.experts\.\d+\.up_proj$"#])
    #expect(ModulePatterns.of([all[0]], but: [all[1]]) == [all[0]])
  }
}
