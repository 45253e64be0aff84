// The encoders of GGUF's blocks against their slow twins, on every instruction set: bytes, counts, and what is refused.

import CKernels
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct KernelBlockTests {
  static let kinds = GGUFBlock.Kind.allCases.filter { GGUFBlock($0).isEncodable }

  /// Encodes with the kernel; nil when it refuses.
  static func encoded(_ kind: GGUFBlock.Kind, _ values: [Float], _ weights: [Float]?) -> (
    bytes: [UInt8], inexact: Int
  )? {
    let block = GGUFBlock(kind)
    let count = values.count / block.elements * block.bytes
    var bytes = [UInt8](repeating: 0xA5, count: count + 8)
    let outcome = block.encode(values, count: values.count, weights: weights, into: &bytes)
    #expect(bytes.suffix(8).allSatisfy { $0 == 0xA5 })
    guard case .stored(let inexact) = outcome else { return nil }
    return (Array(bytes.prefix(count)), inexact)
  }

  static func decoded(_ kind: GGUFBlock.Kind, _ bytes: [UInt8]) throws -> [Float] {
    let block = GGUFBlock(kind)
    let weight = try Weight(
      name: "w", shape: [1, bytes.count / block.bytes * block.elements], encoding: block,
      parts: [Part(.values, dtype: .u8, shape: [1, bytes.count], bytes: Bytes(bytes))])
    try weight.validate()
    return weight.decode()
  }

  /// Blocks of every kind of numbers, one after the other.
  static func sources(_ count: Int) -> [(String, [Float])] {
    var random = Generator(seed: UInt64(count))
    let normal = random.normals(count, 0.02)
    var outlier = normal
    outlier[count / 3] = 3
    return [
      ("normal", normal), ("outlier", outlier),
      ("one side", normal.map { $0.magnitude + 0.01 }), ("other side", normal.map { -$0.magnitude - 0.01 }),
      ("zeros", normal.map { $0 > 0 ? 0 : -0.0 }), ("equal", normal.map { _ in -0.37 }),
      ("steps", (0..<count).map { Float($0 % 7) / 4 - 1 }),
      ("tiny", normal.map { $0 * 1e-5 }), ("subnormal scales", normal.map { $0 * 1e-6 }),
      ("subnormal", normal.map { $0 * 1e-37 }), ("large", normal.map { $0 * 2e4 }),
    ]
  }

  @Test(arguments: kinds)
  func bytesAreTheTwins(_ kind: GGUFBlock.Kind) throws {
    let size = GGUFBlock(kind).elements
    var random = Generator(seed: 7)
    for (index, (name, values)) in Self.sources(size).enumerated() {
      let weights = (0..<size).map { $0 % 64 < 16 ? 0 : random.normal().magnitude / 8 }
      // Importances for every third source: they change nothing but the sums' factors.
      for w in index % 3 == 0 ? [nil, weights] : [index % 3 == 1 ? nil : weights] {
        let expected = try #require(Reference.encodeBlocks(kind, values, weights: w), "\(name)")
        let numbers = try Self.decoded(kind, expected)
        let inexact = zip(values, numbers).count { $0 != $1 }
        onEveryISA { isa in
          let found = Self.encoded(kind, values, w)
          expectSame(found?.bytes ?? [], expected, "\(kind) \(name) \(w == nil ? "" : "weighted") \(isa)")
          #expect(found?.inexact == inexact, "\(kind) \(name) \(isa)")
        }
      }
    }
  }

  /// Blocks do not look at each other, and take no more than their own bytes.
  /// Random codes and random scales, three blocks at an odd address.
  @Test(arguments: GGUFBlock.Kind.allCases.filter { !["iq1", "iq2", "iq3"].contains($0.rawValue.prefix(3)) })
  func numbersAreTheTwins(_ kind: GGUFBlock.Kind) throws {
    let block = GGUFBlock(kind)
    var random = Generator(seed: 11)
    var checked = 0
    for _ in 0..<40 {
      var bytes = (0..<3 * block.bytes).map { _ in UInt8(truncatingIfNeeded: Int(random.next() >> 40)) }
      // Scales of E4M3 have no sign and are no NaN.
      if kind == .nvfp4 { for place in bytes.indices where place % 36 < 4 { bytes[place] %= 0x7F } }
      // A few codes of one kind, so that whole groups of zeros and of largest codes come too.
      if checked % 5 == 0 {
        for place in bytes.indices where place % 7 < 3 { bytes[place] = [0, 0x80, 0xFF][checked % 3] }
      }
      let weight = try Weight(
        name: "w", shape: [1, 3 * block.elements], encoding: block,
        parts: [Part(.values, dtype: .u8, shape: [1, bytes.count], bytes: Bytes(bytes))])
      guard (try? weight.validate()) != nil else { continue }
      checked += 1
      let expected = try (0..<3).flatMap { index in
        try #require(
          Reference.decodeBlock(kind, Array(bytes[index * block.bytes..<(index + 1) * block.bytes])))
      }
      onEveryISA { isa in
        for columns in [3, 2, 1].map({ $0 * block.elements }) + [block.elements + 5] {
          var found = [Float](repeating: 7, count: 3 * block.elements + 1)
          found.withUnsafeMutableBufferPointer {
            block.decode(
              weight, rows: 0..<1, columns: 0..<columns, into: $0.baseAddress! + 1, stride: columns)
          }
          let untouched = [Float](repeating: 7, count: 3 * block.elements - columns)
          expectSame(found, [7] + expected[..<columns] + untouched, "\(kind) \(isa), \(columns) columns")
        }
      }
    }
    #expect(checked >= 5, "\(checked) of 40 rows are valid")
  }

  @Test(arguments: kinds)
  func blocksAreAlone(_ kind: GGUFBlock.Kind) throws {
    let block = GGUFBlock(kind)
    var random = Generator(seed: 3)
    let values = random.normals(5 * block.elements)
    let whole = try #require(Self.encoded(kind, values, nil))
    var parts: [UInt8] = []
    var inexact = 0
    for range in [0..<1, 1..<3, 3..<3, 3..<5] {
      let some = Array(values[range.lowerBound * block.elements..<range.upperBound * block.elements])
      let part = try #require(Self.encoded(kind, some, nil))
      parts += part.bytes
      inexact += part.inexact
    }
    #expect(parts == whole.bytes)
    #expect(inexact == whole.inexact)
  }

  /// What a type's codes can hold is held; what no F16 scale reaches is refused, by block.
  @Test(arguments: kinds)
  func whatIsTooLargeIsRefused(_ kind: GGUFBlock.Kind) throws {
    let block = GGUFBlock(kind)
    var random = Generator(seed: 4)
    for (magnitude, weighted) in [(Float(1e9), false), (1e20, true), (3.4e38, false), (3.4e38, true)] {
      var values = random.normals(3 * block.elements)
      values[2 * block.elements - 1] = -magnitude
      values[2 * block.elements] = magnitude
      let weights = [Float](repeating: 0.5, count: values.count)
      onEveryISA { isa in
        var bytes = [UInt8](repeating: 0, count: 3 * block.bytes)
        let outcome = block.encode(
          values, count: values.count, weights: weighted ? weights : nil, into: &bytes)
        if kind == .mxfp4 {  // its scales reach as far as float32
          guard case .stored = outcome else { Issue.record("\(magnitude): \(outcome)"); return }
        } else {
          #expect(outcome == .beyondRange(block: 1), "\(kind) \(magnitude) \(isa)")
        }
      }
      if kind != .mxfp4 {
        #expect(Reference.encodeBlocks(kind, values, weights: weighted ? weights : nil) == nil)
      }
    }
  }

  /// From the smallest to nearly the largest, no scale is ever NaN or infinite.
  @Test(arguments: kinds)
  func scalesAreNumbers(_ kind: GGUFBlock.Kind) throws {
    let size = GGUFBlock(kind).elements
    var random = Generator(seed: 6)
    let numbers = random.normals(size)
    for exponent in stride(from: -149, through: 18, by: 1) {
      let scale = Float(sign: .plus, exponent: exponent, significand: 1)
      let values = numbers.map { $0 * scale }
      guard let found = Self.encoded(kind, values, nil) else {
        #expect(exponent > 8, "\(kind) 2^\(exponent)")
        continue
      }
      let back = try Self.decoded(kind, found.bytes)
      let largest = values.map(\.magnitude).max() ?? 0
      // Half of F16's smallest step, times up to 31 codes, is what ggml's scales lose among the subnormals.
      let bound = largest + 31 * 0x1p-25
      let wrong = zip(values, back).first { ($0 - $1).magnitude > bound }
      #expect(wrong == nil, "\(kind) 2^\(exponent): \(wrong.map { "\($0)" } ?? "")")
    }
  }

  /// Formats/encodings.md, section 20: the worked bytes, and how the rest of the block begins.
  @Test(arguments: [
    (GGUFBlock.Kind.q8_0, [0: Float(127), 1: -63.5, 2: 0.5], [UInt8]([0x00, 0x3C, 0x7F, 0xC0, 0x01, 0x00])),
    (.q4_0, [0: -8, 16: 3.5], [0x00, 0x3C, 0xC0, 0x88]),
    (.q4_1, [0: 14, 16: -1], [0x00, 0x3C, 0x00, 0xBC, 0x0F, 0x11]),
    (.mxfp4, [0: 6, 1: -0.25], [0x7F, 0x07, 0x00]),
  ])
  func workedBytesOfTheDocument(_ kind: GGUFBlock.Kind, _ numbers: [Int: Float], _ expected: [UInt8]) throws {
    let values = (0..<32).map { numbers[$0] ?? 0 }
    let found = try #require(Self.encoded(kind, values, nil))
    #expect(Array(found.bytes.prefix(expected.count)) == expected)
  }

  /// ggml takes a logarithm in float32, which for a few numbers just below a power of two comes out whole.
  @Test func exponentsAreThoseOfARoundedLogarithm() throws {
    for (bits, exponent) in [
      (0x3F7F_FFFF as UInt32, 124), (0x407F_FFFF, 126), (0x417F_FFFF, 129), (0x417F_FFFD, 128),
      (0x3DFF_FFFF, 122), (0x3D7F_FFFE, 121), (0x3D7F_FFFD, 120), (0x0080_0000, 0), (0x7F7F_FFFF, 253),
    ] {
      var values = [Float](repeating: 0, count: 32)
      values[5] = Float(bitPattern: bits)
      let found = try #require(Self.encoded(.mxfp4, values, nil))
      #expect(Int(found.bytes[0]) == exponent, "\(String(bits, radix: 16))")
      #expect(Reference.encodeBlocks(.mxfp4, values, weights: nil) == found.bytes)
    }
  }
}
