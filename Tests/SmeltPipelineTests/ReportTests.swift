// The report: formulas over the tokens, verdicts, and the JSON that Formats/report.md promises.

import SmeltContainers
import SmeltModels
@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

private let checkpoint = "deepseek_v4"

/// A report over made-up measurements.
private func report(_ thresholds: Thresholds = Thresholds(), change: (inout Comparison) -> Void = { _ in })
  throws -> Report
{
  let model = try openFixture(checkpoint)
  var comparison = Comparison(2)
  comparison.sourceLosses = [1, 2, 3]
  comparison.resultLosses = [1, 2, 6]
  comparison.divergences = [0.4, 0.1, 0.2, 0.3]
  comparison.sampleDivergences = [0.4, 0.2]
  comparison.forcedDivergences = [0.1, 0.3]
  comparison.floorDivergences = [0.01, 0.03]
  comparison.sameTop = [true, false, true, true]
  comparison.top5 = [0.8, 0.6, 1, 0.8]
  comparison.layers[1].add([3, 4], [3, 3], count: 2)
  comparison.routing[1] = Comparison.RouterSums(tokens: 4, sameSet: 3, chosen: [4, 3, 1], missed: [0, 1, 0])
  change(&comparison)
  var report = try Report(
    source: model, result: model, windows: Windows([[1, 2, 3, 4]], context: 4), thresholds: thresholds)
  report.fill(comparison)
  return report
}

