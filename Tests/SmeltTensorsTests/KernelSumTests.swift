// Products, sums and the pieces of a forward pass: the order of rounding is the same everywhere.

import CKernels
import SmeltTensors
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
  @Test func dotProductsKeepTheOrder() {
    let a = summable(2103, seed: 10), b = summable(2107, seed: 11)
    for n in sumLengths {
      let place = n % 4
      let expected = Reference.dot(Array(a[place..<place + n]), Array(b[3..<3 + n]))
      let squares = Reference.sumOfSquares(Array(a[place..<place + n]))
      onEveryISA { isa in
        a.withUnsafeBufferPointer { ap in
          b.withUnsafeBufferPointer { bp in
            expectSame(
              [sk_dot_f32(ap.baseAddress! + place, bp.baseAddress! + 3, n)], [expected], "\(isa), length \(n)"
            )
            expectSame([sk_sum_squares(ap.baseAddress! + place, n)], [squares], "\(isa), length \(n)")
          }
        }
      }
    }
    // Products that vanish leave -0 in a lane; a tail of zeros makes it +0 on every machine.
    let (tiny, negative) = ([Float](repeating: 1e-30, count: 33), [Float](repeating: -1e-30, count: 33))
    for n in [1, 16, 17, 32, 33] {
      let expected = Reference.dot(Array(tiny[..<n]), Array(negative[..<n]))
      onEveryISA { isa in
        expectSame([sk_dot_f32(tiny, negative, n)], [expected], "\(isa), vanishing, length \(n)")
      }
    }
  }

  @Test(arguments: [
    [1, 1, 0], [2, 3, 1], [1, 19, 40], [3, 4, 15], [4, 4, 16], [5, 5, 17], [6, 4, 33], [7, 9, 31],
    [8, 8, 64], [9, 2, 100],
    [10, 13, 48], [11, 7, 130], [13, 6, 256], [6, 5, 1024], [1, 9, 1023], [25, 3, 20], [2, 1030, 5],
    [1, 2053, 33],
  ])
  func matrixProductsEqualDotProducts(sizes: [Int]) {
    let (m, n, k) = (sizes[0], sizes[1], sizes[2])
    let (lda, ldw, ldc) = (k + 3, k + 5, n + 2)
    let a = summable(m * lda + 1, seed: 12), w = summable(n * ldw + 3, seed: 13)
    let start = summable(m * ldc, seed: 14)
    for accumulate: Int32 in [0, 1] {
      var expected = start
      for i in 0..<m {
        for j in 0..<n {
          let product = Reference.dot(
            Array(a[1 + i * lda..<1 + i * lda + k]), Array(w[3 + j * ldw..<3 + j * ldw + k]))
          expected[i * ldc + j] = accumulate == 1 ? start[i * ldc + j] + product : product
        }
      }
      onEveryISA { isa in
        var c = start
        a.withUnsafeBufferPointer { ap in
          w.withUnsafeBufferPointer { wp in
            // Bytes ahead that are nowhere: a hint is not read.
            var ahead = sk_ahead(first: UnsafePointer(bitPattern: 64), rows: m, stride: 4096, bytes: k)
            sk_gemm_ahead_f32(
              ap.baseAddress! + 1, lda, wp.baseAddress! + 3, ldw, &c, ldc, m, n, k, accumulate, &ahead)
            var plain = start
            sk_gemm_f32(ap.baseAddress! + 1, lda, wp.baseAddress! + 3, ldw, &plain, ldc, m, n, k, accumulate)
            expectSame(plain, c, "\(isa), \(sizes), nothing ahead")
          }
        }
        expectSame(c, expected, "\(isa), \(sizes), accumulate \(accumulate)")
      }
    }
  }

  @Test func blocksAddUpToOneDotProduct() {
    let k = 2500
    let a = summable(2 * k, seed: 15), w = summable(3 * k, seed: 16)
    var expected = [Float](repeating: 0, count: 6)
    Reference.gemm(a, w, &expected, m: 2, n: 3, k: k, accumulate: false)
    onEveryISA { isa in
      var c = [Float](repeating: 9, count: 6)
      for start in stride(from: 0, to: k, by: 1024) {
        a.withUnsafeBufferPointer { ap in
          w.withUnsafeBufferPointer { wp in
            sk_gemm_f32(
              ap.baseAddress! + start, k, wp.baseAddress! + start, k, &c, 3, 2, 3, min(1024, k - start),
              start > 0 ? 1 : 0)
          }
        }
      }
      expectSame(c, expected, isa)
    }
  }

  @Test func scaledAdditionIsFused() {
    let x = difficult(arrayLength, seed: 17), y = difficult(arrayLength, seed: 18)
    let expected = zip(x, y).map { Reference.axpy(-0.7, $0, $1) }
    checkElementwise(x, expected) { xp, out, n in
      x.withUnsafeBufferPointer { base in
        let place = xp - base.baseAddress!
        for i in 0..<n { out[i] = y[place + i] }
      }
      sk_axpy_f32(-0.7, xp, out, n)
    }
  }

  @Test func normalizationKeepsTheOrder() {
    let x = summable(1040, seed: 19), w = summable(1040, seed: 20)
    for n in Array(1...67) + [128, 1024, 1040] {
      for weights in [nil, w] {
        let expected = Reference.rmsNorm(Array(x[..<n]), weights.map { Array($0[..<n]) }, eps: 1e-6)
        onEveryISA { isa in
          var out = [Float](repeating: 0, count: n), same = Array(x[..<n])
          sk_rms_norm(x, weights, 1e-6, &out, n)
          same.withUnsafeMutableBufferPointer {
            sk_rms_norm($0.baseAddress!, weights, 1e-6, $0.baseAddress!, n)
          }
          expectSame(out, expected, "\(isa), length \(n)")
          expectSame(same, expected, "\(isa), in place, length \(n)")
        }
      }
    }
  }

  @Test func theExponentialIsWithinTwoUnits() {
    var x: [Float] = [
      0, -0.0, .infinity, -.infinity, 88.72283, 88.72284, 88.8, 89, 1000, -87.33655, -103.2, -103.9, -104,
      -104.1, -1e30,
    ]
    var bits = Float(1e-9).bitPattern
    while Float(bitPattern: bits) < 104 {
      x += [Float(bitPattern: bits), -Float(bitPattern: bits)]
      bits += 40_009
    }
    checkElementwise(x, x.map { Reference.exponential($0) }) { sk_exp($0, $1, $2) }
    for value in x {
      let found = Reference.exponential(value), exact = exp(Double(value))
      // 2 units in the last place: the bound of the header.
      let unit = Double(max(Float(exact).ulp, .leastNonzeroMagnitude))
      if Float(exact).isFinite {
        #expect((Double(found) - exact).magnitude <= 2 * unit, "exp(\(value)) is \(found), expected \(exact)")
      } else {
        #expect(found == .infinity, "exp(\(value)) is \(found)")
      }
    }
    onEveryISA { isa in
      var out: Float = 0
      var nan = Float.nan
      sk_exp(&nan, &out, 1)
      #expect(out.isNaN, "\(isa)")
    }
  }

  @Test func probabilitiesShareTheSink() {
    var x = summable(1100, seed: 21).map { min($0, 50) }
    x[5] = -.infinity
    for n in Array(0...67) + [1024, 1100] {
      for sink: Float in [-.infinity, 0.5, 60] {
        let expected = Reference.softmax(Array(x[..<n]), sink: sink)
        onEveryISA { isa in
          var found = Array(x[..<n])
          sk_softmax_sink(&found, n, sink)
          expectSame(found, expected, "\(isa), length \(n), sink \(sink)")
        }
        if n > 0, sink == -.infinity {
          // Float32 sum of up to 1100 probabilities, each rounded once.
          #expect(abs(expected.reduce(0, +) - 1) < 1e-5)
        }
      }
    }
    #expect(Reference.softmax([1, 2], sink: 3).map { ($0 * 1e4).rounded() } == [900, 2447])
    onEveryISA { isa in
      var nothing = [Float](repeating: -.infinity, count: 19)
      sk_softmax_sink(&nothing, 19, -.infinity)
      #expect(nothing.allSatisfy { $0 == 0 }, "\(isa)")
    }
  }

  @Test(arguments: [.infinity, 7] as [Float])
  func gatesAreClamped(limit: Float) {
    let gate = difficult(arrayLength, seed: 22, bound: 7), up = difficult(arrayLength, seed: 23, bound: 7)
    let expected = zip(gate, up).map { Reference.swiglu($0, $1, limit: limit) }
    checkElementwise(gate, expected) { gp, out, n in
      gate.withUnsafeBufferPointer { base in
        let place = gp - base.baseAddress!
        up.withUnsafeBufferPointer { sk_swiglu(gp, $0.baseAddress! + place, limit, out, n) }
        var same = Array(UnsafeBufferPointer(start: gp, count: n))
        same.withUnsafeMutableBufferPointer { s in
          up.withUnsafeBufferPointer { u in
            if let g = s.baseAddress { sk_swiglu(g, u.baseAddress! + place, limit, g, n) }
          }
        }
        if firstDifference(same[...], expected[place..<place + n]) != nil {
          Issue.record("in place, length \(n)")
        }
      }
    }
    // silu(1) = 0.731058…, from its definition.
    #expect(abs(Reference.swiglu(1, 2, limit: .infinity) - 1.4621172) < 1e-6)
  }

  @Test func gaussianGates() {
    let gate = difficult(arrayLength, seed: 27, bound: 7), up = difficult(arrayLength, seed: 28, bound: 7)
    let expected = zip(gate, up).map { Reference.geglu($0, $1) }
    checkElementwise(gate, expected) { gp, out, n in
      gate.withUnsafeBufferPointer { base in
        let place = gp - base.baseAddress!
        up.withUnsafeBufferPointer { sk_geglu(gp, $0.baseAddress! + place, out, n) }
      }
    }
    // 0.5 (1 + tanh t) from its definition; 1 by hand: 0.841192.
    for x in stride(from: Float(-12), through: 12, by: 0.37) {
      let t = (2 / Double.pi).squareRoot() * (Double(x) + 0.044715 * Double(x * x * x))
      let exact = 0.5 * Double(x) * (1 + tanh(t))
      #expect(abs(Double(Reference.geglu(x, 1)) - exact) < 1e-6, "\(x)")
    }
    #expect(abs(Reference.geglu(1, 2) - 1.682384) < 1e-6)
  }

  @Test func rotationsTurnPairs() {
    let x = summable(134, seed: 24), c = summable(67, seed: 25), s = summable(67, seed: 26)
    for pairs in 0...67 {
      for sign: Float in [1, -1] {
        let expected = Reference.rope(Array(x[..<(2 * pairs)]), cosines: c, sines: s, sign: sign)
        onEveryISA { isa in
          var found = Array(x[..<(2 * pairs)])
          sk_rope_interleaved(&found, c, s, sign, 2 * pairs)
          expectSame(found, expected, "\(isa), \(pairs) pairs")
        }
      }
    }
  }

  @Test func streamsAreMixedInOrder() {
    let c = summable(6, seed: 27)
    for streams in 0...6 {
      for n in lengths {
        let x = difficult(streams * n + 1, seed: UInt64(n + 1), bound: 4).map { $0.magnitude > 1e20 ? 2 : $0 }
        let expected = Reference.mixStreams(x, Array(c[..<streams]), count: n) + [5]
        onEveryISA { isa in
          var found = [Float](repeating: 5, count: n + 1)
          sk_mix_streams(x, c, streams, &found, n)
          expectSame(found, expected, "\(isa), \(streams) streams of \(n)")
        }
      }
    }
  }
}
