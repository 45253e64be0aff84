// GPTQ: rounding column by column, each column's error made good by those after it. Formats/methods.md, section 2.

internal import CKernels
package import SmeltStorage
package import SmeltTensors

/// GPTQ's settings. Source: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for
/// Generative Pre-trained Transformers", 2022.
package struct GPTQ: Sendable, Hashable {
  /// The share of the mean of H's diagonal that is added to it; nil: `damping(on:)`.
  package var damping: Double?
  /// Whether the columns with the largest inputs are rounded first; scales are then chosen before all rounding.
  package var ordersByActivation: Bool

  /// The grid's damping; columns with the largest inputs first.
  package init(damping: Double? = nil, ordersByActivation: Bool = true) {
    self.damping = damping
    self.ordersByActivation = ordersByActivation
  }

  /// The damping on a grid where none is given: the paper's hundredth; three times that for four bits, whose larger errors fit themselves
  /// to chance in H the sooner (mean KL of INT4 in groups of 128, tiny-v3 / tiny-v4: 3.33e-3 / 4.99e-3, with a hundredth 3.47e-3 / 5.10e-3).
  package func damping(on grid: Grid) -> Double { damping ?? (grid.isFourBit ? 0.03 : 0.01) }

  /// What became of a weight.
  package struct Outcome: Sendable {
    /// The weight in its new encoding.
    package var weight: Weight
    /// For each row, Σ e²: the square error of its outputs over the calibration inputs, damping included.
    package var losses: [Double]
    /// What rounding did.
    package var report: RowReport
  }

  /// Rounds a weight's rows to a grid. Rows are independent: the bits do not depend on the threads.
  /// - Parameter hessians: the moments of the weight's inputs, one for each of its input groups.
  /// - Returns: nil where a Hessian is zero or not finite.
  /// - Throws: `Q_CODE_NAN`.
  package func quantize(_ weight: Weight, to grid: Grid, _ hessians: [Hessian], parallel: Parallel) throws
    -> Outcome?
  {
    let (rows, columns) = (weight.rows, weight.columns)
    // SAFETY: moments have the weight's columns and groups its rows, checked here, so that all arrays below have rows of one length. A
    // task writes codes, scales, losses and reports of its own rows only, until `forEach` returns.
    precondition(
      hessians.allSatisfy { $0.columns == columns } && hessians.count <= max(1, rows),
      "moments that do not fit '\(weight.name)', which is \(weight.shape)")
    let groupRows = max(1, rows / max(1, hessians.count))
    let sizes = grid.rowBytes(columns: columns)
    let codes = ByteBuffer(count: rows * sizes.values)
    let scales = ByteBuffer(count: rows * sizes.scales)
    let target = RowPlaces(
      values: SharedPointer(codes.bytes.baseAddress!.assumingMemoryBound(to: UInt8.self)),
      scales: sizes.scales > 0
        ? SharedPointer(scales.bytes.baseAddress!.assumingMemoryBound(to: UInt8.self)) : nil,
      sizes: sizes)
    var losses = [Double](repeating: 0, count: rows)
    var reports = [RowReport](repeating: RowReport(), count: rows)
    for (index, hessian) in hessians.enumerated() {
      let order = order(hessian)
      guard let factor = InverseFactor(hessian, order: order, damping: damping(on: grid), parallel: parallel)
      else {
        return nil
      }
      let range = index * groupRows..<(index == hessians.count - 1 ? rows : (index + 1) * groupRows)
      let rounding = RowRounding(
        grid: grid, factor: factor, order: order, isOrdered: ordersByActivation,
        descent: GroupDescent(grid, hessian, damping: factor.damping))
      try losses.withUnsafeMutableBufferPointer { losses in
        try reports.withUnsafeMutableBufferPointer { reports in
          let (losses, reports) = (SharedPointer(losses.baseAddress!), SharedPointer(reports.baseAddress!))
          let step = RowRounding.rows
          try parallel.forEach(ceilDivide(range.count, step)) { task in
            let first = range.lowerBound + task * step
            let some = first..<min(range.upperBound, first + step)
            try rounding.round(weight, some, target, losses, reports)
          }
        }
      }
    }
    let layouts = try grid.encoding.layout(of: weight.shape, name: weight.name)
    let parts = zip(layouts, [Bytes(codes), Bytes(scales)] + (grid.globalBytes.map { [$0] } ?? [])).map {
      Part(
        $0.name, dtype: ($0.name == .scales ? grid.scaleDType : nil) ?? $0.dtypes[0], shape: $0.shape,
        bytes: $1)
    }
    return Outcome(
      weight: try Weight(
        name: weight.name, shape: weight.shape, encoding: grid.encoding, parts: parts, file: weight.file),
      losses: losses, report: reports.reduce(into: RowReport()) { $0 += $1 })
  }

  private func order(_ hessian: Hessian) -> [Int] {
    guard ordersByActivation else { return Array(0..<hessian.columns) }
    let diagonal = hessian.diagonal
    return (0..<hessian.columns).sorted { (diagonal[$0], $1) > (diagonal[$1], $0) }
  }
}

