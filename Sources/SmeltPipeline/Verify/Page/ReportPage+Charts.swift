// The pictures of a report's page.

import SmeltStorage

extension Report {
  // MARK: predictions

  /// KL, perplexity and agreement.
  var pageAgreement: String {
    var out = divergenceFigure + perplexityFigure
    var rows = [
      ["KL mean", scientific(kl.mean), "nats a token" + intervalText(intervals?.kl, scientific)],
      ["KL median", scientific(kl.median), "half of the tokens stay below"],
      ["KL 99th percentile", scientific(kl.p99), "one token in a hundred is above"],
      ["KL largest", scientific(kl.max), "of \(grouped(tokens)) tokens"],
      [
        "KL floor", scientific(kl.floor), "the source against itself with sums in another order\(sampleText)",
      ],
    ]
    if !router.isEmpty {
      rows.append([
        "KL, forced routing", scientific(kl.forcedRoutingMean),
        "the result on the source's expert choices\(sampleText)"
          + (isSampled ? "; \(scientific(kl.sampleMean)) on its own there" : ""),
      ])
    }
    rows += [
      ["perplexity, source", fixed(perplexity.source, 4), "e^(mean negative log-likelihood)"],
      ["perplexity, result", fixed(perplexity.result, 4), "of the same tokens"],
      ["top-1 agreement", fixed(top1, 4), "same most likely token"],
      ["top-5 agreement", fixed(top5, 4), "mean overlap of the five most likely"],
    ]
    out += HTML.table(["measure", "value", "meaning"], rows)
    return out
  }

  private var divergenceFigure: String {
    let found = quantiles.filter { $0.value > 0 }
    guard !found.isEmpty, kl.mean > 0 else {
      return kl.mean == 0
        ? HTML.paragraph("Both sides predict the same for every token: the divergence is 0.") : ""
    }
    let marked = [kl.floor, kl.mean, kl.p99, thresholds.maxKL ?? .nan]
    let scale = Scale.logarithmic(found.map(\.value) + marked)
    var chart = Chart(
      "KL divergence of the tokens, cumulative",
      "Half of the tokens are below \(scientific(kl.median)), 99 % below \(scientific(kl.p99)); the mean is \(scientific(kl.mean)).",
      x: Chart.Axis(scale: scale, title: "KL divergence of a token, nats (logarithmic)"),
      y: Chart.Axis(scale: .linear([0, 1], unit: .share), title: "tokens at or below"))
    chart.line(found.map { (x: $0.value, y: $0.share) }, series: 0)
    if kl.floor > 0 { chart.rule(kl.floor, "floor \(scientific(kl.floor))") }
    if let interval = intervals?.kl { chart.band(interval.low, interval.high) }
    chart.rule(kl.mean, "mean \(scientific(kl.mean))")
    chart.rule(kl.p99, "99 % \(scientific(kl.p99))")
    if let bound = thresholds.maxKL { chart.rule(bound, "largest mean allowed \(scientific(bound))") }
    return HTML.figure(
      chart.svg,
      "The curve gives the share of the tokens whose divergence is at most the value below it; the further left, the better. The floor is the "
        + "source against itself with its sums in another order: what is not above it is rounding."
        + (intervals == nil ? "" : " The band is the 95 % interval of the mean."))
  }

  private var perplexityFigure: String {
    guard let intervals, perplexity.source.isFinite, perplexity.result.isFinite else { return "" }
    let all = [
      intervals.source.low, intervals.source.high, intervals.result.low, intervals.result.high,
      perplexity.source,
      perplexity.result,
    ]
    func row(_ name: String, _ value: Double, _ interval: Interval, _ series: Int) -> RowChart.Row {
      RowChart.Row(
        label: name, marks: [.interval(interval.low, interval.high), .point(value, series: series)],
        note: "\(fixed(value, 3)) (\(fixed(interval.low, 3)) to \(fixed(interval.high, 3)))")
    }
    let chart = RowChart(
      "Perplexity of source and result",
      "Source \(fixed(perplexity.source, 4)), result \(fixed(perplexity.result, 4)), with 95 % intervals.",
      axis: Chart.Axis(scale: .linear(all, fromZero: false), title: "perplexity; lower is better"),
      [
        row("source", perplexity.source, intervals.source, 0),
        row("result", perplexity.result, intervals.result, 1),
      ])
    return HTML.figure(
      chart.svg,
      "Perplexity with the interval in which it lies for 95 of 100 texts of this kind. Both sides read the same windows, so that their ratio "
        + "is known better than either: \(fixed(perplexity.result / perplexity.source, 5)), from \(fixed(intervals.ratio.low, 5)) to \(fixed(intervals.ratio.high, 5)). "
        + "An interval of the ratio that holds 1 says that this text cannot tell the two apart.")
  }

