// The tensors that a conversion makes, one after another, and the same tensors of a result that is there: for each container
// what its sink does with slabs, without a file.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// Makes tensors of slabs, as a container's sink does, beside a result's.
protocol RederivedTensors: AnyObject {
  /// Runs of slabs that make whole tensors, in the plan's order.
  func groups(_ plan: Plan) -> [Range<Int>]
  /// The tensors before those of slabs.
  func begin(_ write: (String, Bytes) throws -> Void) throws
  /// The next slab begins.
  func begin(_ slab: OutputMatrix) throws
  /// The next bytes of its codes.
  func append(_ piece: ConvertedPiece, _ write: (String, Bytes) throws -> Void) throws
  /// Its codes are whole.
  func end(
    _ slab: OutputMatrix, _ others: [(part: ResultPart, bytes: Bytes)],
    _ write: (String, Bytes) throws -> Void
  ) throws
  /// How a tensor of the result is stored, and how the one is that is made: type and dimensions; nil where one of them is not there.
  func forms(_ name: String) throws -> (found: TensorForm, made: TensorForm)?
  /// The bytes of a tensor of the result; nil where it has none.
  func stored(_ name: String) throws -> Bytes?
  /// All tensors of the result.
  var names: [String] { get }
  /// What is beside the weights.
  var beside: [RederivedFile] { get }
}

/// How the numbers of a tensor are stored.
struct TensorForm {
  /// The name of the type; of an ingot that of the encoding.
  let type: String
  let shape: Shape
}

extension RederivedTensors {
  func begin(_ write: (String, Bytes) throws -> Void) throws {}
}

/// A file beside the weights, or a key in its place: as it is made, and as the result has it; nil where it is not there.
struct RederivedFile {
  let name: String
  let made: Bytes?
  let stored: Bytes?

  /// All files by their names: those that are made, then those that only the result has.
  static func all(_ made: [(name: String, bytes: Bytes)], _ stored: [(name: String, bytes: Bytes)])
    -> [RederivedFile]
  {
    let found = Dictionary(stored.map { ($0.name, $0.bytes) }, uniquingKeysWith: { first, _ in first })
    let names = Set(made.map(\.name))
    return made.map { RederivedFile(name: $0.name, made: $0.bytes, stored: found[$0.name]) }
      + stored.filter { !names.contains($0.name) }.map {
        RederivedFile(name: $0.name, made: nil, stored: $0.bytes)
      }
  }

  /// The errors that a method leaves in the weights: none where there was no method.
  fileprivate static func errors(_ result: Model, _ source: Model) throws -> [RederivedFile] {
    let stored = try result.source.recordedOrigin().errors
    guard source.preparedErrors != nil || stored != nil else { return [] }
    return [
      RederivedFile(
        name: WeightErrors.fileName, made: source.preparedErrors.map { Bytes($0) }, stored: stored)
    ]
  }

  /// What the files of a directory's weights say of themselves, where it is not what is made.
  fileprivate static func notes(_ files: SafetensorsDirectory) -> [RederivedFile] {
    func text(_ notes: [(String, String)]) -> String {
      JSON(members: notes.map { ($0.0, JSON($0.1)) }).text()
    }
    let made = text(ShardPlan.metadata)
    return files.shards.map { ($0.path, text($0.metadata)) }.filter { $0.1 != made }.map { path, stored in
      RederivedFile(
        name: "\(fileName(path)) __metadata__", made: Bytes(Array(made.utf8)),
        stored: Bytes(Array(stored.utf8)))
    }
  }

  /// Weights and whatever else a directory has that is no part of the model as it was opened; what tools keep there is nobody's.
  fileprivate static func others(in result: Model) -> [RederivedFile] {
    result.leftFiles.filter { file in
      !file.name.split(separator: "/").contains { CarriedFiles.tools(String($0)) != nil }
    }
    .map { RederivedFile(name: $0.name, made: nil, stored: Bytes([])) }
  }

  /// The card, which people edit, and the errors of a method, which are compared where that is carried out.
  fileprivate static func isApart(_ name: String) -> Bool {
    [ModelCard.fileName, WeightErrors.fileName].contains(name)
  }
}

