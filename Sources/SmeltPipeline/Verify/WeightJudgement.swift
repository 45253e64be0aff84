// Whether a weight of a result is what its scheme makes of the source's: every number within half a step of the scale that
// is stored, or as far off as the method that moved it said when it was written. Formats/report.md, section 3.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// What is known about a weight of the result before its numbers are looked at.
struct WeightExpectation: Sendable {
  /// Whether the numbers must be the source's.
  var isKept: Bool
  /// Whether the result says that it was made from this source; else a method may have folded factors into what is kept.
  var isKnown = true
  /// The errors that a method left.
  var recorded: WeightErrors.Entry?
  /// Whether the result was made from this source and says all that was done, so that rows beyond the bound are damage.
  var isStrict: Bool
  /// The share of a row that an observer leaves outside the range of the codes.
  var clippedShare: Double
}

/// What was found of a weight.
struct WeightFindings: Sendable {
  /// What a weight turned out to be.
  enum State: String, Sendable, CaseIterable {
    /// Every number is the source's.
    case exact
    /// Every number is the nearest that the stored scales allow.
    case nearest
    /// A method moved the numbers, and each row is as far off as was recorded then.
    case recorded
    /// Rows are further off than rounding puts them; the result does not say why.
    case beyond
    /// The encoding has no bound for a single number.
    case unbounded
    /// Rows are further off than the scheme can put them.
    case damaged
  }

  /// A row that is further from the source than it may be.
  struct Row: Sendable {
    /// Its number.
    var row: Int
    /// The number in it that is furthest beyond its bound; nil where the row's whole error was recorded.
    var column: Int?
    /// How far that number is off; of a record the relative error of the rows that share it.
    var found: Double
    /// How far the scheme, or the record, allows it to be.
    var allowed: Double
    /// How many such rows there are.
    var count: Int
  }

  var distance = Metrics.Distance()
  var state = State.exact
  /// The worst row that is beyond its bound.
  var row: Row?
  /// Numbers outside the range of the codes.
  var clipped = 0
}

/// Compares weights and judges them.
struct WeightJudge: Sendable {
  let parallel: Parallel

  private struct Block: Sendable {
    var distance = Metrics.Distance()
    var clipped = 0
    var flagged: [Int] = []
  }

  /// One weight of both sides.
  func judge(_ a: Weight, _ b: Weight, _ expected: WeightExpectation) throws -> WeightFindings {
    var findings = WeightFindings()
    if a.encoding is IntegerTable || b.encoding is IntegerTable {
      let (x, y) = (try a.integers(), try b.integers())
      findings.distance = Metrics.Distance(integers: x, y)
      if let place = x.indices.first(where: { x[$0] != y[$0] }) {
        findings.state = .damaged
        findings.row = WeightFindings.Row(
          row: place / max(1, a.columns), column: place % max(1, a.columns),
          found: Double(abs(x[place] - y[place])),
          allowed: 0, count: x.indices.count { x[$0] != y[$0] })
      }
      return findings
    }
    let blocks = compare(
      a, b, checksGrid: !expected.isKept && expected.recorded == nil && b.encoding.hasGrid, expected)
    findings.distance = blocks.reduce(into: Metrics.Distance()) { $0.add($1.distance) }
    findings.clipped = blocks.reduce(0) { $0 + $1.clipped }
    guard findings.distance.largest != 0 else { return findings }
    if let recorded = expected.recorded {
      findings.row = beyondRecord(a, b, recorded)
      findings.state = findings.row == nil ? .recorded : .damaged
    } else if expected.isKept {
      let distances = RowDistances(a, b, parallel)
      let different = (0..<max(1, a.rows)).filter { distances.error($0) != 0 }
      findings.row = worst(a, b, different, isKept: true)
      findings.state = expected.isKnown ? .damaged : .beyond
    } else if !b.encoding.hasGrid {
      findings.state = .unbounded
    } else {
      let flagged = blocks.flatMap(\.flagged)
      findings.state = .nearest
      guard !flagged.isEmpty else { return findings }
      findings.row = worst(a, b, flagged, isKept: false)
      // Methods of others move numbers without a bound: a channel's factor may be folded into them.
      findings.state = expected.isStrict ? .damaged : .beyond
    }
    return findings
  }

