// The slow, obvious twins of the kernels behind a factorization in blocks (sk_methods.h). Every sum runs over k ascending,
// each product rounded before it is subtracted.

extension Reference {
  /// Rows of doubles inside a larger array: element [i, j] is `values[start + i · stride + j]`.
  package struct Rows: Sendable {
    /// The larger array.
    package var values: [Double]
    /// The place of element [0, 0].
    package let start: Int
    /// Doubles from one row to the next.
    package let stride: Int

    /// Rows at a place of an array.
    package init(_ values: [Double], start: Int = 0, stride: Int) {
      (self.values, self.start, self.stride) = (values, start, stride)
    }

    /// Element [i, j].
    package subscript(_ i: Int, _ j: Int) -> Double {
      get { values[start + i * stride + j] }
      set { values[start + i * stride + j] = newValue }
    }
  }

  /// `sk_subtract_product`: c −= a b; a is [m, k], b [k, n].
  package static func subtractProduct(_ c: inout Rows, _ a: Rows, _ b: Rows, m: Int, k: Int, n: Int) {
    for i in 0..<m {
      for j in 0..<n {
        for p in 0..<k { c[i, j] -= a[i, p] * b[p, j] }
      }
    }
  }

  /// `sk_cholesky_panel`: the first `width` columns of [rows, *] become those of the lower Cholesky factor, row after row;
  /// what is above the diagonal stays. False at the first pivot that is not positive.
  package static func choleskyPanel(_ a: inout Rows, rows: Int, width: Int) -> Bool {
    for i in 0..<rows {
      for j in 0..<min(width, i + 1) {
        var sum = a[i, j]
        for p in 0..<j { sum -= a[i, p] * a[j, p] }
        if i == j, !(sum > 0) { return false }
        a[i, j] = i == j ? sum.squareRoot() : sum / a[j, j]
      }
    }
    return true
  }

  /// `sk_invert_lower`: the inverse of a lower triangle [n, n]; what is above the diagonal stays.
  package static func invertLower(_ a: inout Rows, n: Int) {
    let l = a
    for j in 0..<n {
      a[j, j] = 1 / l[j, j]
      for i in j + 1..<max(n, j + 1) {
        var sum = 0.0
        for p in j..<i { sum -= l[i, p] * a[p, j] }
        a[i, j] = sum / l[i, i]
      }
    }
  }
}
