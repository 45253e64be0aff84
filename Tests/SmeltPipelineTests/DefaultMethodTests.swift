// Which method a quantization takes when none is named, and what it brings on a trained model.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

@Suite struct DefaultMethodTests {
  private func bytes(_ scheme: String, _ method: String?, isGGUF: Bool) throws -> [UInt8] {
    let folder = TemporaryFolder()
    let model = try Model.open(fixture("models/deepseek_v4"))
    let path = folder.file(isGGUF ? "r.gguf" : "r.ingot")
    var options = ConvertOptions(recipe: Recipe(try Schemes.named(scheme)))
    options.target = isGGUF ? GGUFResult(split: nil, recipeName: nil) : IngotResult(.raw)
    let made = try quantize(
      model, to: path, calibration: someWindows(model, count: 4, context: 32),
      textPath: fixture("models/tiny-v4/calibration.txt"),
      choosesObserver: true, method: try MethodOptions(named: method), options)
    // What was chosen is said, and nothing where a method was asked for.
    let isSaid = made.1.text.contains("method: gptq")
    #expect(isSaid == (method == nil && scheme.contains("4")), "\(made.1.text)")
    return try MappedFile(path: path).bytes.array
  }

  /// Four bits on a grid: GPTQ, to the byte; other encodings as before.
  @Test(arguments: [
    ("int4-group:32", "gptq", "rtn"), ("nvfp4", "gptq", "rtn"), ("mxfp4", "gptq", "rtn"),
    ("q4_0", "gptq", "rtn"), ("int8-channel", "rtn", "gptq"), ("q8_0", "rtn", "gptq"),
  ])
  func fourBitsAreRoundedByGPTQ(scheme: String, same: String, other: String) throws {
    let isGGUF = scheme.hasPrefix("q")
    let found = try bytes(scheme, nil, isGGUF: isGGUF)
    let (isSame, isOther) = (
      try found == bytes(scheme, same, isGGUF: isGGUF), try found == bytes(scheme, other, isGGUF: isGGUF)
    )
    #expect(isSame && !isOther, "\(scheme)")
  }

  private static let model = Result { try Model.open(fixture("models/tiny-v4")) }

  /// The divergence on the source's expert choices, over text that was not calibrated on, of a result by a method.
  private func divergence(_ scheme: String, _ method: String?) throws -> Double {
    let model = try Self.model.get()
    let folder = TemporaryFolder()
    let path = folder.file("r.ingot")
    var options = ConvertOptions(recipe: Recipe(try Schemes.named(scheme)))
    options.target = IngotResult(.raw)
    let text = fixture("models/tiny-v4/calibration.txt")
    let windows = try Windows(textPath: text, context: 128, limit: 4096, model: model)
    _ = try quantize(
      model, to: path, calibration: windows, textPath: text, choosesObserver: true,
      method: try MethodOptions(named: method), options)
    let evaluation = try Windows(
      textPath: fixture("models/tiny-v4/evaluation.txt"), context: 128, limit: 1024, model: model)
    return try verify(
      source: model, result: try Model.open(path), evaluation, thresholds: Thresholds(), RunOptions()
    ).kl.forcedRoutingMean
  }

  /// What the default gives is a good deal nearer to the source than rounding to nearest with the same text.
  @Test(arguments: ["int4-group", "nvfp4", "mxfp4"])
  func theDefaultIsNearer(_ scheme: String) throws {
    let (usual, plain) = (try divergence(scheme, nil), try divergence(scheme, "rtn"))
    #expect(usual < 0.85 * plain, "\(scheme): \(usual) by default, \(plain) by rounding")
  }
}
