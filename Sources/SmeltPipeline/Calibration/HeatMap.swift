// Tokens of each expert of each layer as a picture: one cell an expert, darker with more tokens.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// A picture of how a text covers the experts.
struct HeatMap {
  private let layers: [ExpertTokens]
  private let sources: [Int: ExpertSources]
  private let minTokens: Int

  init(_ layers: [ExpertTokens], _ sources: [ExpertSources], minTokens: Int) {
    self.layers = layers.filter { !$0.counts.isEmpty }
    self.sources = Dictionary(sources.map { ($0.layer, $0) }) { first, _ in first }
    self.minTokens = minTokens
  }

  /// Steps of the scale from few to many: light to dark, readable in grey.
  private static let colours: [(Double, Double, Double)] = [
    (226, 240, 217), (160, 215, 187), (89, 179, 184), (43, 130, 174), (31, 77, 138), (24, 28, 84),
  ]
  /// What no token reached.
  private static let empty = "#d7301f"

  /// With more cells than these, cells of one row and one shade are one path, and a row tells its numbers, not each cell: a picture of
  /// tens of thousands of experts takes hundreds of kilobytes.
  private static let mostCells = 4096
  /// So many shades that picture has.
  private static let shades = 24

  /// Where a count stands on a logarithmic scale from 1 to `most`: 0 to 1.
  private func share(_ count: Int, most: Int) -> Double {
    most > 1 ? logarithm(Double(count)) / logarithm(Double(most)) : 1
  }

  /// A colour on that scale.
  private func colour(_ count: Int, most: Int) -> String {
    count > 0 ? colour(share(count, most: most)) : HeatMap.empty
  }

  private func colour(_ share: Double) -> String {
    let place = share * Double(HeatMap.colours.count - 1)
    let low = min(Int(place), HeatMap.colours.count - 2)
    let part = place - Double(low)
    let (a, b) = (HeatMap.colours[low], HeatMap.colours[low + 1])
    func hex(_ a: Double, _ b: Double) -> String {
      let text = String(Int((a + (b - a) * part).rounded()), radix: 16)
      return text.count == 1 ? "0" + text : text
    }
    return "#" + hex(a.0, b.0) + hex(a.1, b.1) + hex(a.2, b.2)
  }

  /// Runs of cells of a row, as strokes from cell to cell.
  private static func path(_ cells: [Int]) -> String {
    var out = ""
    var (place, next) = (0, 0)
    while next < cells.count {
      var end = next + 1
      while end < cells.count, cells[end] == cells[end - 1] + 1 { end += 1 }
      out += (out.isEmpty ? "M\(cells[next]) 0" : "m\(cells[next] - place) 0") + "h\(end - next)"
      place = cells[next] + end - next
      next = end
    }
    return out
  }

  /// A row of a large picture.
  private func strokes(_ layer: ExpertTokens, _ x: Int, _ y: Int, _ cell: Int, _ row: Int, most: Int)
    -> String
  {
    var cells: [Int: [Int]] = [:]
    for (expert, count) in layer.counts.enumerated() {
      let shade =
        count > 0 ? Int((share(count, most: most) * Double(HeatMap.shades - 1)).rounded()) : -1
      cells[shade, default: []].append(expert)
    }
    let order = layer.counts.indices.sorted { (layer.counts[$0], $0) < (layer.counts[$1], $1) }
    func told(_ expert: Int?) -> String {
      expert.map { "\(grouped(layer.counts[$0])) (expert \($0))" } ?? "0"
    }
    let starved = layer.counts.indices.filter { layer.counts[$0] < minTokens }
    var out =
      "<g transform=\"translate(\(x) \(fixed(Double(y) + Double(row) / 2, 1))) scale(\(cell) 1)\" stroke-width=\"\(row)\" fill=\"none\">"
      + "<title>layer \(layer.layer): \(told(order.first)) to \(told(order.last)) tokens, \(starved.count) experts below \(minTokens)</title>"
    for (shade, own) in cells.sorted(by: { $0.key < $1.key }) {
      let stroke = shade < 0 ? HeatMap.empty : colour(Double(shade) / Double(HeatMap.shades - 1))
      out += "<path stroke=\"\(stroke)\" d=\"\(HeatMap.path(own))\"/>"
    }
    if !starved.isEmpty {
      out += "<path stroke=\"#ffb000\" stroke-width=\"2\" d=\"\(HeatMap.path(starved))\"/>"
    }
    return out + "</g>\n"
  }

