// The slow, obvious twins of the kernels for grouped codes (sk_groups.h).

extension Reference {
  /// `sk_decode_int4`: (code − zero) · scale; code 2j is the low nibble of byte j.
  package static func decodeInt4(_ bytes: [UInt8], zero: Float, scale: Float, count: Int) -> [Float] {
    (0..<count).map { i in (Float(nibble(bytes, i)) - zero) * scale }
  }

  /// `sk_decode_int8_zero`: (code − zero) · scale.
  package static func decodeInt8(_ bytes: [Int8], zero: Float, scale: Float) -> [Float] {
    bytes.map { (Float($0) - zero) * scale }
  }

  /// `sk_decode_e2m1`: code · scale; code 2j is the low nibble of byte j.
  package static func decodeE2M1(_ bytes: [UInt8], scale: Float, count: Int) -> [Float] {
    (0..<count).map { value(UInt32(nibble(bytes, $0)), exponent: 2, mantissa: 1) * scale }
  }

  /// `sk_gather`: element [r, c] of the result is element r · rowStep + c · columnStep of the source.
  package static func gather<T>(_ source: [T], rows: Int, columns: Int, rowStep: Int, columnStep: Int) -> [T]
  {
    (0..<rows).flatMap { r in (0..<columns).map { c in source[r * rowStep + c * columnStep] } }
  }

  /// `sk_unpack_awq`: nibble p of a word is output [0, 2, 4, 6, 1, 3, 5, 7][p] of its eight.
  package static func unpackAWQ(_ words: [UInt32]) -> [UInt8] {
    words.flatMap { word in
      var eight = [UInt8](repeating: 0, count: 8)
      for (place, output) in [0, 2, 4, 6, 1, 3, 5, 7].enumerated() {
        eight[output] = UInt8(word >> UInt32(4 * place) & 15)
      }
      return eight
    }
  }

  /// `sk_mxfp4_to_gguf`: a group's scale, then byte j with column j in the low nibble and column j + 16 in the high one.
  package static func repackMXFP4(_ codes: [UInt8], scales: [UInt8]) -> [UInt8] {
    scales.indices.flatMap { g in
      [scales[g]] + (0..<16).map { nibble(codes, 32 * g + $0) | nibble(codes, 32 * g + $0 + 16) << 4 }
    }
  }

  /// `sk_pack_nibbles`: two a byte, the even one low.
  package static func packNibbles(_ nibbles: [UInt8]) -> [UInt8] {
    stride(from: 0, to: nibbles.count, by: 2).map { i in
      nibbles[i] | (i + 1 < nibbles.count ? nibbles[i + 1] << 4 : 0)
    }
  }

  /// `sk_flip_top_bit`: a byte offset by 128 as two's complement.
  package static func flipTopBit(_ bytes: [UInt8]) -> [UInt8] {
    bytes.map { UInt8(bitPattern: Int8(Int($0) - 128)) }
  }

  private static func nibble(_ bytes: [UInt8], _ index: Int) -> UInt8 {
    index % 2 == 0 ? bytes[index / 2] & 15 : bytes[index / 2] >> 4
  }
}
