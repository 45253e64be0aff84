// A picture of layers and experts: one cell an expert, and a table of the cells that stand out. In a large picture cells of one row and
// one shade are one path, so that a model of tens of thousands of experts takes a few hundred kilobytes.

/// A table of numbers as shades.
struct CellMap {
  /// One row of cells.
  struct Row {
    /// Its layer.
    var layer: Int
    /// One number per expert; nil for an expert without one.
    var values: [Double?]
  }

  private let title: String
  private let description: String
  private let rows: [Row]
  private let scale: Scale
  /// Writes a number for people.
  private let written: (Double) -> String
  /// What the numbers are, units included.
  private let measure: String
  /// What a cell without a number means; nil where every cell has one.
  private let holeName: String?

  private static let shades = 8
  /// With more cells than these a row tells its numbers to a pointer, not each cell: a title takes a hundred bytes.
  private static let mostTold = 1024
  /// So many cells the table has.
  private static let listed = 20
  private static let (left, right, top) = (62.0, 16.0, 42.0)

  init(
    _ title: String, _ description: String, _ rows: [Row], _ scale: Scale, measure: String, hole: String?,
    written: @escaping (Double) -> String
  ) {
    (self.title, self.description, self.rows, self.scale) = (title, description, rows, scale)
    (self.measure, self.written) = (measure, written)
    holeName = hole
  }

  /// Which cells stand out.
  enum Extreme: String {
    case largest
    case smallest
  }

  /// The picture with its caption, and the cells that stand out with place and value: one cell of thousands is hard to point at, and no
  /// finger or sheet of paper points.
  /// - Parameters:
  ///   - extreme: which cells are listed.
  ///   - listing: what they have, as text behind "Which experts have the ".
  ///   - beside: another column, written for the place of a row and an expert.
  func figure(
    _ caption: String, _ extreme: Extreme, listing: String,
    beside: (name: String, written: (_ row: Int, _ expert: Int) -> String)? = nil
  ) -> String {
    var found: [(place: Int, expert: Int, value: Double)] = []
    for (place, row) in rows.enumerated() {
      for (expert, value) in row.values.enumerated() {
        if let value, extreme == .smallest || value > 0 { found.append((place, expert, value)) }
      }
    }
    found.sort { a, b in
      if a.value != b.value { return extreme == .largest ? a.value > b.value : a.value < b.value }
      return (a.place, a.expert) < (b.place, b.expert)
    }
    var cells: [[String]] = []
    for cell in found.prefix(CellMap.listed) {
      var line = ["\(rows[cell.place].layer)", "\(cell.expert)", written(cell.value)]
      if let beside { line.append(beside.written(cell.place, cell.expert)) }
      cells.append(line)
    }
    return HTML.figure(svg, caption)
      + HTML.details(
        "Which experts have the \(listing)",
        HTML.table(["layer", "expert", measure] + (beside.map { [$0.name] } ?? []), cells))
  }

  private func shade(_ value: Double) -> Int {
    min(CellMap.shades - 1, Int(scale.place(value) * Double(CellMap.shades)))
  }

  /// The picture.
  var svg: String {
    let isTold = rows.reduce(0) { $0 + $1.values.count } <= CellMap.mostTold
    let experts = max(1, rows.map(\.values.count).max() ?? 1)
    let width = (Drawing.width - CellMap.left - CellMap.right) / Double(experts)
    let height = min(22, max(7, 560 / Double(max(1, rows.count))))
    var out = Drawing.text(CellMap.left, 16, "expert →", "soft") + Drawing.text(8, 16, "layer ↓", "soft")
    let step = [1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100, 128].first { Double($0) * width >= 34 } ?? 256
    for expert in stride(from: 0, to: experts, by: step) {
      out += Drawing.text(
        CellMap.left + (Double(expert) + 0.5) * width, CellMap.top - 7, "\(expert)", "soft middle")
    }
    let labelled = max(1, Int((15 / height).rounded(.up)))
    for (place, row) in rows.enumerated() {
      let y = CellMap.top + Double(place) * height
      if place % labelled == 0 {
        out += Drawing.text(CellMap.left - 8, y + height / 2 + 4.5, "\(row.layer)", "soft end")
      }
      // Strokes one row thick, their middle at 0: `M` to the first cell of a run, `h` over the run.
      out +=
        "<g class=\"cells\" transform=\"translate(\(Drawing.n(CellMap.left)) \(fixed(y + height / 2, 2))) scale(\(fixed(width, 4)) \(fixed(height - (height > 12 ? 1 : 0), 2)))\">"
      out += (isTold ? cells(row) : "<title>\(HTML.escape(told(row)))</title>" + runs(row)) + "</g>\n"
    }
    let end = CellMap.top + Double(rows.count) * height
    return Drawing.picture(title, description, height: end + 66, out + legend(end + 18))
  }

  private func style(_ value: Double?) -> String { value.map { "s\(shade($0))" } ?? "hole" }

  /// The cells of a row, each with what a pointer over it is told.
  private func cells(_ row: Row) -> String {
    row.values.enumerated().map { expert, value in
      let told = "layer \(row.layer), expert \(expert): \(value.map(written) ?? holeName ?? "nothing")"
      return
        "<path class=\"\(style(value))\" d=\"M\(expert) 0h1\"><title>\(HTML.escape(told))</title></path>"
    }.joined()
  }

  /// The cells of a row as runs, each style a path.
  private func runs(_ row: Row) -> String {
    var paths: [String: String] = [:]
    var start = 0
    while start < row.values.count {
      let own = style(row.values[start])
      let end = row.values[start...].firstIndex { style($0) != own } ?? row.values.count
      paths[own, default: ""] += "M\(start) 0h\(end - start)"
      start = end
    }
    return paths.sorted { $0.key < $1.key }.map { "<path class=\"\($0.key)\" d=\"\($0.value)\"/>" }.joined()
  }

  /// What a pointer over a row is told.
  private func told(_ row: Row) -> String {
    let found = row.values.enumerated().compactMap { expert, value in
      value.map { (expert: expert, value: $0) }
    }
    guard let least = found.min(by: { $0.value < $1.value }),
      let most = found.max(by: { $0.value < $1.value })
    else { return "layer \(row.layer): \(holeName ?? "nothing")" }
    return
      "layer \(row.layer): from \(written(least.value)) (expert \(least.expert)) to \(written(most.value)) (expert \(most.expert))"
  }

  private func legend(_ y: Double) -> String {
    let (start, wide) = (CellMap.left, 34.0)
    var out = ""
    for shade in 0..<CellMap.shades {
      out += Drawing.box(start + Double(shade) * wide, y, wide, 14, "c\(shade)")
    }
    let all = Double(CellMap.shades) * wide
    let middle = scale.isLogarithmic ? (scale.low * scale.high).squareRoot() : (scale.low + scale.high) / 2
    for (place, value) in [(0.0, scale.low), (0.5, middle), (1, scale.high)] {
      out += Drawing.text(start + place * all, y + 30, written(value), "soft middle")
    }
    let name = measure + (scale.isLogarithmic ? " (logarithmic)" : "")
    out += Drawing.text(start + all + 14, y + 11.5, name)
    if let holeName {
      let place = start + all + 40 + Drawing.textWidth(name)
      out += Drawing.box(place, y, 14, 14, "fh") + Drawing.text(place + 20, y + 11.5, holeName)
    }
    return out
  }
}
