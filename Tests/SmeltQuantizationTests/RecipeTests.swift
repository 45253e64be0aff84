// Recipes: default reach, rules, refusals with key and byte, and decisions for the ledger.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct RecipeTests {
  static func spec(_ name: String, _ role: Role, _ shape: Shape = [8, 8], layer: Int? = 0) -> WeightSpec {
    WeightSpec(WeightName(parsing: name), shape, role, layer: layer, spellings: [])
  }

  /// The default recipe of a lossy scheme keeps router, norms, biases, sinks, hyper-connections, embeddings, output head
  /// and compressors.
  @Test func theDefaultRecipeOfALossySchemeTouchesBigMatricesInsideLayersOnly() throws {
    let quantized: Set<Role> = [
      .indexer, .attention, .routedGate, .routedUp, .routedDown, .sharedGate, .sharedUp, .sharedDown,
      .denseGate, .denseUp, .denseDown,
    ]
    for name in ["int8-channel", "fp8-channel"] {
      let recipe = Recipe(try Schemes.named(name))
      for role in Role.allCases {
        let chosen = recipe.scheme(for: RecipeTests.spec("w", role), source: Plain.bf16).name
        #expect(chosen == (quantized.contains(role) ? name : "keep"), "\(role)")
      }
    }
  }

  @Test func plainSchemesReachMatricesOfFloats() throws {
    let recipe = Recipe(PlainFloat.bf16)
    let kept: Set<Role> = [.norm, .bias, .selectionBias, .hashTable, .sink, .hyperConnection]
    for role in Role.allCases {
      let fromFP8 = recipe.scheme(for: RecipeTests.spec("w", role), source: FP8(.e4m3, .block128)).name
      #expect(fromFP8 == (kept.contains(role) ? "keep" : "bf16"), "\(role)")
      let fromF32 = recipe.scheme(for: RecipeTests.spec("w", role), source: Plain.f32).name
      let stays = kept.contains(role) || role == .router || role == .compressor
      #expect(fromF32 == (stays ? "keep" : "bf16"), "\(role)")
    }
    let vector = RecipeTests.spec("w", .attention, [8])
    #expect(recipe.scheme(for: vector, source: Plain.bf16).name == "keep")
  }

  @Test func integersAreKeptWhateverARuleSays() throws {
    let recipe = Recipe(ChannelScheme.int8, rules: [.init(.name("*"), PlainFloat.f32)])
    #expect(recipe.scheme(for: RecipeTests.spec("ids", .hashTable), source: IntegerTable.i64).name == "keep")
    #expect(recipe.scheme(for: RecipeTests.spec("w", .router), source: IntegerTable.i32).name == "keep")
    #expect(recipe.scheme(for: RecipeTests.spec("w", .norm, [8]), source: Plain.bf16).name == "f32")
    let scaled = Recipe(Keep(), rules: [.init(.name("*"), ChannelScheme.int8)])
    #expect(scaled.scheme(for: RecipeTests.spec("w", .norm, [8]), source: Plain.bf16).name == "keep")
    #expect(scaled.scheme(for: RecipeTests.spec("w", .router), source: Plain.bf16).name == "int8-channel")
  }

  @Test func theFirstMatchingRuleWins() throws {
    let recipe = try Recipe(
      Bytes(
        Array(
          """
          {"schema": "smelt.recipe/1", "default": "W8A16", "observer": "mse", "rules": [
            {"name": "blk.0.*", "scheme": "keep"},
            {"role": "routed_down", "scheme": "FP8", "observer": "percentile:99.5"},
            {"name": "blk.?.ffn_*_exps.weight", "scheme": "bf16"}]}
          """.utf8)), file: "r.json")
    func scheme(_ name: String, _ role: Role) -> String {
      recipe.scheme(for: RecipeTests.spec(name, role), source: Plain.bf16).name
    }
    #expect(scheme("blk.0.ffn_down_exps.weight#1", .routedDown) == "keep")
    #expect(scheme("blk.1.ffn_down_exps.weight#1", .routedDown) == "fp8-channel")
    #expect(scheme("blk.1.ffn_up_exps.weight#12", .routedUp) == "bf16")
    #expect(scheme("blk.11.ffn_up_exps.weight#12", .routedUp) == "int8-channel")
    #expect(scheme("blk.1.attn_norm.weight", .norm) == "keep")
    let down = try recipe.decide(
      RecipeTests.spec("blk.1.ffn_down_exps.weight#1", .routedDown), source: Plain.bf16, statistics: nil)
    #expect(down.options.observer == .percentile(99.5))
    let again = try Recipe(recipe.json)
    #expect(again.json.text() == recipe.json.text())
    #expect(
      recipe.json.text()
        == #"{"schema":"smelt.recipe/1","default":"int8-channel@a16","observer":"mse","rules":["#
        + #"{"name":"blk.0.*","scheme":"keep"},"#
        + #"{"role":"routed_down","scheme":"fp8-channel","observer":"percentile:99.5"},"#
        + #"{"name":"blk.?.ffn_*_exps.weight","scheme":"bf16"}]}"#)
  }

  @Test(arguments: [
    ("*", "", true), ("*", "abc", true), ("a*c", "abbc", true), ("a*c", "abcb", false), ("a?c", "abc", true),
    ("a?c", "ac", false), ("*.b*", "a.a.b1", true), ("**a", "ba", true), ("", "a", false), ("", "", true),
    ("*a*b*c", "xxaxbxxbc", true), ("*a*b*c", "xxaxcxxc", false),
  ])
  func globs(_ glob: String, _ text: String, _ expected: Bool) {
    #expect(Recipe.Match.name(glob).covers(RecipeTests.spec(text, .norm)) == expected)
  }

  /// A name with `#` means an expert, one without means them all.
  @Test func namesAndExperts() {
    let expert = RecipeTests.spec("blk.0.ffn_up_exps.weight#3", .routedUp)
    #expect(Recipe.Match.name("blk.0.ffn_up_exps.weight").covers(expert))
    #expect(Recipe.Match.name("blk.0.ffn_up_exps.weight#3").covers(expert))
    #expect(Recipe.Match.name("*#?").covers(expert))
    #expect(!Recipe.Match.name("blk.0.ffn_up_exps.weight#4").covers(expert))
  }

  /// The source's names, in every dialect of the family.
  @Test func globsMatchNamesOfTheSource() {
    let expert = WeightSpec(
      WeightName(parsing: "blk.0.ffn_up_exps.weight#3"), [8, 8], .routedUp, layer: 0,
      spellings: [
        Spelling("model.layers.0.mlp.experts.3.up_proj.weight"),
        Spelling("model.layers.0.mlp.experts.gate_up_proj", stackIndex: 3),
      ])
    for glob in [
      "model.layers.0.*", "*.experts.*.up_proj.weight", "*.gate_up_proj", "blk.0.*",
      "model.layers.0.mlp.experts.3.up_proj.weight",
    ] {
      #expect(Recipe.Match.name(glob).covers(expert), "\(glob)")
    }
    for glob in ["model.layers.1.*", "*.down_proj.weight", "model.layers.0.mlp.experts.3.up_proj"] {
      #expect(!Recipe.Match.name(glob).covers(expert), "\(glob)")
    }
  }

  @Test(arguments: [
    (#"[]"#, "the recipe", 0), (#"{}"#, "schema", 0), (#"{"schema": "x"}"#, "schema", 11),
    (#"{"schema": "smelt.recipe/1", "defualt": "keep"}"#, "defualt", 40),
    (#"{"schema": "smelt.recipe/1", "default": "int9"}"#, "default", 40),
    (#"{"schema": "smelt.recipe/1", "default": 8}"#, "default", 40),
    (#"{"schema": "smelt.recipe/1", "observer": "max"}"#, "observer", 41),
    (#"{"schema": "smelt.recipe/1", "rules": {}}"#, "rules", 38),
    (#"{"schema": "smelt.recipe/1", "rules": [{"scheme": "keep"}]}"#, "rules[0]", 39),
    (#"{"schema": "smelt.recipe/1", "rules": [{"role": "norm"}]}"#, "rules[0]", 39),
    (
      #"{"schema": "smelt.recipe/1", "rules": [{"role": "norm", "name": "*", "scheme": "keep"}]}"#,
      "rules[0]", 39
    ),
    (#"{"schema": "smelt.recipe/1", "rules": [{"role": "gate", "scheme": "keep"}]}"#, "rules[0].role", 48),
    (#"{"schema": "smelt.recipe/1", "rules": [{"name": "", "scheme": "keep"}]}"#, "rules[0].name", 48),
    (#"{"schema": "smelt.recipe/1", "rules": [{"name": "*", "scheme": "q3"}]}"#, "rules[0].scheme", 63),
    (#"{"schema": "smelt.recipe/1", "rules": [{"name": "*", "scheme": "keep", "x": 1}]}"#, "rules[0].x", 76),
  ])
  func wrongRecipesAreRefused(_ text: String, _ subject: String, _ offset: Int) {
    let error = #expect(throws: FormatError.self) { try Recipe(Bytes(Array(text.utf8)), file: "r.json") }
    #expect(error?.code.name == "RECIPE_FORMAT")
    #expect(error?.subject == subject)
    #expect(error?.offset == offset)
    #expect(error?.file == "r.json")
  }

  @Test(arguments: [(#"{"schema": "#, 11), (#"{"schema": 1, "schema": 2}"#, 14), ("", 0)])
  func whatIsNoJSONIsRefused(_ text: String, _ offset: Int) {
    let error = #expect(throws: FormatError.self) { try Recipe(Bytes(Array(text.utf8)), file: "r.json") }
    #expect(error?.code.name == "RECIPE_FORMAT")
    #expect(error?.offset == offset)
  }

  @Test func recipesThatSplitExpertsAreRefused() throws {
    let specs = (0..<8).map { index in
      RecipeTests.spec("blk.\(index / 4).ffn_up_exps.weight#\(index % 4)", .routedUp, layer: index / 4)
    }
    func check(_ rules: [Recipe.Rule]) throws {
      try Recipe(ChannelScheme.int8, rules: rules).check(specs) { _ in Plain.bf16 }
    }
    try check([])
    try check([.init(.name("blk.0.*"), ChannelScheme.fp8)])
    let split = #expect(throws: FormatError.self) {
      try check([.init(.name("blk.1.*#2"), ChannelScheme.fp8)])
    }
    #expect(split?.code.name == "RECIPE_FORMAT")
    #expect(split?.subject == "blk.1.ffn_up_exps.weight#2")
    let observers = #expect(throws: FormatError.self) {
      try check([.init(.name("*#0"), ChannelScheme.int8, observer: .mse)])
    }
    #expect(observers?.code.name == "RECIPE_FORMAT")
    let nothing = #expect(throws: FormatError.self) { try check([.init(.name("layers.*"), Keep())]) }
    #expect(nothing?.subject == "rules[0].name")
  }

  @Test func decisionsSayWhatCalibrationDidNotReach() throws {
    let reached = RecipeTests.spec("blk.0.ffn_up_exps.weight#0", .routedUp, [4, 2])
    let unreached = RecipeTests.spec("blk.0.ffn_up_exps.weight#1", .routedUp, [4, 2])
    let absent = RecipeTests.spec("blk.0.ffn_up_exps.weight#2", .routedUp, [4, 2])
    let other = RecipeTests.spec("blk.0.attn_kv.weight", .attention, [4, 2])
    let norm = RecipeTests.spec("blk.0.attn_norm.weight", .norm, [2])
    var statistics = Statistics(modelType: "x", tokens: 5, context: 5, sequences: 1)
    statistics.add([
      StatisticsEntry(
        reached.name, groups: 1, columns: 2, absmax: [3, 1], meanSquare: [2, 0.5], counts: [5]),
      StatisticsEntry(unreached: unreached.name, groups: 1, columns: 2),
    ])
    let recipe = Recipe(ChannelScheme.int8, observer: .mse)
    func decide(_ spec: WeightSpec) throws -> QuantizeDecision {
      try recipe.decide(spec, source: Plain.bf16, statistics: statistics)
    }
    let values = try #require(try decide(reached).options.importance?.values)
    #expect(values.count == 2 && values.allSatisfy { $0 > 0 })
    #expect(try decide(reached).note == nil)
    for spec in [unreached, absent] {
      let decision = try decide(spec)
      #expect(decision.note == "weights alone: no calibration token reached it")
      #expect(decision.options.importance == nil)
      #expect(decision.options.observer == .mse)
    }
    #expect(try decide(other).note == "weights alone: the statistics do not name it")
    #expect(try decide(norm).note == nil)
    let wide = RecipeTests.spec("blk.0.ffn_up_exps.weight#0", .routedUp, [4, 3])
    let error = #expect(throws: FormatError.self) { try decide(wide) }
    #expect(error?.code.name == "STAT_MISMATCH")
    let without = try recipe.decide(unreached, source: Plain.bf16, statistics: nil)
    #expect(without.note == nil)
  }
}
