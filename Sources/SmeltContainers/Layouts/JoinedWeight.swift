// A weight joined from tensors: its dimensions, encoding and parts known from headers, its bytes lent from the mapping or
// put in order when they are asked for; and what the layouts share to make one.

internal import SmeltStorage
package import SmeltTensors

/// A weight joined from tensors. Making one reads no data; a weight whose published order is not ours is put in order each
/// time `weight()` is called, in memory of its own. Copies share one object.
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

  /// Where the weight comes from.
  fileprivate enum Maker: Sendable {
    /// Its parts are lent.
    case lent(Weight)
    /// It is made each time: its parts, and how.
    case built([StoredPart], @Sendable () throws -> Weight)
    /// The same with parts that are lent.
    case made([StoredPart], @Sendable () throws -> Weight)
  }

  fileprivate final class Fields: Sendable {
    let name: String
    let file: String
    let shape: Shape
    let encoding: any Encoding
    let tensors: [(name: String, byteCount: Int)]
    let layout: String
    let takesWholeTensors: Bool
    let mapped: [Bytes]
    let maker: Maker
    let makePieces: (@Sendable () throws -> [Weight])?

    init(
      _ name: String, _ file: String, _ shape: Shape, _ encoding: any Encoding,
      _ tensors: [(name: String, byteCount: Int)], _ layout: String, takesWholeTensors: Bool,
      _ mapped: [Bytes],
      _ maker: Maker, pieces: (@Sendable () throws -> [Weight])? = nil
    ) {
      (self.name, self.file, self.shape, self.encoding) = (name, file, shape, encoding)
      (self.tensors, self.layout, self.mapped, self.maker) = (tensors, layout, mapped, maker)
      self.takesWholeTensors = takesWholeTensors
      makePieces = pieces
    }
  }

  private let fields: Fields
  /// What the checkpoint says of the activations that meet it; nil where they stay as they are.
  package internal(set) var activations: DeclaredActivations?

  /// The name of the codes' tensor.
  package var name: String { fields.name }
  /// The file that holds the codes.
  package var file: String { fields.file }
  /// The dimensions of the numbers, output channels first.
  package var shape: Shape { fields.shape }
  /// How the numbers are stored.
  package var encoding: any Encoding { fields.encoding }
  /// The parts in the encoding's order.
  package var parts: [StoredPart] {
    switch fields.maker {
    case .lent(let weight): weight.parts.map { StoredPart($0) }
    case .built(let parts, _), .made(let parts, _): parts
    }
  }
  /// The tensors it took, codes first, with the bytes of each that belong to this weight.
  package var tensors: [(name: String, byteCount: Int)] { fields.tensors }
  /// Whether it is known that all bytes of these tensors belong to it.
  package var takesWholeTensors: Bool { fields.takesWholeTensors }
  /// The layout it was published in.
  package var layout: String { fields.layout }
  /// Whether the bytes are put in order when asked for, rather than lent.
  package var isBuilt: Bool { if case .built = fields.maker { true } else { false } }

  /// Bytes of all parts.
  package var byteCount: Int {
    switch fields.maker {
    case .lent(let weight): weight.byteCount
    case .built(let parts, _), .made(let parts, _): parts.reduce(0) { $0 + $1.byteCount }
    }
  }

  /// Whether its scales are powers of two by their type.
  package var hasPowerScales: Bool {
    switch fields.maker {
    case .lent(let weight): weight.parts.contains { $0.name == .scales && $0.dtype == .f8E8M0 }
    case .built(let parts, _), .made(let parts, _):
      parts.contains { $0.name == .scales && $0.dtype == .f8E8M0 }
    }
  }

  /// The weight; its codes and scales are not looked at.
  /// - Throws: `Q_CONFIG` where a built weight's data contradict its configuration.
  package func weight() throws -> Weight {
    switch fields.maker {
    case .lent(let weight): weight.apart
    case .built(_, let make), .made(_, let make): try make()
    }
  }

  /// The tensors of a weight that was rounded in another arrangement than its own, as they are stored; nil for all others.
  package func pieces() throws -> [Weight]? { try fields.makePieces?() }

  /// Lets the system take back the pages of the files that hold it.
  package func evict() { for bytes in fields.mapped { bytes.evict() } }

  /// Tells the system that its bytes will be needed soon.
  package func willNeed() { for bytes in fields.mapped { bytes.willNeed() } }

  /// The same, with what is said of the activations that meet it.
  func meeting(_ activations: DeclaredActivations?) -> JoinedWeight {
    var weight = self
    weight.activations = activations
    return weight
  }

  init(
    name: String, file: String, shape: Shape, encoding: any Encoding, parts: [StoredPart],
    tensors: [(name: String, byteCount: Int)], layout: String, isBuilt: Bool, takesWholeTensors: Bool = false,
    mapped: [Bytes], pieces: (@Sendable () throws -> [Weight])? = nil,
    make: @escaping @Sendable () throws -> Weight
  ) {
    fields = Fields(
      name, file, shape, encoding, tensors, layout, takesWholeTensors: takesWholeTensors, mapped,
      isBuilt ? .built(parts, make) : .made(parts, make), pieces: pieces)
  }

  /// A weight whose parts are lent from files.
  init(
    lent weight: Weight, file: String, tensors: [(name: String, byteCount: Int)], layout: String,
    takesWholeTensors: Bool, mapped: [Bytes]
  ) {
    fields = Fields(
      weight.name, file, weight.shape, weight.encoding, tensors, layout, takesWholeTensors: takesWholeTensors,
      mapped, .lent(weight))
  }

  /// A weight made of another one, in memory of its own; that one's pages are given back with it.
  init(
    name: String, file: String, shape: Shape, encoding: any Encoding, parts: [StoredPart],
    tensors: [(name: String, byteCount: Int)], layout: String, isBuilt: Bool, evicting other: JoinedWeight,
    make: @escaping @Sendable () throws -> Weight
  ) {
    self.init(
      name: name, file: file, shape: shape, encoding: encoding, parts: parts, tensors: tensors,
      layout: layout, isBuilt: isBuilt, mapped: other.fields.mapped, make: make)
  }
}
