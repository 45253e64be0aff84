// The slow, obvious twin of every C kernel: what `CKernels` must give, bit for bit, on every instruction set.
// Only tests use them. Formulas follow the definition, one value at a time, except where the order of rounding is the
// definition (sums, the exponential).

/// The definition of every kernel in plain Swift, for tests; each function names the C function it defines.
package enum Reference {
  /// Columns whose products are summed before the sum joins the total (`SK_BLOCK`).
  package static let block = 1024

  // MARK: Small formats

  /// The value of a code with one sign bit, `exponent` exponent bits and `mantissa` fraction bits, bias
  /// 2^(exponent-1)-1; codes that a format keeps for NaN or infinity are read as numbers.
  package static func value(_ code: UInt32, exponent: Int, mantissa: Int) -> Float {
    let bias = 1 << (exponent - 1) - 1
    let field = Int(code >> UInt32(mantissa)) & (1 << exponent - 1)
    let fraction = Float(code & (1 << UInt32(mantissa) - 1))
    let sign: Float = code >> UInt32(exponent + mantissa) & 1 == 1 ? -1 : 1
    if field == 0 { return sign * fraction * power(1 - bias - mantissa) }
    return sign * (power(mantissa) + fraction) * power(field - bias - mantissa)
  }

  /// 2^n as float32, for -149 ≤ n ≤ 127.
  static func power(_ n: Int) -> Float { Float(sign: .plus, exponent: n, significand: 1) }

  /// The code nearest to `x`, ties to the even code, found by trying all magnitudes 0...largest; beyond the largest
  /// it saturates. `x` is not NaN.
  package static func nearest(_ x: Float, largest: UInt32, exponent: Int, mantissa: Int) -> UInt32 {
    let sign: UInt32 = x.sign == .minus ? 1 << UInt32(exponent + mantissa) : 0
    let target = Double(min(x.magnitude, value(largest, exponent: exponent, mantissa: mantissa)))
    var best: UInt32 = 0
    var distance = target
    for code in 1...largest {
      let d = (Double(value(code, exponent: exponent, mantissa: mantissa)) - target).magnitude
      if d < distance || (d == distance && code % 2 == 0) {
        best = code
        distance = d
      }
    }
    return sign | best
  }

  /// `sk_decode_e4m3`: code · scale.
  package static func decodeE4M3(_ code: UInt8, scale: Float) -> Float {
    value(UInt32(code), exponent: 4, mantissa: 3) * scale
  }

  /// `sk_decode_e5m2`: code · scale.
  package static func decodeE5M2(_ code: UInt8, scale: Float) -> Float {
    value(UInt32(code), exponent: 5, mantissa: 2) * scale
  }

  /// `sk_encode_e4m3`: nearest(x / scale), saturating at ±448; NaN gives 0x7f.
  package static func encodeE4M3(_ x: Float, scale: Float) -> UInt8 {
    let t = x / scale
    return t.isNaN ? 0x7f : UInt8(nearest(t, largest: 0x7e, exponent: 4, mantissa: 3))
  }

  /// `sk_encode_e5m2`: nearest(x / scale), saturating at ±57344; NaN gives 0x7f.
  package static func encodeE5M2(_ x: Float, scale: Float) -> UInt8 {
    let t = x / scale
    return t.isNaN ? 0x7f : UInt8(nearest(t, largest: 0x7b, exponent: 5, mantissa: 2))
  }

  /// One nibble of `sk_encode_e2m1`: nearest(x / scale), saturating at ±6; NaN gives 7.
  package static func encodeE2M1(_ x: Float, scale: Float) -> UInt8 {
    let t = x / scale
    return t.isNaN ? 7 : UInt8(nearest(t, largest: 7, exponent: 2, mantissa: 1))
  }

  /// `sk_encode_int8`: x / scale to nearest, ties to even, saturating at ±127; NaN gives 0.
  package static func encodeInt8(_ x: Float, scale: Float) -> Int8 {
    let t = (x / scale).rounded(.toNearestOrEven)
    return t.isNaN ? 0 : Int8(max(-127, min(127, t)))
  }

  /// `sk_e8m0`: 2^(code-127); 255 gives NaN.
  package static func e8m0(_ code: UInt8) -> Float { code == 255 ? .nan : power(Int(code) - 127) }

  /// `sk_decode_mxfp4`: value 2j is the low nibble of byte j; one E8M0 scale for each 32 values.
  package static func decodeMXFP4(_ bytes: [UInt8], scales: [UInt8], count: Int) -> [Float] {
    (0..<count).map { i in
      let nibble = i % 2 == 0 ? bytes[i / 2] & 15 : bytes[i / 2] >> 4
      return value(UInt32(nibble), exponent: 2, mantissa: 1) * e8m0(scales[i / 32])
    }
  }

  /// `sk_decode_bf16`: the upper half of a float32.
  package static func decodeBF16(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

  /// `sk_encode_bf16`: to nearest, ties to even; a NaN keeps its upper bits and becomes quiet.
  package static func encodeBF16(_ x: Float) -> UInt16 {
    let upper = UInt16(x.bitPattern >> 16)
    let rest = x.bitPattern & 0xffff
    if x.isNaN { return upper | 0x40 }
    return rest > 0x8000 || (rest == 0x8000 && upper % 2 == 1) ? upper + 1 : upper
  }

  /// `sk_decode_f16`: exact; a NaN keeps its payload and becomes quiet.
  package static func decodeF16(_ bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let fraction = UInt32(bits & 0x3ff)
    guard bits & 0x7c00 == 0x7c00 else { return value(UInt32(bits), exponent: 5, mantissa: 10) }
    return Float(bitPattern: sign | 0x7f80_0000 | fraction << 13 | (fraction > 0 ? 0x40_0000 : 0))
  }

  /// `sk_encode_f16`: to nearest, ties to even; overflow becomes infinity; a NaN becomes quiet.
  package static func encodeF16(_ x: Float) -> UInt16 {
    let sign = UInt16(x.bitPattern >> 16) & 0x8000
    if x.isNaN { return sign | 0x7e00 | UInt16(x.bitPattern >> 13 & 0x3ff) }
    if x.magnitude >= 65520 { return sign | 0x7c00 }
    let exponent = max(Int(x.exponent), -14)
    let quanta = (x.magnitude / power(exponent - 10)).rounded(.toNearestOrEven)
    return sign | (UInt16(exponent + 14) << 10 + UInt16(quanta))
  }

  // MARK: Scans

  /// `sk_absmax_f32`: the largest magnitude; NaN is passed over; 0 for none.
  package static func absmax(_ x: [Float]) -> Float {
    x.reduce(0) { $1.magnitude > $0 ? $1.magnitude : $0 }
  }

  /// `sk_peak_f32`: the bits of the largest magnitude, infinity and NaN above all numbers; 0 for none.
  package static func peakBits(_ x: [Float]) -> UInt32 { x.map { $0.bitPattern & 0x7FFF_FFFF }.max() ?? 0 }

  /// `sk_count_different`: pairs that are not equal as numbers; of `sk_encode_counted_…` with what the codes stand for.
  package static func countDifferent(_ a: [Float], _ b: [Float]) -> Int { zip(a, b).count { $0 != $1 } }

  /// `sk_find_nonfinite_scale`: the first block whose F16 at a place is infinite or NaN.
  package static func findNonfiniteScale(_ blocks: [UInt8], bytes: Int, place: Int) -> Int {
    let count = blocks.count / bytes
    return (0..<count).first {
      let at = $0 * bytes + place
      return !decodeF16(UInt16(blocks[at]) | UInt16(blocks[at + 1]) << 8).isFinite
    } ?? count
  }

  /// `sk_count_nonfinite_f32`: how many are NaN or infinite.
  package static func countNonfinite(_ x: [Float]) -> Int { x.count { !$0.isFinite } }

  /// `sk_find_nonfinite16`: the first 2-byte float whose exponent bits are all set.
  package static func findNonfinite(_ words: [UInt16], exponent: UInt16) -> Int {
    words.firstIndex { $0 & exponent == exponent } ?? words.count
  }

  /// `sk_error_int8`, `sk_error_e4m3`, `sk_error_int4`, `sk_error_e2m1`: Σ w·(x − y)² in double, in the order of a dot product; `w` nil counts as ones.
  package static func weightedError(_ x: [Float], _ w: [Float]?, restored y: [Float]) -> Double {
    laneSum(x.count) { i, sum in
      let d = Double(x[i]) - Double(y[i])
      return sum.addingProduct(Double(w?[i] ?? 1) * d, d)
    }
  }

  /// What `sk_error_int4` and `sk_error_e2m1` hold against x: y less gain × x, each rounded.
  package static func lessened(_ y: ArraySlice<Float>, by gain: Float, of x: [Float]) -> [Float] {
    zip(y, x).map { value, x in
      let product = gain * x
      return value - product
    }
  }

  /// One element of `sk_observe`: the running largest magnitude and the running sum of squares in double.
  package static func observe(_ x: Float, absmax: inout Float, sumOfSquares: inout Double) {
    if x.magnitude > absmax { absmax = x.magnitude }
    sumOfSquares += Double(x) * Double(x)
  }

  // MARK: Sums

  /// The order of every sum: blocks of 1024; in a block term i joins lane i mod 16; the lanes are added as a tree, l with
  /// l+8, +4, +2, +1; block totals are added first to last. `join` gives the lane's sum with term i added.
  static func laneSum<T: BinaryFloatingPoint>(_ count: Int, _ join: (Int, T) -> T) -> T {
    var total: T = 0
    for start in stride(from: 0, to: max(count, 1), by: block) {
      var lanes = [T](repeating: 0, count: 16)
      let end = min(start + block, count)
      for i in stride(from: start, to: end, by: 16) {
        for l in 0..<16 { lanes[l] = i + l < end ? join(i + l, lanes[l]) : lanes[l] + 0 }
      }
      for half in [8, 4, 2, 1] {
        for l in 0..<half { lanes[l] += lanes[l + half] }
      }
      total = start == 0 ? lanes[0] : total + lanes[0]
    }
    return total
  }

  /// `sk_dot_f32`: Σ a·b, each product fused into its lane.
  package static func dot(_ a: [Float], _ b: [Float]) -> Float {
    laneSum(a.count) { i, sum in sum.addingProduct(a[i], b[i]) }
  }

  /// `sk_sum_squares`: dot(x, x).
  package static func sumOfSquares(_ x: [Float]) -> Float { dot(x, x) }

  /// `sk_gemm_f32`: c[i, j] = dot(row i of a, row j of w), added to what c held when `accumulate`. `a` is [m, k], `w`
  /// [n, k], `c` [m, n], all without gaps, k ≤ 1024.
  package static func gemm(
    _ a: [Float], _ w: [Float], _ c: inout [Float], m: Int, n: Int, k: Int, accumulate: Bool
  ) {
    for i in 0..<m {
      for j in 0..<n {
        let product = dot(Array(a[i * k..<(i + 1) * k]), Array(w[j * k..<(j + 1) * k]))
        c[i * n + j] = accumulate ? c[i * n + j] + product : product
      }
    }
  }

  /// `sk_multiply_rounded` of signed bytes: the exact sum of products, rounded to float32, times (scale of the row of a × scale of the row
  /// of w).
  package static func multiplyIntegers(
    _ a: [Int8], _ lda: Int, _ sa: [Float], _ w: [Int8], _ ldw: Int, _ sw: [Float], m: Int, n: Int, k: Int
  ) -> [Float] {
    (0..<m).flatMap { i in
      (0..<n).map { j in
        Float((0..<k).reduce(0) { $0 + Int(a[i * lda + $1]) * Int(w[j * ldw + $1]) }) * (sa[i] * sw[j])
      }
    }
  }

  /// One element of `sk_axpy_f32`: y + alpha · x, fused.
  package static func axpy(_ alpha: Float, _ x: Float, _ y: Float) -> Float { y.addingProduct(alpha, x) }

  // MARK: Pieces of a forward pass

  /// `sk_rms_norm`: (x · r) · w with r = 1 / √(Σx²/n + eps); `w` nil leaves out the last product.
  package static func rmsNorm(_ x: [Float], _ w: [Float]?, eps: Float) -> [Float] {
    let r = 1 / (sumOfSquares(x) / Float(x.count) + eps).squareRoot()
    return x.indices.map { i in w.map { x[i] * r * $0[i] } ?? x[i] * r }
  }

  /// One element of `sk_exp`: 2^n · (1 + r + r²·q(r)), n = x/ln 2 to nearest, r = x − n·ln 2 in two steps, q of degree 4.
  package static func exponential(_ x: Float) -> Float {
    if x.isNaN { return x }
    if x > 88.8 { return .infinity }
    if x < -104 { return 0 }
    // 1.5 · 2^23: a sum near it has a last place of 1, so that its rounding is the rounding to an integer.
    let shifter: Float = 12_582_912
    let n = shifter.addingProduct(x, 0x1.715476p+0) - shifter
    let r = x.addingProduct(n, -0x1.62e43p-1).addingProduct(n, 0x1.05c61p-29)
    var q: Float = 0x1.6a4d14p-10
    for coefficient: Float in [0x1.12398ap-7, 0x1.5558bp-5, 0x1.555492p-3, 0x1.fffffcp-2] {
      q = coefficient.addingProduct(q, r)
    }
    let p = r.addingProduct(q, r * r) + 1
    let half = Int(n) >> 1
    return p * power(half) * power(Int(n) - half)
  }

  /// `sk_softmax_sink`: exp(x−m) / (exp(sink−m) + Σ exp(x−m)), m the largest of x and sink; zeros where all are −∞.
  package static func softmax(_ x: [Float], sink: Float) -> [Float] {
    let m = x.reduce(sink) { $1 > $0 ? $1 : $0 }
    if m == -.infinity { return x.map { _ in 0 } }
    let e = x.map { exponential($0 - m) }
    let total = exponential(sink - m) + laneSum(e.count) { i, sum in sum + e[i] }
    return e.map { $0 / total }
  }

  /// One element of `sk_swiglu`: silu(min(gate, limit)) · clamp(up, ±limit), silu(g) = g / (1 + e^−g).
  package static func swiglu(_ gate: Float, _ up: Float, limit: Float) -> Float {
    let g = gate > limit ? limit : gate
    let u = up > limit ? limit : (up < -limit ? -limit : up)
    return g / (1 + exponential(-g)) * u
  }

  /// One element of `sk_geglu`: gelu(gate) · up, gelu(g) = g / (1 + e^−2t), t = √(2/π) (g + 0.044715 g³).
  package static func geglu(_ gate: Float, _ up: Float) -> Float {
    let t: Float = 0.7978845608 * (gate + 0.044715 * (gate * gate * gate))
    return gate / (1 + exponential(-2 * t)) * up
  }

  /// `sk_rope_interleaved`: pair (2i, 2i+1) turned by the angle with cosine and sine i; `sign` −1 turns back.
  package static func rope(_ x: [Float], cosines: [Float], sines: [Float], sign: Float) -> [Float] {
    var out = x
    for i in 0..<x.count / 2 {
      let (a, b, c, s) = (x[2 * i], x[2 * i + 1], cosines[i], sines[i] * sign)
      out[2 * i] = a * c - b * s
      out[2 * i + 1] = a * s + b * c
    }
    return out
  }

  /// `sk_mix_streams`: out[t] = Σ c[j]·x[j, t], j ascending, the first a product, the others fused; x is [streams, n].
  package static func mixStreams(_ x: [Float], _ c: [Float], count n: Int) -> [Float] {
    (0..<n).map { t in
      guard let first = c.first else { return 0 }
      return c.indices.dropFirst().reduce(first * x[t]) { $0.addingProduct(c[$1], x[$1 * n + t]) }
    }
  }

  /// `sk_sinkhorn`: softmax of each row of the [m, m] logits, + eps everywhere, columns divided by (their sum + eps), then
  /// `iterations` - 1 times rows and columns alike. Sums run from the first entry to the last.
  package static func sinkhorn(_ logits: [Float], m: Int, iterations: Int, eps: Float) -> [Float] {
    var c = logits
    func divide(_ line: [Int]) {
      let sum = line.reduce(0) { $0 + c[$1] } + eps
      for place in line { c[place] /= sum }
    }
    let rows = (0..<m).map { row in (0..<m).map { row * m + $0 } }
    let columns = (0..<m).map { column in (0..<m).map { $0 * m + column } }
    for row in rows {
      let top = row.dropFirst().reduce(c[row[0]]) { c[$1] > $0 ? c[$1] : $0 }
      for place in row { c[place] = exponential(c[place] - top) }
      let sum = row.reduce(0) { $0 + c[$1] }
      for place in row { c[place] = c[place] / sum + eps }
    }
    columns.forEach(divide)
    for _ in 1..<max(1, iterations) {
      rows.forEach(divide)
      columns.forEach(divide)
    }
    return c
  }

  /// `sk_pool_slots`: Σ softmax over slots of g[s, d] · k[s, d] for each channel d; slots are added from the first to the
  /// last, products rounded before they are added. `k` and `g` are [slots][channels].
  package static func poolSlots(_ k: [[Float]], _ g: [[Float]]) -> [Float] {
    k[0].indices.map { d in
      let top = g.dropFirst().reduce(g[0][d]) { $1[d] > $0 ? $1[d] : $0 }
      var (sum, total): (Float, Float) = (0, 0)
      for slot in k.indices {
        let e = exponential(g[slot][d] - top)
        sum += e
        total += e * k[slot][d]
      }
      return total / sum
    }
  }

  // MARK: Byte planes

  /// `sk_split16_rotate`, `sk_split16` (`rotate` 0) and `sk_split32_rotate`: each little-endian element of `width` bytes is
  /// rotated left by `rotate` bits, then plane p holds byte p of all elements, highest byte first.
  package static func split(_ bytes: [UInt8], width: Int, rotate: Int) -> [UInt8] {
    let n = bytes.count / width
    let bits = UInt64(width * 8)
    var out = [UInt8](repeating: 0, count: n * width)
    for i in 0..<n {
      var v: UInt64 = 0
      for b in 0..<width { v |= UInt64(bytes[i * width + b]) << UInt64(8 * b) }
      if rotate > 0 { v = v << UInt64(rotate) | v >> (bits - UInt64(rotate)) }
      for p in 0..<width { out[p * n + i] = UInt8(truncatingIfNeeded: v >> (bits - 8 - UInt64(8 * p))) }
    }
    return out
  }
}
