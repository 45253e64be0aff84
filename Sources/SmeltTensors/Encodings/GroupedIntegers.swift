// Integer codes whose scales, and zero points if there are any, belong to the weight, an output channel, or a group of
// input channels: what INT8 and 4-bit checkpoints hold. Formats/encodings.md, sections 12 and 13.

internal import CKernels
package import SmeltStorage

/// Integers in 4 or 8 bits times scales: `int4.group128`, `int8.tensor` and their kin. A zero point for each scale adds
/// `.zero` to the name, groups that are no runs of columns add `.indexed`. `int8.channel` without either is `INT8`.
package struct GroupedIntegers: Encoding, Hashable {
  /// Bits of a code.
  package enum Width: Int, Sendable, Hashable, CaseIterable {
    /// Two codes a byte, low nibble first, 0…15; 8 stands for zero where there are no zero points.
    case four = 4
    /// Two's complement; 0 stands for zero where there are no zero points.
    case eight = 8
  }

  /// Which codes share a scale.
  package enum Granularity: Sendable, Hashable {
    /// All of them; one scale, shape [1].
    case tensor
    /// Those of an output channel; scales [rows].
    case channel
    /// Those of a row's run of columns of this length, the last one as long as what is left; scales
    /// [rows, ⌈columns / length⌉].
    case group(Int)
  }

  /// The lengths of groups there are.
  package static let groupSizes = 1...65_536

  /// Bits of a code.
  package let width: Width
  /// Which codes share a scale.
  package let granularity: Granularity
  /// Whether each scale has a zero point.
  package let hasZeroPoints: Bool
  /// Whether a table says which group a column belongs to.
  package let isIndexed: Bool

  /// An encoding, or nil for those that do not exist: group lengths out of range, indexed ones without groups, and
  /// `int8.channel`, which is `INT8`.
  package init?(
    _ width: Width, _ granularity: Granularity, hasZeroPoints: Bool = false, isIndexed: Bool = false
  ) {
    if case .group(let size) = granularity {
      guard GroupedIntegers.groupSizes.contains(size) else { return nil }
    } else if isIndexed {
      return nil
    }
    if width == .eight, granularity == .channel, !hasZeroPoints { return nil }
    self.width = width
    self.granularity = granularity
    self.hasZeroPoints = hasZeroPoints
    self.isIndexed = isIndexed
  }

  /// Those that the list of encodings shows; group lengths are part of the name.
  static let usual: [GroupedIntegers] = [
    GroupedIntegers(.eight, .tensor), GroupedIntegers(.eight, .group(128)),
    GroupedIntegers(.four, .channel), GroupedIntegers(.four, .group(128)),
    GroupedIntegers(.four, .group(128), hasZeroPoints: true),
    GroupedIntegers(.four, .group(128), hasZeroPoints: true, isIndexed: true),
  ].compactMap { $0 }

  /// The stable name, for example `int4.group128.zero`.
  package var name: String {
    let part =
      switch granularity {
      case .tensor: "tensor"
      case .channel: "channel"
      case .group(let size): "group\(size)"
      }
    return "int\(width.rawValue).\(part)" + (hasZeroPoints ? ".zero" : "") + (isIndexed ? ".indexed" : "")
  }

  /// The encoding of a name as `name` spells it, or nil.
  static func named(_ name: String) -> GroupedIntegers? {
    let words = name.split(separator: ".", omittingEmptySubsequences: false)
    guard words.count >= 2, let width = Width.allCases.first(where: { "int\($0.rawValue)" == words[0] })
    else {
      return nil
    }
    let granularity: Granularity
    switch words[1] {
    case "tensor": granularity = .tensor
    case "channel": granularity = .channel
    default:
      guard words[1].hasPrefix("group"), let size = Int(words[1].dropFirst("group".count)) else { return nil }
      granularity = .group(size)
    }
    let encoding = GroupedIntegers(
      width, granularity, hasZeroPoints: words.contains("zero"), isIndexed: words.contains("indexed"))
    return encoding?.name == name ? encoding : nil  // one spelling: no "group0128", no other order
  }

  /// Two codes share a byte when they have four bits.
  package var isPacked: Bool { width == .four }

  /// Columns of a group: all of them where there are no groups.
  func groupColumns(_ shape: Shape) -> Int {
    if case .group(let size) = granularity { return size }
    return max(1, shape.columns)
  }

  /// Two to four parts: codes, scales, zero points of the scales' shape, and the group of each column.
  /// - Throws: `Q_PACK` when 4-bit codes have an odd number of columns.
  package func layout(of shape: Shape, name: String) throws(FormatError) -> [PartLayout] {
    var codes = shape
    if width == .four {
      guard shape.rank > 0, shape.columns % 2 == 0 else {
        throw FormatError(
          .packed, subject: name, "has \(shape.columns) columns, expected an even number for \(self.name)")
      }
      codes = Shape(shape.dimensions.dropLast() + [shape.columns / 2])
    }
    let scales: Shape =
      switch granularity {
      case .tensor: [1]
      case .channel: [shape.rows]
      case .group(let size): [shape.rows, ceilDivide(shape.columns, size)]
      }
    let codeType: DType = width == .four ? .u8 : .i8
    var parts = [
      PartLayout(.values, dtypes: [codeType], shape: codes),
      PartLayout(.scales, dtypes: Scales.floats, shape: scales),
    ]
    if hasZeroPoints { parts.append(PartLayout(.zeroPoints, dtypes: [codeType], shape: scales)) }
    if isIndexed { parts.append(PartLayout(.groupIndex, dtypes: [.i32], shape: [shape.columns])) }
    return parts
  }

  /// Every code is a number. Scales that are not a positive finite number, 4-bit zero points above 15 and columns of
  /// groups that do not exist are refused.
  package func validate(_ weight: Weight) throws(FormatError) {
    try weight.validateScales(largestCode: width == .four ? 15 : 255)
    if width == .four, let zeros = weight.part(.zeroPoints) {
      let bad = zeros.bytes.withUnsafeBytes { bytes in bytes.firstIndex { $0 > 15 }.map { ($0, bytes[$0]) } }
      if let (index, value) = bad {
        throw FormatError(
          .scaleValue, file: weight.file, subject: weight.name,
          "zero point \(index) is \(value), expected 0 to 15")
      }
    }
    guard let index = weight.part(.groupIndex) else { return }
    let groups = weight.parts[1].shape.columns
    let bad = GroupedIntegers.indices(index).enumerated().first { !(0..<groups).contains($1) }
    if let bad {
      throw FormatError(
        .scaleShape, file: weight.file, subject: weight.name,
        "column \(bad.offset) is in group \(bad.element), expected one of \(groups) groups")
    }
  }

  /// (code − zero point) × scale: the difference is exact, the product rounded once, to float32.
  package func decode(
    _ weight: Weight, rows: Range<Int>, columns: Range<Int>, into out: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    // SAFETY: codes, scales and zero points have the shapes that the layout asks for. The one index that a file brings, a column's
    // group, is held against the number of groups here too, since reading a scale beyond them would go unnoticed.
    weight.requireInside(rows, columns)
    guard !columns.isEmpty else { return }
    let size = groupColumns(weight.shape)
    let groups = ceilDivide(weight.columns, size)
    let index = weight.part(.groupIndex).map { GroupedIntegers.indices($0) }
    if let index {
      precondition(
        index[columns].allSatisfy { $0 >= 0 && $0 < groups }, "'\(weight.name)' has columns of no group")
    }
    let bytesPerRow = width == .four ? weight.columns / 2 : weight.columns
    weight.withCodesAndScales { codes, scales in
      let zeros = weight.part(.zeroPoints)
      func decode(_ row: Int, _ range: Range<Int>, group: Int, _ target: UnsafeMutablePointer<Float>) {
        let place = granularity == .tensor ? 0 : row * groups + group
        let zero = zeroPoint(zeros, place)
        let source = codes + row * bytesPerRow
        if width == .eight {
          let signed = UnsafeRawPointer(source + range.lowerBound).assumingMemoryBound(to: Int8.self)
          sk_decode_int8_zero(signed, zero, scales[place], target, range.count)
        } else {
          var start = range.lowerBound
          if start % 2 == 1 {  // a group that begins inside a byte
            target[0] = (Float(source[start / 2] >> 4) - zero) * scales[place]
            start += 1
          }
          sk_decode_int4(
            source + start / 2, zero, scales[place], target + (start - range.lowerBound),
            range.upperBound - start)
        }
      }
      for row in rows {
        let target = out + (row - rows.lowerBound) * stride
        var start = columns.lowerBound
        while start < columns.upperBound {
          let group = index.map { $0[start] } ?? start / size
          let end = index == nil ? min(columns.upperBound, (group + 1) * size) : start + 1
          decode(row, start..<end, group: group, target + (start - columns.lowerBound))
          start = end
        }
      }
    }
  }

  /// Codes with the scales of their granularity; groups that 16 does not divide, or that are no runs of columns, are decoded.
  package func coded(_ weight: Weight) -> CodedRows? {
    guard !isIndexed else { return nil }
    let groups: CodedRows.Groups =
      switch granularity {
      case .tensor: .tensor
      case .channel: .channel
      case .group(let size): .block(columns: size)
      }
    var rows =
      width == .four
      ? CodedRows(weight, SK_CODED_INT4, rowBytes: weight.columns / 2, groups)
      : CodedRows(weight, SK_CODED_INT8, rowBytes: weight.columns, groups)
    if let zeros = weight.part(.zeroPoints) { rows?.setZeroPoints(zeros) }
    return rows
  }

  func zeroPoint(_ zeros: Part?, _ place: Int) -> Float {
    guard let zeros, zeros.bytes.count > 0 else { return width == .four ? 8 : 0 }
    return zeros.bytes.withUnsafeBytes { bytes in
      // SAFETY: zero points have the scales' shape, one byte each; `place` is that of a scale.
      width == .four ? Float(bytes[place]) : Float(Int8(bitPattern: bytes[place]))
    }
  }

  /// The group of each column.
  static func indices(_ part: Part) -> [Int] {
    // SAFETY: four bytes for each element of the shape, as `Weight.init` checked
    part.bytes.withUnsafeBytes { bytes in
      (0..<part.shape.count).map {
        Int(Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Int32.self)))
      }
    }
  }
}
