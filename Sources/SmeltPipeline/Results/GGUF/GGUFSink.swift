// A GGUF model being written, in one file or several, with a journal beside it.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// A GGUF model being written.
final class GGUFSink: ResultSink {
  private var writer: GGUFWriter?
  private let layout: GGUFPlan
  private let journal: FileJournal
  /// The file of each slab, by its name.
  private let files: [String: Int]
  private let path: String
  private let assembler: GGUFAssembler
  private let warnings: [String]
  /// The file at hand, and the bytes of those before it.
  private var file = 0
  private var before = 0

  init(
    _ path: String, _ layout: GGUFPlan, _ plan: Plan, _ model: Model, _ warnings: [String],
    _ options: ConvertOptions, _ target: GGUFResult
  ) throws {
    self.layout = layout
    self.path = path
    assembler = GGUFAssembler(plan, model)
    self.warnings = warnings
    let places = try GGUFResult.layout(layout, path, plan, model.family)
    files = Dictionary(
      zip(plan.slabs.map(\.name), places.files), uniquingKeysWith: { first, _ in first })
    journal = try FileJournal(path, places, plan, model, options) { GGUFWriter.discard(path) }
    let replacement = Replacement(overwrite: options.overwrite, .gguf)
    guard journal.places.isEmpty else {
      writer = try GGUFWriter(
        resuming: path, plan: layout, journal.places, mayBeNamed: journal.identity != nil,
        replacing: replacement)
      file = journal.places.count - 1
      before = journal.places.dropLast().reduce(0) { $0 + $1.position }
      return
    }
    try target.requirePlace(path, overwrite: options.overwrite)
    writer = try GGUFWriter(path: path, plan: layout, replacing: replacement, isResumable: true)
    try assembler.factors { try writer?.write($0, $1) }
  }

  var done: [String: SlabFacts] { journal.done }

  var canResume: Bool { journal.canResume }

  func begin(_ slab: OutputMatrix, form: ChunkForm) throws {
    try assembler.begin(slab)
    let wanted = files[slab.name] ?? file
    guard wanted > file else { return }
    // A file that is whole goes into the journal before the next one begins.
    try secure()
    before += layout.parts[file..<wanted].reduce(0) { $0 + $1.byteCount }
    file = wanted
  }

  func append(_ piece: ConvertedPiece) throws { try assembler.append(piece) { try writer?.write($0, $1) } }

  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws {
    try assembler.end(slab) { try writer?.write($0, $1) }
  }

  func ended(_ slab: OutputMatrix, _ facts: SlabFacts) throws {
    journal.ended(slab, facts)
    if assembler.isBetween, journal.isDue(before + (writer?.position ?? 0)) { try secure() }
  }

  /// Brings what is done to the disk and into the journal.
  private func secure() throws {
    guard let place = try writer?.secured() else { return }
    try journal.secure(
      FilePlace(file: place.file, position: place.position), sum: place.sum, bytes: before + place.position)
    // Not before the journal names them: what no journal names is of no use to another run.
    writer?.keep()
  }

  func finish(ledger: [LedgerEntry]) throws -> ResultSummary {
    if journal.identity == nil {
      try writer?.complete()
      // A model that was never worth an entry starts over as fast as it would be resumed.
      if journal.canResume {
        try secure()
        try journal.finish(identity: "")
      }
    }
    guard let writer = writer.take() else { preconditionFailure("a model is finished once") }
    try writer.commit()
    journal.remove()
    return ResultSummary(byteCount: layout.byteCount, files: layout.paths(path), warnings: warnings)
  }
}

extension GGUFResult {
  /// Where every slab lies in the files of a plan.
  static func layout(_ gguf: GGUFPlan, _ path: String, _ plan: Plan, _ family: any ModelFamily) throws
    -> FileLayout
  {
    let places = Dictionary(
      gguf.places.map { ($0.tensor.name, $0) }, uniquingKeysWith: { first, _ in first })
    func end(_ name: String) -> FilePlace? {
      places[name].map {
        let padded = ceilDivide($0.tensor.byteCount, gguf.alignment) * gguf.alignment
        return FilePlace(file: $0.file, position: $0.position + padded)
      }
    }
    var filled: [String: Int] = [:]
    var files: [Int] = []
    var ends: [FilePlace?] = []
    for slab in plan.slabs {
      guard let name = try GGUFResult.name(of: slab, plan, family), let place = places[name] else {
        preconditionFailure("'\(slab.name)' has no tensor")
      }
      let bytes = (filled[name] ?? 0) + slab.parts[0].byteCount
      filled[name] = bytes
      files.append(place.file)
      let isBlocked = slab.steps.first == .blockedNVFP4
      if bytes == place.tensor.byteCount {
        ends.append(end(isBlocked ? GGUFScale.name(of: name) : name))
      } else {
        ends.append(isBlocked ? nil : FilePlace(file: place.file, position: place.position + bytes))
      }
    }
    return FileLayout(
      names: gguf.paths(path).map { fileName($0) }, sizes: gguf.parts.map(\.byteCount), files: files,
      ends: ends, hash: gguf.headerHash)
  }
}

/// Makes the tensors of a GGUF model of slabs. Used by one thread.
final class GGUFAssembler {
  private let plan: Plan
  private let model: Model
  private var current = ""
  /// Global scales of the stack at hand, which follow its blocks.
  private var scales: [UInt8] = []

  /// Nothing written yet.
  init(_ plan: Plan, _ model: Model) {
    self.plan = plan
    self.model = model
  }

  /// Whether all that came is written.
  var isBetween: Bool { scales.isEmpty }

  /// The tensors before those of slabs.
  func factors(write: (String, Bytes) throws -> Void) throws {
    for factors in GGUFArchitectures.of(model.family)?.factors(of: model.family) ?? [] {
      try write(factors.name, Bytes(factors.values.withUnsafeBytes { Array($0) }))
    }
  }

  /// The next slab begins.
  func begin(_ slab: OutputMatrix) throws {
    current = try GGUFResult.name(of: slab, plan, model.family) ?? ""
  }

  /// The next bytes of its codes.
  func append(_ piece: ConvertedPiece, write: (String, Bytes) throws -> Void) throws {
    try write(current, piece.content)
  }

  /// Its codes are whole.
  func end(_ slab: OutputMatrix, write: (String, Bytes) throws -> Void) throws {
    guard slab.steps.first == .blockedNVFP4 else { return }
    let name = plan.weights[slab.weight].stored.spec.name
    scales += try model.weights.weight(name).part(.globalScale)?.bytes.array ?? []
    guard scales.count == 4 * (name.expert == nil ? 1 : model.family.dimensions.experts) else { return }
    try write(GGUFScale.name(of: current), Bytes(scales))
    scales = []
  }
}
