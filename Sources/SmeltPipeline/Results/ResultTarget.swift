// What a conversion needs to know of the container it writes: which encodings it holds, how weights become its matrices, and
// where the bytes go. One file a container; the main path in Convert.swift knows none of them.

package import SmeltContainers
package import SmeltModels
package import SmeltQuantization
package import SmeltStorage
import SmeltTensors

/// A container that models are written in.
package protocol ResultTarget: Sendable {
  /// What the command line and summaries call it.
  var name: String { get }

  /// The decision for a weight, changed where the container cannot hold what a recipe asks for.
  /// - Returns: the decision, and the reason where it was changed.
  /// - Throws: `RequestError` unsupported when the container has no place for a scheme's result.
  func adapt(_ decision: QuantizeDecision, _ stored: StoredWeight, _ model: Model) throws -> (
    decision: QuantizeDecision, reason: String?
  )

  /// Why the container has no place for a weight that takes no part in the text model; nil where it has.
  func leaves(_ spec: WeightSpec, _ model: Model) -> LeftOut?

  /// Whether engines load the result as it is, so that what they fuse must be alike.
  var isLoadedFused: Bool { get }

  /// The tensors that hold a weight, where they are several and each may have a scheme of its own.
  func parts(of spec: WeightSpec, _ model: Model) -> [WeightPart]

  /// What its files are known by; nil where the result is a folder.
  var kind: OutputKind? { get }

  /// The matrices of the result, in the order they will be written.
  func slabs(_ weights: [PlannedWeight], _ model: Model) throws -> [OutputMatrix]

  /// Things worth saying about what engines do with the result, and refusals of what only all weights together tell.
  func remarks(_ weights: [PlannedWeight], _ model: Model, _ options: ConvertOptions) throws -> [String]

  /// Tensors of the source with scales of activations and caches whose numbers the result gives again.
  func takenScales(_ weights: [PlannedWeight], _ model: Model) throws -> Set<String>

  /// Files beside the source's weights that the result has no place for.
  func leftFiles(_ plan: Plan, _ model: Model) throws -> [LeftFile]

  /// The most bytes of one file, where the result is cut into several; nil where it is not.
  var maxPartBytes: Int? { get }

  /// How codes are kept: nil where they are stored as they are.
  var compression: CodecMode? { get }

  /// Refuses a result that cannot be created, before the work that it would take.
  /// - Throws: `RequestError` cannot-create.
  func requirePlace(_ path: String, overwrite: Bool) throws

  /// Starts the result.
  /// - Throws: `RequestError` cannot-create when it exists or cannot be created.
  func sink(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws -> any ResultSink
}

extension ResultTarget {
  /// Nothing is fused.
  package var isLoadedFused: Bool { false }
}

/// Takes a result's bytes, slab after slab in the plan's order.
package protocol ResultSink: AnyObject {
  /// The next slab begins.
  func begin(_ slab: OutputMatrix, form: ChunkForm) throws
  /// The next bytes of its codes.
  func append(_ piece: ConvertedPiece) throws
  /// Its codes are whole; the other parts follow, in the encoding's order.
  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws
  /// What happened to the slab's numbers; the slab is done.
  func ended(_ slab: OutputMatrix, _ facts: SlabFacts) throws
  /// Slabs that an earlier run has done, by name, with what it recorded of them.
  var done: [String: SlabFacts] { get }
  /// Whether another run can go on when this one is stopped.
  var canResume: Bool { get }
  /// Everything is there.
  /// - Returns: the size of all files, and what proves their content.
  func finish(ledger: [LedgerEntry]) throws -> ResultSummary
}

/// What only reading the source tells of a slab.
package struct SlabFacts: Sendable, Hashable {
  /// Values whose stored number differs from the source's.
  package var inexactValues: Int
  /// XXH64 of the source bytes that were read, in hexadecimal: those of its weight, and those of a second one that is joined with it.
  package var sourceHashes: [String]
}

/// One of several tensors that hold a weight.
package struct WeightPart: Sendable {
  /// The tensor's name.
  let tensor: String
  /// Its dimensions.
  let shape: Shape
  /// What it does.
  let role: Role

  init(_ tensor: String, _ shape: Shape, _ role: Role) {
    self.tensor = tensor
    self.shape = shape
    self.role = role
  }
}

/// What was written.
package struct ResultSummary: Sendable {
  /// Bytes of all files.
  package var byteCount: Int
  /// A hash of the content, where the container has one.
  package var contentHash: String?
  /// The files, where there are several.
  package var files: [String] = []
  /// Things worth saying.
  package var warnings: [String] = []
}

extension ResultTarget {
  /// Not cut.
  package var maxPartBytes: Int? { nil }
  /// Each weight is one.
  package func parts(of spec: WeightSpec, _ model: Model) -> [WeightPart] { [] }
  /// None.
  package func takenScales(_ weights: [PlannedWeight], _ model: Model) -> Set<String> { [] }
  /// None.
  package func remarks(_ weights: [PlannedWeight], _ model: Model, _ options: ConvertOptions) -> [String] {
    []
  }
  /// Nothing is left out.
  package func leaves(_ spec: WeightSpec, _ model: Model) -> LeftOut? { nil }

  /// Refuses what lies under the name of a result that is one file, or several beside it: `x-00001-of-00003.ingot`.
  /// - Throws: `RequestError` cannot-create.
  func requirePlace(_ path: String, overwrite: Bool, isSplit: Bool, ending: String) throws {
    let replacement = kind.map { Replacement(overwrite: overwrite, $0) } ?? .nothing
    try requireCreatable(path, replacing: replacement)
    guard isSplit else { return }
    let name = fileName(path)
    let stem = name.hasSuffix(ending) ? String(name.dropLast(ending.count)) : name
    for name in (try? namesInFolder(parentFolder(path))) ?? []
    where name.hasPrefix(stem) && matchesGlob("-?????-of-?????\(ending)", String(name.dropFirst(stem.count)))
    {
      try requireCreatable(joinPath(parentFolder(path), name), replacing: replacement)
    }
  }

  /// One slab for each weight, as it is.
  func plainSlabs(_ weights: [PlannedWeight], _ model: Model) throws -> [OutputMatrix] {
    try weights.indices.map { try slab($0, weights[$0], [], model) }
  }

  /// The slab of a weight.
  func slab(
    _ place: Int, _ planned: PlannedWeight, _ steps: [Arrangement], _ model: Model, other: Int? = nil,
    suffix: String = "", scheme: (any Scheme)? = nil
  ) throws -> OutputMatrix {
    let spec = planned.stored.spec
    let name = spec.name.description + suffix
    let shape = steps.shape(spec.shape)
    let arranged = steps.encoding(of: planned.stored.encoding)
    let keeps = planned.isKept(by: scheme)
    let used = scheme ?? planned.decision.scheme
    let encoding = keeps ? arranged : used.encoding(for: arranged, shape: shape)
    let parts: [ResultPart]
    if keeps, steps.isEmpty {
      parts = model.storedParts(of: spec.name)
    } else {
      parts = try used.parts(encoding, of: shape, name: name)
    }
    return OutputMatrix(
      weight: place, other: other, name: name, steps: steps, shape: shape, encoding: encoding, isKept: keeps,
      parts: parts, ownScheme: scheme, isEntropyCoded: used.isEntropyCoded)
  }
}
