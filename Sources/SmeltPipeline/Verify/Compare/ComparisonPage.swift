// Several results against one source as a page: the picture of size against divergence, and the table.

import SmeltStorage

extension ReportComparison {
  /// The page.
  package var html: String {
    let source = fileName(common.source["path"]?.string ?? "")
    var page = Page("Results of \(source)", verb: "compare")
    page.add("<h1>\(HTML.escape("\(entries.count) results of \(source)"))</h1>\n")
    page.add(
      HTML.paragraph(sourceText + (common.textHash.map { "; text SHA-256 \($0)" } ?? ""), style: "soft"))
    page.add(
      HTML.figure(
        picture,
        "Each point is a result: further left is smaller, further down is nearer to the source. The line joins those to which no other result here "
          + "is superior in both; what lies above it is larger, or further off, than it need be."))
    page.section("The results", table)
    page.add(HTML.paragraph("Compared by smelt \(smeltVersion).", style: "soft"))
    return page.text
  }

  private var picture: String {
    let sizes = entries.map { Double($0.bytes) }
    let (least, most) = (sizes.min() ?? 1, sizes.max() ?? 1)
    var chart = Chart(
      "Size against KL divergence",
      "\(entries.count) results from \(byteText(Int(least))) to \(byteText(Int(most))).",
      x: Chart.Axis(
        scale: most > 12 * least
          ? .logarithmic(sizes, unit: .bytes) : .linear(sizes, fromZero: false, unit: .bytes),
        title: "size of the result"),
      y: Chart.Axis(
        scale: .logarithmic(entries.map(\.kl)), title: "mean KL divergence, nats a token (logarithmic)"),
      height: 380)
    let front = entries.filter(\.isOnFront)
    if front.count > 1 { chart.line(front.map { (x: Double($0.bytes), y: $0.kl) }, series: 0) }
    for (name, entry) in zip(names, entries) {
      chart.point(
        Double(entry.bytes), entry.kl, series: entry.isOnFront ? 0 : 1,
        title: "\(name): \(byteText(entry.bytes)), KL \(scientific(entry.kl))", label: shortened(name))
    }
    chart.name(0, "no other is better in both")
    if front.count < entries.count { chart.name(1, "another is") }
    return chart.svg
  }

  /// A name short enough to stand beside a point.
  private func shortened(_ name: String) -> String {
    name.count <= 36 ? name : "\(name.prefix(20))…\(name.suffix(15))"
  }

  private var table: String {
    HTML.table(
      [
        "result", "container", "size", "bits a weight", "KL mean", "95 %", "KL p99", "top-1", "perplexity",
        "verdict", "front",
      ],
      zip(names, entries).map { name, entry in
        [
          name, entry.container, byteText(entry.bytes), entry.bitsPerWeight.map { fixed($0, 2) } ?? "–",
          scientific(entry.kl),
          entry.interval.map { "\(scientific($0.low)) to \(scientific($0.high))" } ?? "–",
          scientific(entry.p99),
          fixed(entry.top1, 4), entry.perplexity.map { fixed($0, 4) } ?? "–", entry.verdict,
          entry.isOnFront ? "yes" : "no",
        ]
      })
  }
}
