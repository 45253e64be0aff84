// NVIDIA ModelOpt's unified checkpoints: FP8 by tensor, channel or block, MXFP8, and NVFP4.

internal import SmeltStorage
internal import SmeltTensors

/// `X.weight` F8_E4M3 with `X.weight_scale`, or U8 [out, in / 2] with E4M3 `X.weight_scale` [out, in / 16] and F32
/// `X.weight_scale_2`. Formats/layouts.md, section 7.
struct ModelOpt: Layout {
  let name = "modelopt"

  func codes(
    of place: Spelling, plain: TensorInfo?, in source: any TensorSource, _ config: QuantizationConfig
  ) -> TensorInfo? {
    guard config.modelOpt != nil, let plain, [.u8, .f8E4M3].contains(plain.dtype) else { return nil }
    return plain
  }

  func shape(of codes: TensorInfo, module: String, in source: any TensorSource) -> Shape? {
    codes.dtype == .u8 ? codes.shape.widened(2) : codes.shape
  }

  func join(_ context: JoinContext) throws -> JoinedWeight {
    guard let config = context.config.modelOpt else { preconditionFailure("codes(of:) saw a configuration") }
    try context.requireWhole()
    let (codes, module, shape) = (context.codes, context.module, context.shape)
    guard shape.rank == 2 else {
      throw context.refuse(.configShape, "is \(name), expected plain numbers for a weight of \(shape)")
    }
    let algorithm: ModelOptConfig.Algorithm
    switch config.rule(for: module) {
    case .excluded(let pattern):
      throw context.contradicts("is \(codes.dtype), but '\(config.file)' excludes '\(pattern)'")
    case .none:
      throw context.contradicts("is \(codes.dtype), but '\(config.file)' gives '\(module)' no quant_algo")
    case .quantized(let found): algorithm = found
    }
    guard codes.dtype == algorithm.dtype else {
      throw context.contradicts("is \(codes.dtype), expected \(algorithm.dtype) for \(algorithm.rawValue)")
    }
    return try join(context, algorithm).meeting(algorithm.activations(module, in: context.source))
  }

  private func join(_ context: JoinContext, _ algorithm: ModelOptConfig.Algorithm) throws -> JoinedWeight {
    let (module, shape) = (context.module, context.shape)
    switch algorithm {
    case .nvfp4, .weightNVFP4:
      return try context.nvfp4(.multiplied, globalScale: "\(module).weight_scale_2")
    case .blockFP8, .blockScales: return try joinBlocks(context)
    case .mxfp8:
      let scale = try context.sibling("\(module).weight_scale")
      guard shape.columns % FP4.group == 0 else {
        throw context.contradicts(
          "has \(shape.columns) columns, expected a multiple of \(FP4.group) for MXFP8")
      }
      try context.require(scale, [.u8, .f8E8M0], [shape.rows, shape.columns / FP4.group])
      return try joined(
        context, scale, .block(rows: 1, columns: FP4.group), scale.shape, dtype: .f8E8M0)
    case .fp8, .channelFP8:
      let scale = try context.sibling("\(module).weight_scale")
      let isChannel = algorithm == .channelFP8
      if isChannel {
        try context.require(scale, Self.floats, [shape.rows], [shape.rows, 1])
      } else {
        try context.require(scale, Self.floats, [], [1])
      }
      return try joined(context, scale, isChannel ? .channel : .tensor, [scale.shape.count])
    }
  }

  private static let floats: [DType] = [.f32, .bf16, .f16]

  /// One scale a block of 128 × 128: [out / 128, in / 128], rounded up, or with a 1 after each, as the package writes them.
  private func joinBlocks(_ context: JoinContext) throws -> JoinedWeight {
    let scale = try context.sibling(
      "\(context.module).weight_scale", "\(context.module).weight_scale_inv")
    let (down, across) = (ceilDivide(context.shape.rows, 128), ceilDivide(context.shape.columns, 128))
    try context.require(scale, Self.floats, [down, across], [down, 1, across, 1])
    return try joined(context, scale, .block128, [down, across])
  }

  private func joined(
    _ context: JoinContext, _ scale: TensorInfo, _ granularity: FP8.Granularity, _ shape: Shape,
    dtype: DType? = nil
  ) throws -> JoinedWeight {
    try context.lent(
      FP8(.e4m3, granularity), context.whole(.values, context.codes, context.codes.shape),
      context.whole(.scales, scale, shape, dtype: dtype))
  }
}