  // MARK: layers

  private var layerAxis: Chart.Axis {
    Chart.Axis(
      scale: .linear([0, Double(layers.map(\.layer).max() ?? 0)], isTight: true, leastStep: 1), title: "layer"
    )
  }

  /// Error and router agreement along the layers.
  var pageLayers: String {
    guard !layers.isEmpty else { return "" }
    let worst = layers.max { $0.relativeError < $1.relativeError }
    var error = Chart(
      "Relative error by layer",
      "The largest is \(scientific(worst?.relativeError ?? 0)) in layer \(worst?.layer ?? 0).", x: layerAxis,
      y: Chart.Axis(
        scale: .linear(layers.map(\.relativeError)), title: "relative error of the layer's output"),
      height: 190)
    error.line(layers.map { (x: Double($0.layer), y: $0.relativeError) }, series: 0)
    for layer in layers {
      error.point(
        Double(layer.layer), layer.relativeError, series: 0,
        title: "layer \(layer.layer): \(scientific(layer.relativeError)), cosine \(fixed(layer.cosine, 6))")
    }
    var out =
      worst?.relativeError == 0
      ? HTML.paragraph("The output of every layer has the same numbers on both sides.")
      : HTML.figure(
        error.svg,
        "How far the result's activations are from the source's after each layer, each side running on its own earlier layers: errors add up "
          + "along the way, and a jump points at the layer that makes it.")
    out += routerFigure
    out += HTML.details(
      "The layers as a table",
      HTML.table(
        ["layer", "relative error", "cosine", "same experts", "shared experts"],
        layers.map { layer in
          let agreement = router.first { $0.layer == layer.layer }
          return [
            "\(layer.layer)", scientific(layer.relativeError), fixed(layer.cosine, 6),
            agreement.map { fixed($0.setAgreement, 4) } ?? "–",
            agreement.map { fixed($0.meanOverlap, 4) } ?? "–",
          ]
        }))
    return out
  }

  private var routerFigure: String {
    guard let worst = router.min(by: { $0.setAgreement < $1.setAgreement }) else { return "" }
    let bound = thresholds.minRouter
    let shares: [Double] =
      router.map(\.setAgreement) + router.map(\.meanOverlap) + [1, bound.map { $0 - 1e-3 } ?? 1]
    var chart = Chart(
      "Router agreement by layer",
      "The least is \(percent(worst.setAgreement, 2)) of the tokens with the same experts, in layer \(worst.layer).",
      x: layerAxis,
      y: Chart.Axis(
        scale: .linear(shares.min() == 1 ? [0.99, 1] : shares, fromZero: false, unit: .share),
        title: "agreement"),
      height: 190)
    chart.name(0, "tokens with the same experts")
    chart.name(1, "experts shared, mean")
    chart.line(router.map { (x: Double($0.layer), y: $0.setAgreement) }, series: 0)
    chart.line(router.map { (x: Double($0.layer), y: $0.meanOverlap) }, series: 1)
    for layer in router {
      let title =
        "layer \(layer.layer): same experts \(percent(layer.setAgreement, 2)), shared \(percent(layer.meanOverlap, 2))"
      chart.point(Double(layer.layer), layer.setAgreement, series: 0, title: title)
      chart.point(Double(layer.layer), layer.meanOverlap, series: 1, title: title)
    }
    if let bound {
      chart.name(2, "demanded of the worst layer", .line)
      chart.line([(0, bound), (Double(layers.map(\.layer).max() ?? 0), bound)], series: 2)
    }
    return HTML.figure(
      chart.svg,
      "Which share of the tokens goes to exactly the same experts on both sides, and which share of a token's experts is the same. "
        + "A token that goes elsewhere meets other weights, so that small errors become large ones.")
  }

  // MARK: experts

