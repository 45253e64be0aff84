// Resuming a conversion that was stopped: what it was (the header of the journal) must be what is asked for now, and what is done
// (its entries) is not done again. An entry is believed as far as plan, source and files agree with it. Formats/ingot.md, section 9.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// The journal of a conversion to an ingot.
struct ConversionJournal {
  /// A weight that is done.
  struct Done {
    var slab: String
    var inexactValues: Int
    var sourceHash: String
  }

  /// What a conversion is: program, source, recipe, statistics, and every slab of the plan.
  static func header(_ model: Model, _ plan: Plan, _ options: ConvertOptions) throws -> JSON {
    var slabs = XXH64()
    for slab in plan.slabs {
      Array("\(slab.name) \(slab.encoding.name) \(slab.shape)\n".utf8).withUnsafeBytes { slabs.update($0) }
    }
    var members: [(String, JSON)] = [
      ("schema", "smelt.journal/3"), ("origin", try provenance(model, options)),
      ("files", try model.identity()),
      ("compression", JSON(options.target.compression?.rawValue ?? "")),
      ("max_part_bytes", options.target.maxPartBytes.map { JSON($0) } ?? JSON(.null)),
      ("plan_xxh64", JSON(hexadecimal(slabs.value()))), ("slabs", JSON(plan.slabs.count)),
    ]
    if let bytes = options.budgetBytes { members.append(("budget_bytes", JSON(bytes))) }
    return JSON(members: members)
  }

  /// An entry: the slabs that ended since the last one, their index records, and how far the file goes.
  static func entry(_ done: [Done], _ progress: IngotProgress) -> JSON {
    [
      "done": JSON(
        done.map {
          [
            "slab": JSON($0.slab), "inexact_values": JSON($0.inexactValues),
            "source_xxh64": JSON($0.sourceHash),
          ]
        }),
      "records": JSON(hexadecimal(progress.records)), "file": JSON(progress.fileNumber),
      "position": JSON(progress.position),
    ]
  }

  /// The last entry: all files are whole, and need their names.
  static func finished(_ summary: IngotSummary) -> JSON {
    ["finished": JSON(summary.files.count), "identity": JSON(summary.identity)]
  }

  /// What the last entry says of whole files; nil where the run did not come so far.
  static func finished(_ entries: [JSON]) -> (files: Int, identity: String)? {
    guard let last = entries.last, let files = last["finished"]?.integer,
      let identity = last["identity"]?.string
    else { return nil }
    return (files, identity)
  }

  /// Before a result is started over: what a run that was stopped has left of it goes where it may, else is named.
  /// - Throws: `RequestError` cannot-create.
  static func clear(_ path: String, overwrite: Bool) throws {
    let journal = ResultJournal.path(path)
    guard let left = try Journal.read(journal), !left.entries.isEmpty else { return }
    let isOurs = left.header["schema"]?.string?.hasPrefix("smelt.journal/") == true
    guard overwrite, isOurs else {
      throw RequestError(
        .cannotCreate, "'\(journal)' was left by a run that was stopped",
        help: isOurs
          ? "give --resume to go on with it, or --overwrite to start over"
          : "it is the journal of another result: choose another name, or move it away")
    }
    let finished = finished(left.entries)
    IngotFile.discard(path, files: finished?.files ?? 0, identity: finished?.identity ?? "")
    removeFile(journal)
  }

  /// What all entries say together.
  struct State {
    var done: [Done] = []
    var progress: [IngotProgress] = []

