// The numbers that the codes of GGUF's blocks can stand for. Formats/encodings.md, sections 15 to 21.

internal import SmeltStorage

extension GGUFBlock {
  /// Types whose codes stand for several numbers at once have no grid.
  package var hasGrid: Bool {
    switch kind {
    case .iq1_s, .iq1_m, .iq2_xxs, .iq2_xs, .iq2_s, .iq3_xxs, .iq3_s: false
    default: true
    }
  }

  /// The runs of each block that share a scale.
  package func grids(_ weight: Weight, row: Int, _ body: (Range<Int>, CodeGrid) -> Void) {
    // SAFETY: `row` must be one of the weight's rows; each block is read within its `bytes` bytes.
    guard hasGrid else { return }
    let blocks = weight.columns / elements
    weight.values.bytes.withUnsafeBytes { bytes in
      guard let base = bytes.bindMemory(to: UInt8.self).baseAddress else { return }
      for index in 0..<blocks {
        let first = index * elements
        grids(base + (row * blocks + index) * self.bytes) { columns, grid in
          body(first + columns.lowerBound..<first + columns.upperBound, grid)
        }
      }
    }
  }

  private func grids(_ block: UnsafePointer<UInt8>, _ body: (Range<Int>, CodeGrid) -> Void) {
    /// Whole numbers under the block's F16 scale, and under its F16 least value where it has one.
    func whole(_ low: Float, _ high: Float, least: Float = 0, reach: Float? = nil) {
      let scale = half(block)
      let ends = (scale * low + least, scale * high + least)
      body(
        0..<elements,
        .even(
          step: scale, ends.0, ends.1, slack: slack(max(low.magnitude, high.magnitude), scale, least),
          reach: reach.map { $0 * scale.magnitude }))
    }
    switch kind {
    case .q8_0, .q8_1: whole(-127, 127)
    case .q8_k:
      let scale = single(block)
      body(0..<elements, .even(step: scale, -128 * scale, 127 * scale))
    case .q4_0: whole(-8, 7)
    case .q5_0: whole(-16, 15)
    case .q4_1: whole(0, 15, least: half(block + 2))
    case .q5_1: whole(0, 31, least: half(block + 2))
    case .q2_0: whole(-1, 2)
    case .q1_0:
      // The scale is the mean magnitude of 128 numbers: one of them may be all of it.
      let scale = half(block)
      body(
        0..<elements,
        .even(step: 2 * scale, -scale, scale, slack: slack(1, scale, 0), reach: 128 * scale.magnitude))
    case .tq1_0, .tq2_0:
      let scale = half(block + (kind == .tq1_0 ? 52 : 64))
      body(0..<elements, .even(step: scale, -scale, scale, slack: slack(1, scale, 0)))
    case .iq4_nl: table(half(block), 0..<elements, unit: 0, body)
    case .mxfp4: body(0..<elements, .e2m1(E8M0.value(block[0])))
    case .nvfp4:
      for group in 0..<4 {
        let scale = E4M3Table.number(block[group])
        body(group * 16..<group * 16 + 16, .e2m1(scale, reach: reachOfNVFP4(scale)))
      }
    default: superBlock(block, body)
    }
  }

  /// A group's scale is at least 2⁻⁹ × 6, below which it is zero.
  private func reachOfNVFP4(_ scale: Float) -> Float { max(6 * 0x1p-9, 2 * FP4.largest * scale) }

  /// Scales become F16 after the codes were chosen: half an F16's step of them, for the largest code.
  private func slack(_ largest: Float, _ scale: Float, _ least: Float) -> Float {
    func step(_ x: Float) -> Float { max(x.magnitude * 0x1p-10, 0x1p-24) }
    return largest * step(scale) + (least == 0 ? 0 : step(least))
  }

  /// Codes of iq4_nl under a scale.
  private func table(
    _ scale: Float, _ columns: Range<Int>, unit: Float, _ body: (Range<Int>, CodeGrid) -> Void
  ) {
    let reach = 127 * (2 * scale.magnitude + 2 * unit)
    body(
      columns,
      CodeGrid(
        spacing: .table(GGUFBlockScales.nonlinear, scale: scale), slack: 127 * max(0x1p-24, scale * 0x1p-20),
        reach: reach))
  }

  /// Groups whose scales are small whole numbers times the block's: one of them too few is what a group far smaller than
  /// the block's largest may lack.
  private func superBlock(_ block: UnsafePointer<UInt8>, _ body: (Range<Int>, CodeGrid) -> Void) {
    func group(
      _ columns: Range<Int>, _ scale: Float, _ low: Float, _ high: Float, least: Float = 0, unit: Float,
      leastUnit: Float = 0
    ) {
      let (from, to) = (scale * low - least, scale * high - least)
      let room = max(low.magnitude, high.magnitude) * 2 * unit.magnitude + 2 * leastUnit.magnitude
      body(
        columns,
        .even(
          step: scale, from, to,
          slack: max(abs(from), abs(to)) * 0x1p-20 + 0x1p-24 * max(low.magnitude, high.magnitude),
          reach: abs(to - from) + room))
    }
    switch kind {
    case .q2_k:
      let (scale, least) = (half(block + 80), half(block + 82))
      for index in 0..<16 {
        group(
          index * 16..<index * 16 + 16, scale * Float(block[index] & 15), 0, 3,
          least: least * Float(block[index] >> 4), unit: scale, leastUnit: least)
      }
    case .q3_k:
      let scale = half(block + 108)
      for index in 0..<16 {
        group(
          index * 16..<index * 16 + 16, scale * GGUFBlockScales.scaleOfQ3K(block + 96, index), -4, 3,
          unit: scale)
      }
    case .q4_k, .q5_k:
      let (scale, least) = (half(block), half(block + 2))
      for index in 0..<8 {
        let six = GGUFBlockScales.sixBits(block + 4, index)
        group(
          index * 32..<index * 32 + 32, scale * six.scale, 0, kind == .q4_k ? 15 : 31,
          least: least * six.least, unit: scale, leastUnit: least)
      }
    case .q6_k:
      let scale = half(block + 208)
      for index in 0..<16 {
        group(
          index * 16..<index * 16 + 16, scale * Float(Int8(bitPattern: block[192 + index])), -32, 31,
          unit: scale)
      }
    case .iq4_xs:
      let scale = half(block)
      for index in 0..<8 {
        let own = scale * GGUFBlockScales.scaleOfIQ4XS(block, index)
        table(own, index * 32..<index * 32 + 32, unit: scale.magnitude, body)
      }
    default: preconditionFailure("\(name) has no groups")
    }
  }
}
