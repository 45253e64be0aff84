// Whether a weight is what its scheme makes of the source's: everything that this program writes is, and nothing that was damaged
// after it. Walked over the lists: schemes, containers, fixtures, observers and methods.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

/// Compares all weights of two models without running them.
func proof(_ source: Model, _ result: Model) throws -> (weights: [Report.WeightError], faults: [Fault]) {
  let run = RunOptions(parallel: Parallel(threads: 2))
  let cache = WeightCache([source, result], .withinLayers, run)
  var comparison = try WeightComparison(source, result, cache)
  try comparison.compareRest(run)
  return (comparison.errors, comparison.faults)
}

private func targets(_ scheme: String) -> [(name: String, target: any ResultTarget)] {
  [
    ("r.ingot", IngotResult(.fast)), ("r.gguf", GGUFResult()),
    ("r", SafetensorsResult(shardBytes: 1 << 20, schemeWord: scheme)),
  ]
}

@Suite struct WeightProofTests {
  /// Small models of each way in which weights lie: plain, FP8 blocks, FP4, stacked, latent with keys and values cut apart.
  private static let models = [
    "qwen3_moe", "deepseek_v3-fp8", "deepseek_v4-fp4", "gpt_oss-mxfp4", "gpt_oss", "deepseek_v2",
  ]

  @Test(arguments: Schemes.all.map(\.name))
  func whatIsWrittenIsWhatItsSchemeMakes(_ scheme: String) throws {
    var written = 0
    // All ways to lie for some schemes, some for all.
    let isUsual = ["keep", "bf16", "int8-channel", "fp8-block-e8m0", "q8_0", "mxfp4"].contains(scheme)
    let models = isUsual ? Self.models : ["qwen3_moe", "deepseek_v2"]
    for name in models {
      let source = try openFixture(name)
      for (file, target) in targets(scheme) {
        let folder = TemporaryFolder()
        var options = try options(scheme)
        options.target = target
        do { _ = try convert(source, to: folder.file(file), options) } catch let error as RequestError {
          #expect(error.kind == .unsupported)
          continue
        }
        written += 1
        let found = try proof(source, try Model.open(folder.file(file)))
        #expect(found.faults.map(\.text) == [], "\(name) to \(file)")
        let others = found.weights.filter { ![.exact, .nearest].contains($0.state) }
        #expect(others.map(\.name) == [], "\(name) to \(file)")
      }
    }
    #expect(written >= models.count)
  }

  /// Blocks of 256 columns, which the small models are too narrow for, with and without importances.
  @Test(arguments: Schemes.all.map(\.name))
  func wideRowsAreNearest(_ name: String) throws {
    let scheme = try Schemes.named(name)
    var random = Generator(seed: 3)
    let columns = 512
    // Rows of all sizes; groups far smaller than their row; a row of zeros.
    let values = (0..<24 * columns).map { place -> Float in
      let row = place / columns
      let size: Float = row == 5 ? 0 : row % 3 == 0 && place / 32 % 3 == 0 ? 1e-4 : 0.02 * Float(row + 1)
      return random.normal(size)
    }
    let bytes = values.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
    let weight = try Weight(
      name: "w", shape: [24, columns], encoding: Plain.f32,
      parts: [Part(.values, dtype: .f32, shape: [24, columns], bytes: Bytes(bytes))])
    let importance = ImportanceView(
      groups: 1, columns: columns, values: (0..<columns).map { _ in random.normal(1).magnitude })
    for options in [
      QuantizeOptions(), QuantizeOptions(importance: importance),
      QuantizeOptions(observer: .mse, importance: importance),
    ] {
      let result = try scheme.quantize(weight, options: options).weight
      let found = try WeightJudge(parallel: .serial).judge(
        weight, result, WeightExpectation(isKept: false, recorded: nil, isStrict: true, clippedShare: 0))
      #expect([.exact, .nearest].contains(found.state), "\(found)")
    }
  }

  @Test(
    arguments: ["mse", "percentile:99", "percentile:90"],
    ["int8-channel", "fp8-channel", "fp8-block", "fp8-tensor", "int4-group:32", "nvfp4", "mxfp4"])
  func observersStayWithinTheBound(_ observer: String, _ scheme: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    _ = try convert(
      source, to: folder.file("r.ingot"), try options(scheme, observer: try Observer.named(observer)))
    let found = try proof(source, try Model.open(folder.file("r.ingot")))
    #expect(found.faults.map(\.text) == [])
  }

