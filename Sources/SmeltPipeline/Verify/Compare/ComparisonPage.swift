// Several results against one source as a page: the picture of size against divergence, and the table.

import SmeltStorage

extension ReportComparison {
  /// The page.
  package var html: String {
    let source = publicName(common.source["path"]?.string ?? "")
    var page = Page("Results of \(source)", verb: "compare")
    page.add("<h1>\(HTML.escape("\(entries.count) results of \(source)"))</h1>\n")
    page.add(facts)
    page.add(
      HTML.figure(
        picture,
        "Each point is a result: further left is smaller, further down is nearer to the source. The line joins the results at the front: no other "
          + "result here is at most as large and at most as far off, and better in one of the two. For every point above the line one on it is "
          + "the better choice."
          + (entries.contains { $0.interval != nil }
            ? " The upright bars are 95 % intervals of the mean." : "")))
    page.section("The results", table)
    page.add(
      HTML.paragraph(
        "KL divergence is D(source ‖ result) in nats a token, its mean over all tokens with the 95 % interval, and the value that one token in a "
          + "hundred exceeds. Bits are those of codes and scales for each number of a weight. Front says whether a result is on the line of the picture. "
          + "Compared by smelt \(smeltVersion) from reports of smelt verify.", style: "soft"))
    return page.text
  }

  private var facts: String {
    let source = common.source
    var facts = [
      (
        name: "source",
        value:
          "\(publicName(source["path"]?.string ?? "")), \(source["family"]?.string ?? ""), \(byteText(source["bytes"]?.integer ?? 0))"
      )
    ]
    if let perplexity = common.perplexity { facts.append(("source, perplexity", fixed(perplexity, 4))) }
    facts.append(("tokens", "\(grouped(common.tokens)) in windows of \(common.context)"))
    if let hash = common.textHash { facts.append(("text, SHA-256", hash)) }
    if let floor = entries.compactMap(\.floor).max() {
      facts.append(("KL floor", "\(scientific(floor)): the source against itself with sums in another order"))
    }
    return HTML.facts(facts)
  }

  private var picture: String {
    let sizes = entries.map { Double($0.bytes) }
    let (least, most) = (sizes.min() ?? 1, sizes.max() ?? 1)
    var chart = Chart(
      "Size against KL divergence",
      "\(entries.count) results from \(byteText(entries.map(\.bytes).min() ?? 0)) to \(byteText(entries.map(\.bytes).max() ?? 0)).",
      x: Chart.Axis(
        scale: most > 12 * least
          ? .logarithmic(sizes, unit: .bytes) : .linear(sizes, fromZero: false, unit: .bytes),
        title: "size of the result"),
      y: Chart.Axis(
        scale: .logarithmic(
          entries.flatMap { [$0.kl, $0.interval?.low ?? $0.kl, $0.interval?.high ?? $0.kl] }),
        title: "mean KL divergence, nats a token (logarithmic)"),
      height: 380)
    let front = entries.filter(\.isOnFront)
    if front.count > 1 { chart.line(front.map { (x: Double($0.bytes), y: $0.kl) }, series: 0) }
    for (name, entry) in zip(names, entries) {
      if let interval = entry.interval { chart.interval(Double(entry.bytes), interval.low, interval.high) }
      chart.point(
        Double(entry.bytes), entry.kl, series: entry.isOnFront ? 0 : 1,
        title: "\(name): \(byteText(entry.bytes)), KL \(scientific(entry.kl))", label: shortened(name))
    }
    chart.name(0, "at the front")
    if front.count < entries.count { chart.name(1, "another one is better") }
    return chart.svg
  }

  /// A name short enough to stand beside a point.
  private func shortened(_ name: String) -> String {
    name.count <= 36 ? name : "\(name.prefix(20))…\(name.suffix(15))"
  }

  private var table: String {
    HTML.table(
      [
        "result", "size", "bits", "KL mean", "95 %", "KL p99", "top-1", "perplexity",
        "verdict", "front",
      ],
      zip(names, entries).map { name, entry in
        [
          name, byteText(entry.bytes), entry.bitsPerWeight.map { fixed($0, 2) } ?? "–",
          scientific(entry.kl),
          entry.interval.map { "\(scientific($0.low)) to \(scientific($0.high))" } ?? "–",
          scientific(entry.p99),
          fixed(entry.top1, 4), entry.perplexity.map { fixed($0, 4) } ?? "–", entry.verdict,
          entry.isOnFront ? "yes" : "no",
        ]
      })
  }
}
