// The kernels of the methods against their slow twins: rounding with the error passed on, refinement, and what
// factorizations are made of. A NaN is compared as a NaN: which one comes out of two is the machine's choice.

import CKernels
import SmeltTensors
import SmeltTestSupport
import Testing

/// Lengths around vectors, blocks of 64 and blocks of 128.
private let methodLengths = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257]

private let grids = [
  Reference.Grid(.whole, -127, 127), Reference.Grid(.whole, -8, 7), Reference.Grid(.e2m1, -6, 6),
  Reference.Grid(.e4m3, -448, 448),
]

private func bits(_ x: some Sequence<Float>) -> [UInt32] {
  x.map { $0.isNaN ? Float.nan.bitPattern : $0.bitPattern }
}

private func bits(_ x: some Sequence<Double>) -> [UInt64] {
  x.map { $0.isNaN ? Double.nan.bitPattern : $0.bitPattern }
}

/// An array with some elements before and behind, which a kernel must leave alone.
private struct Padded<T: Equatable> {
  var all: [T]
  let range: Range<Int>

  init(_ values: [T], before: Int, filler: T) {
    all = [T](repeating: filler, count: before) + values + [T](repeating: filler, count: 5)
    range = before..<before + values.count
    self.filler = filler
  }

  private let filler: T
  var values: ArraySlice<T> { all[range] }
  var isUntouchedOutside: Bool {
    (all[..<range.lowerBound] + all[range.upperBound...]).allSatisfy { $0 == filler }
  }

  mutating func withPointer<R>(_ body: (UnsafeMutablePointer<T>) -> R) -> R {
    let first = range.lowerBound
    return all.withUnsafeMutableBufferPointer { body($0.baseAddress! + first) }
  }
}

/// A symmetric matrix [n, n] of inputs that hang together; column 5 of every 11 has none.
private func moments(_ n: Int, seed: UInt64) -> [Float] {
  var random = Generator(seed: seed)
  let inputs = (0..<6).map { _ in (0..<n).map { $0 % 11 == 5 ? 0 : random.normal() } }
  return (0..<n * n).map { place -> Float in
    let (i, j) = (place / n, place % n)
    let own: Float = i == j && i % 11 != 5 ? 0.3 : 0
    return inputs.reduce(own) { $0 + $1[i] * $1[j] }
  }
}

