// The slow twins of checksums and of the codes of chunks: one symbol after the other, from Formats/codecs.md.

extension Reference {
  /// `sk_crc32c`: the remainder of a division by the polynomial, bit by bit.
  public static func crc32c(_ bytes: some Sequence<UInt8>, after sum: UInt32 = 0) -> UInt32 {
    ~bytes.reduce(~sum) { remainder, byte in
      (0..<8).reduce(remainder ^ UInt32(byte)) { c, _ in c >> 1 ^ (c & 1 == 1 ? 0x82F6_3B78 : 0) }
    }
  }
}
