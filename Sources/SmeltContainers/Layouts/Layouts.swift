// Published layouts: how several tensors of a checkpoint (codes here, scales there) make one weight. Decided by the
// tensors' dtypes and by quantization_config, never by guessing from sizes.

public import SmeltStorage
public import SmeltTensors

/// What config.json says about quantized tensors.
public struct QuantizationConfig: Sendable {
  /// `quant_method`, or nil when the model is not quantized.
  public let method: String?
  /// `weight_block_size`: rows and columns of a scale block, or nil.
  public let block: (rows: Int, columns: Int)?
  /// The file, for messages.
  public let file: String

  /// Reads `quantization_config`; absent means that nothing is quantized.
  /// - Throws: `CFG_VALUE` for a malformed entry; `RequestError` unsupported for a method Smelt does not read.
  public init(config: JSON, file: String) throws {
    self.file = file
    guard let section = config["quantization_config"], !section.isNull else {
      method = nil
      block = nil
      return
    }
    guard section.object != nil else {
      throw FormatError(
        .configValue, file: file, subject: "quantization_config", offset: section.offset,
        "found \(section.kind), expected an object")
    }
    guard let name = section["quant_method"], let method = name.string else {
      throw FormatError(
        .configValue, file: file, subject: "quant_method",
        offset: section["quant_method"]?.offset ?? section.offset,
        section["quant_method"].map { "found \($0.kind), expected a string" }
          ?? "is missing, expected a string")
    }
    guard method == "fp8" else {
      throw RequestError(
        .unsupported, "quant_method '\(method)' in '\(file)' is not supported", help: "supported: fp8")
    }
    self.method = method
    guard let size = section["weight_block_size"], !size.isNull else {
      block = nil
      return
    }
    guard let list = size.array, list.count == 2, let rows = list[0].integer, let columns = list[1].integer,
      FP8.Granularity.block(rows: rows, columns: columns).isValid
    else {
      throw FormatError(
        .configValue, file: file, subject: "weight_block_size", offset: size.offset,
        "expected two whole numbers from 1 to 65536")
    }
    block = (rows, columns)
  }
}

/// A weight joined from tensors, and which tensors those were.
public struct JoinedWeight: Sendable {
  /// The weight.
  public let weight: Weight
  /// The names of the tensors it took, codes first.
  public let tensors: [String]
}

/// Joins tensors to weights.
public enum Layouts {
  /// The scale tensor that belongs to a codes tensor, by the spellings in use.
  static func scaleNames(_ values: String) -> [String] {
    let stem = values.hasSuffix(".weight") ? String(values.dropLast(".weight".count)) : values
    return ["\(stem).scale", "\(values)_scale_inv", "\(values)_scale"]
  }

  /// The weight of a given shape kept in `tensor`, or in some rows of it.
  /// - Parameters:
  ///   - stackIndex: the place along the leading dimension of a stacked tensor.
  ///   - rows: the rows of a fused tensor.
  ///   - isTable: whether integers are expected rather than numbers to multiply by.
  /// - Throws: `CFG_SHAPE`, `Q_SCALE_MISSING`, `Q_SCALE_SHAPE`, `Q_PACK`, `Q_CONFIG`.
  public static func join(
    _ tensor: TensorInfo, stackIndex: Int? = nil, rows: Range<Int>? = nil, shape: Shape, isTable: Bool,
    source: some TensorSource, config: QuantizationConfig
  ) throws -> JoinedWeight {
    let file = fileName(tensor.file)
    func refuse(_ code: ErrorCode, _ problem: String) -> FormatError {
      FormatError(code, file: file, subject: tensor.name, offset: tensor.offset, problem)
    }
    guard isTable == [.i64, .i32].contains(tensor.dtype) else {
      throw refuse(.configShape, "is \(tensor.dtype), expected \(isTable ? "I64 or I32" : "numbers")")
    }
    /// Whatever is wrong with the parts is told with the place of the codes.
    func weight(_ encoding: any Encoding, _ parts: [Part]) throws(FormatError) -> Weight {
      do {
        return try Weight(name: tensor.name, shape: shape, encoding: encoding, parts: parts, file: file)
      } catch {
        var known = error.inFile(file)
        known.offset = known.offset ?? tensor.offset
        throw known
      }
    }
    if stackIndex != nil || rows != nil {
      let part = try slice(tensor, stackIndex, rows, shape, refuse)
      return JoinedWeight(
        weight: try weight(try plain(tensor.dtype, refuse), [part]), tensors: [tensor.name])
    }
    func values(_ dtype: DType? = nil, _ stored: Shape? = nil) -> Part {
      Part(.values, dtype: dtype ?? tensor.dtype, shape: stored ?? tensor.shape, bytes: tensor.bytes)
    }
    switch tensor.dtype {
    case .f32, .f16, .bf16, .i64, .i32:
      return JoinedWeight(
        weight: try weight(try plain(tensor.dtype, refuse), [values()]), tensors: [tensor.name])
    case .f8E4M3, .f8E5M2:
      let scale = try scaleTensor(tensor, source, refuse)
      let encoding = FP8(
        tensor.dtype == .f8E4M3 ? .e4m3 : .e5m2, try granularity(scale, shape, config, refuse))
      return JoinedWeight(
        weight: try weight(encoding, [values(), scalePart(scale, encoding)]),
        tensors: [tensor.name, scale.name])
    case .i8, .u8, .f4:
      let scale = try scaleTensor(tensor, source, refuse)
      let packed = Shape(shape.dimensions.dropLast() + [shape.columns / 2])
      let part = tensor.dtype == .f4 && tensor.shape == shape ? values(.u8, packed) : values()
      let scales = Part(.scales, dtype: scale.dtype, shape: scale.shape, bytes: scale.bytes)
      return JoinedWeight(weight: try weight(FP4.mxfp4, [part, scales]), tensors: [tensor.name, scale.name])
    default:
      throw refuse(.configShape, "is \(tensor.dtype), which no layout of this model stores weights in")
    }
  }

