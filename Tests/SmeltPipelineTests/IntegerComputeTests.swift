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

  /// GGUF's blocks: whole numbers are what rounding the activations in their blocks and multiplying in float32 gives. Of few tokens: where
  /// a number lies within the rounding of sums of the middle between two codes, the two arithmetics may take different ones.
  @Test(arguments: ["q8_0", "q4_0", "q5_1"])
  func wholeNumbersOfBlocksAreTheSimulation(_ scheme: String) throws {
    let source = try openFixture("qwen3_moe")
    let result = try converted(source, folder.file("\(scheme).gguf"), scheme)
    let windows = someWindows(source, count: 1, context: 4)
    func report(_ compute: Compute) throws -> Report.Activations {
      let report = try verify(
        source: source, result: result, windows, thresholds: Thresholds(),
        rounding: try ActivationRounding(.gguf, for: result), options(compute))
      return try #require(report.activations)
    }
    let (simulated, computed) = (try report(.float32), try report(.int8))
    #expect(simulated.kl.mean > 0 && simulated.roundedWeights > 0)
    #expect(abs(computed.kl.mean - simulated.kl.mean) <= 1e-6 * simulated.kl.mean + 1e-9)
    #expect(abs(computed.perplexity / simulated.perplexity - 1) <= 1e-6)
    let plain = try evaluate(result, windows, options(.float32))
    let whole = try evaluate(result, windows, options(.int8))
    let again = try evaluate(result, windows, options(.int8, threads: 2))
    // Experts that none of the tokens goes to are not multiplied.
    #expect((1...simulated.roundedWeights).contains(try #require(whole.integerWeights)))
    #expect(abs(whole.perplexity / computed.perplexity - 1) <= 1e-9, "as verify has it")
    #expect(whole.perplexity != plain.perplexity && again.perplexity == whole.perplexity)
    let one = try generate(
      result, prompt: [1, 2, 3], maxTokens: 4, sampling: Sampling(), stops: [], options(.int8))
    let two = try generate(
      result, prompt: [1, 2, 3], maxTokens: 4, sampling: Sampling(), stops: [], options(.int8, threads: 2))
    #expect(one == two)
  }

  /// Blocks are GGUF's: weights of other encodings are not reached, and a model without any is refused.
  @Test func blocksAreForGGUF() throws {
    let source = try openFixture("qwen3_moe")
    let result = try engineVariant("qwen3_moe", "W8A8", in: folder).open(in: folder)
    let error = #expect(throws: RequestError.self) {
      try verify(
        source: source, result: result, someWindows(source, count: 1, context: 8), thresholds: Thresholds(),
        rounding: try ActivationRounding(.gguf, for: result), options(.float32))
    }
    #expect(error.map { "\($0)".contains("no weight of a GGUF block type") } == true)
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
