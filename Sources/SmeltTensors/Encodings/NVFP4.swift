// 4-bit floats with an 8-bit float scale for each 16 columns and one float for all of them. Formats/encodings.md,
// sections 6 and 14.

internal import CKernels
package import SmeltStorage

/// FP4 E2M1 codes in hub order times an E4M3 scale for each group of 16 columns and one global scale. The global scale
/// multiplies the group's in `nvfp4` and divides it in `nvfp4.divided`: the two published conventions, which do not round
/// alike and so are not made into one.
package struct NVFP4: Encoding, Hashable {
  /// value = code × (scale × global scale): `nvfp4`.
  package static let multiplied = NVFP4(isDivided: false)
  /// value = code × (scale / global scale): `nvfp4.divided`.
  package static let divided = NVFP4(isDivided: true)

  /// Columns that share a scale.
  package static let group = 16

  /// Whether group scales are divided by the global one.
  package let isDivided: Bool

  /// The stable name.
  package var name: String { isDivided ? "nvfp4.divided" : "nvfp4" }

  /// Two codes share a byte.
  package var isPacked: Bool { true }

  private init(isDivided: Bool) { self.isDivided = isDivided }

  /// Three parts: bytes of half the weight's columns, scales [rows, columns / 16], one global scale.
  /// - Throws: `Q_PACK` when the columns are not a multiple of 16.
  package func layout(of shape: Shape, name: String) throws(FormatError) -> [PartLayout] {
    guard shape.rank > 0, shape.columns % NVFP4.group == 0 else {
      throw FormatError(
        .packed, subject: name,
        "has \(shape.columns) columns, expected a multiple of \(NVFP4.group) for \(self.name)")
    }
    return [
      PartLayout(
        .values, dtypes: [.u8, .i8], shape: Shape(shape.dimensions.dropLast() + [shape.columns / 2])),
      PartLayout(.scales, dtypes: [.f8E4M3], shape: [shape.rows, shape.columns / NVFP4.group]),
      PartLayout(.globalScale, dtypes: [.f32], shape: [1]),
    ]
  }

  /// Every code is a number. A group's scale may be zero, since E4M3 underflows where a group is far smaller than the
  /// rest; NaN and negative ones are refused, and a global scale that is not a positive finite number.
  package func validate(_ weight: Weight) throws(FormatError) {
    let global = globalScale(weight)
    guard global > 0, global.isFinite else {
      throw FormatError(
        .scaleValue, file: weight.file, subject: weight.name,
        "the global scale is \(shown(global)), expected a positive finite number")
    }
    let groups = weight.columns / NVFP4.group
    var largest: UInt8 = 0
    let bad: (index: Int, code: UInt8)? = weight.parts[1].bytes.withUnsafeBytes { bytes in
      for (index, code) in bytes.enumerated() {
        if code > 0x7E { return (index, code) }
        largest = max(largest, code)
      }
      return nil
    }
    if let bad {
      let what = bad.code & 0x7F == 0x7F ? "NaN" : "\(E4M3Table.number(bad.code))"
      throw FormatError(
        .scaleValue, file: weight.file, subject: weight.name,
        "scale [\(bad.index / groups), \(bad.index % groups)] is \(what), expected a number from 0 to 448")
    }
    let table = E4M3Table(global, isDivided)
    let top = table[largest]
    guard (top * FP4.largest).isFinite else {
      throw FormatError(
        .scaleValue, file: weight.file, subject: weight.name,
        "the largest scale is \(shown(top)), which makes numbers infinite")
    }
  }

  /// Code × (scale × global), or code × (scale / global): two roundings, in this order, to float32.
  /// `columns.lowerBound` must be a multiple of 16.
  package func decode(
    _ weight: Weight, rows: Range<Int>, columns: Range<Int>, into out: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    // SAFETY: the layout gives a row `columns / 2` bytes of codes and `columns / 16` scales; a scale's byte is an index below 256.
    weight.requireInside(rows, columns)
    precondition(
      columns.lowerBound % NVFP4.group == 0, "columns start at \(columns.lowerBound), inside a group")
    guard !columns.isEmpty else { return }
    let bytesPerRow = weight.columns / 2
    let groups = weight.columns / NVFP4.group
    let table = E4M3Table(globalScale(weight), isDivided)
    weight.values.bytes.withUnsafeBytes { codeBytes in
      weight.parts[1].bytes.withUnsafeBytes { scaleBytes in
        guard let codes = codeBytes.bindMemory(to: UInt8.self).baseAddress else { return }
        for row in rows {
          let target = out + (row - rows.lowerBound) * stride
          for start in Swift.stride(from: columns.lowerBound, to: columns.upperBound, by: NVFP4.group) {
            sk_decode_e2m1(
              codes + row * bytesPerRow + start / 2, table[scaleBytes[row * groups + start / NVFP4.group]],
              target + (start - columns.lowerBound), min(NVFP4.group, columns.upperBound - start))
          }
        }
      }
    }
  }

  /// Two codes a byte, a scale for each group, and the one of all.
  package func coded(_ weight: Weight) -> CodedRows? {
    var rows = CodedRows(
      weight, SK_CODED_E2M1, rowBytes: weight.columns / 2, .block(columns: NVFP4.group))
    rows?.setGlobal(globalScale(weight), divides: isDivided)
    return rows
  }

  func globalScale(_ weight: Weight) -> Float {
    // SAFETY: four bytes, as the layout asks
    weight.parts[2].bytes.withUnsafeBytes {
      Float(bitPattern: UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)))
    }
  }
}

/// What each of the 256 scale codes comes to under one global scale.
struct E4M3Table {
  private let values: [Float]

  init(_ global: Float, _ isDivided: Bool) {
    var codes = [UInt8](0...255)
    codes[0x7F] = 0  // no numbers; validated weights have none
    codes[0xFF] = 0
    var scales = [Float](repeating: 0, count: 256)
    sk_decode_e4m3(codes, 1, &scales, 256)
    values = scales.map { isDivided ? $0 / global : $0 * global }
  }

  subscript(code: UInt8) -> Float { values[Int(code)] }

  /// The number of one code, which is not NaN.
  static func number(_ code: UInt8) -> Float {
    var (code, number): (UInt8, Float) = (code, 0)
    sk_decode_e4m3(&code, 1, &number, 1)
    return number
  }
}
