// A weight joined from tensors: its dimensions, encoding and parts known from headers, its bytes lent from the mapping or
// put in order when they are asked for; and what the layouts share to make one.

internal import SmeltStorage
public import SmeltTensors

/// A weight joined from tensors. Making one reads no data; a weight whose published order is not ours is put in order each
/// time `weight()` is called, in memory of its own.
public struct JoinedWeight: Sendable {
  /// One part as the weight has it.
  public struct StoredPart: Sendable, Hashable {
    /// Which part.
    public let name: PartName
    /// The type of its elements.
    public let dtype: DType
    /// Its dimensions.
    public let shape: Shape
    /// Its bytes.
    public let byteCount: Int
  }

  /// The name of the codes' tensor.
  public let name: String
  /// The file that holds the codes.
  public let file: String
  /// The dimensions of the numbers, output channels first.
  public let shape: Shape
  /// How the numbers are stored.
  public let encoding: any Encoding
  /// The parts in the encoding's order.
  public let parts: [StoredPart]
  /// The tensors it took, codes first, with the bytes of each that belong to this weight.
  public let tensors: [(name: String, byteCount: Int)]
  /// The layout it was published in.
  public let layout: String
  /// Whether the bytes are put in order when asked for, rather than lent.
  public let isBuilt: Bool
  private let make: @Sendable () throws -> Weight
  private let makePieces: (@Sendable () throws -> [Weight])?
  private let mapped: [Bytes]

  /// Bytes of all parts.
  public var byteCount: Int { parts.reduce(0) { $0 + $1.byteCount } }

  /// The weight; its codes and scales are not looked at.
  /// - Throws: `Q_CONFIG` where a built weight's data contradict its configuration.
  public func weight() throws -> Weight { try make() }

  /// The tensors of a weight that was rounded in another arrangement than its own, as they are stored; nil for all others.
  public func pieces() throws -> [Weight]? { try makePieces?() }

  /// Lets the system take back the pages of the files that hold it.
  public func evict() { for bytes in mapped { bytes.evict() } }

  /// Tells the system that its bytes will be needed soon.
  public func willNeed() { for bytes in mapped { bytes.willNeed() } }

  init(
    name: String, file: String, shape: Shape, encoding: any Encoding, parts: [StoredPart],
    tensors: [(name: String, byteCount: Int)], layout: String, isBuilt: Bool, mapped: [Bytes],
    pieces: (@Sendable () throws -> [Weight])? = nil, make: @escaping @Sendable () throws -> Weight
  ) {
    self.name = name
    self.file = file
    self.shape = shape
    self.encoding = encoding
    self.parts = parts
    self.tensors = tensors
    self.layout = layout
    self.isBuilt = isBuilt
    self.mapped = mapped
    self.make = make
    makePieces = pieces
  }

  /// A weight made of another one, in memory of its own; that one's pages are given back with it.
  init(
    name: String, file: String, shape: Shape, encoding: any Encoding, parts: [StoredPart],
    tensors: [(name: String, byteCount: Int)], layout: String, isBuilt: Bool, evicting other: JoinedWeight,
    make: @escaping @Sendable () throws -> Weight
  ) {
    self.init(
      name: name, file: file, shape: shape, encoding: encoding, parts: parts, tensors: tensors,
      layout: layout, isBuilt: isBuilt, mapped: other.mapped, make: make)
  }
}

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
public struct JoinContext: Sendable {
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

  /// The dimensions asked for.
  var shape: Shape { request.shape }
  /// Where the weight lies.
  var place: Spelling { request.place }

  /// A refusal that names a tensor, by default the codes'.
  func refuse(_ code: ErrorCode, _ problem: String, of tensor: TensorInfo? = nil) -> FormatError {
    let tensor = tensor ?? codes
    return FormatError(
      code, file: fileName(tensor.file), subject: tensor.name, offset: tensor.offset, problem)
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
          + " for '\(place.module)' of \(shape)", of: tensor)
    }
  }

  /// A part that is a whole tensor under dimensions of the encoding's choice.
  func part(_ name: PartName, _ tensor: TensorInfo, _ shape: Shape, dtype: DType? = nil) -> Part {
    Part(name, dtype: dtype ?? tensor.dtype, shape: shape, bytes: tensor.bytes)
  }

  /// A weight whose parts are lent.
  func lent(_ encoding: any Encoding, _ parts: [Part], from shares: [Share]) throws -> JoinedWeight {
    let weight = try weight(encoding, parts)
    return joined(
      encoding, weight.parts.map { JoinedWeight.StoredPart($0) }, shares, isBuilt: false
    ) { weight }
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
    return joined(encoding, parts, shares, isBuilt: true) { try weight(encoding, try build()) }
  }

  /// The weight itself; errors in its parts name the place of the codes.
  private func weight(_ encoding: any Encoding, _ parts: [Part]) throws(FormatError) -> Weight {
    do {
      return try Weight(
        name: codes.name, shape: shape, encoding: encoding, parts: parts, file: fileName(codes.file))
    } catch {
      throw located(error)
    }
  }

  private func located(_ error: FormatError) -> FormatError {
    var known = error.inFile(fileName(codes.file))
    known.offset = known.offset ?? codes.offset
    return known
  }

  private func joined(
    _ encoding: any Encoding, _ parts: [JoinedWeight.StoredPart], _ shares: [Share], isBuilt: Bool,
    make: @escaping @Sendable () throws -> Weight
  ) -> JoinedWeight {
    JoinedWeight(
      name: codes.name, file: fileName(codes.file), shape: shape, encoding: encoding, parts: parts,
      tensors: shares.map { ($0.tensor.name, $0.byteCount) }, layout: layout, isBuilt: isBuilt,
      mapped: shares.map(\.bytes), make: make)
  }
}

extension JoinedWeight.StoredPart {
  init(_ part: Part) {
    self.init(name: part.name, dtype: part.dtype, shape: part.shape, byteCount: part.bytes.count)
  }
}