  /// Blocks of 64 rows, each by itself, so that no sum depends on the threads.
  private func compare(_ a: Weight, _ b: Weight, checksGrid: Bool, _ expected: WeightExpectation) -> [Block] {
    let size = 64
    var blocks = [Block](repeating: Block(), count: ceilDivide(a.rows, size))
    let columns = a.columns
    // Blocks of rows and columns share a scale: one row may have more than its share of what is clipped.
    let mayClip = Int((4 * expected.clippedShare * Double(columns)).rounded(.up))
    Metrics.fill(&blocks, parallel) { index in
      let rows = index * size..<min(a.rows, (index + 1) * size)
      let (x, y) = (a.decode(rows: rows), b.decode(rows: rows))
      var block = Block()
      // SAFETY: both arrays have the same number of decoded numbers; read for the call
      x.withUnsafeBufferPointer { x in
        y.withUnsafeBufferPointer { y in
          guard let x = x.baseAddress, let y = y.baseAddress else { return }
          block.distance.add(x, y, count: rows.count * columns)
          guard checksGrid, block.distance.largest != 0 else { return }
          for row in rows {
            let start = (row - rows.lowerBound) * columns
            var found = RoundingCheck()
            b.encoding.grids(b, row: row) { range, grid in
              found += grid.check(
                x + start + range.lowerBound, y + start + range.lowerBound, count: range.count)
            }
            block.clipped += found.clipped
            if found.beyond > 0 || found.farClipped > mayClip { block.flagged.append(row) }
          }
        }
      }
      return block
    }
    return blocks
  }

  /// The row with the number that is furthest beyond what is allowed, compared with it; of many rows some are looked at.
  private func worst(_ a: Weight, _ b: Weight, _ rows: [Int], isKept: Bool) -> WeightFindings.Row? {
    var worst: WeightFindings.Row?
    var most = -1.0
    for row in rows.prefix(256) {
      let (x, y) = (a.decode(rows: row..<row + 1), b.decode(rows: row..<row + 1))
      func look(_ column: Int, _ allowed: Double) {
        let found = Double(abs(x[column] - y[column]))
        let ratio = found.isNaN ? .infinity : found / max(allowed, 1e-30)
        guard ratio > most, !(found <= allowed) else { return }
        most = ratio
        worst = WeightFindings.Row(
          row: row, column: column, found: found, allowed: allowed, count: rows.count)
      }
      if isKept {
        for column in x.indices { look(column, 0) }
      } else {
        b.encoding.grids(b, row: row) { range, grid in
          for column in range { look(column, Double(grid.bound(x[column]))) }
        }
      }
    }
    return worst
  }

  /// The group of rows furthest from what was recorded, on either side; nil where all are as recorded. A record is what the
  /// same sums gave when the weight was written, so that the two are equal bit for bit.
  private func beyondRecord(_ a: Weight, _ b: Weight, _ recorded: WeightErrors.Entry) -> WeightFindings.Row? {
    let distances = RowDistances(a, b, parallel)
    let rows = max(1, a.rows)
    var worst: WeightFindings.Row?
    var count = 0
    for (group, first) in stride(from: 0, to: rows, by: recorded.rows).enumerated() {
      let range = first..<min(rows, first + recorded.rows)
      let (squares, source) = distances.sums(range)
      let code = WeightErrors.Entry.code(squares, source)
      let known = group < recorded.errors.count ? recorded.errors[group] : 0
      guard code != known else { continue }
      count += 1
      let (found, allowed) = (WeightErrors.Entry.value(code), WeightErrors.Entry.value(known))
      guard worst == nil || abs(found - allowed) > abs(worst!.found - worst!.allowed) else { continue }
      let row = range.max { distances.error($0) < distances.error($1) } ?? first
      worst = WeightFindings.Row(row: row, column: nil, found: found, allowed: allowed, count: 0)
    }
    worst?.count = count
    return worst
  }
}