/// The tensors of a result, opened from its path again.
/// - Throws: refusals of the result; `RequestError` for what the container cannot hold.
func rederivedTensors(_ result: Model, _ source: Model, _ plan: Plan, _ options: ConvertOptions) throws
  -> any RederivedTensors
{
  switch options.target {
  case let target as SafetensorsResult:
    var naming = try TensorNaming(source, plan.weights, target.layout)
    try naming.chooseScales(options.statistics, plan.weights, source)
    let left = Set(try target.leftFiles(plan, source).map(\.name))
    let beside = RederivedFile.all(
      try DirectoryFiles(source, plan, naming, without: left).all.filter { !RederivedFile.isApart($0.name) },
      try result.source.smallFiles().filter { !RederivedFile.isApart($0.name) })
    let files = try SafetensorsDirectory(path: result.path)
    return DirectoryTensors(
      files, TensorAssembler(naming.tensors(plan), plan, options),
      beside + RederivedFile.notes(files) + (try RederivedFile.errors(result, source))
        + RederivedFile.others(in: result))
  case let target as GGUFResult:
    return try GGUFResultTensors(try GGUFFile(path: result.path), plan, source, target, options)
  default:
    let file = try IngotFile(path: result.path)
    let scales =
      try file.file(RecordedScales.fileName).map { [(name: RecordedScales.fileName, bytes: $0)] } ?? []
    let beside = RederivedFile.all(
      try IngotResult.files(plan, source), try result.source.smallFiles() + scales)
    return IngotTensors(file, beside + (try RederivedFile.errors(result, source)))
  }
}

/// Runs of neighbours of one name.
private func runs(_ names: [String]) -> [Range<Int>] {
  var runs: [Range<Int>] = []
  for (place, name) in names.enumerated() {
    if let last = runs.last, names[last.lowerBound] == name {
      runs[runs.count - 1] = last.lowerBound..<place + 1
    } else {
      runs.append(place..<place + 1)
    }
  }
  return runs
}

private final class DirectoryTensors: RederivedTensors {
  private let files: SafetensorsDirectory
  private let assembler: TensorAssembler
  private let made: [String: TensorForm]

  let beside: [RederivedFile]

  init(_ files: SafetensorsDirectory, _ assembler: TensorAssembler, _ beside: [RederivedFile]) {
    (self.files, self.assembler, self.beside) = (files, assembler, beside)
    made = Dictionary(
      assembler.tensors.flatMap(\.entries).map {
        ($0.name, TensorForm(type: $0.dtype.rawValue, shape: $0.shape))
      }, uniquingKeysWith: { first, _ in first })
  }

  func groups(_ plan: Plan) -> [Range<Int>] {
    var owners = [Int](repeating: -1, count: plan.slabs.count)
    for (number, tensor) in assembler.tensors.enumerated() {
      for slab in tensor.slabs { owners[slab] = number }
    }
    return runs(owners.map { "\($0)" })
  }

  func begin(_ slab: OutputMatrix) { assembler.begin(slab) }

  func append(_ piece: ConvertedPiece, _ write: (String, Bytes) throws -> Void) throws {
    try assembler.append(piece, write: write)
  }

  func end(
    _ slab: OutputMatrix, _ others: [(part: ResultPart, bytes: Bytes)],
    _ write: (String, Bytes) throws -> Void
  ) throws { try assembler.end(others, write: write) }

  func forms(_ name: String) -> (found: TensorForm, made: TensorForm)? {
    guard let made = made[name], let tensor = files.tensor(name) else { return nil }
    return (TensorForm(type: tensor.dtype.rawValue, shape: tensor.shape), made)
  }

  func stored(_ name: String) -> Bytes? { files.tensor(name)?.bytes }

  var names: [String] { files.tensors.map(\.name) }
}

private final class GGUFResultTensors: RederivedTensors {
  private let file: GGUFFile
  private let assembler: GGUFAssembler
  private let source: Model
  private let made: [String: TensorForm]
  let beside: [RederivedFile]

