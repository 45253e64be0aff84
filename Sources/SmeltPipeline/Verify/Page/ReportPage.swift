// The report as the page that a release carries: the verdict first, then pictures, then tables of what is worst. Its length is bounded
// whatever the model's size; `--json` has every number.

import SmeltStorage

extension Report {
  /// How much of each list a page shows.
  enum PageBounds {
    /// Weights, the worst first, in the open.
    static let weights = 20
    /// More of them, folded away.
    static let moreWeights = 400
    /// Faults, differences and other lists of things found.
    static let found = 60
  }

  /// The two sides by name.
  var pageName: String {
    let names = sides.map { publicName($0.json["path"]?.string ?? "") }
    return names.joined(separator: " → ")
  }

  /// The page.
  package var html: String {
    var page = Page("\(pageName), verdict: \(verdict.rawValue)", verb: "verify")
    page.add(pageCard)
    page.section("Faults", pageFaults)
    page.section("Differences of configuration and tokenizer", pageDifferences)
    if let notRun {
      page.section("Forward pass", HTML.paragraph("Not run: \(notRun). The weights alone were compared."))
    } else {
      page.section("How far the predictions are apart", pageAgreement)
      page.section("Text by text", pageTexts)
      page.section("Layer by layer", pageLayers)
    }
    if let activations {
      page.section("With activations rounded to \(activations.rounding)", pageActivations(activations))
    }
    if let engine {
      page.section(
        "As \(engine.title) computes it", HTML.table(["measure", "value", "meaning"], engine.rows))
    }
    page.section("Blocks that draft tokens", pageDrafts)
    page.section("Expert by expert", pageExperts)
    page.section("Weights", pageWeights)
    page.section("The tokens that differ most", pageTokens)
    return page.text
  }

  private var pageFaults: String {
    guard !faults.isEmpty else { return "" }
    return HTML.table(
      ["about", "what", "found"],
      faults.prefix(PageBounds.found).map { [$0.kind.rawValue, excerpt($0.subject, limit: 160), $0.problem] })
      + HTML.left(faults.count, after: PageBounds.found)
  }

  private var pageDifferences: String {
    guard !differences.isEmpty else { return "" }
    let ordered = differences.filter(\.changesNumbers) + differences.filter { !$0.changesNumbers }
    return HTML.table(
      ["key", "source", "result", "changes numbers"],
      ordered.prefix(PageBounds.found).map {
        [
          excerpt($0.key, limit: 160), excerpt($0.source, limit: 160), excerpt($0.result, limit: 160),
          $0.changesNumbers ? "yes" : "no",
        ]
      }) + HTML.left(differences.count, after: PageBounds.found)
  }

  private var pageTexts: String {
    guard !texts.isEmpty else { return "" }
    let shown = texts.prefix(PageBounds.found)
    let rows = shown.map { ($0.name, $0.kl.mean, $0.intervals?.kl) } + [("all", kl.mean, intervals?.kl)]
    let values: [Double] = rows.flatMap { [$0.1, $0.2?.low ?? $0.1, $0.2?.high ?? $0.1] }.filter(\.isFinite)
    var out = ""
    if !values.isEmpty {
      let chart = RowChart(
        "KL divergence by text", "The mean of each text, and of all together, with 95 % intervals.",
        axis: Chart.Axis(scale: .linear(values), title: "mean KL divergence, nats a token"),
        rows.map { name, mean, interval in
          RowChart.Row(
            label: excerpt(name, limit: 24),
            marks: (interval.map { [.interval($0.low, $0.high)] } ?? []) + [.point(mean, series: 0)],
            note: scientific(mean))
        })
      out += HTML.figure(
        chart.svg,
        "The mean KL divergence of each text by itself, with its 95 % interval where it has two windows or more; further left is better. What is "
          + "demanded of KL divergence and top-1 agreement holds for each text and for all together.")
    }
    out += HTML.table(
      [
        "text", "tokens", "perplexity", "KL mean", "95 %", "KL p99", "top-1",
      ],
      shown.map { text in
        [
          text.name, grouped(text.tokens),
          "\(fixed(text.perplexity.source, 3)) → \(fixed(text.perplexity.result, 3))",
          scientific(text.kl.mean),
          text.intervals.map { "\(scientific($0.kl.low)) to \(scientific($0.kl.high))" } ?? "–",
          scientific(text.kl.p99), fixed(text.top1, 4),
        ]
      })
    return out + HTML.left(texts.count, after: PageBounds.found)
  }

