// Products of signed bytes: exact sums on every instruction set, at every height and tail; and what they are in floats.

import CKernels
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

extension KernelTests {
  /// Bytes from -127 (activations) or -128 (weights) on; some rows of extremes only.
  private func bytes(_ count: Int, seed: UInt64, low: Int) -> [Int8] {
    var random = Generator(seed: seed)
    return (0..<count).map { _ in
      let value = Int(random.next() >> 33) % (128 - low) + low
      return Int8(seed % 3 == 0 ? (value % 2 == 0 ? 127 : low) : value)
    }
  }

  @Test(arguments: [0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 192, 255, 777])
  func integerProductsAreExact(k: Int) {
    let (lda, ldw) = (k + 1, k + 3)
    for (m, n) in [(1, 1), (1, 9), (2, 5), (3, 4), (4, 3), (5, 8), (6, 4), (7, 6), (8, 1), (13, 9), (16, 2)] {
      for seed: UInt64 in [1, 3] {
        let a = bytes(m * lda, seed: seed, low: -127), w = bytes(n * ldw + 1, seed: seed + 9, low: -128)
        let sa = summable(m, seed: 5), sw = summable(n, seed: 6)
        let expected = Reference.multiplyIntegers(
          a, lda, sa, Array(w.dropFirst()), ldw, sw, m: m, n: n, k: k)
        onEveryISA { isa in
          var c = [Float](repeating: 9, count: m * (n + 2))
          w.withUnsafeBufferPointer { w in
            sk_gemm_i8(a, lda, sa, w.baseAddress! + 1, ldw, sw, &c, n + 2, m, n, k, nil)
          }
          for row in 0..<m {
            let found = c[row * (n + 2)..<(row + 1) * (n + 2)]
            expectSame(
              Array(found), expected[row * n..<(row + 1) * n] + [9, 9],
              "\(isa), \(m) × \(n) × \(k), row \(row)")
          }
        }
      }
    }
  }

  /// The longest row, all of the largest codes: the sum is just below 2^31.
  @Test func theLongestRowFits() {
    let k = Int(SK_I8_COLUMNS)
    let a = [Int8](repeating: -127, count: k), w = [Int8](repeating: -128, count: k)
    onEveryISA { isa in
      var c: Float = 0
      sk_gemm_i8(a, k, [1], w, k, [1], &c, 1, 1, 1, k, nil)
      #expect(c == Float(127 * 128 * k), "\(isa)")
      let negative = [Int8](repeating: 127, count: k)
      sk_gemm_i8(negative, k, [1], w, k, [1], &c, 1, 1, 1, k, nil)
      #expect(c == -Float(127 * 128 * k), "\(isa)")
    }
  }

  @Test func theIntegerPeakIsARate() {
    onEveryISA { isa in
      let rate = sk_peak_i8_gops(0.002)
      #expect(rate > 0 && rate.isFinite, "\(isa)")
    }
  }

  private func weight(_ rows: Int, _ columns: Int) throws -> Weight {
    let codes = bytes(rows * columns, seed: 4, low: -128).map { UInt8(bitPattern: $0) }
    let scales = summable(rows, seed: 8).flatMap { scale in
      withUnsafeBytes(of: (abs(scale) + 0.001).bitPattern.littleEndian) { Array($0) }
    }
    return try Weight(
      name: "w", shape: [rows, columns], encoding: INT8.channel,
      parts: [
        Part(.values, dtype: .i8, shape: [rows, columns], bytes: Bytes(codes)),
        Part(.scales, dtype: .f32, shape: [rows], bytes: Bytes(scales)),
      ])
  }

  /// x̂ · Ŵᵀ in double, from activations rounded one by one; any number of threads gives the same bits.
  @Test(arguments: [(1, 3, 5), (7, 70, 129), (40, 130, 64), (300, 9, 33)])
  func integerProductsAreThoseOfRoundedNumbers(tokens: Int, rows: Int, columns: Int) throws {
    let weight = try weight(rows, columns)
    var random = Generator(seed: 21)
    var x = Matrix(rows: tokens, columns: columns, values: random.normals(tokens * columns, 1))
    if tokens > 1 { for place in 0..<columns { x.values[columns + place] = 0 } }
    let numbers = weight.decode()
    for fixed: Float? in [nil, 0.02] {
      let found = try #require(multiplyIntegers(x, weight, scale: fixed))
      let again = try #require(multiplyIntegers(x, weight, scale: fixed, parallel: Parallel(threads: 2)))
      expectSame(again.values, found.values, "two threads")
      if rows > 3 {
        let part = try #require(multiplyIntegers(x, weight, scale: fixed, rows: 2..<rows - 1))
        expectSame(
          part.values, (0..<tokens).flatMap { found.values[$0 * rows + 2..<($0 + 1) * rows - 1] }, "some rows"
        )
      }
      for token in 0..<tokens {
        let row = Array(x[token])
        let scale = fixed ?? row.reduce(0) { max($0, abs($1)) } / 127
        let rounded = row.map { value -> Double in
          guard scale > 0 else { return 0 }
          return Double(max(-127, min(127, (value / scale).rounded(.toNearestOrEven)))) * Double(scale)
        }
        for output in 0..<rows {
          let terms = rounded.indices.map { rounded[$0] * Double(numbers[output * columns + $0]) }
          let (exact, size) = (terms.reduce(0, +), terms.reduce(0) { $0 + abs($1) })
          // The roundings of sum, scale and product, and the one of each decoded number.
          #expect(
            abs(Double(found.values[token * rows + output]) - exact) <= 3e-7 * size,
            "token \(token), row \(output), scale \(String(describing: fixed))")
        }
      }
    }
  }

  /// What whole numbers do not compute is left to floats.
  @Test func otherProductsAreLeftToFloats() throws {
    let weight = try weight(3, 4)
    var x = Matrix(rows: 2, columns: 4, values: [1, 2, 3, 4, 1e-38, 0, 0, 0])
    #expect(multiplyIntegers(x, weight) == nil, "a scale below the normal numbers")
    x.values[4] = .infinity
    #expect(multiplyIntegers(x, weight) == nil, "an infinite scale")
    x.values[4] = 1
    #expect(multiplyIntegers(x, weight, scale: 0) == nil)
    #expect(multiplyIntegers(x, weight)?.values.count == 6)
    #expect(multiplyIntegers(Matrix(rows: 0, columns: 4), weight)?.values == [])
    let floats = try Weight(
      name: "f", shape: [1, 4], encoding: Encodings.named("f32")!,
      parts: [Part(.values, dtype: .f32, shape: [1, 4], bytes: Bytes([UInt8](repeating: 0, count: 16)))])
    #expect(multiplyIntegers(x, floats) == nil)
  }
}
