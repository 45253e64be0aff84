// Pages read back: well-formed, complete, safe, bounded, and their pictures say what the report says.

import SmeltContainers
import SmeltModels
@testable import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// A report over made-up measurements: two windows of four tokens.
private func report(_ thresholds: Thresholds = Thresholds(), change: (inout Report) -> Void = { _ in }) throws
  -> Report
{
  let model = try openFixture("deepseek_v4")
  var comparison = Comparison(2)
  comparison.sourceLosses = [1, 2, 3, 1, 2, 4]
  comparison.resultLosses = [1, 2, 6, 1, 3, 4]
  comparison.divergences = [0.4, 0.1, 0.2, 0.3, 0.01, 0.02, 0.03, 0]
  comparison.sampleDivergences = [0.4, 0.2]
  comparison.forcedDivergences = [0.1, 0.3]
  comparison.floorDivergences = [1e-9, 3e-9]
  comparison.sameTop = [true, true, false, true, true, true, false, true]
  comparison.top5 = [0.8, 1, 0.4, 0.8, 0.8, 1, 0.6, 1]
  comparison.layers[1].add([3, 4], [3, 3], count: 2)
  var sums = Comparison.RouterSums()
  sums.add(
    Routing(perToken: 2, experts: [0, 1, 0, 3], weights: [1, 1, 1, 1]),
    Routing(perToken: 2, experts: [0, 1, 2, 3], weights: [1, 1, 1, 1]))
  comparison.routing[1] = sums
  var report = try Report(
    source: model, result: model, windows: Windows([[1, 2, 3, 4], [5, 6, 7, 8]], context: 4),
    thresholds: thresholds)
  report.fill(comparison)
  change(&report)
  return report
}

/// Weights of made-up errors: three matrices of each expert.
private func weights(layers: Int, experts: Int) -> [Report.WeightError] {
  (0..<layers).flatMap { layer in
    (0..<experts).flatMap { expert in
      zip(["gate", "up", "down"], [Role.routedGate, .routedUp, .routedDown]).map { part, role in
        let error = 0.01 + 0.0001 * Double((layer * 31 + expert * 17) % 97)
        return Report.WeightError(
          name: "blk.\(layer).ffn_\(part)_exps.weight#\(expert)", scheme: "int8.channel",
          relativeError: error,
          maxAbsError: error / 3, cosine: 1 - error * error, state: .nearest, role: role, layer: layer,
          elements: 1000, sourceBytes: 2000, resultBytes: 1010, squares: error * error * 50, energy: 50)
      }
    }
  }
}

