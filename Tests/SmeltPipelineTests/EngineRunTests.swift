// `verify --as`: fused numbers and rounded activations as an engine has them.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

@Suite struct EngineRunTests {
  private let folder = TemporaryFolder()

  private func report(_ source: Model, _ result: Model, _ engine: Engine) throws -> Report {
    try verify(
      source: source, result: result, someWindows(source, count: 2, context: 24), thresholds: Thresholds(),
      engine: try EngineRun(engine, for: result), RunOptions())
  }

  @Test func equalScalesComputeWhatWasProved() throws {
    var variant = try engineVariant("qwen3_moe", "nvfp4", in: folder)
    variant.shareGlobalScales()
    let result = try variant.open(in: folder)
    let report = try report(try openFixture("qwen3_moe"), result, .vllm)
    let engine = try #require(report.engine)
    #expect(engine.changedWeights == 0 && engine.roundedWeights == 0)
    #expect(engine.largestLogit == 0 && engine.parity.max == 0 && engine.parityTop1 == 1)
    #expect(engine.kl.mean == report.kl.mean && engine.excess == 0)
    #expect(report.json["engine"]?["name"]?.string == "vllm")
  }

  /// Gate keeps its scale, up gets gate's; of query, key and value all get the largest.
  @Test func differentScalesComputeSomethingElse() throws {
    var variant = try engineVariant("qwen3_moe", "nvfp4", in: folder)
    variant.shareGlobalScales()
    variant.setNumbers(where: { $0.hasSuffix("k_proj.weight_global_scale") }) { _, old in old * 2 }
    variant.setNumbers(where: { $0.hasSuffix("experts.0.gate_proj.weight_global_scale") }) { _, old in old * 4
    }
    let result = try variant.open(in: folder)
    let run = try EngineRun(.vllm, for: result)
    let layers = result.family.dimensions.layers
    #expect(run.changedWeights == 3 * layers)
    #expect(run.numbers[WeightName("blk.0.attn_q.weight")] == 2048)
    #expect(run.numbers[WeightName("blk.0.attn_k.weight")] == nil)
    #expect(run.numbers[WeightName("blk.0.ffn_up_exps.weight", expert: 0)] == 4096)
    #expect(run.numbers[WeightName("blk.0.ffn_gate_exps.weight", expert: 0)] == nil)
    let weights = run.weights(result.source, .serial)
    let (own, changed) = (
      try result.source.weight(WeightName("blk.0.attn_q.weight")).decode(),
      try weights.weight(WeightName("blk.0.attn_q.weight")).decode()
    )
    #expect(zip(own, changed).allSatisfy { $0 / 2 == $1 })
    let report = try report(try openFixture("qwen3_moe"), result, .vllm)
    #expect(try #require(report.engine).parity.mean > 0)
    #expect(try #require(report.engine).changedWeights == run.changedWeights)
    let error = #expect(throws: RequestError.self) { try EngineRun(.sglang, for: result) }
    #expect(error?.kind == .unsupported)
    let other = #expect(throws: RequestError.self) { try EngineRun(.mlx, for: result) }
    #expect(other?.kind == .usage)
  }

  @Test func partsAreRoundedAgainToTheLargestScale() throws {
    var variant = try engineVariant("llama", "fp8-tensor", in: folder)
    variant.setNumbers(where: { $0.contains("self_attn") && $0.hasSuffix("_proj.weight_scale") }) { name, _ in
      name.contains("k_proj") ? 0.02 : 0.01
    }
    let result = try variant.open(in: folder)
    let run = try EngineRun(.vllm, for: result)
    let name = WeightName("blk.0.attn_q.weight")
    #expect(run.numbers[name] == 0.02)
    let own = try result.source.weight(name)
    let again = try run.weights(result.source, .allCores).weight(name)
    #expect(again.parts[1].firstFloat == 0.02)
    // The nearest of all codes, found one by one.
    var table = [Float](repeating: 0, count: 256)
    for code in 0..<256 where code & 0x7F != 0x7F {
      let exponent = code >> 3 & 15
      let mantissa = Float(code & 7)
      let magnitude =
        exponent == 0
        ? mantissa * 0x1p-9 : (1 + mantissa / 8) * Float(sign: .plus, exponent: exponent - 7, significand: 1)
      table[code] = code < 128 ? magnitude : -magnitude
    }
    for (old, new) in zip(own.decode(), again.decode()) {
      let wanted = old / 0.02
      let nearest = table.map { abs($0 - wanted) }.min() ?? 0
      #expect(abs(abs(new / 0.02 - wanted) - nearest) <= 1e-5 * max(1, abs(wanted)))
    }
  }

