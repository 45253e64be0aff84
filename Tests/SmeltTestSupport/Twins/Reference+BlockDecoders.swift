// The slow twins of `sk_decode_q8_0` and the other decoders of GGUF's blocks: one number after the other. In all blocks of 32 with
// 4-bit codes byte j holds columns j (low nibble) and j + 16. Formats/encodings.md, sections 15 to 17.

package import SmeltTensors

extension Reference {
  /// The numbers of one block, or nil for the types whose codes are points of a grid.
  package static func decodeBlock(_ kind: GGUFBlock.Kind, _ block: [UInt8]) -> [Float]? {
    let size = GGUFBlock(kind)
    precondition(block.count == size.bytes, "\(block.count) bytes are not a block of \(size.name)")
    guard let decode = BlockDecoders.of(kind) else { return nil }
    var out = [Float](repeating: .nan, count: size.elements)
    out.withUnsafeMutableBufferPointer { out in
      block.withUnsafeBufferPointer { decode($0.baseAddress!, out.baseAddress!) }
    }
    return out
  }
}

/// One function a type: from a whole block to room for its columns.
private enum BlockDecoders {
  typealias Block = UnsafePointer<UInt8>
  typealias Out = UnsafeMutablePointer<Float>

  static func of(_ kind: GGUFBlock.Kind) -> ((Block, Out) -> Void)? {
    switch kind {
    case .q8_0: { bytes($0, $0 + 2, half($0), 32, $1) }
    case .q8_1: { bytes($0, $0 + 4, half($0), 32, $1) }
    case .q8_k: { bytes($0, $0 + 4, Float(bitPattern: long($0)), 256, $1) }
    case .q4_0: q4_0
    case .q4_1: q4_1
    case .q5_0: q5_0
    case .q5_1: q5_1
    case .q1_0: q1_0
    case .q2_0: q2_0
    case .iq4_nl: iq4_nl
    case .mxfp4: mxfp4
    case .nvfp4: nvfp4
    case .q2_k: q2_k
    case .q3_k: q3_k
    case .q4_k: q4_k
    case .q5_k: q5_k
    case .q6_k: q6_k
    case .iq4_xs: iq4_xs
    case .tq1_0: tq1_0
    case .tq2_0: tq2_0
    default: nil
    }
  }

  private static func word(_ bytes: Block) -> UInt32 { UInt32(bytes[0]) | UInt32(bytes[1]) << 8 }
  private static func long(_ bytes: Block) -> UInt32 { word(bytes) | word(bytes + 2) << 16 }

  /// The F16 at an address, widened exactly.
  private static func half(_ bytes: Block) -> Float {
    let bits = word(bytes)
    let (exponent, mantissa) = (Int(bits >> 10 & 31), Float(bits & 1023))
    let magnitude =
      exponent == 0
      ? mantissa * 0x1p-24 : Float(sign: .plus, exponent: exponent - 15, significand: 1 + mantissa / 1024)
    return bits >> 15 == 1 ? -magnitude : magnitude
  }

