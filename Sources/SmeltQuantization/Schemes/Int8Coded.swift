// Whole numbers under one step for the whole weight, meant to be stored by an entropy coder: any number of bits a weight.
// Formats/recipe.md, section 10.

internal import CKernels
internal import SmeltStorage
package import SmeltTensors

/// INT8 codes whose step is chosen so that a Huffman coder stores them in a given number of bits. Named `int8-coded`, or
/// `int8-coded:5.25` for another number of bits; encoding `int8.channel`, and with more than 6.25 bits groups of 32 columns
/// (`int8.group32`), with more than 7.5 of 16, so that kernels see plain INT8.
///
/// All runs of columns that share a scale have the weight's one step, since the same step everywhere is what the least
/// square error at a given entropy asks for. One whose largest value would need a code above 127 has a larger scale:
/// absmax ÷ 127 by channel; of groups the next of 8 steps an octave, so that few different scales need few bits. Nothing
/// is clipped: the square error is that of uniform rounding, step² ÷ 12.
///
/// Source: uniform quantization followed by entropy coding is within a quarter of a bit of the rate-distortion bound
/// (Gish, Pierce, "Asymptotically efficient quantizing", 1968).
package struct Int8Coded: Scheme {
  /// Bits of a code as it is stored, those of group scales included.
  package let bits: Double

  /// The bits that the plain name means.
  package static let usualBits = 6.0
  /// The bits that can be asked for.
  package static let range = 1.5...8.5
  /// The one of the plain name.
  package static let usual = Int8Coded(bits: usualBits)

  /// Codes of so many bits, within `range`.
  package init(bits: Double) {
    precondition(Int8Coded.range.contains(bits), "\(bits) bits a code")
    self.bits = bits
  }

  /// Columns that share a scale; nil: all of a row. The more bits, the sooner a code would be too large.
  package var group: Int? { bits > 7.5 ? 16 : bits > 6.25 ? 32 : nil }

  /// The canonical name.
  package var name: String {
    bits == Int8Coded.usualBits ? Int8Coded.word : "\(Int8Coded.word):\(Int8Coded.text(bits))"
  }
  /// None.
  package var synonyms: [String] { [] }
  /// One line for help.
  package var summary: String {
    "INT8 whose codes are stored in \(Int8Coded.text(bits)) bits by a Huffman coder (.ingot); int8-coded:5.25 for others"
  }
  /// Values are rounded.
  package var isLossy: Bool { true }
  /// Values are encoded again.
  package var keepsBytes: Bool { false }
  /// The big matrices inside layers.
  package var reach: SchemeReach { .layerMatrices }
  /// That is the point of it.
  package var isEntropyCoded: Bool { true }

  static let word = "int8-coded"

  /// Without zeros at its end.
  private static func text(_ bits: Double) -> String {
    bits == bits.rounded() ? String(Int(bits)) : String((bits * 1e6).rounded() / 1e6)
  }

  /// INT8 by channel or group; tables of integers keep theirs.
  package func encoding(for source: any Encoding, shape: Shape) -> any Encoding {
    if source is IntegerTable { return source }
    return group.flatMap { GroupedIntegers(.eight, .group($0)) } ?? INT8.channel
  }

  /// F32 by channel, BF16 by group.
  package func dtype(of part: PartLayout) -> DType {
    part.name == .scales && group != nil ? .bf16 : part.dtypes[0]
  }

  /// Values that a step is found with.
  private static let sampled = 1 << 16

  /// The weight's step, found on rows spread over it.
  /// - Throws: `Q_CODE_NAN`.
  package func survey(_ parts: [SurveyPart]) throws -> Float? {
    guard let weight = parts.first?.weight else { return nil }
    guard weight.rows > 0 else { return 1 }  // nothing to choose a step by
    let columns = weight.columns
    let wanted = max(1, min(weight.rows, Int8Coded.sampled / max(1, columns)))
    var rows: [[Float]] = []
    for place in 0..<wanted {
      let row = place * weight.rows / wanted
      try forEachDecodedRow(weight, rows: row..<row + 1, spareRows: 0) { _, values, _ in
        rows.append(Array(UnsafeBufferPointer(start: values, count: columns)))
      }
    }
    let count = Double(rows.count * columns)
    let square = rows.reduce(0.0) { $0 + $1.reduce(0.0) { $0 + Double($1) * Double($1) } }
    guard square > 0 else { return 1 }
    // Bits fall by one where the step doubles, as long as no code runs into the end of the range. Steps are counted in
    // 1024ths of an octave from a Gaussian's.
    let base = (square / count).squareRoot() * octaves(Int(((2.05 - bits) * 1024).rounded()))
    var (place, low, high) = (0, -8192, 8192)
    for _ in 0..<12 {
      let excess = rate(rows, CodedScales(step: Float(base * octaves(place)), group: group)) - bits
      if excess > 0 { low = place } else { high = place }
      let next = place + Int((max(-1, min(1, excess)) * 1024).rounded())
      if next == place || high - low <= 1 { break }
      place = next > low && next < high ? next : (low + high) / 2
    }
    let step = Float(base * octaves(place))
    return step.isFinite ? max(step, .leastNormalMagnitude) : .greatestFiniteMagnitude / 512
  }

  /// 2 to the power of places ÷ 1024, by square roots alone, so that it is the same number everywhere.
  private func octaves(_ places: Int) -> Double {
    var result = Double(sign: .plus, exponent: places >> 10, significand: 1)
    var root = 2.0
    for bit in (0..<10).reversed() {
      root = root.squareRoot()
      if places >> bit & 1 == 1 { result *= root }
    }
    return result
  }

  /// Bits a code under a step, group scales included.
  private func rate(_ rows: [[Float]], _ scales: CodedScales) -> Double {
    var (codeCost, scaleCost) = (EntropyCost(), EntropyCost())
    var codes: [Int8] = []
    for values in rows {
      if codes.count != values.count { codes = [Int8](repeating: 0, count: values.count) }
      let columns = values.count
      // SAFETY: both arrays have the row's columns; runs lie inside a row.
      values.withUnsafeBufferPointer { values in
        codes.withUnsafeMutableBufferPointer { codes in
          guard let values = values.baseAddress, let codes = codes.baseAddress else { return }
          scales.forEachRun(values, columns) { first, count, place, scale in
            sk_encode_int8(values + first, scale, codes + first, count)
            scaleCost.add([place])
          }
        }
      }
      codeCost.add(codes)
    }
    return codeCost.bits + (group.map { scaleCost.bits / Double($0) } ?? 0)
  }

  /// Encodes rows under the surveyed step.
  /// - Throws: `Q_CODE_NAN`.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    throws -> RowReport
  {
    if weight.encoding is IntegerTable { return copyRows(weight, rows: rows, into: target) }
    guard let place = target.scales, let step = try options.surveyed ?? survey(weight, options: options)
    else { preconditionFailure("\(name) needs a place for scales, and a survey gives a step") }
    let columns = weight.columns
    let scales = CodedScales(step: step, group: group)
    let scaleBytes = group == nil ? 4 : 2
    // SAFETY: scales follow each other, one for each run of each row, which is what the target has room for; not aligned.
    var next = UnsafeMutableRawPointer(place)
    var report = RowReport()
    try forEachDecodedRow(weight, rows: rows, spareRows: 0) { row, values, _ in
      let codes = target.values + (row - rows.lowerBound) * columns
      var inexact = 0
      scales.forEachRun(values, columns) { first, count, _, scale in
        inexact += ChannelCode.int8.encodeCounted(values + first, scale, codes + first, count)
        if scaleBytes == 4 {
          next.storeBytes(of: scale.bitPattern.littleEndian, as: UInt32.self)
        } else {
          next.storeBytes(of: UInt16(scale.bitPattern >> 16).littleEndian, as: UInt16.self)
        }
        next += scaleBytes
      }
      report.add(row: columns, inexact: inexact)
    }
    if columns == 0, group == nil {  // rows of nothing: a scale is still a positive number
      for row in 0..<rows.count {
        UnsafeMutableRawPointer(place + row * 4).storeBytes(
          of: Float(1).bitPattern.littleEndian, as: UInt32.self)
      }
    }
    return report
  }
}

