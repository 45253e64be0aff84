// CRC-32C and XXH64 against published and independently computed sums, in pieces cut everywhere.

import CKernels
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

extension KernelTests {
  /// RFC 3720, appendix B.4, and the check value of the catalogue of parametrised CRC algorithms.
  static let crcVectors: [([UInt8], UInt32)] = [
    ([], 0), (Array("123456789".utf8), 0xE306_9283),
    ([UInt8](repeating: 0, count: 32), 0x8A91_36AA), ([UInt8](repeating: 0xFF, count: 32), 0x62A8_AB43),
    (Array(0..<32), 0x46DD_794E), ((0..<32).reversed(), 0x113F_DB5C),
    (
      [0x01, 0xC0] + [UInt8](repeating: 0, count: 14) + [
        0x14, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18,
      ]
        + [0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0], 0xD996_3A56
    ),
  ]

  @Test func crc32cOfTheStandardsExamples() {
    onEveryISA { isa in
      for (bytes, sum) in Self.crcVectors {
        #expect(bytes.withUnsafeBytes { CRC32C.hash($0) } == sum, "\(isa), \(bytes.count) bytes")
      }
    }
    for (bytes, sum) in Self.crcVectors { #expect(Reference.crc32c(bytes) == sum) }
  }

  /// Around the steps of all three ways: 8 bytes, 64 and 256, three strands of 2048.
  @Test func crc32cIsItsTwin() {
    var generator = Generator(seed: 32)
    let bytes = (0..<13_000).map { _ in UInt8.random(in: 0...255, using: &generator) }
    for length in Array(0...600) + [
      767, 768, 1023, 1024, 1100, 2048, 6143, 6144, 6145, 12_287, 12_289, 12_990,
    ] {
      let place = length % 9
      let sum = UInt32(truncatingIfNeeded: length &* 0x9E37_79B1)
      let expected = Reference.crc32c(bytes[place..<place + length], after: sum)
      onEveryISA { isa in
        bytes.withUnsafeBytes {
          let found = CRC32C.hash(UnsafeRawBufferPointer(rebasing: $0[place..<place + length]), after: sum)
          #expect(found == expected, "\(isa), length \(length)")
        }
      }
    }
  }

  @Test func crc32cIsTheSameInPieces() {
    let whole = Reference.crc32c(Self.sample)
    onEveryISA { isa in
      let wrong = (0...Self.sample.count).filter { split in
        Self.sample.withUnsafeBytes {
          CRC32C.hash(
            UnsafeRawBufferPointer(rebasing: $0[split...]),
            after: CRC32C.hash(UnsafeRawBufferPointer(rebasing: $0[..<split]))) != whole
        }
      }
      #expect(wrong.isEmpty, "\(isa)")
    }
  }

  /// Bytes i·31 + 7 modulo 256; the sums below were made with the reference implementations from the same bytes.
  static let sample = (0..<300).map { UInt8(truncatingIfNeeded: $0 * 31 + 7) }

  @Test(
    arguments: [
      (0, 0xef46_db37_51d8_e999, 0xac75_fda2_929b_17ef), (1, 0xa96c_7f0c_e858_bbb7, 0x84e5_35b3_6672_440d),
      (3, 0x56e6_9576_32a4_87f9, 0xd095_a923_9060_f0a3), (4, 0xc60d_15b1_e3ff_8f04, 0xd4e4_b946_fb0b_fbb4),
      (7, 0xafbe_fc3d_6c6f_9a8e, 0x3838_6302_628c_52dc), (8, 0x3da5_c7aa_2696_83e0, 0x3748_218f_9083_d1c1),
      (14, 0x1523_f762_201b_a56e, 0xc330_6ef1_5c74_fadd), (31, 0x4a74_f3a1_a39a_d4a1, 0xb806_f858_c847_89ea),
      (32, 0x8d57_d6a4_671c_c43d, 0x8ef2_e38d_de10_f162), (33, 0x62c9_fd21_ed85_7664, 0x5a65_3650_552f_822c),
      (63, 0x5c32_0a0d_2707_057f, 0xcdec_73bb_ccfd_2d50), (64, 0x7bba_bbc4_5729_d17e, 0x861f_d034_d84d_ab20),
      (100, 0xefa0_ad2d_3e70_c151, 0x4ac1_3414_471c_7284),
      (300, 0x8d2b_a0cd_7fec_e76c, 0x88a8_7907_c214_d1bd),
    ] as [(Int, UInt64, UInt64)])
  func xxh64IsTheSameInPieces(length: Int, plain: UInt64, seeded: UInt64) {
    #expect(sk_xxh64(Self.sample, length, 0) == plain)
    #expect(sk_xxh64(Self.sample, length, 0x9e37_79b1) == seeded)
    let wrong = (0...length).filter { split in
      var state = sk_xxh64_state()
      sk_xxh64_init(&state, 0)
      Self.sample.withUnsafeBytes {
        sk_xxh64_update(&state, $0.baseAddress, split)
        sk_xxh64_update(&state, $0.baseAddress! + split, length - split)
      }
      return sk_xxh64_final(&state) != plain
    }
    #expect(wrong.isEmpty)
  }

  /// On every instruction set the twin's sums, around the lengths from which on products are made ahead.
  @Test func longXXH64IsTheTwins() {
    var generator = Generator(seed: 65)
    let bytes = (0..<5000).map { _ in UInt8.random(in: 0...255, using: &generator) }
    let lengths = Array(0...70) + Array(505...520) + Array(543...545) + [1023, 1024, 1025, 1055, 1056, 4999]
    for length in lengths {
      let expected = Reference.xxh64(Array(bytes[..<length]))
      onEveryISA { isa in
        var (state, twice) = (sk_xxh64_state(), sk_xxh64_state())
        sk_xxh64_init(&state, 0)
        sk_xxh64_init(&twice, 0)
        bytes.withUnsafeBytes {
          #expect(sk_xxh64($0.baseAddress, length, 0) == expected, "\(isa), \(length)")
          sk_xxh64_update(&state, $0.baseAddress, length / 3)
          sk_xxh64_update(&state, $0.baseAddress! + length / 3, length - length / 3)
          #expect(sk_xxh64_update_twice(&twice, $0.baseAddress, length) == expected, "\(isa), \(length)")
        }
        #expect(sk_xxh64_final(&state) == expected && sk_xxh64_final(&twice) == expected, "\(isa), \(length)")
      }
    }
  }

  /// Both hashes at once, at every place of a stream and for every length.
  @Test func bothHashesAreThoseOfEitherAlone() {
    var generator = Generator(seed: 64)
    let bytes = (0..<700).map { _ in UInt8.random(in: 0...255, using: &generator) }
    for start in [0, 1, 31, 32, 33, 64, 100, 320] {
      for length in Array(0...100) + [127, 128, 129, 255, 256, 380] {
        var (both, alone) = (XXH64(), XXH64())
        bytes.withUnsafeBytes { bytes in
          let before = UnsafeRawBufferPointer(rebasing: bytes[..<start])
          let piece = UnsafeRawBufferPointer(rebasing: bytes[start..<start + length])
          both.update(before)
          alone.update(before)
          alone.update(piece)
          #expect(both.updateTwice(piece) == xxh64(piece), "\(start), \(length)")
        }
        #expect(both.value() == alone.value(), "\(start), \(length)")
      }
    }
  }
}
