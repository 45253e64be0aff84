// The forward pass against an independent implementation: logits, hidden states and routing of golden checkpoints.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// Float32 sums in another order differ by 1e-5 on these models; a skipped Sinkhorn round already costs 2e-4.
private let logitsBound: Float = 5e-5

/// References that are themselves farther than usual from the same pass in double precision: deepseek_v2's by 4.5e-5.
private let widerBounds: [String: Float] = [
  "deepseek_v2": 1e-4, "qwen3_5_moe": 1e-4, "qwen3_5": 1.6e-4, "qwen3_next": 1.6e-4,
]

/// Hidden states, relative to the largest. A head of linear attention whose first query and key are nearly at right angles is normed up
/// from a number that float32 has few digits of: qwen3_5's reference is 9.0e-5 from the same pass in double precision there, and our
/// logits 5.6e-5.
private let widerHidden: [String: Float] = ["qwen3_5": 2e-5, "qwen3_next": 2e-5]

/// Names of the golden checkpoints with the references' prefixes.
private let golden = [
  ("deepseek_v2", ["short.", "long."]), ("deepseek_v3", ["short.", "long."]),
  ("deepseek_v3-fp8", ["short.", "long."]), ("deepseek_v32", ["short.", "long."]),
  ("deepseek_v4", ["short.", "long."]), ("deepseek_v4-fp4", ["short.", "long."]),
  ("deepseek_v4-hfsaved", ["short.", "long."]), ("tiny-v4", [""]), ("mixtral", ["short.", "long."]),
  ("qwen2_moe", ["short.", "long."]), ("qwen3_moe", ["short.", "long."]),
  ("qwen3_moe_sharded", ["short.", "long."]), ("olmoe", ["short.", "long."]),
  ("gpt_oss", ["short.", "long."]), ("gpt_oss-mxfp4", ["short.", "long."]),
  ("glm4_moe", ["short.", "long."]), ("minimax_m2", ["short.", "long."]),
  ("kimi_k25", ["short.", "long."]), ("kimi_k25-int4", ["short.", "long."]),
  ("llama", ["short.", "long."]), ("mistral", ["short.", "long."]), ("qwen2", ["short.", "long."]),
  ("qwen3", ["short.", "long."]), ("qwen3_5_moe", ["short.", "long."]),
  ("qwen3_5_moe-fp8", ["short.", "long."]), ("qwen3_5", ["short.", "long."]),
  ("qwen3_next", ["short.", "long."]), ("nemotron_h", ["short.", "long."]),
  ("qwen3_vl_moe", ["short.", "long."]),
  ("glm4_moe_lite", ["short.", "long."]), ("glm_moe_dsa", ["short.", "long."]),
  ("hy_v3", ["short.", "long."]), ("mistral4", ["short.", "long."]),
  ("gemma4", ["short.", "long."]), ("gemma4_dense", ["short.", "long."]),
  ("gemma4_e2b", ["short.", "long."]),
  ("minimax_m3_vl", ["short.", "long."]), ("minimax_m3_vl-mxfp8", ["short.", "long."]),
]

@Suite struct GoldenTests {
  @Test(arguments: golden)
  func logitsHiddenStatesAndRoutingEqualTheReference(name: String, prefixes: [String]) throws {
    let model = try Model.open(fixture("models/\(name)"))
    let reference = try Reference(of: name)
    for prefix in prefixes {
      let batch = TokenBatch(try reference.sequences("\(prefix)input_ids"))
      let bound = widerBounds[name] ?? logitsBound
      try compare(
        model.family, model.weights, batch, reference, prefix, bound, widerHidden[name] ?? 1e-5)
    }
  }

  private func compare(
    _ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch, _ reference: Reference,
    _ prefix: String, _ bound: Float, _ hiddenBound: Float
  ) throws {
    let pass = Pass(parallel: .allCores)
    var x = try family.embed(batch, weights)
    for layer in 0..<family.dimensions.layers {
      let routing = try family.layer(layer, &x, batch, weights, pass)
      for hidden in ["\(prefix)hidden.\(layer)", "window0.hidden.\(layer)"] {
        guard let expected = reference.floats(hidden) else { continue }
        let scale = expected.map(abs).max() ?? 1
        let worst = zip(expected, x.values).map { abs($0 - $1) }.max() ?? 0
        #expect(worst <= hiddenBound * scale, "\(hidden) differs by \(worst) of \(scale)")
      }
      for router in ["\(prefix)router.\(layer)", "window0.router.\(layer)"] {
        guard let experts = reference.integers("\(router).experts"),
          let weights = reference.floats("\(router).weights")
        else { continue }
        let routing = try #require(routing, "layer \(layer) has a router in the reference")
        #expect(experts == Array(routing.experts.prefix(experts.count)), "\(router).experts")
        let worst = zip(weights, routing.weights).map { abs($0 - $1) }.max() ?? 0
        let largest = max(1, weights.max() ?? 1)  // a scaling factor makes them larger than 1
        #expect(worst <= 1e-5 * largest, "\(router).weights differ by \(worst)")
      }
    }
    let expected = try #require(reference.floats("\(prefix)logits"))
    let logits = try family.logits(x, weights, pass)
    #expect(logits.values.count == expected.count)
    let worst = zip(expected, logits.values).map { abs($0 - $1) }.max() ?? .infinity
    #expect(worst <= bound, "\(prefix)logits differ by \(worst)")
    try compareDrafts(family, weights, x, batch, reference, prefix, bound)
  }

  /// Row i of a block's logits is made from token i and the token that follows it.
  private func compareDrafts(
    _ family: some ModelFamily, _ weights: some Weights, _ x: Matrix, _ batch: TokenBatch,
    _ reference: Reference, _ prefix: String, _ bound: Float
  ) throws {
    for block in family.runningDrafts {
      guard let expected = reference.floats("\(prefix)mtp.\(block.number).logits") else { continue }
      let rows = (0..<batch.sequenceCount).map { batch.range($0).dropLast() }
      let next = TokenBatch(rows.map { $0.map { batch.ids[$0 + 1] } })
      let pass = Pass(parallel: .allCores)
      let input = try family.draftInput(x, weights, pass).gather(Array(rows.joined()))
      let output = try family.draft(block, input, next, weights, pass)
      let logits = try family.draftLogits(block, output, weights, pass)
      #expect(logits.values.count == expected.count)
      let worst = zip(expected, logits.values).map { abs($0 - $1) }.max() ?? .infinity
      #expect(worst <= bound, "\(prefix)drafts differ by \(worst)")
    }
  }
}

/// A reference file.
struct Reference {
  private let file: SafetensorsFile

  init(_ path: String) throws { file = try SafetensorsFile(path: path) }

  /// The reference of a golden model. The saved dialect holds the very weights of the hub's, and shares its reference.
  init(of name: String) throws {
    try self.init(fixture("models/\(name.replacing("-hfsaved", with: ""))/reference.safetensors"))
  }

  func floats(_ name: String) -> [Float]? {
    file.tensor(name)?.bytes.withUnsafeBytes { bytes in
      (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
    }
  }

  func integers(_ name: String) -> [Int32]? {
    file.tensor(name)?.bytes.withUnsafeBytes { bytes in
      (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Int32.self) }
    }
  }

  func sequences(_ name: String) throws -> [[Int]] {
    let tensor = try #require(file.tensor(name))
    let ids = tensor.bytes.withUnsafeBytes { bytes in
      (0..<bytes.count / 8).map { Int(bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self)) }
    }
    let width = tensor.shape.columns
    return (0..<tensor.shape.rows).map { Array(ids[$0 * width..<($0 + 1) * width]) }
  }
}
