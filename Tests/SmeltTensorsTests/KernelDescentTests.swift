// The kernel that chooses a group's scale and codes again, against its slow twin.

import CKernels
import SmeltTensors
import SmeltTestSupport
import Testing

extension KernelTests {
  /// Groups at the start, within and at the end of rows; a column that has no moments; scales of which the first, another or none is best.
  @Test(arguments: [1, 2, 7, 8, 9, 16, 31, 33, 64, 65, 128, 130])
  func groupsDescend(n: Int) {
    let grids = [
      Reference.Grid(.whole, -127, 127), Reference.Grid(.whole, -8, 7), Reference.Grid(.e2m1, -6, 6),
      Reference.Grid(.e4m3, -448, 448),
    ]
    var random = Generator(seed: UInt64(n) + 70)
    let inputs = (0..<6).map { _ in (0..<n).map { $0 % 11 == 5 ? 0 : random.normal() } }
    let h = (0..<n * n).map { place -> Float in
      let (i, j) = (place / n, place % n)
      let own: Float = i == j && i % 11 != 5 ? 0.3 : 0
      return inputs.reduce(own) { $0 + $1[i] * $1[j] }
    }
    for grid in grids {
      for group in Set([1, 8, 32, n]) where group <= n {
        let source = random.normals(n)
        let groups = (n + group - 1) / group
        let scales = (0..<groups).map { _ in (1 + random.normal().magnitude) * 1.5 / grid.high }
        let codes = source.indices.map { grid.code(source[$0] / scales[$0 / group]) }
        let v = codes.indices.map { grid.number(codes[$0]) * scales[$0 / group] }
        let e = zip(v, source).map { $0 - $1 }
        let g = (0..<n).map { i in (0..<n).reduce(Float(0)) { $0 + h[i * n + $1] * e[$1] } }
        let before = Reference.RefinedRow(v: v, g: g, scales: scales, codes: codes)
        for factors in [[1], [1, 0.5, 2], [0.9, 1, 1.1, 0.8, 1.2], [64], []] as [[Float]] {
          for sweeps in [1, 2, 3] {
            checkDescent(
              before, h, group, grid, factors, sweeps, source,
              "\(grid), length \(n), groups of \(group), \(factors), \(sweeps) sweeps")
          }
        }
      }
    }
  }

  private func checkDescent(
    _ before: Reference.RefinedRow, _ h: [Float], _ group: Int, _ grid: Reference.Grid, _ factors: [Float],
    _ sweeps: Int, _ source: [Float], _ what: String
  ) {
    let n = before.v.count
    var expected = before
    var changes: [Double] = []
    for (index, first) in stride(from: 0, to: n, by: group).enumerated() {
      changes.append(
        Reference.descendGroup(
          &expected, h, first..<min(first + group, n), group: index, grid,
          candidates: factors.map { $0 * before.scales[index] }, sweeps: sweeps))
    }
    /// e h eᵀ in double.
    func error(_ v: [Float]) -> Double {
      let e = zip(v, source).map { Double($0) - Double($1) }
      return e.indices.reduce(0) { sum, i in
        sum + e[i] * e.indices.reduce(0) { $0 + Double(h[i * n + $1]) * e[$1] }
      }
    }
    let (first, last) = (error(before.v), error(expected.v))
    #expect(changes.allSatisfy { $0 <= 0 }, "\(what)")
    #expect(
      (last - first - changes.reduce(0, +)).magnitude <= Double(max(n, 8)) * 0x1p-17 * first + 1e-9,
      "\(what): \(first), \(last), \(changes)")
    onEveryISA { isa in
      var row = before
      // One element more than is needed, which must stay.
      var spare = [Float](repeating: 3, count: 3 * group + 1)
      var spareCodes = [UInt8](repeating: 7, count: 2 * group + 1)
      var found: [Double] = []
      for (index, first) in stride(from: 0, to: n, by: group).enumerated() {
        let candidates = factors.map { $0 * before.scales[index] }
        found.append(
          sk_descend_group(
            &row.v, &row.g, h, n, first, min(group, n - first), grid.kind.rawValue, grid.low, grid.high,
            candidates,
            candidates.count, sweeps, &row.scales[index], &row.codes, &spare, &spareCodes))
      }
      #expect(row.v.map(\.bitPattern) == expected.v.map(\.bitPattern), "values, \(isa), \(what)")
      #expect(row.g.map(\.bitPattern) == expected.g.map(\.bitPattern), "derivatives, \(isa), \(what)")
      #expect(row.scales == expected.scales && row.codes == expected.codes, "\(isa), \(what)")
      #expect(found == changes, "\(isa), \(what)")
      #expect(spare.last == 3 && spareCodes.last == 7, "\(isa), \(what)")
    }
  }
}
