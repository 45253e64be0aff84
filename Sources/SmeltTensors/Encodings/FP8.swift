// 8-bit floats with a scale for the whole weight, for each output channel, or for each block of rows and columns.
// Formats/encodings.md, sections 4, 5 and 8.

internal import CKernels
package import SmeltStorage

/// FP8 codes times scales: `f8_e4m3.tensor`, `.channel`, `.block` and the same of `f8_e5m2`. A block size other
/// than 128 × 128 is part of the name: `f8_e4m3.block32x32`.
package struct FP8: Encoding, Hashable {
  /// How a code's eight bits are read.
  package enum Format: String, Sendable, Hashable, CaseIterable {
    /// 4 exponent bits, bias 7, no infinities, NaN 0x7F and 0xFF. Formats/encodings.md, section 4.
    case e4m3
    /// 5 exponent bits, bias 15, with infinities. Formats/encodings.md, section 5.
    case e5m2

    /// The largest finite magnitude: 448 or 57,344.
    package var largest: Float { self == .e4m3 ? 448 : 57_344 }

    /// The dtype of the codes.
    package var dtype: DType { self == .e4m3 ? .f8E4M3 : .f8E5M2 }
  }

  /// Which codes share a scale.
  package enum Granularity: Sendable, Hashable {
    /// All of them; one scale, shape [1].
    case tensor
    /// Those of an output channel; scales [rows].
    case channel
    /// Those of a block; scales [⌈rows / block rows⌉, ⌈columns / block columns⌉]. Blocks start at row 0 and column
    /// 0 and have this size everywhere but at the lower and right edge.
    case block(rows: Int, columns: Int)

    /// Blocks of 128 × 128, what most FP8 checkpoints have.
    package static let block128 = Granularity.block(rows: 128, columns: 128)

    /// Whether block sizes lie in 1…65,536.
    package var isValid: Bool {
      guard case .block(let rows, let columns) = self else { return true }
      return FP8.blockSizes.contains(rows) && FP8.blockSizes.contains(columns)
    }
  }

  /// The block sizes there are.
  package static let blockSizes = 1...65_536

  // In this order both fit the three words that `any Encoding` holds without memory of its own.
  /// Which codes share a scale.
  package let granularity: Granularity
  /// How a code is read.
  package let format: Format

  /// An encoding; `granularity.isValid` must hold.
  package init(_ format: Format, _ granularity: Granularity) {
    precondition(granularity.isValid, "block sizes lie in 1…65536, found \(granularity)")
    self.format = format
    self.granularity = granularity
  }

  /// The stable name, for example `f8_e4m3.block`.
  package var name: String {
    if granularity == .block128 { return format == .e4m3 ? "f8_e4m3.block" : "f8_e5m2.block" }
    let suffix =
      switch granularity {
      case .tensor: "tensor"
      case .channel: "channel"
      case .block(let rows, let columns): "block\(rows)x\(columns)"
      }
    return "f8_\(format.rawValue).\(suffix)"
  }

  /// The encoding of a name as `name` spells it, or nil.
  static func named(_ name: String) -> FP8? {
    for format in Format.allCases {
      for granularity in [Granularity.tensor, .channel, .block128] {
        let encoding = FP8(format, granularity)
        if encoding.name == name { return encoding }
      }
      let prefix = "f8_\(format.rawValue).block"
      guard name.hasPrefix(prefix) else { continue }
      let sizes = name.dropFirst(prefix.count).split(separator: "x", omittingEmptySubsequences: false)
      guard sizes.count == 2, let rows = Int(sizes[0]), let columns = Int(sizes[1]) else { return nil }
      let granularity = Granularity.block(rows: rows, columns: columns)
      guard granularity.isValid else { return nil }
      let encoding = FP8(format, granularity)
      return encoding.name == name ? encoding : nil  // one spelling: no "+32", "032" or "block128x128"
    }
    return nil
  }

  /// Two parts: codes of the weight's shape, and scales.
  package func layout(of shape: Shape, name: String) -> [PartLayout] {
    let scales: Shape =
      switch granularity {
      case .tensor: [1]
      case .channel: [shape.rows]
      case .block(let rows, let columns): [ceilDivide(shape.rows, rows), ceilDivide(shape.columns, columns)]
      }
    return [
      PartLayout(.values, dtypes: [format.dtype], shape: shape),
      PartLayout(.scales, dtypes: Scales.floatsAndPowers, shape: scales),
    ]
  }

  /// NaN codes, E5M2's infinities, and scales that are not a positive finite number are refused.
  package func validate(_ weight: Weight) throws(FormatError) {
    try weight.validateScales(largestCode: format.largest)
    let count = weight.values.bytes.count
    let bad: (index: Int, code: UInt8)? = weight.values.bytes.withUnsafeBytes { bytes in
      guard let base = bytes.bindMemory(to: UInt8.self).baseAddress else { return nil }
      let index = format == .e4m3 ? sk_find_nan_e4m3(base, count) : sk_find_nan_e5m2(base, count)
      return index < count ? (index, base[index]) : nil
    }
    guard let bad else { return }
    let isInfinite = format == .e5m2 && bad.code & 0x7F == 0x7C
    throw weight.badCode(at: bad.index, bad.code, isInfinite ? "an infinity" : "a NaN")
  }

  /// Code × scale, rounded once, to float32.
  package func decode(
    _ weight: Weight, rows: Range<Int>, columns: Range<Int>, into out: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    // SAFETY: codes have the weight's shape; scales are one, one a row, or one for each started block, as the layout asks, and
    // every index below follows from a row and a column inside the weight.
    weight.requireInside(rows, columns)
    guard !columns.isEmpty else { return }
    let width = weight.columns
    weight.withCodesAndScales { codes, scales in
      for row in rows {
        let source = codes + row * width
        let target = out + (row - rows.lowerBound) * stride
        switch granularity {
        case .tensor: decode(source + columns.lowerBound, scales[0], target, columns.count)
        case .channel: decode(source + columns.lowerBound, scales[row], target, columns.count)
        case .block(let blockRows, let blockColumns):
          let firstScale = row / blockRows * ceilDivide(width, blockColumns)
          var start = columns.lowerBound
          while start < columns.upperBound {
            let block = start / blockColumns
            let end = min(columns.upperBound, (block + 1) * blockColumns)
            decode(
              source + start, scales[firstScale + block], target + (start - columns.lowerBound), end - start)
            start = end
          }
        }
      }
    }
  }

  private func decode(
    _ source: UnsafePointer<UInt8>, _ scale: Float, _ target: UnsafeMutablePointer<Float>, _ count: Int
  ) {
    switch format {
    case .e4m3: sk_decode_e4m3(source, scale, target, count)
    case .e5m2: sk_decode_e5m2(source, scale, target, count)
    }
  }

  /// Codes with the scales of their granularity; blocks of columns that 16 does not divide are decoded.
  package func coded(_ weight: Weight) -> CodedRows? {
    let groups: CodedRows.Groups =
      switch granularity {
      case .tensor: .tensor
      case .channel: .channel
      case .block(let rows, let columns): .block(columns: columns, rows: rows)
      }
    let code = format == .e4m3 ? SK_CODED_E4M3 : SK_CODED_E5M2
    return CodedRows(weight, code, rowBytes: weight.columns, groups)
  }

  /// Codes of `count` floats under one scale: x / scale, a float32 division, rounded to the nearest code, ties to the
  /// even one, saturated at ±`format.largest`. `scale` must be positive and finite; NaN becomes 0x7F.
  package func encode(
    _ row: UnsafePointer<Float>, count: Int, scale: Float, into out: UnsafeMutablePointer<UInt8>
  ) {
    // SAFETY: `row` must hold `count` floats, `out` have room for as many bytes, apart from each other.
    switch format {
    case .e4m3: sk_encode_e4m3(row, scale, out, count)
    case .e5m2: sk_encode_e5m2(row, scale, out, count)
    }
  }
}
