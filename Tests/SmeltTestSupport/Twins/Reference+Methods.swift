// The slow, obvious twins of the kernels that choose codes for whole rows (sk_methods.h): rounding with the error passed
// on, and refinement. The factorization's are in Reference+Factors.swift.

extension Reference {
  /// The numbers that a code may be (`SK_GRID_*`).
  package enum GridKind: Int32, CaseIterable, Sendable {
    /// Whole numbers, codes in two's complement.
    case whole
    /// E2M1, the code in the low nibble.
    case e2m1
    /// E4M3.
    case e4m3
  }

  /// A set of numbers, to be multiplied by a scale.
  package struct Grid: Sendable {
    /// The numbers that a code may be.
    package let kind: GridKind
    /// The least number; of whole numbers only.
    package let low: Float
    /// The greatest number.
    package let high: Float

    /// Numbers of a kind from `low` to `high`.
    package init(_ kind: GridKind, _ low: Float, _ high: Float) {
      (self.kind, self.low, self.high) = (kind, low, high)
    }

    /// The code whose number is nearest to `t`, ties to even, saturating; NaN gives `low`, 7 (E2M1), 0x7f (E4M3).
    package func code(_ t: Float) -> UInt8 {
      switch kind {
      case .whole:
        UInt8(bitPattern: Int8(t.isNaN ? low : max(low, min(high, t)).rounded(.toNearestOrEven)))
      case .e2m1: encodeE2M1(t, scale: 1)
      case .e4m3: encodeE4M3(t, scale: 1)
      }
    }

    /// The number of a code.
    package func number(_ code: UInt8) -> Float {
      switch kind {
      case .whole: Float(Int8(bitPattern: code))
      case .e2m1: Reference.value(UInt32(code), exponent: 2, mantissa: 1)
      case .e4m3: decodeE4M3(code, scale: 1)
      }
    }

    fileprivate func value(_ x: Float, scale: Float) -> Float { number(code(x / scale)) * scale }
  }

  /// How a scale is stored (`SK_SCALE_*`).
  package enum ScaleFormat: Int32, CaseIterable, Sendable {
    case f32, bf16, f16, e8m0

    /// What a scale is read back as; E8M0 is never stored by the twins.
    func stored(_ scale: Float) -> Float {
      switch self {
      case .f32, .e8m0: scale
      case .bf16: decodeBF16(encodeBF16(scale))
      case .f16: decodeF16(encodeF16(scale))
      }
    }
  }

  /// `sk_round_grid`: the codes of w / scale, and their values.
  package static func roundGrid(_ w: [Float], _ grid: Grid, scale: Float) -> (codes: [UInt8], values: [Float])
  {
    let codes = w.map { grid.code($0 / scale) }
    return (codes, codes.map { grid.number($0) * scale })
  }

  /// `sk_grid_error`: Σ weight · (x − value)² in double; x[i] joins sum i mod 8, the eight are added as a tree, first l with
  /// l + 4, then + 2, then + 1. `weights` nil counts as ones.
  package static func gridError(_ x: [Float], _ weights: [Float]?, _ grid: Grid, scale: Float) -> Double {
    var lanes = [Double](repeating: 0, count: 8)
    for i in x.indices {
      let d = Double(x[i] - grid.value(x[i], scale: scale))
      lanes[i % 8] += Double(weights?[i] ?? 1) * (d * d)
    }
    for half in [4, 2, 1] {
      for l in 0..<half { lanes[l] += lanes[l + half] }
    }
    return lanes[0]
  }

  /// What `sk_round_columns` makes of a row: the block's columns, and codes and errors of those that were rounded.
  package struct RoundedColumns: Sendable {
    /// The values of the columns rounded so far; what is left of the others.
    package var w: [Float]
    /// A code for each column of the block; untouched where none was chosen.
    package var codes: [UInt8]
    /// −e for each column of the block; untouched where there is none.
    package var errors: [Float]

    /// A row before its first column.
    package init(w: [Float], codes: [UInt8], errors: [Float]) {
      (self.w, self.codes, self.errors) = (w, codes, errors)
    }
  }

  /// `sk_round_columns`: each column in turn becomes the nearest value; e = (w − value) / u[c, c] is taken, times u[c, j],
  /// from every later column j. `u` is [n, n]. Gives Σ e² in double, columns ascending.
  package static func roundColumns(
    _ row: inout RoundedColumns, _ u: [Float], _ columns: Range<Int>, _ grid: Grid, scales: [Float]
  ) -> Double {
    let n = row.w.count
    var loss = 0.0
    for c in columns {
      row.codes[c] = grid.code(row.w[c] / scales[c])
      let value = grid.number(row.codes[c]) * scales[c]
      let e = (row.w[c] - value) / u[c * n + c]
      loss += Double(e) * Double(e)
      row.errors[c] = -e
      row.w[c] = value
      for j in c + 1..<max(n, c + 1) { row.w[j] -= e * u[c * n + j] }
    }
    return loss
  }

