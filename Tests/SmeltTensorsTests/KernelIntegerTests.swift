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

  /// Products of rows of signed bytes, `code_stride` wide, with a weight that begins at an odd address.
  private func multiplyBytes(
    _ a: [Int8], _ codeStride: Int, _ sa: [Float], _ w: UnsafePointer<Int8>, _ ldw: Int, _ sw: [Float],
    _ c: inout [Float], _ ldc: Int, m: Int, n: Int, k: Int
  ) {
    let sums = (0..<m).flatMap { row -> [Int16] in
      let sum = Int32(a[row * codeStride..<row * codeStride + k].reduce(0) { $0 + Int($1) })
      return [Int16(truncatingIfNeeded: sum), Int16(truncatingIfNeeded: sum >> 16)]
    }
    a.withUnsafeBufferPointer { a in
      sums.withUnsafeBufferPointer { sums in
        sa.withUnsafeBufferPointer { sa in
          sw.withUnsafeBufferPointer { sw in
            var weight = sk_integers(
              codes: UnsafeRawPointer(w).assumingMemoryBound(to: UInt8.self), row_bytes: ldw,
              scales: sw.baseAddress, code: Int32(SK_CODED_INT8))
            var rounded = sk_rounded(
              codes: a.baseAddress, sums: sums.baseAddress, scales: sa.baseAddress, code_stride: codeStride,
              sum_stride: 2, scale_stride: 1)
            sk_multiply_rounded(&weight, 0, n, k, &rounded, m, &c, ldc)
          }
        }
      }
    }
  }

  @Test(arguments: [
    1, 2, 3, 4, 7, 15, 16, 31, 33, 63, 64, 65, 100, 127, 128, 129, 192, 255, 256, 257, 512, 777,
  ])
  func integerProductsAreExact(k: Int) {
    let (stride, ldw) = ((k + 3) / 4 * 4 + 4, k + 3)
    for (m, n) in [
      (1, 1), (1, 9), (1, 33), (2, 16), (2, 7), (3, 33), (4, 3), (4, 40), (5, 64), (6, 32), (7, 31), (8, 1),
      (13, 70), (16, 2),
    ] {
      for seed: UInt64 in [1, 3] {
        var a = bytes(m * stride, seed: seed, low: -127)
        for row in 0..<m { for place in k..<(k + 3) / 4 * 4 { a[row * stride + place] = 0 } }
        let w = bytes(n * ldw + 1, seed: seed + 9, low: -128)
        let sa = summable(m, seed: 5), sw = summable(n, seed: 6)
        let expected = Reference.multiplyIntegers(
          a, stride, sa, Array(w.dropFirst()), ldw, sw, m: m, n: n, k: k)
        onEveryISA { isa in
          var c = [Float](repeating: 9, count: m * (n + 2))
          w.withUnsafeBufferPointer {
            multiplyBytes(a, stride, sa, $0.baseAddress! + 1, ldw, sw, &c, n + 2, m: m, n: n, k: k)
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
    let w = [Int8](repeating: -128, count: k)
    onEveryISA { isa in
      for code: Int8 in [-127, 127] {
        var c: [Float] = [0]
        multiplyBytes([Int8](repeating: code, count: k), k, [1], w, k, [1], &c, 1, m: 1, n: 1, k: k)
        #expect(c[0] == Float(-128 * Int(code) * k), "\(isa)")
      }
    }
  }

  static let blocks = GGUFBlock.Kind.allCases.filter { (activationBlock(GGUFBlock($0)) ?? 0) > 0 }

  /// Random blocks with factors that are ordinary numbers.
  private func randomRows(_ kind: GGUFBlock.Kind, rows: Int, blocks: Int, seed: UInt64) -> [UInt8] {
    let size = GGUFBlock(kind)
    var random = Generator(seed: seed)
    var bytes = (0..<rows * blocks * size.bytes).map { _ in
      UInt8(truncatingIfNeeded: Int(random.next() >> 40))
    }
    let places = Reference.factors(kind)
    for start in stride(from: 0, to: bytes.count, by: size.bytes) {
      if kind == .mxfp4 { bytes[start] = 110 + bytes[start] % 30 }
      for place in [places.d, places.l].compactMap({ kind == .mxfp4 ? nil : $0 }) {
        let byte = bytes[start + place + 1]
        bytes[start + place + 1] = (byte & 0x80) | (0x1C + byte % 0x14)
      }
      // Some blocks of extremes.
      if start / size.bytes % 5 == 4 {
        for place in start..<start + size.bytes
        where place != start + places.d + 1 && place != start + (places.l ?? 0) + 1 && place > start {
          bytes[place] = start / size.bytes % 2 == 0 ? 0xFF : 0
        }
      }
    }
    return bytes
  }

  @Test func theTypesAreThoseOfEngines() {
    let wide: Set<GGUFBlock.Kind> = [.q2_k, .q3_k, .q4_k, .q5_k, .q6_k, .iq4_xs, .tq1_0, .tq2_0]
    let narrow: Set<GGUFBlock.Kind> = [
      .q8_0, .q4_0, .q4_1, .q5_0, .q5_1, .q1_0, .q2_0, .iq4_nl, .mxfp4,
    ]
    for kind in GGUFBlock.Kind.allCases {
      let expected = wide.contains(kind) ? 256 : narrow.contains(kind) ? 32 : nil
      #expect(activationBlock(GGUFBlock(kind)) == expected, "\(kind)")
    }
  }

  /// Every type at every height of a tile, with rests of rows and of columns: the same bits on every instruction set.
  @Test(arguments: blocks)
  func productsOfBlocksAreTheTwins(_ kind: GGUFBlock.Kind) throws {
    let size = GGUFBlock(kind)
    let width = try #require(activationBlock(size))
    for (blocks, m, n) in [
      (1, 1, 1), (3, 2, 5), (256 / size.elements + 1, 7, 17), (1, 13, 35), (768 / size.elements, 6, 32),
      (5, 3, 33), (5, 1, 33), (2, 1, 15), (4, 2, 16), (2, 3, 8), (3, 4, 18), (7, 4, 1),
    ] {
      let (k, seed) = (blocks * size.elements, UInt64(blocks + 10 * m))
      let bytes = randomRows(kind, rows: n, blocks: blocks, seed: seed)
      var random = Generator(seed: seed + 1)
      let tokens = try (0..<m).map { token in
        var x = random.normals(k, token == 1 ? 1e-3 : 1)
        if token == 2 { for place in 0..<width { x[place] = 0 } }
        return try #require(width == 32 ? Reference.roundBlocks32(x) : Reference.roundBlocks256(x))
      }
      let rowBytes = bytes.count / n
      let expected = tokens.flatMap { token in
        (0..<n).map {
          Reference.multiplyBlocks(
            kind, Array(bytes[$0 * rowBytes..<($0 + 1) * rowBytes]), token.codes, token.scales)
        }
      }
      let (codes, sums, scales) = (tokens.flatMap(\.codes), tokens.flatMap(\.sums), tokens.flatMap(\.scales))
      onEveryISA { isa in
        var found = [Float](repeating: 9, count: m * n)
        let shifted = [0] + bytes  // at an odd address
        shifted.withUnsafeBufferPointer { shifted in
          codes.withUnsafeBufferPointer { codes in
            sums.withUnsafeBufferPointer { sums in
              scales.withUnsafeBufferPointer { scales in
                var weight = sk_integers(
                  codes: shifted.baseAddress! + 1, row_bytes: rowBytes, scales: nil, code: size.code!)
                var rounded = sk_rounded(
                  codes: codes.baseAddress, sums: sums.baseAddress, scales: scales.baseAddress,
                  code_stride: k, sum_stride: k / 16, scale_stride: k / width)
                sk_multiply_rounded(&weight, 0, n, k, &rounded, m, &found, n)
              }
            }
          }
        }
        expectSame(found, expected, "\(kind) \(isa), \(m) × \(n) × \(k)")
      }
    }
  }

  /// Numbers to round: ordinary, equal, halves between codes, tiny, large, zeros.
  private func numbers(_ count: Int) -> [[Float]] {
    var random = Generator(seed: UInt64(count + 1))
    let normal = random.normals(count, 1)
    return [
      normal, normal.map { $0 * 1e-7 }, normal.map { $0 * 0x1p-133 }, normal.map { $0 * 1e6 },
      (0..<count).map { Float($0 % 255 - 127) / 2 }, (0..<count).map { $0 % 2 == 0 ? 1.5 : -1.5 },
      [Float](repeating: 0, count: count), (0..<count).map { $0 == 0 ? 0 : -0.0 },
    ]
  }

  @Test(arguments: [1, 2, 3, 5])
  func blocksAreRoundedAsTheTwins(blocks: Int) {
    for (width, twin) in [(32, Reference.roundBlocks32), (256, Reference.roundBlocks256)] {
      let count = blocks * width
      var cases = numbers(count)
      for bad: Float in [.infinity, -.infinity, .nan, 1e30, 0x1p-140] {
        cases.append(cases[0])
        cases[cases.count - 1][count - 1] = bad
      }
      for (index, x) in cases.enumerated() {
        let expected = twin(x)
        onEveryISA { isa in
          var codes = [Int8](repeating: 99, count: count + 1)
          var sums = [Int16](repeating: 99, count: count / 16 + 1)
          var scales = [Float](repeating: 99, count: blocks + 1)
          let outcome =
            width == 32
            ? sk_round_blocks_32(x, count, &codes, &sums, &scales)
            : sk_round_blocks_256(x, count, &codes, &sums, &scales)
          #expect((outcome != 0) == (expected != nil), "\(isa), case \(index) of \(width)")
          guard let expected, outcome != 0 else { return }
          #expect(codes == expected.codes + [99], "\(isa), case \(index) of \(width)")
          #expect(sums == expected.sums + [99], "\(isa), case \(index) of \(width)")
          expectSame(scales, expected.scales + [99], "\(isa), case \(index) of \(width)")
        }
      }
    }
  }

  @Test func rowsAreRoundedAsTheTwin() {
    for count in lengths {
      var cases = numbers(count)
      for bad: Float in [.infinity, .nan] where count > 0 {
        cases.append(cases[0])
        cases[cases.count - 1][count / 2] = bad
      }
      for (index, x) in cases.enumerated() {
        for scale: Float in [0, 0.02, 0x1p-133, .infinity] {
          let expected = Reference.roundRow(x, scale: scale)
          onEveryISA { isa in
            var codes = [Int8](repeating: 99, count: (count + 63) / 64 * 64 + 1)
            var sum: Int32 = 0
            let found = sk_round_row(x, count, scale, &codes, &sum)
            #expect(codes.last == 99)
            guard let expected else {
              #expect(found.isNaN, "\(isa), case \(index) of \(count)")
              return
            }
            expectSame([found], [expected.scale], "\(isa), case \(index) of \(count), scale \(scale)")
            #expect(Array(codes[..<count]) == expected.codes, "\(isa), case \(index) of \(count)")
            #expect(codes[count..<codes.count - 1].allSatisfy { $0 == 0 })
            #expect(sum == expected.codes.reduce(0) { $0 + Int32($1) })
          }
        }
      }
    }
  }

  /// x̂ · Ŵᵀ in double from activations that the twin rounded: what `multiplyIntegers` gives for every type but for the rounding of sums, and
  /// what the float32 product of the same numbers gives; any number of threads, some rows alone and several products at once the same bits.
  @Test(arguments: blocks)
  func productsOfBlocksAreThoseOfRoundedNumbers(_ kind: GGUFBlock.Kind) throws {
    let size = GGUFBlock(kind)
    let width = try #require(activationBlock(size))
    let (rows, blocks) = (70, 1024 / size.elements)
    let columns = blocks * size.elements
    var random = Generator(seed: 5)
    let bytes = try #require(KernelBlockTests.encoded(kind, random.normals(rows * columns, 0.02), nil)).bytes
    let weight = try Weight(
      name: "w", shape: [rows, columns], encoding: size,
      parts: [Part(.values, dtype: .u8, shape: [rows, bytes.count / rows], bytes: Bytes(bytes))])
    let numbers = weight.decode()
    for tokens in [1, 3, 40, 300] {
      let x = Matrix(rows: tokens, columns: columns, values: random.normals(tokens * columns, 1))
      let found = try #require(multiplyIntegers(x, weight))
      let again = try #require(multiplyIntegers(x, weight, parallel: Parallel(threads: 2)))
      expectSame(again.values, found.values, "two threads")
      let part = try #require(multiplyIntegers(x, weight, rows: 2..<69))
      expectSame(
        part.values, (0..<tokens).flatMap { found.values[$0 * rows + 2..<$0 * rows + 69] }, "some rows")
      let both = try #require(
        multiplyIntegers([(x, weight, nil), (x, weight, nil)], parallel: Parallel(threads: 2)))
      expectSame(both[0].values + both[1].values, found.values + found.values, "two products")
      // Products with the same activations share their codes; others, of as many numbers, do not.
      let other = Matrix(rows: tokens, columns: columns, values: x.values.map { -2 * $0 })
      let three = try #require(
        multiplyIntegers([(x, weight, nil), (x, weight, nil), (other, weight, nil)], parallel: .serial))
      expectSame(three[0].values + three[1].values, found.values + found.values, "the same activations")
      expectSame(three[2].values, found.values.map { -2 * $0 }, "others")
      let rounded = try #require(roundedBlocks(x, before: size, parallel: .serial))
      let simulated = SmeltTensors.multiply(rounded, weight)
      for token in 0..<min(tokens, 3) {
        let row = Array(x[token])
        let twin = try #require(width == 32 ? Reference.roundBlocks32(row) : Reference.roundBlocks256(row))
        let activations = twin.numbers
        expectSame(Array(rounded[token]), activations, "rounded")
        for output in 0..<rows {
          let terms = activations.indices.map {
            Double(activations[$0]) * Double(numbers[output * columns + $0])
          }
          let (exact, size) = (terms.reduce(0, +), terms.reduce(0) { $0 + abs($1) })
          for (sum, name) in [(found, "whole numbers"), (simulated, "simulated")] {
            #expect(
              abs(Double(sum.values[token * rows + output]) - exact) <= 5e-7 * size,
              "\(kind), \(name), token \(token), row \(output)")
          }
        }
      }
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
      let first: Float? = 0.25
      let both = try #require(
        multiplyIntegers([(x, weight, first), (x, weight, fixed)], parallel: .serial))
      expectSame(both[1].values, found.values, "another scale before")
      let shared = try #require(
        multiplyIntegers([(x, weight, first), (x, weight, fixed)], parallel: Parallel(threads: 2)))
      expectSame(shared[1].values, found.values, "two products, two threads")
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
    #expect(multiplyIntegers([(x, weight, nil), (x, floats, nil)], parallel: .serial) == nil)
    #expect(roundedBlocks(x, before: INT8.channel, parallel: .serial) == nil)
    x.values[4] = .nan
    #expect(multiplyIntegers(x, weight) == nil)
  }
}