@Suite struct PageTests {
  @Test func thePageSaysWhatTheReportSays() throws {
    let report = try report(Thresholds(profile: .good)) { $0.weights = weights(layers: 2, experts: 4) }
    let page = try Markup(report.html)
    let text = page.allText
    #expect(page.all("p").contains { $0.attributes["class"] == "verdict fail" && $0.text == "Fail" })
    #expect(
      text.contains("at least 0.9450") && text.contains(scientific(report.kl.mean))
        && text.contains("profile good"))
    let interval = try #require(report.intervals)
    for value in [report.kl.median, report.kl.p99, report.kl.floor, interval.kl.low, interval.kl.high] {
      #expect(text.contains(scientific(value)), "\(value)")
    }
    for value in [report.perplexity.source, report.perplexity.result, report.top1, report.top5] {
      #expect(text.contains(fixed(value, 4)), "\(value)")
    }
    // Curve, perplexity, layer error, router, three pictures of experts, error and size by role.
    let titles = page.all("svg").compactMap { $0.children.first { $0.name == "title" }?.text }
    #expect(titles.count == 9 && Set(titles).count == 9, "\(titles)")
    for picture in page.all("svg") {
      #expect(
        picture.attributes["viewBox"] != nil
          && picture.children.contains { $0.name == "desc" && !$0.text.isEmpty })
    }
    for figure in page.all("figure") { #expect(figure.all("figcaption").allSatisfy { $0.text.count > 60 }) }
    #expect(page.all("figure").count == 9)
  }

  /// A page is read without a network, without scripts, on dark screens, phones and paper.
  @Test func thePageStandsAlone() throws {
    let html = try report().html
    for outside in ["<script", "http:", "https:", "src=", "href=", "@import", "url("] {
      #expect(!html.contains(outside))
    }
    for style in ["prefers-color-scheme: dark", "max-width: 600px", "@media print", "width=device-width"] {
      #expect(html.contains(style))
    }
  }

  /// A page is published: it names models, and not where they lay.
  @Test func foldersStayPrivate() throws {
    let html = try report { $0.weights = weights(layers: 1, experts: 2) }.html
    let path = fixture("models/deepseek_v4")
    #expect(html.contains("deepseek_v4") && !html.contains(path) && !html.contains("models/deepseek_v4"))
    #expect(publicName("https://u:p@host/m@2/?token=secret#x") == "https://host/m@2/")
    #expect(publicName("hf://org/name@v1") == "hf://org/name@v1" && publicName("/home/me/m/") == "m")
  }

  @Test func nothingPassesUnescaped() throws {
    let nasty = "<script>alert(1)</script>&\"'\u{202E}"
    let report = try report {
      $0.weights = weights(layers: 1, experts: 2)
      $0.weights[0].name = nasty
      $0.weights[1].scheme = nasty
      $0.weights[0].relativeError = 9
      $0.weights[1].relativeError = 8
      $0.making.texts = [nasty]
      $0.making.recipe = ["default": JSON(nasty)]
      $0.notRun = nasty
      let difference = ModelDifference(
        kind: .configuration, key: nasty, source: nasty, result: nasty, changesNumbers: true)
      $0.differences = [difference]
      $0.faults = [Fault(difference)]
      let guess = Report.LargestToken.Guess(id: 1, text: nasty, probability: 0.5)
      $0.largest = [
        Report.LargestToken(
          window: 0, position: 1, divergence: 1, ids: [1, 2], text: nasty + "\n" + nasty,
          next: (guess, guess),
          source: [guess], result: [guess])
      ]
    }
    let page = try Markup(report.html)
    #expect(page.all("script").isEmpty && !report.html.contains("\u{202E}"))
    #expect(page.allText.contains("<script>alert(1)</script>&\"'\\u{202e}"))
    #expect(page.all("td").contains { $0.text.hasPrefix("<script>") })
  }

  /// 58 layers of 384 experts: 66,816 weights.
  @Test func aLargeModelsPageIsBounded() throws {
    let many = weights(layers: 58, experts: 384)
    let report = try report {
      $0.weights = many
      let chosen = (0..<384).map { $0 * 7 % 50 }
      $0.router = (0..<58).map { layer in
        var sums = Comparison.RouterSums(tokens: 100, sameSet: 90)
        (sums.chosen, sums.missed) = (chosen, chosen.map { ($0 * layer) % ($0 + 1) })
        return Report.RouterAgreement(layer: layer, sums, experts: 384)
      }
      $0.faults = (0..<5000).map { _ in Fault(numbers: "x") }
    }
    let html = report.html
    #expect(html.utf8.count < 1_000_000, "\(html.utf8.count) bytes")
    let page = try Markup(html)
    let left = many.count - Report.PageBounds.weights - Report.PageBounds.moreWeights
    #expect(page.allText.contains("\(grouped(left)) more are left out here; --json has them all."))
    // Every expert of every layer is in the picture.
    let picture = try #require(
      page.all("svg").first { $0.children.first?.text == "Weight error by layer and expert" })
    let rows = picture.children.filter { $0.attributes["class"] == "cells" }
    #expect(rows.count == 58)
    for row in rows {
      let runs = row.all("path").flatMap { ($0.attributes["d"] ?? "").split(separator: "M") }
      #expect(runs.reduce(0) { $0 + (Int($1.split(separator: "h").last ?? "") ?? 0) } == 384)
    }
    // The cells that stand out have place and value beside each picture.
    let tables = page.all("details").filter { $0.all("th").map(\.text).starts(with: ["layer", "expert"]) }
    #expect(tables.map { $0.all("tbody").first?.all("tr").count } == [20, 20, 20])
    #expect(
      tables.map { $0.all("th").map(\.text)[2...] } == [
        ["relative error"], ["tokens"], ["tokens sent elsewhere", "its tokens"],
      ])
    for (table, isLargest) in zip(tables, [true, false, true]) {
      for row in table.all("tbody").flatMap({ $0.all("tr") }) {
        let cells = row.all("td").map(\.text)
        let (layer, expert) = (try #require(Int(cells[0])), try #require(Int(cells[1])))
        let chosen = expert * 7 % 50
        let value: String =
          switch cells.count {
          case 4: percent(Double((chosen * layer) % (chosen + 1)) / Double(chosen), 1)
          default: isLargest ? scientific(0.01 + 0.0001 * 96) : "1"
          }
        #expect(cells[2] == value && (cells.count < 4 || cells[3] == "\(chosen)"), "\(cells)")
      }
    }
  }

  /// In a small picture each cell says its place and number.
  @Test func everyCellOfASmallPictureIsTold() throws {
    let many = weights(layers: 3, experts: 5)
    let page = try Markup(try report { $0.weights = many }.html)
    let picture = try #require(
      page.all("svg").first { $0.children.first?.text == "Weight error by layer and expert" })
    let told = picture.all("path").compactMap { $0.all("title").first?.text }
    let expected = (0..<3).flatMap { layer in
      (0..<5).map { expert in
        let error = 0.01 + 0.0001 * Double((layer * 31 + expert * 17) % 97)
        return "layer \(layer), expert \(expert): \(scientific(error))"
      }
    }
    #expect(told == expected)
    let table = try #require(
      page.all("details").first { $0.allText.contains("Which experts have the largest errors") })
    let largest = try #require(table.all("tbody").first?.all("tr").first?.all("td").map(\.text))
    let worst = try #require(
      (0..<15).max { (a, b) in ((a / 5 * 31 + a % 5 * 17) % 97) < ((b / 5 * 31 + b % 5 * 17) % 97) })
    #expect(largest[..<2] == ["\(worst / 5)", "\(worst % 5)"])
  }

  @Test func intervalsHoldTheirFigures() throws {
    let report = try report()
    let intervals = try #require(report.intervals)
    // Two windows: a draw takes one of them twice, or both.
    #expect(abs(intervals.kl.low - 0.015) < 1e-12 && abs(intervals.kl.high - 0.25) < 1e-12)
    #expect(intervals.windows == 2 && intervals.source.low <= report.perplexity.source)
    #expect(intervals.result.high >= report.perplexity.result && intervals.ratio.high >= 1)
    var comparison = Comparison(1)
    (comparison.divergences, comparison.sourceLosses, comparison.resultLosses) = ([1, 2], [1], [2])
    #expect(Report.Intervals(comparison.sums([2])) == nil, "one window tells nothing of others")
    (comparison.divergences, comparison.sourceLosses) = ([1, 2, 1, .nan], [1, 1])
    comparison.resultLosses = [2, 2]
    #expect(Report.Intervals(comparison.sums([2, 2])) == nil, "NaN is no interval")
    comparison.divergences = [1, 2, 2, 1]
    let equal = try #require(Report.Intervals(comparison.sums([2, 2])))
    #expect(equal.kl == Report.Interval(low: 1.5, high: 1.5))
    #expect(abs(equal.ratio.low - 2.718_281_828_459_045) < 1e-12 && equal.ratio.low == equal.ratio.high)
  }

  @Test func quantilesAscendToTheLargest() throws {
    let report = try report()
    #expect(report.quantiles.first?.value == 0 && report.quantiles.last?.value == 0.4)
    #expect(
      zip(report.quantiles, report.quantiles.dropFirst()).allSatisfy {
        $0.value <= $1.value && $0.share < $1.share
      })
  }

  /// The walk over ascending ids finds what sets find.
  @Test func routersAreComparedAsSets() {
    var random = SplitMix64(seed: 5)
    var sums = Comparison.RouterSums()
    var (same, overlap, missed) = (0, 0.0, [Int](repeating: 0, count: 9))
    for _ in 0..<200 {
      let pick = { () -> [Int32] in Array((0..<9).shuffled(using: &random).prefix(3)).sorted().map(Int32.init)
      }
      let (a, b) = (pick(), pick())
      sums.add(
        Routing(perToken: 3, experts: a, weights: [1, 1, 1]),
        Routing(perToken: 3, experts: b, weights: [1, 1, 1]))
      same += Set(a) == Set(b) ? 1 : 0
      overlap += Double(Set(a).intersection(b).count) / 3
      for expert in Set(a).subtracting(b) { missed[Int(expert)] += 1 }
    }
    #expect(sums.tokens == 200 && sums.sameSet == same && sums.missed == missed)
    let agreement = Report.RouterAgreement(layer: 0, sums, experts: 9)
    #expect(abs(agreement.meanOverlap - overlap / 200) < 1e-12)
    #expect(sums.chosen.reduce(0, +) == 600 && agreement.chosen == sums.chosen)
  }

  @Test func theLargestTokensAreFoundWhateverTheChunks() throws {
    var random = SplitMix64(seed: 1)
    let (tokens, vocabulary) = (60, 7)
    func logits() -> Matrix {
      Matrix(
        rows: tokens, columns: vocabulary,
        values: (0..<tokens * vocabulary).map { _ in Float(random.below(1000)) / 200 })
    }
    let (a, b) = (logits(), logits())
    let sequences = (0..<6).map { _ in (0..<10).map { _ in random.below(vocabulary) } }
    let batch = TokenBatch(sequences)
    let all = Metrics.agreements(a, b, Parallel(threads: 1))
    func found(_ size: Int) -> [Report.LargestToken] {
      var largest = LargestTokens()
      for start in stride(from: 0, to: tokens, by: size) {
        let range = start..<min(tokens, start + size)
        largest.add(Array(all[range]), a[range], b[range], first: start, range, batch)
      }
      return largest.located(sequences, decode: nil)
    }
    let order = all.indices.sorted { (-all[$0].divergence, $0) < (-all[$1].divergence, $1) }
    for size in [1, 7, 60] {
      let tokens = found(size)
      #expect(tokens.map { $0.window * 10 + $0.position } == Array(order.prefix(LargestTokens.most)))
      for token in tokens {
        #expect(token.ids == Array(sequences[token.window][...token.position]))
        #expect(
          token.next?.source.id == (token.position == 9 ? nil : sequences[token.window][token.position + 1]))
        #expect(token.source.count == 3 && token.source[0].probability >= token.source[1].probability)
        let row = Array(
          a.values[
            (token.window * 10 + token.position) * vocabulary..<(token.window * 10 + token.position + 1)
              * vocabulary])
        let sum = row.reduce(0.0) { $0 + exponential(Double($1)) }
        #expect(abs(token.source[0].probability - exponential(Double(row.max() ?? 0)) / sum) < 1e-9)
      }
    }
  }

  /// Numbers that are hardly any, and sizes at the end of what a number can be: no axis traps on them.
  @Test func numbersAtTheirEndsTrapNothing() {
    let least = Double.leastNonzeroMagnitude
    for values in [[least], [least, 1], [1000 * least, 2e-9, .infinity], [.nan], [1e300, 1], [9.3e18, 1]] {
      let scale = Scale.logarithmic(values, unit: .bytes)
      #expect(scale.low > 0 && scale.high > scale.low && scale.high.isFinite, "\(values)")
      for value in values { #expect((0...1).contains(scale.place(value)), "\(values)") }
    }
  }

  @Test func ticksAreRoundAndInside() {
    for values in [
      [0, 0.0123], [3, 3], [0], [1e-14, 0.6], [27.9, 28.4], [1, 2, 61], [0.98, 1], [5e6, 2.6e7], [],
    ] {
      for scale in [Scale.linear(values), .linear(values, fromZero: false), .logarithmic(values)] {
        #expect((2...12).contains(scale.ticks.count), "\(values): \(scale.ticks)")
        #expect(scale.high > scale.low)
        #expect(
          zip(scale.ticks, scale.ticks.dropFirst()).allSatisfy { $0.value < $1.value && $0.label != $1.label }
        )
        for tick in scale.ticks {
          #expect(
            tick.value >= scale.low - 1e-9 * abs(scale.low)
              && tick.value <= scale.high + 1e-9 * abs(scale.high))
        }
        for value in values { #expect((0...1).contains(scale.place(value))) }
      }
    }
    #expect(
      Scale.logarithmic([2e-4, 0.03]).ticks.map(\.label) == [
        "2·10⁻⁴", "5·10⁻⁴", "0.001", "0.002", "0.005", "0.01", "0.02", "0.05",
      ])
    #expect(Scale.linear([0, 2.57e7], unit: .bytes).ticks.map(\.label) == ["0", "10 MB", "20 MB", "30 MB"])
  }

  /// The text of a rule is not crossed by another rule, wherever the rules are.
  @Test func rulesDoNotCrossTheirTexts() throws {
    let text = "a text of some length"
    for values in [
      [1e-13, 0.007, 0.03, 0.2], [0.1, 0.11, 0.12], [1e-13, 1e-12], [0.9], [1e-7, 1e-6, 0.5],
    ] {
      var chart = Chart(
        "t", "d", x: Chart.Axis(scale: .logarithmic([1e-14, 1]), title: "x"),
        y: Chart.Axis(scale: .linear([0, 1]), title: "y"))
      for value in values { chart.rule(value, text) }
      let picture = try Markup(chart.svg)
      let texts = picture.all("text").filter { $0.text == text }
      let lines = picture.all("path").filter { $0.attributes["class"] == "l2" }.compactMap { line in
        let numbers = numbers(line)
        return numbers.count == 4 ? (x: numbers[0], top: numbers[1]) : nil
      }
      #expect(texts.count == values.count && lines.count == values.count)
      for name in texts {
        let (x, y) = (
          try #require(Double(name.attributes["x"] ?? "")), try #require(Double(name.attributes["y"] ?? ""))
        )
        let width = Drawing.textWidth(text)
        let range = name.attributes["class"] == "end" ? x - width...x : x...x + width
        #expect(range.lowerBound >= 0 && range.upperBound <= Drawing.width)
        #expect(!lines.contains { range.contains($0.x) && $0.top < y - 4 }, "\(values)")
      }
    }
  }

  /// The coordinates of a path.
  private func numbers(_ path: Markup) -> [Double] {
    (path.attributes["d"] ?? "").split { !$0.isNumber && $0 != "." }.compactMap { Double($0) }
  }

  /// Names of points never cover each other, however close the points are.
  @Test func labelsDoNotOverlap() throws {
    var chart = Chart(
      "t", "d", x: Chart.Axis(scale: .linear([0, 100]), title: "x"),
      y: Chart.Axis(scale: .linear([0, 100]), title: "y"))
    for place in 0..<12 {
      chart.point(
        50 + Double(place % 4) / 2, 50 + Double(place / 4) / 2, series: 0, title: "", label: "name-\(place)")
    }
    let names = try Markup(chart.svg).all("text").filter { $0.text.hasPrefix("name-") }
    #expect(names.count >= 8)
    let frames = try names.map { name in
      (
        x: try #require(Double(name.attributes["x"] ?? "")),
        y: try #require(Double(name.attributes["y"] ?? "")),
        width: Drawing.textWidth(name.text)
      )
    }
    for (place, a) in frames.enumerated() {
      for b in frames.dropFirst(place + 1) {
        #expect(abs(a.y - b.y) >= 14.9 || a.x + a.width <= b.x + 0.1 || b.x + b.width <= a.x + 0.1)
      }
    }
  }
}
