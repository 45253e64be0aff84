// What GGUF's blocks of 256 columns hold whose groups have scales of their own, coded under the block's scale.
// Formats/encodings.md, section 17.

/// Decodes one block of 256 columns to `out`.
enum GGUFSuperBlocks {
  // SAFETY: as in `GGUFSmallBlocks`: a whole block of 256 columns, room for 256 floats; codes are masked before they index a table.
  typealias Block = UnsafePointer<UInt8>
  typealias Out = UnsafeMutablePointer<Float>

  /// Sixteen groups of 16: a 4-bit scale and a 4-bit minimum each, codes of 2 bits.
  static func q2_k(_ block: Block, _ out: Out) {
    let scale = half(block + 80)
    let least = half(block + 82)
    for group in 0..<16 {
      let both = block[group]
      let groupScale = scale * Float(both & 15)
      let groupLeast = least * Float(both >> 4)
      let codes = block + 16 + group / 8 * 32 + group % 2 * 16
      let shift = UInt8(group % 8 / 2 * 2)
      for j in 0..<16 {
        out[group * 16 + j] = groupScale * Float(codes[j] >> shift & 3) - groupLeast
      }
    }
  }

  /// Sixteen groups of 16: a 6-bit scale from -32 each, codes of 3 bits from -4, the third bit apart.
  static func q3_k(_ block: Block, _ out: Out) {
    let scale = half(block + 108)
    let packed = block + 96
    for group in 0..<16 {
      let groupScale = scale * scaleOfQ3K(packed, group)
      let codes = block + 32 + group / 8 * 32 + group % 2 * 16
      let thirds = block + group % 2 * 16
      let shift = UInt8(group % 8 / 2 * 2)
      let place = UInt8(group / 2)
      for j in 0..<16 {
        let code = Int(codes[j] >> shift & 3) - (thirds[j] >> place & 1 == 1 ? 0 : 4)
        out[group * 16 + j] = groupScale * Float(code)
      }
    }
  }

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

  /// Eight groups of 32: a 6-bit scale and minimum each, codes of 4 bits.
  static func q4_k(_ block: Block, _ out: Out) {
    let scale = half(block)
    let least = half(block + 2)
    for group in 0..<8 {
      let six = sixBits(block + 4, group)
      let groupScale = scale * six.scale
      let groupLeast = least * six.least
      let codes = block + 16 + group / 2 * 32
      let shift = UInt8(group % 2 * 4)
      for j in 0..<32 {
        out[group * 32 + j] = groupScale * Float(codes[j] >> shift & 15) - groupLeast
      }
    }
  }

  /// As q4_k, with codes of 5 bits, the fifth apart.
  static func q5_k(_ block: Block, _ out: Out) {
    let scale = half(block)
    let least = half(block + 2)
    let fifths = block + 16
    for group in 0..<8 {
      let six = sixBits(block + 4, group)
      let groupScale = scale * six.scale
      let groupLeast = least * six.least
      let codes = block + 48 + group / 2 * 32
      let shift = UInt8(group % 2 * 4)
      for j in 0..<32 {
        let code = codes[j] >> shift & 15 | (fifths[j] >> UInt8(group) & 1) << 4
        out[group * 32 + j] = groupScale * Float(code) - groupLeast
      }
    }
  }

  /// Sixteen groups of 16: an 8-bit scale each, codes of 6 bits from -32, the upper two apart.
  static func q6_k(_ block: Block, _ out: Out) {
    let scale = half(block + 208)
    for group in 0..<16 {
      let groupScale = scale * Float(Int8(bitPattern: block[192 + group]))
      let part = group % 8 / 2  // which 32 columns of the 128
      let start = group % 2 * 16
      let low = block + group / 8 * 64 + part % 2 * 32 + start
      let high = block + 128 + group / 8 * 32 + start
      let lowShift = UInt8(part / 2 * 4)
      let highShift = UInt8(part * 2)
      for j in 0..<16 {
        let code = low[j] >> lowShift & 15 | (high[j] >> highShift & 3) << 4
        out[group * 16 + j] = groupScale * Float(Int(code) - 32)
      }
    }
  }

  /// Eight groups of 32: a 6-bit scale from -32 each, codes of iq4_nl.
  static func iq4_xs(_ block: Block, _ out: Out) {
    let scale = half(block)
    GGUFSmallBlocks.nonlinear.withUnsafeBufferPointer { table in
      for group in 0..<8 {
        let groupScale = scale * scaleOfIQ4XS(block, group)
        let codes = block + 8 + group * 16
        for j in 0..<16 {
          out[group * 32 + j] = groupScale * table[Int(codes[j] & 15)]
          out[group * 32 + j + 16] = groupScale * table[Int(codes[j] >> 4)]
        }
      }
    }
  }

  /// Five digits to the base 3 a byte: a byte is the number 0.digits times 256, rounded up, and multiplying it by 3
  /// moves the next digit above the point.
  static func tq1_0(_ block: Block, _ out: Out) {
    let scale = half(block + 52)
    let powers: (UInt8, UInt8, UInt8, UInt8, UInt8) = (1, 3, 9, 27, 81)
    withUnsafeBytes(of: powers) { powers in
      var place = 0
      for (start, count, digits) in [(0, 32, 5), (32, 16, 5), (48, 4, 4)] {
        for digit in 0..<digits {
          for j in 0..<count {
            let moved = block[start + j] &* powers[digit]
            out[place] = scale * Float(Int((UInt16(moved) * 3) >> 8) - 1)
            place += 1
          }
        }
      }
    }
  }

  /// Codes of 2 bits from -1.
  static func tq2_0(_ block: Block, _ out: Out) {
    let scale = half(block + 64)
    for part in 0..<8 {
      let codes = block + part / 4 * 32
      let shift = UInt8(part % 4 * 2)
      for j in 0..<32 { out[part * 32 + j] = scale * Float(Int(codes[j] >> shift & 3) - 1) }
    }
  }
}
