// MXFP4 has two orders: the hub's (codes and scales apart, column 2j in the low nibble of byte j) and GGUF's (the scale
// before its 16 bytes, columns j and j + 16 in byte j). The codes and scales are the same bits, so that one becomes the other
// without a number in between. Formats/encodings.md, sections 10 and 16.

internal import CKernels
package import SmeltStorage

extension Weight {
  /// Rows of an `mxfp4` weight as blocks of `mxfp4.gguf`: 17 bytes for each 32 columns. The same numbers, but that
  /// GGUF's code 8 is +0.
  package func repackMXFP4ForGGUF(rows: Range<Int>, into out: UnsafeMutablePointer<UInt8>) {
    precondition(encoding is FP4, "\(encoding.name) is not mxfp4")
    // SAFETY: `out` must have room for 17 bytes a group. Codes and scales of the rows lie inside their parts, since the rows lie
    // inside the weight and its layout is `mxfp4`'s.
    requireInside(rows, 0..<columns)
    let groups = columns / FP4.group
    guard groups > 0, !rows.isEmpty else { return }
    values.bytes.withUnsafeBytes { codes in
      parts[1].bytes.withUnsafeBytes { scales in
        let codes = codes.bindMemory(to: UInt8.self).baseAddress! + rows.lowerBound * groups * 16
        let scales = scales.bindMemory(to: UInt8.self).baseAddress! + rows.lowerBound * groups
        sk_mxfp4_to_gguf(codes, scales, out, rows.count * groups)
      }
    }
  }

  /// A weight in `mxfp4.gguf` as one in `mxfp4`.
  /// - Throws: never for a weight whose encoding is `mxfp4.gguf`.
  package func repackedMXFP4FromGGUF() throws(FormatError) -> Weight {
    precondition(encoding as? GGUFBlock == GGUFBlock(.mxfp4), "\(encoding.name) is not mxfp4.gguf")
    let groups = rows * columns / FP4.group
    // SAFETY: blocks have 17 bytes a group by their layout; each buffer has a group's 16 bytes, or one, for every group.
    let (codes, scales) = (ByteBuffer(count: groups * 16), ByteBuffer(count: groups))
    values.bytes.withUnsafeBytes { blocks in
      guard let blocks = blocks.bindMemory(to: UInt8.self).baseAddress, groups > 0 else { return }
      sk_mxfp4_from_gguf(
        blocks, codes.bytes.baseAddress!.assumingMemoryBound(to: UInt8.self),
        scales.bytes.baseAddress!.assumingMemoryBound(to: UInt8.self), groups)
    }
    let layout = try FP4.mxfp4.layout(of: shape, name: name)
    return try Weight(
      name: name, shape: shape, encoding: FP4.mxfp4,
      parts: zip(layout, [codes, scales]).map {
        Part($0.name, dtype: $0.dtypes[$0.name == .values ? 1 : 0], shape: $0.shape, bytes: Bytes($1))
      }, file: file)
  }
}
