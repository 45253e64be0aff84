// The forward pass of blocks that draft tokens: proposals change no text, `verify --mtp` counts what is accepted, and sees a block that
// was broken on the way.

import SmeltModels
@testable import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// Golden checkpoints with a block that runs.
private let models = [
  "deepseek_v3-fp8", "deepseek_v4-fp4", "qwen3_5_moe", "qwen3_5_moe-fp8", "qwen3_5", "qwen3_next",
  "nemotron_h",
]

/// A model whose every layer adds nothing, so that a token's logits follow from the token alone, and whose block hands the next token's
/// embedding on: what it drafts is what the model will say, always.
private func certain(_ name: String) throws -> Variant {
  var variant = try Variant("models/\(name)")
  for place in variant.tensors.indices {
    let tensor = variant.tensors[place].name
    let adds = ["out_proj", "o_proj", "down_proj"].contains { tensor.contains($0) }
    if adds { zero(&variant.tensors[place]) }
    if tensor.hasSuffix("mtp.fc.weight") { keepFirstHalf(&variant.tensors[place]) }
    let norms = [
      "pre_fc_norm_embedding.weight", "pre_fc_norm_hidden.weight", "mtp.norm.weight",
      "language_model.norm.weight",
    ]
    if norms.contains(where: { tensor.hasSuffix($0) }) || tensor == "model.norm.weight" {
      zero(&variant.tensors[place])  // distances from 1
    }
  }
  return variant
}

private func zero(_ tensor: inout Variant.Tensor) {
  tensor.bytes = [UInt8](repeating: 0, count: tensor.bytes.count)
}

/// A BF16 matrix [hidden, 2 × hidden] becomes [1, 0].
private func keepFirstHalf(_ tensor: inout Variant.Tensor) {
  zero(&tensor)
  let (rows, columns) = (tensor.shape.rows, tensor.shape.columns)
  for row in 0..<rows {
    (tensor.bytes[2 * (row * columns + row)], tensor.bytes[2 * (row * columns + row) + 1]) = (0x80, 0x3F)
  }
}

private func ids(_ model: Model, _ sampling: Sampling, drafts: Bool) throws -> (ids: [Int], count: DraftCount)
{
  var count = DraftCount()
  let ids = try generate(
    model, prompt: [5, 7, 9, 11, 200], maxTokens: 30, sampling: sampling, stops: [], drafts: drafts,
    RunOptions(),
    done: { count = $1 })
  return (ids, count)
}

@Suite struct DraftPassTests {
  private let folder = TemporaryFolder()

  /// Greedy and drawn, over caches with a row for each token and over states that are replaced.
  @Test(arguments: models) func draftsChangeNoText(name: String) throws {
    let model = try openFixture(name)
    for sampling in [Sampling(), Sampling(temperature: 0.8, topK: 20, seed: 3)] {
      let (alone, none) = try ids(model, sampling, drafts: false)
      let (drafted, count) = try ids(model, sampling, drafts: true)
      #expect(alone == drafted)
      #expect(none.drafted == 0 && count.drafted > 0 && count.accepted <= count.drafted)
    }
  }

  /// A block that knows what the model will say is always believed, and saves every second pass.
  @Test(arguments: ["qwen3_5_moe", "qwen3_5", "qwen3_next"]) func whatIsCertainIsAccepted(name: String) throws
  {
    let model = try certain(name).open(in: folder)
    let (alone, _) = try ids(model, Sampling(), drafts: false)
    let (drafted, count) = try ids(model, Sampling(), drafts: true)
    #expect(alone == drafted && count.accepted == count.drafted && count.drafted == 15)
    let report = try verify(
      source: model, result: model, someWindows(model, count: 3, context: 20), thresholds: Thresholds(),
      drafts: true, RunOptions())
    let drafts = try #require(report.drafts.first)
    #expect(report.drafts.count == 1 && drafts.tokens == 3 * 19)
    #expect(drafts.acceptance == (1, 1) && drafts.kl.mean == 0 && drafts.top1 == 1)
    #expect(report.json["mtp"]?.array?.first?["source_acceptance"]?.double == 1)
  }

  /// The result's block has another projection: its drafts are off though no logit of the model is.
  @Test func aBrokenBlockIsSeen() throws {
    var variant = try certain("qwen3_5_moe")
    let source = try variant.open(in: folder, "source")
    let place = try variant.place("mtp.fc.weight")
    for index in stride(from: 1, to: variant.tensors[place].bytes.count, by: 2)
    where variant.tensors[place].bytes[index] != 0 { variant.tensors[place].bytes[index] |= 0x80 }
    let broken = try variant.open(in: folder, "broken")
    let report = try verify(
      source: source, result: broken, someWindows(source, count: 3, context: 20),
      thresholds: Thresholds(profile: .good), drafts: true, RunOptions())
    let drafts = try #require(report.drafts.first)
    #expect(report.kl.mean == 0 && report.top1 == 1)
    #expect(drafts.acceptance.source == 1 && drafts.acceptance.result < 0.1 && drafts.kl.mean > 0.1)
    #expect(report.verdict == .fail)
    #expect(report.criteria.contains { $0.key == "mtp[].kl.mean" && !$0.isMet })
  }

  @Test func modelsWithoutABlockAreRefusedByName() throws {
    let model = try openFixture("qwen3_moe")
    let error = #expect(throws: RequestError.self) { _ = try ids(model, Sampling(), drafts: true) }
    #expect(error?.kind == .unsupported && error?.problem.contains("--mtp") == true)
    #expect(error?.problem.contains("it holds none") == true)
  }

  /// Rows behind the mark go, the first of them may stay; what was replaced comes back whole.
  @Test func aStateIsTakenBack() throws {
    let model = try openFixture("qwen3_next")
    for name in ["qwen3_next", "qwen3_moe"] {
      let model = name == "qwen3_next" ? model : try openFixture(name)
      let state = DecodingState()
      let pass = Pass(state: state)
      func logits(_ ids: [Int]) throws -> [Float] {
        try lastLogits(model.family, model.weights, ids, pass, state)
      }
      _ = try logits([1, 2, 3])
      state.mark()
      _ = try logits([4, 5])
      let kept = state.rollBack(keeping: 1)
      #expect(kept == (name == "qwen3_moe" ? 1 : 0) && state.position == 3 + kept)
      let again = try logits(kept == 1 ? [6] : [4, 6])
      let fresh = DecodingState()
      let expected = try lastLogits(model.family, model.weights, [1, 2, 3, 4, 6], Pass(state: fresh), fresh)
      let worst = zip(again.suffix(256), expected.suffix(256)).map { abs($0 - $1) }.max() ?? 1
      #expect(worst <= 1e-5)
    }
  }

  private func lastLogits(
    _ family: some ModelFamily, _ weights: some Weights, _ ids: [Int], _ pass: Pass, _ state: DecodingState
  ) throws -> [Float] {
    let batch = TokenBatch([ids], firstPosition: state.position)
    var x = try family.embed(batch, weights)
    for layer in 0..<family.dimensions.layers { _ = try family.layer(layer, &x, batch, weights, pass) }
    state.advance(ids.count)
    return try family.logits(x, weights, pass).values
  }
}
