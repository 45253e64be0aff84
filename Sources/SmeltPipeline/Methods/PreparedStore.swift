// Weights that a method chose before the conversion: encoded as they will be written, kept in a folder beside the
// result while they are needed.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

internal import Synchronization

/// A weight that was made ready, and what is to be said about it.
struct PreparedWeight: Sendable {
  /// The weight, its parts in a mapped file.
  let weight: Weight
  /// The scheme whose encoding it has; nil for a weight that was changed and keeps its own scheme.
  let scheme: String?
  /// How it was made, for the ledger.
  let note: String
  /// Values that are not the source's.
  let inexactValues: Int
  /// How far its rows are from the source's.
  let errors: WeightErrors.Entry
}

/// A scratch folder beside the result, `RESULT.prepared.partial-PID`: a file for each section of a model, gone when the store is.
final class PreparedStore: Sendable {
  private let state: Mutex<State>

  private struct State: ~Copyable {
    let folder: FolderWriter
    var sealed: [WeightName: PreparedWeight] = [:]
    var open: [Pending] = []
    var writer: FileWriter?
    var files = 0
  }

  private struct Pending {
    let name: WeightName
    let source: String
    let shape: Shape
    let encoding: any Encoding
    let parts: [(name: PartName, dtype: DType, shape: Shape, offset: Int, count: Int)]
    let file: String?
    let scheme: String?
    let note: String
    let inexactValues: Int
    let errors: WeightErrors.Entry
  }

  /// An empty store beside a result.
  /// - Throws: `RequestError` cannot-create.
  init(result: String) throws {
    state = Mutex(State(folder: try FolderWriter(scratch: "\(withoutSlash(result)).prepared")))
  }

  /// Adds a weight to the open section; the bytes of its parts go to the disk, and can be read once the section is sealed.
  /// - Parameter errors: how far its rows are from the source's.
  func put(
    _ name: WeightName, _ weight: Weight, scheme: String?, note: String, inexactValues: Int,
    errors: WeightErrors.Entry
  ) throws {
    try state.withLock { state in
      if state.writer == nil {
        state.writer = try FileWriter(
          path: try state.folder.file("section-\(state.files)"), overwrite: false)
      }
      var parts: [(name: PartName, dtype: DType, shape: Shape, offset: Int, count: Int)] = []
      for part in weight.parts {
        try state.writer?.pad(to: 64)
        parts.append((part.name, part.dtype, part.shape, state.writer?.position ?? 0, part.bytes.count))
        try part.bytes.withUnsafeBytes { try state.writer?.write($0) }
      }
      state.open.append(
        Pending(
          name: name, source: weight.name, shape: weight.shape, encoding: weight.encoding, parts: parts,
          file: weight.file, scheme: scheme, note: note, inexactValues: inexactValues, errors: errors))
    }
  }

  /// Ends the open section: its weights can be read from now on.
  func seal() throws {
    try state.withLock { state in
      guard let writer = state.writer.take() else { return }
      let path = writer.path
      try writer.commit()
      let file = try MappedFile(path: path)
      for pending in state.open {
        let parts = pending.parts.map {
          Part($0.name, dtype: $0.dtype, shape: $0.shape, bytes: file.bytes[$0.offset..<$0.offset + $0.count])
        }
        state.sealed[pending.name] = PreparedWeight(
          weight: try Weight(
            name: pending.source, shape: pending.shape, encoding: pending.encoding, parts: parts,
            file: pending.file),
          scheme: pending.scheme, note: pending.note, inexactValues: pending.inexactValues,
          errors: pending.errors)
      }
      state.open = []
      state.files += 1
    }
  }

  /// A weight of a sealed section.
  func find(_ name: WeightName) -> PreparedWeight? { state.withLock { $0.sealed[name] } }

  /// The errors of all weights in sealed sections.
  var errors: WeightErrors {
    state.withLock { state in
      var errors = WeightErrors()
      for (name, weight) in state.sealed { errors.entries[name.description] = weight.errors }
      return errors
    }
  }

  /// The names in sealed sections.
  var names: Set<WeightName> { state.withLock { Set($0.sealed.keys) } }
}

/// A model's weights, those of a store in place of its own.
struct OverlaidWeights<Base: Weights>: Weights {
  let base: Base
  let store: PreparedStore

  func weight(_ name: WeightName) throws -> Weight { try store.find(name)?.weight ?? base.weight(name) }

  func upcoming(_ names: [WeightName]) { base.upcoming(names.filter { store.find($0) == nil }) }

  func finished(_ name: WeightName) {
    if let prepared = store.find(name) { prepared.weight.evict() }
    base.finished(name)
  }
}

/// What a plan says of weights that are encoded already: they stay as they are, under their scheme's name.
struct PreparedScheme: Scheme {
  let name: String
  let synonyms: [String] = []
  let summary = "chosen before the conversion"
  let isLossy = true
  let keepsBytes = true
  let reach = SchemeReach.nothing
  var isEntropyCoded: Bool { (try? Schemes.named(name))?.isEntropyCoded ?? false }

  /// The decision for a weight of a store.
  static func decision(_ prepared: PreparedWeight) -> QuantizeDecision {
    QuantizeDecision(
      scheme: PreparedScheme(name: prepared.scheme ?? Keep().name), options: QuantizeOptions(),
      note: prepared.note)
  }

  func encoding(for source: any Encoding, shape: Shape) -> any Encoding { source }

  func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget) throws
    -> RowReport
  { Keep().quantize(weight, rows: rows, options: options, into: target) }
}
