// Slow twins of the kernels behind a report's figures.

extension Reference {
  /// One element of the exponential of `sk_exp_sum`, for x ≤ 0: 2^n · e^r, n = x/ln 2 to nearest, r = x − n·ln 2 in two steps, e^r by
  /// its Taylor polynomial of degree 13; 0 below −708.
  package static func exponential(_ x: Double) -> Double {
    if x.isNaN { return x }
    if x < -708 { return 0 }
    // 1.5 · 2^52: a sum near it has a last place of 1, so that its rounding is the rounding to an integer.
    let shifter = 0x1.8p52
    let n = shifter.addingProduct(x, 0x1.71547652b82fep+0) - shifter
    let r = x.addingProduct(n, -0x1.62e42fefa38p-1).addingProduct(n, -0x1.ef35793c7673p-45)
    var factorial = 6_227_020_800.0
    var p = 1 / factorial
    for k in stride(from: 13.0, through: 1, by: -1) {
      factorial /= k
      p = (1 / factorial).addingProduct(p, r)
    }
    return Double(sign: .plus, exponent: Int(n), significand: p)
  }

  /// Numbers added in 16 lanes, number i in lane i mod 16, and the lanes by halves: each step gets the lane's sum and the number's place.
  private static func lanes(_ count: Int, _ step: (Int, Double) -> Double) -> Double {
    var lanes = [Double](repeating: 0, count: 16)
    for i in 0..<count { lanes[i % 16] = step(i, lanes[i % 16]) }
    for half in [8, 4, 2, 1] { for l in 0..<half { lanes[l] += lanes[l + half] } }
    return lanes[0]
  }

  /// The largest; NaN is none.
  private static func largest(_ x: [Float]) -> Double { Double(x.reduce(-.infinity) { $1 > $0 ? $1 : $0 }) }

  /// `sk_exp_sum`: the largest, and Σ e^(x − largest).
  package static func exponentialSum(_ x: [Float]) -> [Double] {
    let top = largest(x)
    return [top, lanes(x.count) { i, sum in sum + exponential(Double(x[i]) - top) }]
  }

  /// `sk_divergence`: `exponentialSum` of x, of y, and Σ e^(x − m) ((x − m) − (y − m')).
  package static func divergence(_ x: [Float], _ y: [Float]) -> [Double] {
    let (m, other) = (largest(x), largest(y))
    let sum = lanes(x.count) { i, sum in
      let (a, b) = (Double(x[i]) - m, Double(y[i]) - other)
      return sum.addingProduct(exponential(a), a - b)
    }
    return exponentialSum(x) + exponentialSum(y) + [sum]
  }

  /// `sk_distance`: Σ (a − b)², Σ a², Σ b², Σ a b, the largest |a − b|.
  package static func distance(_ a: [Float], _ b: [Float]) -> [Double] {
    func sum(_ factors: (Double, Double) -> (Double, Double)) -> Double {
      lanes(a.count) { i, sum in
        let (x, y) = factors(Double(a[i]), Double(b[i]))
        return sum.addingProduct(x, y)
      }
    }
    let sizes = zip(a, b).map { abs(Double($0) - Double($1)) }
    return [
      sum { ($0 - $1, $0 - $1) }, sum { x, _ in (x, x) }, sum { _, y in (y, y) }, sum { ($0, $1) },
      sizes.contains { $0.isNaN } ? .nan : sizes.max() ?? 0,
    ]
  }

  /// `sk_find_above`: the first place of a larger number, or the count.
  package static func firstAbove(_ x: [Float], _ bound: Float) -> Int {
    x.firstIndex { $0 > bound } ?? x.count
  }
}
