// `--compute int8`: W8A8 as whole numbers is what its simulation in float32 says.

import SmeltModels
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

@Suite struct IntegerComputeTests {
  private let folder = TemporaryFolder()

  private func options(_ compute: Compute, threads: Int = 1) -> RunOptions {
    var options = RunOptions(parallel: Parallel(threads: threads))
    options.compute = compute
    return options
  }

  @Test func wholeNumbersAreTheSimulation() throws {
    let source = try openFixture("qwen3_moe")
    let result = try engineVariant("qwen3_moe", "W8A8", in: folder).open(in: folder)
    let windows = someWindows(source, count: 2, context: 24)
    func report(_ compute: Compute, _ kind: ActivationRounding.Kind) throws -> Report {
      try verify(
        source: source, result: result, windows, thresholds: Thresholds(),
        rounding: try ActivationRounding(kind, for: result), options(compute))
    }
    for kind in [ActivationRounding.Kind.declared, .int8] {
      let simulated = try #require(try report(.float32, kind).activations)
      let computed = try #require(try report(.int8, kind).activations)
      #expect(simulated.kl.mean > 0)
      // Both differ by the rounding of sums: parts in 10^7 of the logits.
      #expect(abs(computed.kl.mean - simulated.kl.mean) <= 1e-6 * simulated.kl.mean + 1e-9, "\(kind)")
      #expect(abs(computed.perplexity / simulated.perplexity - 1) <= 1e-6, "\(kind)")
    }
    func engine(_ compute: Compute) throws -> Report {
      try verify(
        source: source, result: result, windows, thresholds: Thresholds(),
        engine: try EngineRun(.vllm, for: result), options(compute))
    }
    let (a, b) = (try #require(try engine(.float32).engine), try #require(try engine(.int8).engine))
    #expect(a.kl.mean > 0 && abs(a.kl.mean - b.kl.mean) <= 1e-6 * a.kl.mean + 1e-9)
  }

  @Test func evaluationRunsWholeNumbersWhereTheyAreDeclared() throws {
    let result = try engineVariant("qwen3_moe", "W8A8", in: folder).open(in: folder)
    let windows = someWindows(result, count: 2, context: 24)
    let plain = try evaluate(result, windows, options(.float32))
    let computed = try evaluate(result, windows, options(.int8))
    let again = try evaluate(result, windows, options(.int8, threads: 2))
    #expect(plain.integerWeights == nil && plain.json["integer_weights"] == nil)
    let declared = try result.declaredScales().inputs.count
    let count = try #require(computed.integerWeights)
    #expect(count > 0 && count <= declared, "\(count) of \(declared)")
    #expect(computed.perplexity != plain.perplexity)
    #expect(abs(computed.perplexity / plain.perplexity - 1) < 0.05)
    #expect(again.perplexity == computed.perplexity)
    let ids = try generate(
      result, prompt: [1, 2, 3], maxTokens: 3, sampling: Sampling(), stops: [], options(.int8))
    #expect(ids.count == 3)
  }

  /// Weights of eight bits that are declared to meet activations as they are, and other weights, stay in float32.
  @Test func otherWeightsStayInFloats() throws {
    for word in ["W8A16", "FP8_DYNAMIC"] {
      let result = try engineVariant("qwen3_moe", word, in: folder).open(in: folder)
      let windows = someWindows(result, count: 1, context: 16)
      let plain = try evaluate(result, windows, options(.float32))
      let computed = try evaluate(result, windows, options(.int8))
      #expect(computed.integerWeights == 0 && computed.perplexity == plain.perplexity, "\(word)")
    }
  }

  @Test func wordsAndRunsThatDoNotFitAreRefused() throws {
    let error = #expect(throws: RequestError.self) { try Compute.named("int4") }
    #expect(error.map { "\($0)".contains("unknown arithmetic 'int4'") } == true)
    let source = try openFixture("qwen3_moe")
    let windows = someWindows(source, count: 1, context: 8)
    let other = #expect(throws: RequestError.self) {
      try verify(source: source, result: source, windows, thresholds: Thresholds(), options(.int8))
    }
    #expect(other?.kind == .usage)
  }
}
