// The kernels behind a report's figures: the twins' bits on every instruction set, and the exponential against libm's.

import CKernels
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

extension KernelTests {
  /// Logits of every size, some of them far below the largest.
  private func logits(_ count: Int, seed: UInt64) -> [Float] {
    summable(count, seed: seed).enumerated().map { $0 % 29 == 13 ? -900 : min($1, 60) }
  }

  @Test func sumsOfExponentialsKeepTheOrder() {
    let x = logits(1100, seed: 51), y = logits(1100, seed: 52)
    for n in Array(1...67) + [1024, 1100] {
      let (a, b) = (Array(x[..<n]), Array(y[..<n]))
      let (sums, both) = (Reference.exponentialSum(a), Reference.divergence(a, b))
      onEveryISA { isa in
        var out = [Double](repeating: 0, count: 2), five = [Double](repeating: 0, count: 5)
        sk_exp_sum(a, n, &out)
        expectSame(out, sums, "\(isa), length \(n)")
        sk_divergence(a, b, n, &five)
        expectSame(five, both, "\(isa), length \(n)")
      }
    }
  }

  /// Σ p (ln p − ln q) from the kernel's sums is the direct sum over probabilities.
  @Test func divergenceIsThatOfTheSoftmaxes() {
    let x = logits(1000, seed: 53)
    for step: Float in [0, 1e-6, 1e-3, 0.5] {
      let y = x.indices.map { x[$0] + step * Float($0 % 7 - 3) }
      var sums = [Double](repeating: 0, count: 5)
      sk_divergence(x, y, x.count, &sums)
      let found = sums[4] / sums[1] - log(sums[1]) + log(sums[3])
      func softmax(_ z: [Float]) -> [Double] {
        let top = Double(z.max() ?? 0)
        let total = z.reduce(0.0) { $0 + exp(Double($1) - top) }
        return z.map { Double($0) - top - log(total) }
      }
      let (p, q) = (softmax(x), softmax(y))
      let expected = zip(p, q).reduce(0.0) { $0 + exp($1.0) * ($1.0 - $1.1) }
      #expect(
        abs(found - expected) <= 1e-14 + 1e-12 * expected, "step \(step): \(found), expected \(expected)")
    }
  }

  @Test func theDoubleExponentialIsWithinAUnit() {
    for step in 0..<60_000 {
      let x = -Double(step) * 0.0118
      let (found, exact) = (Reference.exponential(x), exp(x))
      #expect(abs(found - exact) <= exact.ulp, "e^\(x) is \(found), expected \(exact)")
    }
    #expect(Reference.exponential(-708.5) == 0 && Reference.exponential(0.0) == 1)
    #expect(Reference.exponential(Double.nan).isNaN)
  }

  @Test func numbersThatAreNoneAreNotLost() {
    var x = logits(100, seed: 54)
    let y = x
    for strange in [Float.nan, .infinity] {
      x[37] = strange
      onEveryISA { isa in
        var out = [Double](repeating: 0, count: 5)
        sk_divergence(x, y, x.count, &out)
        #expect(out[1].isNaN && out[4].isNaN, "\(isa), \(strange)")
        sk_distance(x, y, x.count, &out)
        #expect(
          !out[0].isFinite && (strange.isNaN ? out[4].isNaN : out[4] == .infinity), "\(isa), \(strange)")
      }
    }
  }

  @Test func distancesKeepTheOrder() {
    let a = summable(1100, seed: 55), b = summable(1100, seed: 56)
    for n in Array(0...67) + [1024, 1100] {
      let expected = Reference.distance(Array(a[..<n]), Array(b[..<n]))
      onEveryISA { isa in
        var out = [Double](repeating: -1, count: 5)
        sk_distance(a, b, n, &out)
        expectSame(out, expected, "\(isa), length \(n)")
      }
    }
  }

  @Test func theFirstLargerNumberIsFound() {
    var x = logits(1100, seed: 57).map { min($0, 1) }
    for place in [0, 5, 255, 256, 300, 1023, 1099] {
      x[place] = 2
      for n in [0, 1, 255, 256, 257, 512, 1100] {
        let expected = Reference.firstAbove(Array(x[..<n]), 1.5)
        onEveryISA { isa in #expect(sk_find_above(x, n, 1.5) == expected, "\(isa), \(n) of \(place)") }
      }
      x[place] = .nan
      onEveryISA { isa in #expect(sk_find_above(x, x.count, 1.5) == x.count, "\(isa)") }
      x[place] = 0
    }
  }
}
