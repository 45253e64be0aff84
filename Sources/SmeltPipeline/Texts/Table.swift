// Tables for people, within the width of their terminal.

/// Columns of text, as wide as their widest cell; cells that look like numbers stand to the right. Where the terminal is narrower,
/// columns of text are wrapped at spaces, and where that does not do, each row becomes a line of its first cell and the others below
/// it by name. No word is ever cut.
package struct Table {
  private let header: [String]
  private var rows: [[String]] = []

  /// A table with these column titles; without a header line when all are empty.
  package init(_ header: [String]) { self.header = header }

  /// Adds a row; missing cells are empty.
  package mutating func add(_ cells: [String]) { rows.append(cells) }

  /// The lines, within the width that is set.
  package var text: String { text(within: TextWidth.columns) }

  /// The lines, within a number of columns; nil: as wide as they are.
  package func text(within width: Int?) -> String {
    let natural = header.indices.map { column in
      ([header] + rows).map { cell($0, column).count }.max() ?? 0
    }
    let gaps = 2 * (header.count - 1)
    guard let width, natural.reduce(gaps, +) > width else { return columns(natural) }
    guard let widths = narrowed(natural, to: width - gaps) else { return stacked(width) }
    return columns(widths)
  }

  /// A column of text keeps so many characters, or the table is stacked.
  private static let leastText = 16

  private func cell(_ cells: [String], _ column: Int) -> String {
    column < cells.count ? cells[column] : ""
  }

  private func isNumeric(_ column: Int) -> Bool {
    rows.contains { !cell($0, column).isEmpty }
      && rows.allSatisfy {
        let text = cell($0, column)
        return text.isEmpty || text.first!.isNumber || text.first! == "-"
      }
  }

  /// Widths of which the widest are narrowed to one; nil where no words would fit.
  private func narrowed(_ natural: [Int], to room: Int) -> [Int]? {
    let least = header.indices.map { column in
      guard !isNumeric(column) else { return natural[column] }
      let longest = ([header] + rows).flatMap { unbrokenWords(Substring(cell($0, column))) }.map(\.count)
        .max()
      return min(natural[column], max(longest ?? 0, Table.leastText))
    }
    guard least.reduce(0, +) <= room else { return nil }
    func capped(_ cap: Int) -> [Int] { zip(natural, least).map { min($0, max($1, cap)) } }
    var cap = natural.max() ?? 0
    while capped(cap).reduce(0, +) > room { cap -= 1 }
    return capped(cap)
  }

  private func columns(_ widths: [Int]) -> String {
    let numeric = header.indices.map { isNumeric($0) }
    func line(_ cells: [String]) -> String {
      var line = ""
      for column in header.indices {
        let gap = String(repeating: " ", count: max(0, widths[column] - cells[column].count))
        line += (column > 0 ? "  " : "") + (numeric[column] ? gap + cells[column] : cells[column] + gap)
      }
      while line.last == " " { line.removeLast() }
      return line
    }
    func lines(_ cells: [String]) -> [String] {
      let parts = header.indices.map { wrapped(cell(cells, $0), widths[$0], indent: 0) }
      return (0..<(parts.map(\.count).max() ?? 0)).map { place in
        line(parts.map { place < $0.count ? $0[place] : "" })
      }
    }
    guard header.contains(where: { !$0.isEmpty }) else { return rows.flatMap(lines).joined(separator: "\n") }
    let rule = widths.map { String(repeating: "─", count: $0) }.joined(separator: "  ")
    return (lines(header) + [rule] + rows.flatMap(lines)).joined(separator: "\n")
  }

  private func stacked(_ width: Int) -> String {
    rows.flatMap { row -> [String] in
      let named = header.indices.dropFirst().compactMap { column -> String? in
        let text = cell(row, column)
        return text.isEmpty ? nil : header[column].isEmpty ? text : "\(header[column]) \(text)"
      }
      let rest = named.isEmpty ? [] : wrapped("  " + named.joined(separator: ", "), width)
      return (cell(row, 0).isEmpty ? [] : wrapped(cell(row, 0), width)) + rest
    }.joined(separator: "\n")
  }
}
