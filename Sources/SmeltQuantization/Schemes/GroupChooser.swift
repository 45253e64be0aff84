// What the schemes of 4-bit codes share: a row is cut into groups of columns, each with a scale that is tried on its numbers.

internal import CKernels
internal import SmeltStorage
internal import SmeltTensors

/// Codes of four bits, two a byte, low nibble first.
enum SmallCode {
  /// 0…15 for -8…7.
  case int4
  /// E2M1.
  case e2m1

  /// Writes `count / 2` bytes; `spare` is scratch of `count` bytes.
  func encode(
    _ x: UnsafePointer<Float>, _ scale: Float, _ out: UnsafeMutablePointer<UInt8>, _ count: Int,
    _ spare: UnsafeMutablePointer<Float>
  ) {
    guard self == .int4 else {
      sk_encode_e2m1(x, scale, out, count)
      return
    }
    // Rounding is the 8-bit kernel's; what it leaves beyond four bits is saturated here.
    UnsafeMutableRawPointer(spare).withMemoryRebound(to: Int8.self, capacity: count) { codes in
      sk_encode_int8(x, scale, codes, count)
      for pair in 0..<count / 2 {
        let low = UInt8(bitPattern: min(7, max(-8, codes[2 * pair])) + 8)
        let high = UInt8(bitPattern: min(7, max(-8, codes[2 * pair + 1])) + 8)
        out[pair] = low | high << 4
      }
    }
  }

  func decode(_ codes: UnsafePointer<UInt8>, _ scale: Float, _ out: UnsafeMutablePointer<Float>, _ count: Int)
  {
    switch self {
    case .int4: sk_decode_int4(codes, 8, scale, out, count)
    case .e2m1: sk_decode_e2m1(codes, scale, out, count)
    }
  }
}

/// One group of one row, its codes written for one scale after another.
struct GroupTrial {
  // SAFETY: as `RowChooser`, for a group: `values` and `importance` hold `count` floats, `spare` twice as many, `codes` has room for half
  // as many bytes. For int4 the second half of `spare` holds bytes meanwhile, a quarter of its room.
  let code: SmallCode
  let values: UnsafePointer<Float>
  let count: Int
  let importance: UnsafePointer<Float>?
  /// Scratch of twice `count` floats.
  let spare: UnsafeMutablePointer<Float>
  let codes: UnsafeMutablePointer<UInt8>

  var absmax: Float { sk_absmax_f32(values, count) }

  /// The codes under a scale; `spare` holds their numbers.
  private func write(_ scale: Float) {
    code.encode(values, scale, codes, count, spare + count)
    code.decode(codes, scale, spare, count)
  }

  /// Writes the codes under a scale.
  /// - Returns: how many values changed.
  func inexact(under scale: Float) -> Int {
    write(scale)
    return sk_count_different(values, spare, count)
  }

  /// Whether every value is exact under a scale; the first few tell most often. Writes the codes if so.
  func isExact(under scale: Float) -> Bool {
    let few = min(8, count)
    code.encode(values, scale, codes, few, spare + count)
    code.decode(codes, scale, spare, few)
    return sk_count_different(values, spare, few) == 0 && inexact(under: scale) == 0
  }

  /// How much larger than the values the numbers are wanted, see `error`: a hundredth for int4, nothing for E2M1.
  ///
  /// The scale of least square error makes numbers that are too small: their product with the values is that of the values with themselves
  /// less the square error, a hundredth for four bits. Each layer's share is small beside the rounding, but the sign is the same
  /// everywhere, so that over layers it adds up as it is and not as its square. Aimed at (1 + gain) × values, with a gain
  /// of about the relative square error, normal numbers keep their size to half a hundredth. Scales of E2M1 are too far apart to
  /// aim with: E4M3's by an eighth, powers of two by an octave.
  var gain: Float { code == .int4 ? 0.01 : 0 }

  /// The sum of importance × square of (1 + gain) × value − number, under a scale.
  func error(under scale: Float) -> Double {
    switch code {
    case .int4: sk_error_int4(values, importance, scale, gain, count)
    case .e2m1: sk_error_e2m1(values, importance, scale, gain, count)
    }
  }

  /// The scale with the least `error` for the codes that another scale gives: (1 + gain) × Σ w x q ÷ Σ w q², w the importance,
  /// q the codes. Nil where that is no positive number.
  func fitted(under scale: Float) -> Float? {
    code.encode(values, scale, codes, count, spare + count)
    code.decode(codes, 1, spare, count)
    var (product, square) = (0.0, 0.0)
    for index in 0..<count {
      let q = Double(spare[index])
      let weighted = (importance.map { Double($0[index]) } ?? 1) * q
      product += weighted * Double(values[index])
      square += weighted * q
    }
    let fitted = Float((1 + Double(gain)) * product / square)
    return fitted.isFinite && fitted > 0 ? fitted : nil
  }

