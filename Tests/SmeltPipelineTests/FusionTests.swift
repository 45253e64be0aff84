// What engines fuse has one scheme and one global scale: results run in an engine as they were proved.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

/// The parts of every fused matrix of a model, by canonical names.
private func groups(_ model: Model) -> [(group: FusionGroup, names: [WeightName])] {
  let specs = model.family.weights.filter { !$0.isCarried }
  return FusionGroup.all(specs).map { ($0.group, $0.places.map { specs[$0].name }) }
}

/// The number that a weight has for the whole of it.
private func number(_ weight: Weight) -> [UInt8]? {
  weight.part(.globalScale)?.bytes.array
    ?? (weight.encoding.name == FP8(.e4m3, .tensor).name ? weight.part(.scales)?.bytes.array : nil)
}

@discardableResult
private func directory(
  _ source: Model, _ word: String, _ path: String, recipe: Recipe? = nil, isStrict: Bool = false
) throws -> ConvertSummary {
  var options = try options(recipe == nil ? word : "keep")
  if let recipe { options.recipe = recipe }
  options.target = SafetensorsResult(schemeWord: word)
  options.isStrict = isStrict
  return try convert(source, to: path, options)
}

@Suite struct FusionTests {
  /// The matrices of every kind of attention and feed-forward here.
  @Test(arguments: [
    ("deepseek_v3", ["fused_qkv_a_proj", "gate_up_proj", "shared gate_up_proj", "w13"]),
    (
      "deepseek_v4",
      [
        "fused_qkv_a_proj", "fused_wkv_wgate", "indexer fused_wkv_wgate", "shared gate_up_proj", "w13",
      ]
    ),
    ("qwen3_moe", ["qkv_proj", "w13"]), ("gpt_oss", ["qkv_proj", "w13"]),
    ("qwen3_5_moe", ["in_proj_ba", "in_proj_qkvz", "qkv_proj", "shared gate_up_proj", "w13"]),
    (
      "glm_moe_dsa",
      ["fused_qkv_a_proj", "gate_up_proj", "shared gate_up_proj", "w13", "wk_weights_proj"]
    ),
    ("minimax_m3_vl", ["gate_up_proj", "qkv_proj", "shared gate_up_proj", "w13"]),
    ("nemotron_h", ["qkv_proj"]),
  ])
  func whatIsFused(_ name: String, _ matrices: [String]) throws {
    let groups = groups(try openFixture(name))
    #expect(Set(groups.map(\.group.matrix)).sorted() == matrices)
    let parts = groups.map(\.names.count).max()
    #expect(parts == (name == "minimax_m3_vl" ? 5 : matrices.contains("qkv_proj") ? 3 : 2))
    // The order is the engines': gate before up, query before key.
    #expect(
      groups.allSatisfy {
        !$0.names[0].base.contains("_up") && !$0.names[0].base.contains(".attn_k.") || $0.group.isPlain
      })
  }

  @Test func weightsUnderTheirSourcesNamesAreFusedToo() {
    func spec(_ name: String) -> WeightSpec {
      var spec = WeightSpec(WeightName(name), [4, 4], .other, layer: 0, spellings: [])
      spec.hasSourceName = true
      return spec
    }
    let names = [
      "model.layers.0.attn.q_proj.weight", "model.layers.0.attn.k_proj.weight",
      "model.layers.0.attn.v_proj.weight",
      "model.layers.1.attn.q_proj.weight", "model.layers.0.mlp.experts.0.w3.weight",
      "model.layers.0.mlp.experts.0.w1.weight", "model.layers.0.mlp.experts.1.w1.weight",
      "model.layers.0.indexer.wk.weight", "model.layers.0.indexer.weights_proj.weight",
      "model.layers.0.indexer.wq.weight", "model.layers.0.attention.wk.weight",
      "model.layers.0.attention.wq.weight",
    ]
    let found = FusionGroup.all(names.map(spec))
    #expect(found.map(\.places) == [[0, 1, 2], [5, 4], [7, 8], [11, 10]])
    #expect(found.map(\.group.isPlain) == [false, false, true, false])
  }

  /// vLLM keeps the largest global scale of q, k and v and the first one of gate and up: with one for all of them the result
  /// is the same numbers, bit for bit.
  @Test(arguments: ["nvfp4", "fp8-tensor"], ["deepseek_v3", "deepseek_v4", "qwen3_moe", "minimax_m3_vl"])
  func fusedWeightsShareTheirGlobalScale(_ word: String, family: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture(family)
    for path in ["out", "out.ingot"] {
      var options = try options(word)
      if path == "out" { options.target = SafetensorsResult(schemeWord: word) }
      _ = try convert(source, to: folder.file(path), options)
      let result = try Model.open(folder.file(path))
      var (shared, own) = (0, Set<[UInt8]>())
      for (group, names) in groups(source) {
        let numbers = try names.compactMap { number(try result.weights.weight($0)) }
        guard numbers.count == names.count else { continue }
        #expect(Set(numbers).count == 1, "\(group.matrix): \(names)")
        shared += 1
        own.insert(numbers[0])
      }
      #expect(shared > 4 && own.count > 2, "each group has a number of its own")
    }
  }

  /// GPTQ and folding choose codes one weight after another; the number is the group's all the same.
  @Test(arguments: [Method.awq, .smooth])
  func methodsShareItToo(_ method: Method) throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let windows = someWindows(source, count: 4, context: 32)
    var options = try options("nvfp4")
    options.target = SafetensorsResult(schemeWord: "nvfp4")
    _ = try quantize(
      source, to: folder.file("out"), calibration: windows,
      textPath: fixture("models/tiny-v4/calibration.txt"), choosesObserver: true,
      method: MethodOptions(method), options)
    let result = try Model.open(folder.file("out"))
    for (group, names) in groups(source) {
      let numbers = try names.compactMap { number(try result.weights.weight($0)) }
      #expect(numbers.count == names.count && Set(numbers).count == 1, "\(group.matrix): \(names)")
    }
  }

  /// The shared number is that of the largest part; a part that was alone would have had its own.
  @Test func theSharedNumberIsOfAllParts() throws {
    func weight(_ name: String, _ largest: Float) throws -> Weight {
      var values = (0..<64).map { Float($0 % 13) / 13 }
      values[5] = largest
      return try Weight(
        name: name, shape: [2, 32], encoding: Plain.f32,
        parts: [
          Part(
            .values, dtype: .f32, shape: [2, 32],
            bytes: Bytes(values.withUnsafeBytes { Array($0) }))
        ])
    }
    let parts = [
      SurveyPart(try weight("a", 3), QuantizeOptions()), SurveyPart(try weight("b", 7), QuantizeOptions()),
    ]
    for scheme in [NVFP4Scheme(), TensorScheme.fp8] as [any Scheme] {
      let alone = try parts.map { try #require(try scheme.survey([$0])) }
      let both = try #require(try scheme.survey(parts))
      #expect(both == alone[1] && alone[0] != alone[1], "\(scheme.name)")
    }
  }

  /// Other schemes for down than for gate and up, and for values than for queries: all get the one of most bits.
  @Test func mixedRecipesAreLevelled() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let rules: [Recipe.Rule] = [
      Recipe.Rule(.role(.routedGate), Int4Group(size: 32)),
      Recipe.Rule(.role(.routedUp), Int4Group(size: 32)),
      Recipe.Rule(.role(.routedDown), ChannelScheme.int8),
      Recipe.Rule(.name("blk.0.attn_q.weight"), ChannelScheme.int8),
      Recipe.Rule(.name("blk.0.attn_output.weight"), ChannelScheme.int8),
    ]
    let recipe = Recipe(Keep(), rules: rules)
    let summary = try directory(source, "recipe", folder.file("out"), recipe: recipe)
    let result = try Model.open(folder.file("out"))
    for spec in source.family.weights where spec.role.isRouted {
      #expect(try result.weights.weight(spec.name).encoding is INT8, "\(spec.name)")
    }
    // Query alone was to be INT8, and no engine has a matrix that is half of it.
    #expect(try result.weights.weight(WeightName("blk.0.attn_q.weight")).encoding is Plain)
    #expect(try result.weights.weight(WeightName("blk.0.attn_output.weight")).encoding is INT8)
    #expect(summary.warnings.contains { $0.contains("get int8-channel instead of int4-group:32") })
    #expect(summary.warnings.contains { $0.contains("get keep instead of int8-channel") })
    let entry = try #require(summary.ledger.first { $0.weight == "blk.0.attn_q.weight" })
    #expect(entry.rule.contains("one scheme with qkv_proj"))
    #expect {
      try directory(source, "recipe", folder.file("no"), recipe: recipe, isStrict: true)
    } throws: {
      ($0 as? RequestError)?.kind == .unsupported
        && "\($0)".contains("engines have one scheme for the experts of layer 0")
    }
    // An ingot is no engine's file: it holds what was asked for.
    var options = try options("keep")
    options.recipe = recipe
    options.isStrict = true
    _ = try convert(source, to: folder.file("r.ingot"), options)
    let ingot = try Model.open(folder.file("r.ingot"))
    #expect(try ingot.weights.weight(WeightName("blk.0.attn_q.weight")).encoding is INT8)
  }

  /// Rows of gate and down that are no multiple of the same group get the shorter one, all of them.
  @Test func groupsOfOneLengthForAllExperts() throws {
    let folder = TemporaryFolder()
    let checkpoint = TemporaryFolder()
    try makeCheckpoint(in: checkpoint.path, experts: 4, expertWidth: 96)
    let source = try Model.open(checkpoint.path)
    let hidden = source.family.dimensions.hidden
    let summary = try directory(source, "W4A16", folder.file("out"))
    let result = try Model.open(folder.file("out"))
    let routed = source.family.weights.filter(\.role.isRouted)
    let found = Set(try routed.map { try result.weights.weight($0.name).encoding.name })
    #expect(found == ["int4.group32"])
    if hidden % 64 == 0 { #expect(summary.warnings.contains { $0.contains("one scheme for all experts") }) }
    let config = try section(folder.file("out"))
    #expect((config["config_groups"]?.object?.keys.count ?? 0) <= 2)
  }

  /// Engines hold the indexer's keys and head weights as one plain matrix.
  @Test func whatEnginesHoldPlainStaysPlain() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("glm_moe_dsa")
    let summary = try directory(source, "W8A8", folder.file("out"))
    let result = try Model.open(folder.file("out"))
    #expect(try result.weights.weight(WeightName("blk.0.indexer.attn_k.weight")).encoding is Plain)
    #expect(try result.weights.weight(WeightName("blk.0.indexer.attn_q_b.weight")).encoding is INT8)
    #expect(summary.warnings.contains { $0.contains("engines hold wk_weights_proj as plain numbers") })
    let ignore = try #require(try section(folder.file("out"))["ignore"]?.array).compactMap(\.string)
    #expect(ignore.contains("model.layers.0.self_attn.indexer.wk"))
  }

  /// Some engines ask for `gate_proj` of every family's experts.
  @Test func expertsAreFoundByTheNamesThatEnginesAskFor() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("minimax_m2")
    try directory(
      source, "recipe", folder.file("out"),
      recipe: Recipe(Keep(), rules: [Recipe.Rule(.role(.attention), ChannelScheme.int8)])
    )
    let ignore = try #require(try section(folder.file("out"))["ignore"]?.array).compactMap(\.string)
    for name in ["w1", "w2", "w3", "gate_proj", "down_proj", "up_proj"] {
      #expect(ignore.contains("model.layers.0.block_sparse_moe.experts.0.\(name)"))
    }
  }

  /// A size is met with one scheme for what engines fuse: nothing is levelled afterwards.
  @Test func budgetsChooseForWholeMatrices() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    var options = try options("keep")
    options.target = SafetensorsResult()
    let windows = someWindows(source, count: 2, context: 32)
    let (_, summary) = try quantize(
      source, to: folder.file("out"), calibration: windows,
      textPath: fixture("models/tiny-v4/calibration.txt"), choosesObserver: true,
      budget: Budget(.bits(7)), options)
    // Lengths of groups apart, which the columns decide.
    #expect(
      !summary.warnings.contains { $0.contains("instead of int8-channel") || $0.contains("instead of keep") })
    #expect(try #require(summary.budget).text.contains("routed_gate+routed_up+routed_down"))
  }

  /// SGLang knows the parts of fused modules for some families only, and asks for experts as `gate_proj` in every one: what is kept and
  /// what differs is said by those names too.
  @Test(arguments: ["mixtral", "qwen3", "minimax_m2", "deepseek_v3", "deepseek_v4"])
  func mixedDirectoriesLoad(_ name: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture(name)
    let attention = [Recipe.Rule(.role(.attention), ChannelScheme.fp8)]
    for (path, recipe) in [
      ("a", Recipe(Keep(), rules: attention)), ("b", Recipe(ChannelScheme.int8, rules: attention)),
    ] {
      try directory(source, "recipe", folder.file(path), recipe: recipe)
      let result = try Model.open(folder.file(path))
      for engine in [Engine.vllm, .sglang] {
        let findings = try checkEngine(result, for: engine).findings.filter {
          // SGLang has no INT8 experts but on NPUs: its own limit.
          !(engine == .sglang && path == "b" && $0.rule.name.contains("expert"))
        }
        #expect(findings.isEmpty, "\(engine.rawValue) \(path): \(findings.map(\.rule.name))")
      }
    }
  }

  /// Engines rename what is before `layers` in names, not in expressions.
  @Test func expressionsMatchInsideWrappers() throws {
    let folder = TemporaryFolder()
    let recipe = Recipe(
      ChannelScheme.int8,
      rules: [Role.routedGate, .routedUp, .routedDown].map { Recipe.Rule(.role($0), ChannelScheme.fp8) }
        + [Recipe.Rule(.role(.attention), ChannelScheme.fp8)])
    try directory(try openFixture("qwen3_5_moe"), "recipe", folder.file("out"), recipe: recipe)
    let groups = try #require(try section(folder.file("out"))["config_groups"]?.object)
    let expressions = groups.values.flatMap { $0["targets"]?.array?.compactMap(\.string) ?? [] }
      .filter { $0.hasPrefix("re:") }
    #expect(
      !expressions.isEmpty && expressions.allSatisfy { $0.hasPrefix(#"re:.*\.layers\."#) }, "\(expressions)")
  }

  /// vLLM takes DeepSeek-V4's experts for FP4 where config.json says nothing.
  @Test func expertsOfV4SayWhatTheyAre() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("deepseek_v4-fp4")
    for (path, scheme, type) in [
      ("fp8", BlockScheme.fp8 as any Scheme, "fp8"), ("same", Keep(), "fp4"), ("bf16", PlainFloat.bf16, nil),
    ] as [(String, any Scheme, String?)] {
      try directory(source, "recipe", folder.file(path), recipe: Recipe(scheme))
      let config = try JSON.scan(Bytes(contents(folder.file("\(path)/config.json"))))
      #expect(config["expert_dtype"]?.string == type, "\(path)")
    }
  }

  /// Embeddings and routers that a recipe names stay plain in a directory, or are refused.
  @Test func embeddingsAndRoutersStayPlain() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let recipe = Recipe(
      ChannelScheme.int8,
      rules: [Role.embedding, .router].map { Recipe.Rule(.role($0), ChannelScheme.int8) })
    let summary = try directory(source, "recipe", folder.file("out"), recipe: recipe)
    let result = try Model.open(folder.file("out"))
    for spec in source.family.weights where spec.role == .embedding || spec.role == .router {
      #expect(try result.weights.weight(spec.name).encoding is Plain, "\(spec.name)")
    }
    #expect(summary.warnings.contains { $0.contains("engines hold routers as plain numbers") })
    #expect(try checkEngine(result, for: .vllm).findings.isEmpty)
    #expect(throws: RequestError.self) {
      try directory(source, "recipe", folder.file("no"), recipe: recipe, isStrict: true)
    }
  }

  /// Words that decide nothing are said.
  @Test func wordsWithoutEffectAreSaid() throws {
    let source = try openFixture("qwen3_moe")
    func warnings(_ word: String, _ words: EngineWords) throws -> [String] {
      var options = try options(word)
      options.target = SafetensorsResult(layout: try words.layout(schemeWord: word))
      return try Plan(source, options).warnings
    }
    #expect(
      try warnings("W8A8", EngineWords(activations: "static")).contains {
        $0.hasPrefix("--activations static decides nothing")
      })
    #expect(
      try warnings("keep", EngineWords(layout: "ModelOpt")).contains {
        $0.hasPrefix("--layout modelopt decides nothing")
      })
    #expect(try warnings("W8A8", EngineWords()).isEmpty)
    let mixture = #expect(throws: RequestError.self) { try Schemes.named("q4_k_m") }
    #expect(mixture?.problem.contains("is a mixture of types") == true)
  }

  /// AWQ encodes only what it folds; the rest is levelled with it, and what it has encoded stays.
  @Test func levelledWeightsStayAsAMethodMadeThem() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let windows = someWindows(source, count: 2, context: 24)
    for (path, recipe) in [
      ("a", Recipe(try Schemes.named("W4A16"))),
      ("b", Recipe(Int4Group(size: 32), rules: [Recipe.Rule(.role(.routedDown), ChannelScheme.int8)])),
    ] {
      var options = try options("keep")
      options.recipe = recipe
      options.target = SafetensorsResult()
      _ = try quantize(
        source, to: folder.file(path), calibration: windows,
        textPath: fixture("models/tiny-v4/calibration.txt"), choosesObserver: true,
        method: MethodOptions(.awq), options)
      let result = try Model.open(folder.file(path))
      let layers = Dictionary(grouping: source.family.weights.filter(\.role.isRouted)) { $0.layer }
      for own in layers.values {
        #expect(Set(try own.map { try result.weights.weight($0.name).encoding.name }).count == 1, "\(path)")
      }
      let report = try verify(
        source: source, result: result, someWindows(source, count: 1, context: 24), thresholds: Thresholds(),
        RunOptions())
      #expect(report.faults.isEmpty)
    }
  }

  /// What is kept keeps what its source says of activations, whatever the scheme's word says of what is converted.
  @Test(arguments: ["W8A16", "W4A8", "W4AFP8", "MXFP8A16", "fp8-channel@a16", "W8A8", "NVFP4A16"])
  func keptWeightsKeepTheirActivations(_ word: String) throws {
    let folder = TemporaryFolder()
    var first = try options("keep")
    let asked = try SchemeWord(word)
    first.recipe = Recipe(asked.scheme)
    first.target = SafetensorsResult(schemeWord: word)
    _ = try convert(try openFixture("qwen3_moe"), to: folder.file("a"), first)
    try directory(try Model.open(folder.file("a")), "keep", folder.file("b"))
    let (a, b) = (try section(folder.file("a")), try section(folder.file("b")))
    #expect(a["config_groups"]?.text() == b["config_groups"]?.text())
    #expect(a["format"]?.text() == b["format"]?.text())
  }

  /// DeepSeek's layout names what stays plain beside its FP8.
  @Test func plainModulesOfTheMakersLayoutAreNamed() throws {
    let folder = TemporaryFolder()
    let recipe = Recipe(BlockScheme.fp8, rules: [Recipe.Rule(.role(.attention), Keep())])
    try directory(try openFixture("deepseek_v3"), "recipe", folder.file("out"), recipe: recipe)
    let section = try section(folder.file("out"))
    #expect(section["quant_method"]?.string == "fp8")
    let names = (section["modules_to_not_convert"]?.array ?? []).compactMap(\.string)
    #expect(names.contains("model.layers.0.self_attn.q_a_proj") && !names.contains { $0.contains("experts") })
    let rules = try checkEngine(try Model.open(folder.file("out")), for: .vllm).findings.map(\.rule.name)
    #expect(!rules.contains("declared-scheme") && !rules.contains("fused-scheme"), "\(rules)")
  }
}
