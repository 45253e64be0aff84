// Weights that a GGUF file holds in another order than they have, rounded there: they are judged as they lie in the file.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

@Suite struct PieceProofTests {
  /// Heads of values that a block straddles, keys and values cut apart, projections in two tensors: of float32, so that what is put
  /// together again has the source's encoding and other numbers.
  @Test(arguments: ["qwen3_5", "qwen3_next", "deepseek_v3"])
  func roundedPiecesOfAFloatSourceAreNoFault(name: String) throws {
    let folder = TemporaryFolder()
    var widened = try options("f32")
    widened.target = SafetensorsResult()
    _ = try convert(try openFixture(name), to: folder.file("wide"), widened)
    let source = try Model.open(folder.file("wide"))
    var rounded = try options("q8_0")
    rounded.target = GGUFResult()
    _ = try convert(source, to: folder.file("r.gguf"), rounded)
    let (weights, faults) = try proof(source, try Model.open(folder.file("r.gguf")))
    #expect(faults.isEmpty, "\(faults.map(\.text))")
    let moved = ["ssm_out.weight", "ssm_in.weight", "attn_kv_b.weight"]
    let found = weights.filter { weight in moved.contains { weight.name.hasSuffix($0) } }
    #expect(!found.isEmpty && found.allSatisfy { $0.state == .nearest && $0.maxAbsError > 0 })
    #expect(found.allSatisfy { $0.scheme == "q8_0" })
  }
}
