// Tensors that a run has no place for are named, and a result's configuration does not count them.

import SmeltContainers
import SmeltModels
@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct LeftOutTests {
  private let folder = TemporaryFolder()

  private func config(_ path: String) throws -> JSON {
    try JSON.scan(try #require(try Model.open(path).smallFile("config.json")))
  }

  /// Into every container, and on from there: the configuration counts no layers that are not there.
  @Test(arguments: ["reports/glm_mtp", "models/deepseek_v4-fp4"])
  func aResultDeclaresNoDrafts(name: String) throws {
    let model = try Model.open(fixture(name))
    let left = model.leftOut
    #expect(left.map(\.rule) == ["mtp"] && left[0].tensors > 0 && left[0].bytes > 0)
    #expect(try config(model.path)["num_nextn_predict_layers"]?.integer == 1)
    let targets: [(String, any ResultTarget)] = [
      ("a", SafetensorsResult()), ("a.ingot", IngotResult(.fast)), ("a.gguf", GGUFResult()),
    ]
    for (name, target) in targets {
      let options = ConvertOptions(recipe: Recipe(Keep()), target: target)
      let plan = try Plan(model, options)
      #expect(plan.leftOut.map(\.bytes) == left.map(\.bytes) && plan.text.contains("left out: "))
      let made = try convert(model, to: folder.file(name), options)
      let json = try JSON.scan(made.json.text())["left_out"]?.array?.first
      #expect(json?["rule"]?.string == "mtp" && json?["tensors"]?.integer == left[0].tensors)
      #expect(json?["bytes"]?.integer == left[0].bytes && json?["reason"]?.string?.isEmpty == false)
      let found = try config(folder.file(name))
      #expect(found["num_nextn_predict_layers"]?.integer == 0)
      if let ratios = found["compress_ratios"]?.array { #expect(ratios.count == 4) }
      let result = try Model.open(folder.file(name))
      #expect(result.leftOut.isEmpty)
      try expectEqual(model, result)
    }
    let file = try GGUFFile(path: folder.file("a.gguf"))
    #expect(!file.metadata.contains { $0.key.hasSuffix("nextn_predict_layers") && $0.value.integer != 0 })
    let bytes = left.reduce(0) { $0 + $1.bytes }
    #expect(try inspect(model).text(withTensors: false).contains(byteText(bytes)))
  }

  @Test func everySpellingIsKnown() throws {
    func without(_ text: String) throws -> JSON {
      try JSON.scan(try ResultConfig.withoutDrafts(Bytes(Array(text.utf8))))
    }
    for key in [
      "num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers", "num_mtp_layers",
      "n_mtp_layers",
      "mtp_num_layers", "num_mtp_heads", "nextn_predict_layers", "mtp_layers",
    ] {
      #expect(try without("{\"\(key)\": 2}")[key]?.integer == 0, "\(key)")
      #expect(try without("{\"text_config\": {\"\(key)\": 2}}")["text_config"]?[key]?.integer == 0, "\(key)")
    }
    for key in [
      "num_hidden_layers", "mtp_loss_weight", "mtp_transformer_layers", "n_group", "num_experts", "layers",
    ] {
      #expect(try without("{\"\(key)\": 2}")[key]?.integer == 2, "\(key)")
    }
    let flags = try without(#"{"use_mtp": true, "mtp_use_dedicated_embeddings": true, "tie": true}"#)
    #expect(flags["use_mtp"]?.bool == false && flags["tie"]?.bool == true)
    #expect(flags["mtp_use_dedicated_embeddings"]?.bool == true)
    let lists = try without(
      #"{"num_hidden_layers": 2, "num_mtp_modules": 1, "layer_types": ["a", "b", "c"], "eos_token_id": [1, 2, 3]}"#
    )
    #expect(lists["layer_types"]?.array?.count == 2 && lists["eos_token_id"]?.array?.count == 3)
    // Where nothing is to be changed, nothing is.
    for text in [
      #"{ "num_nextn_predict_layers":0 , "a" : 1.50}"#, #"{"layer_types": ["a","b"],"num_hidden_layers":1}"#,
    ] {
      #expect(try ResultConfig.withoutDrafts(Bytes(Array(text.utf8))).array == Array(text.utf8))
    }
  }
}
