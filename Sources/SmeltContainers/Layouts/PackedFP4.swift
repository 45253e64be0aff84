// DeepSeek V4's experts: two FP4 codes a byte beside E8M0 scales.

internal import SmeltStorage
internal import SmeltTensors

/// `X.weight` I8, U8 or F4 [out, in / 2] (F4: [out, in]) with `X.scale` F8_E8M0 or U8 [out, in / 32]: `mxfp4` as it lies.
/// Formats/layouts.md, section 5.
struct PackedFP4: Layout {
  let name = "fp4"

  func codes(
    of place: Spelling, plain: TensorInfo?, in source: any TensorSource, _ config: QuantizationConfig
  ) -> TensorInfo? {
    guard let plain, [.i8, .u8, .f4].contains(plain.dtype) else { return nil }
    return plain
  }

  func shape(of codes: TensorInfo, module: String, in source: any TensorSource) -> Shape? {
    codes.dtype == .f4 ? codes.shape : codes.shape.widened(2)
  }

  func declare(_ weight: DeclaredWeight) -> [DeclaredTensor]? {
    guard weight.encoding is FP4, !weight.isStack else { return nil }
    return weight.besideScales()
  }

  func join(_ context: JoinContext) throws -> JoinedWeight {
    let (codes, shape) = (context.codes, context.shape)
    let scale = try context.scale()
    guard context.place.isWhole else { throw context.unsupportedRows() }
    let packed = Shape(shape.dimensions.dropLast() + [shape.columns / 2])
    let values =
      codes.dtype == .f4 && codes.shape == shape
      ? context.whole(.values, codes, packed, dtype: .u8) : context.whole(.values, codes, codes.shape)
    return try context.lent(FP4.mxfp4, values, context.whole(.scales, scale, scale.shape))
  }
}