  /// The sixteen numbers that the codes of iq4_nl and iq4_xs stand for.
  private static let nonlinear: [Float] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
  ]

  /// Twice the numbers of E2M1; code 8 is +0 here.
  private static let doubledE2M1: [Float] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]

  /// Signed bytes under one scale.
  private static func bytes(_ block: Block, _ codes: Block, _ scale: Float, _ count: Int, _ out: Out) {
    for j in 0..<count { out[j] = Float(Int8(bitPattern: codes[j])) * scale }
  }

  private static func q4_0(_ block: Block, _ out: Out) {
    let scale = half(block)
    for j in 0..<16 {
      let byte = Int(block[2 + j])
      out[j] = Float(byte & 15 - 8) * scale
      out[j + 16] = Float(byte >> 4 - 8) * scale
    }
  }

  private static func q4_1(_ block: Block, _ out: Out) {
    let scale = half(block)
    let least = half(block + 2)
    for j in 0..<16 {
      let byte = block[4 + j]
      out[j] = Float(byte & 15) * scale + least
      out[j + 16] = Float(byte >> 4) * scale + least
    }
  }

  private static func q5_0(_ block: Block, _ out: Out) {
    let scale = half(block)
    let fifth = long(block + 2)
    for j in 0..<16 {
      let byte = UInt32(block[6 + j])
      out[j] = Float(Int(byte & 15 | (fifth >> UInt32(j) & 1) << 4) - 16) * scale
      out[j + 16] = Float(Int(byte >> 4 | (fifth >> UInt32(j + 16) & 1) << 4) - 16) * scale
    }
  }

  private static func q5_1(_ block: Block, _ out: Out) {
    let scale = half(block)
    let least = half(block + 2)
    let fifth = long(block + 4)
    for j in 0..<16 {
      let byte = UInt32(block[8 + j])
      out[j] = Float(byte & 15 | (fifth >> UInt32(j) & 1) << 4) * scale + least
      out[j + 16] = Float(byte >> 4 | (fifth >> UInt32(j + 16) & 1) << 4) * scale + least
    }
  }

  private static func q1_0(_ block: Block, _ out: Out) {
    let scale = half(block)
    for j in 0..<128 { out[j] = block[2 + j / 8] >> UInt8(j % 8) & 1 == 1 ? scale : -scale }
  }

  private static func q2_0(_ block: Block, _ out: Out) {
    let scale = half(block)
    for j in 0..<64 { out[j] = Float(Int(block[2 + j / 4] >> UInt8(j % 4 * 2) & 3) - 1) * scale }
  }

  private static func iq4_nl(_ block: Block, _ out: Out) {
    let scale = half(block)
    nonlinear.withUnsafeBufferPointer { table in
      for j in 0..<16 {
        let byte = Int(block[2 + j])
        out[j] = scale * table[byte & 15]
        out[j + 16] = scale * table[byte >> 4]
      }
    }
  }

  /// The codes are doubled, so half of the scale multiplies them: the smallest, 2^-128, is a float32 too.
  private static func mxfp4(_ block: Block, _ out: Out) {
    let exponent = UInt32(block[0])
    let scale = Float(bitPattern: exponent < 2 ? 0x0020_0000 << exponent : (exponent - 1) << 23)
    doubledE2M1.withUnsafeBufferPointer { table in
      for j in 0..<16 {
        let byte = Int(block[1 + j])
        out[j] = table[byte & 15] * scale
        out[j + 16] = table[byte >> 4] * scale
      }
    }
  }

  private static func nvfp4(_ block: Block, _ out: Out) {
    doubledE2M1.withUnsafeBufferPointer { table in
      for group in 0..<4 {
        let code = block[group]
        let mantissa = Float(code & 7)
        let exponent = Int(code >> 3 & 15)
        let scale =
          exponent == 0
          ? mantissa * 0x1p-10 : Float(sign: .plus, exponent: exponent - 8, significand: 1 + mantissa / 8)
        for j in 0..<8 {
          let byte = Int(block[4 + group * 8 + j])
          out[group * 16 + j] = table[byte & 15] * scale
          out[group * 16 + j + 8] = table[byte >> 4] * scale
        }
      }
    }
  }

  /// Sixteen groups of 16: a 4-bit scale and a 4-bit minimum each, codes of 2 bits.
  private static func q2_k(_ block: Block, _ out: Out) {
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
  private static func q3_k(_ block: Block, _ out: Out) {
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
  private static func scaleOfQ3K(_ packed: Block, _ group: Int) -> Float {
    let low = group < 8 ? packed[group] & 15 : packed[group - 8] >> 4
    let high = packed[8 + group % 4] >> UInt8(group / 4 * 2) & 3
    return Float(Int(low | high << 4) - 32)
  }

  /// The scale of group 0…7 of iq4_xs, -32…31.
  private static func scaleOfIQ4XS(_ block: Block, _ group: Int) -> Float {
    let low = UInt32(block[4 + group / 2] >> UInt8(group % 2 * 4) & 15)
    let high = word(block + 2) >> UInt32(group * 2) & 3
    return Float(Int(low | high << 4) - 32)
  }

  /// The 6-bit scale and minimum of group 0…7, packed in twelve bytes.
  private static func sixBits(_ packed: Block, _ group: Int) -> (scale: Float, least: Float) {
    if group < 4 { return (Float(packed[group] & 63), Float(packed[group + 4] & 63)) }
    let low = packed[group + 4]
    let scale = low & 15 | (packed[group - 4] >> 6) << 4
    let least = low >> 4 | (packed[group] >> 6) << 4
    return (Float(scale), Float(least))
  }

  /// Eight groups of 32: a 6-bit scale and minimum each, codes of 4 bits.
  private static func q4_k(_ block: Block, _ out: Out) {
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
  private static func q5_k(_ block: Block, _ out: Out) {
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
  private static func q6_k(_ block: Block, _ out: Out) {
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
  private static func iq4_xs(_ block: Block, _ out: Out) {
    let scale = half(block)
    nonlinear.withUnsafeBufferPointer { table in
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
  private static func tq1_0(_ block: Block, _ out: Out) {
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
  private static func tq2_0(_ block: Block, _ out: Out) {
    let scale = half(block + 64)
    for part in 0..<8 {
      let codes = block + part / 4 * 32
      let shift = UInt8(part % 4 * 2)
      for j in 0..<32 { out[part * 32 + j] = scale * Float(Int(codes[j] >> shift & 3) - 1) }
    }
  }
}