    /// Holds what is said to be done against the plan: its first slabs, in its order, each with a count of numbers that changed
    /// which its scheme can give.
    /// - Throws: `RESUME_MISMATCH`.
    func check(_ plan: Plan, file: String) throws(FormatError) {
      guard done.count <= plan.slabs.count else {
        throw FormatError(
          .resumeMismatch, file: file,
          "says that \(done.count) weights are done, the plan has \(plan.slabs.count)")
      }
      for (entry, slab) in zip(done, plan.slabs) {
        guard entry.slab == slab.name else {
          throw FormatError(
            .resumeMismatch, file: file, subject: entry.slab, "is done in the place of '\(slab.name)'")
        }
        guard (0...(slab.isKept ? 0 : slab.shape.count)).contains(entry.inexactValues) else {
          throw FormatError(
            .resumeMismatch, file: file, subject: entry.slab,
            "has \(entry.inexactValues) inexact values of \(slab.shape.count)\(slab.isKept ? " that are kept" : "")"
          )
        }
      }
    }

    /// Holds what is done against the source: the hash of what was read, and of a weight that is kept what was written.
    /// - Throws: `RESUME_MISMATCH`; refusals of the source.
    func check(
      _ model: Model, _ plan: Plan, _ written: [String: [[UInt8]]], file: String, _ options: RunOptions
    ) throws {
      options.progress.begin("check what is done", total: done.count, unit: "weights")
      try options.parallel.ordered(done.count) { place -> Void in
        try Interrupt.check()
        let slab = plan.slabs[place]
        let stored = plan.weights[slab.weight].stored
        let weight = try model.source.weight(stored.spec.name)
        defer { model.source.finished(stored.spec.name) }
        let hash = hexadecimal(weight.values.bytes.withUnsafeBytes { xxh64($0) })
        guard hash == done[place].sourceHash else {
          throw FormatError(
            .resumeMismatch, file: file, subject: slab.name,
            "was made of other bytes: the source has the hash \(hash), the journal '\(excerpt(done[place].sourceHash))'"
          )
        }
        guard slab.isKept, slab.steps.isEmpty, stored.prepared == nil else { return }
        guard weight.parts.map({ FrameCodec.contentHash(of: $0.bytes) }) == written[slab.name] else {
          throw FormatError(
            .resumeMismatch, file: file, subject: slab.name, "is not what the source has, and is to be kept")
        }
      } consume: {
        options.progress.advance(1)
      }
      options.progress.end()
    }
  }

  /// Reads entries.
  /// - Throws: `RESUME_MISMATCH` for an invalid entry.
  static func state(_ entries: [JSON], file: String) throws(FormatError) -> State {
    var state = State()
    for entry in entries {
      let last = state.progress.last ?? IngotProgress(records: [], fileNumber: 1, position: 0)
      guard let done = entry["done"]?.array, let records = entry["records"]?.string.flatMap(bytes(ofHex:)),
        let number = entry["file"]?.integer, let position = entry["position"]?.integer, position >= 0,
        number == last.fileNumber && position >= last.position || number == last.fileNumber + 1
      else { throw FormatError(.resumeMismatch, file: file, "holds an invalid entry") }
      for item in done {
        guard let slab = item["slab"]?.string, let inexact = item["inexact_values"]?.integer,
          let hash = item["source_xxh64"]?.string
        else { throw FormatError(.resumeMismatch, file: file, "holds an invalid entry") }
        state.done.append(Done(slab: slab, inexactValues: inexact, sourceHash: hash))
      }
      state.progress.append(IngotProgress(records: records, fileNumber: number, position: position))
    }
    return state
  }
}

private func bytes(ofHex text: String) -> [UInt8]? {
  let digits = Array(text.utf8)
  guard digits.count % 2 == 0 else { return nil }
  func value(_ digit: UInt8) -> UInt8? {
    switch digit {
    case 0x30...0x39: digit - 0x30
    case 0x61...0x66: digit - 0x61 + 10
    default: nil
    }
  }
  var bytes: [UInt8] = []
  bytes.reserveCapacity(digits.count / 2)
  for place in stride(from: 0, to: digits.count, by: 2) {
    guard let high = value(digits[place]), let low = value(digits[place + 1]) else { return nil }
    bytes.append(high << 4 | low)
  }
  return bytes
}
