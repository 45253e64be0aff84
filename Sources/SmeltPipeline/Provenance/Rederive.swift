// `check --rederive`: what a result records of its making, done again, and its bytes held against what comes out. The same source,
// recipe, statistics and program give the same bytes, so that anybody can prove where a result comes from. Formats/attestation.md.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What is asked of making a result again.
package struct RederiveOptions: Sendable {
  /// The statistics that scales were chosen by; nil where none are given.
  package var statistics: String?
  /// The text that was calibrated with; nil where none is given.
  package var calibration: RederiveText?
  /// How many tensors are made again, at equal steps over all of them; nil: all.
  package var sample: Int?
  /// Threads, memory, progress.
  package var run: RunOptions

  /// Options.
  /// - Throws: `RequestError` usage for a sample of nothing.
  package init(
    statistics: String? = nil, calibration: RederiveText? = nil, sample: Int? = nil, _ run: RunOptions
  ) throws {
    if let sample, sample < 1 {
      throw RequestError(.usage, "--sample must be at least 1, found \(sample)")
    }
    (self.statistics, self.calibration, self.sample, self.run) = (statistics, calibration, sample, run)
  }
}

/// Makes a result's tensors again from its source, and the files beside them, and compares their bytes with those of the result. What a
/// calibration needs lies in a folder for temporary files; nothing else is written.
/// - Throws: refusals of the content of both; `RequestError` io, interrupted.
package func rederive(_ result: Model, from source: Model, _ asked: RederiveOptions) throws -> RederiveSummary
{
  let start = monotonicSeconds()
  var summary = RederiveSummary(source: source.path, result: result.path)
  do {
    try rederive(result, from: source, asked, &summary)
  } catch let obstacle as Obstacle {
    (summary.verdict, summary.problem) = (obstacle.verdict, obstacle.problem)
  } catch var error as RequestError where error.kind == .interrupted {
    // A conversion would go on with what it prepared.
    error.help = "nothing is kept; give the same command again"
    throw error
  }
  summary.seconds = monotonicSeconds() - start
  summary.peakMemoryBytes = peakMemoryBytes()
  return summary
}

private func rederive(
  _ result: Model, from source: Model, _ asked: RederiveOptions, _ summary: inout RederiveSummary
) throws {
  let recorded = try RecordedMaking(result)
  summary.tool = recorded.tool
  if let problem = recorded.sourceProblem(source) { throw Obstacle(.sourceChanged, problem) }
  let calibration = try asked.calibration.map {
    try RecordedCalibration(recorded.provenance["statistics"], $0, source)
  }
  guard calibration != nil else { return try compare(recorded, result, source, nil, "", asked, &summary) }
  let folder = try makeTemporaryFolder("smelt-rederive", in: ScratchFile.temporaryFolder)
  defer {
    for path in ((try? namesInFolder(folder)) ?? []).map({ joinPath(folder, $0) }) {
      // A calibration in parts that was stopped has left a folder.
      for name in (try? namesInFolder(path)) ?? [] { removeFile(joinPath(path, name)) }
      if rmdir(path) != 0 { removeFile(path) }
    }
    rmdir(folder)
  }
  try compare(recorded, result, source, calibration, folder, asked, &summary)
}

/// - Parameter folder: where temporary files of a calibration go.
private func compare(
  _ recorded: RecordedMaking, _ result: Model, _ source: Model, _ calibration: RecordedCalibration?,
  _ folder: String, _ asked: RederiveOptions, _ summary: inout RederiveSummary
) throws {
  let options = try recorded.options(
    source, result, try recorded.statistics(source, calibration, in: folder, asked), asked)
  let source = try recorded.prepared(source, calibration, in: folder, options)
  let plan: Plan
  let tensors: any RederivedTensors
  do {
    plan = try Plan(source, options)
    tensors = try rederivedTensors(result, source, plan, options)
  } catch let error as RequestError where [.usage, .unsupported].contains(error.kind) {
    throw Obstacle(.notReproducible, "the recipe cannot be carried out on this source: \(error.problem)")
  } catch let error as FormatError where error.code == .recipe {
    // A rule may name a tensor as only the result has it.
    throw Obstacle(
      .notReproducible,
      "the recipe cannot be carried out on this source: \(error.subject.map { "\($0) " } ?? "")\(error.problem)"
    )
  }
  source.limitCache(asked.run.maxMemory / 8)
  let groups = tensors.groups(plan)
  let chosen = asked.sample.map { sample in
    let count = min(sample, groups.count)
    return (0..<count).map { groups[(2 * $0 + 1) * groups.count / (2 * count)] }
  }
  let slabs = (chosen ?? groups).reduce(0) { $0 + $1.count }
  summary.tensors = groups.count
  summary.compared = (chosen ?? groups).count
  let sink = ComparingSink(tensors)
  summary.files = sink.compareFiles(tensors.beside)
  var facts = LedgerFacts(plan)
  let bytes = (chosen ?? groups).reduce(0) { $0 + $1.reduce(0) { $0 + plan.slabs[$1].byteCount } }
  asked.run.progress.announce(
    "\(result.path): \(grouped(summary.compared)) of \(grouped(groups.count)) tensors are made again of "
      + "\(grouped(slabs)) weights of \(source.path), and compared; nothing is written")
  asked.run.progress.begin("make again", total: bytes, unit: "bytes")
  if chosen == nil { try sink.begin() }
  try Converter(source, plan, options).carryOut(
    source, plan, options, only: chosen ?? groups, into: sink, &facts)
  asked.run.progress.end()
  try source.checkUnchanged()
  try result.checkUnchanged()
  try sink.finish(isWhole: chosen == nil)
  (summary.bytes, summary.differences, summary.differing) = (sink.bytes, sink.differences, sink.differing)
  if let problem = recorded.sourceProblem(facts.ledger, isWhole: chosen == nil) {
    (summary.verdict, summary.problem) = (.sourceChanged, problem)
  } else if sink.differing == 0 {
    summary.verdict = .same
  } else if recorded.tool != summary.program {
    summary.verdict = .otherVersion
    summary.problem = "it was made by \(recorded.tool), this is \(summary.program)"
  } else {
    summary.verdict = .differs
  }
}