/// Where rows go.
struct RowPlaces: Sendable {
  let values: SharedPointer<UInt8>
  let scales: SharedPointer<UInt8>?
  let sizes: (values: Int, scales: Int)
}

/// Rounds some rows at a time.
struct RowRounding: Sendable {
  /// Rows that share a read of the factor.
  static let rows = 32

  let grid: Grid
  let factor: InverseFactor
  let order: [Int]
  let isOrdered: Bool
  /// What chooses again once all columns are rounded; nil where nothing does.
  let descent: GroupDescent?
  /// How much a column's rounding costs: 1 ÷ U[c][c]², by place in the order.
  let costs: [Float]

  init(grid: Grid, factor: InverseFactor, order: [Int], isOrdered: Bool, descent: GroupDescent?) {
    self.descent = descent
    self.grid = grid
    self.factor = factor
    self.order = order
    self.isOrdered = isOrdered
    costs = (0..<factor.columns).map { 1 / (factor.diagonal($0) * factor.diagonal($0)) }
  }

  func round(
    _ weight: Weight, _ rows: Range<Int>, _ target: RowPlaces, _ losses: SharedPointer<Double>,
    _ reports: SharedPointer<RowReport>
  ) throws {
    let n = factor.columns
    let groups = ceilDivide(n, grid.group ?? n)
    var original: [Float] = []
    original.reserveCapacity(rows.count * n)
    try forEachDecodedRow(weight, rows: rows, spareRows: 0) { _, values, _ in
      original += UnsafeBufferPointer(start: values, count: n)
    }
    let result = rounded(original, rows.count)
    for (place, row) in rows.enumerated() {
      losses.pointer[row] = result.losses[place]
      let own = place * n..<(place + 1) * n
      reports.pointer[row].add(row: n, inexact: own.count { result.values[$0] != original[$0] })
      result.codes.withUnsafeBufferPointer { codes in
        result.scales.withUnsafeBufferPointer { scales in
          grid.pack(
            codes.baseAddress! + place * n, scales.baseAddress! + place * groups, columns: n,
            values: target.values.pointer + row * target.sizes.values,
            scaleBytes: target.scales.map { $0.pointer + row * target.sizes.scales })
        }
      }
    }
  }

  /// Some rows on a grid.
  private struct Rounded {
    /// A code and a number for each column, in the source's order.
    var codes: [UInt8]
    var values: [Float]
    /// A scale for each group.
    var scales: [Float]
    /// The square error of the outputs, damping included, of each row.
    var losses: [Double]
  }

