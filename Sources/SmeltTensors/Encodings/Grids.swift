// The numbers that codes can stand for, encoding by encoding, as `CodeGrid` has them. Formats/encodings.md has the formulas.
//
// SAFETY: `row` must be one of the weight's rows, and the weight a valid one: scales are read at places that follow from it and
// from the layout (`Scales`), through addresses that are lent for the loop.

internal import SmeltStorage

extension Plain {
  /// All floats of the type.
  package func grids(_ weight: Weight, row: Int, _ body: (Range<Int>, CodeGrid) -> Void) {
    switch dtype {
    case .bf16:
      body(
        0..<weight.columns,
        .binary(scale: 1, mantissa: 7, least: .leastNormalMagnitude, most: Float(bitPattern: 0x7F7F_0000)))
    case .f16: body(0..<weight.columns, .binary(scale: 1, mantissa: 10, least: 0x1p-14, most: 65_504))
    default:  // every float32
      body(0..<weight.columns, .even(step: 0, -.greatestFiniteMagnitude, .greatestFiniteMagnitude))
    }
  }
}

extension IntegerTable {
  /// Whole numbers are never rounded.
  package func grids(_ weight: Weight, row: Int, _ body: (Range<Int>, CodeGrid) -> Void) {
    body(0..<weight.columns, .even(step: 0, -.greatestFiniteMagnitude, .greatestFiniteMagnitude))
  }
}

extension FP8 {
  /// Floats of eight bits times each scale.
  package func grids(_ weight: Weight, row: Int, _ body: (Range<Int>, CodeGrid) -> Void) {
    let width = weight.columns
    func grid(_ scale: Float) -> CodeGrid { format == .e4m3 ? .e4m3(scale) : .e5m2(scale) }
    weight.withCodesAndScales { _, scales in
      switch granularity {
      case .tensor: body(0..<width, grid(scales[0]))
      case .channel: body(0..<width, grid(scales[row]))
      case .block(let blockRows, let blockColumns):
        let first = row / blockRows * ceilDivide(width, blockColumns)
        for block in 0..<ceilDivide(width, blockColumns) {
          body(
            block * blockColumns..<min(width, (block + 1) * blockColumns), grid(scales[first + block]))
        }
      }
    }
  }
}

extension INT8 {
  /// Whole numbers to ±127 times the row's scale.
  package func grids(_ weight: Weight, row: Int, _ body: (Range<Int>, CodeGrid) -> Void) {
    weight.withCodesAndScales { _, scales in
      let scale = scales[row]
      body(0..<weight.columns, .even(step: scale, -INT8.largest * scale, INT8.largest * scale))
    }
  }
}

extension GroupedIntegers {
  /// Whole numbers less the zero point, times each scale.
  package func grids(_ weight: Weight, row: Int, _ body: (Range<Int>, CodeGrid) -> Void) {
    let size = groupColumns(weight.shape)
    let groups = ceilDivide(weight.columns, size)
    let index = weight.part(.groupIndex).map { GroupedIntegers.indices($0) }
    let zeros = weight.part(.zeroPoints)
    weight.withCodesAndScales { _, scales in
      func grid(_ group: Int) -> CodeGrid {
        let place = granularity == .tensor ? 0 : row * groups + group
        let (scale, zero) = (scales[place], zeroPoint(zeros, place))
        // Without zero points -128 is never written.
        let low: Float = width == .four ? 0 : hasZeroPoints ? -128 : -127
        return .even(step: scale, (low - zero) * scale, ((width == .four ? 15 : 127) - zero) * scale)
      }
      if let index {
        for column in 0..<weight.columns { body(column..<column + 1, grid(index[column])) }
      } else {
        for group in 0..<groups {
          body(group * size..<min(weight.columns, (group + 1) * size), grid(group))
        }
      }
    }
  }
}

extension FP4 {
  /// E2M1 times each group's power of two.
  package func grids(_ weight: Weight, row: Int, _ body: (Range<Int>, CodeGrid) -> Void) {
    let groups = weight.columns / FP4.group
    weight.parts[1].bytes.withUnsafeBytes { scales in
      for group in 0..<groups {
        body(
          group * FP4.group..<(group + 1) * FP4.group, .e2m1(E8M0.value(scales[row * groups + group])))
      }
    }
  }
}

extension NVFP4 {
  /// E2M1 times each group's scale and the global one.
  package func grids(_ weight: Weight, row: Int, _ body: (Range<Int>, CodeGrid) -> Void) {
    let groups = weight.columns / NVFP4.group
    let table = E4M3Table(globalScale(weight), isDivided)
    // A group far smaller than the rest has the least scale there is, or none.
    let least = table[1] * FP4.largest
    weight.parts[1].bytes.withUnsafeBytes { scales in
      for group in 0..<groups {
        let scale = table[scales[row * groups + group]]
        body(
          group * NVFP4.group..<(group + 1) * NVFP4.group,
          .e2m1(scale, reach: max(least, 2 * FP4.largest * scale)))
      }
    }
  }
}