  private static func plain(_ dtype: DType, _ refuse: (ErrorCode, String) -> FormatError) throws
    -> any Encoding
  {
    switch dtype {
    case .f32: Plain.f32
    case .f16: Plain.f16
    case .bf16: Plain.bf16
    case .i64: IntegerTable.i64
    case .i32: IntegerTable.i32
    default: throw refuse(.configShape, "is \(dtype), expected F32, F16 or BF16 in a stacked tensor")
    }
  }

  private static func slice(
    _ tensor: TensorInfo, _ stackIndex: Int?, _ rows: Range<Int>?, _ shape: Shape,
    _ refuse: (ErrorCode, String) -> FormatError
  ) throws -> Part {
    let inner = Array(tensor.shape.dimensions.dropFirst(stackIndex == nil ? 0 : 1))
    let stack = stackIndex == nil ? 1 : tensor.shape.dimensions.first ?? 0
    let innerRows = inner.dropLast().reduce(1, *)
    let wanted = rows ?? 0..<innerRows
    guard inner.last == shape.columns, wanted.count == shape.rows, wanted.upperBound <= innerRows,
      stackIndex ?? 0 < stack
    else {
      throw refuse(.configShape, "is \(tensor.shape), which has no \(shape) for expert \(stackIndex ?? 0)")
    }
    guard let rowBytes = tensor.dtype.byteCount(shape.columns) else {
      throw refuse(.configShape, "has rows that are no whole number of bytes")
    }
    let first = ((stackIndex ?? 0) * innerRows + wanted.lowerBound) * rowBytes
    return Part(
      .values, dtype: tensor.dtype, shape: shape, bytes: tensor.bytes[first..<first + wanted.count * rowBytes]
    )
  }

  private static func scaleTensor(
    _ tensor: TensorInfo, _ source: some TensorSource, _ refuse: (ErrorCode, String) -> FormatError
  ) throws -> TensorInfo {
    let names = scaleNames(tensor.name)
    for name in names { if let scale = source.tensor(name) { return scale } }
    throw refuse(.scaleMissing, "is \(tensor.dtype) but '\(names[0])' is in no shard")
  }

  private static func granularity(
    _ scale: TensorInfo, _ shape: Shape, _ config: QuantizationConfig,
    _ refuse: (ErrorCode, String) -> FormatError
  ) throws -> FP8.Granularity {
    if let block = config.block { return .block(rows: block.rows, columns: block.columns) }
    if scale.shape.count == 1 { return .tensor }
    if scale.shape.count == shape.rows { return .channel }
    throw refuse(
      .quantConfig,
      "has scales \(scale.shape), but '\(config.file)' has no weight_block_size to say what a scale covers")
  }

  /// Scales by tensor or channel may be stored with extra dimensions of 1.
  private static func scalePart(_ scale: TensorInfo, _ encoding: FP8) -> Part {
    switch encoding.granularity {
    case .block: Part(.scales, dtype: scale.dtype, shape: scale.shape, bytes: scale.bytes)
    default: Part(.scales, dtype: scale.dtype, shape: [scale.shape.count], bytes: scale.bytes)
    }
  }
}
