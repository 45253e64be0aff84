// The slow twins of the searches (search.h, superblocks.h): one candidate after the other where the kernels have sixteen
// side by side. Sums run over the even columns and over the odd ones in order; a product is fused into the sum behind it, every other
// operation rounded to float32.

internal import SmeltTensors

extension Reference {
  /// What codes stand for: the integers from `low` to `high`, or the table of iq4_nl.
  struct CodeRange {
    var low: Float
    var high: Float
    var isTable = false

    static let nonlinear = CodeRange(low: -127, high: 113, isTable: true)

    /// The sixteen numbers of iq4_nl. Formats/encodings.md, section 16.
    private static let nonlinearTable: [Float] = [
      -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
    ]

    /// The code, from 0 on, of the table's number nearest to `v`; of two the greater.
    private func tableCode(_ v: Float) -> Int {
      let table = Self.nonlinearTable
      return (1..<16).last { v >= (table[$0 - 1] + table[$0]) * 0.5 } ?? 0
    }

    func number(_ code: Int) -> Float { isTable ? Self.nonlinearTable[code] : Float(code) + low }

    /// The code, from 0 on, of a product: of the table's numbers that of the rounded one, of integers the nearest to the product itself,
    /// which a double holds, ties to the even one. NaN, which 0 times an infinite inverse is, has the lowest code.
    func code(_ a: Float, times b: Float) -> Int {
      if isTable { return tableCode(a * b) }
      let v = Double(a) * Double(b)
      return v > Double(low) ? Int(min(v, Double(high)).rounded(.toNearestOrEven) - Double(low)) : 0
    }

    func nearest(_ a: Float, times b: Float) -> Float { number(code(a, times: b)) }
  }

  private static func weights(_ w: [Float]?, _ range: Range<Int>) -> [Float] {
    guard let w, w[range].reduce(0, +) > 0 else { return [Float](repeating: 1, count: range.count) }
    return Array(w[range])
  }

  /// The sum over even columns, and over odd ones. `join` gives the sum with a column added.
  private static func pairSum(_ count: Int, _ join: (Int, Float) -> Float) -> Float {
    var sums: [Float] = [0, 0]
    for i in 0..<count { sums[i % 2] = join(i, sums[i % 2]) }
    return sums[0] + sums[1]
  }

  /// Σ w (x − scale · code)².
  private static func error(_ x: [Float], _ w: [Float], _ scale: Float, _ r: CodeRange) -> Float {
    let inverse = scale == 0 ? 0 : 1 / scale
    return pairSum(x.count) { i, sum in
      let d = (-x[i]).addingProduct(r.nearest(x[i], times: inverse), scale)
      return sum.addingProduct(w[i] * d, d)
    }
  }

  /// Σ w (x − (scale · code − least))².
  private static func error(_ x: [Float], _ w: [Float], _ scale: Float, _ least: Float, _ top: Float) -> Float
  {
    let inverse = scale == 0 ? 0 : 1 / scale
    let range = CodeRange(low: 0, high: top)
    return pairSum(x.count) { i, sum in
      let t = x[i] + least
      let d = (-t).addingProduct(range.nearest(t, times: inverse), scale)
      return sum.addingProduct(w[i] * d, d)
    }
  }

  /// The first of the least; what is no number is infinite.
  private static func best(_ count: Int, _ error: (Int) -> Float) -> Int {
    let errors = (0..<count).map(error).map { $0.isNaN ? Float.infinity : $0 }
    return errors.indices.reduce(0) { errors[$1] < errors[$0] ? $1 : $0 }
  }

  /// The best scale of a group; both ends of the range are tried for the value of the largest magnitude.
  private static func bestScale(_ x: [Float], _ w: [Float], _ r: CodeRange, isHalf: Bool) -> Float {
    let peak = peak(x)
    if peak.magnitude < 1e-15 { return 0 }
    if isHalf, !fits(peak / r.low) { return .infinity }
    var candidates: [(scale: Float, error: Float)] = []
    for k in 0..<16 {
      var winner: (scale: Float, error: Float) = (0, .infinity)
      for end in [r.low, r.high] {
        let inverse = (Float(k) * (end * 0.02) + end * 0.86) / peak
        let q = x.map { r.nearest($0, times: inverse) }
        let product = pairSum(x.count) { i, sum in sum.addingProduct(w[i] * q[i], x[i]) }
        let square = pairSum(x.count) { i, sum in sum.addingProduct(w[i] * q[i], q[i]) }
        let fit = square > 0 ? product / square : 0
        let scale = isHalf ? half(fit) : fit
        let error = error(x, w, scale, r)
        if error < winner.error { winner = (scale, error) }
      }
      candidates.append(winner)
    }
    return candidates[best(16) { candidates[$0].error }].scale
  }

