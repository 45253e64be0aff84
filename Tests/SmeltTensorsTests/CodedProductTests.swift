// Products of a few tokens from the codes as they lie: on every instruction set the bits of the slow twin, which is the dot product
// of the decoded numbers in the one order.

import CKernels
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct CodedProductTests {
  /// The list, and groups and blocks of other sizes: small, ragged for a panel of 1024 columns, larger than it.
  static let encodings =
    EncodingConformanceTests.encodings.filter { !($0 is IntegerTable) }
    + [
      "int4.group16", "int4.group32", "int4.group48.zero", "int4.group1040", "int4.tensor",
      "int4.channel.zero",
      "int8.group32", "int8.group96.zero", "int8.tensor.zero", "int8.channel.zero", "f8_e4m3.block3x80",
      "f8_e5m2.block128x2048", "int4.group24", "int8.group7",
    ].compactMap { Encodings.named($0) }

  /// Around sixteen columns, around a panel, and more than two of them.
  static let widths = [
    1, 2, 15, 16, 17, 30, 31, 32, 33, 34, 48, 100, 160, 1008, 1023, 1024, 1025, 1056, 2100,
  ]

  @Test func sizesOfTheListAreKnown() {
    #expect(
      Self.encodings.count == EncodingConformanceTests.encodings.count(where: { !($0 is IntegerTable) }) + 14)
  }

  /// Four rows of a weight are a panel, and tokens come four, two and one at a time: 6 rows and 7 tokens have all of it.
  @Test(arguments: encodings.map(\.name))
  func bitsAreThoseOfTheTwin(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    var widths: Set<Int> = []
    for width in Self.widths {
      let shape = fitted([6, width], to: encoding)
      guard widths.insert(shape.columns).inserted, (try? encoding.layout(of: shape, name: "w")) != nil else {
        continue
      }
      let weight = try randomWeight(encoding, shape, seed: UInt64(width))
      let k = shape.columns
      var random = Generator(seed: UInt64(k))
      let x = Matrix(rows: 7, columns: k, values: random.normals(7 * k))
      let numbers = weight.decode()
      var expected = [Float](repeating: 0, count: 7 * 6)
      Reference.gemm(x.values, numbers, &expected, m: 7, n: 6, k: k, accumulate: false)
      onEveryISA { isa in
        expectSame(multiply(x, weight).values, expected, "\(isa), \(shape)")
        for rows in [1..<2, 2..<6] {
          let some = multiply(x[1..<2], weight, rows: rows)
          expectSame(
            some.values, Array(expected[6 + rows.lowerBound..<6 + rows.upperBound]),
            "\(isa), \(shape), \(rows)")
        }
      }
    }
    #expect(widths.count > 2)
  }

  /// One token meets numbers without scales a row at a time: rows around the sixteen that are added up together, columns around a line of
  /// codes, a block and the eight blocks that wait for each other, and those that sixteen does not divide.
  @Test(arguments: [Plain.f32, .f16, .bf16].map(\.name))
  func bitsOfOneTokenAreThoseOfTheTwin(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    for columns in [16, 32, 48, 64, 72, 1008, 1024, 1040, 2080, 8192, 8208, 8224, 9233] {
      let weight = try randomWeight(encoding, [35, columns], seed: UInt64(columns))
      var random = Generator(seed: UInt64(columns + 1))
      let x = Matrix(rows: 1, columns: columns, values: random.normals(columns))
      var expected = [Float](repeating: 0, count: 35)
      Reference.gemm(x.values, weight.decode(), &expected, m: 1, n: 35, k: columns, accumulate: false)
      onEveryISA { isa in
        for rows in [0..<35, 0..<1, 2..<17, 3..<19, 1..<18, 2..<34] {
          expectSame(
            multiply(x, weight, rows: rows).values, Array(expected[rows]), "\(isa), \(columns), \(rows)")
        }
        expectSame(
          multiply(x, weight, parallel: Parallel(threads: 2)).values, expected, "\(isa), \(columns), threads")
      }
    }
  }

  /// Scales beside the codes of every type that the encoding may have.
  @Test(arguments: encodings.filter { !($0 is GGUFBlock) && !($0 is Plain) }.map(\.name))
  func scalesOfEveryTypeAreRead(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    let shape: Shape = [5, 1184]
    for dtype in try encoding.layout(of: shape, name: "w")[1].dtypes {
      let weight = try randomWeight(encoding, shape, scaleDType: dtype, seed: 3)
      var random = Generator(seed: 4)
      let x = Matrix(rows: 1, columns: 1184, values: random.normals(1184))
      var expected = [Float](repeating: 0, count: 5)
      Reference.gemm(x.values, weight.decode(), &expected, m: 1, n: 5, k: 1184, accumulate: false)
      onEveryISA { isa in expectSame(multiply(x, weight).values, expected, "\(isa), scales \(dtype)") }
    }
  }

  /// Which encodings have such products: all but doubles, places in a grid, groups that are no runs of columns, and groups that
  /// sixteen columns do not divide.
  @Test func encodingsWithoutAKernelAreFew() throws {
    let without = try Self.encodings.filter { encoding in
      let weight = try randomWeight(encoding, fitted([8, 2080], to: encoding), seed: 1)
      return encoding.coded(weight) == nil
    }.map(\.name)
    #expect(
      without == [
        "f64", "int4.group128.zero.indexed", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs",
        "iq3_s",
        "f8_e4m3.block65536x1", "int4.group24", "int8.group7",
      ])
  }

  /// Numbers whose products underflow, among them negative zeros: signs of zeros are those of the twin too.
  @Test(arguments: [
    "bf16", "f8_e4m3.channel", "mxfp4", "mxfp4.gguf", "nvfp4", "int8.channel", "q4_k", "q8_0",
  ])
  func zerosKeepTheirSigns(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    let weight = try randomWeight(encoding, fitted([4, 96], to: encoding), seed: 21)
    let k = weight.columns
    let x = Matrix(
      rows: 1, columns: k, values: (0..<k).map { $0 % 3 == 0 ? -0x1p-149 : $0 % 3 == 1 ? -0.0 : 0 })
    var expected = [Float](repeating: 0, count: 4)
    Reference.gemm(x.values, weight.decode(), &expected, m: 1, n: 4, k: k, accumulate: false)
    onEveryISA { isa in
      expectSame(multiply(x, weight).values.map(\.bitPattern), expected.map(\.bitPattern), isa)
    }
  }

  /// Several products at once are those of one after another, whatever the threads; decoded ones among them too.
  @Test func productsAtOnceAreThoseOneByOne() throws {
    var random = Generator(seed: 31)
    for names in [["bf16", "q4_k", "int8.channel"], ["bf16", "f64", "iq2_xs"]] {
      let products = try names.enumerated().map { index, name in
        let encoding = try #require(Encodings.named(name))
        let weight = try randomWeight(encoding, [300 + index, 512], seed: UInt64(index))
        return (
          x: Matrix(rows: 1 + 4 * index, columns: 512, values: random.normals((1 + 4 * index) * 512)),
          weight: weight
        )
      }
      for threads in 1...3 {
        let together = multiply(products, parallel: Parallel(threads: threads))
        for (product, found) in zip(products, together) {
          let alone = multiply(product.x, product.weight)
          #expect(found.rows == alone.rows && found.columns == alone.columns)
          expectSame(found.values, alone.values, "\(product.weight.encoding.name), \(threads) threads")
        }
      }
    }
    #expect(multiply([], parallel: Parallel(threads: 2)).isEmpty)
  }
}
