// GGUF's block types against Formats/vectors/gguf.txt, which holds ggml's own bytes and values, and what they refuse.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct GGUFBlockTests {
  /// A weight of rows of bytes.
  private func weight(_ kind: GGUFBlock.Kind, columns: Int, _ rows: [[UInt8]]) throws -> Weight {
    try Weight(
      name: "blk.0.w", shape: [rows.count, columns], encoding: GGUFBlock(kind),
      parts: [
        Part(
          .values, dtype: .u8, shape: [rows.count, rows[0].count], bytes: Bytes(rows.flatMap { $0 }))
      ],
      file: "a.gguf")
  }

  /// q8_1 and q8_k are the types of activations in memory; no tool writes them into a file.
  @Test(arguments: GGUFBlock.Kind.allCases.filter { $0 != .q8_1 && $0 != .q8_k })
  func everyNumberIsGGMLs(_ kind: GGUFBlock.Kind) throws {
    let lines = try vectorLines("gguf").filter { $0[0] == kind.rawValue }
    #expect(lines.count >= 3)
    for line in lines {
      let columns = try #require(Int(line[1]))
      let one = try weight(kind, columns: columns, [hexBytes(line[2])])
      try one.validate()
      let expected = hexFloats(line[3])
      let found = one.decode()
      #expect(expected.count == columns)
      let wrong = (0..<columns).first { found[$0].bitPattern != expected[$0].bitPattern }
      #expect(
        wrong == nil,
        "column \(wrong ?? 0): \(found[wrong ?? 0]), expected \(expected[wrong ?? 0])")
    }
  }

  /// Every point of every table, of which the rows above hold a part.
  @Test func everyPointIsTheFormats() throws {
    let lines = try vectorLines("gguf.points")
    #expect(lines.count == 6)
    for line in lines {
      let kind = try #require(GGUFBlock.Kind(rawValue: String(line[0])))
      let points = try #require(Int(line[1]))
      let block = GGUFBlock(kind)
      let bytes = hexBytes(line[2])
      let found = try weight(kind, columns: bytes.count / block.bytes * block.elements, [bytes]).decode()
      #expect(found.count == points * (kind == .iq3_xxs || kind == .iq3_s ? 4 : 8))
      var digest: UInt64 = 0xCBF2_9CE4_8422_2325
      for number in found {
        for place in 0..<4 {
          digest ^= UInt64(number.bitPattern >> (8 * UInt32(place)) & 255)
          digest &*= 0x100_0000_01B3
        }
      }
      let expected = try #require(UInt64(line[3], radix: 16))
      #expect(digest == expected, "\(kind)")
    }
  }

  /// Formats/encodings.md, sections 15 to 19: the worked bytes, zeros after them; numbers by column.
  @Test(arguments: [
    (GGUFBlock.Kind.q8_0, [UInt8]([0x00, 0x38, 0x02, 0xFF, 0x80]), [0: Float(1), 1: -0.5, 2: -64, 3: 0]),
    (.q8_1, [0x00, 0x38, 0xFF, 0x7B, 0x02, 0xFF], [0: 1, 1: -0.5, 2: 0]),
    (.q8_k, [0x00, 0x00, 0x00, 0x3F, 0x02, 0xFF], [0: 1, 1: -0.5, 2: 0]),
    (.q4_0, [0x00, 0x38, 0x2F], [0: 3.5, 1: -4, 16: -3, 17: -4]),
    (.q4_1, [0x00, 0x38, 0x00, 0xBC, 0x2F], [0: 6.5, 1: -1, 16: 0]),
    (.q5_0, [0x00, 0x38, 0x01, 0x00, 0x01, 0x00, 0x2F], [0: 7.5, 1: -8, 16: 1]),
    (.q5_1, [0x00, 0x38, 0x00, 0xBC, 0x01, 0x00, 0x01, 0x00, 0x2F], [0: 14.5, 1: -1, 16: 8]),
    (.q1_0, [0x00, 0x38, 0x05], [0: 0.5, 1: -0.5, 2: 0.5, 127: -0.5]),
    (.q2_0, [0x00, 0x38, 0xE4], [0: -0.5, 1: 0, 2: 0.5, 3: 1, 4: -0.5]),
    (.iq4_nl, [0x00, 0x38, 0x0F], [0: 56.5, 16: -63.5]),
    (.mxfp4, [0x80, 0x1F, 0x08], [0: -12, 1: 0, 16: 1]),
    (.mxfp4, [0x00, 0x01], [0: 0x1p-128, 1: 0]),
    (.nvfp4, [0x40, 0x01, 0x00, 0x00, 0x1F], [0: -12, 8: 1, 16: 0]),
    (
      .q4_k, [0x00, 0x38, 0x00, 0x34, 0x03, 0x02, 0, 0, 0x04, 0x05, 0, 0, 0, 0, 0, 0, 0x2F],
      [0: 21.5, 1: -1, 32: 0.75]
    ),
  ])
  func workedBytesOfTheDocument(_ kind: GGUFBlock.Kind, _ bytes: [UInt8], _ numbers: [Int: Float]) throws {
    let size = GGUFBlock(kind)
    let block = bytes + [UInt8](repeating: 0, count: size.bytes - bytes.count)
    let found = try weight(kind, columns: size.elements, [block]).decode()
    for (column, number) in numbers { #expect(found[column] == number, "column \(column)") }
  }

  /// Scale bytes that are no number, by type: where, which bytes, and the words of the refusal.
  static let damage: [(GGUFBlock.Kind, Int, [UInt8], String)] = {
    let nan: [UInt8] = [0x01, 0x7C]
    let infinity: [UInt8] = [0x00, 0xFC]
    let places: [(GGUFBlock.Kind, [Int])] = [
      (.q8_0, [0]), (.q4_0, [0]), (.q4_1, [0, 2]), (.q5_0, [0]), (.q5_1, [0, 2]), (.q8_1, [0]),
      (.q1_0, [0]), (.q2_0, [0]), (.q2_k, [80, 82]), (.q3_k, [108]), (.q4_k, [0, 2]), (.q5_k, [0, 2]),
      (.q6_k, [208]), (.iq4_nl, [0]), (.iq4_xs, [0]), (.tq1_0, [52]), (.tq2_0, [64]), (.iq1_s, [0]),
      (.iq2_xxs, [0]), (.iq2_xs, [0]), (.iq2_s, [0]), (.iq3_xxs, [0]), (.iq3_s, [0]),
    ]
    return places.flatMap { kind, offsets in
      offsets.flatMap { offset in
        [
          (kind, offset, nan, "the scale at byte \(offset) is NaN"),
          (kind, offset, infinity, "the scale at byte \(offset) is -inf"),
        ]
      }
    } + [
      (.q8_k, 0, [0, 0, 0xC0, 0x7F], "the scale is NaN"),
      (.q8_k, 0, [0, 0, 0, 0x7E, 0x7F], "code times scale is inf in its column 0"),
      (.mxfp4, 0, [0xFF], "the scale is NaN"),
      (.mxfp4, 0, [0xFD, 0x07], "code times scale is inf in its column 0"),
      (.nvfp4, 3, [0x7F], "scale 3 is 0x7f"), (.nvfp4, 0, [0x80], "scale 0 is 0x80"),
      (.iq1_m, 48, [0, 0x00, 0, 0x00, 0, 0xC0, 0, 0x70], "the scale is inf"),
      (.iq1_m, 48, [0, 0x10, 0, 0x00, 0, 0xC0, 0, 0x70], "the scale is NaN"),
    ]
  }()

  @Test func everyTypeIsDamaged() {
    #expect(Set(Self.damage.map { $0.0 }) == Set(GGUFBlock.Kind.allCases))
  }

  @Test(arguments: damage.indices)
  func scalesThatAreNoNumbersAreRefused(_ index: Int) throws {
    let (kind, offset, bad, words) = Self.damage[index]
    let size = GGUFBlock(kind)
    var rows = [[UInt8]](repeating: [UInt8](repeating: 0, count: 4 * size.bytes), count: 3)
    try weight(kind, columns: 4 * size.elements, rows).validate()
    let place = 2 * size.bytes + offset
    rows[1].replaceSubrange(place..<place + bad.count, with: bad)
    rows[2] = rows[1]  // the first one is named
    let damaged = try weight(kind, columns: 4 * size.elements, rows)
    let error = try #require(refusal { try damaged.validate() })
    #expect(error.code == .block && error.file == "a.gguf" && error.subject == "blk.0.w")
    #expect(
      error.problem.hasPrefix("row 1, block 2 (byte \(6 * size.bytes) of its values): " + words),
      "\(error.problem)")
  }

  /// The largest scales whose numbers are all finite.
  @Test func largeScalesAreNumbers() throws {
    for (kind, bytes) in [
      (GGUFBlock.Kind.mxfp4, [UInt8]([0xFC, 0x77])), (.mxfp4, [0xFE, 0x11]),
      (.nvfp4, [0x7E, 0x7E, 0x7E, 0x7E]),
      (.q8_0, [0xFF, 0x7B, 0x7F]), (.q8_k, [0, 0, 0, 0x7E, 0x02]), (.q4_0, [0x00, 0x80, 0xFF]),
    ] {
      let size = GGUFBlock(kind)
      let block = bytes + [UInt8](repeating: 0, count: size.bytes - bytes.count)
      let one = try weight(kind, columns: size.elements, [block])
      try one.validate()
      #expect(!one.decode().contains { !$0.isFinite })
    }
  }

  @Test(arguments: GGUFBlock.Kind.allCases)
  func widthsThatAreNoWholeBlocksAreRefused(_ kind: GGUFBlock.Kind) {
    let block = GGUFBlock(kind)
    for columns in [1, block.elements - 1, block.elements + 1, block.elements * 3 / 2] {
      let error = refusal { _ = try block.layout(of: [4, columns], name: "w") }
      #expect(error?.code == .packed && error?.problem.hasPrefix("has \(columns) columns") == true)
    }
    #expect(refusal { _ = try block.layout(of: [], name: "w") }?.code == .packed)
    let wide = Int.max / block.elements * block.elements
    if block.bytes > block.elements {
      #expect(refusal { _ = try block.layout(of: [wide], name: "w") }?.code == .packed)
    }
    let short = Part(
      .values, dtype: .u8, shape: [2, block.bytes - 1],
      bytes: Bytes([UInt8](repeating: 0, count: 2 * block.bytes - 2)))
    let error = refusal {
      _ = try Weight(name: "w", shape: [2, block.elements], encoding: block, parts: [short])
    }
    #expect(error?.code == .packed)
  }
}
