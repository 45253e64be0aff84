// The seam between the verbs and the places where a model can lie. A directory, a GGUF file and an ingot each answer the same
// questions; whoever adds a place answers them once, and no verb asks which place it is.

internal import SmeltContainers
package import SmeltModels
package import SmeltQuantization
package import SmeltStorage
package import SmeltTensors

/// Where a model's weights lie, and what lies beside them. Everything but the weights comes from headers alone.
package protocol ModelSource: Weights {
  /// The path it was opened by.
  var path: String { get }
  /// `safetensors`, `gguf` or `ingot`.
  var containerName: String { get }
  /// The architecture: a family that runs, or a table of weights without a forward pass.
  var family: any ModelFamily { get }
  /// Whose names the tensors have here: one of the family's dialects, or `canonical`.
  var dialect: String { get }
  /// The dialect that the tensors had when they were published, as far as the container knows it.
  var publishedDialect: String? { get }
  /// The files that hold the weights.
  var files: [(path: String, byteCount: Int)] { get }
  /// The tensors as the files list them.
  var tensors: [SourceTensor] { get }
  /// Tensors that take part in nothing, with the rule that leaves them out.
  var droppedTensors: [DroppedTensor] { get }
  /// Files beside the weights that no result takes.
  var leftFiles: [LeftFile] { get }
  /// Things worth saying that are no reason to refuse.
  var warnings: [FormatError] { get }
  /// The hash of the whole content, where the container states one.
  var contentHash: String? { get }
  /// Whether the files beside the weights are made from the container's metadata, rather than published as they are.
  var makesItsFiles: Bool { get }

  // MARK: files beside the weights

  /// A file by its name, such as `config.json`; nil without one.
  func smallFile(_ name: String) throws -> Bytes?
  /// All of them by their names, those of folders with `/` in them.
  func smallFiles() throws -> [(name: String, bytes: Bytes)]
  /// Their names and sizes; empty where they would have to be made first.
  func smallFileSizes() throws -> [(name: String, bytes: Int)]
  /// Paths beside the files of weights that a result must not replace.
  var guardedPaths: [String] { get }
  /// What a conversion by this program recorded here about its own making.
  func recordedOrigin() throws -> RecordedOrigin
  /// Facts about the making and the proof, where the container keeps them.
  func facts() throws -> IngotFacts?

  // MARK: weights

  /// How the weights are stored, in the order of the family's table.
  /// - Throws: `ARCH_INCOMPLETE` where one is missing.
  func storedWeights() throws -> [StoredWeight]
  /// Calls `body` with each of them in turn, where no list is wanted.
  func forEachStoredWeight(_ body: (StoredWeight) -> Void) throws
  /// The parts of a weight as they are stored.
  func storedParts(of name: WeightName) -> [ResultPart]
  /// The weight of a name, its codes not looked at where that saves a pass over them.
  func unscanned(_ name: WeightName) throws -> Weight
  /// The pieces of a weight that were rounded apart, where it is stored so; else nil.
  func pieces(of name: WeightName) throws -> [Weight]?
  /// The weight of a name, its codes and scales scanned once; nothing is kept. What is compressed is inflated, each time.
  func read(_ name: WeightName, parallel: Parallel) throws -> Weight
  /// Bytes in the container, and bytes of the parts once they are read.
  func sizes(of name: WeightName) -> (stored: Int, content: Int)
  /// What is declared of the rounding of activations and caches.
  /// - Throws: `Q_SCALE_SHAPE`, `Q_SCALE_VALUE`.
  func declaredScales() throws -> DeclaredScales
  /// Begins to read the pages that hold the weight.
  func willNeed(_ name: WeightName)
  /// Begins to read some bytes of the codes of a weight, and with the first of them its other parts.
  func willNeed(_ name: WeightName, codes: Range<Int>)
  /// Lets the system take back the pages that hold the weight.
  func giveBack(_ name: WeightName)
  /// Bytes that weights put in order may take at once, when several threads work on the largest.
  func builtBytes(threads: Int) -> Int
  /// Bytes of inflated weights that the source keeps for itself; no effect where it keeps none.
  var inflatedLimit: Int { get nonmutating set }
  /// Throws `SRC_CHANGED` when a file changed since it was opened.
  func checkUnchanged() throws
}

extension ModelSource {
  /// The file among all of them.
  package func smallFile(_ name: String) throws -> Bytes? {
    try smallFiles().first { $0.name == name }?.bytes
  }

  /// From their list.
  package func forEachStoredWeight(_ body: (StoredWeight) -> Void) throws {
    for weight in try storedWeights() { body(weight) }
  }

  /// Nothing: the container does not say.
  package func declaredScales() throws -> DeclaredScales { DeclaredScales() }

