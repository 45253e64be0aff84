// What GGUF's blocks of 256 columns hold whose codes are places in a table of points (GGUFGrids.swift). Formats/
// encodings.md, sections 18 and 19.

/// Decodes one block of 256 columns to `out`.
enum GGUFGridBlocks {
  // SAFETY: `block` holds a whole block of the function's type, `out` has room for its columns, as `GGUFBlock.decode` and `problem`
  // guarantee. A point's number has 8, 9, 10 or 11 bits, and its table two to that
  // power of points, so that none lies beyond.
  typealias Block = UnsafePointer<UInt8>
  typealias Out = UnsafeMutablePointer<Float>

  /// Eight sign bits from the seven that are stored: the eighth makes the number of ones even.
  @inline(__always)
  private static func signs(_ seven: UInt32) -> UInt32 { seven | UInt32(seven.nonzeroBitCount & 1) << 7 }

  /// Points under a scale, bit j of `signs` making number j negative.
  @inline(__always)
  private static func put(
    _ point: UnsafePointer<Int8>, _ count: Int, _ scale: Float, _ signs: UInt32, _ out: Out
  ) {
    for j in 0..<count {
      let number = scale * Float(point[j])
      out[j] = signs >> UInt32(j) & 1 == 1 ? -number : number
    }
  }

  static func iq2_xxs(_ block: Block, _ out: Out) {
    let scale = half(block)
    GGUFGrids.iq2_xxs.withPoints { grid in
      for group in 0..<8 {
        let codes = block + 2 + group * 8
        let rest = long(codes + 4)
        let groupScale = scale * (0.5 + Float(rest >> 28)) * 0.25
        for part in 0..<4 {
          put(
            grid + Int(codes[part]) * 8, 8, groupScale, signs(rest >> UInt32(part * 7) & 127),
            out + group * 32 + part * 8)
        }
      }
    }
  }

  static func iq2_xs(_ block: Block, _ out: Out) {
    let scale = half(block)
    GGUFGrids.iq2_xs.withPoints { grid in
      for part in 0..<32 {
        let code = word(block + 2 + part * 2)
        let four = block[66 + part / 4] >> UInt8(part % 4 / 2 * 4) & 15
        let groupScale = scale * (0.5 + Float(four)) * 0.25
        put(grid + Int(code & 511) * 8, 8, groupScale, signs(code >> 9), out + part * 8)
      }
    }
  }

  static func iq2_s(_ block: Block, _ out: Out) {
    let scale = half(block)
    GGUFGrids.iq2_s.withPoints { grid in
      for part in 0..<32 {
        let high = Int(block[66 + part / 4] >> UInt8(part % 4 * 2) & 3)
        let four = block[74 + part / 4] >> UInt8(part % 4 / 2 * 4) & 15
        let groupScale = scale * (0.5 + Float(four)) * 0.25
        put(
          grid + (Int(block[2 + part]) | high << 8) * 8, 8, groupScale, UInt32(block[34 + part]),
          out + part * 8)
      }
    }
  }

  static func iq3_xxs(_ block: Block, _ out: Out) {
    let scale = half(block)
    GGUFGrids.iq3_xxs.withPoints { grid in
      for part in 0..<64 {
        let rest = long(block + 66 + part / 8 * 4)
        let groupScale = scale * (0.5 + Float(rest >> 28)) * 0.5
        let eight = signs(rest >> UInt32(part % 8 / 2 * 7) & 127)
        put(
          grid + Int(block[2 + part]) * 4, 4, groupScale, eight >> UInt32(part % 2 * 4), out + part * 4)
      }
    }
  }

  static func iq3_s(_ block: Block, _ out: Out) {
    let scale = half(block)
    GGUFGrids.iq3_s.withPoints { grid in
      for part in 0..<64 {
        let four = block[106 + part / 16] >> UInt8(part / 8 % 2 * 4) & 15
        let ninth = Int(block[66 + part / 8] >> UInt8(part % 8) & 1)
        put(
          grid + (Int(block[2 + part]) | ninth << 8) * 4, 4, scale * Float(1 + 2 * four),
          UInt32(block[74 + part / 2] >> UInt8(part % 2 * 4)), out + part * 4)
      }
    }
  }

  /// The points of iq1_s and iq1_m lie 1/8 above or below -1, 0 and 1.
  @inline(__always)
  private static func shifted(_ point: UnsafePointer<Int8>, _ scale: Float, _ isBelow: Bool, _ out: Out) {
    let delta: Float = isBelow ? -0.125 : 0.125
    for j in 0..<8 { out[j] = scale * (Float(point[j]) + delta) }
  }

  static func iq1_s(_ block: Block, _ out: Out) {
    let scale = half(block)
    GGUFGrids.iq1.withPoints { grid in
      for part in 0..<32 {
        let rest = word(block + 34 + part / 4 * 2)
        let index = UInt32(block[2 + part]) | (rest >> UInt32(part % 4 * 3) & 7) << 8
        shifted(
          grid + Int(index) * 8, scale * Float(2 * (rest >> 12 & 7) + 1), rest & 0x8000 != 0,
          out + part * 8)
      }
    }
  }

  static func iq1_m(_ block: Block, _ out: Out) {
    let scale = GGUFGrids.scaleOfIQ1M(block)
    GGUFGrids.iq1.withPoints { grid in
      for part in 0..<32 {
        let rest = block[32 + part / 2] >> UInt8(part % 2 * 4)
        let index = Int(block[part]) | Int(rest & 7) << 8
        let three = word(block + 48 + part / 8 * 2) >> UInt32(part / 2 % 4 * 3) & 7
        shifted(grid + index * 8, scale * Float(2 * three + 1), rest & 8 != 0, out + part * 8)
      }
    }
  }
}