  @Test(arguments: ["gptq", "awq", "smooth", "rtn"], ["int8-channel", "int4-group:32", "q8_0", "q4_0"])
  func methodsRecordWhatTheyDid(_ name: String, _ scheme: String) throws {
    let source = try openFixture("qwen3_moe")
    for (file, target) in targets(scheme) {
      let folder = TemporaryFolder()
      var method = try MethodOptions(named: name)
      method.distillRounds = name == "rtn" ? 2 : 0
      method.minTokens = 4
      var options = try options(scheme)
      options.target = target
      do {
        _ = try quantize(
          source, to: folder.file(file), calibration: someWindows(source, count: 3, context: 24),
          textPath: fixture("models/tiny-v4/calibration.txt"), choosesObserver: true, method: method, options)
      } catch let error as RequestError {
        #expect(error.kind == .unsupported)
        continue
      }
      let result = try Model.open(folder.file(file))
      let found = try proof(source, result)
      #expect(found.faults.map(\.text) == [], "\(file)")
      if name != "awq" { #expect(found.weights.contains { $0.state == .recorded }, "\(file)") }
      #expect(!found.weights.contains { $0.state == .beyond }, "\(file)")
    }
  }

  @Test func recordsAreReadBackAndBroken() throws {
    var errors = WeightErrors()
    errors.entries["a"] = WeightErrors.Entry(rows: 3, errors: [0, 0x3F80, 0xABCD])
    let again = try WeightErrors(Bytes(errors.bytes), file: "e")
    #expect(again.entries == errors.entries)
    for text in [
      "", "{}", "{\"schema\": \"smelt.errors/1\"}", "{\"schema\": \"smelt.errors/1\", \"weights\": [3]}",
      "{\"schema\": \"smelt.errors/1\", \"weights\": [{\"name\": \"a\", \"rows\": 0, \"errors\": \"\"}]}",
      "{\"schema\": \"smelt.errors/1\", \"weights\": [{\"name\": \"a\", \"rows\": 1, \"errors\": \"xyzt\"}]}",
    ] {
      let error = #expect(throws: FormatError.self) { try WeightErrors(Bytes(Array(text.utf8)), file: "e") }
      #expect(error?.code.description == "STAT_FORMAT")
    }
    // Rounded up, never down.
    #expect(WeightErrors.Entry.value(WeightErrors.Entry.code(1e-4, 1)) >= 0.01)
    #expect(
      WeightErrors.Entry.code(0, 0) == 0
        && WeightErrors.Entry.value(WeightErrors.Entry.code(1, 0)) == .infinity)
  }
}

/// Weights of a directory that are damaged after it was written.
@Suite struct WeightDamageTests {
  /// A tensor of a written directory: the file, and where its bytes lie.
  private struct Place {
    let path: String
    let range: Range<Int>
    let dtype: String

    init(_ folder: String, _ name: String) throws {
      for file in try namesInFolder(folder).sorted() where file.hasSuffix(".safetensors") {
        let source = try SafetensorsFile(path: "\(folder)/\(file)")
        guard let tensor = source.tensors.first(where: { $0.name == name }) else { continue }
        path = "\(folder)/\(file)"
        range = Int(tensor.offset)..<Int(tensor.offset) + tensor.bytes.count
        dtype = "\(tensor.type)"
        return
      }
      throw RequestError(.usage, "no tensor \(name) in \(try namesInFolder(folder))")
    }

    /// Changes the bytes.
    func change(_ body: (inout [UInt8]) -> Void) throws {
      var bytes = try contents(path)
      var own = Array(bytes[range])
      body(&own)
      bytes.replaceSubrange(range, with: own)
      try writeFile(path, bytes, overwrite: true)
    }

    /// Changes the numbers, which are float32 or bfloat16.
    func scale(_ body: (inout [Float]) -> Void) throws {
      let isHalf = dtype == "BF16"
      try change { bytes in
        let size = isHalf ? 2 : 4
        var values = stride(from: 0, to: bytes.count, by: size).map { place -> Float in
          let bits = (0..<size).reduce(UInt32(0)) { $0 | UInt32(bytes[place + $1]) << (8 * $1) }
          return Float(bitPattern: isHalf ? bits << 16 : bits)
        }
        body(&values)
        for (index, value) in values.enumerated() {
          let bits = isHalf ? value.bitPattern >> 16 : value.bitPattern
          for byte in 0..<size { bytes[index * size + byte] = UInt8(truncatingIfNeeded: bits >> (8 * byte)) }
        }
      }
    }
  }

