// Checkpoint to ingot and back to numbers: every scheme, the ledger, exactness, and what must not happen.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

private let checkpoints = ["deepseek_v4", "deepseek_v4-fp4"]

/// What a scheme may cost on a checkpoint: mean KL in nats, on its own expert choices and on the source's. About three times
/// what was measured; in random weights a flipped expert weighs more than all rounding. 0 where every value fits: both
/// checkpoints' values fit BF16 and F32, and FP8 and FP4 codes with scales of powers of two fit FP8 by channel.
private func bounds(_ scheme: String, _ checkpoint: String) -> (mean: Double, forced: Double) {
  switch (scheme, checkpoint) {
  case ("keep", _), ("bf16", _), ("f32", _), ("fp8-channel", "deepseek_v4-fp4"),
    ("fp8-block", "deepseek_v4-fp4"), ("fp8-block-e8m0", "deepseek_v4-fp4"):
    (0, 0)
  case ("f16", _): (1e-12, 1e-12)
  case ("int8-channel", _): (0.1, 0.02)
  case ("int4-group", _), ("int4-zero", _), ("nvfp4", _), ("mxfp4", _): (1, 1)
  default: (0.2, 0.08)
  }
}

@Suite struct ConvertTests {
  @Test(arguments: Schemes.all.filter { !($0 is GGUFScheme) }.map(\.name), checkpoints)
  func everySchemeEndToEnd(scheme: String, checkpoint: String) throws {
    try endToEnd(scheme: scheme, checkpoint: checkpoint)
  }

  /// Of GGUF's block types, which differ in one kernel each, one of ggml's bytes and one that searches.
  @Test(arguments: ["q8_0", "q4_k"])
  func blocksEndToEnd(scheme: String) throws { try endToEnd(scheme: scheme, checkpoint: checkpoints[0]) }