/// The scales that runs of columns have under a step.
package struct CodedScales: Sendable, Hashable {
  /// The step.
  package let step: Float
  /// Columns of a run; nil: all of a row.
  package let group: Int?

  /// The scales of a step; those of groups are BF16 numbers.
  package init(step: Float, group: Int?) {
    self.step = group == nil ? step : CodedScales.rounded(step)
    self.group = group
  }

  /// The scale of some values, and which of the steps above the least one it is.
  func scale(_ values: UnsafePointer<Float>, _ count: Int) -> (place: Int8, scale: Float) {
    let absmax = sk_absmax_f32(values, count)
    guard absmax > step * 127 else { return (0, step) }
    guard group != nil else { return (1, ChannelCode.int8.scale(of: absmax)) }
    var (place, scale) = (0, step)
    while scale * 127 < absmax, place < 127 {
      place += 1
      let octave = step * Float(sign: .plus, exponent: place / 8, significand: 1)
      scale = CodedScales.rounded(octave * CodedScales.eighths[place % 8])
    }
    return scale.isFinite ? (Int8(place), scale) : (127, CodedScales.rounded(absmax / 127))
  }

  /// 2 to the power of eighths.
  private static let eighths: [Float] = [
    1, 1.0905077, 1.1892071, 1.2968396, 1.4142135, 1.5422108, 1.6817929, 1.8340081,
  ]

  /// The next BF16 that is not below a positive number.
  private static func rounded(_ x: Float) -> Float {
    Float(bitPattern: (x.bitPattern &+ 0xFFFF) & 0xFFFF_0000)
  }

  /// Calls `body` with the first column, the length and the scale of each run of a row.
  func forEachRun(
    _ values: UnsafePointer<Float>, _ columns: Int,
    _ body: (_ first: Int, _ count: Int, _ place: Int8, _ scale: Float) -> Void
  ) {
    let width = group ?? max(1, columns)
    for first in stride(from: 0, to: columns, by: width) {
      let count = min(width, columns - first)
      let (place, scale) = scale(values + first, count)
      body(first, count, place, scale)
    }
  }
}