@Suite struct ReportTests {
  @Test func formulas() throws {
    let report = try report()
    #expect(report.perplexity.source == exp(2.0) && report.perplexity.result == exp(3.0))
    #expect(report.kl.mean == 0.25 && report.kl.median == 0.2 && report.kl.p99 == 0.4 && report.kl.max == 0.4)
    #expect(report.kl.forcedRoutingMean == 0.2 && report.kl.floor == 0.02)
    #expect(report.kl.sampleTokens == 2 && abs(report.kl.sampleMean - 0.3) < 1e-15)
    #expect(
      report.text.contains("the result on the source's expert choices, 2 tokens; 3.00e-01 on its own there"))
    #expect(report.json["kl"]?["sample_tokens"]?.integer == 2)
    #expect(report.top1 == 0.75 && report.top5 == 0.8)
    #expect(report.router.map(\.layer) == [1])
    #expect(report.router[0].setAgreement == 0.75 && report.router[0].meanOverlap == 0.875)
    #expect(report.layers.map(\.relativeError) == [0, 0.2])
    #expect(report.tokens == 4 && report.context == 4)
  }

  @Test func verdicts() throws {
    #expect(try report().verdict == .notJudged)
    #expect(try report().json["verdict"]?.string == "not judged")
    #expect(try report().text.contains("verdict: not judged"))
    #expect(try report(Thresholds(maxKL: 0.25)).verdict == .pass)
    #expect(try !report(Thresholds(maxKL: 0.2499)).passes)
    #expect(try report(Thresholds(minTop1: 0.75)).passes)
    #expect(try !report(Thresholds(minTop1: 0.7501)).passes)
    #expect(try !report(Thresholds(maxKL: 1, minTop1: 0.8)).passes)
    #expect(try report(Thresholds(maxKL: 0.1)).json["verdict"]?.string == "fail")
  }

  /// Every number demanded stands beside what was found, those of a profile too; single ones override it.
  @Test func criteriaStandBesideTheVerdict() throws {
    let report = try report(Thresholds(profile: .good, maxKL: 0.25, maxWeightError: 0.5))
    #expect(
      report.criteria.map(\.key) == [
        "faults", "kl.mean", "kl.p99", "top1_agreement", "router[].set_agreement", "weights[].relative_error",
      ])
    #expect(report.criteria.map(\.isMet) == [true, true, false, false, false, true])
    #expect(report.criteria[1].demanded == 0.25 && report.verdict == .fail)
    for text in [report.text, report.card] {
      #expect(text.contains("0.7500 (limit: at least 0.9450)"))
      #expect(text.contains("good") && text.contains("2.50e-01 (limit: at most 2.50e-01)"))
    }
    let rows = try Markup(report.html).all("tr").map { $0.children.map(\.text) }
    #expect(rows.contains(["top-1", "0.7500", "at least 0.9450", "✗\u{A0}no"]))
    #expect(
      rows.contains(["mean KL", "2.50e-01", "at most 2.50e-01", "✓\u{A0}yes"]) && report.html.contains("good")
    )
    let json = report.json
    #expect(json["thresholds"]?["profile"]?.string == "good")
    #expect(json["criteria"]?.array?.count == 6)
  }

  /// A fault fails whatever is demanded, and every form of the report names it.
  @Test func aFaultFailsWithoutThresholds() throws {
    var report = try report()
    let difference = ModelDifference(
      kind: .configuration, key: "rope_theta", source: "10000.0", result: "20000.0", changesNumbers: true)
    report.differences = [difference]
    report.faults = [Fault(difference)]
    #expect(report.verdict == .fail && !report.passes)
    for text in [report.text, report.html, report.card, report.json.text()] {
      #expect(text.contains("rope_theta") && text.contains("10000") && text.contains("20000"))
    }
    #expect(report.json["verdict"]?.string == "fail")
  }

  @Test func profilesAreOrdered() throws {
    let all = Thresholds.Profile.allCases.map { Thresholds(profile: $0) }
    for (better, worse) in zip(all, all.dropFirst()) {
      #expect(try #require(better.maxKL) < #require(worse.maxKL))
      #expect(try #require(better.maxP99) < #require(worse.maxP99))
      #expect(try #require(better.minTop1) > #require(worse.minTop1))
      #expect(try #require(better.minRouter) > #require(worse.minRouter))
    }
    #expect(throws: RequestError.self) { try Thresholds.Profile.named("god") }
  }

  /// The page's table of profiles is the code's.
  @Test func theDocumentHasTheProfilesNumbers() throws {
    let text = String(decoding: try contents(formats("report.md")), as: UTF8.self)
    for profile in Thresholds.Profile.allCases {
      let own = Thresholds(profile: profile)
      let cells = [own.maxKL, own.maxP99, own.minTop1, own.minRouter].map { "\($0 ?? -1)" }
      #expect(text.contains("| \(profile.rawValue) | \(cells.joined(separator: " | ")) |"))
    }
  }

  @Test func aNaNNeverPasses() throws {
    for thresholds in [
      Thresholds(), Thresholds(maxKL: 1), Thresholds(minTop1: 0), Thresholds(maxKL: .infinity, minTop1: 0),
      Thresholds(profile: .usable),
    ] {
      let report = try report(thresholds) { $0.divergences[2] = .nan }
      #expect(!report.passes)
      let json = try JSON.scan(report.json.text())
      #expect(json["verdict"]?.string == "fail" && json["kl"]?["mean"]?.isNull == true)
    }
  }

  @Test func aModelAgainstItself() throws {
    let model = try openFixture(checkpoint)
    let report = try verify(
      source: model, result: model, try referenceWindows(checkpoint),
      thresholds: Thresholds(maxKL: 0, minTop1: 1),
      RunOptions())
    #expect(report.passes)
    #expect(report.kl.mean == 0 && report.kl.max == 0 && report.kl.forcedRoutingMean == 0)
    // Sums in another order are not the same numbers, or the floor would measure nothing; and they are nearly so.
    #expect(report.kl.floor > 0 && report.kl.floor < 1e-9)
    #expect(report.top1 == 1 && report.top5 == 1)
    #expect(report.perplexity.source == report.perplexity.result)
    #expect(report.exactWeights == model.family.weights.count && report.weights.count == report.exactWeights)
    #expect(report.router.map(\.layer) == [0, 1, 2, 3])
    #expect(report.router.allSatisfy { $0.setAgreement == 1 && $0.meanOverlap == 1 })
    #expect(report.layers.count == 4 && report.layers.allSatisfy { $0.relativeError == 0 })
    #expect(
      try Markup(report.html).allText.contains(
        "The output of every layer has the same numbers on both sides."))
    #expect(
      report.json["source"]?["weights_sha256"]?.string == report.json["result"]?["weights_sha256"]?.string)
  }

  /// Neither threads nor memory change a number.
  @Test func groupsAndThreadsChangeNothing() throws {
    let folder = TemporaryFolder()
    let source = try openFixture(checkpoint)
    let path = folder.file("r.ingot")
    _ = try convert(source, to: path, try options("int8-channel"))
    let result = try Model.open(path)
    let windows = try referenceWindows(checkpoint)
    #expect(
      windows.groups(source.family.dimensions, streams: 4, maxMemory: 1).count == windows.sequences.count)
    let texts = try [(1, 1), (3, 1 << 30)].map { threads, memory in
      var report = try verify(
        source: source, result: result, windows, thresholds: Thresholds(maxKL: 0),
        RunOptions(parallel: Parallel(threads: threads), maxMemory: memory))
      #expect(!report.passes && report.kl.mean > 0 && report.kl.mean < 0.1)
      #expect((report.resources.spilledBytes > 0) == (memory == 1))
      report.resources = Resources()
      report.making.date = ""
      return report.json.text()
    }
    #expect(texts[0] == texts[1])
  }

  @Test func thePageEscapesWhatAFileSays() throws {
    var report = try report()
    report.weights = [
      .init(name: "<script>&\"", scheme: "bf16", relativeError: 0, maxAbsError: 0, cosine: 1)
    ]
    let page = report.html
    #expect(page.contains("&lt;script&gt;&amp;&quot;") && !page.contains("<script"))
    #expect(page.contains("verdict: not judged"))
    for outside in ["http:", "https:", "src=", "href="] { #expect(!page.contains(outside)) }
  }
}

