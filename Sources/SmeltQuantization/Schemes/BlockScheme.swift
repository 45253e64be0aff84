// FP8 with one scale for each block of rows and columns, as DeepSeek publishes it, and MXFP8, whose blocks are 32 columns of one
// row. Formats/recipe.md, section 8.

internal import CKernels
internal import SmeltStorage
package import SmeltTensors

/// FP8 E4M3 codes under a scale for each block. Named `fp8-block`, blocks of 128 × 128 with F32 scales; `fp8-block-e8m0`, scales
/// powers of two in a byte; either with `:32` or `:64` for smaller blocks; and `mxfp8`, a power of two for each 32 columns of a row.
///
/// A block's scale, first rule that holds:
/// 1. a block of zeros gets scale 1;
/// 2. the scale that the block has in the source, when every value is exact under it;
/// 3. the smallest power of two ≥ absmax ÷ 448, when every value is exact under it; its double where it is absmax ÷ 448 itself
///    and every value is exact under the double too (not of MXFP8);
/// 4. the observer's choice: absmax ÷ 448 (DeepSeek's formula), or with E8M0 scales the power of two of rule 3.
///
/// Bound of the error as for `fp8-channel`.
package struct BlockScheme: Scheme {
  /// The sides of square blocks there are, the usual one first.
  package static let sizes = [128, 64, 32]
  /// Columns decoded at once; encodings decode from multiples of 1024. A whole number of blocks.
  private static let chunk = 1024

  /// Rows of a block.
  package let blockRows: Int
  /// Columns of a block.
  package let blockColumns: Int
  /// Whether scales are powers of two, stored in a byte.
  package let isPower: Bool
  /// The canonical name.
  package let name: String
  /// Other tools' spellings.
  package let synonyms: [String]
  /// One line for help.
  package let summary: String

  /// Scales F32.
  package static let fp8 = BlockScheme(
    blockRows: 128, blockColumns: 128, isPower: false, name: word,
    synonyms: ["FP8_BLOCK", "\(word):128"],
    summary: "FP8 E4M3, a scale for each 128 × 128 block, as DeepSeek-V3 has them; \(word):32 for 32 × 32")
  /// Scales E8M0.
  package static let power = BlockScheme(
    blockRows: 128, blockColumns: 128, isPower: true, name: powerWord, synonyms: ["\(powerWord):128"],
    summary:
      "FP8 E4M3, a power of two for each 128 × 128 block, as DeepSeek-V4 has them; \(powerWord):32 as V4.1")
  /// MXFP8: E8M0 scales of 32 columns.
  package static let mxfp8 = BlockScheme(
    blockRows: 1, blockColumns: FP4.group, isPower: true, name: "mxfp8", synonyms: [],
    summary: "FP8 E4M3, a power of two for each 32 columns, as MiniMax-M3 has them")

  package static let word = "fp8-block"
  package static let powerWord = "fp8-block-e8m0"

  /// Square blocks of a length of `sizes`.
  package static func square(_ side: Int, isPower: Bool) -> BlockScheme {
    precondition(sizes.contains(side), "blocks of \(side)")
    let usual = isPower ? power : fp8
    guard side != 128 else { return usual }
    return BlockScheme(
      blockRows: side, blockColumns: side, isPower: isPower, name: "\(usual.name):\(side)", synonyms: [],
      summary: "FP8 E4M3, a \(isPower ? "power of two" : "scale") for each \(side) × \(side) block")
  }

  /// The scheme of `fp8-block:N` and `fp8-block-e8m0:N`; nil for other words.
  /// - Throws: `RequestError` usage for another number.
  static func named(_ text: String) throws -> BlockScheme? {
    for (prefix, isPower) in [(word + ":", false), (powerWord + ":", true)] where text.hasPrefix(prefix) {
      guard let side = Int(text.dropFirst(prefix.count)), sizes.contains(side) else {
        throw RequestError(
          .usage, "'\(text)' has no size of blocks, expected 32, 64 or 128", help: "for example \(prefix)32")
      }
      return square(side, isPower: isPower)
    }
    return nil
  }

  /// The same blocks with powers of two for scales.
  package var withPowers: BlockScheme { isPower ? self : .square(blockRows, isPower: true) }

  /// Values are rounded.
  package var isLossy: Bool { true }
  /// Values are encoded again.
  package var keepsBytes: Bool { false }
  /// The big matrices inside layers.
  package var reach: SchemeReach { .layerMatrices }
  /// Blocks of rows.
  package var rowBlock: Int { blockRows }

  /// `f8_e4m3.block`, `f8_e4m3.block32x32`, `f8_e4m3.block1x32`; tables of integers keep theirs.
  package func encoding(for source: any Encoding, shape: Shape) -> any Encoding {
    source is IntegerTable ? source : FP8(.e4m3, .block(rows: blockRows, columns: blockColumns))
  }

  /// Of MXFP8 the source as it is where it is MXFP8 already or its columns are not a multiple of 32; other blocks may be cut short.
  package func fallback(for source: any Encoding, shape: Shape) -> (scheme: any Scheme, why: String)? {
    guard blockRows == 1, !(source is IntegerTable) else { return nil }
    if source.name == encoding(for: source, shape: shape).name {
      return (Keep(), "is \(source.name) already")
    }
    guard shape.columns % blockColumns != 0 else { return nil }
    return (Keep(), "kept: \(shape.columns) columns are not a multiple of \(blockColumns)")
  }

  /// Scales are F32 or E8M0.
  package func dtype(of part: PartLayout) -> DType {
    part.name == .scales && isPower ? .f8E8M0 : part.dtypes[0]
  }

  /// Chooses each block's scale and encodes the block under it. `rows` begin with a block.
  /// - Throws: `Q_CODE_NAN`, `STAT_MISMATCH`.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    throws -> RowReport
  {
    if weight.encoding is IntegerTable { return copyRows(weight, rows: rows, into: target) }
    precondition(rows.lowerBound % blockRows == 0, "row \(rows.lowerBound) begins no block")
    guard let scales = target.scales else { preconditionFailure("\(name) needs a place for scales") }
    try options.importance?.check(weight)
    try refuseNaNCodes(weight, rows: rows)
    let columns = weight.columns
    let own = SourceScales.blocks(weight, rows: blockRows, columns: blockColumns)
    let across = ceilDivide(columns, blockColumns)
    var report = RowReport()
    let capacity = blockRows * (BlockScheme.chunk + blockColumns)
    // SAFETY: scratch is a band of rows, `chunk` floats apart, and a block behind it; the target has the bytes of these rows, a band's
    // codes and scales at places that follow from the first of them, and belongs to this task.
    try withUnsafeTemporaryAllocation(of: Float.self, capacity: capacity) { scratch in
      let values = scratch.baseAddress!
      for first in stride(from: rows.lowerBound, to: rows.upperBound, by: blockRows) {
        let band = first..<min(rows.upperBound, first + blockRows)
        var inexact = [Int](repeating: 0, count: band.count)
        for start in stride(from: 0, to: columns, by: BlockScheme.chunk) {
          let end = min(columns, start + BlockScheme.chunk)
          weight.encoding.decode(
            weight, rows: band, columns: start..<end, into: values, stride: BlockScheme.chunk)
          try refuseNonFinite(weight, values, band, start..<end)
          for column in stride(from: start, to: end, by: blockColumns) {
            var chooser = BlockChooser(
              values: values + (column - start), stride: BlockScheme.chunk, rows: band.count,
              columns: min(blockColumns, end - column),
              spare: values + blockRows * BlockScheme.chunk,
              codes: target.values + (first - rows.lowerBound) * columns + column, codeStride: columns,
              isPower: isPower, isSquare: blockRows > 1)
            let scale = chooser.encode(
              options.observer, sourceScale: own?(first, column), &inexact,
              importance: Importance(options.importance, weight, band, column))
            let place = (first - rows.lowerBound) / blockRows * across + column / blockColumns
            store(scale, at: place, in: scales)
          }
        }
        for count in inexact { report.add(row: columns, inexact: count) }
      }
    }
    return report
  }

  private func store(_ scale: Float, at place: Int, in scales: UnsafeMutablePointer<UInt8>) {
    if isPower {
      scales[place] = E8M0.code(of: scale) ?? 0
    } else {
      UnsafeMutableRawPointer(scales + place * 4).storeBytes(
        of: scale.bitPattern.littleEndian, as: UInt32.self)
    }
  }

  private func refuseNonFinite(
    _ weight: Weight, _ values: UnsafePointer<Float>, _ rows: Range<Int>, _ columns: Range<Int>
  ) throws(FormatError) {
    for row in rows {
      let place = values + (row - rows.lowerBound) * BlockScheme.chunk
      guard sk_count_nonfinite_f32(place, columns.count) > 0 else { continue }
      let column = (0..<columns.count).first { !place[$0].isFinite } ?? 0
      throw FormatError(
        .codeNaN, file: weight.file, subject: weight.name,
        "row \(row), column \(columns.lowerBound + column) is \(place[column]), expected a finite number")
    }
  }
}

