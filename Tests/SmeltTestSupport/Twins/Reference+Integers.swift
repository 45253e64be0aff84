// The slow twins of `sk_round_…` and `sk_multiply_rounded`: activations as whole numbers, and their products one number after the other.

package import SmeltTensors

extension Reference {
  /// Activations as signed bytes with a scale a block.
  package struct Rounded {
    package var codes: [Int8] = []
    package var scales: [Float] = []
    /// Sums of sixteen codes.
    package var sums: [Int16] {
      stride(from: 0, to: codes.count, by: 16).map { start in
        codes[start..<min(codes.count, start + 16)].reduce(0) { $0 + Int16($1) }
      }
    }
    /// Codes × scale.
    package var numbers: [Float] {
      codes.indices.map { Float(codes[$0]) * scales[$0 / (codes.count / scales.count)] }
    }
  }

  /// `sk_round_blocks_32`; nil where that gives 0.
  package static func roundBlocks32(_ x: [Float]) -> Rounded? {
    var rounded = Rounded()
    for start in stride(from: 0, to: x.count, by: 32) {
      let block = x[start..<start + 32]
      guard block.allSatisfy(\.isFinite) else { return nil }
      let scale = block.reduce(0) { max($0, $1.magnitude) } / 127
      let factor = (1 / scale).isFinite ? 1 / scale : 0
      guard scale < 65_520 else { return nil }
      rounded.scales.append(half(scale))
      rounded.codes += block.map { Int8(($0 * factor).rounded(.toNearestOrEven)) }
    }
    return rounded
  }

  /// `sk_round_blocks_256`; nil where that gives 0.
  package static func roundBlocks256(_ x: [Float]) -> Rounded? {
    var rounded = Rounded()
    for start in stride(from: 0, to: x.count, by: 256) {
      let block = Array(x[start..<start + 256])
      guard block.allSatisfy(\.isFinite) else { return nil }
      let peak = block.reduce(0) { $1.magnitude > $0.magnitude ? $1 : $0 }
      let factor = peak == 0 ? 0 : -127 / peak
      guard factor.isFinite else { return nil }
      rounded.scales.append(peak == 0 ? 0 : 1 / factor)
      rounded.codes += block.map { Int8(($0 * factor).rounded(.toNearestOrEven)) }
    }
    return rounded
  }

  /// `sk_round_row`: codes and their scale; nil where that gives NaN.
  package static func roundRow(_ x: [Float], scale: Float) -> (codes: [Int8], scale: Float)? {
    let own = scale != 0 ? scale : x.reduce(0) { max($0, $1.magnitude) } / 127
    guard x.allSatisfy(\.isFinite), own == 0 || own.isNormal && own > 0 else { return nil }
    return (
      x.map { own == 0 ? 0 : Int8(max(-127, min(127, ($0 / own).rounded(.toNearestOrEven)))) }, own
    )
  }

  /// `sk_multiply_rounded` of one row of a weight and one token: sums of whole numbers in a block of activations, and floats from block to
  /// block. The whole numbers are what the type's decoder gives under factors of 1.
  /// - Parameters:
  ///   - row: whole blocks.
  ///   - codes: as many as the row has columns.
  ///   - scales: of 32 or 256 codes each.
  package static func multiplyBlocks(
    _ kind: GGUFBlock.Kind, _ row: [UInt8], _ codes: [Int8], _ scales: [Float]
  ) -> Float {
    let (size, places) = (GGUFBlock(kind), factors(kind))
    let width = codes.count / scales.count
    var total: Float = 0
    for index in 0..<row.count / size.bytes {
      let block = Array(row[index * size.bytes..<(index + 1) * size.bytes])
      var (first, second) = (block, block)
      let d: Float, l: Float
      if kind == .mxfp4 {
        d = decodeBlock(.mxfp4, [block[0], 1] + [UInt8](repeating: 0, count: 15))![0]
        first[0] = 128
        l = 0
      } else {
        d = halfAt(block, places.d)
        set(&first, places.d, one: true)
        set(&second, places.d, one: false)
        l = places.l.map { halfAt(block, $0) } ?? 0
        if let place = places.l {
          set(&first, place, one: false)
          set(&second, place, one: true)
        }
      }
      let products = decodeBlock(kind, first)!.map { Int($0) }
      let least = places.l == nil ? nil : decodeBlock(kind, second)!.map { Int($0) }
      for start in stride(from: 0, to: size.elements, by: width) {
        let column = index * size.elements + start
        let scale = scales[column / width]
        func sum(_ numbers: [Int]) -> Float {
          Float((0..<width).reduce(0) { $0 + numbers[start + $1] * Int(codes[column + $1]) })
        }
        total = total.addingProduct(sum(products), d * scale)
        if let least { total = total.addingProduct(sum(least), l * scale) }
      }
    }
    return total
  }

  /// Where a block's F16 factors of codes and of least numbers stand.
  package static func factors(_ kind: GGUFBlock.Kind) -> (d: Int, l: Int?) {
    switch kind {
    case .q4_1, .q5_1, .q4_k, .q5_k: (0, 2)
    case .q2_k: (80, 82)
    case .q3_k: (108, nil)
    case .q6_k: (208, nil)
    case .tq1_0: (52, nil)
    case .tq2_0: (64, nil)
    default: (0, nil)
    }
  }

  private static func halfAt(_ block: [UInt8], _ place: Int) -> Float {
    // A block of Q8_0 with that scale, and codes of 1.
    decodeBlock(.q8_0, [block[place], block[place + 1]] + [UInt8](repeating: 1, count: 32))![0]
  }

  private static func set(_ block: inout [UInt8], _ place: Int, one: Bool) {
    (block[place], block[place + 1]) = (0, one ? 0x3C : 0)
  }
}