  private static let expert = "model.layers.0.mlp.experts.3.up_proj"

  /// Writes a directory, damages it, and gives what is found.
  private func faults(
    _ scheme: String, method: String? = nil, _ damage: (String) throws -> Void
  ) throws -> [Fault] {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    var options = try options(scheme)
    options.target = SafetensorsResult(schemeWord: scheme)
    let path = folder.file("r")
    if let method {
      var chosen = try MethodOptions(named: method)
      chosen.minTokens = 4
      _ = try quantize(
        source, to: path, calibration: someWindows(source, count: 3, context: 24),
        textPath: fixture("models/tiny-v4/calibration.txt"), choosesObserver: true, method: chosen, options)
    } else {
      _ = try convert(source, to: path, options)
    }
    #expect(try proof(source, try Model.open(path)).faults.isEmpty)
    try damage(path)
    return try proof(source, try Model.open(path)).faults
  }

  private func expectOne(_ faults: [Fault], _ name: String) {
    #expect(faults.map(\.subject) == [name])
    #expect(faults.allSatisfy { $0.kind == .weight && ($0.found ?? 0) > ($0.allowed ?? .infinity) })
  }

  private static let damaged = "blk.0.ffn_up_exps.weight#3"
  private static let schemes = ["int8-channel", "fp8-channel", "int4-group:32"]

  @Test(arguments: schemes, [nil, "gptq"])
  func scalesReversed(_ scheme: String, method: String?) throws {
    if method != nil, scheme == "fp8-channel" { return }
    expectOne(
      try faults(scheme, method: method) { folder in
        try Place(folder, "\(Self.expert).weight_scale").scale { $0.reverse() }
      }, Self.damaged)
  }

  @Test(arguments: ["int8-channel", "fp8-channel"], [nil, "gptq"])
  func scalesTwoPercentLarger(_ scheme: String, method: String?) throws {
    expectOne(
      try faults(scheme, method: method) { folder in
        try Place(folder, "\(Self.expert).weight_scale").scale { $0 = $0.map { $0 * 1.02 } }
      }, Self.damaged)
  }

  @Test(arguments: [nil, "gptq"])
  func nibblesSwapped(_ method: String?) throws {
    expectOne(
      try faults("int4-group:32", method: method) { folder in
        try Place(folder, "\(Self.expert).weight_packed").change { bytes in
          bytes = bytes.map { $0 << 4 | $0 >> 4 }
        }
      }, Self.damaged)
  }

  @Test(arguments: ["int8-channel", "bf16"])
  func aRowOfTheEmbeddingZeroed(_ scheme: String) throws {
    let found = try faults(scheme) { folder in
      let place = try Place(folder, "model.embed_tokens.weight")
      try place.change { bytes in
        let row = 64 * 2
        for index in 100 * row..<101 * row { bytes[index] = 0 }
      }
    }
    expectOne(found, "token_embd.weight")
    #expect(found[0].row == 100 && found[0].rows == 1 && found[0].column != nil)
  }

  @Test(arguments: schemes)
  func anExpertSwappedWithAnother(_ scheme: String) throws {
    let part = scheme == "int4-group:32" ? "weight_packed" : "weight"
    let found = try faults(scheme) { folder in
      let names = [3, 5].map { "model.layers.0.mlp.experts.\($0).up_proj." }
      for part in [part, "weight_scale"] {
        let (a, b) = (try Place(folder, names[0] + part), try Place(folder, names[1] + part))
        var (x, y): ([UInt8], [UInt8]) = ([], [])
        try a.change { x = $0 }
        try b.change { (y, $0) = ($0, x) }
        try a.change { $0 = y }
      }
    }
    #expect(found.map(\.subject) == [Self.damaged, "blk.0.ffn_up_exps.weight#5"])
  }

  @Test(arguments: schemes)
  func aRowSwappedWithAnother(_ scheme: String) throws {
    let part = scheme == "int4-group:32" ? "weight_packed" : "weight"
    let found = try faults(scheme) { folder in
      for part in [part, "weight_scale"] {
        try Place(folder, "\(Self.expert).\(part)").change { bytes in
          let size = bytes.count / 32
          for index in 0..<size { bytes.swapAt(7 * size + index, 9 * size + index) }
        }
      }
    }
    expectOne(found, Self.damaged)
    #expect(found[0].rows == 2 && [7, 9].contains(found[0].row))
  }

