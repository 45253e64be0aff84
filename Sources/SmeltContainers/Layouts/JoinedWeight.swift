// A weight joined from tensors: its dimensions, encoding and parts known from headers, its bytes lent from the mapping or
// put in order when they are asked for; and what the layouts share to make one.

internal import SmeltStorage
package import SmeltTensors

/// A weight joined from tensors. Making one reads no data; a weight whose published order is not ours is put in order each
/// time `weight()` is called, in memory of its own.
package struct JoinedWeight: Sendable {
  /// One part as the weight has it.
  package struct StoredPart: Sendable, Hashable {
    /// Which part.
    package let name: PartName
    /// The type of its elements.
    package let dtype: DType
    /// Its dimensions.
    package let shape: Shape
    /// Its bytes.
    package let byteCount: Int
  }

  /// The name of the codes' tensor.
  package let name: String
  /// The file that holds the codes.
  package let file: String
  /// The dimensions of the numbers, output channels first.
  package let shape: Shape
  /// How the numbers are stored.
  package let encoding: any Encoding
  /// The parts in the encoding's order.
  package let parts: [StoredPart]
  /// The tensors it took, codes first, with the bytes of each that belong to this weight.
  package let tensors: [(name: String, byteCount: Int)]
  /// The layout it was published in.
  package let layout: String
  /// Whether the bytes are put in order when asked for, rather than lent.
  package let isBuilt: Bool
  /// What the checkpoint says of the activations that meet it; nil where they stay as they are.
  package internal(set) var activations: DeclaredActivations?
  private let make: @Sendable () throws -> Weight
  private let makePieces: (@Sendable () throws -> [Weight])?
  private let mapped: [Bytes]

  /// Bytes of all parts.
  package var byteCount: Int { parts.reduce(0) { $0 + $1.byteCount } }

  /// The weight; its codes and scales are not looked at.
  /// - Throws: `Q_CONFIG` where a built weight's data contradict its configuration.
  package func weight() throws -> Weight { try make() }

  /// The tensors of a weight that was rounded in another arrangement than its own, as they are stored; nil for all others.
  package func pieces() throws -> [Weight]? { try makePieces?() }

  /// Lets the system take back the pages of the files that hold it.
  package func evict() { for bytes in mapped { bytes.evict() } }

  /// Tells the system that its bytes will be needed soon.
  package func willNeed() { for bytes in mapped { bytes.willNeed() } }

  /// The same, with what is said of the activations that meet it.
  func meeting(_ activations: DeclaredActivations?) -> JoinedWeight {
    var weight = self
    weight.activations = activations
    return weight
  }

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