/// Takes what a conversion makes, and compares it.
private final class ComparingSink: ResultSink {
  private let tensors: any RederivedTensors
  /// How far each tensor that is not whole yet has come.
  private var places: [String: Int] = [:]
  private(set) var bytes = 0
  /// The first of them.
  private(set) var differences: [RederiveSummary.Difference] = []
  private var bad: Set<String> = []
  var differing: Int { bad.count }

  /// Differences that are listed.
  private static let listed = 20

  init(_ tensors: any RederivedTensors) { self.tensors = tensors }

  var done: [String: SlabFacts] { [:] }
  var canResume: Bool { false }

  /// What comes before all slabs.
  func begin() throws { try tensors.begin { try compare($0, $1) } }
  func begin(_ slab: OutputMatrix, form: ChunkForm) throws { try tensors.begin(slab) }
  func append(_ piece: ConvertedPiece) throws { try tensors.append(piece) { try compare($0, $1) } }
  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws {
    try tensors.end(slab, others) { try compare($0, $1) }
  }
  func ended(_ slab: OutputMatrix, _ facts: SlabFacts) {}

  func finish(ledger: [LedgerEntry]) throws -> ResultSummary {
    preconditionFailure("a comparison is no result")
  }

  /// What was asked for was made: what the result holds besides.
  /// - Parameter isWhole: whether all tensors were made; of some it is known of each how long it is.
  func finish(isWhole: Bool) throws {
    for (name, place) in places.sorted(by: { $0.key < $1.key }) {
      let stored = try tensors.stored(name)?.count ?? 0
      if stored > place { add(name, place, nil, nil, "has \(stored) bytes, \(place) are made") }
    }
    guard isWhole else { return }
    for name in tensors.names where places[name] == nil {
      add(name, 0, nil, nil, "is in the result and is not made")
    }
  }

  private func compare(_ name: String, _ made: Bytes) throws {
    let place = places[name] ?? 0
    bytes += made.count
    guard let stored = try tensors.stored(name) else {
      if place == 0 { add(name, 0, nil, nil, "is made and is not in the result") }
      places[name] = place + made.count
      return
    }
    places[name] = place + made.count
    if place == 0, let (found, made) = try tensors.forms(name) {
      if found.type != made.type {
        add(name, 0, nil, nil, "has the type \(found.type), \(made.type) is made")
      } else if found.shape != made.shape {
        add(name, 0, nil, nil, "has the shape \(found.shape), \(made.shape) is made")
      }
    }
    guard place + made.count <= stored.count else {
      add(name, stored.count, nil, nil, "has \(stored.count) bytes, \(place + made.count) and more are made")
      return
    }
    let own = stored[place..<place + made.count]
    let first = own.withUnsafeBytes { a in
      made.withUnsafeBytes { b in a.elementsEqual(b) ? nil : a.indices.first { a[$0] != b[$0] } }
    }
    own.evict()
    guard let first else { return }
    let (found, expected) = own.withUnsafeBytes { a in made.withUnsafeBytes { b in (a[first], b[first]) } }
    add(name, place + first, found, expected, "has other bytes")
  }

  /// Compares files beside the weights, or keys in their place.
  /// - Returns: how many were made.
  func compareFiles(_ files: [RederivedFile]) -> Int {
    for file in files {
      guard let made = file.made else {
        add(file.name, 0, nil, nil, "is in the result and is not made")
        continue
      }
      guard let stored = file.stored else {
        add(file.name, 0, nil, nil, "is made and is not in the result")
        continue
      }
      bytes += made.count
      let (own, expected) = (stored.array, made.array)
      guard own != expected else { continue }
      let first = zip(own, expected).enumerated().first { $0.element.0 != $0.element.1 }
      add(
        file.name, first?.offset ?? min(own.count, expected.count), first?.element.0, first?.element.1,
        first == nil ? "has \(own.count) bytes, \(expected.count) are made" : "has other bytes")
    }
    return files.count { $0.made != nil }
  }

  private func add(_ name: String, _ byte: Int, _ found: UInt8?, _ expected: UInt8?, _ problem: String) {
    // One a tensor: the first.
    guard bad.insert(name).inserted else { return }
    guard differences.count < ComparingSink.listed else { return }
    differences.append(
      RederiveSummary.Difference(
        tensor: name, byte: byte, found: found, expected: expected, problem: problem))
  }
}