  /// None: the container states no hash of its content.
  package var contentHash: String? { nil }
  /// None.
  package func facts() throws -> IngotFacts? { nil }
  /// None beside the files of weights.
  package var guardedPaths: [String] { [] }
  /// Stored in one piece.
  package func pieces(of name: WeightName) throws -> [Weight]? { nil }
  /// The scanned one.
  package func unscanned(_ name: WeightName) throws -> Weight { try weight(name) }
  /// All of it, with the first bytes.
  package func willNeed(_ name: WeightName, codes: Range<Int>) { if codes.lowerBound == 0 { willNeed(name) } }
  /// None is put in order.
  package func builtBytes(threads: Int) -> Int { 0 }
  /// None is kept.
  package var inflatedLimit: Int {
    get { 0 }
    nonmutating set {}
  }
}

/// A source that keeps the report about itself inside.
package protocol SealedSource: ModelSource {
  /// Writes the report, in place of an earlier one.
  /// - Throws: `RequestError` cannot-create, io; `SRC_CHANGED`.
  func seal(_ report: Bytes) throws
}

/// A tensor as a source's files list it.
package struct SourceTensor: Sendable {
  /// Its name there.
  package let name: String
  /// Its type, in the container's words.
  package let type: String
  /// Its dimensions there.
  package let shape: Shape
  /// Bytes in the file.
  package let byteCount: Int
  /// The file.
  package let file: String
}

/// A tensor that takes part in nothing.
package struct DroppedTensor: Sendable {
  /// Its name in the source.
  package let name: String
  /// Bytes in the file.
  package let byteCount: Int
  /// Why it is left out.
  package let rule: DropRule
}

/// How one weight is stored in a source.
package struct StoredWeight: Sendable {
  /// Where the tensors stand: a model has hundreds of thousands, and few ask for their list.
  private enum Place: Sendable {
    case listed([(name: String, byteCount: Int)])
    case joined(JoinedWeight)
  }

  /// What a method made of a weight.
  private indirect enum Method: Sendable {
    case none
    case chose(PreparedWeight)
  }

  /// What the family says about it.
  package let spec: WeightSpec
  /// The encoding.
  package let encoding: any Encoding
  private let place: Place
  /// Bytes of all parts, once they are in the encoding's order.
  package let contentBytes: Int
  /// The encoding it had before it came into this container, where that is known.
  package let sourceType: String?
  /// Whether its scales are powers of two by their type.
  package let hasPowerScales: Bool
  private let method: Method

  /// A weight of a container that lists what it is made of.
  init(
    spec: WeightSpec, encoding: any Encoding, tensors: [(name: String, byteCount: Int)], contentBytes: Int,
    hasPowerScales: Bool
  ) {
    (self.spec, self.encoding, place, self.contentBytes) = (spec, encoding, .listed(tensors), contentBytes)
    (sourceType, self.hasPowerScales, method) = (nil, hasPowerScales, .none)
  }

  /// A weight that was joined from tensors.
  init(_ spec: WeightSpec, _ joined: JoinedWeight, sourceType: String?) {
    (self.spec, encoding, place, contentBytes) = (spec, joined.encoding, .joined(joined), joined.byteCount)
    (self.sourceType, hasPowerScales, method) = (sourceType, joined.hasPowerScales, .none)
  }

  /// A source's weight as a method chose it.
  init(_ source: StoredWeight, prepared: PreparedWeight) {
    let weight = prepared.weight
    (spec, encoding, place, contentBytes) = (source.spec, weight.encoding, source.place, weight.byteCount)
    (sourceType, hasPowerScales) = (nil, weight.part(.scales)?.dtype == .f8E8M0)
    method = .chose(prepared)
  }

  /// The tensors it is made of, codes first, with their bytes.
  package var tensors: [(name: String, byteCount: Int)] {
    switch place {
    case .listed(let tensors): tensors
    case .joined(let joined): joined.tensors
    }
  }
  /// Bytes of the tensors.
  package var byteCount: Int {
    switch place {
    case .listed(let tensors): tensors.reduce(0) { $0 + $1.byteCount }
    case .joined(let joined): joined.storedBytes
    }
  }
  /// What a method made of it, where one did.
  var prepared: PreparedWeight? { if case .chose(let weight) = method { weight } else { nil } }
}

/// What a conversion recorded in its result about the making.
package struct RecordedOrigin: Sendable {
  /// The ledger's name among a result's files.
  static let ledgerName = "ledger.json"

  /// Tool, source, recipe, method; nil where another program wrote the files.
  package var provenance: JSON?
  /// The file of errors that a method left in the weights.
  package var errors: Bytes?
  /// The ledger, where the result carries it.
  package var ledger: JSON?
}
