// FP8 codes beside a tensor of scales: DeepSeek's `weight_scale_inv` by blocks of 128 × 128, its E8M0 `scale`, and scales by
// tensor or channel.

internal import SmeltStorage
internal import SmeltTensors

/// `X.weight` F8_E4M3 or F8_E5M2 with `X.scale`, `X.weight_scale_inv` or `X.weight_scale`. The blocks are those of
/// `weight_block_size`; without it one scale is the tensor's, one a row the channels'. A stacked tensor has stacked scales.
/// Formats/layouts.md, section 4.
struct ScaledFP8: Layout {
  let name = "fp8"

  func codes(
    of place: Spelling, plain: TensorInfo?, in source: any TensorSource, _ config: QuantizationConfig
  ) -> TensorInfo? {
    guard let plain, [.f8E4M3, .f8E5M2].contains(plain.dtype) else { return nil }
    return plain
  }

  func declare(_ weight: DeclaredWeight) -> [DeclaredTensor]? {
    guard let fp8 = weight.encoding as? FP8 else { return nil }
    // MXFP8's exponents are bytes there; DeepSeek-V4.1's keep their type.
    let isMX = fp8.granularity == .block(rows: 1, columns: FP4.group) && !weight.hasPlainScaleNames
    return weight.besideScales(dtype: isMX ? .u8 : nil)
  }

  func join(_ context: JoinContext) throws -> JoinedWeight {
    let (codes, place) = (context.codes, context.place)
    let scale = try context.scale()
    let format: FP8.Format = codes.dtype == .f8E4M3 ? .e4m3 : .e5m2
    if !place.isWhole { return try joinRows(context, scale, format) }
    let granularity = try granularity(scale, context)
    let scaleShape: Shape
    if case .block = granularity { scaleShape = scale.shape } else { scaleShape = [scale.shape.count] }
    return try context.lent(
      FP8(format, granularity), context.whole(.values, codes, codes.shape),
      context.whole(.scales, scale, scaleShape, dtype: context.config.method == "mxfp8" ? .f8E8M0 : nil)
    ).meeting(activations(granularity, context))
  }

  /// `activation_scheme`: static means one scale beside the weight. Without a `quant_method` nothing is said.
  private func activations(_ granularity: FP8.Granularity, _ context: JoinContext) -> DeclaredActivations? {
    guard context.config.method != nil else { return nil }
    if let fault = context.config.activationFault { return DeclaredActivations(fault: fault) }
    if context.config.hasStaticActivations {
      return DeclaredActivations(
        .tensor, scale: context.source.tensor("\(context.module).input_scale"))
    }
    if case .block(_, let columns) = granularity { return DeclaredActivations(.group(columns)) }
    return DeclaredActivations(.token)
  }

  private func granularity(_ scale: TensorInfo, _ context: JoinContext) throws -> FP8.Granularity {
    if context.config.method == "mxfp8" {
      try context.require(scale, [.u8, .f8E8M0], scale.shape)
      return .block(rows: 1, columns: FP4.group)
    }
    // The table of DeepSeek-V4.1's n-gram memory has a scale for each row and 32 columns beside blocks of 32 × 32.
    if context.isEngramTable { return .block(rows: 1, columns: FP4.group) }
    if let block = context.config.block { return .block(rows: block.rows, columns: block.columns) }
    if scale.shape.count == 1 { return .tensor }
    if scale.shape.count == context.shape.rows { return .channel }
    throw context.refuse(
      .quantConfig,
      "has scales \(scale.shape), but '\(context.config.file)' has no weight_block_size to say what a scale covers"
    )
  }

  /// Rows of a stacked or fused tensor. Blocks must begin where the rows do.
  private func joinRows(_ context: JoinContext, _ scale: TensorInfo, _ format: FP8.Format) throws
    -> JoinedWeight
  {
    let (codes, place, shape) = (context.codes, context.place, context.shape)
    guard let block = context.config.block, place.rowStride == 1, !place.transposed, shape.rank == 2 else {
      throw context.unsupportedRows()
    }
    let across = ceilDivide(shape.columns, block.columns)
    let rows = place.rows ?? 0..<shape.rows
    let blocks = rows.lowerBound / block.rows..<ceilDivide(rows.upperBound, block.rows)
    let scalePlace = Spelling(scale.name, stackIndex: place.stackIndex, rows: blocks)
    guard let cut = RowCut(place, of: codes.shape, wanted: shape), cut.isContiguous else {
      throw context.refuse(.configShape, "is \(codes.shape), which has no \(shape) \(place.description)")
    }
    guard rows.lowerBound % block.rows == 0 else {
      throw context.refuse(
        .quantConfig,
        "rows \(rows.lowerBound)..<\(rows.upperBound) begin inside a block of \(block.rows) rows")
    }
    guard let scaleCut = RowCut(scalePlace, of: scale.shape, wanted: [blocks.count, across]) else {
      throw context.refuse(
        .scaleShape, "is \(scale.shape), which has no [\(blocks.count), \(across)] \(scalePlace.description)",
        of: scale)
    }
    let (codeBytes, scaleBytes) = (cut.bytes(of: codes), scaleCut.bytes(of: scale))
    return try context.lent(
      FP8(format, .block(rows: block.rows, columns: block.columns)),
      [
        Part(.values, dtype: codes.dtype, shape: shape, bytes: codeBytes),
        Part(.scales, dtype: scale.dtype, shape: [blocks.count, across], bytes: scaleBytes),
      ], from: [Share(codes, codeBytes), Share(scale, scaleBytes)])
  }
}

extension FP8 {
  /// The end of the module that holds DeepSeek-V4.1's n-gram table. Source: deepseek-ai/DeepSeek-V4.1-Flash, inference/convert.py.
  package static let engramTable = ".engram.embed"
  /// The end of that module's tensor.
  static let engramWeight = engramTable + ".weight"
}

extension JoinContext {
  /// Whether the weight is DeepSeek-V4.1's n-gram table.
  fileprivate var isEngramTable: Bool {
    let utf8 = place.tensor.utf8
    return [FP8.engramWeight, FP8.engramTable].contains { utf8.suffix($0.utf8.count).elementsEqual($0.utf8) }
  }

  /// The scales of a codes tensor by the spellings in use.
  /// - Throws: `Q_SCALE_MISSING`.
  func scale() throws -> TensorInfo {
    if source.mayHold(ending: "scale"), let scale = source.tensor(place.module, ending: ".scale") {
      return scale
    }
    for ending in ["_scale_inv", "_scale"] {
      if let scale = source.tensor(codes.name, ending: ending) { return scale }
    }
    throw refuse(.scaleMissing, "is \(codes.dtype) but '\(place.module).scale' is in no shard")
  }

  /// The refusal of a cut that a layout does not make.
  func unsupportedRows() -> RequestError {
    RequestError(
      .unsupported,
      "'\(codes.name)' is \(layout) and holds several weights; this one (\(place.description)) cannot be cut out",
      help: "use a checkpoint with one tensor a weight")
  }
}

extension DeclaredWeight {
  /// Codes under the tensor's name, and scales beside them.
  /// - Parameter dtype: what the scales are called; nil: what they are.
  func besideScales(dtype: DType? = nil) -> [DeclaredTensor] {
    parts.map { part in
      guard part.name != .values else {
        return DeclaredTensor(name: tensor, dtype: part.dtype, shape: part.shape)
      }
      return DeclaredTensor(
        name: hasPlainScaleNames ? "\(module).scale" : "\(tensor)_scale_inv", dtype: dtype ?? part.dtype,
        shape: part.shape)
    }
  }
}
