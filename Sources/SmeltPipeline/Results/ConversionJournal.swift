// Resuming a conversion that was stopped: what it was (the header of the journal) must be what is asked for now, and what is done
// (its entries) is not done again. An entry is believed as far as plan, source and files agree with it. Formats/manifest.md, section 6.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// The journal of a conversion.
struct ConversionJournal {
  /// A slab that is done.
  struct Done {
    var slab: String
    var facts: SlabFacts
  }

  /// What a conversion is: program, source, recipe, statistics, and every slab of the plan.
  /// - Parameters:
  ///   - layout: XXH64 of what headers of the result's files say, where they are known.
  ///   - hasTimes: whether the times of the source's files count.
  static func header(
    _ model: Model, _ plan: Plan, _ options: ConvertOptions, layout: UInt64? = nil, hasTimes: Bool = true
  ) throws -> JSON {
    var slabs = XXH64()
    for slab in plan.slabs {
      Array("\(slab.name) \(slab.encoding.name) \(slab.shape)\n".utf8).withUnsafeBytes { slabs.update($0) }
    }
    var members: [(String, JSON)] = [
      ("schema", "smelt.journal/3"), ("origin", try provenance(model, options)),
      ("files", try model.identity(hasTimes: hasTimes)),
      ("compression", JSON(options.target.compression?.rawValue ?? "")),
      ("max_part_bytes", options.target.maxPartBytes.map { JSON($0) } ?? JSON(.null)),
      ("plan_xxh64", JSON(hexadecimal(slabs.value()))), ("slabs", JSON(plan.slabs.count)),
    ]
    if let layout { members.append(("layout_xxh64", JSON(hexadecimal(layout)))) }
    if let bytes = options.budgetBytes { members.append(("budget_bytes", JSON(bytes))) }
    return JSON(members: members)
  }

  /// The slabs that ended since the last entry, as entries have them.
  static func list(_ done: [Done]) -> JSON {
    JSON(
      done.map { entry in
        let hashes = zip(hashNames, entry.facts.sourceHashes).map { ($0, JSON($1)) }
        return JSON(
          members: [("slab", JSON(entry.slab)), ("inexact_values", JSON(entry.facts.inexactValues))] + hashes)
      })
  }

  /// What the hashes of a slab's source are called: that of its weight, and that of a second one that is joined with it.
  private static let hashNames = ["source_xxh64", "joined_xxh64"]

  /// The slabs of an entry.
  /// - Throws: `RESUME_MISMATCH` for an invalid entry.
  static func done(_ entry: JSON, file: String) throws(FormatError) -> [Done] {
    var done: [Done] = []
    for item in entry["done"]?.array ?? [JSON(.null)] {
      guard let slab = item["slab"]?.string, let inexact = item["inexact_values"]?.integer,
        item[hashNames[0]]?.string != nil
      else { throw FormatError(.resumeMismatch, file: file, "holds an invalid entry") }
      let hashes = hashNames.compactMap { item[$0]?.string }
      done.append(Done(slab: slab, facts: SlabFacts(inexactValues: inexact, sourceHashes: hashes)))
    }
    return done
  }

  /// The last entry: all files are whole, and need their names.
  static func finished(_ files: Int, identity: String) -> JSON {
    ["finished": JSON(files), "identity": JSON(identity)]
  }

  /// What the last entry says of whole files; nil where the run did not come so far.
  static func finished(_ entries: [JSON]) -> (files: Int, identity: String)? {
    guard let last = entries.last, let files = last["finished"]?.integer,
      let identity = last["identity"]?.string
    else { return nil }
    return (files, identity)
  }

  /// Before a result is started over: what a run that was stopped has left of it goes where it may, else is named.
  /// - Parameter discard: removes the files that the run left, given its entries.
  /// - Throws: `RequestError` cannot-create.
  static func clear(_ path: String, _ options: ConvertOptions, discard: ([JSON]) throws -> Void) throws {
    let journal = ResultJournal.path(path)
    guard let left = try Journal.read(journal), !left.entries.isEmpty else { return }
    let isOurs = left.header["schema"]?.string?.hasPrefix("smelt.journal/") == true
    guard options.overwrite, isOurs else {
      throw RequestError(
        .cannotCreate, "'\(journal)' was left by a run that was stopped",
        help: isOurs
          ? "give --resume to go on with it, or --overwrite to start over"
          : "it is the journal of another result: choose another name, or move it away")
    }
    try discard(left.entries)
    removeFile(journal)
    ResultLock.tidy(path) { options.run.progress.warn($0) }
  }
}

extension [ConversionJournal.Done] {
  /// Holds what is said to be done against the plan: its first slabs, in its order, each with a count of numbers that changed
  /// which its scheme can give.
  /// - Throws: `RESUME_MISMATCH`.
  func check(_ plan: Plan, file: String) throws(FormatError) {
    guard count <= plan.slabs.count else {
      throw FormatError(
        .resumeMismatch, file: file,
        "says that \(count) weights are done, the plan has \(plan.slabs.count)")
    }
    for (entry, slab) in zip(self, plan.slabs) {
      guard entry.slab == slab.name else {
        throw FormatError(
          .resumeMismatch, file: file, subject: entry.slab, "is done in the place of '\(slab.name)'")
      }
      guard (0...(slab.isKept ? 0 : slab.shape.count)).contains(entry.facts.inexactValues) else {
        throw FormatError(
          .resumeMismatch, file: file, subject: entry.slab,
          "has \(entry.facts.inexactValues) inexact values of \(slab.shape.count)\(slab.isKept ? " that are kept" : "")"
        )
      }
    }
  }

  /// Holds what is done against the source: the hash of what was read, and of a weight that is kept what was written.
  /// - Parameter written: the hashes of a slab's parts as they were written, where they are known.
  /// - Throws: `RESUME_MISMATCH`; refusals of the source.
  func check(
    _ model: Model, _ plan: Plan, _ written: [String: [[UInt8]]]? = nil, file: String, _ options: RunOptions
  ) throws {
    options.progress.begin("check what is done", total: count, unit: "weights")
    try options.parallel.ordered(count) { place -> Void in
      try Interrupt.check()
      let slab = plan.slabs[place]
      let sources = [slab.weight, slab.other].compactMap { $0 }.map { plan.weights[$0].stored }
      for (number, stored) in sources.enumerated() {
        let hash = try model.source.weight(stored.spec.name).values.bytes.withUnsafeBytes { xxh64($0) }
        model.source.finished(stored.spec.name)
        let hashes = self[place].facts.sourceHashes
        let said = number < hashes.count ? hashes[number] : ""
        guard said == hexadecimal(hash) else {
          throw FormatError(
            .resumeMismatch, file: file, subject: slab.name,
            "was made of other bytes: the source has the hash \(hexadecimal(hash)), the journal '\(excerpt(said))'"
          )
        }
      }
      let stored = sources[0]
      guard let written, slab.isKept, slab.steps.isEmpty, stored.prepared == nil else { return }
      let weight = try model.source.weight(stored.spec.name)
      defer { model.source.finished(stored.spec.name) }
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
