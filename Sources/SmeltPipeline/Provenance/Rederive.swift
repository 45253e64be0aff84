// `check --rederive`: what a result records of its making, done again, and its bytes held against what comes out. The same source,
// recipe, statistics and program give the same bytes, so that anybody can prove where a result comes from. Formats/attestation.md.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage

/// What is asked of making a result again.
package struct RederiveOptions: Sendable {
  /// The statistics that scales were chosen by; nil where none are given.
  package var statistics: String?
  /// How many tensors are made again, at equal steps over all of them; nil: all.
  package var sample: Int?
  /// Threads, memory, progress.
  package var run: RunOptions

  /// Options.
  /// - Throws: `RequestError` usage for a sample of nothing.
  package init(statistics: String? = nil, sample: Int? = nil, _ run: RunOptions) throws {
    if let sample, sample < 1 {
      throw RequestError(.usage, "--sample must be at least 1, found \(sample)")
    }
    (self.statistics, self.sample, self.run) = (statistics, sample, run)
  }
}

/// Makes a result's tensors again from its source, and compares their bytes with those of the result. Nothing is written.
/// - Throws: refusals of the content of both; `RequestError` io, interrupted.
package func rederive(_ result: Model, from source: Model, _ asked: RederiveOptions) throws -> RederiveSummary
{
  let start = monotonicSeconds()
  var summary = RederiveSummary(source: source.path, result: result.path)
  do {
    try rederive(result, from: source, asked, &summary)
  } catch let obstacle as Obstacle {
    (summary.verdict, summary.problem) = (obstacle.verdict, obstacle.problem)
  }
  summary.seconds = monotonicSeconds() - start
  summary.peakMemoryBytes = peakMemoryBytes()
  return summary
}

/// Why a comparison says nothing.
private struct Obstacle: Error {
  let verdict: RederiveSummary.Verdict
  let problem: String

  init(_ verdict: RederiveSummary.Verdict, _ problem: String) {
    (self.verdict, self.problem) = (verdict, problem)
  }
}