  /// A mixture's name stands where a scheme's does: embeddings and head are quantized, the router is not, and the ledger
  /// says which rule chose, and which type stands in where blocks are too wide.
  @Test func mixturesStandForSchemes() throws {
    let source = try openFixture(checkpoints[0])
    let request = ConversionRequest(
      scheme: "Q4_K_M", recipePath: nil, statisticsPath: nil, observer: nil, exactOnly: false,
      compression: nil, kind: nil, overwrite: false)
    let plan = try Plan(source, request.options(for: source, result: "r.ingot", RunOptions()))
    let schemes = Dictionary(
      plan.weights.map { ($0.stored.spec.role, $0.decision.scheme.name) }, uniquingKeysWith: { a, _ in a })
    #expect(schemes[.embedding] == "q4_k" && schemes[.outputHead] == "q8_0" || schemes[.outputHead] == "q6_k")
    #expect(schemes[.router] == "keep" && schemes[.norm] == "keep" && schemes[.routedGate] == "q4_k")
    let embedding = try #require(plan.ledger.first { $0.weight == "token_embd.weight" })
    #expect(embedding.rule == "q4_k_m: q4_k for embedding")
    let columns = try #require(plan.weights.first { $0.stored.spec.role == .embedding }).stored.spec.shape
      .columns
    if columns % 256 != 0 {
      #expect(
        embedding.note?.hasSuffix("\(columns) columns are not a multiple of 256, as q4_k needs") == true)
    }
  }

  private func endToEnd(scheme: String, checkpoint: String) throws {
    let folder = TemporaryFolder()
    let path = folder.file("result.ingot")
    let source = try openFixture(checkpoint)
    let options = try options(scheme, compression: scheme == "int8-coded" ? .fast : .raw)
    let plan = try Plan(source, options)
    let summary = try convert(source, to: path, options)
    #expect(try names(folder) == ["result.ingot"])
    #expect(summary.byteCount == (try contents(path)).count)

    let result = try Model.open(path)
    _ = try checkModel(result, RunOptions())
    let entries = try #require(try ledger(in: result)["ledger"]?.array)
    try expectComplete(entries, source)
    try expectAsPlanned(entries, plan, result)
    #expect(plan.ledger.map(\.source) == summary.ledger.map(\.source))

    let report = try verify(
      source: source, result: result, try referenceWindows(checkpoint),
      thresholds: Thresholds(maxKL: bounds(scheme, checkpoint).mean), RunOptions())
    #expect(report.passes, "\(scheme) on \(checkpoint): mean KL \(report.kl.mean)")
    #expect(report.kl.forcedRoutingMean <= bounds(scheme, checkpoint).forced)
    // What the ledger says about exactness while writing is what decoding both sides finds afterwards.
    let exact = Dictionary(
      entries.compactMap { entry in entry["weight"]?.string.map { ($0, entry["exact"]?.bool) } },
      uniquingKeysWith: { codes, _ in codes })
    for weight in report.weights {
      #expect(exact[weight.name] == weight.isExact, "\(weight.name): \(weight.maxAbsError)")
    }
  }

  /// Every source tensor stands in the ledger once, with a fate; what was dropped was dropped by the rule for it.
  private func expectComplete(_ entries: [JSON], _ source: Model) throws {
    guard let checkpoint = source.source as? Checkpoint else { return }
    let sources = entries.compactMap { $0["source"]?.string }
    #expect(sources.count == entries.count)
    #expect(sources.sorted() == checkpoint.container.tensors.map(\.name).sorted())
    let fates = entries.compactMap { $0["fate"]?.string.flatMap(LedgerEntry.Fate.init(rawValue:)) }
    #expect(fates.count == entries.count)
    #expect(!entries.contains { $0["fate"]?.string == "dropped" })
    #expect(source.family.weights.contains { $0.isDraft } == (fileName(source.path) != "deepseek_v4"))
    let weights = Set(entries.compactMap { $0["weight"]?.string })
    #expect(weights == Set(source.family.weights.map(\.name.description)))
    // The hash is of the tensor's own bytes.
    for entry in entries where entry["source_xxh64"] != nil {
      let name = try #require(entry["source"]?.string)
      let tensor = try #require(checkpoint.container.tensor(name))
      let digits = String(tensor.bytes.withUnsafeBytes { xxh64($0) }, radix: 16)
      let hash = String(repeating: "0", count: 16 - digits.count) + digits
      #expect(entry["source_xxh64"]?.string == hash, "\(name)")
    }
  }

  /// The plan foretold fates, schemes and sizes.
  private func expectAsPlanned(_ entries: [JSON], _ plan: Plan, _ result: Model) throws {
    let planned = try #require(try JSON.scan(plan.json.text())["ledger"]?.array)
    #expect(planned.count == entries.count)
    for (planned, entry) in zip(planned, entries) {
      for key in ["source", "fate", "rule", "weight", "scheme", "bytes_in", "bytes_out", "note"] {
        #expect(planned[key]?.text() == entry[key]?.text(), "\(entry["source"]?.string ?? ""): \(key)")
      }
    }
    guard let ingot = result.source as? IngotSource else { return }
    for slab in plan.slabs {
      let stored = try #require(ingot.file.entry(slab.name))
      #expect(stored.encodingName == slab.encoding.name, "\(stored.name)")
      #expect(stored.parts.reduce(0) { $0 + $1.frame.contentLength } == slab.byteCount, "\(stored.name)")
    }
    #expect(plan.bytesOut == ingot.file.entries.flatMap(\.parts).reduce(0) { $0 + $1.frame.contentLength })
  }

  @Test(arguments: try namesInFolder(fixture("models")).filter { $0 != "tiny-v4" }, CodecMode.allCases)
  func keepingChangesNoLogit(checkpoint: String, compression: CodecMode) throws {
    let folder = TemporaryFolder()
    let source = try openFixture(checkpoint)
    let windows = try referenceWindows(checkpoint)
    let expected = try allLogits(source, windows)
    let first = folder.file("first.ingot")
    _ = try convert(source, to: first, try options("keep", compression: compression))
    #expect(try allLogits(Model.open(first), windows) == expected)
    // And once more, from ingot to ingot: the weights' bytes, whatever they are stored as.
    let second = folder.file("second.ingot")
    let again = try convert(
      try Model.open(first), to: second,
      try options("keep", compression: compression == .raw ? .fast : .raw))
    #expect(again.ledger.allSatisfy { $0.isKept || $0.fate == .joined })
    #expect(Set(again.ledger.map(\.source)).count == again.ledger.count)
    #expect(try allLogits(Model.open(second), windows) == expected)
  }

  @Test func ingotToIngotEqualsCheckpointToIngot() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("deepseek_v4-fp4")
    let windows = try referenceWindows("deepseek_v4-fp4")
    let (kept, direct, indirect) = (folder.file("a.ingot"), folder.file("b.ingot"), folder.file("c.ingot"))
    _ = try convert(source, to: kept, try options("keep", compression: .fast))
    _ = try convert(source, to: direct, try options("int8-channel", observer: .mse))
    _ = try convert(try Model.open(kept), to: indirect, try options("int8-channel", observer: .mse))
    let (a, b) = (try Model.open(direct), try Model.open(indirect))
    for spec in source.family.weights {
      let (x, y) = (try a.weights.weight(spec.name), try b.weights.weight(spec.name))
      #expect(x.encoding.name == y.encoding.name)
      for (p, q) in zip(x.parts, y.parts) { #expect(p.bytes.array == q.bytes.array, "\(spec.name)") }
    }
    #expect(try allLogits(a, windows) == allLogits(b, windows))
  }

  @Test func fp4ExpertsBecomeFP8WithoutLoss() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("deepseek_v4-fp4")
    let path = folder.file("fp8.ingot")
    let summary = try convert(source, to: path, try options("fp8-channel"))
    let routed = Set(source.family.weights.filter { $0.role.isRouted }.map(\.name.description))
    #expect(routed.count == 5 * 8 * 3)
    for entry in summary.ledger where entry.fate == .converted && routed.contains(entry.weight ?? "") {
      #expect(entry.inexactValues == 0, "\(entry.source)")
    }
    let weights = try compareWeights(source, try Model.open(path))
    for weight in weights where routed.contains(weight.name) {
      #expect(weight.scheme == "f8_e4m3.channel")
      #expect(weight.maxAbsError == 0, "\(weight.name)")
    }
  }

  private func compareWeights(_ source: Model, _ result: Model) throws -> [Report.WeightError] {
    try verify(
      source: source, result: result, Windows([[1, 2, 3]], context: 3), thresholds: Thresholds(), RunOptions()
    ).weights
  }

  /// Weights of several jobs whose rows do not end where jobs end: the bytes are those of one thread and of the scheme
  /// applied to the whole weight at once.
  @Test(arguments: ["int8-channel", "fp8-channel", "f16", "keep"])
  func bigWeightsAreCutWithoutATrace(scheme: String) throws {
    let folder = TemporaryFolder()
    try makeCheckpoint(in: folder.path, experts: 1, expertWidth: 70_001)
    let source = try Model.open(folder.path)
    let (one, three) = (folder.file("one.ingot"), folder.file("three.ingot"))
    _ = try convert(source, to: one, try options(scheme, compression: .fast, threads: 1))
    _ = try convert(source, to: three, try options(scheme, compression: .fast, threads: 3))
    #expect(try contents(one) == contents(three))
    let name = WeightName("blk.0.ffn_down_exps.weight", expert: 0)
    let whole = try Schemes.named(scheme).quantize(try source.weights.weight(name)).weight
    let stored = try Model.open(one).weights.weight(name)
    for part in whole.parts { #expect(stored.part(part.name)?.bytes.array == part.bytes.array) }
  }
}