@Suite struct ContractTests {
  /// The object as a reader of stdout gets it.
  private func scanned(_ json: JSON) throws -> JSON { try JSON.scan(json.text(indented: true)) }

  private func expect(_ title: String, _ objects: [JSON]) throws {
    let contract = try Contract(title)
    let objects = try objects.map(scanned)
    for object in objects { #expect(contract.problems(object) == [], "\(title)") }
    #expect(contract.unseen(objects) == [], "report.md promises keys of \(title) that no object has")
  }

  @Test func documentAndCodeAgree() throws {
    let folder = TemporaryFolder()
    let fp4 = try openFixture("deepseek_v4-fp4")
    // The same without its draft block, which the user leaves out.
    let less = try Model.open(fixture("models/deepseek_v4-fp4"), allowDrop: ["mtp.*"])
    let path = folder.file("r.ingot")
    let text = fixture("models/tiny-v4/calibration.txt")
    let windows = Windows([[7, 7, 7, 7, 7, 7, 7, 7]], context: 8, WindowDraw(), files: [text])
    let (learned, converted) = try quantize(
      fp4, to: path, calibration: windows, textPath: text, choosesObserver: true, try options("int8-channel"))
    let ingot = try Model.open(path)
    let verified = try verify(
      source: fp4, result: ingot, windows, thresholds: Thresholds(maxKL: 1), RunOptions())
    let turned = try verify(
      source: ingot, result: fp4, windows, thresholds: Thresholds(minTop1: 0),
      rounding: try ActivationRounding(.fp8, for: fp4), drafts: true, RunOptions())
    var faulty = verified
    let difference = ModelDifference(
      kind: .tokenizer, key: "ids", source: "1", result: "2", changesNumbers: true)
    faulty.differences = [difference]
    faulty.faults = [
      Fault(difference),
      Fault(
        weight: "w", WeightFindings.Row(row: 1, column: 5, found: 2, allowed: 1, count: 3),
        WeightExpectation(isKept: false, recorded: nil, isStrict: true, clippedShare: 0)),
    ]
    let short = try verify(source: less, result: less, windows, thresholds: Thresholds(), RunOptions())
    let texts = ["a", "b"].map { folder.file("\($0).txt") }
    for (place, path) in texts.enumerated() {
      try writeFile(path, [UInt8](repeating: UInt8(97 + place), count: 16), overwrite: false)
    }
    let dense = try openFixture("llama")
    let several = try verify(
      source: dense, result: dense,
      try Windows(each: texts, context: 8, WindowDraw(), model: dense, bytesWithoutTokenizer: true),
      thresholds: Thresholds(), RunOptions())
    let loaded = try engineVariant("llama", "W8A8", in: folder).open(in: folder, "loaded")
    let engine = try verify(
      source: dense, result: loaded, windows, thresholds: Thresholds(),
      engine: try EngineRun(.vllm, for: loaded),
      RunOptions())
    // Folders that Smelt wrote, on both sides.
    let written = folder.file("written")
    var toFolder = try options("keep")
    toFolder.target = SafetensorsResult()
    _ = try convert(fp4, to: written, toFolder)
    let copy = try Model.open(written)
    let folders = try verify(source: copy, result: copy, windows, thresholds: Thresholds(), RunOptions())
    try expect(
      "verify",
      [verified.json, turned.json, faulty.json, short.json, engine.json, folders.json, several.json])
    let pairs = try [turned, folders, short].enumerated().map { number, report in
      let paths = ["a", "b"].map { folder.file("\($0)\(number).json") }
      for path in paths { try writeFile(path, Array(report.json.text().utf8), overwrite: false) }
      return try ReportComparison(paths).json
    }
    try expect("compare", pairs)
    try expect(
      "check --for",
      [
        try checkEngine(loaded, for: .sglang, shards: 3).json, try checkEngine(fp4, for: .mlx).json,
        try checkEngine(dense, for: .ollama).json,
      ])
    try expect("ledger.json", [try ledger(in: ingot)])
    let statistics = folder.file("s")
    let missed = try calibrate(
      less, windows, textPath: text, to: statistics, overwrite: false, RunOptions())
    let informed = try options("int8-channel", statistics: try readStatistics(statistics, for: fp4))
    let overlaid = try Plan(Model.open(fixture("reports/ix_overlay")), try options("keep"))
    let shared = try Plan(fp4, informed)
    let units = try informed.unitWork(folder.file("u.ingot"), shared, fp4).units
    let forecast = try Forecast(
      fp4, shared, to: folder.file("u.ingot"), calibration: nil, budget: nil, informed)
    try expect(
      "plan",
      [
        shared.json(units, nil).adding("forecast", forecast.json), try Plan(less, informed).json,
        overlaid.json,
      ])
    var options = try options("keep")
    let again = folder.file("again.ingot")
    _ = try convert(ingot, to: again, options)
    options.target = GGUFResult()
    try expect(
      "convert", [converted.json, try convert(fp4, to: folder.file("a.gguf"), options).json])
    var (noted, evaluated) = (learned, try evaluate(less, windows, RunOptions()))
    (noted.warnings, evaluated.warnings) = (["one"], ["one"])
    evaluated.integerWeights = 3
    try expect("calibrate", [learned.json, noted.json, missed.json])
    try expect("evaluate", [evaluated.json])
    try expect("inspect --layer --expert", [try expertPlace(path, layer: 1, expert: 2).json])
    try expect("formats", [knownFormats().json])
    try expect(
      "bench kernels",
      [
        benchReport([
          BenchRow(name: "a", value: 1, unit: "GB/s", share: 0.5),
          BenchRow(name: "b", value: 2, unit: "GB/s", share: nil),
        ])
      ])
    var inspected = try inspect(fp4)
    inspected.warnings = ["one"]
    let unsealed = try inspect(ingot).json(withTensors: false)
    #expect(unsealed["report"] == nil)
    try verified.seal(ingot)
    try expect(
      "inspect",
      [
        inspected.json(withTensors: true), unsealed, try inspect(less).json(withTensors: false),
        try inspect(try Model.open(path)).json(withTensors: false),
        try inspect(try Model.open(again)).json(withTensors: false),
      ])
    let damaged = try damagedCopy(of: again, in: folder)
    try expect(
      "check", [try checkModel(less, RunOptions()).json, try checkModel(damaged, RunOptions()).json])
  }

  /// An ingot with a bit of an expert turned.
  private func damagedCopy(of path: String, in folder: TemporaryFolder) throws -> Model {
    var bytes = try MappedFile(path: path).bytes.array
    let range = try #require(IngotFile(path: path).range(layer: 1, expert: 2))
    bytes[range.offset] ^= 1
    let copy = folder.file("damaged.ingot")
    try writeFile(copy, bytes, overwrite: false)
    return try Model.open(copy)
  }

  /// The keys that were promised before the document was: none may go.
  @Test func keysPromisedFromTheStart() throws {
    let promised = [
      "verify": [
        "schema", "source", "result", "tokens", "context", "perplexity", "kl", "top1_agreement",
        "top5_agreement",
        "router", "layers", "weights", "resources", "thresholds", "verdict",
      ],
      "evaluate": [
        "perplexity", "mean_nll", "predicted_tokens", "windows", "context", "seconds", "tokens_per_second",
        "peak_memory_bytes",
      ],
      "inspect": [
        "container", "family", "dialect", "files", "bytes", "parameters", "active_parameters", "layers",
        "experts",
        "tensors",
      ],
      "plan": ["ledger", "bytes_in", "bytes_out", "peak_memory_bytes", "dropped", "unknown"],
    ]
    for (title, keys) in promised {
      let types = try Contract(title).types
      for key in keys {
        #expect(
          types.keys.contains { $0 == key || $0.hasPrefix("\(key).") || $0.hasPrefix("\(key)[]") },
          "\(title): \(key)")
      }
    }
  }

