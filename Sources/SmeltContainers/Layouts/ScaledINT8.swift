// INT8 codes beside float scales where no configuration speaks: what compressed-tensors writes, without its config.json.

internal import SmeltStorage
internal import SmeltTensors

/// `X.weight` I8 [out, in] with `X.weight_scale` F32, BF16 or F16 [out, 1] or [out], and no `quant_method`: `int8.channel`. Packed
/// FP4, which is I8 too, never has float scales. Formats/layouts.md, section 5.
struct ScaledINT8: Layout {
  let name = "int8"

  func codes(
    of place: Spelling, plain: TensorInfo?, in source: any TensorSource, _ config: QuantizationConfig
  ) -> TensorInfo? {
    guard config.method == nil, let tensor = plain, tensor.dtype == .i8,
      let scale = source.tensor("\(place.tensor)_scale"), [.f32, .bf16, .f16].contains(scale.dtype)
    else { return nil }
    return tensor
  }

  func join(_ context: JoinContext) throws -> JoinedWeight {
    let (codes, shape) = (context.codes, context.shape)
    let scale = try context.sibling("\(codes.name)_scale")
    try context.requireWhole()
    try context.require(scale, [.f32, .bf16, .f16], [shape.rows, 1], [shape.rows])
    return try context.lent(
      INT8.channel, context.whole(.values, codes, codes.shape),
      context.whole(.scales, scale, [shape.rows]))
  }
}
