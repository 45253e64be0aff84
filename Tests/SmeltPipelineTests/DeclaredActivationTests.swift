// What a configuration says of activations and caches that nobody can follow: the weights are read all the same, and whoever asks for the
// rounding is told the key.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

@Suite struct DeclaredActivationTests {
  /// The whole section in other words.
  private func given(_ section: String, word: String = "W8A8", in folder: TemporaryFolder) throws -> Model {
    try writeDirectory(try openFixture("qwen3_moe"), word, to: folder.file("made"))
    var variant = try Variant(path: folder.file("made"))
    let config = try #require(variant.config.first { $0.0 == "quantization_config" }?.1)
    func replaced(_ json: JSON, _ key: String, _ value: JSON) throws -> JSON {
      let object = try #require(json.object)
      return JSON(members: zip(object.keys, object.values).map { ($0, $0 == key ? value : $1) })
    }
    let group = try #require(config["config_groups"]?["group_0"])
    let all = try replaced(group, "input_activations", try JSON.scan(section))
    variant.set("quantization_config", try replaced(config, "config_groups", ["group_0": all]))
    return try variant.open(in: folder, "given")
  }

  @Test(arguments: [
    (#"{"strategy": "row", "dynamic": true}"#, "strategy", "'row'"),
    (#"{"strategy": "channel", "dynamic": true}"#, "strategy", "weights alone"),
    (#"{"strategy": "block", "dynamic": true}"#, "strategy", "weights alone"),
    (#"{"strategy": 3, "dynamic": true}"#, "strategy", "found a whole number"),
    (#"{"strategy": "token", "type": "complex", "dynamic": true}"#, "type", "'complex'"),
    (#"{"strategy": "token", "dynamic": "remote"}"#, "dynamic", "'remote'"),
    (#"{"strategy": "token", "dynamic": 2}"#, "dynamic", "found 2"),
    (#"{"strategy": "token", "dynamic": []}"#, "dynamic", "found a list"),
    (#"{"strategy": "token"}"#, "dynamic", "expected true"),
    (#"{"strategy": "token", "dynamic": "local"}"#, "dynamic", "'tensor_group' alone"),
    (#"{"strategy": "group", "group_size": 0, "dynamic": true}"#, "group_size", "found 0"),
    (#"{"strategy": "group", "dynamic": true}"#, "group_size", "is missing"),
    (#"{"strategy": "group", "group_size": -2, "dynamic": true}"#, "group_size", "found -2"),
    (#"{"strategy": "group", "group_size": 7, "dynamic": true}"#, "group_size", "a divisor of 64"),
    (#"{"group_size": 7, "dynamic": true}"#, "group_size", "a divisor of 64"),
    (#"{"group_size": 0, "dynamic": true}"#, "group_size", "found 0"),
    (#"{"strategy": "token", "dynamic": true, "num_bits": -8}"#, "num_bits", "found -8"),
    (#"{"strategy": "token", "dynamic": true, "num_bits": "8"}"#, "num_bits", "found a string"),
    (#"{"strategy": "token", "dynamic": true, "type": "float", "num_bits": 16}"#, "num_bits", "found 16"),
    (#"{"strategy": "token", "dynamic": true, "type": "float", "num_bits": 5}"#, "num_bits", "found 5"),
    (#"{"strategy": "token", "dynamic": true, "num_bits": 1}"#, "num_bits", "found 1"),
    (
      #"{"strategy": "group", "group_size": 32, "dynamic": true, "scale_dtype": "torch.int3"}"#,
      "scale_dtype", "'int3'"
    ),
    (#"{"strategy": "token", "dynamic": true, "symmetric": 1}"#, "symmetric", "found a whole number"),
    (#"{"strategy": "token", "dynamic": true, "actorder": "group"}"#, "actorder", "no order"),
    (#""token""#, "", "found a string"),
    ("[]", "", "found a list"),
  ])
  func nonsenseIsRefusedWhereItMatters(_ section: String, key: String, says: String) throws {
    let folder = TemporaryFolder()
    let model = try given(section, in: folder)
    func expect(_ work: () throws -> Void) {
      let error = #expect(throws: FormatError.self, performing: work)
      #expect(error?.code == .configValue && error?.file == "config.json")
      #expect(error?.subject == "group_0.input_activations" + (key.isEmpty ? "" : ".\(key)"), "\(error!)")
      #expect(error?.problem.contains(says) == true && error?.offset != nil, "\(error!)")
      #expect(error?.help?.isEmpty == false)
    }
    expect { _ = try ActivationRounding(.declared, for: model) }
    expect { _ = try checkModel(model, RunOptions()) }
    expect { try writeDirectory(model, "keep", to: folder.file("k")) }
    expect { _ = try convert(model, to: folder.file("k.ingot"), try options("keep")) }
    // The weights are sound.
    for weight in try model.storedWeights() { _ = try model.weights.weight(weight.spec.name) }
    try writeDirectory(model, "bf16", to: folder.file("b"))
    try writeDirectory(model, "keep", to: folder.file("n"), activations: "none")
    var toGGUF = try options("keep")
    toGGUF.target = GGUFResult()
    let gguf = try convert(model, to: folder.file("g.gguf"), toGGUF)
    #expect(gguf.warnings.contains { $0.contains("GGUF has no place") })
  }

  /// Well-formed, and nothing that this program rounds.
  @Test(arguments: [
    (#"{"strategy": "token", "dynamic": true, "num_bits": 16}"#, "16 bits of int"),
    (#"{"strategy": "token", "dynamic": true, "num_bits": 5}"#, "5 bits of int"),
    (#"{"strategy": "token", "dynamic": true, "num_bits": 4}"#, "4 bits of int"),
    (#"{"strategy": "token", "dynamic": true, "symmetric": false}"#, "zero points"),
    (#"{"strategy": "attn_head"}"#, "attn_head"),
    (#"{"strategy": "group", "group_size": 32}"#, "groups with scales"),
    (
      #"{"strategy": "group", "group_size": 32, "dynamic": true, "type": "float", "num_bits": 4, "scale_dtype": "torch.uint8"}"#,
      "4 bits of float"
    ),
    (
      #"{"strategy": "tensor_group", "group_size": 32, "dynamic": "local", "type": "float", "num_bits": 4}"#,
      "tensor_group 32"
    ),
    (#"{"strategy": "tensor_group", "group_size": 16, "dynamic": "local"}"#, "8 bits of int"),
  ])
  func otherRoundingIsNotTakenForOurs(_ section: String, says: String) throws {
    let folder = TemporaryFolder()
    let model = try given(section, in: folder)
    for work in [
      { _ = try ActivationRounding(.declared, for: model) },
      { _ = try writeDirectory(model, "keep", to: folder.file("k")) },
    ] {
      let error = #expect(throws: RequestError.self, performing: work)
      #expect(error?.kind == .unsupported && error?.problem.contains(says) == true, "\(error!)")
    }
    try writeDirectory(model, "bf16", to: folder.file("b"))
  }

  /// What the package takes, and tools write.
  @Test(arguments: [
    #"{"strategy": "TOKEN", "type": "INT", "dynamic": true, "observer": "memoryless", "zp_dtype": null}"#,
    #"{"strategy": "token", "dynamic": 1, "actorder": null, "group_size": null, "block_structure": null}"#,
    #"{"strategy": "token", "dynamic": true, "actorder": false, "group_size": -1, "observer_kwargs": {"a": 1}}"#,
    #"{"strategy": "token", "dynamic": true, "scale_dtype": "bfloat16", "something": [1, {}], "num_bits": null}"#,
  ])
  func oddWordsOfProducersAreTaken(_ words: String) throws {
    let folder = TemporaryFolder()
    let model = try given(words, in: folder)
    let declared = try model.declaredScales().sound(model.family.weights)
    #expect(!declared.inputs.isEmpty)
    #expect(declared.inputs.values.allSatisfy { $0.form == .token && !$0.isFloat && $0.scale == nil })
    try writeDirectory(model, "keep", to: folder.file("k"))
    #expect(try section(folder.file("k")).text() == section(folder.file("made")).text())
  }

  @Test func groupsUnderPowersAreRead() throws {
    for (dtype, form) in [
      ("torch.uint8", DeclaredActivations.Form.powers(32)), ("torch.float8_e8m0fnu", .powers(32)),
      ("torch.bfloat16", .group(32)),
    ] {
      let folder = TemporaryFolder()
      let model = try given(
        #"{"strategy": "group", "group_size": 32, "dynamic": true, "type": "float", "scale_dtype": "\#(dtype)"}"#,
        in: folder)
      #expect(try model.declaredScales().inputs.values.allSatisfy { $0.form == form })
    }
  }

  /// A scale for all tokens beside codes whose engines have one for each token: said, since the result says it otherwise.
  @Test func anotherGranularityIsSaid() throws {
    let folder = TemporaryFolder()
    let model = try given(#"{"strategy": "tensor", "dynamic": true}"#, in: folder)
    let summary = try writeDirectory(model, "keep", to: folder.file("k"))
    #expect(summary.warnings.contains { $0.contains("one scale for all tokens in the source") })
    let own = try writeDirectory(try openFixture("qwen3_moe"), "W8A8", to: folder.file("o"))
    #expect(own.warnings.isEmpty)
  }

  @Test(arguments: [
    (#"{"num_bits": 8, "type": "complex"}"#, "kv_cache_scheme.type", true),
    (#"{"num_bits": 5, "type": "float"}"#, "kv_cache_scheme.num_bits", true),
    (#"{"num_bits": 8, "type": "float", "strategy": "row"}"#, "kv_cache_scheme.strategy", true),
    (#"{"num_bits": 8, "type": "float", "dynamic": "no"}"#, "kv_cache_scheme.dynamic", true),
    (#"{"num_bits": 8, "type": "int"}"#, "kv_cache_scheme", false),
    (#"{"num_bits": 8, "type": "float", "strategy": "attn_head"}"#, "kv_cache_scheme", false),
    (
      #"{"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}"#, "kv_cache_scheme",
      false
    ),
    (#"{"num_bits": 8, "type": "float", "dynamic": true}"#, "kv_cache_scheme", false),
    (#""NVFP4""#, "kv_cache_scheme", false), ("7", "kv_cache_scheme", true),
    (#""FP9""#, "kv_cache_scheme", true),
  ])
  func cachesOfOtherFormsAreNotTakenForOurs(_ scheme: String, subject: String, isNonsense: Bool) throws {
    let folder = TemporaryFolder()
    try writeDirectory(try openFixture("qwen3_moe"), "W8A8", to: folder.file("made"))
    var variant = try Variant(path: folder.file("made"))
    try variant.changeQuantization {
      $0.replacing("\"kv_cache_scheme\": null", with: "\"kv_cache_scheme\": \(scheme)")
    }
    let model = try variant.open(in: folder, "changed")
    if isNonsense {
      for work in [
        { _ = try ActivationRounding(.declared, for: model) },
        { _ = try writeDirectory(model, "keep", to: folder.file("k")) },
      ] {
        let error = #expect(throws: FormatError.self, performing: work)
        #expect(error?.code == .configValue && error?.subject == subject, "\(error!)")
      }
    } else {
      let error = #expect(throws: RequestError.self) { try ActivationRounding(.declared, for: model) }
      #expect(error?.kind == .unsupported && error?.problem.contains(subject) == true)
      let summary = try writeDirectory(model, "keep", to: folder.file("k"))
      #expect(summary.warnings.contains { $0.contains("nothing of cached keys") })
    }
    try writeDirectory(model, "bf16", to: folder.file("b"))
  }

  /// ModelOpt's words: of caches as above, of blocks one length.
  @Test func wordsOfModelOpt() throws {
    let folder = TemporaryFolder()
    try writeDirectory(
      try openFixture("qwen3_moe"), "fp8-block", to: folder.file("made"), layout: "modelopt")
    for (member, subject) in [
      (#""kv_cache_quant_algo": 7"#, "kv_cache_quant_algo"),
      (#""kv_cache_quant_algo": "FP3""#, "kv_cache_quant_algo"),
    ] {
      var variant = try Variant(path: folder.file("made"))
      try variant.changeQuantization { "{\(member), " + $0.dropFirst() }
      let model = try variant.open(in: folder, "changed")
      let error = #expect(throws: FormatError.self) {
        try model.declaredScales().sound(model.family.weights)
      }
      #expect(error?.subject == subject && error?.code == .configValue)
    }
    for (member, kind) in [
      (#""kv_cache_quant_algo": "nvfp4""#, true), (#""kv_cache_quant_algo": "auto""#, false),
    ] {
      var variant = try Variant(path: folder.file("made"))
      try variant.changeQuantization { "{\(member), " + $0.dropFirst() }
      let declared = try variant.open(in: folder, "changed").declaredScales()
      #expect((declared.cacheFault is RequestError) == kind)
    }
    var variant = try Variant(path: folder.file("made"))
    try variant.changeQuantization { "{\"group_size\": 64, " + $0.dropFirst() }
    let error = #expect(throws: RequestError.self) { try variant.open(in: folder, "changed") }
    #expect(error?.kind == .unsupported && error?.problem.contains("64 for FP8_PB_WO") == true)
  }

  /// `activation_scheme` of the makers' FP8.
  @Test(arguments: [(#""sometimes""#, "'sometimes'"), ("3", "a whole number")])
  func theMakersWord(_ value: String, says: String) throws {
    let folder = TemporaryFolder()
    var variant = try Variant("models/deepseek_v3-fp8")
    try variant.changeQuantization {
      let changed = $0.replacing(
        "\"activation_scheme\": \"dynamic\"", with: "\"activation_scheme\": \(value)")
      #expect(changed != $0)
      return changed
    }
    let model = try variant.open(in: folder, "changed")
    let error = #expect(throws: FormatError.self) { try ActivationRounding(.declared, for: model) }
    #expect(error?.subject == "activation_scheme" && error?.problem.contains(says) == true)
    try writeDirectory(model, "bf16", to: folder.file("b"))
  }
}
