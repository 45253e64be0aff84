// gpt-oss: experts' matrices as blocks of 32 FP4 codes, output channels first, all experts stacked.

internal import SmeltStorage
internal import SmeltTensors

/// `X_blocks` U8 [stack, out, in / 32, 16] and `X_scales` U8 [stack, out, in / 32]: byte j of a block holds columns 2j (low
/// nibble) and 2j + 1, the scale is 2^(s - 127). The blocks of a row follow each other, so that a row's bytes are
/// `mxfp4`'s. The plain spelling's `transposed` does not apply. Formats/layouts.md, section 3.
struct MXFP4Blocks: Layout {
  let name = "mxfp4-blocks"

  func codes(
    of place: Spelling, plain: TensorInfo?, in source: any TensorSource, _ config: QuantizationConfig
  ) -> TensorInfo? {
    source.mayHold(ending: "_blocks") ? source.tensor(place.tensor + "_blocks") : nil
  }

  func shape(of codes: TensorInfo, module: String, in source: any TensorSource) -> Shape? {
    let stored = codes.shape.dimensions
    guard stored.count >= 3 else { return nil }
    return [stored[stored.count - 3], stored[stored.count - 2] * FP4.group]
  }

  func declare(_ weight: DeclaredWeight) -> [DeclaredTensor]? {
    guard weight.encoding is FP4, weight.isStack else { return nil }
    return weight.parts.map { part in
      let isCodes = part.name == .values
      let groups = Shape(
        part.shape.dimensions.dropLast() + [weight.shape.columns / FP4.group, FP4.group / 2])
      return DeclaredTensor(
        name: weight.tensor + (isCodes ? "_blocks" : "_scales"), dtype: .u8,
        shape: isCodes ? groups : part.shape)
    }
  }

  func join(_ context: JoinContext) throws -> JoinedWeight {
    let (blocks, config) = (context.codes, context.config)
    guard config.method == "mxfp4" else {
      throw context.refuse(
        .quantConfig,
        "is FP4 in blocks, but '\(config.file)' says \(config.method.map { "'\($0)'" } ?? "nothing"), expected 'mxfp4'"
      )
    }
    let scales = try context.sibling(context.place.tensor + "_scales")
    let stored = blocks.shape.dimensions
    guard blocks.dtype == .u8, stored.count >= 3, stored.last == FP4.group / 2 else {
      throw context.refuse(
        .packed,
        "is \(blocks.dtype) \(blocks.shape), expected U8 […, output channels, groups, \(FP4.group / 2)]")
    }
    try context.require(scales, [.u8, .f8E8M0], Shape(Array(stored.dropLast())))
    let place = context.place.untransposed
    let shape = context.shape
    let rowBytes = Shape(stored.dropLast(2) + [stored[stored.count - 2] * FP4.group / 2])
    let groups = shape.columns / FP4.group
    guard shape.rank == 2, shape.columns % FP4.group == 0,
      let codeCut = RowCut(place, of: rowBytes, wanted: [shape.rows, shape.columns / 2]),
      let scaleCut = RowCut(place, of: scales.shape, wanted: [shape.rows, groups])
    else {
      throw context.refuse(
        .configShape, "is \(blocks.shape), which has no \(shape) \(place.description)")
    }
    let (codeBytes, scaleBytes) = (codeCut.bytes(of: blocks), scaleCut.bytes(of: scales))
    let shares = [codeCut.share(of: blocks), scaleCut.share(of: scales)]
    @Sendable func parts(_ codes: Bytes, _ factors: Bytes) -> [Part] {
      [
        Part(.values, dtype: .u8, shape: [shape.rows, shape.columns / 2], bytes: codes),
        Part(.scales, dtype: scales.dtype, shape: [shape.rows, groups], bytes: factors),
      ]
    }
    if codeCut.isContiguous && scaleCut.isContiguous {
      return try context.lent(FP4.mxfp4, parts(codeBytes, scaleBytes), from: shares)
    }
    return try context.built(FP4.mxfp4, dtypes: [.values: .u8, .scales: scales.dtype], from: shares) {
      parts(
        codeCut.gather(codeBytes, elementBytes: 1), scaleCut.gather(scaleBytes, elementBytes: 1))
    }
  }
}

extension Spelling {
  /// The same rows of a tensor that keeps output channels first.
  var untransposed: Spelling {
    Spelling(tensor, stackIndex: stackIndex, rows: rows, rowStride: rowStride, rowPhase: rowPhase)
  }
}
