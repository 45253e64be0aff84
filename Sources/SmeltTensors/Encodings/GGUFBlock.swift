// The block types of GGUF as encodings: scales and codes lie together in blocks of a fixed number of columns. What a
// block holds is in decode_blocks.h of CKernels and, where codes are points of a grid, in GGUFGridBlocks.swift. Formats/encodings.md,
// sections 15 to 19.

internal import CKernels
package import SmeltStorage

/// One block type of GGUF. Blocks lie along the columns, the first column's first; a row is a whole number of them.
/// Named as GGUF names its types, in small letters (`q4_k`); where a name is taken it ends in `.gguf` (`mxfp4.gguf`).
package struct GGUFBlock: Encoding, Hashable {
  /// The types.
  package enum Kind: String, Sendable, CaseIterable {
    case q8_0, q4_0, q4_1, q5_0, q5_1, q8_1
    case q1_0, q2_0
    case q2_k, q3_k, q4_k, q5_k, q6_k, q8_k
    case iq4_nl, iq4_xs
    case tq1_0, tq2_0
    case mxfp4 = "mxfp4.gguf"
    case nvfp4 = "nvfp4.gguf"
    case iq1_s, iq1_m, iq2_xxs, iq2_xs, iq2_s, iq3_xxs, iq3_s
  }

  /// The types, in the order of the list.
  package static let all = Kind.allCases.map { GGUFBlock($0) }

  /// Which type.
  package let kind: Kind

  /// The columns that share a block.
  package var elements: Int { size.elements }

  /// The bytes of a block.
  package var bytes: Int { size.bytes }

  /// The type's name.
  package var name: String { kind.rawValue }

  /// Codes share bytes among themselves and blocks with their scales.
  package var isPacked: Bool { true }

  /// One of the types.
  package init(_ kind: Kind) { self.kind = kind }

  /// One part: bytes [leading dimensions, bytes of a row].
  /// - Throws: `Q_PACK` when the columns are not a whole number of blocks.
  package func layout(of shape: Shape, name: String) throws(FormatError) -> [PartLayout] {
    let size = size
    guard shape.rank > 0, shape.columns % size.elements == 0 else {
      throw FormatError(
        .packed, subject: name,
        "has \(shape.columns) columns, expected a multiple of \(size.elements) for \(self.name)")
    }
    let (rowBytes, overflow) = (shape.columns / size.elements).multipliedReportingOverflow(by: size.bytes)
    guard !overflow else {
      throw FormatError(
        .packed, subject: name, "has \(shape.columns) columns, more bytes than can be counted")
    }
    return [PartLayout(.values, dtypes: [.u8], shape: Shape(shape.dimensions.dropLast() + [rowBytes]))]
  }

  /// Every code is a number; a block's scale that is NaN or infinite is refused, and a block with a number that is
  /// infinite. Zero and negative scales are usual.
  /// - Throws: `Q_BLOCK`, naming the first such block.
  package func validate(_ weight: Weight) throws(FormatError) {
    let size = size
    let found: (index: Int, what: String)? = weight.values.bytes.withUnsafeBytes { bytes in
      // SAFETY: whole blocks, as the layout asks; a scale is two bytes inside each.
      guard let base = bytes.bindMemory(to: UInt8.self).baseAddress else { return nil }
      let (count, halves) = (bytes.count / size.bytes, halves)
      let first =
        halves.map { sk_find_nonfinite_scale(base, count, size.bytes, $0) }.min() ?? 0
      for index in first..<count {
        if let what = problem(base + index * size.bytes) { return (index, what) }
      }
      return nil
    }
    guard let found else { return }
    let blocks = weight.columns / size.elements
    throw FormatError(
      .block, file: weight.file, subject: weight.name,
      "row \(found.index / blocks), block \(found.index % blocks) (byte \(found.index * size.bytes) of its values): "
        + found.what)
  }

  /// The formula of the type, each operation rounded to float32 as `Formats/encodings.md` orders them.
  /// `columns.lowerBound` must be a multiple of the columns of a block.
  package func decode(
    _ weight: Weight, rows: Range<Int>, columns: Range<Int>, into out: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    // SAFETY: the layout gives a row `columns / elements` blocks of `bytes` bytes; whole blocks are decoded straight to `out`, the
    // first columns of one more by way of scratch, so that nothing is written beyond the rectangle.
    weight.requireInside(rows, columns)
    let size = size
    precondition(
      columns.lowerBound % size.elements == 0, "columns start at \(columns.lowerBound), inside a block")
    guard !columns.isEmpty else { return }
    let rowBytes = weight.columns / size.elements * size.bytes
    let whole = columns.count / size.elements
    let rest = columns.count % size.elements
    weight.values.bytes.withUnsafeBytes { bytes in
      guard let base = bytes.bindMemory(to: UInt8.self).baseAddress else { return }
      for row in rows {
        var block = base + row * rowBytes + columns.lowerBound / size.elements * size.bytes
        var target = out + (row - rows.lowerBound) * stride
        decodeBlocks(block, whole, target)
        guard rest > 0 else { continue }
        block += whole * size.bytes
        target += whole * size.elements
        withUnsafeTemporaryAllocation(of: Float.self, capacity: size.elements) { last in
          decodeBlocks(block, 1, last.baseAddress!)
          target.update(from: last.baseAddress!, count: rest)
        }
      }
    }
  }

  /// Whole blocks; those whose codes are places in a grid are decoded.
  package func coded(_ weight: Weight) -> CodedRows? {
    guard let code else { return nil }
    return CodedRows(weight, Int(code), rowBytes: weight.columns / elements * bytes)
  }

  /// How the product kernels call the type; nil where codes are places in a grid.
  package var code: Int32? {
    let code =
      switch kind {
      case .q8_0: SK_CODED_Q8_0
      case .q8_1: SK_CODED_Q8_1
      case .q8_k: SK_CODED_Q8_K
      case .q4_0: SK_CODED_Q4_0
      case .q4_1: SK_CODED_Q4_1
      case .q5_0: SK_CODED_Q5_0
      case .q5_1: SK_CODED_Q5_1
      case .q1_0: SK_CODED_Q1_0
      case .q2_0: SK_CODED_Q2_0
      case .q2_k: SK_CODED_Q2_K
      case .q3_k: SK_CODED_Q3_K
      case .q4_k: SK_CODED_Q4_K
      case .q5_k: SK_CODED_Q5_K
      case .q6_k: SK_CODED_Q6_K
      case .iq4_nl: SK_CODED_IQ4_NL
      case .iq4_xs: SK_CODED_IQ4_XS
      case .tq1_0: SK_CODED_TQ1_0
      case .tq2_0: SK_CODED_TQ2_0
      case .mxfp4: SK_CODED_MXFP4
      case .nvfp4: SK_CODED_NVFP4
      case .iq1_s, .iq1_m, .iq2_xxs, .iq2_xs, .iq2_s, .iq3_xxs, .iq3_s: SK_CODED_COUNT
      }
    return code == SK_CODED_COUNT ? nil : Int32(code)
  }

  /// The same for whole numbers, of which `activationBlock` says whether there is a kernel.
  package var integerCode: Int32? { code }

  /// Columns and bytes of a block.
  private var size: (elements: Int, bytes: Int) {
    switch kind {
    case .q8_0: (32, 34)
    case .q4_0, .iq4_nl: (32, 18)
    case .q4_1: (32, 20)
    case .q5_0: (32, 22)
    case .q5_1: (32, 24)
    case .q8_1: (32, 36)
    case .q1_0: (128, 18)
    case .q2_0: (64, 18)
    case .mxfp4: (32, 17)
    case .nvfp4: (64, 36)
    case .q2_k: (256, 84)
    case .q3_k, .iq3_s: (256, 110)
    case .q4_k: (256, 144)
    case .q5_k: (256, 176)
    case .q6_k: (256, 210)
    case .q8_k: (256, 292)
    case .iq4_xs: (256, 136)
    case .tq1_0: (256, 54)
    case .tq2_0, .iq2_xxs: (256, 66)
    case .iq1_s: (256, 50)
    case .iq1_m: (256, 56)
    case .iq2_xs: (256, 74)
    case .iq2_s: (256, 82)
    case .iq3_xxs: (256, 98)
    }
  }

  /// Where a block's F16 scales stand.
  private var halves: [Int] {
    switch kind {
    case .q8_0, .q8_1, .q4_0, .iq4_nl, .q5_0, .q1_0, .q2_0, .iq4_xs: [0]
    case .iq1_s, .iq2_xxs, .iq2_xs, .iq2_s, .iq3_xxs, .iq3_s: [0]
    case .q4_1, .q5_1, .q4_k, .q5_k: [0, 2]
    case .q2_k: [80, 82]
    case .q3_k: [108]
    case .q6_k: [208]
    case .tq1_0: [52]
    case .tq2_0: [64]
    case .q8_k, .mxfp4, .nvfp4, .iq1_m: []
    }
  }

  /// What is wrong with a block, or nil.
  private func problem(_ block: UnsafePointer<UInt8>) -> String? {
    let expected = ", expected a finite number"
    for offset in halves {
      let scale = half(block + offset)
      guard scale.isFinite else { return "the scale at byte \(offset) is \(shown(scale))" + expected }
    }
    switch kind {
    case .iq1_m:
      let scale = GGUFGrids.scaleOfIQ1M(block)
      return scale.isFinite ? nil : "the scale is \(shown(scale))" + expected
    case .mxfp4:
      if block[0] == E8M0.nan { return "the scale is NaN" + expected }
      return block[0] > 252 ? infinity(block) : nil
    case .nvfp4:
      for group in 0..<4 where block[group] > 0x7E {
        return "scale \(group) is 0x\(String(block[group], radix: 16)), expected a number from 0 to 448"
      }
      return nil
    case .q8_k:
      let scale = single(block)
      guard scale.isFinite else { return "the scale is \(shown(scale))" + expected }
      return scale.magnitude > 0x1p120 ? infinity(block) : nil
    default: return nil
    }
  }

  /// The first number of a block that is not finite. Needed only when its scale is so large that a code could overflow.
  private func infinity(_ block: UnsafePointer<UInt8>) -> String? {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: elements) { numbers in
      decodeBlocks(block, 1, numbers.baseAddress!)
      return numbers.firstIndex { !$0.isFinite }.map {
        "code times scale is \(shown(numbers[$0])) in its column \($0), expected a finite float32"
      }
    }
  }

  private func decodeBlocks(_ source: UnsafePointer<UInt8>, _ count: Int, _ out: UnsafeMutablePointer<Float>)
  {
    let size = size
    if let kernel { return kernel(source, out, count * size.elements) }
    guard let decode = gridDecoder else { preconditionFailure("\(name) has no decoder") }
    for index in 0..<count { decode(source + index * size.bytes, out + index * size.elements) }
  }

  /// The kernel that decodes whole blocks: bytes, floats, how many floats.
  private var kernel: ((UnsafePointer<UInt8>?, UnsafeMutablePointer<Float>?, Int) -> Void)? {
    switch kind {
    case .q8_0: sk_decode_q8_0
    case .q8_1: sk_decode_q8_1
    case .q8_k: sk_decode_q8_k
    case .q4_0: sk_decode_q4_0
    case .q4_1: sk_decode_q4_1
    case .q5_0: sk_decode_q5_0
    case .q5_1: sk_decode_q5_1
    case .q1_0: sk_decode_q1_0
    case .q2_0: sk_decode_q2_0
    case .iq4_nl: sk_decode_iq4_nl
    case .mxfp4: sk_decode_mxfp4_gguf
    case .nvfp4: sk_decode_nvfp4_gguf
    case .q2_k: sk_decode_q2_k
    case .q3_k: sk_decode_q3_k
    case .q4_k: sk_decode_q4_k
    case .q5_k: sk_decode_q5_k
    case .q6_k: sk_decode_q6_k
    case .iq4_xs: sk_decode_iq4_xs
    case .tq1_0: sk_decode_tq1_0
    case .tq2_0: sk_decode_tq2_0
    case .iq1_s, .iq1_m, .iq2_xxs, .iq2_xs, .iq2_s, .iq3_xxs, .iq3_s: nil
    }
  }

  /// What decodes one block whose codes are points of a grid.
  private var gridDecoder: ((UnsafePointer<UInt8>, UnsafeMutablePointer<Float>) -> Void)? {
    switch kind {
    case .iq1_s: GGUFGridBlocks.iq1_s
    case .iq1_m: GGUFGridBlocks.iq1_m
    case .iq2_xxs: GGUFGridBlocks.iq2_xxs
    case .iq2_xs: GGUFGridBlocks.iq2_xs
    case .iq2_s: GGUFGridBlocks.iq2_s
    case .iq3_xxs: GGUFGridBlocks.iq3_xxs
    case .iq3_s: GGUFGridBlocks.iq3_s
    default: nil
    }
  }
}

// SAFETY: these four read 2 or 4 bytes at an address that lies inside a block, byte by byte: any alignment.