private func rederive(
  _ result: Model, from source: Model, _ asked: RederiveOptions, _ summary: inout RederiveSummary
) throws {
  let recorded = try RecordedMaking(result)
  summary.tool = recorded.tool
  let options = try recorded.options(source, result, asked)
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

/// What a result records of its making.
private struct RecordedMaking {
  let provenance: JSON
  let tool: String
  /// XXH64 of the source's tensors, by their names, where the result carries its ledger; of one that several weights are parts of, each
  /// part's.
  private let hashes: [String: Set<String>]
  /// SHA-256 over all of them; nil where the container cannot say.
  private let hash: String?

  init(_ result: Model) throws {
    let origin = try result.source.recordedOrigin()
    guard let provenance = origin.provenance, let tool = provenance["tool"]?.string else {
      throw Obstacle(
        .noProvenance,
        "'\(result.path)' does not say what it was made from: another program wrote it, or no weight of it was changed"
      )
    }
    (self.provenance, self.tool) = (provenance, tool)
    var hashes: [String: Set<String>] = [:]
    for entry in origin.ledger?["ledger"]?.array ?? [] {
      guard let name = entry["source"]?.string, let hash = entry["source_xxh64"]?.string else { continue }
      hashes[name, default: []].insert(hash)
    }
    self.hashes = hashes
    hash =
      try provenance["source"]?["sha256"]?.string
      ?? result.smallFile(ModelCard.fileName).flatMap { ModelCard.statedHash(in: $0.array) }
  }

  /// The conversion that is recorded.
  /// - Throws: `Obstacle`; refusals of the statistics.
  func options(_ source: Model, _ result: Model, _ asked: RederiveOptions) throws -> ConvertOptions {
    if let problem = sourceProblem(source) { throw Obstacle(.sourceChanged, problem) }
    if let method = provenance["method"], !method.isNull {
      throw Obstacle(
        .notReproducible,
        "codes were chosen by \(method["name"]?.string ?? "a method"), which looks at the inputs of a text: "
          + "run quantize again with the same text, and compare the results with cmp")
    }
    let recipe: Recipe
    let words: EngineWords
    let target: any ResultTarget
    let drafts: DraftFate
    do {
      drafts = try DraftFate(named: provenance["mtp"]?.string ?? DraftFate.quantize.rawValue)
      recipe = try Recipe(provenance["recipe"] ?? JSON(.null), file: result.path)
      let container = try Container(result: result.path, asked: result.containerName)
      let recorded = provenance["target"]
      words = EngineWords(
        layout: recorded?["layout"]?.string, activations: recorded?["activations"]?.string,
        cache: recorded?["kv_cache"]?.string)
      target = try container.target(
        TargetOptions(
          compression: container.name == Container.ingot.name ? .raw : nil,
          scheme: recorded?["scheme"]?.string, engines: words))
    } catch let error as FormatError {
      throw Obstacle(.notReproducible, "the recipe that it records is not valid here: \(error.problem)")
    } catch let error as RequestError {
      throw Obstacle(.notReproducible, "what it records is not known here: \(error.problem)")
    }
    var options = ConvertOptions(
      recipe: recipe, statistics: try statistics(source, asked), target: target,
      drafts: drafts, run: asked.run)
    options.run.progress = asked.run.progress
    return options
  }

  private func statistics(_ source: Model, _ asked: RederiveOptions) throws -> Statistics? {
    guard let recorded = provenance["statistics"], !recorded.isNull else {
      guard asked.statistics == nil else {
        throw Obstacle(.statisticsChanged, "it was made without statistics; leave --statistics away")
      }
      return nil
    }
    let hash = recorded["sha256"]?.string ?? ""
    guard let path = asked.statistics else {
      throw Obstacle(
        .statisticsNeeded,
        "its scales were chosen by statistics with the SHA-256 \(hash): give them with --statistics")
    }
    let found = try readStatistics(path, for: source)
    guard found.fileHash == hash else {
      throw Obstacle(
        .statisticsChanged,
        "'\(path)' has the SHA-256 \(found.fileHash ?? ""), it was made by statistics with \(hash)")
    }
    return found
  }

  /// What headers tell: another container, other files.
  private func sourceProblem(_ source: Model) -> String? {
    let recorded = provenance["source"]
    let container = recorded?["container"]?.string ?? "nothing"
    guard container == source.containerName else {
      return
        "it was made from a model in '\(container)', '\(source.path)' is one in '\(source.containerName)'"
    }
    if let hash = source.source.contentHash {
      let said = recorded?["content_hash"]?.string ?? "none"
      return hash == said
        ? nil : "it was made from an ingot with the content hash \(said), '\(source.path)' has \(hash)"
    }
    let files = recorded?["files"]?.array ?? []
    guard files.count == source.files.count else {
      return "it was made from \(files.count) files, '\(source.path)' has \(source.files.count)"
    }
    for (said, file) in zip(files, source.files) {
      let (name, bytes) = (said["name"]?.string ?? "", said["bytes"]?.integer ?? -1)
      guard name == fileName(file.path), bytes == file.byteCount else {
        return "it was made from '\(name)' of \(bytes) bytes, '\(source.path)' has "
          + "'\(fileName(file.path))' of \(file.byteCount)"
      }
    }
    return nil
  }

  /// What reading the source told: tensors with other bytes.
  func sourceProblem(_ ledger: [LedgerEntry], isWhole: Bool) -> String? {
    if let entry = ledger.first(where: { entry in
      entry.sourceHash.map { hash in hashes[entry.source].map { !$0.contains(hash) } ?? false } ?? false
    }) {
      return "'\(entry.source)' of the source has other bytes now: XXH64 \(entry.sourceHash ?? ""), "
        + "it was made from \(hashes[entry.source]?.sorted().joined(separator: ", ") ?? "")"
    }
    guard isWhole, let hash, hash != sourceHash(ledger) else { return nil }
    return
      "the source's tensors have other bytes now: their hash is \(sourceHash(ledger)), it was made from \(hash)"
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

  private func add(_ name: String, _ byte: Int, _ found: UInt8?, _ expected: UInt8?, _ problem: String) {
    // One a tensor: the first.
    guard bad.insert(name).inserted else { return }
    guard differences.count < ComparingSink.listed else { return }
    differences.append(
      RederiveSummary.Difference(
        tensor: name, byte: byte, found: found, expected: expected, problem: problem))
  }
}
