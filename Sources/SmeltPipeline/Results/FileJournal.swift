// The journal of a conversion to plain files: which slabs are done, how far the files go, and the sum of what is in them.
// Formats/manifest.md, section 6.

import SmeltContainers
import SmeltModels
import SmeltStorage

/// What a run that writes plain files keeps for another one, and what it found of such a run.
final class FileJournal {
  private let path: String
  private let header: JSON
  private let layout: FileLayout
  private let step: Int
  private var journal: Journal?
  /// What ended since the last entry.
  private var unsecured: [ConversionJournal.Done] = []
  private var securedBytes = 0

  /// Slabs that were done when this run began.
  private(set) var done: [String: SlabFacts] = [:]
  /// Where each file ended then, and the sum of its bytes; all but the last are whole.
  private(set) var places: [(position: Int, sum: UInt64)] = []
  /// Numbers of the container's own.
  private(set) var counts: [Int] = []
  /// What tells the files from others; nil unless all of them were whole then.
  private(set) var identity: String?

  /// Begins, or takes up what another run left: everything is held against plan, source and layout before it counts.
  /// - Throws: `RequestError` usage where there is nothing to resume, cannot-create where something else has the journal's name or a
  ///   run left something and is not to be resumed; `RESUME_MISMATCH`.
  init(
    _ result: String, _ layout: FileLayout, _ plan: Plan, _ model: Model, _ options: ConvertOptions,
    discard: () throws -> Void
  ) throws {
    path = ResultJournal.path(result)
    self.layout = layout
    step = options.journalStep
    header = try ConversionJournal.header(model, plan, options, layout: layout.hash)
    try Journal.refuseForeign(path)
    guard options.resume else {
      try ConversionJournal.clear(result, options) { _ in try discard() }
      return
    }
    guard let left = try Journal.read(path), !left.entries.isEmpty else {
      throw RequestError.nothingToResume(path)
    }
    try ResultJournal.check(left.header, is: header, file: path)
    var entries = left.entries
    if let finished = ConversionJournal.finished(entries) {
      identity = finished.identity
      entries.removeLast()
    }
    var list: [ConversionJournal.Done] = []
    for entry in entries {
      list += try ConversionJournal.done(entry, file: path)
      try take(entry, after: list.count)
    }
    try list.check(plan, file: path)
    guard identity == nil || list.count == plan.slabs.count && places.count == layout.sizes.count else {
      throw invalid("says that all files are whole, which they are not")
    }
    try list.check(model, plan, file: path, options.run)
    for entry in list { done[entry.slab] = entry.facts }
    journal = try Journal(resuming: path, left)
    securedBytes = places.reduce(0) { $0 + $1.position }
  }

  /// Takes an entry, which must end where the layout says that so many slabs end.
  private func take(_ entry: JSON, after count: Int) throws(FormatError) {
    guard let file = entry["file"]?.integer, let position = entry["position"]?.integer,
      let sum = entry["sum"]?.string.flatMap({ UInt64($0, radix: 16) }), count <= layout.ends.count,
      let counts = entry["counts"]?.array?.map({ $0.integer ?? -1 }), counts.allSatisfy({ $0 >= 0 })
    else { throw invalid("holds an invalid entry") }
    let isNext = file == places.count && (places.isEmpty || places.last?.position == layout.sizes[file - 1])
    guard layout.sizes.indices.contains(file), file == places.count - 1 || isNext,
      position >= (isNext ? 0 : places[file].position)
    else { throw invalid("names files out of order") }
    let end = count == 0 ? nil : layout.ends[count - 1]
    // A file without slabs is whole with its header.
    guard
      end == FilePlace(file: file, position: position)
        || position == layout.sizes[file] && !layout.files.prefix(count).contains(file) && isNext
    else { throw invalid("says that \(count) weights end at byte \(position) of file \(file + 1)") }
    if isNext { places.append((position, sum)) } else { places[file] = (position, sum) }
    self.counts = counts
  }

  private func invalid(_ problem: String) -> FormatError {
    FormatError(.resumeMismatch, file: path, problem)
  }

  /// Whether an entry was written, now or by the run that is resumed.
  var canResume: Bool { journal?.hasEntries ?? false }

  /// A slab ended.
  func ended(_ slab: OutputMatrix, _ facts: SlabFacts) {
    unsecured.append(ConversionJournal.Done(slab: slab.name, facts: facts))
  }

  /// Whether there is enough for an entry.
  /// - Parameter bytes: of all files so far.
  func isDue(_ bytes: Int) -> Bool { bytes - securedBytes >= step && !unsecured.isEmpty }

  /// Notes what ended, once it is on the disk.
  /// - Parameters:
  ///   - place: where the files end.
  ///   - sum: the sum of the file's bytes.
  ///   - bytes: of all files so far.
  /// - Throws: `RequestError` io.
  func secure(_ place: FilePlace, sum: UInt64, bytes: Int, counts: [Int] = []) throws {
    let entry: JSON = [
      "done": ConversionJournal.list(unsecured), "file": JSON(place.file), "position": JSON(place.position),
      "sum": JSON(hexadecimal(sum)), "counts": JSON(counts.map { JSON($0) }),
    ]
    if journal == nil {
      journal = try Journal(creating: path, header: header, [entry])
    } else {
      try journal?.append([entry])
    }
    unsecured = []
    securedBytes = bytes
  }

  /// Notes that all files are whole: from here on they need only their names.
  /// - Throws: `RequestError` io.
  func finish(identity: String) throws {
    try journal?.append([ConversionJournal.finished(layout.sizes.count, identity: identity)])
  }

  /// The result has its name.
  func remove() {
    journal = nil
    removeFile(path)
  }
}