extension KernelTests {
  @Test func theTwinsNamesAreTheHeaders() {
    #expect(Reference.GridKind.allCases.map(\.rawValue) == [SK_GRID_WHOLE, SK_GRID_E2M1, SK_GRID_E4M3])
    #expect(
      Reference.ScaleFormat.allCases.map(\.rawValue) == [
        SK_SCALE_F32, SK_SCALE_BF16, SK_SCALE_F16, SK_SCALE_E8M0,
      ])
  }

  @Test(arguments: grids.indices)
  func valuesAreRoundedToAGrid(index: Int) {
    let grid = grids[index]
    var values = difficult(257, seed: 31, bound: 9) + [.nan, -.nan, .infinity, -.infinity]
    for step in 0..<20 { values += [Float(step) / 4 - 2.5, (Float(step) / 4 - 2.5).nextUp] }
    for scale: Float in [1, 0.031, -0.25, 0x1p-126, 1e38, 0] {
      let expected = Reference.roundGrid(values, grid, scale: scale)
      for n in methodLengths + [values.count] {
        for place in n < values.count - 3 ? [0, 1, 3] : [0] {
          onEveryISA { isa in
            var w = Padded(Array(values[place..<place + n]), before: place, filler: 3)
            var codes = Padded([UInt8](repeating: 0, count: n), before: place, filler: 0xA5)
            w.withPointer { w in
              codes.withPointer { sk_round_grid(w, grid.kind.rawValue, grid.low, grid.high, scale, $0, n) }
            }
            let what = "\(isa), \(grid), scale \(scale), length \(n), place \(place)"
            expectSame(bits(w.values), bits(expected.values[place..<place + n]), what)
            expectSame(Array(codes.values), Array(expected.codes[place..<place + n]), "codes, \(what)")
            #expect(w.isUntouchedOutside && codes.isUntouchedOutside, "\(what)")
          }
        }
      }
    }
  }

  /// What cannot be a number has a code, and the code's value.
  @Test func noNaNIsLeftInARoundedRow() {
    for (grid, code) in zip(grids, [0x81, 0xf8, 7, 0x7f] as [UInt8]) {
      onEveryISA { isa in
        var (w, found): (Float, UInt8) = (.nan, 99)
        sk_round_grid(&w, grid.kind.rawValue, grid.low, grid.high, 0.5, &found, 1)
        #expect(found == code && w == grid.number(code) * 0.5, "\(isa), \(grid): \(found), \(w)")
      }
    }
  }

  @Test(arguments: grids.indices)
  func errorsOfAGridAreSummedInEightLanes(index: Int) {
    let grid = grids[index]
    let x = summable(260, seed: 32), wild = difficult(260, seed: 33),
      w = summable(260, seed: 34).map(\.magnitude)
    for n in methodLengths {
      let place = n % 4
      for (values, scale) in [(x, 0.031), (x, -0.4), (wild, 0.7), (x, 0)] as [([Float], Float)] {
        for weights in [nil, Array(w[place..<place + n])] {
          let xs = Array(values[place..<place + n])
          let expected = Reference.gridError(xs, weights, grid, scale: scale)
          onEveryISA { isa in
            let found = values.withUnsafeBufferPointer { x in
              w.withUnsafeBufferPointer { w in
                sk_grid_error(
                  x.baseAddress! + place, weights == nil ? nil : w.baseAddress! + place, scale,
                  grid.kind.rawValue, grid.low, grid.high, n)
              }
            }
            expectSame(bits([found]), bits([expected]), "\(isa), \(grid), scale \(scale), length \(n)")
          }
        }
      }
    }
  }

  @Test(arguments: grids.indices)
  func errorsArePassedOn(index: Int) {
    let grid = grids[index]
    for n in methodLengths where n <= 129 {
      var random = Generator(seed: UInt64(n) + 35)
      // Below the diagonal is nothing that may be read.
      let u = (0..<n * n).map { place -> Float in
        let (i, j) = (place / n, place % n)
        return j < i ? .nan : (j == i ? 0.2 + random.normal().magnitude : random.normal(0.3))
      }
      let scales = (0..<n).map { _ in (0.5 + random.normal().magnitude) / grid.high }
      let wild = difficult(n, seed: UInt64(n), bound: 6)
      for (name, w) in [("normal", random.normals(n)), ("wild", wild)] {
        // The whole block; in runs, as groups are; only what is behind some columns.
        for cuts in [[0, n], [0, n / 3, n / 3, n - n / 4, n], [n / 2, n]] {
          var row = Reference.RoundedColumns(
            w: w, codes: [UInt8](repeating: 0xA5, count: n), errors: [Float](repeating: 7, count: n))
          let runs = zip(cuts, cuts.dropFirst()).map { $0..<$1 }
          let losses = runs.map { Reference.roundColumns(&row, u, $0, grid, scales: scales) }
          onEveryISA { isa in
            let what = "\(isa), \(grid), \(name), length \(n), runs \(runs)"
            var found = Padded(w, before: n % 4, filler: 3)
            var codes = Padded([UInt8](repeating: 0xA5, count: n), before: n % 3, filler: 1)
            var errors = Padded([Float](repeating: 7, count: n), before: 1, filler: 5)
            let sums = runs.map { run in
              found.withPointer { w in
                codes.withPointer { codes in
                  errors.withPointer {
                    sk_round_columns(
                      w, u, n, run.lowerBound, run.upperBound, grid.kind.rawValue, grid.low, grid.high,
                      scales,
                      codes, $0)
                  }
                }
              }
            }
            expectSame(bits(found.values), bits(row.w), what)
            expectSame(Array(codes.values), row.codes, "codes, \(what)")
            expectSame(bits(errors.values), bits(row.errors), "errors, \(what)")
            expectSame(bits(sums), bits(losses), "losses, \(what)")
            #expect(
              found.isUntouchedOutside && codes.isUntouchedOutside && errors.isUntouchedOutside, "\(what)")
          }
        }
      }
    }
  }

  @Test(arguments: grids.indices, Reference.ScaleFormat.allCases)
  func rowsAreRefined(index: Int, format: Reference.ScaleFormat) {
    let grid = grids[index]
    for n in methodLengths where n <= 129 {
      let h = moments(n, seed: UInt64(n) + 40)
      for group in Set([1, 8, 32, 128, max(n, 1)]) where group == max(n, 1) || group < n {
        var random = Generator(seed: UInt64(n * 1000 + group))
        let source = random.normals(n)
        let groups = (n + group - 1) / group
        // Some scales are negative, where a grid has those; all are what their format holds.
        let start = (0..<groups).map { g -> Float in
          let size = (1 + random.normal().magnitude) * 1.5 / grid.high
          let power = Float(sign: .plus, exponent: size.exponent, significand: 1)
          return g % 3 == 1 && grid.low == -8 ? -power : power
        }
        // As it is; with derivatives of something else; with scales at both ends of what floats hold.
        for (name, factor) in [("usual", 1), ("other", 1), ("small", 0x1p-123), ("large", 0x1p118)]
          as [(String, Float)] where name == "usual" || n < 33 || (group == 8 && n < 66)
        {
          let scales = start.map { $0 * factor }
          let codes = source.indices.map { grid.code(source[$0] / start[$0 / group]) }
          let v = codes.indices.map { grid.number(codes[$0]) * scales[$0 / group] }
          let e = zip(v, source).map { $0 - $1 * factor }
          let own = (0..<n).map { i in (0..<n).reduce(Float(0)) { $0 + h[i * n + $1] * e[$1] } }
          let g = name == "other" ? random.normals(n, 4) : own
          check(
            Reference.RefinedRow(v: v, g: g, scales: scales, codes: codes), h, group, grid, format,
            "\(grid), \(format), \(name), length \(n), groups of \(group)",
            source: name == "usual" ? source : nil)
        }
      }
    }
  }

  /// Two rounds with the twin and with the kernel; where a source is given, the change is the one that e h eᵀ has.
  private func check(
    _ before: Reference.RefinedRow, _ h: [Float], _ group: Int, _ grid: Reference.Grid,
    _ format: Reference.ScaleFormat, _ what: String, source: [Float]?
  ) {
    let n = before.v.count
    func error(_ v: [Float], _ source: [Float]) -> Double {
      let e = zip(v, source).map { Double($0) - Double($1) }
      var sum = 0.0
      for i in 0..<n {
        for j in 0..<n { sum += e[i] * Double(h[i * n + j]) * e[j] }
      }
      return sum
    }
    var rows = [before]
    var changes: [Double] = []
    for _ in 0..<2 {
      var row = rows[rows.count - 1]
      changes.append(Reference.refineRow(&row, h, group: group, grid, format))
      rows.append(row)
    }
    if let source {
      let (first, last) = (error(before.v, source), error(rows[2].v, source))
      // Derivatives are kept in float32: two rounds of at most 2 n updates of relative error 2^-24 each.
      let bound = Double(max(n, 8)) * 0x1p-18 * first + 1e-9
      #expect(
        (last - first - changes[0] - changes[1]).magnitude <= bound, "\(what): \(first), \(last), \(changes)")
      #expect(changes.allSatisfy { $0 <= 0 }, "\(what)")
    }
    onEveryISA { isa in
      var v = Padded(before.v, before: n % 4, filler: 3), g = Padded(before.g, before: 1, filler: 3)
      var scales = Padded(before.scales, before: 2, filler: 3)
      var codes = Padded(before.codes, before: n % 3, filler: 1)
      var spare = Padded([Float](repeating: .nan, count: n), before: 3, filler: 3)
      for (row, change) in zip(rows.dropFirst(), changes) {
        let found = v.withPointer { v in
          g.withPointer { g in
            scales.withPointer { scales in
              codes.withPointer { codes in
                spare.withPointer {
                  sk_refine_row(
                    v, g, h, n, group, grid.kind.rawValue, grid.low, grid.high, format.rawValue, scales,
                    codes,
                    $0)
                }
              }
            }
          }
        }
        expectSame(bits(v.values), bits(row.v), "values, \(isa), \(what)")
        expectSame(bits(g.values), bits(row.g), "derivatives, \(isa), \(what)")
        expectSame(bits(scales.values), bits(row.scales), "scales, \(isa), \(what)")
        expectSame(Array(codes.values), row.codes, "codes, \(isa), \(what)")
        expectSame(bits([found]), bits([change]), "change, \(isa), \(what)")
      }
      #expect(
        v.isUntouchedOutside && g.isUntouchedOutside && scales.isUntouchedOutside && codes.isUntouchedOutside
          && spare.isUntouchedOutside, "\(isa), \(what)")
    }
  }

  /// A scale that its format cannot hold, or of the other sign, is not taken.
  @Test func scalesStayWhatTheirFormatHolds() {
    let h: [Float] = [2, 0, 0, 2]
    // (format, scale, best scale ÷ scale, what becomes of it); g is what makes that ratio the best.
    let cases: [(Reference.ScaleFormat, Float, Float, Float)] = [
      (.f32, 0.5, 1.2, 0.6), (.bf16, 0.5, 1.2, 0.6015625), (.f16, 0.5, 1.2, 0.60009766),
      (.e8m0, 0.5, 1.2, 0.5),
      (.f32, 0.5, -1.2, 0.5), (.f32, 0x1p-126, 0.75, 0x1p-126), (.f32, 0x1p120, 1.5, 0x1p120),
      (.f16, 60000, 1.5, 60000), (.f16, 0x1p-24, 0.25, 0x1p-24), (.f32, -0.5, 1.2, -0.6),
    ]
    for (format, scale, ratio, expected) in cases {
      onEveryISA { isa in
        var v = [100 * scale, -90 * scale], codes: [UInt8] = [100, UInt8(bitPattern: -90)]
        var scales = [scale], spare: [Float] = [0, 0]
        var g = v.map { (1 - ratio) * 2 * $0 }
        sk_refine_row(&v, &g, h, 2, 2, SK_GRID_WHOLE, -127, 127, format.rawValue, &scales, &codes, &spare)
        #expect(scales == [expected], "\(isa), \(format), \(scale) × \(ratio)")
      }
    }
  }

  @Test(arguments: [0, 1, 2, 3, 5], [0, 1, 3, 4, 5, 8, 64, 67])
  func productsAreSubtractedInOrder(m: Int, k: Int) {
    for n in [0, 1, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65] {
      let strides = (a: k + n % 3, b: n + 1, c: n + m % 2)
      let wild = n % 5 == 2
      func rows(_ count: Int, _ stride: Int, seed: UInt64) -> Reference.Rows {
        let floats =
          wild ? difficult(count * stride + 2, seed: seed) : summable(count * stride + 2, seed: seed)
        var random = Generator(seed: seed)
        return Reference.Rows(
          floats.map { Double($0) * (1 + Double.random(in: 0..<1e-9, using: &random)) }, start: 1,
          stride: stride)
      }
      let a = rows(m, strides.a, seed: 50), b = rows(k, strides.b, seed: 51),
        before = rows(m, strides.c, seed: 52)
      var expected = before
      Reference.subtractProduct(&expected, a, b, m: m, k: k, n: n)
      onEveryISA { isa in
        var c = before.values
        a.values.withUnsafeBufferPointer { a in
          b.values.withUnsafeBufferPointer { b in
            c.withUnsafeMutableBufferPointer {
              sk_subtract_product(
                $0.baseAddress! + 1, strides.c, a.baseAddress! + 1, strides.a, b.baseAddress! + 1, strides.b,
                m, k,
                n)
            }
          }
        }
        expectSame(bits(c), bits(expected.values), "\(isa), [\(m), \(k)] × [\(k), \(n)]")
      }
    }
  }

  /// A panel is the factor's columns where the matrix is one panel; a pivot that is not positive ends it.
  @Test(arguments: [0, 1, 2, 3, 7, 8, 9, 16, 17, 63, 64, 65])
  func panelsAreFactored(rows: Int) {
    for width in Set([0, 1, rows / 2, rows, 64]) where width <= max(rows, 1) {
      let stride = rows + 3
      var random = Generator(seed: UInt64(rows) + 60)
      let inputs = (0..<2 * rows).map { _ in (0..<rows).map { _ in Double(random.normal()) } }
      var before = Reference.Rows(
        [Double](repeating: .nan, count: max(rows, 1) * stride + 2), start: 1, stride: stride)
      for i in 0..<rows {
        for j in 0...i {
          before[i, j] = inputs.reduce(i == j ? 1.0 : 0) { (sum: Double, x) in sum + x[i] * x[j] }
        }
      }
      for bad in [nil, 0, -1, .nan] as [Double?] {
        var source = before
        let pivot = rows / 2
        if let bad, rows > 0 { source[pivot, pivot] = bad }
        var expected = source
        let isFactored = Reference.choleskyPanel(&expected, rows: rows, width: width)
        #expect(isFactored == (bad == nil || rows == 0 || pivot >= width))
        var found = source.values
        let outcome = found.withUnsafeMutableBufferPointer {
          sk_cholesky_panel($0.baseAddress! + 1, stride, rows, width)
        }
        #expect(outcome == (isFactored ? 0 : -1), "\(rows) rows, width \(width)")
        expectSame(bits(found), bits(expected.values), "\(rows) rows, width \(width), pivot \(bad ?? 1)")
        guard bad == nil, width == rows else { continue }
        for i in 0..<rows {
          for j in 0...i {
            let product = (0...j).reduce(0) { $0 + expected[i, $1] * expected[j, $1] }
            // Rounding of a sum of at most 65 products.
            #expect(
              (product - before[i, j]).magnitude < 1e-12 * (before[i, i] + before[j, j]), "[\(i), \(j)]")
          }
        }
      }
    }
  }

  @Test(arguments: [0, 1, 2, 3, 7, 8, 9, 16, 17, 63, 64, 65])
  func trianglesAreInverted(n: Int) {
    let stride = n + 2
    var random = Generator(seed: UInt64(n) + 70)
    var before = Reference.Rows(
      [Double](repeating: .nan, count: max(n, 1) * stride + 2), start: 1, stride: stride)
    for i in 0..<n {
      for j in 0..<i { before[i, j] = Double(random.normal(0.2)) / Double(n) }
      before[i, i] = 0.5 + Double(random.normal().magnitude)
    }
    var expected = before
    Reference.invertLower(&expected, n: n)
    var found = before.values
    found.withUnsafeMutableBufferPointer { sk_invert_lower($0.baseAddress! + 1, stride, n) }
    expectSame(bits(found), bits(expected.values), "\(n) rows")
    for i in 0..<n {
      for j in 0...i {
        let product = (j...i).reduce(0) { $0 + before[i, $1] * expected[$1, j] }
        #expect((product - (i == j ? 1 : 0)).magnitude < 1e-12, "[\(i), \(j)]")
      }
    }
    // A pivot of zero gives infinities, and the same ones.
    guard n > 2 else { return }
    before[1, 1] = 0
    expected = before
    Reference.invertLower(&expected, n: n)
    found = before.values
    found.withUnsafeMutableBufferPointer { sk_invert_lower($0.baseAddress! + 1, stride, n) }
    expectSame(bits(found), bits(expected.values), "\(n) rows, a pivot of zero")
  }
}