/// How much the columns of a block matter, for each of its rows.
private struct Importance {
  let values: [Float]?
  let columns: Int
  let first: Int
  let groupRows: Int
  let column: Int

  init(_ view: ImportanceView?, _ weight: Weight, _ rows: Range<Int>, _ column: Int) {
    values = view?.values
    columns = weight.columns
    first = rows.lowerBound
    groupRows = max(1, weight.rows / (view?.groups ?? 1))
    self.column = column
  }

  /// The importances of a row of the block, and the sum over rows of what `body` gives.
  func sum(_ rows: Int, _ body: (_ row: Int, _ importance: UnsafePointer<Float>?) -> Double) -> Double {
    guard let values else { return (0..<rows).reduce(0) { $0 + body($1, nil) } }
    return values.withUnsafeBufferPointer { all in
      (0..<rows).reduce(0) { sum, row in
        let place = (first + row) / groupRows * columns + column
        return sum + body(row, all.baseAddress.map { $0 + place })
      }
    }
  }
}

/// Chooses the scale of one block.
private struct BlockChooser {
  let values: UnsafePointer<Float>
  let stride: Int
  let rows: Int
  let columns: Int
  /// Scratch of a block.
  let spare: UnsafeMutablePointer<Float>
  let codes: UnsafeMutablePointer<UInt8>
  let codeStride: Int
  let isPower: Bool
  /// Whether blocks are of several rows, rather than MXFP8's.
  let isSquare: Bool
  private let code = ChannelCode.e4m3

