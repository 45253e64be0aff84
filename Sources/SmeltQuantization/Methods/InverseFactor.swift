// The upper Cholesky factor of an inverse, in blocks. Formats/methods.md, section 2.3.

internal import CKernels
internal import SmeltStorage
internal import SmeltTensors

/// U with H⁻¹ = Uᵀ U, U upper triangular: row c of U says what rounding column c asks of the columns after it.
///
/// With P the reversal of rows and columns, P H P = L Lᵀ gives U = P L⁻¹ P: one factorization and one inverse of a
/// triangle, 2/3 n³ multiplications, in float64. Each number's sum has one order, whatever the threads.
struct InverseFactor {
  /// Columns that GPTQ rounds before the remaining columns are updated.
  static let block = 128
  private static let width = 64

  let columns: Int
  /// Uᵀ, [columns, columns]: row j holds what the columns up to j have to say to column j.
  let lower: [Float]
  /// The diagonal blocks of U, [block, block] each, row after row.
  let blocks: [Float]
  /// The share of the diagonal's mean that was added to it in the end.
  let damping: Double

  /// The factor of H with rows and columns in the given order.
  /// - Parameter damping: the share of the diagonal's mean that is added to it; doubled until the factor exists.
  /// - Returns: nil where H is zero or not finite.
  init?(_ hessian: Hessian, order: [Int], damping: Double, parallel: Parallel) {
    let n = hessian.columns
    var damping = damping
    let diagonal = hessian.diagonal
    guard n > 0, diagonal.allSatisfy({ $0.isFinite }), diagonal.contains(where: { $0 > 0 }) else {
      return nil
    }
    var a = hessian.reversed(order: order, damping: damping)
    while !InverseFactor.factor(&a, n, parallel) {
      damping = max(2 * damping, 1e-6)
      guard damping < 1e6 else { return nil }
      a = []  // one such matrix at a time
      a = hessian.reversed(order: order, damping: damping)
    }
    InverseFactor.invert(&a, n, parallel)
    columns = n
    self.damping = damping
    // SAFETY: every one of the n² floats is written, zeros above the diagonal included.
    lower = [Float](unsafeUninitializedCapacity: n * n) { out, count in
      for j in 0..<n {
        for k in 0..<n { out[j * n + k] = k <= j ? Float(a[(n - 1 - k) * n + n - 1 - j]) : 0 }
      }
      count = n * n
    }
    var blocks = [Float](
      repeating: 0, count: ceilDivide(n, InverseFactor.block) * InverseFactor.block * InverseFactor.block)
    for first in stride(from: 0, to: n, by: InverseFactor.block) {
      let width = min(InverseFactor.block, n - first)
      for k in 0..<width {
        for j in k..<width {
          blocks[first * InverseFactor.block + k * width + j] = lower[(first + j) * n + first + k]
        }
      }
    }
    self.blocks = blocks
  }

  /// The diagonal of U.
  func diagonal(_ column: Int) -> Float { lower[column * columns + column] }

  /// a becomes its lower Cholesky factor, what is above the diagonal is left alone.
  static func factor(_ a: inout [Double], _ n: Int, _ parallel: Parallel) -> Bool {
    // SAFETY: `a` is [n, n] with n above zero. After a panel, a task updates the rows of its own block right of the panel, and reads the
    // panel, which no task writes.
    a.withUnsafeMutableBufferPointer { a in
      let base = SharedPointer(a.baseAddress!)
      for first in stride(from: 0, to: n, by: width) {
        let step = min(width, n - first)
        guard sk_cholesky_panel(base.pointer + first * n + first, n, n - first, step) == 0 else {
          return false
        }
        let rest = first + step
        guard rest < n else { break }
        // The panel transposed, for the update of what is right of it.
        let transposedPanel = [Double](unsafeUninitializedCapacity: step * (n - rest)) { out, count in
          sk_gather(
            UnsafeRawPointer(base.pointer + rest * n + first).assumingMemoryBound(to: UInt8.self), 8, step,
            n - rest,
            1, n, UnsafeMutableRawPointer(out.baseAddress!).assumingMemoryBound(to: UInt8.self))
          count = step * (n - rest)
        }
        transposedPanel.withUnsafeBufferPointer { transposedPanel in
          let b = SharedReadPointer(transposedPanel.baseAddress!)
          parallel.forEach(ceilDivide(n - rest, width)) { task in
            let row = rest + task * width
            let rows = min(width, n - row)
            for column in stride(from: rest, through: row, by: width) {
              sk_subtract_product(
                base.pointer + row * n + column, n, base.pointer + row * n + first, n,
                b.pointer + column - rest,
                n - rest, rows, step, min(width, n - column))
            }
          }
        }
      }
      return true
    }
  }

  /// A lower triangle becomes its inverse; above the diagonal blocks anything is left.
  static func invert(_ a: inout [Double], _ n: Int, _ parallel: Parallel) {
    // SAFETY: as in `factor`; a task writes the columns of its own block in `sums`, then in the rows of this step.
    a.withUnsafeMutableBufferPointer { a in
      let base = SharedPointer(a.baseAddress!)
      for first in stride(from: 0, to: n, by: width) {
        let step = min(width, n - first)
        let row = base.pointer + first * n
        sk_invert_lower(row + first, n, step)
        for i in 0..<step { for j in i + 1..<max(i + 1, step) { row[i * n + first + j] = 0 } }
        guard first > 0 else { continue }
        // M[i][j] = −M[i][i] Σ L[i][k] M[k][j], k from j to before i; the blocks left of j are zero.
        var sums = [Double](repeating: 0, count: step * first)
        sums.withUnsafeMutableBufferPointer { sums in
          let sums = SharedPointer(sums.baseAddress!)
          parallel.forEach(ceilDivide(first, width)) { task in
            let column = task * width
            let count = min(width, first - column)
            for k in stride(from: column, to: first, by: width) {
              sk_subtract_product(
                sums.pointer + column, first, base.pointer + first * n + k, n, base.pointer + k * n + column,
                n, step,
                min(width, first - k), count)
            }
          }
        }
        var own = [Double](repeating: 0, count: step * step)
        for i in 0..<step {
          for j in 0...i { own[i * step + j] = -row[i * n + first + j] }
          for j in 0..<first { row[i * n + j] = 0 }
        }
        sk_subtract_product(row, n, own, step, sums, first, step, step, first)
      }
    }
  }
}