  /// Layer by expert: error of the weights, tokens, disagreement.
  var pageExperts: String {
    var out = ""
    let errors = experts
    let measured: [Double] = errors.flatMap { layer in layer.relativeErrors.compactMap { $0 } }
    if let most = measured.max(), most > 0 {
      out += CellMap(
        "Weight error by layer and expert", "Relative errors up to \(scientific(most)).",
        errors.map { CellMap.Row(layer: $0.layer, values: $0.relativeErrors) },
        .linear(measured, fromZero: false), measure: "relative error",
        hole: errors.contains { $0.relativeErrors.contains { $0 == nil } } ? "no weights" : nil,
        written: scientific
      ).figure(
        "Relative error of an expert's weights, all its matrices together; the scale under the picture says which shade is how much. Rounding "
          + "to nearest gives nearly the same error everywhere, and an expert that stands out lost more.",
        .largest, listing: "largest errors")
    } else if !measured.isEmpty {
      out += HTML.paragraph("The weights of all routed experts are the source's, number by number.")
    }
    let routed = router.filter { $0.chosen.contains { $0 > 0 } }
    guard !routed.isEmpty else { return out }
    let counts = routed.flatMap(\.chosen).filter { $0 > 0 }.map(Double.init)
    let isEmpty = routed.contains { $0.chosen.contains(0) }
    out += CellMap(
      "Tokens by layer and expert",
      "From \(grouped(Int(counts.min() ?? 0))) to \(grouped(Int(counts.max() ?? 0))) tokens.",
      routed.map { CellMap.Row(layer: $0.layer, values: $0.chosen.map { $0 > 0 ? Double($0) : nil }) },
      .logarithmic(counts), measure: "tokens", hole: isEmpty ? "no token" : nil,
      written: { grouped(Int($0.rounded())) }
    ).figure(
      "How many tokens of the text the source sent to an expert, by the scale under the picture. An expert that no token reached was compared by its weights alone.",
      .smallest, listing: "fewest tokens, of those that got any")
    let shares = routed.map { layer in
      CellMap.Row(
        layer: layer.layer,
        values: zip(layer.chosen, layer.missed).map { $0 > 0 ? Double($1) / Double($0) : nil })
    }
    let found: [Double] = shares.flatMap { row in row.values.compactMap { $0 } }
    if (found.max() ?? 0) > 0 {
      out += CellMap(
        "Routing disagreement by layer and expert",
        "Up to \(percent(found.max() ?? 0, 1)) of an expert's tokens go elsewhere.",
        shares, .linear(found, unit: .share), measure: "tokens sent elsewhere",
        hole: isEmpty ? "no token" : nil, written: { percent($0, 1) }
      ).figure(
        "The share of the tokens that the source sent to an expert and the result did not, by the scale under the picture. Experts with few "
          + "tokens reach large shares by chance: hold them against the picture above.",
        .largest, listing: "largest shares",
        beside: ("its tokens", { grouped(routed[$0].chosen[$1]) }))
    }
    return out
  }

  // MARK: roles

  /// Error and size of the weights by what they do.
  var pageRoles: String {
    let all = roles
    let inexact = all.filter { !($0.relativeError == 0) }
    let exact = all.filter { $0.relativeError == 0 }.map(\.role)
    var out = ""
    if !inexact.isEmpty {
      let chart = RowChart(
        "Weight error by role", "Relative error over all numbers of a role, and of its worst weight.",
        axis: Chart.Axis(
          scale: .linear(inexact.flatMap { [$0.relativeError, $0.largest] }), title: "relative error"),
        inexact.map {
          RowChart.Row(
            label: $0.role, marks: [.bar($0.relativeError, series: 0), .point($0.largest, series: 1)],
            note: "\(scientific($0.relativeError)), worst \(scientific($0.largest))")
        },
        legend: [
          Drawing.Series(name: "all weights of the role", series: 0, form: .bar),
          Drawing.Series(name: "the worst of them", series: 1),
        ])
      out += HTML.figure(
        chart.svg,
        "Relative error of the weights by what they do in the network: the bar over all numbers of a role, the diamond of its worst weight; "
          + "shorter is better."
          + (exact.isEmpty ? "" : " Every number is the source's in: \(exact.joined(separator: ", "))."))
    }
    let sized = all.sorted { $0.sourceBytes > $1.sourceBytes }
    let chart = RowChart(
      "Size by role", "Bytes of the weights' codes and scales, source and result.",
      axis: Chart.Axis(
        scale: .linear(sized.flatMap { [Double($0.sourceBytes), Double($0.resultBytes)] }, unit: .bytes),
        title: "bytes"),
      sized.map {
        RowChart.Row(
          label: $0.role,
          marks: [.bar(Double($0.sourceBytes), series: 2), .bar(Double($0.resultBytes), series: 0)],
          note: "\(byteText($0.sourceBytes)) → \(byteText($0.resultBytes))")
      },
      legend: [
        Drawing.Series(name: "source", series: 2, form: .bar),
        Drawing.Series(name: "result", series: 0, form: .bar),
      ])
    out += HTML.figure(
      chart.svg,
      "Bytes of codes and scales by role, the upper bar in the source, the lower one in the result, before any compression of the container. "
        + "The longest bars are where fewer bits save most."
    )
    out += HTML.details(
      "The roles as a table",
      HTML.table(
        ["role", "weights", "numbers", "source", "result", "bits a weight", "relative error", "worst"],
        all.map {
          [
            $0.role, grouped($0.weights), grouped($0.elements), byteText($0.sourceBytes),
            byteText($0.resultBytes),
            fixed(8 * Double($0.resultBytes) / Double(max(1, $0.elements)), 2), scientific($0.relativeError),
            scientific($0.largest),
          ]
        }))
    return out
  }
}