  /// Scale and least value (negated) of a group: codes and both chosen in turn, twice, from 16 first guesses.
  private static func fit(
    _ x: [Float], _ w: [Float], top: Float, isFree: Bool, from: Float, step: Float
  ) -> (scale: Float, least: Float) {
    var (low, high) = (x.min()! + 0, x.max()!)
    let sw = laneSum(w.count) { i, sum in sum + w[i] }
    let swx = dot(w, x)
    if !isFree, low > 0 { low = 0 }
    guard high > low else { return (0, -low) }
    let range = CodeRange(low: 0, high: top)
    let guesses = (0..<16).map { k in
      var inverse = (Float(k) * step + (top + from)) / (high - low)
      var scale = inverse == 0 ? 0 : 1 / inverse
      var least = -low
      for _ in 0..<2 {
        let q = x.map { range.nearest($0 + least, times: inverse) }
        let sq = pairSum(x.count) { i, sum in sum + w[i] * q[i] }
        let sqq = pairSum(x.count) { i, sum in sum.addingProduct(w[i] * q[i], q[i]) }
        let sqx = pairSum(x.count) { i, sum in sum.addingProduct(w[i] * q[i], x[i]) }
        let determinant = sw * sqq - sq * sq
        var s = (sw * sqx - swx * sq) / determinant
        var m = (sq * sqx - sqq * swx) / determinant
        if !isFree, m < 0 { (s, m) = (sqx / sqq, 0) }
        if determinant > 0, s > 0 { (scale, least) = (s, m) }
        inverse = scale == 0 ? 0 : 1 / scale
      }
      return isFree ? (scale: half(scale), least: half(least)) : (scale: scale, least: least)
    }
    return guesses[best(16) { error(x, w, guesses[$0].scale, guesses[$0].least, top) }]
  }

  /// The nearest F16, or the next one away from zero when it is smaller by more than a thousandth.
  private static func halfNotBelow(_ wanted: Float) -> Float {
    let rounded = half(wanted)
    guard rounded.magnitude < 0.999 * wanted.magnitude else { return rounded }
    let step = Float(
      sign: .plus, exponent: max(rounded == 0 ? -14 : rounded.exponent, -14) - 10, significand: 1)
    return wanted < 0 ? rounded - step : rounded + step
  }

  private static let searchLimit: Float = 0x1p30

  // MARK: Blocks of 32

  static func searchedSymmetric(_ x: [Float], _ w: [Float], _ r: CodeRange) -> PlainBlock? {
    let scale = bestScale(x, weights(w, 0..<x.count), r, isHalf: true)
    guard fits(scale) else { return nil }
    return PlainBlock(d: halfBits(scale), codes: x.map { r.code($0, times: inverse(scale)) })
  }

  static func searchedAffine(_ x: [Float], _ w: [Float], top: Float) -> PlainBlock? {
    guard absmax(x) <= searchLimit else { return nil }
    let (from, step): (Float, Float) = top == 15 ? (-1.5, 0.2) : (-2, 0.25)
    let fit = fit(x, weights(w, 0..<x.count), top: top, isFree: true, from: from, step: step)
    guard fits(fit.scale), fits(fit.least) else { return nil }
    let (d, m) = (half(fit.scale), half(-fit.least))
    return PlainBlock(
      d: halfBits(fit.scale), m: halfBits(-fit.least),
      codes: x.map { CodeRange(low: 0, high: top).code($0 - m, times: inverse(d)) })
  }

  // MARK: Blocks of 256

  private static func affineBlock(
    _ x: [Float], _ w: [Float]?, width: Int, top: Float, most: Float, from: Float, step: Float
  ) -> PlainBlock? {
    guard absmax(x) <= searchLimit else { return nil }
    let groups = stride(from: 0, to: 256, by: width).map { first in
      (x: Array(x[first..<first + width]), w: weights(w, first..<first + width))
    }
    let fits = groups.map { fit($0.x, $0.w, top: top, isFree: false, from: from, step: step) }
    let d = halfNotBelow(max(0, fits.map(\.scale).max()!) / most)
    // Not `max`, which takes -0 for the larger.
    let dm = halfNotBelow(fits.map(\.least).reduce(0) { $1 > $0 ? $1 : $0 } / most)
    guard Self.fits(d), Self.fits(dm) else { return nil }
    var block = PlainBlock(d: halfBits(d), m: halfBits(dm))
    for (group, fit) in zip(groups, fits) {
      // Four integers for the scale, one of which is just below the fit, times four for the least value.
      let (first, firstLeast) = (Int(fit.scale * inverse(d)) - 1, Int(fit.least * inverse(dm)) - 1)
      let choices = (0..<16).map { k in
        (scale: clamp(first + k % 4, 0, Int(most)), least: clamp(firstLeast + k / 4, 0, Int(most)))
      }
      let chosen = choices[
        best(16) { error(group.x, group.w, Float(choices[$0].scale) * d, Float(choices[$0].least) * dm, top) }
      ]
      let (scale, least) = (Float(chosen.scale) * d, Float(chosen.least) * dm)
      block.scales.append(chosen.scale)
      block.leasts.append(chosen.least)
      block.codes += group.x.map {
        CodeRange(low: 0, high: top).code($0 + least, times: scale == 0 ? 0 : 1 / scale)
      }
    }
    return block
  }