  /// Rounds `count` rows, column after column, then by descent where there is one.
  /// - Parameter original: their values, [count, columns].
  private func rounded(_ original: [Float], _ count: Int) -> Rounded {
    let n = factor.columns
    let groups = ceilDivide(n, grid.group ?? n)
    let choosesOnTheWay = !isOrdered && grid.group != nil
    var w = isOrdered ? (0..<count).flatMap { row in order.map { original[row * n + $0] } } : original
    var scales = [Float](repeating: 1, count: count * groups)
    if !choosesOnTheWay { chooseAll(&scales, w, count, groups) }
    var codes = [UInt8](repeating: 0, count: count * n)
    var sums = [Double](repeating: 0, count: count)
    var errors = [Float](repeating: 0, count: count * InverseFactor.block)
    var columnScales = [Float](repeating: 1, count: InverseFactor.block)
    withPointers(&w, &codes, &errors) { w, codes, errors in
      for first in stride(from: 0, to: n, by: InverseFactor.block) {
        let width = min(InverseFactor.block, n - first)
        factor.blocks.withUnsafeBufferPointer { blocks in
          let u = blocks.baseAddress! + first * InverseFactor.block
          for row in 0..<count {
            let place = w + row * n + first
            let step = choosesOnTheWay ? min(width, grid.group ?? width) : width
            for start in stride(from: 0, to: width, by: step) {
              let end = min(width, start + step)
              if choosesOnTheWay {
                let scale = costs.withUnsafeBufferPointer {
                  grid.scale(place + start, $0.baseAddress! + first + start, end - start)
                }
                scales[row * groups + (first + start) / grid.group!] = scale
              }
              for column in start..<end {
                let group = grid.group.map { order[first + column] / $0 } ?? 0
                columnScales[column] = scales[row * groups + group]
              }
              sums[row] += sk_round_columns(
                place, u, width, start, end, grid.kind, grid.low, grid.high, columnScales,
                codes + row * n + first, errors + row * InverseFactor.block)
            }
          }
        }
        let rest = first + width
        guard rest < n else { break }
        factor.lower.withUnsafeBufferPointer { lower in
          sk_gemm_f32(
            errors, InverseFactor.block, lower.baseAddress! + rest * n + first, n, w + rest, n, count,
            n - rest,
            width, 1)
        }
      }
    }
    if isOrdered { (codes, w) = (inSourceOrder(codes, count), inSourceOrder(w, count)) }
    if let descent {
      let (changes, values) = descent.descend(source: original, codes: &codes, scales: &scales)
      w = values
      for row in 0..<count { sums[row] = max(0, sums[row] + changes[row]) }
    }
    return Rounded(codes: codes, values: w, scales: scales, losses: sums)
  }

  /// Rows in the order of rounding, back in the source's.
  private func inSourceOrder<T>(_ values: [T], _ rows: Int) -> [T] {
    var own = values
    for row in 0..<rows {
      for (place, column) in order.enumerated() {
        own[row * order.count + column] = values[row * order.count + place]
      }
    }
    return own
  }

  /// The scales of all groups, from values that no error has reached yet; `w` in the order of rounding.
  private func chooseAll(_ scales: inout [Float], _ w: [Float], _ rows: Int, _ groups: Int) {
    let n = factor.columns
    let width = grid.group ?? n
    var costs = costs
    for (place, column) in order.enumerated() { costs[column] = self.costs[place] }
    var own = [Float](repeating: 0, count: n)
    for row in 0..<rows {
      for (place, column) in order.enumerated() { own[column] = w[row * n + place] }
      for group in 0..<groups {
        let first = group * width
        let count = min(width, n - first)
        own.withUnsafeBufferPointer { own in
          costs.withUnsafeBufferPointer { costs in
            scales[row * groups + group] = grid.scale(
              own.baseAddress! + first, costs.baseAddress! + first, count)
          }
        }
      }
    }
  }
}

/// Lends the addresses of three arrays that are not empty, during `body`.
private func withPointers<A, B, C>(
  _ a: inout [A], _ b: inout [B], _ c: inout [C],
  _ body: (UnsafeMutablePointer<A>, UnsafeMutablePointer<B>, UnsafeMutablePointer<C>) throws -> Void
) rethrows {
  try a.withUnsafeMutableBufferPointer { a in
    try b.withUnsafeMutableBufferPointer { b in
      try c.withUnsafeMutableBufferPointer { c in try body(a.baseAddress!, b.baseAddress!, c.baseAddress!) }
    }
  }
}
