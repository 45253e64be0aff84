// A weight joined from tensors: its dimensions, encoding and parts known from headers, its bytes lent from the mapping or
// put in order when they are asked for.

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

  /// A part that is a whole tensor.
  struct WholePart: Sendable {
    let name: PartName
    let dtype: DType
    let shape: Shape
    let tensor: TensorInfo

    /// The part itself, with a hold of its own on bytes that are fetched.
    var part: Part { Part(name, dtype: dtype, shape: shape, bytes: tensor.bytes) }
  }

  /// Where the weight comes from.
  private enum Maker: Sendable {
    /// Codes and, where there are any, scales: each a whole tensor, lent.
    case whole(WholePart, WholePart?)
    /// Anything else.
    case other(Other)
  }

  /// A weight of shares of tensors, or one that is put in order.
  private final class Other: Sendable {
    /// How it is made.
    enum Form: Sendable {
      /// Its parts are lent.
      case lent(Weight)
      /// It is made each time: its parts, and how.
      case built([StoredPart], @Sendable () throws -> Weight)
      /// The same with parts that are lent.
      case made([StoredPart], @Sendable () throws -> Weight)
    }

    let name: String
    let file: String
    let tensors: [(name: String, byteCount: Int)]
    let takesWholeTensors: Bool
    let mapped: [Bytes]
    let form: Form
    let makePieces: (@Sendable () throws -> [Weight])?

    init(
      _ name: String, _ file: String, _ tensors: [(name: String, byteCount: Int)], takesWholeTensors: Bool,
      _ mapped: [Bytes], _ form: Form, pieces: (@Sendable () throws -> [Weight])? = nil
    ) {
      (self.name, self.file, self.tensors, self.mapped, self.form) = (name, file, tensors, mapped, form)
      (self.takesWholeTensors, makePieces) = (takesWholeTensors, pieces)
    }

    var parts: [StoredPart] {
      switch form {
      case .lent(let weight): weight.parts.map { StoredPart($0) }
      case .built(let parts, _), .made(let parts, _): parts
      }
    }
  }

  /// Of a hundred thousand weights each has one of these, and as a rule nothing else.
  private final class Fields: @unchecked Sendable {
    // SAFETY: changed only by `meeting`, which makes a copy unless nobody else holds the object.
    let shape: Shape
    let encoding: any Encoding
    let layout: String
    let maker: Maker
    var activations: DeclaredActivations?

    init(_ shape: Shape, _ encoding: any Encoding, _ layout: String, _ maker: Maker) {
      (self.shape, self.encoding, self.layout, self.maker) = (shape, encoding, layout, maker)
    }

    convenience init(_ other: Fields) { self.init(other.shape, other.encoding, other.layout, other.maker) }
  }

  private var fields: Fields

  /// What the checkpoint says of the activations that meet it; nil where they stay as they are.
  package var activations: DeclaredActivations? { fields.activations }
  /// The name of the codes' tensor.
  package var name: String {
    switch fields.maker {
    case .whole(let codes, _): codes.tensor.name
    case .other(let other): other.name
    }
  }
  /// The file that holds the codes.
  package var file: String {
    switch fields.maker {
    case .whole(let codes, _): codes.tensor.fileName
    case .other(let other): other.file
    }
  }
  /// The dimensions of the numbers, output channels first.
  package var shape: Shape { fields.shape }
  /// How the numbers are stored.
  package var encoding: any Encoding { fields.encoding }
  /// The parts in the encoding's order, made anew each time.
  package var parts: [StoredPart] {
    switch fields.maker {
    case .whole(let codes, let scales):
      [StoredPart(codes.part)] + (scales.map { [StoredPart($0.part)] } ?? [])
    case .other(let other): other.parts
    }
  }
  /// The tensors it took, codes first, with the bytes of each that belong to this weight; made anew each time.
  package var tensors: [(name: String, byteCount: Int)] {
    switch fields.maker {
    case .whole(let codes, let scales):
      [(codes.tensor.name, codes.tensor.byteCount)]
        + (scales.map { [($0.tensor.name, $0.tensor.byteCount)] } ?? [])
    case .other(let other): other.tensors
    }
  }
  /// Calls `body` with each of these tensors as its source has it.
  package func forEachTensor(in source: some TensorSource, _ body: (TensorInfo) -> Void) {
    switch fields.maker {
    case .whole(let codes, let scales):
      body(codes.tensor)
      if let scales { body(scales.tensor) }
    case .other(let other):
      for (name, _) in other.tensors { if let tensor = source.tensor(name) { body(tensor) } }
    }
  }
  /// Bytes of these tensors that belong to the weight.
  package var storedBytes: Int {
    switch fields.maker {
    case .whole(let codes, let scales): codes.tensor.byteCount + (scales?.tensor.byteCount ?? 0)
    case .other(let other): other.tensors.reduce(0) { $0 + $1.byteCount }
    }
  }
  /// Whether it is known that all bytes of these tensors belong to it.
  package var takesWholeTensors: Bool {
    switch fields.maker {
    case .whole: true
    case .other(let other): other.takesWholeTensors
    }
  }
  /// The layout it was published in.
  package var layout: String { fields.layout }
  /// Whether the bytes are put in order when asked for, rather than lent.
  package var isBuilt: Bool {
    if case .other(let other) = fields.maker, case .built = other.form { true } else { false }
  }

  /// Bytes of all parts.
  package var byteCount: Int {
    switch fields.maker {
    case .whole: return storedBytes
    case .other(let other):
      switch other.form {
      case .lent(let weight): return weight.byteCount
      case .built(let parts, _), .made(let parts, _): return parts.reduce(0) { $0 + $1.byteCount }
      }
    }
  }

  /// Whether its scales are powers of two by their type.
  package var hasPowerScales: Bool {
    switch fields.maker {
    case .whole(_, let scales): scales.map { $0.name == .scales && $0.dtype == .f8E8M0 } ?? false
    case .other(let other): other.parts.contains { $0.name == .scales && $0.dtype == .f8E8M0 }
    }
  }

  /// The weight; its codes and scales are not looked at.
  /// - Throws: `Q_CONFIG` where a built weight's data contradict its configuration.
  package func weight() throws -> Weight {
    switch fields.maker {
    case .whole(let codes, let scales):
      return Weight(
        checked: codes.tensor.name, shape: shape, encoding: encoding,
        parts: scales.map { [codes.part, $0.part] } ?? [codes.part], file: codes.tensor.fileName)
    case .other(let other):
      switch other.form {
      case .lent(let weight): return weight.apart
      case .built(_, let make), .made(_, let make): return try make()
      }
    }
  }

  /// The tensors of a weight that was rounded in another arrangement than its own, as they are stored; nil for all others.
  package func pieces() throws -> [Weight]? {
    guard case .other(let other) = fields.maker else { return nil }
    return try other.makePieces?()
  }

  /// The bytes of the files that hold it.
  private var mapped: [Bytes] {
    switch fields.maker {
    case .whole(let codes, let scales): [codes.tensor.bytes] + (scales.map { [$0.tensor.bytes] } ?? [])
    case .other(let other): other.mapped
    }
  }

  /// Lets the system take back the pages of the files that hold it.
  package func evict() { for bytes in mapped { bytes.evict() } }

  /// Tells the system that its bytes will be needed soon.
  package func willNeed() { for bytes in mapped { bytes.willNeed() } }

  /// The same, with what is said of the activations that meet it.
  consuming func meeting(_ activations: DeclaredActivations?) -> JoinedWeight {
    var weight = self
    if !isKnownUniquelyReferenced(&weight.fields) { weight.fields = Fields(weight.fields) }
    weight.fields.activations = activations
    return weight
  }

  init(
    name: String, file: String, shape: Shape, encoding: any Encoding, parts: [StoredPart],
    tensors: [(name: String, byteCount: Int)], layout: String, isBuilt: Bool, takesWholeTensors: Bool = false,
    mapped: [Bytes], pieces: (@Sendable () throws -> [Weight])? = nil,
    make: @escaping @Sendable () throws -> Weight
  ) {
    let other = Other(
      name, file, tensors, takesWholeTensors: takesWholeTensors, mapped,
      isBuilt ? .built(parts, make) : .made(parts, make), pieces: pieces)
    fields = Fields(shape, encoding, layout, .other(other))
  }

  /// A weight whose parts are lent from files.
  init(
    lent weight: Weight, file: String, tensors: [(name: String, byteCount: Int)], layout: String,
    takesWholeTensors: Bool, mapped: [Bytes]
  ) {
    let other = Other(
      weight.name, file, tensors, takesWholeTensors: takesWholeTensors, mapped, .lent(weight))
    fields = Fields(weight.shape, weight.encoding, layout, .other(other))
  }

  /// A weight of whole tensors, which the encoding takes as they are.
  init(_ codes: WholePart, _ scales: WholePart?, shape: Shape, encoding: any Encoding, layout: String) {
    fields = Fields(shape, encoding, layout, .whole(codes, scales))
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