  init(_ file: GGUFFile, _ plan: Plan, _ source: Model, _ target: GGUFResult, _ options: ConvertOptions)
    throws
  {
    (self.file, self.source) = (file, source)
    let keys = try target.keys(
      file.path, plan, source, try GGUFResult.declarations(plan, source.family), options
    ).keys
    func stored(_ keys: [(key: String, value: GGUFValue)]) -> [(name: String, bytes: Bytes)] {
      keys.filter { !Self.isApart($0.key) }.map { ("key \($0.key)", Bytes($0.value.storedBytes)) }
    }
    beside = RederivedFile.all(stored(keys), stored(file.metadata))
    assembler = GGUFAssembler(plan, source)
    made = Dictionary(
      try GGUFResult.declarations(plan, source.family).map {
        ($0.name, TensorForm(type: $0.type.name, shape: $0.shape))
      }, uniquingKeysWith: { first, _ in first })
  }

  func groups(_ plan: Plan) -> [Range<Int>] {
    runs(plan.slabs.map { (try? GGUFResult.name(of: $0, plan, source.family)) ?? $0.name })
  }

  func begin(_ write: (String, Bytes) throws -> Void) throws { try assembler.factors(write: write) }

  func begin(_ slab: OutputMatrix) throws { try assembler.begin(slab) }

  func append(_ piece: ConvertedPiece, _ write: (String, Bytes) throws -> Void) throws {
    try assembler.append(piece, write: write)
  }

  func end(
    _ slab: OutputMatrix, _ others: [(part: ResultPart, bytes: Bytes)],
    _ write: (String, Bytes) throws -> Void
  ) throws { try assembler.end(slab, write: write) }

  func forms(_ name: String) -> (found: TensorForm, made: TensorForm)? {
    guard let made = made[name], let tensor = file.tensor(name) else { return nil }
    return (TensorForm(type: tensor.type.name, shape: tensor.shape), made)
  }

  func stored(_ name: String) -> Bytes? { file.tensor(name)?.bytes }

  var names: [String] { file.tensors.map(\.name) }

  /// Keys of the making, of how the file is cut, and what is not recorded: the name of the source's folder, and that of a mixture.
  private static func isApart(_ key: String) -> Bool {
    [SmeltKey.provenance, OutputKind.writerKey, "general.name", "general.file_type"].contains(key)
      || key.hasPrefix("split.")
  }
}

/// Of an ingot a tensor is a part of a weight: what is stored once its chunks are inflated and held against their checksums.
private final class IngotTensors: RederivedTensors {
  private let file: IngotFile
  private let kept: [String: IngotEntry]
  private var current: OutputMatrix?
  /// The weight that was read last.
  private var last: (name: String, weight: Weight)?

  let beside: [RederivedFile]

  init(_ file: IngotFile, _ beside: [RederivedFile]) {
    self.file = file
    self.beside = beside
    kept = Dictionary(file.entries.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  private static func name(_ weight: String, _ part: PartName) -> String { "\(weight) \(part.rawValue)" }

  func groups(_ plan: Plan) -> [Range<Int>] { plan.slabs.indices.map { $0..<$0 + 1 } }

  func begin(_ slab: OutputMatrix) { current = slab }

  func append(_ piece: ConvertedPiece, _ write: (String, Bytes) throws -> Void) throws {
    guard let current else { return }
    try write(Self.name(current.name, current.parts[0].name), piece.content)
  }

  func end(
    _ slab: OutputMatrix, _ others: [(part: ResultPart, bytes: Bytes)],
    _ write: (String, Bytes) throws -> Void
  ) throws {
    for (part, bytes) in others { try write(Self.name(slab.name, part.name), bytes) }
  }

  func forms(_ name: String) -> (found: TensorForm, made: TensorForm)? {
    // The slab at hand is the one that is compared.
    guard let current, let entry = kept[current.name] else { return nil }
    return (
      TensorForm(type: entry.encoding.name, shape: entry.shape),
      TensorForm(type: current.encoding.name, shape: current.shape)
    )
  }

  func stored(_ name: String) throws -> Bytes? {
    guard let space = name.lastIndex(of: " "),
      let part = PartName(rawValue: String(name[name.index(after: space)...]))
    else { return nil }
    let weight = String(name[..<space])
    guard kept[weight] != nil else { return nil }
    if last?.name != weight {
      if let last { file.evict(last.name) }
      last = (weight, try file.weight(weight))
    }
    return last?.weight.part(part)?.bytes
  }

  var names: [String] {
    file.entries.flatMap { entry in entry.parts.map { Self.name(entry.name, $0.name) } }
  }
}