  /// Writes the block's codes and adds the values that changed to the count of each row.
  mutating func encode(
    _ observer: Observer, sourceScale: Float?, _ inexact: inout [Int], importance: Importance
  ) -> Float {
    var absmax: Float = 0
    for row in 0..<rows { absmax = max(absmax, sk_absmax_f32(values + row * stride, columns)) }
    var scale: Float = 1
    if absmax > 0 {
      let fits = sourceScale.flatMap { !isPower || E8M0.code(of: $0) != nil ? $0 : nil }
      let power = code.powerOfTwo(absmax)
      // A writer that rounds scales up leaves the top of the range to codes that were rounded down, see the page.
      // Of a few columns this says nothing: powers that were rounded up and down are as likely.
      let double = power * code.largest == absmax && isSquare ? power * 2 : nil
      let exact = [fits, double, power].lazy.compactMap { $0 }.first { isExact(under: $0) }
      if let exact { return exact }
      scale = choose(observer, absmax, importance)
    }
    for row in 0..<rows { inexact[row] += self.inexact(row, under: scale) }
    return scale
  }

  private func inexact(_ row: Int, under scale: Float) -> Int {
    let (x, out) = (values + row * stride, codes + row * codeStride)
    code.encode(x, scale, out, columns)
    code.decode(out, scale, spare, columns)
    return sk_count_different(x, spare, columns)
  }

  private func isExact(under scale: Float) -> Bool {
    (0..<rows).allSatisfy { inexact($0, under: scale) == 0 }
  }

  private func choose(_ observer: Observer, _ absmax: Float, _ importance: Importance) -> Float {
    switch observer {
    case .absmax: return scale(of: absmax)
    case .percentile(let p):
      let rank = nearestRank(p, count: rows * columns)
      guard rank < rows * columns else { return scale(of: absmax) }
      let magnitude = spare.withMemoryRebound(to: UInt32.self, capacity: rows * columns) { bits in
        for row in 0..<rows {
          for column in 0..<columns {
            bits[row * columns + column] = values[row * stride + column].bitPattern & 0x7FFF_FFFF
          }
        }
        return Float(bitPattern: selected(rank, of: bits, count: rows * columns))
      }
      return scale(of: magnitude > 0 ? magnitude : absmax)
    case .mse:
      var best = scale(of: absmax)
      var least = error(best, importance)
      for candidate in candidates(best, absmax) {
        guard candidate >= .leastNormalMagnitude, (candidate * code.largest).isFinite else { continue }
        let error = error(candidate, importance)
        if error < least { (best, least) = (candidate, error) }
      }
      return best
    }
  }

  private func scale(of magnitude: Float) -> Float {
    isPower ? code.powerOfTwo(magnitude) : code.scale(of: magnitude)
  }

  /// As `fp8-channel` tries them; of powers of two the half too, which clips.
  private func candidates(_ first: Float, _ absmax: Float) -> [Float] {
    if isPower { return [first / 2] }
    return [code.powerOfTwo(absmax)] + (1..<32).map { first * (1 + Float($0) / 32) }
  }

  private func error(_ scale: Float, _ importance: Importance) -> Double {
    importance.sum(rows) { code.error(values + $0 * stride, $1, scale, columns) }
  }
}
