// FP8 with one scale for the whole weight. Formats/recipe.md, section 8.

internal import CKernels
internal import SmeltStorage
package import SmeltTensors

/// FP8 E4M3 codes under one float32 scale. Named `fp8-tensor`, encoding `f8_e4m3.tensor`.
///
/// The scale follows the rules of `fp8-channel` with the whole weight for the row; a percentile is the largest of the rows'
/// percentiles. The weight is read once more for it (twice more under `mse`). The parts of a matrix that engines fuse have one scale.
package struct TensorScheme: Scheme {
  /// The only one there is.
  package static let fp8 = TensorScheme()

  private let code = ChannelCode.e4m3
  private init() {}

  /// The canonical name.
  package var name: String { "fp8-tensor" }
  /// The ecosystem's `FP8` has static activation scales too: only directories can hold those, and take that word for this scheme.
  package var synonyms: [String] { ["FP8_TENSOR"] }
  /// One line for help.
  package var summary: String { "FP8 E4M3, one scale" }
  /// Values are rounded.
  package var isLossy: Bool { true }
  /// Values are encoded again.
  package var keepsBytes: Bool { false }
  /// The big matrices inside layers.
  package var reach: SchemeReach { .layerMatrices }

  /// `f8_e4m3.tensor`; tables of integers keep theirs.
  package func encoding(for source: any Encoding, shape: Shape) -> any Encoding {
    source is IntegerTable ? source : FP8(.e4m3, .tensor)
  }

  /// Engines keep one scale of a fused matrix, and round again what was rounded under a smaller one.
  package var sharesSurvey: Bool { true }

  /// The scale of a weight, or of all parts of a fused matrix.
  /// - Throws: `Q_CODE_NAN`, `STAT_MISMATCH`.
  package func survey(_ parts: [SurveyPart]) throws -> Float? {
    guard let first = parts.first else { return nil }
    var (absmax, magnitude): (Float, Float) = (0, 0)
    for part in parts {
      try part.options.importance?.check(part.weight)
      let columns = part.weight.columns
      try forEachDecodedRow(part.weight, rows: 0..<part.weight.rows, spareRows: 1) { _, values, spare in
        let largest = Float(bitPattern: sk_peak_f32(values, columns))
        absmax = max(absmax, largest)
        guard case .percentile(let p) = first.options.observer, largest > magnitude else { return }
        let bits = spare.withMemoryRebound(to: UInt32.self, capacity: columns) { bits in
          for index in 0..<columns { bits[index] = values[index].bitPattern & 0x7FFF_FFFF }
          return selected(nearestRank(p, count: columns), of: bits, count: columns)
        }
        magnitude = max(magnitude, Float(bitPattern: bits))
      }
    }
    guard absmax > 0 else { return 1 }
    for scale in [ownScale(parts), code.powerOfTwo(absmax)] {
      if let scale, try parts.allSatisfy({ try isExact($0.weight, under: scale) }) { return scale }
    }
    switch first.options.observer {
    case .absmax: return code.scale(of: absmax)
    case .percentile: return code.scale(of: magnitude > 0 ? magnitude : absmax)
    case .mse: return try leastError(parts, absmax)
    }
  }

  /// The scale that all parts have already, where they are in the result's encoding.
  private func ownScale(_ parts: [SurveyPart]) -> Float? {
    let own = Set(
      parts.map { part -> Float? in
        let weight = part.weight
        guard weight.encoding.name == encoding(for: weight.encoding, shape: weight.shape).name else {
          return nil
        }
        return SourceScales.blocks(weight, rows: 1 << 16, columns: 1 << 16)?(0, 0)
      })
    return own.count == 1 ? own.first ?? nil : nil
  }

  private func isExact(_ weight: Weight, under scale: Float) throws -> Bool {
    let columns = weight.columns
    // SAFETY: room for a row's codes; freed on every way out.
    let codes = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, columns))
    defer { codes.deallocate() }
    for first in stride(from: 0, to: weight.rows, by: 16) {
      var inexact = 0
      try forEachDecodedRow(weight, rows: first..<min(weight.rows, first + 16), spareRows: 0) {
        _, values, _ in
        inexact += code.encodeCounted(values, scale, codes, columns)
      }
      if inexact > 0 { return false }
    }
    return true
  }

  private func leastError(_ parts: [SurveyPart], _ absmax: Float) throws -> Float {
    let first = code.scale(of: absmax)
    let candidates = ([first, code.powerOfTwo(absmax)] + (1..<32).map { first * (1 + Float($0) / 32) })
      .filter { $0 >= .leastNormalMagnitude && ($0 * code.largest).isFinite }
    var errors = [Double](repeating: 0, count: candidates.count)
    for part in parts {
      let (weight, importance) = (part.weight, part.options.importance)
      let columns = weight.columns
      let groupRows = max(1, weight.rows / (importance?.groups ?? 1))
      try (importance?.values ?? []).withUnsafeBufferPointer { all in
        try forEachDecodedRow(weight, rows: 0..<weight.rows, spareRows: 0) { row, values, _ in
          let weights = importance == nil ? nil : all.baseAddress.map { $0 + row / groupRows * columns }
          for (index, scale) in candidates.enumerated() {
            errors[index] += code.error(values, weights, scale, columns)
          }
        }
      }
    }
    return candidates[errors.indices.min { errors[$0] < errors[$1] } ?? 0]
  }

  /// Encodes rows under the surveyed scale.
  /// - Throws: `Q_CODE_NAN`.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    throws -> RowReport
  {
    if weight.encoding is IntegerTable { return copyRows(weight, rows: rows, into: target) }
    guard let scale = try options.surveyed ?? survey(weight, options: options) else {
      preconditionFailure("a survey gives a scale")
    }
    let columns = weight.columns
    var report = RowReport()
    try forEachDecodedRow(weight, rows: rows, spareRows: 0) { row, values, _ in
      let place = target.values + (row - rows.lowerBound) * columns
      report.add(row: columns, inexact: code.encodeCounted(values, scale, place, columns))
    }
    if rows.lowerBound == 0, let place = target.scales {
      UnsafeMutableRawPointer(place).storeBytes(of: scale.bitPattern.littleEndian, as: UInt32.self)
    }
    return report
  }
}