@Suite struct ConvertRefusalTests {
  @Test func anExistingResultIsRefusedAndReplacedOnRequest() throws {
    let folder = TemporaryFolder()
    let path = folder.file("result.ingot")
    try writeFile(path, Array("precious".utf8), overwrite: false)
    let source = try openFixture("deepseek_v4")
    #expect {
      try convert(source, to: path, try options("keep"))
    } throws: { ($0 as? RequestError)?.kind == .cannotCreate }
    #expect(try contents(path) == Array("precious".utf8))
    let error = #expect(throws: RequestError.self) {
      try convert(source, to: path, try options("keep", overwrite: true))
    }
    #expect(error?.kind == .cannotCreate && error?.problem.contains("not an ingot") == true)
    #expect(try contents(path) == Array("precious".utf8), "--overwrite replaces what Smelt wrote")
    removeFile(path)
    _ = try convert(source, to: path, try options("keep"))
    _ = try convert(source, to: path, try options("int8-channel", overwrite: true))
    #expect(try Model.open(path).containerName == "ingot")
    #expect(try names(folder) == ["result.ingot"])
  }

  @Test func aMissingFolderIsRefused() throws {
    let folder = TemporaryFolder()
    #expect {
      try convert(try openFixture("deepseek_v4"), to: folder.file("none/r.ingot"), try options("keep"))
    } throws: { ($0 as? RequestError)?.kind == .cannotCreate }
  }

  @Test func theSourceIsNeverTheResult() throws {
    let folder = TemporaryFolder()
    let path = folder.file("model.ingot")
    _ = try convert(try openFixture("deepseek_v4"), to: path, try options("keep"))
    let before = try contents(path)
    #expect {
      try convert(try Model.open(path), to: path, try options("bf16", overwrite: true))
    } throws: { ($0 as? FormatError)?.code == .outputAliasesInput }
    #expect(try contents(path) == before)
  }

  @Test(arguments: [1, 2]) func aFailedConversionLeavesNothing(threads: Int) throws {
    let folder = TemporaryFolder()
    try makeCheckpoint(in: folder.path, experts: 2, expertWidth: 32)
    // A NaN in the last weight that is written.
    let file = folder.file("model.safetensors")
    let last = try #require(try Model.open(folder.path).family.weights.last?.spellings[0].tensor)
    let offset = try #require(try SafetensorsFile(path: file).tensor(last)?.offset)
    var bytes = try contents(file)
    (bytes[offset], bytes[offset + 1]) = (0xC0, 0x7F)
    try writeFile(file, bytes, overwrite: true)
    let before = try names(folder)
    for scheme in ["keep", "int8-channel"] {
      #expect {
        try convert(
          try Model.open(folder.path), to: folder.file("r.ingot"), try options(scheme, threads: threads))
      } throws: { error in
        guard let error = error as? FormatError else { return false }
        return error.code == .codeNaN && error.subject == last
      }
      #expect(try names(folder) == before)
    }
  }

  @Test func exactOnlyRefusesRounding() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("deepseek_v4")
    #expect {
      try convert(source, to: folder.file("r.ingot"), try options("int8-channel", exactOnly: true))
    } throws: { ($0 as? RequestError)?.kind == .usage }
    #expect(try names(folder) == [])
    _ = try convert(source, to: folder.file("r.ingot"), try options("f32", exactOnly: true))
  }

  @Test func differentModelsAreNotCompared() throws {
    #expect {
      try verify(
        source: try openFixture("deepseek_v4"), result: try openFixture("deepseek_v4-fp4"),
        Windows([[1, 2]], context: 2), thresholds: Thresholds(), RunOptions())
    } throws: { ($0 as? RequestError)?.kind == .usage }
  }

  /// A result names the statistics it was made with: the same, whether they came from a file or from the run itself.
  @Test func statisticsAreNamedByTheirHash() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let windows = someWindows(source, count: 3, context: 32)
    let text = fixture("models/tiny-v4/calibration.txt")
    let path = folder.file("statistics")
    _ = try calibrate(source, windows, textPath: text, to: path, overwrite: false, RunOptions())
    let hash = SHA256.hex(try MappedFile(path: path).bytes)
    let informed = try options("int8-channel", statistics: try readStatistics(path, for: source))
    _ = try convert(source, to: folder.file("a.ingot"), informed)
    _ = try quantize(
      source, to: folder.file("b.ingot"), calibration: windows, textPath: text, choosesObserver: false,
      try options("int8-channel"))
    for name in ["a.ingot", "b.ingot"] {
      let json = try inspect(try Model.open(folder.file(name))).json(withTensors: false)
      let statistics = try JSON.scan(try #require(json["statistics"]?.string))
      #expect(statistics["sha256"]?.string == hash)
    }
    #expect(try contents(folder.file("a.ingot")) == contents(folder.file("b.ingot")))
  }
}