  /// The picture, a document of its own. Starved experts have a mark; each cell, or in a large picture each row, tells its numbers to a
  /// pointer.
  var svg: String {
    let experts = layers.map(\.counts.count).max() ?? 0
    let cell = max(4, min(22, 1100 / max(1, experts)))
    let row = max(9, min(22, cell * 2))
    let (left, top) = (58, 64)
    let width = max(left + experts * cell + 16, 640)
    let height = top + layers.count * row + 92
    let most = layers.flatMap(\.counts).max() ?? 0
    var out = """
      <svg xmlns="http://www.w3.org/2000/svg" width="\(width)" height="\(height)" viewBox="0 0 \(width) \(height)" \
      class="heat" style="min-width: \(width)px" font-family="system-ui, sans-serif" font-size="11" fill="#222">
      \(OutputKind.heatMapMark)\(smeltVersion)</metadata>
      <rect width="100%" height="100%" fill="#fff"/>
      <text x="\(left)" y="20" font-size="15">Calibration tokens by layer and expert</text>
      <text x="\(left)" y="38">\(experts > 0 ? "\(layers.count) layers with up to \(experts) experts; expert →" : "the model has no routed experts")</text>

      """
    guard experts > 0 else { return out + "</svg>\n" }
    let step = [1, 2, 4, 8, 16, 32, 64].first { $0 * cell >= 34 } ?? 64
    for expert in stride(from: 0, to: experts, by: step) {
      out += HeatMap.text(left + expert * cell + cell / 2, top - 6, "\(expert)", anchor: "middle")
    }
    let labelled = ceilDivide(12, row)
    let isLarge = layers.reduce(0) { $0 + $1.counts.count } > HeatMap.mostCells
    for (place, layer) in layers.enumerated() {
      let y = top + place * row
      if place % labelled == 0 {
        out += HeatMap.text(
          left - 6, y + row / 2 + 4, place == 0 ? "layer \(layer.layer)" : "\(layer.layer)", anchor: "end")
      }
      guard !isLarge else {
        out += strokes(layer, left, y, cell, row, most: most)
        continue
      }
      for (expert, count) in layer.counts.enumerated() {
        let x = left + expert * cell
        let source = sources[layer.layer]?.experts[expert]
        var title = "layer \(layer.layer), expert \(expert): \(grouped(count)) tokens"
        if let source, source.kind != .own {
          title += ", \(source.kind.words)" + (source.replayed > 0 ? " (\(source.replayed))" : "")
        }
        out +=
          "<rect x=\"\(x)\" y=\"\(y)\" width=\"\(cell)\" height=\"\(row)\" fill=\"\(colour(count, most: most))\"><title>\(title)</title></rect>"
        if count < minTokens {
          out +=
            "<circle cx=\"\(x + cell / 2)\" cy=\"\(y + row / 2)\" r=\"\(fixed(0.3 * Double(cell), 1))\" fill=\"#ffb000\"/>"
        }
      }
      out += "\n"
    }
    return out + legend(top + layers.count * row + 22, left, most) + "</svg>\n"
  }

  private func legend(_ y: Int, _ left: Int, _ most: Int) -> String {
    var out = "<rect x=\"\(left)\" y=\"\(y)\" width=\"18\" height=\"14\" fill=\"\(HeatMap.empty)\"/>"
    out += HeatMap.text(left + 9, y + 28, "0", anchor: "middle")
    let (start, steps, wide) = (left + 34, 60, 4)
    for step in 0..<steps {
      let count = powered(Double(max(most, 1)), Double(step) / Double(steps - 1))
      out +=
        "<rect x=\"\(start + step * wide)\" y=\"\(y)\" width=\"\(wide)\" height=\"14\" fill=\"\(colour(max(1, Int(count.rounded())), most: most))\"/>"
    }
    for quarter in 0...2 {
      let count = powered(Double(max(most, 1)), Double(quarter) / 2)
      out += HeatMap.text(
        start + quarter * steps * wide / 2, y + 28, grouped(Int(count.rounded())), anchor: "middle")
    }
    out += HeatMap.text(start, y + 46, "tokens, logarithmic", anchor: "start")
    if minTokens > 0 {
      out += "<circle cx=\"\(start + steps * wide + 40)\" cy=\"\(y + 7)\" r=\"3\" fill=\"#ffb000\"/>"
      out += HeatMap.text(
        start + steps * wide + 50, y + 11, "fewer than \(minTokens) tokens", anchor: "start")
    }
    return out + "\n"
  }

  private static func text(_ x: Int, _ y: Int, _ text: String, anchor: String) -> String {
    "<text x=\"\(x)\" y=\"\(y)\" text-anchor=\"\(anchor)\">\(text)</text>\n"
  }
}

extension CalibrationSummary {
  /// Tokens by layer and expert as an SVG document.
  package var heatMap: String { HeatMap(expertTokens, sources, minTokens: policy.minTokens).svg }

  /// So many starved experts the page lists.
  private static let mostListed = 1000

  /// The heat map and a table of the starved experts as one self-contained page.
  package var page: String {
    let starved = Starved(sources).experts
    var page = Page("Calibration", verb: "calibrate")
    page.add("<h1>Calibration</h1>\n")
    page.add(
      HTML.table(
        ["measure", "value"],
        [
          ["tokens", grouped(tokens)], ["windows", grouped(windows)],
          ["of them for starved experts", grouped(toppedUpWindows)],
          ["experts", grouped(coverage.experts)], ["never reached", grouped(coverage.neverReached)],
          ["fewer than \(policy.minTokens) tokens of the drawn text", grouped(starved.count)],
          ["policy", policy.kind.rawValue],
        ]))
    page.add(
      HTML.figure(
        heatMap,
        "How many tokens of the text reached each expert; a stronger shade is more. Experts with a mark got fewer tokens than the policy asks for."
      ))
    page.section(
      "Starved experts and what they got",
      HTML.table(
        ["layer", "expert", "own tokens", "topped up", "replayed", "source"],
        starved.prefix(CalibrationSummary.mostListed).map {
          [
            "\($0.layer)", "\($0.expert)", "\($0.source.own)", "\($0.source.toppedUp)",
            "\($0.source.replayed)",
            $0.source.kind.words,
          ]
        })
        + (starved.count > CalibrationSummary.mostListed
          ? "<p>And \(grouped(starved.count - CalibrationSummary.mostListed)) more, which <code>calibrate --json</code> lists.</p>\n"
          : ""))
    return page.text
  }
}
