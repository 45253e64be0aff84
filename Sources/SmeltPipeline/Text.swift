// Numbers and tables for people. Machines get JSON.

/// A number with a fixed count of decimals.
package func fixed(_ value: Double, _ decimals: Int) -> String {
  guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
  var scale = 1.0
  for _ in 0..<decimals { scale *= 10 }
  let scaled = (abs(value) * scale).rounded()
  guard scaled < 9e18 else { return "\(value)" }
  let whole = String(UInt64(scaled))
  let padded = String(repeating: "0", count: max(0, decimals + 1 - whole.count)) + whole
  let split = padded.index(padded.endIndex, offsetBy: -decimals)
  return (value < 0 && scaled > 0 ? "-" : "") + padded[..<split]
    + (decimals > 0 ? "." + padded[split...] : "")
}

/// A small number with three digits: `1.23e-04`.
package func scientific(_ value: Double) -> String {
  guard value.isFinite, value != 0 else { return value == 0 ? "0" : "\(value)" }
  var exponent = 0
  var mantissa = abs(value)
  while mantissa >= 9.995 {
    mantissa /= 10
    exponent += 1
  }
  while mantissa < 0.9995 {
    mantissa *= 10
    exponent -= 1
  }
  let digits = String(abs(exponent))
  return (value < 0 ? "-" : "") + fixed(mantissa, 2) + "e" + (exponent < 0 ? "-" : "+")
    + (digits.count < 2 ? "0" + digits : digits)
}

/// A whole number with its thousands apart: `17 850`.
package func grouped(_ value: Int) -> String {
  var digits = String(value.magnitude)
  var groups: [String] = []
  while digits.count > 3 {
    groups.insert(String(digits.suffix(3)), at: 0)
    digits.removeLast(3)
  }
  groups.insert(digits, at: 0)
  return (value < 0 ? "-" : "") + groups.joined(separator: " ")
}

/// Columns of text, as wide as their widest cell; cells that look like numbers stand to the right.
package struct Table {
  private let header: [String]
  private var rows: [[String]] = []

  /// A table with these column titles; without a header line when all are empty.
  package init(_ header: [String]) { self.header = header }

  /// Adds a row; missing cells are empty.
  package mutating func add(_ cells: [String]) { rows.append(cells) }

  /// The lines.
  package var text: String {
    let all = [header] + rows
    let widths = header.indices.map { column in
      all.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
    }
    let numeric = header.indices.map { column in
      rows.contains { column < $0.count && !$0[column].isEmpty }
        && rows.allSatisfy {
          column >= $0.count || $0[column].isEmpty || $0[column].first!.isNumber || $0[column].first! == "-"
        }
    }
    func line(_ cells: [String]) -> String {
      var line = ""
      for column in header.indices {
        let cell = column < cells.count ? cells[column] : ""
        let gap = String(repeating: " ", count: widths[column] - cell.count)
        line += (column > 0 ? "  " : "") + (numeric[column] ? gap + cell : cell + gap)
      }
      while line.last == " " { line.removeLast() }
      return line
    }
    guard header.contains(where: { !$0.isEmpty }) else { return rows.map(line).joined(separator: "\n") }
    let rule = widths.map { String(repeating: "─", count: $0) }.joined(separator: "  ")
    return ([line(header), rule] + rows.map(line)).joined(separator: "\n")
  }
}
