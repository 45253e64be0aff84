// One weight being joined: what was asked, which tensor holds the codes, where its other tensors are; and what the layouts share.

internal import SmeltStorage
import SmeltTensors

/// A tensor's share in a weight.
struct Share {
  /// The tensor.
  let tensor: TensorInfo
  /// The bytes to give back to the system once they were read.
  let bytes: Bytes
  /// How many of these belong to the weight.
  let byteCount: Int

  /// Some bytes of a tensor; all by default.
  init(_ tensor: TensorInfo, _ bytes: Bytes? = nil, byteCount: Int? = nil) {
    self.tensor = tensor
    self.bytes = bytes ?? tensor.bytes
    self.byteCount = byteCount ?? self.bytes.count
  }
}

/// One weight being joined: what was asked, which tensor holds the codes, and where its other tensors are.
package struct JoinContext: Sendable {
  /// The layout's name.
  let layout: String
  /// The tensor with the codes.
  let codes: TensorInfo
  /// What the family asks.
  let request: WeightRequest
  /// All tensors.
  let source: any TensorSource
  /// The configuration.
  let config: QuantizationConfig

  /// One weight.
  init(
    layout: String, codes: TensorInfo, request: WeightRequest, source: any TensorSource,
    config: QuantizationConfig
  ) {
    (self.layout, self.codes, self.request) = (layout, codes, request)
    (self.source, self.config) = (source, config)
  }

  /// The module's name: the tensor's without `.weight`.
  var module: String { request.place.module }

  /// The dimensions asked for.
  var shape: Shape { request.shape }
  /// Where the weight lies.
  var place: Spelling { request.place }

  /// A refusal that names a tensor, by default the codes'.
  func refuse(_ code: ErrorCode, _ problem: String, of tensor: TensorInfo? = nil) -> FormatError {
    let tensor = tensor ?? codes
    return FormatError(
      code, file: tensor.fileName, subject: tensor.name, offset: tensor.offset, problem)
  }

  /// The refusal of a place that a layout does not cut.
  func requireWhole() throws {
    guard !place.isWhole else { return }
    throw RequestError(
      .unsupported, "'\(codes.name)' is \(layout) and holds several weights, which is not supported",
      help: "use a checkpoint with one tensor a weight")
  }

  /// A tensor beside the codes.
  /// - Throws: `Q_SCALE_MISSING` when none of the names is there.
  func sibling(_ names: String...) throws -> TensorInfo {
    for name in names { if let tensor = source.tensor(name) { return tensor } }
    throw refuse(.scaleMissing, "is \(codes.dtype) but '\(names[0])' is in no shard")
  }

  /// Refuses a tensor of another dtype or other dimensions.
  func require(
    _ tensor: TensorInfo, _ dtypes: [DType], _ shapes: Shape..., code: ErrorCode = .scaleShape
  ) throws {
    guard dtypes.contains(tensor.dtype) else {
      let expected = dtypes.map(\.rawValue).joined(separator: " or ")
      throw refuse(code, "is \(tensor.dtype), expected \(expected)", of: tensor)
    }
    guard shapes.contains(tensor.shape) else {
      throw refuse(
        code,
        "is \(tensor.shape), expected " + shapes.map(\.description).joined(separator: " or ")
          + " for '\(module)' of \(shape)", of: tensor)
    }
  }

  /// A part that is a whole tensor under dimensions of the encoding's choice.
  func part(_ name: PartName, _ tensor: TensorInfo, _ shape: Shape, dtype: DType? = nil) -> Part {
    Part(name, dtype: dtype ?? tensor.dtype, shape: shape, bytes: tensor.bytes)
  }

  /// A part that is a whole tensor, as `lent(_:_:_:)` takes it.
  func whole(_ name: PartName, _ tensor: TensorInfo, _ shape: Shape, dtype: DType? = nil)
    -> JoinedWeight.WholePart
  {
    JoinedWeight.WholePart(name: name, dtype: dtype ?? tensor.dtype, shape: shape, tensor: tensor)
  }

  /// A weight whose parts are lent.
  func lent(_ encoding: any Encoding, _ parts: [Part], from shares: [Share]) throws -> JoinedWeight {
    JoinedWeight(
      lent: try weight(encoding, parts), file: codes.fileName, tensors: JoinContext.tensors(shares),
      layout: layout, takesWholeTensors: JoinContext.areWhole(shares), mapped: shares.map(\.bytes))
  }

  /// A weight of one or two whole tensors, codes first: what nearly all weights are.
  func lent(
    _ encoding: any Encoding, _ values: JoinedWeight.WholePart, _ scales: JoinedWeight.WholePart? = nil
  ) throws -> JoinedWeight {
    _ = try weight(encoding, scales.map { [values.part, $0.part] } ?? [values.part])
    return JoinedWeight(values, scales, shape: shape, encoding: encoding, layout: layout)
  }

  /// A weight whose parts `build` puts in order. `dtypes` gives the types of those parts that may have several.
  func built(
    _ encoding: any Encoding, dtypes: [PartName: DType] = [:], from shares: [Share],
    build: @escaping @Sendable () throws -> [Part]
  ) throws -> JoinedWeight {
    let layouts: [PartLayout]
    do { layouts = try encoding.layout(of: shape, name: codes.name) } catch { throw located(error) }
    let parts = try layouts.map { part in
      let dtype = dtypes[part.name] ?? part.dtypes[0]
      guard part.dtypes.contains(dtype), let count = dtype.byteCount(part.shape.count) else {
        throw refuse(
          .scaleShape, "its \(part.name.rawValue) are \(dtype), which \(encoding.name) does not have")
      }
      return JoinedWeight.StoredPart(name: part.name, dtype: dtype, shape: part.shape, byteCount: count)
    }
    return JoinedWeight(
      name: codes.name, file: codes.fileName, shape: shape, encoding: encoding, parts: parts,
      tensors: JoinContext.tensors(shares), layout: layout, isBuilt: true,
      takesWholeTensors: JoinContext.areWhole(shares), mapped: shares.map(\.bytes)
    ) { try weight(encoding, try build()) }
  }

  private static func tensors(_ shares: [Share]) -> [(name: String, byteCount: Int)] {
    shares.map { ($0.tensor.name, $0.byteCount) }
  }

  private static func areWhole(_ shares: [Share]) -> Bool {
    shares.allSatisfy { $0.byteCount == $0.tensor.byteCount }
  }

  /// The weight itself; errors in its parts name the place of the codes.
  private func weight(_ encoding: any Encoding, _ parts: [Part]) throws(FormatError) -> Weight {
    do {
      return try Weight(
        name: codes.name, shape: shape, encoding: encoding, parts: parts, file: codes.fileName)
    } catch {
      throw located(error)
    }
  }

  private func located(_ error: FormatError) -> FormatError {
    var known = error.inFile(codes.fileName)
    known.offset = known.offset ?? codes.offset
    return known
  }
}

extension JoinedWeight.StoredPart {
  init(_ part: Part) {
    self.init(name: part.name, dtype: part.dtype, shape: part.shape, byteCount: part.bytes.count)
  }
}
