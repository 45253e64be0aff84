// 4-bit floats, two a byte, with a power-of-two scale for each 32 columns. Formats/encodings.md, sections 6 and 10.

internal import CKernels
package import SmeltStorage

/// FP4 E2M1 codes in hub order (column 2j is the low nibble of byte j) times an E8M0 scale for each group of 32
/// columns. Named `mxfp4`.
package struct FP4: Encoding, Hashable {
  /// E8M0 scales, groups of 32: `mxfp4`.
  package static let mxfp4 = FP4()

  /// Columns that share a scale.
  package static let group = 32
  /// The largest magnitude of a code.
  package static let largest: Float = 6

  /// The stable name.
  package var name: String { "mxfp4" }

  /// Two codes share a byte.
  package var isPacked: Bool { true }

  private init() {}

  /// Two parts: bytes of half the weight's columns, and scales [rows, columns / 32].
  /// - Throws: `Q_PACK` when the columns are not a multiple of 32.
  package func layout(of shape: Shape, name: String) throws(FormatError) -> [PartLayout] {
    guard shape.rank > 0, shape.columns % FP4.group == 0 else {
      throw FormatError(
        .packed, subject: name, "has \(shape.columns) columns, expected a multiple of \(FP4.group) for mxfp4")
    }
    return [
      PartLayout(
        .values, dtypes: [.i8, .u8], shape: Shape(shape.dimensions.dropLast() + [shape.columns / 2])),
      PartLayout(.scales, dtypes: [.f8E8M0, .u8], shape: [shape.rows, shape.columns / FP4.group]),
    ]
  }

  /// Every code is a number; the scale 0xFF is refused.
  package func validate(_ weight: Weight) throws(FormatError) {
    try weight.validateScales(largestCode: FP4.largest)
  }

  /// Code × scale, rounded once, to float32. `columns.lowerBound` must be a multiple of 32.
  package func decode(
    _ weight: Weight, rows: Range<Int>, columns: Range<Int>, into out: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    // SAFETY: the layout gives a row `columns / 2` bytes of codes and `columns / 32` scales. A range that ends inside a byte writes one
    // float of its last pair; the pair itself lies in a local variable, which has room for both.
    weight.requireInside(rows, columns)
    precondition(
      columns.lowerBound % FP4.group == 0, "columns start at \(columns.lowerBound), inside a group")
    guard !columns.isEmpty else { return }
    let bytesPerRow = weight.columns / 2
    let scalesPerRow = weight.columns / FP4.group
    let even = columns.count & ~1
    weight.values.bytes.withUnsafeBytes { codeBytes in
      weight.parts[1].bytes.withUnsafeBytes { scaleBytes in
        guard let codes = codeBytes.bindMemory(to: UInt8.self).baseAddress,
          let scales = scaleBytes.bindMemory(to: UInt8.self).baseAddress
        else { return }
        for row in rows {
          let source = codes + row * bytesPerRow + columns.lowerBound / 2
          let rowScales = scales + row * scalesPerRow + columns.lowerBound / FP4.group
          let target = out + (row - rows.lowerBound) * stride
          sk_decode_mxfp4(source, rowScales, target, even)
          if even < columns.count {  // the range ends inside a byte
            var pair: (Float, Float) = (0, 0)
            withUnsafeMutableBytes(of: &pair) { place in
              sk_decode_mxfp4(
                source + even / 2, rowScales + even / FP4.group,
                place.baseAddress!.assumingMemoryBound(to: Float.self), 2)
            }
            target[even] = pair.0
          }
        }
      }
    }
  }

  /// Two codes a byte, a scale for each group.
  package func coded(_ weight: Weight) -> CodedRows? {
    CodedRows(weight, SK_CODED_E2M1, rowBytes: weight.columns / 2, .block(columns: FP4.group))
  }

  /// Codes of `count` floats, two a byte, under the E8M0 scale that `scales` gives for each 32 of them: x / scale
  /// rounded to the nearest code, ties to the even one, saturated at ±6. `count` must be a multiple of 32, the floats
  /// finite, no scale 0xFF. Writes `count / 2` bytes.
  package func encode(
    _ row: UnsafePointer<Float>, count: Int, scales: UnsafePointer<UInt8>,
    into out: UnsafeMutablePointer<UInt8>
  ) {
    // SAFETY: `row` must hold `count` floats, `scales` a byte for each 32 of them, `out` have room for `count / 2` bytes.
    precondition(count % FP4.group == 0, "\(count) floats are not a whole number of groups")
    for group in 0..<count / FP4.group {
      sk_encode_e2m1(
        row + group * FP4.group, sk_e8m0(scales[group]), out + group * FP4.group / 2, FP4.group)
    }
  }
}

extension CodeGrid {
  /// E2M1 codes times a scale.
  static func e2m1(_ scale: Float, reach: Float? = nil) -> CodeGrid {
    binary(scale: scale, mantissa: 1, least: 1, most: FP4.largest, reach: reach)
  }
}
