// Weights that a method chose before the conversion: encoded as they will be written, kept in files beside the result while they
// are needed. A run that was killed leaves them to the next one. Formats/methods.md, section 7.

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

/// Files beside the result, `RESULT.prepared.partial-section-N`, one for each layer of a model, and a journal of them. They are gone
/// when the store is, unless `keep` was called.
final class PreparedStore: Sendable {
  private let state: Mutex<State>
  private let result: String

  private struct State: ~Copyable {
    let header: JSON
    var journal: Journal?
    var sealed: [WeightName: PreparedWeight] = [:]
    var open: [PreparedSection.Pending] = []
    var writer: FileWriter?
    var sections = 0
    /// The files of this store.
    var files: [String] = []
    var isKept = false
  }

  /// The journal of what is prepared for a result.
  static func journalPath(_ result: String) -> String {
    ResultJournal.path("\(withoutSlash(result)).prepared")
  }

  private static func sectionPath(_ result: String, _ number: Int) -> String {
    "\(withoutSlash(result)).prepared.partial-section-\(number)"
  }

  /// A store beside a result: empty, or what another run left of it.
  /// - Parameters:
  ///   - header: what the method is and what it works on.
  ///   - resume: whether to take up what another run left.
  ///   - overwrite: whether that may go where it is not taken up.
  /// - Throws: `RequestError` cannot-create where a run left something that is not to be taken up; `RESUME_MISMATCH` where that was of
  ///   other work, or is not what was written; io.
  init(result: String, _ header: JSON, resume: Bool, overwrite: Bool) throws {
    self.result = result
    var state = State(header: header)
    let path = PreparedStore.journalPath(result)
    try Journal.refuseForeign(path)
    if let left = try Journal.read(path), !left.entries.isEmpty {
      guard resume || overwrite else {
        throw RequestError(
          .cannotCreate, "'\(path)' was left by a run that was stopped",
          help: "give --resume to go on with it, or --overwrite to start over")
      }
      if resume {
        try ResultJournal.check(left.header, is: header, file: path)
        for entry in left.entries {
          let file = PreparedStore.sectionPath(result, state.sections)
          for (name, weight) in try PreparedSection.read(entry, file, journal: path) {
            state.sealed[name] = weight
          }
          state.files.append(file)
          state.sections += 1
        }
        state.journal = try Journal(resuming: path, left)
      } else {
        for number in left.entries.indices { removeFile(PreparedStore.sectionPath(result, number)) }
        removeFile(path)
        ResultLock.tidy(result) { _ in }
      }
    }
    self.state = Mutex(state)
  }

  deinit {
    state.withLock { state in
      guard !state.isKept else { return }
      // The journal first: it must never tell of files that are gone.
      if state.journal != nil { removeFile(PreparedStore.journalPath(result)) }
      for file in state.files { removeFile(file) }
    }
  }

  /// The sections that are there: as many layers of the model are over.
  var sections: Int { state.withLock { $0.sections } }

  /// Whether another run can take up what is there.
  var canResume: Bool { state.withLock { $0.journal?.hasEntries ?? false } }

  /// From here on what is there stays for another run.
  func keep() { state.withLock { $0.isKept = $0.journal?.hasEntries ?? false } }

  /// Adds a weight to the open section; the bytes of its parts go to the disk, and can be read once the section is sealed.
  /// - Parameter errors: how far its rows are from the source's.
  func put(
    _ name: WeightName, _ weight: Weight, scheme: String?, note: String, inexactValues: Int,
    errors: WeightErrors.Entry
  ) throws {
    try state.withLock { state in
      if state.writer == nil {
        state.writer = try FileWriter(
          path: PreparedStore.sectionPath(result, state.sections), replacing: .nothing, sum: .crc32c)
      }
      var parts: [PreparedSection.PendingPart] = []
      for part in weight.parts {
        try state.writer?.pad(to: 64)
        parts.append(
          PreparedSection.PendingPart(
            name: part.name, dtype: part.dtype, shape: part.shape, offset: state.writer?.position ?? 0,
            count: part.bytes.count))
        try part.bytes.withUnsafeBytes { try state.writer?.write($0) }
      }
      state.open.append(
        PreparedSection.Pending(
          name: name, source: weight.name, shape: weight.shape, encoding: weight.encoding.name, parts: parts,
          file: weight.file, scheme: scheme, note: note, inexactValues: inexactValues, errors: errors))
    }
  }

  /// Ends the open section, which may be empty: its weights can be read from now on, by another run too.
  /// - Throws: `RequestError` io, cannot-create.
  func seal() throws {
    try state.withLock { state in
      var entry: JSON = ["bytes": 0]
      if var writer = state.writer.take() {
        let path = writer.path
        let index = writer.position
        try writer.write(Array(PreparedSection.index(state.open).text().utf8))
        let written = try writer.commit()
        state.files.append(path)
        let journal = PreparedStore.journalPath(result)
        ResultLock.note(path, journal: journal)
        entry = [
          "bytes": JSON(written.byteCount), "index": JSON(index), "sum": JSON(hexadecimal(written.sum ?? 0)),
          "files": [JSON(fileName(path))],
        ]
        let mapped = try MappedFile(path: path)
        for pending in state.open { state.sealed[pending.name] = try pending.weight(in: mapped.bytes) }
      } else {
        entry = ["bytes": 0, "files": []]
      }
      state.open = []
      state.sections += 1
      if state.journal == nil {
        state.journal = try Journal(
          creating: PreparedStore.journalPath(result), header: state.header, [entry])
      } else {
        try state.journal?.append([entry])
      }
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
