// `diff` as a page: whether two models are the same, and if not, which weights and settings differ, and by how much.

import SmeltModels
import SmeltStorage

extension DiffSummary {
  /// The page.
  package var html: String {
    let names = "\(publicName(paths.a)) and \(publicName(paths.b))"
    var page = Page("\(names): \(isEqual ? "the same numbers" : "different")", verb: "diff")
    page.add(card(names))
    page.section("Configuration and tokenizer", settings)
    page.section("Layer by layer", layerFigure)
    page.section("Weights", pageWeights)
    return page.text
  }

  private func card(_ names: String) -> String {
    var out = "<div class=\"card\"><h1>\(HTML.escape(names))</h1>\n"
    out += "<p class=\"verdict \(isEqual ? "pass" : "fail")\">\(isEqual ? "Equal" : "Different")</p>\n"
    let same = weights - differences.count
    out += HTML.paragraph(
      "\(grouped(same)) of \(grouped(weights)) weights have the same numbers"
        + (reencoded > 0 ? ", \(grouped(reencoded)) of them under another encoding." : "."))
    let changing = others.count(where: \.changesNumbers)
    if changing > 0 {
      out += HTML.paragraph("Settings that change numbers or token ids: \(grouped(changing)).")
    }
    var facts = [(name: "a", value: publicName(paths.a)), (name: "b", value: publicName(paths.b))]
    for (side, left) in [("a", leftOut.a), ("b", leftOut.b)] {
      for one in left { facts.append(("left out in \(side)", one.text)) }
    }
    if let first = differences.first {
      facts.append(
        (
          "first difference",
          "\(excerpt(first.name, limit: 200)), row \(first.first.row), column \(first.first.column): \(first.first.a) and \(first.first.b)"
        ))
    }
    facts.append(
      (
        "time and memory",
        "\(fixed(resources.seconds, 1)) s, \(byteText(resources.peakMemoryBytes)) peak resident"
      ))
    facts.append(("made", "\(utcText()) by smelt \(smeltVersion)"))
    return out + HTML.facts(facts) + "</div>\n"
  }

  private var settings: String {
    let bound = Report.PageBounds.found
    let ordered = others.filter(\.changesNumbers) + others.filter { !$0.changesNumbers }
    return HTML.table(
      ["about", "key", "a", "b", "changes numbers or ids"],
      ordered.prefix(bound).map {
        [
          $0.kind.rawValue, excerpt($0.key, limit: 160), excerpt($0.source, limit: 160),
          excerpt($0.result, limit: 160), $0.changesNumbers ? "yes" : "no",
        ]
      }) + HTML.left(others.count, after: bound)
  }

  private var layerFigure: String {
    let errors = differences.compactMap { difference in
      difference.layer.map { (layer: $0, error: difference.relativeError) }
    }.filter(\.error.isFinite)
    let worst = Dictionary(errors.map { ($0.layer, $0.error) }) { max($0, $1) }
    guard let last = worst.keys.max() else { return "" }
    var chart = Chart(
      "Largest weight difference by layer", "\(worst.count) layers have weights that differ.",
      x: Chart.Axis(scale: .linear([0, Double(last)], isTight: true, leastStep: 1), title: "layer"),
      y: Chart.Axis(scale: .linear(Array(worst.values)), title: "relative difference"), height: 190)
    for layer in worst.keys.sorted() {
      let error = worst[layer] ?? 0
      chart.point(Double(layer), error, series: 0, title: "layer \(layer): \(scientific(error))")
    }
    return HTML.figure(
      chart.svg,
      "For each layer with weights that differ, the largest ‖a − b‖ ÷ ‖a‖ of one of them; a layer without a point has the same numbers on both sides."
    )
  }

  private var pageWeights: String {
    guard !differences.isEmpty else { return "" }
    let all = differences.filter(\.relativeError.isFinite)
    let roles = Dictionary(grouping: all, by: \.role)
    let rows = Role.allCases.compactMap { role -> RowChart.Row? in
      guard let own = roles[role], let worst = own.map(\.relativeError).max() else { return nil }
      return RowChart.Row(
        label: role.rawValue, marks: [.bar(worst, series: 0)],
        note: "\(scientific(worst)), \(grouped(own.count)) weight\(own.count == 1 ? "" : "s")")
    }
    var out = ""
    if !rows.isEmpty {
      out += HTML.figure(
        RowChart(
          "Largest weight difference by role", "Relative differences by what the weights do.",
          axis: Chart.Axis(scale: .linear(all.map(\.relativeError)), title: "relative difference"), rows
        ).svg,
        "The largest ‖a − b‖ ÷ ‖a‖ of a weight by what the weights do in the network, and how many of them differ; a role that is not here has the same "
          + "numbers on both sides.")
    }
    let ordered = differences.indices.sorted {
      let (x, y) = (differences[$0].relativeError, differences[$1].relativeError)
      return x == y || x.isNaN && y.isNaN ? $0 < $1 : x > y || x.isNaN
    }.map { differences[$0] }
    let worst = ordered.prefix(Report.PageBounds.weights)
    let more = ordered.dropFirst(worst.count)
    let shown = Array(more.prefix(Report.PageBounds.moreWeights))
    out += "<h3>The \(worst.count) largest differences</h3>\n" + table(Array(worst))
    return out
      + HTML.details(
        "The next \(grouped(shown.count)) weights, by their difference",
        shown.isEmpty ? "" : table(shown) + HTML.left(more.count, after: shown.count), isLong: true)
  }

  private func table(_ differences: [Difference]) -> String {
    HTML.table(
      ["weight", "relative", "a", "b", "largest", "first at row, column"],
      differences.map {
        [
          excerpt($0.name, limit: 200), scientific($0.relativeError), $0.encodings.a, $0.encodings.b,
          scientific($0.maxAbsError), "\($0.first.row), \($0.first.column)",
        ]
      })
  }
}
