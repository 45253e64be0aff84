// What each published layout refuses: tensors that are absent or of another dtype or shape, and configurations that the
// tensors contradict. Every case damages a good checkpoint of Fixtures/layouts in one way.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct LayoutErrorTests {
  @Test(arguments: LayoutFault.compressed + LayoutFault.others)
  func damageIsNamed(_ fault: LayoutFault) throws {
    var fixture = try LayoutFixture(fault.fixture)
    let item = try #require(fixture.cases.first { $0.key == fault.key })
    try #require(try fixture.join(item.request)).weight().validate()
    fault.damage(&fixture)
    let error = try #require(throws: FormatError.self) {
      try fixture.join(item.request)?.weight().validate()
    }
    #expect(error.code.name == fault.code, "\(error)")
    #expect(error.subject?.hasSuffix(fault.subject) == true, "\(error)")
    #expect(error.problem.contains(fault.mentions), "\(error)")
    #expect(error.file != nil, "\(error)")
  }

  /// Well-formed, but not read: the request is refused, with what is supported.
  @Test(arguments: [
    ("gptq", "\"bits\": 4", "\"bits\": 3", "'bits' is 3"),
    ("gptq", "\"desc_act\": false", "\"checkpoint_format\": \"marlin\"", "'marlin'"),
    ("gptq", "\"desc_act\": false", "\"dynamic\": {\"+:.*\": {\"bits\": 8}}", "a rule for '+:.*'"),
    ("gptq", "\"gptq\"", "\"aqlm\"", "quant_method 'aqlm'"),
    ("awq", "\"gemm\"", "\"gemv\"", "'gemv'"),
    ("awq", "\"zero_point\": true", "\"zero_point\": false", "zero_point"),
    ("modelopt-nvfp4", "\"NVFP4\"", "\"NVFP4_AWQ\"", "'NVFP4_AWQ'"),
    ("modelopt-nvfp4", "\"group_size\": 16", "\"group_size\": 32", "32 for NVFP4"),
    ("compressed-w4a16", "pack-quantized", "marlin-24", "'marlin-24'"),
    ("compressed-w4a16", "\"group\"", "\"token\"", "'token'"),
    ("compressed-w4a16", "\"lm_head\"", "\"re:(?<=a)b\"", "a pattern that is not read"),
    ("compressed-w4a16", "\"num_bits\": 4", "\"num_bits\": 3", "packed in 3 bits"),
    (
      "compressed-w4a16", "\"format\": \"pack-quantized\"",
      "\"format\": \"pack-quantized\", \"sparsity_config\": {\"format\": \"sparse-24-bitmask\"}",
      "sparse-24-bitmask"
    ),
  ])
  func otherVariantsAreUnsupported(_ name: String, _ old: String, _ new: String, _ mentions: String) throws {
    var fixture = try LayoutFixture(name)
    fixture.edit(old, new)
    let error = try #require(throws: RequestError.self) { try fixture.join(fixture.cases[0].request) }
    #expect(error.kind == .unsupported && error.problem.contains(mentions), "\(error)")
    #expect(error.help?.isEmpty == false)
  }

  /// Malformed configurations name the key and the byte.
  @Test(arguments: [
    ("gptq", "\"bits\": 4", "\"bits\": \"4\"", "bits", "found a string"),
    ("gptq", "\"bits\": 4,", "", "bits", "is missing"),
    ("gptq", "\"quant_method\": \"gptq\",", "", "quant_method", "is missing"),
    ("gptq", "\"group_size\": 32", "\"group_size\": 0", "group_size", "found 0"),
    ("gptq", "\"group_size\": 32", "\"group_size\": -2", "group_size", "found -2"),
    ("gptq", "\"desc_act\": false", "\"desc_act\": 1", "desc_act", "found a whole number"),
    ("awq", "\"version\": \"gemm\"", "\"version\": 1", "version", "found a whole number"),
    ("modelopt-nvfp4", "\"MIXED_PRECISION\"", "[]", "quant_algo", "found a list"),
    ("compressed-w4a16", "\"group_size\": 64,", "", "group_size", "is missing"),
    ("compressed-w4a16", "\"group_size\": 64", "\"group_size\": 70000", "group_size", "found 70000"),
    ("compressed-w4a16", "\"int\"", "\"bool\"", "type", "found 'bool'"),
    ("compressed-w4a16", "\"lm_head\"", "3", "ignore", "holds a whole number"),
    ("compressed-w4a16", "\"symmetric\": true", "\"symmetric\": 1", "symmetric", "found a whole number"),
    (
      "compressed-mixed", "\"strategy\": \"block\"", "\"strategy\": \"block\", \"x\": 0", "block_structure",
      ""
    ),
    ("deepseek", "128,\n   128", "128", "weight_block_size", "expected two whole numbers"),
    ("deepseek", "128,\n   128", "0, 128", "weight_block_size", "expected two whole numbers"),
  ])
  func malformedConfigurationsAreNamed(
    _ name: String, _ old: String, _ new: String, _ key: String, _ mentions: String
  ) throws {
    var fixture = try LayoutFixture(name)
    fixture.edit(old, new)
    if key == "block_structure" { fixture.edit("\"block_structure\"", "\"block_form\"") }
    let error = try #require(throws: FormatError.self) { try fixture.quantization() }
    #expect(error.code == .configValue && error.subject == key && error.file == "config.json", "\(error)")
    #expect(error.offset != nil && error.problem.contains(mentions), "\(error)")
  }

  @Test func aPromiseThatNoWeightKeepsIsRefused() throws {
    for name in ["gptq", "compressed-mixed", "modelopt-nvfp4"] {
      let fixture = try LayoutFixture(name)
      let config = try fixture.quantization()
      let plain = fixture.cases.filter { $0.encoding == "bf16" }.map(\.request.place)
      let error = try #require(throws: FormatError.self) { try config.check(plain, in: fixture) }
      #expect(error.code == .quantConfig && error.problem.contains(config.method ?? "-"))
    }
    // Quantized activations or caches alone promise nothing.
    for text in [
      #"{"quant_method": "compressed-tensors", "config_groups": {}, "kv_cache_scheme": {"num_bits": 8}}"#,
      #"{"quant_method": "modelopt", "quant_algo": null, "kv_cache_quant_algo": "FP8"}"#,
    ] {
      let json = try JSON.scan("{\"quantization_config\": \(text)}")
      try QuantizationConfig(config: json, file: "config.json")
        .check([], in: try LayoutFixture("plain-fused"))
    }
  }

  /// A fused place of a layout that keeps one tensor a weight is a request, not a fault of the file.
  @Test(arguments: ["awq", "gptq", "compressed-w4a16", "modelopt-fp8"])
  func fusedPlacesAreUnsupported(_ name: String) throws {
    let fixture = try LayoutFixture(name)
    let request = fixture.cases[0].request
    let half = WeightRequest(
      Spelling(request.place.tensor, rows: 0..<request.shape.rows / 2),
      shape: [request.shape.rows / 2, request.shape.columns])
    let error = try #require(throws: RequestError.self) { try fixture.join(half) }
    #expect(error.kind == .unsupported && error.problem.contains("holds several weights"))
  }

  @Test func tablesAndNumbersAreNotMixedUp() throws {
    var fixture = try LayoutFixture("plain-fused")
    let name = "model.layers.0.mlp.experts.gate_up_proj_bias"
    let table = WeightRequest(Spelling(name), shape: [3, 40], isTable: true)
    let error = try #require(throws: FormatError.self) { try fixture.join(table) }
    #expect(error.code == .configShape && error.problem == "is BF16, expected I64 or I32")
    fixture.replace(name, dtype: .i32)
    #expect(try fixture.join(table)?.encoding.name == "i32")
    let numbers = WeightRequest(Spelling(name), shape: [3, 40])
    #expect(throws: FormatError.self) { try fixture.join(numbers) }
  }
}
