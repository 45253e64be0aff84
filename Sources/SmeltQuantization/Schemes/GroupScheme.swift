// Integers of 4 bits with a scale for each group of input channels. Formats/recipe.md, section 4.

internal import CKernels
internal import SmeltStorage
public import SmeltTensors

/// Codes −8 … 7 under one scale for each 32 input channels of a row. Named `int4-group`.
///
/// A group's scale is absmax ÷ 7, or with the observer `mse` the one of a fixed list of candidates (down to 0.56 of
/// that) with the least Σ importance × (value − result)². A group of zeros gets scale 1.
///
/// Bound, nothing clipped: half a scale and float32's own rounding.
public struct GroupScheme: Scheme {
  /// Input channels that share a scale.
  public static let group = 32
  /// The scheme.
  public static let int4 = GroupScheme()

  /// `int4-group`.
  public let name = "int4-group"
  /// compressed-tensors' spelling.
  public let synonyms = ["W4A16"]
  /// One line for help.
  public let summary = "INT4, a scale for each 32 input channels"
  /// Values are rounded.
  public let isLossy = true
  /// Values are stored anew.
  public let keepsBytes = false
  /// The big matrices inside layers.
  public let reach = SchemeReach.layerMatrices

  private static let encoding: any Encoding = {
    guard let encoding = GroupedIntegers(.four, .group(group)) else {
      preconditionFailure("groups of \(group) exist")
    }
    return encoding
  }()

  /// `int4.group32`, or `int8.channel` where the columns are no whole number of groups; tables of integers keep theirs.
  public func encoding(for source: any Encoding, shape: Shape) -> any Encoding {
    if source is IntegerTable { return source }
    return shape.columns % GroupScheme.group == 0 ? GroupScheme.encoding : INT8.channel
  }

  /// Why a weight gets another encoding than the scheme's.
  public func note(for source: any Encoding, shape: Shape) -> String? {
    guard !(source is IntegerTable), shape.columns % GroupScheme.group != 0 else { return nil }
    return "int8.channel: \(shape.columns) columns are no multiple of \(GroupScheme.group), as \(name) needs"
  }

  /// Chooses each group's scale and encodes the group under it.
  /// - Throws: `Q_CODE_NAN`, `STAT_MISMATCH`, `Q_PACK`.
  public func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    throws -> RowReport
  {
    if weight.encoding is IntegerTable { return copyRows(weight, rows: rows, into: target) }
    if weight.columns % GroupScheme.group != 0 {
      return try ChannelScheme.int8.quantize(weight, rows: rows, options: options, into: target)
    }
    try options.importance?.check(weight)
    guard let grid = Grid(GroupScheme.encoding, shape: weight.shape) else { preconditionFailure("a grid") }
    return try grid.quantize(weight, rows: rows, options: options, into: target)
  }
}

extension Grid {
  /// Rounds some rows to the grid, each group's scale chosen by the observer.
  func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget) throws
    -> RowReport
  {
    let columns = weight.columns
    let width = group ?? max(1, columns)
    let groups = ceilDivide(columns, width)
    let sizes = rowBytes(columns: columns)
    let groupRows = max(1, weight.rows / (options.importance?.groups ?? 1))
    var codes = [UInt8](repeating: 0, count: columns)
    var scales = [Float](repeating: 1, count: groups)
    var report = RowReport()
    try (options.importance?.values ?? []).withUnsafeBufferPointer { importance in
      try forEachDecodedRow(weight, rows: rows, spareRows: 0) { row, values, _ in
        let weights = options.importance.flatMap { _ in
          importance.baseAddress.map { $0 + row / groupRows * columns }
        }
        var inexact = 0
        for index in 0..<groups {
          let first = index * width
          let count = min(width, columns - first)
          let scale: Float
          switch options.observer {
          case .mse: scale = self.scale(values + first, weights.map { $0 + first }, count)
          case .absmax, .percentile: scale = candidates(values + first, count).first ?? 1
          }
          scales[index] = scale
          inexact += codes.withUnsafeMutableBufferPointer {
            encode(values + first, scale, $0.baseAddress! + first, count)
          }
        }
        let place = row - rows.lowerBound
        codes.withUnsafeBufferPointer { codes in
          scales.withUnsafeBufferPointer { scales in
            pack(
              codes.baseAddress!, scales.baseAddress!, columns: columns,
              values: target.values + place * sizes.values,
              scaleBytes: target.scales.map { $0 + place * sizes.scales })
          }
        }
        report.add(row: columns, inexact: inexact)
      }
    }
    return report
  }

  /// The codes of some values under one scale.
  /// - Returns: how many of them stand for another number.
  private func encode(
    _ values: UnsafePointer<Float>, _ scale: Float, _ codes: UnsafeMutablePointer<UInt8>, _ count: Int
  ) -> Int {
    var inexact = 0
    for start in stride(from: 0, to: count, by: InverseFactor.block) {
      let width = min(InverseFactor.block, count - start)
      inexact += withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { spare in
        let spare = spare.baseAddress!
        spare.update(from: values + start, count: width)
        sk_round_grid(spare, kind, low, high, scale, codes + start, width)
        return sk_count_different(values + start, spare, width)
      }
    }
    return inexact
  }
}