  /// Rows rounded as a result declares of a weight.
  private func rounded(
    _ x: Matrix, _ form: DeclaredActivations.Form, isFloat: Bool = true, scale: Float? = nil
  ) -> Matrix {
    var declared = DeclaredScales()
    let name = WeightName("any")
    declared.inputs[name] = .init(form: form, isFloat: isFloat, scale: scale.map { InputScale($0) })
    return ActivationRounding(declared).round(x, name, .serial)
  }

  @Test func activationsOfTokensAreRoundedAsByKind() throws {
    var generator = Generator(seed: 7)
    let x = Matrix(rows: 5, columns: 48, values: (0..<240).map { _ in generator.normal() })
    let model = try openFixture("llama")
    for (kind, isFloat) in [(ActivationRounding.Kind.int8, false), (.fp8, true)] {
      let rounded = rounded(x, .token, isFloat: isFloat)
      let same = try ActivationRounding(kind, for: model).round(x, WeightName("any"), .serial)
      #expect(rounded.values == same.values)
    }
    let blocks = rounded(x, .group(16))
    let same = try ActivationRounding(.fp8, for: model).round(x, WeightName("any"), block: 16, .serial)
    #expect(blocks.values == same.values)
    let powers = rounded(x, .powers(16))
    let mx = try ActivationRounding(.fp8, for: model)
      .round(x, WeightName("any"), block: 16, hasPowers: true, .serial)
    #expect(powers.values == mx.values && powers.values != blocks.values)
    let whole = rounded(x, .tensor, isFloat: false, scale: 0.5)
    for (old, new) in zip(x.values, whole.values) {
      #expect(new == max(-127, min(127, (old / 0.5).rounded(.toNearestOrEven))) * 0.5)
    }
  }

  /// A slow twin: every scale and every code tried.
  @Test func nvfp4ActivationsAreTheNearest() {
    var generator = Generator(seed: 11)
    let x = Matrix(rows: 3, columns: 32, values: (0..<96).map { _ in generator.normal() * 3 })
    let global: Float = 0.01
    let found = rounded(x, .local, scale: global)
    let codes: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    var scales: [Float] = []
    for code in 0..<127 {
      let (exponent, mantissa) = (code >> 3, Float(code & 7))
      scales.append(
        exponent == 0
          ? mantissa * 0x1p-9
          : (1 + mantissa / 8) * Float(sign: .plus, exponent: exponent - 7, significand: 1))
    }
    for start in stride(from: 0, to: 96, by: 16) {
      let group = x.values[start..<start + 16]
      let wanted = group.map { abs($0) }.max()! / 6 / global
      let scale = scales.min { abs($0 - wanted) < abs($1 - wanted) }! * global
      for index in group.indices {
        let distance = codes.map { abs($0 * scale - abs(group[index])) }.min()!
        #expect(abs(abs(found.values[index] - group[index]) - distance) <= 1e-6)
      }
    }
    let zeros = rounded(Matrix(rows: 1, columns: 16), .local)
    #expect(zeros.values.allSatisfy { $0 == 0 })
  }

  @Test func declaredActivationsAreRounded() throws {
    let result = try engineVariant("qwen3_moe", "W8A8", in: folder).open(in: folder)
    let run = try EngineRun(.vllm, for: result)
    let quantized = try result.storedWeights().filter { $0.encoding is INT8 }
    #expect(run.roundedWeights == quantized.count && run.changedWeights == 0)
    let report = try report(try openFixture("qwen3_moe"), result, .vllm)
    #expect(try #require(report.engine).parity.mean > 0)
    #expect(report.text.contains("as vLLM, parity"))
  }
}
