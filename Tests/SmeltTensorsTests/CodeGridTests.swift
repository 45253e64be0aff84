// The bound that rounding has: kernels against their twins, and every encoding's grid against what it decodes.

import CKernels
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct CodeGridTests {
  private static func twin(_ found: sk_rounding) -> Reference.Rounding {
    Reference.Rounding(beyond: found.beyond, clipped: found.clipped, furthest: found.furthest)
  }

  /// Numbers and what was stored for them: most near, some far, one no number.
  private static func pairs(_ n: Int, seed: UInt64) -> (a: [Float], b: [Float]) {
    var random = Generator(seed: seed)
    let a = (0..<n).map { _ in random.normal(1) * (Bool.random(using: &random) ? 1 : 0.01) }
    var b = a.map { $0 + random.normal(0.05) }
    if n > 3 { b[n / 2] = .nan }
    return (a, b)
  }

  @Test func kernelsAndTwinsAgree() {
    for n in [0, 1, 2, 3, 7, 8, 16, 31, 67, 1000] {
      let (a, b) = Self.pairs(n, seed: UInt64(n))
      #expect(
        Self.twin(sk_check_even(a, b, 0.05, -1, 1.5, 0.001, n))
          == Reference.checkEven(a, b, half: 0.05, low: -1, high: 1.5, slack: 0.001), "\(n)")
      for (mantissa, least, most) in [(3, Float(0x1p-6), Float(448)), (1, 1, 6), (2, 0x1p-14, 57_344)] {
        for scale in [Float(0.2), 0.003] {
          #expect(
            Self.twin(sk_check_binary(a, b, scale, Int32(mantissa), least, most, 0, n))
              == Reference.checkBinary(
                a, b, scale: scale, mantissa: mantissa, least: least, most: most, slack: 0), "\(n), \(scale)")
        }
      }
      let table: [Float] = [-3, -1, 0.5, 2]
      #expect(
        Self.twin(sk_check_table(a, b, table, table.count, -0.4, 0.001, n))
          == Reference.checkTable(a, b, table, scale: -0.4, slack: 0.001), "\(n)")
    }
  }

  /// The runs of a row follow each other without a gap, and what a weight decodes to is within its own grid.
  @Test(arguments: EncodingConformanceTests.encodings.map(\.name))
  func everyEncodingHasAGridOrSaysThatItHasNone(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    for shape in EncodingConformanceTests.shapes.map({ fitted($0, to: encoding) }) {
      let weight = try randomWeight(encoding, shape, seed: 5)
      for row in [0, weight.rows - 1] {
        let values = weight.decode(rows: row..<row + 1)
        var next = 0
        var found = RoundingCheck()
        encoding.grids(weight, row: row) { columns, grid in
          #expect(columns.lowerBound == next)
          next = columns.upperBound
          values.withUnsafeBufferPointer {
            let place = $0.baseAddress! + columns.lowerBound
            found += grid.check(place, place, count: columns.count)
          }
          for column in columns { #expect(grid.allowed(values[column]) >= 0) }
        }
        #expect(next == (encoding.hasGrid ? weight.columns : 0))
        // Codes that no writer uses, such as -128, lie outside the range.
        #expect(found.beyond == 0 && found.farClipped == 0, "\(shape), row \(row)")
      }
    }
  }

  /// Half a step is allowed, more is not; outside the range the end is.
  @Test func theBoundIsHalfAStep() throws {
    let codes: [Int8] = [3, -127, 127, 0]
    let weight = try Weight(
      name: "w", shape: [1, 4], encoding: INT8.channel,
      parts: [
        Part(.values, dtype: .i8, shape: [1, 4], bytes: Bytes(codes.map { UInt8(bitPattern: $0) })),
        Part(.scales, dtype: .f32, shape: [1], bytes: Bytes([0, 0, 0, 0x3F])),  // 0.5
      ])
    let stored = weight.decode()
    func check(_ a: [Float]) -> RoundingCheck {
      var found = RoundingCheck()
      weight.encoding.grids(weight, row: 0) { columns, grid in found += grid.check(a, stored, count: 4) }
      return found
    }
    #expect(check([1.5 + 0.25, -63.5, 63.5, -0.25]) == RoundingCheck())
    #expect(check([1.5 + 0.26, -63.5, 63.5, -0.25]).beyond == 1)
    #expect(check([1.5, -63.5 + 0.26, 63.5, 0.3]).beyond == 2)
    let clipped = check([1.5, -70, 80, 0])
    #expect(clipped.beyond == 0 && clipped.clipped == 2 && clipped.farClipped == 0)
    #expect(check([1.5, -63.5, 300, 0]).farClipped == 1)
  }
}
