// What GPTQ leaves to be gained: the scales and codes of groups chosen again, with all other columns as they are now.
// Formats/methods.md, section 2.2.

internal import CKernels
internal import SmeltStorage
internal import SmeltTensors

/// Block coordinate descent on e H eᵀ, e what rounding changed in a row. GPTQ chooses each code once, from what the columns before it have
/// left, and its scales before the errors are known; here each group in turn sees the errors of all others, and tries a few scales
/// with the codes that are best under each.
///
/// Source of the steps over codes: Nair, Suggala, "CDQuant", 2024; Behdin et al., "QuantEase", 2023. That a group's scale is tried with its
/// codes chosen again is what makes it worth while where scales are few (E4M3, powers of two).
struct GroupDescent: Sendable {
  /// Passes over the groups of a row at most.
  static let rounds = 3
  /// Passes over a group's codes for each scale.
  static let sweeps = 2

  private let grid: Grid
  private let width: Int
  private let columns: Int
  /// H with its damping, both triangles.
  private let h: [Float]

  /// The descent on a grid of four bits with a scale for each group; nil for other grids, whose codes are so fine that nothing is gained, or
  /// whose scales are not theirs to choose.
  /// - Parameter damping: what is added to the diagonal, as a share of its mean.
  init?(_ grid: Grid, _ hessian: Hessian, damping: Double) {
    guard grid.isFourBit, let group = grid.group, grid.coded == nil else { return nil }
    (self.grid, width, columns) = (grid, group, hessian.columns)
    h = hessian.completed(damping: damping)
  }

  /// Improves some rows.
  /// - Parameters:
  ///   - source: their values before rounding, [rows, columns].
  ///   - codes: a code for each value, [rows, columns].
  ///   - scales: a scale for each group, [rows, groups].
  /// - Returns: the change of e H eᵀ for each row, never above zero, and the rows' new values.
  func descend(source: [Float], codes: inout [UInt8], scales: inout [Float]) -> (
    changes: [Double], values: [Float]
  ) {
    let n = columns
    let rows = source.count / n
    let groups = ceilDivide(n, width)
    precondition(
      codes.count == rows * n && scales.count == rows * groups, "rows that are not the moments' length")
    var values = [Float](repeating: 0, count: rows * n)
    for row in 0..<rows {
      for group in 0..<groups {
        let scale = grid.stored(scales[row * groups + group]) ?? scales[row * groups + group]
        scales[row * groups + group] = scale
        for column in group * width..<min(n, (group + 1) * width) {
          values[row * n + column] = grid.value(codes[row * n + column]) * scale
        }
      }
    }
    var slopes = products(zip(values, source).map { $0 - $1 }, rows)
    var changes = [Double](repeating: 0, count: rows)
    var spare = [Float](repeating: 0, count: 3 * width)
    var spareCodes = [UInt8](repeating: 0, count: 2 * width)
    // SAFETY: all arrays hold whole rows, checked above; a group ends with its row at the latest, and `spare` and `spareCodes` have the
    // room of a whole group.
    h.withUnsafeBufferPointer { h in
      values.withUnsafeMutableBufferPointer { values in
        slopes.withUnsafeMutableBufferPointer { slopes in
          codes.withUnsafeMutableBufferPointer { codes in
            let h = h.baseAddress!
            for row in 0..<rows {
              let v = values.baseAddress! + row * n
              let g = slopes.baseAddress! + row * n
              for _ in 0..<GroupDescent.rounds {
                var change = 0.0
                for group in 0..<groups {
                  let first = group * width
                  let count = min(width, n - first)
                  let place = row * groups + group
                  let ratio = bestRatio(v, g, h, first, count)
                  let tried = grid.neighbours(of: scales[place], ratio: ratio)
                  change += sk_descend_group(
                    v, g, h, n, first, count, grid.kind, grid.low, grid.high, tried, tried.count,
                    GroupDescent.sweeps, &scales[place], codes.baseAddress! + row * n, &spare, &spareCodes)
                }
                changes[row] += change
                if change == 0 { break }
              }
            }
          }
        }
      }
    }
    return (changes, values)
  }

  /// e H for each of some rows e.
  private func products(_ e: [Float], _ rows: Int) -> [Float] {
    let n = columns
    var out = [Float](repeating: 0, count: rows * n)
    // SAFETY: e and out are [rows, n], h is [n, n] and symmetric; a step has at most SK_BLOCK columns.
    out.withUnsafeMutableBufferPointer { out in
      e.withUnsafeBufferPointer { e in
        h.withUnsafeBufferPointer { h in
          for start in stride(from: 0, to: n, by: Int(SK_BLOCK)) {
            sk_gemm_f32(
              e.baseAddress! + start, n, h.baseAddress! + start, n, out.baseAddress!, n, rows, n,
              min(Int(SK_BLOCK), n - start), 1)
          }
        }
      }
    }
    return out
  }

  /// What a group's scale is to be multiplied with so that e H eᵀ is least for the codes it has: 1 − v·g ÷ v H v. 1 where nothing is
  /// known, and where the scale's neighbours are tried anyway.
  private func bestRatio(
    _ v: UnsafePointer<Float>, _ g: UnsafePointer<Float>, _ h: UnsafePointer<Float>, _ first: Int,
    _ count: Int
  ) -> Float {
    guard !grid.hasFewScales else { return 1 }
    var (slope, curve) = (0.0, 0.0)
    for column in first..<first + count where v[column] != 0 {
      slope += Double(v[column]) * Double(g[column])
      curve += Double(v[column]) * Double(sk_dot_f32(h + column * columns + first, v + first, count))
    }
    let ratio = Float(1 - slope / curve)
    return curve > 0 && ratio.isFinite ? ratio : 1
  }
}

extension Grid {
  /// Whether codes have four bits.
  package var isFourBit: Bool { kind == SK_GRID_E2M1 || kind == SK_GRID_WHOLE && low == -8 }

  /// Whether scales are E4M3 or powers of two.
  var hasFewScales: Bool { scaleFormat == .e4m3 || scaleFormat == .e8m0 }

  /// Scales to try in place of one that is stored, itself first: the two codes on either side for E4M3, half and twice for powers of
  /// two, else `ratio` times the scale, and 2 and 4 hundredths to either side. Empty where the scale cannot be stored.
  func neighbours(of scale: Float, ratio: Float) -> [Float] {
    guard stored(scale) == scale else { return [] }
    let others: [Float]
    switch scaleFormat {
    case .e4m3:
      let code = Int(NVFP4Scheme.code(of: scale * globalScale))
      others = [-1, 1, -2, 2].map { code + $0 }.filter { (1...0x7E).contains($0) }
        .map { NVFP4Scheme.scale(UInt8($0), globalScale) }
    case .e8m0: others = [0.5 * scale, 2 * scale]
    default: others = [ratio, 0.98, 1.02, 0.96, 1.04].map { scale * $0 }
    }
    return others.compactMap { stored($0) }.reduce(into: [scale]) { found, next in
      if !found.contains(next) { found.append(next) }
    }
  }
}