  /// The magnitude that an observer takes for the largest: a percentile of it where asked for.
  func magnitude(_ observer: Observer, _ absmax: Float) -> Float {
    guard case .percentile(let p) = observer else { return absmax }
    let rank = nearestRank(p, count: count)
    guard rank < count else { return absmax }
    let found = spare.withMemoryRebound(to: UInt32.self, capacity: count) { bits in
      for index in 0..<count { bits[index] = values[index].bitPattern & 0x7FFF_FFFF }
      return Float(bitPattern: selected(rank, of: bits, count: count))
    }
    return found > 0 ? found : absmax
  }
}

/// How much the columns of a row matter where no token told: √(2 m + x²), x the column's value, m the mean square of the row.
///
/// A trained weight is large where it has work to do, on input channels that are large themselves. So with nothing else known, the value's own
/// magnitude says something of its channel's, and an error on a large value, which is what clipping makes, costs more than the same
/// error on a small one. The form, with 2 m that keeps small values from counting for nothing, is that of ggml's searches
/// (ggml-quants.c, `quantize_row_q4_K_impl`).
func priorImportances(
  _ values: UnsafePointer<Float>, _ count: Int, into out: UnsafeMutablePointer<Float>
) {
  var sum = 0.0
  for index in 0..<count { sum += Double(values[index]) * Double(values[index]) }
  let base = 2 * sum / Double(max(1, count))
  // Only ratios matter: divided by √(2 m), so that they stay in range whatever the values' size.
  for index in 0..<count {
    let value = Double(values[index])
    out[index] = base > 0 ? Float((1 + value * value / base).squareRoot()) : 1
  }
}

/// Calls `body` with a trial of each group of each row, rows in order, the groups' codes in `codes`; counts what changed.
/// Under the observer `mse` without importances, the columns have `priorImportances`.
/// - Throws: `Q_CODE_NAN`, `STAT_MISMATCH`.
func forEachGroup(
  _ weight: Weight, rows: Range<Int>, size: Int, _ code: SmallCode, _ options: QuantizeOptions,
  codes: UnsafeMutablePointer<UInt8>,
  _ body: (_ trial: GroupTrial, _ row: Int, _ group: Int) throws -> Int
) throws -> RowReport {
  let importance = options.importance
  try importance?.check(weight)
  let usesPrior = importance == nil && options.observer == .mse
  let columns = weight.columns
  let groupRows = max(1, weight.rows / (importance?.groups ?? 1))
  var report = RowReport()
  try (importance?.values ?? []).withUnsafeBufferPointer { all in
    try forEachDecodedRow(weight, rows: rows, spareRows: usesPrior ? 3 : 2) { row, values, spare in
      let prior = spare + 2 * columns
      if usesPrior { priorImportances(values, columns, into: prior) }
      let weights =
        usesPrior
        ? UnsafePointer(prior)
        : importance == nil ? nil : all.baseAddress.map { $0 + row / groupRows * columns }
      var inexact = 0
      for start in stride(from: 0, to: columns, by: size) {
        let trial = GroupTrial(
          code: code, values: values + start, count: min(size, columns - start),
          importance: weights.map { $0 + start }, spare: spare,
          codes: codes + ((row - rows.lowerBound) * columns + start) / 2)
        inexact += try body(trial, row, start / size)
      }
      report.add(row: columns, inexact: inexact)
    }
  }
  return report
}

/// The smallest power of two, from 2⁻¹²⁶, that is not below a positive number.
func powerNotBelow(_ value: Float) -> Float {
  let value = max(value, .leastNormalMagnitude)
  let power = Float(sign: .plus, exponent: value.exponent, significand: 1)
  return power < value ? power * 2 : power
}

extension Scheme {
  /// What takes the place of a scheme of groups of 4-bit integers: nothing where the columns are a multiple of `size`, else the longest
  /// shorter groups that fit, else the source as it is.
  func shorterGroups(
    _ source: any Encoding, _ shape: Shape, size: Int, make: (Int) -> any Scheme
  ) -> (scheme: any Scheme, why: String)? {
    if source is IntegerTable { return nil }
    if source.name == encoding(for: source, shape: shape).name {
      return (Keep(), "is \(source.name) already")
    }
    guard shape.columns % size != 0 else { return nil }
    let why = "\(shape.columns) columns are not a multiple of \(size)"
    guard let fit = Int4Group.sizes.first(where: { $0 < size && shape.columns % $0 == 0 }) else {
      return (Keep(), "kept: \(why)")
    }
    let other = make(fit)
    if source.name == other.encoding(for: source, shape: shape).name {
      return (Keep(), "is \(source.name) already")
    }
    return (other, "\(other.name): \(why)")
  }
}
