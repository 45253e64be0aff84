// The two forms of a statistics file: the means that a calibration ends with, and the sums that parts of one are added up from.
// Formats/statistics.md, sections 2 and 8.

internal import SmeltModels
internal import SmeltStorage
internal import SmeltTensors

/// What a statistics file holds of squares.
package enum StatisticsForm: Sendable {
  /// Means, F32: what weights are quantized by.
  case means
  /// Sums, F64, as they were added: a part of a calibration.
  case sums

  /// The `format` of the metadata.
  package var format: String {
    switch self {
    case .means: "smelt.statistics/1"
    case .sums: "smelt.statistics-part/1"
    }
  }

  /// The ending of the tensor of squares behind a weight's name.
  var squares: String {
    switch self {
    case .means: ".mean_square"
    case .sums: ".square_sum"
    }
  }

  /// The type of that tensor.
  var dtype: DType {
    switch self {
    case .means: .f32
    case .sums: .f64
    }
  }

  /// Bytes that an input channel of a weight takes.
  package var channelBytes: Int {
    switch self {
    case .means: 4 + 4
    case .sums: 4 + 8
    }
  }
}

extension StatisticsEntry {
  /// The means of sums of squares, [groups, columns], over the tokens of each group: 0 where none came, at most the largest float32.
  static func means(_ sums: [Double], counts: [Int], columns: Int) -> [Float] {
    sums.enumerated().map { index, sum in
      let count = counts[index / columns]
      let mean = count == 0 ? 0 : sum / Double(count)
      return Float(min(mean, Double(Float.greatestFiniteMagnitude)))  // squares of 10^19 and more
    }
  }

  /// What parts of a calibration say of one weight together: their sums added from the first to the last.
  /// - Parameter parts: of one weight and one shape, with sums; at least one.
  package static func sum(_ parts: [StatisticsEntry]) -> StatisticsEntry {
    guard let first = parts.first else { preconditionFailure("nothing has no sum") }
    var absmax = first.absmax ?? []
    var sums = first.sums
    var counts = first.counts
    for part in parts.dropFirst() {
      precondition(part.groups == first.groups && part.columns == first.columns, "parts have one shape")
      for (index, value) in (part.absmax ?? []).enumerated() { absmax[index] = max(absmax[index], value) }
      for (index, value) in part.sums.enumerated() { sums[index] += value }
      for (index, count) in part.counts.enumerated() { counts[index] += count }
    }
    return StatisticsEntry(
      first.weight, groups: first.groups, columns: first.columns, absmax: absmax, squareSums: sums,
      counts: counts)
  }

  /// The sums of squares, [groups, columns]: zeros of a weight that no token reached.
  var sums: [Double] {
    if let squareSums { return squareSums }
    precondition(counts.allSatisfy { $0 == 0 }, "the sums of '\(weight)' were not kept")
    return [Double](repeating: 0, count: groups * columns)
  }
}

extension CacheRange {
  /// The wider of two ranges of one layer.
  package func joined(_ other: CacheRange) -> CacheRange {
    CacheRange(layer: layer, keys: max(keys, other.keys), values: max(values, other.values))
  }
}

func littleEndian(_ values: [Double]) -> Bytes {
  let buffer = ByteBuffer(count: values.count * 8)
  for (index, value) in values.enumerated() {
    buffer.bytes.storeBytes(of: value.bitPattern.littleEndian, toByteOffset: index * 8, as: UInt64.self)
  }
  return Bytes(buffer)
}