  /// A row on its way through `sk_refine_row`.
  package struct RefinedRow: Sendable {
    /// The values, code times scale.
    package var v: [Float]
    /// h e: the derivative by each column, halved.
    package var g: [Float]
    /// A scale for each group.
    package var scales: [Float]
    /// A code for each column.
    package var codes: [UInt8]

    /// A row before a round.
    package init(v: [Float], g: [Float], scales: [Float], codes: [UInt8]) {
      (self.v, self.g, self.scales, self.codes) = (v, g, scales, codes)
    }
  }

  /// `sk_refine_row`: each group's scale, then each column's code, is changed where that makes e h eᵀ smaller. `h` is [n, n].
  /// Gives the change, in double.
  package static func refineRow(
    _ row: inout RefinedRow, _ h: [Float], group: Int, _ grid: Grid, _ format: ScaleFormat
  ) -> Double {
    let n = row.v.count
    var change = 0.0
    if format != .e8m0 {
      for first in stride(from: 0, to: n, by: group) {
        change += refineScale(&row, h, first..<min(first + group, n), group: first / group, grid, format)
      }
    }
    for c in 0..<n where h[c * n + c] > 0 {
      change += refineCode(&row, h, c, scale: row.scales[c / group], grid)
    }
    return change
  }

  /// With p = h v over the group's columns: e h eᵀ after v becomes (1 + t) v is 2 t (v · g) + t² (v · p) larger.
  private static func refineScale(
    _ row: inout RefinedRow, _ h: [Float], _ columns: Range<Int>, group: Int, _ grid: Grid,
    _ format: ScaleFormat
  ) -> Double {
    let n = row.v.count
    var p = [Float](repeating: 0, count: n)
    for c in columns where row.v[c] != 0 {
      for j in 0..<n { p[j] += row.v[c] * h[c * n + j] }
    }
    var (slope, curve) = (0.0, 0.0)
    for c in columns {
      slope += Double(row.v[c]) * Double(row.g[c])
      curve += Double(row.v[c]) * Double(p[c])
    }
    guard curve > 0 else { return 0 }
    let old = row.scales[group]
    let scale = format.stored(Float(Double(old) * (1 - slope / curve)))
    guard scale.magnitude >= .leastNormalMagnitude, scale.magnitude * grid.high < power(127),
      (scale < 0) == (old < 0)
    else { return 0 }
    let t = Double(scale) / Double(old) - 1
    let gain = 2 * t * slope + t * t * curve
    guard gain < 0 else { return 0 }
    row.scales[group] = scale
    for c in columns { row.v[c] = grid.number(row.codes[c]) * scale }
    for j in 0..<n { row.g[j] += Float(t) * p[j] }
    return gain
  }

  private static func refineCode(
    _ row: inout RefinedRow, _ h: [Float], _ c: Int, scale: Float, _ grid: Grid
  ) -> Double {
    let n = row.v.count
    let own = h[c * n + c]
    let code = grid.code((row.v[c] - row.g[c] / own) / scale)
    let value = grid.number(code) * scale
    let d = value - row.v[c]
    let gain = 2 * Double(d) * Double(row.g[c]) + Double(d) * Double(d) * Double(own)
    guard d != 0, gain < 0 else { return 0 }
    (row.codes[c], row.v[c]) = (code, value)
    for j in 0..<n { row.g[j] += d * h[c * n + j] }
    return gain
  }

  /// `sk_descend_group`: for each scale, the group's codes are chosen again in at most `sweeps` rounds; the scale with the smallest
  /// e h eᵀ, the first of equals, is taken where that is below what it was. `h` is [n, n]. Gives the change, in double.
  package static func descendGroup(
    _ row: inout RefinedRow, _ h: [Float], _ columns: Range<Int>, group: Int, _ grid: Grid,
    candidates: [Float], sweeps: Int
  ) -> Double {
    let n = row.v.count
    var least = (change: 0.0, scale: Float(0), v: [Float](), codes: [UInt8]())
    for scale in candidates {
      var trial = (v: Array(row.v[columns]), g: Array(row.g[columns]), codes: Array(row.codes[columns]))
      var change = 0.0
      for _ in 0..<sweeps {
        var isMoved = false
        for (place, c) in columns.enumerated() {
          let own = h[c * n + c]
          guard own > 0 else {
            trial.codes[place] = grid.code(row.v[c] / scale)
            trial.v[place] = grid.number(trial.codes[place]) * scale
            continue
          }
          trial.codes[place] = grid.code((trial.v[place] - trial.g[place] / own) / scale)
          let value = grid.number(trial.codes[place]) * scale
          let d = value - trial.v[place]
          guard d != 0 else { continue }
          isMoved = true
          change += 2 * Double(d) * Double(trial.g[place]) + Double(d) * Double(d) * Double(own)
          trial.v[place] = value
          for (other, j) in columns.enumerated() { trial.g[other] += d * h[c * n + j] }
        }
        if !isMoved { break }
      }
      if change < least.change { least = (change, scale, trial.v, trial.codes) }
    }
    guard least.change < 0 else { return 0 }
    row.scales[group] = least.scale
    for (place, c) in columns.enumerated() {
      let d = least.v[place] - row.v[c]
      (row.v[c], row.codes[c]) = (least.v[place], least.codes[place])
      guard d != 0 else { continue }
      for j in 0..<n { row.g[j] += d * h[c * n + j] }
    }
    return least.change
  }
}
