// What the formulas of GGUF's blocks have besides the kernels that decode them (`sk_decode_q4_k` and its siblings): the numbers that
// codes stand for, and where a group's scale lies. Formats/encodings.md, sections 15 to 17.

/// Scales and numbers of blocks.
enum GGUFBlockScales {
  // SAFETY: addresses lie in a whole block of the function's type.
  typealias Block = UnsafePointer<UInt8>

  /// The sixteen numbers that the codes of iq4_nl and iq4_xs stand for.
  static let nonlinear: [Float] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
  ]

  /// The scale of group 0…15 of q3_k, -32…31, packed in twelve bytes.
  @inline(__always)
  static func scaleOfQ3K(_ packed: Block, _ group: Int) -> Float {
    let low = group < 8 ? packed[group] & 15 : packed[group - 8] >> 4
    let high = packed[8 + group % 4] >> UInt8(group / 4 * 2) & 3
    return Float(Int(low | high << 4) - 32)
  }

  /// The scale of group 0…7 of iq4_xs, -32…31.
  @inline(__always)
  static func scaleOfIQ4XS(_ block: Block, _ group: Int) -> Float {
    let low = UInt32(block[4 + group / 2] >> UInt8(group % 2 * 4) & 15)
    let high = word(block + 2) >> UInt32(group * 2) & 3
    return Float(Int(low | high << 4) - 32)
  }

  /// The 6-bit scale and minimum of group 0…7, packed in twelve bytes.
  @inline(__always)
  static func sixBits(_ packed: Block, _ group: Int) -> (scale: Float, least: Float) {
    if group < 4 { return (Float(packed[group] & 63), Float(packed[group + 4] & 63)) }
    let low = packed[group + 4]
    let scale = low & 15 | (packed[group - 4] >> 6) << 4
    let least = low >> 4 | (packed[group] >> 6) << 4
    return (Float(scale), Float(least))
  }
}