  @Test func planCountsItsLedger() throws {
    let plan = try Plan(try openFixture("deepseek_v4-fp4"), try options("fp8-channel"))
    let json = try scanned(plan.json)
    let ledger = try #require(json["ledger"]?.array)
    #expect(json["bytes_in"]?.integer == ledger.reduce(0) { $0 + ($1["bytes_in"]?.integer ?? 0) })
    #expect(json["bytes_out"]?.integer == ledger.reduce(0) { $0 + ($1["bytes_out"]?.integer ?? 0) })
    #expect(json["dropped"]?.integer == ledger.count { $0["fate"]?.string == "dropped" })
    #expect(json["unknown"]?.integer == 0)
  }

  @Test func inspectCountsParameters() throws {
    let inspection = try inspect(try openFixture(checkpoint))
    // 8 experts of 3 · 32 · 64 numbers in each of 4 layers, 2 of them met; the embedding is met in one row of 256.
    let routed = 4 * 8 * 3 * 32 * 64
    #expect(
      inspection.parameters - inspection.activeParameters == routed - routed / 4 + 255 * 64)
    let tables = 2 * 256 * 2  // two layers choose experts by token id
    let elements = inspection.tensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    #expect(inspection.parameters == elements - tables)
    #expect(
      inspection.encodings.reduce(0) { $0 + $1.bytes } == inspection.tensors.reduce(0) { $0 + $1.bytes })
  }
}
