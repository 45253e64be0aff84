// A calibration in parts: runs of windows whose sums are kept as they were added, so that many machines, or one after the other, can
// make them. Joined in their order they are the same statistics wherever they were made. Formats/cluster.md, section 5.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage

/// What is asked of a calibration in parts.
package struct PartsRequest: Sendable {
  /// What the windows came from, unless they say so themselves.
  package var textPath: String
  /// What becomes of starved experts, once all parts are added up.
  package var policy: CalibrationPolicy
  /// How many parts there are; not more than windows.
  package var parts: Int
  /// Replace what Smelt wrote, or parts of other work.
  package var overwrite: Bool
  /// Seconds of work between two checkpoints, at least.
  package var seconds: Double
  /// The source, and what may be left out of it, as they were given: whoever joins the parts opens it.
  package var model: String
  /// Patterns of tensors that are left out.
  package var allowDrop: [String]

  /// A request.
  /// - Throws: `RequestError` unsupported for a policy that looks at the tokens of all parts at once; usage for no part at all.
  package init(
    textPath: String, policy: CalibrationPolicy, parts: Int, overwrite: Bool, seconds: Double, model: String,
    allowDrop: [String]
  ) throws {
    guard (1...1_000_000).contains(parts) else {
      throw RequestError(.usage, "--parts must be from 1 to 1000000, found \(parts)")
    }
    guard policy.kind != .topUp else {
      throw RequestError(
        .unsupported,
        "--policy top-up looks for tokens in all of the text, layer by layer, which no part has",
        help: "give --policy weight-only, peer-max or refuse; more text reaches more experts")
    }
    (self.textPath, self.policy, self.parts) = (textPath, policy, parts)
    (self.overwrite, self.seconds, self.model, self.allowDrop) = (overwrite, seconds, model, allowDrop)
  }
}

/// The parts of one calibration.
struct CalibrationParts {
  /// The `schema` of the work.
  static let schema = "smelt.calibration-part/1"

  let model: Model
  let windows: Windows
  let asked: PartsRequest
  /// How many there are.
  let count: Int
  /// What the calibration is, the same for all parts and on all machines.
  let work: JSON

  init(_ model: Model, _ windows: Windows, _ asked: PartsRequest) throws {
    (self.model, self.windows, self.asked) = (model, windows, asked)
    count = min(asked.parts, windows.sequences.count)
    let identity = try windows.identity(
      model, windows.textFiles(asked.textPath), asked.policy, hasTimes: false)
    let members = identity.members.map { key, value in
      (key, key == "schema" ? JSON(CalibrationParts.schema) : value)
    }
    work = JSON(members: members + [("parts", JSON(count))])
  }

  /// What is noted beside a part: its first window, and how many it has.
  private func counts(_ part: Int) -> [Int] {
    let own = WindowParts.windows(part, of: count, among: windows.sequences.count)
    return [own.lowerBound, own.count]
  }

  /// Whether a part is there, of this work.
  /// - Throws: `UNIT_MISMATCH` for one of other work, unless it is to be replaced.
  func isThere(_ part: Int, in folder: String) throws -> Bool {
    let path = joinPath(folder, WindowParts.name(part, of: count))
    return try UnitManifest.isThere(
      part, of: count, work: work, counts: counts(part), path: path, overwrite: asked.overwrite)
  }

  /// Makes a part that is not there, or resumes it where a run was stopped.
  /// - Returns: whether it was made; not where another task made it meanwhile.
  /// - Throws: as `calibrate`.
  func make(_ part: Int, in folder: String, _ options: RunOptions) throws -> Bool {
    if try isThere(part, in: folder) { return false }
    let path = joinPath(folder, WindowParts.name(part, of: count))
    let own = WindowParts.windows(part, of: count, among: windows.sequences.count)
    return try options.holding([path], "calibrate") {
      if try isThere(part, in: folder) { return false }
      options.progress.announce(
        "part \(part + 1) of \(count): windows \(own.lowerBound + 1) to \(own.upperBound)")
      let isLeft = try Journal.read(ResultJournal.path(path)).map { !$0.entries.isEmpty } ?? false
      do {
        try make(part, own, path, resumes: isLeft, options)
      } catch let error as FormatError where error.code == .resumeMismatch && asked.overwrite {
        // What was left is of other work, or was changed: it is replaced like a part of other work.
        CalibrationProgress.discard(beside: path)
        try make(part, own, path, resumes: false, options)
      }
      return true
    }
  }

