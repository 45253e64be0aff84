// On a trained model importances help, and are held to it.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

@Suite struct ImportanceModelTests {
  private static let model = Result { try Model.open(fixture("models/tiny-v4")) }

  /// The divergence of a result on the source's expert choices, over text that was not calibrated on. Free choices add a few flips
  /// of the router, each worth more than everything else together: of 1,024 tokens too few to compare by.
  private func divergence(_ scheme: String, calibrated: Bool) throws -> Double {
    let model = try Self.model.get()
    let folder = TemporaryFolder()
    let path = folder.file("r.ingot")
    var options = ConvertOptions(recipe: Recipe(try Schemes.named(scheme)))
    options.target = IngotResult(.raw)
    if calibrated {
      let text = fixture("models/tiny-v4/calibration.txt")
      let windows = try Windows(textPath: text, context: 128, limit: 6144, model: model)
      _ = try quantize(model, to: path, calibration: windows, textPath: text, choosesObserver: true, options)
    } else {
      _ = try convert(model, to: path, options)
    }
    let windows = try Windows(
      textPath: fixture("models/tiny-v4/evaluation.txt"), context: 128, limit: 1024, model: model)
    return try verify(
      source: model, result: try Model.open(path), windows, thresholds: Thresholds(), RunOptions()
    ).kl.forcedRoutingMean
  }

  @Test(arguments: ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs", "int8-channel", "int4-group", "nvfp4"])
  func importancesDoNotHurt(_ scheme: String) throws {
    let (without, with) = (
      try divergence(scheme, calibrated: false), try divergence(scheme, calibrated: true)
    )
    #expect(with <= without, "\(scheme): \(with) with importances, \(without) without")
  }
}