  @Test func aKeptNormChangedByOneStep() throws {
    let found = try faults("int8-channel") { folder in
      try Place(folder, "model.layers.0.input_layernorm.weight").change { $0[20] ^= 1 }
    }
    expectOne(found, "blk.0.attn_norm.weight")
    #expect(found[0].problem.contains("kept as it was"))
  }

  /// A result that says nothing of its making: what no rounding and no passing on of errors explains is damage, what
  /// might be a method is named and not judged.
  @Test func resultsOfOthers() throws {
    func state(_ factor: Float, reversed: Bool) throws -> (WeightFindings.State?, faults: Int) {
      let folder = TemporaryFolder()
      let source = try openFixture("qwen3_moe")
      var options = try options("int8-channel")
      options.target = SafetensorsResult(schemeWord: "int8-channel")
      _ = try convert(source, to: folder.file("r"), options)
      removeFile(folder.file("r/README.md"))
      try Place(folder.file("r"), "\(Self.expert).weight_scale").scale {
        $0 = reversed ? $0.reversed() : $0.map { $0 * factor }
      }
      let found = try proof(source, try Model.open(folder.file("r")))
      return (found.weights.first { $0.name == Self.damaged }?.state, found.faults.count)
    }
    #expect(try state(1, reversed: false) == (.nearest, 0))
    #expect(try state(1.02, reversed: false) == (.beyond, 0))
    #expect(try state(1, reversed: true) == (.beyond, 0))
  }

  /// A record is held from both sides: numbers nearer to the source than they were written are not what was written.
  @Test(arguments: [0.97, 0.98, 1.02]) func scalesOfAMethodALittleOff(_ factor: Float) throws {
    let found = try faults("int4-group:32", method: "gptq") { folder in
      try Place(folder, "\(Self.expert).weight_scale").scale { $0 = $0.map { $0 * factor } }
    }
    #expect(found.map(\.subject) == [Self.damaged])
  }

  /// What a method did without saying so is named, and is no damage; a threshold is not passed with it.
  @Test(arguments: ["gptq", "awq"], ["int8-channel", "int4-group:32"])
  func methodsOfOthersAreNotDamage(_ method: String, _ scheme: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    var options = try options(scheme)
    options.target = SafetensorsResult(schemeWord: scheme)
    var chosen = try MethodOptions(named: method)
    chosen.minTokens = 4
    let windows = someWindows(source, count: 3, context: 24)
    _ = try quantize(
      source, to: folder.file("r"), calibration: windows,
      textPath: fixture("models/tiny-v4/calibration.txt"), choosesObserver: true, method: chosen, options)
    for name in ["README.md", "smelt-errors.json"] { removeFile(folder.file("r/\(name)")) }
    let result = try Model.open(folder.file("r"))
    let open = try verify(source: source, result: result, windows, thresholds: Thresholds(), RunOptions())
    #expect(open.verdict == .notJudged && open.weights.contains { $0.state == .beyond }, "\(open.notes)")
    let asked = try verify(
      source: source, result: result, windows, thresholds: Thresholds(maxKL: 1e9), RunOptions())
    #expect(asked.verdict == .fail && asked.criteria.last?.key == "weights[].state")
    #expect(asked.faults.isEmpty)
  }

  /// In an ingot and in a GGUF file the same holds: their own bytes are patched.
  @Test(arguments: ["q8_0", "q4_0", "q5_1", "mxfp4.gguf"])
  func blocksOfAGGUFFile(_ scheme: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    var options = try options(scheme)
    options.target = GGUFResult()
    _ = try convert(source, to: folder.file("r.gguf"), options)
    #expect(try proof(source, try Model.open(folder.file("r.gguf"))).faults.isEmpty)
    var bytes = try contents(folder.file("r.gguf"))
    let tensor = try #require(try GGUFFile(path: folder.file("r.gguf")).tensor("blk.1.ffn_down_exps.weight"))
    let middle = Int(tensor.offset) + tensor.bytes.count / 2
    let block = GGUFBlock(try #require(GGUFBlock.Kind(rawValue: scheme))).bytes
    let start = middle / block * block
    for index in start..<start + 8 * block { bytes[index] = bytes[index + 16 * block] }
    try writeFile(folder.file("r.gguf"), bytes, overwrite: true)
    let found = try proof(source, try Model.open(folder.file("r.gguf"))).faults
    #expect(!found.isEmpty && found.allSatisfy { $0.subject.hasPrefix("blk.1.ffn_down_exps.weight#") })
  }
}
