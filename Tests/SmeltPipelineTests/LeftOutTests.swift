// A configuration that counts no blocks that draft tokens, in every spelling of their number.

@testable import SmeltPipeline
import SmeltStorage
import Testing

@Suite struct LeftOutTests {
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
