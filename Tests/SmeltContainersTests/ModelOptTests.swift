// What ModelOpt's configuration says of which module: names, containers, patterns, exclusions; and its formats of 8 bits.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct ModelOptTests {
  private let up = "model.layers.0.mlp.up_proj"
  private let gate = "model.layers.0.mlp.gate_proj"

  /// The fixture under another configuration.
  private func layers(_ layers: String, ignore: String = "[]", algorithm: String = "MIXED_PRECISION") throws
    -> LayoutFixture
  {
    var fixture = try LayoutFixture("modelopt-nvfp4")
    fixture.config = """
      {"quantization_config": {"quant_method": "modelopt", "quant_algo": "\(algorithm)", "ignore": \(ignore),
        "quantized_layers": {\(layers)}}}
      """
    return fixture
  }

  /// The encoding of a module, or the code of its refusal.
  private func outcome(_ fixture: LayoutFixture, _ module: String) throws -> String {
    let request = try #require(fixture.cases.first { $0.request.place.tensor == "\(module).weight" }).request
    do {
      return try #require(try fixture.join(request)).encoding.name
    } catch let error as FormatError {
      return error.code.name
    } catch let error as RequestError {
      return error.kind.rawValue
    }
  }

  private func entry(_ key: String, _ algorithm: String) -> String {
    #""\#(key)": {"quant_algo": "\#(algorithm)"}"#
  }

  @Test func aKeyAppliesToAllBelowIt() throws {
    for key in [
      "model.layers.0.mlp", "model.layers.0", "model", "model.layers.*.mlp", "*.up_proj", "model.*",
    ] {
      for algorithm in ["NVFP4", "W4A16_NVFP4", "nvfp4"] {
        #expect(try outcome(try layers(entry(key, algorithm)), up) == "nvfp4", "\(key)")
      }
    }
    for key in ["model.layers.0.mlp.up", "model.layers.1", "layers.0.mlp", "model.layers.0.mlp.up_proj.x"] {
      #expect(try outcome(try layers(entry(key, "NVFP4")), up) == "Q_CONFIG", "\(key)")
    }
  }

  @Test func theLongestNameWins() throws {
    let fixture = try layers(
      [
        entry("model.layers.0", "FP8"), entry(up, "NVFP4"), entry("model.layers.0.mlp", "MXFP8"),
        entry(gate, "FP8_PER_CHANNEL_PER_TOKEN"), entry("*", "FP8"),
      ].joined(separator: ", "))
    #expect(try outcome(fixture, up) == "nvfp4")
    #expect(try outcome(fixture, gate) == "f8_e4m3.channel")
    let all = try layers(entry("model.layers.0.mlp.down_proj", "FP8"), algorithm: "NVFP4")
    #expect(try outcome(all, up) == "nvfp4")
    #expect(try outcome(all, "model.layers.0.mlp.down_proj") == "f8_e4m3.tensor")
  }

  @Test func whatIsExcludedIsNotQuantized() throws {
    for ignore in [
      "[\"\(up)\"]", "[\"model.layers.0.mlp\"]", "[\"model.layers.0*\"]", "[\"*.mlp.*\"]", "[\"*.up_proj*\"]",
    ] {
      #expect(try outcome(try layers("", ignore: ignore, algorithm: "NVFP4"), up) == "Q_CONFIG", "\(ignore)")
    }
    for ignore in [
      "[\"lm_head\"]", "[\"model.layers.1\"]", "[\"model.layers.0.mlp.u*\"]", "[\"model.layers.*.gate\"]",
    ] {
      #expect(try outcome(try layers("", ignore: ignore, algorithm: "NVFP4"), up) == "nvfp4", "\(ignore)")
    }
    // A longer name says otherwise, also in hf_quant_config.json's words.
    #expect(try outcome(try layers(entry(up, "NVFP4"), ignore: "[\"model.layers.0.mlp\"]"), up) == "nvfp4")
    var fixture = try layers("")
    fixture.config = "{}"
    fixture.sidecar =
      #"{"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["model.layers.0.mlp.up_proj"]}}"#
    #expect(try outcome(fixture, up) == "Q_CONFIG")
    fixture.sidecar =
      #"{"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"], "group_size": 16}}"#
    #expect(try outcome(fixture, up) == "nvfp4")
  }

  @Test(arguments: ["modelopt", "modelopt_fp4", "modelopt_mixed"]) func methodsOfItsKin(method: String) throws
  {
    var fixture = try layers(entry(up, "NVFP4"))
    fixture.edit("\"modelopt\"", "\"\(method)\"")
    #expect(try outcome(fixture, up) == "nvfp4")
  }

  /// Codes that count through all values but NaN.
  private func codes(_ count: Int) -> [UInt8] {
    (0..<count).map { UInt8($0 % 251) & 0x7F == 0x7F ? 0 : UInt8($0 % 251) }
  }

  private func value(_ code: UInt8) -> Float {
    let (exponent, mantissa) = (Int(code >> 3 & 15), Float(code & 7))
    let size =
      exponent == 0
      ? mantissa * 0x1p-9 : Float(sign: .plus, exponent: exponent - 7, significand: 1 + mantissa / 8)
    return code & 0x80 == 0 ? size : -size
  }

  /// A module of 8-bit codes [130, 160] beside scales.
  private func module(
    _ algorithm: String, _ dtype: DType, _ shape: Shape, _ bytes: [UInt8], name: String = "weight_scale"
  )
    throws -> [Float]
  {
    var fixture = try layers(entry("model.layers.0", algorithm))
    for (suffix, type, shape, bytes) in [
      ("weight", DType.f8E4M3, [130, 160] as Shape, codes(130 * 160)), (name, dtype, shape, bytes),
    ] {
      fixture.tensors.append(
        TensorInfo(
          name: "model.layers.0.x.\(suffix)", dtype: type, shape: shape, file: "model.safetensors", offset: 0,
          bytes: Bytes(bytes)))
    }
    let request = WeightRequest(Spelling("model.layers.0.x.weight"), shape: [130, 160])
    return try #require(try fixture.join(request)).weight().decode()
  }

  @Test(arguments: [[2, 2], [2, 1, 2, 1]] as [Shape], ["FP8_PB_WO", "fp8_pb_wo", "FP8_BLOCK_SCALES"])
  func blocksHaveAScaleEach(shape: Shape, algorithm: String) throws {
    let factors: [Float] = [0.5, 2, 0.25, 3]
    let bytes = factors.flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian) { Array($0) } }
    for name in ["weight_scale", "weight_scale_inv"] {
      let found = try module(algorithm, .f32, shape, bytes, name: name)
      let codes = codes(130 * 160)
      let expected = codes.indices.map { place in
        value(codes[place]) * factors[place / 160 / 128 * 2 + place % 160 / 128]
      }
      #expect(found == expected)
    }
    #expect(throws: FormatError.self) { try module(algorithm, .f32, [4], bytes) }
  }

  @Test(arguments: [DType.u8, .f8E8M0]) func groupsOfThirtyTwoHaveAPowerOfTwo(dtype: DType) throws {
    let exponents = (0..<130 * 5).map { UInt8(120 + $0 % 13) }
    let found = try module("MXFP8", dtype, [130, 5], exponents)
    let codes = codes(130 * 160)
    let expected = codes.indices.map { place in
      let exponent = Int(exponents[place / 160 * 5 + place % 160 / 32]) - 127
      return value(codes[place]) * Float(sign: .plus, exponent: exponent, significand: 1)
    }
    #expect(found == expected)
    #expect(throws: FormatError.self) { try module("MXFP8", dtype, [130, 4], Array(exponents.prefix(520))) }
  }
}
