// Experts that a calibration text starves: what each policy gives them, and that none of it depends on memory or threads.

import SmeltModels
@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct StarvationTests {
  private let text = fixture("models/tiny-v4/calibration.txt")

  /// One token again and again: most experts see nothing.
  private let repeated = Windows(
    [[Int](repeating: 7, count: 64), [Int](repeating: 7, count: 40)], context: 64)

  private func statistics(
    _ model: Model, _ windows: Windows, _ policy: CalibrationPolicy, _ options: RunOptions = RunOptions(),
    in folder: TemporaryFolder, name: String = "s"
  ) throws -> (statistics: Statistics, summary: CalibrationSummary) {
    let path = folder.file(name)
    let summary = try calibrate(
      model, windows, textPath: text, to: path, overwrite: true, policy: policy, options)
    return (try readStatistics(path, for: model), summary)
  }

  /// The spilled run writes the same bytes, for every policy that looks at tokens.
  @Test(
    arguments: ["deepseek_v4", "deepseek_v3", "gpt_oss", "qwen2_moe", "qwen3_next"],
    [CalibrationPolicy.Kind.topUp, .peerMax])
  func spillingChangesNothing(name: String, kind: CalibrationPolicy.Kind) throws {
    let folder = TemporaryFolder()
    let model = try openFixture(name)
    var generator = Generator(seed: 5)
    let vocabulary = model.family.dimensions.vocabulary
    let sequences = (0..<7).map { length in
      (0..<20 + length).map { _ in Int(generator.next() % UInt64(vocabulary)) }
    }
    let windows = Windows(
      sequences, context: 32, WindowDraw(samples: 3, seed: 1, limit: 140), files: [text])
    let runs = try [(1, 1), (3, 1), (2, 1 << 30)].enumerated().map { index, run in
      let (threads, memory) = run
      let made = try statistics(
        model, windows, CalibrationPolicy(kind, minTokens: 24),
        RunOptions(parallel: Parallel(threads: threads), maxMemory: memory), in: folder, name: "s\(index)")
      return (bytes: try contents(folder.file("s\(index)")), summary: made.summary)
    }
    #expect(runs[0].bytes == runs[2].bytes)
    #expect(runs[1].bytes == runs[2].bytes)
    let dimensions = model.family.dimensions
    // The residual streams, and the router's inputs where replay may need them.
    let values = runs[0].summary.tokens * dimensions.hidden
    let spilled = runs[0].summary.spilledBytes
    #expect(spilled >= values * dimensions.streams * 4 && spilled <= values * (dimensions.streams + 1) * 4)
    #expect((spilled > values * dimensions.streams * 4) == (kind == .topUp))
    #expect(runs[2].summary.spilledBytes == 0)
    #expect(try names(folder) == ["s0", "s1", "s2"])
  }

  /// Every starved expert ends with as many tokens as there are to have, none of them its own, and finite numbers.
  @Test func replayGivesRealActivations() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let (statistics, summary) = try statistics(
      model, repeated, CalibrationPolicy(.topUp, minTokens: 32), in: folder)
    #expect(summary.starvedExperts > 0 && summary.coverage.neverReached > 0)
    for sources in summary.sources {
      #expect(try statistics.expertSources(layer: sources.layer) == sources)
      let routed = try #require(try statistics.expertTokens(layer: sources.layer))
      for (expert, source) in sources.experts.enumerated() {
        #expect(source.own == routed.counts[expert] && source.toppedUp == 0)
        #expect(source.own + source.replayed >= 32)
        #expect(source.kind == (source.own >= 32 ? .own : .replayed))
        for part in ["gate", "up", "down"] {
          let name = WeightName("blk.\(sources.layer).ffn_\(part)_exps.weight", expert: expert)
          let entry = try #require(try statistics.entry(name))
          #expect(entry.counts == [source.own + source.replayed])
          #expect(entry.meanSquare.contains { $0 > 0 } && entry.meanSquare.allSatisfy { $0.isFinite })
          #expect(try statistics.importance(name) != nil)
        }
      }
    }
  }

  @Test(arguments: [false, true]) func nearestTokensAreThoseWithTheLargestShares(spills: Bool) throws {
    let folder = TemporaryFolder()
    let scratch = spills ? try ScratchFile(in: folder.path) : nil
    #expect(try names(folder) == [])
    var nearest = NearestTokens(experts: 3, wanted: 2, scratch: scratch)
    // Expert 0 takes every token but the fourth; expert 1 the fourth; shares of expert 2 are 1/3, 1/2, 1/3, more, 1/3.
    let logits: [Float] = [0, 0, 0, 0, -90, 0, 1, 1, 1, 0, 0, 1, 2, 2, 2]
    let inputs = Matrix(rows: 5, columns: 1, values: [10, 11, 12, 13, 14])
    let routing = Routing(perToken: 1, experts: [0, 0, 0, 1, 0], weights: [1, 1, 1, 1, 1])
    for range in spills ? [0..<2, 2..<5] : [0..<5] {
      try nearest.add(
        Routing(
          perToken: 1, experts: Array(routing.experts[range]),
          weights: [Float](repeating: 1, count: range.count)),
        (inputs[range], Matrix(rows: 5, columns: 3, values: logits)[range]), first: range.lowerBound)
    }
    #expect(try nearest.replay(0) == nil)
    #expect(try nearest.replay(1)?.values == [10])  // one of its own, and the first of equals
    #expect(try nearest.replay(2)?.values == [11, 13])
  }

  @Test func policiesSayWhatTheyGave() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let alone = try statistics(model, repeated, CalibrationPolicy(.weightOnly), in: folder, name: "a")
    let peers = try statistics(model, repeated, CalibrationPolicy(.peerMax), in: folder, name: "p")
    let recipe = Recipe(try Schemes.named("int8-channel"), observer: .mse)
    var seen = Set<String>()
    for (a, p) in zip(alone.summary.sources, peers.summary.sources) {
      for expert in a.experts.indices where a.experts[expert].kind != .own {
        #expect(a.experts[expert].kind == .weightsAlone && p.experts[expert].kind == .peers)
        let spec = try #require(
          model.family.weights.first {
            $0.name.expert == expert && $0.layer == a.layer && $0.role == .routedUp
          })
        let decided = try recipe.decide(spec, source: Plain.bf16, statistics: alone.statistics)
        #expect(decided.options.importance == nil)
        #expect(decided.note?.hasPrefix("weights alone: ") == true)
        #expect(
          try recipe.decide(spec, source: Plain.bf16, statistics: peers.statistics).note?.hasPrefix(
            "weights alone, activation range of its peers: ") == true)
        seen.insert(spec.name.description)
        // The range of peers is the largest of all experts' own.
        let all = try a.experts.indices.map {
          try alone.statistics.entry(WeightName(spec.name.base, expert: $0))?.absmax ?? []
        }
        let range = try #require(try peers.statistics.entry(spec.name)?.absmax)
        for column in range.indices { #expect(range[column] == all.map { $0[column] }.max()) }
      }
    }
    #expect(seen.count == alone.summary.starvedExperts)
  }

  @Test func refusalNamesEveryExpert() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let error = try #require(throws: FormatError.self) {
      try statistics(model, repeated, CalibrationPolicy(.refuse, minTokens: 1), in: folder)
    }
    #expect(error.code == .starvedExperts && error.exitStatus == 2 && error.file == text)
    #expect(error.problem.contains("experts got fewer than 1 tokens: layer 0: "), "\(error)")
    #expect(try names(folder) == [])
    #expect(Starved.ranges([0, 1, 2, 4, 6, 7]) == "0–2, 4, 6, 7")
  }

  /// More of the text is run where it helps, and no window that does not.
  @Test func windowsAreAddedForStarvedExperts() throws {
    let folder = TemporaryFolder()
    let model = try openFixture("deepseek_v4")
    let windows = Windows(
      [[Int](repeating: 7, count: 48), Array(0..<48), [Int](repeating: 7, count: 48), Array(100..<148)],
      context: 48, WindowDraw(samples: 1, seed: 0, limit: 192), files: [text])
    #expect(windows.sequences.count == 1 && windows.pool.count == 3)
    let (statistics, summary) = try statistics(
      model, windows, CalibrationPolicy(.topUp, minTokens: 8), in: folder)
    #expect(summary.toppedUpWindows > 0 && summary.windows == 1 + summary.toppedUpWindows)
    #expect(summary.sources.contains { $0.experts.contains { $0.kind == .toppedUp && $0.toppedUp > 0 } })
    #expect(
      statistics.notes.contains { $0.key == "topped_up_windows" && $0.value == "\(summary.toppedUpWindows)" })
    var choice = TopUp(windows: 3)
    choice.add([[0, 9], [4, 0], [0, 3], [5, 0]], drawn: 1, layer: 0, minTokens: 6)
    // The larger first, the rest of the need from the other, the useless one never.
    #expect(choice.choice() == [0, 2])
  }

  @Test func theReportShowsThem() throws {
    let folder = TemporaryFolder()
    let (_, summary) = try statistics(
      try openFixture("deepseek_v4"), repeated, CalibrationPolicy(.topUp), in: folder)
    let cells = summary.heatMap.split(separator: "<title>").count - 1
    #expect(cells == summary.coverage.experts)
    #expect(summary.heatMap.hasPrefix("<svg ") && summary.heatMap.hasSuffix("</svg>\n"))
    #expect(summary.page.contains("Starved experts and what they got") && summary.page.contains("<svg "))
  }

  /// A page of tens of thousands of experts is within a megabyte, however their tokens are spread, and no expert is missing.
  @Test func aLargeReportStaysSmall() throws {
    let folder = TemporaryFolder()
    var (_, summary) = try statistics(
      try openFixture("deepseek_v4"), repeated, CalibrationPolicy(.topUp, minTokens: 8), in: folder)
    let (layers, experts) = (175, 384)
    var random = SplitMix64(seed: 1)
    summary.expertTokens = (0..<layers).map { layer in
      // Every second expert is starved, the others have one to a million tokens.
      ExpertTokens(
        layer: layer, counts: (0..<experts).map { $0 % 2 == 0 ? random.below(8) : 8 << random.below(17) })
    }
    summary.sources = summary.expertTokens.map { layer in
      ExpertSources(
        layer: layer.layer,
        experts: layer.counts.map { ExpertSource(own: $0, kind: $0 < 8 ? .weightsAlone : .own) })
    }
    let page = summary.page
    #expect(page.utf8.count < 1_000_000, "\(page.utf8.count)")
    #expect(page.contains("And \(grouped(32_600)) more"), "\(page.suffix(300))")
    let document = try Markup(summary.heatMap)
    let rows = document.all("g").filter { $0.children.first?.name == "title" }
    #expect(rows.count == layers)
    for (row, layer) in zip(rows, summary.expertTokens) {
      // Runs of the shades: together every cell once, and the marks the starved ones.
      var shaded: [Int] = []
      var marked: [Int] = []
      for path in row.all("path") {
        var place = 0
        var cells: [Int] = []
        for run in (path.attributes["d"] ?? "").split(whereSeparator: { "Mm".contains($0) }) {
          let numbers = run.split { " h".contains($0) }.compactMap { Int($0) }
          place += numbers[0]
          cells += Array(place..<place + numbers[2])
          place += numbers[2]
        }
        if path.attributes["stroke-width"] == nil { shaded += cells } else { marked += cells }
      }
      #expect(shaded.sorted() == Array(0..<experts))
      #expect(marked == layer.counts.indices.filter { layer.counts[$0] < 8 })
    }
  }
}