  private static func symmetricBlock(_ x: [Float], _ w: [Float]?, width: Int, _ r: CodeRange, most: Int)
    -> PlainBlock?
  {
    guard absmax(x) <= searchLimit else { return nil }
    let groups = stride(from: 0, to: 256, by: width).map { first in
      (x: Array(x[first..<first + width]), w: weights(w, first..<first + width))
    }
    let scales = groups.map { bestScale($0.x, $0.w, r, isHalf: false) }
    let largest = peak(scales)
    let d = largest == 0 ? 0 : halfNotBelow(largest / Float(-most))
    guard fits(d) else { return nil }
    var block = PlainBlock(d: halfBits(d))
    for (group, scale) in zip(groups, scales) {
      let first = Int((scale * inverse(d)).rounded(.toNearestOrEven)) - 8
      let choices = (0..<16).map { clamp(first + $0, -most, most - 1) }
      let integer = choices[best(16) { error(group.x, group.w, Float(choices[$0]) * d, r) }]
      let factor = Float(integer) * d
      block.scales.append(integer)
      block.codes += group.x.map { r.code($0, times: factor == 0 ? 0 : 1 / factor) }
    }
    return block
  }

  private static func clamp(_ value: Int, _ low: Int, _ high: Int) -> Int { min(max(value, low), high) }

  /// Section 17 and iq4_nl, packed.
  static func searched(_ kind: GGUFBlock.Kind, _ x: [Float], _ w: [Float]?) -> [UInt8]? {
    switch kind {
    case .iq4_nl:
      let ones = [Float](repeating: 1, count: 32)
      guard let b = searchedSymmetric(x, w ?? ones, .nonlinear) else { return nil }
      return bytes(b.d) + nibbles(b.codes)
    case .iq4_xs:
      guard let b = symmetricBlock(x, w, width: 32, .nonlinear, most: 32) else { return nil }
      let s = b.scales.map { $0 + 32 }
      return bytes(b.d) + bits(s.map { $0 >> 4 }, each: 2) + bits(s.map { $0 & 15 }, each: 4)
        + (0..<8).flatMap { nibbles(Array(b.codes[32 * $0..<32 * $0 + 32])) }
    case .q3_k:
      guard let b = symmetricBlock(x, w, width: 16, CodeRange(low: -4, high: 3), most: 32) else { return nil }
      let s = b.scales.map { $0 + 32 }
      let low = (0..<8).map { j in packed(2, each: 4) { s[j + 8 * $0] & 15 } }
      let high = (0..<4).map { j in packed(4, each: 2) { s[j + 4 * $0] >> 4 } }
      return planes(b.codes, bit: 2) + pairs(b.codes) + low + high + bytes(b.d)
    case .q6_k:
      guard let b = symmetricBlock(x, w, width: 16, CodeRange(low: -32, high: 31), most: 128) else {
        return nil
      }
      let low = (0..<128).map { j in
        packed(2, each: 4) { b.codes[j / 64 * 128 + j % 64 + 64 * $0] & 15 }
      }
      return low + pairs(b.codes, shift: 4) + b.scales.map(byte) + bytes(b.d)
    case .q2_k:
      guard let b = affineBlock(x, w, width: 16, top: 3, most: 15, from: -0.7, step: 0.12) else { return nil }
      return zip(b.scales, b.leasts).map { byte($0 | $1 << 4) } + pairs(b.codes) + bytes(b.d) + bytes(b.m)
    default:
      let (top, from, step): (Float, Float, Float) = kind == .q4_k ? (15, -1.5, 0.2) : (31, -2, 0.25)
      guard let b = affineBlock(x, w, width: 32, top: top, most: 63, from: from, step: step) else {
        return nil
      }
      let (s, m) = (b.scales, b.leasts)
      let first = (0..<4).map { byte(s[$0] | (s[$0 + 4] >> 4) << 6) }
      let second = (0..<4).map { byte(m[$0] | (m[$0 + 4] >> 4) << 6) }
      let third = (4..<8).map { g in packed(2, each: 4) { ($0 == 0 ? s[g] : m[g]) & 15 } }
      let low = (0..<128).map { j in
        packed(2, each: 4) { b.codes[j / 32 * 64 + j % 32 + 32 * $0] & 15 }
      }
      return bytes(b.d) + bytes(b.m) + first + second + third
        + (kind == .q4_k ? [] : planes(b.codes, bit: 4)) + low
    }
  }

  /// One bit of 256 codes: that of column j + 32k is bit k of byte j.
  private static func planes(_ codes: [Int], bit: Int) -> [UInt8] {
    (0..<32).map { j in packed(8, each: 1) { codes[j + 32 * $0] >> bit & 1 } }
  }
}
