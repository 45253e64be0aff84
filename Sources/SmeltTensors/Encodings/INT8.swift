// Signed bytes with one scale for each output channel. Formats/encodings.md, section 9.

internal import CKernels
package import SmeltStorage

/// Symmetric INT8: value = code × scale of the output channel. Named `int8.channel`.
package struct INT8: Encoding, Hashable {
  /// The only granularity there is: `int8.channel`.
  package static let channel = INT8()

  /// The largest magnitude that `encode` writes. -128 is read, never written, so that codes are symmetric.
  package static let largest: Float = 127

  /// The stable name.
  package var name: String { "int8.channel" }

  private init() {}

  /// Two parts: codes of the weight's shape, and one scale for each row.
  package func layout(of shape: Shape, name: String) -> [PartLayout] {
    [
      PartLayout(.values, dtypes: [.i8], shape: shape),
      PartLayout(.scales, dtypes: Scales.floats, shape: [shape.rows]),
    ]
  }

  /// Every code is a number; scales that are not a positive finite number are refused.
  package func validate(_ weight: Weight) throws(FormatError) {
    try weight.validateScales(largestCode: 128)
  }

  /// Code × scale, rounded once, to float32.
  package func decode(
    _ weight: Weight, rows: Range<Int>, columns: Range<Int>, into out: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    // SAFETY: codes have the weight's shape, scales one for each row, as the layout asks; signed bytes are read as they lie.
    weight.requireInside(rows, columns)
    guard !columns.isEmpty else { return }
    let width = weight.columns
    weight.withCodesAndScales { codes, scales in
      for row in rows {
        let source = UnsafeRawPointer(codes + row * width + columns.lowerBound)
        sk_decode_int8(
          source.assumingMemoryBound(to: Int8.self), scales[row], out + (row - rows.lowerBound) * stride,
          columns.count)
      }
    }
  }

  /// Signed bytes, a scale a row.
  package func coded(_ weight: Weight) -> CodedRows? {
    CodedRows(weight, SK_CODED_INT8, rowBytes: weight.columns, .channel)
  }

  /// Rows of signed bytes.
  package var integerCode: Int32? { Int32(SK_CODED_INT8) }

  /// Codes of `count` floats under one scale: x / scale, a float32 division, rounded to the nearest whole number, ties
  /// to the even one, saturated at ±127, in two's complement. `scale` must be positive and finite, the floats finite.
  package func encode(
    _ row: UnsafePointer<Float>, count: Int, scale: Float, into out: UnsafeMutablePointer<UInt8>
  ) {
    // SAFETY: `row` must hold `count` floats, `out` have room for as many bytes, apart from each other.
    out.withMemoryRebound(to: Int8.self, capacity: count) { sk_encode_int8(row, scale, $0, count) }
  }
}