  /// Makes a part whose lock is held.
  private func make(_ part: Int, _ own: Range<Int>, _ path: String, resumes: Bool, _ options: RunOptions)
    throws
  {
    try calibrating(
      model, windows.part(own), textPath: asked.textPath, to: path, overwrite: true,
      // What is done about starved experts is done once all parts are added up.
      policy: CalibrationPolicy(.weightOnly, minTokens: asked.policy.minTokens), form: .sums,
      checkpoints: CalibrationProgressOptions(resume: resumes, seconds: asked.seconds), options
    ) { _ in
      let request: JSON = [
        "verb": "calibrate", "model": JSON(absolutePath(asked.model)),
        "allow_drop": JSON(asked.allowDrop.map { JSON($0) }),
        "text": JSON(fileName(windows.textFiles(asked.textPath)[0])),
      ]
      let manifest = try UnitManifest(
        work: work, request: request, part: part, of: count, path: path, counts: counts(part))
      try writeFile(UnitManifest.path(path), manifest.text, replacing: .only(.unitManifest))
    }
  }
}

/// Makes one share of the parts of a calibration, in the folder of parts beside the statistics.
/// - Throws: as `calibrate`; `UNIT_MISMATCH` where the folder holds a part of other work and nothing is to be replaced.
package func calibrateShare(
  _ model: Model, _ windows: Windows, to path: String, _ share: Share, _ asked: PartsRequest,
  _ options: RunOptions
) throws -> ShareSummary {
  let start = (monotonicSeconds(), processorSeconds())
  try model.requireForwardPass()
  try requireName(path)
  let parts = try CalibrationParts(model, windows, asked)
  let folder = partsFolder(path)
  try requireFolder(folder)
  try WindowParts.requireCount(parts.count, in: folder)
  let own = share.parts(parts.count)
  // What is of other work is refused before anything is made.
  let todo = try own.filter { try !parts.isThere($0, in: folder) }
  var made: [Int] = []
  do {
    for part in todo where try parts.make(part, in: folder, options) { made.append(part) }
  } catch var error as RequestError where error.kind == .interrupted {
    error.help = "what is done is kept; give the same command to resume"
    throw error
  }
  let names = made.map { WindowParts.name($0, of: parts.count) }
  return ShareSummary(
    folder: folder, share: share, written: names, found: own.count - made.count, units: parts.count,
    byteCount: names.reduce(0) { $0 + (fileByteCount(joinPath(folder, $1)) ?? 0) },
    seconds: monotonicSeconds() - start.0, processorSeconds: processorSeconds() - start.1,
    peakMemoryBytes: peakMemoryBytes())
}

/// Makes all parts of a calibration one after the other, and joins them: the statistics have the bytes of those that tasks of a
/// cluster make in as many parts.
/// - Parameter resumes: whether to resume with the parts that are there.
/// - Throws: as `calibrate`; `RequestError` cannot-create where parts are there and `resumes` is false.
package func calibrateInParts(
  _ model: Model, _ windows: Windows, to path: String, _ asked: PartsRequest, resumes: Bool,
  _ options: RunOptions
) throws -> CalibrationSummary {
  try model.requireForwardPass()
  try requireName(path)
  try model.refuseAlias(path, and: windows.textFiles(asked.textPath))
  return try options.holding([path], "calibrate") {
    let start = monotonicSeconds()
    let folder = partsFolder(path)
    let isThere = pathKind(folder) != .nothing
    // Killed before its parts were gone, a run may have written the statistics already.
    let replacement =
      resumes && isThere && !asked.overwrite
      ? .sameBytes : Replacement(overwrite: asked.overwrite, statisticsKind(path))
    try requireCreatable(path, replacing: replacement)
    if resumes, !isThere { throw RequestError.nothingToResume(folder) }
    if !resumes, isThere {
      throw RequestError(
        .cannotCreate, "'\(folder)' was left by a run that was stopped, or by tasks of a cluster",
        help: "give --resume to resume it, or remove it")
    }
    try requireFolder(folder)
    let parts = try CalibrationParts(model, windows, asked)
    try WindowParts.requireCount(parts.count, in: folder)
    do {
      for part in 0..<parts.count { _ = try parts.make(part, in: folder, options) }
      let found = try FoundUnit.all(in: folder)
      var summary = try joinCalibration(found, [folder], model, to: path, replacement, options)
      FoundUnit.remove(found, [folder])
      summary.seconds = monotonicSeconds() - start
      summary.resources.seconds = summary.seconds
      summary.warnings = windows.notes
      return summary
    } catch let error as RequestError where [.interrupted, .io].contains(error.kind) {
      throw error.offeringResume
    } catch {
      // Nothing that a run could resume is left.
      removeEmptyFolder(folder)
      throw error
    }
  }
}