  private func pageActivations(_ activations: Activations) -> String {
    HTML.table(
      ["measure", "weights alone", "weights and activations"],
      [
        ["weights that meet rounded activations", "–", grouped(activations.roundedWeights)],
        ["perplexity", fixed(perplexity.result, 4), fixed(activations.perplexity, 4)],
        ["KL mean", scientific(kl.mean), scientific(activations.kl.mean)],
        ["KL median", scientific(kl.median), scientific(activations.kl.median)],
        ["KL 99th percentile", scientific(kl.p99), scientific(activations.kl.p99)],
        ["KL largest", scientific(kl.max), scientific(activations.kl.max)],
        ["top-1 agreement", fixed(top1, 4), fixed(activations.top1, 4)],
        ["top-5 agreement", fixed(top5, 4), fixed(activations.top5, 4)],
      ])
  }

  private var pageDrafts: String {
    HTML.table(
      ["block", "drafts", "accepted by the source", "accepted by the result", "KL mean", "top-1"],
      drafts.map {
        [
          "\($0.block)", grouped($0.tokens), fixed($0.acceptance.source, 4), fixed($0.acceptance.result, 4),
          scientific($0.kl.mean), fixed($0.top1, 4),
        ]
      })
  }

  // MARK: weights

  private var pageWeights: String {
    let ordered = weights.indices.sorted {
      let (a, b) = (weights[$0].relativeError, weights[$1].relativeError)
      return a == b || a.isNaN && b.isNaN ? $0 < $1 : a > b || a.isNaN
    }.map { weights[$0] }
    guard !ordered.isEmpty else { return "" }
    let worst = ordered.prefix { !($0.relativeError == 0) }.prefix(PageBounds.weights)
    let others = ordered.dropFirst(worst.count)
    var out = HTML.paragraph(
      "\(grouped(exactWeights)) of \(grouped(weights.count)) weights have exactly the source's numbers."
    )
    out += HTML.table(
      ["state", "weights", "meaning"],
      WeightFindings.State.allCases.compactMap { state in
        let count = weights.count { $0.state == state }
        return count == 0 ? nil : [state.rawValue, grouped(count), state.meaning]
      })
    out += pageRoles
    if !worst.isEmpty {
      out += "<h3>The \(worst.count) worst weights</h3>\n" + pageTable(Array(worst))
    }
    let shown = Array(others.prefix(PageBounds.moreWeights))
    out += HTML.details(
      worst.isEmpty ? "The weights" : "The next \(grouped(shown.count)) weights, by their error",
      shown.isEmpty ? "" : pageTable(shown) + HTML.left(others.count, after: shown.count), isLong: true)
    return out
  }

  private func pageTable(_ weights: [WeightError]) -> String {
    HTML.table(
      ["weight", "relative error", "encoding", "largest error", "cosine", "state"],
      weights.map {
        [
          excerpt($0.name, limit: 200), scientific($0.relativeError), $0.scheme, scientific($0.maxAbsError),
          fixed($0.cosine, 8), $0.state.rawValue,
        ]
      })
  }
}

extension WeightFindings.State {
  /// As a sentence of a page.
  fileprivate var meaning: String {
    switch self {
    case .exact: "every number is the source's"
    case .nearest: "every number is the nearest that the stored scales allow"
    case .recorded: "a method moved the numbers, and each row is as far off as the result recorded"
    case .beyond: "rows are further off than rounding puts them, and the result does not say why"
    case .unbounded: "the encoding has no bound for a single number"
    case .damaged: "rows are further off than the scheme can put them"
    }
  }
}
