// What GGUF's blocks of 32, 64 and 128 columns hold. In all blocks of 32 with 4-bit codes byte j holds columns j (low
// nibble) and j + 16. Formats/encodings.md, sections 15 and 16.

/// Decodes one block to `out`, which has room for its columns.
enum GGUFSmallBlocks {
  // SAFETY: `block` holds a whole block of the function's type, `out` has room for its columns, as `GGUFBlock.decode` and `problem`
  // guarantee. A nibble is an index below 16 into a table of 16.
  typealias Block = UnsafePointer<UInt8>
  typealias Out = UnsafeMutablePointer<Float>

  /// The sixteen numbers that the codes of iq4_nl and iq4_xs stand for.
  static let nonlinear: [Float] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
  ]

  /// Twice the numbers of E2M1; code 8 is +0 here.
  static let doubledE2M1: [Float] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]

  /// Signed bytes under one scale.
  static func bytes(_ block: Block, _ codes: Block, _ scale: Float, _ count: Int, _ out: Out) {
    for j in 0..<count { out[j] = Float(Int8(bitPattern: codes[j])) * scale }
  }

  static func q4_0(_ block: Block, _ out: Out) {
    let scale = half(block)
    for j in 0..<16 {
      let byte = Int(block[2 + j])
      out[j] = Float(byte & 15 - 8) * scale
      out[j + 16] = Float(byte >> 4 - 8) * scale
    }
  }

  static func q4_1(_ block: Block, _ out: Out) {
    let scale = half(block)
    let least = half(block + 2)
    for j in 0..<16 {
      let byte = block[4 + j]
      out[j] = Float(byte & 15) * scale + least
      out[j + 16] = Float(byte >> 4) * scale + least
    }
  }

  static func q5_0(_ block: Block, _ out: Out) {
    let scale = half(block)
    let fifth = long(block + 2)
    for j in 0..<16 {
      let byte = UInt32(block[6 + j])
      out[j] = Float(Int(byte & 15 | (fifth >> UInt32(j) & 1) << 4) - 16) * scale
      out[j + 16] = Float(Int(byte >> 4 | (fifth >> UInt32(j + 16) & 1) << 4) - 16) * scale
    }
  }

  static func q5_1(_ block: Block, _ out: Out) {
    let scale = half(block)
    let least = half(block + 2)
    let fifth = long(block + 4)
    for j in 0..<16 {
      let byte = UInt32(block[8 + j])
      out[j] = Float(byte & 15 | (fifth >> UInt32(j) & 1) << 4) * scale + least
      out[j + 16] = Float(byte >> 4 | (fifth >> UInt32(j + 16) & 1) << 4) * scale + least
    }
  }

  static func q1_0(_ block: Block, _ out: Out) {
    let scale = half(block)
    for j in 0..<128 { out[j] = block[2 + j / 8] >> UInt8(j % 8) & 1 == 1 ? scale : -scale }
  }

  static func q2_0(_ block: Block, _ out: Out) {
    let scale = half(block)
    for j in 0..<64 { out[j] = Float(Int(block[2 + j / 4] >> UInt8(j % 4 * 2) & 3) - 1) * scale }
  }

  static func iq4_nl(_ block: Block, _ out: Out) {
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
  static func mxfp4(_ block: Block, _ out: Out) {
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

  static func nvfp4(_ block: Block, _ out: Out) {
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
}
